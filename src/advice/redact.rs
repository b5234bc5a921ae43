//! Taking the storage layer's paths out of what Hologres said, for operators who do not want them
//! in clients' logs.

use std::borrow::Cow;

const REDACTED: &[u8] = b"pangu://[redacted]";
const BEGINNINGS: [&[u8]; 2] = [b"pangu://", b"/product/odps/"];

/// `text` with every pangu path, and every `/product/odps/…` that stands alone, replaced. A path
/// that a line break cuts in two goes as a whole: rather too much is taken than too little.
pub fn redact_path(text: &str) -> Cow<'_, str> {
    match redact_bytes(text.as_bytes()) {
        Cow::Borrowed(_) => text.into(),
        Cow::Owned(redacted) => String::from_utf8_lossy(&redacted).into_owned().into(),
    }
}

/// The same of a text in any encoding of which ASCII is a part.
pub(super) fn redact_bytes(text: &[u8]) -> Cow<'_, [u8]> {
    let mut redacted = Vec::new();
    let mut kept = 0;
    let mut at = 0;
    while at < text.len() {
        if !BEGINNINGS.iter().any(|begin| begins(&text[at..], begin)) {
            at += 1;
            continue;
        }
        redacted.extend_from_slice(&text[kept..at]);
        redacted.extend_from_slice(REDACTED);
        at += text[at..]
            .iter()
            .enumerate()
            .find(|(index, byte)| ends(&text[at + index..], **byte))
            .map_or(text.len() - at, |(index, _)| index);
        kept = at;
    }
    if kept == 0 {
        return text.into();
    }
    redacted.extend_from_slice(&text[kept..]);
    redacted.into()
}

/// True if a path ends in front of `rest`.
fn ends(rest: &[u8], first: u8) -> bool {
    const BEHIND: &[u8] = b"errorcode";
    let word = rest.get(..BEHIND.len());
    matches!(first, b',' | b'"' | b'\'' | b'}')
        || word.is_some_and(|word| word.eq_ignore_ascii_case(BEHIND))
}

/// True if `text` begins so, whatever white space and backslashes (of JSON, of a line break that is
/// spelt) are between the characters.
fn begins(text: &[u8], begin: &[u8]) -> bool {
    let mut rest = text;
    for (index, wanted) in begin.iter().enumerate() {
        while index > 0
            && let Some((first, behind)) = rest.split_first()
            && (first.is_ascii_whitespace() || *first == b'\\')
        {
            rest = match behind {
                [b'n' | b'r' | b't', behind @ ..] if *first == b'\\' => behind,
                behind => behind,
            };
        }
        match rest.split_first() {
            Some((first, behind)) if first.eq_ignore_ascii_case(wanted) => rest = behind,
            _ => return false,
        }
    }
    true
}
