//! `grpc-timeout`: how long a client is going to wait.
//!
//! Source: <https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>, "Timeout": up to eight digits and a unit.

use std::time::{Duration, Instant};

use http::HeaderMap;

/// When a call that was first seen at `seen` is given up by its client, if it says so in a way that can be read.
#[must_use]
pub fn deadline_of(headers: &HeaderMap, seen: Instant) -> Option<Instant> {
    let text = headers.get("grpc-timeout")?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    let count: u64 = digits.parse().ok()?;
    let wait = match unit {
        "H" => Duration::from_secs(count * 3600),
        "M" => Duration::from_secs(count * 60),
        "S" => Duration::from_secs(count),
        "m" => Duration::from_millis(count),
        "u" => Duration::from_micros(count),
        "n" => Duration::from_nanos(count),
        _ => return None,
    };
    seen.checked_add(wait)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_unit_is_read_and_nonsense_means_no_deadline() {
        let now = Instant::now();
        let wait = |text: &str| {
            let headers =
                [(http::HeaderName::from_static("grpc-timeout"), text.parse().unwrap())].into_iter().collect();
            deadline_of(&headers, now).map(|at| at - now)
        };
        assert_eq!(wait("2H"), Some(Duration::from_hours(2)));
        assert_eq!(wait("3M"), Some(Duration::from_mins(3)));
        assert_eq!(wait("130S"), Some(Duration::from_secs(130)));
        assert_eq!(wait("1500m"), Some(Duration::from_millis(1500)));
        assert_eq!(wait("99999999u"), Some(Duration::from_micros(99_999_999)));
        assert_eq!(wait("7n"), Some(Duration::from_nanos(7)));
        for nonsense in ["", "S", "10", "-1S", "123456789S", "1 S", "1x"] {
            assert_eq!(wait(nonsense), None, "{nonsense:?}");
        }
        assert_eq!(deadline_of(&HeaderMap::new(), now), None);
    }
}
