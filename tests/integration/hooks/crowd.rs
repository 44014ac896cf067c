//! Many containers at once.

use std::time::Duration;

use tokio::task::JoinSet;

use super::*;

const CONTAINERS: usize = 500;
/// A node's default: so many runs in the background, and as many blocking ones.
const AT_ONCE: usize = 64;

#[tokio::test]
async fn five_hundred_containers_that_start_at_once_have_all_their_hooks_run_in_bounds() {
    let place = Place::new();
    let background = place.answering("background", Reply::Late(Duration::from_millis(20)));
    let blocking = place.answering("blocking", Reply::Late(Duration::from_millis(20)));
    let hooks = [
        webhook("guard", "PreStartContainer", &blocking, &json!({"timeout": "60s"})),
        webhook("announce", "PostStart", &background, &json!({"timeout": "60s"})),
        webhook("warm", "PostStart", &background, &json!({"timeout": "60s"})),
    ];
    place.write("a.yaml", &policy("crowd", &hooks));
    let node = place.start().await;
    let mut made = Vec::new();
    for n in 0..CONTAINERS {
        made.push(node.created(&format!("web-{n}"), &[]).await);
    }
    let before = node.crihook.resident();
    let mut starts = JoinSet::new();
    for web in &made {
        let (cri, id) = (node.cri.clone(), web.id.clone());
        starts.spawn(async move { cri.start(&id).await });
    }
    while let Some(done) = within("a start", starts.join_next()).await {
        done.expect("no panic").expect("started");
    }
    let delivered = background.wait(2 * CONTAINERS).await;
    for hook in ["guard", "announce", "warm"] {
        let labels = [("hook", hook), ("outcome", "succeeded")];
        node.wait_metric("crihook_hook_runs_total", &labels, 500.0).await;
    }
    assert_eq!((blocking.delivered().len(), delivered.len()), (CONTAINERS, 2 * CONTAINERS));
    assert!((2..=AT_ONCE).contains(&blocking.peak()), "blocking runs at once: {}", blocking.peak());
    assert!((2..=AT_ONCE).contains(&background.peak()), "background runs at once: {}", background.peak());
    let mut order = std::collections::BTreeMap::<_, Vec<_>>::new();
    for seen in &delivered {
        order.entry(seen.pod().to_owned()).or_default().push(seen.hook().to_owned());
    }
    assert!(order.values().all(|hooks| *hooks == ["announce", "warm"]), "each container's in order");
    let grown = node.crihook.resident().saturating_sub(before);
    assert!(grown < 128 << 20, "{} MiB", grown >> 20);
}
