//! The command line, one file a subcommand.

mod check;
mod client;
mod command;
mod demo;
mod explain;
mod history;
mod pause;
mod replay;
mod serve;
mod status;
mod text;
mod upgrade;

use std::io::{self, Write};
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// A transparent, measured proxy between the kubelet and its container runtime.
#[derive(Debug, Parser)]
#[command(name = "crihook", version, about, max_term_width = 120)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Stand between the kubelet and the runtime
    Serve(Box<serve::Args>),
    /// Show it at work with an embedded runtime and a scripted kubelet: no root, no containerd
    Demo(demo::Args),
    /// Validate the config and policies, with a caret under each mistake
    Check(check::Args),
    /// Say which hooks would run for a pod, in which order, and why others would not
    Explain(explain::Args),
    /// Show how a crihook that serves is: runtime, policies, hooks, journal, and what is not as it should be
    ///
    /// The exit code is 0 whenever crihook answers; programs read `degradations` with -o json, which is empty while all is well.
    Status(status::Args),
    /// Show what hooks have done, and what they printed
    History(Box<history::Args>),
    /// Run a hook again for an event of the past
    ///
    /// The hook runs as it is in the policies now, under a new id, marked as a replay; what calls do is not changed by it. The exit code is 1
    /// if the new run does not succeed.
    Replay(replay::Args),
    /// Turn hooks off, over restarts; calls pass all the same
    Pause(pause::PauseArgs),
    /// Turn hooks on again
    Resume(pause::ResumeArgs),
    /// Let the installed binary take over from a crihook that serves, without losing a call
    Upgrade(upgrade::Args),
    /// What crihook runs the commands of hooks with
    #[command(name = "__command", hide = true)]
    Supervise(command::Args),
}

/// Runs the command line of this process. The exit code is 0, 1 for a failure while running, 2 for wrong usage or configuration.
#[must_use]
pub fn run() -> ExitCode {
    match Cli::parse().command {
        Command::Serve(args) => serve::run(*args),
        Command::Demo(args) => demo::run(&args),
        Command::Check(args) => check::run(&args),
        Command::Explain(args) => explain::run(&args),
        Command::Status(args) => status::run(&args),
        Command::History(args) => history::run(&args),
        Command::Replay(args) => replay::run(&args),
        Command::Pause(args) => pause::pause(&args),
        Command::Resume(args) => pause::resume(&args),
        Command::Upgrade(args) => upgrade::run(&args),
        Command::Supervise(args) => command::run(&args),
    }
}

/// How a result is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Output {
    /// For people
    Text,
    /// For programs
    Json,
}

/// Writes to standard output. A reader that has seen enough is no error.
fn print(text: &str) -> io::Result<()> {
    match io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error),
        _ => Ok(()),
    }
}

fn counted(number: usize, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}
