//! What an error looks like, as the table writes it: `Exceeds the partition limitation of …, current
//! match … partitions`.
//!
//! Hologres wraps its engines' errors in one another, escaping each anew and breaking lines
//! anywhere, so letter case, white space and backslashes do not count. `…` stands for any text
//! without a quotation mark and without the pattern's own beginning: two names in quotes, or two
//! errors of a kind, are never taken together for one.

use std::ops::Range;

/// How often the beginning of a pattern is tried in one text: one that repeats it a thousand times
/// costs no more.
const TRIES: usize = 16;

/// One form of an error.
#[derive(Debug)]
pub(super) struct Pattern {
    /// The texts between the gaps, squeezed and in lower case.
    parts: Vec<String>,
}

impl Pattern {
    /// Reads a pattern; `None`: there is nothing in it to look for.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let parts: Vec<_> = text
            .split('…')
            .map(|part| squeeze(part.as_bytes()).to_ascii_lowercase())
            .collect();
        // A gap at the beginning or the end would match anything, and so say nothing.
        (!parts.iter().any(String::is_empty)).then_some(Self { parts })
    }

    /// The longest of its texts: where that is missing, the pattern is.
    pub(super) fn anchor(&self) -> &str {
        self.parts
            .iter()
            .max_by_key(|part| part.len())
            .map_or("", String::as_str)
    }

    /// Where a squeezed text in lower case holds it.
    pub(super) fn find(&self, text: &str) -> Option<Range<usize>> {
        let (first, rest) = self.parts.split_first()?;
        'beginnings: for start in starts(text, first).take(TRIES) {
            let mut end = start + first.len();
            for part in rest {
                // If this part is not behind this beginning, it is not behind a later one either.
                let found = end + starts(&text[end..], part).next()?;
                let gap = &text[end..found];
                // What begins once more in between is the nearer one.
                if memchr::memchr2(b'"', b'\'', gap.as_bytes()).is_some() || gap.contains(first) {
                    continue 'beginnings;
                }
                end = found + part.len();
            }
            return Some(start..end);
        }
        None
    }

    /// Where a text as it came holds it.
    pub(super) fn find_as_written(&self, text: &str) -> Option<Range<usize>> {
        let (mut squeezed, mut places) = (String::new(), Vec::new());
        for (at, c) in kept(text) {
            squeezed.push(c.to_ascii_lowercase());
            places.resize(squeezed.len(), at);
        }
        let found = self.find(&squeezed)?;
        let last = *places.get(found.end.checked_sub(1)?)?;
        let behind = text[last..].chars().next().map_or(0, char::len_utf8);
        Some(*places.get(found.start)?..last + behind)
    }
}

/// Where `part` stands in `text`; one that ends in a digit is not the beginning of a longer number.
fn starts(text: &str, part: &str) -> impl Iterator<Item = usize> {
    let number = part.ends_with(|c: char| c.is_ascii_digit());
    text.match_indices(part)
        .map(|(at, _)| at)
        .filter(move |at| {
            let next = text.as_bytes().get(at + part.len());
            !(number && next.is_some_and(u8::is_ascii_digit))
        })
}

/// The text without white space, backslashes, and the letters of escaped white space.
pub(super) fn squeeze(text: &[u8]) -> String {
    kept(&String::from_utf8_lossy(text))
        .map(|(_, c)| c)
        .collect()
}

/// What is left of a text when it is squeezed, and where that stood.
fn kept(text: &str) -> impl Iterator<Item = (usize, char)> {
    let mut escaped = false;
    text.char_indices().filter(move |&(_, c)| match c {
        '\\' => {
            escaped = true;
            false
        }
        'n' | 'r' | 't' if escaped => {
            escaped = false;
            false
        }
        c => {
            escaped = false;
            !c.is_whitespace()
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spent::{by_this_thread, since};

    fn finds(pattern: &str, text: &str) -> bool {
        let text = squeeze(text.as_bytes()).to_ascii_lowercase();
        Pattern::parse(pattern).unwrap().find(&text).is_some()
    }

    #[test]
    fn gaps_hold_anything_but_quotes() {
        assert!(finds(
            "limit of …, match … parts",
            "the LIMIT of 5, match\n7 parts!"
        ));
        assert!(finds("a … b", "a b"), "also nothing");
        assert!(!finds("a…b", "a \"x\" b"));
        assert!(!finds("a…b", "a'x' b"));
        assert!(finds("a…b", "a\"x\" a b"), "the next beginning is tried");
        assert!(
            finds("column '…' is", "Column 'phone' is"),
            "a quote may be part of it"
        );
        assert!(!finds("b…a", "a b"));
        let found = Pattern::parse("open…code: 9").unwrap();
        let text = "openacode:2;openbcode:9";
        assert_eq!(
            found.find(text).map(|range| &text[range]),
            Some("openbcode:9")
        );
    }

    #[test]
    fn a_number_ends_where_it_ends() {
        assert!(finds("code: 9", "code: 9, x"));
        assert!(!finds("code: 9", "code: 91"));
        assert!(finds("code: 9", "code: 91, code: 9"));
    }

    #[test]
    fn a_pattern_says_something() {
        for nothing in ["", " ", "…", "a…", "…a", "a……b"] {
            assert!(Pattern::parse(nothing).is_none(), "{nothing}");
        }
        assert_eq!(Pattern::parse("ab…abcd…a").unwrap().anchor(), "abcd");
    }

    #[test]
    fn a_beginning_is_not_tried_for_ever() {
        let text = "pangu ".repeat(100_000);
        let start = by_this_thread();
        assert!(!finds("pangu…nowhere", &text));
        assert!(since(start) < std::time::Duration::from_secs(2));
    }
}
