//! The commands that a simulated container has.
//!
//! `echo`, `true`, `false`, `sleep SECONDS`, `exit CODE`, and `sh -c` with one of them, all also by path (`/bin/echo`).
//! Anything else is not in the image, which a runtime reports as an error of the call, not as an exit code. `noise BYTES` writes that many.

use std::time::Duration;

use tonic::Status;

/// What `noise` writes at most, in bytes: less than a message holds.
const NOISE: usize = 8 << 20;

/// What a process comes to after `takes`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Plan {
    pub takes: Duration,
    pub exit_code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Plan {
    fn exit(exit_code: i32) -> Self {
        Self { takes: Duration::ZERO, exit_code, stdout: String::new(), stderr: String::new() }
    }

    fn complaint(exit_code: i32, text: &str) -> Self {
        Self { stderr: format!("{text}\n"), ..Self::exit(exit_code) }
    }
}

/// What this command line would do.
pub(super) fn plan(cmd: &[String]) -> Result<Plan, Status> {
    let words: Vec<&str> = cmd.iter().map(String::as_str).collect();
    let Some((&program, arguments)) = words.split_first() else {
        return Err(Status::invalid_argument("no command was given"));
    };
    let name = program.rsplit_once('/').map_or(program, |(_, name)| name);
    if let ("sh", ["-c", script, ..]) = (name, arguments) {
        let words: Vec<&str> = script.split_whitespace().map(|word| word.trim_matches(['"', '\''])).collect();
        let Some((&first, rest)) = words.split_first() else { return Ok(Plan::exit(0)) };
        return Ok(simple(first, rest).unwrap_or_else(|| Plan::complaint(127, &format!("sh: {first}: not found"))));
    }
    simple(name, arguments).ok_or_else(|| {
        let why = if program.contains('/') {
            format!("stat {program}: no such file or directory")
        } else {
            "executable file not found in $PATH".to_owned()
        };
        Status::unknown(format!(
            "failed to start exec: OCI runtime exec failed: exec failed: unable to start container process: exec: {program:?}: {why}: unknown"
        ))
    })
}

/// Clients tell the failures of an exec apart by containerd's words: all of them begin so.
pub(super) fn failed(status: &Status) -> Status {
    Status::new(status.code(), format!("failed to exec in container: {}", status.message()))
}

fn simple(name: &str, arguments: &[&str]) -> Option<Plan> {
    Some(match (name, arguments) {
        ("echo", words) => Plan { stdout: format!("{}\n", words.join(" ")), ..Plan::exit(0) },
        ("noise", [bytes]) => match bytes.parse() {
            Ok(bytes) => Plan { stdout: "x".repeat(std::cmp::min(bytes, NOISE)), ..Plan::exit(0) },
            Err(_) => Plan::complaint(1, &format!("noise: invalid number '{bytes}'")),
        },
        ("true", _) | ("exit", []) => Plan::exit(0),
        ("false", _) => Plan::exit(1),
        ("sleep", [seconds]) => match seconds.parse().ok().and_then(|s| Duration::try_from_secs_f64(s).ok()) {
            Some(takes) => Plan { takes, ..Plan::exit(0) },
            None => Plan::complaint(1, &format!("sleep: invalid number '{seconds}'")),
        },
        ("sleep", _) => Plan::complaint(1, "sleep: one number of seconds is needed"),
        ("exit", [code, ..]) => match code.parse::<u8>() {
            Ok(code) => Plan::exit(code.into()),
            Err(_) => Plan::complaint(2, &format!("exit: not a number: {code}")),
        },
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(cmd: &[&str]) -> Result<Plan, Status> {
        plan(&cmd.iter().map(ToString::to_string).collect::<Vec<_>>())
    }

    #[test]
    fn known_commands_do_what_their_names_say() {
        assert_eq!(run(&["echo", "a", "b"]).unwrap().stdout, "a b\n");
        assert_eq!(run(&["/bin/false"]).unwrap().exit_code, 1);
        assert_eq!(run(&["sleep", "1.5"]).unwrap().takes, Duration::from_millis(1500));
        assert_eq!(run(&["exit", "7"]).unwrap().exit_code, 7);
        assert_eq!(run(&["sh", "-c", "exit 3"]).unwrap().exit_code, 3);
        assert_eq!(run(&["sh", "-c", "nonsense"]).unwrap().exit_code, 127);
        assert_eq!(run(&["sleep", "-1"]).unwrap().exit_code, 1);
    }

    #[test]
    fn an_unknown_binary_is_an_error_of_the_call() {
        let status = run(&["/no/such"]).unwrap_err();
        assert_eq!(status.code(), tonic::Code::Unknown);
        assert!(status.message().contains("/no/such"), "{status}");
        assert_eq!(run(&[]).unwrap_err().code(), tonic::Code::InvalidArgument);
    }
}
