//! One rule of the table as a value, and the words of which it is made.

use serde::Deserialize;

use super::condition::{Condition, Fact};
use super::pattern::Pattern;
use crate::catalog::HologresVersion;
use crate::config::Language;

/// A text in each language.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Both {
    en: String,
    zh: String,
}

impl Both {
    /// The text in one language.
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

/// What a rule's setting does beside curing. A setting that does any of these is never made by
/// Osprey.
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
