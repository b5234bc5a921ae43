//! The significant tokens of a text, statement by statement, with their keywords, their matching
//! brackets, and names folded as PostgreSQL folds them.

use std::borrow::Cow;

use super::hint::RouteHint;
use super::keyword::Keyword;
use super::lexer::{Kind, Lexer};
use super::lexing::Backslash;
use super::quoting::{decode_unicode, string_body, unquote};

const NO_MATE: u32 = u32::MAX;

/// A token that is neither blank nor comment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tok {
    pub(crate) kind: Kind,
    pub(crate) keyword: Keyword,
    start: u32,
    end: u32,
    /// Of a bracket: the index of the other one in the same statement.
    mate: u32,
    /// Of `U&"…"`: what escapes in it.
    escape: u8,
}

/// The tokens of a text, parted into statements.
pub(crate) struct Script<'a> {
    pub(crate) text: &'a [u8],
    /// What a backslash is in `'…'`, also in the texts that stand in its strings.
    backslash: Backslash,
    tokens: Vec<Tok>,
    /// Ends (exclusive, without the `;`) and starts of statements that have tokens.
    bounds: Vec<Bounds>,
    /// What the first comment of the form `/* osprey: route=… */` asks for.
    pub(crate) hint: Option<RouteHint>,
}

#[derive(Clone, Copy)]
struct Bounds {
    start: usize,
    end: usize,
    /// Brackets do not match, or a string or comment is not terminated.
    broken: bool,
}

impl<'a> Script<'a> {
    /// Reads the tokens of a text.
    pub(crate) fn read(text: &'a [u8], backslash: Backslash) -> Self {
        let mut script = Self {
            text,
            backslash,
            tokens: Vec::with_capacity(text.len() / 4 + 4),
            bounds: Vec::with_capacity(1),
            hint: None,
        };
        let mut start = 0;
        let mut open: Vec<u32> = Vec::new();
        let mut broken = false;
        for token in Lexer::new(text, backslash) {
            let bytes = &text[token.start as usize..token.end as usize];
            broken |= !token.terminated;
            let mut tok = Tok {
                kind: token.kind,
                keyword: Keyword::None,
                start: token.start,
                end: token.end,
                mate: NO_MATE,
                escape: b'\\',
            };
            let index = (script.tokens.len() - start) as u32;
            match token.kind {
                Kind::Space => continue,
                Kind::Comment => {
                    if script.hint.is_none() {
                        script.hint = RouteHint::of_comment(bytes);
                    }
                    continue;
                }
                Kind::Semicolon => {
                    script.close_statement(start, broken || !open.is_empty());
                    start = script.tokens.len();
                    open.clear();
                    broken = false;
                    continue;
                }
                Kind::Word => tok.keyword = Keyword::of(bytes),
                Kind::Open => open.push(index),
                Kind::Close => match open.pop() {
                    Some(mate) => {
                        let other = &mut script.tokens[start + mate as usize];
                        other.mate = index;
                        tok.mate = mate;
                        broken |= (text[other.start as usize] == b'(') != (bytes == b")");
                    }
                    None => broken = true,
                },
                Kind::String | Kind::EscapeString
                    if bytes[0] == b'\'' && script.takes_escape(start) =>
                {
                    // `UESCAPE '!'` is part of the identifier or string in front of it.
                    script.tokens.pop();
                    if let Some(escaped) = script.tokens.last_mut() {
                        escaped.escape = bytes.get(1).copied().unwrap_or(b'\\');
                    }
                    continue;
                }
                _ => {}
            }
            script.tokens.push(tok);
        }
        script.close_statement(start, broken || !open.is_empty());
        script
    }

    /// True if the last tokens of the statement that begins at `start` are `U&"…" UESCAPE`, or the
    /// same with a string.
    fn takes_escape(&self, start: usize) -> bool {
        let [.., escaped, word] = &self.tokens[start..] else {
            return false;
        };
        let is_unicode = match escaped.kind {
            Kind::UnicodeQuoted => true,
            Kind::String => matches!(self.text[escaped.start as usize], b'u' | b'U'),
            _ => false,
        };
        is_unicode && word.keyword == Keyword::Uescape
    }

    fn close_statement(&mut self, start: usize, broken: bool) {
        let end = self.tokens.len();
        if end > start {
            self.bounds.push(Bounds { start, end, broken });
        }
    }

    /// How many statements have tokens.
    pub(crate) fn len(&self) -> usize {
        self.bounds.len()
    }

    /// The statements that have tokens, in order.
    pub(crate) fn statements(&self) -> impl Iterator<Item = Statement<'_, 'a>> {
        self.bounds.iter().map(|bounds| Statement {
            text: self.text,
            backslash: self.backslash,
            tokens: &self.tokens[bounds.start..bounds.end],
            broken: bounds.broken,
        })
    }
}

/// The tokens of one statement. A token is named by its index; behind the last token there is none
/// of any kind, and asking for one is no mistake.
#[derive(Clone, Copy)]
pub(crate) struct Statement<'t, 'a> {
    text: &'a [u8],
    /// What a backslash is in `'…'`.
    pub(crate) backslash: Backslash,
    tokens: &'t [Tok],
    /// Brackets do not match, or a string or comment is not terminated.
    pub(crate) broken: bool,
}

impl<'a> Statement<'_, 'a> {
    pub(crate) fn len(&self) -> usize {
        self.tokens.len()
    }

    /// The kind of a token; `None` beyond the end.
    pub(crate) fn kind(&self, index: usize) -> Option<Kind> {
        self.tokens.get(index).map(|token| token.kind)
    }

    /// The keyword that a token is; [`Keyword::None`] if it is any other word or none.
    pub(crate) fn keyword(&self, index: usize) -> Keyword {
        self.tokens
            .get(index)
            .map_or(Keyword::None, |token| token.keyword)
    }

    /// The text from a token to the end of the statement; empty beyond the end.
    pub(crate) fn text_from(&self, index: usize) -> &'a [u8] {
        match (self.tokens.get(index), self.tokens.last()) {
            (Some(first), Some(last)) => &self.text[first.start as usize..last.end as usize],
            _ => &[],
        }
    }

    /// The bytes of a token; empty beyond the end.
    pub(crate) fn bytes(&self, index: usize) -> &'a [u8] {
        self.tokens.get(index).map_or(&[], |token| {
            &self.text[token.start as usize..token.end as usize]
        })
    }

    /// True if the token may be an identifier.
    pub(crate) fn is_name(&self, index: usize) -> bool {
        matches!(
            self.kind(index),
            Some(Kind::Word | Kind::Quoted | Kind::UnicodeQuoted)
        )
    }

    /// True if the token opens a bracket.
    pub(crate) fn is_open(&self, index: usize) -> bool {
        self.kind(index) == Some(Kind::Open)
    }

    /// True if the word at `index` is `word`, whatever its case, and not quoted.
    pub(crate) fn is_word(&self, index: usize, word: &str) -> bool {
        self.kind(index) == Some(Kind::Word)
            && self.bytes(index).eq_ignore_ascii_case(word.as_bytes())
    }

    /// The token behind the one at `index`, or behind its closing bracket if it opens one.
    pub(crate) fn after(&self, index: usize) -> usize {
        match self.tokens.get(index) {
            Some(token) if token.kind == Kind::Open => match token.mate {
                NO_MATE => self.tokens.len(),
                mate => mate as usize + 1,
            },
            _ => index + 1,
        }
    }

    /// The first token at or after `from`, outside brackets that open there, that is `keyword`.
    pub(crate) fn find_outside(&self, mut from: usize, keyword: Keyword) -> Option<usize> {
        while from < self.len() {
            if self.keyword(from) == keyword {
                return Some(from);
            }
            from = self.after(from);
        }
        None
    }

    /// The identifier at `index` as PostgreSQL reads it: ASCII letters in lower case unless
    /// quoted, doubled quotes single, `U&` escapes decoded.
    pub(crate) fn folded(&self, index: usize) -> Cow<'a, [u8]> {
        let bytes = self.bytes(index);
        match self.kind(index) {
            Some(Kind::Quoted) => unquote(bytes, 1),
            Some(Kind::UnicodeQuoted) => Cow::Owned(decode_unicode(
                &unquote(bytes, 3),
                self.tokens[index].escape,
            )),
            _ if bytes.iter().any(u8::is_ascii_uppercase) => Cow::Owned(bytes.to_ascii_lowercase()),
            _ => Cow::Borrowed(bytes),
        }
    }

    /// The identifier at `index` as a text, for names that the session remembers. What is not UTF-8
    /// in it is replaced.
    pub(crate) fn folded_text(&self, index: usize) -> String {
        String::from_utf8_lossy(&self.folded(index)).into_owned()
    }

    /// The value of the string at `index` if it is written without any escape.
    pub(crate) fn plain_string(&self, index: usize) -> Option<&'a [u8]> {
        let bytes = self.bytes(index);
        let value = match self.kind(index)? {
            Kind::String if bytes[0] == b'\'' => bytes.get(1..bytes.len() - 1)?,
            Kind::EscapeString => {
                let prefix = usize::from(bytes[0] != b'\'');
                bytes.get(1 + prefix..bytes.len() - 1)?
            }
            Kind::DollarString => return Some(string_body(bytes)),
            _ => return None,
        };
        memchr::memchr2(b'\'', b'\\', value)
            .is_none()
            .then_some(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn first(text: &str) -> String {
        let script = Script::read(text.as_bytes(), Backslash::Plain);
        let statement = script.statements().next().expect("a statement");
        statement.folded_text(0)
    }

    #[test]
    fn names_fold_as_postgresql_folds_them() {
        assert_eq!(first("OrDers"), "orders");
        assert_eq!(first("\"OrDers\""), "OrDers");
        assert_eq!(first("\"a\"\"B\""), "a\"B");
        assert_eq!(first(r#"U&"s\0065cret""#), "secret");
        assert_eq!(first(r#"U&"s!0065c!!ret" UESCAPE '!'"#), "sec!ret");
        assert_eq!(first(r#"u&"\+000061\d83d\de00""#), "a\u{1f600}");
        assert_eq!(first(r#"U&"a\zz""#), r"a\zz");
        assert_eq!(first("ÀB"), "Àb");
    }

    #[test]
    fn statements_part_at_semicolons_outside_strings() {
        let script = Script::read(
            b";; select ';' ; ; select (1 /* ; */) ; -- ;",
            Backslash::Plain,
        );
        assert_eq!(script.len(), 2);
        assert!(script.statements().all(|statement| !statement.broken));
        for broken in [
            "select (1; select 1",
            "select (1]",
            "select 'a",
            "select 1)",
            "a /*",
        ] {
            let script = Script::read(broken.as_bytes(), Backslash::Plain);
            let first = script.statements().next().expect("a statement");
            assert!(first.broken, "{broken}");
        }
    }

    #[test]
    fn hints_are_read_from_comments_only() {
        let hint = |text: &str| Script::read(text.as_bytes(), Backslash::Plain).hint;
        assert_eq!(
            hint("/* osprey: route=sqe */ select 1"),
            Some(RouteHint::Sqe)
        );
        assert_eq!(
            hint("select /*OSPREY:route = HQE*/ 1"),
            Some(RouteHint::Hqe)
        );
        assert_eq!(
            hint("select 1 /* osprey: route=off */"),
            Some(RouteHint::Off)
        );
        assert_eq!(hint("select '/* osprey: route=off */'"), None);
        assert_eq!(hint("/* osprey: route=fast */ select 1"), None);
        assert_eq!(hint("/* osprey */ select 1"), None);
    }
}
