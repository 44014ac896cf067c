//! The status page: how crihook is, and where the time goes.
//!
//! It is made anew for every reader from [`Status`](super::api::status::Status) and the metrics that Prometheus gets, and tells nothing that is not
//! in [`view`]. Times and outcomes are those of the last minutes, unless all since the start are asked for. The browser loads nothing else:
//! style and script are in the page, and its Content-Security-Policy allows just these two.

mod calls;
mod facts;
mod histogram;
mod hooks;
mod snapshot;
mod times;
mod view;
mod words;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use askama::Template;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use hyper::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, HeaderName, HeaderValue, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use hyper::{Response, StatusCode};
use prometheus::Registry;
use tokio::time::{Instant, interval};

use super::api::status::Sources;
use crate::admin::{self, Body};
use snapshot::{Recent, Snapshot};
use view::{Material, Period, View};

const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// How far the page looks back.
const WINDOW: Duration = Duration::from_mins(15);
/// How often it notes what it will look back to.
const NOTE_EVERY: Duration = Duration::from_mins(1);

/// What pages are made of.
pub(super) struct Page {
    sources: Arc<Sources>,
    registry: Registry,
    recent: Mutex<Recent>,
    headers: [(HeaderName, HeaderValue); 4],
}

impl Page {
    /// Must be called within the runtime that serves it.
    pub fn start(sources: Arc<Sources>, registry: Registry) -> Arc<Self> {
        let started = sources.started.1;
        let page =
            Arc::new(Self { sources, registry, recent: Mutex::new(Recent::new(WINDOW, started)), headers: headers() });
        let noted = Arc::downgrade(&page);
        tokio::spawn(async move {
            let mut ticks = interval(NOTE_EVERY);
            // The first one comes at once.
            ticks.tick().await;
            loop {
                ticks.tick().await;
                let Some(page) = noted.upgrade() else { return };
                let now = Snapshot::of(&page.registry);
                page.recent.lock().unwrap_or_else(PoisonError::into_inner).keep(Instant::now(), now);
            }
        });
        page
    }

    /// Ready to be served.
    pub fn serve(self: Arc<Self>) -> admin::Page {
        Arc::new(move |query| {
            let page = Arc::clone(&self);
            Box::pin(async move { page.answer(&query).await })
        })
    }

    async fn answer(&self, query: &str) -> Response<Body> {
        let status = self.sources.status().await;
        let (period, now) = (Period::asked(query), Snapshot::of(&self.registry));
        let (since, came) = match period {
            Period::Start => (self.sources.started.1, now),
            Period::Recent => {
                let recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
                let (at, then) = recent.oldest();
                (at, now.since(then))
            }
        };
        let node = &self.sources.config.hooks.node_name;
        let length = since.elapsed();
        let material = Material { node, style: STYLE, script: SCRIPT, status: &status, period, came: &came, length };
        let mut response = match View::of(&material, SystemTime::now()).render() {
            Ok(page) => admin::html(page),
            Err(error) => return admin::refusal(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
        };
        response.headers_mut().extend(self.headers.clone());
        response
    }
}

/// What a browser must not do with the page.
fn headers() -> [(HeaderName, HeaderValue); 4] {
    let hash = |text: &str| BASE64_STANDARD.encode(ring::digest::digest(&ring::digest::SHA256, text.as_bytes()));
    let policy = format!(
        "default-src 'none'; style-src 'sha256-{}'; script-src 'sha256-{}'; connect-src 'self'; img-src data:; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        hash(STYLE),
        hash(SCRIPT),
    );
    // It is ASCII.
    let policy = HeaderValue::try_from(policy).unwrap_or(HeaderValue::from_static("default-src 'none'"));
    [
        (CONTENT_SECURITY_POLICY, policy),
        (X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        (REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
        (CACHE_CONTROL, HeaderValue::from_static("no-store")),
    ]
}
