//! Mistakes in the configuration: where each is, what is wrong, what would be right.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// Where a setting was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// A line of the configuration file, counted from 1.
    File {
        /// The file as it was named.
        file: String,
        /// The line.
        line: usize,
    },
    /// A flag or an environment variable, by its name.
    Named(String),
}

impl fmt::Display for Place {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { file, line } => write!(formatter, "{file}:{line}"),
            Self::Named(name) => formatter.write_str(name),
        }
    }
}

/// One mistake (or one thing worth a warning), ready to be shown: `place: key: text`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Where; `None` for a setting that was not given at all.
    pub place: Option<Place>,
    /// The setting's dotted key in the file; empty if the text is about the place itself.
    pub key: String,
    /// What is wrong and what would be right. Never holds a secret.
    pub text: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(place) = &self.place {
            write!(formatter, "{place}: ")?;
        }
        if !self.key.is_empty() && !matches!(self.place, Some(Place::Named(_))) {
            write!(formatter, "{}: ", self.key)?;
        }
        formatter.write_str(&self.text)
    }
}

impl Problem {
    fn new(place: Option<Place>, path: &str, text: String) -> Self {
        Self {
            place,
            key: setting(path),
            text,
        }
    }
}

/// What was noticed while reading, and where each setting came from.
///
/// Keys are dotted paths here, in which a number in brackets stands behind an array, as in
/// `upstream[1].addresses[0]`: so each element has a place of its own. What is shown is the
/// setting's name alone, see [`setting`].
#[derive(Debug, Default)]
pub(super) struct Notes {
    pub(super) problems: Vec<Problem>,
    pub(super) warnings: Vec<Problem>,
    /// The place of each setting that was given.
    places: BTreeMap<String, Place>,
    /// The settings with a mistake.
    mistaken: BTreeSet<String>,
}

impl Notes {
    /// Remembers that `key` was given at `place`; the last one counts.
    pub(super) fn given(&mut self, key: &str, place: Place) {
        let elements = format!("{key}[");
        self.places.retain(|other, _| !other.starts_with(&elements));
        self.places.insert(key.to_owned(), place);
    }

    /// True if `key` was given anywhere.
    pub(super) fn is_given(&self, key: &str) -> bool {
        self.places.contains_key(key)
    }

    /// The names of all settings that were given.
    #[cfg(test)]
    pub(super) fn settings(&self) -> BTreeSet<String> {
        self.places.keys().map(|path| setting(path)).collect()
    }

    /// True if a mistake in `key` is noted already.
    pub(super) fn is_wrong(&self, key: &str) -> bool {
        self.mistaken.contains(key)
    }

    /// Where `key` was given, else the section that it would be in.
    pub(super) fn place(&self, key: &str) -> Option<&Place> {
        let mut path = key;
        loop {
            if let Some(place) = self.places.get(path) {
                return Some(place);
            }
            path = &path[..path.rfind(['.', '['])?];
        }
    }

    /// Where `key` was given, for the text of a mistake elsewhere: ` (osprey.toml:7)`.
    pub(super) fn aside(&self, key: &str) -> String {
        self.place(key)
            .map(|place| format!(" ({place})"))
            .unwrap_or_default()
    }

    /// Notes a mistake in `key`, at the place where it was given.
    pub(super) fn wrong(&mut self, key: &str, text: impl Into<String>) {
        let place = self.place(key).cloned();
        self.note(place, key, text.into());
    }

    /// Notes a mistake at a place.
    pub(super) fn wrong_at(&mut self, place: Place, key: &str, text: impl Into<String>) {
        self.note(Some(place), key, text.into());
    }

    fn note(&mut self, place: Option<Place>, key: &str, text: String) {
        self.mistaken.insert(key.to_owned());
        let problem = Problem::new(place, key, text);
        // Several upstreams may take a wrong value from the same place; that is one mistake.
        if !self.problems.contains(&problem) {
            self.problems.push(problem);
        }
    }

    /// Notes something worth a second look.
    pub(super) fn warn(&mut self, key: &str, text: impl Into<String>) {
        let warning = Problem::new(self.place(key).cloned(), key, text.into());
        if !self.warnings.contains(&warning) {
            self.warnings.push(warning);
        }
    }
}

/// The name of the setting at a path: the path without its numbers.
pub(super) fn setting(path: &str) -> String {
    let mut parts = path.split('[');
    let first = parts.next().unwrap_or_default().to_owned();
    let behind = |part: &str| part.split_once(']').map_or("", |(_, rest)| rest).to_owned();
    parts.fold(first, |name, part| name + &behind(part))
}

/// The one of `candidates` that `word` is most likely a slip of, if any is near: at most one edit
/// in three characters.
pub(crate) fn nearest<'c>(
    word: &str,
    candidates: impl IntoIterator<Item = &'c str>,
) -> Option<&'c str> {
    candidates
        .into_iter()
        .map(|candidate| (distance(word, candidate), candidate))
        .filter(|&(distance, candidate)| distance <= (candidate.len() / 3).max(1))
        .min_by_key(|&(distance, _)| distance)
        .map(|(_, candidate)| candidate)
}

/// Edits (insert, delete, replace, swap of neighbours) from `left` to `right`; letter case and
/// `-` for `_` are free.
fn distance(left: &str, right: &str) -> usize {
    let fold = |text: &str| -> Vec<char> {
        text.chars()
            .map(|c| {
                if c == '-' {
                    '_'
                } else {
                    c.to_ascii_lowercase()
                }
            })
            .collect()
    };
    let (left, right) = (fold(left), fold(right));
    let width = right.len() + 1;
    let mut rows: Vec<Vec<usize>> = vec![(0..width).collect()];
    for i in 1..=left.len() {
        let mut row = vec![i; width];
        for j in 1..width {
            let replaced = rows[i - 1][j - 1] + usize::from(left[i - 1] != right[j - 1]);
            row[j] = replaced.min(rows[i - 1][j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && left[i - 1] == right[j - 2] && left[i - 2] == right[j - 1] {
                row[j] = row[j].min(rows[i - 2][j - 2] + 1);
            }
        }
        rows.push(row);
    }
    rows[left.len()][right.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_are_recognised_and_other_words_are_not() {
        let keys = ["addresses", "connect_timeout", "ca", "ttl"];
        assert_eq!(nearest("adresses", keys), Some("addresses"));
        assert_eq!(nearest("connect-timeout", keys), Some("connect_timeout"));
        assert_eq!(nearest("Connect_Timeuot", keys), Some("connect_timeout"));
        assert_eq!(nearest("tll", keys), Some("ttl"));
        assert_eq!(nearest("bananas", keys), None);
    }

    #[test]
    fn paths_are_shown_as_settings() {
        for (path, shown) in [
            ("", ""),
            ("listen.tls", "listen.tls"),
            ("upstream[1]", "upstream"),
            ("upstream[12].addresses[0]", "upstream.addresses"),
            (
                "upstream[0].protect.project[3].name",
                "upstream.protect.project.name",
            ),
        ] {
            assert_eq!(setting(path), shown);
        }
    }

    #[test]
    fn a_setting_that_was_not_given_is_where_its_section_is() {
        let line = |line| Place::File {
            file: "f".into(),
            line,
        };
        let mut notes = Notes::default();
        notes.given("upstream", line(1));
        notes.given("upstream[1]", line(2));
        notes.given("upstream[1].addresses", line(3));
        notes.given("upstream[1].addresses[0]", line(4));
        for (key, at) in [
            ("upstream[1].addresses[0]", Some(4)),
            ("upstream[1].addresses[1]", Some(3)),
            ("upstream[1].tls.ca", Some(2)),
            ("upstream[0].tls.ca", Some(1)),
            ("limits.workers", None),
        ] {
            assert_eq!(notes.place(key), at.map(line).as_ref(), "{key}");
        }
        // The key is given anew, as by a flag: where its elements were given before counts no more.
        notes.given("upstream[1].addresses", Place::Named("--upstream".into()));
        let place = notes.place("upstream[1].addresses[0]");
        assert_eq!(place, Some(&Place::Named("--upstream".into())));
    }

    #[test]
    fn a_swap_is_one_edit() {
        assert_eq!(distance("lisetn", "listen"), 1);
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("same", "same"), 0);
    }
}
