//! What of a URL may be shown: its scheme and its host.

use std::ops::Range;

use super::MASK;

/// The bytes of a URL that are secret: what is before an `@`, and what is behind the host.
pub fn of_url(raw: &str) -> Vec<Range<usize>> {
    let start = raw.find("://").map_or(0, |at| at + 3);
    if raw[..start].contains("unix:") {
        return of_query(raw);
    }
    let host = raw[start..].rfind('@').map_or(start, |at| start + at + 1);
    let length = raw[host..].find(['/', '?', '#']);
    let end = length.map_or(raw.len(), |at| host + at + 1);
    let authority = &raw[host..length.map_or(raw.len(), |at| host + at)];
    let (name, port) = match authority.rsplit_once(':') {
        Some((name, port)) if !authority.ends_with(']') => (name, port),
        _ => (authority, ""),
    };
    let is_host = port.chars().all(|c| c.is_ascii_digit())
        && match name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            Some(address) => address.chars().all(|c| c.is_ascii_hexdigit() || ":.".contains(c)),
            None => name.chars().all(|c| c.is_ascii_alphanumeric() || "-._$()".contains(c)),
        };
    if !is_host {
        // A password that lost its `@`, or a path that lost its slash.
        return std::iter::once(start..raw.len()).collect();
    }
    [start..host.saturating_sub(1).max(start), end..raw.len()].into_iter().filter(|range| !range.is_empty()).collect()
}

/// The bytes behind a question mark.
pub fn of_query(raw: &str) -> Vec<Range<usize>> {
    raw.find(['?', '#']).map(|at| at + 1..raw.len()).into_iter().filter(|range| !range.is_empty()).collect()
}

/// A URL as it may be said in a message.
pub fn masked_url(url: &str) -> String {
    let mut said = url.to_owned();
    for range in of_url(url).into_iter().rev() {
        said.replace_range(range, MASK);
    }
    said
}
