//! The end of an output: however much is written, no more than [`CAP`] bytes of it are kept.

use bytes::Bytes;

/// How much of an output is kept: its last 64 KiB.
pub(super) const CAP: usize = 64 * 1024;

/// Takes all and keeps the end. It never holds more than twice what it keeps.
#[derive(Debug, Default)]
pub(super) struct Tail(Vec<u8>);

impl Tail {
    /// Takes what comes next.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        let bytes = &bytes[bytes.len().saturating_sub(CAP)..];
        if self.0.len() + bytes.len() > 2 * CAP {
            let surplus = (self.0.len() + bytes.len() - CAP).min(self.0.len());
            self.0.drain(..surplus);
        }
        self.0.extend_from_slice(bytes);
    }

    /// The end of what it took.
    pub(super) fn kept(&self) -> Bytes {
        Bytes::copy_from_slice(&self.0[self.0.len().saturating_sub(CAP)..])
    }
}

/// The end of an output that is there as a whole.
pub(super) fn end_of(all: &Bytes) -> Bytes {
    if all.len() <= CAP {
        return all.clone();
    }
    // A slice would keep all of it in memory for as long as the run is remembered.
    Bytes::copy_from_slice(&all[all.len() - CAP..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_is_kept_whatever_the_pieces_and_memory_is_bounded() {
        for piece in [1, 7, 1000, CAP - 1, CAP, CAP + 1, 5 * CAP] {
            let all: Vec<u8> = (0..=255).cycle().take(5 * CAP + 3).collect();
            let mut tail = Tail::default();
            for part in all.chunks(piece) {
                tail.push(part);
                assert!(tail.0.len() <= 2 * CAP, "{} bytes held", tail.0.len());
            }
            assert_eq!(tail.kept(), all[all.len() - CAP..], "in pieces of {piece}");
            assert_eq!(end_of(&Bytes::from(all.clone())), all[all.len() - CAP..]);
        }
    }

    #[test]
    fn a_short_output_is_kept_as_a_whole() {
        let mut tail = Tail::default();
        tail.push(b"all ");
        tail.push(b"of it");
        assert_eq!(tail.kept(), "all of it");
        assert_eq!(end_of(&Bytes::from_static(b"all of it")), "all of it");
    }
}
