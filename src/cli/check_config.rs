//! `osprey check-config`

use std::io::Write as _;
use std::process::ExitCode;

use super::settings::Args;
use crate::config::Environment;

/// Runs the command.
pub(super) fn run(args: Args) -> ExitCode {
    let loaded = match args.load(&Environment::of_process()) {
        Ok(loaded) => loaded,
        Err(exit) => return exit,
    };
    // A reader that has seen enough (`| head`) is no mistake.
    let _ = write!(std::io::stdout(), "{}", loaded.settings);
    for warning in &loaded.warnings {
        eprintln!("osprey: warning: {warning}");
    }
    eprintln!("osprey: the configuration is right");
    ExitCode::SUCCESS
}
