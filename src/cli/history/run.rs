//! A run as crihook tells of it.

use std::time::{Duration, SystemTime};

use serde::{Deserialize, Deserializer, de};

/// See [`journal::Run`](crate::journal::Run), whose document it is.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Run {
    pub id: String,
    pub policy: String,
    pub hook: String,
    pub point: String,
    pub handler: String,
    pub mode: String,
    pub namespace: String,
    pub pod: String,
    pub container: Option<String>,
    pub container_id: Option<String>,
    pub sandbox_id: Option<String>,
    pub replay_of: Option<String>,
    #[serde(deserialize_with = "time")]
    pub created_at: SystemTime,
    #[serde(default)]
    pub intended: bool,
    #[serde(default, deserialize_with = "maybe_time")]
    pub started_at: Option<SystemTime>,
    #[serde(default, deserialize_with = "maybe_time")]
    pub ended_at: Option<SystemTime>,
    pub outcome: Option<String>,
    pub reason: Option<String>,
    pub started: u32,
    #[serde(default)]
    pub attempts: Vec<Attempt>,
}

/// See [`journal::AttemptRecord`](crate::journal::AttemptRecord).
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Attempt {
    pub number: u32,
    #[serde(deserialize_with = "time")]
    pub started_at: SystemTime,
    /// In seconds.
    pub duration: f64,
    pub result: String,
    pub message: Option<String>,
    pub exit_code: Option<i32>,
    pub http_status: Option<u16>,
    #[serde(default)]
    pub stdout: String,
    #[serde(default)]
    pub stderr: String,
    #[serde(default)]
    pub body: String,
}

impl Run {
    /// Its outcome, or how far it has come.
    pub fn state(&self) -> &str {
        match &self.outcome {
            Some(outcome) => outcome,
            None if self.intended => "intended",
            None if self.started == 0 => "pending",
            None => "running",
        }
    }

    /// From its first attempt to its end, or until now.
    pub fn duration(&self, now: SystemTime) -> Option<Duration> {
        let end = if self.outcome.is_some() { self.ended_at? } else { now };
        Some(end.duration_since(self.started_at?).unwrap_or_default())
    }
}

fn time<'de, D: Deserializer<'de>>(from: D) -> Result<SystemTime, D::Error> {
    humantime::parse_rfc3339(&String::deserialize(from)?).map_err(de::Error::custom)
}

fn maybe_time<'de, D: Deserializer<'de>>(from: D) -> Result<Option<SystemTime>, D::Error> {
    let text = Option::<String>::deserialize(from)?;
    text.map(|text| humantime::parse_rfc3339(&text).map_err(de::Error::custom)).transpose()
}
