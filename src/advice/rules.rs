//! The table of rules: `rules.toml`, embedded, and an operator's own file of the same form.
//!
//! Both are read and checked by the same code, so that a rule that could mislead a client (a text
//! that is too long for an error box, one that holds a word on which programs act, a rule that would
//! spend money by itself) is refused by file, line and key, as a configuration is.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{LazyLock, PoisonError, RwLock};

use aho_corasick::AhoCorasick;

use super::pattern::Pattern;
use super::reader::Reader;
use super::rule::Rule;
use super::words::Words;
use crate::config::{Place, Problem};

/// Osprey's own table.
const OWN: &str = include_str!("rules.toml");
/// Its name in messages.
const OWN_NAME: &str = "rules.toml";

/// Osprey's own table alone.
static EMBEDDED: LazyLock<Rules> =
    LazyLock::new(|| Rules::parse(None).expect("a test reads the embedded table"));

/// The text of an operator's file.
fn read(path: &Path) -> Result<String, Vec<Problem>> {
    let unreadable = |line, text: String| {
        vec![Problem {
            place: Some(Place::File {
                file: path.display().to_string(),
                line,
            }),
            key: String::new(),
            text,
        }]
    };
    match std::fs::read(path).map(String::from_utf8) {
        Ok(Ok(text)) => Ok(text),
        Ok(Err(error)) => {
            let before = &error.as_bytes()[..error.utf8_error().valid_up_to()];
            let line = 1 + memchr::memchr_iter(b'\n', before).count();
            Err(unreadable(
                line,
                "is not UTF-8; save the file as UTF-8".into(),
            ))
        }
        Err(error) => Err(unreadable(
            1,
            format!("cannot be read: {error}; name a file that exists and that this user may read"),
        )),
    }
}

/// A checked table, in the order in which its rows count.
#[derive(Debug)]
pub struct Rules {
    rows: Vec<Rule>,
    words: Words,
    /// The longest text of each pattern: an error that holds none of them matches none.
    anchors: AhoCorasick,
    /// For each anchor its rule's and its pattern's number.
    anchored: Vec<(usize, usize)>,
}

/// The present table, and the operator's text that is part of it. Errors and the labels of metrics refer
/// to a table for as long as the process runs, so each stays; another one comes only with another text.
static IN_FORCE: RwLock<Option<(&'static Rules, Option<String>)>> = RwLock::new(None);

impl Rules {
    /// The table that [`super::recognize()`] goes by: Osprey's own, or what was put into force.
    pub fn in_force() -> &'static Self {
        let present = IN_FORCE.read().unwrap_or_else(PoisonError::into_inner);
        present.as_ref().map_or(&*EMBEDDED, |(rules, _)| rules)
    }

    /// Puts Osprey's own table into force, with the rules of an operator's file behind it if one is
    /// named; see [`Rules::with_file`].
    ///
    /// # Errors
    /// Every mistake of the file, by line and key; then what was in force stays.
    pub fn put_into_force(file: Option<&Path>) -> Result<(), Vec<Problem>> {
        let text = file.map(read).transpose()?;
        let mut present = IN_FORCE.write().unwrap_or_else(PoisonError::into_inner);
        let before = present.as_ref().and_then(|(_, text)| text.as_ref());
        if before == text.as_ref() {
            return Ok(());
        }
        let rules = match (file, &text) {
            (Some(file), Some(text)) => {
                let name = file.display().to_string();
                Box::leak(Box::new(Self::parse(Some((&name, text)))?))
            }
            _ => &*EMBEDDED,
        };
        *present = Some((rules, text));
        Ok(())
    }

    /// Osprey's own table, and behind it the rules of an operator's file. Its codes are the
    /// operator's own (`OPS-17`, never `OSP-…`), and its rules advise only.
    ///
    /// # Errors
    /// Every mistake of the file, by line and key.
    pub fn with_file(path: &Path) -> Result<Self, Vec<Problem>> {
        let name = path.display().to_string();
        Self::parse(Some((&name, &read(path)?)))
    }

    /// Reads the embedded table and, behind it, a file of the operator's: its name and text.
    ///
    /// # Errors
    /// Every mistake, by line and key.
    pub fn parse(own: Option<(&str, &str)>) -> Result<Self, Vec<Problem>> {
        let mut reader = Reader::new(OWN_NAME, OWN, true);
        let words = reader.words();
        let mut rules = reader.rules(words.as_ref());
        let mut problems = reader.problems;
        if let Some((name, text)) = own {
            let mut reader = Reader::new(name, text, false);
            reader.codes = rules.iter().map(|rule| rule.code().to_owned()).collect();
            rules.extend(reader.rules(words.as_ref()));
            problems.extend(reader.problems);
        }
        let anchored: Vec<_> = rules
            .iter()
            .enumerate()
            .flat_map(|(rule, row)| (0..row.patterns.len()).map(move |pattern| (rule, pattern)))
            .collect();
        let anchors = AhoCorasick::new(
            anchored
                .iter()
                .map(|&(rule, pattern)| rules[rule].patterns[pattern].anchor()),
        );
        match (words, anchors) {
            (Some(words), Ok(anchors)) if problems.is_empty() => Ok(Self {
                rows: rules,
                words,
                anchors,
                anchored,
            }),
            (_, anchors) => {
                problems.extend(anchors.err().map(|error| Problem {
                    place: None,
                    key: "rule.error".into(),
                    text: format!("too much to look for: {error}"),
                }));
                Err(problems)
            }
        }
    }

    /// Every rule, in the order in which they count.
    pub fn iter(&self) -> impl Iterator<Item = &Rule> {
        self.rows.iter()
    }

    /// The rules that take a rule's place when more is known, in the order in which they count.
    pub fn instead_of<'r>(&'r self, rule: &'r Rule) -> impl Iterator<Item = &'r Rule> {
        self.rows
            .iter()
            .filter(|other| other.instead_of.as_deref() == Some(rule.code()))
    }

    /// The words around the rules' texts.
    pub(super) fn words(&self) -> &Words {
        &self.words
    }

    /// The rules of which a squeezed text in lower case may hold a pattern, in their order.
    pub(super) fn candidates(&self, text: &str) -> impl Iterator<Item = (&Rule, &Pattern)> {
        let found: BTreeSet<_> = self
            .anchors
            .find_overlapping_iter(text)
            .map(|found| self.anchored[found.pattern()])
            .collect();
        found.into_iter().map(|(rule, pattern)| {
            let rule = &self.rows[rule];
            (rule, &rule.patterns[pattern])
        })
    }
}

/// One row of the table, by its code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Case(&'static str);

impl Case {
    /// Every row of the table in force.
    pub const ALL: Cases = Cases;

    /// The stable code.
    pub fn code(&self) -> &'static str {
        self.0
    }
}

/// The rows of the table in force: [`Case::ALL`].
#[derive(Debug, Clone, Copy)]
pub struct Cases;

impl Cases {
    /// One after the other.
    pub fn iter(self) -> impl Iterator<Item = Case> {
        Rules::in_force().iter().map(|rule| Case(rule.code()))
    }
}
