//! `grpc` against servers in this process, over TCP, TLS and a unix socket.

use std::sync::{Arc, Mutex};

use hyper_util::rt::TokioExecutor;
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tonic::{Response, async_trait};

use super::super::testing::{self, Authority};
use super::super::v1::hook_service_server::{HookService, HookServiceServer};
use super::super::v1::{Accept, Reject};
use super::*;
use crate::hooks::policy::{Action, Tls};

/// Answers all with the same, and remembers what it was asked.
#[derive(Clone, Default)]
struct Server {
    answer: Option<Result<HandleResponse, Status>>,
    asked: Arc<Mutex<Vec<(HandleRequest, String)>>>,
}

#[async_trait]
impl HookService for Server {
    async fn handle(&self, request: Request<HandleRequest>) -> Result<Response<HandleResponse>, Status> {
        let timeout = request.metadata().get("grpc-timeout").unwrap().to_str().unwrap().to_owned();
        self.asked.lock().unwrap().push((request.into_inner(), timeout));
        match &self.answer {
            Some(answer) => answer.clone().map(Response::new),
            None => std::future::pending().await,
        }
    }
}

impl Server {
    fn answering(answer: Result<HandleResponse, Status>) -> Self {
        Self { answer: Some(answer), ..Self::default() }
    }

    fn with(verdict: Option<Verdict>) -> Self {
        Self::answering(Ok(HandleResponse { verdict }))
    }

    async fn serve(self, stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) {
        let service = TowerToHyperService::new(HookServiceServer::new(self));
        let builder = auto::Builder::new(TokioExecutor::new()).http2_only();
        let _ = builder.serve_connection(TokioIo::new(stream), service).await;
    }

    async fn tcp(&self) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let server = self.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(server.clone().serve(stream));
            }
        });
        address
    }
}

fn to(address: &str) -> Action {
    Action::Grpc(policy::Grpc { endpoint: GrpcEndpoint::Tcp(address.to_owned()), tls: None })
}

fn rejecting(reason: &str) -> Server {
    Server::with(Some(Verdict::Reject(Reject { reason: reason.to_owned() })))
}

#[tokio::test]
async fn the_server_is_told_of_the_event_and_how_long_it_has() {
    let server = Server::with(Some(Verdict::Accept(Accept {})));
    testing::attempt(to(&server.tcp().await)).await.unwrap();
    let (request, timeout) = server.asked.lock().unwrap().remove(0);
    insta::assert_debug_snapshot!(request);
    let millis: f64 = timeout.trim_end_matches(char::is_alphabetic).parse::<f64>().unwrap()
        * match timeout.chars().last() {
            Some('n') => 1e-6,
            Some('u') => 1e-3,
            Some('m') => 1.0,
            Some('S') => 1e3,
            other => panic!("{other:?}"),
        };
    assert!((9000.0..=10000.0).contains(&millis), "{timeout}");
}

#[tokio::test]
async fn an_empty_answer_accepts() {
    let server = Server::with(None);
    testing::attempt(to(&server.tcp().await)).await.unwrap();
}

#[tokio::test]
async fn a_rejection_is_final_before_a_call_and_a_failure_after_it() {
    let address = rejecting("the quota of payments\nis used up").tcp().await;
    for (point, kind) in [("PreStop", Failing::Rejected), ("PostStart", Failing::Failed)] {
        let hook = testing::hook(point, to(&address));
        let handler = testing::workshop().build(&hook).unwrap();
        let failure = handler.attempt(testing::delivery(hook)).await.unwrap_err();
        let expected = (kind, "rejected: the quota of payments is used up");
        assert_eq!((failure.kind, failure.message.as_str()), expected);
    }
    let failure = testing::attempt(to(&rejecting("").tcp().await)).await.unwrap_err();
    assert_eq!(failure.message, "rejected without a reason");
    let failure = testing::attempt(to(&rejecting(&"ü".repeat(2000)).tcp().await)).await.unwrap_err();
    assert_eq!(failure.message, format!("rejected: {}", "ü".repeat(512)));
}

#[tokio::test]
async fn other_answers_are_failures_in_words() {
    let told = async |answer: Result<HandleResponse, Status>| {
        let address = Server::answering(answer).tcp().await;
        let failure = testing::attempt(to(&address)).await.unwrap_err();
        (failure.kind, failure.message.replace(&address, "HERE"))
    };
    let unavailable = told(Err(Status::unavailable("starting up"))).await;
    assert_eq!(unavailable, (Failing::Failed, "HERE answered Unavailable: starting up".into()));
    let unimplemented = told(Err(Status::unimplemented("no"))).await;
    assert_eq!(unimplemented, (Failing::Failed, "HERE does not serve crihook.v1.HookService".into()));
    let late = told(Err(Status::deadline_exceeded("late"))).await;
    assert_eq!(late, (Failing::TimedOut, "no answer from HERE within 10s".into()));
    let huge = Verdict::Reject(Reject { reason: "x".repeat(ANSWER_CAP) });
    let huge = told(Ok(HandleResponse { verdict: Some(huge) })).await;
    assert_eq!(huge.0, Failing::Failed);
    assert!(huge.1.starts_with("HERE answered OutOfRange: ") && huge.1.len() < 300, "{}", huge.1);
}

#[tokio::test]
async fn servers_that_hang_refuse_or_speak_something_else_are_told_apart() {
    let address = Server::default().tcp().await;
    let limit = Duration::from_millis(50);
    let failure = testing::attempt_within(limit, to(&address)).await.unwrap_err();
    let expected = (Failing::TimedOut, format!("no answer from {address} within 50ms"));
    assert_eq!((failure.kind, failure.message), expected);

    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let refusing = listener.local_addr().unwrap().to_string();
    drop(listener);
    let failure = testing::attempt(to(&refusing)).await.unwrap_err();
    assert_eq!((failure.kind, failure.message), (Failing::Failed, format!("connection refused by {refusing}")));

    let garbage = testing::Raw::new();
    let port = garbage.tcp(|_| Some("HTTP/1.1 400 Bad Request\r\n\r\n".into())).await;
    let failure = testing::attempt(to(&format!("127.0.0.1:{port}"))).await.unwrap_err();
    assert_eq!(failure.kind, Failing::Failed);
    assert!(failure.message.contains(&format!("127.0.0.1:{port}")), "{}", failure.message);
}

#[tokio::test]
async fn over_a_unix_socket_and_again_after_the_server_was_restarted() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("hook.sock");
    let endpoint = GrpcEndpoint::Unix(path.clone());
    let hook = testing::hook("PreStop", Action::Grpc(policy::Grpc { endpoint, tls: None }));
    let handler = testing::workshop().build(&hook).unwrap();
    let failure = handler.attempt(testing::delivery(hook.clone())).await.unwrap_err();
    assert_eq!(failure.message, format!("there is no socket at unix://{}", path.display()));
    for _ in 0..2 {
        let server = Server::with(None);
        let listener = UnixListener::bind(&path).unwrap();
        let accepting = server.clone();
        let serving = tokio::spawn(async move {
            let (stream, _) = listener.accept().await.unwrap();
            accepting.serve(stream).await;
        });
        handler.attempt(testing::delivery(hook.clone())).await.unwrap();
        handler.attempt(testing::delivery(hook.clone())).await.unwrap();
        assert_eq!(server.asked.lock().unwrap().len(), 2, "over one connection");
        serving.abort();
        let _ = serving.await;
        std::fs::remove_file(&path).unwrap();
    }
}

#[tokio::test]
async fn tls_is_verified_and_a_client_certificate_is_shown() {
    let authority = Authority::new();
    let server = Server::with(None);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("localhost:{}", listener.local_addr().unwrap().port());
    let acceptor = authority.acceptor(true, &[b"h2"]);
    let serving = server.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            if let Ok(stream) = acceptor.accept(stream).await {
                tokio::spawn(serving.clone().serve(stream));
            }
        }
    });
    let with = |tls| Action::Grpc(policy::Grpc { endpoint: GrpcEndpoint::Tcp(address.clone()), tls: Some(tls) });
    let identity = Some(authority.client.clone());

    let failure = testing::attempt(with(Tls { identity: identity.clone(), ..Tls::default() })).await.unwrap_err();
    let expected = format!("the certificate of {address} is not accepted: ");
    assert!(failure.message.starts_with(&expected), "{}", failure.message);
    let failure = testing::attempt(with(authority.trusted())).await.unwrap_err();
    assert_eq!(failure.message, format!("{address} wants a client certificate"));
    testing::attempt(with(Tls { identity: identity.clone(), ..authority.trusted() })).await.unwrap();
    testing::attempt(with(Tls { identity, insecure_skip_verify: true, ..Tls::default() })).await.unwrap();
    assert_eq!(server.asked.lock().unwrap().len(), 2);
}

#[tokio::test]
async fn an_address_that_is_none_is_told_when_the_handler_is_made() {
    let hook = testing::hook("PreStop", to("no port"));
    assert_eq!(testing::workshop().build(&hook).err().unwrap(), "`no port` is not HOST:PORT");
}
