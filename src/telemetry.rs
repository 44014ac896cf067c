//! crihook's own log: text on a terminal, JSON lines otherwise, on standard error.
//!
//! Lines go through a bounded queue to a thread that writes them. When standard error is not read, lines are dropped and
//! counted; whoever logs never waits.

use std::io::{IsTerminal, stderr};

use tracing_appender::non_blocking::{ErrorCounter, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;

/// Lines that are held for a reader that is slow.
const QUEUE: usize = 4096;

/// How much is logged.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// What does not work.
    Error,
    /// And what is odd.
    Warn,
    /// And what happens seldom.
    #[default]
    Info,
    /// And every call.
    Debug,
}

/// Dropped last, so that the last lines are written.
#[must_use = "the log ends when this is dropped"]
pub struct Log {
    dropped: ErrorCounter,
    _writer: WorkerGuard,
}

impl Log {
    /// Starts the log of this process.
    ///
    /// # Panics
    /// Panics if it was started before.
    pub fn start(level: Level) -> Self {
        let (lines, writer) =
            NonBlockingBuilder::default().lossy(true).buffered_lines_limit(QUEUE).thread_name("log").finish(stderr());
        let dropped = lines.error_counter();
        let level = match level {
            Level::Error => LevelFilter::ERROR,
            Level::Warn => LevelFilter::WARN,
            Level::Info => LevelFilter::INFO,
            Level::Debug => LevelFilter::DEBUG,
        };
        // The libraries below speak of frames and polls; what they have to say is said by crihook in its own words.
        let filter = Targets::new().with_target("crihook", level);
        let terminal = stderr().is_terminal();
        let format = tracing_subscriber::fmt::layer().with_writer(lines).with_target(false).with_ansi(terminal);
        if terminal {
            tracing_subscriber::registry().with(format.with_filter(filter)).init();
        } else {
            tracing_subscriber::registry().with(format.json().flatten_event(true).with_filter(filter)).init();
        }
        Self { dropped, _writer: writer }
    }

    /// Reads how many lines were dropped since the start.
    pub fn dropped(&self) -> impl Fn() -> u64 + Send + Sync + 'static {
        let dropped = self.dropped.clone();
        move || dropped.dropped_lines() as u64
    }
}
