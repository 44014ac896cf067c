//! What `httpGet` and `webhook` share: clients, redirects, and what an answer means.
//!
//! A status from 200 to 399 is success and the rest is not. Of a body only the beginning is read, so that one without an end holds
//! nobody; once there is a status, the body decides nothing any more.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Body;
use reqwest::redirect;
use tokio::time::{Instant, timeout_at};

use super::redial::NotingLayer;
use super::tls::Trust;
use super::values::Values;
use super::{Evidence, Failing, Failure, trouble};
use crate::hooks::policy::{Template, Tls};

/// How crihook names itself.
pub(super) const USER_AGENT: &str = concat!("crihook/", env!("CARGO_PKG_VERSION"));
/// How much of a body is read and kept.
const BODY_CAP: usize = 4 * 1024;
/// How many redirects are followed.
const REDIRECTS: usize = 10;
/// How long and how many idle connections are kept for the next event.
pub(super) const IDLE: (Duration, usize) = (Duration::from_mins(1), 16);

/// What a client is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// GET, to pods that come and go: no connection is kept.
    Get,
    /// POST to one server. Of the redirects only those are followed that keep the method and the body.
    Post,
}

/// A client over TCP and TLS. It heeds no proxy of crihook's own environment.
pub(super) fn client(trust: &Trust, tls: &Tls, purpose: Purpose) -> Result<reqwest::Client, String> {
    let (idle, most) = IDLE;
    reqwest::Client::builder()
        .user_agent(USER_AGENT)
        .no_proxy()
        .http1_only()
        .referer(false)
        .redirect(redirect::Policy::custom(move |attempt| follow(attempt, purpose)))
        .pool_idle_timeout(idle)
        .pool_max_idle_per_host(if purpose == Purpose::Get { 0 } else { most })
        .tls_backend_preconfigured(trust.config(tls)?)
        .connector_layer(NotingLayer)
        .build()
        .map_err(|error| format!("no HTTP client: {error}"))
}

/// Follows to the same host, but not from https to http; as in the kubelet, the port may be another. An answer that is not followed is the answer.
fn follow(attempt: redirect::Attempt<'_>, purpose: Purpose) -> redirect::Action {
    let keeps_method = matches!(attempt.status(), StatusCode::TEMPORARY_REDIRECT | StatusCode::PERMANENT_REDIRECT);
    let from = attempt.previous().first().and_then(|url| url.host_str());
    let open =
        attempt.previous().first().is_some_and(|url| url.scheme() == "https") && attempt.url().scheme() != "https";
    if from != attempt.url().host_str() || open || (purpose == Purpose::Post && !keeps_method) {
        return attempt.stop();
    }
    if attempt.previous().len() > REDIRECTS {
        return attempt.error("redirected too often");
    }
    attempt.follow()
}

/// Headers with their names filled in, and those of the attempt's trace. Values are marked as sensitive and never shown.
pub(super) fn headers(values: Values<'_>, wanted: &[(HeaderName, Template)]) -> Result<HeaderMap, Failure> {
    let mut headers = HeaderMap::new();
    for (name, value) in wanted {
        let mut value = HeaderValue::from_str(&values.fill(value))
            .map_err(|_| Failure::failed(format!("the value of the header `{name}` cannot be sent")))?;
        value.set_sensitive(true);
        headers.append(name.clone(), value);
    }
    if let Some(trace) = &values.delivery.trace {
        trace.write(&mut headers);
    }
    Ok(headers)
}

/// A client's error, in words.
pub(super) fn failure(error: &reqwest::Error, peer: &str) -> Failure {
    if error.is_redirect() {
        return Failure::failed(format!("{peer} redirected more than {REDIRECTS} times"));
    }
    Failure::failed(trouble::words(error, peer))
}

/// How long an answer's body may take: the status has decided, and a call may be waiting.
const BODY_TIME: Duration = Duration::from_millis(500);

/// What came of an answer; the beginning of its body is kept as far as it comes soon.
pub(super) async fn verdict<B>(answer: http::Response<B>, peer: &str, deadline: Instant) -> Result<Evidence, Failure>
where
    B: Body<Data = Bytes> + Unpin,
{
    let status = answer.status();
    let body = beginning(answer.into_body(), deadline.min(Instant::now() + BODY_TIME)).await;
    let evidence = Evidence { http_status: Some(status.as_u16()), body, ..Evidence::default() };
    if (200..400).contains(&status.as_u16()) {
        return Ok(evidence);
    }
    let reason = status.canonical_reason().map(|reason| format!(" {reason}")).unwrap_or_default();
    let message = format!("{peer} answered {}{reason}", status.as_u16());
    Err(Failure { kind: Failing::Failed, message, evidence })
}

async fn beginning<B: Body<Data = Bytes> + Unpin>(mut body: B, deadline: Instant) -> Bytes {
    let mut kept = BytesMut::new();
    while kept.len() < BODY_CAP {
        let Ok(Some(Ok(frame))) = timeout_at(deadline, body.frame()).await else { break };
        if let Some(data) = frame.data_ref() {
            kept.extend_from_slice(&data[..data.len().min(BODY_CAP - kept.len())]);
        }
    }
    kept.freeze()
}
