//! In which order hooks run, and what they are told.

use super::*;

/// All sixteen, in the order of a pod's life.
const POINTS: [&str; 16] = [
    "PreRunPodSandbox",
    "PostRunPodSandbox",
    "PreCreateContainer",
    "PostCreateContainer",
    "PreStartContainer",
    "PostStartContainer",
    "PreUpdateContainerResources",
    "PostUpdateContainerResources",
    "PreStopContainer",
    "PostStopContainer",
    "PreRemoveContainer",
    "PostRemoveContainer",
    "PreStopPodSandbox",
    "PostStopPodSandbox",
    "PreRemovePodSandbox",
    "PostRemovePodSandbox",
];

async fn whole_life(node: &Node) -> node::Running {
    let web = node.running("web", &[]).await;
    node.cri.update(&web.id, 512).await.expect("updated");
    node.cri.stop(&web.id, 10).await.expect("stopped");
    node.cri.remove(&web.id).await.expect("removed");
    node.cri.stop_pod(&web.sandbox).await.expect("stopped");
    node.cri.remove_pod(&web.sandbox).await.expect("removed");
    web
}

#[tokio::test]
async fn all_points_of_a_pods_life_come_in_order_with_what_is_known_of_it() {
    let place = Place::new();
    let server = place.answering("hook", Reply::Ok);
    let hooks = POINTS.map(|point| webhook(&point.to_lowercase(), point, &server, &json!({"mode": "Blocking"})));
    place.write("a.yaml", &policy("watch-web", &hooks));
    let node = place.start().await;
    let web = whole_life(&node).await;
    assert_eq!(server.points(), POINTS);
    for seen in server.delivered() {
        let (point, data) = (seen.point(), &seen.document["data"]);
        assert_eq!((seen.document["specversion"].as_str(), seen.attempt()), (Some("1.0"), 1), "{point}");
        assert_eq!(seen.document["type"], format!("dev.crihook.{point}"));
        assert_eq!((&data["pod"]["name"], &data["pod"]["namespace"]), (&json!("web"), &json!("payments")), "{point}");
        assert_eq!(data["pod"]["labels"]["app"], "web", "{point}");
        if point != "PreRunPodSandbox" {
            assert_eq!(data["pod"]["sandboxId"], *web.sandbox, "{point}");
        }
        if point.contains("PodSandbox") {
            assert!(data["container"].is_null(), "{point}: {data}");
            continue;
        }
        assert_eq!(
            (&data["container"]["name"], &data["container"]["image"]),
            (&json!("main"), &json!(cri::IMAGE)),
            "{point}"
        );
        if point != "PreCreateContainer" {
            assert_eq!(data["container"]["id"], *web.id, "{point}");
        }
    }
}

#[tokio::test]
async fn background_runs_of_a_container_go_in_order() {
    let place = Place::new();
    let server = place.answering("hook", Reply::Ok);
    let hooks = ["one", "two", "three", "four"].map(|name| webhook(name, "PostStart", &server, &plain()));
    place.write("a.yaml", &policy("watch-web", &hooks));
    let node = place.start().await;
    node.running("web", &[]).await;
    let hooks: Vec<_> = server.wait(4).await.iter().map(|seen| seen.hook().to_owned()).collect();
    assert_eq!(hooks, ["one", "two", "three", "four"]);
    assert_eq!(server.peak(), 1, "one after another");
}

#[tokio::test]
async fn hooks_of_a_point_run_by_file_document_and_list() {
    let place = Place::new();
    let server = place.answering("hook", Reply::Ok);
    let one = |name: &str| policy(&format!("of-{name}"), &[webhook(name, "PreStartContainer", &server, &plain())]);
    let listed = ["c", "d"].map(|name| webhook(name, "PreStartContainer", &server, &plain()));
    place.write("20-late.yaml", &one("e"));
    place.write("10-early.yaml", &format!("{}---\n{}---\n{}", one("a"), one("b"), policy("list", &listed)));
    let node = place.start().await;
    node.running("web", &[]).await;
    let hooks: Vec<_> = server.delivered().iter().map(|seen| seen.hook().to_owned()).collect();
    assert_eq!(hooks, ["a", "b", "c", "d", "e"]);
}

/// A blocking hook never waits for one in the background, not even of its own container.
#[tokio::test]
async fn a_blocking_hook_passes_a_background_one_that_hangs() {
    let place = Place::new();
    let (slow, quick) = (place.answering("slow", Reply::Hang), place.answering("quick", Reply::Ok));
    let hooks = [
        webhook("slow", "PostStart", &slow, &json!({"timeout": "10m"})),
        webhook("quick", "PreUpdateContainerResources", &quick, &plain()),
    ];
    place.write("a.yaml", &policy("watch-web", &hooks));
    let node = place.start().await;
    let web = node.running("web", &[]).await;
    slow.wait(1).await;
    within("the update", node.cri.update(&web.id, 512)).await.expect("updated");
    assert_eq!(quick.points(), ["PreUpdateContainerResources"]);
    assert_eq!((slow.open(), slow.left()), (1, 0), "the other one goes on");
}
