//! The README's table of metrics says what /metrics gives: each family, its type and its labels, and nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use super::*;
use crate::wire::peer::exposition::Exposition;

/// What a family is: its type, and its labels.
type Families = BTreeMap<String, (String, BTreeSet<String>)>;

fn words(cell: &str) -> BTreeSet<String> {
    cell.split(',').map(|word| word.trim().to_owned()).filter(|word| !word.is_empty()).collect()
}

/// The rows of the table under `## Metrics`.
fn written() -> Families {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
    let text = fs::read_to_string(path).expect("a README");
    let mut rows = Families::new();
    for row in text.lines().filter(|line| line.starts_with("| `crihook_")) {
        let cells: Vec<_> = row.trim_matches('|').split('|').map(str::trim).collect();
        // A row may be of several.
        for name in words(cells[0]) {
            rows.insert(name.trim_matches('`').to_owned(), (cells[1].to_owned(), words(cells[2])));
        }
    }
    rows
}

/// What the page has, but for the process's own.
fn served(page: &Exposition) -> Families {
    let types = page.text.lines().filter_map(|line| line.strip_prefix("# TYPE crihook_")?.split_once(' '));
    types
        .map(|(name, kind)| {
            let name = format!("crihook_{name}");
            let of_it = |sample: &str| {
                sample.strip_prefix(&*name).is_some_and(|rest| ["", "_bucket", "_sum", "_count"].contains(&rest))
            };
            let samples = page.all(&name).filter(|(sample, _, _)| of_it(sample));
            let labels = samples.flat_map(|(_, labels, _)| labels.keys().cloned()).filter(|label| label != "le");
            (name.clone(), (kind.to_owned(), labels.collect()))
        })
        .collect()
}

#[tokio::test]
async fn the_table_of_metrics_is_what_metrics_gives() {
    let place = Place::new();
    let server = place.answering("hook", Reply::Ok);
    place.write("a.yaml", &policy("announce", &[webhook("announce", "PreStartContainer", &server, &plain())]));
    let node = place.start_with(|flags| _ = flags.set("--otlp-endpoint", "http://127.0.0.1:9")).await;
    node.running("web", &[]).await;
    node.outcome("announce").await;
    let (rows, families) = (written(), served(&node.metrics().await));
    assert!(rows.len() > 20, "the table was found: {rows:?}");
    for (name, family) in &families {
        assert_eq!(rows.get(name), Some(family), "{name}: what the README's table says, and what /metrics gives");
    }
    let gone: Vec<_> = rows.keys().filter(|name| !families.contains_key(*name)).collect();
    assert!(gone.is_empty(), "in the README's table and not in /metrics: {gone:?}");
}
