//! The settings of reading the configuration again.

use std::time::Duration;

/// `[reload]`
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Reload {
    /// How often the files of the configuration are looked at: it is read again when one of them has
    /// changed. Default: `None`, they are not.
    pub watch: Option<Duration>,
}
