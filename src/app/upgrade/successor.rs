//! The old process's side: the process that is to take over.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as StdStream;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use super::passage::{self, New, Old};
use super::predecessor::UPGRADE_OF;
use super::program::Program;

/// What is said to one process only: see `sd_listen_fds(3)` and `sd_watchdog_enabled(3)`.
const NOT_INHERITED: [&str; 4] = ["LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "WATCHDOG_PID"];
/// How long a process may take to end that has said why it will.
const LAST_WORD: Duration = Duration::from_secs(5);

/// Why nobody took over.
#[derive(Debug, thiserror::Error)]
pub enum NotReady {
    /// There is no such process.
    #[error("cannot start {}: {source}", .path.display())]
    NotStarted {
        /// What was to be started.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// It said so.
    #[error("the new process refuses: {0}")]
    Refused(String),
    /// It did not say why.
    #[error("the new process ended before it was ready ({0}); what it said is in the log")]
    Ended(ExitStatus),
    /// It said nothing.
    #[error("the new process was not ready within {}, and was killed", humantime::format_duration(*.0))]
    Late(Duration),
    /// It cannot be spoken to.
    #[error("the new process cannot be reached: {0}")]
    Unreachable(#[from] io::Error),
}

/// What became of the process that has taken over.
#[derive(Debug)]
pub(super) enum Fate {
    /// Whatever it does now, there is nothing to be taken back.
    Released,
    /// It is gone, and why.
    Died(String),
}

/// A process that is to take over, or has.
pub(super) struct Successor {
    child: Child,
    from: Lines<BufReader<OwnedReadHalf>>,
    to: OwnedWriteHalf,
}

impl Successor {
    /// Starts `program`, and gives it these descriptors.
    pub fn start(program: &Program, pass: &[(&str, OwnedFd)]) -> Result<Self, NotReady> {
        let (here, there) = StdStream::pair()?;
        passage::pass(&here, pass)?;
        here.set_nonblocking(true)?;
        let mut command = Command::new(&program.path);
        command.args(&program.arguments).stdin(Stdio::from(OwnedFd::from(there)));
        for name in NOT_INHERITED {
            command.env_remove(name);
        }
        if sd_notify::watchdog_enabled().is_none() {
            // Without the process that it is meant for, it would be meant for any.
            command.env_remove("WATCHDOG_USEC");
        }
        let child = command.env(UPGRADE_OF, std::process::id().to_string()).spawn();
        // With it goes this process's copy of the other end, so that the new one's end is heard.
        drop(command);
        let child = child.map_err(|source| NotReady::NotStarted { path: program.path.clone(), source })?;
        let (from, to) = UnixStream::from_std(here)?.into_split();
        Ok(Self { child, from: BufReader::new(from).lines(), to })
    }

    /// Its process id, until it has been waited for.
    pub fn pid(&self) -> u32 {
        self.child.id().unwrap_or_default()
    }

    /// Waits until it could accept, and gives what it has taken. Otherwise it is gone afterwards.
    pub async fn ready(&mut self, limit: Duration) -> Result<Vec<String>, NotReady> {
        let heard = timeout(limit, async {
            loop {
                match self.hear().await {
                    Some(New::Ready(took)) => return Ok(took),
                    Some(New::Failed(why)) => return Err(NotReady::Refused(why)),
                    Some(New::Released) => {}
                    // It has closed its end, and may be anything that does not end.
                    None => return Err(NotReady::Ended(self.child.wait().await?)),
                }
            }
        });
        let heard = heard.await.unwrap_or(Err(NotReady::Late(limit)));
        if matches!(heard, Err(NotReady::Refused(_))) {
            let _ = timeout(LAST_WORD, self.child.wait()).await;
        }
        if heard.is_err() {
            self.kill().await;
        }
        heard
    }

    /// Ends it at once.
    pub async fn kill(&mut self) {
        if let Err(error) = self.child.kill().await {
            tracing::warn!("process {} cannot be killed: {error}", self.pid());
        }
    }

    /// Tells it to accept.
    pub async fn go(&mut self) -> io::Result<()> {
        self.to.write_all(&passage::line(&Old::Go)?).await
    }

    /// Waits until it is clear that nothing will be taken back, or that something has to be.
    pub async fn fate(&mut self) -> Fate {
        let mut why = None;
        loop {
            match self.hear().await {
                Some(New::Released) => return Fate::Released,
                Some(New::Failed(said)) => why = Some(said),
                Some(New::Ready(_)) => {}
                None => break,
            }
        }
        match self.child.wait().await {
            Ok(status) if status.success() => Fate::Released,
            Ok(status) => Fate::Died(why.unwrap_or_else(|| status.to_string())),
            Err(error) => Fate::Died(error.to_string()),
        }
    }

    /// What it says next; `None` once it can say nothing more.
    async fn hear(&mut self) -> Option<New> {
        while let Ok(Some(line)) = self.from.next_line().await {
            match serde_json::from_str(&line) {
                Ok(said) => return Some(said),
                Err(error) => tracing::debug!(%error, "the new process says something else: {line}"),
            }
        }
        None
    }
}
