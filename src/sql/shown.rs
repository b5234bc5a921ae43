//! A statement's text as people who may not see its values may see it.

use std::borrow::Cow;

use super::lexer::{Kind, Lexer};
use super::lexing::{Lexing, may_escape_quotes};

/// Characters of a text that are shown.
const MOST: usize = 2_000;

/// `text` on one line, with `?` in the place of each string and number, and without comments. At most
/// 2,000 characters, the last of them `…` if there are more; nothing behind a string in which a backslash
/// stands in front of a quote. What is quoted as a name is taken for one.
pub fn without_literals(text: &[u8], lexing: Lexing) -> String {
    let (text, backslash) = lexing.read(text);
    let mut shown = String::new();
    let mut gap = false;
    for token in Lexer::new(&text, backslash) {
        let bytes = &text[token.start as usize..token.end as usize];
        let word: Cow<'_, str> = match token.kind {
            Kind::Space | Kind::Comment => {
                gap = true;
                continue;
            }
            // Where a backslash stands in front of a quote, a setting that may be on its way decides where
            // the string ends.
            Kind::String | Kind::EscapeString if may_escape_quotes(bytes) => {
                shown.push_str(if gap { " ? …" } else { "? …" });
                return shown;
            }
            Kind::String | Kind::EscapeString | Kind::DollarString | Kind::Number => "?".into(),
            _ => String::from_utf8_lossy(bytes),
        };
        if gap && !shown.is_empty() {
            shown.push(' ');
        }
        gap = false;
        shown.push_str(&word);
        if shown.len() > 4 * MOST {
            break;
        }
    }
    if let Some((end, _)) = shown.char_indices().nth(MOST) {
        let last = shown[..end].char_indices().next_back();
        shown.truncate(last.map_or(0, |(start, _)| start));
        shown.push('…');
    }
    shown
}

/// The `traceparent` of W3C's Trace Context that a comment of the text carries, as sqlcommenter writes
/// it: `/*…traceparent='00-<32 hexadecimal digits>-<16>-<2>'…*/`.
pub fn trace_parent(text: &[u8], lexing: Lexing) -> Option<String> {
    memchr::memmem::find(text, NAME)?;
    let (text, backslash) = lexing.read(text);
    Lexer::new(&text, backslash)
        .filter(|token| token.kind == Kind::Comment)
        .find_map(|token| in_comment(&text[token.start as usize..token.end as usize]))
}

const NAME: &[u8] = b"traceparent=";

fn in_comment(comment: &[u8]) -> Option<String> {
    memchr::memmem::find_iter(comment, NAME).find_map(|at| {
        let value = &comment[at + NAME.len()..];
        let value = value.strip_prefix(b"'").unwrap_or(value);
        let value = std::str::from_utf8(value.get(..LENGTH)?).ok()?;
        is_trace_parent(value).then(|| value.to_owned())
    })
}

/// Of the one version that there is: `00-…-…-..`.
const LENGTH: usize = 55;

fn is_trace_parent(value: &str) -> bool {
    let parts: Vec<&str> = value.split('-').collect();
    let hexadecimal = |part: &str, length: usize| {
        let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        part.len() == length && part.bytes().all(is_digit)
    };
    let names_something = |part: &str| part.bytes().any(|byte| byte != b'0');
    let [version, trace, span, flags] = parts[..] else {
        return false;
    };
    version == "00"
        && hexadecimal(trace, 32)
        && names_something(trace)
        && hexadecimal(span, 16)
        && names_something(span)
        && hexadecimal(flags, 2)
}

#[cfg(test)]
mod tests {
    use super::super::lexing::Backslash;
    use super::super::{Encoding, Lexing};
    use super::*;
    use proptest::prelude::*;

    fn shown(text: &str) -> String {
        without_literals(text.as_bytes(), Lexing::default())
    }

    #[test]
    fn values_are_replaced_and_names_kept() {
        for (text, expected) in [
            ("select 1", "select ?"),
            (
                "SELECT \"Name\", t1.a FROM s.t1 WHERE b = 'secret' AND c IN (1.5, -2e3, $1)",
                "SELECT \"Name\", t1.a FROM s.t1 WHERE b = ? AND c IN (?, -?, $1)",
            ),
            (
                "ALTER ROLE ana PASSWORD 'x''y'",
                "ALTER ROLE ana PASSWORD ?",
            ),
            ("DO $b$ BEGIN RAISE 'x'; END $b$", "DO ?"),
            ("select E'ab', x'ff', U&'z'\n  , B'0'", "select ?, ?, ? , ?"),
            ("select E'a\\'b', c", "select ? …"),
            ("/* 12 'a' */ select -- secret\n a", "select a"),
            ("select 'secret that goes on", "select ?"),
            ("select $x$ secret", "select ?"),
            ("  ", ""),
        ] {
            assert_eq!(shown(text), expected, "{text}");
        }
    }

    #[test]
    fn a_backslash_in_front_of_a_quote_ends_what_is_shown() {
        for backslash in [Backslash::Plain, Backslash::Escapes] {
            let lexing = Lexing {
                backslash,
                ..Lexing::default()
            };
            let text = b"select 'a\\' secret', b";
            assert_eq!(without_literals(text, lexing), "select ? …");
        }
    }

    #[test]
    fn a_text_is_read_in_the_clients_encoding() {
        let encoding = Encoding::named("GBK").expect("an encoding");
        let lexing = Lexing {
            encoding,
            ..Lexing::default()
        };
        // U+540D; and a character whose second byte is a backslash, within a string.
        let text = b"select \xc3\xfb, '\x81\x5c'";
        assert_eq!(without_literals(text, lexing), "select 名, ?");
    }

    #[test]
    fn a_long_text_is_cut() {
        let text = format!("select {}", "名, ".repeat(3_000));
        let shown = shown(&text);
        assert_eq!(shown.chars().count(), MOST);
        assert!(shown.ends_with('…'));
    }

    #[test]
    fn a_trace_context_is_found_in_a_comment() {
        let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let of = |text: &str| trace_parent(text.as_bytes(), Lexing::default());
        for text in [
            format!("select 1 /*app='x',traceparent='{parent}',tracestate=''*/"),
            format!("/* traceparent={parent} */ select 1"),
            format!("select 1 -- traceparent='{parent}'"),
        ] {
            assert_eq!(of(&text).as_deref(), Some(parent), "{text}");
        }
        for text in [
            format!("select 'traceparent={parent}'"),
            format!("select 1 /*traceparent='{}*/", &parent[..50]),
            format!("select 1 /*traceparent='{}'*/", parent.to_uppercase()),
            format!(
                "select 1 /*traceparent='{}'*/",
                parent.replace("4bf92f3577b34da6a3ce929d0e0e4736", &"0".repeat(32))
            ),
            "select 1 /*traceparent=*/".to_owned(),
        ] {
            assert_eq!(of(&text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_value_is_shown(
            before in "[a-z ,(]{0,12}",
            value in "[0-9A-Z]{6}",
            form in 0..5_usize,
            after in "[a-z ,)]{0,12}",
        ) {
            let literal = match form {
                0 => format!("'{value}'"),
                1 => format!("'it''s {value}'"),
                2 => format!(" E'\\'{value}'"),
                3 => format!(" $a${value}$a$"),
                _ => format!(" 1{}", value.bytes().map(|b| char::from(b'0' + b % 10)).collect::<String>()),
            };
            let shown = shown(&format!("{before} {literal} {after}"));
            prop_assert!(!shown.contains(&value), "{}", shown);
            prop_assert!(!shown.bytes().any(|byte| byte.is_ascii_digit()), "{}", shown);
        }
    }
}
