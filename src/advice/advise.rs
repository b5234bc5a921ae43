//! Choosing a rule's text by what is known, and filling it in.

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;
use std::time::SystemTime;

use super::clients;
use super::condition::{Condition, kms_key};
use super::context::AdviceContext;
use super::recognize::Fault;
use super::redact::{redact_bytes, redact_path};
use super::rule::Rule;
use super::words;
use crate::config::Language;
use crate::keys::Origin;
use crate::keys::cloud::timestamp;
use crate::protection::Encoding;
use crate::sql::unicode_escape;
use crate::wire::backend::ErrorFields;
use crate::wire::compose;

/// Where the pages are, if nothing else is said.
const DOCS: &str = "docs";

/// What a client gets of a long text of Hologres': so many characters of its beginning, where the
/// failure and the file are, and of its end, where the storage layer's own words are; or, where the words
/// that the error is known by stand elsewhere, so many from where these begin and to behind where they end.
pub(super) const SAID_FIRST: usize = 200;
pub(super) const SAID_LAST: usize = 100;
/// Of the above, so many characters in front of the words, or behind them.
const AROUND: usize = 40;
/// What stands for the rest.
pub(super) const CUT: &str = " … ";

/// The fields of the error that the client gets. SQLSTATE and severity stay as Hologres sent them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Advice<'r> {
    /// The row's stable code, e.g. `OSP-1001`.
    pub code: &'r str,
    /// One sentence that says what happened, one that says what to do.
    pub message: String,
    /// The code and its page, why the statement was not run again, and what Hologres said.
    pub detail: String,
    /// One statement or command that helps; `None`: there is none, and Hologres' own hint stays.
    pub hint: Option<String>,
    /// All that Hologres said, if the detail holds a part of it and the id of the log's line.
    pub whole: Option<String>,
    /// The client gets the error as it came: programs act on its words or its SQLSTATE, or the row
    /// is not for this version.
    pub untouched: bool,
    /// Paths are taken out of what the client gets of Hologres' own.
    pub redact: bool,
    /// The encoding in which the client is told.
    pub encoding: Encoding,
}

/// The message, detail and hint for `fault`, which `error` reported.
pub fn advise<'r>(
    fault: &Fault<'r>,
    error: ErrorFields<'_>,
    context: &AdviceContext<'_>,
) -> Advice<'r> {
    let advice = advise_in(fault, error, context);
    // Chinese in an encoding that has none.
    if context.language != Language::English && !context.encoding.holds(&advice.message) {
        let language = Language::English;
        let context = AdviceContext {
            language,
            ..*context
        };
        return advise_in(fault, error, &context);
    }
    advice
}

fn advise_in<'r>(
    fault: &Fault<'r>,
    error: ErrorFields<'_>,
    context: &AdviceContext<'_>,
) -> Advice<'r> {
    let now = SystemTime::now();
    let holds = |conditions: &[Condition]| {
        conditions
            .iter()
            .all(|condition| condition.holds(context, now))
    };
    let matched = fault.rule();
    let rule = fault
        .rules
        .instead_of(matched)
        .find(|rule| holds(&rule.when))
        .unwrap_or(matched);
    let for_this_version =
        |versions: &Condition| context.version.is_none() || versions.holds(context, now);
    let around = &fault.rules.words().around;
    let language = context.language;
    let names = words::Names {
        relation: context.reason.map(|reason| reason.relation.as_str()),
        project: context
            .reason
            .and_then(|reason| reason.project.as_deref())
            .or(fault.project.as_deref()),
        key_id: kms_key(context).and_then(|key| key.id.as_deref()),
        version: context.version,
    };
    let text = rule.texts.iter().find(|text| holds(&text.when));
    let message = text.map(|text| {
        let texts = [text.what.of(language), text.todo.of(language)];
        words::message(texts, names, around, language)
    });
    let hint = text
        .and_then(|text| text.hint.as_deref())
        .and_then(|hint| statement(hint, context.database, names.key_id, context.encoding));

    let mut lines = vec![words::fill(
        around.code.of(language),
        &[("code", rule.code()), ("page", &page(rule, context))],
        language,
    )];
    let cure = fault.cure(context.switched_on);
    if let Some(why) = context.not_retried.filter(|_| cure.is_some()) {
        let words = &fault.rules.words().not_retried;
        let why = words.iter().find(|known| known.label == why.label());
        lines.extend(why.map(|why| {
            let values = [("why", why.why.of(language))];
            words::fill(around.why.of(language), &values, language)
        }));
    }
    let record = context.reason.and_then(|reason| reason.key.as_deref());
    if let Some(record) = record.filter(|record| record.origin == Origin::Cloud)
        && rule.code() != matched.code()
        && rule.when.iter().any(|condition| condition.is_of_key())
    {
        let time = timestamp::format(record.looked_up);
        let values = [("time", time.as_str())];
        lines.push(words::fill(around.as_of.of(language), &values, language));
    }
    let said = said(error, hint.is_some(), context.redact);
    let words = matched.patterns.iter();
    let words = words.filter_map(|pattern| pattern.find_as_written(&said));
    let words = words.reduce(|one, other| one.start.min(other.start)..one.end.max(other.end));
    let shortened = context.log_id.zip(shortened(&said, words));
    lines.push(match &shortened {
        Some((id, short)) => {
            let values = [("id", *id), ("said", short)];
            words::fill(around.said_short.of(language), &values, language)
        }
        None => words::fill(around.said.of(language), &[("said", &said)], language),
    });
    Advice {
        code: rule.code(),
        message: message.unwrap_or_default(),
        detail: lines.join("\n"),
        hint,
        whole: shortened.is_some().then_some(said),
        encoding: context.encoding,
        redact: context.redact,
        untouched: text.is_none()
            || !is_legible(error)
            || clients::act_on(error)
            || !matched.versions.iter().all(for_this_version),
    }
}

/// True if what Hologres said is text, so that it can be said again.
fn is_legible(error: ErrorFields<'_>) -> bool {
    let said = error
        .iter()
        .filter(|(code, _)| matches!(code, b'M' | b'D' | b'H'));
    said.map(|(_, value)| std::str::from_utf8(value))
        .all(|text| text.is_ok())
}

/// What Hologres said, with its detail, and with its hint if another takes that one's place.
fn said(error: ErrorFields<'_>, with_hint: bool, redact: bool) -> String {
    [("", b'M'), ("\nDETAIL: ", b'D'), ("\nHINT: ", b'H')]
        .into_iter()
        .filter(|&(_, code)| code != b'H' || with_hint)
        .map(|(name, code)| (name, String::from_utf8_lossy(error.get(code))))
        .filter(|(_, text)| !text.is_empty())
        .map(|(name, text)| {
            if redact {
                format!("{name}{}", redact_path(&text))
            } else {
                format!("{name}{text}")
            }
        })
        .collect()
}

/// The parts of a text that tell most, around where the `words` stand that the error is known by;
/// `None`: it is short enough as it is.
fn shortened(text: &str, words: Option<Range<usize>>) -> Option<String> {
    let characters: Vec<usize> = text.char_indices().map(|(at, _)| at).collect();
    let length = characters.len();
    if length <= SAID_FIRST + SAID_LAST + CUT.chars().count() {
        return None;
    }
    let nth = |byte: usize| characters.partition_point(|at| *at < byte);
    let (begin, end) = words.map_or((0, length), |words| (nth(words.start), nth(words.end)));
    let part = |first: usize, behind: usize| {
        let to = characters.get(behind).copied().unwrap_or(text.len());
        &text[characters[first]..to]
    };
    let mut said = String::new();
    let first = if begin < SAID_FIRST - AROUND {
        0
    } else {
        said.push_str(CUT);
        begin - AROUND
    };
    let mut next = (first + SAID_FIRST).min(length);
    said.push_str(part(first, next));
    // From where the last part begins: behind the first, and with the end of the words in it.
    let last = if end + AROUND >= length {
        length
    } else {
        end + AROUND
    };
    let from = last.saturating_sub(SAID_LAST).max(next);
    if from < last {
        if from > next {
            said.push_str(CUT);
        }
        said.push_str(part(from, last));
        next = last;
    }
    if next < length {
        said.push_str(CUT);
    }
    Some(said)
}

/// The statement of a rule; `None` if it names a key and none is known that can stand in a command, or
/// if the database's name is a word that clients decide by.
pub(super) fn statement(
    hint: &str,
    database: &str,
    key_id: Option<&str>,
    encoding: Encoding,
) -> Option<String> {
    let plain = |id: &&str| {
        !id.is_empty()
            && id
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"-_:/.".contains(&b))
    };
    let key_id = key_id.filter(plain);
    if hint.contains("{key_id}") && key_id.is_none() {
        return None;
    }
    let database = quote_identifier(database, encoding);
    let values = [
        ("database", database.as_str()),
        ("key_id", key_id.unwrap_or_default()),
    ];
    let statement = words::fill(hint, &values, Language::English);
    clients::decide_by(&statement)
        .is_none()
        .then_some(statement)
}

/// Where a rule is explained: its section of Osprey's pages, or the vendor's page for a rule of the
/// operator's that tells no more.
fn page(rule: &Rule, context: &AdviceContext<'_>) -> String {
    if rule.story.is_none() {
        return rule.vendor().to_owned();
    }
    // An address in which programs would find one of the words that they decide by is not told.
    let told = |docs: &&str| clients::decide_by(docs).is_none();
    let base = context.docs.filter(told).unwrap_or(DOCS);
    let directory = match context.language {
        Language::English => "",
        Language::Chinese => "/zh",
    };
    format!(
        "{base}{directory}/errors#{}",
        rule.code().to_ascii_lowercase()
    )
}

/// An identifier as SQL spells it, always in quotes; in characters that the client has.
fn quote_identifier(name: &str, encoding: Encoding) -> String {
    let quoted = name.replace('"', "\"\"");
    if encoding.holds(name) {
        return format!("\"{quoted}\"");
    }
    let spelt = quoted.chars().map(|character| match character {
        '\\' => "\\\\".to_owned(),
        ' '..='~' => character.to_string(),
        character => unicode_escape(character),
    });
    format!("U&\"{}\"", spelt.collect::<String>())
}

impl Advice<'_> {
    /// The whole ErrorResponse for the client: Hologres' own `error`, in the client's encoding, with
    /// this message, detail and hint. Severity, SQLSTATE, position, file, line, routine and all else stay as Hologres sent them.
    pub fn frame(&self, error: ErrorFields<'_>) -> Vec<u8> {
        let mut frame = Vec::new();
        // What is passed on as it is (a context, the query of a function) may have the path, too.
        let told = |value| {
            if self.redact {
                redact_bytes(value)
            } else {
                Cow::Borrowed(value)
            }
        };
        let passed = error.iter().map(|(code, value)| (code, told(value)));
        let passed: Vec<(u8, Cow<'_, [u8]>)> = passed.collect();
        let passed = passed.iter().map(|(code, value)| (*code, &**value));
        if self.untouched {
            compose::error(&mut frame, passed);
            return frame;
        }
        let told = |text| self.encoding.to_client(text);
        let (message, detail) = (told(&self.message), told(&self.detail));
        let hint = self.hint.as_deref().map(told);
        let hint = hint.as_ref().map(|hint| (b'H', &**hint));
        let ours = [(b'M', &*message), (b'D', &*detail)];
        let replaced = |code: u8| matches!(code, b'M' | b'D') || code == b'H' && hint.is_some();
        let (before, after): (Vec<_>, Vec<_>) = passed
            .filter(|&(code, _)| !replaced(code))
            .partition(|(code, _)| matches!(code, b'S' | b'V' | b'C'));
        let fields = before.into_iter().chain(ours).chain(hint).chain(after);
        compose::error(&mut frame, fields);
        frame
    }
}

/// As psql prints it.
impl fmt::Display for Advice<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(formatter, "ERROR:  {}", self.message)?;
        writeln!(formatter, "DETAIL:  {}", self.detail)?;
        match &self.hint {
            Some(hint) => writeln!(formatter, "HINT:  {hint}"),
            None => Ok(()),
        }
    }
}
