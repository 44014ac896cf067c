//! The new process's side: what it is given, by another crihook or by systemd, and what it says to the former.

use std::env;
use std::fmt::Display;
use std::fs::File;
use std::io::{self, Write};
use std::net::TcpListener;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;

use nix::unistd::{dup2_stdin, getppid};
use tokio::io::AsyncBufReadExt;

use super::passage::{self, ACTIVATED, ADMIN, CRI, METRICS, New, STATE};

/// The variable that tells a process whose successor it is: its parent's process id.
pub(super) const UPGRADE_OF: &str = "CRIHOOK_UPGRADE_OF";
/// The name that the CRI socket has among several of systemd's.
const NAME: &str = "cri";

/// The crihook that this one takes over from, if there is one. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Predecessor(Option<Arc<UnixStream>>);

/// What a process is given by the one that started it.
#[derive(Debug, Default)]
pub struct Inherited {
    pub(in crate::app) cri: Option<UnixListener>,
    /// The CRI socket's file is systemd's.
    pub(in crate::app) activated: bool,
    pub(in crate::app) metrics: Option<TcpListener>,
    pub(in crate::app) admin: Option<UnixListener>,
    /// The lock of the state directory.
    pub(in crate::app) state: Option<OwnedFd>,
    pub(in crate::app) predecessor: Predecessor,
    /// What could not be taken, and why.
    pub(in crate::app) trouble: Option<String>,
}

impl Inherited {
    /// Takes what there is. To be called before any thread is started, since it takes variables out of the environment.
    ///
    /// # Errors
    /// Fails if another crihook has begun to hand over, and cannot.
    pub fn take() -> io::Result<Self> {
        let of = env::var(UPGRADE_OF).ok().and_then(|pid| pid.parse().ok());
        if of == Some(getppid().as_raw()) { Self::of_crihook() } else { Ok(Self::of_systemd()) }
    }

    fn of_crihook() -> io::Result<Self> {
        let socket = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
        dup2_stdin(File::open("/dev/null")?)?;
        let mut inherited = Self::default();
        for (name, descriptor) in passage::take(&socket)? {
            match &*name {
                CRI => inherited.cri = Some(descriptor.into()),
                ACTIVATED => (inherited.cri, inherited.activated) = (Some(descriptor.into()), true),
                METRICS => inherited.metrics = Some(descriptor.into()),
                ADMIN => inherited.admin = Some(descriptor.into()),
                STATE => inherited.state = Some(descriptor),
                // Something of another version's.
                _ => {}
            }
        }
        inherited.predecessor = Predecessor(Some(Arc::new(socket)));
        Ok(inherited)
    }

    /// See `sd_listen_fds(3)`: one socket, or several of which one is named `cri`.
    fn of_systemd() -> Self {
        let names = env::var("LISTEN_FDNAMES").unwrap_or_default();
        let mut sockets = listenfd::ListenFd::from_env();
        let index = if sockets.len() == 1 { Some(0) } else { names.split(':').position(|name| name == NAME) };
        let mut inherited = Self::default();
        match index.map(|index| sockets.take_unix_listener(index)) {
            Some(Ok(socket)) => (inherited.activated, inherited.cri) = (socket.is_some(), socket),
            Some(Err(error)) => inherited.trouble = Some(format!("the socket of systemd is of no use: {error}")),
            None if sockets.len() == 0 => {}
            None => {
                let count = sockets.len();
                let trouble = format!("none of the {count} sockets of systemd has FileDescriptorName={NAME}");
                inherited.trouble = Some(trouble);
            }
        }
        inherited
    }

    /// Whom to tell what becomes of this process.
    #[must_use]
    pub fn predecessor(&self) -> Predecessor {
        self.predecessor.clone()
    }
}

impl Predecessor {
    /// Says why this process does not go on.
    pub fn refuse(&self, why: &impl Display) {
        self.say(&New::Failed(why.to_string()));
    }

    /// Says that this process could accept and has taken `took`, and waits for the word to do so; if the other one dies, that is the word, too.
    pub(in crate::app) async fn relieve(&self, took: &[&str]) -> io::Result<()> {
        let Some(socket) = &self.0 else { return Ok(()) };
        self.say(&New::Ready(took.iter().map(|name| (*name).to_owned()).collect()));
        socket.set_nonblocking(true)?;
        let socket = tokio::net::UnixStream::from_std(socket.try_clone()?)?;
        // It says nothing else.
        tokio::io::BufReader::new(socket).read_line(&mut String::new()).await.map(drop)
    }

    /// Says that nothing needs to be taken back, whatever becomes of this process.
    pub(in crate::app) fn release(&self) {
        self.say(&New::Released);
    }

    /// One that is gone needs to hear nothing.
    fn say(&self, message: &New) {
        if let Some(socket) = &self.0 {
            let mut socket: &UnixStream = socket;
            let _ = passage::say(&mut socket, message).and_then(|()| socket.flush());
        }
    }
}
