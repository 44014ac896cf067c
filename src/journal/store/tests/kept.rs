//! What can be looked up, and for how long.

use super::*;

#[tokio::test]
async fn a_run_is_read_back_as_it_was_written_with_its_attempts() {
    let dir = tempfile::tempdir().unwrap();
    let mut kit = Kit::open(dir.path());
    kit.left().await;
    let reference = crate::journal::testing::Recorded::default();
    for entry in whole("a", Outcome::Failed).into_iter().chain(whole("b", Outcome::Succeeded)).chain([begin("c")]) {
        kit.journal.write(entry.clone());
        reference.write(entry);
    }
    kit.journal.recorded().await;
    let mut expected = reference.all();
    expected.reverse();
    assert_eq!(kit.runs(Filter::default()).await, expected);
    let brief = kit.runs(Filter { attempts: false, limit: 2, ..Filter::default() }).await;
    assert_eq!(
        brief.iter().map(|run| (&*run.id, run.attempts.is_none())).collect::<Vec<_>>(),
        [("c", true), ("b", true)]
    );
    let begun = kit.journal.begun("a").await.unwrap().unwrap();
    assert_eq!((&*begun.hook, begun.event.subject()), ("a", "container of a".to_owned()));
    assert_eq!(kit.journal.begun("nobody").await, Ok(None));
}

#[tokio::test]
async fn each_condition_of_a_filter_keeps_others_out() {
    let dir = tempfile::tempdir().unwrap();
    let mut kit = Kit::open(dir.path());
    kit.left().await;
    let (reference, early) = (crate::journal::testing::Recorded::default(), SystemTime::now() - Duration::from_mins(1));
    let odd = |change: &dyn Fn(&mut NewRun)| {
        let mut odd = NewRun::clone(&run("x"));
        odd.id = uuid::Uuid::now_v7().to_string().into();
        change(&mut odd);
        odd
    };
    let with_event = |change: &dyn Fn(&mut Event)| {
        let mut event = event("c");
        change(&mut event);
        Arc::new(event)
    };
    let pod = |namespace: &str, name: &str| {
        Arc::new(Pod { namespace: namespace.into(), name: name.into(), ..Pod::default() })
    };
    let runs = [
        odd(&|_| {}),
        odd(&|run| run.policy = "other".into()),
        odd(&|run| run.hook = "other".into()),
        odd(&|run| run.created_at = early),
        odd(&|run| run.event = with_event(&|event| event.point = Point::PRE_STOP)),
        odd(&|run| run.event = with_event(&|event| event.pod = pod("other", "web-0"))),
        odd(&|run| run.event = with_event(&|event| event.pod = pod("team-a", "other"))),
        odd(&|run| run.event = with_event(&|event| event.container = None)),
    ];
    for (number, run) in runs.iter().enumerate() {
        let begin = Entry::Begin { run: Arc::new(run.clone()), intended: false };
        let end = Entry::End { id: Arc::clone(&run.id), at: SystemTime::now(), outcome: Outcome::Failed, reason: None };
        for entry in [begin].into_iter().chain((number % 2 == 0).then_some(end)) {
            kit.journal.write(entry.clone());
            reference.write(entry);
        }
    }
    kit.journal.recorded().await;
    let some = |text: &str| Some(text.to_owned());
    let id = &runs[0].id;
    let filters = [
        Filter { id: some(id), ..Filter::default() },
        Filter { id: some(&id[..id.len() - 1]), ..Filter::default() },
        Filter { id: some(&id[id.len() - 8..]), ..Filter::default() },
        Filter { id: some("%"), ..Filter::default() },
        Filter { policy: some("other"), ..Filter::default() },
        Filter { hook: some("other"), ..Filter::default() },
        Filter { point: Some(Point::PRE_STOP), ..Filter::default() },
        Filter { namespace: some("other"), ..Filter::default() },
        Filter { pod: some("other"), ..Filter::default() },
        Filter { container: some("main"), ..Filter::default() },
        Filter { container: some("c"), ..Filter::default() },
        Filter { outcome: Some(Outcome::Failed), ..Filter::default() },
        Filter { ended: Some(false), ..Filter::default() },
        Filter { ended: Some(true), limit: 2, ..Filter::default() },
        Filter { since: Some(early + Duration::from_secs(1)), ..Filter::default() },
        Filter { outcome: Some(Outcome::Failed), pod: some("other"), ..Filter::default() },
    ];
    for filter in filters {
        let mut expected = reference.all();
        expected.sort_by_key(|run| std::cmp::Reverse((run.created_at, Arc::clone(&run.id))));
        let keep = reference.runs(Filter { limit: usize::MAX, ..filter.clone() }).await.unwrap();
        expected.retain(|run| keep.iter().any(|kept| kept.id == run.id));
        expected.truncate(filter.limit);
        assert_eq!(kit.runs(filter.clone()).await, expected, "{filter:?}");
    }
}

#[tokio::test]
async fn only_so_many_runs_are_kept_and_never_fewer_than_have_not_ended() {
    let dir = tempfile::tempdir().unwrap();
    let retention = Retention { max_runs: 5, ..Retention::default() };
    let mut kit = Kit::with(Settings { retention, ..quick(dir.path()) }, None);
    kit.left().await;
    kit.write([begin("unended")]).await;
    for number in 0..20 {
        kit.write(whole(&format!("run {number:02}"), Outcome::Succeeded)).await;
    }
    let kept = loop {
        let kept = kit.told().await;
        if kept.len() == 5 {
            break kept;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    };
    assert_eq!(kept[..4], ["run 19", "run 18", "run 17", "run 16"].map(|name| format!("{name} succeeded 1")));
    assert_eq!(kept[4], "unended - 0");
}

#[tokio::test]
async fn what_has_ended_long_ago_goes() {
    let dir = tempfile::tempdir().unwrap();
    let mut kit = Kit::open(dir.path());
    kit.left().await;
    let week = SystemTime::now() - Duration::from_hours(8 * 24);
    let old = |name: &str| NewRun { created_at: week, ..NewRun::clone(&run(name)) };
    let begin = |name: &str| Entry::Begin { run: Arc::new(old(name)), intended: false };
    let end = |name: &str, at| Entry::End { id: name.into(), at, outcome: Outcome::Failed, reason: None };
    kit.write([begin("old"), end("old", week), begin("long"), end("long", SystemTime::now()), begin("unended")]).await;
    until(|| kit.journal.health().runs == 2).await;
    assert_eq!(kit.told().await.len(), 2);
    let kept = kit.runs(Filter::default()).await;
    assert!(kept.iter().all(|run| &*run.hook != "old"), "{kept:?}");
}

#[tokio::test]
async fn the_file_shrinks_again_when_it_has_grown_too_large() {
    let dir = tempfile::tempdir().unwrap();
    let retention = Retention { max_bytes: 1 << 20, ..Retention::default() };
    let mut kit = Kit::with(Settings { retention, ..quick(dir.path()) }, None);
    kit.left().await;
    for number in 0..100 {
        let name = format!("run {number}");
        let [begin, start, attempt, end] = whole(&name, Outcome::Failed);
        let Entry::Attempt { id, mut attempt } = attempt else { unreachable!() };
        attempt.stdout = "x".repeat(64 << 10);
        kit.write([begin, start, Entry::Attempt { id, attempt }, end]).await;
    }
    let file = dir.path().join("journal.db");
    let reader = Connection::open(&file).unwrap();
    let pages = || reader.pragma_query_value(None, "page_count", |row| row.get::<_, u64>(0)).unwrap();
    until(|| pages() * 4096 < 2 << 20).await;
    drop(reader);
    kit.close().await;
    assert!(std::fs::metadata(file).unwrap().len() < 2 << 20);
}

#[tokio::test]
async fn what_kubectl_keeps_of_a_manifest_does_not_reach_the_disk() {
    let dir = tempfile::tempdir().unwrap();
    let mut kit = Kit::open(dir.path());
    kit.left().await;
    let annotations = [(LAST_APPLIED.to_owned(), "hunter2".to_owned()), ("a".to_owned(), "kept".to_owned())];
    let pod = Arc::new(Pod { annotations: annotations.into(), ..Pod::default() });
    let event = Arc::new(Event { pod, ..event("c") });
    let secret = NewRun { event, ..NewRun::clone(&run("a")) };
    kit.write([Entry::Begin { run: Arc::new(secret), intended: false }]).await;
    let begun = kit.journal.begun("a").await.unwrap().unwrap();
    assert_eq!(begun.event.pod.annotations.keys().collect::<Vec<_>>(), ["a"]);
    kit.close().await;
    let bytes = std::fs::read(dir.path().join("journal.db")).unwrap();
    let has = |text: &[u8]| bytes.windows(text.len()).any(|window| window == text);
    assert!(has(b"kept") && !has(b"hunter2"));
}

#[tokio::test]
async fn a_burst_takes_few_commits() {
    let dir = tempfile::tempdir().unwrap();
    let mut kit = Kit::open(dir.path());
    kit.left().await;
    for number in 0..1000 {
        kit.journal.write(begin(&format!("run {number}")));
    }
    kit.journal.recorded().await;
    assert!(kit.metric("crihook_journal_commits_total") < 200);
    let counted = ["writes_total", "pending", "errors_total", "dropped_total"];
    assert_eq!(counted.map(|name| kit.metric(&format!("crihook_journal_{name}"))), [1000, 0, 0, 0]);
    until(|| kit.journal.health().runs == 1000).await;
    assert_eq!(kit.metric("crihook_journal_runs"), 1000);
}

#[tokio::test]
async fn the_log_is_copied_into_the_file_when_nobody_writes() {
    let dir = tempfile::tempdir().unwrap();
    let mut kit = Kit::open(dir.path());
    kit.left().await;
    kit.write(whole("a", Outcome::Failed)).await;
    let copy = dir.path().join("copy.db");
    until(|| {
        std::fs::copy(dir.path().join("journal.db"), &copy).unwrap();
        let copy = rusqlite::Connection::open(&copy).unwrap();
        copy.query_row("SELECT count(*) FROM runs", [], |row| row.get::<_, u64>(0)).is_ok_and(|runs| runs == 1)
    })
    .await;
}
