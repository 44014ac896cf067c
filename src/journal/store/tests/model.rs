//! A run's life against a model, with a crash at any step: what was safe is there afterwards, in the order in which it was written, and nothing
//! that was not written is.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

/// What may happen to one of a few runs.
#[derive(Debug, Clone)]
enum Step {
    Begin {
        run: usize,
        intended: bool,
    },
    Confirm(usize),
    Retract(usize),
    Start(usize),
    Attempt(usize, bool),
    End(usize, bool),
    Forget(usize),
    /// Everything before it is safe.
    Recorded,
    /// The process is killed, and another comes.
    Crash,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let run = 0..4_usize;
    let step = prop_oneof![
        4 => (run.clone(), any::<bool>()).prop_map(|(run, intended)| Step::Begin { run, intended }),
        2 => run.clone().prop_map(Step::Confirm),
        1 => run.clone().prop_map(Step::Retract),
        4 => run.clone().prop_map(Step::Start),
        4 => (run.clone(), any::<bool>()).prop_map(|(run, well)| Step::Attempt(run, well)),
        2 => (run.clone(), any::<bool>()).prop_map(|(run, well)| Step::End(run, well)),
        1 => run.prop_map(Step::Forget),
        2 => Just(Step::Recorded),
        1 => Just(Step::Crash),
    ];
    proptest::collection::vec(step, 1..40)
}

/// What a process hears of those before it: ids, whether they are intended, attempts begun, attempts that count; and what need not be done.
type Heard = (Vec<(String, bool, u32, u32)>, Vec<String>);

/// What has become of those that have ended.
type Ended = BTreeMap<usize, Outcome>;

/// A run as the model has it.
#[derive(Debug, Clone, Default, PartialEq)]
struct Known {
    intended: bool,
    started: u32,
    under_way: bool,
    failed: u32,
    ended: Option<Outcome>,
}

/// What the engine would know, so that only what it can write is written.
#[derive(Debug, Clone, Default, PartialEq)]
struct Model {
    runs: [Option<Known>; 4],
    done: [bool; 4],
}

impl Model {
    /// The entry of a step, if the step is possible, and what is true after it.
    fn take(&mut self, step: &Step) -> Option<Entry> {
        let name = |run: &usize| format!("run {run}");
        let open = |known: &Option<Known>| known.as_ref().is_some_and(|known| known.ended.is_none());
        match step {
            Step::Begin { run, intended } => {
                let known = &mut self.runs[*run];
                if known.is_some() {
                    return None;
                }
                *known = Some(Known { intended: *intended, ..Known::default() });
                Some(Entry::Begin { run: super::run(&name(run)), intended: *intended })
            }
            Step::Confirm(run) => {
                let known = self.runs[*run].as_mut().filter(|known| known.intended && known.ended.is_none())?;
                known.intended = false;
                let event = event(&format!("container of {}", name(run)));
                Some(Entry::Confirm { id: name(run).into(), event: Arc::new(event) })
            }
            Step::Retract(run) => {
                self.runs[*run].as_ref().filter(|known| known.intended && known.ended.is_none())?;
                self.runs[*run] = None;
                Some(Entry::Retract { id: name(run).into() })
            }
            Step::Start(run) => {
                let known = self.runs[*run].as_mut()?;
                if known.intended || known.under_way || known.ended.is_some() {
                    return None;
                }
                (known.started, known.under_way) = (known.started + 1, true);
                Some(start(&name(run), known.started))
            }
            Step::Attempt(run, well) => {
                let known = self.runs[*run].as_mut().filter(|known| known.under_way)?;
                (known.failed, known.under_way) = (known.failed + 1, false);
                let result = if *well { AttemptResult::Succeeded } else { AttemptResult::Failed };
                Some(attempt(&name(run), known.started, result))
            }
            Step::End(run, well) => {
                if !open(&self.runs[*run]) {
                    return None;
                }
                let known = self.runs[*run].as_mut()?;
                if known.under_way {
                    return None;
                }
                let outcome = if *well { Outcome::Succeeded } else { Outcome::Abandoned };
                (known.ended, known.intended) = (Some(outcome), false);
                self.done[*run] |= *well;
                Some(end(&name(run), outcome))
            }
            Step::Forget(run) => {
                self.done[*run] = false;
                Some(Entry::Forget { subject: format!("container of {}", name(run)).into() })
            }
            Step::Recorded | Step::Crash => None,
        }
    }

    /// What the next process hears.
    fn left(&self) -> Heard {
        let open = self.runs.iter().enumerate().filter_map(|(run, known)| Some((run, known.as_ref()?)));
        let mut runs: Vec<_> = open
            .filter(|(_, known)| known.ended.is_none())
            .map(|(run, known)| (format!("run {run}"), known.intended, known.started, known.failed))
            .collect();
        runs.sort();
        let done = (0..4).filter(|run| self.done[*run]).map(|run| format!("run {run}")).collect();
        (runs, done)
    }

    /// What has become of runs, by the numbers of theirs.
    fn ended(&self) -> Ended {
        let ended = self.runs.iter().enumerate().filter_map(|(run, known)| Some((run, known.as_ref()?.ended?)));
        ended.collect()
    }

    /// An attempt that a crash cuts is over, without having counted.
    fn crash(&mut self) {
        for known in self.runs.iter_mut().flatten() {
            known.under_way = false;
        }
    }
}

fn heard(left: &Left) -> Heard {
    let tell = |left: &LeftRun| (left.run.id.to_string(), left.intended, left.started, left.failed);
    let mut runs: Vec<_> = left.runs.iter().map(tell).collect();
    runs.sort();
    let mut done: Vec<_> = left.done.iter().map(|done| done.hook.to_string()).collect();
    done.sort();
    (runs, done)
}

impl Kit {
    /// As the history tells it.
    async fn ended(&self) -> Ended {
        let number = |run: &Run| run.hook.trim_start_matches("run ").parse().unwrap();
        let runs = self.runs(Filter::default()).await;
        runs.into_iter().filter_map(|run| Some((number(&run), run.outcome?))).collect()
    }
}

async fn play(steps: Vec<Step>) -> Result<(), TestCaseError> {
    let dir = tempfile::tempdir().unwrap();
    let mut kit = Kit::open(dir.path());
    kit.left().await;
    // What may be true after a crash now: what was safe, and each step after that.
    let mut possible = vec![Model::default()];
    for step in steps.into_iter().chain([Step::Recorded, Step::Crash]) {
        let mut now = possible.last().cloned().unwrap_or_default();
        match &step {
            Step::Recorded => {
                kit.journal.recorded().await;
                possible = vec![now];
            }
            Step::Crash => {
                kit.die().await;
                kit = Kit::open(dir.path());
                let heard = (heard(&kit.left().await), kit.ended().await);
                // Of those in which nothing is left open, what has ended tells which one it is.
                let found = possible.iter().find(|model| (model.left(), model.ended()) == heard).cloned();
                let Some(mut found) = found else {
                    let expected: Vec<_> = possible.iter().map(|model| (model.left(), model.ended())).collect();
                    return Err(TestCaseError::fail(format!("{heard:?} is none of {expected:?}")));
                };
                found.crash();
                possible = vec![found];
            }
            step => {
                if let Some(entry) = now.take(step) {
                    kit.journal.write(entry);
                    possible.push(now);
                }
            }
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn a_crash_at_any_step_loses_nothing_that_was_safe_and_invents_nothing(steps in steps()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(play(steps))?;
    }
}
