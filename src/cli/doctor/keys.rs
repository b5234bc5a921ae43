//! The projects' side: who knows how each is encrypted, and is its key in a state to be used?

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime};

use super::finding::Finding;
use crate::config::Settings;
use crate::keys::cloud::timestamp;
use crate::keys::{self, Encryption, KeyRecord, KeyState, KmsKey, Origin, words};

/// A key whose material expires within this time deserves a warning.
const SOON: Duration = Duration::from_hours(24 * 30);

/// Looks every project up; returns those that are encrypted.
pub(super) async fn examine(
    settings: &Settings,
    projects: &BTreeMap<String, usize>,
    common_table: bool,
    findings: &mut Vec<Finding>,
) -> BTreeSet<String> {
    let provider = keys::configured(&settings.upstream().protect.projects, &settings.keys, None);
    let mut encrypted = BTreeSet::new();
    let mut own_key = false;
    for (project, &tables) in projects {
        let subject = format!("project {project}");
        match provider.lookup(project).await {
            Ok(Some(record)) => {
                if record.is_encrypted() {
                    encrypted.insert(project.clone());
                }
                own_key |= matches!(record.encryption, Encryption::Kms(_));
                findings.push(judge(
                    subject,
                    &record,
                    tables,
                    common_table,
                    SystemTime::now(),
                ));
            }
            Ok(None) => findings.push(Finding::warning(
                "project-unknown",
                subject,
                format!("nobody knows whether it is encrypted ({tables} foreign tables)"),
                format!(
                    "say so: --encrypted-project {project} if it is with a KMS key, or \
                     [[protect.project]] with encryption = \"default-key\" or \"none\"; or let the \
                     cloud say it, with [keys.cloud]"
                ),
            )),
            Err(error) => findings.push(Finding::warning(
                "project-lookup-failed",
                subject,
                format!("its encryption cannot be looked up: {error}"),
                "see the reason; deploy/ram/osprey-policy.json is the policy that Osprey's own \
                 account needs",
            )),
        }
    }
    let region = settings.keys.cloud.as_ref().map(|cloud| &*cloud.region);
    if own_key && region != Some("cn-shanghai") {
        // Nobody here can mend a region, and tables are read in others: no warning.
        findings.push(Finding::info(
            "region",
            "vendor",
            "MaxCompute's page on storage encryption says that for Hologres' foreign tables BYOK \
             supports KMS of the region China (Shanghai) only; Hologres' own pages do not say so",
            "if queries fail although everything else here is well, ask Alibaba Cloud's support \
             whether that holds for your region",
        ));
    }
    encrypted
}

fn judge(
    subject: String,
    record: &KeyRecord,
    tables: usize,
    common_table: bool,
    now: SystemTime,
) -> Finding {
    let found = format!(
        "{}, {} ({tables} foreign tables)",
        words::encryption(record),
        words::origin(record.origin)
    );
    match &record.encryption {
        Encryption::None => Finding::ok("project", subject, found),
        Encryption::DefaultKey if common_table => Finding::ok("project", subject, found),
        Encryption::DefaultKey => Finding::broken(
            "default-key-route",
            subject,
            format!("{found}, which engine SQE cannot read"),
            "set route.kind = \"common-table\" (--route common-table); it needs Hologres V3.2",
        ),
        Encryption::Kms(key) => match trouble(key, now) {
            Some((true, mend)) => Finding::broken("key-unusable", subject, found, mend),
            Some((false, mend)) => Finding::warning("key-expires", subject, found, mend),
            None if key.state == KeyState::Unknown && record.origin == Origin::Cloud => {
                Finding::warning(
                    "key-state-unknown",
                    subject,
                    format!("{found}; KMS does not say what state the key is in"),
                    "grant kms:DescribeKey on it (deploy/ram/osprey-policy.json), or look in the \
                     KMS console of the region",
                )
            }
            None => Finding::ok("project", subject, found),
        },
    }
}

/// What is wrong with a key: true if nothing can be read with it, and what mends it.
fn trouble(key: &KmsKey, now: SystemTime) -> Option<(bool, String)> {
    let id = key.id.as_deref().unwrap_or("the key");
    let console = format!("KMS console, Keys, {id}");
    // Hologres itself keeps what it knows of a key for that long.
    let after = "Hologres may take 24 hours to notice";
    match key.state {
        KeyState::Disabled => Some((true, format!("{console}: Enable. {after}"))),
        KeyState::PendingDeletion => Some((
            true,
            format!("{console}: Cancel Key Deletion, before it is deleted for good. {after}"),
        )),
        KeyState::PendingImport => Some((
            true,
            format!("{console}: Import Key Material, the same as before. {after}"),
        )),
        KeyState::Enabled | KeyState::Unknown => {
            let expires = key.material_expires?;
            let at = timestamp::format(expires);
            if expires <= now {
                let mend =
                    format!("{console}: its material expired {at}; import it again. {after}");
                return Some((true, mend));
            }
            (expires <= now + SOON).then(|| {
                (
                    false,
                    format!("{console}: import its material again before {at}"),
                )
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::Level;
    use super::*;

    fn key(state: KeyState) -> KmsKey {
        KmsKey {
            id: Some("key-1".into()),
            state,
            ..KmsKey::default()
        }
    }

    fn level(encryption: Encryption, common_table: bool) -> (Level, String) {
        let record = KeyRecord {
            project: "p".into(),
            encryption,
            origin: Origin::Cloud,
            looked_up: SystemTime::UNIX_EPOCH,
        };
        let finding = judge("p".into(), &record, 1, common_table, SystemTime::UNIX_EPOCH);
        (finding.level, finding.mend.unwrap_or_default())
    }

    #[test]
    fn each_state_of_a_key_has_its_step() {
        for (state, expected, step) in [
            (KeyState::Enabled, Level::Ok, ""),
            (KeyState::Disabled, Level::Broken, "key-1: Enable"),
            (
                KeyState::PendingDeletion,
                Level::Broken,
                "Cancel Key Deletion",
            ),
            (
                KeyState::PendingImport,
                Level::Broken,
                "Import Key Material",
            ),
            (KeyState::Unknown, Level::Warning, "kms:DescribeKey"),
        ] {
            let (level, mend) = level(Encryption::Kms(key(state)), false);
            assert_eq!(level, expected, "{state:?}");
            assert!(mend.contains(step), "{mend}");
        }
    }

    #[test]
    fn imported_material_expires() {
        for (days, expected) in [(0, Level::Broken), (29, Level::Warning), (31, Level::Ok)] {
            let expires = SystemTime::UNIX_EPOCH + Duration::from_hours(24 * days);
            let mut key = key(KeyState::Enabled);
            key.material_expires = Some(expires);
            assert_eq!(level(Encryption::Kms(key), false).0, expected, "{days}");
        }
    }

    #[test]
    fn the_default_key_needs_the_other_route() {
        assert_eq!(level(Encryption::DefaultKey, true).0, Level::Ok);
        let (level, mend) = level(Encryption::DefaultKey, false);
        assert_eq!(level, Level::Broken);
        assert!(mend.contains("common-table"), "{mend}");
    }
}
