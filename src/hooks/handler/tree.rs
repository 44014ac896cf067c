//! The processes below a process, by what `/proc` says of their parents.
//!
//! One reading is not a moment: who forks or is adopted meanwhile may be missing. Whoever wants all of them gone reads again
//! until there are none.

use std::collections::HashMap;
use std::fs;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// All living processes below `root`, without itself. Empty where `/proc` cannot be read.
#[must_use]
pub fn below(root: Pid) -> Vec<Pid> {
    let mut children: HashMap<i32, Vec<(i32, bool)>> = HashMap::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        // It may have ended since the directory was read.
        let Some((parent, alive)) = fs::read(entry.path().join("stat")).ok().and_then(|stat| parse(&stat)) else {
            continue;
        };
        children.entry(parent).or_default().push((pid, alive));
    }
    let mut found = Vec::new();
    let mut next = vec![root.as_raw()];
    while let Some(pid) = next.pop() {
        for (child, alive) in children.remove(&pid).unwrap_or_default() {
            next.push(child);
            if alive {
                found.push(Pid::from_raw(child));
            }
        }
    }
    found
}

/// Kills all processes below `root` that are seen, and says how many there were.
#[must_use]
pub fn kill_below(root: Pid) -> usize {
    let found = below(root);
    for pid in &found {
        // One that has ended meanwhile is what was wanted.
        let _ = kill(*pid, Signal::SIGKILL);
    }
    found.len()
}

/// The parent, and whether it lives (a zombie does not), of a line of `/proc/PID/stat` (proc(5)). The second field, in parentheses,
/// is the program's name and may contain anything.
fn parse(stat: &[u8]) -> Option<(i32, bool)> {
    let after = stat.iter().rposition(|byte| *byte == b')')? + 1;
    let mut fields = std::str::from_utf8(&stat[after..]).ok()?.split_ascii_whitespace();
    let state = fields.next()?;
    Some((fields.next()?.parse().ok()?, !matches!(state, "Z" | "X")))
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn names_that_imitate_fields_confuse_nobody() {
        assert_eq!(parse(b"12 (a) S 99 (b) R 7 12 12 0"), Some((7, true)));
        assert_eq!(parse(b"12 (\xff\n) Z 1 12"), Some((1, false)));
        assert_eq!(parse(b"nonsense"), None);
    }

    #[test]
    fn grandchildren_are_found_and_killed() {
        let mut shell =
            Command::new("sh").args(["-c", "sleep 600 & echo; wait"]).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = [0];
        std::io::Read::read_exact(shell.stdout.as_mut().unwrap(), &mut line).unwrap();
        let root = Pid::this();
        let shell_pid = Pid::from_raw(i32::try_from(shell.id()).unwrap());
        let sleeper = below(shell_pid);
        assert_eq!(sleeper.len(), 1);
        assert!(below(root).contains(&shell_pid) && below(root).contains(&sleeper[0]));
        assert_eq!(kill_below(shell_pid), 1);
        assert_eq!(shell.wait().unwrap().code(), Some(0), "the shell has seen its child end");
        assert!(below(root).iter().all(|pid| *pid != sleeper[0]));
    }
}
