//! The files of a configuration as one document. Offsets count through all their texts, one behind the
//! other, so that each value knows the file and the line that it stands in.

use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue};

use super::problem::{Notes, Place};

/// One file.
struct Source {
    name: String,
    directory: PathBuf,
    text: String,
    /// The offset of its begin.
    begin: usize,
}

/// The files of a configuration, the main one first.
#[derive(Default)]
pub(super) struct Sources(Vec<Source>);

impl Sources {
    /// Adds a file; `name` stands for it in messages, and relative paths in it begin at its directory.
    pub(super) fn add(&mut self, name: &str, text: String) {
        let end = |last: &Source| last.begin + last.text.len() + 1;
        let begin = self.0.last().map_or(0, end);
        let directory = Path::new(name).parent().map(Path::to_owned);
        self.0.push(Source {
            name: name.to_owned(),
            directory: directory.unwrap_or_default(),
            text,
            begin,
        });
    }

    fn at(&self, offset: usize) -> Option<&Source> {
        let begins_before = |source: &&Source| source.begin <= offset;
        self.0.iter().rev().find(begins_before)
    }

    /// The file and line of an offset.
    pub(super) fn place(&self, offset: usize) -> Place {
        let Some(source) = self.at(offset) else {
            return Place::Named("the configuration".to_owned());
        };
        let text = source.text.as_bytes();
        let before = &text[..(offset - source.begin).min(text.len())];
        Place::File {
            file: source.name.clone(),
            line: 1 + memchr::memchr_iter(b'\n', before).count(),
        }
    }

    /// The directory of the file that an offset is in.
    pub(super) fn directory(&self, offset: usize) -> &Path {
        self.at(offset)
            .map_or(Path::new(""), |source| &source.directory)
    }

    /// All files as one table. Mistakes, as far as the form goes, are noted; `None`: there are some.
    pub(super) fn parse(&self, notes: &mut Notes) -> Option<DeTable<'_>> {
        let mut all = DeTable::new();
        let mut is_right = true;
        for (number, source) in self.0.iter().enumerate() {
            let (root, errors) = DeTable::parse_recoverable(&source.text);
            for error in &errors {
                // The message alone: the error's Display quotes the line.
                let at = source.begin + error.span().map_or(0, |span| span.start);
                let key = error.span().and_then(|span| source.text.get(span));
                let text = match (error.message(), key) {
                    // Of this mistake alone it is certain that no secret is quoted.
                    ("duplicate key", Some(key)) => {
                        format!("not TOML: {key} stands here for the second time")
                    }
                    (message, _) => format!("not TOML: {message}"),
                };
                notes.wrong_at(self.place(at), "", text);
                is_right = false;
            }
            let mut root = moved_table(root.into_inner(), source.begin);
            if number > 0
                && let Some(include) = root.remove(INCLUDE)
            {
                let place = self.place(include.span().start);
                let text = "stands in a file that is included itself; only the main file includes";
                notes.wrong_at(place, INCLUDE, text);
            }
            self.merge(&mut all, root, "", notes);
        }
        is_right.then_some(all)
    }

    /// Adds what another file says. Tables are joined, and so are the tables of an array; whatever else
    /// is said twice is a mistake.
    fn merge<'s>(
        &'s self,
        into: &mut DeTable<'s>,
        other: DeTable<'s>,
        path: &str,
        notes: &mut Notes,
    ) {
        for (key, value) in other {
            let full = match path {
                "" => key.get_ref().to_string(),
                path => format!("{path}.{}", key.get_ref()),
            };
            let Some(before) = into.get_mut(key.get_ref().as_ref()) else {
                into.insert(key, value);
                continue;
            };
            let place = self.place(value.span().start);
            let first = self.place(before.span().start);
            match (before.get_mut(), value.into_inner()) {
                (DeValue::Table(before), DeValue::Table(value)) => {
                    self.merge(before, value, &full, notes);
                }
                (DeValue::Array(before), DeValue::Array(value))
                    if before
                        .iter()
                        .chain(&value)
                        .all(|item| item.get_ref().is_table()) =>
                {
                    value.into_iter().for_each(|item| before.push(item));
                }
                _ => notes.wrong_at(place, &full, format!("is set in {first}, too; set it once")),
            }
        }
    }
}

/// The key of the main file that names others.
pub(super) const INCLUDE: &str = "include";

fn moved_table(table: DeTable<'_>, by: usize) -> DeTable<'_> {
    let moved = |(key, value): (Spanned<_>, _)| {
        let span = key.span();
        let key = Spanned::new(span.start + by..span.end + by, key.into_inner());
        (key, moved(value, by))
    };
    table.into_iter().map(moved).collect()
}

fn moved(value: Spanned<DeValue<'_>>, by: usize) -> Spanned<DeValue<'_>> {
    let span = value.span();
    let inner = match value.into_inner() {
        DeValue::Table(table) => DeValue::Table(moved_table(table, by)),
        DeValue::Array(array) => {
            let items = array.into_iter().map(|item| moved(item, by));
            DeValue::Array(items.collect::<DeArray<'_>>())
        }
        other => other,
    };
    Spanned::new(span.start + by..span.end + by, inner)
}
