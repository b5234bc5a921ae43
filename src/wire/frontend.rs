//! Views of the messages that a client sends.

use super::split_cstr;

/// Message types (PostgreSQL, *Message Formats*).
pub mod tag {
    /// Bind
    pub const BIND: u8 = b'B';
    /// Close
    pub const CLOSE: u8 = b'C';
    /// CopyData
    pub const COPY_DATA: u8 = b'd';
    /// CopyDone
    pub const COPY_DONE: u8 = b'c';
    /// CopyFail
    pub const COPY_FAIL: u8 = b'f';
    /// Describe
    pub const DESCRIBE: u8 = b'D';
    /// Execute
    pub const EXECUTE: u8 = b'E';
    /// Flush
    pub const FLUSH: u8 = b'H';
    /// FunctionCall
    pub const FUNCTION_CALL: u8 = b'F';
    /// Parse
    pub const PARSE: u8 = b'P';
    /// PasswordMessage, SASL and GSS responses
    pub const PASSWORD: u8 = b'p';
    /// Query
    pub const QUERY: u8 = b'Q';
    /// Sync
    pub const SYNC: u8 = b'S';
    /// Terminate
    pub const TERMINATE: u8 = b'X';
}

/// The SQL of a Query: everything up to the first NUL, or all of it where the head alone is in
/// hand.
pub fn query_text(body: &[u8]) -> &[u8] {
    split_cstr(body).map_or(body, |(text, _)| text)
}

/// A Parse; its text may be cut where only the head of the message is in hand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parse<'a> {
    /// Name of the prepared statement; empty: the unnamed one.
    pub name: &'a [u8],
    /// The SQL.
    pub text: &'a [u8],
    /// The types of its parameters, as far as the client gives them: their number and their OIDs, as the
    /// message holds them.
    pub types: &'a [u8],
}

impl<'a> Parse<'a> {
    /// Reads the body of a Parse; `None` if the name does not end within `body`.
    pub fn read(body: &'a [u8]) -> Option<Self> {
        let (name, rest) = split_cstr(body)?;
        let (text, types) = split_cstr(rest).unwrap_or((rest, &[]));
        Some(Self { name, text, types })
    }

    /// True if the server begins with a Parse that came so, in full: it reads all of a message first, and
    /// converts its texts, which may fail beyond ASCII.
    pub fn is_begun(&self) -> bool {
        let Some((count, types)) = self.types.split_first_chunk() else {
            return false;
        };
        let is_whole = usize::from(u16::from_be_bytes(*count)) * 4 == types.len();
        is_whole && self.name.is_ascii() && self.text.is_ascii()
    }
}

/// A Bind; its parameters may be cut where only the head of the message is in hand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bind<'a> {
    /// The portal to make; empty: the unnamed one.
    pub portal: &'a [u8],
    /// The prepared statement.
    pub statement: &'a [u8],
    /// What follows: the formats of its parameters, the parameters, and the formats of what it yields.
    rest: &'a [u8],
}

impl<'a> Bind<'a> {
    /// Reads the body of a Bind; `None` if the names do not end within `body`.
    pub fn read(body: &'a [u8]) -> Option<Self> {
        let (portal, rest) = split_cstr(body)?;
        let (statement, rest) = split_cstr(rest)?;
        Some(Self {
            portal,
            statement,
            rest,
        })
    }

    /// The values of its parameters that are not NULL, whatever their formats; the last one may be cut.
    pub fn values(&self) -> impl Iterator<Item = &'a [u8]> {
        let mut rest = count(self.rest).map_or(&[][..], |(formats, rest)| {
            rest.get(2 * formats..).unwrap_or_default()
        });
        let left = count(rest).map_or(0, |(values, behind)| {
            rest = behind;
            values
        });
        (0..left).map_while(move |_| {
            let (length, behind) = rest.split_first_chunk()?;
            let length = usize::try_from(i32::from_be_bytes(*length)).unwrap_or(0);
            let (value, behind) = behind.split_at(length.min(behind.len()));
            rest = behind;
            Some(value)
        })
    }
}

/// A count of two bytes, and what is behind it.
fn count(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let (count, rest) = bytes.split_first_chunk()?;
    Some((usize::from(u16::from_be_bytes(*count)), rest))
}

/// The portal of an Execute.
pub fn execute_portal(body: &[u8]) -> Option<&[u8]> {
    split_cstr(body).map(|(portal, _)| portal)
}

/// What a Describe or a Close is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target<'a> {
    /// A prepared statement, by name.
    Statement(&'a [u8]),
    /// A portal, by name.
    Portal(&'a [u8]),
}

impl<'a> Target<'a> {
    /// Reads the body of a Describe or a Close; `None` if it is not one.
    pub fn read(body: &'a [u8]) -> Option<Self> {
        let (&kind, rest) = body.split_first()?;
        let (name, _) = split_cstr(rest)?;
        match kind {
            b'S' => Some(Self::Statement(name)),
            b'P' => Some(Self::Portal(name)),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn views_read_what_is_there_and_refuse_what_is_not() {
        assert_eq!(query_text(b"SELECT 1\0"), b"SELECT 1");
        assert_eq!(query_text(b"SELECT"), b"SELECT");
        assert_eq!(
            Parse::read(b"s\0SELECT 1\0\0\0"),
            Some(Parse {
                name: b"s",
                text: b"SELECT 1",
                types: b"\0\0"
            })
        );
        let is_begun = |body| Parse::read(body).is_some_and(|parse| parse.is_begun());
        assert!(is_begun(b"\0SELECT 1\0\0\0") && is_begun(b"s\0SELECT $1\0\0\x01\0\0\0\x17"));
        for refused in [
            &b"\0SELECT 1\0\0"[..],
            b"\0SELECT 1\0\0\x01\0\0\0",
            b"\0SELECT 1\0\0\0\0",
            b"\0SELECT '\xc3\xa4'\0\0\0",
        ] {
            assert!(!is_begun(refused));
        }
        // Only its head is in hand.
        assert_eq!(
            Parse::read(b"s\0SELECT").map(|parse| (parse.text, parse.types)),
            Some((&b"SELECT"[..], &b""[..]))
        );
        assert_eq!(Parse::read(b"s"), None);
        assert_eq!(
            Bind::read(b"p\0s\0\0\0"),
            Some(Bind {
                portal: b"p",
                statement: b"s",
                rest: b"\0\0"
            })
        );
        assert_eq!(Bind::read(b"p\0s"), None);
        let values = |rest: &'static [u8]| {
            let body = [b"p\0s\0", rest].concat();
            let bind = Bind::read(&body).unwrap();
            bind.values().map(<[u8]>::to_vec).collect::<Vec<_>>()
        };
        let three = b"\0\x01\0\0\0\x03\0\0\0\x02ab\xff\xff\xff\xff\0\0\0\x01c\0\0";
        assert_eq!(values(three), [&b"ab"[..], b"", b"c"]);
        assert_eq!(values(&three[..11]), [b"a"]);
        for cut in [&b""[..], b"\0", b"\0\x02\0", b"\0\0\0\x09", b"\0\0\0\x01\0"] {
            assert_eq!(values(cut), [b""; 0]);
        }
        assert_eq!(Target::read(b"Ss\0"), Some(Target::Statement(b"s")));
        assert_eq!(Target::read(b"P\0"), Some(Target::Portal(b"")));
        assert_eq!(Target::read(b"X\0"), None);
        assert_eq!(Target::read(b""), None);
    }
}
