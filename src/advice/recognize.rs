//! Telling the errors of the table from every other error, and from what a user made look like one.
//!
//! Whoever may send SQL can put any words into an error: by RAISE or ASSERT, by LOAD, in a value that
//! does not parse, in a row that violates a constraint, in the name of a table. So an error is
//! believed only
//!
//! - with an SQLSTATE that the rule allows, none of which those ways give by themselves;
//! - if its innermost context is not a user's own raising, nor that of another server or language;
//! - if its message is not one of PostgreSQL's own around a user's words, and none of those stands in
//!   front of what the rule looks for, nor an inner SQLSTATE that is another one, nor a quotation mark
//!   but those that open a message which one engine hands on from another;
//! - in detail and context, only if they begin as Hologres' engines begin.

use super::clients;
use super::pattern::{Pattern, squeeze};
use super::rule::{Cure, Rule};
use super::rules::Rules;
use crate::sql::ROUTE_SETTINGS;
use crate::wire::backend::ErrorFields;

/// An error that a rule of the table matches.
#[derive(Debug, Clone)]
pub struct Fault<'r> {
    pub(super) rules: &'r Rules,
    pub(super) rule: &'r Rule,
    /// The MaxCompute project of the file that could not be read, if the text names it; lower case.
    pub project: Option<String>,
}

impl<'r> Fault<'r> {
    /// The rule that matches the error's text; what else is known may put another in its place.
    pub fn rule(&self) -> &'r Rule {
        self.rule
    }

    /// True if it says that the data are encrypted, for which there is another route.
    pub fn is_of_encryption(&self) -> bool {
        self.rule.cure() == Cure::Itself
    }

    /// What cures it together with a second run, if the operator has not to be asked, or has switched
    /// the rule on.
    pub fn cure(&self, switched_on: &[&str]) -> Option<Setting<'r>> {
        match self.rule.cure() {
            Cure::Itself => Some(Setting::Route),
            Cure::Offered => self
                .rule
                .setting()
                .filter(|_| switched_on.contains(&self.rule.code()))
                .map(|sql| {
                    let of_route = ROUTE_SETTINGS.iter().any(|name| sql.contains(name));
                    if of_route {
                        Setting::Route
                    } else {
                        Setting::Other(sql)
                    }
                }),
            Cure::Advised => None,
        }
    }
}

/// A setting that cures an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Setting<'r> {
    /// That of the route for encrypted data.
    Route,
    /// Another one: the statement that makes it.
    Other(&'r str),
}

/// Some part of what Hologres wraps around its engines' errors; for a rule that asks for it, a
/// pattern without any of it is believed only at the very start of the message.
const ENVELOPE: &[&str] = &[
    "pangu://",
    "hos_exception",
    "errorcode",
    "err_msg",
    "server_internal_error",
    "hgerr_",
    "kactorinvokeerror",
    "kinternalerror",
    "ioerror",
    "queryfailed",
    "getresultfailed",
    "execsqlfailed",
    "status{",
    "status:",
    "kms",
];

/// How a detail or a context begins that an engine of Hologres' wrote.
const BEGINNINGS: &[&str] = &[
    "error:",
    "status{",
    "status:",
    "code:",
    "query:[",
    "hos_exception",
    "ioerror:",
    "internalerror:",
    "execqueryfailed",
    "execsqlfailed",
    "getresultfailed",
    "builddescfailed",
    "hgerr_",
];

/// How PostgreSQL's own messages begin that quote what the user wrote or stored.
const QUOTING: &[&str] = &[
    "invalid input syntax",
    "invalid value for",
    "invalid byte sequence",
    "invalid regular expression",
    "invalid name syntax",
    "invalid hexadecimal",
    "malformed ",
    "syntax error",
    "unterminated ",
    "unrecognized ",
    "zero-length ",
    "string is not a valid identifier",
    "could not open ",
    "could not access ",
    "could not load ",
    "could not find ",
    "could not identify ",
    "could not determine ",
    "cache lookup failed",
    "access to ",
    "assertion failed",
    "relation \"",
    "column ",
    "table \"",
    "view \"",
    "schema \"",
    "type ",
    "function ",
    "operator ",
    "aggregate ",
    "procedure ",
    "role \"",
    "user \"",
    "database \"",
    "server \"",
    "extension \"",
    "cursor \"",
    "prepared statement \"",
    "option \"",
    "parameter \"",
    "value ",
    "duplicate key value",
    "null value in column",
    "new row for relation",
    "insert or update on table",
    "update or delete on table",
    "conflicting key value",
    "permission denied for",
    "must be ",
    "date/time field value",
    "time zone ",
    "missing data for column",
    "extra data after",
];

/// The same where an engine of Hologres' has wrapped such a message, without white space: what
/// follows one is a user's.
const QUOTING_WITHIN: &[&str] = &[
    "invalidinputsyntax",
    "invalidvalue",
    "invalidbytesequence",
    "invalidregularexpression",
    "malformed",
    "syntaxerror",
    "unterminated",
    "unrecognized",
    "notavalididentifier",
    "couldnotopenfile",
    "couldnotaccessfile",
    "couldnotloadlibrary",
    "accesstolibrary",
    "assertionfailed",
    "duplicatekey",
    "nullvalueincolumn",
    "violates",
    "permissiondenied",
    "doesnotexist",
    "valuetoolong",
    "outofrange",
    "failingrow",
    "date/timefield",
];

/// How much of an error is looked at, in bytes: no real one is longer. A longer one is passed on.
const LOOKED_AT: usize = 1 << 20;

/// The fault that an ErrorResponse reports, if it is one, by the rules in force.
pub fn recognize(error: ErrorFields<'_>) -> Option<Fault<'static>> {
    Rules::in_force().recognize(error)
}

impl Rules {
    /// The fault that an ErrorResponse reports, if it is one.
    pub fn recognize(&self, error: ErrorFields<'_>) -> Option<Fault<'_>> {
        let (message, detail, context) = (error.message(), error.get(b'D'), error.get(b'W'));
        if message.len() + detail.len() + context.len() > LOOKED_AT
            || made_by_user(error)
            || quotes_user(message)
        {
            return None;
        }
        let sqlstate = String::from_utf8_lossy(error.sqlstate());
        let fault = self.recognize_text(message, &sqlstate).or_else(|| {
            [detail, context]
                .into_iter()
                .filter(|text| begins_as_engine(text))
                .find_map(|text| self.recognize_text(text, &sqlstate))
        })?;
        // An error that clients act on is left alone, except where running again on another engine
        // may help.
        (fault.is_of_encryption() || !clients::act_on(error)).then_some(fault)
    }

    /// The rule whose words stand in an error, whether they are believed or not: for people who ask
    /// why an error was not recognised.
    pub fn resembling(&self, error: ErrorFields<'_>) -> Option<&Rule> {
        [error.message(), error.get(b'D'), error.get(b'W')]
            .into_iter()
            .filter(|text| text.len() <= LOOKED_AT)
            .find_map(|text| {
                let text = squeeze(text).to_ascii_lowercase();
                let mut candidates = self.candidates(&text);
                let found = candidates.find(|(_, pattern)| pattern.find(&text).is_some());
                found.map(|(rule, _)| rule)
            })
    }

    fn recognize_text(&self, text: &[u8], sqlstate: &str) -> Option<Fault<'_>> {
        let lower = squeeze(text).to_ascii_lowercase();
        let (rule, start) = self.candidates(&lower).find_map(|(rule, pattern)| {
            let start = believed(rule, pattern, &lower, sqlstate)?;
            Some((rule, start))
        })?;
        let project = path(&lower[start..]).and_then(project);
        Some(Fault {
            rules: self,
            rule,
            project,
        })
    }
}

/// Where the pattern stands in the text, if it is Hologres that says so.
fn believed(rule: &Rule, pattern: &Pattern, text: &str, sqlstate: &str) -> Option<usize> {
    let allowed = |sqlstate: &str| {
        let sqlstates = &mut rule.sqlstates.iter();
        sqlstates.any(|known| known.eq_ignore_ascii_case(sqlstate))
    };
    if !allowed(sqlstate) {
        return None;
    }
    let start = pattern.find(text)?.start;
    let before = text[..start]
        .strip_prefix("error:")
        .unwrap_or(&text[..start]);
    let wrapped = before.is_empty() || ENVELOPE.iter().any(|part| text.contains(part));
    let quoted = quotes(before) || QUOTING_WITHIN.iter().any(|part| before.contains(part));
    let inner = before
        .match_indices("hgerr_code")
        .filter_map(|(at, found)| before.get(at + found.len()..at + found.len() + 5))
        .all(allowed);
    ((wrapped || !rule.wrapped) && !quoted && inner).then_some(start)
}

/// True if a quotation mark stands in a squeezed text that does not open a message which an engine
/// hands on: what follows it may be a user's value or name.
fn quotes(text: &str) -> bool {
    text.match_indices(['"', '\'']).any(|(at, mark)| {
        mark == "'" || !(text[..at].ends_with("message:") || text[..at].ends_with("msg:"))
    })
}

/// The first `pangu://…` of a squeezed text in lower case.
fn path(text: &str) -> Option<&str> {
    let rest = &text[text.find("pangu://")?..];
    let end = rest
        .find([',', '"', '\'', '}', ')', ';'])
        .unwrap_or(rest.len());
    let end = rest[..end].find("errorcode").unwrap_or(end);
    Some(&rest[..end])
}

/// The project of `…/product/odps/<project>/data/…`. A name that no project can have (MaxCompute: 3
/// to 28 letters, digits and underscores, a letter first) is not taken for one.
fn project(path: &str) -> Option<String> {
    let (_, rest) = path.split_once("/product/odps/")?;
    let (project, rest) = rest.split_once('/')?;
    let named = (3..=28).contains(&project.len())
        && project.starts_with(|c: char| c.is_ascii_lowercase())
        && project
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'_');
    (named && rest.starts_with("data/")).then(|| project.to_owned())
}

/// The error was raised by what a user wrote: by PL/pgSQL's RAISE or ASSERT, or it comes out of another
/// procedural language or another server. The routine that raised it (`R`) is the server's own word,
/// which no language of messages translates and nobody who writes SQL can choose. Where a gateway has
/// left it out, the words RAISE and ASSERT tell, which are not translated either; they may stand
/// anywhere in the context, since each language has its own order of words and a function's name may
/// break the line. (A statement that the context quotes may have them, too.)
fn made_by_user(error: ErrorFields<'_>) -> bool {
    let (routine, context) = (error.get(b'R'), error.get(b'W'));
    let says = |words: &str| memchr::memmem::find(context, words.as_bytes()).is_some();
    matches!(routine, b"exec_stmt_raise" | b"exec_stmt_assert")
        || routine.is_empty() && (says("RAISE") || says("ASSERT"))
        || memchr::memmem::find_iter(context, b"PL/")
            .any(|at| !context[at..].starts_with(b"PL/pgSQL"))
        || says("dblink")
        || says("remote SQL")
}

fn quotes_user(message: &[u8]) -> bool {
    let message = message.trim_ascii();
    QUOTING.iter().any(|prefix| {
        message
            .get(..prefix.len())
            .is_some_and(|start| start.eq_ignore_ascii_case(prefix.as_bytes()))
    }) || [&b"does not exist"[..], b"already exists"]
        .iter()
        .any(|end| message.ends_with(end))
}

/// A detail or a context repeats the statement or the data; what an engine wrote begins otherwise.
fn begins_as_engine(text: &[u8]) -> bool {
    let head = squeeze(&text[..text.len().min(256)]).to_ascii_lowercase();
    BEGINNINGS
        .iter()
        .any(|beginning| head.starts_with(beginning))
}
