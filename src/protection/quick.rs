//! Decisions that need no reading. They go by the first keyword of a text that holds no name of
//! interest; the few possible answers are made once and shared.

use std::sync::Arc;

use aho_corasick::{AhoCorasick, AhoCorasickKind, MatchKind};

use super::decision::Decision;
use super::relations::Relations;
use super::scan::Scan;
use crate::sql::lexer::{is_space, is_word, is_word_start};
use crate::sql::{self, Change, Effects, Keyword};

/// Up to this many names the matcher is a full DFA: twice as fast, and still small.
const MAX_DFA_NAMES: usize = 100;

/// What makes a query one that may write, or hides words from the look at parentheses.
const NOT_PLAINLY_READING: [&[u8]; 8] = [
    b"into", b"insert", b"update", b"delete", b"merge", b"share", b"--", b"/*",
];

/// What makes any statement one that must be read in full: changes of settings by function, a name
/// in escapes, a hint for us.
const MUST_BE_READ: [&[u8]; 4] = [b"set_config", b"u&\"", b"osprey:", b"_to_xml"];

/// The matcher over all names, and the shared answers.
#[derive(Debug)]
pub(super) struct Quick {
    /// Names of interest and [`MUST_BE_READ`], and behind them [`NOT_PLAINLY_READING`]: a query is
    /// passed once. `None`: they are too many for any automaton; every text counts as a match.
    matcher: Option<AhoCorasick>,
    /// All of its patterns, where they are few.
    scan: Option<Scan>,
    /// How many of its patterns are not [`NOT_PLAINLY_READING`].
    names: usize,
    /// A pattern may match any name: every statement that may name a relation is read.
    read_all: bool,
    /// A name may stand in a text in other bytes than here: what is not UTF-8 is read.
    read_other_encodings: bool,
    reads: Arc<Decision>,
    writes: Arc<Decision>,
    begins: Arc<Decision>,
    commits: Arc<Decision>,
    rolls_back: Arc<Decision>,
    unseen: Arc<Decision>,
}

/// What a text is looked at for in full: statements and calls, names in other databases, and what is no
/// text in ASCII.
static MARKED: [bool; 256] = {
    let mut marked = [false; 256];
    let mut byte = 0x80;
    while byte <= 0xff {
        marked[byte] = true;
        byte += 1;
    }
    marked[0] = true;
    marked[b';' as usize] = true;
    marked[b'(' as usize] = true;
    marked[b'.' as usize] = true;
    marked
};

/// What the first keyword says.
enum Class {
    Reads,
    Writes,
}

impl Quick {
    /// A matcher for the names of these relations and functions.
    pub(super) fn new(relations: &Relations) -> Self {
        let mut names: Vec<Vec<u8>> = MUST_BE_READ.iter().map(|word| word.to_vec()).collect();
        names.extend(
            sql::ROUTE_SETTINGS
                .iter()
                .map(|name| name.as_bytes().to_vec()),
        );
        let mut behind_dots = false;
        for name in relations.names() {
            match spelling(name) {
                Spelling::Plain => names.push(name.to_vec()),
                Spelling::Quoted => names.push(quoted(name)),
                Spelling::Keyword => {
                    names.push(quoted(name));
                    names.push([b".", name].concat());
                    behind_dots = true;
                }
            }
        }
        if behind_dots {
            names.extend(BLANKS_BEHIND_DOT.map(|blank| vec![b'.', blank]));
        }
        names.extend(relations.pattern_literals().map(<[u8]>::to_vec));
        let read_all = names.iter().any(Vec::is_empty);
        names.retain(|name| !name.is_empty());
        let answer = |effects, change: Option<Change>| {
            Arc::new(Decision {
                effects,
                changes: change.into_iter().map(Into::into).collect(),
                ..Decision::default()
            })
        };
        let few = names.len() <= MAX_DFA_NAMES;
        let patterns = names.iter().map(Vec::as_slice).chain(NOT_PLAINLY_READING);
        Self {
            scan: few.then(|| Scan::new(patterns)).flatten(),
            matcher: matcher(&names),
            names: names.len(),
            read_all,
            read_other_encodings: relations.has_names_beyond_ascii(),
            reads: answer(Effects::default(), None),
            writes: answer(Effects::WRITES, None),
            begins: answer(Effects::BEGINS, Some(Change::Begin)),
            commits: answer(Effects::ENDS, Some(Change::Commit)),
            rolls_back: answer(Effects::ENDS, Some(Change::Rollback)),
            unseen: answer(sql::UNSEEN, Some(Change::Anything)),
        }
    }

    /// The decision for a short statement that does nothing but begin or end a transaction.
    pub(super) fn transaction(&self, text: &[u8]) -> Option<Arc<Decision>> {
        if text.len() > 32 {
            return None;
        }
        let text = trim(text);
        let (keyword, rest) = first_keyword(text);
        if !rest
            .iter()
            .all(|byte| byte.is_ascii_alphabetic() || is_space(*byte))
        {
            return None;
        }
        let whole = match rest.trim_ascii() {
            b"" => true,
            rest => [&b"work"[..], b"transaction"]
                .iter()
                .any(|word| rest.eq_ignore_ascii_case(word)),
        };
        match keyword {
            Keyword::Begin | Keyword::Start => Some(Arc::clone(&self.begins)),
            Keyword::Commit | Keyword::End if whole => Some(Arc::clone(&self.commits)),
            Keyword::Rollback | Keyword::Abort if whole => Some(Arc::clone(&self.rolls_back)),
            _ => None,
        }
    }

    /// The decision for a text that need not be read; `None`: it must be.
    pub(super) fn decide(&self, text: &[u8]) -> Option<Arc<Decision>> {
        let text = trim(text);
        let class = self.class(text)?;
        // Most texts hold none of these, so that they are looked for at once.
        let marked = memchr::memchr3(b';', b'(', b'.', text).is_some();
        if marked && memchr::memchr(b';', text).is_some() {
            return None;
        }
        let (plain, decision) = match class {
            Class::Reads => (
                !self.holds_anything(text)
                    && (!marked || calls_known_functions(text) && !has_three_part_name(text)),
                &self.reads,
            ),
            Class::Writes => (!self.holds_name(text), &self.writes),
        };
        plain.then(|| Arc::clone(decision))
    }

    /// The state of [`Quick::scan`] behind a text that reads and holds nothing of interest, if one that goes
    /// on from there can be decided by what follows alone.
    pub(super) fn begins(&self, head: &[u8]) -> Option<u16> {
        let text = trim(head);
        let parts_statements = memchr::memchr(b';', head).is_some();
        let has_first_word = text.iter().any(|byte| !is_word(*byte));
        let (Some(Class::Reads), Some(scan), true, false) = (
            self.class(text),
            &self.scan,
            has_first_word,
            parts_statements,
        ) else {
            return None;
        };
        let plain =
            sql::is_plain(head) && calls_known_functions(head) && !has_three_part_name(head);
        scan.passes(Scan::START, head).filter(|_| plain)
    }

    /// True if a text that has come to this state and goes on with any number holds nothing of interest.
    pub(super) fn takes_numbers(&self, state: u16) -> bool {
        let takes = |scan: &Scan| scan.passes_all(state, b"0123456789");
        self.scan.as_ref().is_some_and(takes)
    }

    /// True if a text that has come to this state holds nothing of interest in the rest of it.
    #[inline]
    pub(super) fn goes_on(&self, state: u16, rest: &[u8]) -> bool {
        let mut rest = rest;
        while let [before @ .., last] = rest
            && (*last == b';' || is_space(*last))
        {
            rest = before;
        }
        let passes = |scan: &Scan| scan.passes_unmarked(state, rest, &MARKED);
        self.scan.as_ref().is_some_and(passes)
    }

    /// The decision for a text of which only the head is in hand. Only that of a statement that
    /// writes need not be read.
    pub(super) fn decide_prefix(&self, head: &[u8]) -> Option<Arc<Decision>> {
        let Class::Writes = self.class(trim(head))? else {
            return None;
        };
        let plain = memchr::memchr(b';', head).is_none() && !self.holds_name(head);
        plain.then(|| Arc::clone(&self.unseen))
    }

    fn class(&self, text: &[u8]) -> Option<Class> {
        if self.read_all {
            return None;
        }
        if is_select(text) {
            return Some(Class::Reads);
        }
        match first_keyword(text).0 {
            Keyword::Select | Keyword::With | Keyword::Values | Keyword::Show => Some(Class::Reads),
            Keyword::Insert | Keyword::Update | Keyword::Delete => Some(Class::Writes),
            _ => None,
        }
    }

    /// A name, or a word that makes a query one that may write.
    fn holds_anything(&self, text: &[u8]) -> bool {
        let found = match &self.scan {
            Some(scan) => scan.finds_any(text),
            None => self
                .matcher
                .as_ref()
                .is_none_or(|matcher| matcher.is_match(text)),
        };
        found || self.is_in_other_encoding(text)
    }

    fn holds_name(&self, text: &[u8]) -> bool {
        let names = |matcher: &AhoCorasick| {
            matcher
                .find_overlapping_iter(text)
                .any(|found| found.pattern().as_usize() < self.names)
        };
        self.matcher.as_ref().is_none_or(names) || self.is_in_other_encoding(text)
    }

    fn is_in_other_encoding(&self, text: &[u8]) -> bool {
        self.read_other_encodings && std::str::from_utf8(text).is_err()
    }
}

fn matcher(names: &[Vec<u8>]) -> Option<AhoCorasick> {
    let kind = (names.len() <= MAX_DFA_NAMES).then_some(AhoCorasickKind::DFA);
    let names = names.iter().map(Vec::as_slice);
    AhoCorasick::builder()
        .kind(kind)
        .match_kind(MatchKind::Standard)
        .ascii_case_insensitive(true)
        .prefilter(false)
        .build(names.chain(NOT_PLAINLY_READING))
        .ok()
}

/// Without blanks before, and blanks and semicolons behind.
fn trim(text: &[u8]) -> &[u8] {
    let start = text
        .iter()
        .position(|byte| !is_space(*byte))
        .unwrap_or(text.len());
    let end = text
        .iter()
        .rposition(|byte| !is_space(*byte) && *byte != b';');
    text.get(start..end.map_or(start, |end| end + 1))
        .unwrap_or_default()
}

/// True if a text begins with SELECT, as most do.
#[inline]
fn is_select(text: &[u8]) -> bool {
    const LOWER_CASE: u64 = u64::from_le_bytes([b' '; 8]);
    const SELECT: u64 = u64::from_le_bytes(*b"select\0\0");
    let Some(first) = text.first_chunk() else {
        return false;
    };
    let word = u64::from_le_bytes(*first) | LOWER_CASE;
    word & (u64::MAX >> 16) == SELECT && !is_word(first[6])
}

fn first_keyword(text: &[u8]) -> (Keyword, &[u8]) {
    let end = text
        .iter()
        .position(|byte| !is_word(*byte))
        .unwrap_or(text.len());
    (Keyword::of(&text[..end]), &text[end..])
}

/// What may part a dot from a keyword behind it: blanks and comments.
const BLANKS_BEHIND_DOT: [u8; 8] = [b' ', b'\t', b'\n', b'\r', 0x0b, 0x0c, b'/', b'-'];

/// A longer name may be cut in a text: there its closing quote is not where it is here.
const SURELY_WHOLE: usize = 59;

/// How a name can stand in a text.
enum Spelling {
    /// In any way.
    Plain,
    /// Between quotes only: unquoted words are folded, and hold nothing but letters and digits.
    Quoted,
    /// Between quotes, or behind a dot, where a reserved word is a name like any other.
    Keyword,
}

fn spelling(name: &[u8]) -> Spelling {
    let is_folded = |byte: &u8| is_word(*byte) && !byte.is_ascii_uppercase();
    let starts = name.first().is_some_and(|first| is_word_start(*first));
    if !starts || !name.iter().all(is_folded) {
        Spelling::Quoted
    } else if Keyword::of(name).is_reserved() {
        Spelling::Keyword
    } else {
        Spelling::Plain
    }
}

/// A name between quotes, its own doubled.
fn quoted(name: &[u8]) -> Vec<u8> {
    let mut quoted = Vec::with_capacity(name.len() + 2);
    quoted.push(b'"');
    for byte in name {
        quoted.push(*byte);
        if *byte == b'"' {
            quoted.push(*byte);
        }
    }
    if name.len() <= SURELY_WHOLE {
        quoted.push(b'"');
    }
    quoted
}

/// True if every opening parenthesis stands behind an operator or a word that is known to be
/// harmless there. The text holds no comments. Parentheses in strings count too: at worst the text
/// is read in full.
fn calls_known_functions(text: &[u8]) -> bool {
    memchr::memchr_iter(b'(', text).all(|open| {
        let before = &text[..open];
        let end = before
            .iter()
            .rposition(|byte| !is_space(*byte))
            .map_or(0, |last| last + 1);
        let before = &before[..end];
        let Some(&last) = before.last() else {
            return true;
        };
        if !is_word(last) {
            return last != b'"';
        }
        let start = before
            .iter()
            .rposition(|byte| !is_word(*byte))
            .map_or(0, |other| other + 1);
        let word = &before[start..];
        let qualified = before[..start].trim_ascii_end().ends_with(b".");
        !qualified && is_word_start(word[0]) && sql::is_harmless_function(word)
    })
}

/// True if the text may hold a three-part name, which may be in an external database.
fn has_three_part_name(text: &[u8]) -> bool {
    let mut behind_dot: Option<usize> = None;
    memchr::memchr_iter(b'.', text).any(|dot| {
        let part = behind_dot
            .replace(dot + 1)
            .map(|start| text[start..dot].trim_ascii());
        part.is_some_and(|part| {
            let quoted = part.starts_with(b"\"") && part.ends_with(b"\"");
            let word = part.first().is_some_and(|first| is_word_start(*first));
            quoted || word && part.iter().all(|byte| is_word(*byte))
        })
    })
}
