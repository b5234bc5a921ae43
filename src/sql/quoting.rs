//! What stands between quotes: identifiers, and the bodies of strings in which identifiers are
//! looked for.

use std::borrow::Cow;

/// What lies between the quotes of a string of any kind. Escapes are left as they are.
pub(super) fn string_body(bytes: &[u8]) -> &[u8] {
    let quote = |byte: &u8| matches!(byte, b'\'' | b'$');
    let Some(open) = bytes.iter().position(quote) else {
        return bytes;
    };
    let delimiter = match bytes[open] {
        b'$' => bytes[open + 1..]
            .iter()
            .position(|byte| *byte == b'$')
            .map_or(1, |end| end + 2),
        _ => 1,
    };
    let end = bytes.len().saturating_sub(delimiter).max(open + delimiter);
    bytes.get(open + delimiter..end).unwrap_or_default()
}

/// The body of a string in which a backslash escapes, without its escapes (PostgreSQL's manual,
/// *String Constants with C-Style Escapes*); `None` if there are none.
pub(super) fn unescape(body: &[u8]) -> Option<Vec<u8>> {
    memchr::memchr(b'\\', body)?;
    let mut value = Vec::with_capacity(body.len());
    let mut rest = body;
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        if byte == b'\'' {
            // One of two.
            value.push(byte);
            rest = tail.strip_prefix(b"'").unwrap_or(tail);
            continue;
        }
        if byte != b'\\' {
            value.push(byte);
            continue;
        }
        let Some((&escaped, tail)) = rest.split_first() else {
            break;
        };
        rest = tail;
        let (radix, most) = match escaped {
            b'0'..=b'7' => (8, 3),
            b'x' => (16, 2),
            b'u' => (16, 4),
            b'U' => (16, 8),
            _ => {
                value.push(match escaped {
                    b'b' => 0x08,
                    b'f' => 0x0c,
                    b'n' => b'\n',
                    b'r' => b'\r',
                    b't' => b'\t',
                    other => other,
                });
                continue;
            }
        };
        let digits = if radix == 8 {
            &body[body.len() - tail.len() - 1..]
        } else {
            tail
        };
        let is_digit = |byte: &&u8| char::from(**byte).is_digit(radix);
        let count = digits.iter().take(most).take_while(is_digit).count();
        let code = std::str::from_utf8(&digits[..count]).ok();
        let code = code.and_then(|digits| u32::from_str_radix(digits, radix).ok());
        rest = &digits[count..];
        match code {
            Some(code) if most > 3 => {
                let character = char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER);
                value.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
            }
            Some(code) => value.push(code as u8),
            None => value.push(escaped),
        }
    }
    Some(value)
}

/// The name in a quoted identifier: what follows `prefix` bytes, without the closing quote, and
/// with doubled quotes made single.
pub(super) fn unquote(bytes: &[u8], prefix: usize) -> Cow<'_, [u8]> {
    let inner = bytes.get(prefix..).unwrap_or_default();
    let inner = inner.strip_suffix(b"\"").unwrap_or(inner);
    if memchr::memchr(b'"', inner).is_none() {
        return Cow::Borrowed(inner);
    }
    let mut name = Vec::with_capacity(inner.len());
    let mut bytes = inner.iter();
    while let Some(&byte) = bytes.next() {
        name.push(byte);
        if byte == b'"' {
            bytes.next();
        }
    }
    Cow::Owned(name)
}

/// Decodes the escapes `\XXXX` and `\+XXXXXX`, with any escape character; two surrogates make one
/// character. What is not an escape stays as it is (PostgreSQL refuses such a text).
pub(super) fn decode_unicode(name: &[u8], escape: u8) -> Vec<u8> {
    let mut decoded = Vec::with_capacity(name.len());
    let mut high: Option<u32> = None;
    let mut rest = name;
    while let Some((&byte, tail)) = rest.split_first() {
        if byte != escape {
            decoded.push(byte);
            rest = tail;
            continue;
        }
        if tail.first() == Some(&escape) {
            decoded.push(escape);
            rest = &tail[1..];
            continue;
        }
        let digits = match tail.first() {
            Some(b'+') => tail.get(1..7),
            _ => tail.get(..4),
        };
        let code = digits
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u32::from_str_radix(digits, 16).ok());
        let (Some(code), Some(digits)) = (code, digits) else {
            decoded.push(byte);
            rest = tail;
            continue;
        };
        rest = &tail[digits.len() + usize::from(tail[0] == b'+')..];
        let code = match (high.take(), code) {
            (_, 0xd800..=0xdbff) => {
                high = Some(code);
                continue;
            }
            (Some(high), 0xdc00..=0xdfff) => 0x10000 + ((high - 0xd800) << 10) + (code - 0xdc00),
            (_, code) => code,
        };
        let character = char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER);
        decoded.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
    }
    decoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn string_bodies() {
        assert_eq!(string_body(b"'a'"), b"a");
        assert_eq!(string_body(b"E'a'"), b"a");
        assert_eq!(string_body(b"$x$a$x$"), b"a");
        assert_eq!(string_body(b"$$"), b"");
        assert_eq!(string_body(b"'"), b"");
        assert_eq!(string_body(b"$$a"), b"");
    }

    #[test]
    fn escapes_of_strings() {
        let unescaped =
            |body: &[u8]| unescape(body).map(|value| String::from_utf8_lossy(&value).into_owned());
        assert_eq!(unescaped(b"it''s"), None);
        let is = |body: &[u8], value: &str| assert_eq!(unescaped(body).as_deref(), Some(value));
        is(br"it\'s ''so''", "it's 'so'");
        is(br"\\\'", r"\'");
        is(br"s\145cret \x74\u0061\U00000062\tle", "secret tab\tle");
        is(br"\q\", "q");
        is(br"\x\u", "xu");
    }
}
