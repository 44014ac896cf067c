//! Why the disk does not keep the journal, in words that say what would be right.

use std::io;
use std::path::Path;

use rusqlite::ErrorCode;

/// What is wrong.
#[derive(Debug)]
pub(super) enum Trouble {
    /// There is no room.
    Full,
    /// It cannot be written.
    ReadOnly,
    /// It is not what was written.
    Damaged(String),
    /// A later crihook has written it.
    Newer { found: usize, known: usize, by: Option<String> },
    /// Another process has the state directory.
    Taken(String),
    /// Another process writes at the moment.
    Busy,
    /// What the system says.
    Other(String),
}

impl Trouble {
    /// For people: what is wrong with the journal at `path`, and what would be right.
    pub(super) fn tell(&self, path: &Path) -> String {
        let at = path.display();
        match self {
            Self::Full => format!("no room is left for {at}; free some"),
            Self::ReadOnly => format!("{at} cannot be written; make the file system and the file writable for crihook"),
            Self::Damaged(what) => format!("{at} is damaged ({what})"),
            Self::Newer { found, known, by } => {
                let by = by.as_ref().map_or_else(
                    || "the crihook that wrote it".to_owned(),
                    |by| format!("crihook {by}, which wrote it"),
                );
                format!(
                    "{at} has version {found} and this crihook ({}) knows {known}: install {by}, or a later one, or move the file away",
                    env!("CARGO_PKG_VERSION")
                )
            }
            Self::Taken(who) => {
                let directory = path.parent().unwrap_or(path).display();
                format!("another crihook{who} uses {directory}; give each a --state-dir of its own")
            }
            Self::Busy => format!("another process keeps {at} locked"),
            Self::Other(what) => format!("{at}: {what}"),
        }
    }

    /// Whether another try soon may find it well.
    pub(super) const fn is_passing(&self) -> bool {
        !matches!(self, Self::Newer { .. })
    }
}

impl From<rusqlite::Error> for Trouble {
    fn from(error: rusqlite::Error) -> Self {
        let what = error.to_string();
        match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => Self::Full,
            Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied) => Self::ReadOnly,
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => Self::Damaged(what),
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Self::Busy,
            // The schema is there as a whole or not at all, so a table that is missing was lost.
            Some(ErrorCode::Unknown) if what.contains("no such table") || what.contains("no such column") => {
                Self::Damaged(what)
            }
            _ => Self::Other(what),
        }
    }
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::Full,
            io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied => Self::ReadOnly,
            _ => Self::Other(error.to_string()),
        }
    }
}
