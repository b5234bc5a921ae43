//! Where the messages of one direction begin and end, whatever size of pieces they come in.
//!
//! A message whose head has been looked at is passed on, or let go, as its bytes come. In a session
//! that is only relayed nothing is looked at, but the headers are still read: something of Osprey's
//! own (the end of a drain, say) must never come to stand within a message.

use crate::wire::{HEADER, Header};

/// The message that is passing in one direction.
#[derive(Debug, Default)]
pub(super) struct Framing {
    /// Bytes of it that are still to come.
    left: usize,
    /// They are let go, not passed on.
    dropping: bool,
    /// What has come of the header of a message that is only relayed.
    head: [u8; HEADER],
    /// As many bytes of `head` have come; fewer than a whole header.
    head_len: usize,
}

impl Framing {
    /// The first bytes of a message were dealt with, and `left` are to come.
    pub(super) fn begin(&mut self, left: usize, dropping: bool) {
        self.left = left;
        self.dropping = dropping;
    }

    /// How much of what has come, `available` bytes, belongs to the message that has begun, and
    /// whether it is let go; `None`: a new message begins.
    pub(super) fn rest(&mut self, available: usize) -> Option<(usize, bool)> {
        if self.left == 0 {
            return None;
        }
        let step = self.left.min(available);
        self.left -= step;
        Some((step, self.dropping))
    }

    /// How much of what has come is passed on, in a session that is only relayed.
    pub(super) fn relay(&mut self, bytes: &[u8]) -> usize {
        let mut at = 0;
        while at < bytes.len() {
            if let Some((step, _)) = self.rest(bytes.len() - at) {
                at += step;
                continue;
            }
            let step = (HEADER - self.head_len).min(bytes.len() - at);
            let until = self.head_len + step;
            self.head[self.head_len..until].copy_from_slice(&bytes[at..at + step]);
            self.head_len = until;
            at += step;
            if self.head_len == HEADER {
                self.head_len = 0;
                let left = match Header::read(&self.head) {
                    Ok(Some(header)) => header.frame - HEADER,
                    // What this is, the peer may know. Nothing of ours can be put into it.
                    _ => usize::MAX,
                };
                self.begin(left, false);
            }
        }
        at
    }

    /// True if a message has been passed on in part.
    pub(super) fn is_mid_message(&self) -> bool {
        self.left > 0 || self.head_len > 0
    }

    /// A header has not come in full only where a message has not begun.
    pub(super) fn check(&self) -> Result<(), String> {
        let rules = [
            (self.head_len < HEADER, "a whole header is acted upon"),
            (
                self.left == 0 || self.head_len == 0,
                "a header or a body, not both",
            ),
        ];
        super::check::all("the framing", rules, self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_relayed_message_is_followed_in_pieces_of_any_size() {
        let stream = [
            b"Q\0\0\0\x08abcd".as_slice(),
            b"S\0\0\0\x04",
            b"d\0\0\0\x05x",
        ]
        .concat();
        for size in 1..=stream.len() {
            let mut framing = Framing::default();
            let mut at = 0;
            for piece in stream.chunks(size) {
                assert_eq!(framing.relay(piece), piece.len());
                at += piece.len();
                let between = [9, 14, 20].contains(&at);
                assert_eq!(
                    framing.is_mid_message(),
                    !between,
                    "{at} of pieces of {size}"
                );
                framing.check().unwrap();
            }
        }
    }

    #[test]
    fn nothing_is_put_behind_what_is_no_message() {
        let mut framing = Framing::default();
        framing.relay(b"X\0\0\0\x01");
        assert!(framing.is_mid_message());
    }
}
