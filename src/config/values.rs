//! Values as people write them: sockets, addresses, durations, counts.

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use serde::de::{self, Deserialize, Deserializer, Visitor};

use crate::trace::Collector;

/// A unix socket, written with or without `unix://`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint(pub(super) PathBuf);

impl Endpoint {
    /// Its path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Whether `path` is the same socket.
    #[must_use]
    pub fn is_at(&self, path: &Path) -> bool {
        self.real() == Self(path.to_owned()).real()
    }

    /// The path with the links in its directory resolved: `/var/run/x.sock` is `/run/x.sock`.
    pub(super) fn real(&self) -> PathBuf {
        let directory = self.0.parent().and_then(|directory| directory.canonicalize().ok());
        match (directory, self.0.file_name()) {
            (Some(directory), Some(name)) => directory.join(name),
            _ => self.0.clone(),
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "unix://{}", self.0.display())
    }
}

impl FromStr for Endpoint {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let path = text.strip_prefix("unix://").unwrap_or(text);
        if let Some((scheme, _)) = path.split_once("://") {
            return Err(format!(
                "`{scheme}://` is not supported; write the path of a unix socket, as unix:///run/x.sock"
            ));
        }
        if !path.starts_with('/') || path.len() == 1 {
            return Err(format!("`{text}` is not an absolute path; write it as unix:///run/x.sock"));
        }
        Ok(Self(path.into()))
    }
}

/// A length of time as people write it: `10s`, `1m30s`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span(pub Duration);

impl FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        humantime::parse_duration(text)
            .map(Self)
            .map_err(|_| format!("`{text}` is not a duration with its unit; write one as 90s, 10m or 1h30m"))
    }
}

/// An address and a port to serve HTTP on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Address(pub SocketAddr);

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.parse().map(Self).map_err(|_| format!("`{text}` is not an address; write IP and port, as 127.0.0.1:9797"))
    }
}

macro_rules! deserialize_from_text {
    ($($type:ty: $expecting:literal),*) => {$(
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Text;
                impl Visitor<'_> for Text {
                    type Value = $type;
                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str($expecting)
                    }
                    fn visit_str<E: de::Error>(self, text: &str) -> Result<$type, E> {
                        text.parse().map_err(E::custom)
                    }
                }
                deserializer.deserialize_str(Text)
            }
        }
    )*};
}
pub(super) use deserialize_from_text;

/// A number from 1 to `MOST`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Count<const MOST: u32>(u32);

impl<const MOST: u32> Count<MOST> {
    /// It.
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0
    }
}

impl<const MOST: u32> FromStr for Count<MOST> {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let count = text.parse().ok().filter(|count| (1..=MOST).contains(count));
        count.map(Self).ok_or_else(|| format!("`{text}` is not a number from 1 to {MOST}"))
    }
}

deserialize_from_text!(
    Endpoint: "the path of a unix socket, as unix:///run/x.sock",
    Address: "an IP and a port, as 127.0.0.1:9797",
    Collector: "the address of a collector, as http://127.0.0.1:4317",
    Span: "a duration with its unit, as 90s or 10m"
);
