//! What a runtime refuses, and what it must not.

use super::*;
use tonic::Code;

#[tokio::test]
async fn unknown_ids_are_not_found() {
    let mut sim = Sim::start();
    let id = "0".repeat(64);
    let status = sim.status(&id).await.unwrap_err();
    assert_eq!(status.code(), Code::NotFound);
    assert!(status.message().contains(&id) && status.message().ends_with("not found"), "{status}");
    assert_eq!(sim.exec(&id, &["true"], 0).await.unwrap_err().code(), Code::NotFound);
    let start = StartContainerRequest { container_id: id.clone() };
    assert_eq!(sim.pods.start_container(start).await.unwrap_err().code(), Code::NotFound);
    let request = ContainerStatsRequest { container_id: id.clone() };
    assert_eq!(sim.pods.container_stats(request).await.unwrap_err().code(), Code::NotFound);
    let update = UpdateContainerResourcesRequest { container_id: id.clone(), ..Default::default() };
    assert_eq!(sim.pods.update_container_resources(update).await.unwrap_err().code(), Code::NotFound);
    let log = ReopenContainerLogRequest { container_id: id.clone() };
    assert_eq!(sim.pods.reopen_container_log(log).await.unwrap_err().code(), Code::NotFound);
    let sandbox = PodSandboxStatusRequest { pod_sandbox_id: id.clone(), verbose: false };
    assert_eq!(sim.pods.pod_sandbox_status(sandbox).await.unwrap_err().code(), Code::NotFound);
    let request = PodSandboxStatsRequest { pod_sandbox_id: id.clone() };
    assert_eq!(sim.pods.pod_sandbox_stats(request).await.unwrap_err().code(), Code::NotFound);
    assert_eq!(sim.create(&id, container("main")).await.unwrap_err().code(), Code::NotFound);
}

#[tokio::test]
async fn stops_and_removals_may_be_repeated_and_come_for_what_is_gone() {
    let mut sim = Sim::start();
    let (sandbox, main) = sim.pod(&[]).await;
    let unknown = "0".repeat(64);
    for _ in 0..2 {
        for id in [&main, &unknown] {
            sim.stop(id, 1).await.unwrap();
        }
    }
    for _ in 0..2 {
        for id in [&main, &unknown] {
            sim.pods.remove_container(RemoveContainerRequest { container_id: id.clone() }).await.unwrap();
        }
    }
    for _ in 0..2 {
        for id in [&sandbox, &unknown] {
            sim.pods.stop_pod_sandbox(StopPodSandboxRequest { pod_sandbox_id: id.clone() }).await.unwrap();
        }
    }
    for _ in 0..2 {
        for id in [&sandbox, &unknown] {
            sim.pods.remove_pod_sandbox(RemovePodSandboxRequest { pod_sandbox_id: id.clone() }).await.unwrap();
        }
    }
}

#[tokio::test]
async fn a_sandbox_that_runs_is_removed_with_its_containers() {
    let mut sim = Sim::start();
    let (sandbox, main) = sim.pod(&[]).await;
    sim.pods.remove_pod_sandbox(RemovePodSandboxRequest { pod_sandbox_id: sandbox }).await.unwrap();
    assert_eq!(sim.status(&main).await.unwrap_err().code(), Code::NotFound);
}

#[tokio::test]
async fn names_are_taken_until_their_owner_is_removed() {
    let mut sim = Sim::start();
    let (sandbox, main) = sim.pod(&[]).await;
    let again = RunPodSandboxRequest { config: Some(pod("web")), runtime_handler: String::new() };
    let refused = sim.pods.run_pod_sandbox(again.clone()).await.unwrap_err();
    assert!(refused.message().contains("reserved") && refused.message().contains(&sandbox), "{refused}");
    let refused = sim.create(&sandbox, container("main")).await.unwrap_err();
    assert!(refused.message().contains("reserved") && refused.message().contains(&main), "{refused}");

    let mut next = pod("web");
    next.metadata.as_mut().unwrap().attempt = 1;
    sim.sandbox(next).await;
    let second =
        ContainerConfig { metadata: Some(ContainerMetadata { name: "main".into(), attempt: 1 }), ..container("main") };
    sim.create(&sandbox, second).await.unwrap();

    sim.stop(&main, 0).await.unwrap();
    sim.create(&sandbox, container("main")).await.expect_err("stopped, but not removed");
    sim.pods.remove_container(RemoveContainerRequest { container_id: main }).await.unwrap();
    sim.create(&sandbox, container("main")).await.unwrap();
    sim.pods.remove_pod_sandbox(RemovePodSandboxRequest { pod_sandbox_id: sandbox }).await.unwrap();
    sim.pods.run_pod_sandbox(again).await.unwrap();
}

#[tokio::test]
async fn a_container_starts_once() {
    let mut sim = Sim::start();
    let (_, main) = sim.pod(&[]).await;
    let start = StartContainerRequest { container_id: main.clone() };
    let refused = sim.pods.start_container(start.clone()).await.unwrap_err();
    assert!(refused.message().contains("CONTAINER_RUNNING"), "{refused}");
    sim.stop(&main, 0).await.unwrap();
    assert!(sim.pods.start_container(start).await.unwrap_err().message().contains("CONTAINER_EXITED"));
    let exec = sim.exec(&main, &["true"], 0).await.unwrap_err();
    assert!(exec.message().contains("CONTAINER_EXITED"), "{exec}");
}

#[tokio::test]
async fn what_is_missing_or_malformed_is_named() {
    let mut sim = Sim::start();
    let empty = sim.pods.run_pod_sandbox(RunPodSandboxRequest::default()).await.unwrap_err();
    assert_eq!(empty.code(), Code::InvalidArgument);
    let handler = RunPodSandboxRequest { config: Some(pod("web")), runtime_handler: "gvisor".into() };
    let refused = sim.pods.run_pod_sandbox(handler).await.unwrap_err();
    assert!(refused.message().contains("gvisor"), "{refused}");
    let sandbox = sim.sandbox(pod("web")).await;
    let refused = sim.create(&sandbox, container("main")).await.unwrap_err();
    assert_eq!(refused.code(), Code::NotFound, "its image was not pulled");
    assert!(refused.message().contains("busybox"), "{refused}");
    sim.pull("busybox").await;
    let refused = sim.create(&sandbox, annotated("main", &[(crihook::sim::STOP_TAKES, "soon")])).await.unwrap_err();
    assert!(refused.message().contains("soon"), "{refused}");
}

#[tokio::test]
async fn methods_that_the_runtime_does_not_have_are_unimplemented() {
    let sim = Sim::start();
    // `Version`'s messages serve for any method: both sides of this one are unknown.
    let mut grpc = tonic::client::Grpc::new(dial(&sim.socket()));
    grpc.ready().await.unwrap();
    let path = http::uri::PathAndQuery::from_static("/runtime.v1.RuntimeService/CheckpointContainer");
    let codec = tonic_prost::ProstCodec::<VersionRequest, VersionResponse>::default();
    let refused = grpc.unary(tonic::Request::new(VersionRequest::default()), path, codec).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unimplemented);
    assert_eq!(sim.runtime.calls().get("CheckpointContainer"), Some(&1), "counted like any other");
}
