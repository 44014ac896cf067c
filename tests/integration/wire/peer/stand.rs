//! Where a script plays: a directory with the sockets of both ends, which are one socket when nothing stands between them.
use std::fmt::Debug;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::probe::Probed;
use super::process::{self, Crihook, Flags};
use super::upstream;

/// Nothing here waits longer for anything; a script that hangs fails by it.
pub const PATIENCE: Duration = Duration::from_mins(1);

/// A directory, and in it perhaps a crihook.
pub struct Stand {
    dir: TempDir,
    /// Where the runtime listens.
    pub upstream: PathBuf,
    /// Where the client connects.
    pub front: PathBuf,
    crihook: Option<Crihook>,
    _probed: Option<Probed>,
}

fn directory() -> TempDir {
    // Short, since a unix address holds 108 bytes.
    tempfile::Builder::new().prefix("crihook-").tempdir_in("/tmp").expect("/tmp takes a directory")
}

impl Stand {
    /// Client and runtime meet directly.
    pub fn direct() -> Self {
        let dir = directory();
        let upstream = dir.path().join("runtime.sock");
        Self { front: upstream.clone(), upstream, dir, crihook: None, _probed: None }
    }

    /// A crihook stands between them.
    pub async fn through() -> Self {
        Self::through_with(|_, _| ()).await
    }

    /// As `through`, with other flags; what changes them gets the directory too.
    pub async fn through_with(change: impl FnOnce(&mut Flags, &Path)) -> Self {
        let stand = Self::empty();
        let mut flags = process::serve(stand.dir());
        change(&mut flags, stand.dir());
        // crihook asks the runtime for its version on a connection of its own. It finds a stand-in that goes on answering there,
        // so that the scripted runtime sees the client's calls and connections only.
        let listener = upstream::bind(&stand.upstream);
        let probed = Probed::start(listener, &stand.upstream);
        let (crihook, probed) = tokio::join!(Crihook::serving_as(flags.command()), probed);
        Self { crihook: Some(crihook), _probed: Some(probed), ..stand }
    }

    /// A directory for a crihook that the test starts itself.
    pub fn empty() -> Self {
        let dir = directory();
        let (upstream, front) = (dir.path().join("runtime.sock"), dir.path().join("front.sock"));
        Self { dir, upstream, front, crihook: None, _probed: None }
    }

    /// The directory.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The crihook of `through`.
    pub fn crihook(&self) -> &Crihook {
        self.crihook.as_ref().expect("this stand has a crihook")
    }

    /// As `crihook`, to wait for its end.
    pub fn crihook_mut(&mut self) -> &mut Crihook {
        self.crihook.as_mut().expect("this stand has a crihook")
    }
}

/// Runs a script directly and through crihook, asserts that it saw the same, and gives what it saw.
pub async fn same<R: PartialEq + Debug>(script: impl AsyncFn(&Stand) -> R) -> R {
    let stand = Stand::direct();
    let direct = within("the script without crihook", script(&stand)).await;
    let stand = Stand::through().await;
    let through = within("the script through crihook", script(&stand)).await;
    assert!(direct == through, "without crihook:\n{direct:#?}\nthrough crihook:\n{through:#?}");
    through
}

/// Waits for `what`, but not for ever.
pub async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    let waited = tokio::time::timeout(PATIENCE, future).await;
    waited.unwrap_or_else(|_| panic!("{what}: not within {PATIENCE:?}"))
}

/// Asks again until the answer is good; the last bad one is told when patience ends.
pub async fn until<T, E: Debug, F: Future<Output = Result<T, E>>>(what: &str, mut ask: impl FnMut() -> F) -> T {
    let start = Instant::now();
    loop {
        match ask().await {
            Ok(value) => return value,
            Err(why) => assert!(start.elapsed() < PATIENCE, "{what}: not within {PATIENCE:?}: {why:?}"),
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
