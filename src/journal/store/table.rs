//! Entries → rows. What is said here is the meaning of each [`Entry`] on disk.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rusqlite::{Connection, OptionalExtension, Result, Row, params};

use crate::journal::{AttemptRecord, AttemptResult, Entry, NewRun};
use crate::lifecycle::{Event, LAST_APPLIED, Outcome, Pod};

/// Nanoseconds since 1970, as the file has times.
pub(super) fn nanos(time: SystemTime) -> i64 {
    time.duration_since(SystemTime::UNIX_EPOCH).map_or(0, length)
}

/// Nanoseconds.
pub(super) fn length(time: Duration) -> i64 {
    i64::try_from(time.as_nanos()).unwrap_or(i64::MAX)
}

/// Writes an entry down, as `owner`. What concerns a run that is not there changes nothing.
pub(super) fn write(db: &Connection, owner: &str, entry: &Entry) -> Result<()> {
    match entry {
        Entry::Begin { run, intended } => begin(db, owner, run, *intended),
        Entry::Confirm { id, event } => confirm(db, id, event),
        Entry::Retract { id } => {
            db.prepare_cached("DELETE FROM events WHERE run = ?1")?.execute([&**id])?;
            db.prepare_cached("DELETE FROM runs WHERE id = ?1")?.execute([&**id])?;
            Ok(())
        }
        Entry::Start { id, number, at } => {
            let sql = "UPDATE runs SET started = ?2, started_at = coalesce(started_at, ?3) WHERE id = ?1";
            if db.prepare_cached(sql)?.execute(params![&**id, number, nanos(*at)])? > 0 {
                let sql = "INSERT OR IGNORE INTO attempts (run, number, started_at) VALUES (?1, ?2, ?3)";
                db.prepare_cached(sql)?.execute(params![&**id, number, nanos(*at)])?;
            }
            Ok(())
        }
        Entry::Attempt { id, attempt } => self::attempt(db, id, attempt),
        Entry::End { id, at, outcome, reason } => end(db, id, *at, *outcome, reason.as_deref()),
        Entry::Forget { subject } => {
            db.prepare_cached("DELETE FROM done WHERE subject = ?1")?.execute([&**subject]).map(drop)
        }
    }
}

/// Writes a run down as it is when it begins, unless it is there already.
pub(super) fn begin(db: &Connection, owner: &str, run: &NewRun, intended: bool) -> Result<()> {
    let event = &run.event;
    let (container, container_id, sandbox_id) = concerned(event);
    let sql = "INSERT OR IGNORE INTO runs (id, owner, policy, hook, point, handler, mode, namespace, pod, container, container_id, \
               sandbox_id, subject, once, replay_of, created_at, intended, started) \
               VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, 0)";
    db.prepare_cached(sql)?.execute(params![
        &*run.id,
        owner,
        &*run.policy,
        &*run.hook,
        event.point.name(),
        run.handler,
        run.mode,
        event.pod.namespace,
        event.pod.name,
        container,
        container_id,
        sandbox_id,
        run.subject(),
        run.once,
        run.replay_of.as_deref(),
        nanos(run.created_at),
        intended,
    ])?;
    let sql = "INSERT OR IGNORE INTO events (run, event) VALUES (?1, ?2)";
    db.prepare_cached(sql)?.execute(params![&*run.id, document(event)]).map(drop)
}

fn confirm(db: &Connection, id: &str, event: &Event) -> Result<()> {
    let (container, container_id, sandbox_id) = concerned(event);
    let sql =
        "UPDATE runs SET intended = 0, subject = ?2, container = ?3, container_id = ?4, sandbox_id = ?5 WHERE id = ?1";
    let run = params![id, event.subject(), container, container_id, sandbox_id];
    if db.prepare_cached(sql)?.execute(run)? > 0 {
        db.prepare_cached("UPDATE events SET event = ?2 WHERE run = ?1")?.execute(params![id, document(event)])?;
    }
    Ok(())
}

/// Whom it happened to, as far as the event says: the container's name and id, and the sandbox's id.
fn concerned(event: &Event) -> (Option<&str>, Option<&str>, Option<&str>) {
    let container = event.container.as_deref();
    let name = container.map(|container| container.name.as_str());
    (name, container.and_then(|container| said(&container.id)), said(&event.pod.sandbox_id))
}

fn said(text: &str) -> Option<&str> {
    (!text.is_empty()).then_some(text)
}

/// The event as it is kept.
fn document(event: &Event) -> String {
    let text = |event: &Event| serde_json::to_string(event).unwrap_or_default();
    if !event.pod.annotations.contains_key(LAST_APPLIED) {
        return text(event);
    }
    let mut pod = Pod::clone(&event.pod);
    pod.annotations.remove(LAST_APPLIED);
    text(&Event { pod: Arc::new(pod), ..event.clone() })
}

fn attempt(db: &Connection, id: &str, attempt: &AttemptRecord) -> Result<()> {
    let told = params![
        id,
        attempt.number,
        nanos(attempt.started_at),
        length(attempt.duration),
        attempt.result.name(),
        attempt.message,
        attempt.exit_code,
        attempt.http_status,
        said(&attempt.stdout),
        said(&attempt.stderr),
        said(&attempt.body),
    ];
    let sql = "UPDATE attempts SET started_at = ?3, duration = ?4, result = ?5, message = ?6, exit_code = ?7, \
               http_status = ?8, stdout = ?9, stderr = ?10, body = ?11 WHERE run = ?1 AND number = ?2";
    if db.prepare_cached(sql)?.execute(told)? == 0 {
        // Nobody has said that it begins: it is told of when it is over.
        let sql = "INSERT INTO attempts \
                   (run, number, started_at, duration, result, message, exit_code, http_status, stdout, stderr, body) \
                   SELECT id, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11 FROM runs WHERE id = ?1";
        db.prepare_cached(sql)?.execute(told)?;
    }
    Ok(())
}

/// Writes down that a run is over.
pub(super) fn end(db: &Connection, id: &str, at: SystemTime, outcome: Outcome, reason: Option<&str>) -> Result<()> {
    let sql =
        "UPDATE runs SET ended_at = ?2, outcome = ?3, reason = ?4, intended = 0 WHERE id = ?1 AND ended_at IS NULL";
    let ended = db.prepare_cached(sql)?.execute(params![id, nanos(at), outcome.name(), reason])?;
    if ended > 0 && outcome == Outcome::Succeeded {
        done(db, id, at)?;
    }
    Ok(())
}

/// Has it remembered that a run has succeeded, if it is not to be repeated.
fn done(db: &Connection, id: &str, at: SystemTime) -> Result<()> {
    // Read and then written: RETURNING, or INSERT from SELECT, would have SQLite keep a journal of the statement, at several times the price.
    let columns = |row: &Row<'_>| -> Result<[String; 4]> { Ok([row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?]) };
    let sql = "SELECT subject, point, policy, hook FROM runs WHERE id = ?1 AND once";
    if let Some([subject, point, policy, hook]) = db.prepare_cached(sql)?.query_row([id], columns).optional()? {
        let sql = "INSERT OR IGNORE INTO done (subject, point, policy, hook, at) VALUES (?1, ?2, ?3, ?4, ?5)";
        db.prepare_cached(sql)?.execute(params![subject, point, policy, hook, nanos(at)])?;
    }
    Ok(())
}

/// Makes the unended runs of the `dead` this `owner`'s. An attempt of theirs that has no result was interrupted.
pub(super) fn adopt(db: &Connection, owner: &str, dead: &[String]) -> Result<()> {
    for dead in dead {
        let sql = "UPDATE attempts SET result = ?2, duration = 0, message = ?3 \
                   WHERE result IS NULL AND run IN (SELECT id FROM runs WHERE owner = ?1 AND ended_at IS NULL)";
        let what = "crihook died in the middle of it; nobody knows what came of it";
        db.prepare_cached(sql)?.execute(params![dead, AttemptResult::Interrupted.name(), what])?;
        let sql = "UPDATE runs SET owner = ?2 WHERE owner = ?1 AND ended_at IS NULL";
        db.prepare_cached(sql)?.execute([dead.as_str(), owner])?;
    }
    Ok(())
}

/// The owners of unended runs.
pub(super) fn owners(db: &Connection) -> Result<Vec<String>> {
    let sql = "SELECT DISTINCT owner FROM runs WHERE ended_at IS NULL";
    db.prepare_cached(sql)?.query_map([], |row| row.get(0))?.collect()
}
