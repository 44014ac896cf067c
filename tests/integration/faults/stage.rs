//! A runtime that lives on, a server of hooks, and a crihook between them that is killed and started again.

use std::cell::{Cell, RefCell};
use std::fmt::Debug;
use std::time::Duration;

use crihook::sim::{Options, Runtime, serve};
use serde_json::json;
use tokio::net::UnixListener;
use tokio::task::JoinSet;
use tokio::time::sleep;
use tonic::Status;

use crate::hooks::cri::Cri;
use crate::hooks::node::Place;
use crate::hooks::server::{HookServer, Reply};
use crate::hooks::{plain, policy, webhook};
use crate::wire::peer::{Crihook, process};

/// How long the runtime keeps its answer to itself, so that a kill finds calls that are done and not answered.
const ANSWERED_AFTER: Duration = Duration::from_millis(8);
/// The longest that the server of hooks takes for an answer, in milliseconds.
const SERVER_TAKES: u64 = 40;
/// Between a failed call and the next; the kubelet's own is longer.
const BACKOFF: Duration = Duration::from_millis(15);

/// See the module. It belongs to one task.
pub struct Stage {
    pub runtime: Runtime,
    pub server: HookServer,
    flags: process::Flags,
    crihook: RefCell<Crihook>,
    cri: RefCell<Cri>,
    /// Which life of crihook this is, and whether it serves.
    life: Cell<(u64, bool)>,
    in_flight: Cell<usize>,
    /// Calls that failed for no reason that the test has given.
    pub failures: RefCell<Vec<String>>,
    _serving: JoinSet<()>,
    /// Last: a crihook that still runs would make its directory anew.
    pub place: Place,
}

/// What a kill has hit.
#[derive(Debug, Clone, Copy)]
pub struct Hit {
    /// Crihook was not serving yet.
    pub beginning: bool,
    /// Calls that crihook was asked for and had not answered.
    pub calls: usize,
    /// Requests at the server of hooks that it had not answered.
    pub runs: usize,
}

impl Stage {
    /// With a crihook that serves. `seed` decides how long the server of hooks takes.
    pub async fn open(seed: u64) -> Self {
        let place = Place::new();
        let dice = std::sync::Mutex::new(fastrand::Rng::with_seed(seed));
        let server = place.server("hook", move |_| {
            let wait = dice.lock().expect("no panic while it is held").u64(0..=SERVER_TAKES);
            Reply::Late(Duration::from_millis(wait))
        });
        place.write("a.yaml", &hooks(&server));
        let mut options = Options::default().record();
        for method in ["RunPodSandbox", "CreateContainer", "StartContainer", "StopContainer", "RemoveContainer"] {
            options = options.answer_late(method, ANSWERED_AFTER).expect("a method of CRI");
        }
        let runtime = Runtime::new(&options);
        let listener = UnixListener::bind(place.path("runtime.sock")).expect("a socket");
        let runs = serve(runtime.clone(), listener, std::future::pending());
        let mut serving = JoinSet::new();
        serving.spawn(async move { runs.await.expect("the runtime serves") });
        let flags = process::serve(&place.path(""));
        let crihook = RefCell::new(Crihook::spawn(flags.command()));
        let cri = RefCell::new(Cri::at(&place.path("front.sock")));
        let life = Cell::new((0, false));
        let (in_flight, failures) = (Cell::new(0), RefCell::default());
        let stage = Self { runtime, server, flags, crihook, cri, life, in_flight, failures, _serving: serving, place };
        stage.serves().await;
        stage.cri().pull().await;
        stage
    }

    /// Past crihook.
    pub fn direct(&self) -> Cri {
        Cri::at(&self.place.path("runtime.sock"))
    }

    /// Through the crihook of now.
    pub fn cri(&self) -> Cri {
        self.cri.borrow().clone()
    }

    /// Ends crihook without a word, and starts it again without waiting for it.
    pub fn kill(&self) -> Hit {
        let (life, serves) = self.life.get();
        let hit = Hit { beginning: !serves, calls: self.in_flight.get(), runs: self.server.open() };
        self.life.set((life + 1, false));
        let mut crihook = self.crihook.borrow_mut();
        crihook.kill();
        *crihook = Crihook::spawn(self.flags.command());
        hit
    }

    /// Waits until crihook serves.
    #[expect(clippy::await_holding_refcell_ref, reason = "nobody kills it while somebody waits for it")]
    pub async fn serves(&self) {
        self.crihook.borrow().said("serving").await;
        self.cri.replace(Cri::at(&self.place.path("front.sock")));
        self.life.set((self.life.get().0, true));
    }

    /// Makes a call. One that fails gives nothing, after a while; where no kill explains that, it is among the failures.
    pub async fn call<T>(&self, what: impl Debug, call: impl AsyncFnOnce(Cri) -> Result<T, Status>) -> Option<T> {
        let before = self.life.get();
        self.in_flight.set(self.in_flight.get() + 1);
        let answer = call(self.cri()).await;
        self.in_flight.set(self.in_flight.get() - 1);
        let status = match answer {
            Ok(answer) => return Some(answer),
            Err(status) => status,
        };
        if before == (self.life.get().0, true) {
            self.failures.borrow_mut().push(format!("{what:?}: {status:?}"));
        }
        sleep(BACKOFF).await;
        None
    }
}

/// Every point that follows a call of a pod's whole life, and the one before its end; in the background and blocking.
fn hooks(server: &HookServer) -> String {
    let blocking = json!({"mode": "Blocking"});
    let hooks = [
        ("pod-up", "PostRunPodSandbox", plain()),
        ("up", "PostStart", plain()),
        ("warm", "PostStart", blocking),
        ("drain", "PreStop", plain()),
        ("down", "PostStopContainer", plain()),
        ("removed", "PostRemoveContainer", plain()),
        ("pod-removed", "PostRemovePodSandbox", plain()),
    ];
    policy("everything", &hooks.map(|(name, point, more)| webhook(name, point, server, &more)))
}
