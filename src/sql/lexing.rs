//! What the server's scanner goes by beside the text: two parameters of its session.

use std::borrow::Cow;

use super::encoding::Encoding;

/// What a backslash is in `'…'`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Backslash {
    /// A character like any other: `standard_conforming_strings` is on, as it is by default since
    /// PostgreSQL 9.1.
    #[default]
    Plain,
    /// What escapes the character behind it, as in `E'…'`: `standard_conforming_strings` is off.
    Escapes,
}

/// How the server reads the texts of a session, as far as parameters say it. It reports both of
/// them at login and at every change (manual, *Asynchronous Operations* of the protocol).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Lexing {
    /// By `standard_conforming_strings`.
    pub backslash: Backslash,
    /// By `client_encoding`.
    pub encoding: Encoding,
}

impl Lexing {
    /// Takes in that the server has reported this value of a parameter. An encoding that PostgreSQL
    /// did not have when this was written is taken for one of which only ASCII is known.
    pub fn report(&mut self, parameter: &[u8], value: &[u8]) {
        match parameter {
            b"standard_conforming_strings" => {
                self.backslash = if value == b"off" {
                    Backslash::Escapes
                } else {
                    Backslash::Plain
                };
            }
            b"client_encoding" => {
                let name = std::str::from_utf8(value).ok();
                let encoding = name.and_then(Encoding::named);
                self.encoding = encoding.unwrap_or_else(Encoding::other);
            }
            _ => {}
        }
    }

    /// True if the server may read this text of a client's otherwise than by default.
    pub fn matters(self, text: &[u8]) -> bool {
        !self.encoding.is_the_servers() && !text.is_ascii()
            || self.backslash_in(text) == Backslash::Escapes
    }

    /// A text of the client's in the server's encoding, and what a backslash is in it. That matters
    /// only where one stands in front of a quote: anywhere else a string ends where it would without
    /// it.
    pub(crate) fn read(self, text: &[u8]) -> (Cow<'_, [u8]>, Backslash) {
        let text = self.encoding.to_server(text);
        let backslash = self.backslash_in(&text);
        (text, backslash)
    }

    fn backslash_in(self, text: &[u8]) -> Backslash {
        match self.backslash {
            Backslash::Escapes if may_escape_quotes(text) => Backslash::Escapes,
            _ => Backslash::Plain,
        }
    }
}

/// True if a session's parameters may make the server read this text otherwise than by default.
pub fn may_be_read_otherwise(text: &[u8]) -> bool {
    !text.is_ascii() || may_escape_quotes(text)
}

/// True if a quote in a text may be escaped by a backslash.
pub(super) fn may_escape_quotes(text: &[u8]) -> bool {
    memchr::memmem::find(text, b"\\'").is_some()
}
