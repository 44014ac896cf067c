//! How the page writes times, numbers and sizes.

use std::time::Duration;

use super::histogram::Quantile;

/// A value that is not there.
pub const NOTHING: &str = "–";

/// How long something took: `82 µs`, `1.24 ms`, `3.50 s`, `2m10s`. Three digits, which is more than histograms know.
pub fn took(seconds: f64) -> String {
    let (value, unit) = match seconds {
        ..0.000_999_5 => (seconds * 1e6, "µs"),
        ..0.999_5 => (seconds * 1e3, "ms"),
        ..99.95 => (seconds, "s"),
        _ => return age(Duration::from_secs_f64(seconds.round().min(1e9))),
    };
    let digits = match value {
        0.0 => 0,
        ..9.995 => 2,
        ..99.95 => 1,
        _ => 0,
    };
    format!("{value:.digits$} {unit}")
}

/// As [`took`], of what may lie beyond what was measured.
pub fn quantile(quantile: Option<Quantile>) -> String {
    match quantile {
        None => NOTHING.to_owned(),
        Some(Quantile::About(seconds)) => took(seconds),
        Some(Quantile::Above(seconds)) => format!("> {}", took(seconds)),
    }
}

/// How long something has been so, in its two largest units: `45s`, `12m3s`, `2d4h`.
pub fn age(time: Duration) -> String {
    let seconds = time.as_secs();
    let ((large, name), (small, smaller)) = match seconds {
        ..60 => return format!("{seconds}s"),
        60..3600 => ((60, 'm'), (1, 's')),
        3600..86_400 => ((3600, 'h'), (60, 'm')),
        _ => ((86_400, 'd'), (3600, 'h')),
    };
    match seconds % large / small {
        0 => format!("{}{name}", seconds / large),
        rest => format!("{}{name}{rest}{smaller}", seconds / large),
    }
}

/// How often something happened within a time: `2.5/s`, `12/min`, `3/h`.
#[expect(clippy::cast_precision_loss, reason = "two digits are shown")]
pub fn rate(events: u64, time: Duration) -> String {
    let hz = events as f64 / time.as_secs_f64().max(1.0);
    match hz {
        0.0 => NOTHING.to_owned(),
        0.95.. => format!("{hz:.1}/s"),
        0.015.. => format!("{:.0}/min", hz * 60.0),
        _ => format!("{:.1}/h", hz * 3600.0),
    }
}

/// A part of a whole, from 0 to 1: `<0.1 %`, `2.3 %`, `87 %`.
pub fn percent(part: f64) -> String {
    match part * 100.0 {
        0.0 => "0 %".to_owned(),
        ..0.1 => "<0.1 %".to_owned(),
        few @ ..9.95 => format!("{few:.1} %"),
        many => format!("{many:.0} %"),
    }
}

/// A number with its thousands apart: `12,345`.
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let groups: Vec<&str> = digits.as_bytes().rchunks(3).rev().filter_map(|group| str::from_utf8(group).ok()).collect();
    groups.join(",")
}

/// So many of something.
pub fn counted(number: u64, one: &str, many: &str) -> String {
    format!("{} {}", count(number), if number == 1 { one } else { many })
}

/// A size: `3.1 MiB`.
#[expect(clippy::cast_precision_loss, reason = "two digits are shown")]
pub fn size(bytes: u64) -> String {
    let units = [(1_u64 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    match units.into_iter().find(|(unit, _)| bytes >= *unit) {
        Some((unit, name)) => format!("{:.1} {name}", bytes as f64 / unit as f64),
        None => format!("{bytes} B"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_told_in_a_few_characters_that_suit_them() {
        let times = [0.0, 0.000_082, 0.000_6, 0.001_236, 0.025, 0.9999, 3.5, 42.0, 130.0, 90_000.0].map(took);
        assert_eq!(
            times,
            ["0 µs", "82.0 µs", "600 µs", "1.24 ms", "25.0 ms", "1.00 s", "3.50 s", "42.0 s", "2m10s", "1d1h"]
        );
        let ages = [0, 59, 60, 3599, 3600, 187_200].map(|seconds| age(Duration::from_secs(seconds)));
        assert_eq!(ages, ["0s", "59s", "1m", "59m59s", "1h", "2d4h"]);
        assert_eq!([0.0, 0.000_9, 0.023, 0.874, 1.0].map(percent), ["0 %", "<0.1 %", "2.3 %", "87 %", "100 %"]);
        assert_eq!([0, 999, 1000, 1_234_567].map(count), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!([0, 1023, 1536, 3_250_586].map(size), ["0 B", "1023 B", "1.5 KiB", "3.1 MiB"]);
        let rates = [(0, 60), (300, 60), (2, 60), (2, 3600)].map(|(n, time)| rate(n, Duration::from_secs(time)));
        assert_eq!(rates, ["–", "5.0/s", "2/min", "2.0/h"]);
        let quantiles = [None, Some(Quantile::About(0.5)), Some(Quantile::Above(600.0))].map(quantile);
        assert_eq!(quantiles, ["–", "500 ms", "> 10m"]);
    }
}
