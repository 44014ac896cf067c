//! Endpoints that keep failing.

use super::*;
use crate::hooks::policy::{Template, Tls};

#[tokio::test(start_paused = true)]
async fn while_it_is_open_blocking_runs_fail_at_once_and_say_why() {
    let kit = Kit::new([(to_server(fail(hook("a"))), takes(secs(100)))]);
    for n in 0..5 {
        kit.fire(Point::PRE_STOP, &n.to_string(), Some(secs(10))).await.unwrap();
    }
    let begun = Instant::now();
    let rejection = kit.fire(Point::PRE_STOP, "x", None).await.unwrap().verdict.unwrap_err();
    assert_eq!(rejection.cause, "breaker open: 5 failures in a row, last: timed out");
    assert_eq!(begun.elapsed(), Duration::ZERO);
    assert_eq!(kit.begun().len(), 5);
    assert_eq!(kit.metrics(&["crihook_hook_breaker_open{hook=\"a\",policy=\"p\"} 1"]).len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_blocking_run_may_be_the_probe_that_closes_it() {
    let script = Arc::new(Mutex::new(fails(Failing::Failed, "refused")));
    let kit = Kit::new([(to_server(hook("a")), changing(&script))]);
    for n in 0..6 {
        kit.fire(Point::PRE_STOP, &n.to_string(), None).await.unwrap();
    }
    assert_eq!(kit.begun().len(), 5);
    tokio::time::sleep(secs(10)).await;
    kit.fire(Point::PRE_STOP, "probe", None).await.unwrap();
    kit.fire(Point::PRE_STOP, "too soon", None).await.unwrap();
    assert_eq!(kit.begun()[5..], ["a probe"]);
    *locked(&script) = takes(Duration::ZERO);
    tokio::time::sleep(secs(10)).await;
    kit.fire(Point::PRE_STOP, "answered", None).await.unwrap();
    kit.fire(Point::PRE_STOP, "next", None).await.unwrap();
    assert_eq!(kit.begun()[6..], ["a answered", "a next"]);
    assert_eq!(kit.metrics(&["crihook_hook_breaker_open{hook=\"a\",policy=\"p\"} 0"]).len(), 1);
}

#[tokio::test(start_paused = true)]
async fn background_runs_wait_for_it_without_using_attempts_and_go_when_it_closes() {
    let script = Arc::new(Mutex::new(fails(Failing::Failed, "refused")));
    let kit = Kit::new([(attempts(2, to_server(background("a"))), changing(&script))]);
    for n in 0..20 {
        kit.fire(Point::POST_START, &n.to_string(), None).await.unwrap();
    }
    tokio::time::sleep(secs(60)).await;
    let begun = kit.begun().len();
    assert!((5 + 5..=20 + 6).contains(&begun), "those under way when it opened, then one probe per 10 s: {begun}");
    tokio::time::sleep(secs(100)).await;
    assert_eq!(kit.begun().len(), begun + 10, "one probe per 10 s");
    assert_eq!(kit.metrics(&["crihook_hook_runs_in_flight 0"]).len(), 1, "who waits holds no slot");
    *locked(&script) = takes(Duration::ZERO);
    let waiting = kit.runs().iter().filter(|run| run.contains(" - ")).count();
    assert!(waiting > 0);
    tokio::time::sleep(secs(11)).await;
    settle().await;
    assert_eq!(kit.runs().iter().filter(|run| run.contains(" - ")).count(), 0, "all went at once");
    assert!(kit.runs().iter().filter(|run| run.contains("succeeded")).count() >= waiting);
}

#[tokio::test(start_paused = true)]
async fn a_run_that_waits_for_it_too_long_is_abandoned() {
    let options = Options { max_age: secs(100), ..Options::default() };
    let kit = Kit::with(&options, [(attempts(1000, to_server(background("a"))), fails(Failing::Failed, "refused"))]);
    kit.fire(Point::POST_START, "c", None).await.unwrap();
    let begun = Instant::now();
    kit.idle().await;
    assert_eq!(begun.elapsed().as_secs(), 100);
    let run = kit.runs().remove(0);
    assert!(run.starts_with("a abandoned ") && run.ends_with("its event is older than 1m 40s; last: refused"), "{run}");
}

#[tokio::test(start_paused = true)]
async fn a_refusal_is_an_answer() {
    let kit = Kit::new([(to_server(hook("a")), fails(Failing::Rejected, "not now"))]);
    for n in 0..10 {
        kit.fire(Point::PRE_STOP, &n.to_string(), None).await.unwrap();
    }
    assert_eq!(kit.begun().len(), 10);
}

#[tokio::test(start_paused = true)]
async fn hooks_of_one_endpoint_share_it_and_it_survives_a_reload() {
    let kit = Kit::new([
        (to_server(hook("a")), fails(Failing::Failed, "refused")),
        (to_server(hook("b")), takes(Duration::ZERO)),
        (hook("elsewhere"), takes(Duration::ZERO)),
    ]);
    for n in 0..5 {
        let event = Kit::event(Point::PRE_STOP, &n.to_string());
        let first = kit.engine.active().plan(Point::PRE_STOP, &event.pod, None)[..1].to_vec();
        kit.engine.fire(event, first, Limits { deadline: None, repeat: Repeat::Once }).await;
    }
    kit.engine.activate(set([to_server(hook("b")), hook("elsewhere")]));
    kit.fire(Point::PRE_STOP, "c", None).await.unwrap();
    assert_eq!(kit.begun()[5..], ["elsewhere c"]);
    assert_eq!(kit.metrics(&["crihook_hook_breaker_open{hook=\"b\",policy=\"p\"} 1"]).len(), 1);
    assert_eq!(kit.metrics(&["crihook_hook_breaker_open{hook=\"a\""]).len(), 0);
    kit.engine.activate(set([]));
    assert!(locked(&kit.engine.breakers).is_empty(), "nobody uses it");
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_a_later_call_cut_says_nothing_of_the_endpoint() {
    let kit = Kit::new([(to_server(hook("a")), takes(secs(5)))]);
    for n in 0..8 {
        let first = kit.fire(Point::PRE_STOP, &n.to_string(), None);
        settle().await;
        kit.fire(Point::PRE_STOP, &n.to_string(), Some(millis(1))).await.unwrap();
        first.await.unwrap();
    }
    assert_eq!(kit.begun().len(), 8);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_says_no_is_well() {
    let answers = |status| -> Script {
        Arc::new(move |_| {
            let evidence = Evidence { http_status: Some(status), ..Evidence::default() };
            let failure = Failure { evidence, ..failure(Failing::Failed, "answered") };
            Box::pin(std::future::ready(Err(failure)))
        })
    };
    for (status, asked) in [(404, 10), (503, 5)] {
        let kit = Kit::new([(to_server(hook("a")), answers(status))]);
        for n in 0..10 {
            kit.fire(Point::PRE_STOP, &n.to_string(), None).await.unwrap();
        }
        assert_eq!(kit.begun().len(), asked, "{status}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_was_given_too_little_time_has_not_failed() {
    let kit = Kit::new([(to_server(hook("a")), takes(secs(5)))]);
    for n in 0..10 {
        kit.fire(Point::PRE_STOP, &n.to_string(), Some(secs(1))).await.unwrap();
    }
    assert_eq!(kit.begun().len(), 10);
}

#[test]
fn servers_that_depend_on_the_pod_have_no_breaker() {
    let webhook = |url: &str| {
        let url = WebhookUrl::Http(Template::parse(url).unwrap());
        Action::Webhook(Webhook { url, headers: Vec::new(), tls: Tls::default() }).endpoint()
    };
    assert_eq!(webhook("http://drain:80/$(POD_NAME)"), Some("http://drain:80".to_owned()));
    assert_eq!(webhook("http://$(POD_IP):80/drain"), None);
}
