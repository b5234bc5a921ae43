//! Values out of a TOML table, one key at a time, each mistake noted with its line.

use std::collections::BTreeSet;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::problem::{Notes, Place, nearest};

/// One table of the file, or the place where it would be: a missing one is walked all the same,
/// so that all keys are known when a wrong one needs a suggestion.
pub(super) struct Section<'t> {
    path: String,
    table: Option<&'t DeTable<'t>>,
    start: usize,
    keys: Vec<&'static str>,
}

impl<'t> Section<'t> {
    /// The file's top level.
    pub(super) fn root(table: &'t DeTable<'t>) -> Self {
        Self {
            path: String::new(),
            table: Some(table),
            start: 0,
            keys: Vec::new(),
        }
    }

    /// True if the file has this section.
    pub(super) fn exists(&self) -> bool {
        self.table.is_some()
    }

    fn key(&self, key: &str) -> String {
        if self.path.is_empty() {
            key.to_owned()
        } else {
            format!("{}.{key}", self.path)
        }
    }
}

/// Reads values out of sections and notes what is wrong with them.
pub(super) struct Reader<'r> {
    name: &'r str,
    text: &'r str,
    notes: &'r mut Notes,
    /// Every key that was looked for: the schema.
    asked: BTreeSet<String>,
    /// Keys that nothing looked for: dotted key, its section's keys, offset.
    unknown: Vec<(String, Vec<&'static str>, usize)>,
}

impl Reader<'_> {
    pub(super) fn new<'r>(name: &'r str, text: &'r str, notes: &'r mut Notes) -> Reader<'r> {
        Reader {
            name,
            text,
            notes,
            asked: BTreeSet::new(),
            unknown: Vec::new(),
        }
    }

    /// Every key that was looked for.
    pub(super) fn keys(self) -> BTreeSet<String> {
        self.asked
    }

    fn place(&self, offset: usize) -> Place {
        let before = &self.text.as_bytes()[..offset.min(self.text.len())];
        let line = 1 + memchr::memchr_iter(b'\n', before).count();
        Place::File {
            file: self.name.to_owned(),
            line,
        }
    }

    /// The value of a key, whose place is remembered.
    fn find<'t>(
        &mut self,
        section: &mut Section<'t>,
        key: &'static str,
    ) -> Option<(String, &'t Spanned<DeValue<'t>>)> {
        section.keys.push(key);
        let full = section.key(key);
        self.asked.insert(full.clone());
        let value = section.table?.get(key)?;
        let place = self.place(value.span().start);
        self.notes.given(&full, place);
        Some((full, value))
    }

    /// Notes a mistake at an offset of the text.
    pub(super) fn wrong(&mut self, key: &str, offset: usize, text: impl Into<String>) {
        let place = self.place(offset);
        self.notes.wrong_at(place, key, text);
    }

    fn mistyped(&mut self, key: &str, value: &Spanned<DeValue<'_>>, wanted: &str) {
        let found = value.get_ref().type_str();
        self.wrong(
            key,
            value.span().start,
            format!("expects {wanted}, found {}", article(found)),
        );
    }

    /// A section of its own: `[parent.key]`.
    pub(super) fn section<'t>(
        &mut self,
        parent: &mut Section<'t>,
        key: &'static str,
    ) -> Section<'t> {
        let path = parent.key(key);
        let found = self.find(parent, key);
        let table = found.and_then(|(full, value)| {
            let table = value.get_ref().as_table();
            if table.is_none() {
                self.mistyped(&full, value, &format!("a section, [{full}]"));
            }
            table.map(|table| (table, value.span().start))
        });
        let start = table.map_or(0, |(_, start)| start);
        Section {
            path,
            table: table.map(|(table, _)| table),
            start,
            keys: Vec::new(),
        }
    }

    /// The sections of an array of tables; one empty one if there are none.
    pub(super) fn sections<'t>(
        &mut self,
        parent: &mut Section<'t>,
        key: &'static str,
    ) -> Vec<Section<'t>> {
        let path = parent.key(key);
        let section = |table, start| Section {
            path: path.clone(),
            table,
            start,
            keys: Vec::new(),
        };
        let Some((full, value)) = self.find(parent, key) else {
            return vec![section(None, 0)];
        };
        let wanted = format!("sections, each headed [[{full}]]");
        let Some(items) = value.get_ref().as_array() else {
            self.mistyped(&full, value, &wanted);
            return Vec::new();
        };
        let mut sections = Vec::new();
        for item in items {
            match item.get_ref().as_table() {
                Some(table) => sections.push(section(Some(table), item.span().start)),
                None => self.mistyped(&full, item, &wanted),
            }
        }
        sections
    }

    /// A text, parsed by `parse`; so the others below, each for its type. A missing key leaves
    /// `target` as it is.
    pub(super) fn text<T>(
        &mut self,
        section: &mut Section<'_>,
        key: &'static str,
        parse: impl Fn(&str) -> Result<T, String>,
        target: &mut T,
    ) {
        let Some((full, value)) = self.find(section, key) else {
            return;
        };
        match value.get_ref().as_str().map(parse) {
            Some(Ok(value)) => *target = value,
            Some(Err(text)) => self.wrong(&full, value.span().start, text),
            None => self.mistyped(&full, value, "text in double quotes"),
        }
    }

    /// A list of texts, which replaces what `target` holds.
    pub(super) fn texts<T>(
        &mut self,
        section: &mut Section<'_>,
        key: &'static str,
        parse: impl Fn(&str) -> Result<T, String>,
        target: &mut Vec<T>,
    ) {
        let Some((full, value)) = self.find(section, key) else {
            return;
        };
        let wanted = "a list of texts, such as [\"one\", \"two\"]";
        let Some(items) = value.get_ref().as_array() else {
            return self.mistyped(&full, value, wanted);
        };
        target.clear();
        for item in items {
            match item.get_ref().as_str().map(&parse) {
                Some(Ok(value)) => target.push(value),
                Some(Err(text)) => self.wrong(&full, item.span().start, text),
                None => self.mistyped(&full, item, wanted),
            }
        }
    }

    /// True or false.
    pub(super) fn boolean(
        &mut self,
        section: &mut Section<'_>,
        key: &'static str,
        target: &mut bool,
    ) {
        let Some((full, value)) = self.find(section, key) else {
            return;
        };
        match value.get_ref().as_bool() {
            Some(value) => *target = value,
            None => self.mistyped(&full, value, "true or false, without quotes"),
        }
    }

    /// A whole number above 0.
    pub(super) fn count(
        &mut self,
        section: &mut Section<'_>,
        key: &'static str,
        target: &mut usize,
    ) {
        let Some((full, value)) = self.find(section, key) else {
            return;
        };
        match count(value.get_ref()) {
            Some(value) => *target = value,
            None => self.mistyped(&full, value, "a whole number above 0, without quotes"),
        }
    }

    /// A whole number above 0; `"auto"` leaves `target` as it is.
    pub(super) fn count_or_auto(
        &mut self,
        section: &mut Section<'_>,
        key: &'static str,
        target: &mut usize,
    ) {
        let Some((full, value)) = self.find(section, key) else {
            return;
        };
        if value.get_ref().as_str() == Some("auto") {
            return;
        }
        match count(value.get_ref()) {
            Some(value) => *target = value,
            None => self.mistyped(&full, value, "a whole number above 0, or \"auto\""),
        }
    }

    /// Notes a missing key of a section that exists.
    pub(super) fn require(&mut self, section: &Section<'_>, key: &'static str, what: &str) {
        if section.table.is_some_and(|table| table.get(key).is_none()) {
            let place = self.place(section.start);
            self.notes
                .wrong_at(place, &section.key(key), format!("is missing: {what}"));
        }
    }

    /// A key that does not exist on purpose.
    pub(super) fn forbid(&mut self, section: &mut Section<'_>, key: &'static str, why: &str) {
        if let Some(value) = section.table.and_then(|table| table.get(key)) {
            section.keys.push(key);
            self.wrong(&section.key(key), value.span().start, why);
        }
    }

    /// Notes the keys of a section that nothing looked for.
    pub(super) fn end(&mut self, section: &Section<'_>) {
        for key in section.table.into_iter().flat_map(DeTable::keys) {
            let name = key.get_ref().as_ref();
            if !section.keys.contains(&name) {
                let full = section.key(name);
                self.unknown
                    .push((full, section.keys.clone(), key.span().start));
            }
        }
    }

    /// Notes each unknown key with what may have been meant; called when all are known.
    pub(super) fn report_unknown(&mut self) {
        for (full, siblings, offset) in std::mem::take(&mut self.unknown) {
            let own = full.rsplit('.').next().unwrap_or(&full);
            let elsewhere = |asked: &&String| asked.rsplit('.').next() == Some(own);
            let text = if let Some(key) = nearest(own, siblings.iter().copied()) {
                format!("is not a setting; did you mean \"{key}\"?")
            } else if let Some(key) = self.asked.iter().find(elsewhere) {
                format!("is not a setting here; did you mean {key}?")
            } else {
                format!(
                    "is not a setting; what can stand here: {}",
                    siblings.join(", ")
                )
            };
            let place = self.place(offset);
            self.notes.wrong_at(place, &full, text);
        }
    }
}

fn count(value: &DeValue<'_>) -> Option<usize> {
    let integer = value.as_integer()?;
    usize::from_str_radix(integer.as_str(), integer.radix())
        .ok()
        .filter(|&count| count > 0)
}

fn article(word: &str) -> String {
    let article = if word.starts_with(['a', 'e', 'i', 'o', 'u']) {
        "an"
    } else {
        "a"
    };
    format!("{article} {word}")
}
