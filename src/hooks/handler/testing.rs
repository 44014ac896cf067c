//! What the tests of the handlers share: a pod, hooks for it, and deliveries.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use tokio::time::Instant;

use super::values::Node;
use super::{Delivery, Evidence, Failure, Handler, Workshop};
use crate::hooks::policy::{Action, FailurePolicy, Hook, Mode, Retries, Template, Tls};
use crate::hooks::{Boxed, ExecError, Executed, Runtime};
use crate::lifecycle::{Address, Container, Event, Pod};

pub(super) const LOCAL: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

pub(super) fn node() -> Node {
    Node { name: "node-7".into(), address: LOCAL }
}

pub(super) fn template(text: &str) -> Template {
    Template::parse(text).unwrap()
}

pub(super) fn sleep() -> Action {
    Action::Sleep(Duration::from_secs(1))
}

pub(super) fn hook(point: &str, action: Action) -> Arc<Hook> {
    Arc::new(Hook {
        policy: "drain-web".into(),
        name: "drain".into(),
        point: point.parse().unwrap(),
        action,
        timeout: Duration::from_secs(10),
        retries: Retries { attempts: 1, backoff: Duration::from_millis(200), max_backoff: Duration::from_secs(5) },
        mode: Mode::Blocking,
        failure_policy: FailurePolicy::Ignore,
    })
}

/// The second attempt, at a container's point, with ten seconds to go.
pub(super) fn delivery(hook: Arc<Hook>) -> Delivery {
    let ports = r#"[{"name":"http","containerPort":8080}]"#;
    let container = Container {
        id: "c1".into(),
        name: "main".into(),
        image: "registry.example/web:1".into(),
        attempt: 0,
        annotations: [("io.kubernetes.container.ports".into(), ports.into())].into(),
    };
    let mut delivery = sandbox_delivery(hook);
    let mut event = (*delivery.event).clone();
    event.container = Some(Arc::new(container));
    event.grace = Some(Duration::from_millis(7900));
    delivery.event = Arc::new(event);
    delivery
}

/// The same at a sandbox's point.
pub(super) fn sandbox_delivery(hook: Arc<Hook>) -> Delivery {
    let pod = Pod {
        namespace: "payments".into(),
        name: "web-0".into(),
        uid: "uid-1".into(),
        attempt: 0,
        sandbox_id: "s1".into(),
        labels: [("app".into(), "web".into())].into(),
        annotations: [("example.com/drain".into(), "true".into())].into(),
        runtime_handler: Some("runc".into()),
    };
    let event = Event {
        point: hook.point,
        pod: Arc::new(pod),
        container: None,
        grace: None,
        at: (SystemTime::UNIX_EPOCH + Duration::from_millis(1_700_000_000_123)).into(),
        trace: None,
    };
    Delivery {
        event_id: "event-1".into(),
        event: Arc::new(event),
        hook,
        replay_of: None,
        attempt: 2,
        deadline: Instant::now() + Duration::from_secs(10),
        address: Some(Address::Pod(LOCAL)),
        trace: None,
    }
}

/// What a runtime is asked to run.
pub(super) type Asked = (String, Vec<String>, Duration);

/// A runtime that answers what it is told to, or never.
#[derive(Default)]
pub(super) struct Scripted {
    pub(super) answer: Option<Result<Executed, ExecError>>,
    pub(super) asked: std::sync::Mutex<Vec<Asked>>,
}

impl Runtime for Scripted {
    fn exec(&self, container: &str, command: &[String], limit: Duration) -> Boxed<'_, Result<Executed, ExecError>> {
        self.asked.lock().unwrap().push((container.to_owned(), command.to_vec(), limit));
        let answer = self.answer.clone();
        Box::pin(async move {
            match answer {
                Some(answer) => answer,
                None => std::future::pending().await,
            }
        })
    }

    fn address(&self, _sandbox: &str) -> Boxed<'_, Result<Address, String>> {
        Box::pin(async { Ok(Address::Pod(IpAddr::V4(Ipv4Addr::new(10, 0, 0, 9)))) })
    }
}

pub(super) fn workshop() -> Workshop {
    Workshop::new(Arc::new(Scripted::default()), "node-7".into(), LOCAL)
}

pub(super) fn build(action: Action) -> (Box<dyn Handler>, Delivery) {
    let hook = hook("PreStop", action);
    (workshop().build(&hook).unwrap(), delivery(hook))
}

/// One attempt, with ten seconds to go.
pub(super) async fn attempt(action: Action) -> Result<Evidence, Failure> {
    let (handler, delivery) = build(action);
    handler.attempt(delivery).await
}

/// One attempt, with this long to go.
pub(super) async fn attempt_within(limit: Duration, action: Action) -> Result<Evidence, Failure> {
    let (handler, mut delivery) = build(action);
    delivery.deadline = Instant::now() + limit;
    handler.attempt(delivery).await
}

/// A certificate authority, and what it has signed: a server (`localhost`, 127.0.0.1) and a client.
pub(super) struct Authority {
    pub(super) ca: Bytes,
    pub(super) server: (Bytes, Bytes),
    pub(super) client: (Bytes, Bytes),
}

impl Authority {
    pub(super) fn new() -> Self {
        use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca = params.self_signed(&key).unwrap().pem();
        let issuer = Issuer::new(params, key);
        let signed = |names: &[&str]| {
            let key = KeyPair::generate().unwrap();
            let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
            let certificate = CertificateParams::new(names).unwrap().signed_by(&key, &issuer).unwrap();
            (Bytes::from(certificate.pem()), Bytes::from(key.serialize_pem()))
        };
        Self { server: signed(&["localhost", "127.0.0.1"]), client: signed(&["crihook"]), ca: ca.into() }
    }

    /// What a server needs to accept TLS; with `clients`, only from those it has signed.
    pub(super) fn acceptor(&self, clients: bool, alpn: &[&[u8]]) -> tokio_rustls::TlsAcceptor {
        use rustls::pki_types::pem::PemObject;
        use rustls::pki_types::{CertificateDer, PrivateKeyDer};
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = rustls::ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .unwrap();
        let builder = if clients {
            let mut roots = rustls::RootCertStore::empty();
            roots.add(CertificateDer::from_pem_slice(&self.ca).unwrap()).unwrap();
            let verifier = rustls::server::WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            builder.with_client_cert_verifier(verifier.build().unwrap())
        } else {
            builder.with_no_client_auth()
        };
        let chain = vec![CertificateDer::from_pem_slice(&self.server.0).unwrap()];
        let key = PrivateKeyDer::from_pem_slice(&self.server.1).unwrap();
        let mut config = builder.with_single_cert(chain, key).unwrap();
        config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
        tokio_rustls::TlsAcceptor::from(Arc::new(config))
    }

    /// Whom a client is to believe: this authority.
    pub(super) fn trusted(&self) -> Tls {
        Tls { ca: Some(self.ca.clone()), ..Tls::default() }
    }
}

/// A server of bytes: for each connection, reads a request's head (and as much body as it announces), remembers it, and answers with
/// what `answer` gives for it; then the same again on the connection until there is nothing to answer.
pub(super) struct Raw {
    pub(super) requests: Arc<std::sync::Mutex<Vec<String>>>,
    pub(super) connections: Arc<std::sync::atomic::AtomicUsize>,
}

impl Raw {
    pub(super) fn new() -> Self {
        Self { requests: Arc::default(), connections: Arc::default() }
    }

    /// All requests, in order.
    pub(super) fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }

    pub(super) fn connections(&self) -> usize {
        self.connections.load(std::sync::atomic::Ordering::SeqCst)
    }

    /// Answers on one connection. An answer of `None` closes it.
    pub(super) fn serve<S>(&self, mut stream: S, answer: impl Fn(&str) -> Option<String> + Send + 'static)
    where
        S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
    {
        use tokio::io::AsyncWriteExt;
        let requests = self.requests.clone();
        self.connections.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        tokio::spawn(async move {
            while let Some(request) = read_request(&mut stream).await {
                let answered = answer(&request);
                requests.lock().unwrap().push(request);
                let Some(answered) = answered else { return };
                if stream.write_all(answered.as_bytes()).await.is_err() {
                    return;
                }
            }
        });
    }

    /// Listens on a port of its own, which it gives.
    pub(super) async fn tcp(&self, answer: impl Fn(&str) -> Option<String> + Clone + Send + 'static) -> u16 {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = Self { requests: self.requests.clone(), connections: self.connections.clone() };
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                server.serve(stream, answer.clone());
            }
        });
        port
    }

    /// The same with TLS.
    pub(super) async fn tls(
        &self,
        acceptor: tokio_rustls::TlsAcceptor,
        answer: impl Fn(&str) -> Option<String> + Clone + Send + 'static,
    ) -> u16 {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = Self { requests: self.requests.clone(), connections: self.connections.clone() };
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                if let Ok(stream) = acceptor.accept(stream).await {
                    server.serve(stream, answer.clone());
                }
            }
        });
        port
    }
}

async fn read_request(stream: &mut (impl tokio::io::AsyncRead + Unpin)) -> Option<String> {
    use tokio::io::AsyncReadExt;
    let mut got = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&got);
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length =
                head.lines().find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse().ok());
            if body.len() >= length.unwrap_or(0) {
                return Some(text.into_owned());
            }
        }
        if stream.read_buf(&mut got).await.ok()? == 0 {
            return None;
        }
    }
}

/// An answer with a body.
#[allow(clippy::unnecessary_wraps, reason = "the shape that servers want")]
pub(super) fn answer(status: &str, body: &str) -> Option<String> {
    Some(format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n{body}", body.len()))
}

/// A redirect.
#[allow(clippy::unnecessary_wraps, reason = "the shape that servers want")]
pub(super) fn redirect(status: &str, to: &str) -> Option<String> {
    Some(format!("HTTP/1.1 {status}\r\nlocation: {to}\r\ncontent-length: 0\r\n\r\n"))
}
