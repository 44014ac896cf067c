//! Errors of networks in words for people: who did what, and never a URL's credentials or query.
//!
//! Libraries wrap "connection refused" into three layers of "error sending request"; the cause that people can act on lies
//! at the bottom.

use std::error::Error;
use std::io;
use std::time::Duration;

use super::{Evidence, Failing, Failure};

/// A duration as people write it, without fractions that say nothing: a deadline is always reached some microseconds late.
pub(super) fn span(duration: Duration) -> String {
    let grain = if duration < Duration::from_millis(100) { 1 } else { 10 };
    let millis = (duration.as_micros() + grain * 500) / (grain * 1000) * grain;
    humantime::format_duration(Duration::from_millis(u64::try_from(millis).unwrap_or(u64::MAX))).to_string()
}

/// The attempt reached its deadline before there was an answer.
pub(super) fn no_answer(peer: &str, limit: Duration) -> Failure {
    Failure {
        kind: Failing::TimedOut,
        message: format!("no answer from {peer} within {}", span(limit)),
        evidence: Evidence::default(),
    }
}

/// What an exchange with `peer` failed of.
pub(super) fn words(error: &(dyn Error + 'static), peer: &str) -> String {
    if let Some(error) = find::<rustls::Error>(error) {
        return of_tls(error, peer);
    }
    if let Some(error) = find::<hyper::Error>(error) {
        if error.is_parse() {
            return format!("{peer} answered something that is not HTTP");
        }
        if error.is_incomplete_message() {
            return format!("{peer} closed the connection before it answered");
        }
    }
    if let Some(error) = find::<io::Error>(error) {
        return of_io(error, peer);
    }
    let deepest = chain(error).last().map(ToString::to_string).unwrap_or_default();
    format!("the exchange with {peer} failed: {deepest}")
}

/// The first of this type in what an error consists of.
pub(super) fn find<'a, E: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a E> {
    chain(error).find_map(|cause| cause.downcast_ref())
}

/// Whether the connection had ended before a request was sent on it.
pub(super) fn never_sent(error: &(dyn Error + 'static)) -> bool {
    find::<hyper::Error>(error).is_some_and(|error| error.is_canceled() || error.is_closed())
}

/// Whether the connection ended before an answer.
pub(super) fn broke_off(error: &(dyn Error + 'static)) -> bool {
    chain(error).any(|cause| {
        let lost = |kind| {
            matches!(kind, io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe | io::ErrorKind::UnexpectedEof)
        };
        cause.downcast_ref::<hyper::Error>().is_some_and(|e| e.is_incomplete_message() || e.is_canceled())
            || cause.downcast_ref::<io::Error>().is_some_and(|e| lost(e.kind()))
    })
}

/// An error and what lies below it. `io::Error` hides what it wraps from `source`, where rustls' errors are.
fn chain<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&cause| match cause.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
        Some(wrapped) => Some(wrapped as &(dyn Error + 'static)),
        None => cause.source(),
    })
}

/// What a connection to `peer` failed of.
pub(super) fn of_io(error: &io::Error, peer: &str) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => format!("connection refused by {peer}"),
        io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe | io::ErrorKind::UnexpectedEof => {
            format!("{peer} closed the connection before it answered")
        }
        io::ErrorKind::NotFound => format!("there is no socket at {peer}"),
        io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => format!("no route to {peer}"),
        io::ErrorKind::TimedOut => format!("{peer} does not answer"),
        // h2 keeps of such an error only the words.
        io::ErrorKind::InvalidData if error.to_string().ends_with("alert: CertificateRequired") => unknown_client(peer),
        // The standard library has no kind for it.
        _ => match error.to_string().strip_prefix("failed to lookup address information: ") {
            Some(reason) => format!("the name of {peer} cannot be resolved: {reason}"),
            None => format!("the connection to {peer} failed: {error}"),
        },
    }
}

fn unknown_client(peer: &str) -> String {
    format!("{peer} wants a client certificate")
}

fn of_tls(error: &rustls::Error, peer: &str) -> String {
    match error {
        rustls::Error::InvalidCertificate(reason) => format!("the certificate of {peer} is not accepted: {reason}"),
        rustls::Error::InvalidMessage(_) => format!("{peer} does not speak TLS"),
        rustls::Error::AlertReceived(rustls::AlertDescription::CertificateRequired) => unknown_client(peer),
        rustls::Error::AlertReceived(alert) => format!("{peer} broke TLS off: {alert:?}"),
        other => format!("TLS with {peer} failed: {other}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_told_without_noise() {
        assert_eq!(span(Duration::from_micros(1_999_700)), "2s");
        assert_eq!(span(Duration::from_millis(1_540)), "1s 540ms");
        assert_eq!(span(Duration::from_micros(49_900)), "50ms");
    }
}
