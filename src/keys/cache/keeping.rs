//! What has become of the file of `[keys] snapshot`: a field of the cache, which `kept.rs` goes by.

use std::sync::OnceLock;
use std::sync::atomic::AtomicBool;

use tokio::sync::Mutex;

/// What has become of the file.
#[derive(Default)]
pub(super) struct Keeping {
    /// What it is about; nothing: it is not kept.
    pub(super) upstream: OnceLock<String>,
    /// Another process keeps it now, and this one does not write to it.
    pub(super) left: AtomicBool,
    /// The number of the change that it was written after.
    pub(super) written: Mutex<u64>,
}
