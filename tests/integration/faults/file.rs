//! The journal's file is not what crihook wrote, or not its own: it is put aside or left alone, and pods never notice.

use std::fs;
use std::path::{Path, PathBuf};

use rusqlite::Connection;
use serde_json::json;

use super::life::{Life, hooks};
use crate::hooks::cri::pod;
use crate::hooks::node::Place;
use crate::hooks::server::{HookServer, Reply};
use crate::hooks::{policy, webhook};
use crate::wire::peer::until;

/// A place with a server of hooks, and the journal's file.
fn scene() -> (Place, HookServer, PathBuf) {
    let place = Place::new();
    let server = place.answering("hook", Reply::Ok);
    place.write("a.yaml", &hooks(&server));
    let file = place.path("state/journal.db");
    (place, server, file)
}

/// Files that were put aside, without their logs.
fn aside(place: &Place) -> Vec<PathBuf> {
    let files = fs::read_dir(place.path("state")).expect("a directory").map(|entry| entry.expect("an entry").path());
    let is_aside = |file: &PathBuf| {
        let name = file.file_name().expect("a name").to_string_lossy().into_owned();
        name.starts_with("journal.db.damaged-") && !name.ends_with("-wal") && !name.ends_with("-shm")
    };
    files.filter(is_aside).collect()
}

fn scrawl(from: usize, file: &Path) {
    let mut bytes = fs::read(file).expect("a file");
    let mut dice = fastrand::Rng::with_seed(7);
    bytes[from..].fill_with(|| dice.u8(..));
    fs::write(file, bytes).expect("written");
}

/// Lets crihook go, damages its file, and has another crihook find it. Gives how many files were put aside.
async fn found_damaged(place: &Place, server: &HookServer, damage: impl FnOnce(&Path)) -> usize {
    let mut life = Box::new(Life::begin(place, server).await);
    life.pod("before").await;
    life.leave().await;
    damage(&place.path("state/journal.db"));
    life.node.restart().await;
    life.pod("after").await;
    life.is_well().await;
    life.is_remembered(&["after"]).await;
    life.node.restart().await;
    life.is_remembered(&["after"]).await;
    aside(place).len()
}

#[tokio::test]
async fn a_file_that_is_no_database_is_put_aside() {
    let (place, server, _) = scene();
    let text = "not a database\n".repeat(1000);
    let damage = |file: &Path| fs::write(file, &text).expect("written");
    assert_eq!(found_damaged(&place, &server, damage).await, 1);
    assert_eq!(fs::read_to_string(&aside(&place)[0]).expect("as it was"), text);
}

#[tokio::test]
async fn a_file_with_garbage_in_the_middle_is_put_aside() {
    let (place, server, _) = scene();
    assert_eq!(found_damaged(&place, &server, |file| scrawl(4096, file)).await, 1);
}

#[tokio::test]
async fn a_file_that_was_cut_short_is_put_aside() {
    let (place, server, _) = scene();
    let cut = |file: &Path| {
        let bytes = fs::read(file).expect("a file");
        fs::write(file, &bytes[..bytes.len() / 2 + 100]).expect("written");
    };
    assert_eq!(found_damaged(&place, &server, cut).await, 1);
}

#[tokio::test]
async fn an_empty_file_is_a_new_one() {
    let (place, server, _) = scene();
    assert_eq!(found_damaged(&place, &server, |file| fs::write(file, "").expect("written")).await, 0);
}

#[tokio::test]
async fn a_file_that_is_damaged_under_crihook_is_put_aside_as_soon_as_that_is_seen() {
    let (place, server, file) = scene();
    let mut life = Life::begin(&place, &server).await;
    life.pod("before").await;
    life.leave().await;
    life.node.restart().await;
    life.is_remembered(&["before"]).await;
    scrawl(0, &file);
    until("the damaged file aside", || async {
        // Somebody looks.
        let history = life.node.history().await;
        if aside(&place).len() == 1 { Ok(()) } else { Err(history) }
    })
    .await;
    life.pod("after").await;
    life.is_well().await;
    let told = life.node.crihook.lines_at(&["ERROR"]);
    let says = |text: &str| ["journal.db", "is damaged", "set aside as"].iter().all(|word| text.contains(word));
    assert!(told.iter().any(|line| line["message"].as_str().is_some_and(says)), "{told:?}");
    life.node.restart().await;
    life.is_remembered(&["after"]).await;
}

#[tokio::test]
async fn a_file_of_a_later_crihook_is_left_alone_until_it_is_moved_away() {
    let (place, server, file) = scene();
    let mut life = Life::begin(&place, &server).await;
    life.pod("before").await;
    life.leave().await;
    let set = |version: i64| {
        let db = Connection::open(&file).expect("a database");
        db.pragma_update(None, "user_version", version).expect("a version");
        db.pragma_update(None, "journal_mode", "DELETE").expect("nothing beside the file");
    };
    set(99);
    let original = fs::read(&file).expect("a file");
    life.node.restart().await;
    life.pod("meanwhile").await;
    life.is_degraded(&["has version 99", "which wrote it, or a later one", "move the file away"]).await;
    assert!(fs::read(&file).expect("a file") == original, "not a byte of it was touched");

    fs::rename(&file, place.path("kept.db")).expect("moved");
    life.is_well().await;
    life.node.restart().await;
    life.is_remembered(&["meanwhile"]).await;
    assert!(aside(&place).is_empty());
}

#[tokio::test]
async fn of_two_crihooks_on_one_directory_the_second_goes_on_in_memory_until_the_first_is_gone() {
    let (place, server, _) = scene();
    let held = place.server("held", |seen| match (seen.pod(), seen.attempt()) {
        ("owed", 1) => Reply::Hang,
        _ => Reply::Ok,
    });
    let hook = webhook("owed", "PostRunPodSandbox", &held, &json!({"timeout": "50s"}));
    place.write("b.yaml", &policy("owe-web", &[hook]));
    let mut first = place.start().await;
    // Both runtimes give the same ids in the same order, as two runtimes of a node do not.
    for n in 0..5 {
        first.created(&format!("web-{n}"), &[]).await;
    }
    first.cri.run_pod(&pod("owed")).await.expect("a sandbox");
    held.wait(6).await;

    let other = Place::new();
    for file in ["a.yaml", "b.yaml"] {
        other.write(file, &fs::read_to_string(place.path("hooks.d").join(file)).expect("policies"));
    }
    let state = place.path("state");
    let node = other
        .start_with(|flags| {
            flags.set("--state-dir", state);
        })
        .await;
    let second = Life::of(node, &server);
    second.pod("second").await;
    let first_is = format!("(process {})", first.crihook.pid());
    second.is_degraded(&["another crihook", &first_is, "--state-dir"]).await;
    let owed = || held.delivered().into_iter().filter(|seen| seen.pod() == "owed").collect::<Vec<_>>();
    assert_eq!(owed().len(), 1, "the first still has it");

    first.crihook.kill();
    second.is_well().await;
    let owed = until("what the first owed", || async {
        let owed = owed();
        if owed.len() > 1 { Ok(owed) } else { Err(owed) }
    })
    .await;
    assert_eq!((owed[0].id(), owed[1].attempt()), (owed[1].id(), 2));
}
