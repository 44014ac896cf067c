//! `crihook __command`, which people never call: what stands between crihook and the commands of hooks (`hooks/handler/command.rs`).
//!
//! | stage | what it is |
//! | --- | --- |
//! | `supervise` | a process of one thread that adopts and finally kills all descendants of the command |
//! | `enter` | becomes the command, as the user and with the limits that it is to have |
//!
//! What cannot be started is said on standard error after the token that crihook knows, with the exit code [`NOT_STARTED`].

use std::ffi::{CString, OsStr, OsString};
use std::io::{self, ErrorKind};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitCode};

use clap::ValueEnum;
use nix::errno::Errno;
use nix::sys::prctl;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::stat::{Mode, umask};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Gid, Pid, Uid, User, close, getppid, initgroups, setgid, setgroups, setsid, setuid};

use crate::hooks::handler::{ENV_MARK, NOT_STARTED, tree};

/// How many files a command may open unless it asks for more: what programs that loop over all of them, or use select, expect.
const OPEN_FILES: u64 = 1024;

/// What crihook tells itself.
#[derive(Debug, clap::Args)]
pub struct Args {
    stage: Stage,
    /// What a message to crihook begins with
    #[arg(long)]
    token: String,
    /// The process whose end is this one's
    #[arg(long)]
    parent: i32,
    /// Whose process the command is to be
    #[arg(long)]
    user: Option<String>,
    #[arg(last = true, required = true)]
    command: Vec<OsString>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Stage {
    Supervise,
    Enter,
}

/// The exit code is the command's, 128 + n for signal n.
pub fn run(args: &Args) -> ExitCode {
    let refused = match args.stage {
        Stage::Supervise => match supervise(args) {
            Ok(code) => return ExitCode::from(code),
            Err(error) => format!("the command cannot be supervised: {error}"),
        },
        Stage::Enter => enter(args),
    };
    eprintln!("{} {refused}", args.token);
    ExitCode::from(NOT_STARTED)
}

fn supervise(args: &Args) -> io::Result<u8> {
    close_inherited();
    let mut awaited = SigSet::empty();
    for signal in [Signal::SIGCHLD, Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
        awaited.add(signal);
    }
    // Blocked before there is a child: none of its signals is missed.
    awaited.thread_block()?;
    prctl::set_child_subreaper(true)?;
    prctl::set_pdeathsig(Signal::SIGTERM)?;
    let own = Pid::this();
    if getppid() != Pid::from_raw(args.parent) {
        return Err(io::Error::other("crihook has ended"));
    }
    let mut enter = Command::new("/proc/self/exe");
    enter.arg0("crihook").args(["__command", "enter", "--token", &args.token, "--parent", &own.to_string()]);
    enter.args(args.user.iter().map(|user| format!("--user={user}")));
    let child = enter.arg("--").args(&args.command).spawn()?;
    let main = Pid::from_raw(i32::try_from(child.id()).map_err(io::Error::other)?);

    let code = loop {
        match awaited.wait() {
            Ok(Signal::SIGCHLD) => {
                if let Some(code) = reap(main) {
                    break code;
                }
            }
            // Told to end all. The code is for nobody.
            Ok(signal) => break code_of_signal(signal),
            Err(_) => {}
        }
    };
    end_all(own);
    Ok(code)
}

/// Commands get the three standard streams and nothing else. What crihook itself was started with (a socket from systemd, for one)
/// lacks the mark that keeps it from its children. Nothing has been opened here yet that could be closed by mistake.
fn close_inherited() {
    let open = std::fs::read_dir("/proc/self/fd").into_iter().flatten().flatten();
    let open: Vec<i32> = open.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    for fd in open.into_iter().filter(|fd| *fd > 2) {
        // The directory's own is closed already.
        let _ = close(fd);
    }
}

const fn code_of_signal(signal: Signal) -> u8 {
    // Signals are numbered from 1 to 64.
    128 + (signal as i32).to_le_bytes()[0]
}

/// Takes note of all that have ended; gives the exit code of `main` if it is among them.
fn reap(main: Pid) -> Option<u8> {
    let mut code = None;
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            // Exit codes have eight bits.
            Ok(WaitStatus::Exited(pid, exited)) if pid == main => code = Some(exited.to_le_bytes()[0]),
            Ok(WaitStatus::Signaled(pid, signal, _)) if pid == main => code = Some(code_of_signal(signal)),
            Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD) => return code,
            _ => {}
        }
    }
}

/// Returns when nothing is left below: every orphan becomes a child of this process, so without children there is nobody.
fn end_all(own: Pid) {
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Err(Errno::ECHILD) => return,
            Ok(WaitStatus::StillAlive) => {}
            _ => continue,
        }
        // With somebody killed, somebody will be waited for; with nobody seen, all that are left changed parents meanwhile.
        if tree::kill_below(own) > 0 {
            let _ = waitpid(None, None);
        }
    }
}

/// Becomes the command. Returns only with what kept it from that.
fn enter(args: &Args) -> String {
    let program = Path::new(&args.command[0]);
    if let Err(error) = prepare(args) {
        return error;
    }
    let env = std::env::vars_os().filter_map(|(name, value)| {
        let name = name.as_bytes().strip_prefix(ENV_MARK.as_bytes())?;
        Some((OsStr::from_bytes(name).to_owned(), value))
    });
    let env: Vec<_> = env.collect();
    // As everywhere, a script without #! is the shell's.
    let error = Command::new(program).args(&args.command[1..]).env_clear().envs(env).exec();
    let reason = match error.kind() {
        ErrorKind::NotFound if program.exists() => "the interpreter that it names does not exist".to_owned(),
        ErrorKind::NotFound => "no such file".to_owned(),
        ErrorKind::PermissionDenied => "not executable".to_owned(),
        _ => error.to_string(),
    };
    format!("{}: {reason}", program.display())
}

/// What a process of its own needs, whatever crihook was started with.
fn prepare(args: &Args) -> Result<(), String> {
    let failed = |what: &'static str| move |error: Errno| format!("{what}: {}", error.desc());
    setsid().map_err(failed("no session for the command"))?;
    SigSet::empty().thread_set_mask().map_err(failed("the command's signals cannot be unblocked"))?;
    umask(Mode::S_IWGRP | Mode::S_IWOTH);
    // crihook may be protected from the killer of processes that need too much memory; its commands are not. Where it is
    // more exposed than others, it may lack the right to make them less so.
    let _ = std::fs::write("/proc/self/oom_score_adj", "0");
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).map_err(failed("no limit of open files"))?;
    setrlimit(Resource::RLIMIT_NOFILE, hard.min(OPEN_FILES), hard).map_err(failed("no limit of open files"))?;
    if let Some(user) = &args.user {
        become_user(user)?;
    }
    // A change of user clears it, so it comes last.
    prctl::set_pdeathsig(Signal::SIGKILL).map_err(failed("the command's end cannot be tied to crihook's"))?;
    if getppid() != Pid::from_raw(args.parent) {
        return Err("crihook has ended".to_owned());
    }
    Ok(())
}

/// By name or number. A number that no user has is taken as it is, with the same number for its group and no other groups.
fn become_user(user: &str) -> Result<(), String> {
    let number: Option<u32> = user.parse().ok();
    let known = match number {
        Some(number) => User::from_uid(Uid::from_raw(number)),
        None => User::from_name(user),
    };
    let known = known.map_err(|error| format!("the user `{user}` cannot be looked up: {}", error.desc()))?;
    let denied = |error: Errno| format!("cannot become the user `{user}`: {}", error.desc());
    let uid = match (known, number) {
        (Some(known), _) => {
            if known.uid == Uid::effective() && !known.uid.is_root() {
                return Ok(());
            }
            let name = CString::new(known.name).map_err(|_| format!("there is no user `{user}`"))?;
            initgroups(&name, known.gid).map_err(denied)?;
            setgid(known.gid).map_err(denied)?;
            known.uid
        }
        (None, Some(number)) => {
            setgroups(&[]).map_err(denied)?;
            setgid(Gid::from_raw(number)).map_err(denied)?;
            Uid::from_raw(number)
        }
        (None, None) => return Err(format!("there is no user `{user}`")),
    };
    setuid(uid).map_err(denied)
}
