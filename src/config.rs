//! What crihook is told: flags, environment and file become one validated [`Config`], once.

mod hooks;
mod journal;
mod values;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::hooks::Options;
use crate::journal::Retention;
use crate::telemetry::Level;
use crate::trace::Collector;

pub use hooks::Hooks;
pub use journal::Journal;
use values::deserialize_from_text;
pub use values::{Address, Count, Endpoint, Span};

/// Where the config file is looked for when none is named.
pub const DEFAULT_FILE: &str = "/etc/crihook/config.yaml";

/// Why there is no config. Each message names the place and what would be right.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("{}: cannot read the config file: {source}", .path.display())]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The file says something that is not understood.
    #[error("{}:{line}:{column}: {message}", .path.display())]
    Invalid {
        /// Which file.
        path: PathBuf,
        /// Counted from 1.
        line: u64,
        /// Counted from 1.
        column: u64,
        /// What is wrong there.
        message: String,
    },
    /// Two settings name the same socket, which would make crihook its own client.
    #[error("{0} and {1} are the same socket, {2}: name another one for {0}")]
    SameSocket(&'static str, &'static str, Endpoint),
}

/// What can be set, each by a flag, an environment variable (`CRIHOOK_` and the flag's name) or a key of the config file.
#[derive(Debug, Clone, Default, PartialEq, clap::Args, serde::Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Settings {
    /// Where the kubelet finds crihook [default: /run/crihook/crihook.sock]
    #[arg(long, env = "CRIHOOK_LISTEN", value_name = "ENDPOINT")]
    pub listen: Option<Endpoint>,
    /// Where crihook finds the runtime [default: /run/containerd/containerd.sock]
    #[arg(long, env = "CRIHOOK_RUNTIME_ENDPOINT", value_name = "ENDPOINT")]
    pub runtime_endpoint: Option<Endpoint>,
    /// Where crihook finds the image service [default: the runtime endpoint]
    #[arg(long, env = "CRIHOOK_IMAGE_ENDPOINT", value_name = "ENDPOINT")]
    pub image_endpoint: Option<Endpoint>,
    /// Policies are read from here [default: /etc/crihook/hooks.d]
    #[arg(long, env = "CRIHOOK_HOOKS_DIR", value_name = "DIR")]
    pub hooks_dir: Option<PathBuf>,
    /// What must survive a restart is kept here [default: /var/lib/crihook]
    #[arg(long, env = "CRIHOOK_STATE_DIR", value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
    /// Where /metrics, /livez and /readyz are served [default: 127.0.0.1:9797]
    #[arg(long, env = "CRIHOOK_METRICS_ADDR", value_name = "ADDRESS")]
    pub metrics_addr: Option<Address>,
    /// Where traces are told, in OTLP over gRPC, as `http://127.0.0.1:4317` [default: nowhere]
    #[arg(long, env = "CRIHOOK_OTLP_ENDPOINT", value_name = "URL")]
    pub otlp_endpoint: Option<Collector>,
    /// Where crihook's own commands talk to it [default: /run/crihook/admin.sock]
    #[arg(long, env = "CRIHOOK_ADMIN_SOCKET", value_name = "ENDPOINT")]
    pub admin_socket: Option<Endpoint>,
    /// How long calls may take to finish once crihook is told to stop [default: 10m]
    #[arg(long, env = "CRIHOOK_DRAIN_TIMEOUT", value_name = "DURATION")]
    pub drain_timeout: Option<Span>,
    /// How much is logged [default: info]
    #[arg(long, env = "CRIHOOK_LOG_LEVEL", value_name = "LEVEL", value_enum)]
    pub log_level: Option<Level>,
    /// What of hooks is a node's affair; in the file only.
    #[arg(skip)]
    pub hooks: Option<Hooks>,
    /// How long what they have done can be looked up; in the file only.
    #[arg(skip)]
    pub journal: Option<Journal>,
}

impl Settings {
    /// Reads a config file. An empty file sets nothing.
    ///
    /// # Errors
    /// See [`ConfigError`].
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| ConfigError::Unreadable { path: path.to_owned(), source })?;
        Self::parse(&text, path)
    }

    /// Reads the text of a config file; `path` is for the error.
    ///
    /// # Errors
    /// Fails for unknown keys, wrong types and values that mean nothing.
    pub fn parse(text: &str, path: &Path) -> Result<Self, ConfigError> {
        // A file of comments is no document, which a map cannot be read from; one of `---` is an empty one.
        let says_nothing = |line: &str| line.is_empty() || line == "---" || line.starts_with('#');
        if text.lines().map(str::trim).all(says_nothing) {
            return Ok(Self::default());
        }
        serde_saphyr::from_str(text).map_err(|error| {
            let (line, column) = error.location().map_or((1, 1), |at| (at.line(), at.column()));
            let message = plain(error.without_snippet());
            ConfigError::Invalid { path: path.to_owned(), line, column, message }
        })
    }

    /// These settings, and where they say nothing, those.
    #[must_use]
    pub fn or(self, those: Self) -> Self {
        Self {
            listen: self.listen.or(those.listen),
            runtime_endpoint: self.runtime_endpoint.or(those.runtime_endpoint),
            image_endpoint: self.image_endpoint.or(those.image_endpoint),
            hooks_dir: self.hooks_dir.or(those.hooks_dir),
            state_dir: self.state_dir.or(those.state_dir),
            metrics_addr: self.metrics_addr.or(those.metrics_addr),
            otlp_endpoint: self.otlp_endpoint.or(those.otlp_endpoint),
            admin_socket: self.admin_socket.or(those.admin_socket),
            drain_timeout: self.drain_timeout.or(those.drain_timeout),
            log_level: self.log_level.or(those.log_level),
            hooks: self.hooks.or(those.hooks),
            journal: self.journal.or(those.journal),
        }
    }
}

/// The parser's words in those of this program, on one line and without the place, which stands before them.
fn plain(error: &serde_saphyr::Error) -> String {
    let text = error.to_string();
    let line = text.lines().next().unwrap_or_default();
    let line = line.rsplit_once(" at line ").map_or(line, |(message, _)| message);
    let line = line.split_once(", set DuplicateKeyPolicy").map_or(line, |(message, _)| message);
    match line {
        "expected mapping start" => "expected settings, each a line `key: value`".to_owned(),
        "expected string scalar" => "expected a single value".to_owned(),
        _ => line.replace("unknown field", "unknown key").replace("unknown variant", "unknown value"),
    }
}

/// Everything that crihook needs to know to serve, complete and valid.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// See [`Settings::listen`].
    pub listen: Endpoint,
    /// See [`Settings::runtime_endpoint`].
    pub runtime_endpoint: Endpoint,
    /// See [`Settings::image_endpoint`].
    pub image_endpoint: Option<Endpoint>,
    /// See [`Settings::hooks_dir`].
    pub hooks_dir: PathBuf,
    /// See [`Settings::state_dir`].
    pub state_dir: PathBuf,
    /// See [`Settings::metrics_addr`].
    pub metrics_addr: SocketAddr,
    /// See [`Settings::otlp_endpoint`].
    pub otlp_endpoint: Option<Collector>,
    /// See [`Settings::admin_socket`].
    pub admin_socket: Endpoint,
    /// See [`Settings::drain_timeout`].
    pub drain_timeout: Duration,
    /// See [`Settings::log_level`].
    pub log_level: Level,
    /// See [`Settings::hooks`].
    pub hooks: Options,
    /// See [`Settings::journal`].
    pub journal: Retention,
}

impl TryFrom<Settings> for Config {
    type Error = ConfigError;

    fn try_from(settings: Settings) -> Result<Self, ConfigError> {
        let endpoint = |given: Option<Endpoint>, default: &str| given.unwrap_or_else(|| Endpoint(default.into()));
        let config = Self {
            listen: endpoint(settings.listen, "/run/crihook/crihook.sock"),
            runtime_endpoint: endpoint(settings.runtime_endpoint, "/run/containerd/containerd.sock"),
            image_endpoint: settings.image_endpoint,
            hooks_dir: settings.hooks_dir.unwrap_or_else(|| "/etc/crihook/hooks.d".into()),
            state_dir: settings.state_dir.unwrap_or_else(|| "/var/lib/crihook".into()),
            metrics_addr: settings.metrics_addr.map_or_else(|| ([127, 0, 0, 1], 9797).into(), |address| address.0),
            otlp_endpoint: settings.otlp_endpoint,
            admin_socket: endpoint(settings.admin_socket, "/run/crihook/admin.sock"),
            drain_timeout: settings.drain_timeout.map_or(Duration::from_mins(10), |span| span.0),
            log_level: settings.log_level.unwrap_or_default(),
            hooks: settings.hooks.unwrap_or_default().into(),
            journal: settings.journal.unwrap_or_default().into(),
        };
        let image = config.image_endpoint.as_ref().unwrap_or(&config.runtime_endpoint);
        let (runtime, admin) = (&config.runtime_endpoint, &config.admin_socket);
        for (one, endpoint, other, its) in [
            ("listen", &config.listen, "runtimeEndpoint", runtime),
            ("listen", &config.listen, "imageEndpoint", image),
            ("adminSocket", admin, "listen", &config.listen),
            ("adminSocket", admin, "runtimeEndpoint", runtime),
            ("adminSocket", admin, "imageEndpoint", image),
        ] {
            if endpoint.real() == its.real() {
                return Err(ConfigError::SameSocket(one, other, endpoint.clone()));
            }
        }
        Ok(config)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Settings, String> {
        Settings::parse(text, Path::new("c.yaml")).map_err(|error| error.to_string())
    }

    #[test]
    fn what_is_said_first_holds_and_the_rest_has_defaults() {
        let file = parse("listen: /run/a.sock\ndrainTimeout: 1m30s\nlogLevel: debug\n").unwrap();
        let flags = Settings { listen: Some("unix:///run/b.sock".parse().unwrap()), ..Settings::default() };
        let config = Config::try_from(flags.or(file)).unwrap();
        assert_eq!(config.listen.to_string(), "unix:///run/b.sock");
        assert_eq!((config.drain_timeout, config.log_level), (Duration::from_secs(90), Level::Debug));
        assert_eq!(config.metrics_addr.to_string(), "127.0.0.1:9797");
    }

    #[test]
    fn crihook_is_never_its_own_client() {
        let refused = |text: &str| Config::try_from(parse(text).unwrap()).unwrap_err().to_string();
        assert_eq!(
            refused("listen: /run/containerd/containerd.sock"),
            "listen and runtimeEndpoint are the same socket, unix:///run/containerd/containerd.sock: name another one for listen"
        );
        let directory = tempfile::tempdir().unwrap();
        let (real, link) = (directory.path().join("run"), directory.path().join("var"));
        std::fs::create_dir(&real).unwrap();
        std::os::unix::fs::symlink(&real, &link).unwrap();
        let same = format!("listen: {}/a.sock\nimageEndpoint: {}/a.sock", real.display(), link.display());
        assert!(refused(&same).contains("listen and imageEndpoint"), "{}", refused(&same));
        let admin = "listen: /run/a.sock\nadminSocket: unix:///run/a.sock";
        assert!(refused(admin).contains("adminSocket and listen"), "{}", refused(admin));
    }

    #[test]
    fn an_empty_file_sets_nothing() {
        assert_eq!(parse(""), Ok(Settings::default()));
        assert_eq!(parse("# later\n\n"), Ok(Settings::default()));
    }

    #[test]
    fn mistakes_are_named_with_their_place_and_what_would_be_right() {
        let mistakes = [
            "listen: /run/a.sock\nlisten_on: /run/b.sock\n",
            "drainTimeout: 10 parsecs\n",
            "drainTimeout: 600\n",
            "listen: [a]\n",
            "listen: tcp://10.0.0.1:80\n",
            "metricsAddr: 9797\n",
            "logLevel: loud\n",
            "logLevel: {a: b}\n",
            "- listen\n",
            "listen: 'a\n",
            "listen: /a\nlisten: /b\n",
        ];
        let told: Vec<String> = mistakes.iter().map(|text| parse(text).unwrap_err()).collect();
        insta::assert_snapshot!(told.join("\n"));
    }
}
