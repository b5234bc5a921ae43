//! Who can say how a MaxCompute project is encrypted.

use std::pin::Pin;
use std::sync::Arc;
use std::time::SystemTime;

use super::{Encryption, KeyRecord, KmsKey, Origin};
use crate::catalog::project_key;
use crate::config::{ConfiguredEncryption, ProjectRule};
use crate::glob::Glob;

/// What [`KeyProvider::lookup`] returns.
pub type LookupFuture<'a> =
    Pin<Box<dyn Future<Output = Result<Option<KeyRecord>, LookupError>> + Send + 'a>>;

/// A source of key records.
pub trait KeyProvider: Send + Sync {
    /// What is known of `project` (lower case, no `#schema`); `None`: this provider does not know
    /// the project.
    ///
    /// # Errors
    /// [`LookupError`] when it should know but could not find out.
    fn lookup<'a>(&'a self, project: &'a str) -> LookupFuture<'a>;

    /// True if the last answer about `project` lacks what becomes known by asking again soon.
    fn was_in_part(&self, _project: &str) -> bool {
        false
    }
}

/// A lookup that did not succeed, in words for the log.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct LookupError(pub String);

/// The operator's own rules, `[[protect.project]]` and `--encrypted-project`.
#[derive(Debug, Clone, Default)]
pub struct StaticProvider {
    rules: Vec<(Glob, ProjectRule)>,
}

impl StaticProvider {
    /// A rule that names a project exactly goes before any pattern; otherwise the first rule that
    /// matches decides.
    pub fn new(rules: &[ProjectRule]) -> Self {
        let mut rules: Vec<(Glob, ProjectRule)> = rules
            .iter()
            .map(|rule| (Glob::new(&project_key(&rule.name)), rule.clone()))
            .collect();
        rules.sort_by_key(|(_, rule)| rule.name.contains(['*', '?']));
        Self { rules }
    }

    /// What the rules say of `project`. It is the answer of [`KeyProvider::lookup`], at once.
    pub fn record(&self, project: &str) -> Option<KeyRecord> {
        let (_, rule) = self
            .rules
            .iter()
            .find(|(pattern, _)| pattern.matches(project.as_bytes()))?;
        let encryption = match rule.encryption {
            ConfiguredEncryption::None => Encryption::None,
            ConfiguredEncryption::DefaultKey => Encryption::DefaultKey,
            ConfiguredEncryption::Kms => Encryption::Kms(KmsKey {
                id: rule.key_id.clone(),
                ..KmsKey::default()
            }),
        };
        Some(KeyRecord {
            project: project.to_owned(),
            encryption,
            origin: Origin::Configured,
            looked_up: SystemTime::now(),
        })
    }
}

impl KeyProvider for StaticProvider {
    fn lookup<'a>(&'a self, project: &'a str) -> LookupFuture<'a> {
        Box::pin(std::future::ready(Ok(self.record(project))))
    }
}

/// Providers asked one after the other; the first that knows the project answers.
#[derive(Clone, Default)]
pub struct Chain(pub Vec<Arc<dyn KeyProvider>>);

impl KeyProvider for Chain {
    fn lookup<'a>(&'a self, project: &'a str) -> LookupFuture<'a> {
        Box::pin(async move {
            for provider in &self.0 {
                // A failure ends the walk: a later provider must not answer for an earlier one
                // that would have said otherwise.
                if let Some(record) = provider.lookup(project).await? {
                    return Ok(Some(record));
                }
            }
            Ok(None)
        })
    }

    fn was_in_part(&self, project: &str) -> bool {
        let mut providers = self.0.iter();
        providers.any(|provider| provider.was_in_part(project))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(name: &str, encryption: ConfiguredEncryption) -> ProjectRule {
        ProjectRule {
            name: name.into(),
            encryption,
            key_id: None,
        }
    }

    #[test]
    fn an_exact_rule_goes_before_a_pattern() {
        let rules = [
            rule("*", ConfiguredEncryption::Kms),
            rule("Open#x", ConfiguredEncryption::None),
        ];
        let provider = StaticProvider::new(&rules);
        assert_eq!(
            provider.record("open").unwrap().encryption,
            Encryption::None
        );
        assert!(provider.record("other").unwrap().is_encrypted());
        assert_eq!(StaticProvider::default().record("open"), None);
    }

    #[test]
    fn the_key_id_is_kept() {
        let mut rule = rule("p", ConfiguredEncryption::Kms);
        rule.key_id = Some("key-1".into());
        let record = StaticProvider::new(&[rule]).record("p").unwrap();
        let Encryption::Kms(key) = record.encryption else {
            panic!("{record:?}")
        };
        assert_eq!(key.id.as_deref(), Some("key-1"));
        assert_eq!(record.origin, Origin::Configured);
    }

    struct Failing;
    impl KeyProvider for Failing {
        fn lookup<'a>(&'a self, _: &'a str) -> LookupFuture<'a> {
            Box::pin(std::future::ready(Err(LookupError("refused".into()))))
        }
    }

    #[tokio::test]
    async fn the_first_that_knows_answers_and_a_failure_ends_the_walk() {
        let plain = Arc::new(StaticProvider::new(&[rule(
            "p",
            ConfiguredEncryption::None,
        )]));
        let kms = Arc::new(StaticProvider::new(&[rule("*", ConfiguredEncryption::Kms)]));
        let chain = Chain(vec![plain.clone(), kms.clone(), Arc::new(Failing)]);
        assert_eq!(
            chain.lookup("p").await.unwrap().unwrap().encryption,
            Encryption::None
        );
        assert!(chain.lookup("q").await.unwrap().unwrap().is_encrypted());
        let chain = Chain(vec![plain, Arc::new(Failing), kms]);
        assert!(chain.lookup("p").await.is_ok());
        assert_eq!(chain.lookup("q").await, Err(LookupError("refused".into())));
    }
}
