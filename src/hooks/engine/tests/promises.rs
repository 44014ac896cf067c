//! What is written down before a call, and what becomes of it.

use super::*;
use crate::journal::Run;

impl Kit {
    fn promise(&self, point: Point, container: &str) -> Option<Promise> {
        let event = Self::event(point, container);
        let hooks = self.engine.active().plan(point, &event.pod, event.container.as_deref());
        let mut promise = self.engine.promise(&event, &hooks, Repeat::Once);
        if let Some(promise) = &mut promise {
            promise.hold();
        }
        promise
    }

    async fn keep(&self, promise: Option<Promise>, point: Point, container: &str) -> Fired {
        let event = Self::event(point, container);
        let hooks = self.engine.active().plan(point, &event.pod, event.container.as_deref());
        self.engine.follow(promise, event, hooks, Limits { deadline: None, repeat: Repeat::Once }).await
    }

    fn intended(&self) -> Vec<bool> {
        self.journal.all().iter().map(|run| run.intended).collect()
    }
}

fn ids(runs: &[Run]) -> Vec<String> {
    runs.iter().map(|run| run.id.to_string()).collect()
}

#[tokio::test(start_paused = true)]
async fn what_follows_a_call_is_written_down_before_it_and_runs_under_the_same_id_after_it() {
    let blocking = Hook { point: Point::POST_START, ..hook("blocking") };
    let kit = Kit::new([(blocking, takes(secs(1))), (background("a"), takes(secs(1)))]);
    let promise = kit.promise(Point::POST_START, "c");
    assert_eq!(kit.intended(), [true, true]);
    let promised = ids(&kit.journal.all());
    assert!(kit.begun().is_empty());
    let fired = kit.keep(promise, Point::POST_START, "c").await;
    assert!(fired.ran && fired.queued);
    kit.idle().await;
    assert_eq!(kit.intended(), [false, false]);
    assert_eq!(ids(&kit.journal.all()), promised);
    assert_eq!(kit.runs(), ["blocking succeeded 1", "a succeeded 1"]);
}

#[tokio::test(start_paused = true)]
async fn of_a_call_that_failed_nothing_is_kept() {
    let kit = Kit::new([(background("a"), takes(secs(1)))]);
    kit.promise(Point::POST_START, "c").unwrap().broken();
    assert!(kit.runs().is_empty());
    assert_eq!(kit.engine.book().size(), (0, 0));
    assert_eq!(kit.metrics(&["crihook_hook_queue_length 0"]).len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_never_reached_the_runtime_leaves_no_promise() {
    let kit = Kit::new([(background("a"), takes(secs(1)))]);
    let event = Kit::event(Point::POST_START, "c");
    let hooks = kit.engine.active().plan(event.point, &event.pod, event.container.as_deref());
    drop(kit.engine.promise(&event, &hooks, Repeat::Once));
    assert!(kit.runs().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_promise_that_nobody_decided_on_stays_on_record() {
    let kit = Kit::new([(background("a"), takes(secs(1)))]);
    drop(kit.promise(Point::POST_START, "c"));
    assert_eq!(kit.intended(), [true]);
}

#[tokio::test(start_paused = true)]
async fn repeated_calls_share_a_promise_which_the_first_success_keeps() {
    let kit = Kit::new([(background("a"), takes(secs(1)))]);
    let (one, two) = (kit.promise(Point::POST_START, "c"), kit.promise(Point::POST_START, "c"));
    assert_eq!(kit.intended().len(), 1);
    one.unwrap().broken();
    assert_eq!(kit.intended(), [true], "the other may still succeed");
    kit.keep(two, Point::POST_START, "c").await;
    kit.idle().await;
    assert!(kit.promise(Point::POST_START, "c").is_none(), "it has succeeded");
    assert_eq!(kit.runs(), ["a succeeded 1"]);
}

#[tokio::test(start_paused = true)]
async fn a_stop_takes_back_what_was_promised_for_after_the_start() {
    let kit = Kit::new([(background("a"), takes(secs(1)))]);
    let promise = kit.promise(Point::POST_START, "c").unwrap();
    kit.engine.abandon("c", Point::POST_START, "the container is being stopped");
    assert!(!promise.is_pending());
    promise.broken();
    assert_eq!(kit.runs(), ["a abandoned 0 the container is being stopped"]);
    assert_eq!(kit.engine.book().size(), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn hooks_behind_one_that_must_not_fail_are_abandoned_when_it_does() {
    let blocking = |name| Hook { point: Point::POST_START, ..hook(name) };
    let kit = Kit::new([(fail(blocking("a")), fails(Failing::Failed, "no")), (blocking("b"), takes(secs(1)))]);
    let promise = kit.promise(Point::POST_START, "c");
    assert!(kit.keep(promise, Point::POST_START, "c").await.verdict.is_err());
    assert_eq!(kit.runs(), ["a failed 1 no", "b abandoned 0 the hook `a` before it has failed"]);
}

#[tokio::test(start_paused = true)]
async fn an_attempt_is_on_record_before_it_is_made() {
    let journal: Arc<std::sync::OnceLock<Arc<Recorded>>> = Arc::default();
    let (seen, at_attempt) = (Arc::clone(&journal), Arc::new(Mutex::new(Vec::new())));
    let noted = Arc::clone(&at_attempt);
    let script: Script = Arc::new(move |delivery| {
        let run = seen.get().unwrap().all().pop().unwrap();
        locked(&noted).push((delivery.attempt, run.started));
        Box::pin(std::future::ready(Err(failure(Failing::Failed, "no"))))
    });
    let kit = Kit::new([(attempts(3, hook("a")), script)]);
    journal.set(Arc::clone(&kit.journal)).ok().unwrap();
    kit.stop(None).await;
    assert_eq!(*locked(&at_attempt), [(1, 1), (2, 2), (3, 3)]);
}
