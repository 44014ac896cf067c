//! How commands talk to a crihook that serves: over its admin socket.

use std::borrow::Cow;
use std::fmt;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HOST};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::{Output, print};
use crate::config::{Config, ConfigError, DEFAULT_FILE, Endpoint, Settings};

/// What reads something is answered within this time.
pub const SOON: Duration = Duration::from_secs(10);

/// Whom a command asks, and how it shows the answer.
#[derive(Debug, clap::Args)]
pub struct Asking {
    /// Where crihook serves its own commands [default: /run/crihook/admin.sock]
    #[arg(long, env = "CRIHOOK_ADMIN_SOCKET", value_name = "ENDPOINT")]
    admin_socket: Option<Endpoint>,
    /// The file that `crihook serve` reads settings from [default: /etc/crihook/config.yaml if it is there]
    #[arg(long, env = "CRIHOOK_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// How it is written
    #[arg(short, long, value_name = "FORMAT", default_value = "text")]
    pub output: Output,
}

impl Asking {
    /// Runs a command that talks to that crihook, and says what keeps it from being done.
    pub fn run(&self, command: impl AsyncFnOnce(Client) -> Result<(), Refused>) -> ExitCode {
        let tokio = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let tokio = tokio.map_err(|error| Refused::Failed(format!("cannot start the runtime: {error}")));
        let done = tokio.and_then(|tokio| {
            let client = Client { at: self.endpoint()?, output: self.output };
            tokio.block_on(command(client))
        });
        match done {
            Ok(()) => ExitCode::SUCCESS,
            Err(refused) => {
                if !matches!(refused, Refused::Told) {
                    eprintln!("crihook: {refused}");
                }
                refused.code().into()
            }
        }
    }

    /// As `serve` finds it.
    fn endpoint(&self) -> Result<Endpoint, ConfigError> {
        if let Some(endpoint) = &self.admin_socket {
            return Ok(endpoint.clone());
        }
        let file = match &self.config {
            Some(file) => Settings::read(file)?,
            None if Path::new(DEFAULT_FILE).exists() => Settings::read(Path::new(DEFAULT_FILE))?,
            None => Settings::default(),
        };
        Ok(Config::try_from(file)?.admin_socket)
    }
}

/// Why a command has not done what it was to do.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    #[error("{0}; a socket that is named with --admin-socket needs no config file")]
    Config(#[from] ConfigError),
    #[error("nobody answers at {at}: {why}")]
    Silent { at: Endpoint, why: String },
    /// What crihook says, with the status that it says it with.
    #[error("{1}")]
    Said(StatusCode, String),
    #[error("{at} does not answer as crihook does: {why}")]
    Strange { at: Endpoint, why: String },
    #[error("cannot write to standard output: {0}")]
    Output(#[from] io::Error),
    #[error("the answer of {at} broke off: {why}")]
    Broken { at: Endpoint, why: String },
    #[error("{0}")]
    Failed(String),
    /// It was told already.
    #[error("")]
    Told,
}

impl Refused {
    /// Whether it may be over in a moment: there is no crihook just now, or it is ending.
    pub fn passes(&self) -> bool {
        match self {
            Self::Silent { .. } | Self::Broken { .. } => true,
            Self::Said(status, _) => *status == StatusCode::SERVICE_UNAVAILABLE,
            _ => false,
        }
    }

    /// 2 for what the user has written, 1 for the rest.
    fn code(&self) -> u8 {
        match self {
            Self::Config(_) | Self::Said(StatusCode::BAD_REQUEST, _) => 2,
            _ => 1,
        }
    }
}

/// Asks the crihook of one admin socket; each question has a connection of its own.
#[derive(Debug)]
pub struct Client {
    at: Endpoint,
    output: Output,
}

impl Client {
    /// Reads a document. `query` is what follows the path: names and values.
    ///
    /// # Errors
    /// See [`Refused`].
    pub async fn get(&self, path: &str, query: &[(&str, String)]) -> Result<Value, Refused> {
        let answer = self.ask(Method::GET, &target(path, query), Bytes::new(), SOON).await?;
        self.document(answer).await
    }

    /// Changes something, and reads what came of it, which begins to come within `limit`.
    ///
    /// # Errors
    /// See [`Refused`].
    pub async fn post(&self, path: &str, body: &Value, limit: Duration) -> Result<Value, Refused> {
        let answer = self.ask(Method::POST, path, body.to_string().into(), limit).await?;
        self.document(answer).await
    }

    /// Reads documents, each a line, as they come.
    ///
    /// # Errors
    /// See [`Refused`].
    pub async fn lines(&self, path: &str, query: &[(&str, String)]) -> Result<Lines, Refused> {
        let answer = self.ask(Method::GET, &target(path, query), Bytes::new(), SOON).await?;
        Ok(Lines { at: self.at.clone(), body: answer.into_body(), read: BytesMut::new() })
    }

    /// Asks, and waits for the head of an answer that is not a refusal.
    async fn ask(
        &self,
        method: Method,
        target: &str,
        body: Bytes,
        limit: Duration,
    ) -> Result<Response<Incoming>, Refused> {
        let request = Request::builder().method(method).uri(target).header(HOST, "crihook");
        let request = request.header(CONTENT_TYPE, "application/json").body(Full::new(body));
        let request = request.map_err(|error| Refused::Failed(error.to_string()))?;
        let asked = async {
            let stream = UnixStream::connect(self.at.path()).await.map_err(|error| self.silent(&unheard(&error)))?;
            let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
            let (mut sender, connection) = handshake.map_err(|error| self.broken(&error))?;
            tokio::spawn(connection);
            sender.send_request(request).await.map_err(|error| self.broken(&error))
        };
        let answer = timeout(limit, asked).await.map_err(|_| self.silent(&format_args!("not within {limit:?}")))??;
        if answer.status().is_success() {
            return Ok(answer);
        }
        let status = answer.status();
        let why = match self.document(answer).await?.get("error").and_then(Value::as_str) {
            Some(why) => why.to_owned(),
            None => status.to_string(),
        };
        Err(Refused::Said(status, why))
    }

    /// A document as what it is.
    ///
    /// # Errors
    /// It is something else, as from a crihook of another version.
    pub fn understand<T: DeserializeOwned>(&self, document: Value) -> Result<T, Refused> {
        serde_json::from_value(document).map_err(|error| self.strange(&error))
    }

    /// Prints a document as it is, or what `text` makes of it for people.
    ///
    /// # Errors
    /// As [`Client::understand`].
    pub fn show<T: DeserializeOwned>(
        &self,
        document: Value,
        text: impl FnOnce(&T) -> Result<String, fmt::Error>,
    ) -> Result<(), Refused> {
        let shown = match self.output {
            Output::Json => format!("{document:#}\n"),
            Output::Text => text(&self.understand(document)?).map_err(|error| Refused::Failed(error.to_string()))?,
        };
        Ok(print(&shown)?)
    }

    async fn document(&self, answer: Response<Incoming>) -> Result<Value, Refused> {
        let body = answer.into_body().collect().await.map_err(|error| self.broken(&error))?;
        serde_json::from_reader(body.aggregate().reader()).map_err(|error| self.strange(&error))
    }

    fn silent(&self, why: &impl ToString) -> Refused {
        Refused::Silent { at: self.at.clone(), why: why.to_string() }
    }

    fn broken(&self, why: &impl ToString) -> Refused {
        Refused::Broken { at: self.at.clone(), why: why.to_string() }
    }

    fn strange(&self, why: &impl ToString) -> Refused {
        Refused::Strange { at: self.at.clone(), why: why.to_string() }
    }
}

/// Lines as they come.
#[derive(Debug)]
pub struct Lines {
    at: Endpoint,
    body: Incoming,
    read: BytesMut,
}

impl Lines {
    /// The next document; `None` when there will be no more, since crihook ends.
    ///
    /// # Errors
    /// It broke off, or what came is no document.
    pub async fn next(&mut self) -> Result<Option<Value>, Refused> {
        let strange = |at: &Endpoint, why: String| Refused::Strange { at: at.clone(), why };
        loop {
            if let Some(end) = self.read.iter().position(|byte| *byte == b'\n') {
                let line = self.read.split_to(end + 1);
                let document: Value =
                    serde_json::from_slice(&line).map_err(|error| strange(&self.at, error.to_string()))?;
                return match document.get("error").and_then(Value::as_str) {
                    Some(why) => Err(Refused::Failed(why.to_owned())),
                    None => Ok(Some(document)),
                };
            }
            match self.body.frame().await {
                None => return Ok(None),
                Some(Ok(frame)) => self.read.extend(frame.into_data().unwrap_or_default()),
                Some(Err(error)) => return Err(Refused::Broken { at: self.at.clone(), why: error.to_string() }),
            }
        }
    }
}

/// Why nobody can be asked, and what would be right.
fn unheard(error: &io::Error) -> Cow<'static, str> {
    match error.kind() {
        ErrorKind::NotFound => {
            "there is no such socket: crihook does not serve (see `systemctl status crihook`), or its socket is elsewhere (name it with --admin-socket)".into()
        }
        ErrorKind::ConnectionRefused => {
            "the crihook that served there is gone; `systemctl status crihook` and its log say why".into()
        }
        ErrorKind::PermissionDenied => "the socket is for its owner alone; try it as root".into(),
        _ => error.to_string().into(),
    }
}

fn target(path: &str, query: &[(&str, String)]) -> String {
    let mut target = path.to_owned();
    if !query.is_empty() {
        target.push('?');
        target += &form_urlencoded::Serializer::new(String::new()).extend_pairs(query).finish();
    }
    target
}
