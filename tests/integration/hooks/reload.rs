//! Policies change while calls go on: whole sets only, and never for the worse.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::sys::signal::Signal;
use tokio::task::JoinSet;

use super::*;

const RELOADS: &str = "crihook_policy_reloads_total";

/// Two files that always change together: in each set both policies say the same word.
fn pair(place: &Place, server: &HookServer, word: &str) {
    // One file has the last word: a set is what is in the directory when it is read.
    let documents = ["a", "b"].map(|name| {
        let mut hook = webhook(name, "PreCreateContainer", server, &plain());
        hook["webhook"]["headers"] = json!({"x-word": word});
        policy(&format!("policy-{name}"), &[hook])
    });
    place.write("pair.yaml", &documents.join("---\n"));
}

#[tokio::test]
async fn no_call_sees_half_a_set_while_policies_change_under_load() {
    let place = Place::new();
    let server = Arc::new(place.answering("hook", Reply::Ok));
    pair(&place, &server, "first");
    let node = place.start().await;
    let over = Arc::new(AtomicBool::new(false));
    let mut load = JoinSet::new();
    for worker in 0..4 {
        let (cri, over) = (node.cri.clone(), over.clone());
        load.spawn(async move {
            let web = pod(&format!("web-{worker}"));
            let sandbox = cri.run_pod(&web).await.expect("a sandbox");
            for n in 0.. {
                if over.load(Ordering::SeqCst) {
                    return;
                }
                let mut main = container(&format!("main-{n}"), &[]);
                main.metadata.get_or_insert_default().attempt = n;
                cri.create(&sandbox, &main, &web).await.expect("a container");
            }
        });
    }
    for round in 0..20 {
        let word = format!("word-{round}");
        pair(&place, &server, &word);
        if round % 2 == 0 {
            node.crihook.signal(Signal::SIGHUP);
        }
        until("calls under the new set", || async {
            let last = server.delivered().pop().map(|seen| seen.headers["x-word"].clone());
            if last.as_ref() == Some(&word) { Ok(()) } else { Err(last) }
        })
        .await;
    }
    over.store(true, Ordering::SeqCst);
    while let Some(done) = load.join_next().await {
        done.expect("no call fails");
    }
    let mut words: BTreeMap<String, Vec<(String, String)>> = BTreeMap::new();
    for seen in server.delivered() {
        let subject = format!("{} {}", seen.pod(), seen.container()["name"]);
        words.entry(subject).or_default().push((seen.hook().to_owned(), seen.headers["x-word"].clone()));
    }
    for (subject, seen) in &words {
        let hooks: Vec<_> = seen.iter().map(|(hook, _)| hook.as_str()).collect();
        assert_eq!(hooks, ["a", "b"], "{subject}");
        assert_eq!(seen[0].1, seen[1].1, "{subject} has seen two sets");
    }
    assert!(words.len() >= 20, "{} calls", words.len());
}

#[tokio::test]
async fn a_broken_file_changes_nothing_and_is_told() {
    let place = Place::new();
    let server = place.answering("hook", Reply::Ok);
    place.write("a.yaml", &policy("watch-web", &[webhook("first", "PreStop", &server, &plain())]));
    let node = place.start().await;
    assert_eq!(node.metrics().await.all("crihook_policy_info").count(), 1);
    let hash = |page: &crate::wire::peer::exposition::Exposition| {
        page.all("crihook_policy_info").map(|(_, labels, _)| labels["hash"].clone()).collect::<Vec<_>>()
    };
    let before = hash(&node.metrics().await);
    let failed = node.metrics().await.sum(RELOADS, &[("result", "error")]);
    // A good file with it changes nothing either: a set is good or not.
    place.write("b.yaml", "kind: HookPolicy\nmetadata: {name: broken}\nspec: {hooks: [{on: PreStopp}]}\n");
    until("a failed reload in the metric", || async {
        let now = node.metrics().await.sum(RELOADS, &[("result", "error")]);
        if now > failed { Ok(()) } else { Err(now) }
    })
    .await;
    let (code, text) = node.readiness().await;
    assert_eq!(code, 200, "still ready: {text}");
    assert!(text.contains("b.yaml"), "{text}");
    let errors = node.crihook.lines_at(&["ERROR", "WARN"]);
    assert!(errors.iter().any(|line| line.to_string().contains("b.yaml")), "{errors:?}");
    assert_eq!(hash(&node.metrics().await), before);
    let web = node.running("web", &[]).await;
    node.cri.stop(&web.id, 30).await.expect("stopped");
    assert_eq!(server.delivered().len(), 1, "the last good set stays");
    place.remove("b.yaml");
    until("readiness without a complaint", || async {
        let (_, text) = node.readiness().await;
        if text.contains("b.yaml") { Err(text) } else { Ok(()) }
    })
    .await;
}

#[tokio::test]
async fn a_node_that_starts_with_broken_policies_serves_and_keeps_the_last_good_ones() {
    let place = Place::new();
    let server = place.answering("hook", Reply::Ok);
    place.write("a.yaml", &policy("watch-web", &[webhook("drain", "PreStop", &server, &plain())]));
    let mut node = place.start().await;
    let web = node.running("web", &[]).await;
    until("a copy of the policies", || async { std::fs::read_link(place.path("state/policies/current")) }).await;
    place.write("b.yaml", "no: [policy");
    node.restart().await;
    node.cri.stop(&web.id, 30).await.expect("stopped");
    assert_eq!(server.points(), ["PreStopContainer"], "from the state directory");
    let (code, text) = node.readiness().await;
    assert!(code == 200 && text.contains("b.yaml"), "{code} {text}");
}

#[tokio::test]
async fn a_node_that_never_had_good_policies_serves_without_hooks() {
    let place = Place::new();
    place.write("a.yaml", "no: [policy");
    std::fs::write(place.path("hooks.d/b.yaml"), [0xff, 0xfe, 0x00]).expect("a file that is no text");
    let node = place.start().await;
    let web = node.running("web", &[]).await;
    node.cri.stop(&web.id, 10).await.expect("stopped");
    let (code, text) = node.readiness().await;
    assert!(code == 200 && tells(&text, &["a.yaml", "b.yaml"]), "{code} {text}");
    assert!(node.metrics().await.sum(RELOADS, &[("result", "error")]) >= 1.0);
}

#[tokio::test]
async fn removed_and_added_policies_take_effect_without_a_signal() {
    let place = Place::new();
    let server = place.answering("hook", Reply::Ok);
    let node = place.start().await;
    let words = |name: &str| policy(name, &[webhook(name, "PreRunPodSandbox", &server, &plain())]);
    for (n, name) in ["one", "two"].into_iter().enumerate() {
        place.write(&format!("{name}.yaml"), &words(name));
        let tries = std::cell::Cell::new(0);
        until("the new policy's hook", || async {
            tries.set(tries.get() + 1);
            node.cri.run_pod(&pod(&format!("{name}-{}", tries.get()))).await.expect("a sandbox");
            let last = server.delivered().pop().map(|seen| seen.hook().to_owned());
            if last.as_deref() == Some(name) { Ok(()) } else { Err(last) }
        })
        .await;
        place.remove(&format!("{name}.yaml"));
        let tries = std::cell::Cell::new(0);
        until("a call without hooks", || async {
            tries.set(tries.get() + 1);
            let before = server.delivered().len();
            node.cri.run_pod(&pod(&format!("no-{n}-{}", tries.get()))).await.expect("a sandbox");
            if server.delivered().len() == before { Ok(()) } else { Err(before) }
        })
        .await;
    }
    until("the series of removed policies gone", || async {
        let page = node.metrics().await;
        let left: Vec<_> = page.all("crihook_hook_runs_total").cloned().collect();
        if left.is_empty() { Ok(()) } else { Err(left) }
    })
    .await;
}
