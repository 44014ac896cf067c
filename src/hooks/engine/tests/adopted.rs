//! What a dead process has left: gone on with under the same id, once, and only if it makes sense.

use super::*;
use crate::journal::{Done, Left, LeftRun, NewRun};
use crate::lifecycle::Call;

/// A run of `hook` that was left, for a container.
fn left(hook: &Hook, container: &str) -> LeftRun {
    let run = NewRun {
        id: format!("{} of {container}", hook.name).into(),
        policy: Arc::clone(&hook.policy),
        hook: Arc::clone(&hook.name),
        handler: "exec".into(),
        mode: hook.mode.name().into(),
        event: Arc::new(Kit::event(hook.point, container)),
        once: true,
        replay_of: None,
        created_at: SystemTime::now(),
    };
    LeftRun { run: Arc::new(run), intended: false, started: 0, failed: 0 }
}

impl Kit {
    /// Adopts runs, as if another process had begun them in this journal.
    fn adopt(&self, runs: impl IntoIterator<Item = LeftRun>) -> Vec<Open> {
        let runs: Vec<_> = runs.into_iter().collect();
        for left in &runs {
            self.journal.write(Entry::Begin { run: Arc::clone(&left.run), intended: left.intended });
        }
        self.engine.adopt(Left { runs, done: Vec::new() })
    }
}

/// The numbers of attempts, with the ids.
fn deliveries(seen: &Arc<Mutex<Vec<(String, u32)>>>) -> Script {
    let seen = Arc::clone(seen);
    Arc::new(move |delivery| {
        locked(&seen).push((delivery.event_id.to_string(), delivery.attempt));
        Box::pin(std::future::ready(Ok(Evidence::default())))
    })
}

#[tokio::test(start_paused = true)]
async fn a_background_run_goes_on_under_its_id_with_a_higher_attempt() {
    let seen = Arc::default();
    let kit = Kit::new([(background("a"), deliveries(&seen))]);
    let open = kit.adopt([LeftRun { started: 3, failed: 2, ..left(&background("a"), "c") }]);
    assert!(open.is_empty());
    kit.idle().await;
    assert_eq!(*locked(&seen), [("a of c".to_owned(), 4)]);
    kit.fire(Point::POST_START, "c", None).await.unwrap();
    kit.idle().await;
    assert_eq!(locked(&seen).len(), 1, "it has succeeded for that container");
}

#[tokio::test(start_paused = true)]
async fn attempts_without_a_result_do_not_count_against_the_policys() {
    let kit = Kit::new([(attempts(3, background("a")), fails(Failing::Failed, "no"))]);
    kit.adopt([LeftRun { started: 5, failed: 1, ..left(&background("a"), "c") }]);
    kit.idle().await;
    let numbers: Vec<_> = kit.journal.all()[0].attempts.iter().flatten().map(|attempt| attempt.number).collect();
    assert_eq!(numbers, [6, 7]);
    assert_eq!(kit.runs(), ["a failed 2 no"]);
}

#[tokio::test(start_paused = true)]
async fn what_makes_no_sense_any_more_is_abandoned_with_the_reason() {
    let kit = Kit::new([(background("a"), takes(secs(1)))]);
    let old = Event { at: (SystemTime::now() - secs(3601)).into(), ..Kit::event(Point::POST_START, "c") };
    let old = NewRun { event: Arc::new(old), ..NewRun::clone(&left(&background("a"), "c").run) };
    let old = LeftRun { run: Arc::new(old), ..left(&background("a"), "c") };
    let each = NewRun { once: false, id: "each".into(), ..NewRun::clone(&left(&background("a"), "d").run) };
    let each = LeftRun { run: Arc::new(each), intended: true, ..left(&background("a"), "d") };
    kit.adopt([old, left(&background("gone"), "c"), each]);
    assert_eq!(
        kit.runs(),
        [
            "a abandoned 0 its event is older than 1h",
            "gone abandoned 0 the policies have no such hook any more",
            "a abandoned 0 crihook died during the call, and nobody can tell whether the runtime has done it",
        ]
    );
    assert_eq!(kit.metrics(&["crihook_hook_queue_length 0"]).len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_wall_clock_that_jumps_by_hours_makes_nothing_old_or_young() {
    let kit = Kit::new([(background("a"), takes(secs(1)))]);
    for (container, jump) in [("ahead", 4 * 3600), ("back", -8 * 3600)] {
        let left = left(&background("a"), container);
        *locked(&kit.jumped) = jump;
        kit.adopt([left]);
    }
    kit.idle().await;
    assert_eq!(kit.runs(), ["a succeeded 1", "a succeeded 1"]);
    kit.fire(Point::POST_START, "now", None).await.unwrap();
    *locked(&kit.jumped) = 8 * 3600;
    kit.idle().await;
    assert_eq!(kit.runs().last().unwrap(), "a succeeded 1");
}

#[tokio::test(start_paused = true)]
async fn a_replay_that_was_left_is_as_old_as_the_request_for_it() {
    let kit = Kit::new([(background("a"), takes(secs(1)))]);
    let past = Event { at: (SystemTime::now() - secs(86_400)).into(), ..Kit::event(Point::POST_START, "c") };
    let replay = NewRun {
        event: Arc::new(past),
        once: false,
        replay_of: Some("first".into()),
        ..NewRun::clone(&left(&background("a"), "c").run)
    };
    kit.adopt([LeftRun { run: Arc::new(replay), ..left(&background("a"), "c") }]);
    kit.idle().await;
    assert_eq!(kit.runs(), ["a succeeded 1"]);
}

#[tokio::test(start_paused = true)]
async fn what_has_succeeded_before_is_not_run_again() {
    let kit = Kit::new([(hook("a"), takes(secs(1)))]);
    let done = Done { subject: "c".into(), point: Point::PRE_STOP, policy: "p".into(), hook: "a".into() };
    kit.engine.adopt(Left { runs: Vec::new(), done: vec![done] });
    assert!(!kit.stop(None).await.ran);
    assert!(kit.begun().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_repeated_call_goes_on_with_the_run_that_its_forerunner_waited_for() {
    let seen = Arc::default();
    let kit = Kit::new([(hook("a"), deliveries(&seen))]);
    let open = kit.adopt([LeftRun { started: 1, ..left(&hook("a"), "c") }]);
    let [Open::Unfinished(event, hooks)] = &open[..] else { panic!("somebody has to find out whether it still runs") };
    assert!(event.point == Point::PRE_STOP && kit.engine.is_left("c", hooks, Point::PRE_STOP));
    assert!(kit.stop(None).await.ran);
    assert_eq!(*locked(&seen), [("a of c".to_owned(), 2)]);
    assert!(!kit.engine.is_left("c", hooks, Point::PRE_STOP));
    assert_eq!(kit.runs(), ["a succeeded 1"]);
}

#[tokio::test(start_paused = true)]
async fn a_run_before_a_call_waits_for_the_call_to_be_repeated_and_not_for_ever() {
    let before = Hook { point: Point::pre(Call::StartContainer), ..hook("a") };
    let kit = Kit::new([(before, takes(secs(1)))]);
    let before = Hook { point: Point::pre(Call::StartContainer), ..hook("a") };
    assert!(kit.adopt([left(&before, "c")]).is_empty());
    tokio::time::sleep(secs(3500)).await;
    assert_eq!(kit.runs(), ["a - 0"]);
    tokio::time::sleep(secs(101)).await;
    let why = "crihook died during the call that it belonged to, and the call was not repeated";
    assert_eq!(kit.runs(), [format!("a abandoned 0 {why}")]);
    assert_eq!(kit.engine.book().size(), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn what_was_left_for_a_container_that_is_removed_is_abandoned() {
    let before = Hook { point: Point::pre(Call::StartContainer), ..hook("a") };
    let kit = Kit::new([(hook("other"), takes(secs(1))), (before, takes(secs(1)))]);
    let before = Hook { point: Point::pre(Call::StartContainer), ..hook("a") };
    kit.adopt([left(&before, "c")]);
    kit.engine.forget("c");
    assert_eq!(kit.runs(), ["a abandoned 0 what it was for is gone"]);
    assert_eq!(kit.engine.book().size(), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_promise_of_a_dead_process_is_kept_or_broken_by_what_the_runtime_says() {
    let kit = Kit::new([(background("a"), takes(secs(1))), (background("b"), takes(secs(1)))]);
    let intended = |name, container| LeftRun { intended: true, ..left(&background(name), container) };
    let open = kit.adopt([intended("a", "c"), intended("b", "c")]);
    let [Open::Doubtful(..)] = &open[..] else { panic!("one question for both") };
    assert!(kit.begun().is_empty());
    let Some(Open::Doubtful(promise, event, hooks)) = open.into_iter().next() else { unreachable!() };
    let limits = Limits { deadline: None, repeat: Repeat::Once };
    kit.engine.follow(Some(promise), Event::clone(&event), hooks, limits).await;
    kit.idle().await;
    assert_eq!(kit.runs(), ["a succeeded 1", "b succeeded 1"]);

    let Some(Open::Doubtful(promise, ..)) = kit.adopt([intended("a", "d")]).pop() else { panic!("a question") };
    promise.broken();
    assert_eq!(kit.runs().len(), 2, "it never was");
}

#[tokio::test(start_paused = true)]
async fn a_repeated_call_settles_a_doubt_by_succeeding() {
    let kit = Kit::new([(background("a"), takes(secs(1)))]);
    let mut open = kit.adopt([LeftRun { intended: true, ..left(&background("a"), "c") }]);
    let Some(Open::Doubtful(promise, ..)) = open.pop() else { panic!("a question") };
    let event = Kit::event(Point::POST_START, "c");
    let hooks = kit.engine.active().plan(event.point, &event.pod, event.container.as_deref());
    let again = kit.engine.promise(&event, &hooks, Repeat::Once);
    kit.engine.follow(again, event, hooks, Limits { deadline: None, repeat: Repeat::Once }).await;
    assert!(!promise.is_pending());
    kit.idle().await;
    assert_eq!(kit.runs(), ["a succeeded 1"]);
    assert_eq!(kit.journal.all()[0].id.as_ref(), "a of c");
}
