//! What a process leaves, and who goes on with it.

use super::*;

#[tokio::test]
async fn a_new_journal_has_nothing_left() {
    let dir = tempfile::tempdir().unwrap();
    let mut kit = Kit::open(dir.path());
    let left = kit.left().await;
    assert_eq!((left.runs.len(), left.done.len()), (0, 0));
    assert_eq!(kit.journal.health().degraded, None);
}

#[tokio::test]
async fn what_a_killed_process_has_not_ended_comes_back_the_oldest_first_with_what_is_known_of_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut first = Kit::open(dir.path());
    first.left().await;
    first.write(whole("over", Outcome::Failed)).await;
    let queued = begin("queued");
    let intended = NewRun { replay_of: Some("x".into()), once: false, ..NewRun::clone(&run("intended")) };
    first.write([queued, Entry::Begin { run: Arc::new(intended), intended: true }, begin("cut")]).await;
    first.write([start("cut", 1), attempt("cut", 1, AttemptResult::Failed), start("cut", 2)]).await;
    first.die().await;

    let mut next = Kit::open(dir.path());
    let left = next.left().await;
    let told: Vec<_> = left.runs.iter().map(|left| (&*left.run.id, left.intended, left.started, left.failed)).collect();
    assert_eq!(told, [("queued", false, 0, 0), ("intended", true, 0, 0), ("cut", false, 2, 1)]);
    let (queued, back) = (run("queued"), &left.runs[0].run);
    assert_eq!(
        (&back.policy, &back.handler, &back.mode, back.once),
        (&queued.policy, &queued.handler, &queued.mode, true)
    );
    assert_eq!((&back.event.pod, &back.event.container), (&queued.event.pod, &queued.event.container));
    assert!((left.runs[1].run.replay_of.as_deref(), left.runs[1].run.once) == (Some("x"), false));

    let cut = &next.runs(Filter { id: Some("cut".into()), ..Filter::default() }).await[0];
    let results: Vec<_> = cut.attempts.iter().flatten().map(|attempt| (attempt.number, attempt.result)).collect();
    assert_eq!(results, [(1, AttemptResult::Failed), (2, AttemptResult::Interrupted)]);

    // Dying again, it has been interrupted once more, which does not count either.
    next.write([start("cut", 3)]).await;
    next.die().await;
    let left = Kit::open(dir.path()).left().await;
    assert_eq!((left.runs[2].started, left.runs[2].failed), (3, 1));
}

#[tokio::test]
async fn what_was_confirmed_is_what_happened_and_what_was_retracted_never_was() {
    let dir = tempfile::tempdir().unwrap();
    let mut first = Kit::open(dir.path());
    first.left().await;
    let intended = |name: &str| Entry::Begin { run: run(name), intended: true };
    let made = Arc::new(event("made"));
    let confirm = Entry::Confirm { id: "kept".into(), event: Arc::clone(&made) };
    first.write([intended("kept"), intended("broken"), confirm, Entry::Retract { id: "broken".into() }]).await;
    first.die().await;
    let mut next = Kit::open(dir.path());
    let left = next.left().await;
    assert_eq!(left.runs.len(), 1);
    assert_eq!((left.runs[0].intended, &left.runs[0].run.event), (false, &made));
    assert_eq!(next.runs(Filter::default()).await[0].container_id.as_deref(), Some("made"));
}

#[tokio::test]
async fn what_has_succeeded_once_for_all_is_known_until_its_subject_is_forgotten() {
    let dir = tempfile::tempdir().unwrap();
    let mut first = Kit::open(dir.path());
    first.left().await;
    let each = NewRun { once: false, ..NewRun::clone(&run("each")) };
    first.write(whole("a", Outcome::Succeeded)).await;
    first.write(whole("b", Outcome::Succeeded)).await;
    first.write(whole("c", Outcome::Failed)).await;
    first.write([Entry::Begin { run: Arc::new(each), intended: false }, end("each", Outcome::Succeeded)]).await;
    first.write([Entry::Forget { subject: "container of b".into() }]).await;
    first.die().await;
    let left = Kit::open(dir.path()).left().await;
    let done =
        Done { subject: "container of a".into(), point: Point::POST_START, policy: "p".into(), hook: "a".into() };
    assert_eq!((left.runs, left.done), (Vec::new(), vec![done]));
}

#[tokio::test]
async fn two_that_share_a_directory_keep_their_own_until_one_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    let mut old = Kit::open(dir.path());
    old.left().await;
    old.write([begin("old")]).await;
    assert!(old.journal.done_elsewhere("x").is_none(), "it is alone");

    let lock = old.journal.share_lock().await;
    assert!(lock.is_some());
    let mut new = Kit::with(quick(dir.path()), lock);
    assert!(new.left().await.runs.is_empty(), "its owner lives");
    assert_eq!(new.journal.health().degraded, None);
    new.write([begin("new")]).await;
    old.write(whole("done by old", Outcome::Succeeded)).await;
    let done = new.journal.done_elsewhere("container of done by old").expect("there is another").await;
    assert_eq!(done.len(), 1);
    until(|| old.journal.done_elsewhere("x").is_some()).await;

    old.die().await;
    let left = new.left().await;
    assert_eq!(left.runs.iter().map(|left| &*left.run.id).collect::<Vec<_>>(), ["old"]);
    until(|| new.journal.done_elsewhere("x").is_none()).await;
    new.close().await;
    let mut next = Kit::open(dir.path());
    assert_eq!(next.left().await.runs.len(), 2, "those of both are left to the next");
    assert_eq!(std::fs::read_dir(dir.path().join("owners")).unwrap().count(), 1, "who is gone leaves no file");
}

#[tokio::test]
async fn what_ends_in_order_leaves_its_runs_and_an_empty_log() {
    let dir = tempfile::tempdir().unwrap();
    let mut first = Kit::open(dir.path());
    first.left().await;
    // Nobody waits for this one.
    first.journal.write(begin("queued"));
    first.close().await;
    let log = std::fs::metadata(dir.path().join("journal.db-wal")).map_or(0, |log| log.len());
    assert_eq!(log, 0);
    assert_eq!(Kit::open(dir.path()).left().await.runs.len(), 1);
}

#[tokio::test]
async fn what_one_has_done_that_leaves_nothing_is_told_when_it_goes() {
    let dir = tempfile::tempdir().unwrap();
    let mut old = Kit::open(dir.path());
    old.left().await;
    let mut new = Kit::with(quick(dir.path()), old.journal.share_lock().await);
    assert!(new.left().await.done.is_empty());
    old.write(whole("a", Outcome::Succeeded)).await;
    old.close().await;
    let left = new.left().await;
    assert_eq!((left.runs.len(), left.done.iter().map(|done| &*done.hook).collect::<Vec<_>>()), (0, vec!["a"]));
}

#[tokio::test]
async fn a_run_that_cannot_be_read_keeps_nobody_from_the_others() {
    let dir = tempfile::tempdir().unwrap();
    let mut first = Kit::open(dir.path());
    first.left().await;
    first.write(["a", "b", "c"].map(begin)).await;
    first.die().await;
    let db = rusqlite::Connection::open(dir.path().join("journal.db")).unwrap();
    db.execute_batch("UPDATE events SET event = '{}' WHERE run = 'a'; DELETE FROM events WHERE run = 'b'").unwrap();
    drop(db);
    let mut next = Kit::open(dir.path());
    let left = next.left().await;
    assert_eq!(left.runs.iter().map(|left| &*left.run.id).collect::<Vec<_>>(), ["c"]);
    assert_eq!(next.journal.health().degraded, None);
    let ended: Vec<_> = next.runs(Filter::default()).await.into_iter().map(|run| (run.outcome, run.reason)).collect();
    let unreadable = (Some(Outcome::Abandoned), Some("its record cannot be read".to_owned()));
    assert_eq!(ended, [(None, None), unreadable.clone(), unreadable]);
}
