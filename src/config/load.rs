//! From file, environment and flags to checked settings.

use std::path::PathBuf;

use super::check::check;
use super::draft::Draft;
use super::file;
use super::files::Files;
use super::given::{Environment, Given, apply_environment, apply_flags, config_file, credentials};
use super::problem::Problem;
use super::settings::Settings;
use super::settle::settle;

/// Settings that may be used, and what about them deserves a second look.
#[derive(Debug)]
pub struct Loaded {
    /// The settings.
    pub settings: Settings,
    /// The file that was read, if one was named.
    pub file: Option<PathBuf>,
    /// Not wrong, but worth mending: a private key that everyone may read, for example.
    pub warnings: Vec<Problem>,
}

/// What came of reading a configuration.
#[derive(Debug)]
pub struct Reading {
    /// The settings, or every mistake.
    pub outcome: Result<Loaded, Vec<Problem>>,
    /// The files that were read or are named, as far as they are known, each as it was before.
    pub files: Files,
}

/// Reads the file (`config`, else `OSPREY_CONFIG`, else none), the environment and the flags, in
/// rising order of precedence, and checks the result, files included.
///
/// # Errors
/// Every mistake found, each with its place and with what would be right. Values that may be
/// secret are never among the text.
pub fn load(
    config: Option<PathBuf>,
    environment: &Environment,
    flags: &[Given],
) -> Result<Loaded, Vec<Problem>> {
    read(config, environment, flags).outcome
}

/// [`load()`] that says which files it has looked at, whatever is in them.
pub fn read(config: Option<PathBuf>, environment: &Environment, flags: &[Given]) -> Reading {
    let mut draft = Draft::new();
    draft.credentials = credentials(environment);
    let named = config_file(config, environment, &mut draft.notes);
    if let Some((path, place)) = &named {
        file::read(path, place, &mut draft);
    }
    apply_environment(environment, &mut draft);
    apply_flags(flags, &mut draft);
    settle(&mut draft);
    // If the file could not be read, everything in it would seem to be missing.
    if !draft.unread {
        check(&draft.settings, &draft.pending, &mut draft.notes);
    }
    let outcome = if draft.notes.problems.is_empty() {
        Ok(Loaded {
            settings: draft.settings,
            file: named.map(|(path, _)| path),
            warnings: draft.notes.warnings,
        })
    } else {
        Err(draft.notes.problems)
    };
    Reading {
        outcome,
        files: draft.files,
    }
}
