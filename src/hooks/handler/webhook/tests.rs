//! `webhook` over TCP, TLS and unix sockets.

use std::time::Duration;

use ::http::HeaderName;
use tokio::net::UnixListener;

use super::super::testing::{self, Authority, Raw, answer, redirect, template};
use super::super::{Failing, Workshop};
use super::*;
use crate::hooks::policy::{Action, Tls};

fn to(url: &str) -> policy::Webhook {
    policy::Webhook { url: WebhookUrl::Http(template(url)), headers: Vec::new(), tls: Tls::default() }
}

async fn attempt(spec: policy::Webhook) -> Result<Evidence, Failure> {
    testing::attempt(Action::Webhook(spec)).await
}

fn expected_document() -> String {
    let delivery = testing::delivery(testing::hook("PreStop", testing::sleep()));
    String::from_utf8(event::document(&delivery, &testing::node()).to_vec()).unwrap()
}

#[tokio::test]
async fn the_event_is_posted_as_a_cloudevents_document() {
    let server = Raw::new();
    let port = server.tcp(|_| answer("202 Accepted", "thanks")).await;
    let mut spec = to(&format!("http://127.0.0.1:{port}/v1/$(POD_NAMESPACE)"));
    spec.headers = vec![(HeaderName::from_static("authorization"), template("Bearer hunter2"))];
    let evidence = attempt(spec).await.unwrap();
    assert_eq!((evidence.http_status, &evidence.body[..]), (Some(202), &b"thanks"[..]));
    let request = server.requests().remove(0);
    let (head, body) = request.split_once("\r\n\r\n").unwrap();
    let head = head.to_lowercase();
    assert!(head.starts_with("post /v1/payments http/1.1\r\n"), "{head}");
    assert!(head.contains("\r\ncontent-type: application/cloudevents+json\r\n"), "{head}");
    assert!(head.contains("\r\nauthorization: bearer hunter2"), "{head}");
    assert_eq!(body, expected_document());
}

/// A server on a socket in a directory of its own.
fn listen(answer: impl Fn(&str) -> Option<String> + Clone + Send + 'static) -> (Raw, tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("hook.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    let server = Raw::new();
    let inside = Raw { requests: server.requests.clone(), connections: server.connections.clone() };
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            inside.serve(stream, answer.clone());
        }
    });
    (server, directory, socket)
}

fn unix(socket: PathBuf) -> policy::Webhook {
    let url = WebhookUrl::Unix { socket, path: template("/v1/events?pod=$(POD_NAME)") };
    policy::Webhook { url, headers: Vec::new(), tls: Tls::default() }
}

#[tokio::test]
async fn over_a_unix_socket_connections_are_kept() {
    let (server, _directory, socket) = listen(|_| answer("200 OK", "ok"));
    let hook = testing::hook("PreStop", Action::Webhook(unix(socket)));
    let handler = testing::workshop().build(&hook).unwrap();
    for _ in 0..5 {
        let evidence = handler.attempt(testing::delivery(hook.clone())).await.unwrap();
        assert_eq!((evidence.http_status, &evidence.body[..]), (Some(200), &b"ok"[..]));
    }
    assert_eq!((server.requests().len(), server.connections()), (5, 1));
    let request = server.requests().remove(0);
    assert!(request.starts_with("POST /v1/events?pod=web-0 HTTP/1.1\r\n"), "{request}");
    assert!(request.to_lowercase().contains("\r\nhost: localhost\r\n"), "{request}");
    assert!(request.ends_with(&expected_document()), "{request}");
}

/// It answers the first request of a connection and closes at the second.
fn once() -> impl Fn(&str) -> Option<String> + Clone + Send + 'static {
    let answered = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    move |_| match answered.fetch_add(1, std::sync::atomic::Ordering::SeqCst) {
        1 => None,
        _ => answer("200 OK", "ok"),
    }
}

#[tokio::test]
async fn a_kept_connection_that_turns_out_dead_costs_no_attempt() {
    let (server, _directory, socket) = listen(once());
    let hook = testing::hook("PreStop", Action::Webhook(unix(socket)));
    let handler = testing::workshop().build(&hook).unwrap();
    for _ in 0..2 {
        handler.attempt(testing::delivery(hook.clone())).await.unwrap();
    }
    assert_eq!((server.requests().len(), server.connections()), (3, 2));

    let server = Raw::new();
    let port = server.tcp(once()).await;
    let hook = testing::hook("PreStop", Action::Webhook(to(&format!("http://127.0.0.1:{port}/"))));
    let handler = testing::workshop().build(&hook).unwrap();
    for _ in 0..2 {
        handler.attempt(testing::delivery(hook.clone())).await.unwrap();
    }
    assert_eq!((server.requests().len(), server.connections()), (3, 2));
}

#[tokio::test]
async fn a_server_that_always_closes_is_asked_once() {
    let (server, _directory, socket) = listen(|_| None);
    let failure = attempt(unix(socket.clone())).await.unwrap_err();
    let expected = format!("unix://{} closed the connection before it answered", socket.display());
    assert_eq!((failure.kind, failure.message), (Failing::Failed, expected));
    assert_eq!(server.requests().len(), 1);
}

#[tokio::test]
async fn sockets_that_are_not_there_or_not_served_are_told_apart() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("hook.sock");
    let failure = attempt(unix(socket.clone())).await.unwrap_err();
    assert_eq!(failure.message, format!("there is no socket at unix://{}", socket.display()));
    drop(UnixListener::bind(&socket).unwrap());
    let failure = attempt(unix(socket.clone())).await.unwrap_err();
    assert_eq!(failure.message, format!("connection refused by unix://{}", socket.display()));
    let _never_accepts = UnixListener::bind(directory.path().join("hangs")).unwrap();
    let hangs = Action::Webhook(unix(directory.path().join("hangs")));
    let failure = testing::attempt_within(Duration::from_millis(50), hangs).await.unwrap_err();
    assert_eq!(failure.kind, Failing::TimedOut);
    assert!(failure.message.ends_with("/hangs within 50ms"), "{}", failure.message);
}

#[tokio::test]
async fn a_path_that_cannot_be_sent_is_a_failure() {
    for path in ["/a b", "no-slash", "/\u{1}", &format!("/{}", "x".repeat(1 << 17))] {
        let url = WebhookUrl::Unix { socket: "/run/hook.sock".into(), path: template(path) };
        let failure = attempt(policy::Webhook { url, ..to("") }).await.unwrap_err();
        assert_eq!(failure.message, "the path of the policy, once filled in, is none");
    }
}

#[tokio::test]
async fn only_redirects_that_keep_the_event_are_followed_and_only_on_the_host() {
    let server = Raw::new();
    let port = server
        .tcp(|request| match request.split(' ').nth(1).unwrap_or_default() {
            "/moved" => redirect("308 Permanent Redirect", "/new"),
            "/found" => redirect("302 Found", "/new"),
            "/away" => redirect("307 Temporary Redirect", "http://localhost:9/"),
            "/circle" => redirect("307 Temporary Redirect", "/circle"),
            _ => answer("200 OK", "new"),
        })
        .await;
    let at = |path: &str| attempt(to(&format!("http://127.0.0.1:{port}{path}")));
    assert_eq!(at("/moved").await.unwrap().body, "new");
    let last = server.requests().pop().unwrap();
    assert!(last.starts_with("POST /new ") && last.ends_with(&expected_document()), "{last}");
    assert_eq!(at("/found").await.unwrap().http_status, Some(302));
    assert_eq!(at("/away").await.unwrap().http_status, Some(307));
    let failure = at("/circle").await.unwrap_err();
    assert_eq!(failure.message, format!("127.0.0.1:{port} redirected more than 10 times"));
}

#[tokio::test]
async fn errors_show_neither_credentials_nor_query_nor_headers() {
    let port = Raw::new().tcp(|_| answer("403 Forbidden", "")).await;
    let failing = [
        format!("http://me:hunter2@127.0.0.1:{port}/x?token=hunter2"),
        "http://me:hunter2@127.0.0.1:1/x?token=hunter2".to_owned(),
        "http://me:hunter2@[broken/x?token=hunter2".to_owned(),
    ];
    for url in failing {
        let mut spec = to(&url);
        spec.headers = vec![(HeaderName::from_static("x-key"), template("hunter2"))];
        let failure = attempt(spec).await.unwrap_err();
        assert!(!format!("{failure:?}").contains("hunter2"), "{failure:?}");
    }
    let mut spec = to(&format!("http://127.0.0.1:{port}/"));
    spec.headers = vec![(HeaderName::from_static("x-key"), template("hunter2\n"))];
    assert_eq!(attempt(spec).await.unwrap_err().message, "the value of the header `x-key` cannot be sent");
}

#[tokio::test]
async fn https_with_a_client_certificate() {
    let authority = Authority::new();
    let server = Raw::new();
    let port = server.tls(authority.acceptor(true, &[]), |_| answer("200 OK", "")).await;
    let spec = |tls| policy::Webhook { tls, ..to(&format!("https://localhost:{port}/")) };
    let failure = attempt(spec(authority.trusted())).await.unwrap_err();
    assert_eq!(failure.message, format!("localhost:{port} wants a client certificate"));
    attempt(spec(Tls { identity: Some(authority.client.clone()), ..authority.trusted() })).await.unwrap();
    assert_eq!(server.requests().len(), 1);
}

#[tokio::test]
async fn certificates_that_are_none_are_told_when_the_handler_is_made() {
    let tls = Tls { ca: Some(Bytes::from_static(b"none")), ..Tls::default() };
    let hook = testing::hook("PreStop", Action::Webhook(policy::Webhook { tls, ..to("https://localhost/") }));
    let workshop: Workshop = testing::workshop();
    assert_eq!(workshop.build(&hook).err().unwrap(), "caFile: there is no certificate in it (PEM)");
}
