//! What every call passes on its way in: it is counted, then held up for as long as was asked for its method.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tower::{Layer, Service};

use crate::cri::Method;

#[derive(Debug)]
pub(super) struct Intake {
    delays: [Duration; Method::COUNT],
    calls: [AtomicU64; Method::COUNT],
}

impl Intake {
    pub fn new(delays: &[(Method, Duration)]) -> Self {
        let mut intake =
            Self { delays: [Duration::ZERO; Method::COUNT], calls: [const { AtomicU64::new(0) }; Method::COUNT] };
        for (method, delay) in delays {
            intake.delays[method.index()] = *delay;
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
        let method = Method::from_path(request.uri().path());
        self.intake.calls[method.index()].fetch_add(1, Ordering::Relaxed);
        let delay = self.intake.delays[method.index()];
        if delay.is_zero() {
            return Box::pin(self.inner.call(request));
        }
        // The clone stays behind; the one that was polled ready is called.
        let clone = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, clone);
        Box::pin(async move {
            tokio::time::sleep(delay).await;
            inner.call(request).await
        })
    }
}
