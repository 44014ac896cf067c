//! A kept connection may have died since it was last used, without anybody having noticed. A request that runs into that is sent
//! once more, over a new connection; one that failed on a connection of its own is not.

use std::cell::Cell;
use std::error::Error;
use std::future::Future;
use std::task::{Context, Poll};

use tower::{Layer, Service};

use super::trouble;

tokio::task_local! {
    /// Whether a connection was dialled for the request that is being sent.
    static DIALLED: Cell<bool>;
}

/// Notes that a connection is dialled. Goes around a client's connector.
#[derive(Debug, Clone, Copy)]
pub(super) struct Noting<S>(pub(super) S);

impl<S: Service<R>, R> Service<R> for Noting<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, to: R) -> S::Future {
        // Outside of `send` nobody asks.
        let _ = DIALLED.try_with(|dialled| dialled.set(true));
        self.0.call(to)
    }
}

/// Puts [`Noting`] around a connector.
#[derive(Debug, Clone, Copy)]
pub(super) struct NotingLayer;

impl<S> Layer<S> for NotingLayer {
    type Service = Noting<S>;

    fn layer(&self, connector: S) -> Noting<S> {
        Noting(connector)
    }
}

/// Sends; a second time if a kept connection turned out to be dead before anything was answered.
///
/// # Errors
/// What the last sending failed of.
pub(super) async fn send<F, T, E>(request: impl Fn() -> F) -> Result<T, E>
where
    F: Future<Output = Result<T, E>>,
    E: Error + 'static,
{
    let noted = async {
        let sent = request().await;
        (sent, DIALLED.with(Cell::get))
    };
    match DIALLED.scope(Cell::new(false), noted).await {
        (Err(error), false) if trouble::broke_off(&error) => request().await,
        (sent, _) => sent,
    }
}
