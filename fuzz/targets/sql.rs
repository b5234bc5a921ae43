//! The SQL lexer and the decision. Besides that nothing panics: a decision is the same when it is
//! asked for again; and a read of a protected relation that stands on its own is found wherever it
//! stands, which a second, simple lexer decides independently. In another encoding, a text is decided
//! as it is once it is converted.

use std::sync::{Arc, LazyLock};

use osprey::config::TablePattern;
use osprey::protection::{
    Backslash, Decision, Encoding, Lexing, NameContext, Reason, SessionNames, Snapshot, Source,
};

struct Known {
    snapshot: Snapshot,
    /// The same, of which nothing is protected.
    nothing: Snapshot,
    names: [NameContext; 2],
}

static KNOWN: LazyLock<Known> = LazyLock::new(|| {
    let reason = |relation: &str| {
        Arc::new(Reason {
            relation: relation.into(),
            via: Vec::new(),
            project: None,
            key: None,
            source: Source::Key,
        })
    };
    let pattern = TablePattern {
        database: "shop".into(),
        schema: "vault".into(),
        table: "*_enc".into(),
    };
    let builder = Snapshot::builder("shop")
        .homonym("public", "orders")
        .foreign("ext", "open_data")
        .protect("ext", "orders", reason("ext.orders"))
        .protect("ext", "secret", reason("ext.secret"))
        .protect("ext", "Mixed Case", reason("ext.Mixed Case"))
        .protect("public", "events", reason("public.events"))
        .pattern(&pattern, reason("pattern"));
    Known {
        snapshot: builder.build(7),
        nothing: Snapshot::builder("shop")
            .foreign("ext", "open_data")
            .build(8),
        names: [
            NameContext::new("ann", "\"$user\", public, ext"),
            NameContext {
                user: "ann".into(),
                search_path: None,
            },
        ],
    }
});

/// The input is a text.
pub(crate) fn run(data: &[u8]) {
    let known = &*KNOWN;
    for name in ["GBK", "SJIS", "GB18030", "EUC_TW", "LATIN1"] {
        let encoding = Encoding::named(name).expect("an encoding");
        let session = SessionNames::new(known.names[0].clone());
        for backslash in [Backslash::Plain, Backslash::Escapes] {
            let default = Lexing::default();
            let as_sent = Lexing {
                backslash,
                encoding,
            };
            let converted = encoding.to_server(data);
            let as_converted = Lexing {
                encoding: default.encoding,
                ..as_sent
            };
            let decide = |text: &[u8], lexing| known.snapshot.decide_in(text, &session, lexing);
            let (sent, converted) = (decide(data, as_sent), decide(&converted, as_converted));
            assert!(same(&sent, &converted), "{sent:?} and {converted:?}");
            known.snapshot.decide_prefix_in(data, &session, as_sent);
        }
    }
    for names in &known.names {
        let decision = known.snapshot.decide(data, names);
        let again = known.snapshot.decide(data, names);
        assert!(same(&decision, &again), "{decision:?} and then {again:?}");
        if decision.protected.is_some() {
            assert!(!known.snapshot.reasons(data, names).is_empty());
        } else {
            assert!(!reads_the_secret(data), "not found: {decision:?}");
        }
        assert!(known.nothing.decide(data, names).protected.is_none());
        let head = &data[..data.len() / 2];
        let prefix = known.snapshot.decide_prefix(head, names);
        if prefix.protected.is_none() {
            assert!(
                !reads_the_secret_first(head),
                "not found in a head: {prefix:?}"
            );
        }
    }
}

fn same(a: &Decision, b: &Decision) -> bool {
    (&a.protected, a.effects, &a.names, a.hint, &a.suspects)
        == (&b.protected, b.effects, &b.names, b.hint, &b.suspects)
}

/// `SELECT * FROM ext.secret`, as the lexer below sees it.
const READ: [&[u8]; 6] = [b"select", b"*", b"from", b"ext", b".", b"secret"];

/// True if one of the statements of a text is exactly [`READ`], and the text has an end.
fn reads_the_secret(text: &[u8]) -> bool {
    let Some(tokens) = tokens(text) else {
        return false;
    };
    let mut depth = 0_i32;
    let mut statement = Vec::new();
    let mut found = false;
    for token in tokens.iter().map(Vec::as_slice).chain([b";".as_slice()]) {
        match token {
            b"(" | b"[" => depth += 1,
            b")" | b"]" => depth -= 1,
            b";" if depth == 0 => {
                found |= statement == READ;
                statement.clear();
                continue;
            }
            _ => {}
        }
        if depth < 0 {
            return false;
        }
        statement.push(token);
    }
    depth == 0 && found
}

/// True if a text begins with [`READ`] and goes on with a blank and something else.
fn reads_the_secret_first(text: &[u8]) -> bool {
    let read = b"select * from ext.secret ";
    text.len() > read.len() && text[..read.len()].eq_ignore_ascii_case(read)
}

/// The tokens of a text, folded, or `None` if it has no end or holds what is not worth a second
/// implementation (Unicode escapes, bytes beyond ASCII outside of strings).
fn tokens(text: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut tokens = Vec::new();
    let mut at = 0;
    while let Some(&byte) = text.get(at) {
        let next = text.get(at + 1).copied();
        match byte {
            b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c => at += 1,
            b'-' if next == Some(b'-') => {
                let line_end = |byte: &u8| matches!(byte, b'\n' | b'\r');
                at += text[at..]
                    .iter()
                    .position(line_end)
                    .unwrap_or(text.len() - at);
            }
            b'/' if next == Some(b'*') => at = comment(text, at)?,
            b'"' => {
                at = quoted(text, at + 1, b'"')?;
                tokens.push(b"\"".to_vec());
            }
            b'\'' => {
                at = quoted(text, at + 1, b'\'')?;
                tokens.push(b"'".to_vec());
            }
            b'$' => {
                at = dollar(text, at)?;
                tokens.push(b"$".to_vec());
            }
            b'a'..=b'z' | b'A'..=b'Z' | b'_' => {
                let word = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$');
                let end = at + text[at..].iter().take_while(|byte| word(byte)).count();
                // Prefixes of strings and identifiers: E'', B'', X'', N'', U&"", U&''.
                if matches!(text.get(end), Some(b'\'' | b'"' | b'&' | 0x80..)) {
                    return None;
                }
                tokens.push(text[at..end].to_ascii_lowercase());
                at = end;
            }
            0 | 0x80.. | b'0'..=b'9' => return None,
            _ => {
                tokens.push(vec![byte]);
                at += 1;
            }
        }
    }
    Some(tokens)
}

/// End of the comment that begins at `at`; they nest.
fn comment(text: &[u8], mut at: usize) -> Option<usize> {
    let mut depth = 0;
    loop {
        match text.get(at..at + 2)? {
            b"/*" => depth += 1,
            b"*/" => depth -= 1,
            _ => {
                at += 1;
                continue;
            }
        }
        at += 2;
        if depth == 0 {
            return Some(at);
        }
    }
}

/// End of what a quote closes; a doubled one does not. A string that may go on behind a line end
/// is not followed.
fn quoted(text: &[u8], mut at: usize, quote: u8) -> Option<usize> {
    loop {
        at += text.get(at..)?.iter().position(|&byte| byte == quote)? + 1;
        match text.get(at) {
            Some(&byte) if byte == quote => at += 1,
            _ if text[at..].contains(&b'\'') && quote == b'\'' => return None,
            _ => return Some(at),
        }
    }
}

/// End of a `$tag$ … $tag$`.
fn dollar(text: &[u8], at: usize) -> Option<usize> {
    let word = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
    let tag = text[at + 1..].iter().take_while(|byte| word(byte)).count();
    let delimiter = text.get(at..at + tag + 2)?;
    if delimiter[tag + 1] != b'$' || delimiter[1].is_ascii_digit() {
        return None;
    }
    let body = &text[at + tag + 2..];
    let end = body
        .windows(tag + 2)
        .position(|window| window == delimiter)?;
    Some(at + 2 * (tag + 2) + end)
}
