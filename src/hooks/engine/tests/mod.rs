//! The engine in paused time, with scripted handlers.

mod adopted;
mod background;
mod blocking;
mod breakers;
mod crowd;
mod once;
mod promises;
mod reload;
mod told;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::SystemTime;

use prometheus::Registry;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::*;
use crate::clock::Moment;
use crate::drain::Drain;
use crate::hooks::handler::{Delivery, Evidence, Failing, Failure};
use crate::hooks::matcher::Selector;
use crate::hooks::metrics::HookMetrics;
use crate::hooks::pause::Pause;
use crate::hooks::policy::{Action, FailurePolicy, Mode, Policy, Retries, Webhook, WebhookUrl};
use crate::hooks::{Boxed, ExecError, Executed, Runtime};
use crate::journal::Journal;
use crate::journal::testing::Recorded;
use crate::lifecycle::{Address, Container, Pod};
use crate::trace::Tracer;

type Attempt = Boxed<'static, Result<Evidence, Failure>>;
type Script = Arc<dyn Fn(Delivery) -> Attempt + Send + Sync>;

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// A blocking hook at `PreStop`: 10 s, one attempt, `Ignore`.
fn hook(name: &str) -> Hook {
    Hook {
        policy: "p".into(),
        name: name.into(),
        point: Point::PRE_STOP,
        action: Action::Exec(Vec::new()),
        timeout: secs(10),
        retries: Retries { attempts: 1, backoff: millis(200), max_backoff: secs(5) },
        mode: Mode::Blocking,
        failure_policy: FailurePolicy::Ignore,
    }
}

/// The same in the background, at `PostStart`.
fn background(name: &str) -> Hook {
    Hook { mode: Mode::Background, point: Point::POST_START, ..hook(name) }
}

fn fail(hook: Hook) -> Hook {
    Hook { failure_policy: FailurePolicy::Fail, ..hook }
}

fn attempts(attempts: u32, hook: Hook) -> Hook {
    Hook { retries: Retries { attempts, ..hook.retries }, ..hook }
}

/// A hook that goes to a server, and so has a breaker.
fn to_server(hook: Hook) -> Hook {
    let url = WebhookUrl::Unix {
        socket: PathBuf::from("/run/server.sock"),
        path: crate::hooks::policy::Template::parse("/").unwrap(),
    };
    Hook {
        action: Action::Webhook(Webhook { url, headers: Vec::new(), tls: crate::hooks::policy::Tls::default() }),
        ..hook
    }
}

fn failure(kind: Failing, message: &str) -> Failure {
    Failure { kind, message: message.into(), evidence: Evidence::default() }
}

/// Succeeds after a time, or at its deadline fails.
fn takes(time: Duration) -> Script {
    Arc::new(move |delivery| {
        Box::pin(async move {
            tokio::time::timeout_at(delivery.deadline, tokio::time::sleep(time))
                .await
                .map(|()| Evidence::default())
                .map_err(|_| failure(Failing::TimedOut, "timed out"))
        })
    })
}

fn fails(kind: Failing, message: &'static str) -> Script {
    Arc::new(move |_| Box::pin(std::future::ready(Err(failure(kind, message)))))
}

/// Fails until the attempt of that number.
fn succeeds_at(attempt: u32) -> Script {
    Arc::new(move |delivery| {
        let result =
            if delivery.attempt < attempt { Err(failure(Failing::Failed, "not yet")) } else { Ok(Evidence::default()) };
        Box::pin(std::future::ready(result))
    })
}

/// Does not even keep to its deadline.
fn hangs() -> Script {
    Arc::new(|_| Box::pin(std::future::pending()))
}

/// The script that is in the box when the attempt begins.
fn changing(script: &Arc<Mutex<Script>>) -> Script {
    let script = Arc::clone(script);
    Arc::new(move |delivery| locked(&script)(delivery))
}

struct Scripted {
    script: Script,
    log: Arc<Log>,
}

/// What handlers saw.
#[derive(Default)]
struct Log {
    lines: Mutex<Vec<(String, Duration)>>,
    now: Mutex<usize>,
    most: Mutex<usize>,
}

struct Under(Arc<Log>, String, Instant);

impl Drop for Under {
    fn drop(&mut self) {
        *locked(&self.0.now) -= 1;
        locked(&self.0.lines).push((format!("-{}", self.1), self.2.elapsed()));
    }
}

impl Handler for Scripted {
    fn attempt(&self, delivery: Delivery) -> Boxed<'_, Result<Evidence, Failure>> {
        let name = delivery.hook.name.to_string();
        let container = delivery.event.container.as_ref().map_or("", |container| &container.id);
        locked(&self.log.lines).push((format!("+{name} {container}"), Duration::ZERO));
        *locked(&self.log.now) += 1;
        let most = (*locked(&self.log.now)).max(*locked(&self.log.most));
        *locked(&self.log.most) = most;
        let under = Under(Arc::clone(&self.log), format!("{name} {container}"), Instant::now());
        let attempt = (self.script)(delivery);
        Box::pin(async move {
            let _under = under;
            attempt.await
        })
    }
}

struct FakeRuntime;

impl Runtime for FakeRuntime {
    fn exec(&self, _: &str, _: &[String], _: Duration) -> Boxed<'_, Result<Executed, ExecError>> {
        Box::pin(std::future::ready(Err(ExecError::Runtime("not here".into()))))
    }

    fn address(&self, sandbox: &str) -> Boxed<'_, Result<Address, String>> {
        match sandbox {
            "hangs" => Box::pin(std::future::pending()),
            "fails" => Box::pin(std::future::ready(Err("no such sandbox".into()))),
            _ => Box::pin(std::future::ready(Ok(Address::Node))),
        }
    }
}

/// An engine with scripts by the names of hooks.
struct Kit {
    engine: Arc<Engine>,
    journal: Arc<Recorded>,
    registry: Registry,
    pause: Pause,
    drain: Drain,
    log: Arc<Log>,
    /// Seconds that the wall clock is off.
    jumped: Arc<Mutex<i64>>,
}

/// A clock whose wall clock jumps.
fn jumpy(jumped: &Arc<Mutex<i64>>) -> Clock {
    let jumped = Arc::clone(jumped);
    Clock::new(move || {
        let (now, by) = (Clock::system().now(), *locked(&jumped));
        let size = secs(by.unsigned_abs());
        Moment { wall: if by < 0 { now.wall - size } else { now.wall + size }, ..now }
    })
}

fn set(hooks: impl IntoIterator<Item = Hook>) -> PolicySet {
    let hooks = hooks.into_iter().map(Arc::new).collect();
    let policy = Policy { name: "p".into(), selector: Selector::default(), hooks, file: PathBuf::new(), line: 1 };
    PolicySet { policies: vec![Arc::new(policy)], hash: String::new() }
}

impl Kit {
    fn new(hooks: impl IntoIterator<Item = (Hook, Script)>) -> Self {
        Self::with(&Options::default(), hooks)
    }

    fn with(options: &Options, hooks: impl IntoIterator<Item = (Hook, Script)>) -> Self {
        let (hooks, scripts): (Vec<_>, Vec<_>) = hooks
            .into_iter()
            .map(|(hook, script)| {
                let name = hook.name.clone();
                (hook, (name, script))
            })
            .unzip();
        let scripts: HashMap<Arc<str>, Script> = scripts.into_iter().collect();
        let (journal, log) = (Arc::new(Recorded::default()), Arc::new(Log::default()));
        let (registry, drain, jumped) = (Registry::new(), Drain::default(), Arc::default());
        let metrics = HookMetrics::register(&registry).unwrap();
        let pause = Pause::open(&PathBuf::from("/nowhere"), crate::hooks::pause::register(&registry).unwrap());
        let seen = Arc::clone(&log);
        let build = move |hook: &Arc<Hook>| -> Result<Box<dyn Handler>, String> {
            let script = Arc::clone(scripts.get(&hook.name).ok_or("no script")?);
            Ok(Box::new(Scripted { script, log: Arc::clone(&seen) }))
        };
        let around = Surroundings {
            runtime: Arc::new(FakeRuntime),
            journal: Arc::clone(&journal) as Arc<dyn Journal>,
            metrics,
            pause: pause.clone(),
            clock: jumpy(&jumped),
            drain: drain.clone(),
            tracer: Tracer::default(),
        };
        let engine = Engine::new(options, around, build);
        engine.activate(set(hooks));
        Self { engine, journal, registry, pause, drain, log, jumped }
    }

    fn event(point: Point, container: &str) -> Event {
        let pod = Pod { namespace: "team-a".into(), name: "web-0".into(), sandbox_id: "s".into(), ..Pod::default() };
        let container = Container { id: container.into(), name: "main".into(), ..Container::default() };
        let (pod, container) = (Arc::new(pod), Some(Arc::new(container)));
        Event { point, pod, container, grace: None, at: Clock::system().now(), trace: None }
    }

    /// All hooks of that point, for a container.
    fn fire(&self, point: Point, container: &str, deadline: Option<Duration>) -> JoinHandle<Fired> {
        self.fire_event(Self::event(point, container), deadline, Repeat::Once)
    }

    fn fire_event(&self, event: Event, deadline: Option<Duration>, repeat: Repeat) -> JoinHandle<Fired> {
        let hooks = self.engine.active().plan(event.point, &event.pod, event.container.as_deref());
        let engine = Arc::clone(&self.engine);
        let deadline = deadline.map(|after| Instant::now() + after);
        tokio::spawn(async move { engine.fire(event, hooks, Limits { deadline, repeat }).await })
    }

    async fn stop(&self, deadline: Option<Duration>) -> Fired {
        self.fire(Point::PRE_STOP, "c", deadline).await.unwrap()
    }

    /// What handlers saw: `+hook container` at the beginning of an attempt, `-hook container` at its end.
    fn log(&self) -> Vec<String> {
        locked(&self.log.lines).iter().map(|(line, _)| line.clone()).collect()
    }

    fn begun(&self) -> Vec<String> {
        self.log().into_iter().filter_map(|line| line.strip_prefix('+').map(str::to_owned)).collect()
    }

    /// `hook outcome attempts reason`, the oldest first.
    fn runs(&self) -> Vec<String> {
        let runs = self.journal.all();
        let line = |run: &crate::journal::Run| {
            let outcome = run.outcome.map_or("-", Outcome::name);
            let reason = run.reason.as_ref().map(|reason| format!(" {reason}")).unwrap_or_default();
            format!("{} {outcome} {}{reason}", run.hook, run.attempts.as_ref().map_or(0, Vec::len))
        };
        runs.iter().map(line).collect()
    }

    /// Waits until nothing is queued or under way.
    async fn idle(&self) {
        let idle = async {
            while self.journal.all().iter().any(|run| run.outcome.is_none()) {
                tokio::time::sleep(millis(10)).await;
            }
            settle().await;
        };
        tokio::time::timeout(secs(86_400), idle).await.expect("all runs end within a day");
    }

    /// The lines of the exposition that contain all of `words`.
    fn metrics(&self, words: &[&str]) -> Vec<String> {
        let text = String::from_utf8(crate::metrics::render(&self.registry).unwrap()).unwrap();
        text.lines().filter(|line| words.iter().all(|word| line.contains(word))).map(str::to_owned).collect()
    }
}

/// Lets everything that can go on without time go on.
async fn settle() {
    for _ in 0..200 {
        tokio::task::yield_now().await;
    }
}
