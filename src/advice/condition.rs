//! What can be known around an error, and the conditions in the table (`when`) that ask for it.

use std::time::SystemTime;

use super::context::{AdviceContext, NotRetried};
use crate::catalog::HologresVersion;
use crate::keys::{Encryption, KeyState, KmsKey};
use crate::protection::ComputingResource;

/// One fact around an error, which has a name in the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fact {
    /// The client has set the route itself.
    ClientSetRoute,
    /// The route for encrypted data was set when the statement ran.
    RouteWasSet,
    /// Osprey has learned from this failure, so that the next run is steered.
    Learned,
    /// The session runs on serverless resources.
    Serverless,
    /// The data is encrypted with MaxCompute's default key.
    DefaultKey,
    /// The key record says that the key is disabled.
    KeyDisabled,
    /// The key record says that it is about to be deleted.
    KeyPendingDeletion,
    /// The key record says that its imported material is missing or has expired.
    KeyMaterialMissing,
}

impl Fact {
    const NAMES: [(&'static str, Self); 8] = [
        ("client_set_route", Self::ClientSetRoute),
        ("route_was_set", Self::RouteWasSet),
        ("learned", Self::Learned),
        ("serverless", Self::Serverless),
        ("default_key", Self::DefaultKey),
        ("key_disabled", Self::KeyDisabled),
        ("key_pending_deletion", Self::KeyPendingDeletion),
        ("key_material_missing", Self::KeyMaterialMissing),
    ];

    /// The fact that has this name.
    pub(super) fn parse(name: &str) -> Option<Self> {
        let found = Self::NAMES.iter().find(|(known, _)| *known == name);
        found.map(|&(_, fact)| fact)
    }

    /// True if it comes from the project's key record.
    pub(super) fn is_of_key(self) -> bool {
        matches!(
            self,
            Self::DefaultKey
                | Self::KeyDisabled
                | Self::KeyPendingDeletion
                | Self::KeyMaterialMissing
        )
    }

    fn holds(self, context: &AdviceContext<'_>, now: SystemTime) -> bool {
        let state = || kms_key(context).map(|key| key.state);
        match self {
            Self::ClientSetRoute => context.client_set_route,
            Self::RouteWasSet => context.route_was_set,
            // If the route could not be set this time, the next run will fail in the same way.
            Self::Learned => {
                context.learned && context.not_retried != Some(NotRetried::RouteNotSet)
            }
            Self::Serverless => context.computing_resource == Some(ComputingResource::Serverless),
            Self::DefaultKey => encryption(context) == Some(&Encryption::DefaultKey),
            Self::KeyDisabled => state() == Some(KeyState::Disabled),
            Self::KeyPendingDeletion => state() == Some(KeyState::PendingDeletion),
            Self::KeyMaterialMissing => kms_key(context).is_some_and(|key| {
                key.state == KeyState::PendingImport
                    || key.material_expires.is_some_and(|end| end <= now)
            }),
        }
    }
}

/// One line of a `when`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Condition {
    /// `name`
    Is(Fact),
    /// `not name`
    IsNot(Fact),
    /// `version < 1.2.3`; false while the version is not known.
    Before(HologresVersion),
    /// `version >= 1.2.3`; false while the version is not known.
    From(HologresVersion),
}

impl Condition {
    /// Reads one line.
    ///
    /// # Errors
    /// What it expects, in words.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        if let Some(rest) = text.strip_prefix("version ") {
            return Self::parse_version(rest);
        }
        let (name, negated) = match text.strip_prefix("not ") {
            Some(name) => (name, true),
            None => (text, false),
        };
        match Fact::parse(name.trim()) {
            Some(fact) if negated => Ok(Self::IsNot(fact)),
            Some(fact) => Ok(Self::Is(fact)),
            None => {
                let names: Vec<_> = Fact::NAMES.iter().map(|(name, _)| *name).collect();
                Err(format!(
                    "expects one of {}, each also with \"not \" in front, or \"version < 1.2.3\" or \
                     \"version >= 1.2.3\"",
                    names.join(", ")
                ))
            }
        }
    }

    /// Reads `< 1.2.3` or `>= 1.2.3`.
    ///
    /// # Errors
    /// What it expects, in words.
    pub(super) fn parse_version(text: &str) -> Result<Self, String> {
        let expects = || "expects \"< 1.2.3\" or \">= 1.2.3\"".to_owned();
        if let Some(version) = text.strip_prefix("<") {
            version_of(version).map(Self::Before).ok_or_else(expects)
        } else if let Some(version) = text.strip_prefix(">=") {
            version_of(version).map(Self::From).ok_or_else(expects)
        } else {
            Err(expects())
        }
    }

    /// True if it holds for what is known.
    pub(super) fn holds(self, context: &AdviceContext<'_>, now: SystemTime) -> bool {
        match self {
            Self::Is(fact) => fact.holds(context, now),
            Self::IsNot(fact) => !fact.holds(context, now),
            Self::Before(needed) => context.version.is_some_and(|version| version < needed),
            Self::From(needed) => context.version.is_some_and(|version| version >= needed),
        }
    }

    /// True if it comes from the project's key record.
    pub(super) fn is_of_key(self) -> bool {
        matches!(self, Self::Is(fact) if fact.is_of_key())
    }
}

/// Reads a version, `1.2` or `1.2.3`.
pub(super) fn version_of(text: &str) -> Option<HologresVersion> {
    let mut numbers = text.trim().splitn(3, '.').map(|part| part.parse().ok());
    let major = numbers.next()??;
    let minor = numbers.next()??;
    let patch = numbers.next().unwrap_or(Some(0))?;
    Some(HologresVersion(major, minor, patch))
}

fn encryption<'a>(context: &AdviceContext<'a>) -> Option<&'a Encryption> {
    Some(&context.reason?.key.as_ref()?.encryption)
}

/// The KMS key that the data is encrypted with, as far as that is known.
pub(super) fn kms_key<'a>(context: &AdviceContext<'a>) -> Option<&'a KmsKey> {
    match encryption(context)? {
        Encryption::Kms(key) => Some(key),
        Encryption::None | Encryption::DefaultKey => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_are_read_and_judged() {
        let context = AdviceContext {
            version: Some(HologresVersion(3, 1, 3)),
            client_set_route: true,
            ..AdviceContext::default()
        };
        for (text, expected) in [
            ("client_set_route", true),
            ("not client_set_route", false),
            ("route_was_set", false),
            ("not route_was_set", true),
            ("version < 3.1.3", false),
            ("version >= 3.1.3", true),
            ("version < 3.2", true),
            ("version >= 3.2", false),
        ] {
            let condition = Condition::parse(text).unwrap();
            assert_eq!(
                condition.holds(&context, SystemTime::now()),
                expected,
                "{text}"
            );
        }
        let unknown = AdviceContext::default();
        for text in ["version < 9.0", "version >= 0.1"] {
            let condition = Condition::parse(text).unwrap();
            assert!(!condition.holds(&unknown, SystemTime::now()), "{text}");
        }
    }

    #[test]
    fn what_is_no_condition_is_refused() {
        for wrong in [
            "",
            "learnt",
            "not",
            "version",
            "version > 1.0",
            "version < 1",
            "version < a.b",
        ] {
            assert!(Condition::parse(wrong).is_err(), "{wrong}");
        }
    }
}
