//! The table of rules: `rules.toml`, embedded, and an operator's own file of the same form.
//!
//! Both are read and checked by the same code, so that a rule that could mislead a client (a text
//! that is too long for an error box, one that holds a word on which programs act, a rule that would
//! spend money by itself) is refused by file, line and key, as a configuration is.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::OnceLock;

use aho_corasick::AhoCorasick;
use serde::Deserialize;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::MESSAGE_LIMIT;
use super::condition::{Condition, Fact, version_of};
use super::pattern::Pattern;
use super::words::{self, Words};
use crate::catalog::HologresVersion;
use crate::config::{Language, Place, Problem};

/// Osprey's own table.
const OWN: &str = include_str!("rules.toml");
/// Its name in messages.
const OWN_NAME: &str = "rules.toml";

/// What SQLSTATEs an error has of which the table says nothing: an internal error, or an error of a
/// foreign table.
const USUAL: [&str; 2] = ["XX000", "HV000"];

/// The SQLSTATEs that an error may have in the table. None of them is one that a user's own text can
/// get by RAISE's default, ASSERT, LOAD, or a value that cannot be read.
const POSSIBLE: [&str; 3] = ["XX000", "HV000", "54000"];

/// A text in each language.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Both {
    en: String,
    zh: String,
}

impl Both {
    pub(super) fn of(&self, language: Language) -> &str {
        match language {
            Language::English => &self.en,
            Language::Chinese => &self.zh,
        }
    }
}

/// What becomes of an error of this kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Cure {
    /// Osprey sets the route and runs the statement again, where that is safe.
    Itself,
    /// A session's setting and a second run cure it; Osprey may do so where the operator has
    /// switched the rule on.
    Offered,
    /// Osprey says what to do.
    Advised,
}

/// What a setting does beside curing: then it is never made by Osprey.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Touches {
    Money,
    Limit,
    Label,
}

/// One text of a rule.
#[derive(Debug)]
pub(super) struct Text {
    pub(super) when: Vec<Condition>,
    pub(super) what: Both,
    pub(super) todo: Both,
    pub(super) hint: Option<String>,
}

/// What the page says of a rule beside its texts.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(
    not(test),
    expect(dead_code, reason = "the pages are written by a test")
)]
pub(super) struct Story {
    pub(super) why: Both,
    pub(super) did: Option<Both>,
    pub(super) help: Both,
}

/// An error that the rule must match, and what is known with it.
#[derive(Debug, Default)]
pub(super) struct Example {
    pub(super) error: Option<String>,
    pub(super) facts: Vec<Fact>,
    pub(super) version: Option<HologresVersion>,
}

/// One row of the table.
#[derive(Debug)]
pub struct Rule {
    pub(super) code: String,
    pub(super) title: Both,
    pub(super) cure: Cure,
    pub(super) setting: Option<String>,
    pub(super) sqlstates: Vec<String>,
    pub(super) wrapped: bool,
    pub(super) versions: Option<Condition>,
    pub(super) patterns: Vec<Pattern>,
    pub(super) instead_of: Option<String>,
    pub(super) when: Vec<Condition>,
    pub(super) vendor: String,
    pub(super) texts: Vec<Text>,
    pub(super) story: Option<Story>,
    #[cfg_attr(
        not(test),
        expect(dead_code, reason = "tests hold the rules to their examples")
    )]
    pub(super) example: Example,
}

impl Rule {
    /// The stable code.
    pub fn code(&self) -> &str {
        &self.code
    }

    /// What becomes of such an error.
    pub fn cure(&self) -> Cure {
        self.cure
    }

    /// What it is, in a few words.
    pub fn title(&self, language: Language) -> &str {
        self.title.of(language)
    }

    /// The statement that cures it in a session, together with a second run.
    pub fn setting(&self) -> Option<&str> {
        self.setting.as_deref()
    }

    /// The vendor's page.
    pub fn vendor(&self) -> &str {
        &self.vendor
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

static IN_FORCE: OnceLock<Rules> = OnceLock::new();

impl Rules {
    /// The table that [`super::recognize`] goes by: Osprey's own, or what was put into force.
    pub fn in_force() -> &'static Self {
        IN_FORCE.get_or_init(|| Self::parse(None).expect("a test reads the embedded table"))
    }

    /// Puts a table into force, for the rest of the process: the labels of metrics are made of its
    /// codes. Called before the first session.
    ///
    /// # Errors
    /// The table, if another is in force already.
    pub fn put_into_force(self) -> Result<(), Box<Self>> {
        IN_FORCE.set(self).map_err(Box::new)
    }

    /// Osprey's own table, and behind it the rules of an operator's file. Its codes are the
    /// operator's own (`OPS-17`, never `OSP-…`), and its rules advise only.
    ///
    /// # Errors
    /// Every mistake of the file, by line and key.
    pub fn with_file(path: &Path) -> Result<Self, Vec<Problem>> {
        let name = path.display().to_string();
        let unreadable = |line, text: String| {
            vec![Problem {
                place: Some(Place::File {
                    file: name.clone(),
                    line,
                }),
                key: String::new(),
                text,
            }]
        };
        match std::fs::read(path).map(String::from_utf8) {
            Ok(Ok(text)) => Self::parse(Some((&name, &text))),
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
                format!(
                    "cannot be read: {error}; name a file that exists and that this user may read"
                ),
            )),
        }
    }

    /// Reads the embedded table and, behind it, a file of the operator's: its name and text.
    ///
    /// # Errors
    /// Every mistake, by line and key.
    pub fn parse(own: Option<(&str, &str)>) -> Result<Self, Vec<Problem>> {
        let mut reader = Reader::new(OWN_NAME, OWN, true);
        let mut rules = reader.rules();
        let words = reader.words();
        let mut problems = reader.problems;
        if let Some((name, text)) = own {
            let mut reader = Reader::new(name, text, false);
            reader.codes = rules.iter().map(|rule| rule.code.clone()).collect();
            rules.extend(reader.rules());
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

/// A rule as the file has it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRule {
    code: Spanned<String>,
    title: Spanned<Both>,
    cure: Spanned<Cure>,
    setting: Option<Spanned<String>>,
    touches: Option<Touches>,
    sqlstate: Option<Vec<Spanned<String>>>,
    #[serde(default)]
    wrapped: bool,
    versions: Option<Spanned<String>>,
    #[serde(default)]
    error: Vec<Spanned<String>>,
    instead_of: Option<Spanned<String>>,
    #[serde(default)]
    when: Vec<Spanned<String>>,
    vendor: Spanned<String>,
    text: Spanned<Vec<RawText>>,
    story: Option<Story>,
    example: Spanned<RawExample>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawText {
    #[serde(default)]
    when: Vec<Spanned<String>>,
    what: Spanned<Both>,
    #[serde(rename = "do")]
    todo: Spanned<Both>,
    hint: Option<Spanned<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawExample {
    error: Option<String>,
    #[serde(default)]
    given: Vec<Spanned<String>>,
}

/// Reads one file and notes its mistakes.
struct Reader<'t> {
    name: &'t str,
    text: &'t str,
    root: Option<Spanned<DeTable<'t>>>,
    /// It is Osprey's own table.
    own: bool,
    /// The codes so far.
    codes: BTreeSet<String>,
    problems: Vec<Problem>,
}

impl<'t> Reader<'t> {
    fn new(name: &'t str, text: &'t str, own: bool) -> Self {
        let (root, errors) = DeTable::parse_recoverable(text);
        let mut reader = Self {
            name,
            text,
            root: None,
            own,
            codes: BTreeSet::new(),
            problems: Vec::new(),
        };
        for error in &errors {
            let at = error.span().map_or(0, |span| span.start);
            reader.wrong(at, "", format!("not TOML: {}", error.message()));
        }
        reader.root = errors.is_empty().then_some(root);
        reader
    }

    fn wrong(&mut self, at: usize, key: &str, text: impl Into<String>) {
        let before = &self.text.as_bytes()[..at.min(self.text.len())];
        self.problems.push(Problem {
            place: Some(Place::File {
                file: self.name.to_owned(),
                line: 1 + memchr::memchr_iter(b'\n', before).count(),
            }),
            key: key.to_owned(),
            text: text.into(),
        });
    }

    /// A value of the file as a type of ours; a mistake is noted with the key that it is in.
    fn read<T: Deserialize<'t>>(&mut self, key: &str, value: Spanned<DeValue<'t>>) -> Option<T> {
        let whole = value.clone();
        let deserializer = serde::de::IntoDeserializer::into_deserializer(value);
        match T::deserialize(deserializer) {
            Ok(read) => Some(read),
            Err(error) => {
                let error: toml::de::Error = error;
                let at = error.span().map_or(whole.span().start, |span| span.start);
                let key = key_at(key, &whole, at).unwrap_or_else(|| key.to_owned());
                self.wrong(at, &key, error.message());
                None
            }
        }
    }

    fn words(&mut self) -> Option<Words> {
        let root = self.root.as_ref()?.get_ref();
        let words = root.get("words").cloned();
        let not_retried = root.get("not_retried").cloned();
        let (Some(words), Some(not_retried)) = (words, not_retried) else {
            self.wrong(0, "words", "is missing");
            return None;
        };
        Some(Words {
            around: self.read("words", words)?,
            not_retried: self.read("not_retried", not_retried)?,
        })
    }

    fn rules(&mut self) -> Vec<Rule> {
        let Some(root) = &self.root else {
            return Vec::new();
        };
        let unknown: Vec<_> = root
            .get_ref()
            .iter()
            .filter(|(key, _)| {
                let key: &str = key.get_ref();
                !(key == "rule" || self.own && matches!(key, "words" | "not_retried"))
            })
            .map(|(key, _)| (key.span().start, key.get_ref().to_string()))
            .collect();
        let rules = root.get_ref().get("rule").cloned();
        for (at, key) in unknown {
            self.wrong(
                at,
                &key,
                "is not a key of this file, which holds [[rule]] sections only",
            );
        }
        let Some(rules) = rules else {
            self.wrong(0, "rule", "is missing: there is no [[rule]] section");
            return Vec::new();
        };
        let at = rules.span().start;
        let DeValue::Array(rows) = rules.into_inner() else {
            self.wrong(at, "rule", "expects sections, each headed [[rule]]");
            return Vec::new();
        };
        rows.into_iter()
            .filter_map(|row| {
                let raw = self.read("rule", row)?;
                self.rule(raw)
            })
            .collect()
    }

    /// Checks a rule; what is wrong is noted.
    fn rule(&mut self, raw: RawRule) -> Option<Rule> {
        let before = self.problems.len();
        let code_at = raw.code.span().start;
        let code = raw.code.into_inner();
        self.check_code(code_at, &code);
        let at = raw.cure.span().start;
        let cure = raw.cure.into_inner();
        if !self.own && cure != Cure::Advised {
            self.wrong(
                at,
                "rule.cure",
                "expects \"advised\": what is done by itself or offered is Osprey's own",
            );
        }
        if cure != Cure::Advised && raw.touches.is_some() {
            self.wrong(
                at,
                "rule.cure",
                "expects \"advised\", since its setting costs money, lifts a limit or touches a label",
            );
        }
        if cure == Cure::Offered && raw.setting.is_none() {
            self.wrong(at, "rule.cure", "offers a setting: name it in rule.setting");
        }
        let setting = raw
            .setting
            .and_then(|setting| self.statement("rule.setting", setting));
        let sqlstates = match raw.sqlstate {
            None => USUAL.map(ToOwned::to_owned).to_vec(),
            Some(given) => {
                for sqlstate in &given {
                    if !POSSIBLE.contains(&sqlstate.get_ref().as_str()) {
                        self.wrong(
                            sqlstate.span().start,
                            "rule.sqlstate",
                            format!(
                                "expects some of {}: others are what a user can give an error of his \
                                 own, or what programs act on",
                                POSSIBLE.join(", ")
                            ),
                        );
                    }
                }
                given.into_iter().map(Spanned::into_inner).collect()
            }
        };
        let versions = raw.versions.and_then(|versions| {
            let at = versions.span().start;
            let read = Condition::parse_version(versions.get_ref());
            read.map_err(|why| self.wrong(at, "rule.versions", why))
                .ok()
        });
        let patterns: Vec<_> = raw
            .error
            .into_iter()
            .filter_map(|text| {
                let pattern = Pattern::parse(text.get_ref());
                if pattern.is_none() {
                    let at = text.span().start;
                    self.wrong(
                        at,
                        "rule.error",
                        "expects a text to look for; … stands between two texts",
                    );
                }
                pattern
            })
            .collect();
        if patterns.is_empty() && raw.instead_of.is_none() {
            self.wrong(
                code_at,
                "rule.error",
                "is missing: what the error looks like",
            );
        }
        let instead_of = raw.instead_of.map(|instead| {
            if !self.codes.contains(instead.get_ref()) {
                let at = instead.span().start;
                self.wrong(
                    at,
                    "rule.instead_of",
                    "expects the code of a rule further up",
                );
            }
            instead.into_inner()
        });
        if instead_of.is_some() == raw.when.is_empty() {
            self.wrong(
                code_at,
                "rule.when",
                "goes with rule.instead_of, and that with it",
            );
        }
        let when = self.conditions("rule.when", raw.when);
        let at = raw.vendor.span().start;
        let vendor = raw.vendor.into_inner();
        if !vendor.starts_with("https://") {
            self.wrong(
                at,
                "rule.vendor",
                "expects the address of a page, https://…",
            );
        }
        let title_at = raw.title.span().start;
        let title = raw.title.into_inner();
        self.check_text(title_at, "rule.title", &title, &[]);
        let texts = self.texts(raw.text);
        let example_at = raw.example.span().start;
        let example = self.example(raw.example.into_inner());
        self.check_example(example_at, &example, &patterns, instead_of.is_some());
        self.codes.insert(code.clone());
        (self.problems.len() == before).then_some(Rule {
            code,
            title,
            cure,
            setting,
            sqlstates,
            wrapped: raw.wrapped,
            versions,
            patterns,
            instead_of,
            when,
            vendor,
            texts,
            story: raw.story,
            example,
        })
    }

    fn check_code(&mut self, at: usize, code: &str) {
        let form = code.split_once('-').is_some_and(|(letters, digits)| {
            (2..=8).contains(&letters.len())
                && letters.bytes().all(|b| b.is_ascii_uppercase())
                && (1..=6).contains(&digits.len())
                && digits.bytes().all(|b| b.is_ascii_digit())
        });
        if !form || code.starts_with("OSP-") != self.own {
            self.wrong(
                at,
                "rule.code",
                "expects letters, a hyphen and digits, e.g. \"OPS-17\"; \"OSP-…\" are Osprey's own",
            );
        }
        if self.codes.contains(code) {
            self.wrong(at, "rule.code", format!("{code} is there already"));
        }
    }

    fn conditions(&mut self, key: &str, lines: Vec<Spanned<String>>) -> Vec<Condition> {
        lines
            .into_iter()
            .filter_map(|line| match Condition::parse(line.get_ref()) {
                Ok(condition) => Some(condition),
                Err(why) => {
                    self.wrong(line.span().start, key, why);
                    None
                }
            })
            .collect()
    }

    fn texts(&mut self, raw: Spanned<Vec<RawText>>) -> Vec<Text> {
        let at = raw.span().start;
        let texts: Vec<_> = raw
            .into_inner()
            .into_iter()
            .map(|raw| {
                let at = raw.what.span().start;
                let (what, todo) = (raw.what.into_inner(), raw.todo.into_inner());
                self.check_text(at, "rule.text.what", &what, words::MESSAGE);
                self.check_text(at, "rule.text.do", &todo, words::MESSAGE);
                for language in [Language::English, Language::Chinese] {
                    let shortest = words::shortest(&what, &todo, language);
                    if shortest > MESSAGE_LIMIT {
                        self.wrong(
                            at,
                            "rule.text.what",
                            format!(
                                "is too long: with \"do\" {shortest} characters of {MESSAGE_LIMIT}"
                            ),
                        );
                    }
                }
                Text {
                    when: self.conditions("rule.text.when", raw.when),
                    what,
                    todo,
                    hint: raw
                        .hint
                        .and_then(|hint| self.statement("rule.text.hint", hint)),
                }
            })
            .collect();
        if texts.last().is_none_or(|last| !last.when.is_empty()) {
            self.wrong(at, "rule.text", "expects a last text without \"when\"");
        }
        texts
    }

    /// Checks a text in both languages.
    fn check_text(&mut self, at: usize, key: &str, text: &Both, placeholders: &[&str]) {
        for language in [Language::English, Language::Chinese] {
            if let Err(why) = words::check(text.of(language), language, placeholders) {
                self.wrong(at, key, why);
            }
        }
    }

    /// Checks that a text is one statement.
    fn statement(&mut self, key: &str, text: Spanned<String>) -> Option<String> {
        let at = text.span().start;
        match words::check_statement(text.get_ref()) {
            Ok(()) => Some(text.into_inner()),
            Err(why) => {
                self.wrong(at, key, why);
                None
            }
        }
    }

    fn example(&mut self, raw: RawExample) -> Example {
        let mut example = Example {
            error: raw.error,
            ..Example::default()
        };
        for given in raw.given {
            let version = given.get_ref().strip_prefix("version =").map(version_of);
            match (version, Fact::parse(given.get_ref())) {
                (Some(Some(version)), _) => example.version = Some(version),
                (None, Some(fact)) => example.facts.push(fact),
                _ => self.wrong(
                    given.span().start,
                    "rule.example.given",
                    "expects a fact as in \"when\", or \"version = 1.2.3\"",
                ),
            }
        }
        example
    }

    fn check_example(&mut self, at: usize, example: &Example, patterns: &[Pattern], instead: bool) {
        let squeezed = example
            .error
            .as_ref()
            .map(|error| super::pattern::squeeze(error.as_bytes()).to_ascii_lowercase());
        match squeezed {
            Some(error)
                if patterns
                    .iter()
                    .any(|pattern| pattern.find(&error).is_some()) => {}
            None if instead => {}
            Some(_) => self.wrong(at, "rule.example.error", "does not look as rule.error says"),
            None => self.wrong(
                at,
                "rule.example.error",
                "is missing: an error that the rule matches",
            ),
        }
    }
}

/// The dotted key of the innermost value that an offset lies in. (A table that is written in several
/// places has no one span, so all are walked.)
fn key_at(path: &str, value: &Spanned<DeValue<'_>>, at: usize) -> Option<String> {
    let within = match value.get_ref() {
        DeValue::Table(table) => table.iter().find_map(|(name, value)| {
            let path = format!("{path}.{}", name.get_ref());
            key_at(&path, value, at).or_else(|| name.span().contains(&at).then_some(path))
        }),
        DeValue::Array(rows) => rows.iter().find_map(|row| key_at(path, row, at)),
        _ => None,
    };
    within.or_else(|| value.span().contains(&at).then(|| path.to_owned()))
}
