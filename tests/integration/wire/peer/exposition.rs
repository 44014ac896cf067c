//! /metrics, read as Prometheus reads it.
use std::collections::BTreeMap;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// One scrape.
pub struct Exposition {
    /// The page.
    pub text: String,
    samples: Vec<(String, BTreeMap<String, String>, f64)>,
}

/// GETs `path` and gives the status line's code and the body.
pub async fn get(addr: &str, path: &str) -> (u16, String) {
    let mut io = TcpStream::connect(addr).await.expect("the metrics address takes connections");
    let request = format!("GET {path} HTTP/1.1\r\nhost: {addr}\r\nconnection: close\r\n\r\n");
    io.write_all(request.as_bytes()).await.expect("the request is taken");
    let mut answer = String::new();
    io.read_to_string(&mut answer).await.expect("an answer in text");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
    let code = head.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a status line");
    (
        code,
        if head.to_ascii_lowercase().contains("transfer-encoding: chunked") { unchunk(body) } else { body.to_owned() },
    )
}

fn unchunk(mut body: &str) -> String {
    let mut out = String::new();
    while let Some((size, rest)) = body.split_once("\r\n") {
        let size = usize::from_str_radix(size, 16).expect("a chunk's size");
        out.push_str(&rest[..size]);
        body = rest[size..].trim_start_matches("\r\n");
    }
    out
}

impl Exposition {
    /// Scrapes `addr`.
    pub async fn fetch(addr: &str) -> Self {
        let (code, text) = get(addr, "/metrics").await;
        assert_eq!(code, 200, "{text}");
        let lines = text.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
        let samples = lines.map(sample).collect();
        Self { text, samples }
    }

    /// The sum of all samples of `name` that carry these labels.
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let fits = |have: &BTreeMap<String, String>| {
            labels.iter().all(|(key, value)| have.get(*key).is_some_and(|held| held == value))
        };
        self.samples
            .iter()
            .filter(|(held, have, _)| held == name && fits(have))
            .fold(0.0, |sum, (_, _, value)| sum + value)
    }

    /// The sample names that begin with `prefix`, with their labels and values.
    pub fn all<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = &'a (String, BTreeMap<String, String>, f64)> {
        self.samples.iter().filter(move |(name, _, _)| name.starts_with(prefix))
    }
}

fn sample(line: &str) -> (String, BTreeMap<String, String>, f64) {
    let (series, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("not a sample: {line}"));
    let value = value.parse().unwrap_or_else(|_| panic!("not a value: {line}"));
    let Some((name, labels)) = series.split_once('{') else { return (series.to_owned(), BTreeMap::new(), value) };
    let labels = labels.trim_end_matches('}').split(',').filter(|pair| !pair.is_empty());
    let pairs = labels.map(|pair| {
        let (key, value) = pair.split_once('=').unwrap_or_else(|| panic!("not a label: {line}"));
        (key.to_owned(), value.trim_matches('"').to_owned())
    });
    (name.to_owned(), pairs.collect(), value)
}
