//! Hologres' engines for foreign tables, and what one of them cannot do.

use std::fmt;

use super::settings::{CATALOG_ROUTING, ORC_VIA_HOLO, Settings};

/// The MaxCompute project that is encrypted with a KMS key.
pub const ENCRYPTED_PROJECT: &str = "finance_encrypted";

/// What the vendor's page quotes for HQE reading encrypted data, to the letter.
pub const PANGU_ERROR: &str = "status { code: SERVER_INTERNAL_ERROR message: \"hos_exception: \
     IO error: Failed to execute pangu open normal file \
     pangu://xxx:xxx/product/odps/xxx/data/xxxx/xxx/xxx, errorcode: 9, errorcode_description: \
     invalid argument, err_msg: PanguParameterInvalidException";

/// What reads a relation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Engine {
    /// Hologres Query Engine: fast, cannot read data encrypted with a KMS key.
    Hqe,
    /// Seahawks Query Engine.
    Sqe,
    /// The Common Table path.
    CommonTable,
}

impl Engine {
    /// The engine that `settings` choose for a relation.
    pub(super) fn reading(foreign: bool, settings: &Settings) -> Self {
        let routing = settings.get(CATALOG_ROUTING).unwrap_or_default();
        if !foreign {
            Self::Hqe
        } else if routing.contains("odps:common_table") {
            Self::CommonTable
        } else if settings.get(ORC_VIA_HOLO) == Some("off") {
            Self::Sqe
        } else {
            Self::Hqe
        }
    }
}

impl fmt::Display for Engine {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Hqe => "HQE",
            Self::Sqe => "SQE",
            Self::CommonTable => "Common Table",
        })
    }
}
