//! The one table from what is known to the case, and the cases' codes.

use std::time::SystemTime;

use super::{AdviceContext, Fault, FaultKind};
use crate::catalog::HologresVersion;
use crate::keys::{Encryption, KeyState, KmsKey};

/// What is wrong, as far as it can be told. Codes are stable: dashboards and people search for
/// them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Case {
    /// HQE read data that is encrypted with a KMS key.
    HqeOnEncryptedData,
    /// The same, and the client itself had chosen HQE.
    ClientChoseHqe,
    /// The route for encrypted data was set, and it failed all the same.
    RouteDidNotHelp,
    /// The data is encrypted with MaxCompute's default key.
    DefaultKey,
    /// Hologres before V1.1.
    VersionTooOld,
    /// Hologres before V1.3.31.
    NeedsBackendConfiguration,
    /// The KMS key is disabled.
    KeyDisabled,
    /// The KMS key is about to be deleted.
    KeyPendingDeletion,
    /// The KMS key's imported material is missing or has expired.
    KeyMaterialMissing,
    /// The KMS key does not exist (any more).
    KeyNotFound,
    /// Hologres may not use the key: RAM role or policy missing.
    RoleOrPolicyMissing,
}

type Condition = fn(&Fault, &AdviceContext<'_>, SystemTime) -> bool;

/// The first condition that holds decides. What the error itself says goes before what was looked
/// up, what cannot be mended by a setting before what can.
const TABLE: &[(Condition, Case)] = &[
    (
        |fault, _, _| fault.kind == FaultKind::KeyDisabled,
        Case::KeyDisabled,
    ),
    (
        |fault, _, _| fault.kind == FaultKind::KeyPendingDeletion,
        Case::KeyPendingDeletion,
    ),
    (
        |fault, _, _| fault.kind == FaultKind::KeyPendingImport,
        Case::KeyMaterialMissing,
    ),
    (
        |fault, _, _| fault.kind == FaultKind::KeyNotFound,
        Case::KeyNotFound,
    ),
    (
        |fault, _, _| fault.kind == FaultKind::RoleOrPolicy,
        Case::RoleOrPolicyMissing,
    ),
    (
        |_, context, _| before(context, HologresVersion::READS_ENCRYPTED),
        Case::VersionTooOld,
    ),
    (
        |_, context, _| encryption(context) == Some(&Encryption::DefaultKey),
        Case::DefaultKey,
    ),
    (
        |_, context, _| key_state(context) == Some(KeyState::Disabled),
        Case::KeyDisabled,
    ),
    (
        |_, context, _| key_state(context) == Some(KeyState::PendingDeletion),
        Case::KeyPendingDeletion,
    ),
    (
        |_, context, now| material_missing(context, now),
        Case::KeyMaterialMissing,
    ),
    (
        |_, context, _| context.client_set_route && !context.route_was_set,
        Case::ClientChoseHqe,
    ),
    (
        |_, context, _| before(context, HologresVersion::NEEDS_NO_BACKEND_CONFIGURATION),
        Case::NeedsBackendConfiguration,
    ),
    (|_, context, _| context.route_was_set, Case::RouteDidNotHelp),
    (|_, _, _| true, Case::HqeOnEncryptedData),
];

impl Case {
    /// Every case, in the order of the codes.
    pub const ALL: [Self; 11] = [
        Self::HqeOnEncryptedData,
        Self::ClientChoseHqe,
        Self::RouteDidNotHelp,
        Self::DefaultKey,
        Self::VersionTooOld,
        Self::NeedsBackendConfiguration,
        Self::KeyDisabled,
        Self::KeyPendingDeletion,
        Self::KeyMaterialMissing,
        Self::RoleOrPolicyMissing,
        Self::KeyNotFound,
    ];

    /// The stable code; `docs/errors.md` has a section for each.
    pub fn code(self) -> &'static str {
        match self {
            Self::HqeOnEncryptedData => "OSP-1001",
            Self::ClientChoseHqe => "OSP-1002",
            Self::RouteDidNotHelp => "OSP-1003",
            Self::DefaultKey => "OSP-1004",
            Self::VersionTooOld => "OSP-1005",
            Self::NeedsBackendConfiguration => "OSP-1006",
            Self::KeyDisabled => "OSP-1007",
            Self::KeyPendingDeletion => "OSP-1008",
            Self::KeyMaterialMissing => "OSP-1009",
            Self::RoleOrPolicyMissing => "OSP-1010",
            Self::KeyNotFound => "OSP-1011",
        }
    }

    /// The case of `fault` at `now`.
    pub(super) fn choose(fault: &Fault, context: &AdviceContext<'_>, now: SystemTime) -> Self {
        TABLE
            .iter()
            .find(|(condition, _)| condition(fault, context, now))
            .map_or(Self::HqeOnEncryptedData, |&(_, case)| case)
    }
}

fn before(context: &AdviceContext<'_>, needed: HologresVersion) -> bool {
    context.version.is_some_and(|version| version < needed)
}

fn encryption<'a>(context: &AdviceContext<'a>) -> Option<&'a Encryption> {
    Some(&context.reason?.key.as_ref()?.encryption)
}

fn kms_key<'a>(context: &AdviceContext<'a>) -> Option<&'a KmsKey> {
    match encryption(context)? {
        Encryption::Kms(key) => Some(key),
        Encryption::None | Encryption::DefaultKey => None,
    }
}

fn key_state(context: &AdviceContext<'_>) -> Option<KeyState> {
    Some(kms_key(context)?.state)
}

fn material_missing(context: &AdviceContext<'_>, now: SystemTime) -> bool {
    kms_key(context).is_some_and(|key| {
        key.state == KeyState::PendingImport || key.material_expires.is_some_and(|end| end <= now)
    })
}
