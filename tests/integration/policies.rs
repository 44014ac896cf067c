//! `crihook check`, as its users see it: what it prints and how it exits.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

const GOOD: &str = "\
apiVersion: crihook.dev/v1
kind: HookPolicy
metadata: {name: drain-web}
spec:
  match: {namespaces: [web]}
  hooks:
  - name: drain
    on: PreStop
    exec: {command: [/bin/drain]}
  - name: announce
    on: PostStart
    webhook: {url: 'unix:///run/discovery.sock:/v1/events'}
";

struct Said {
    code: Option<i32>,
    out: String,
    err: String,
}

/// Runs `crihook check` in `directory`, without a terminal, input or settings of this environment.
fn check(directory: &Path, args: &[&str]) -> Said {
    let mut command = Command::new(env!("CARGO_BIN_EXE_crihook"));
    command.arg("check").args(args).current_dir(directory).stdin(Stdio::null());
    for setting in ["CRIHOOK_CONFIG", "CRIHOOK_HOOKS_DIR"] {
        command.env_remove(setting);
    }
    let output = command.output().expect("it runs");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
    Said { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
}

fn directory(files: &[(&str, &str)]) -> tempfile::TempDir {
    let directory = tempfile::tempdir().expect("a directory");
    for (name, text) in files {
        let path = directory.path().join(name);
        fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
        fs::write(path, text).expect("a file");
    }
    directory
}

#[test]
fn what_is_in_order_is_counted_on_one_line() {
    let place = directory(&[
        ("hooks.d/a.yaml", GOOD),
        ("hooks.d/b.yaml", &GOOD.replace("drain-web", "b")),
        ("hooks.d/notes", "x: ["),
    ]);
    let said = check(place.path(), &["hooks.d"]);
    assert_eq!((said.code, said.out.as_str(), said.err.as_str()), (Some(0), "in order: 2 policies, 4 hooks\n", ""));
    let said = check(place.path(), &["hooks.d/a.yaml"]);
    assert_eq!((said.code, said.out.as_str()), (Some(0), "in order: 1 policy, 2 hooks\n"));
}

#[test]
fn every_mistake_of_every_file_has_its_place_a_caret_and_what_would_be_right() {
    let place = directory(&[
        ("hooks.d/a.yaml", &GOOD.replace("PreStop", "BeforeStop").replace("/bin/drain", "$(NOBODY)")),
        ("hooks.d/b.yaml", &format!("{GOOD}---\n{}", GOOD.replace("drain-web", "c").replace("    exec:", "    exe:"))),
        ("hooks.d/c.yaml", GOOD),
    ]);
    let said = check(place.path(), &["hooks.d"]);
    assert_eq!((said.code, said.out.as_str()), (Some(2), ""));
    for expected in [
        "hooks.d/a.yaml:8:9: `BeforeStop` is not a point\n     8 |     on: BeforeStop\n       |         ^^^^^^^^^^\n       = write PostStart, PreStop, ",
        "hooks.d/a.yaml:9:22: `$(NOBODY)` is not known\n",
        "hooks.d/b.yaml:22:5: unknown key `exe`, expected one of name, on, exec, ",
        "       |     ^^^\n",
        "hooks.d/c.yaml:3:18: there is a policy `drain-web` already, in hooks.d/b.yaml:3\n",
        "\n4 mistakes\n",
    ] {
        assert!(said.err.contains(expected), "{expected}\nin\n{}", said.err);
    }
}

#[test]
fn a_secret_on_the_quoted_line_is_masked() {
    let hook = "webhook: {url: 'https://me:s3cret@x/s3cret', timeout: 3s, headers: {Authorization: s3cret}}";
    let text = GOOD.replace("webhook: {url: 'unix:///run/discovery.sock:/v1/events'}", hook);
    let place = directory(&[("a.yaml", &text)]);
    for args in [&["a.yaml"][..], &["-o", "json", "a.yaml"]] {
        let said = check(place.path(), args);
        assert_eq!(said.code, Some(2));
        assert!(said.err.contains("unknown key `timeout`") || said.out.contains("unknown key `timeout`"));
        assert!(!said.err.contains("s3cret") && !said.out.contains("s3cret"), "{}{}", said.out, said.err);
        assert!(said.err.contains("Authorization: ***") || said.out.contains("Authorization: ***"));
    }
}

#[test]
fn programs_get_one_document() {
    let place = directory(&[("a.yaml", &GOOD.replace("PreStop", "Never")), ("b.yaml", GOOD)]);
    let said = check(place.path(), &["-o", "json", "a.yaml"]);
    let document: Value = serde_json::from_str(&said.out).expect("JSON");
    assert_eq!((said.code, said.err.as_str()), (Some(2), ""));
    let mistake = &document["mistakes"][0];
    assert_eq!(
        (document["valid"].as_bool(), mistake["line"].as_u64(), mistake["column"].as_u64()),
        (Some(false), Some(8), Some(9))
    );
    assert!(mistake["help"].as_str().is_some_and(|help| help.contains("PreStop")), "{mistake}");
    let said = check(place.path(), &["--output", "json", "b.yaml"]);
    let document: Value = serde_json::from_str(&said.out).expect("JSON");
    assert_eq!((said.code, &document["policies"], &document["hooks"]), (Some(0), &1.into(), &2.into()));
}

#[test]
fn the_config_is_checked_with_the_directory_that_it_names() {
    let place = directory(&[("hooks.d/a.yaml", GOOD)]);
    let hooks = place.path().join("hooks.d");
    let config = |text: &str| {
        fs::write(place.path().join("config.yaml"), text).expect("a file");
        check(place.path(), &["--config", "config.yaml"])
    };
    let said = config(&format!("hooksDir: {}\nhooks: {{concurrency: 8}}\n", hooks.display()));
    assert_eq!((said.code, said.out.as_str()), (Some(0), "in order: 1 policy, 2 hooks\n"), "{}", said.err);
    let said = config("logLevel: info\nhooks:\n  concurrency: 0\n");
    assert_eq!(said.code, Some(2));
    let expected =
        "config.yaml:3:16: `0` is not a number from 1 to 10000\n     3 |   concurrency: 0\n       |                ^\n";
    assert!(said.err.contains(expected), "{}", said.err);
}

#[test]
fn what_is_not_there_is_a_mistake_when_it_is_named() {
    let place = directory(&[]);
    let said = check(place.path(), &["a.yaml", "b.yaml"]);
    assert_eq!(said.code, Some(2));
    assert!(said.err.contains("a.yaml:1:1: cannot be read: ") && said.err.contains("b.yaml:1:1: "), "{}", said.err);
    let said = check(place.path(), &["a.yaml"]);
    assert_eq!(said.code, Some(2), "{}", said.out);
    let said = check(place.path(), &["--config", "c.yaml"]);
    assert_eq!(said.code, Some(2), "{}", said.out);
}

#[test]
fn the_schema_is_json_and_lists_the_handlers() {
    let place = directory(&[]);
    let said = check(place.path(), &["--schema"]);
    assert_eq!(said.code, Some(0));
    let schema: Value = serde_json::from_str(&said.out).expect("JSON");
    assert!(schema["$schema"].as_str().is_some_and(|dialect| dialect.contains("json-schema.org")));
    for handler in ["exec", "httpGet", "tcpSocket", "sleep", "webhook", "grpc", "command"] {
        assert!(schema["$defs"]["Hook"]["properties"][handler].is_object(), "{handler}");
    }
}
