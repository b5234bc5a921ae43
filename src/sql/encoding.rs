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
    /// Two bytes from 0x80 on. `pg_big5_mblen`, `pg_gbk_mblen`, `pg_uhc_mblen`, `pg_euccn_mblen`
    Double,
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
            Self::Euc | Self::EucTw | Self::Sjis | Self::Double | Self::Gb18030 => 2,
        }
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
            // EUC_CN is a part of GBK.
            "gbk" | "win936" | "windows936" | "euccn" => known(Shape::Double, Some(tables::GBK)),
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
    pub(crate) fn other() -> Self {
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
