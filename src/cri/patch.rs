//! Changing a message without understanding all of it.
//!
//! A decoded message has lost the fields that this version does not know, so it is never encoded again. Instead, the encoding of a message that
//! holds only the changed fields is appended to the original bytes: protobuf defines the concatenation of two encodings as the merge of their
//! messages, in which scalars and map keys of the second win, repeated fields are appended, sub-messages are merged, and
//! unknown fields stay (<https://protobuf.dev/programming-guides/encoding/#last-one-wins>). A zero is not encoded, so a patch
//! cannot set one.

use bytes::{Bytes, BytesMut};
use prost::Message;

/// The message with `change` merged into it.
#[must_use]
pub fn patched(message: &[u8], change: &impl Message) -> Bytes {
    let mut bytes = BytesMut::with_capacity(message.len() + change.encoded_len());
    bytes.extend_from_slice(message);
    bytes.extend_from_slice(&change.encode_to_vec());
    bytes.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cri::v1::StopContainerRequest;

    #[test]
    fn a_patch_changes_its_field_and_nothing_else() {
        let mut original = StopContainerRequest { container_id: "c".into(), timeout: 10 }.encode_to_vec();
        // Field 100, a varint, which no version knows yet.
        let future = [0xa0, 0x06, 0x2a];
        original.extend_from_slice(&future);
        let bytes = patched(&original, &StopContainerRequest { timeout: 7, ..Default::default() });
        assert!(bytes.starts_with(&original), "what was there is untouched");
        let read = StopContainerRequest::decode(&*bytes).unwrap();
        assert_eq!((&*read.container_id, read.timeout), ("c", 7));
    }
}
