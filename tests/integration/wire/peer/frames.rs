//! HTTP/2 frames by hand, for peers that do what a well-behaved library refuses to do.
//!
//! Header blocks are written as literals without indexing and without Huffman codes (RFC 7541 §6.2.2), so no table has to be
//! kept; they are not decoded: whoever has to read headers uses the `h2` peer at that end.
use std::path::Path;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;

/// `END_STREAM` on DATA and HEADERS, ACK on SETTINGS and PING.
pub const FLAG_END: u8 = 1;
const FLAG_END_HEADERS: u8 = 4;
const FRAME_LIMIT: usize = 16_384;
/// What a client says before its first frame.
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// One frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

impl Frame {
    /// A frame of any kind.
    pub fn new(kind: u8, flags: u8, stream: u32, payload: impl Into<Vec<u8>>) -> Self {
        Self { kind, flags, stream, payload: payload.into() }
    }

    /// The sender ends its side of the stream with this frame.
    pub fn ends(&self) -> bool {
        matches!(self.kind, DATA | HEADERS) && self.flags & FLAG_END != 0
    }

    /// The error code of `RST_STREAM` or GOAWAY.
    pub fn code(&self) -> u32 {
        let at = if self.kind == GOAWAY { 4 } else { 0 };
        u32::from_be_bytes(self.payload[at..at + 4].try_into().expect("four bytes"))
    }

    fn write(&self, out: &mut Vec<u8>) {
        let length = u32::try_from(self.payload.len()).expect("a frame's length");
        out.extend_from_slice(&length.to_be_bytes()[1..]);
        out.extend_from_slice(&[self.kind, self.flags]);
        out.extend_from_slice(&self.stream.to_be_bytes());
        out.extend_from_slice(&self.payload);
    }
}

fn string(out: &mut Vec<u8>, text: &[u8]) {
    // An integer with a prefix of seven bits (RFC 7541 §5.1); the eighth would say Huffman.
    if text.len() < 127 {
        out.push(u8::try_from(text.len()).expect("below 127"));
    } else {
        out.push(127);
        let mut rest = text.len() - 127;
        while rest >= 128 {
            out.push(u8::try_from(rest % 128).expect("below 128") | 128);
            rest /= 128;
        }
        out.push(u8::try_from(rest).expect("below 128"));
    }
    out.extend_from_slice(text);
}

/// A header block.
pub fn block(fields: &[(&str, &[u8])]) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, value) in fields {
        out.push(0);
        string(&mut out, name.as_bytes());
        string(&mut out, value);
    }
    out
}

/// HEADERS, with as many CONTINUATION frames as the block needs.
pub fn headers(stream: u32, fields: &[(&str, &[u8])], end: bool) -> Vec<Frame> {
    let block = block(fields);
    let count = block.len().div_ceil(FRAME_LIMIT).max(1);
    let mut frames = Vec::new();
    for (index, part) in block.chunks(FRAME_LIMIT).enumerate() {
        let kind = if index == 0 { HEADERS } else { CONTINUATION };
        let mut flags = if index == 0 && end { FLAG_END } else { 0 };
        if index + 1 == count {
            flags |= FLAG_END_HEADERS;
        }
        frames.push(Frame::new(kind, flags, stream, part));
    }
    frames
}

/// A request head of a gRPC client.
pub fn request(stream: u32, path: &str, end: bool) -> Vec<Frame> {
    let fields: [(&str, &[u8]); 6] = [
        (":method", b"POST"),
        (":scheme", b"http"),
        (":path", path.as_bytes()),
        (":authority", b"localhost"),
        ("content-type", b"application/grpc"),
        ("te", b"trailers"),
    ];
    headers(stream, &fields, end)
}

/// A response head of a gRPC server.
pub fn response(stream: u32) -> Vec<Frame> {
    headers(stream, &[(":status", b"200"), ("content-type", b"application/grpc")], false)
}

/// Trailers of a call that went well.
pub fn trailers(stream: u32) -> Vec<Frame> {
    headers(stream, &[("grpc-status", b"0")], true)
}

/// DATA, cut to the size that every peer has to accept.
pub fn data(stream: u32, bytes: &[u8], end: bool) -> Vec<Frame> {
    let count = bytes.len().div_ceil(FRAME_LIMIT).max(1);
    let part = |index: usize| &bytes[index * FRAME_LIMIT..bytes.len().min((index + 1) * FRAME_LIMIT)];
    (0..count).map(|i| Frame::new(DATA, u8::from(end && i + 1 == count), stream, part(i))).collect()
}

/// `RST_STREAM`.
pub fn reset(stream: u32, code: u32) -> Frame {
    Frame::new(RST_STREAM, 0, stream, code.to_be_bytes())
}

/// GOAWAY.
pub fn goaway(last: u32, code: u32) -> Frame {
    Frame::new(GOAWAY, 0, 0, [last.to_be_bytes(), code.to_be_bytes()].concat())
}

/// SETTINGS.
pub fn settings(list: &[(u16, u32)]) -> Frame {
    let payload: Vec<u8> = list.iter().flat_map(|(id, v)| [&id.to_be_bytes()[..], &v.to_be_bytes()].concat()).collect();
    Frame::new(SETTINGS, 0, 0, payload)
}

/// `WINDOW_UPDATE`; stream 0 is the connection.
pub fn window(stream: u32, by: u32) -> Frame {
    Frame::new(WINDOW_UPDATE, 0, stream, by.to_be_bytes())
}

/// A connection spoken frame by frame.
pub struct Wire {
    io: UnixStream,
    inbox: Vec<u8>,
}

impl Wire {
    /// A client: connects and says the preface and empty settings.
    pub async fn connect(path: &Path) -> Self {
        let mut io = UnixStream::connect(path).await.expect("the socket takes connections");
        io.write_all(PREFACE).await.expect("the preface is taken");
        let mut wire = Self { io, inbox: Vec::new() };
        wire.send(&[settings(&[])]).await;
        wire
    }

    /// A server: reads the preface of an accepted connection and says `settings`.
    pub async fn accept(mut io: UnixStream, list: &[(u16, u32)]) -> Self {
        let mut preface = [0; PREFACE.len()];
        io.read_exact(&mut preface).await.expect("a client says its preface");
        assert_eq!(preface, PREFACE);
        let mut wire = Self { io, inbox: Vec::new() };
        wire.send(&[settings(list)]).await;
        wire
    }

    /// Writes frames in one go. A peer that is gone is not an error here: the reader sees it.
    pub async fn send(&mut self, frames: &[Frame]) {
        let mut out = Vec::new();
        for frame in frames {
            frame.write(&mut out);
        }
        let _ = self.io.write_all(&out).await;
    }

    /// Writes bytes that need not be frames.
    pub async fn raw(&mut self, bytes: &[u8]) {
        let _ = self.io.write_all(bytes).await;
    }

    /// The next frame of any kind; none at the end of the connection.
    pub async fn next(&mut self) -> Option<Frame> {
        loop {
            if self.inbox.len() >= 9 {
                let length = u32::from_be_bytes([0, self.inbox[0], self.inbox[1], self.inbox[2]]) as usize;
                if self.inbox.len() >= 9 + length {
                    let rest = self.inbox.split_off(9 + length);
                    let whole = std::mem::replace(&mut self.inbox, rest);
                    let stream = u32::from_be_bytes(whole[5..9].try_into().expect("four bytes")) & 0x7fff_ffff;
                    return Some(Frame::new(whole[3], whole[4], stream, &whole[9..]));
                }
            }
            self.inbox.reserve(FRAME_LIMIT);
            if !matches!(self.io.read_buf(&mut self.inbox).await, Ok(1..)) {
                return None;
            }
        }
    }

    /// The next frame about a stream, or GOAWAY; settings and pings are acknowledged on the way.
    pub async fn next_call(&mut self) -> Option<Frame> {
        loop {
            let frame = self.next().await?;
            match frame.kind {
                SETTINGS if frame.flags & FLAG_END == 0 => self.send(&[Frame::new(SETTINGS, FLAG_END, 0, [])]).await,
                PING if frame.flags & FLAG_END == 0 => self.send(&[Frame::new(PING, FLAG_END, 0, frame.payload)]).await,
                SETTINGS | PING | WINDOW_UPDATE => {}
                _ => return Some(frame),
            }
        }
    }

    /// Reads on until the peer has ended its side of `stream`.
    pub async fn read_request(&mut self, stream: u32) {
        while let Some(frame) = self.next_call().await {
            if frame.stream == stream && frame.ends() {
                return;
            }
        }
        panic!("the connection ended before stream {stream} did");
    }
}
