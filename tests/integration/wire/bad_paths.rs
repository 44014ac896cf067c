//! Paths that cannot be used: one clear line, the right exit code, and nothing of anybody else's is touched.
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tokio::net::{TcpListener, UnixListener, UnixStream};

use super::peer::grpc::{self, message};
use super::peer::{Call, Client, Crihook, Stand, Upstream, process, until, upstream, within};

async fn answer_ok(mut call: Call) {
    call.read().await;
    call.answer(grpc::response(), message(0, b""), grpc::status(0, ""));
}

/// Starts a crihook that is told to listen on `path`, and gives its exit code and its one line.
async fn refused(stand: &Stand, path: &Path) -> (Option<i32>, String) {
    let mut crihook = Crihook::spawn(process::serve(stand.dir()).set("--listen", path).command());
    let code = within("the exit", crihook.exit()).await;
    let log = crihook.log();
    assert_eq!(log.len(), 1, "one line: {log:#?}");
    assert!(log[0].contains(&path.display().to_string()), "names the place: {}", log[0]);
    (code, log[0].clone())
}

#[tokio::test]
async fn a_live_socket_is_refused_and_goes_on_serving() {
    let stand = Stand::empty();
    let path = stand.dir().join("taken.sock");
    let taken = UnixListener::bind(&path).expect("a socket");
    let (code, line) = refused(&stand, &path).await;
    assert_eq!(code, Some(1));
    assert!(line.contains("another process") && line.contains("choose another path"), "{line}");
    // The look at it may have left a connection in the queue; behind it comes this one.
    UnixStream::connect(&path).await.expect("its owner still has it");
    taken.accept().await.expect("and accepts");
}

#[tokio::test]
async fn a_second_crihook_does_not_take_the_place_of_the_first() {
    let stand = Stand::through().await;
    let _upstream = Upstream::start(&stand.upstream, answer_ok);
    let (code, _) = refused(&stand, &stand.front).await;
    assert_eq!(code, Some(1));
    let client = Client::connect(&stand.front).await;
    assert_eq!(client.call(grpc::request("/a.b/C"), message(0, b"")).await.grpc_status(), Some("0"));
}

#[tokio::test]
async fn a_stale_socket_is_replaced() {
    let stand = Stand::empty();
    drop(UnixListener::bind(&stand.front).expect("a socket"));
    assert!(stand.front.exists(), "its file outlived it");
    let _upstream = Upstream::start(&stand.upstream, answer_ok);
    let crihook = Crihook::serving_as(process::serve(stand.dir()).command()).await;
    let client = Client::connect(&stand.front).await;
    assert_eq!(client.call(grpc::request("/a.b/C"), message(0, b"")).await.grpc_status(), Some("0"));
    assert!(crihook.lines_at(&["WARN", "ERROR"]).is_empty(), "{:?}", crihook.log());
}

#[tokio::test]
async fn a_file_that_is_no_socket_is_refused_and_left_as_it_was() {
    let stand = Stand::empty();
    let path = stand.dir().join("precious");
    std::fs::write(&path, "do not touch").expect("a file");
    let (code, line) = refused(&stand, &path).await;
    assert_eq!(code, Some(1));
    assert!(line.contains("no socket"), "{line}");
    assert_eq!(std::fs::read_to_string(&path).expect("it is there"), "do not touch");
    let directory = stand.dir().join("directory");
    std::fs::create_dir(&directory).expect("a directory");
    assert_eq!(refused(&stand, &directory).await.0, Some(1));
    assert!(directory.is_dir());
    // A symlink is judged by itself: what it points to is never removed.
    let alias = stand.dir().join("link");
    std::os::unix::fs::symlink(&path, &alias).expect("a link");
    assert_eq!(refused(&stand, &alias).await.0, Some(1));
    assert!(alias.is_symlink() && path.exists());
}

#[tokio::test]
async fn directories_that_are_missing_or_not_writable_are_told() {
    let stand = Stand::empty();
    let (code, line) = refused(&stand, &stand.dir().join("missing/front.sock")).await;
    assert_eq!(code, Some(1));
    assert!(line.contains("does not exist") && line.contains("create it"), "{line}");
    // Not even root may make a file here.
    let (code, line) = refused(&stand, Path::new("/proc/crihook.sock")).await;
    assert_eq!(code, Some(1));
    assert!(line.contains("a directory that crihook may write to"), "{line}");
}

#[tokio::test]
async fn a_path_longer_than_a_unix_address_is_told() {
    let stand = Stand::empty();
    let deep = |length: usize| {
        let mut path = stand.dir().join("x").display().to_string();
        path.push_str(&"y".repeat(length - path.len()));
        PathBuf::from(path)
    };
    let (code, line) = refused(&stand, &deep(108)).await;
    assert_eq!(code, Some(1));
    assert!(line.contains("108") && line.contains("107"), "{line}");
    assert_eq!(refused(&stand, &deep(4000)).await.0, Some(1));
    // The longest that fits, works.
    let longest = deep(107);
    let _crihook = Crihook::serving_as(process::serve(stand.dir()).set("--listen", &longest).command()).await;
    UnixStream::connect(&longest).await.expect("it listens there");
}

#[tokio::test]
async fn a_runtime_endpoint_that_is_no_socket_is_told_and_does_not_keep_crihook_from_serving() {
    let stand = Stand::empty();
    std::fs::write(&stand.upstream, "").expect("a file");
    let crihook = Crihook::serving_as(process::serve(stand.dir()).command()).await;
    let errors = crihook.lines_at(&["ERROR"]);
    assert_eq!(errors.len(), 1, "{errors:?}");
    let line = errors[0]["message"].as_str().expect("a message");
    assert!(line.contains(&stand.upstream.display().to_string()) && line.contains("not a socket"), "{line}");
    assert!(line.contains("--runtime-endpoint"), "says what to do: {line}");
    let client = Client::connect(&stand.front).await;
    let answer = client.call(grpc::request("/a.b/C"), message(0, b"")).await;
    assert_eq!(answer.grpc_status(), Some("14"));
    assert!(answer.grpc_message().is_some_and(|message| message.contains("not a socket")), "{answer:?}");
    // And when one is there after all, it is used.
    let _upstream = Upstream::on(upstream::bind(&stand.upstream), &upstream::Settings::default(), answer_ok);
    assert_eq!(client.call(grpc::request("/a.b/C"), message(0, b"")).await.grpc_status(), Some("0"));
}

/// A crihook that has something to complain of and serves nevertheless.
async fn serves_with_one_complaint(flag: &'static str, value: &str) -> (Stand, String) {
    let stand = Stand::through_with(|flags, _| {
        flags.set(flag, value);
    })
    .await;
    let _upstream = Upstream::start(&stand.upstream, answer_ok);
    let client = Client::connect(&stand.front).await;
    assert_eq!(client.call(grpc::request("/a.b/C"), message(0, b"")).await.grpc_status(), Some("0"));
    let trouble = until("a line in the log", || async {
        let mut lines = stand.crihook().lines_at(&["WARN", "ERROR"]);
        // Without a state directory there is no copy of the policies either, which is told when the first is to be made.
        lines.retain(|line| !line["message"].as_str().is_some_and(|text| text.contains("a copy of the policies")));
        if lines.is_empty() { Err(stand.crihook().log()) } else { Ok(lines) }
    })
    .await;
    assert_eq!(trouble.len(), 1, "{trouble:?}");
    let line = trouble[0]["message"].as_str().expect("a message").to_owned();
    assert!(line.contains(value), "names the place: {line}");
    (stand, line)
}

#[tokio::test]
async fn a_metrics_port_in_use_is_told_and_taken_once_it_is_free() {
    let taken = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let addr = taken.local_addr().expect("an address").to_string();
    let (stand, line) = serves_with_one_complaint("--metrics-addr", &addr).await;
    assert!(line.contains("in use") || line.contains("cannot serve metrics"), "{line}");
    drop(taken);
    assert_eq!(stand.crihook().metrics_addr().await, addr);
    assert!(stand.crihook().metrics().await.sum("crihook_cri_requests_total", &[]) > 0.5);
}

#[tokio::test]
async fn a_state_directory_or_admin_socket_that_cannot_be_had_is_told() {
    serves_with_one_complaint("--state-dir", "/proc/crihook").await;
    serves_with_one_complaint("--admin-socket", "/proc/admin.sock").await;
}

/// The kubelet runs as root and so does the runtime; nobody else may talk to either.
#[tokio::test]
async fn the_socket_has_the_mode_of_the_runtimes_socket_and_is_closed_to_others_before() {
    let stand = Stand::empty();
    let crihook = Crihook::serving_as(process::serve(stand.dir()).command()).await;
    let mode = |path: &Path| std::fs::metadata(path).expect("it is there").permissions().mode() & 0o777;
    assert_eq!(mode(&stand.front), 0o600);
    assert_eq!(mode(&stand.dir().join("admin.sock")), 0o600);
    let listener = upstream::bind(&stand.upstream);
    std::fs::set_permissions(&stand.upstream, std::fs::Permissions::from_mode(0o660)).expect("own file");
    let _upstream = Upstream::on(listener, &upstream::Settings::default(), answer_ok);
    until("the mode is the runtime's", || async {
        let mode = mode(&stand.front);
        if mode == 0o660 { Ok(()) } else { Err(mode) }
    })
    .await;
    assert_eq!(mode(&stand.dir().join("admin.sock")), 0o600, "the admin socket stays as it was");
    drop(crihook);
}
