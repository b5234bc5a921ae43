//! The file that `keys.snapshot` names, before anything is done to it: Osprey replaces, moves and
//! removes nothing that it has not written itself.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Read as _};
use std::path::Path;

/// What the file says of itself in its first member, `format`.
pub(crate) const KEY_RECORDS: &str = "osprey key records";

/// So much of a file is looked at.
const HEAD: u64 = 128;

/// What stands where key records are to be kept.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// Nothing.
    Nothing,
    /// Key records, whole or not; or what is left of them after the machine has failed: an empty file, or
    /// one of zeros.
    KeyRecords,
    /// Something else, in words that follow the file's name.
    Else(&'static str),
}

/// Looks what is there, without waiting for anybody.
///
/// # Errors
///
/// It cannot be seen what is there.
pub(crate) fn look(path: &Path) -> io::Result<Found> {
    let metadata = match fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Found::Nothing),
        Err(error) => return Err(error),
    };
    if metadata.is_dir() {
        return Ok(Found::Else("is a directory"));
    }
    if !metadata.is_file() {
        return Ok(Found::Else("is no plain file"));
    }
    let mut head = Vec::new();
    File::open(path)?.take(HEAD).read_to_end(&mut head)?;
    let is_object = head.starts_with(b"{");
    let says_so = memchr::memmem::find(&head, KEY_RECORDS.as_bytes()).is_some();
    if is_object && says_so || head.iter().all(|byte| *byte == 0) {
        Ok(Found::KeyRecords)
    } else {
        Ok(Found::Else("holds something else than key records"))
    }
}
