//! Values out of a TOML table, one key at a time, each mistake noted with its line.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::files::Files;
use super::problem::{Notes, Place, nearest, setting};
use super::settings::Language;
use super::source::Sources;
use super::values::{self, Choices};

/// What may stand at a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Shape {
    /// `[key]`
    Section,
    /// `[[key]]`
    Sections,
    /// The one or the other.
    SectionOrSections,
    Text,
    Path,
    Duration,
    DurationOrOff,
    Size,
    Choice(Vec<&'static str>),
    Texts,
    Numbers,
    Boolean,
    Count,
    CountOrAuto,
}

/// What can be set: every key that was looked for, by its name, and the keys without which a section
/// is not complete (one of `[[key]]`, where `[key]` is as good).
#[derive(Debug, Default)]
pub(super) struct Asked {
    pub(super) shapes: BTreeMap<String, Shape>,
    pub(super) required: BTreeSet<String>,
}

impl Asked {
    /// The names alone.
    #[cfg(test)]
    pub(super) fn names(&self) -> BTreeSet<String> {
        self.shapes.keys().cloned().collect()
    }
}

/// One table of the file, or the place where it would be: a missing one is walked all the same,
/// so that all keys are known when a wrong one needs a suggestion.
pub(super) struct Section<'t> {
    /// Its dotted path, in which an element of an array has its number: `upstream[1].tls`.
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

    /// Its path, as [`Notes`] knows it.
    pub(super) fn path(&self) -> &str {
        &self.path
    }

    /// The path of one of its keys.
    pub(super) fn key(&self, key: &str) -> String {
        if self.path.is_empty() {
            key.to_owned()
        } else {
            format!("{}.{key}", self.path)
        }
    }
}

/// More threads than this serve nobody better, and may be more than the system starts.
const MAX_THREADS: usize = 1024;

/// Reads values out of sections and notes what is wrong with them.
pub(super) struct Reader<'r> {
    sources: &'r Sources,
    /// Where the service manager has put this service's secrets, if it has.
    credentials: Option<&'r Path>,
    /// The files that are named to be read.
    files: &'r mut Files,
    notes: &'r mut Notes,
    /// The schema.
    asked: Asked,
    /// Keys that nothing looked for: path, its section's keys, offset.
    unknown: Vec<(String, Vec<&'static str>, usize)>,
}

impl Reader<'_> {
    pub(super) fn new<'r>(
        sources: &'r Sources,
        credentials: Option<&'r Path>,
        files: &'r mut Files,
        notes: &'r mut Notes,
    ) -> Reader<'r> {
        Reader {
            sources,
            credentials,
            files,
            notes,
            asked: Asked::default(),
            unknown: Vec::new(),
        }
    }

    /// What was noticed so far.
    pub(super) fn notes(&mut self) -> &mut Notes {
        self.notes
    }

    /// What was looked for.
    pub(super) fn asked(self) -> Asked {
        self.asked
    }

    fn place(&self, offset: usize) -> Place {
        self.sources.place(offset)
    }

    /// The value of a key, whose place is remembered.
    fn find<'t>(
        &mut self,
        section: &mut Section<'t>,
        key: &'static str,
        shape: Shape,
    ) -> Option<(String, &'t Spanned<DeValue<'t>>)> {
        section.keys.push(key);
        let full = section.key(key);
        self.asked.shapes.insert(setting(&full), shape);
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
        let found = self.find(parent, key, Shape::Section);
        let table = found.and_then(|(full, value)| {
            let table = value.get_ref().as_table();
            if table.is_none() {
                self.mistyped(&full, value, &format!("a section, [{}]", setting(&full)));
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

    /// The sections of an array of tables, each with its number in its path; one empty one if
    /// there are none.
    pub(super) fn sections<'t>(
        &mut self,
        parent: &mut Section<'t>,
        key: &'static str,
    ) -> Vec<Section<'t>> {
        let Some((full, value)) = self.find(parent, key, Shape::Sections) else {
            return vec![Section {
                path: parent.key(key),
                table: None,
                start: 0,
                keys: Vec::new(),
            }];
        };
        let wanted = format!("sections, each headed [[{}]]", setting(&full));
        let Some(items) = value.get_ref().as_array() else {
            self.mistyped(&full, value, &wanted);
            return Vec::new();
        };
        let mut sections = Vec::new();
        for (number, item) in items.iter().enumerate() {
            let path = format!("{full}[{number}]");
            let start = item.span().start;
            let place = self.place(start);
            self.notes.given(&path, place);
            match item.get_ref().as_table() {
                Some(table) => sections.push(Section {
                    path,
                    table: Some(table),
                    start,
                    keys: Vec::new(),
                }),
                None => self.mistyped(&path, item, &wanted),
            }
        }
        sections
    }

    /// A section, or the sections of an array of tables.
    pub(super) fn section_or_sections<'t>(
        &mut self,
        parent: &mut Section<'t>,
        key: &'static str,
    ) -> Vec<Section<'t>> {
        let value = parent.table.and_then(|table| table.get(key));
        let sections = if value.is_some_and(|value| value.get_ref().is_array()) {
            self.sections(parent, key)
        } else {
            vec![self.section(parent, key)]
        };
        let name = setting(&parent.key(key));
        self.asked.shapes.insert(name, Shape::SectionOrSections);
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
        self.shaped(section, key, Shape::Text, |text, _| parse(text), target);
    }

    /// One of several words.
    pub(super) fn choice<T: Copy>(
        &mut self,
        section: &mut Section<'_>,
        key: &'static str,
        choices: Choices<T>,
        target: &mut T,
    ) {
        let parse = values::one_of(choices);
        let shape = Shape::Choice(values::words(choices));
        self.shaped(section, key, shape, |text, _| parse(text), target);
    }

    /// The same of languages, which go by many names.
    pub(super) fn language(
        &mut self,
        section: &mut Section<'_>,
        key: &'static str,
        target: &mut Language,
    ) {
        let shape = Shape::Choice(values::words(values::LANGUAGES));
        let parse = |text: &str, _: &Path| values::language(text);
        self.shaped(section, key, shape, parse, target);
    }

    /// A time.
    pub(super) fn duration(
        &mut self,
        section: &mut Section<'_>,
        key: &'static str,
        target: &mut Duration,
    ) {
        let parse = |text: &str, _: &Path| values::duration(text);
        self.shaped(section, key, Shape::Duration, parse, target);
    }

    /// A time, or `"off"`.
    pub(super) fn duration_or_off(
        &mut self,
        section: &mut Section<'_>,
        key: &'static str,
        target: &mut Option<Duration>,
    ) {
        let parse = |text: &str, _: &Path| values::duration_or_off(text);
        self.shaped(section, key, Shape::DurationOrOff, parse, target);
    }

    /// A size.
    pub(super) fn size(
        &mut self,
        section: &mut Section<'_>,
        key: &'static str,
        target: &mut usize,
    ) {
        let parse = |text: &str, _: &Path| values::size(text);
        self.shaped(section, key, Shape::Size, parse, target);
    }

    /// The name of a file to be read, relative to the directory of the file that names it.
    pub(super) fn path<T: From<PathBuf>>(
        &mut self,
        section: &mut Section<'_>,
        key: &'static str,
        target: &mut T,
    ) {
        let mut path = None;
        self.own_path(section, key, &mut path);
        if let Some(path) = path {
            self.files.note(&path);
            *target = path.into();
        }
    }

    /// The same of a file that Osprey itself writes.
    pub(super) fn own_path(
        &mut self,
        section: &mut Section<'_>,
        key: &'static str,
        target: &mut Option<PathBuf>,
    ) {
        let credentials = self.credentials;
        let parse =
            |text: &str, directory: &Path| values::path(text, directory, credentials).map(Some);
        self.shaped(section, key, Shape::Path, parse, target);
    }

    /// A text of this shape; `parse` is told the directory of the file that it stands in.
    fn shaped<T>(
        &mut self,
        section: &mut Section<'_>,
        key: &'static str,
        shape: Shape,
        parse: impl Fn(&str, &Path) -> Result<T, String>,
        target: &mut T,
    ) {
        let Some((full, value)) = self.find(section, key, shape) else {
            return;
        };
        let offset = value.span().start;
        let parsed = value.get_ref().as_str();
        match parsed.map(|text| parse(text, self.sources.directory(offset))) {
            Some(Ok(value)) => *target = value,
            Some(Err(text)) => self.wrong(&full, offset, text),
            None => self.mistyped(&full, value, "text in double quotes"),
        }
    }

    /// A list of texts, which replaces what `target` holds. The place of each is remembered under
    /// its index in `target`.
    pub(super) fn texts<T>(
        &mut self,
        section: &mut Section<'_>,
        key: &'static str,
        parse: impl Fn(&str) -> Result<T, String>,
        target: &mut Vec<T>,
    ) {
        let Some((full, value)) = self.find(section, key, Shape::Texts) else {
            return;
        };
        let wanted = "a list of texts, such as [\"one\", \"two\"]";
        let Some(items) = value.get_ref().as_array() else {
            return self.mistyped(&full, value, wanted);
        };
        target.clear();
        for item in items {
            match item.get_ref().as_str().map(&parse) {
                Some(Ok(value)) => {
                    let place = self.place(item.span().start);
                    self.notes
                        .given(&format!("{full}[{}]", target.len()), place);
                    target.push(value);
                }
                Some(Err(text)) => self.wrong(&full, item.span().start, text),
                None => self.mistyped(&full, item, wanted),
            }
        }
    }

    /// A list of whole numbers, which replaces what `target` holds.
    pub(super) fn numbers(
        &mut self,
        section: &mut Section<'_>,
        key: &'static str,
        target: &mut Vec<u32>,
    ) {
        let Some((full, value)) = self.find(section, key, Shape::Numbers) else {
            return;
        };
        let wanted = "a list of whole numbers, such as [1000, 1001]";
        let Some(items) = value.get_ref().as_array() else {
            return self.mistyped(&full, value, wanted);
        };
        target.clear();
        for item in items {
            let integer = item.get_ref().as_integer();
            match integer.map(|integer| u32::from_str_radix(integer.as_str(), integer.radix())) {
                Some(Ok(number)) => target.push(number),
                Some(Err(_)) => {
                    let most = u32::MAX;
                    let text = format!("must be a whole number from 0 to {most}");
                    self.wrong(&full, item.span().start, text);
                }
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
        let Some((full, value)) = self.find(section, key, Shape::Boolean) else {
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
        if let Some((full, value)) = self.find(section, key, Shape::Count)
            && let Some(count) = self.whole(&full, value, "a whole number above 0, without quotes")
        {
            *target = count;
        }
    }

    /// The same for a number that need not be there.
    pub(super) fn optional_count(
        &mut self,
        section: &mut Section<'_>,
        key: &'static str,
        target: &mut Option<usize>,
    ) {
        let mut count = 0;
        self.count(section, key, &mut count);
        if count > 0 {
            *target = Some(count);
        }
    }

    /// A number of threads, from 1 to [`MAX_THREADS`]; `"auto"` leaves `target` as it is.
    pub(super) fn threads_or_auto(
        &mut self,
        section: &mut Section<'_>,
        key: &'static str,
        target: &mut usize,
    ) {
        if let Some((full, value)) = self.find(section, key, Shape::CountOrAuto)
            && value.get_ref().as_str() != Some("auto")
            && let Some(count) = self.whole(&full, value, "a whole number above 0, or \"auto\"")
        {
            if count <= MAX_THREADS {
                *target = count;
            } else {
                let wrong = format!("must be at most {MAX_THREADS}; \"auto\" is one for each core");
                self.wrong(&full, value.span().start, wrong);
            }
        }
    }

    fn whole(&mut self, key: &str, value: &Spanned<DeValue<'_>>, wanted: &str) -> Option<usize> {
        let Some(integer) = value.get_ref().as_integer() else {
            self.mistyped(key, value, wanted);
            return None;
        };
        let wrong = match usize::from_str_radix(integer.as_str(), integer.radix()) {
            Ok(count) if count > 0 => return Some(count),
            Ok(_) => "must be above 0",
            Err(_) if integer.as_str().starts_with('-') => "must be above 0",
            Err(_) => "is too large a number",
        };
        self.wrong(key, value.span().start, wrong);
        None
    }

    /// Notes a missing key of a section that exists.
    pub(super) fn require(&mut self, section: &Section<'_>, key: &'static str, what: &str) {
        self.require_if(true, section, key, what);
    }

    /// The same of a section that is one of `[[key]]`, where `[key]` needs it not.
    pub(super) fn require_if(
        &mut self,
        is_required: bool,
        section: &Section<'_>,
        key: &'static str,
        what: &str,
    ) {
        self.asked.required.insert(setting(&section.key(key)));
        if is_required && section.table.is_some_and(|table| table.get(key).is_none()) {
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
            } else if let Some(key) = self.asked.shapes.keys().find(elsewhere) {
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

fn article(word: &str) -> String {
    let article = if word.starts_with(['a', 'e', 'i', 'o', 'u']) {
        "an"
    } else {
        "a"
    };
    format!("{article} {word}")
}
