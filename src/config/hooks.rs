//! The config file's `hooks:` section: what of hooks is a node's affair and not a policy's.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::time::Duration;

use serde::de::{self, Deserialize, Deserializer, Visitor};

use super::{Count, Span, deserialize_from_text};
use crate::hooks::policy::Retries;
use crate::hooks::{Defaults, Options};

/// What can be set of hooks, by the config file alone. What is not given has a default.
#[derive(Debug, Clone, Default, PartialEq, serde::Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Hooks {
    /// See [`Options::node_name`].
    pub node_name: Option<String>,
    /// See [`Options::node_address`].
    pub node_address: Option<NodeAddress>,
    /// See [`Options::allow_opt_out`].
    pub allow_opt_out: Option<bool>,
    /// See [`Options::reserve`].
    pub reserve: Option<Positive>,
    /// See [`Options::concurrency`].
    pub concurrency: Option<Count<10_000>>,
    /// See [`Options::max_age`].
    pub max_age: Option<Positive>,
    /// See [`Options::record_native_output`].
    pub record_native_output: Option<bool>,
    /// See [`Options::defaults`].
    pub defaults: Option<HookDefaults>,
}

/// For hooks that do not say.
#[derive(Debug, Clone, Default, PartialEq, serde::Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct HookDefaults {
    /// See [`Defaults::timeout`].
    pub timeout: Option<Positive>,
    /// See [`Retries::attempts`].
    pub attempts: Option<Count<1000>>,
    /// See [`Retries::backoff`].
    pub backoff: Option<Positive>,
    /// See [`Retries::max_backoff`].
    pub max_backoff: Option<Positive>,
}

/// A length of time that is more than none, and no more than a week.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Positive(Duration);

impl FromStr for Positive {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.parse::<Span>()?.0 {
            Duration::ZERO => Err(format!("`{text}` is no time at all; write one as 200ms, 10s or 1h")),
            long if long > Duration::from_hours(168) => Err(format!("`{text}` is more than a week; write less")),
            span => Ok(Self(span)),
        }
    }
}

/// An IP address without a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NodeAddress(IpAddr);

impl FromStr for NodeAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.parse()
            .map(Self)
            .map_err(|_| format!("`{text}` is not an IP address; write one as 10.0.0.5, without a port"))
    }
}

deserialize_from_text!(
    Positive: "a duration with its unit, as 90s or 10m",
    Count<1000>: "a number",
    Count<10_000>: "a number",
    NodeAddress: "an IP address, as 10.0.0.5"
);

impl From<Hooks> for Options {
    fn from(given: Hooks) -> Self {
        let usual = Self::default();
        let span = |given: Option<Positive>, usual: Duration| given.map_or(usual, |span| span.0);
        let defaults = given.defaults.unwrap_or_default();
        let backoff = span(defaults.backoff, usual.defaults.retries.backoff);
        let retries = Retries {
            attempts: defaults.attempts.map_or(usual.defaults.retries.attempts, Count::get),
            backoff,
            // Whoever lengthens the first backoff alone does not mean that the second is shorter.
            max_backoff: span(defaults.max_backoff, usual.defaults.retries.max_backoff).max(backoff),
        };
        Self {
            node_name: given.node_name.unwrap_or(usual.node_name),
            node_address: given.node_address.map(|address| address.0),
            allow_opt_out: given.allow_opt_out.unwrap_or(usual.allow_opt_out),
            reserve: span(given.reserve, usual.reserve),
            concurrency: given.concurrency.map_or(usual.concurrency, |count| count.get() as usize),
            max_age: span(given.max_age, usual.max_age),
            record_native_output: given.record_native_output.unwrap_or(usual.record_native_output),
            defaults: Defaults { timeout: span(defaults.timeout, usual.defaults.timeout), retries },
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::{Config, Settings};

    fn read(text: &str) -> Result<Options, String> {
        let settings = Settings::parse(text, Path::new("c.yaml")).map_err(|error| error.to_string())?;
        Config::try_from(settings).map(|config| config.hooks).map_err(|error| error.to_string())
    }

    #[test]
    fn what_the_file_does_not_say_has_its_default() {
        assert_eq!(read("").unwrap(), Options::default());
        assert_eq!(read("hooks: {}").unwrap(), Options::default());
        let text = "
hooks:
  nodeName: node-1
  nodeAddress: 10.0.0.5
  allowOptOut: true
  reserve: 2s
  concurrency: 8
  maxAge: 30m
  recordNativeOutput: true
  defaults: {timeout: 3s, attempts: 2, backoff: 10s}
";
        let options = read(text).unwrap();
        assert_eq!((options.node_name.as_str(), options.node_address), ("node-1", Some(IpAddr::from([10, 0, 0, 5]))));
        assert!(options.allow_opt_out && options.concurrency == 8 && options.record_native_output);
        assert_eq!((options.reserve, options.max_age), (Duration::from_secs(2), Duration::from_mins(30)));
        assert_eq!((options.defaults.timeout, options.defaults.retries.attempts), (Duration::from_secs(3), 2));
        let retries = options.defaults.retries;
        assert_eq!(retries.max_backoff, retries.backoff, "never shorter than the first");
    }

    #[test]
    fn zeros_unknown_keys_and_wrong_types_are_refused_with_their_place() {
        for (text, expected) in [
            ("hooks: {reserve: 0s}", "c.yaml:1:18: `0s` is no time at all; write one as 200ms, 10s or 1h"),
            ("hooks: {maxAge: 5}", "c.yaml:1:17: `5` is not a duration with its unit; write one as 90s, 10m or 1h30m"),
            ("hooks: {maxAge: 10000h}", "c.yaml:1:17: `10000h` is more than a week; write less"),
            ("hooks: {concurrency: 0}", "c.yaml:1:22: `0` is not a number from 1 to 10000"),
            ("hooks: {defaults: {attempts: -1}}", "c.yaml:1:30: `-1` is not a number from 1 to 1000"),
            (
                "hooks: {nodeAddress: '10.0.0.5:80'}",
                "c.yaml:1:22: `10.0.0.5:80` is not an IP address; write one as 10.0.0.5, without a port",
            ),
        ] {
            assert_eq!(read(text).unwrap_err(), expected, "{text}");
        }
        let unknown = read("hooks:\n  defaults: {timeouts: 3s}").unwrap_err();
        assert!(unknown.starts_with("c.yaml:2:14: unknown key `timeouts`, expected one of timeout, "), "{unknown}");
        assert!(read("hooks: [a]").unwrap_err().starts_with("c.yaml:1:8: "));
    }
}
