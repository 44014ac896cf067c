//! gRPC as bytes: frames, methods, and contents that nobody could have invented by accident.
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};

/// One line of CRI's facts: a method and whether the server streams.
#[derive(Debug, Clone)]
pub struct Method {
    pub service: String,
    pub name: String,
    pub streams: bool,
}

impl Method {
    /// The `:path` of the method.
    pub fn path(&self) -> String {
        format!("/runtime.v1.{}/{}", self.service, self.name)
    }
}

/// Every method of CRI v1.
pub fn methods() -> Vec<Method> {
    let facts = include_str!("../../../../proto/cri-v1.36.txt");
    let rpcs = facts.lines().filter_map(|line| line.strip_prefix("rpc "));
    rpcs.map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        Method { service: words[0].into(), name: words[1].into(), streams: words.get(4) == Some(&"server-stream") }
    })
    .collect()
}

/// Bytes that look random and are the same for the same seed.
pub fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut out = Vec::with_capacity(length + 8);
    while out.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        out.extend_from_slice(&state.wrapping_mul(0x2545_f491_4f6c_dd1d).to_le_bytes());
    }
    out.truncate(length);
    out
}

/// A gRPC message: its flag, its length, its bytes.
pub fn message(flag: u8, payload: &[u8]) -> Bytes {
    let length = u32::try_from(payload.len()).expect("a test message fits gRPC's length");
    let mut out = Vec::with_capacity(payload.len() + 5);
    out.push(flag);
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(payload);
    out.into()
}

/// A request head as a gRPC client over a unix socket writes it.
pub fn request(path: &str) -> Request<()> {
    Request::post(format!("http://localhost{path}"))
        .version(http::Version::HTTP_2)
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("user-agent", "grpc-go/1.78.0")
        .body(())
        .expect("a test's request is well formed")
}

/// A response head as a gRPC server writes it.
pub fn response() -> Response<()> {
    Response::builder().header("content-type", "application/grpc").body(()).expect("a test's response is well formed")
}

/// A trailers-only answer: the status is in the headers.
pub fn refusal(code: u32, message: &str) -> Response<()> {
    let mut response = response();
    response.headers_mut().extend(status(code, message));
    response
}

/// Fields that hold a gRPC status.
pub fn status(code: u32, message: &str) -> HeaderMap {
    let code = code.to_string();
    if message.is_empty() {
        fields(&[("grpc-status", &code)])
    } else {
        fields(&[("grpc-status", &code), ("grpc-message", message)])
    }
}

/// Fields in this order.
pub fn fields(list: &[(&str, &str)]) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in list {
        let name: HeaderName = name.parse().expect("a test's header name is well formed");
        map.append(name, HeaderValue::from_bytes(value.as_bytes()).expect("a test's header value is well formed"));
    }
    map
}
