//! Client encodings: where a character ends in a text of the client's, and what the server makes of
//! it.
//!
//! PostgreSQL converts what a client sends from `client_encoding` to its own encoding (Hologres': UTF8)
//! before its scanner sees a byte of it (`pg_client_to_server` in mbutils.c). So a text is converted
//! here first, too, and read as UTF-8 by all that comes behind: the second byte of a character may be
//! a backslash or a letter in BIG5, GBK, GB18030, SJIS, `SHIFT_JIS_2004` and UHC (in JOHAB PostgreSQL
//! takes none that is ASCII), and a name in the catalogs is spelt in UTF-8.
//!
//! How long a character is comes from PostgreSQL's wchar.c, which names are names of encodings from
//! its encnames.c (`src/backend/utils/mb` until 12, `src/common` since), and which character it is
//! from `encoding_rs`. `tests/encodings.rs` compares each character with what a PostgreSQL makes of
//! it; where the two differ (or PostgreSQL's versions do), `differs` says so.

use std::borrow::Cow;

use encoding_rs::{self as tables, Encoding as Table};

/// Stands for a character of which it is not known what the server makes of it. It is no UTF-8, so
/// that a name that holds it may be any name beyond ASCII; and it is part of a word, as every
/// character beyond ASCII is.
const UNREADABLE: u8 = 0xff;

/// How long the characters of an encoding are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Shape {
    /// The server's own encoding: nothing is converted.
    Server,
    /// One byte each.
    Single,
    /// Two bytes from 0x80 on; three behind 0x8f (SS3). `pg_euc_mblen`, also of JOHAB.
    Euc,
    /// Two bytes from 0x80 on; four behind 0x8e (SS2), three behind 0x8f. `pg_euctw_mblen`
    EucTw,
    /// Two bytes from 0x80 on, but for the katakana of half width. `pg_sjis_mblen`
    Sjis,
    /// Two bytes from 0x80 on. `pg_big5_mblen`, `pg_gbk_mblen`, `pg_uhc_mblen`
    Double,
    /// The same, and neither byte is ASCII. `pg_euccn_mblen`
    EucCn,
    /// Two bytes from 0x80 on, or four if the second is a digit. `pg_gb18030_mblen`
    Gb18030,
}

impl Shape {
    /// How many bytes the character has that begins a text, be they there or not.
    fn length(self, text: &[u8]) -> usize {
        let first = text.first().copied().unwrap_or_default();
        match self {
            Self::Server | Self::Single => 1,
            _ if first.is_ascii() => 1,
            Self::Euc | Self::EucTw if first == 0x8f => 3,
            Self::EucTw if first == 0x8e => 4,
            Self::Sjis if (0xa1..=0xdf).contains(&first) => 1,
            Self::Gb18030 if text.get(1).is_some_and(u8::is_ascii_digit) => 4,
            Self::Euc | Self::EucTw | Self::EucCn | Self::Sjis | Self::Double | Self::Gb18030 => 2,
        }
    }

    /// False for bytes that the wider table has and this encoding has not.
    fn may_have(self, character: &[u8]) -> bool {
        let high = |byte: &u8| *byte >= 0xa1;
        match (self, character) {
            (Self::Euc | Self::EucTw, [0x8e | 0x8f, rest @ ..]) => rest.iter().all(high),
            (Self::Euc | Self::EucTw | Self::EucCn, bytes) => bytes.iter().all(high),
            _ => true,
        }
    }
}

/// Room for the bytes of one character.
const PLACE: usize = 16;

/// A character as SQL's `U&'…'` writes it.
pub fn unicode_escape(character: char) -> String {
    match u32::from(character) {
        code @ ..0x1_0000 => format!("\\{code:04X}"),
        code => format!("\\+{code:06X}"),
    }
}

/// An encoding that a client may have. By default it is the server's own, UTF8.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Encoding {
    shape: Shape,
    /// `None`: which characters they are is not known, but for ASCII.
    table: Option<&'static Table>,
}

impl Default for Encoding {
    fn default() -> Self {
        Self {
            shape: Shape::Server,
            table: None,
        }
    }
}

impl Encoding {
    /// The encoding of this name, as `SET client_encoding` takes it: letters and digits count, and
    /// not their case (`clean_encoding_name` and `pg_encname_tbl` in encnames.c). `None`: PostgreSQL
    /// knows none of that name.
    pub fn named(name: &str) -> Option<Self> {
        let clean: String = name
            .chars()
            .filter(char::is_ascii_alphanumeric)
            .map(|letter| letter.to_ascii_lowercase())
            .collect();
        let known = |shape, table| Some(Self { shape, table });
        let single = |table| known(Shape::Single, Some(table));
        match clean.as_str() {
            // A client in SQL_ASCII is taken at its word: nothing is converted.
            "utf8" | "unicode" | "sqlascii" => known(Shape::Server, None),
            "eucjp" => known(Shape::Euc, Some(tables::EUC_JP)),
            "euckr" => known(Shape::Euc, Some(tables::EUC_KR)),
            "eucjis2004" | "johab" => known(Shape::Euc, None),
            "euctw" => known(Shape::EucTw, None),
            "sjis" | "shiftjis" | "mskanji" | "win932" | "windows932" => {
                known(Shape::Sjis, Some(tables::SHIFT_JIS))
            }
            "shiftjis2004" => known(Shape::Sjis, None),
            "big5" | "win950" | "windows950" => known(Shape::Double, Some(tables::BIG5)),
            "gbk" | "win936" | "windows936" => known(Shape::Double, Some(tables::GBK)),
            // It is a part of GBK.
            "euccn" => known(Shape::EucCn, Some(tables::GBK)),
            "uhc" | "win949" | "windows949" => known(Shape::Double, Some(tables::EUC_KR)),
            "gb18030" => known(Shape::Gb18030, Some(tables::GB18030)),
            "latin1" | "iso88591" | "win1252" | "windows1252" => single(tables::WINDOWS_1252),
            "latin2" | "iso88592" => single(tables::ISO_8859_2),
            "latin3" | "iso88593" => single(tables::ISO_8859_3),
            "latin4" | "iso88594" => single(tables::ISO_8859_4),
            "latin5" | "iso88599" | "win1254" | "windows1254" => single(tables::WINDOWS_1254),
            "latin6" | "iso885910" => single(tables::ISO_8859_10),
            "latin7" | "iso885913" => single(tables::ISO_8859_13),
            "latin8" | "iso885914" => single(tables::ISO_8859_14),
            "latin9" | "iso885915" => single(tables::ISO_8859_15),
            "latin10" | "iso885916" => single(tables::ISO_8859_16),
            "iso88595" => single(tables::ISO_8859_5),
            "iso88596" => single(tables::ISO_8859_6),
            "iso88597" => single(tables::ISO_8859_7),
            "iso88598" => single(tables::ISO_8859_8),
            "koi8r" | "koi8" => single(tables::KOI8_R),
            "koi8u" => single(tables::KOI8_U),
            "win866" | "alt" | "windows866" => single(tables::IBM866),
            "win874" | "windows874" => single(tables::WINDOWS_874),
            "win1250" | "windows1250" => single(tables::WINDOWS_1250),
            "win1251" | "win" | "windows1251" => single(tables::WINDOWS_1251),
            "win1253" | "windows1253" => single(tables::WINDOWS_1253),
            "win1255" | "windows1255" => single(tables::WINDOWS_1255),
            "win1256" | "windows1256" => single(tables::WINDOWS_1256),
            "win1257" | "windows1257" => single(tables::WINDOWS_1257),
            "win1258" | "windows1258" | "abc" | "tcvn" | "tcvn5712" | "vscii" => {
                single(tables::WINDOWS_1258)
            }
            // Of all the bytes of a character here, none is ASCII.
            "muleinternal" => known(Shape::Single, None),
            _ => None,
        }
    }

    /// One encoding for each way in which bytes make characters, for a session of which the encoding
    /// is not known.
    pub(crate) fn any() -> [Self; 4] {
        let known = |name| Self::named(name).unwrap_or_default();
        [
            Self::default(),
            known("GBK"),
            known("SJIS"),
            known("GB18030"),
        ]
    }

    /// An encoding of which nothing is known but that ASCII is part of it.
    pub fn of_ascii() -> Self {
        Self {
            shape: Shape::Single,
            table: None,
        }
    }

    /// True if the server converts nothing.
    pub(crate) fn is_the_servers(self) -> bool {
        self.shape == Shape::Server
    }

    /// A text as the server has it. What it will refuse, and what is not known, becomes a byte that
    /// is no UTF-8.
    pub fn to_server(self, text: &[u8]) -> Cow<'_, [u8]> {
        if self.is_the_servers() || text.is_ascii() {
            return Cow::Borrowed(text);
        }
        let mut converted = Vec::with_capacity(text.len() * 3 / 2 + 3);
        let mut rest = text;
        while !rest.is_empty() {
            let ascii = rest.iter().take_while(|byte| byte.is_ascii()).count();
            let (as_it_is, behind) = rest.split_at(ascii);
            converted.extend_from_slice(as_it_is);
            let length = self.shape.length(behind).min(behind.len());
            let (character, behind) = behind.split_at(length);
            if !character.is_empty() {
                match self.character(character) {
                    Some(known) => {
                        converted.extend_from_slice(known.encode_utf8(&mut [0; 4]).as_bytes());
                    }
                    None => converted.push(UNREADABLE),
                }
            }
            rest = behind;
        }
        Cow::Owned(converted)
    }

    /// A text of the server's as a client has it. A character that the encoding does not have, or of
    /// which that is not known, is written as SQL's `U&'…'` writes it (`\6570`): so what comes out
    /// is valid in the encoding, and no name becomes another one.
    pub fn to_client(self, text: &str) -> Cow<'_, [u8]> {
        if self.is_the_servers() || text.is_ascii() {
            return Cow::Borrowed(text.as_bytes());
        }
        let mut converted = Vec::with_capacity(text.len());
        for character in text.chars() {
            let mut place = [0; PLACE];
            match self.bytes_of(character, &mut place) {
                Some(bytes) => converted.extend_from_slice(bytes),
                None => converted.extend_from_slice(unicode_escape(character).as_bytes()),
            }
        }
        Cow::Owned(converted)
    }

    /// True if the encoding has every character of this text.
    pub fn holds(self, text: &str) -> bool {
        let has = |character| self.bytes_of(character, &mut [0; PLACE]).is_some();
        self.is_the_servers() || text.is_ascii() || text.chars().all(has)
    }

    /// The bytes that a character is, of which it is known that the server makes that character.
    fn bytes_of(self, character: char, place: &mut [u8; PLACE]) -> Option<&[u8]> {
        if character.is_ascii() {
            place[0] = u8::try_from(character).ok()?;
            return Some(&place[..1]);
        }
        let mut encoder = self.table?.new_encoder();
        let text = character.encode_utf8(&mut [0; 4]).to_owned();
        let (result, _, written) = encoder.encode_from_utf8_without_replacement(&text, place, true);
        let bytes = place.get(..written)?;
        let whole = result == encoding_rs::EncoderResult::InputEmpty
            && self.shape.length(bytes) == written
            && self.shape.may_have(bytes);
        (whole && self.character(bytes) == Some(character)).then_some(bytes)
    }

    /// The character that these bytes are, none of which is left over.
    fn character(self, bytes: &[u8]) -> Option<char> {
        let table = self.table.filter(|table| !differs(table, bytes))?;
        let mut decoded = [0; 16];
        let mut decoder = table.new_decoder_without_bom_handling();
        let (result, read, written) =
            decoder.decode_to_utf8_without_replacement(bytes, &mut decoded, true);
        if result != encoding_rs::DecoderResult::InputEmpty || read < bytes.len() {
            return None;
        }
        let mut characters = std::str::from_utf8(&decoded[..written]).ok()?.chars();
        let first = characters.next()?;
        characters.next().is_none().then_some(first)
    }
}

/// True if PostgreSQL, or one of its versions, makes another character of these bytes than the table
/// does (its `Unicode/*.map`): then it is not known.
fn differs(table: &'static Table, bytes: &[u8]) -> bool {
    let rows: &[(&[u8], &[u8])] = if table == tables::BIG5 {
        &[
            (b"\xa1", b"\x45\x4e\x5a\xc2\xc3\xc5\xe3\xf2\xf3\xfe"),
            (b"\xa2", b"\x40\x41\x42\x44\x46\x47\xcc\xce"),
            (b"\xc6", &[]),
            (b"\xc7", &[]),
        ]
    } else if table == tables::GB18030 {
        &[
            (b"\xa3", b"\xa0"),
            (b"\xa6", b"\xd9\xda\xdb\xdc\xdd\xde\xdf\xec\xed\xf3"),
            (b"\xa8", b"\xbc"),
            (b"\xfe", b"\x59\x61\x66\x67\x6d\x7e\x90\xa0"),
            (b"\x81\x35\xf4", b"\x37"),
        ]
    } else if table == tables::GBK {
        // Of EUC_CN, which is a part of it.
        &[(b"\xa1", b"\xa4\xaa")]
    } else if table == tables::EUC_JP {
        &[(b"\x8f\xa2", b"\xc3")]
    } else if table == tables::KOI8_U {
        &[(b"", b"\xae\xbe")]
    } else if table == tables::WINDOWS_1252 || table == tables::WINDOWS_1254 {
        // LATIN1 and LATIN5 have control characters there.
        return (0x80..=0x9f).contains(&bytes[0]);
    } else {
        return false;
    };
    let Some((last, first)) = bytes.split_last() else {
        return false;
    };
    let in_row = |(lead, these): &(&[u8], &[u8])| {
        *lead == first && (these.is_empty() || these.contains(last))
    };
    rows.iter().any(in_row)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(name: &str) -> Encoding {
        Encoding::named(name).expect("an encoding")
    }

    #[test]
    fn a_text_of_ours_comes_to_the_client_in_its_encoding() {
        for (name, text, bytes) in [
            ("GBK", "表 x", &b"\xb1\xed x"[..]),
            ("GB18030", "㐀", b"\x81\x39\xee\x39"),
            ("EUC_CN", "表", b"\xb1\xed"),
            ("BIG5", "功", b"\xa5\x5c"),
            ("SJIS", "表ｱ", b"\x95\x5c\xb1"),
            ("EUC_JP", "表ｱ", b"\xc9\xbd\x8e\xb1"),
            ("EUC_KR", "각", b"\xb0\xa2"),
            ("UHC", "갂", b"\x81\x41"),
            ("LATIN1", "é", b"\xe9"),
            ("WIN1251", "я", b"\xff"),
            ("UTF8", "表", "表".as_bytes()),
            ("SQL_ASCII", "表", "表".as_bytes()),
        ] {
            let encoding = named(name);
            assert_eq!(*encoding.to_client(text), *bytes, "{name}");
            assert_eq!(*encoding.to_server(bytes), *text.as_bytes(), "{name}");
            assert!(encoding.holds(text), "{name}");
        }
    }

    #[test]
    fn what_an_encoding_does_not_have_is_escaped() {
        for (name, text, escaped) in [
            ("LATIN1", "a 表 é", &b"a \\8868 \xe9"[..]),
            // WIN1252 has it, and LATIN1 has a control character there.
            ("LATIN1", "€", b"\\20AC"),
            ("GBK", "😀", b"\\+01F600"),
            // In GBK it is one byte, which PostgreSQL does not take for a character.
            ("GBK", "€", b"\\20AC"),
            // The second byte in GBK is ASCII: EUC_CN has no such character.
            ("EUC_CN", "丂", b"\\4E02"),
            ("EUC_KR", "갂", b"\\AC02"),
            ("SJIS", "각", b"\\AC01"),
            ("JOHAB", "각", b"\\AC01"),
            ("MULE_INTERNAL", "é", b"\\00E9"),
        ] {
            assert_eq!(*named(name).to_client(text), *escaped, "{name} {text}");
            assert!(!named(name).holds(text), "{name} {text}");
        }
        assert!(Encoding::of_ascii().holds("ascii"));
        assert_eq!(*Encoding::of_ascii().to_client("é"), *b"\\00E9");
    }

    #[test]
    fn nothing_invalid_leaves_whatever_the_character_is() {
        let names = [
            "GBK", "GB18030", "BIG5", "SJIS", "EUC_JP", "EUC_KR", "UHC", "LATIN1", "WIN1258",
        ];
        for name in names {
            let encoding = named(name);
            for code in (0x80..0x3_0000_u32).step_by(7) {
                let Some(character) = char::from_u32(code) else {
                    continue;
                };
                let text = character.to_string();
                let told = encoding.to_client(&text);
                // Either it is the same character for the server, or all of it is ASCII.
                let read = encoding.to_server(&told);
                assert!(
                    told.is_ascii() || *read == *text.as_bytes(),
                    "{name} {code:x}"
                );
                assert!(!told.contains(&b'?'));
            }
        }
    }
}
