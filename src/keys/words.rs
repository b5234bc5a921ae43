//! The words that people are told of keys in.

use std::time::SystemTime;

use super::cloud::timestamp;
use super::{Encryption, KeyRecord, KeyState, KmsKey, Origin};

/// How a project is encrypted.
pub(crate) fn encryption(record: &KeyRecord) -> String {
    match &record.encryption {
        Encryption::None => "not encrypted".into(),
        Encryption::DefaultKey => "encrypted with MaxCompute's default key".into(),
        Encryption::Kms(key) => {
            let id = key.id.as_deref().unwrap_or("whose id is not known");
            let mut text = format!("encrypted with a KMS key (BYOK), {id}");
            if key.state != KeyState::Unknown {
                text = format!("{text}, {}", state(key.state));
            }
            if let Some(at) = key.material_expires {
                text = format!("{text}, material expires {}", timestamp::format(at));
            }
            if let Some(at) = key.deletion {
                text = format!("{text}, deleted {}", timestamp::format(at));
            }
            text
        }
    }
}

/// A key's state, as KMS names it.
pub(crate) fn state(state: KeyState) -> &'static str {
    match state {
        KeyState::Unknown => "Unknown",
        KeyState::Enabled => "Enabled",
        KeyState::Disabled => "Disabled",
        KeyState::PendingDeletion => "PendingDeletion",
        KeyState::PendingImport => "PendingImport",
    }
}

/// Who says so.
pub(crate) fn origin(origin: Origin) -> &'static str {
    match origin {
        Origin::Configured => "the configuration says so",
        Origin::Cloud => "MaxCompute and KMS say so",
        Origin::Learned => "HQE failed on it",
    }
}

/// A record as JSON.
pub(crate) fn record(record: &KeyRecord) -> serde_json::Value {
    let (kind, key) = match &record.encryption {
        Encryption::None => ("none", None),
        Encryption::DefaultKey => ("default-key", None),
        Encryption::Kms(key) => ("kms", Some(json_key(key))),
    };
    let origin = match record.origin {
        Origin::Configured => "configuration",
        Origin::Cloud => "cloud",
        Origin::Learned => "learned",
    };
    serde_json::json!({
        "project": record.project,
        "encryption": kind,
        "key": key,
        "origin": origin,
        "looked_up": timestamp::format(record.looked_up),
    })
}

fn json_key(key: &KmsKey) -> serde_json::Value {
    let time = |time: Option<SystemTime>| time.map(timestamp::format);
    serde_json::json!({
        "id": key.id,
        "algorithm": key.algorithm,
        "state": state(key.state),
        "origin": key.origin,
        "material_expires": time(key.material_expires),
        "deletion": time(key.deletion),
    })
}
