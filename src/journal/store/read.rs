//! Rows → runs.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rusqlite::types::Value;
use rusqlite::{Connection, OpenFlags, OptionalExtension, Result, Row, params_from_iter};

use super::table::nanos;
use crate::journal::{AttemptRecord, AttemptResult, Done, Filter, LeftRun, NewRun, Run};
use crate::lifecycle::{Outcome, Point};

/// Opens what is there for reading alone.
pub(super) fn open(path: &Path) -> Result<Connection> {
    let db = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI)?;
    db.busy_timeout(Duration::from_secs(1))?;
    // In memory two connections share what they read: this one waits for no lock of the one that writes.
    db.pragma_update(None, "read_uncommitted", true)?;
    Ok(db)
}

const COLUMNS: &str = "id, policy, hook, point, handler, mode, namespace, pod, container, container_id, sandbox_id, \
                       replay_of, created_at, intended, started_at, ended_at, outcome, reason, started";

/// The runs that pass, the newest first.
pub(super) fn runs(db: &Connection, filter: &Filter) -> Result<Vec<Run>> {
    let (condition, values) = condition(filter);
    let limit = i64::try_from(filter.limit).unwrap_or(i64::MAX);
    let sql = format!("SELECT {COLUMNS} FROM runs WHERE {condition} ORDER BY created_at DESC, id DESC LIMIT {limit}");
    let mut runs = db.prepare(&sql)?.query_map(params_from_iter(values), run)?.collect::<Result<Vec<_>>>()?;
    if filter.attempts {
        for run in &mut runs {
            run.attempts = Some(attempts(db, &run.id)?);
        }
    }
    Ok(runs)
}

/// The runs that pass, of what `memory` holds and what `disk` tells of the time before; where both know a run, memory knows better.
pub(super) fn merged(memory: &Connection, disk: &Connection, filter: &Filter) -> Result<Vec<Run>> {
    let mut all = runs(memory, filter)?;
    for run in &mut all {
        if let Some(later) = &mut run.attempts {
            let mut whole = attempts(disk, &run.id)?;
            whole.retain(|early| later.iter().all(|attempt| attempt.number != early.number));
            whole.append(later);
            *later = whole;
        }
    }
    let mut known = memory.prepare("SELECT 1 FROM runs WHERE id = ?1")?;
    for run in runs(disk, filter)? {
        if !known.exists([&*run.id])? {
            all.push(run);
        }
    }
    all.sort_by(|a, b| b.created_at.cmp(&a.created_at).then_with(|| b.id.cmp(&a.id)));
    all.truncate(filter.limit);
    Ok(all)
}

fn condition(filter: &Filter) -> (String, Vec<Value>) {
    let mut all = vec!["1".to_owned()];
    let mut values = Vec::new();
    let mut and = |condition: &str, value: Value| {
        values.push(value);
        all.push(condition.replace('?', &format!("?{}", values.len())));
    };
    let text = |text: &str| Value::Text(text.to_owned());
    if let Some(id) = &filter.id {
        // Ids are hexadecimal; what else is asked for is nowhere.
        // Their index has all that this takes, so that no run is read in vain.
        and("id IN (SELECT id FROM runs WHERE substr(id, 1, length(?)) = ? OR substr(id, -length(?)) = ?)", text(id));
    }
    // There are fewer runs of a pod than of a namespace: with both, only the pod's index is to be used.
    let namespace = if filter.pod.is_some() { "+namespace = ?" } else { "namespace = ?" };
    for (column, wanted) in [
        ("policy = ?", &filter.policy),
        ("hook = ?", &filter.hook),
        (namespace, &filter.namespace),
        ("pod = ?", &filter.pod),
        ("(container = ? OR container_id = ?)", &filter.container),
    ] {
        if let Some(wanted) = wanted {
            and(column, text(wanted));
        }
    }
    if let Some(point) = filter.point {
        and("point = ?", text(point.name()));
    }
    if let Some(outcome) = filter.outcome {
        and("outcome = ?", text(outcome.name()));
    }
    if let Some(ended) = filter.ended {
        and("(ended_at IS NOT NULL) = ?", Value::Integer(ended.into()));
    }
    if let Some(since) = filter.since {
        and("created_at >= ?", Value::Integer(nanos(since)));
    }
    (all.join(" AND "), values)
}

/// What it takes to deliver a run again.
pub(super) fn begun(db: &Connection, id: &str) -> Result<Option<NewRun>> {
    let sql = format!("SELECT {NEW} FROM runs JOIN events ON run = id WHERE id = ?1");
    db.prepare(&sql)?.query_row([id], new).optional()
}

/// The unended runs of `owner` that are not among the ones it knows, the oldest first; and the ids of those that cannot be read.
pub(super) fn left(
    db: &Connection,
    owner: &str,
    is_known: impl Fn(&str) -> bool,
) -> Result<(Vec<LeftRun>, Vec<String>)> {
    let sql = format!(
        "SELECT {NEW}, intended, started, \
         (SELECT count(*) FROM attempts WHERE attempts.run = id AND result != '{}') \
         FROM runs LEFT JOIN events ON run = id WHERE owner = ?1 AND ended_at IS NULL ORDER BY created_at, id",
        AttemptResult::Interrupted.name()
    );
    let mut statement = db.prepare(&sql)?;
    let mut rows = statement.query([owner])?;
    let (mut left, mut unreadable) = (Vec::new(), Vec::new());
    while let Some(row) = rows.next()? {
        let id: String = row.get(0)?;
        if is_known(&id) {
            continue;
        }
        match new(row) {
            Ok(run) => left.push(LeftRun {
                run: Arc::new(run),
                intended: row.get(9)?,
                started: row.get(10)?,
                failed: row.get(11)?,
            }),
            Err(error) => {
                tracing::error!(
                    run = id,
                    "nobody can go on with a run that the journal does not tell any more: {error}"
                );
                unreadable.push(id);
            }
        }
    }
    Ok((left, unreadable))
}

/// What has succeeded, for one subject or for all.
pub(super) fn done(db: &Connection, subject: Option<&str>) -> Result<Vec<Done>> {
    let sql = "SELECT subject, point, policy, hook FROM done WHERE ?1 IS NULL OR subject = ?1";
    let mut statement = db.prepare(sql)?;
    let done = statement.query_map([subject], |row| {
        let (subject, policy, hook): (String, String, String) = (row.get(0)?, row.get(2)?, row.get(3)?);
        Ok(Done { subject: subject.into(), point: point(row, 1)?, policy: policy.into(), hook: hook.into() })
    })?;
    done.collect()
}

const NEW: &str = "id, policy, hook, handler, mode, once, replay_of, created_at, event";

fn new(row: &Row<'_>) -> Result<NewRun> {
    let event: String = row.get(8)?;
    let event = serde_json::from_str(&event).map_err(|error| wrong(8, error))?;
    Ok(NewRun {
        id: text(row, 0)?,
        policy: text(row, 1)?,
        hook: text(row, 2)?,
        handler: row.get::<_, String>(3)?.into(),
        mode: row.get::<_, String>(4)?.into(),
        event: Arc::new(event),
        once: row.get(5)?,
        replay_of: row.get::<_, Option<String>>(6)?.map(Arc::from),
        created_at: time(row.get(7)?),
    })
}

fn run(row: &Row<'_>) -> Result<Run> {
    let outcome = |name: String| Outcome::ALL.into_iter().find(|outcome| outcome.name() == name);
    Ok(Run {
        id: text(row, 0)?,
        policy: text(row, 1)?,
        hook: text(row, 2)?,
        point: point(row, 3)?,
        handler: row.get::<_, String>(4)?.into(),
        mode: row.get::<_, String>(5)?.into(),
        namespace: row.get(6)?,
        pod: row.get(7)?,
        container: row.get(8)?,
        container_id: row.get(9)?,
        sandbox_id: row.get(10)?,
        replay_of: row.get::<_, Option<String>>(11)?.map(Arc::from),
        created_at: time(row.get(12)?),
        intended: row.get(13)?,
        started_at: row.get::<_, Option<i64>>(14)?.map(time),
        ended_at: row.get::<_, Option<i64>>(15)?.map(time),
        outcome: row.get::<_, Option<String>>(16)?.and_then(outcome),
        reason: row.get(17)?,
        started: row.get(18)?,
        attempts: None,
    })
}

fn attempts(db: &Connection, run: &str) -> Result<Vec<AttemptRecord>> {
    let sql = "SELECT number, started_at, duration, result, message, exit_code, http_status, \
               coalesce(stdout, ''), coalesce(stderr, ''), coalesce(body, '') \
               FROM attempts WHERE run = ?1 AND result IS NOT NULL ORDER BY number";
    let mut statement = db.prepare_cached(sql)?;
    let attempts = statement.query_map([run], |row| {
        let result: String = row.get(3)?;
        let result = AttemptResult::ALL.into_iter().find(|known| known.name() == result);
        Ok(AttemptRecord {
            number: row.get(0)?,
            started_at: time(row.get(1)?),
            duration: Duration::from_nanos(row.get::<_, i64>(2)?.unsigned_abs()),
            result: result.ok_or_else(|| wrong(3, "no such result"))?,
            message: row.get(4)?,
            exit_code: row.get(5)?,
            http_status: row.get(6)?,
            stdout: row.get(7)?,
            stderr: row.get(8)?,
            body: row.get(9)?,
        })
    })?;
    attempts.collect()
}

fn text(row: &Row<'_>, at: usize) -> Result<Arc<str>> {
    row.get::<_, String>(at).map(Arc::from)
}

fn point(row: &Row<'_>, at: usize) -> Result<Point> {
    row.get::<_, String>(at)?.parse().map_err(|error| wrong(at, error))
}

fn time(nanos: i64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_nanos(nanos.unsigned_abs())
}

fn wrong(at: usize, error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(at, rusqlite::types::Type::Text, error.into())
}
