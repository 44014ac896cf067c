//! The socket that the kubelet dials.

use std::fs::{self, Permissions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, chown};
use std::os::unix::net::UnixListener as StdListener;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, socket};
use nix::sys::stat::{Mode, umask};
use tokio::net::UnixListener;

use super::connection::{Shared, serve};
use super::heartbeat::Beats;

/// The longest path that fits a unix socket's address, its terminating zero aside.
const LONGEST: usize = 107;

/// Between two tries to accept when the system has no room.
const PAUSE: Duration = Duration::from_millis(100);

/// Why a socket cannot be listened on. Each message says what would be right.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// Somebody answers there.
    #[error("cannot listen on {0}: another process is serving there; stop it, or choose another path")]
    Live(PathBuf),
    /// It exists and is something else.
    #[error(
        "cannot listen on {0}: this is no socket, and crihook removes nothing but dead sockets; move it away, or choose another path"
    )]
    NotASocket(PathBuf),
    /// Its directory does not exist.
    #[error("cannot listen on {0}: the directory {1} does not exist; create it, or choose another path")]
    NoDirectory(PathBuf, PathBuf),
    /// It does not fit.
    #[error(
        "cannot listen on {0}: the path is {1} bytes long and a unix socket's address holds {LONGEST}; choose a shorter one"
    )]
    TooLong(PathBuf, usize),
    /// Anything else that the system says.
    #[error("cannot listen on {0}: {1}; choose a path in a directory that crihook may write to")]
    Io(PathBuf, #[source] io::Error),
}

/// A socket that is listened on. Dropped, it takes its file with it, if that is its own and nobody else has it.
#[derive(Debug)]
pub struct Listener {
    socket: Option<StdListener>,
    path: PathBuf,
    /// Of the file that is this socket's. `None`: the file is somebody else's affair.
    inode: Option<u64>,
    lent: bool,
}

impl Listener {
    /// Goes on with a socket that another process has bound. `owned` says whether its file is crihook's affair.
    ///
    /// # Errors
    /// Fails if it has no path.
    pub fn adopt(socket: StdListener, owned: bool) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        let address = socket.local_addr()?;
        let path = address.as_pathname().ok_or_else(|| io::Error::other("the socket has no path"))?.to_owned();
        let inode = fs::symlink_metadata(&path).ok().map(|found| found.ino()).filter(|_| owned);
        Ok(Self { socket: Some(socket), path, inode, lent: false })
    }

    /// Binds under umask 0177, so that there is no moment in which others could connect. A dead socket's file is replaced.
    ///
    /// # Errors
    /// See [`ListenError`]; nothing has been changed then.
    pub fn bind(path: &Path) -> Result<Self, ListenError> {
        let owned = || path.to_owned();
        let length = path.as_os_str().len();
        if length > LONGEST {
            return Err(ListenError::TooLong(owned(), length));
        }
        match fs::symlink_metadata(path) {
            Ok(found) if !found.file_type().is_socket() => return Err(ListenError::NotASocket(owned())),
            Ok(_) if is_live(path) => return Err(ListenError::Live(owned())),
            Ok(_) => fs::remove_file(path).map_err(|error| ListenError::Io(owned(), error))?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let directory = path.parent().unwrap_or(Path::new("/"));
                if !directory.exists() {
                    return Err(ListenError::NoDirectory(owned(), directory.to_owned()));
                }
            }
            Err(error) => return Err(ListenError::Io(owned(), error)),
        }
        let before = umask(Mode::from_bits_truncate(0o177));
        let bound = StdListener::bind(path);
        umask(before);
        let listener = |socket: StdListener| {
            socket.set_nonblocking(true)?;
            let inode = Some(fs::symlink_metadata(path)?.ino());
            Ok(Self { socket: Some(socket), path: owned(), inode, lent: false })
        };
        bound.and_then(listener).map_err(|error| ListenError::Io(owned(), error))
    }

    /// Its path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether its file is crihook's affair.
    #[must_use]
    pub fn owns_file(&self) -> bool {
        self.inode.is_some()
    }

    /// A handle of the socket: to accept on, or for another process.
    ///
    /// # Errors
    /// Fails without a descriptor to spare, and once it is closed.
    pub fn handle(&self) -> io::Result<StdListener> {
        self.socket.as_ref().ok_or(io::ErrorKind::NotConnected)?.try_clone()
    }

    /// Closes it. Where no other handle is left, clients are refused from now on, and do not wait in a queue that nobody looks at.
    pub fn close(&mut self) {
        self.socket = None;
    }

    /// While it is lent to another process, its file is that one's.
    pub fn lend(&mut self, lent: bool) {
        self.lent = lent;
    }

    /// Gives the socket's file the owner and mode of the runtime's, so that who may talk to the runtime may talk to
    /// crihook. True if that was there to be copied.
    ///
    /// # Errors
    /// Fails if this process may not change them.
    pub fn imitate(path: &Path, runtime: &Path) -> io::Result<bool> {
        let Ok(model) = fs::metadata(runtime) else { return Ok(false) };
        if !model.file_type().is_socket() {
            return Ok(false);
        }
        let own = fs::symlink_metadata(path)?;
        if (own.uid(), own.gid()) != (model.uid(), model.gid()) {
            chown(path, Some(model.uid()), Some(model.gid()))?;
        }
        fs::set_permissions(path, Permissions::from_mode(model.mode() & 0o777))?;
        Ok(true)
    }
}

/// Whether somebody listens there. A full queue, which a blocking connect would wait for, means that somebody does.
fn is_live(path: &Path) -> bool {
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let connected = socket(AddressFamily::Unix, SockType::Stream, flags, None)
        .and_then(|socket| connect(socket.as_raw_fd(), &UnixAddr::new(path)?));
    connected != Err(Errno::ECONNREFUSED)
}

impl Drop for Listener {
    fn drop(&mut self) {
        if !self.lent && fs::symlink_metadata(&self.path).is_ok_and(|found| Some(found.ino()) == self.inode) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Accepts clients as long as this process is to, and ends when it ends and their calls have. Runs on a [`tokio::runtime::LocalRuntime`].
///
/// # Errors
/// Fails if the socket cannot be used at all.
pub async fn run(socket: StdListener, shared: Shared, beats: Beats) -> io::Result<()> {
    tokio::task::spawn_local(beats.answer());
    let socket = UnixListener::from_std(socket)?;
    let shared = Rc::new(shared);
    let drain = shared.drain.clone();
    while drain.ours().await {
        accept(&socket, &shared).await;
    }
    drop(socket);
    drain.ending().cancelled().await;
    drain.finished().await;
    Ok(())
}

/// Accepts clients until a drain starts, which is theirs, too.
async fn accept(socket: &UnixListener, shared: &Rc<Shared>) {
    let draining = shared.drain.draining();
    let mut failing = false;
    loop {
        let accepted = tokio::select! {
            biased;
            () = draining.cancelled() => return,
            accepted = socket.accept() => accepted,
        };
        match accepted {
            Ok((client, _)) => {
                failing = false;
                tokio::task::spawn_local(serve(client, Rc::clone(shared), draining.clone()));
            }
            Err(error) => {
                // Out of descriptors or memory: the pending client stays in the queue, so trying at once would spin.
                if !failing {
                    tracing::error!("cannot accept clients of the CRI socket: {error}; trying every {PAUSE:?}");
                }
                failing = true;
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}
