//! The journal's file: opened, looked after, set aside.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rusqlite::{Connection, OpenFlags};

use super::schema::{STEPS, migrate, refuse_newer};
use super::trouble::Trouble;

/// How long a commit waits for another process's.
const BUSY: Duration = Duration::from_secs(5);
/// Of each connection, in KiB.
const CACHE: i64 = 2048;
/// The log's bytes that stay: what is there already is written faster.
const LOG: i64 = 16 << 20;
/// Damaged files that are kept.
const KEPT: usize = 3;

/// The file, open for writing.
pub(super) struct Disk {
    pub(super) db: Connection,
    path: PathBuf,
    identity: Identity,
}

/// What tells a file from all others: its device, and its number there.
type Identity = (u64, u64);

fn identity(path: &Path) -> io::Result<Identity> {
    fs::metadata(path).map(|found| (found.dev(), found.ino()))
}

impl Disk {
    /// Opens the file, makes it if it is missing, and brings it up to date. A directory that is missing is made, too.
    pub(super) fn open(path: &Path) -> Result<Self, Trouble> {
        // SQLite would make it for all to read. What it makes beside it has the same mode. A file that is there is not opened here: were a handle of
        // it closed that is not SQLite's, every lock of this process on it would be gone (POSIX's rule for fcntl's locks).
        match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error.into()),
            _ => {}
        }
        let identity = identity(path)?;
        let mut db = Connection::open_with_flags(
            path,
            OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_URI,
        )?;
        db.busy_timeout(BUSY)?;
        // Before anything is changed.
        refuse_newer(&db, STEPS)?;
        db.pragma_update(None, "cache_size", -CACHE)?;
        // Before there is a table, or never.
        db.pragma_update(None, "auto_vacuum", "INCREMENTAL")?;
        let mode: String = db.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get(0))?;
        if mode != "wal" {
            return Err(Trouble::Other(format!("the file system cannot have a write-ahead log (it is `{mode}`)")));
        }
        db.pragma_update(None, "synchronous", "FULL")?;
        // A commit that somebody waits for is no time to copy the log into the file.
        db.pragma_update(None, "wal_autocheckpoint", 0)?;
        // What a burst has made of the log goes again.
        db.pragma_update(None, "journal_size_limit", LOG)?;
        migrate(&mut db, STEPS)?;
        Ok(Self { db, path: path.to_owned(), identity })
    }

    /// Whether what is at the path is still what was opened.
    pub(super) fn stands(&self) -> bool {
        identity(&self.path).is_ok_and(|found| found == self.identity)
    }

    /// The pages of the log that are not in the file yet. The log itself says nothing of it: it is written from its beginning again
    /// once all of it is copied.
    pub(super) fn uncopied(&self) -> rusqlite::Result<u64> {
        let counts = |row: &rusqlite::Row<'_>| Ok((row.get::<_, i64>(1)?, row.get::<_, i64>(2)?));
        let (log, copied) = self.db.prepare_cached("PRAGMA wal_checkpoint(NOOP)")?.query_row([], counts)?;
        Ok(u64::try_from(log - copied).unwrap_or(0))
    }

    /// The bytes of the file and its log.
    pub(super) fn bytes(&self) -> u64 {
        let length = |part| fs::metadata(beside(&self.path, part)).map_or(0, |found| found.len());
        length("") + length("-wal")
    }

    /// Copies the log into the file; with `whole`, and nobody reading, the log is empty afterwards.
    pub(super) fn checkpoint(&self, whole: bool) -> rusqlite::Result<()> {
        let how = if whole { "PRAGMA wal_checkpoint(TRUNCATE)" } else { "PRAGMA wal_checkpoint(PASSIVE)" };
        self.db.query_row(how, [], |_| Ok(()))
    }
}

/// Makes the directory for crihook alone, unless it is there.
pub(super) fn make_directory(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Moves a damaged file out of the way, with its log. Gives its new name.
pub(super) fn set_aside(path: &Path) -> io::Result<PathBuf> {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let aside = beside(path, &format!(".damaged-{}.{:09}", now.as_secs(), now.subsec_nanos()));
    // The log first: should crihook die here, nobody takes it for that of a new file.
    for part in ["-wal", "-shm", ""] {
        match fs::rename(beside(path, part), beside(&aside, part)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    forget_older(path);
    Ok(aside)
}

/// Only so many damaged files are kept.
fn forget_older(path: &Path) {
    let prefix = beside(path, ".damaged-");
    let Some(entries) = path.parent().and_then(|directory| fs::read_dir(directory).ok()) else { return };
    let is_aside = |path: &PathBuf| {
        let path = path.to_string_lossy();
        path.starts_with(&*prefix.to_string_lossy()) && !path.ends_with("-wal") && !path.ends_with("-shm")
    };
    let mut aside: Vec<_> = entries.filter_map(|entry| entry.ok().map(|entry| entry.path())).filter(is_aside).collect();
    aside.sort_unstable();
    let old = aside.len().saturating_sub(KEPT);
    for path in aside.into_iter().take(old) {
        for part in ["", "-wal", "-shm"] {
            let _ = fs::remove_file(beside(&path, part));
        }
    }
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn nobody_else_can_read_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal.db");
        let disk = Disk::open(&path).unwrap();
        disk.db.execute("INSERT INTO done VALUES ('s', 'p', 'p', 'h', 1)", []).unwrap();
        for part in ["", "-wal", "-shm"] {
            let mode = fs::metadata(beside(&path, part)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{part}");
        }
    }

    #[test]
    fn of_damaged_files_the_last_three_are_kept() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal.db");
        for number in 0..5 {
            fs::write(&path, number.to_string()).unwrap();
            set_aside(&path).unwrap();
        }
        let kept = fs::read_dir(dir.path()).unwrap().map(|entry| fs::read_to_string(entry.unwrap().path()).unwrap());
        let mut kept: Vec<_> = kept.collect();
        kept.sort_unstable();
        assert_eq!(kept, ["2", "3", "4"]);
    }
}
