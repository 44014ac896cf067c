//! The config file's `journal:` section: how long what hooks have done can be looked up.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::de::{self, Deserialize, Deserializer, Visitor};

use super::{Count, Span, deserialize_from_text};
use crate::journal::Retention;

/// What can be set of the journal, by the config file alone. What is not given has a default.
#[derive(Debug, Clone, Default, PartialEq, serde::Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Journal {
    /// See [`Retention::max_age`].
    pub max_age: Option<Age>,
    /// See [`Retention::max_runs`].
    pub max_runs: Option<Count<10_000_000>>,
    /// See [`Retention::max_bytes`].
    pub max_bytes: Option<Size>,
}

/// A length of time from a minute to a year.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Age(Duration);

impl FromStr for Age {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.parse::<Span>()?.0 {
            short if short < Duration::from_mins(1) => Err(format!("`{text}` is less than a minute; write more")),
            long if long > Duration::from_hours(366 * 24) => Err(format!("`{text}` is more than a year; write less")),
            span => Ok(Self(span)),
        }
    }
}

/// A number of bytes, with Kubernetes' suffixes: `256Mi`, `1Gi`; from 1 MiB to 64 GiB.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size(u64);

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
        let unit = match &text[digits.len()..] {
            "" => Some(1),
            "Ki" => Some(1 << 10),
            "Mi" => Some(1 << 20),
            "Gi" => Some(1 << 30),
            _ => None,
        };
        let size = unit.and_then(|unit: u64| digits.parse::<u64>().ok()?.checked_mul(unit));
        let size = size.ok_or_else(|| format!("`{text}` is not a size; write one as 256Mi or 1Gi"))?;
        match size {
            small if small < 1 << 20 => Err(format!("`{text}` is less than 1Mi; write more")),
            large if large > 64 << 30 => Err(format!("`{text}` is more than 64Gi; write less")),
            size => Ok(Self(size)),
        }
    }
}

deserialize_from_text!(
    Age: "a duration with its unit, as 36h or 7d",
    Size: "a size, as 256Mi or 1Gi",
    Count<10_000_000>: "a number"
);

impl From<Journal> for Retention {
    fn from(given: Journal) -> Self {
        let usual = Self::default();
        Self {
            max_age: given.max_age.map_or(usual.max_age, |age| age.0),
            max_runs: given.max_runs.map_or(usual.max_runs, |count| count.get().into()),
            max_bytes: given.max_bytes.map_or(usual.max_bytes, |size| size.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::{Config, Settings};

    fn read(text: &str) -> Result<Retention, String> {
        let settings = Settings::parse(text, Path::new("c.yaml")).map_err(|error| error.to_string())?;
        Config::try_from(settings).map(|config| config.journal).map_err(|error| error.to_string())
    }

    #[test]
    fn a_week_or_a_hundred_thousand_runs_or_256_mebibytes_unless_the_file_says_otherwise() {
        let usual = Retention { max_age: Duration::from_hours(7 * 24), max_runs: 100_000, max_bytes: 256 << 20 };
        assert_eq!(read("").unwrap(), usual);
        assert_eq!(read("journal: {maxRuns: 10}").unwrap(), Retention { max_runs: 10, ..usual });
        let all = "journal: {maxAge: 2d, maxRuns: 5000, maxBytes: 1Gi}";
        let expected = Retention { max_age: Duration::from_hours(48), max_runs: 5000, max_bytes: 1 << 30 };
        assert_eq!(read(all).unwrap(), expected);
        assert_eq!(read("journal: {maxBytes: 1048576}").unwrap().max_bytes, 1 << 20);
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_what_would() {
        for (text, expected) in [
            ("journal: {maxAge: 3s}", "c.yaml:1:19: `3s` is less than a minute; write more"),
            ("journal: {maxAge: 2years}", "c.yaml:1:19: `2years` is more than a year; write less"),
            ("journal: {maxRuns: 0}", "c.yaml:1:20: `0` is not a number from 1 to 10000000"),
            ("journal: {maxBytes: 256MB}", "c.yaml:1:21: `256MB` is not a size; write one as 256Mi or 1Gi"),
            ("journal: {maxBytes: 10Ki}", "c.yaml:1:21: `10Ki` is less than 1Mi; write more"),
            (
                "journal: {maxBytes: 99999999999Gi}",
                "c.yaml:1:21: `99999999999Gi` is not a size; write one as 256Mi or 1Gi",
            ),
        ] {
            assert_eq!(read(text).unwrap_err(), expected, "{text}");
        }
    }
}
