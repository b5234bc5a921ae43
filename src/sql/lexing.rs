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
                self.encoding = encoding.unwrap_or_else(Encoding::of_ascii);
            }
            _ => {}
        }
    }

    /// True if every text is read as it stands.
    #[inline]
    pub(crate) fn is_default(self) -> bool {
        self.backslash == Backslash::Plain && self.encoding.is_the_servers()
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

/// True if every byte is ASCII, and none is zero.
pub(crate) fn is_plain(text: &[u8]) -> bool {
    const ONES: u64 = u64::from_ne_bytes([1; 8]);
    const HIGH: u64 = u64::from_ne_bytes([0x80; 8]);
    let (words, rest) = text.as_chunks::<8>();
    let odd = |word: u64| word | word.wrapping_sub(ONES);
    let words = words.iter().map(|word| odd(u64::from_ne_bytes(*word)));
    let words = words.fold(0, |all, word| all | word);
    let rest = match text.last_chunk::<8>() {
        Some(last) => odd(u64::from_ne_bytes(*last)),
        None if rest.iter().all(|byte| byte.is_ascii() && *byte != 0) => 0,
        None => HIGH,
    };
    (words | rest) & HIGH == 0
}

/// True if every byte is a digit.
pub(crate) fn is_digits(text: &[u8]) -> bool {
    const HIGH: u32 = u32::from_ne_bytes([0xf0; 4]);
    const ZEROS: u32 = u32::from_ne_bytes([b'0'; 4]);
    const UP_TO_NINE: u32 = u32::from_ne_bytes([6; 4]);
    let (words, rest) = text.as_chunks::<4>();
    // Digits are 0x30 to 0x39. With six added they are in the same row of sixteen still, and what stands
    // behind them in that row is not; no byte of the row carries into its neighbour.
    words.iter().all(|word| {
        let word = u32::from_ne_bytes(*word);
        word & HIGH == ZEROS && word.wrapping_add(UP_TO_NINE) & HIGH == ZEROS
    }) && rest.iter().all(u8::is_ascii_digit)
}

/// True if a session's parameters may make the server read this text otherwise than by default.
pub fn may_be_read_otherwise(text: &[u8]) -> bool {
    !text.is_ascii() || may_escape_quotes(text)
}

/// True if a quote in a text may be escaped by a backslash.
pub(super) fn may_escape_quotes(text: &[u8]) -> bool {
    memchr::memmem::find(text, b"\\'").is_some()
}

#[cfg(test)]
mod tests {
    use super::super::lexer::{Kind, Lexer};
    use super::*;
    use proptest::prelude::*;

    /// A character, and its bytes.
    type Character = (&'static str, &'static [u8]);

    /// The encodings in which a byte of a character may be ASCII: a character whose second byte is a
    /// backslash, if there is one, and one whose second byte is something else that parts words or is
    /// a letter in upper case. A quote is never part of one: the server refuses such bytes.
    const ENCODINGS: [(&str, &[Character]); 6] = [
        (
            "GBK",
            &[
                ("誠", b"\xd5\x5c"),
                ("丂", b"\x81\x40"),
                ("丄", b"\x81\x41"),
                ("唃", b"\x86\x67"),
            ],
        ),
        (
            "GB18030",
            &[
                ("誠", b"\xd5\x5c"),
                ("丂", b"\x81\x40"),
                ("㐀", b"\x81\x39\xee\x39"),
            ],
        ),
        (
            "BIG5",
            &[
                ("功", b"\xa5\x5c"),
                ("許", b"\xb3\x5c"),
                ("一", b"\xa4\x40"),
                ("乙", b"\xa4\x41"),
            ],
        ),
        (
            "SJIS",
            &[
                ("表", b"\x95\x5c"),
                ("ア", b"\x83\x41"),
                ("機", b"\x8b\x40"),
                ("ｱ", b"\xb1"),
            ],
        ),
        (
            "UHC",
            &[
                ("갂", b"\x81\x41"),
                ("각", b"\xb0\xa2"),
                ("힣", b"\xc6\x52"),
            ],
        ),
        (
            "EUC_JP",
            &[
                ("表", b"\xc9\xbd"),
                ("ｱ", b"\x8e\xb1"),
                ("丂", b"\x8f\xb0\xa1"),
            ],
        ),
    ];

    fn lexing(encoding: &str, backslash: Backslash) -> Lexing {
        Lexing {
            backslash,
            encoding: Encoding::named(encoding).expect("an encoding"),
        }
    }

    fn kinds(text: &[u8], lexing: Lexing) -> Vec<Kind> {
        let (text, backslash) = lexing.read(text);
        let tokens = Lexer::new(&text, backslash);
        let kinds = tokens.inspect(|token| assert!(token.terminated));
        kinds
            .map(|token| token.kind)
            .filter(|kind| *kind != Kind::Space)
            .collect()
    }

    #[test]
    fn no_byte_of_a_character_is_taken_for_something_else() {
        for (encoding, characters) in ENCODINGS {
            let lexing = lexing(encoding, Backslash::Plain);
            for (character, bytes) in characters {
                assert_eq!(
                    *lexing.encoding.to_server(bytes),
                    *character.as_bytes(),
                    "{encoding} {character}"
                );
                let text = [
                    &b"E'"[..],
                    bytes,
                    b"' ",
                    bytes,
                    b" \"",
                    bytes,
                    b"\" '",
                    bytes,
                    b"'",
                ]
                .concat();
                let expected = [Kind::EscapeString, Kind::Word, Kind::Quoted, Kind::String];
                assert_eq!(kinds(&text, lexing), expected, "{encoding} {character}");
                // A character that is cut off by the end.
                let (cut, _) = lexing.read(&bytes[..bytes.len() - 1]);
                assert!(bytes.len() == 1 || std::str::from_utf8(&cut).is_err());
            }
        }
    }

    #[test]
    fn of_what_is_not_known_the_ends_are_known() {
        for (encoding, bytes) in [
            ("EUC_TW", &b"\x8e\xa1\xa1\xa1"[..]),
            ("EUC_JIS_2004", b"\x8f\xa1\xa1"),
            ("SHIFT_JIS_2004", b"\x81\x5c"),
            ("JOHAB", b"\x88\xa1"),
            // In no encoding's table.
            ("GBK", b"\xff\x27"),
            ("BIG5", b"\xff\x5c"),
        ] {
            let text = [b"E'", bytes, b"', ", bytes].concat();
            let (text, _) = lexing(encoding, Backslash::Plain).read(&text);
            assert_eq!(*text, *b"E'\xff', \xff", "{encoding}");
        }
    }

    #[test]
    fn backslashes_escape_where_the_parameter_is_off() {
        let read = |text: &str, backslash| kinds(text.as_bytes(), lexing("UTF8", backslash));
        for text in [r"'\''", r"'it\'s'", r"'\\\''", r"'''\''", r"'a\'' 'b'"] {
            let strings = read(text, Backslash::Escapes);
            let is_string = |kind: &Kind| *kind == Kind::EscapeString;
            assert!(strings.iter().all(is_string), "{text}");
        }
        // Read otherwise, the table stands in a string between the two.
        let text = r"'\'' from t where '\''";
        assert_eq!(read(text, Backslash::Escapes).len(), 5);
        assert_eq!(read(text, Backslash::Plain).len(), 3);
        assert_eq!(read(r"'\''", Backslash::Escapes), [Kind::EscapeString]);
        // The continuation of such a string is one, too; U& and X have no escapes.
        assert_eq!(read("'a'\n'\\''", Backslash::Escapes), [Kind::EscapeString]);
        assert_eq!(
            read("X'1\\' n'\\''", Backslash::Escapes),
            [Kind::String, Kind::Word, Kind::EscapeString]
        );
    }

    #[test]
    fn what_is_read_in_one_way_costs_nothing() {
        let gbk = lexing("GBK", Backslash::Escapes);
        assert!(!gbk.matters(b"select '\\d', 'it''s'"));
        assert!(gbk.matters(b"select '\\'") && gbk.matters(b"select '\xd5\x5c'"));
        assert!(matches!(
            gbk.read(b"select 1"),
            (Cow::Borrowed(_), Backslash::Plain)
        ));
        let utf8 = Lexing::default();
        assert!(!utf8.matters(b"select '\\''") && !utf8.matters(b"select '\xd5\x5c'"));
        assert!(matches!(
            utf8.read(b"'\xd5'"),
            (Cow::Borrowed(_), Backslash::Plain)
        ));
    }

    #[test]
    fn parameters_are_taken_in_as_they_are_reported() {
        let mut lexing = Lexing::default();
        lexing.report(b"client_encoding", b"SJIS");
        lexing.report(b"standard_conforming_strings", b"off");
        lexing.report(b"DateStyle", b"ISO");
        assert_eq!(lexing, self::lexing("sjis", Backslash::Escapes));
        lexing.report(b"client_encoding", b"KLINGON");
        assert_eq!(*lexing.encoding.to_server(b"a\xd5\x5c"), *b"a\xff\x5c");
        lexing.report(b"client_encoding", b"SQL_ASCII");
        lexing.report(b"standard_conforming_strings", b"on");
        assert_eq!(lexing, Lexing::default());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn every_byte_is_looked_at(text in proptest::collection::vec(any::<u8>(), 0..40)) {
            let each = text.iter().all(|byte| (1..=127).contains(byte));
            prop_assert_eq!(is_plain(&text), each);
            let ascii: Vec<u8> = text.iter().map(|byte| byte & 0x7f).collect();
            prop_assert_eq!(is_plain(&ascii), !ascii.contains(&0));
        }

        #[test]
        fn every_byte_is_a_digit_or_one_is_not(
            mut text in proptest::collection::vec(b'0'..=b'9', 0..12),
            at in 0..12_usize,
            byte in any::<u8>(),
        ) {
            prop_assert!(is_digits(&text));
            if let Some(one) = text.get_mut(at) {
                *one = byte;
            }
            prop_assert_eq!(is_digits(&text), text.iter().all(u8::is_ascii_digit));
        }

        #[test]
        fn a_text_is_read_as_it_is_in_utf8(
            encoding in 0..ENCODINGS.len(),
            parts in proptest::collection::vec((0..12_usize, any::<prop::sample::Index>()), 0..30),
        ) {
            let (name, characters) = ENCODINGS[encoding];
            let around = ["'", "E'", "\"", "$$", "--", "\n", "\\", "a", " ", "/*", "*/"];
            let (mut text, mut bytes) = (String::new(), Vec::new());
            for (kind, which) in parts {
                let (character, encoded) = match around.get(kind) {
                    Some(ascii) => (*ascii, ascii.as_bytes()),
                    None => *which.get(characters),
                };
                text.push_str(character);
                bytes.extend_from_slice(encoded);
            }
            for backslash in [Backslash::Plain, Backslash::Escapes] {
                let (ours, as_read) = lexing(name, backslash).read(&bytes);
                prop_assert_eq!(&*ours, text.as_bytes());
                let ours: Vec<_> = Lexer::new(&ours, as_read).collect();
                let expected: Vec<_> = Lexer::new(text.as_bytes(), backslash).collect();
                let shape = |tokens: &[super::super::lexer::Token]| -> Vec<_> {
                    tokens.iter().map(|token| (token.start, token.end, token.terminated)).collect()
                };
                prop_assert_eq!(shape(&ours), shape(&expected));
            }
        }
    }
}
