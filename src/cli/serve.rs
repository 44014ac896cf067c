//! `crihook serve`

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use crate::app::App;
use crate::app::upgrade::{Inherited, Program, READY_LIMIT, Upgrades};
use crate::config::{Config, ConfigError, DEFAULT_FILE, Settings};
use crate::drain::Drain;
use crate::telemetry::Log;

/// What `serve` is told.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Read settings from this file; flags and environment come first [default: /etc/crihook/config.yaml if it is there]
    #[arg(long, env = "CRIHOOK_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    settings: Settings,
}

/// Serves until told to stop.
pub fn run(args: Args) -> ExitCode {
    // Before there are threads.
    let inherited = match Inherited::take() {
        Ok(inherited) => inherited,
        Err(error) => {
            eprintln!("crihook: cannot take over from the process that started this one: {error}");
            return ExitCode::FAILURE;
        }
    };
    let predecessor = inherited.predecessor();
    let config = match configure(args) {
        Ok(config) => config,
        Err(error) => {
            predecessor.refuse(&error);
            eprintln!("crihook: {error}");
            return ExitCode::from(2);
        }
    };
    let log = Log::start(config.log_level);
    match serve(config, inherited, &log) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            predecessor.refuse(&format_args!("{error:#}"));
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn configure(args: Args) -> Result<Config, ConfigError> {
    let file = match args.config {
        Some(file) => Settings::read(&file)?,
        None if Path::new(DEFAULT_FILE).exists() => Settings::read(Path::new(DEFAULT_FILE))?,
        None => Settings::default(),
    };
    args.settings.or(file).try_into()
}

fn serve(config: Config, inherited: Inherited, log: &Log) -> Result<()> {
    let app = App::bind(config, inherited, log.dropped())?.upgrade_by(Program::this());
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start the runtime")?;
    let ended = runtime.block_on(async {
        tokio::spawn(heed_signals(app.drain())?);
        let (hangups, hangup) = mpsc::channel(1);
        tokio::spawn(heed_hangups(hangups)?);
        tokio::spawn(heed_upgrades(app.upgrades())?);
        app.reload_on(hangup).run().await
    });
    // Whatever matters is done. Somebody may still wait for a name to be resolved, for as long as name servers do not answer.
    runtime.shutdown_background();
    ended
}

/// Each SIGHUP asks for the policies to be read again; those that come while one waits are the same.
fn heed_hangups(hangups: mpsc::Sender<()>) -> Result<impl Future<Output = ()>> {
    let mut hangup = signal(SignalKind::hangup()).context("cannot listen for SIGHUP")?;
    Ok(async move {
        while hangup.recv().await.is_some() {
            let _ = hangups.try_send(());
        }
    })
}

/// Each SIGUSR2 asks for an upgrade; what comes of it is in the log.
fn heed_upgrades(upgrades: Upgrades) -> Result<impl Future<Output = ()>> {
    let mut asked = signal(SignalKind::user_defined2()).context("cannot listen for SIGUSR2")?;
    Ok(async move {
        while asked.recv().await.is_some() {
            let upgrades = upgrades.clone();
            // One that comes meanwhile is refused, and does not wait.
            tokio::spawn(async move { upgrades.ask(READY_LIMIT).await.map(drop) });
        }
    })
}

/// The first signal asks for an orderly end, the second for the end.
fn heed_signals(drain: Drain) -> Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?;
    Ok(async move {
        let mut told = async || {
            tokio::select! {
                _ = terminate.recv() => (),
                _ = interrupt.recv() => (),
            }
        };
        told().await;
        drain.start();
        told().await;
        tracing::warn!("told to stop again; stopping without waiting for calls");
        drain.force();
    })
}
