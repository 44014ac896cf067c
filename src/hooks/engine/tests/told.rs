//! What is told of runs, and what is not.

use std::io;

use bytes::Bytes;

use super::*;

#[tokio::test(start_paused = true)]
async fn those_who_watch_see_each_run_that_ends() {
    let kit = Kit::new([(attempts(2, hook("a")), fails(Failing::Failed, "exit code 3"))]);
    let (observer, mut seen) = mpsc::channel(1);
    kit.engine.observe(observer);
    kit.stop(None).await;
    kit.stop(None).await;
    let run = seen.recv().await.unwrap();
    assert_eq!((&*run.hook.name, run.outcome, run.attempts), ("a", Outcome::Failed, 2));
    assert!(seen.try_recv().is_err(), "there was room for one");
}

/// A place that a log is written to.
#[derive(Clone, Default)]
struct Page(Arc<Mutex<Vec<u8>>>);

impl io::Write for Page {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        locked(&self.0).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn a_failed_run_is_one_warning_with_whose_and_why_and_without_its_output() {
    let script: Script = Arc::new(|_| {
        let evidence = Evidence { stdout: Bytes::from_static(b"the password"), ..Evidence::default() };
        let failure = Failure { evidence, ..failure(Failing::Failed, "exit code 3") };
        Box::pin(std::future::ready(Err(failure)))
    });
    let page = Page::default();
    let writer = page.clone();
    let log = tracing_subscriber::fmt().json().with_writer(move || writer.clone()).finish();
    let _until_the_end = tracing::subscriber::set_default(log);
    let kit = Kit::new([(attempts(3, hook("a")), script), (hook("b"), takes(secs(1)))]);
    kit.stop(None).await;
    let text = String::from_utf8(locked(&page.0).clone()).unwrap();
    assert!(!text.contains("password"), "{text}");
    let lines: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let warnings: Vec<_> = lines.iter().filter(|line| line["level"] == "WARN").collect();
    let [warning] = warnings[..] else { panic!("{text}") };
    let fields = &warning["fields"];
    let told = ["policy", "hook", "point", "namespace", "pod", "container", "outcome", "reason"]
        .map(|key| fields[key].clone());
    assert_eq!(told, ["p", "a", "PreStopContainer", "team-a", "web-0", "main", "failed", "exit code 3"]);
    assert_eq!(kit.journal.all()[0].attempts.as_ref().unwrap()[2].stdout, "the password", "the journal has it");
}

#[tokio::test(start_paused = true)]
async fn endless_words_of_a_server_are_cut() {
    let script: Script =
        Arc::new(|_| Box::pin(std::future::ready(Err(failure(Failing::Rejected, &"é".repeat(1 << 20))))));
    let kit = Kit::new([(fail(hook("a")), script)]);
    assert_eq!(kit.stop(None).await.verdict.unwrap_err().cause.len(), 4096);
}
