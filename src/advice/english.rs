//! The table of texts, in English.

use super::{CATALOG_ROUTING, COMMON_TABLE, Case, Facts, NotRetried, ORC_VIA_HOLO, Text};
use crate::catalog::HologresVersion;

pub(super) fn detail(case: Case, not_retried: Option<NotRetried>, original: &str) -> String {
    let code = case.code();
    match not_retried.map(why) {
        None => format!("{code}. Hologres said: {original}"),
        Some(why) => {
            format!(
                "{code}. The statement was not run again, because {why}. Hologres said: {original}"
            )
        }
    }
}

pub(super) fn why(not_retried: NotRetried) -> &'static str {
    match not_retried {
        NotRetried::SwitchedOff => "running again is switched off in Osprey's configuration",
        NotRetried::InTransaction => {
            "it ran in a transaction that cannot be run again from its begin"
        }
        NotRetried::RowsSent => "rows of its result had already been sent",
        NotRetried::Writes => "it does more than read",
        NotRetried::UnknownFunction => "it calls a function that may not be harmless to run twice",
        NotRetried::TooLarge => "it was too long to be kept",
        NotRetried::CycleNotComplete => {
            "the client had not yet sent Sync and may have been waiting"
        }
        NotRetried::Pipelined => "the client had already sent the statements that follow it",
        NotRetried::FailedAgain => "it already had been, and failed a second time",
        NotRetried::AnsweredDifferently => {
            "a second run was answered differently from what had already been sent"
        }
        NotRetried::ClientSetRoute => "the client chose the engine itself",
        NotRetried::RouteWasSet => "the engine for encrypted data had been chosen before",
        NotRetried::RouteNotSet => "the engine for encrypted data could not be chosen",
    }
}

pub(super) fn text(case: Case, facts: &Facts<'_>) -> Text {
    let data = data(facts);
    let key = facts.key_id().map_or_else(
        || "the project's KMS key".into(),
        |id| format!("KMS key {id}"),
    );
    let to_sqe = facts.alter_database_to_sqe();
    let verify_sqe =
        format!("Verify in a new connection: SHOW {ORC_VIA_HOLO}; it must answer off (or false).");
    let version = facts
        .version
        .map_or_else(|| "this version".into(), |version| version.to_string());
    let console = "In the KMS console, open Keys";
    let cached = "Hologres keeps key information for up to 24 hours, so the change may take that long to show.";
    let (happened, to_do, hint) = match case {
        Case::HqeOnEncryptedData => (
            format!("Hologres' engine HQE cannot read {data}, because it is encrypted with a KMS key (BYOK)."),
            "Let the database's owner run the statement in HINT once, then reconnect and run the query again.".into(),
            format!("{to_sqe}\n{verify_sqe}"),
        ),
        Case::ClientChoseHqe => (
            format!("Hologres' engine HQE cannot read {data}, because it is encrypted with a KMS key (BYOK), and this session chose HQE by setting {ORC_VIA_HOLO} itself."),
            "Take that SET out of the client or run the first statement in HINT, then run the query again.".into(),
            format!("SET {ORC_VIA_HOLO} = false;\nFor all new connections that do not set it themselves: {to_sqe}\n{verify_sqe}"),
        ),
        Case::RouteDidNotHelp => (
            format!("Hologres could not read {data}, although this session uses the engine for encrypted data."),
            "Check in this order that the project's key is the customer's own (BYOK) and enabled in KMS, and that the RAM role AliyunHologresEncryptionDefaultRole trusts Hologres and has its policy.".into(),
            format!("SHOW {ORC_VIA_HOLO}; must answer off (or false) in this session. From Hologres V3.2 there is another way: {}\nVerify in a new connection: SHOW {CATALOG_ROUTING};", facts.alter_database_to_common_table()),
        ),
        Case::DefaultKey if facts.version_is_before(HologresVersion::COMMON_TABLE) => (
            format!("Hologres {version} cannot read {data}, because it is encrypted with MaxCompute's default key and not with a KMS key of the customer's own."),
            "Upgrade the instance to V3.2 or later and then run the statement in HINT, or have the project encrypted with a key of your own (BYOK).".into(),
            format!("After the upgrade: {}\nVerify in a new connection: SHOW {CATALOG_ROUTING}; it must answer {COMMON_TABLE}.", facts.alter_database_to_common_table()),
        ),
        Case::DefaultKey => (
            format!("Neither HQE nor SQE can read {data}, because it is encrypted with MaxCompute's default key; Hologres from V3.2 can, by its common-table route."),
            "Let the database's owner run the statement in HINT once, then reconnect and run the query again.".into(),
            format!("{}\nVerify in a new connection: SHOW {CATALOG_ROUTING}; it must answer {COMMON_TABLE}.", facts.alter_database_to_common_table()),
        ),
        Case::VersionTooOld => (
            format!("Hologres {version} cannot read {data}, because reading encrypted MaxCompute data needs V1.1 or later."),
            "Upgrade the instance to V1.3.31 or later.".into(),
            format!("After the upgrade, verify with SELECT hg_version(); and run: {to_sqe}\n{verify_sqe}"),
        ),
        Case::NeedsBackendConfiguration => (
            format!("Hologres {version} cannot read {data} without a back-end configuration, because the data is encrypted and the version is older than V1.3.31."),
            "Ask Hologres' support for that configuration, or upgrade the instance to V1.3.31 or later.".into(),
            format!("Afterwards: {to_sqe}\n{verify_sqe}"),
        ),
        Case::KeyDisabled => (
            format!("Hologres cannot read {data}, because {key} is disabled."),
            "Enable the key in KMS and run the query again.".into(),
            format!("{console}, choose the key and Enable{}. {cached}", cli("EnableKey", facts)),
        ),
        Case::KeyPendingDeletion => (
            format!("Hologres cannot read {data}, because {key} is scheduled for deletion."),
            "Cancel the deletion in KMS at once, since without the key the data is lost for good.".into(),
            format!("{console}, choose the key and Cancel Deletion{}. {cached}", cli("CancelKeyDeletion", facts)),
        ),
        Case::KeyMaterialMissing => (
            format!("Hologres cannot read {data}, because the imported material of {key} is missing or has expired."),
            "Import the same key material into KMS again and run the query again.".into(),
            format!("{console}, choose the key and Import Key Material; only the original material decrypts the data. {cached}"),
        ),
        Case::KeyNotFound => (
            format!("Hologres cannot read {data}, because KMS does not find {key}."),
            "Check in KMS that the key exists in the project's region and belongs to the same account.".into(),
            format!("{console} in the MaxCompute project's region{}. A deleted key cannot be restored.", cli("DescribeKey", facts)),
        ),
        Case::RoleOrPolicyMissing => (
            format!("Hologres cannot read {data}, because it is not allowed to use {key}."),
            "Create the RAM role AliyunHologresEncryptionDefaultRole for Hologres with its policy, as HINT says, and run the query again.".into(),
            "In the RAM console, create the policy AliyunHologresEncryptionDefaultRolePolicy with the actions kms:Encrypt, kms:Decrypt, kms:GenerateDataKey and kms:DescribeKey on acs:kms:*:*:*/*, and the role AliyunHologresEncryptionDefaultRole for the trusted service Hologres, and grant the policy to the role. Verify that the role's trust policy names Hologres.".into(),
        ),
    };
    Text {
        happened,
        to_do,
        hint,
    }
}

/// What could not be read.
fn data(facts: &Facts<'_>) -> String {
    match (facts.relation, facts.project) {
        (Some(relation), Some(project)) => format!("{relation} (MaxCompute project {project})"),
        (Some(relation), None) => relation.into(),
        (None, Some(project)) => format!("MaxCompute project {project}"),
        (None, None) => "this MaxCompute data".into(),
    }
}

fn cli(action: &str, facts: &Facts<'_>) -> String {
    facts.key_id().map_or_else(String::new, |id| {
        format!(", or run: aliyun kms {action} --KeyId {id}")
    })
}
