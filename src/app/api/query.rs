//! The parameters that choose runs. The command line reads its own with the same functions, so that both refuse the same in the same words.

use std::time::SystemTime;

use crate::journal::Filter;
use crate::lifecycle::{Outcome, Point};

/// The shortest part of an id that is looked for.
const SHORTEST: usize = 4;
/// Stands among the outcomes for those that there is none of yet.
pub const PENDING: &str = "pending";
/// All parameters.
const KNOWN: &str =
    "id, namespace, pod, container, policy, hook, point, outcome, ended, since, limit, attempts, follow";

/// Which runs somebody asks for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Asked {
    /// Those that pass this.
    pub filter: Filter,
    /// Not those that there are, but those that end from now on, after the newest `limit` of those that have: none unless there is a limit.
    pub follow: bool,
}

/// Reads a query string: `namespace=payments&limit=10`.
///
/// # Errors
/// Says which parameter is wrong, and what would be right.
pub fn read(query: &str) -> Result<Asked, String> {
    let mut asked = Asked::default();
    let (filter, mut most) = (&mut asked.filter, None);
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        let text = || Some(value.clone().into_owned());
        match &*name {
            "id" => filter.id = Some(run(&value)?),
            "namespace" => filter.namespace = text(),
            "pod" => filter.pod = text(),
            "container" => filter.container = text(),
            "policy" => filter.policy = text(),
            "hook" => filter.hook = text(),
            "point" => filter.point = Some(value.parse::<Point>().map_err(|error| error.to_string())?),
            "outcome" => match outcome(&value)? {
                Some(outcome) => filter.outcome = Some(outcome),
                None => filter.ended = Some(false),
            },
            "ended" => filter.ended = Some(boolean("ended", &value)?),
            "since" => filter.since = Some(since(&value)?),
            "limit" => most = Some(limit(&value)?),
            "attempts" => filter.attempts = boolean("attempts", &value)?,
            "follow" => asked.follow = boolean("follow", &value)?,
            _ => return Err(format!("there is no parameter `{name}`; there are {KNOWN}")),
        }
    }
    filter.limit = most.unwrap_or(if asked.follow { 0 } else { usize::MAX });
    if asked.follow && filter.ended == Some(false) {
        return Err("what can be followed are runs as they end, not those that are pending".to_owned());
    }
    Ok(asked)
}

/// The id of a run, or a part of one that it begins or ends with.
///
/// # Errors
/// Says how it is written.
pub fn run(text: &str) -> Result<String, String> {
    let id = text.to_ascii_lowercase();
    if id.len() < SHORTEST || !id.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-') {
        return Err(format!(
            "`{text}` is not the id of a run; write one, or {SHORTEST} characters or more of its beginning or its end, as `crihook history` shows them"
        ));
    }
    Ok(id)
}

/// An outcome; `None` is [`PENDING`].
///
/// # Errors
/// Names those there are.
fn outcome(text: &str) -> Result<Option<Outcome>, String> {
    if text == PENDING {
        return Ok(None);
    }
    let found = Outcome::ALL.into_iter().find(|outcome| outcome.name() == text);
    found.map(Some).ok_or_else(|| {
        let names = Outcome::ALL.map(Outcome::name).join(", ");
        format!("`{text}` is not an outcome; write one of {names}, or {PENDING}")
    })
}

/// How long ago, or when: `1h`, `2026-01-31T08:00:00Z`.
///
/// # Errors
/// Says how it is written.
pub fn since(text: &str) -> Result<SystemTime, String> {
    if let Ok(ago) = humantime::parse_duration(text) {
        // Longer ago than there is time means all of it.
        return Ok(SystemTime::now()
            .checked_sub(ago)
            .map_or(SystemTime::UNIX_EPOCH, |then| then.max(SystemTime::UNIX_EPOCH)));
    }
    humantime::parse_rfc3339_weak(text).map_err(|_| {
        format!("`{text}` is not a time; write how long ago, as 10m or 1h30m, or when, as 2026-01-31T08:00:00Z")
    })
}

/// How many.
///
/// # Errors
/// Says how it is written.
pub fn limit(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(limit) if limit > 0 => Ok(limit),
        _ => Err(format!("`{text}` is not a number of runs; write one from 1 on")),
    }
}

fn boolean(name: &str, text: &str) -> Result<bool, String> {
    text.parse().map_err(|_| format!("`{text}` is not a value of {name}; write true or false"))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn what_is_not_said_is_not_asked() {
        assert_eq!(read(""), Ok(Asked::default()));
    }

    #[test]
    fn parameters_are_read_with_their_escapes() {
        let found = read("namespace=a%2Fb&point=PreStop&outcome=timed_out&limit=3&attempts=false").unwrap();
        let expected = Filter {
            namespace: Some("a/b".into()),
            point: Some(Point::PRE_STOP),
            outcome: Some(Outcome::TimedOut),
            limit: 3,
            attempts: false,
            ..Filter::default()
        };
        assert_eq!(found, Asked { filter: expected, follow: false });
        assert_eq!(read("outcome=pending").unwrap().filter.ended, Some(false));
        assert_eq!(read("follow=true").unwrap().filter.limit, 0);
    }

    #[test]
    fn a_time_is_a_moment_or_an_age() {
        assert_eq!(since("1970-01-01T00:00:10Z"), Ok(SystemTime::UNIX_EPOCH + Duration::from_secs(10)));
        let hour = since("1h").unwrap().elapsed().unwrap();
        assert!(hour >= Duration::from_hours(1) && hour < Duration::from_mins(61), "{hour:?}");
        assert_eq!(since("9000years"), Ok(SystemTime::UNIX_EPOCH));
    }

    #[test]
    fn mistakes_say_what_would_be_right() {
        let mistakes = [
            "point=Stop",
            "outcome=bad",
            "ended=yes",
            "since=yesterday",
            "limit=0",
            "limit=all",
            "attempts=2",
            "x=1",
            "id=x",
            "follow=true&ended=false",
        ];
        let told: Vec<String> = mistakes.iter().map(|query| read(query).unwrap_err()).collect();
        insta::assert_snapshot!(told.join("\n"));
    }
}
