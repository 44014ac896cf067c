//! What every call passes on its way in: it is counted, then held up for as long as was asked for its method.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use tower::{Layer, Service};

/// Different methods that are counted; more than CRI has. Calls of others are not counted from then on.
const MAX_METHODS: usize = 64;

#[derive(Debug)]
pub(super) struct Intake {
    delays: BTreeMap<String, Duration>,
    calls: Mutex<BTreeMap<String, u64>>,
}

impl Intake {
    pub fn new(delays: BTreeMap<String, Duration>) -> Self {
        Self { delays, calls: Mutex::default() }
    }

    pub fn calls(&self) -> BTreeMap<String, u64> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn count(&self, method: &str) {
        let mut calls = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = calls.get_mut(method) {
            *count += 1;
        } else if calls.len() < MAX_METHODS {
            calls.insert(method.to_owned(), 1);
        }
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

impl<S, B> Service<http::Request<B>> for Counted<S>
where
    S: Service<http::Request<B>, Future: Send> + Clone + Send + 'static,
    B: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        let method = request.uri().path().rsplit('/').next().unwrap_or_default();
        self.intake.count(method);
        match self.intake.delays.get(method).copied() {
            None => Box::pin(self.inner.call(request)),
            Some(delay) => {
                // The clone stays behind; the one that was polled ready is called.
                let clone = self.inner.clone();
                let mut inner = std::mem::replace(&mut self.inner, clone);
                Box::pin(async move {
                    tokio::time::sleep(delay).await;
                    inner.call(request).await
                })
            }
        }
    }
}
