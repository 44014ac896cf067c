//! What takes a running container away without a stop of its own: its `PreStop` hooks go first, for a bounded time.

use std::time::{Duration, Instant};

use super::*;

const WAYS: [&str; 2] = ["StopPodSandbox", "RemoveContainer"];

async fn take_away(node: &Node, how: &str, web: &node::Running) -> Result<(), tonic::Status> {
    match how {
        "StopPodSandbox" => node.cri.stop_pod(&web.sandbox).await,
        _ => node.cri.remove(&web.id).await,
    }
}

#[tokio::test]
async fn the_unfinished_hooks_of_a_running_container_go_first() {
    for how in WAYS {
        let place = Place::new();
        let server = place.answering("hook", Reply::Ok);
        place.write("a.yaml", &policy("drain-web", &[webhook("drain", "PreStop", &server, &plain())]));
        let node = place.start().await;
        let web = node.running("web", &[]).await;
        take_away(&node, how, &web).await.expect("taken away");
        let delivered = server.delivered();
        assert_eq!(server.points(), ["PreStopContainer"], "{how}");
        assert_eq!(delivered[0].container()["id"], *web.id);
        assert!(delivered[0].at < node.heard(how)[0].at, "{how}: first the hook, then the runtime");
        assert_eq!(node.outcome("drain").await["outcome"], "succeeded");
    }
}

#[tokio::test]
async fn hooks_that_hang_are_cut_soon() {
    for how in WAYS {
        let place = Place::new();
        let server = place.answering("hook", Reply::Hang);
        place
            .write("a.yaml", &policy("drain-web", &[webhook("drain", "PreStop", &server, &json!({"timeout": "10m"}))]));
        let node = place.start().await;
        // No grace was ever told: two seconds.
        let web = node.running("web", &[]).await;
        let begun = Instant::now();
        take_away(&node, how, &web).await.expect("taken away");
        assert!(begun.elapsed() < Duration::from_secs(40), "{how}: {:?}", begun.elapsed());
        assert_eq!(node.outcome("drain").await["outcome"], "timed_out");
        server.wait_left(1).await;
    }
}

#[tokio::test]
async fn hooks_that_have_succeeded_or_containers_that_have_exited_are_left_alone() {
    let place = Place::new();
    let server = place.answering("hook", Reply::Ok);
    place.write("a.yaml", &policy("drain-web", &[webhook("drain", "PreStop", &server, &plain())]));
    let node = place.start().await;
    let (stopped, never) = (node.running("stopped", &[]).await, node.created("never", &[]).await);
    node.cri.stop(&stopped.id, 10).await.expect("stopped");
    for web in [&stopped, &never] {
        node.cri.stop_pod(&web.sandbox).await.expect("stopped");
        node.cri.remove(&web.id).await.expect("removed");
        node.cri.remove_pod(&web.sandbox).await.expect("removed");
    }
    assert_eq!(server.delivered().len(), 1, "by the stop, and by nothing else");
    assert_eq!(server.delivered()[0].pod(), "stopped");
}
