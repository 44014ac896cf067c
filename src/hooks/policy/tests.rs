//! Documents, right and wrong, and what is said of them.

use std::fmt::Write;
use std::path::Path;
use std::time::Duration;

use proptest::prelude::*;
use proptest::test_runner::RngSeed;

use super::*;
use crate::hooks::Defaults;

/// A policy with this in its `match` and these hooks.
fn document(name: &str, selector: &str, hooks: &str) -> String {
    let hooks = hooks.trim_matches('\n').lines().fold(String::new(), |mut all, line| {
        let _ = writeln!(all, "  {line}");
        all
    });
    format!(
        "apiVersion: crihook.dev/v1\nkind: HookPolicy\nmetadata: {{name: {name}}}\nspec:\n  match: {selector}\n  hooks:\n{hooks}"
    )
}

fn read(text: &str) -> Result<Loaded, Vec<Diagnostic>> {
    parse(text, Path::new("p.yaml"), &Defaults::default())
}

fn told(text: &str) -> Vec<String> {
    read(text)
        .unwrap_err()
        .iter()
        .map(|mistake| format!("{}:{}: {}", mistake.line, mistake.column, mistake.message))
        .collect()
}

/// What is said of a hook alone, whose own keys begin at line 7.
fn of_hook(hook: &str) -> String {
    told(&document("p", "{namespaces: [web]}", &format!("- {}", hook.trim().replace('\n', "\n  ")))).join("\n")
}

const GOOD: &str = r#"
- name: drain
  on: PreStop
  exec: {command: ["/bin/drain", "--pod", "$(POD_NAME)"]}
  timeout: 20s
  retries: {attempts: 3, backoff: 200ms, maxBackoff: 5s}
- name: warm
  on: PostStart
  httpGet:
    path: warm?$(ATTEMPT)
    port: http
    httpHeaders:
    - {name: X-Pod, value: $(POD_NAME)}
  mode: Blocking
  failurePolicy: Fail
- name: knock
  on: PostStartContainer
  tcpSocket: {port: 80, host: cache.example}
- name: wait
  on: PreStop
  sleep: {seconds: 30}
- name: announce
  on: PostRunPodSandbox
  webhook: {url: "unix:///run/discovery.sock:/v1/events", headers: {X-Token: s3cret}}
- name: ask
  on: PreCreateContainer
  grpc: {endpoint: "unix:///run/hooks.sock"}
  failurePolicy: Fail
- name: note
  on: PostRemovePodSandbox
  command:
    command: [/usr/bin/logger, $(POD_NAME)]
    env: [{name: A, value: b}]
    user: root
"#;

#[test]
fn a_policy_with_every_handler_is_read() {
    let text = document("drain-web", r#"{namespaces: ["payments", "team-*"]}"#, GOOD);
    let loaded = read(&format!("# about\n{text}")).unwrap_or_else(|mistakes| panic!("{}", mistakes[0]));
    let policy = &loaded.set.policies[0];
    assert_eq!((&*policy.name, policy.line), ("drain-web", 1));
    let hooks: Vec<_> =
        policy.hooks.iter().map(|hook| (&*hook.name, hook.action.name(), hook.point, hook.mode)).collect();
    assert_eq!(
        hooks,
        [
            ("drain", "exec", Point::PRE_STOP, Mode::Blocking),
            ("warm", "httpGet", Point::POST_START, Mode::Blocking),
            ("knock", "tcpSocket", Point::POST_START, Mode::Background),
            ("wait", "sleep", Point::PRE_STOP, Mode::Blocking),
            ("announce", "webhook", Point::post(Call::RunPodSandbox), Mode::Background),
            ("ask", "grpc", Point::pre(Call::CreateContainer), Mode::Blocking),
            ("note", "command", Point::post(Call::RemovePodSandbox), Mode::Background),
        ]
    );
    let [drain, warm, knock, wait, announce, ..] = policy.hooks.as_slice() else { panic!() };
    assert_eq!((drain.timeout, drain.retries.attempts), (Duration::from_secs(20), 3));
    assert_eq!((warm.failure_policy, warm.timeout), (FailurePolicy::Fail, Duration::from_secs(10)));
    let Action::HttpGet(get) = &warm.action else { panic!() };
    assert_eq!((get.path.to_string().as_str(), &get.port), ("/warm?$(ATTEMPT)", &PortRef::Name("http".into())));
    assert_eq!(knock.action.endpoint().as_deref(), Some("cache.example:80"));
    assert!(wait.timeout > Duration::from_secs(30), "a sleep gets as long as it takes");
    let Action::Webhook(webhook) = &announce.action else { panic!() };
    let WebhookUrl::Unix { socket, path } = &webhook.url else { panic!() };
    assert_eq!((socket.to_str(), path.to_string().as_str()), (Some("/run/discovery.sock"), "/v1/events"));
    assert_eq!(loaded.set.hash.len(), 16);
}

#[test]
fn documents_that_say_nothing_are_none() {
    for text in ["", "# later\n", "---\n---\n# later\n...\n"] {
        assert!(read(text).unwrap().set.policies.is_empty(), "{text:?}");
    }
}

#[test]
fn every_mistake_of_every_document_is_told_with_its_place_its_line_and_what_would_be_right() {
    let text = include_str!("testdata/mistakes.yaml");
    let mistakes = read(text).unwrap_err();
    let told = mistakes.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n\n");
    assert!(!told.contains("s3cret"), "{told}");
    let json = serde_json::to_string(&mistakes).unwrap();
    assert!(!json.contains("s3cret"), "{json}");
    insta::assert_snapshot!(told);
}

#[test]
fn what_is_worth_a_thought_is_said_and_refuses_nothing() {
    let text = document(
        "p",
        "{}",
        r#"
- name: a
  on: PreStop
  exec: {command: ["/bin/sh", "-c", "drain $(POD_NAME)", "$(POD_NAME)"]}
- name: b
  on: PreStop
  exec: {command: ["sh", "-ec", "drain \"$1\"", "sh", "$(POD_NAME)"]}
- name: c
  on: PreStop
  httpGet: {port: 443, scheme: HTTPS}
"#,
    );
    let warnings = read(&text).unwrap().warnings;
    insta::assert_snapshot!(warnings.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n\n"));
}

#[test]
fn one_broken_document_does_not_hide_the_mistakes_of_the_next() {
    let bad = document("a", "{}", "- {name: x, on: PreStop, sleep: {seconds: 0}}");
    let text = format!(
        "apiVersion: crihook.dev/v1\nkind: [\n---\n{bad}---\nspec: {{hooks: 'a\n---\n{}",
        bad.replace("name: a", "name: b")
    );
    let lines: Vec<u64> = read(&text).unwrap_err().iter().map(|mistake| mistake.line).collect();
    assert_eq!(lines.len(), 4, "{lines:?}");
    assert!(lines.is_sorted() && lines.contains(&10), "{lines:?}");
}

#[test]
fn handlers_stand_only_where_they_make_sense() {
    for (on, handler, refused) in [
        ("PostStart", "exec: {command: [/x]}", None),
        ("PreUpdateContainerResources", "exec: {command: [/x]}", None),
        ("PreStartContainer", "exec: {command: [/x]}", Some("no container runs at PreStartContainer")),
        ("PostStopContainer", "exec: {command: [/x]}", Some("no container runs")),
        ("PreRunPodSandbox", "httpGet: {port: 80}", Some("the pod has no address at PreRunPodSandbox")),
        ("PreRunPodSandbox", "httpGet: {port: 80, host: a.example}", None),
        ("PostRunPodSandbox", "httpGet: {port: 80}", None),
        ("PostStopPodSandbox", "tcpSocket: {port: 80}", Some("the pod has no address")),
        ("PreStopPodSandbox", "tcpSocket: {port: 80}", None),
        ("PreRemovePodSandbox", "tcpSocket: {port: 80, host: $(POD_IP)}", Some("the pod has no address")),
        ("PreRemovePodSandbox", "webhook: {url: 'http://$(POD_IP)/x'}", Some("the pod has no address")),
        ("PostRunPodSandbox", "tcpSocket: {port: http}", Some("there is no container at PostRunPodSandbox")),
        ("PostStart", "tcpSocket: {port: http}", None),
    ] {
        let text = document("p", "{}", &format!("- {{name: x, on: {on}, {handler}}}"));
        match (read(&text), refused) {
            (Ok(_), None) => {}
            (Err(mistakes), Some(why)) => assert!(mistakes[0].message.contains(why), "{on} {handler}: {}", mistakes[0]),
            (Err(mistakes), None) => panic!("{on} {handler}: {}", mistakes[0]),
            (Ok(_), Some(_)) => panic!("{on} {handler} was accepted"),
        }
    }
}

#[test]
fn fail_is_refused_wherever_it_could_keep_a_pod_from_going_away_and_without_namespaces() {
    for point in Point::ALL {
        for mode in [Mode::Blocking, Mode::Background] {
            let hook = format!(
                "- {{name: x, on: {point}, sleep: {{seconds: 1}}, mode: {}, failurePolicy: Fail}}",
                mode.name()
            );
            let accepted = read(&document("p", "{namespaces: [web]}", &hook)).is_ok();
            assert_eq!(accepted, FailurePolicy::may_fail(point, mode), "{hook}");
            for selector in ["{}", "{namespaces: ['*']}", "{namespaces: ['!web']}", "{namespaces: [web, '?*']}"] {
                assert!(read(&document("p", selector, &hook)).is_err(), "{selector} {hook}");
            }
        }
    }
}

#[test]
fn names_are_given_once() {
    let one = document("p", "{}", "- {name: x, on: PreStop, sleep: {seconds: 1}}");
    assert_eq!(told(&format!("{one}---\n{one}")), ["11:18: there is a policy `p` already, in p.yaml:3"]);
    let twice = document(
        "p",
        "{}",
        "- {name: x, on: PreStop, sleep: {seconds: 1}}\n- {name: x, on: PostStart, sleep: {seconds: 1}}",
    );
    assert_eq!(told(&twice), ["8:12: there is a hook `x` already in this policy"]);
}

#[test]
fn container_matchers_are_refused_where_there_is_no_container() {
    for selector in ["{containers: [main]}", "{images: ['!x']}"] {
        let hooks =
            "- {name: x, on: PreStop, sleep: {seconds: 1}}\n- {name: y, on: PreRunPodSandbox, sleep: {seconds: 1}}";
        let told = told(&document("p", selector, hooks));
        assert_eq!(told.len(), 1);
        assert!(told[0].contains("no container at PreRunPodSandbox"), "{told:?}");
    }
}

#[test]
fn urls_that_cannot_be_are_refused_without_what_is_secret_in_them() {
    for (url, why) in [
        ("ftp://me:s3cret@x/y", "`ftp://***@x/***` is not a URL that an event can be sent to"),
        ("http://", "is not a URL"),
        ("https://:8443/x", "is not a URL"),
        ("http://x:99999/", "is not a URL"),
        ("http://x:0/", "0 is not a port"),
        ("http://a b/", "it has spaces"),
        ("hooks.example/s3cret", "`hooks.example/***` is not"),
        ("unix://run/x.sock:/y", "not an absolute path"),
        ("unix:///run/x.sock:y", "does not begin with a slash"),
        ("https://x/$(NO_SUCH)", "`$(NO_SUCH)` is not known"),
    ] {
        let told = of_hook(&format!("name: x\non: PreStop\nwebhook: {{url: '{url}'}}"));
        assert!(told.contains(why) && !told.contains("s3cret"), "{url}: {told}");
    }
}

#[test]
fn files_for_tls_are_read_with_the_policy() {
    let directory = tempfile::tempdir().unwrap();
    let pair = rcgen::generate_simple_self_signed(["hooks.example".to_owned()]).unwrap();
    let at = |name: &str, text: String| {
        let path = directory.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let (cert, key) = (at("cert.pem", pair.cert.pem()), at("key.pem", pair.signing_key.serialize_pem()));
    let junk = at("junk.pem", "nothing".to_owned());
    let hook =
        |keys: &str| document("p", "{}", &format!("- {{name: x, on: PreStop, webhook: {{url: 'https://x', {keys}}}}}"));
    let good = read(&hook(&format!("caFile: {cert}, certFile: {cert}, keyFile: {key}"))).unwrap();
    let Action::Webhook(webhook) = &good.set.policies[0].hooks[0].action else { panic!() };
    assert!(webhook.tls.ca.is_some() && webhook.tls.identity.is_some());
    for (keys, why) in [
        (format!("certFile: {cert}"), "without keyFile"),
        (format!("keyFile: {key}"), "without certFile"),
        (format!("caFile: {junk}"), "there is no certificate in"),
        (format!("certFile: {cert}, keyFile: {cert}"), "there is no private key in"),
        (format!("caFile: {}", directory.path().display()), "not a file"),
        ("caFile: /nowhere/ca.pem".to_owned(), "No such file"),
        ("caFile: ca.pem".to_owned(), "not an absolute path"),
    ] {
        let told = told(&hook(&keys));
        assert!(told[0].contains(why), "{keys}: {told:?}");
    }
    let plain = document("p", "{}", "- {name: x, on: PreStop, webhook: {url: 'http://x', insecureSkipVerify: true}}");
    assert!(told(&plain)[0].contains("does nothing without TLS"));
}

#[test]
fn a_bomb_is_refused_and_costs_nothing() {
    let mut text = "a: &a [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for (this, last) in ('b'..='z').zip('a'..) {
        let _ = writeln!(text, "{this}: &{this} [{}]", vec![format!("*{last}"); 10].join(", "));
    }
    let started = std::time::Instant::now();
    let mistakes = read(&text).unwrap_err();
    assert!(!mistakes.is_empty());
    let deep = format!("spec: {}", "[".repeat(100_000));
    assert!(!read(&deep).unwrap_err().is_empty());
    let wide = format!("spec: [{}]", "{}, ".repeat(200_000));
    assert!(!read(&wide).unwrap_err().is_empty());
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
}

#[test]
fn files_that_are_no_text_or_too_long_are_refused_and_others_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: &[u8]| std::fs::write(directory.path().join(name), bytes).unwrap();
    write("b.yaml", document("b", "{}", "- {name: x, on: PreStop, sleep: {seconds: 1}}").as_bytes());
    write("a.yaml", document("a", "{}", "- {name: x, on: PreStop, sleep: {seconds: 1}}").as_bytes());
    write(".hidden.yaml", b"nothing: [");
    write("README", b"nothing: [");
    write("c.yml", b"nothing: [");
    let load = || load(directory.path(), &Defaults::default());
    let loaded = load().unwrap();
    let names: Vec<&str> = loaded.set.policies.iter().map(|policy| &*policy.name).collect();
    assert_eq!(names, ["a", "b"]);
    assert_eq!(loaded.warnings.len(), 1, "c.yml: {:?}", loaded.warnings);
    write("d.yaml", b"ab\nc\xff");
    write("e.yaml", &vec![b'#'; 10 << 20]);
    let mistakes = load().unwrap_err();
    let told: Vec<String> = mistakes.iter().map(|it| format!("{}:{} {}", it.line, it.column, it.message)).collect();
    assert_eq!(told, ["2:2 is not UTF-8 from here on", "1:1 is larger than 1 MiB, the most that is read"]);
    assert!(super::load(&directory.path().join("missing"), &Defaults::default()).unwrap().set.policies.is_empty());
}

#[test]
fn the_schema_knows_what_is_read() {
    let schema = schema();
    let text = schema.to_string();
    for word in HANDLERS.into_iter().chain(Point::ALL.map(Point::name)).chain([
        "failurePolicy",
        "insecureSkipVerify",
        "DoesNotExist",
    ]) {
        assert!(text.contains(word), "{word}");
    }
    let hook = &schema["$defs"]["Hook"];
    assert_eq!(hook["required"], serde_json::json!(["name", "on"]), "{hook}");
    assert_eq!(hook["oneOf"].as_array().map(Vec::len), Some(7));
    assert_eq!(hook["additionalProperties"], false);
}

fn seeded() -> ProptestConfig {
    let config = ProptestConfig::default();
    match config.rng_seed {
        RngSeed::Random => ProptestConfig { rng_seed: RngSeed::Fixed(1), ..config },
        RngSeed::Fixed(_) => config,
    }
}

proptest! {
    // The same slips each time, so that a change fails or passes by itself. PROPTEST_RNG_SEED and PROPTEST_CASES look further.
    #![proptest_config(ProptestConfig { failure_persistence: None, ..seeded() })]

    /// People mistype. Whatever comes of it is read or refused, and says nothing of the secret.
    #[test]
    fn no_slip_of_the_keyboard_brings_a_secret_to_light(
        slips in proptest::collection::vec((any::<proptest::sample::Index>(), "[ :{}\\[\\]\"'#&*!|>,\n\tax-]?", any::<bool>()), 1..4),
    ) {
        const SECRETS: &str = r#"
- name: announce
  on: PostStart
  webhook:
    url: https://me:s3cret@hooks.example/s3cret?token=s3cret
    headers: {X-Token: s3cret, "Y": "Bearer s3cret"}
- name: warm
  on: PostStart
  httpGet:
    port: 80
    httpHeaders:
    - name: X-Token
      value: s3cret
- name: note
  on: Never
  command: {command: [/bin/note], env: [{name: A, value: s3cret}]}
"#;
        let mut text: Vec<char> = document("p", "{namespaces: [web]}", SECRETS).chars().collect();
        for (place, slip, instead) in slips {
            let at = place.index(text.len());
            text.splice(at..at + usize::from(instead), slip.chars());
        }
        let text: String = text.into_iter().collect();
        if let Err(mistakes) = read(&text) {
            let told = mistakes.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
            prop_assert!(!told.contains("s3cret"), "{}\n{}", text, told);
        }
    }

    #[test]
    fn whatever_a_file_holds_is_read_or_refused(text in "[ -~\n\t\u{e4}]{0,200}") {
        drop(read(&text));
    }
}
