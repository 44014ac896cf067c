//! Dependencies point one way (design §2, `src/lib.rs`): what each module may use of the crate is written down here.

use std::fs;
use std::path::Path;

/// A module, and what its `use crate::` lines may begin with. `None`: the composition root, which may use everything.
const ALLOWED: [(&str, Option<&[&str]>); 22] = [
    ("app", None),
    ("cli", None),
    ("lib", None),
    ("main", None),
    ("admin", Some(&["drain", "metrics"])),
    ("config", Some(&["telemetry", "hooks", "journal", "trace"])),
    ("clock", Some(&[])),
    ("cri", Some(&[])),
    ("drain", Some(&[])),
    ("hooks", Some(&["lifecycle", "journal", "clock", "drain", "metrics", "trace"])),
    ("identity", Some(&["cri", "lifecycle"])),
    ("interposer", Some(&["proxy", "hooks", "inventory", "identity", "cri", "lifecycle", "clock", "drain", "trace"])),
    ("inventory", Some(&["lifecycle"])),
    ("journal", Some(&["lifecycle", "metrics"])),
    ("lifecycle", Some(&["clock", "trace"])),
    ("metrics", Some(&[])),
    ("proxy", Some(&["cri", "drain", "metrics", "trace"])),
    ("runtime", Some(&["cri", "lifecycle", "hooks", "inventory"])),
    ("sight", Some(&["proxy", "inventory", "identity", "journal", "cri", "lifecycle", "clock", "metrics"])),
    ("sim", Some(&["cri"])),
    ("telemetry", Some(&[])),
    ("trace", Some(&[])),
];

fn sources(directory: &Path, found: &mut Vec<String>) {
    for entry in fs::read_dir(directory).expect("a directory of sources") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path.to_str().expect("a path in UTF-8").to_owned());
        }
    }
}

/// The modules that a source names after `crate::`, be it in a `use` or in an expression.
fn uses(text: &str) -> impl Iterator<Item = &str> {
    text.lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .flat_map(|line| line.split("crate::").skip(1))
        .map(|rest| rest.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or_default())
}

#[test]
fn modules_use_only_what_lies_below_them() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&root, &mut files);
    let mut wrong = Vec::new();
    for file in &files {
        let inside = Path::new(file).strip_prefix(&root).expect("below src");
        let module = inside.iter().next().and_then(|first| Path::new(first).file_stem()?.to_str()).expect("a name");
        let Some((_, allowed)) = ALLOWED.iter().find(|(name, _)| *name == module) else {
            wrong.push(format!("{file}: `{module}` is not in the list of tests/integration/architecture.rs"));
            continue;
        };
        let Some(allowed) = allowed else { continue };
        let text = fs::read_to_string(file).expect("a source");
        for used in uses(&text).filter(|used| *used != module && !allowed.contains(used)) {
            wrong.push(format!("{file}: `{module}` must not use `{used}`"));
        }
    }
    assert!(files.len() > 20, "the sources were found");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
