//! SQL text to tokens: identifiers folded, comments dropped, strings unquoted.

use super::value::SqlError;

/// One token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Token {
    /// A key word or an unquoted identifier, folded to lower case.
    Word(String),
    /// A `"quoted"` identifier.
    Quoted(String),
    /// A `'string'`.
    Text(String),
    /// Digits, perhaps with a decimal point.
    Number(String),
    /// `$n`.
    Parameter(usize),
    /// An operator or punctuation.
    Symbol(&'static str),
}

impl Token {
    /// For "it lost the thread at …".
    pub(super) fn printed(&self) -> String {
        match self {
            Self::Word(text) | Self::Number(text) => format!("\"{text}\""),
            Self::Quoted(text) => format!("the identifier \"{text}\""),
            Self::Text(text) => format!("the string '{text}'"),
            Self::Parameter(number) => format!("${number}"),
            Self::Symbol(symbol) => format!("\"{symbol}\""),
        }
    }
}

/// Longest first, so that `<=` is not read as `<`.
const SYMBOLS: [&str; 20] = [
    "::", "<=", ">=", "<>", "!=", "||", "(", ")", ",", ";", ".", "*", "+", "-", "/", "=", "<", ">",
    "%", "!",
];

/// The tokens of `sql`; an error on an unterminated string or a character that means nothing here.
pub(super) fn tokens(sql: &str) -> Result<Vec<Token>, SqlError> {
    let mut found = Vec::new();
    let mut rest = sql;
    while let Some(first) = rest.chars().next() {
        if first.is_whitespace() {
            rest = rest.trim_start();
        } else if rest.starts_with("--") {
            rest = rest.find('\n').map_or("", |end| &rest[end..]);
        } else if rest.starts_with("/*") {
            rest = after_comment(rest)?;
        } else if first == '\'' || first == '"' {
            let (text, after) = quoted(rest, first)?;
            found.push(if first == '"' {
                Token::Quoted(text)
            } else {
                Token::Text(text)
            });
            rest = after;
        } else if first.is_ascii_digit() {
            let end = end_of(rest, |c| c.is_ascii_digit() || c == '.');
            found.push(Token::Number(rest[..end].to_owned()));
            rest = &rest[end..];
        } else if first.is_alphabetic() || first == '_' {
            let end = end_of(rest, |c| c.is_alphanumeric() || c == '_' || c == '$');
            found.push(Token::Word(rest[..end].to_ascii_lowercase()));
            rest = &rest[end..];
        } else if first == '$' {
            let end = 1 + end_of(&rest[1..], |c| c.is_ascii_digit());
            match rest[1..end].parse() {
                Ok(number) if number > 0 => found.push(Token::Parameter(number)),
                _ => return Err(SqlError::not_understood("\"$\"")),
            }
            rest = &rest[end..];
        } else {
            let symbol = SYMBOLS.iter().find(|symbol| rest.starts_with(**symbol));
            let symbol = symbol.ok_or_else(|| SqlError::not_understood(&format!("\"{first}\"")))?;
            found.push(Token::Symbol(symbol));
            rest = &rest[symbol.len()..];
        }
    }
    Ok(found)
}

fn end_of(text: &str, belongs: impl Fn(char) -> bool) -> usize {
    text.find(|c| !belongs(c)).unwrap_or(text.len())
}

/// What follows the comment that `text` begins with; comments nest.
fn after_comment(text: &str) -> Result<&str, SqlError> {
    let mut depth = 0;
    let mut at = 0;
    while at < text.len() {
        if text[at..].starts_with("/*") {
            depth += 1;
            at += 2;
        } else if text[at..].starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return Ok(&text[at..]);
            }
        } else {
            at += text[at..].chars().next().map_or(1, char::len_utf8);
        }
    }
    Err(SqlError::new("42601", "unterminated /* comment"))
}

/// The content of the quoted text that `text` begins with, and what follows it.
fn quoted(text: &str, quote: char) -> Result<(String, &str), SqlError> {
    let mut content = String::new();
    let mut rest = &text[1..];
    while let Some(end) = rest.find(quote) {
        content.push_str(&rest[..end]);
        rest = &rest[end + 1..];
        if !rest.starts_with(quote) {
            return Ok((content, rest));
        }
        content.push(quote);
        rest = &rest[1..];
    }
    let what = if quote == '"' { "identifier" } else { "string" };
    Err(SqlError::new(
        "42601",
        format!("unterminated quoted {what}"),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folds_unquotes_and_drops_comments() {
        let sql = "SELECT \"A\"\"b\", 'it''s' /* x /* y */ */ -- z\n <= $2::INT";
        let expected = [
            Token::Word("select".into()),
            Token::Quoted("A\"b".into()),
            Token::Symbol(","),
            Token::Text("it's".into()),
            Token::Symbol("<="),
            Token::Parameter(2),
            Token::Symbol("::"),
            Token::Word("int".into()),
        ];
        assert_eq!(tokens(sql), Ok(expected.to_vec()));
    }

    #[test]
    fn unterminated_text_is_a_syntax_error() {
        for sql in ["'a", "\"a", "/* a"] {
            assert_eq!(
                tokens(sql).map_err(|error| error.code),
                Err("42601"),
                "{sql}"
            );
        }
    }
}
