//! The life of a pod, from its first call to its last.

use super::*;

#[tokio::test]
async fn a_pod_with_two_containers_lives_and_leaves_nothing() {
    let mut sim = Sim::start();
    let version = sim.pods.version(VersionRequest::default()).await.unwrap().into_inner();
    assert_eq!((version.version.as_str(), version.runtime_api_version.as_str()), ("0.1.0", "v1"));

    let image = sim.pull("busybox").await;
    let sandbox = sim.sandbox(pod("web")).await;
    let main = sim.create(&sandbox, container("main")).await.unwrap();
    let created = sim.status(&main).await.unwrap();
    assert_eq!((created.state(), created.started_at), (ContainerState::ContainerCreated, 0));

    sim.pods.start_container(StartContainerRequest { container_id: main.clone() }).await.unwrap();
    let side = sim.run(&sandbox, container("side")).await;
    let running = sim.status(&main).await.unwrap();
    assert_eq!(running.state(), ContainerState::ContainerRunning);
    assert!(running.started_at >= running.created_at && running.finished_at == 0, "{running:?}");
    assert_eq!(running.image.unwrap().image, "docker.io/library/busybox:latest");
    assert_eq!((running.image_id, running.log_path.as_str()), (image, "/var/log/pods/web/main/0.log"));

    let exec = sim.exec(&main, &["echo", "hello"], 0).await.unwrap();
    assert_eq!((exec.stdout.as_slice(), exec.exit_code), (b"hello\n".as_slice(), 0));

    for id in [&main, &side] {
        sim.stop(id, 5).await.unwrap();
        let stopped = sim.status(id).await.unwrap();
        assert_eq!((stopped.state(), stopped.exit_code), (ContainerState::ContainerExited, 0));
        assert_eq!(stopped.reason, "Completed");
        assert!(stopped.finished_at >= stopped.started_at);
        sim.pods.remove_container(RemoveContainerRequest { container_id: id.clone() }).await.unwrap();
        assert_eq!(sim.status(id).await.unwrap_err().code(), tonic::Code::NotFound);
    }
    sim.pods.stop_pod_sandbox(StopPodSandboxRequest { pod_sandbox_id: sandbox.clone() }).await.unwrap();
    sim.pods.remove_pod_sandbox(RemovePodSandboxRequest { pod_sandbox_id: sandbox }).await.unwrap();
    assert!(sim.pods.list_pod_sandbox(ListPodSandboxRequest::default()).await.unwrap().into_inner().items.is_empty());
    let left = sim.pods.list_containers(ListContainersRequest::default()).await.unwrap().into_inner();
    assert!(left.containers.is_empty());
}

#[tokio::test]
async fn a_sandbox_has_its_own_address_and_gives_it_back_when_stopped() {
    let mut sim = Sim::start();
    let mut addresses = Vec::new();
    for name in ["a", "b"] {
        let id = sim.sandbox(pod(name)).await;
        addresses.push((ip(&mut sim, &id).await, id));
    }
    assert_ne!(addresses[0].0, addresses[1].0);
    assert!(addresses.iter().all(|(ip, _)| ip.starts_with("10.88.")), "{addresses:?}");
    let on_host = LinuxSandboxSecurityContext {
        namespace_options: Some(NamespaceOption { network: NamespaceMode::Node.into(), ..NamespaceOption::default() }),
    };
    let linux = LinuxPodSandboxConfig { security_context: Some(on_host), ..LinuxPodSandboxConfig::default() };
    let host = sim.sandbox(PodSandboxConfig { linux: Some(linux), ..pod("host") }).await;
    assert_eq!(ip(&mut sim, &host).await, "", "the host's addresses are not the pod's");
    let (_, stopped) = &addresses[0];
    sim.pods.stop_pod_sandbox(StopPodSandboxRequest { pod_sandbox_id: stopped.clone() }).await.unwrap();
    assert_eq!(ip(&mut sim, stopped).await, "");
}

#[tokio::test]
async fn pods_get_addresses_of_the_cidr_that_the_kubelet_gives() {
    let mut sim = Sim::start();
    let network_config = Some(NetworkConfig { pod_cidr: "10.200.0.0/16,fd00::/64".into() });
    let request = UpdateRuntimeConfigRequest { runtime_config: Some(RuntimeConfig { network_config }) };
    sim.pods.update_runtime_config(request).await.unwrap();
    let id = sim.sandbox(pod("web")).await;
    let ip = ip(&mut sim, &id).await;
    assert!(ip.starts_with("10.200."), "{ip}");
}

async fn ip(sim: &mut Sim, id: &str) -> String {
    let request = PodSandboxStatusRequest { pod_sandbox_id: id.into(), verbose: false };
    let status = sim.pods.pod_sandbox_status(request).await.unwrap().into_inner().status.unwrap();
    status.network.expect("known, if only as none").ip
}

#[tokio::test]
async fn stopping_a_sandbox_kills_what_runs_in_it() {
    let mut sim = Sim::start();
    let (sandbox, main) = sim.pod(&[]).await;
    sim.pods.stop_pod_sandbox(StopPodSandboxRequest { pod_sandbox_id: sandbox.clone() }).await.unwrap();
    let status = sim.status(&main).await.unwrap();
    assert_eq!((status.state(), status.exit_code), (ContainerState::ContainerExited, 137));
    assert_eq!(status.reason, "Error");
    let refused = sim.create(&sandbox, container("late")).await.unwrap_err();
    assert!(refused.message().contains("not ready"), "{refused}");
}

#[tokio::test]
async fn updated_resources_show_in_the_status_and_what_was_not_named_stays() {
    let mut sim = Sim::start();
    sim.pull("busybox").await;
    let sandbox = sim.sandbox(pod("web")).await;
    let first = LinuxContainerResources {
        cpu_shares: 512,
        memory_limit_in_bytes: 64 << 20,
        ..LinuxContainerResources::default()
    };
    let linux = Some(LinuxContainerConfig { resources: Some(first) });
    let main = sim.run(&sandbox, ContainerConfig { linux, ..container("main") }).await;
    let change = LinuxContainerResources { cpu_quota: 20_000, cpu_shares: 256, ..LinuxContainerResources::default() };
    let request =
        UpdateContainerResourcesRequest { container_id: main.clone(), linux: Some(change), ..Default::default() };
    sim.pods.update_container_resources(request).await.unwrap();
    let now = sim.status(&main).await.unwrap().resources.unwrap().linux.unwrap();
    assert_eq!((now.cpu_quota, now.cpu_shares, now.memory_limit_in_bytes), (20_000, 256, 64 << 20));
}

#[tokio::test]
async fn status_says_that_the_runtime_is_ready_and_more_when_asked() {
    let mut sim = Sim::start();
    for verbose in [false, true] {
        let status = sim.pods.status(StatusRequest { verbose }).await.unwrap().into_inner();
        let conditions = status.status.unwrap().conditions;
        let ready: Vec<_> = conditions.iter().filter(|c| c.status).map(|c| c.r#type.as_str()).collect();
        assert_eq!(ready, ["RuntimeReady", "NetworkReady"]);
        assert_eq!(status.info.contains_key("config"), verbose);
        for text in status.info.values() {
            serde_json::from_str::<serde_json::Value>(text).expect("info is JSON");
        }
    }
    let config = sim.pods.runtime_config(RuntimeConfigRequest {}).await.unwrap().into_inner();
    assert_eq!(config.linux.unwrap().cgroup_driver(), CgroupDriver::Systemd);
}

#[tokio::test]
async fn statistics_grow_with_time() {
    let mut sim = Sim::start();
    let (sandbox, main) = sim.pod(&[]).await;
    let mut used = Vec::new();
    let deadline = tokio::time::Instant::now() + LONG;
    while used.len() < 2 && tokio::time::Instant::now() < deadline {
        let request = ContainerStatsRequest { container_id: main.clone() };
        let stats = sim.pods.container_stats(request).await.unwrap().into_inner().stats.unwrap();
        assert!(stats.memory.unwrap().working_set_bytes.unwrap().value > 0);
        let nanoseconds = stats.cpu.unwrap().usage_core_nano_seconds.unwrap().value;
        if used.last() != Some(&nanoseconds) {
            used.push(nanoseconds);
        }
    }
    assert!(used[0] < used[1], "{used:?}");

    let request = PodSandboxStatsRequest { pod_sandbox_id: sandbox };
    let of_pod = sim.pods.pod_sandbox_stats(request).await.unwrap().into_inner().stats.unwrap().linux.unwrap();
    assert_eq!(of_pod.containers[0].attributes.as_ref().unwrap().id, main);
    assert!(of_pod.cpu.unwrap().usage_core_nano_seconds.unwrap().value >= used[1]);
    assert_eq!(of_pod.network.unwrap().default_interface.unwrap().name, "eth0");
}
