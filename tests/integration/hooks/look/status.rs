//! `crihook status`: how a crihook is, and what is not as it should be.

use std::net::TcpListener;

use super::*;

#[tokio::test]
async fn status_tells_how_a_crihook_is_that_is_well() {
    let place = Place::new();
    let server = place.answering("hook", Reply::Ok);
    place.write("a.yaml", &policy("announce-web", &[webhook("announce", "PostStart", &server, &plain())]));
    let node = place.start().await;
    node.running("web-0", &[]).await;
    node.outcome("announce").await;
    let page = ask(&place, &["status"]).await.text();
    assert_page("status", &place, &page);
    let document = ask(&place, &["status", "-o", "json"]).await.document();
    let keys = sorted(document.as_object().expect("an object").keys().map(String::as_str));
    let documented = [
        "breakers",
        "connections",
        "degradations",
        "draining",
        "journal",
        "listen",
        "pid",
        "policies",
        "queue",
        "runtime",
        "startedAt",
        "uptime",
        "version",
    ];
    assert_eq!(keys, documented);
    assert_eq!(document["pid"], node.crihook.pid());
    assert_eq!(document["degradations"], json!([]));
    let hash = document["policies"]["hash"].as_str().expect("a hash");
    node.wait_metric("crihook_policy_info", &[("hash", hash)], 1.0).await;
}

#[tokio::test]
async fn what_is_not_as_it_should_be_comes_first_and_is_no_failure_of_the_command() {
    let place = Place::new();
    let server = place.answering("hook", Reply::Status(503, "down"));
    let retries = json!({"retries": {"attempts": 5, "backoff": "1ms", "maxBackoff": "2ms"}});
    place.write("a.yaml", &policy("announce-web", &[webhook("announce", "PostRunPodSandbox", &server, &retries)]));
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("an address").to_string();
    let node = place
        .start_with(|flags| {
            flags.set("--metrics-addr", address.clone());
        })
        .await;
    node.cri.run_pod(&pod("web-0")).await.expect("a sandbox");
    node.outcome("announce").await;
    node.cri.run_pod(&pod("web-1")).await.expect("a sandbox");
    place.write("b.yaml", "kind: HookPolicy\nspek: {}\n");
    ask(&place, &["pause", "--reason", "for a test"]).await.text();
    node.runtime.fail_next("Version", 1_000_000).expect("a method");
    let page = until("everything that is wrong", || async {
        let page = ask(&place, &["status"]).await.text();
        if tells(&page, &["! runtime", "! policies", "! hooks", "! breaker", "! metrics"]) {
            Ok(page)
        } else {
            Err(page)
        }
    })
    .await;
    assert_page("status_degraded", &place, &page.replace(&address, "127.0.0.1:PORT"));
    let document = ask(&place, &["status", "-o", "json"]).await.document();
    assert_eq!(document["runtime"]["answers"], false);
    assert_eq!(document["queue"]["waiting"], 1, "the run that waits for its server");
    assert_eq!(
        (&document["breakers"][0]["policy"], &document["breakers"][0]["hook"]),
        (&json!("announce-web"), &json!("announce"))
    );
    assert_eq!(document["degradations"].as_array().map(Vec::len), Some(5), "{document:#}");
}
