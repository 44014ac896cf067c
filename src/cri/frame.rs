//! gRPC's message framing: one byte of flags, four bytes of length (big-endian), then the message.
//!
//! Source: <https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>, "Length-Prefixed-Message".

use bytes::{BufMut, Bytes, BytesMut};

/// Bytes that precede every message: the compression flag and the length.
const PREFIX: usize = 5;

/// A call's only message, found in the bytes of its body.
///
/// # Errors
/// See [`Unreadable`].
pub fn only_message(body: &Bytes) -> Result<Bytes, Unreadable> {
    let Some((&[flag, length @ ..], message)) = body.split_first_chunk::<PREFIX>() else {
        return Err(Unreadable::Malformed);
    };
    match flag {
        _ if message.len() != u32::from_be_bytes(length) as usize => Err(Unreadable::Malformed),
        0 => Ok(body.slice(PREFIX..)),
        _ => Err(Unreadable::Compressed),
    }
}

/// The bytes of a body with this one message, uncompressed.
#[must_use]
pub fn framed(message: &[u8]) -> Bytes {
    let mut body = BytesMut::with_capacity(PREFIX + message.len());
    body.put_u8(0);
    // CRI's own limit is far below what does not fit.
    body.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
    body.put_slice(message);
    body.freeze()
}

/// Why a body is not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unreadable {
    /// Its message is compressed.
    Compressed,
    /// It is not exactly one message.
    Malformed,
}

/// Finds the sizes of the messages in a stream of bytes without keeping any of them.
///
/// It is fed the pieces as they pass, cut anywhere, and says for each message how long it is as soon as its prefix is complete.
#[derive(Debug, Default)]
pub struct Meter {
    prefix: [u8; PREFIX],
    have: usize,
    body_left: u64,
}

impl Meter {
    /// Looks at the next piece; `message` is called with the length in bytes of each message that begins in it.
    pub fn feed(&mut self, mut piece: &[u8], mut message: impl FnMut(u32)) {
        while !piece.is_empty() {
            if self.body_left > 0 {
                let skip = piece.len().min(usize::try_from(self.body_left).unwrap_or(usize::MAX));
                self.body_left -= skip as u64;
                piece = &piece[skip..];
                continue;
            }
            let take = piece.len().min(PREFIX - self.have);
            self.prefix[self.have..self.have + take].copy_from_slice(&piece[..take]);
            self.have += take;
            piece = &piece[take..];
            if self.have == PREFIX {
                let [_, length @ ..] = self.prefix;
                let length = u32::from_be_bytes(length);
                message(length);
                self.have = 0;
                self.body_left = u64::from(length);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_read_only_if_it_is_one_plain_message() {
        let body = framed(b"abc");
        assert_eq!(only_message(&body).unwrap(), "abc");
        assert_eq!(only_message(&framed(b"")).unwrap(), "");
        let mut compressed = body.to_vec();
        compressed[0] = 1;
        assert_eq!(only_message(&compressed.into()), Err(Unreadable::Compressed));
        assert_eq!(only_message(&body.slice(..7)), Err(Unreadable::Malformed), "cut short");
        assert_eq!(only_message(&Bytes::from_static(b"\0\0")), Err(Unreadable::Malformed));
        assert_eq!(only_message(&[body.clone(), body].concat().into()), Err(Unreadable::Malformed), "two messages");
    }

    fn sizes(pieces: &[&[u8]]) -> Vec<u32> {
        let mut meter = Meter::default();
        let mut seen = Vec::new();
        for piece in pieces {
            meter.feed(piece, |size| seen.push(size));
        }
        seen
    }

    #[test]
    fn messages_are_counted_however_the_bytes_are_cut() {
        let stream = [&[0, 0, 0, 0, 3][..], b"abc", &[1, 0, 0, 0, 0], &[0, 0, 0, 1, 0], &[7; 256]].concat();
        assert_eq!(sizes(&[&stream]), [3, 0, 256]);
        let bytes: Vec<&[u8]> = stream.chunks(1).collect();
        assert_eq!(sizes(&bytes), [3, 0, 256]);
        for cut in 0..stream.len() {
            let (a, b) = stream.split_at(cut);
            assert_eq!(sizes(&[a, b]), [3, 0, 256], "cut at {cut}");
        }
    }

    #[test]
    fn a_message_is_counted_when_its_prefix_is_complete_and_not_before() {
        assert_eq!(sizes(&[&[0, 0, 0, 0]]), [0u32; 0]);
        assert_eq!(sizes(&[&[0, 0, 0, 0], &[9]]), [9]);
    }
}
