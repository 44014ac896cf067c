//! The sockets that crihook is reached by, and the lock of the state directory: bound, or taken over from another process, and lent to one.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::time::sleep;

use super::upgrade::passage::{ACTIVATED, ADMIN, CRI, METRICS, STATE};
use super::upgrade::predecessor::Inherited;
use crate::admin::{Accept, Admin};
use crate::config::{Config, Endpoint};
use crate::drain::Drain;
use crate::proxy::{ListenError, Listener};

/// How often a metrics address that is in use is tried again.
const REBIND_EVERY: Duration = Duration::from_secs(5);

/// The socket of the metrics address, which may be had later than the others.
pub(super) type Metrics = Arc<OnceLock<TcpListener>>;

pub(super) struct Sockets {
    pub cri: Listener,
    pub metrics: Metrics,
    pub admin: Option<Listener>,
    /// The lock of the state directory, if this process holds one.
    pub state: Option<OwnedFd>,
    /// What was taken over.
    pub taken: Vec<&'static str>,
}

impl Sockets {
    /// Takes over what was inherited and is where `config` wants it, and binds the rest. Only the CRI socket must be had; what systemd has
    /// bound is where `config` says afterwards.
    pub fn open(config: &mut Config, inherited: Inherited) -> Result<Self, ListenError> {
        if let Some(trouble) = &inherited.trouble {
            tracing::error!("{trouble}; binding {} instead", config.listen);
        }
        let Inherited { cri, activated, metrics, admin, state, .. } = inherited;
        let mut taken = Vec::new();
        let cri = match cri.and_then(|socket| adopt(socket, !activated, &config.listen)) {
            Some(listener) => {
                taken.push(if activated { ACTIVATED } else { CRI });
                if let Some(at) = listener.path().to_str().and_then(|path| path.parse().ok()) {
                    config.listen = at;
                }
                listener
            }
            None => Listener::bind(config.listen.path())?,
        };
        let is_it = |socket: &TcpListener| socket.local_addr().is_ok_and(|at| is_within(at, config.metrics_addr));
        let metrics = match metrics.filter(is_it) {
            Some(socket) => {
                taken.push(METRICS);
                Some(socket)
            }
            None => bind_metrics(config.metrics_addr),
        };
        let admin = match admin.and_then(|socket| adopt(socket, true, &config.admin_socket)) {
            Some(listener) => {
                taken.push(ADMIN);
                Some(listener)
            }
            None => bind_admin(config.admin_socket.path()),
        };
        taken.extend(state.is_some().then_some(STATE));
        Ok(Self { cri, metrics: Arc::new(metrics.map(OnceLock::from).unwrap_or_default()), admin, state, taken })
    }

    /// Copies of all, to be given to another process.
    pub fn copies(&self) -> io::Result<Vec<(&'static str, OwnedFd)>> {
        let cri = if self.cri.owns_file() { CRI } else { ACTIVATED };
        let mut copies = vec![(cri, OwnedFd::from(self.cri.handle()?))];
        if let Some(metrics) = self.metrics.get() {
            copies.push((METRICS, metrics.try_clone()?.into()));
        }
        if let Some(admin) = &self.admin {
            copies.push((ADMIN, admin.handle()?.into()));
        }
        if let Some(state) = &self.state {
            copies.push((STATE, state.try_clone()?));
        }
        Ok(copies)
    }

    /// The files of what another process has `taken` are that one's, or with an empty list, this one's again.
    pub fn lend(&mut self, taken: &[String]) {
        let is_taken = |name: &str| taken.iter().any(|taken| taken == name);
        self.cri.lend(is_taken(CRI) || is_taken(ACTIVATED));
        if let Some(admin) = &mut self.admin {
            admin.lend(is_taken(ADMIN));
        }
    }

    /// Closes this process's own copies of the sockets that calls and commands come by.
    pub fn close(&mut self) {
        self.cri.close();
        if let Some(admin) = &mut self.admin {
            admin.close();
        }
    }
}

/// The socket, if clients that dial `at` come by it. With a file that is not crihook's affair, `at` is not, either.
fn adopt(socket: UnixListener, owned: bool, at: &Endpoint) -> Option<Listener> {
    let listener =
        Listener::adopt(socket, owned).inspect_err(|error| tracing::warn!("not taken over: {error}")).ok()?;
    let there = !owned || (listener.owns_file() && at.is_at(listener.path()));
    there.then_some(listener)
}

/// Whether what listens at `at` is what was asked for, which may be any port.
fn is_within(at: SocketAddr, asked: SocketAddr) -> bool {
    at.ip() == asked.ip() && (asked.port() == 0 || at.port() == asked.port())
}

fn bind_metrics(at: SocketAddr) -> Option<TcpListener> {
    let say = |error: &io::Error| {
        tracing::error!(
            "cannot serve metrics on {at}: {error}; serving calls without, and trying again every {REBIND_EVERY:?}"
        );
    };
    listen(at).inspect_err(say).ok()
}

fn listen(at: SocketAddr) -> io::Result<TcpListener> {
    let socket = TcpListener::bind(at)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

fn bind_admin(path: &Path) -> Option<Listener> {
    Listener::bind(path).inspect_err(|error| tracing::warn!("no admin socket: {error}")).ok()
}

/// Serves the metrics address, as soon as it can be had.
pub(super) async fn serve_metrics(admin: Admin, socket: Metrics, at: SocketAddr, drain: Drain) {
    while socket.get().is_none() {
        sleep(REBIND_EVERY).await;
        if let Ok(bound) = listen(at) {
            // Nobody else sets it.
            let _ = socket.set(bound);
        }
    }
    let Some(Ok(listener)) = socket.get().map(TcpListener::try_clone) else { return };
    tracing::info!(addr = listener.local_addr().ok().map(tracing::field::display), "metrics");
    serve(admin, tokio::net::TcpListener::from_std(listener), drain).await;
}

/// Serves the admin socket.
pub(super) async fn serve_admin(admin: Admin, socket: UnixListener, drain: Drain) {
    serve(admin, tokio::net::UnixListener::from_std(socket), drain).await;
}

/// Accepts as long as no other process does.
async fn serve(admin: Admin, listener: io::Result<impl Accept>, drain: Drain) {
    let listener = match listener {
        Ok(listener) => listener,
        Err(error) => return tracing::error!("the metrics address or the admin socket cannot be served: {error}"),
    };
    while drain.ours().await {
        tokio::select! {
            () = admin.clone().serve(&listener) => {}
            () = drain.lent() => {}
        }
    }
}
