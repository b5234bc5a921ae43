//! PostgreSQL's frontend/backend protocol, as far as Osprey looks into it: frame headers, typed
//! views of the few messages that matter, and the messages that Osprey itself composes.
//!
//! Everything here works on borrowed bytes and never panics on a peer's input. The source of every
//! rule is the PostgreSQL manual, chapter *Frontend/Backend Protocol*, section *Message Formats*.

pub mod backend;
pub mod compose;
pub mod frontend;
pub mod startup;

/// Bytes of a frame header: the type byte and the four length bytes.
pub const HEADER: usize = 5;

/// The first five bytes of a message after startup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// The message type byte.
    pub tag: u8,
    /// Bytes of the whole frame: type byte, length and body.
    pub frame: usize,
}

/// A frame whose length field cannot be: less than the four bytes of the field itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("message of type 0x{tag:02X} has the impossible length {length}")]
pub struct BadLength {
    /// The message type byte.
    pub tag: u8,
    /// What the length field says.
    pub length: i32,
}

impl Header {
    /// Reads the header at the start of `input`; `Ok(None)` if fewer than [`HEADER`] bytes are
    /// there.
    ///
    /// # Errors
    ///
    /// A length below 4, negative ones included. How long a message may be at most is left to the
    /// server: it knows its own limits and refuses in its own words.
    #[inline]
    pub fn read(input: &[u8]) -> Result<Option<Self>, BadLength> {
        let Some((&[tag, a, b, c, d], _)) = input.split_first_chunk::<HEADER>() else {
            return Ok(None);
        };
        let length = i32::from_be_bytes([a, b, c, d]);
        match usize::try_from(length) {
            Ok(length) if length >= 4 => Ok(Some(Self {
                tag,
                frame: length + 1,
            })),
            _ => Err(BadLength { tag, length }),
        }
    }
}

/// Splits a NUL-terminated string off the front; without a NUL, `None`.
#[inline]
pub fn split_cstr(input: &[u8]) -> Option<(&[u8], &[u8])> {
    // Most names are empty, where a search that is quick at long texts costs more than it finds.
    let end = match input.first()? {
        0 => 0,
        _ => memchr::memchr(0, input)?,
    };
    Some((&input[..end], &input[end + 1..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_needs_five_bytes_and_a_possible_length() {
        assert_eq!(Header::read(b"Q\0\0\0"), Ok(None));
        assert_eq!(
            Header::read(b"Q\0\0\0\x04"),
            Ok(Some(Header {
                tag: b'Q',
                frame: 5
            }))
        );
        assert_eq!(
            Header::read(b"Q\0\0\0\x03"),
            Err(BadLength {
                tag: b'Q',
                length: 3
            })
        );
        assert_eq!(
            Header::read(b"Q\xff\xff\xff\xff"),
            Err(BadLength {
                tag: b'Q',
                length: -1
            })
        );
    }
}
