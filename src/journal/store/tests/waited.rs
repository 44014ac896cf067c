//! Who waits for what.

use tokio::task::{JoinSet, yield_now};

use super::*;

#[tokio::test]
async fn those_who_wait_at_once_wait_for_one_commit() {
    let dir = tempfile::tempdir().unwrap();
    let mut kit = Kit::with(Settings { tick: PATIENCE, ..quick(dir.path()) }, None);
    kit.left().await;
    let mut calls = JoinSet::new();
    for number in 0..50 {
        let journal = Arc::clone(&kit.journal);
        calls.spawn(async move {
            journal.write(begin(&format!("run {number}")));
            journal.recorded().await;
        });
    }
    calls.join_all().await;
    let counted = ["commits_total", "writes_total"].map(|name| kit.metric(&format!("crihook_journal_{name}")));
    assert_eq!(counted, [1, 50]);
}

#[tokio::test]
async fn whoever_has_waited_finds_what_he_has_written_on_the_disk() {
    let dir = tempfile::tempdir().unwrap();
    let mut kit = Kit::open(dir.path());
    kit.left().await;
    let mut calls = JoinSet::new();
    for number in 0..30 {
        let (journal, file) = (Arc::clone(&kit.journal), dir.path().join("journal.db"));
        calls.spawn(async move {
            for round in 0..30 {
                // Some come while others' commit is asked for, and some while it is under way.
                for _ in 0..(number + round) % 7 {
                    yield_now().await;
                }
                let id = format!("run {number} {round}");
                journal.write(begin(&id));
                journal.recorded().await;
                let disk = Connection::open(&file).unwrap();
                let found = disk.query_row("SELECT count(*) FROM runs WHERE id = ?1", [id], |row| row.get(0));
                assert_eq!(found, Ok(1));
            }
        });
    }
    calls.join_all().await;
    kit.close().await;
}

#[tokio::test]
async fn what_nobody_waits_for_is_written_all_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let mut kit = Kit::open(dir.path());
    kit.left().await;
    for entry in whole("a", Outcome::Succeeded) {
        kit.journal.write(entry);
    }
    until(|| kit.journal.health().unwritten == 0).await;
    assert_eq!(kit.told().await, ["a succeeded 1"]);
}

#[tokio::test]
async fn what_is_written_after_the_end_is_counted_as_lost_and_nobody_waits_for_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut kit = Kit::open(dir.path());
    kit.left().await;
    kit.journal.write(begin("a"));
    kit.journal.close().await;
    until(|| Arc::strong_count(&kit.journal.shared) == 1).await;
    kit.journal.write(begin("b"));
    timeout(PATIENCE, kit.journal.recorded()).await.unwrap();
    assert_eq!(kit.metric("crihook_journal_dropped_total"), 1);
    assert_eq!(Kit::open(dir.path()).left().await.runs.iter().map(|left| &*left.run.id).collect::<Vec<_>>(), ["a"]);
}
