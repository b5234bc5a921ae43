//! What can be known of one MaxCompute project.

use std::time::SystemTime;

use serde::{Deserialize, Serialize};

/// How the data of a MaxCompute project is encrypted at rest.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Encryption {
    /// Not encrypted: HQE reads it.
    None,
    /// With MaxCompute's default key ("default key of DataWorks" in Hologres' page): neither HQE
    /// nor SQE reads it; needs Hologres V3.2 and the common-table route.
    DefaultKey,
    /// With the customer's own KMS key (BYOK): SQE reads it, HQE fails.
    Kms(KmsKey),
}

/// A customer master key in KMS, as far as it is known. Unknown parts are `None`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct KmsKey {
    /// Key id, alias or ARN as MaxCompute names it; `None` when only "encrypted" is known.
    pub id: Option<String>,
    /// `AES256`, `AESCTR`, `RC4` or whatever the cloud answers.
    pub algorithm: Option<String>,
    /// The key's state in KMS.
    pub state: KeyState,
    /// KMS `Origin`: `Aliyun_KMS` or `EXTERNAL` (imported material).
    pub origin: Option<String>,
    /// When imported key material expires; `None`: never, or not known.
    #[serde(with = "milliseconds")]
    pub material_expires: Option<SystemTime>,
    /// When the key is deleted, if it is in state `PendingDeletion`.
    #[serde(with = "milliseconds")]
    pub deletion: Option<SystemTime>,
}

/// KMS `KeyState` (KMS, *DescribeKey*).
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
pub enum KeyState {
    /// Never asked, or a state this version does not know.
    #[default]
    Unknown,
    /// Usable.
    Enabled,
    /// Every decryption is refused until it is enabled again.
    Disabled,
    /// Deletion is scheduled: every decryption is refused.
    PendingDeletion,
    /// Imported material is missing or expired.
    PendingImport,
}

/// Where a key record came from. A record of a later kind never takes the place of one of an
/// earlier kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Origin {
    /// The operator's configuration or flags.
    Configured,
    /// MaxCompute `GetProject` / `ListProjects` and KMS `DescribeKey`.
    Cloud,
    /// HQE failed on the project's data.
    Learned,
}

/// What is known of one MaxCompute project.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyRecord {
    /// Project name in lower case, without `#schema` (project names are lower-case by rule).
    pub project: String,
    /// How it is encrypted.
    pub encryption: Encryption,
    /// Who says so.
    pub origin: Origin,
    /// When it was looked up.
    pub looked_up: SystemTime,
}

impl KeyRecord {
    /// True if reading the project's data needs another route than HQE's.
    pub fn is_encrypted(&self) -> bool {
        self.encryption != Encryption::None
    }
}

/// Times in a fact's form: milliseconds since 1970.
mod milliseconds {
    use std::time::SystemTime;

    use serde::{Deserialize as _, Deserializer, Serialize as _, Serializer};

    use crate::facts::Stamp;

    // serde passes a reference to the field as it is.
    #[allow(clippy::ref_option)]
    pub(super) fn serialize<S: Serializer>(
        time: &Option<SystemTime>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        time.map(Stamp::of).serialize(serializer)
    }

    pub(super) fn deserialize<'d, D: Deserializer<'d>>(
        deserializer: D,
    ) -> Result<Option<SystemTime>, D::Error> {
        Ok(Option::<Stamp>::deserialize(deserializer)?.map(Stamp::time))
    }
}
