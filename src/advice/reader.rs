//! Reading and checking a file of rules: every mistake is noted with its line and key.

use std::collections::BTreeSet;

use serde::Deserialize;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::condition::{Condition, Fact, version_of};
use super::pattern::{Pattern, squeeze};
use super::rule::{Both, Cure, Example, Rule, Story, Text, Touches};
use super::words::{self, MESSAGE_LIMIT, Words};
use crate::config::{Language, Place, Problem};

/// What SQLSTATEs an error has of which the table says nothing: an internal error, or an error of a
/// foreign table.
const USUAL: [&str; 2] = ["XX000", "HV000"];

/// The SQLSTATEs that an error may have in the table. None of them is one that a user's own text can
/// get by RAISE's default, ASSERT, LOAD, or a value that cannot be read.
const POSSIBLE: [&str; 3] = ["XX000", "HV000", "54000"];

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
pub(super) struct Reader<'t> {
    name: &'t str,
    text: &'t str,
    root: Option<Spanned<DeTable<'t>>>,
    /// It is Osprey's own table.
    own: bool,
    /// The codes so far.
    pub(super) codes: BTreeSet<String>,
    pub(super) problems: Vec<Problem>,
}

impl<'t> Reader<'t> {
    /// Parses a file; `own` is true of Osprey's.
    pub(super) fn new(name: &'t str, text: &'t str, own: bool) -> Self {
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

    /// The words around the texts.
    pub(super) fn words(&mut self) -> Option<Words> {
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

    /// Every rule that is right.
    pub(super) fn rules(&mut self, words: Option<&Words>) -> Vec<Rule> {
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
                self.rule(raw, words)
            })
            .collect()
    }

    /// Checks a rule; what is wrong is noted.
    fn rule(&mut self, raw: RawRule, words: Option<&Words>) -> Option<Rule> {
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
        let texts = self.texts(raw.text, words);
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

    fn texts(&mut self, raw: Spanned<Vec<RawText>>, words: Option<&Words>) -> Vec<Text> {
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
                    let texts = [what.of(language), todo.of(language)];
                    let length = words.map_or(0, |words| words.shortest(texts, language));
                    if length > MESSAGE_LIMIT {
                        self.wrong(
                            at,
                            "rule.text.what",
                            format!(
                                "is too long: with \"do\" {length} characters of {MESSAGE_LIMIT}"
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
            .map(|error| squeeze(error.as_bytes()).to_ascii_lowercase());
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
