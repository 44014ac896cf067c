//! Whom a policy is for: a `match`, compiled once and asked for every event.
//!
//! Asking costs nothing but comparisons: no allocation, no lock. The reason why something does not match is put into words only when
//! somebody wants to read it.
//!
//! Rules: everything given must hold, and an empty `match` matches all. A list of globs holds if one of its patterns matches, or there are
//! only exclusions (`!x`), and if no exclusion matches. `*` matches any characters, `/` among them. Labels are selected
//! as by a Kubernetes label selector: `NotIn` also holds where the label is missing.

mod glob;

pub use glob::{BadGlob, Globs};

use std::collections::BTreeMap;

use crate::lifecycle::{Container, Pod};

/// A policy's `match`, compiled. The default one matches all.
#[derive(Debug, Default, Clone)]
pub struct Selector {
    /// Of the pod's namespace.
    pub namespaces: Globs,
    /// Of the pod's labels; all must hold.
    pub labels: Vec<Requirement>,
    /// Of the pod's annotations: keys and the values that they must have.
    pub annotations: Vec<(String, String)>,
    /// Of the container's name. Nothing but an empty list holds where there is no container.
    pub containers: Globs,
    /// Of the name of the container's image.
    pub images: Globs,
    /// Of the pod's runtime handler; `""` is the runtime's default one. A handler that is not known matches only an empty list.
    pub runtime_handlers: Globs,
}

/// What must hold of a label.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Requirement {
    /// Which label.
    pub key: String,
    /// What of it.
    pub test: Test,
}

/// The operators of a label selector.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Test {
    /// It is there and is one of these. `matchLabels` is this with one value.
    In(Vec<String>),
    /// It is not there, or is none of these.
    NotIn(Vec<String>),
    /// It is there.
    Exists,
    /// It is not there.
    DoesNotExist,
}

impl Requirement {
    fn holds(&self, labels: &BTreeMap<String, String>) -> bool {
        let value = labels.get(&self.key);
        match &self.test {
            Test::In(values) => value.is_some_and(|value| values.contains(value)),
            Test::NotIn(values) => value.is_none_or(|value| !values.contains(value)),
            Test::Exists => value.is_some(),
            Test::DoesNotExist => value.is_none(),
        }
    }

    /// Why it does not hold, if it does not.
    fn broken(&self, labels: &BTreeMap<String, String>) -> String {
        let key = &self.key;
        match (&self.test, labels.get(key)) {
            (Test::In(values), Some(value)) => match values.as_slice() {
                [only] => format!("the label {key} is `{value}`, not `{only}`"),
                _ => format!("the label {key} is `{value}`, none of {}", values.join(", ")),
            },
            (Test::In(_) | Test::Exists, _) => format!("there is no label {key}"),
            (Test::NotIn(values), _) => format!("the label {key} is one of {}", values.join(", ")),
            (Test::DoesNotExist, _) => format!("there is a label {key}"),
        }
    }
}

/// The namespace of what a node needs to boot.
const KUBE_SYSTEM: &str = "kube-system";

impl Selector {
    /// Whether all conditions hold. At a sandbox's points there is no container.
    #[must_use]
    pub fn matches(&self, pod: &Pod, container: Option<&Container>) -> bool {
        self.namespaces.hold(&pod.namespace)
            && self.labels.iter().all(|label| label.holds(&pod.labels))
            && self.annotations.iter().all(|(key, value)| pod.annotations.get(key) == Some(value))
            && (self.containers.is_empty() || container.is_some_and(|it| self.containers.hold(&it.name)))
            && (self.images.is_empty() || container.is_some_and(|it| self.images.hold(&it.image)))
            && (self.runtime_handlers.is_empty()
                || pod.runtime_handler.as_ref().is_some_and(|handler| self.runtime_handlers.hold(handler)))
    }

    /// The same as [`Selector::matches`], for people: the first condition that does not hold, in words.
    ///
    /// # Errors
    /// The condition that does not hold.
    pub fn check(&self, pod: &Pod, container: Option<&Container>) -> Result<(), String> {
        if self.matches(pod, container) {
            return Ok(());
        }
        self.namespaces.check("namespaces", Some(&pod.namespace), "the pod has no namespace")?;
        if let Some(label) = self.labels.iter().find(|label| !label.holds(&pod.labels)) {
            return Err(format!("podSelector: {}", label.broken(&pod.labels)));
        }
        for (key, value) in &self.annotations {
            match pod.annotations.get(key) {
                Some(present) if present == value => {}
                // The value that is there is the pod's own affair: it may be long, or nobody's business.
                Some(_) => return Err(format!("annotations: {key} is not `{value}`")),
                None => return Err(format!("annotations: there is no {key}")),
            }
        }
        let nobody = "this point has no container";
        self.containers.check("containers", container.map(|it| it.name.as_str()), nobody)?;
        self.images.check("images", container.map(|it| it.image.as_str()), nobody)?;
        let unknown = "the pod's runtime handler is not known";
        self.runtime_handlers.check("runtimeHandlers", pod.runtime_handler.as_deref(), unknown)
    }

    /// Whether the namespaces are named, as `failurePolicy: Fail` needs: at least one pattern includes some, and none includes whatever
    /// there may be.
    #[must_use]
    pub fn names_namespaces(&self) -> bool {
        self.namespaces.name_something()
    }

    /// Whether a hook with `failurePolicy: Fail` may run in `namespace` at all: in kube-system only if that very name is listed. A glob
    /// does not reach it, so that no policy stops a node from booting by accident. A hook that may not fail there does
    /// not match there: it is not run at all, rather than run with a weaker promise than its author wrote.
    ///
    /// Ask it beside [`Selector::matches`], for hooks with `Fail` only.
    #[must_use]
    pub fn may_fail_in(&self, namespace: &str) -> bool {
        namespace != KUBE_SYSTEM || self.namespaces.list(KUBE_SYSTEM)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn globs(patterns: &[&str]) -> Globs {
        patterns.iter().try_fold(Globs::default(), |globs, pattern| globs.with(pattern)).unwrap()
    }

    fn pod() -> Pod {
        Pod {
            namespace: "web".into(),
            labels: [("app".into(), "shop".into())].into(),
            annotations: [("example.com/drain".into(), "true".into())].into(),
            runtime_handler: Some("runc".into()),
            ..Pod::default()
        }
    }

    fn container() -> Container {
        Container { name: "main".into(), image: "registry.example/shop/web:1".into(), ..Container::default() }
    }

    #[test]
    fn an_empty_match_matches_all() {
        assert!(Selector::default().matches(&pod(), Some(&container())));
        assert_eq!(Selector::default().check(&Pod::default(), None), Ok(()));
    }

    #[test]
    fn the_first_condition_that_fails_is_put_into_words() {
        let requirement = |key: &str, test| vec![Requirement { key: key.into(), test }];
        let values = |all: &[&str]| all.iter().map(|&value| value.to_owned()).collect::<Vec<_>>();
        let of = |change: fn(&mut Selector)| {
            let mut selector = Selector::default();
            change(&mut selector);
            selector
        };
        let told = |selector: Selector| selector.check(&pod(), Some(&container())).unwrap_err();
        assert_eq!(
            told(of(|s| s.namespaces = globs(&["payments", "team-*"]))),
            "namespaces: `web` is none of payments, team-*"
        );
        assert_eq!(told(of(|s| s.namespaces = globs(&["*", "!w*"]))), "namespaces: `web` is excluded by !w*");
        let label = |key: &str, test| told(Selector { labels: requirement(key, test), ..Selector::default() });
        assert_eq!(label("tier", Test::In(values(&["front"]))), "podSelector: there is no label tier");
        assert_eq!(label("app", Test::In(values(&["api"]))), "podSelector: the label app is `shop`, not `api`");
        assert_eq!(label("app", Test::NotIn(values(&["shop"]))), "podSelector: the label app is one of shop");
        assert_eq!(label("tier", Test::Exists), "podSelector: there is no label tier");
        assert_eq!(label("app", Test::DoesNotExist), "podSelector: there is a label app");
        assert_eq!(
            told(of(|s| s.annotations = vec![("example.com/drain".into(), "false".into())])),
            "annotations: example.com/drain is not `false`"
        );
        assert_eq!(told(of(|s| s.containers = globs(&["istio-*"]))), "containers: `main` is none of istio-*");
        assert_eq!(
            told(of(|s| s.images = globs(&["docker.io/*"]))),
            "images: `registry.example/shop/web:1` is none of docker.io/*"
        );
        assert_eq!(told(of(|s| s.runtime_handlers = globs(&["kata"]))), "runtimeHandlers: `runc` is none of kata");
        let of_container = of(|s| s.containers = globs(&["!istio-*"]));
        assert_eq!(of_container.check(&pod(), None).unwrap_err(), "containers: this point has no container");
        let handlers = of(|s| s.runtime_handlers = globs(&["!kata"]));
        let unknown = Pod { runtime_handler: None, ..pod() };
        assert!(handlers.check(&unknown, None).unwrap_err().contains("not known"));
    }

    #[test]
    fn a_label_that_is_missing_is_in_no_list() {
        let holds = |test| Requirement { key: "tier".into(), test }.holds(&BTreeMap::new());
        assert!(holds(Test::NotIn(vec!["front".into()])));
        assert!(holds(Test::DoesNotExist));
        assert!(!holds(Test::Exists));
        assert!(!holds(Test::In(vec!["front".into()])));
    }

    #[test]
    fn fail_reaches_kube_system_only_by_its_name() {
        let selector = |patterns: &[&str]| Selector { namespaces: globs(patterns), ..Selector::default() };
        for (patterns, named, kube_system) in [
            (&["payments"][..], true, false),
            (&["kube-*"], true, false),
            (&["kube-*", "kube-system"], true, true),
            (&["kube-system", "!kube-public"], true, true),
            (&["*"], false, false),
            (&["payments", "*"], false, false),
            (&["?*"], false, false),
            (&["[a-z0-9]*"], false, false),
            (&["{*,a}"], false, false),
            (&["!payments"], false, false),
            (&[], false, false),
        ] {
            let selector = selector(patterns);
            assert_eq!(selector.names_namespaces(), named, "{patterns:?}");
            assert_eq!(selector.may_fail_in("kube-system"), kube_system, "{patterns:?}");
            assert!(selector.may_fail_in("payments"), "{patterns:?}: matching says the rest");
        }
    }

    /// Labels by the words of the Kubernetes documentation, with no cleverness.
    fn naive_label(requirement: &Requirement, labels: &BTreeMap<String, String>) -> bool {
        let value = labels.iter().find(|(key, _)| **key == requirement.key).map(|(_, value)| value);
        match (&requirement.test, value) {
            (Test::In(values), Some(value)) => values.iter().any(|it| it == value),
            (Test::NotIn(values), Some(value)) => !values.iter().any(|it| it == value),
            (Test::Exists, Some(_)) | (Test::DoesNotExist | Test::NotIn(_), None) => true,
            (Test::In(_) | Test::Exists, None) | (Test::DoesNotExist, Some(_)) => false,
        }
    }

    /// Few letters, so that what is asked for is often there.
    fn word() -> impl Strategy<Value = String> {
        "[ab/-]{0,4}"
    }

    fn labels() -> impl Strategy<Value = BTreeMap<String, String>> {
        proptest::collection::btree_map("[abc]", "[xyz]", 0..4)
    }

    fn requirement() -> impl Strategy<Value = Requirement> {
        let values = || proptest::collection::vec("[xyz]".prop_map(String::from), 1..3);
        let test = prop_oneof![
            values().prop_map(Test::In),
            values().prop_map(Test::NotIn),
            Just(Test::Exists),
            Just(Test::DoesNotExist)
        ];
        ("[abc]", test).prop_map(|(key, test)| Requirement { key, test })
    }

    proptest! {
        #[test]
        fn labels_are_selected_as_by_kubernetes(
            labels in labels(),
            requirements in proptest::collection::vec(requirement(), 0..4),
        ) {
            let pod = Pod { labels, ..Pod::default() };
            let expected = requirements.iter().all(|requirement| naive_label(requirement, &pod.labels));
            let selector = Selector { labels: requirements, ..Selector::default() };
            prop_assert_eq!(selector.matches(&pod, None), expected);
        }

        #[test]
        fn the_words_agree_with_the_answer(
            namespace in word(),
            name in word(),
            labels in labels(),
            requirements in proptest::collection::vec(requirement(), 0..2),
            namespaces in proptest::collection::vec("!?[ab*?-]{1,3}", 0..3),
            containers in proptest::collection::vec("!?[ab*?-]{1,3}", 0..3),
            with_container: bool,
        ) {
            let compiled = |all: &[String]| globs(&all.iter().map(String::as_str).collect::<Vec<_>>());
            let selector = Selector {
                namespaces: compiled(&namespaces),
                labels: requirements,
                containers: compiled(&containers),
                ..Selector::default()
            };
            let pod = Pod { namespace, labels, ..Pod::default() };
            let container = Container { name, ..Container::default() };
            let container = with_container.then_some(&container);
            prop_assert_eq!(selector.check(&pod, container).is_ok(), selector.matches(&pod, container));
        }
    }
}
