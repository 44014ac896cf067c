//! `httpGet` against servers that answer, refuse, lie and never end.

use std::time::Duration;

use ::http::HeaderName;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;

use super::super::testing::{self, Authority, Raw, answer, redirect, template};
use super::super::{Failing, Workshop};
use super::*;
use crate::hooks::policy::{Action, PortRef, Tls};

fn get(port: u16, path: &str) -> policy::HttpGet {
    policy::HttpGet {
        path: template(path),
        port: PortRef::Number(port),
        host: None,
        secure: false,
        headers: Vec::new(),
        tls: Tls::default(),
    }
}

async fn attempt(spec: policy::HttpGet) -> Result<Evidence, Failure> {
    testing::attempt(Action::HttpGet(spec)).await
}

/// Its port; `serve` is called with every connection.
async fn listen<F: Future<Output = ()> + Send>(serve: impl Fn(tokio::net::TcpStream) -> F + Send + 'static) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            serve(stream).await;
        }
    });
    port
}

#[tokio::test]
async fn path_and_headers_are_filled_in_and_sent() {
    let server = Raw::new();
    let port = server.tcp(|_| answer("200 OK", "drained")).await;
    let mut spec = get(port, "/drain/$(POD_NAME)?n=$(ATTEMPT)&x=a b#not-sent");
    spec.headers = vec![
        (HeaderName::from_static("x-pod"), template("$(POD_UID)")),
        (HeaderName::from_static("host"), template("web.example")),
    ];
    let evidence = attempt(spec).await.unwrap();
    assert_eq!((evidence.http_status, &evidence.body[..]), (Some(200), &b"drained"[..]));
    let request = server.requests().remove(0).to_lowercase();
    assert!(request.starts_with("get /drain/web-0?n=2&x=a%20b http/1.1\r\n"), "{request}");
    assert!(request.contains("\r\nx-pod: uid-1\r\n") && request.contains("\r\nhost: web.example\r\n"), "{request}");
    assert!(request.contains(&format!("\r\nuser-agent: {}\r\n", http::USER_AGENT)), "{request}");
}

#[tokio::test]
async fn a_port_is_found_by_its_name() {
    let mut spec = get(0, "/");
    spec.port = PortRef::Name("admin".into());
    let failure = attempt(spec).await.unwrap_err();
    assert_eq!(failure.message, "the container `main` has no port called `admin`");
}

#[tokio::test]
async fn statuses_from_200_to_399_succeed_and_the_rest_does_not() {
    for (status, succeeds) in [("200 OK", true), ("204 No Content", true), ("302 Found", true), ("399 Odd", true)] {
        let port = Raw::new().tcp(move |_| answer(status, "")).await;
        assert_eq!(attempt(get(port, "/")).await.is_ok(), succeeds, "{status}");
    }
    for (status, told) in [("404 Not Found", "404 Not Found"), ("500 X", "500 Internal Server Error"), ("499 X", "499")]
    {
        let port = Raw::new().tcp(move |_| answer(status, "because")).await;
        let failure = attempt(get(port, "/?token=hunter2")).await.unwrap_err();
        assert_eq!((failure.kind, failure.message), (Failing::Failed, format!("127.0.0.1:{port} answered {told}")));
        assert_eq!(failure.evidence.http_status, told[..3].parse().ok());
        assert_eq!(failure.evidence.body, "because");
    }
}

#[tokio::test]
async fn redirects_are_followed_to_the_same_host_and_no_other() {
    let server = Raw::new();
    let elsewhere = Raw::new();
    let there = elsewhere.tcp(|_| answer("500 X", "")).await;
    let other_port = Raw::new().tcp(|_| answer("200 OK", "other port")).await;
    let port = server
        .tcp(move |request| match request.split(' ').nth(1).unwrap_or_default() {
            "/a" => redirect("302 Found", "/b"),
            "/port" => redirect("302 Found", &format!("http://127.0.0.1:{other_port}/")),
            "/away" => redirect("302 Found", &format!("http://localhost:{there}/")),
            "/circle" => redirect("307 Temporary Redirect", "/circle"),
            _ => answer("200 OK", "here"),
        })
        .await;
    assert_eq!(attempt(get(port, "/a")).await.unwrap().body, "here");
    assert_eq!(attempt(get(port, "/port")).await.unwrap().body, "other port");
    assert_eq!(attempt(get(port, "/away")).await.unwrap().http_status, Some(302));
    assert_eq!(elsewhere.connections(), 0);
    let before = server.requests().len();
    let failure = attempt(get(port, "/circle")).await.unwrap_err();
    assert_eq!(failure.message, format!("127.0.0.1:{port} redirected more than 10 times"));
    assert_eq!(server.requests().len() - before, 11);
}

#[tokio::test]
async fn of_a_body_without_an_end_the_beginning_is_kept_and_nobody_waits() {
    let port = listen(|mut stream| async move {
        tokio::spawn(async move {
            tokio::io::AsyncReadExt::read(&mut stream, &mut [0; 1024]).await.unwrap();
            let head = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
            let mut sent = stream.write_all(head.as_bytes()).await;
            while sent.is_ok() {
                sent = stream.write_all(b"5\r\nabcde\r\n").await;
            }
        });
    })
    .await;
    let evidence = attempt(get(port, "/")).await.unwrap();
    assert_eq!(evidence.body.len(), 4096);
    assert!(evidence.body.starts_with(b"abcdeabcde"));
}

#[tokio::test]
async fn a_body_that_stalls_is_waited_for_until_the_deadline_and_the_status_counts() {
    let port = Raw::new().tcp(|_| Some("HTTP/1.1 202 Accepted\r\ncontent-length: 9\r\n\r\npart".into())).await;
    let evidence = testing::attempt_within(Duration::from_millis(200), Action::HttpGet(get(port, "/"))).await.unwrap();
    assert_eq!((evidence.http_status, &evidence.body[..]), (Some(202), &b"part"[..]));
}

#[tokio::test]
async fn servers_that_hang_close_or_talk_nonsense_are_told_apart() {
    let hanging = listen(|stream| async move {
        tokio::spawn(async move {
            let _held = stream;
            std::future::pending::<()>().await;
        });
    })
    .await;
    let limit = Duration::from_millis(50);
    let failure = testing::attempt_within(limit, Action::HttpGet(get(hanging, "/"))).await.unwrap_err();
    let expected = (Failing::TimedOut, format!("no answer from 127.0.0.1:{hanging} within 50ms"));
    assert_eq!((failure.kind, failure.message), expected);

    let closing = Raw::new().tcp(|_| None).await;
    let failure = attempt(get(closing, "/")).await.unwrap_err();
    assert_eq!(failure.message, format!("127.0.0.1:{closing} closed the connection before it answered"));

    let garbage = Raw::new().tcp(|_| Some("\x01\x02\x03 nonsense\r\n\r\n".into())).await;
    let failure = attempt(get(garbage, "/")).await.unwrap_err();
    assert_eq!(failure.message, format!("127.0.0.1:{garbage} answered something that is not HTTP"));

    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let refusing = listener.local_addr().unwrap().port();
    drop(listener);
    let failure = attempt(get(refusing, "/")).await.unwrap_err();
    assert_eq!(
        (failure.kind, failure.message),
        (Failing::Failed, format!("connection refused by 127.0.0.1:{refusing}"))
    );
}

#[tokio::test]
async fn https_is_verified_unless_the_policy_says_not_to() {
    let authority = Authority::new();
    let port = Raw::new().tls(authority.acceptor(false, &[]), |_| answer("200 OK", "")).await;
    let with = |tls: Tls| policy::HttpGet { secure: true, tls, ..get(port, "/") };

    let failure = attempt(with(Tls::default())).await.unwrap_err();
    let expected = format!("the certificate of 127.0.0.1:{port} is not accepted: ");
    assert!(failure.message.starts_with(&expected), "{}", failure.message);
    let failure = attempt(with(Authority::new().trusted())).await.unwrap_err();
    assert!(failure.message.starts_with(&expected), "{}", failure.message);

    attempt(with(authority.trusted())).await.unwrap();
    attempt(with(Tls { insecure_skip_verify: true, ..Tls::default() })).await.unwrap();

    let plain = listen(async |mut stream| {
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
    })
    .await;
    let failure =
        attempt(policy::HttpGet { port: PortRef::Number(plain), ..with(authority.trusted()) }).await.unwrap_err();
    assert_eq!(failure.message, format!("127.0.0.1:{plain} does not speak TLS"));
}

#[tokio::test]
async fn what_was_filled_in_never_becomes_another_host_or_a_credential() {
    for host in ["a.example/b", "user@a.example", "a.example?x", "a.example#x", "a b"] {
        let spec = policy::HttpGet { host: Some(template(host)), ..get(9, "/") };
        let failure = attempt(spec).await.unwrap_err();
        assert_eq!(failure.message, "the host of the policy is not one that a URL can have", "{host}");
    }
}

#[tokio::test]
async fn dropping_an_attempt_closes_its_connection() {
    let (told, mut closed) = tokio::sync::mpsc::channel(1);
    let (reached, mut began) = tokio::sync::mpsc::channel(1);
    let port = listen(move |mut stream| {
        let (told, reached) = (told.clone(), reached.clone());
        async move {
            let mut buffer = vec![0; 1024];
            tokio::io::AsyncReadExt::read(&mut stream, &mut buffer).await.unwrap();
            reached.send(()).await.unwrap();
            let end = tokio::io::AsyncReadExt::read(&mut stream, &mut buffer).await;
            told.send(matches!(end, Ok(0) | Err(_))).await.unwrap();
        }
    })
    .await;
    let hook = testing::hook("PreStop", Action::HttpGet(get(port, "/")));
    let workshop: Workshop = testing::workshop();
    let handler = workshop.build(&hook).unwrap();
    let delivery = testing::delivery(hook);
    tokio::select! {
        _ = handler.attempt(delivery) => panic!("nobody answered"),
        _ = began.recv() => (),
    }
    assert_eq!(tokio::time::timeout(Duration::from_secs(5), closed.recv()).await.unwrap(), Some(true));
}
