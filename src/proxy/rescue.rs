//! Errors become what goes over the wire, here and nowhere else.
//!
//! A gRPC client must be able to tell three things apart: the runtime reset this stream (the code is passed on as it is), the
//! runtime provably never saw it (`REFUSED_STREAM`, upon which gRPC clients silently send again), and the runtime was lost
//! while it may have been at work (`Unavailable`, upon which they do not).

use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, HeaderValue, Response};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};

use crate::cri::Code;

/// What crihook itself tells a client about a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// The gRPC code.
    pub code: Code,
    /// Without the `crihook: ` that is put before it.
    pub message: String,
}

/// How a call ends that the runtime did not end properly.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rescue {
    /// The stream is reset with this code.
    Reset(h2::Reason),
    /// The stream ends with a status: alone if nothing went down yet, else as trailers.
    Status(Status),
}

/// gRPC's percent-encoding for `grpc-message`: printable ASCII but `%` stays.
const MESSAGE: &AsciiSet = &CONTROLS.add(b'%');

impl Status {
    /// The runtime cannot be used just now: it does not answer, was lost, or crihook is ending.
    #[must_use]
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self { code: Code::UNAVAILABLE, message: message.into() }
    }

    /// Something is broken that trying again will not mend.
    #[must_use]
    pub fn internal(message: impl Into<String>) -> Self {
        Self { code: Code::INTERNAL, message: message.into() }
    }

    /// A hook that may say so has said no.
    #[must_use]
    pub fn failed_precondition(message: impl Into<String>) -> Self {
        Self { code: Code::FAILED_PRECONDITION, message: message.into() }
    }

    /// As trailers of a response whose headers have gone down.
    #[must_use]
    pub fn into_trailers(self) -> HeaderMap {
        let mut trailers = HeaderMap::with_capacity(3);
        trailers.insert(HeaderName::from_static("grpc-status"), self.code.to_header_value());
        let text = format!("crihook: {}", self.message);
        let text = utf8_percent_encode(&text, MESSAGE).to_string();
        if let Ok(text) = HeaderValue::try_from(text) {
            trailers.insert(HeaderName::from_static("grpc-message"), text);
        }
        trailers
    }

    /// As a response of its own, without a body ("trailers-only").
    #[must_use]
    pub fn into_response(self) -> Response<()> {
        let mut response = Response::new(());
        *response.headers_mut() = self.into_trailers();
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        response
    }
}

/// What to make of a stream towards the runtime that failed with `error`, given whether its answer had `begun`.
#[must_use]
pub fn upstream_failed(error: &h2::Error, begun: bool) -> Rescue {
    match error.reason() {
        Some(reason) if error.is_reset() && error.is_remote() => Rescue::Reset(reason),
        // h2 gives this error to the streams above the GOAWAY's last stream id and to no other.
        Some(_) if error.is_go_away() && error.is_remote() && !begun => Rescue::Reset(h2::Reason::REFUSED_STREAM),
        Some(reason) if error.is_reset() => {
            Rescue::Status(Status::internal(format!("the runtime's answer breaks HTTP/2 ({reason:?})")))
        }
        _ => Rescue::Status(Status::unavailable(format!("lost the connection to the runtime: {error}"))),
    }
}

/// With which code a stream towards the runtime is reset when the client's side of it failed with `error`.
#[must_use]
pub fn downstream_failed(error: &h2::Error) -> h2::Reason {
    match error.reason() {
        Some(reason) if error.is_reset() => reason,
        _ => h2::Reason::CANCEL,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_names_its_side_and_survives_any_text() {
        let response = Status::unavailable("nobody at “/run/x”: 100%\nreally").into_response();
        assert_eq!(response.headers()["grpc-status"], "14");
        assert_eq!(response.headers()["grpc-message"], "crihook: nobody at %E2%80%9C/run/x%E2%80%9D: 100%25%0Areally");
        assert_eq!(response.headers()["content-type"], "application/grpc");
    }
}
