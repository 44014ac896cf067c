//! Disks that do not keep a journal.

use std::fs;

use super::*;

fn why(kit: &Kit) -> String {
    kit.journal.health().degraded.expect("it is not well").0
}

#[tokio::test]
async fn a_state_directory_that_cannot_be_is_said_and_tried_again_and_nothing_is_lost() {
    let dir = tempfile::tempdir().unwrap();
    let place = dir.path().join("state");
    fs::write(&place, "a file").unwrap();
    let mut kit = Kit::open(&place);
    assert!(kit.left().await.runs.is_empty(), "who waits for it goes on");
    assert!(why(&kit).contains("state/journal.db"), "{}", why(&kit));
    kit.write(whole("a", Outcome::Failed).into_iter().chain([begin("b")])).await;
    assert_eq!(kit.told().await, ["b - 0", "a failed 1"]);
    assert_eq!(kit.metric("crihook_journal_degraded"), 1);
    assert!(kit.metric("crihook_journal_errors_total") >= 1);

    fs::remove_file(&place).unwrap();
    kit.becomes(false).await;
    assert_eq!(kit.told().await, ["b - 0", "a failed 1"]);
    assert_eq!(kit.metric("crihook_journal_degraded"), 0);
    kit.die().await;
    assert_eq!(Kit::open(&place).left().await.runs.len(), 1);
}

#[tokio::test]
async fn what_others_have_left_is_taken_over_as_soon_as_the_disk_is_there() {
    let dir = tempfile::tempdir().unwrap();
    let (place, away) = (dir.path().join("state"), dir.path().join("away"));
    let mut first = Kit::open(&place);
    first.left().await;
    first.write([begin("left")]).await;
    first.die().await;
    fs::rename(&place, &away).unwrap();
    fs::write(&place, "a file").unwrap();
    let mut next = Kit::open(&place);
    assert!(next.left().await.runs.is_empty());
    next.write([begin("own")]).await;
    fs::remove_file(&place).unwrap();
    fs::rename(&away, &place).unwrap();
    let left = next.left().await;
    assert_eq!(left.runs.iter().map(|left| &*left.run.id).collect::<Vec<_>>(), ["left"]);
    assert_eq!(next.told().await, ["own - 0", "left - 0"]);
}

#[tokio::test]
async fn what_happens_in_memory_is_what_the_disk_says_afterwards() {
    let dir = tempfile::tempdir().unwrap();
    let (place, away) = (dir.path().join("state"), dir.path().join("away"));
    let mut kit = Kit::open(&place);
    kit.left().await;
    kit.write(whole("before", Outcome::Succeeded)).await;
    let intended = |name: &str| Entry::Begin { run: run(name), intended: true };
    kit.write([begin("runs"), start("runs", 1), intended("broken"), intended("kept"), begin("queued")]).await;
    fs::rename(&place, &away).unwrap();
    fs::write(&place, "a file").unwrap();
    kit.becomes(true).await;
    kit.write([
        attempt("runs", 1, AttemptResult::Succeeded),
        end("runs", Outcome::Succeeded),
        Entry::Retract { id: "broken".into() },
        Entry::Confirm { id: "kept".into(), event: Arc::new(event("c")) },
        Entry::Forget { subject: "container of before".into() },
    ])
    .await;
    fs::remove_file(&place).unwrap();
    fs::rename(&away, &place).unwrap();
    kit.becomes(false).await;
    assert_eq!(kit.told().await, ["queued - 0", "kept - 0", "runs succeeded 1", "before succeeded 1"]);
    kit.die().await;
    let left = Kit::open(&place).left().await;
    let told: Vec<_> = left.runs.iter().map(|left| (&*left.run.id, left.intended)).collect();
    assert_eq!(told, [("kept", false), ("queued", false)]);
    assert_eq!(left.done.iter().map(|done| &*done.hook).collect::<Vec<_>>(), ["runs"]);
}

#[tokio::test]
async fn while_the_disk_can_be_read_history_tells_what_it_and_memory_know_of_a_run() {
    let dir = tempfile::tempdir().unwrap();
    let mut kit = Kit::open(dir.path());
    kit.left().await;
    kit.write(whole("old", Outcome::Failed)).await;
    kit.write([begin("open"), start("open", 1), attempt("open", 1, AttemptResult::Failed)]).await;
    // Without a place for it, this process cannot show that it lives.
    let owners = dir.path().join("owners");
    fs::remove_dir_all(&owners).unwrap();
    fs::write(&owners, "a file").unwrap();
    kit.becomes(true).await;
    kit.write([start("open", 2), attempt("open", 2, AttemptResult::Succeeded), end("open", Outcome::Succeeded)]).await;
    kit.write([begin("new")]).await;
    let told = ["new - 0", "open succeeded 2", "old failed 1"];
    assert_eq!(kit.told().await, told);
    let unended = kit.runs(Filter { ended: Some(false), ..Filter::default() }).await;
    assert_eq!(unended.iter().map(|run| &*run.id).collect::<Vec<_>>(), ["new"], "memory knows better");
    assert!(kit.journal.begun("old").await.unwrap().is_some());
    fs::remove_file(&owners).unwrap();
    kit.becomes(false).await;
    assert_eq!(kit.told().await, told);
}

#[tokio::test]
async fn a_disk_that_hangs_makes_only_so_many_entries_wait_and_the_loss_is_counted() {
    let dir = tempfile::tempdir().unwrap();
    let mut kit = Kit::with(Settings { patience: Duration::from_millis(10), ..quick(dir.path()) }, None);
    kit.left().await;
    let other = rusqlite::Connection::open(dir.path().join("journal.db")).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let [begin, _, printed, _] = whole("a", Outcome::Failed);
    kit.write([begin]).await;
    for _ in 1..MAX_WAITING + 10 {
        kit.journal.write(printed.clone());
    }
    assert_eq!(kit.journal.health().unwritten, MAX_WAITING);
    let without_output = MAX_WAITING - MAX_PRINTED;
    assert_eq!(kit.metric("crihook_journal_dropped_total"), without_output + 10);
    drop(other);
    until(|| kit.journal.health().unwritten == 0).await;
    kit.write([end("a", Outcome::Failed)]).await;
    until(|| kit.journal.health().unwritten == 0).await;
    assert_eq!(kit.told().await, ["a failed 1"]);
}

#[tokio::test]
async fn a_damaged_file_is_set_aside_and_what_has_not_ended_is_in_the_new_one() {
    for (damage, at_start) in [(&b"no database at all, but long enough to be one"[..], true), (b"", false)] {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("journal.db");
        if at_start {
            fs::write(&file, damage).unwrap();
        }
        let mut kit = Kit::open(dir.path());
        kit.left().await;
        kit.write([begin("a")]).await;
        if !at_start {
            // In the middle of what it reads next; it has to notice by itself.
            for path in [&file, &dir.path().join("journal.db-wal")] {
                let length = fs::metadata(path).unwrap().len();
                fs::write(path, vec![0x5a; usize::try_from(length).unwrap()]).unwrap();
            }
            let _ = kit.journal.runs(Filter::default()).await;
        }
        let aside = || {
            let names = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name());
            names.filter(|name| name.to_string_lossy().starts_with("journal.db.damaged-")).count()
        };
        until(|| aside() > 0).await;
        kit.becomes(false).await;
        kit.write([begin("b")]).await;
        assert_eq!(kit.told().await, ["b - 0", "a - 0"], "at the start: {at_start}");
        assert!(kit.metric("crihook_journal_errors_total") >= 1);
        kit.die().await;
        assert_eq!(Kit::open(dir.path()).left().await.runs.len(), 2);
    }
}

#[tokio::test]
async fn a_file_of_a_later_version_is_left_as_it_is_and_said() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("journal.db");
    let db = rusqlite::Connection::open(&file).unwrap();
    db.execute_batch(
        "CREATE TABLE migrations (version, crihook, at); INSERT INTO migrations VALUES (99, '3.1.4', 0);
         CREATE TABLE later (x); INSERT INTO later VALUES (7); PRAGMA user_version = 99",
    )
    .unwrap();
    drop(db);
    let before = fs::read(&file).unwrap();
    let mut kit = Kit::open(dir.path());
    kit.left().await;
    kit.write([begin("a")]).await;
    let said = format!(
        "has version 99 and this crihook ({}) knows 1: install crihook 3.1.4, which",
        env!("CARGO_PKG_VERSION")
    );
    assert!(why(&kit).contains(&said), "{}", why(&kit));
    assert_eq!(kit.told().await, ["a - 0"]);
    kit.close().await;
    assert!(fs::read(&file).unwrap() == before, "not a byte of it has changed");
}

#[tokio::test]
async fn two_crihooks_that_are_strangers_do_not_mix() {
    let dir = tempfile::tempdir().unwrap();
    let mut first = Kit::open(dir.path());
    first.left().await;
    first.write([begin("first")]).await;
    let mut second = Kit::open(dir.path());
    assert!(second.left().await.runs.is_empty());
    assert!(why(&second).contains("another crihook (process "), "{}", why(&second));
    second.write([begin("second")]).await;
    assert_eq!(first.told().await, ["first - 0"]);
    first.close().await;
    second.becomes(false).await;
    assert_eq!(second.left().await.runs.len(), 1);
    assert_eq!(second.told().await, ["second - 0", "first - 0"]);
}

#[tokio::test]
async fn a_file_that_is_removed_is_made_anew_with_what_has_not_ended() {
    let dir = tempfile::tempdir().unwrap();
    let place = dir.path().join("state");
    let mut kit = Kit::open(&place);
    kit.left().await;
    kit.write([begin("a")]).await;
    fs::remove_dir_all(&place).unwrap();
    until(|| place.join("journal.db").exists()).await;
    kit.becomes(false).await;
    kit.write([begin("b")]).await;
    assert_eq!(kit.told().await, ["b - 0", "a - 0"]);
    let mut stranger = Kit::open(&place);
    stranger.left().await;
    assert!(why(&stranger).contains("another crihook"), "the new directory is this process's, too");
    kit.die().await;
    stranger.becomes(false).await;
    assert_eq!(stranger.left().await.runs.len(), 2);
}

#[tokio::test]
async fn nobody_waits_longer_than_that_for_a_commit_and_it_is_said_until_it_is_done() {
    let dir = tempfile::tempdir().unwrap();
    let mut kit = Kit::with(Settings { patience: Duration::from_millis(50), ..quick(dir.path()) }, None);
    kit.left().await;
    // Somebody else writes, and takes his time.
    let other = rusqlite::Connection::open(dir.path().join("journal.db")).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    kit.write([begin("a")]).await;
    assert!(why(&kit).contains("takes longer than 50ms for a commit"), "{}", why(&kit));
    assert_eq!((kit.metric("crihook_journal_degraded"), kit.metric("crihook_journal_slow_commits_total")), (1, 1));
    // Now nobody waits at all.
    kit.write([begin("b")]).await;
    assert_eq!(kit.metric("crihook_journal_slow_commits_total"), 1);
    other.execute_batch("ROLLBACK").unwrap();
    kit.becomes(false).await;
    kit.journal.recorded().await;
    assert_eq!(kit.told().await.len(), 2);
}
