//! What is said of a file that a setting names.

use std::fmt::Display;
use std::path::Path;

use super::problem::Notes;

/// Notes that a file cannot be read.
pub(super) fn unreadable(path: &Path, name: &str, error: &dyn Display, notes: &mut Notes) {
    notes.wrong(
        name,
        format!(
            "cannot read {}: {error}; name a file that exists and that this user may read",
            path.display()
        ),
    );
}

/// Warns of a secret in a file that everyone may read.
pub(super) fn warn_if_public(path: &Path, name: &str, what: &str, notes: &mut Notes) {
    use std::os::unix::fs::PermissionsExt as _;
    let public = |metadata: std::fs::Metadata| metadata.permissions().mode() & 0o004 != 0;
    if std::fs::metadata(path).is_ok_and(public) {
        let path = path.display();
        notes.warn(
            name,
            format!("everyone may read {what} in {path}; run: chmod o= {path}"),
        );
    }
}
