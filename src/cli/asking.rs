//! What the commands that ask once, `explain` and `doctor`, have in common.

use std::io::{self, Write as _};
use std::process::ExitCode;

use tokio::runtime::Builder;

use super::settings;
use crate::config::{Environment, Loaded};

/// Their common flags.
#[derive(Debug, clap::Args)]
#[group(skip)]
pub(super) struct Args {
    #[command(flatten)]
    settings: settings::Args,

    /// Print JSON
    #[arg(long)]
    pub(super) json: bool,
}

impl Args {
    /// The settings of `serve`, except that the key records which it keeps are not touched.
    ///
    /// # Errors
    /// What to exit with, after every mistake has been shown.
    pub(super) fn load(self) -> Result<Loaded, ExitCode> {
        let mut loaded = self.settings.load(&Environment::of_process())?;
        loaded.settings.keys.snapshot = None;
        Ok(loaded)
    }
}

/// Waits for the answer; what it needs in the background goes on meanwhile.
///
/// # Errors
/// If the runtime cannot be started.
pub(super) fn wait_for<T>(answer: impl Future<Output = T>) -> Result<T, String> {
    let runtime = Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .map_err(|error| format!("cannot start the runtime: {error}"))?;
    Ok(runtime.block_on(answer))
}

/// Prints the answer.
pub(super) fn print(text: &str) {
    // A reader that has seen enough (`| head`) is no mistake.
    let _ = io::stdout().write_all(text.as_bytes());
}
