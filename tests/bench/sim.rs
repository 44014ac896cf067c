//! The embedded runtime as a process of its own: the upstream of benchmarks, and of tests that have to kill it.
//!
//! Once it accepts, it prints `listening PATH`; after SIGTERM or SIGINT, `METHOD COUNT` for every method that was
//! called, so that what was sent can be compared with what arrived.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use clap::Parser;
use crihook::sim::{Options, Runtime, serve};
use tokio::net::UnixListener;
use tokio::signal::unix::{SignalKind, signal};

/// Serve crihook's embedded runtime on a unix socket.
#[derive(Parser)]
struct Flags {
    /// The socket; a file that is already there is replaced.
    #[arg(long, value_name = "PATH")]
    listen: PathBuf,
    /// Hold images enough for a list of this many MiB.
    #[arg(long, value_name = "N", default_value_t = 0)]
    images_mib: usize,
    /// Hold up each call of a method, such as `PullImage=250ms`; may be repeated.
    #[arg(long, value_name = "METHOD=DURATION", value_parser = delay)]
    delay: Vec<(String, Duration)>,
}

fn delay(text: &str) -> Result<(String, Duration), String> {
    let (method, by) = text.split_once('=').ok_or("write METHOD=DURATION, such as PullImage=250ms")?;
    let by = humantime::parse_duration(by).map_err(|e| e.to_string())?;
    // Refused here, it is a mistake in usage and exits with 2.
    Options::default().delay(method, by).map_err(|e| e.to_string())?;
    Ok((method.to_owned(), by))
}

/// One thread, as each of the peers in a benchmark has.
#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let flags = Flags::parse();
    let mut options = Options::default().image_bytes(flags.images_mib << 20);
    for (method, by) in &flags.delay {
        options = options.delay(method, *by)?;
    }
    let runtime = Runtime::new(&options);

    let path = flags.listen.display();
    let _ = std::fs::remove_file(&flags.listen);
    let listener = UnixListener::bind(&flags.listen).with_context(|| format!("cannot listen on {path}"))?;
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    println!("listening {path}");
    serve(runtime.clone(), listener, async {
        tokio::select! { _ = terminate.recv() => (), _ = interrupt.recv() => () }
    })
    .await?;
    for (method, count) in runtime.calls() {
        println!("{method} {count}");
    }
    let _ = std::fs::remove_file(&flags.listen);
    Ok(())
}
