//! What has become of the file of `[keys] snapshot`: a field of the cache, which `kept.rs` goes by.

use std::sync::OnceLock;

use tokio::sync::Mutex;

/// What has become of the file.
#[derive(Default)]
pub(super) struct Keeping {
    /// What it is about; nothing: it is not kept.
    pub(super) upstream: OnceLock<String>,
    /// The number of the change that it was written after.
    pub(super) written: Mutex<u64>,
}
