//! A statement's text as words.

use super::error::Error;

/// One word of a statement.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Token {
    /// A name, folded to lower case unless it stood in double quotes.
    Name { text: String, quoted: bool },
    /// A text in single quotes.
    Text(String),
    /// A number, as it is written.
    Number(String),
    /// `$1` is 0.
    Parameter(usize),
    /// Anything else: an operator, a comma, a parenthesis.
    Symbol(String),
}

/// A word, and the byte at which it begins.
pub(super) type Placed = (Token, usize);

/// Operators of more than one character, the longest first.
const LONG: &[&str] = &[
    "!~~*", "!~~", "~~*", "::", "<>", "!=", "<=", ">=", "~~", "!~*", "!~", "~*",
];

impl Token {
    /// True if it is this keyword, which is given in lower case.
    pub(super) fn is_word(&self, word: &str) -> bool {
        matches!(self, Self::Name { text, quoted: false } if text == word)
    }

    /// True if it is this operator or separator.
    pub(super) fn is_symbol(&self, symbol: &str) -> bool {
        matches!(self, Self::Symbol(text) if text == symbol)
    }
}

/// The words of a text, comments left out.
///
/// # Errors
///
/// A quote or a comment that does not end.
pub(super) fn tokens(text: &str) -> Result<Vec<Placed>, Error> {
    let mut tokens = Vec::new();
    let mut at = 0;
    while let Some(first) = text[at..].chars().next() {
        let rest = &text[at..];
        let begin = at;
        if first.is_whitespace() {
            at += first.len_utf8();
        } else if rest.starts_with("--") {
            at += rest.find('\n').unwrap_or(rest.len());
        } else if rest.starts_with("/*") {
            at += comment(rest).ok_or_else(|| Error::syntax("unterminated /* comment", begin))?;
        } else if first == '\'' || first == '"' {
            let (word, length) = quoted(rest, first)
                .ok_or_else(|| Error::syntax("unterminated quoted string", begin))?;
            at += length;
            let token = match first {
                '\'' => Token::Text(word),
                _ => Token::Name {
                    text: word,
                    quoted: true,
                },
            };
            tokens.push((token, begin));
        } else if rest.len() > 1 && matches!(first, 'e' | 'E') && rest[1..].starts_with('\'') {
            // What psql writes in front of a text with backslashes.
            let (word, length) = escaped(&rest[1..])
                .ok_or_else(|| Error::syntax("unterminated quoted string", begin))?;
            at += 1 + length;
            tokens.push((Token::Text(word), begin));
        } else if first.is_alphabetic() || first == '_' {
            at += length(rest, |c| c.is_alphanumeric() || c == '_' || c == '$');
            let word = text[begin..at].to_lowercase();
            let token = Token::Name {
                text: word,
                quoted: false,
            };
            tokens.push((token, begin));
        } else if first.is_ascii_digit() {
            at += length(rest, |c| c.is_ascii_digit() || c == '.');
            tokens.push((Token::Number(text[begin..at].to_owned()), begin));
        } else if first == '$' {
            let digits = length(&rest[1..], |c| c.is_ascii_digit());
            at += 1 + digits;
            let number: Option<usize> = rest[1..=digits].parse().ok();
            let number = number.filter(|number| (1..=100).contains(number));
            let number = number.ok_or_else(|| Error::syntax("not a parameter", begin))?;
            tokens.push((Token::Parameter(number - 1), begin));
        } else {
            let long = LONG.iter().find(|long| rest.starts_with(**long));
            let length = long.map_or(first.len_utf8(), |long| long.len());
            at += length;
            tokens.push((Token::Symbol(rest[..length].to_owned()), begin));
        }
    }
    Ok(tokens)
}

/// How many bytes at the begin of a text are of a kind.
fn length(text: &str, of_the_kind: impl Fn(char) -> bool) -> usize {
    text.find(|c| !of_the_kind(c)).unwrap_or(text.len())
}

/// The length of a comment, within which others may stand.
fn comment(text: &str) -> Option<usize> {
    let mut depth = 0;
    let mut at = 0;
    loop {
        let rest = text.as_bytes().get(at..)?;
        if rest.starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if rest.starts_with(b"*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return Some(at);
            }
        } else if rest.is_empty() {
            return None;
        } else {
            at += 1;
        }
    }
}

/// What stands between quotes, of which two stand for one; and the length with them.
fn quoted(text: &str, quote: char) -> Option<(String, usize)> {
    let mut word = String::new();
    let mut rest = text[1..].char_indices().peekable();
    while let Some((at, c)) = rest.next() {
        if c != quote {
            word.push(c);
        } else if rest.next_if(|(_, next)| *next == quote).is_some() {
            word.push(quote);
        } else {
            return Some((word, at + 2));
        }
    }
    None
}

/// The same of a text in which a backslash stands in front of what is meant as it is.
fn escaped(text: &str) -> Option<(String, usize)> {
    let mut word = String::new();
    let mut rest = text[1..].char_indices().peekable();
    while let Some((at, c)) = rest.next() {
        match c {
            '\\' => word.push(rest.next()?.1),
            '\'' if rest.next_if(|(_, next)| *next == '\'').is_some() => word.push('\''),
            '\'' => return Some((word, at + 2)),
            c => word.push(c),
        }
    }
    None
}

/// The texts of several statements, split at the semicolons between their words.
///
/// # Errors
///
/// Those of [`tokens`].
pub(super) fn statements(text: &str) -> Result<Vec<Vec<Placed>>, Error> {
    let all = tokens(text)?;
    let parts = all.split(|(token, _)| token.is_symbol(";"));
    let statements = parts.filter(|part| !part.is_empty());
    Ok(statements.map(<[_]>::to_vec).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_quotes_and_comments() {
        let found =
            tokens("SELECT \"A\"\"b\", 'it''s' /* x /* y */ */ <> $2 -- end\n 1.5 E'\\\\d'");
        let found: Vec<_> = found.unwrap().into_iter().map(|(token, _)| token).collect();
        let name = |text: &str, quoted| Token::Name {
            text: text.into(),
            quoted,
        };
        let symbol = |text: &str| Token::Symbol(text.into());
        assert_eq!(
            found,
            [
                name("select", false),
                name("A\"b", true),
                symbol(","),
                Token::Text("it's".into()),
                symbol("<>"),
                Token::Parameter(1),
                Token::Number("1.5".into()),
                Token::Text("\\d".into()),
            ]
        );
    }

    #[test]
    fn what_does_not_end_is_told() {
        for wrong in ["'x", "\"x", "/* /* */", "$0", "$x", "E'\\'"] {
            assert!(tokens(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn statements_end_at_semicolons() {
        let found = statements("a; ';' ;; b").unwrap();
        assert_eq!(found.len(), 3);
        assert!(statements(" ; -- nothing").unwrap().is_empty());
    }
}
