//! Which characters of a document are nobody's business: values of headers and of the environment, and of URLs what is behind the host or
//! before an `@`.
//!
//! It works on the parser's events, so it knows a value however it is written, and on documents that are broken: what the parser
//! did not get to is masked but for the words that policies are made of.

mod url;

use std::ops::Range;

use granit_parser::{Event, Parser};

pub use url::masked_url;
use url::{of_query, of_url};

/// The secrets of one text.
#[derive(Debug, Default)]
pub struct Secrets {
    /// Bytes of the text that are not shown.
    hidden: Vec<Range<usize>>,
    /// What is not to be said, the longest first.
    words: Vec<String>,
    /// From this byte on, the parser understood nothing.
    blind: Option<usize>,
}

/// What stands below these keys is secret, but for names. So is what stands below a key that policies do not have: it may be one of
/// these, misspelt.
const SECRET: [&str; 4] = ["headers", "httpHeaders", "env", "value"];
/// Below these, any key may stand, and nothing is secret.
const FREE: [&str; 3] = ["annotations", "labels", "matchLabels"];

/// Below these stands structure; a text there is a piece of a document that fell apart, and may hold anything.
const STRUCTURE: [&str; 14] = [
    "spec",
    "hooks",
    "match",
    "podSelector",
    "matchExpressions",
    "metadata",
    "exec",
    "httpGet",
    "tcpSocket",
    "sleep",
    "webhook",
    "grpc",
    "tls",
    "retries",
];

/// Keys that may be shown in what could not be parsed.
#[rustfmt::skip]
const KNOWN: [&str; 52] = [
    "annotations", "apiVersion", "attempts", "backoff", "caFile", "certFile", "command", "containers", "endpoint",
    "env", "exec", "failurePolicy", "grpc", "headers", "hooks", "host", "httpGet", "httpHeaders", "images",
    "insecureSkipVerify", "key", "keyFile", "kind", "labels", "match", "matchExpressions", "matchLabels",
    "maxBackoff", "metadata", "mode", "name", "namespaces", "on", "operator", "path", "podSelector", "port",
    "retries", "runtimeHandlers", "scheme", "seconds", "sleep", "spec", "tcpSocket", "timeout", "tls", "url",
    "user", "value", "values", "webhook", "HookPolicy",
];

/// Of the parser, that are looked at: more than a policy that is accepted can have. What comes after them counts as not understood.
const MOST_EVENTS: usize = 60_000;

/// Stands for what is not shown.
const MASK: &str = "***";

/// Where the parser is in the tree.
enum Frame {
    Mapping { key: Option<String> },
    Sequence,
}

/// How much of a scalar is secret.
enum Secrecy {
    Nothing,
    /// All of it, if it does not look like a name.
    Unless,
    Url,
    Query,
    All,
}

fn secrecy(frames: &[Frame], text: &str) -> Secrecy {
    let mut keys = frames.iter().enumerate().filter_map(|(n, frame)| match frame {
        Frame::Mapping { key: Some(key) } => Some((n, key.as_str())),
        _ => None,
    });
    let found = keys.find(|(_, key)| !KNOWN.contains(key) || SECRET.contains(key) || FREE.contains(key));
    let (free, below) = match found {
        Some((_, key)) if FREE.contains(&key) => (true, None),
        found => (false, found.map(|(n, _)| n)),
    };
    let key = match frames.last() {
        Some(Frame::Mapping { key }) => key.as_deref(),
        _ => None,
    };
    let nearest = frames.iter().rev().find_map(|frame| match frame {
        Frame::Mapping { key } => Some(key.as_deref().unwrap_or_default()),
        Frame::Sequence => None,
    });
    let is_key = matches!(frames.last(), Some(Frame::Mapping { key: None }));
    let above = frames.split_last().map_or(&[][..], |(_, above)| above);
    match below {
        // A list or a mapping as a key: nobody means that.
        _ if above.iter().any(|frame| matches!(frame, Frame::Mapping { key: None })) => Secrecy::All,
        _ if is_key && !free => Secrecy::Unless,
        Some(at) => match &frames[at + 1..] {
            [Frame::Sequence, Frame::Mapping { key: Some(key) }] if key == "name" => Secrecy::Unless,
            _ => Secrecy::All,
        },
        None if nearest.is_none_or(|key| STRUCTURE.contains(&key)) || key == Some("command") => Secrecy::Unless,
        None if key == Some("url") || text.contains("://") => Secrecy::Url,
        None if key == Some("path") => Secrecy::Query,
        None => Secrecy::Nothing,
    }
}

fn looks_like_a_name(text: &str) -> bool {
    text.len() <= 64 && text.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
}

impl Secrets {
    /// Reads as much of the text as can be read.
    pub fn find(text: &str) -> Self {
        let mut found = Self::default();
        let mut frames: Vec<Frame> = Vec::new();
        let mut read = 0;
        let mut last_key: Option<(Range<usize>, String)> = None;
        // Scalars that an alias may bring to a secret place.
        let (mut anchored, mut below_anchor, mut alias_is_secret) = (Vec::new(), Vec::new(), false);
        for (number, event) in Parser::new_from_str(text).enumerate() {
            let (event, span) = match event {
                Ok(both) if number < MOST_EVENTS => both,
                _ => {
                    found.blind = Some(read);
                    break;
                }
            };
            let bytes = span.byte_range().unwrap_or(read..read);
            match &event {
                Event::Scalar(value, _, anchor, _) => {
                    let before = text.get(read..bytes.start).unwrap_or_default();
                    // A tag or an anchor may be meant as part of a value.
                    let properties = before.find(|c: char| !c.is_whitespace() && !":-?,[{".contains(c));
                    let begin = properties.map_or(bytes.start, |at| read + at);
                    match secrecy(&frames, value) {
                        Secrecy::All => found.hide(begin..bytes.end, value),
                        Secrecy::Unless if !looks_like_a_name(value) => found.hide(begin..bytes.end, value),
                        Secrecy::Url => found.hide_parts(text, &bytes, of_url),
                        Secrecy::Query => found.hide_parts(text, &bytes, of_query),
                        Secrecy::Nothing | Secrecy::Unless => {}
                    }
                    // A key without a value may be a value that lost its key.
                    if let Some((bytes, key)) = last_key.take().filter(|_| bytes.is_empty()) {
                        found.hide(bytes, &key);
                    }
                    if matches!(frames.last(), Some(Frame::Mapping { key: None })) && !KNOWN.contains(&&**value) {
                        last_key = Some((bytes.clone(), value.to_string()));
                    }
                    if *anchor != 0 || below_anchor.contains(&true) {
                        anchored.push((bytes.clone(), value.to_string()));
                    }
                    step(&mut frames, Some(value));
                }
                Event::Alias(_) => {
                    last_key = None;
                    alias_is_secret |= matches!(secrecy(&frames, ""), Secrecy::All | Secrecy::Url | Secrecy::Query);
                    step(&mut frames, None);
                }
                Event::SequenceStart(_, anchor, _) => {
                    last_key = None;
                    below_anchor.push(*anchor != 0);
                    frames.push(Frame::Sequence);
                }
                Event::MappingStart(_, anchor, _) => {
                    last_key = None;
                    below_anchor.push(*anchor != 0);
                    frames.push(Frame::Mapping { key: None });
                }
                Event::SequenceEnd | Event::MappingEnd => {
                    below_anchor.pop();
                    frames.pop();
                    step(&mut frames, None);
                }
                _ => {}
            }
            read = read.max(bytes.end);
        }
        if alias_is_secret {
            for (bytes, value) in anchored {
                found.hide(bytes, &value);
            }
        }
        found.words.sort_by_key(|word| std::cmp::Reverse(word.len()));
        found
    }

    fn hide(&mut self, bytes: Range<usize>, value: &str) {
        self.hidden.push(bytes);
        self.words.extend([value.to_owned(), value.escape_debug().to_string()]);
    }

    fn hide_parts(&mut self, text: &str, bytes: &Range<usize>, parts: fn(&str) -> Vec<Range<usize>>) {
        let raw = text.get(bytes.clone()).unwrap_or_default();
        let quote = raw.chars().next().filter(|c| ['"', '\''].contains(c));
        let inner = quote.map_or(raw, |quote| raw[1..].strip_suffix(quote).unwrap_or(&raw[1..]));
        let offset = bytes.start + usize::from(quote.is_some());
        for part in parts(inner) {
            self.hide(offset + part.start..offset + part.end, &inner[part]);
        }
    }

    /// A line of the text that begins at byte `begin`, with its secrets masked: its characters, each with the place it stood at.
    pub fn mask(&self, begin: usize, line: &str) -> Vec<(char, usize)> {
        let end = begin + line.len();
        let here = self.hidden.iter().filter(|bytes| bytes.start < end && bytes.end > begin);
        let mut hidden: Vec<_> =
            here.map(|bytes| bytes.start.saturating_sub(begin)..bytes.end.min(end) - begin).collect();
        hidden.extend(unread(self.blind.map_or(line.len(), |blind| blind.saturating_sub(begin).min(line.len())), line));
        hidden.sort_by_key(|bytes| bytes.start);
        let mut hidden = hidden.into_iter().peekable();
        let mut masked = Vec::with_capacity(line.len());
        let mut hiding = false;
        for (column, (at, c)) in line.char_indices().enumerate() {
            while hidden.next_if(|bytes| bytes.end <= at).is_some() {}
            let hide = hidden.peek().is_some_and(|bytes| bytes.start <= at);
            match (hide, hiding) {
                (true, false) => masked.extend(MASK.chars().map(|c| (c, column))),
                (true, true) => {}
                (false, _) => masked.push((c, column)),
            }
            hiding = hide;
        }
        masked
    }

    /// A message without the secrets that it may quote.
    pub fn redact(&self, message: &str) -> String {
        let mut said = message.to_owned();
        for word in self.words.iter().filter(|word| !word.is_empty()) {
            if word.len() > 3 {
                said = said.replace(word.as_str(), MASK);
            } else {
                for (open, close) in [('`', '`'), ('"', '"'), ('\'', '\'')] {
                    said = said.replace(&format!("{open}{word}{close}"), &format!("{open}{MASK}{close}"));
                }
            }
        }
        if self.blind.is_some() {
            // An alias or a tag that is none may be a value that somebody forgot to quote.
            for quote in ['`', '"', '\''] {
                let parts: Vec<&str> = said.split(quote).collect();
                if parts.len() >= 3 && parts.len() % 2 == 1 {
                    let known =
                        |part: &&str| part.chars().count() <= 1 || *part == "key: value" || KNOWN.contains(part);
                    let masked = parts.iter().enumerate().map(|(n, p)| if n % 2 == 0 || known(p) { *p } else { MASK });
                    said = masked.collect::<Vec<_>>().join(&quote.to_string());
                }
            }
        }
        said
    }
}

/// A node is complete, or it was a key.
fn step(frames: &mut [Frame], scalar: Option<&str>) {
    if let Some(Frame::Mapping { key }) = frames.last_mut() {
        *key = match key {
            None => Some(scalar.unwrap_or_default().to_owned()),
            Some(_) => None,
        };
    }
}

/// The words from byte `from` of a line on, but for keys that policies have.
fn unread(from: usize, line: &str) -> Vec<Range<usize>> {
    let is_word = |c: char| !c.is_whitespace() && !":,[]{}\"'|>-".contains(c);
    let (mut words, mut start) = (Vec::new(), None);
    for (at, c) in line.char_indices().chain([(line.len(), ' ')]) {
        match start {
            None if is_word(c) => start = Some(at),
            Some(begin) if !is_word(c) => {
                let is_key = c == ':' && KNOWN.contains(&&line[begin..at]);
                if begin >= from && !is_key {
                    words.push(begin..at);
                }
                start = None;
            }
            _ => {}
        }
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> String {
        let secrets = Secrets::find(text);
        let mut begin = 0;
        let line = |line: &str| {
            let masked =
                secrets.mask(begin, line.trim_end_matches('\n')).into_iter().map(|(c, _)| c).collect::<String>();
            begin += line.len();
            masked
        };
        text.split_inclusive('\n').map(line).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn values_of_headers_and_of_the_environment_are_hidden_however_they_are_written() {
        for (text, expected) in [
            ("headers: {X-Token: s3cret, Y: 'a b'}", "headers: {X-Token: ***, Y: ***}"),
            ("headers:\n  X: |\n    s3cret\n    more\nurl: x", "headers:\n  X: ***\n***\n***\nurl: x"),
            (
                "env:\n- name: A\n  value: s3cret\n- {name: B, value: t}",
                "env:\n- name: A\n  value: ***\n- {name: B, value: ***}",
            ),
            ("httpHeaders: ['Authorization: s3cret']", "httpHeaders: [***]"),
            ("headers: {Authorization s3cret}", "headers: {***}"),
            ("env: {\n A: x,\n name: s3cret}", "env: {\n A: ***,\n name: ***}"),
            ("headers: {X: !s3cret y, Z: &s3cret y}", "headers: {X: ***, Z: ***}"),
            ("name: &a s3cret\nheaders: {X: *a}", "name: &a ***\nheaders: {X: *a}"),
            ("headers: {X, s3cret}", "headers: {***, ***}"),
            ("header: {X: s3cret}\nurll: s3cret", "header: {X: ***}\nurll: ***"),
            ("annotations: {x: y}", "annotations: {x: y}"),
        ] {
            assert_eq!(shown(text), expected);
        }
    }

    #[test]
    fn of_a_url_the_host_is_shown() {
        for (url, expected) in [
            ("https://me:s3cret@hooks.example:8443/s3cret?t=s3cret", "https://***@hooks.example:8443/***"),
            ("https://hooks.example", "https://hooks.example"),
            ("http://[fd00::1]:80/x", "http://[fd00::1]:80/***"),
            ("http://me:s3crethooks.example/x", "http://***"),
            ("http://a?s3cret", "http://a?***"),
            ("me:s3cret@hooks.example/x", "***@hooks.example/***"),
            ("unix:///run/a.sock:/v1?t=s3cret", "unix:///run/a.sock:/v1?***"),
        ] {
            assert_eq!(masked_url(url), expected);
            assert_eq!(shown(&format!("url: \"{url}\"")), format!("url: \"{expected}\""));
        }
        assert_eq!(shown("path: /drain?t=s3cret"), "path: /drain?***");
    }

    #[test]
    fn what_the_parser_does_not_get_to_is_hidden_but_for_the_words_of_policies() {
        let text = "spec:\n  hooks:\n  - headers: {X: \"s3cret\n    url: s3cret, on: PreStop\n";
        let told = shown(text);
        assert!(!told.contains("s3cret"), "{told}");
        assert!(told.contains("headers: {") && told.contains("url: ***"), "{told}");
        let told = shown("headers: {X: *s3cret}");
        assert!(!told.contains("s3cret"), "{told}");
    }

    #[test]
    fn messages_lose_what_they_quote() {
        let secrets = Secrets::find("env: {A: s3cret, B: t}\n");
        assert_eq!(
            secrets.redact("invalid type: string \"s3cret\", expected `t` or t"),
            "invalid type: string \"***\", expected `***` or t"
        );
        assert_eq!(Secrets::find("env: {A: *s3cret}").redact("unknown anchor `s3cret`"), "unknown anchor `***`");
    }
}
