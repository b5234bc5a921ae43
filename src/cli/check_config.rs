//! `osprey check-config`

use std::io::Write as _;
use std::process::ExitCode;

use super::settings;
use crate::config::{Environment, schema};

/// The flags.
#[derive(Debug, clap::Args)]
#[group(id = "check-config")]
pub(super) struct Args {
    #[command(flatten)]
    pub(super) settings: settings::Args,

    /// Print the JSON schema of configuration files, for editors, and exit
    #[arg(long)]
    schema: bool,
}

/// Runs the command.
pub(super) fn run(args: Args) -> ExitCode {
    if args.schema {
        let _ = writeln!(std::io::stdout(), "{:#}", schema());
        return ExitCode::SUCCESS;
    }
    let loaded = match args.settings.load(&Environment::of_process()) {
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
