//! Whose the state directory and the runs are.
//!
//! `lock` says which crihook uses the directory; an upgrade's new process inherits it, so both hold it for a while. `owners/` has a file
//! for each of these processes, locked as long as it lives: a run whose owner's file is free, or gone, is left. Locks are flock(2)'s, which
//! the kernel takes back whatever a process dies of.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::trouble::Trouble;

/// The state directory as held by this crihook.
#[derive(Debug)]
pub(super) struct StateLock(File);

impl StateLock {
    /// Takes it, or goes on with the one that was inherited.
    pub(super) fn take(state_dir: &Path, inherited: Option<OwnedFd>) -> Result<Self, Trouble> {
        let path = state_dir.join("lock");
        let mut file = match inherited.map(File::from).filter(|file| is_at(file, &path)) {
            Some(file) => file,
            // Another directory's is of no use here.
            None => open(&path)?,
        };
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut pid = String::new();
                let _ = file.read_to_string(&mut pid);
                let pid = pid.trim();
                let who = if pid.is_empty() { String::new() } else { format!(" (process {pid})") };
                return Err(Trouble::Taken(who));
            }
            Err(TryLockError::Error(error)) => return Err(error.into()),
        }
        // For people; what counts is the lock.
        let _ = file.set_len(0).and_then(|()| file.rewind()).and_then(|()| writeln!(file, "{}", std::process::id()));
        Ok(Self(file))
    }

    /// Whether it is still the directory's: if that was made anew, others can have the new one's.
    pub(super) fn stands(&self, state_dir: &Path) -> bool {
        is_at(&self.0, &state_dir.join("lock"))
    }

    /// For a process that shares it.
    pub(super) fn share(&self) -> io::Result<OwnedFd> {
        self.0.try_clone().map(OwnedFd::from)
    }
}

/// This process, as the owner of runs.
#[derive(Debug)]
pub(super) struct Owner {
    name: String,
    directory: PathBuf,
    #[cfg_attr(not(test), expect(dead_code, reason = "held for its lock"))]
    locked: File,
}

/// The owners there are beside this one.
#[derive(Debug, Default)]
pub(super) struct Others {
    /// Alive.
    pub(super) alive: Vec<String>,
    /// Dead, each with its file, locked by this process now, so that no two go on with what it has left.
    pub(super) dead: Vec<(PathBuf, File)>,
}

impl Owner {
    /// This process, by a name that no other has.
    pub(super) fn new(state_dir: &Path, name: &str) -> io::Result<Self> {
        let directory = state_dir.join("owners");
        DirBuilder::new().recursive(true).mode(0o700).create(&directory)?;
        // Nobody looks at it before it is locked.
        let hidden = directory.join(format!(".{name}"));
        let file = open(&hidden)?;
        file.try_lock().map_err(io::Error::from)?;
        fs::rename(hidden, directory.join(name))?;
        Ok(Self { name: name.to_owned(), directory, locked: file })
    }

    /// Looks who else is there.
    pub(super) fn others(&self) -> io::Result<Others> {
        let mut others = Others::default();
        for entry in fs::read_dir(&self.directory)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if name == self.name || name.starts_with('.') {
                continue;
            }
            match File::open(entry.path()) {
                Ok(file) if file.try_lock().is_ok() => others.dead.push((entry.path(), file)),
                Ok(_) => others.alive.push(name),
                // It has just gone.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(others)
    }

    /// As a process that is killed: the lock goes, the file stays.
    #[cfg(test)]
    pub(super) fn die(self) {
        let _ = self.locked.unlock();
        std::mem::forget(self);
    }

    /// Whether its file is still there.
    pub(super) fn stands(&self) -> bool {
        self.directory.join(&self.name).exists()
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        let _ = fs::remove_file(self.directory.join(&self.name));
    }
}

fn is_at(file: &File, path: &Path) -> bool {
    let inode = |found: fs::Metadata| (found.dev(), found.ino());
    matches!((file.metadata().map(inode), fs::metadata(path).map(inode)), (Ok(one), Ok(other)) if one == other)
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_has_one_crihook_and_those_that_it_shares_it_with() {
        let dir = tempfile::tempdir().unwrap();
        let first = StateLock::take(dir.path(), None).unwrap();
        let refused = StateLock::take(dir.path(), None).unwrap_err().tell(&dir.path().join("journal.db"));
        let pid = std::process::id();
        assert!(refused.contains(&format!("another crihook (process {pid}) uses")), "{refused}");
        let heir = StateLock::take(dir.path(), Some(first.share().unwrap())).unwrap();
        drop(first);
        StateLock::take(dir.path(), None).unwrap_err();
        drop(heir);
        let elsewhere = tempfile::tempdir().unwrap();
        let other = StateLock::take(elsewhere.path(), None).unwrap();
        StateLock::take(dir.path(), Some(other.share().unwrap())).unwrap();
        StateLock::take(dir.path(), None).unwrap();
    }

    #[test]
    fn an_owner_is_alive_until_its_lock_is_free() {
        let dir = tempfile::tempdir().unwrap();
        let (me, other) = (Owner::new(dir.path(), "me").unwrap(), Owner::new(dir.path(), "other").unwrap());
        let seen = me.others().unwrap();
        assert_eq!((seen.alive, seen.dead.len()), (vec![other.name.clone()], 0));
        other.die();
        let seen = me.others().unwrap();
        assert_eq!((seen.alive.len(), seen.dead.len()), (0, 1));
        assert!(me.stands());
    }
}
