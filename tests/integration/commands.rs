//! `command` on this machine: what a command gets, what is kept of it, and that nothing of it is left.

use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crihook::hooks::handler::{Delivery, Evidence, Failing, Failure, Workshop, tree};
use crihook::hooks::policy::{self, Action, FailurePolicy, Hook, Mode, Template};
use crihook::hooks::{Boxed, Defaults, ExecError, Executed, Runtime};
use crihook::lifecycle::{Address, Container, Event, Pod, Point};
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::time::Instant;

const CRIHOOK: &str = env!("CARGO_BIN_EXE_crihook");

/// A runtime that knows where the pod is.
struct Addresses;

impl Runtime for Addresses {
    fn exec(&self, _: &str, _: &[String], _: Duration) -> Boxed<'_, Result<Executed, ExecError>> {
        unreachable!("a command on the node needs no exec")
    }

    fn address(&self, _: &str) -> Boxed<'_, Result<Address, String>> {
        Box::pin(async { Ok(Address::Pod(IpAddr::V4(Ipv4Addr::new(10, 0, 0, 9)))) })
    }
}

/// A command, and how long it has.
struct Case {
    spec: policy::Command,
    limit: Duration,
    annotation: String,
    replay_of: Option<&'static str>,
}

fn command<const N: usize>(command: [&str; N]) -> Case {
    let command = command.iter().map(|argument| Template::parse(argument).unwrap()).collect();
    let spec = policy::Command { command, env: Vec::new(), user: None };
    Case { spec, limit: Duration::from_secs(20), annotation: "true".into(), replay_of: None }
}

fn shell(script: &str) -> Case {
    command(["/bin/sh", "-c", &script.replace('$', "$$")])
}

impl Case {
    fn within(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    fn user(mut self, user: &str) -> Self {
        self.spec.user = Some(user.to_owned());
        self
    }

    fn env(mut self, name: &str, value: &str) -> Self {
        self.spec.env.push((name.to_owned(), Template::parse(value).unwrap()));
        self
    }

    async fn run(self) -> Result<Evidence, Failure> {
        let mut workshop = Workshop::new(Arc::new(Addresses), "node-7".into(), IpAddr::V4(Ipv4Addr::LOCALHOST));
        workshop.supervisor = PathBuf::from(CRIHOOK);
        let hook = Arc::new(Hook {
            policy: "drain-web".into(),
            name: "drain".into(),
            point: Point::PRE_STOP,
            action: Action::Command(self.spec),
            timeout: self.limit,
            retries: Defaults::default().retries,
            mode: Mode::Blocking,
            failure_policy: FailurePolicy::Ignore,
        });
        let pod = Pod {
            namespace: "payments".into(),
            name: "web-0".into(),
            uid: "uid-1".into(),
            sandbox_id: "s1".into(),
            annotations: [("example.com/drain".into(), self.annotation)].into(),
            ..Pod::default()
        };
        let container =
            Container { id: "c1".into(), name: "main".into(), image: "web:1".into(), ..Container::default() };
        let event = Event {
            point: hook.point,
            pod: Arc::new(pod),
            container: Some(Arc::new(container)),
            grace: Some(Duration::from_secs(7)),
            at: SystemTime::now().into(),
            trace: None,
        };
        let handler = workshop.build(&hook).unwrap();
        let deadline = Instant::now() + self.limit;
        let delivery = Delivery {
            event_id: "event-1".into(),
            event: Arc::new(event),
            hook,
            replay_of: self.replay_of.map(Arc::from),
            attempt: 2,
            deadline,
            address: None,
            trace: None,
        };
        handler.attempt(delivery).await
    }

    async fn stdout(self) -> String {
        let evidence = self.run().await.unwrap();
        assert_eq!(String::from_utf8_lossy(&evidence.stderr), "");
        String::from_utf8_lossy(&evidence.stdout).into_owned()
    }

    async fn failure(self) -> Failure {
        self.run().await.unwrap_err()
    }
}

fn is_gone(pid: Pid) -> bool {
    // A zombie whose parent has not looked yet is gone, too.
    let state = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    kill(pid, None) == Err(Errno::ESRCH) || state.rsplit(") ").next().is_some_and(|fields| fields.starts_with('Z'))
}

/// The processes that a file names, as soon as there are `count`.
async fn pids(file: &Path, count: usize) -> Vec<Pid> {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let text = fs::read_to_string(file).unwrap_or_default();
        let found: Vec<Pid> = text.lines().filter_map(|line| line.parse().ok()).map(Pid::from_raw).collect();
        if found.len() >= count && text.ends_with('\n') {
            return found;
        }
        assert!(Instant::now() < deadline, "{count} processes were to begin, and did: {text}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn assert_all_go(pids: &[Pid]) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !pids.iter().all(|pid| is_gone(*pid)) {
        assert!(
            Instant::now() < deadline,
            "still there: {:?}",
            pids.iter().filter(|p| !is_gone(**p)).collect::<Vec<_>>()
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// A script that leaves four processes behind, which hear no polite signal: a child, one in a session of its own, one whose parent has
/// ended, and one that did both; their numbers are in `file`. Then comes `rest`.
fn scattering(file: &Path, rest: &str) -> Case {
    let file = file.display();
    shell(&format!(
        "trap '' TERM HUP INT
         note() {{ echo $1 >> {file}; }}
         sleep 600 & note $!
         setsid sh -c 'echo $$ >> {file}; exec sleep 600' &
         (sleep 600 & note $!)
         (setsid sh -c '(setsid sh -c \"echo \\$\\$ >> {file}; exec sleep 600\" &)' &)
         until [ $(wc -l < {file}) -eq 4 ]; do sleep 0.01; done
         {rest}"
    ))
}

#[tokio::test]
async fn the_event_is_on_standard_input() {
    let text = shell("cat").stdout().await;
    let document: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(document["type"], "dev.crihook.PreStopContainer");
    assert_eq!(document["id"], "event-1");
    assert_eq!(document["data"]["pod"]["name"], "web-0");
    assert_eq!(document["data"]["pod"]["ip"], "10.0.0.9");
}

#[tokio::test]
async fn the_environment_is_what_the_contract_says_and_nothing_of_crihooks_own() {
    let case = command(["/usr/bin/env"]).env("LD_PRELOAD_NOT", "$(POD_NAME)!").env("POD_UID", "mine");
    let text = case.stdout().await;
    let mut got: Vec<&str> = text.lines().collect();
    got.sort_unstable();
    insta::assert_snapshot!(got.join("\n"), @r"
    ATTEMPT=2
    CONTAINER_ID=c1
    CONTAINER_NAME=main
    EVENT_ID=event-1
    GRACE_SECONDS=7
    HOOK=drain
    IMAGE=web:1
    LD_PRELOAD_NOT=web-0!
    NODE_NAME=node-7
    PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
    POD_IP=10.0.0.9
    POD_NAME=web-0
    POD_NAMESPACE=payments
    POD_UID=mine
    POINT=PreStopContainer
    POLICY=drain-web
    SANDBOX_ID=s1
    ");
}

#[tokio::test]
async fn a_replay_says_what_it_repeats() {
    let mut case = shell("echo $REPLAY_OF; cat");
    case.replay_of = Some("event-0");
    let text = case.stdout().await;
    let document = text.strip_prefix("event-0\n").expect("a variable");
    assert_eq!(serde_json::from_str::<serde_json::Value>(document).unwrap()["replayof"], "event-0");
}

#[tokio::test]
async fn arguments_are_expanded_one_by_one() {
    let text = command(["/usr/bin/printf", "[%s]", "$(POD_NAME) x", "$$(POD_NAME)", "--", "-n"]).stdout().await;
    assert_eq!(text, "[web-0 x][$(POD_NAME)][--][-n]");
}

#[tokio::test]
async fn a_command_begins_like_any_daemon() {
    let script = "pwd; umask; ulimit -Sn; cat /proc/self/oom_score_adj; grep SigBlk /proc/self/status;
        ignored=$(grep SigIgn /proc/self/status | cut -f 2); echo $((0x$ignored & 0x7fffffff));
        set -- $(cat /proc/$$/stat); [ $1 = $5 ] && [ $1 = $6 ] && echo own session; ls /proc/self/fd | tr '\\n' ' '";
    let text = shell(script).stdout().await;
    let (_, hard) = nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE).unwrap();
    let files = hard.min(1024);
    // The two signals above 31 are the C library's own. ls itself opens the directory: 3.
    let expected = format!("/\n0022\n{files}\n0\nSigBlk:\t0000000000000000\n0\nown session\n0 1 2 3 ");
    assert_eq!(text, expected);
}

#[tokio::test]
async fn it_is_another_users_if_the_policy_says_so() {
    assert!(nix::unistd::geteuid().is_root(), "only root can become somebody else: run this test as root");
    let nobody = nix::unistd::User::from_name("nobody").unwrap().unwrap();
    let expected = format!("{} {} {}\n", nobody.uid, nobody.gid, nobody.gid);
    let ids = "echo $(id -u) $(id -g) $(id -G)";
    assert_eq!(shell(ids).user("nobody").stdout().await, expected);
    assert_eq!(shell(ids).user(&nobody.uid.to_string()).stdout().await, expected);
    assert_eq!(shell(ids).user("54321").stdout().await, "54321 54321 54321\n");
    assert_eq!(shell("grep CapEff /proc/self/status").user("nobody").stdout().await, "CapEff:\t0000000000000000\n");
    let failure = shell("true").user("no-such-user").failure().await;
    assert_eq!((failure.kind, failure.message.as_str()), (Failing::Failed, "there is no user `no-such-user`"));
}

#[tokio::test]
async fn exit_codes_and_output_are_kept() {
    let failure = shell("echo out; echo err >&2; exit 3").failure().await;
    assert_eq!((failure.kind, failure.message.as_str()), (Failing::Failed, "exit code 3"));
    assert_eq!((&failure.evidence.stdout[..], &failure.evidence.stderr[..]), (&b"out\n"[..], &b"err\n"[..]));
    assert_eq!(failure.evidence.exit_code, Some(3));
    assert_eq!(shell("kill -SEGV $$").failure().await.evidence.exit_code, Some(139));
    assert_eq!(shell("exit 126").failure().await.message, "exit code 126");
    assert_eq!(shell("true").run().await.unwrap().exit_code, Some(0));
}

#[tokio::test]
async fn what_cannot_be_started_is_told_with_the_reason() {
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str, mode: u32| {
        let path = directory.path().join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let cases = [
        (file("plain", "text", 0o644), "not executable"),
        (file("odd", "#!/no/such/interpreter\n", 0o755), "the interpreter that it names does not exist"),
        ("/no/such/file".to_owned(), "no such file"),
    ];
    for (path, reason) in cases {
        let failure = command([&path, "hunter2"]).failure().await;
        assert_eq!((failure.kind, failure.message), (Failing::Failed, format!("{path}: {reason}")));
        assert_eq!(failure.evidence, Evidence::default());
    }
}

#[tokio::test]
async fn a_command_need_not_read_its_input() {
    let mut case = shell("exec <&-; echo done");
    case.annotation = "x".repeat(1 << 20);
    assert_eq!(case.stdout().await, "done\n");
    let mut case = shell("echo done");
    case.annotation = "x".repeat(1 << 20);
    assert_eq!(case.stdout().await, "done\n");
}

#[tokio::test]
async fn of_gigabytes_the_end_is_kept() {
    let evidence = shell("head -c 1G /dev/zero; head -c 1G /dev/zero >&2; echo end").run().await.unwrap();
    assert_eq!((evidence.stdout.len(), evidence.stderr.len()), (64 * 1024, 64 * 1024));
    assert!(evidence.stdout.ends_with(b"\0\0end\n"));
}

#[tokio::test]
async fn what_a_command_leaves_behind_ends_with_it() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("pids");
    let evidence = scattering(&file, "echo over").run().await.unwrap();
    assert_eq!(evidence.stdout, "over\n");
    let left = pids(&file, 4).await;
    assert!(left.iter().all(|pid| is_gone(*pid)), "at the end of the attempt, not later");
}

#[tokio::test]
async fn at_the_timeout_all_of_it_ends_and_what_it_said_is_kept() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("pids");
    let case = scattering(&file, "echo begun; exec sleep 600").within(Duration::from_secs(3));
    let began = Instant::now();
    let failure = case.failure().await;
    assert_eq!(
        (failure.kind, failure.message.as_str()),
        (Failing::TimedOut, "the command did not end within 3s, and was killed")
    );
    assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
    assert_eq!((&failure.evidence.stdout[..], failure.evidence.exit_code), (&b"begun\n"[..], None));
    assert!(pids(&file, 4).await.iter().all(|pid| is_gone(*pid)), "at the end of the attempt, not later");
}

#[tokio::test]
async fn a_cancelled_attempt_leaves_nothing_behind() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("pids");
    let begun = tokio::select! {
        ended = scattering(&file, "exec sleep 600").run() => panic!("{ended:?}"),
        begun = pids(&file, 4) => begun,
    };
    assert_all_go(&begun).await;
    let deadline = Instant::now() + Duration::from_secs(10);
    let supervisors = || {
        tree::below(Pid::this()).into_iter().filter(|pid| {
            let arguments = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            arguments.contains("__command") && arguments.contains(file.to_str().unwrap())
        })
    };
    while supervisors().count() > 0 {
        assert!(Instant::now() < deadline, "the supervisor is still there");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn forking_without_end_ends_at_the_timeout() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("pids");
    let script = format!("while :; do setsid sleep 600 & echo $! >> {}; done", file.display());
    let failure = shell(&script).within(Duration::from_millis(700)).failure().await;
    assert_eq!(failure.kind, Failing::TimedOut);
    let begun = pids(&file, 1).await;
    assert_all_go(&begun).await;
}

#[tokio::test]
async fn stopping_or_killing_the_supervisor_frees_nobody() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("pids");
    let case = scattering(&file, "kill -STOP $PPID; exec sleep 600").within(Duration::from_secs(3));
    assert_eq!(case.failure().await.kind, Failing::TimedOut);
    assert!(pids(&file, 4).await.iter().all(|pid| is_gone(*pid)));

    let file = directory.path().join("own");
    let case = shell(&format!("echo $$ >> {}; kill -KILL $PPID; exec sleep 600", file.display()));
    assert_eq!(case.failure().await.message, "the command's supervisor was killed by signal 9");
    assert_all_go(&pids(&file, 1).await).await;
}

#[tokio::test]
async fn when_crihook_dies_its_commands_die() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("pids");
    // A shell in crihook's place, so that it can be killed.
    let inner = format!(
        "trap '' TERM HUP; (setsid sleep 600 & echo $! >> {0}); echo $$ >> {0}; exec sleep 600",
        file.display()
    );
    let script = "\"$0\" __command supervise --token t --parent $$ -- /bin/sh -c \"$1\" & wait";
    let mut crihook = std::process::Command::new("/bin/sh")
        .args(["-c", script, CRIHOOK, &inner])
        .env("+PATH", "/usr/bin:/bin")
        .spawn()
        .unwrap();
    let begun = pids(&file, 2).await;
    kill(Pid::from_raw(i32::try_from(crihook.id()).unwrap()), Signal::SIGKILL).unwrap();
    crihook.wait().unwrap();
    assert_all_go(&begun).await;
}

#[test]
fn people_never_see_the_subcommand() {
    let help = std::process::Command::new(CRIHOOK).arg("--help").output().unwrap();
    let text = String::from_utf8(help.stdout).unwrap();
    assert!(text.contains("serve") && !text.contains("__command"), "{text}");
}
