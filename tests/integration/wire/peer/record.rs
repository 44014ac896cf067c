//! What one end of a call saw: headers, bytes and how it ended, in a form that can be compared and read in a failed assertion.
use std::collections::BTreeMap;
use std::fmt;

use bytes::Bytes;
use h2::{RecvStream, SendStream};
use http::{HeaderMap, Request, Response};

/// Header or trailer fields: the values of a name in the order in which they came.
///
/// The order between different names is not kept: no API of gRPC shows it, and HTTP gives it no meaning (RFC 9110 §5.3).
/// Whether a value came as never-indexed (RFC 7541 §7.1.3) is not seen: `h2` reads that mark and forgets it.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Fields(pub BTreeMap<String, Vec<String>>);

impl Fields {
    /// The first value under `name`.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(|values| values[0].as_str())
    }
}

impl From<&HeaderMap> for Fields {
    fn from(map: &HeaderMap) -> Self {
        let mut fields: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (name, value) in map {
            let value = value.as_bytes().escape_ascii().to_string();
            fields.entry(name.as_str().to_owned()).or_default().push(value);
        }
        Self(fields)
    }
}

impl fmt::Debug for Fields {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut map = f.debug_map();
        for (name, values) in &self.0 {
            for value in values {
                let shown = value.get(..200).unwrap_or(value);
                map.entry(name, &format_args!("{shown:?} ({} bytes)", value.len()));
            }
        }
        map.finish()
    }
}

/// The bytes of one direction. Compared in full; printed by length and beginning only.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Body(pub Vec<u8>);

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let start = &self.0[..self.0.len().min(32)];
        let sum = self.0.iter().fold(0u64, |sum, byte| sum.wrapping_mul(31).wrapping_add(u64::from(*byte)));
        write!(f, "{} bytes, sum {sum:x}, \"{}\"...", self.0.len(), start.escape_ascii())
    }
}

/// How one direction ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// `END_STREAM` with the last bytes, or with the headers.
    Stream,
    /// `END_STREAM` with fields of its own.
    Trailers(Fields),
    /// `RST_STREAM` with this code.
    Reset(u32),
    /// A GOAWAY that names this stream as not processed.
    GoneAway(u32),
    /// The connection ended under it.
    Lost,
}

impl From<h2::Error> for End {
    fn from(error: h2::Error) -> Self {
        match error.reason() {
            Some(reason) if error.is_reset() => Self::Reset(reason.into()),
            Some(reason) if error.is_go_away() && error.is_remote() => Self::GoneAway(reason.into()),
            _ => Self::Lost,
        }
    }
}

/// A request as the upstream saw it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// `:method`, `:scheme`, `:authority` and `:path`.
    pub line: String,
    pub fields: Fields,
    pub body: Body,
    pub end: End,
}

impl Asked {
    /// The head alone; the body is added while it is read.
    pub fn head(request: &Request<RecvStream>) -> Self {
        let uri = request.uri();
        let line = format!("{} {:?} {:?} {}", request.method(), uri.scheme_str(), uri.authority(), uri.path());
        let line = format!("{line}?{}", uri.query().unwrap_or("-"));
        Self { line, fields: request.headers().into(), body: Body::default(), end: End::Lost }
    }
}

/// A response as the client saw it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// `:status`; absent when the stream ended before any headers.
    pub status: Option<u16>,
    pub fields: Fields,
    /// The headers ended the stream: gRPC's trailers-only.
    pub trailers_only: bool,
    pub body: Body,
    pub end: End,
}

impl Answer {
    /// A stream that ended before its headers.
    pub fn none(end: End) -> Self {
        Self { status: None, fields: Fields::default(), trailers_only: false, body: Body::default(), end }
    }

    /// The head alone.
    pub fn head(response: &Response<RecvStream>) -> Self {
        Self {
            status: Some(response.status().as_u16()),
            fields: response.headers().into(),
            trailers_only: response.body().is_end_stream(),
            body: Body::default(),
            end: End::Lost,
        }
    }

    /// `grpc-status`, wherever it came.
    pub fn grpc_status(&self) -> Option<&str> {
        match &self.end {
            End::Trailers(fields) => fields.get("grpc-status"),
            _ => self.fields.get("grpc-status"),
        }
    }

    /// `grpc-message`, wherever it came.
    pub fn grpc_message(&self) -> Option<&str> {
        match &self.end {
            End::Trailers(fields) => fields.get("grpc-message"),
            _ => self.fields.get("grpc-message"),
        }
    }
}

/// Reads a stream to its end, giving the windows back as it goes.
pub async fn drain(stream: &mut RecvStream, body: &mut Body) -> End {
    while let Some(chunk) = stream.data().await {
        match chunk {
            Ok(bytes) => {
                // A stream that has just been reset refuses its window back; its end is reported by the next read.
                let _ = stream.flow_control().release_capacity(bytes.len());
                body.0.extend_from_slice(&bytes);
            }
            Err(error) => return error.into(),
        }
    }
    match stream.trailers().await {
        Ok(Some(fields)) => End::Trailers((&fields).into()),
        Ok(None) => End::Stream,
        Err(error) => error.into(),
    }
}

/// Reads until at least `length` bytes have come; what came instead if the stream ended before.
pub async fn take(stream: &mut RecvStream, length: usize) -> Result<Vec<u8>, End> {
    let mut body = Vec::new();
    while body.len() < length {
        match stream.data().await {
            Some(Ok(bytes)) => {
                let _ = stream.flow_control().release_capacity(bytes.len());
                body.extend_from_slice(&bytes);
            }
            Some(Err(error)) => return Err(error.into()),
            None => return Err(End::Stream),
        }
    }
    Ok(body)
}

/// Waits until the other side has reset the stream that is being sent, or its connection is gone.
pub async fn stopped(stream: &mut SendStream<Bytes>) -> End {
    match std::future::poll_fn(|cx| stream.poll_reset(cx)).await {
        Ok(code) => End::Reset(code.into()),
        Err(error) => error.into(),
    }
}
