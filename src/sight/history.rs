//! The pod's own hooks, in the history of runs.
//!
//! A run of these is written down whole, from its beginning to its end, when it has ended. So nothing is ever left of it that another process would go on
//! with: the kubelet runs them, and crihook has only seen them pass.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::metrics::Ran;
use crate::clock::Moment;
use crate::cri::Code;
use crate::cri::v1::ExecSyncResponse;
use crate::journal::{AttemptRecord, AttemptResult, Entry, Journal, NATIVE, NewRun, POD};
use crate::lifecycle::{Container, Event, Outcome, Pod, Point};

/// What is kept of each of a command's outputs, in bytes: as much as of hooks'.
const OUTPUT: usize = 64 << 10;

/// A hook of a pod that has ended.
#[derive(Debug)]
pub(super) struct Native {
    pub point: Point,
    pub took: Duration,
    /// How the call ended.
    pub code: Code,
    /// What it was answered, if it was.
    pub answer: Option<ExecSyncResponse>,
}

impl Native {
    pub fn ran(&self) -> Ran {
        match &self.answer {
            Some(answer) if answer.exit_code == 0 => Ran::Succeeded,
            Some(_) => Ran::Failed,
            None => Ran::Error,
        }
    }

    fn outcome(&self) -> (Outcome, AttemptResult, Option<String>) {
        match &self.answer {
            Some(answer) if answer.exit_code == 0 => (Outcome::Succeeded, AttemptResult::Succeeded, None),
            Some(answer) => (Outcome::Failed, AttemptResult::Failed, Some(format!("exit code {}", answer.exit_code))),
            None if self.code == Code::CANCELED => {
                let why = "the kubelet waits for it no more".to_owned();
                (Outcome::Cancelled, AttemptResult::Cancelled, Some(why))
            }
            None => {
                let why = format!("the runtime did not run it: {}", self.code.name());
                (Outcome::Failed, AttemptResult::Failed, Some(why))
            }
        }
    }

    /// Writes it down, and gives the id of the run. What it printed is kept only if `output` is wanted.
    pub fn write(
        &self,
        journal: &dyn Journal,
        began: Moment,
        whose: (Arc<Pod>, Arc<Container>),
        output: bool,
    ) -> Arc<str> {
        let (pod, container) = whose;
        let (outcome, result, reason) = self.outcome();
        let id: Arc<str> = uuid::Uuid::now_v7().to_string().into();
        let at = began.wall;
        let kept = |output: fn(&ExecSyncResponse) -> &[u8], wanted: bool| {
            let printed = self.answer.as_ref().filter(|_| wanted).map(output).unwrap_or_default();
            String::from_utf8_lossy(&printed[printed.len().saturating_sub(OUTPUT)..]).into_owned()
        };
        let attempt = AttemptRecord {
            number: 1,
            started_at: at,
            duration: self.took,
            result,
            message: reason.clone(),
            exit_code: self.answer.as_ref().map(|answer| answer.exit_code),
            http_status: None,
            stdout: kept(|answer| &answer.stdout, output),
            stderr: kept(|answer| &answer.stderr, output),
            body: String::new(),
        };
        let run = NewRun {
            id: Arc::clone(&id),
            policy: POD.into(),
            hook: if self.point == Point::PRE_STOP { "preStop" } else { "postStart" }.into(),
            handler: "exec".into(),
            mode: NATIVE.into(),
            event: Arc::new(Event {
                point: self.point,
                pod,
                container: Some(container),
                grace: None,
                at: began,
                trace: None,
            }),
            once: false,
            replay_of: None,
            created_at: at,
        };
        let run = Arc::new(run);
        journal.write(Entry::Begin { run, intended: false });
        journal.write(Entry::Start { id: Arc::clone(&id), number: 1, at });
        journal.write(Entry::Attempt { id: Arc::clone(&id), attempt });
        let at = ended(at, self.took);
        journal.write(Entry::End { id: Arc::clone(&id), at, outcome, reason });
        id
    }
}

/// A time beyond the end of all times is as good as none.
fn ended(at: SystemTime, took: Duration) -> SystemTime {
    at.checked_add(took).unwrap_or(at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::Run;
    use crate::journal::testing::Recorded;

    fn written(code: Code, answer: Option<ExecSyncResponse>, output: bool) -> Run {
        let journal = Recorded::default();
        let native = Native { point: Point::PRE_STOP, took: Duration::from_millis(1500), code, answer };
        let pod = Pod { name: "web-0".into(), namespace: "payments".into(), ..Pod::default() };
        let container = Container { id: "c1".into(), name: "main".into(), ..Container::default() };
        let began = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000);
        native.write(&journal, began.into(), (Arc::new(pod), Arc::new(container)), output);
        journal.all().remove(0)
    }

    fn answer(exit_code: i32) -> ExecSyncResponse {
        ExecSyncResponse { stdout: vec![b'x'; OUTPUT + 1], stderr: b"oh".to_vec(), exit_code }
    }

    #[test]
    fn it_is_a_run_of_the_pod_that_has_ended() {
        let run = written(Code::OK, Some(answer(0)), false);
        assert_eq!((&*run.policy, &*run.hook, &*run.mode, &*run.handler), ("(pod)", "preStop", "Native", "exec"));
        assert_eq!((&*run.namespace, &*run.pod, run.container.as_deref()), ("payments", "web-0", Some("main")));
        assert_eq!(run.outcome, Some(Outcome::Succeeded));
        let took = run.ended_at.unwrap().duration_since(run.started_at.unwrap()).unwrap();
        let [attempt] = &run.attempts.unwrap()[..] else { panic!("one attempt") };
        assert_eq!((took, attempt.duration, attempt.exit_code), (Duration::from_millis(1500), took, Some(0)));
    }

    #[test]
    fn output_is_kept_only_where_it_is_wanted_and_only_its_end() {
        let attempt = |output| written(Code::OK, Some(answer(3)), output).attempts.unwrap().remove(0);
        assert_eq!((attempt(false).stdout.len(), attempt(false).stderr.len()), (0, 0));
        assert_eq!((attempt(true).stdout.len(), &*attempt(true).stderr), (OUTPUT, "oh"));
    }

    #[test]
    fn why_it_failed_is_said() {
        let told = |code, answer| {
            let run = written(code, answer, false);
            format!("{}: {}", run.outcome.unwrap().name(), run.reason.unwrap_or_default())
        };
        assert_eq!(told(Code::OK, Some(answer(3))), "failed: exit code 3");
        assert_eq!(told(Code::UNKNOWN, None), "failed: the runtime did not run it: Unknown");
        assert_eq!(told(Code::CANCELED, None), "cancelled: the kubelet waits for it no more");
    }
}
