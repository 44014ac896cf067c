//! Explanations as people and programs read them.

use std::sync::Arc;
use std::time::Duration;

use super::plan::explain;
use super::pods::Described;
use super::{manifest, text};
use crate::hooks::Options;
use crate::hooks::matcher::{Globs, Selector};
use crate::hooks::policy::{
    Action, FailurePolicy, Hook, HttpGet, Mode, Policy, PolicySet, PortRef, Retries, Template, Tls, Webhook, WebhookUrl,
};
use crate::lifecycle::{Container, Pod, Point};

const MANIFEST: &str = "
kind: Pod
metadata: {name: web, namespace: payments, labels: {app: web, crihook.dev/ignore: 'true'}}
spec:
  terminationGracePeriodSeconds: 45
  runtimeClassName: gvisor
  initContainers: [{name: setup, image: busybox}]
  containers:
  - name: main
    image: registry.example/payments/web:2.7.1
    ports: [{name: http, containerPort: 8080}]
    lifecycle: {preStop: {exec: {command: [sleep, '1']}}}
";

fn template(text: &str) -> Template {
    Template::parse(text).unwrap()
}

fn hook(policy: &str, name: &str, on: &str, action: Action) -> Hook {
    let point: Point = on.parse().unwrap();
    let defaults = Options::default().defaults;
    Hook {
        policy: policy.into(),
        name: name.into(),
        point,
        action,
        timeout: defaults.timeout,
        retries: defaults.retries,
        mode: Mode::of(point),
        failure_policy: FailurePolicy::Ignore,
    }
}

fn set(policies: Vec<(&str, Vec<Hook>)>) -> PolicySet {
    let policies = policies.into_iter().enumerate().map(|(n, (name, hooks))| {
        let hooks = hooks.into_iter().map(Arc::new).collect();
        let file = format!("hooks.d/{n}0-{name}.yaml").into();
        Arc::new(Policy { name: name.into(), selector: Selector::default(), hooks, file, line: 1 })
    });
    PolicySet { policies: policies.collect(), hash: "4f1d".into() }
}

fn policies() -> PolicySet {
    let retries = Retries { attempts: 3, backoff: Duration::from_millis(200), max_backoff: Duration::from_secs(5) };
    let exec = Action::Exec(["/bin/drain", "--pod", "$(POD_NAME)"].map(template).to_vec());
    let drain = Hook { timeout: Duration::from_secs(20), retries, ..hook("drain-web", "drain", "PreStop", exec) };
    let get = HttpGet {
        path: template("/quit?token=secret"),
        port: PortRef::Name("admin".into()),
        host: None,
        secure: false,
        headers: Vec::new(),
        tls: Tls::default(),
    };
    let quit = hook("drain-web", "quit", "PreStop", Action::HttpGet(get));
    let url = WebhookUrl::Unix { socket: "/run/discovery.sock".into(), path: template("/v1/events") };
    let webhook = Action::Webhook(Webhook { url, headers: Vec::new(), tls: Tls::default() });
    let announce = hook("announce", "announce", "PostStart", webhook);
    let gate = hook("gate", "ask", "PreRunPodSandbox", Action::Sleep(Duration::from_secs(1)));
    let gate = Hook { failure_policy: FailurePolicy::Fail, ..gate };
    set(vec![("drain-web", vec![drain, quit]), ("announce", vec![announce]), ("gate", vec![gate])])
}

fn web() -> Described {
    manifest::read(MANIFEST).unwrap().remove(0)
}

#[test]
fn people_see_what_runs_when_in_which_order_and_within_which_time() {
    insta::assert_snapshot!(text::render(&explain(&policies(), &Options::default(), &web(), None)));
}

#[test]
fn programs_see_the_same_under_stable_keys() {
    let explained = explain(&policies(), &Options::default(), &web(), Some(Point::PRE_STOP));
    insta::assert_snapshot!(serde_json::to_string_pretty(&explained).unwrap());
}

#[test]
fn one_point_alone_is_shown_even_if_nothing_runs_there() {
    let explained = explain(&policies(), &Options::default(), &web(), Some("PostStopContainer".parse().unwrap()));
    assert_eq!(explained.subjects.len(), 2, "both containers, and no sandbox");
    assert!(explained.subjects.iter().all(|s| s.points.len() == 1 && s.points[0].hooks.is_empty()));
    assert!(text::render(&explained).contains("no hooks"));
}

#[test]
fn a_pod_that_opts_out_is_left_alone_only_where_the_config_allows_it() {
    let hooks = |allow_opt_out| {
        let explained = explain(&policies(), &Options { allow_opt_out, ..Options::default() }, &web(), None);
        let hooks = explained.subjects.iter().flat_map(|s| &s.points).map(|at| at.hooks.len()).sum::<usize>();
        (hooks, explained.notes[0].clone())
    };
    let (none, told) = hooks(true);
    assert_eq!(none, 0);
    assert!(told.starts_with("left alone: it is labelled crihook.dev/ignore"), "{told}");
    let (some, told) = hooks(false);
    assert_eq!(some, 7);
    assert!(told.contains("changes nothing"), "{told}");
}

/// The time that blocking hooks have at a point, and why, for a pod with this grace.
fn budget(on: &str, grace: Option<u64>) -> String {
    let set =
        set(vec![("p", vec![Hook { mode: Mode::Blocking, ..hook("p", "h", on, Action::Sleep(Duration::ZERO)) }])]);
    let described = Described { grace: grace.map(Duration::from_secs), ..web() };
    let explained = explain(&set, &Options::default(), &described, on.parse().ok());
    let budget = explained.subjects[0].points[0].budget.as_ref().expect("it blocks");
    format!("{}: {}", super::plan::written(budget.time), budget.because)
}

#[test]
fn blocking_hooks_are_bounded_by_the_grace_period_or_by_the_kubelets_deadline() {
    let told = [
        budget("PreStop", Some(45)),
        budget("PreStop", None),
        budget("PreStop", Some(0)),
        budget("PreRunPodSandbox", None),
        budget("PreCreateContainer", None),
        budget("PostStart", None),
        budget("PostStopContainer", Some(60)),
        budget("PreRemovePodSandbox", None),
    ];
    insta::assert_snapshot!(told.join("\n"));
}

#[test]
fn a_container_that_runs_is_known_by_what_the_kubelet_wrote_down() {
    let annotations =
        [("io.kubernetes.pod.terminationGracePeriod", "7"), ("io.kubernetes.container.preStopHandler", "{}")];
    let annotations = annotations.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
    let container =
        Container { id: "0123456789abcdef".into(), name: "main".into(), annotations, ..Container::default() };
    let pod = Pod { namespace: "n".into(), name: "p".into(), ..Pod::default() };
    let described = Described::of_running(pod, container);
    let page = text::render(&explain(&policies(), &Options::default(), &described, Some(Point::PRE_STOP)));
    assert!(page.contains("container main 0123456789abc\n"), "{page}");
    assert!(page.contains("PreStopContainer: 7s in all"), "{page}");
    assert!(page.contains("the pod's own preStop hook comes first"), "{page}");
}

fn globs(patterns: &[&str]) -> Globs {
    patterns.iter().try_fold(Globs::default(), |globs, pattern| globs.with(pattern)).unwrap()
}

#[test]
fn policies_that_do_not_match_are_told_with_the_first_condition_that_fails() {
    let sleep = |policy: &str| hook(policy, "h", "PreStop", Action::Sleep(Duration::ZERO));
    let gate = hook("other", "gate", "PreRunPodSandbox", Action::Sleep(Duration::ZERO));
    let mut set = set(vec![
        ("mesh", vec![sleep("mesh")]),
        ("other", vec![sleep("other"), gate]),
        ("sandboxed", vec![sleep("sandboxed")]),
        ("all", vec![sleep("all")]),
    ]);
    let selectors = [
        Selector { containers: globs(&["setup"]), images: globs(&["!busy*"]), ..Selector::default() },
        Selector { namespaces: globs(&["team-*", "!team-x"]), containers: globs(&["x"]), ..Selector::default() },
        Selector { runtime_handlers: globs(&["kata"]), ..Selector::default() },
    ];
    for (policy, selector) in set.policies.iter_mut().zip(selectors) {
        Arc::get_mut(policy).unwrap().selector = selector;
    }
    insta::assert_snapshot!(text::render(&explain(&set, &Options::default(), &web(), None)));
}

#[test]
fn a_hook_that_may_fail_the_call_reaches_kube_system_only_by_its_name() {
    let gate = hook("p", "gate", "PreCreateContainer", Action::Sleep(Duration::ZERO));
    let gate = Hook { failure_policy: FailurePolicy::Fail, ..gate };
    let mut set = set(vec![("p", vec![gate, hook("p", "see", "PreCreateContainer", Action::Sleep(Duration::ZERO))])]);
    let mut web = web();
    web.pod.namespace = "kube-system".into();
    let mut explained = |patterns: &[&str]| {
        let policy = Arc::get_mut(&mut set.policies[0]).unwrap();
        policy.selector = Selector { namespaces: globs(patterns), ..Selector::default() };
        explain(&set, &Options::default(), &web, None)
    };
    let by_glob = explained(&["kube-*"]);
    assert_eq!(by_glob.subjects[1].points[0].hooks.len(), 1);
    assert_eq!(by_glob.unmatched[0].hook.as_deref(), Some("gate"));
    assert!(text::render(&by_glob).contains("hook gate: `failurePolicy: Fail` reaches kube-system only if"));
    assert_eq!(explained(&["kube-*", "kube-system"]).subjects[1].points[0].hooks.len(), 2);
}
