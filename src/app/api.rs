//! What crihook's own commands ask over the admin socket.
//!
//! | | |
//! | --- | --- |
//! | `GET /v1/status` | how crihook is: [`status::Status`] |
//! | `GET /v1/runs` | runs of hooks, the newest first; parameters choose which ([`query`]) |
//! | `GET /v1/runs?follow=true` | a run a line: those that have ended, the newest `limit` of them, then each as it ends |
//! | `GET /v1/runs/ID` | one run; the id may be cut at either end |
//! | `POST /v1/runs/ID/replay` | runs its hook again for its event, and gives the new run's id |
//! | `POST /v1/upgrade` | the installed binary takes over, within `timeout` if one is given ([`Upgraded`](super::upgrade::Upgraded)) |
//! | `POST /v1/pause`, `/v1/resume` | hooks off, with a `reason` if one is given, and on |
//!
//! Answers are JSON. A refusal is `{"error": "..."}`, in words for people, with the status that HTTP has for it.

mod follow;
pub mod query;
pub mod status;

use std::sync::Arc;
use std::time::Duration;

use http_body_util::BodyExt;
use hyper::header::{ALLOW, HeaderValue};
use hyper::{Method, Response, StatusCode};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::sync::{broadcast, mpsc};
use tokio::time::timeout;

use super::hooks::Hooks;
use super::upgrade::{NoUpgrade, READY_LIMIT, Upgrades};
use crate::admin::{self, Ask, Body};
use crate::config::Span;
use crate::drain::Drain;
use crate::hooks::engine::{Engine, NoReplay};
use crate::hooks::pause::{Pause, Paused};
use crate::journal::{Filter, Journal, Run};
use status::Sources;

/// Ended runs that a slow follower may be behind.
pub(super) const BEHIND: usize = 1024;
/// Runs that are named where one was meant.
const NAMED: usize = 3;
/// What a pause may be told as its reason, in bytes.
const MAX_REASON: usize = 1024;
/// How long a command waits for the state directory's disk.
const KEEP: Duration = Duration::from_secs(5);

/// Why there is no answer.
#[derive(Debug)]
struct Refusal {
    status: StatusCode,
    why: String,
    /// What would be answered, if it is the method that is wrong.
    allow: Option<HeaderValue>,
}

impl Refusal {
    fn new(status: StatusCode, why: impl Into<String>) -> Self {
        Self { status, why: why.into(), allow: None }
    }

    fn into_response(self) -> Response<Body> {
        let mut response = admin::refusal(self.status, self.why);
        response.headers_mut().extend(self.allow.map(|method| (ALLOW, method)));
        response
    }
}

type Answer = Result<Response<Body>, Refusal>;

/// What came of `pause` and `resume`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Switched {
    /// Whether hooks are on now where they were off, or the other way round.
    pub changed: bool,
    /// Since when hooks are off, if they are; after `resume`, were.
    pub paused: Option<Paused>,
    /// Why a restart will not find it as it is now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_kept: Option<String>,
}

/// What answers are made of. Cheap to clone.
#[derive(Clone)]
pub(super) struct Api {
    journal: Arc<dyn Journal>,
    engine: Arc<Engine>,
    pause: Pause,
    drain: Drain,
    sources: Arc<Sources>,
    upgrades: Upgrades,
    /// The ids of runs that end.
    ended: broadcast::Sender<Arc<str>>,
}

impl Api {
    /// Must be called within the runtime that serves it.
    pub fn new(hooks: &Hooks, sources: Arc<Sources>, upgrades: Upgrades) -> Self {
        let (observer, mut seen) = mpsc::channel(BEHIND);
        hooks.engine.observe(observer);
        let ended = hooks.ended.clone();
        let told = ended.clone();
        tokio::spawn(async move {
            while let Some(run) = seen.recv().await {
                // Without followers it fails.
                let _ = told.send(run.id);
            }
        });
        Self {
            journal: Arc::clone(&hooks.journal) as _,
            engine: Arc::clone(&hooks.engine),
            pause: hooks.pause.clone(),
            drain: sources.drain.clone(),
            sources,
            upgrades,
            ended,
        }
    }

    /// Ready to be served.
    pub fn serve(self) -> admin::Api {
        Arc::new(move |ask| {
            let api = self.clone();
            Box::pin(async move { api.answer(&ask).await.unwrap_or_else(Refusal::into_response) })
        })
    }

    async fn answer(&self, ask: &Ask) -> Answer {
        let path: Vec<&str> = ask.path.split('/').skip(2).collect();
        match path[..] {
            ["status"] => {
                to(ask, &Method::GET)?;
                Ok(admin::json(StatusCode::OK, &self.sources.status().await))
            }
            ["runs"] => {
                to(ask, &Method::GET)?;
                self.runs(ask).await
            }
            ["runs", id] => {
                to(ask, &Method::GET)?;
                Ok(admin::json(StatusCode::OK, &self.run(id, true).await?))
            }
            ["runs", id, "replay"] => {
                to(ask, &Method::POST)?;
                self.replay(id).await
            }
            ["upgrade"] => {
                to(ask, &Method::POST)?;
                self.upgrade(ask).await
            }
            ["pause"] => {
                to(ask, &Method::POST)?;
                self.pause(ask).await
            }
            ["resume"] => {
                to(ask, &Method::POST)?;
                self.resume().await
            }
            _ => Err(Refusal::new(StatusCode::NOT_FOUND, format!("nothing at {}", ask.path))),
        }
    }

    async fn runs(&self, ask: &Ask) -> Answer {
        let wrong = |why| Refusal::new(StatusCode::BAD_REQUEST, why);
        let asked = query::read(&ask.query).map_err(wrong)?;
        if asked.follow {
            if self.drain.is_draining() {
                let why = "crihook is ending: ask the one after it what comes now";
                return Err(Refusal::new(StatusCode::SERVICE_UNAVAILABLE, why));
            }
            // Before those that have ended are read: none is missed between.
            let ending = self.ended.subscribe();
            let lines = follow::lines(Arc::clone(&self.journal), ending, self.drain.clone(), asked.filter).await;
            return lines.map(admin::json_lines).map_err(unreadable);
        }
        let runs = self.journal.runs(asked.filter).await.map_err(unreadable)?;
        // Put into words where it holds up nobody: it may be large.
        let document = tokio::task::spawn_blocking(move || admin::json(StatusCode::OK, &runs)).await;
        document.map_err(|error| Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))
    }

    /// The one run with that id, or part of it.
    async fn run(&self, id: &str, attempts: bool) -> Result<Run, Refusal> {
        let id = query::run(id).map_err(|why| Refusal::new(StatusCode::BAD_REQUEST, why))?;
        let filter = Filter { id: Some(id.clone()), limit: NAMED + 1, attempts, ..Filter::default() };
        let mut found = self.journal.runs(filter).await.map_err(unreadable)?;
        match &found[..] {
            [_] => Ok(found.remove(0)),
            [] => {
                let why = format!("there is no run whose id is, begins or ends with `{id}`, or not any more");
                Err(Refusal::new(StatusCode::NOT_FOUND, why))
            }
            _ => {
                let mut named: Vec<&str> = found.iter().take(NAMED).map(|run| &*run.id).collect();
                if found.len() > NAMED {
                    named.push("others");
                }
                let why = format!("the ids of several runs begin or end with `{id}`: {}", named.join(", "));
                Err(Refusal::new(StatusCode::CONFLICT, why))
            }
        }
    }

    async fn replay(&self, id: &str) -> Answer {
        let run = self.run(id, false).await?;
        let conflict = |why: String| Refusal::new(StatusCode::CONFLICT, why);
        if run.outcome.is_none() {
            let why = format!("run {} has not ended: it will be delivered without a replay", run.id);
            return Err(conflict(why));
        }
        if self.pause.paused() {
            return Err(conflict("hooks are paused: `crihook resume` lets them run again".to_owned()));
        }
        let past = self.journal.begun(&run.id).await.map_err(unreadable)?;
        let past =
            past.ok_or_else(|| Refusal::new(StatusCode::NOT_FOUND, format!("there is no run {} any more", run.id)))?;
        let id = self.engine.replay(&past).map_err(|why| match why {
            NoReplay::HookGone { .. } | NoReplay::Native(_) => conflict(why.to_string()),
            NoReplay::Ending => Refusal::new(StatusCode::SERVICE_UNAVAILABLE, why.to_string()),
        })?;
        // Whoever is told of it finds it in the history.
        self.journal.recorded().await;
        tracing::info!(run = %id, of = %past.id, policy = %past.policy, hook = %past.hook, "somebody replays a run");
        Ok(admin::json(StatusCode::ACCEPTED, &json!({"id": &*id, "replayOf": &*past.id})))
    }

    async fn pause(&self, ask: &Ask) -> Answer {
        #[derive(Default, Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Why {
            reason: Option<String>,
        }
        let wrong = |why| Refusal::new(StatusCode::BAD_REQUEST, why);
        let why: Why = said(ask, r#"{"reason": "..."}"#)?;
        if why.reason.as_ref().is_some_and(|reason| reason.len() > MAX_REASON) {
            return Err(wrong(format!("the reason is longer than {MAX_REASON} bytes")));
        }
        let changed = self.pause.pause(why.reason.as_deref());
        let paused = self.pause.state();
        Ok(admin::json(StatusCode::OK, &Switched { changed, paused, not_kept: self.keep().await }))
    }

    async fn resume(&self) -> Answer {
        let paused = self.pause.resume();
        let changed = paused.is_some();
        Ok(admin::json(StatusCode::OK, &Switched { changed, paused, not_kept: self.keep().await }))
    }

    async fn upgrade(&self, ask: &Ask) -> Answer {
        #[derive(Default, Deserialize)]
        #[serde(deny_unknown_fields)]
        struct How {
            timeout: Option<Span>,
        }
        let how: How = said(ask, r#"{"timeout": "30s"}"#)?;
        let limit = how.timeout.map_or(READY_LIMIT, |span| span.0);
        let (done, guard) = self.upgrades.ask(limit).await.map_err(|why| {
            let status = match why {
                NoUpgrade::NotReady(_) => StatusCode::BAD_GATEWAY,
                _ => StatusCode::CONFLICT,
            };
            Refusal::new(status, why.to_string())
        })?;
        // This process may have nothing else to do, and stays until the answer is written.
        let hold = move |frame| {
            let _ = &guard;
            frame
        };
        Ok(admin::json(StatusCode::OK, &done).map(|body| body.map_frame(hold).boxed_unsync()))
    }

    /// Writes down whether hooks are paused; why not, if that cannot be done.
    async fn keep(&self) -> Option<String> {
        let pause = self.pause.clone();
        let kept = timeout(KEEP, tokio::task::spawn_blocking(move || pause.keep())).await;
        let why = match kept {
            Ok(Ok(Ok(()))) => return None,
            Ok(Ok(Err(error))) => error.to_string(),
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("not done within {KEEP:?}"),
        };
        let why = format!("{} cannot be changed: {why}", self.pause.file().display());
        tracing::error!("whether hooks are paused will not outlive this process: {why}");
        Some(why)
    }
}

/// What the body of a question says; without one, nothing.
fn said<T: Default + DeserializeOwned>(ask: &Ask, form: &str) -> Result<T, Refusal> {
    if ask.body.is_empty() {
        return Ok(T::default());
    }
    let wrong = |error| Refusal::new(StatusCode::BAD_REQUEST, format!("the body is not `{form}`: {error}"));
    serde_json::from_slice(&ask.body).map_err(wrong)
}

/// Whether the question is put with the method that its path has.
fn to(ask: &Ask, method: &Method) -> Result<(), Refusal> {
    if ask.method == *method {
        return Ok(());
    }
    let why = format!("{} is asked with {method}, not with {}", ask.path, ask.method);
    let allow = HeaderValue::from_str(method.as_str()).ok();
    Err(Refusal { allow, ..Refusal::new(StatusCode::METHOD_NOT_ALLOWED, why) })
}

#[expect(clippy::needless_pass_by_value, reason = "it is what map_err passes")]
fn unreadable(why: String) -> Refusal {
    Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, format!("the journal cannot be read: {why}"))
}
