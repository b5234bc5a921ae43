//! What the tests of the advice have in common: errors, what is known around them, and the examples
//! of the table.

mod client;
mod own;
mod recognition;
mod table;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::condition::{Condition, Fact};
use super::rule::Text;
use super::words::MESSAGE_LIMIT;
use super::*;
use crate::catalog::HologresVersion;
use crate::config::Language;
use crate::keys::cloud::timestamp;
use crate::keys::{Encryption, KeyRecord, KeyState, KmsKey, Origin};
use crate::protection::{ComputingResource, Reason, Source};
use crate::wire::backend::ErrorFields;
use crate::wire::compose;

const AS_PUBLISHED: &str = "status { code: SERVER_INTERNAL_ERROR message: \"hos_exception: IO error: \
    Failed to execute pangu open normal file pangu://10.1.2.3:10240/product/odps/sales_prod/data/\
    20240101/part/0001, errorcode: 9, errorcode_description: invalid argument, err_msg: \
    PanguParameterInvalidException";
const LANGUAGES: [Language; 2] = [Language::English, Language::Chinese];

/// The body of an ErrorResponse.
fn body(fields: &[(u8, &str)]) -> Vec<u8> {
    let fields = fields.iter().map(|(code, value)| (*code, value.as_bytes()));
    let mut frame = Vec::new();
    compose::error(&mut frame, fields);
    frame.split_off(5)
}

/// An internal error of this message, as Hologres sends it.
fn internal(message: &str) -> Vec<u8> {
    body(&[
        (b'S', "ERROR"),
        (b'V', "ERROR"),
        (b'C', "XX000"),
        (b'M', message),
    ])
}

/// The fault of an internal error with this message, detail and context.
fn recognized_of(message: &str, detail: &str, context: &str) -> Option<Fault<'static>> {
    let fields = [
        (b'C', "XX000"),
        (b'M', message),
        (b'D', detail),
        (b'W', context),
    ];
    recognize(ErrorFields::new(&body(&fields)))
}

fn recognized(message: &str) -> Option<Fault<'static>> {
    recognize(ErrorFields::new(&internal(message)))
}

/// The code of the row that an internal error of this message matches.
fn code(message: &str) -> Option<&'static str> {
    recognized(message).map(|fault| fault.rule().code())
}

fn advise_on(message: &str, context: &AdviceContext<'_>) -> Advice<'static> {
    let body = internal(message);
    let error = ErrorFields::new(&body);
    let fault = recognize(error).unwrap_or_else(|| panic!("not recognised: {message}"));
    advise(&fault, error, context)
}

fn rule(code: &str) -> &'static Rule {
    let found = Rules::in_force().iter().find(|rule| rule.code() == code);
    found.unwrap_or_else(|| panic!("there is no {code}"))
}

/// The error that a rule's example has, or that of the rule in whose place it stands.
pub(super) fn example_error(rule: &'static Rule) -> &'static str {
    let instead = || self::rule(rule.instead_of.as_deref().unwrap_or_default());
    rule.example
        .error
        .as_deref()
        .unwrap_or_else(|| example_error(instead()))
}

/// What a rule advises on its example.
pub(super) fn advised(rule: &'static Rule, language: Language) -> Advice<'static> {
    advised_where(rule, &rule.example.facts, rule.example.version, language)
}

/// What a rule advises on its example with each of its texts, where that one counts.
pub(super) fn advised_each(rule: &'static Rule, language: Language) -> Vec<Advice<'static>> {
    let each = |(at, text): (usize, &'static Text)| {
        let mut facts = rule.example.facts.clone();
        let mut version = None;
        for condition in &text.when {
            match *condition {
                Condition::Is(fact) => facts.push(fact),
                Condition::IsNot(fact) => facts.retain(|known| *known != fact),
                Condition::From(from) => version = Some(from),
                Condition::Before(before) => version = Some(one_before(before)),
            }
        }
        let tried = [version.or(rule.example.version), version].map(|version| {
            let context = known_around(rule, &facts, version);
            let holds = |text: &Text| {
                let now = SystemTime::now();
                text.when.iter().all(|when| when.holds(&context, now))
            };
            (rule.texts.iter().position(holds), version)
        });
        let found = tried.into_iter().find(|(found, _)| *found == Some(at));
        let (_, version) = found.unwrap_or_else(|| panic!("{}: text {at}", rule.code()));
        advised_where(rule, &facts, version, language)
    };
    rule.texts.iter().enumerate().map(each).collect()
}

/// A version just below another.
fn one_before(HologresVersion(major, minor, patch): HologresVersion) -> HologresVersion {
    match (minor, patch) {
        (0, 0) => HologresVersion(major - 1, 9, 9),
        (_, 0) => HologresVersion(major, minor - 1, 9),
        _ => HologresVersion(major, minor, patch - 1),
    }
}

/// What is known where these facts hold, except the relation and its key.
fn known_around(
    rule: &Rule,
    facts: &[Fact],
    version: Option<HologresVersion>,
) -> AdviceContext<'static> {
    let known = |fact| facts.contains(&fact);
    AdviceContext {
        database: "sales",
        client_set_route: known(Fact::ClientSetRoute),
        route_was_set: known(Fact::RouteWasSet),
        learned: known(Fact::Learned),
        computing_resource: known(Fact::Serverless).then_some(ComputingResource::Serverless),
        version,
        not_retried: Some(if known(Fact::ClientSetRoute) {
            NotRetried::ClientSetRoute
        } else if known(Fact::RouteWasSet) {
            NotRetried::RouteWasSet
        } else if known(Fact::Learned) {
            NotRetried::RowsSent
        } else if rule.cure() == Cure::Itself {
            NotRetried::RouteNotSet
        } else {
            NotRetried::FailedAgain
        }),
        log_id: Some("7c1e-42-1"),
        ..AdviceContext::default()
    }
}

fn advised_where(
    rule: &'static Rule,
    facts: &[Fact],
    version: Option<HologresVersion>,
    language: Language,
) -> Advice<'static> {
    let reason = reason(encryption_of(facts));
    let error = match &rule.instead_of {
        Some(instead) => example_error(self::rule(instead)),
        None => example_error(rule),
    };
    let context = AdviceContext {
        reason: Some(&reason),
        language,
        ..known_around(rule, facts, version)
    };
    advise_on(error, &context)
}

fn encryption_of(facts: &[Fact]) -> Encryption {
    let known = |fact| facts.contains(&fact);
    if known(Fact::DefaultKey) {
        Encryption::DefaultKey
    } else if known(Fact::KeyDisabled) {
        kms(KeyState::Disabled)
    } else if known(Fact::KeyPendingDeletion) {
        kms(KeyState::PendingDeletion)
    } else if known(Fact::KeyMaterialMissing) {
        kms(KeyState::PendingImport)
    } else {
        kms(KeyState::Enabled)
    }
}

fn reason(encryption: Encryption) -> Reason {
    Reason {
        relation: "public.orders".into(),
        via: Vec::new(),
        project: Some("sales_prod".into()),
        key: Some(Arc::new(KeyRecord {
            project: "sales_prod".into(),
            encryption,
            origin: Origin::Cloud,
            looked_up: timestamp::parse("2026-11-25T08:30:00Z").unwrap(),
        })),
        source: Source::Key,
    }
}

fn kms(state: KeyState) -> Encryption {
    Encryption::Kms(KmsKey {
        id: Some("key-hzz65f0a".into()),
        state,
        ..KmsKey::default()
    })
}

fn context<'a>() -> AdviceContext<'a> {
    AdviceContext {
        database: "sales",
        ..AdviceContext::default()
    }
}
