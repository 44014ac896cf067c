//! Blocking runs: order, verdicts, budgets, and the calls that wait.

use super::*;

#[tokio::test(start_paused = true)]
async fn blocking_hooks_run_one_after_another_in_order() {
    let kit = Kit::new([(hook("a"), takes(secs(2))), (hook("b"), takes(secs(1)))]);
    let begun = Instant::now();
    assert_eq!(kit.stop(None).await, Fired { ran: true, ..Fired::default() });
    assert_eq!(begun.elapsed(), secs(3));
    assert_eq!(kit.log(), ["+a c", "-a c", "+b c", "-b c"]);
    assert_eq!(kit.runs(), ["a succeeded 1", "b succeeded 1"]);
}

#[tokio::test(start_paused = true)]
async fn a_failure_with_fail_stops_the_sequence_and_says_which_and_why() {
    let kit = Kit::new([
        (hook("a"), fails(Failing::Failed, "exit code 1")),
        (fail(hook("b")), fails(Failing::Failed, "exit code 3")),
        (hook("c"), takes(secs(1))),
    ]);
    let rejection = kit.stop(None).await.verdict.unwrap_err();
    assert_eq!(rejection.to_string(), "policy `p`, hook `b`: exit code 3");
    assert_eq!(kit.runs(), ["a failed 1 exit code 1", "b failed 1 exit code 3"]);
}

#[tokio::test(start_paused = true)]
async fn without_hooks_nothing_is_waited_for() {
    let kit = Kit::new([(background("a"), takes(secs(1)))]);
    assert!(!kit.stop(None).await.ran, "no hook there");
    let begun = Instant::now();
    let fired = kit.fire(Point::POST_START, "c", None).await.unwrap();
    assert_eq!((fired.ran, begun.elapsed()), (false, Duration::ZERO), "a background hook is not waited for");
}

#[tokio::test(start_paused = true)]
async fn a_handler_is_given_the_smaller_of_its_timeout_and_the_budget() {
    let kit = Kit::new([
        (Hook { timeout: secs(3), ..hook("a") }, takes(secs(100))),
        (hook("b"), takes(secs(100))),
        (hook("c"), takes(secs(1))),
    ]);
    let begun = Instant::now();
    assert_eq!(kit.stop(Some(secs(7))).await, Fired { ran: true, ..Fired::default() });
    assert_eq!(begun.elapsed().as_secs(), 7, "a for 3 s, b for the 4 s that were left");
    assert_eq!(
        kit.runs(),
        ["a timed_out 1 timed out", "b timed_out 1 timed out", "c timed_out 0 no time is left of the call"]
    );
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_does_not_keep_its_deadline_is_dropped_soon_after() {
    let kit = Kit::new([(Hook { timeout: secs(3), ..hook("a") }, hangs())]);
    let begun = Instant::now();
    kit.stop(None).await;
    assert_eq!(begun.elapsed().as_secs(), 4);
    assert_eq!(kit.runs(), ["a timed_out 1 did not end at its deadline"]);
    assert_eq!(kit.log(), ["+a c", "-a c"]);
}

#[tokio::test(start_paused = true)]
async fn a_failed_attempt_is_repeated_until_one_succeeds() {
    let kit = Kit::new([(attempts(3, hook("a")), succeeds_at(3))]);
    let begun = Instant::now();
    assert!(kit.stop(None).await.verdict.is_ok());
    assert!(begun.elapsed() <= millis(200 + 400 + 2), "{:?}", begun.elapsed());
    assert_eq!(kit.runs(), ["a succeeded 3"]);
    let run = kit.journal.all().pop().unwrap();
    assert_eq!(run.attempts.unwrap().iter().map(|attempt| attempt.number).collect::<Vec<_>>(), [1, 2, 3]);
}

#[tokio::test(start_paused = true)]
async fn all_attempts_of_a_run_carry_the_same_id_and_rising_numbers() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let into = Arc::clone(&seen);
    let script: Script = Arc::new(move |delivery| {
        locked(&into).push((delivery.event_id.to_string(), delivery.attempt));
        Box::pin(std::future::ready(Err(failure(Failing::Failed, "no"))))
    });
    let kit = Kit::new([(attempts(3, hook("a")), script)]);
    kit.stop(None).await;
    let id = kit.journal.all().pop().unwrap().id.to_string();
    assert_eq!(*locked(&seen), [(id.clone(), 1), (id.clone(), 2), (id.clone(), 3)]);
    assert_eq!(uuid::Uuid::parse_str(&id).unwrap().get_version_num(), 7);
}

#[tokio::test(start_paused = true)]
async fn refusals_and_what_is_gone_are_not_tried_again() {
    let kit = Kit::new([
        (attempts(3, hook("a")), fails(Failing::Rejected, "not on my watch")),
        (attempts(3, hook("b")), fails(Failing::Gone, "the container is not running")),
    ]);
    kit.stop(None).await;
    assert_eq!(kit.runs(), ["a failed 1 not on my watch", "b failed 1 the container is not running"]);
}

#[tokio::test(start_paused = true)]
async fn no_attempt_and_no_wait_for_one_goes_beyond_the_budget() {
    let patient = Retries { attempts: 1000, backoff: secs(2), max_backoff: secs(4) };
    let kit = Kit::new([(Hook { retries: patient, ..hook("a") }, fails(Failing::Failed, "refused"))]);
    for _ in 0..20 {
        let begun = Instant::now();
        kit.stop(Some(secs(10))).await;
        assert!(begun.elapsed() <= secs(10), "{:?}", begun.elapsed());
    }
    for run in kit.runs() {
        assert!(run.starts_with("a failed ") && run.ends_with("refused; no time is left to try again"), "{run}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_that_goes_away_cancels_its_runs() {
    let kit = Kit::new([(hook("a"), takes(secs(5))), (hook("b"), takes(secs(5)))]);
    let call = kit.fire(Point::PRE_STOP, "c", None);
    tokio::time::sleep(secs(1)).await;
    call.abort();
    settle().await;
    assert_eq!(kit.log(), ["+a c", "-a c"], "the attempt was dropped and the next hook not begun");
    assert_eq!(kit.runs(), ["a cancelled 1 nobody waits for it any more"]);
    assert_eq!(kit.metrics(&["crihook_hook_attempts_total", "cancelled"]).len(), 1);
    assert_eq!(kit.metrics(&["crihook_hook_runs_in_flight 0"]).len(), 1);
    assert_eq!(kit.metrics(&["crihook_hook_queue_length 0"]).len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_panics_has_failed_and_nothing_else_has() {
    let panics: Script = Arc::new(|_| Box::pin(async { panic!("a bug") }));
    let kit = Kit::new([(hook("a"), panics), (hook("b"), takes(secs(1)))]);
    assert!(kit.stop(None).await.verdict.is_ok());
    assert_eq!(kit.runs(), ["a failed 1 the handler panicked", "b succeeded 1"]);
}

#[tokio::test(start_paused = true)]
async fn the_address_is_asked_for_within_the_attempt_and_only_where_it_is_wanted() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let into = Arc::clone(&seen);
    let script: Script = Arc::new(move |delivery| {
        locked(&into).push(delivery.address);
        Box::pin(std::future::ready(Ok(Evidence::default())))
    });
    let socket = crate::hooks::policy::TcpSocket { port: crate::hooks::policy::PortRef::Number(80), host: None };
    let wants = Hook { action: Action::TcpSocket(socket), ..hook("wants") };
    let kit = Kit::new([(wants, Arc::clone(&script)), (hook("does-not"), script)]);
    kit.stop(None).await;
    assert_eq!(*locked(&seen), [Some(Address::Node), None]);
    for (sandbox, takes) in [("fails", 0), ("hangs", 10)] {
        let begun = Instant::now();
        let event = Kit::event(Point::PRE_STOP, sandbox);
        let pod = Arc::new(Pod { sandbox_id: sandbox.into(), ..Pod::clone(&event.pod) });
        kit.fire_event(Event { pod, ..event }, None, Repeat::Once).await.unwrap();
        assert_eq!(begun.elapsed().as_secs(), takes);
    }
    let runs = kit.runs();
    assert_eq!(runs[2], "wants failed 1 the pod's address is not known: no such sandbox");
    assert_eq!(runs[4], "wants timed_out 1 the runtime did not give the pod's address in time");
}

#[tokio::test(start_paused = true)]
async fn a_forced_end_drops_everything_and_lets_nothing_pass_that_must_not_fail() {
    let kit = Kit::new([(fail(hook("a")), takes(secs(5)))]);
    let call = kit.fire(Point::PRE_STOP, "c", None);
    tokio::time::sleep(secs(1)).await;
    kit.drain.force();
    let fired = call.await.unwrap();
    assert_eq!(fired.verdict.unwrap_err().to_string(), "policy `p`, hook `a`: crihook is ending");
    assert_eq!(kit.runs(), ["a - 1"], "the next process goes on with it");
    kit.drain.finished().await;
}
