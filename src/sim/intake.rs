//! What every call passes on its way in: it is counted, recorded if that was asked for, held up for as long as was asked for its
//! method, and refused if it is to fail.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use http_body_util::{BodyExt, Full, Limited};
use tonic::Status;
use tonic::body::Body;
use tower::{Layer, Service};

use super::MAX_MESSAGE;
use super::options::Options;
use super::record::{Heard, Record};
use crate::cri::Method;

#[derive(Debug)]
pub(super) struct Intake {
    delays: [Duration; Method::COUNT],
    late: [Duration; Method::COUNT],
    calls: [AtomicU64; Method::COUNT],
    /// How many of the next calls fail.
    failing: [AtomicU64; Method::COUNT],
    record: Option<Record>,
}

impl Intake {
    pub fn new(options: &Options) -> Self {
        let mut intake = Self {
            delays: [Duration::ZERO; Method::COUNT],
            late: [Duration::ZERO; Method::COUNT],
            calls: [const { AtomicU64::new(0) }; Method::COUNT],
            failing: [const { AtomicU64::new(0) }; Method::COUNT],
            record: options.record.then(Record::default),
        };
        for (method, delay) in &options.delays {
            intake.delays[method.index()] = *delay;
        }
        for (method, late) in &options.late {
            intake.late[method.index()] = *late;
        }
        intake
    }

    /// What CRI does not know is counted together, under one name.
    pub fn calls(&self) -> BTreeMap<&'static str, u64> {
        let mut calls = BTreeMap::new();
        for method in Method::all() {
            let count = self.calls[method.index()].load(Ordering::Relaxed);
            if count > 0 {
                *calls.entry(method.name()).or_default() += count;
            }
        }
        calls
    }

    pub fn heard(&self) -> Vec<Heard> {
        self.record.as_ref().map(Record::all).unwrap_or_default()
    }

    pub fn fail_next(&self, method: Method, times: u64) {
        self.failing[method.index()].store(times, Ordering::Relaxed);
    }

    fn is_to_fail(&self, method: Method) -> bool {
        let left = &self.failing[method.index()];
        left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |times| times.checked_sub(1)).is_ok()
    }

    /// Reads the request to its end and writes it down; what comes back holds the same bytes.
    async fn note(&self, method: Method, request: http::Request<Body>) -> Result<http::Request<Body>, Status> {
        let Some(record) = &self.record else { return Ok(request) };
        let (head, body) = request.into_parts();
        let header = |name| head.headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let (limit, trace) = (header("grpc-timeout"), header("traceparent"));
        // The prefix and perhaps a second message, which the service refuses by itself.
        let body = Limited::new(body, MAX_MESSAGE + 1024).collect().await;
        let body =
            body.map_err(|error| Status::out_of_range(format!("the request cannot be read: {error}")))?.to_bytes();
        record.push(Heard { at: Instant::now(), method: method.name(), limit, trace, body: body.clone() });
        Ok(http::Request::from_parts(head, Body::new(Full::new(body))))
    }
}

/// Puts an [`Intake`] before a service.
#[derive(Debug, Clone)]
pub(super) struct IntakeLayer(pub Arc<Intake>);

impl<S> Layer<S> for IntakeLayer {
    type Service = Counted<S>;

    fn layer(&self, inner: S) -> Counted<S> {
        Counted { intake: Arc::clone(&self.0), inner }
    }
}

#[derive(Debug, Clone)]
pub(super) struct Counted<S> {
    intake: Arc<Intake>,
    inner: S,
}

impl<S> Service<http::Request<Body>> for Counted<S>
where
    S: Service<http::Request<Body>, Response = http::Response<Body>, Error: Send, Future: Send>
        + Clone
        + Send
        + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let method = Method::from_path(request.uri().path());
        self.intake.calls[method.index()].fetch_add(1, Ordering::Relaxed);
        let delay = self.intake.delays[method.index()];
        let late = self.intake.late[method.index()];
        let failing = self.intake.is_to_fail(method);
        if delay.is_zero() && late.is_zero() && !failing && self.intake.record.is_none() {
            return Box::pin(self.inner.call(request));
        }
        // The clone stays behind; the one that was polled ready is called.
        let clone = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, clone);
        let intake = Arc::clone(&self.intake);
        Box::pin(async move {
            let request = match intake.note(method, request).await {
                Ok(request) => request,
                Err(status) => return Ok(status.into_http()),
            };
            tokio::time::sleep(delay).await;
            if failing {
                return Ok(Status::internal(format!("{} fails, as it was asked to", method.name())).into_http());
            }
            let answer = inner.call(request).await;
            tokio::time::sleep(late).await;
            answer
        })
    }
}
