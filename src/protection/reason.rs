//! Why a relation, and with it a statement, is protected.

use std::sync::Arc;

use crate::keys::KeyRecord;

/// Why a statement is protected, for logs, metrics and advice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reason {
    /// The relation as the catalog (or the operator's pattern) names it: `schema.name`.
    pub relation: String,
    /// The chain of relations from it to the foreign table; empty if it is one.
    pub via: Vec<String>,
    /// The MaxCompute project, when known.
    pub project: Option<String>,
    /// What is known of the project's key.
    pub key: Option<Arc<KeyRecord>>,
    /// Who says that it is protected.
    pub source: Source,
}

/// Who says that a relation is protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Source {
    /// A table, schema or database pattern of the operator's.
    Pattern,
    /// The catalog says which project, the key record says encrypted.
    Key,
    /// HQE failed on it.
    Learned,
}
