//! Entries → rows. What is said here is the meaning of each [`Entry`] on disk.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rusqlite::{Connection, OptionalExtension, Result, params};

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
                let sql = "INSERT OR REPLACE INTO attempts (run, number, started_at) VALUES (?1, ?2, ?3)";
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
    let sql = "INSERT OR IGNORE INTO runs (id, owner, policy, hook, point, handler, mode, namespace, pod, subject, once, \
               replay_of, created_at, intended, started) \
               VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, 0)";
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
        run.subject(),
        run.once,
        run.replay_of.as_deref(),
        nanos(run.created_at),
        intended,
    ])?;
    concerns(db, &run.id, event)
}

fn confirm(db: &Connection, id: &str, event: &Event) -> Result<()> {
    let sql = "UPDATE runs SET intended = 0, subject = ?2 WHERE id = ?1";
    if db.prepare_cached(sql)?.execute(params![id, event.subject()])? > 0 {
        concerns(db, id, event)?;
    }
    Ok(())
}

/// Whom it happened to, as far as the event says.
fn concerns(db: &Connection, id: &str, event: &Event) -> Result<()> {
    let known = |id: &str| (!id.is_empty()).then(|| id.to_owned());
    let container = event.container.as_deref();
    let sql = "UPDATE runs SET container = ?2, container_id = ?3, sandbox_id = ?4 WHERE id = ?1";
    db.prepare_cached(sql)?.execute(params![
        id,
        container.map(|container| container.name.as_str()),
        container.and_then(|container| known(&container.id)),
        known(&event.pod.sandbox_id),
    ])?;
    let sql = "INSERT OR REPLACE INTO events (run, event) VALUES (?1, ?2)";
    db.prepare_cached(sql)?.execute(params![id, document(event)]).map(drop)
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
    let sql = "INSERT OR REPLACE INTO attempts \
               (run, number, started_at, duration, result, message, exit_code, http_status, stdout, stderr, body) \
               SELECT id, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11 FROM runs WHERE id = ?1";
    let text = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    db.prepare_cached(sql)?
        .execute(params![
            id,
            attempt.number,
            nanos(attempt.started_at),
            length(attempt.duration),
            attempt.result.name(),
            attempt.message,
            attempt.exit_code,
            attempt.http_status,
            text(&attempt.stdout),
            text(&attempt.stderr),
            text(&attempt.body),
        ])
        .map(drop)
}

/// Writes down that a run is over.
pub(super) fn end(db: &Connection, id: &str, at: SystemTime, outcome: Outcome, reason: Option<&str>) -> Result<()> {
    let sql = "UPDATE runs SET ended_at = ?2, outcome = ?3, reason = ?4, intended = 0 WHERE id = ?1 AND ended_at IS NULL \
               RETURNING once";
    let once = db
        .prepare_cached(sql)?
        .query_row(params![id, nanos(at), outcome.name(), reason], |row| row.get::<_, bool>(0))
        .optional()?;
    if once == Some(true) && outcome == Outcome::Succeeded {
        let sql = "INSERT OR IGNORE INTO done (subject, point, policy, hook, at) \
                   SELECT subject, point, policy, hook, ?2 FROM runs WHERE id = ?1";
        db.prepare_cached(sql)?.execute(params![id, nanos(at)])?;
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
