//! What matching costs: 200 policies of the kinds that people write, for one event that few of them match. It must stay under 50 µs.
//!
//! `cargo bench --bench matcher`

use std::hint::black_box;

use crihook::hooks::matcher::{Globs, Requirement, Selector, Test};
use crihook::lifecycle::{Container, Pod};
use criterion::{Criterion, criterion_group, criterion_main};

fn globs(patterns: &[String]) -> Globs {
    patterns.iter().try_fold(Globs::default(), |globs, pattern| globs.with(pattern)).expect("globs")
}

/// Every fourth has a glob that is no plain name, prefix or suffix; a third goes as far as the image.
fn policies() -> Vec<Selector> {
    (0..200)
        .map(|n| {
            let mut selector = Selector {
                namespaces: match n % 4 {
                    0 => globs(&[format!("team-{n}"), "payments".to_owned()]),
                    1 => globs(&["team-*".to_owned(), format!("!team-{n}")]),
                    2 => globs(&[format!("{{shop,web}}-[0-9]*-{n}"), "team-?".to_owned()]),
                    _ => Globs::default(),
                },
                ..Selector::default()
            };
            if n % 2 == 0 {
                let values = vec![format!("app-{n}"), "shop".to_owned()];
                selector.labels.push(Requirement { key: "app".to_owned(), test: Test::In(values) });
            }
            if n % 3 == 0 {
                selector.containers = globs(&["main".to_owned(), "!istio-*".to_owned()]);
                selector.images = globs(&[format!("registry.example/*/{n}:*"), "registry.example/team/*".to_owned()]);
            }
            selector
        })
        .collect()
}

fn matching(criterion: &mut Criterion) {
    let policies = policies();
    let pod = Pod {
        namespace: "team-7".to_owned(),
        labels: [("app", "shop"), ("pod-template-hash", "6d4cf56db6"), ("tier", "front")]
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .into(),
        runtime_handler: Some("runc".to_owned()),
        ..Pod::default()
    };
    let container = Container {
        name: "main".to_owned(),
        image: "registry.example/team/web:1.2.3".to_owned(),
        ..Container::default()
    };
    criterion.bench_function("200 policies, one event", |bencher| {
        bencher.iter(|| {
            let (pod, container) = (black_box(&pod), black_box(Some(&container)));
            policies.iter().filter(|policy| policy.matches(pod, container)).count()
        });
    });
}

criterion_group!(benches, matching);
criterion_main!(benches);
