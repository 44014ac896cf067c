//! A busy node, and one upgrade after the other.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use crihook::cri::v1::{GetEventsRequest, ListContainersRequest};
use crihook::sim::Options;
use tokio::task::JoinSet;

use super::kubelet::failure;
use super::{Kubelet, Stage, until};
use crate::wire::peer::record::{self, Answer, End};

const UPGRADES: usize = 20;
/// Containers that are stopped, each longer than several upgrades take.
const STOPS: usize = 40;
/// Of them, at once.
const STOPS_AT_ONCE: usize = 8;
/// Clients of short calls, all on one connection.
const CALLERS: usize = 4;
/// Short calls between two upgrades, at least.
const BETWEEN: usize = 50;

/// What the clients have seen.
#[derive(Default)]
struct Seen {
    calls: AtomicUsize,
    stops: AtomicUsize,
    streams: AtomicUsize,
    events: AtomicUsize,
    over: AtomicBool,
    failures: std::sync::Mutex<Vec<String>>,
}

impl Seen {
    fn note(&self, counter: &AtomicUsize, answer: &Answer) {
        match failure(answer) {
            None => drop(counter.fetch_add(1, Ordering::Relaxed)),
            Some(why) => self.failures.lock().expect("no panic while it is held").push(why),
        }
    }

    fn over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_upgrades_on_a_busy_node_lose_no_call() {
    let slow = Options::default().answer_late("StopContainer", Duration::from_millis(700)).expect("a method");
    let stage = Stage::with(&slow, |_, _| ()).await;
    let mut containers = Vec::new();
    for number in 0..STOPS {
        containers.push(stage.node.running(&format!("pod-{number}"), &[]).await.id);
    }
    let (kubelet, seen) = (stage.kubelet().await, Arc::new(Seen::default()));
    let mut clients = JoinSet::new();
    for _ in 0..CALLERS {
        clients.spawn(short_calls(kubelet.clone(), Arc::clone(&seen)));
    }
    let queue = Arc::new(std::sync::Mutex::new(containers));
    for _ in 0..STOPS_AT_ONCE {
        clients.spawn(stops(kubelet.clone(), Arc::clone(&seen), Arc::clone(&queue)));
    }
    clients.spawn(events(kubelet.clone(), Arc::clone(&seen)));

    let mut last = stage.first();
    for number in 1..=UPGRADES {
        let before = seen.calls.load(Ordering::Relaxed);
        let next = stage.upgrade().await;
        assert_ne!(last, next, "upgrade {number}");
        last = next;
        until("calls pass", || async {
            let calls = seen.calls.load(Ordering::Relaxed) - before;
            if calls >= BETWEEN { Ok(()) } else { Err((number, calls)) }
        })
        .await;
    }
    until("the stops are done", || async {
        let done = seen.stops.load(Ordering::Relaxed);
        if done == STOPS { Ok(()) } else { Err((done, seen.failures.lock().expect("not held").clone())) }
    })
    .await;
    stage.processes_are(&[last]).await;
    let (before, pods) = (seen.events.load(Ordering::Relaxed), AtomicUsize::new(0));
    until("an event after the last upgrade", || async {
        // The stream may have been opened after an earlier one.
        stage.node.running(&format!("late-{}", pods.fetch_add(1, Ordering::Relaxed)), &[]).await;
        if seen.events.load(Ordering::Relaxed) > before { Ok(()) } else { Err("none") }
    })
    .await;
    seen.over.store(true, Ordering::Relaxed);
    clients.abort_all();
    while let Some(ended) = clients.join_next().await {
        assert!(ended.as_ref().err().is_none_or(tokio::task::JoinError::is_cancelled), "{ended:?}");
    }
    let failures = seen.failures.lock().expect("not held").clone();
    assert!(failures.is_empty(), "{} calls failed: {failures:#?}", failures.len());
    let done = stage.node.runtime.calls();
    assert_eq!(done["StopContainer"], STOPS as u64, "what was sent again had not been done");
    let streams = seen.streams.load(Ordering::Relaxed);
    assert_eq!(streams, UPGRADES + 1, "one stream of events from one upgrade to the next");
}

async fn short_calls(kubelet: Kubelet, seen: Arc<Seen>) {
    while !seen.over() {
        seen.note(&seen.calls, &kubelet.version().await);
        seen.note(&seen.calls, &kubelet.call("ListContainers", &ListContainersRequest::default()).await);
    }
}

async fn stops(kubelet: Kubelet, seen: Arc<Seen>, queue: Arc<std::sync::Mutex<Vec<String>>>) {
    loop {
        let Some(container) = queue.lock().expect("not held").pop() else { return };
        seen.note(&seen.stops, &kubelet.stop(&container).await);
    }
}

/// Opens the stream again at once whenever it ends, which it may with a word about why.
async fn events(kubelet: Kubelet, seen: Arc<Seen>) {
    while !seen.over() {
        let (_open, mut pending) = kubelet.begin("GetContainerEvents", &GetEventsRequest {}).await;
        let mut answer = match pending.head().await {
            Ok((mut answer, mut stream)) => {
                seen.streams.fetch_add(1, Ordering::Relaxed);
                while let Ok(bytes) = record::take(&mut stream, 1).await {
                    answer.body.0.extend(bytes);
                    seen.events.fetch_add(1, Ordering::Relaxed);
                }
                answer.end = record::drain(&mut stream, &mut answer.body).await;
                answer
            }
            // Proven unprocessed.
            Err(End::GoneAway(0)) => continue,
            Err(end) => Answer::none(end),
        };
        answer.body.0.clear();
        if answer.grpc_status() != Some("14") || !answer.grpc_message().is_some_and(|why| why.starts_with("crihook: "))
        {
            seen.failures.lock().expect("not held").push(format!("{answer:?}"));
        }
    }
}
