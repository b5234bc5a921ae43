//! PostgreSQL's lexical rules over bytes: where strings, comments, dollar quotes and identifiers
//! begin and end.
//!
//! The text is in the server's encoding (see `lexing.rs`), in which no byte of a multibyte character
//! is ASCII; that it is UTF-8 is not required. Every byte of the input belongs to exactly one token,
//! nothing panics, and the time is linear in the length.
//!
//! The rules come from PostgreSQL's documentation, *Lexical Structure*, and from its scanner where
//! the documentation is silent (what continues a string over a line end; that `1FROM` is two
//! tokens).

use memchr::{memchr, memchr2, memmem};

use super::lexing::Backslash;

/// What a token is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Blanks and line ends.
    Space,
    /// `-- …` without its line end, or `/* … */`, nested.
    Comment,
    /// An unquoted identifier or keyword.
    Word,
    /// `"…"`
    Quoted,
    /// `U&"…"`
    UnicodeQuoted,
    /// `'…'`, `B'…'`, `X'…'`, `U&'…'`, with its continuation lines.
    String,
    /// `E'…'`, and `'…'` where a backslash escapes.
    EscapeString,
    /// `$tag$ … $tag$`
    DollarString,
    /// A number, unsigned.
    Number,
    /// `$1`
    Parameter,
    /// `(` or `[`
    Open,
    /// `)` or `]`
    Close,
    /// `,`
    Comma,
    /// `;`
    Semicolon,
    /// `.`
    Dot,
    /// Any other single byte: operators, `:`, control characters.
    Other,
}

/// A token: a kind and a range of the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Token {
    pub(crate) kind: Kind,
    pub(crate) start: u32,
    pub(crate) end: u32,
    /// False if the text ended before the token did.
    pub(crate) terminated: bool,
}

/// An iterator over the tokens of a text, blanks and comments included.
pub(crate) struct Lexer<'a> {
    text: &'a [u8],
    position: usize,
    /// What a backslash is in `'…'`.
    backslash: Backslash,
}

impl<'a> Lexer<'a> {
    /// Reads `text`; what lies beyond 4 GiB (no message is that long) is not looked at.
    pub(crate) fn new(text: &'a [u8], backslash: Backslash) -> Self {
        let text = &text[..text.len().min(u32::MAX as usize)];
        Self {
            text,
            position: 0,
            backslash,
        }
    }

    fn byte(&self, position: usize) -> u8 {
        self.text.get(position).copied().unwrap_or(0)
    }

    fn end_of(&self, mut position: usize, belongs: impl Fn(u8) -> bool) -> usize {
        while position < self.text.len() && belongs(self.text[position]) {
            position += 1;
        }
        position
    }

    /// End of the string whose content starts at `position`, and whether it is terminated.
    fn string(&self, mut position: usize, backslash: bool) -> (usize, bool) {
        loop {
            let rest = self.text.get(position..).unwrap_or_default();
            let found = if backslash {
                memchr2(b'\'', b'\\', rest)
            } else {
                memchr(b'\'', rest)
            };
            let Some(offset) = found else {
                return (self.text.len(), false);
            };
            position += offset;
            if self.text[position] == b'\\' || self.byte(position + 1) == b'\'' {
                position += 2;
            } else if let Some(next) = self.continuation(position + 1) {
                position = next;
            } else {
                return (position + 1, true);
            }
        }
    }

    /// A string goes on if nothing but blanks and `--` comments, with at least one line end, lie
    /// between its closing quote and another opening one. Answers where the content goes on.
    fn continuation(&self, mut position: usize) -> Option<usize> {
        let mut line_end = false;
        loop {
            match self.byte(position) {
                b'\n' | b'\r' => {
                    line_end = true;
                    position += 1;
                }
                byte if is_space(byte) => position += 1,
                b'-' if self.byte(position + 1) == b'-' => {
                    position = self.end_of(position, |byte| byte != b'\n' && byte != b'\r');
                }
                b'\'' if line_end => return Some(position + 1),
                _ => return None,
            }
        }
    }

    fn quoted(&self, mut position: usize) -> (usize, bool) {
        while let Some(offset) = memchr(b'"', self.text.get(position..).unwrap_or_default()) {
            position += offset + 1;
            if self.byte(position) != b'"' {
                return (position, true);
            }
            position += 1;
        }
        (self.text.len(), false)
    }

    fn block_comment(&self, mut position: usize) -> (usize, bool) {
        let mut depth = 1_usize;
        while let Some(offset) = memchr2(b'*', b'/', self.text.get(position..).unwrap_or_default())
        {
            position += offset;
            match (self.text[position], self.byte(position + 1)) {
                (b'*', b'/') => {
                    depth -= 1;
                    position += 2;
                    if depth == 0 {
                        return (position, true);
                    }
                }
                (b'/', b'*') => {
                    depth += 1;
                    position += 2;
                }
                _ => position += 1,
            }
        }
        (self.text.len(), false)
    }

    fn dollar(&self, start: usize) -> (Kind, usize, bool) {
        if self.byte(start + 1).is_ascii_digit() {
            let end = self.end_of(start + 1, |byte| byte.is_ascii_digit());
            return (Kind::Parameter, end, true);
        }
        let mut tag = start + 1;
        if is_word_start(self.byte(tag)) {
            tag = self.end_of(tag, |byte| is_word(byte) && byte != b'$');
        }
        if self.byte(tag) != b'$' {
            return (Kind::Other, start + 1, true);
        }
        let delimiter = &self.text[start..=tag];
        match memmem::find(&self.text[tag + 1..], delimiter) {
            Some(offset) => (Kind::DollarString, tag + 1 + offset + delimiter.len(), true),
            None => (Kind::DollarString, self.text.len(), false),
        }
    }

    fn number(&self, start: usize) -> usize {
        let digits = |position| self.end_of(position, |byte: u8| byte.is_ascii_digit());
        let mut end = digits(start);
        if self.byte(end) == b'.' && self.byte(end + 1) != b'.' {
            end = digits(end + 1);
        }
        if matches!(self.byte(end), b'e' | b'E') {
            let sign = usize::from(matches!(self.byte(end + 1), b'+' | b'-'));
            if self.byte(end + 1 + sign).is_ascii_digit() {
                end = digits(end + 1 + sign);
            }
        }
        end
    }

    fn word(&self, start: usize) -> (Kind, usize, bool) {
        let next = self.byte(start + 1);
        match self.text[start] {
            b'e' | b'E' if next == b'\'' => {
                let (end, terminated) = self.string(start + 2, true);
                return (Kind::EscapeString, end, terminated);
            }
            b'b' | b'B' | b'x' | b'X' if next == b'\'' => {
                let (end, terminated) = self.string(start + 2, false);
                return (Kind::String, end, terminated);
            }
            b'u' | b'U' if next == b'&' && self.byte(start + 2) == b'\'' => {
                let (end, terminated) = self.string(start + 3, false);
                return (Kind::String, end, terminated);
            }
            b'u' | b'U' if next == b'&' && self.byte(start + 2) == b'"' => {
                let (end, terminated) = self.quoted(start + 3);
                return (Kind::UnicodeQuoted, end, terminated);
            }
            _ => {}
        }
        (Kind::Word, self.end_of(start, is_word), true)
    }
}

impl Iterator for Lexer<'_> {
    type Item = Token;

    fn next(&mut self) -> Option<Token> {
        let start = self.position;
        let first = *self.text.get(start)?;
        let single = |kind| (kind, start + 1, true);
        let (kind, end, terminated) = match first {
            byte if is_space(byte) => (Kind::Space, self.end_of(start, is_space), true),
            byte if is_word_start(byte) => self.word(start),
            b'-' if self.byte(start + 1) == b'-' => {
                let end = self.end_of(start, |byte| byte != b'\n' && byte != b'\r');
                (Kind::Comment, end, true)
            }
            b'/' if self.byte(start + 1) == b'*' => {
                let (end, terminated) = self.block_comment(start + 2);
                (Kind::Comment, end, terminated)
            }
            b'\'' => {
                let escapes = self.backslash == Backslash::Escapes;
                let (end, terminated) = self.string(start + 1, escapes);
                let kind = if escapes {
                    Kind::EscapeString
                } else {
                    Kind::String
                };
                (kind, end, terminated)
            }
            b'"' => {
                let (end, terminated) = self.quoted(start + 1);
                (Kind::Quoted, end, terminated)
            }
            b'$' => self.dollar(start),
            b'0'..=b'9' => (Kind::Number, self.number(start), true),
            b'.' if self.byte(start + 1).is_ascii_digit() => {
                (Kind::Number, self.number(start), true)
            }
            b'.' => single(Kind::Dot),
            b'(' | b'[' => single(Kind::Open),
            b')' | b']' => single(Kind::Close),
            b',' => single(Kind::Comma),
            b';' => single(Kind::Semicolon),
            _ => single(Kind::Other),
        };
        self.position = end;
        Some(Token {
            kind,
            start: start as u32,
            end: end as u32,
            terminated,
        })
    }
}

/// True for PostgreSQL's blanks, with the vertical tab, which is one since version 16.
pub(crate) fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c)
}

/// True for a byte that an unquoted identifier may start with.
pub(crate) fn is_word_start(byte: u8) -> bool {
    byte.is_ascii_alphabetic() || byte == b'_' || byte >= 0x80
}

/// True for a byte that an unquoted identifier may go on with.
pub(crate) fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$') || byte >= 0x80
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn lex(text: &str) -> Vec<(Kind, &str)> {
        Lexer::new(text.as_bytes(), Backslash::Plain)
            .filter(|token| token.kind != Kind::Space)
            .map(|token| (token.kind, &text[token.start as usize..token.end as usize]))
            .collect()
    }

    #[test]
    fn strings_end_where_postgresql_ends_them() {
        for (text, kind) in [
            ("'it''s; -- not /* a comment'", Kind::String),
            (r"'back\'", Kind::String),
            (r"E'back\'s'", Kind::EscapeString),
            (r"e'\\'", Kind::EscapeString),
            ("E'a'\n  'b\\'c'", Kind::EscapeString),
            ("'a' -- why\n 'b'", Kind::String),
            ("U&'d\\0061t'", Kind::String),
            ("x'1F'", Kind::String),
            ("$$ it's $1 $x$ $$", Kind::DollarString),
            ("$a$ $$ $b$ $a$", Kind::DollarString),
            ("$é$ x $é$", Kind::DollarString),
            ("\"a\"\"b\"", Kind::Quoted),
            ("U&\"d!0061t\"", Kind::UnicodeQuoted),
            ("/* a /* nested ' */ still */", Kind::Comment),
            ("-- to the end ' \" $$ /*", Kind::Comment),
        ] {
            assert_eq!(lex(text), [(kind, text)], "{text}");
        }
    }

    #[test]
    fn a_string_goes_on_only_over_a_line_end() {
        assert_eq!(
            lex("'a' 'b'"),
            [(Kind::String, "'a'"), (Kind::String, "'b'")]
        );
        assert_eq!(lex("'a' /* c */\n 'b'").len(), 3);
    }

    #[test]
    fn words_numbers_and_parameters_part_where_postgresql_parts_them() {
        assert_eq!(
            lex("1FROM a$1 $1 .5e-3 1..2 1e x.y $"),
            [
                (Kind::Number, "1"),
                (Kind::Word, "FROM"),
                (Kind::Word, "a$1"),
                (Kind::Parameter, "$1"),
                (Kind::Number, ".5e-3"),
                (Kind::Number, "1"),
                (Kind::Dot, "."),
                (Kind::Number, ".2"),
                (Kind::Number, "1"),
                (Kind::Word, "e"),
                (Kind::Word, "x"),
                (Kind::Dot, "."),
                (Kind::Word, "y"),
                (Kind::Other, "$"),
            ]
        );
        assert_eq!(lex("a--b\n+/*c*/1").len(), 5);
    }

    #[test]
    fn what_the_text_cuts_off_is_not_terminated() {
        for text in [
            "'a", "E'a\\", "\"a", "$$a", "$a$ $$", "/* /* */", "U&\"", "U&'", "'a''",
        ] {
            let last = Lexer::new(text.as_bytes(), Backslash::Plain)
                .last()
                .expect("a token");
            assert!(!last.terminated, "{text}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn every_byte_belongs_to_exactly_one_token(text in proptest::collection::vec(
            prop_oneof![any::<u8>(), proptest::sample::select(&b"'\"$$*/-eEuU&xab1.;,()[]\\\n \t"[..])],
            0..200,
        ), escapes in any::<bool>()) {
            let backslash = if escapes { Backslash::Escapes } else { Backslash::Plain };
            let mut position = 0;
            for token in Lexer::new(&text, backslash) {
                prop_assert_eq!(token.start, position);
                prop_assert!(token.end > token.start);
                position = token.end;
            }
            prop_assert_eq!(position as usize, text.len());
        }
    }
}
