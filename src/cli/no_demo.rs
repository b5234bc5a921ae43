//! `osprey demo` in a build that was made without it.

use std::process::ExitCode;

use super::settings::WRONG_CONFIGURATION;

/// Whatever the demo would take.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[arg(hide = true, trailing_var_arg = true, allow_hyphen_values = true)]
    ignored: Vec<String>,
}

/// Says that there is none.
pub(super) fn run(_: &Args) -> ExitCode {
    eprintln!(
        "osprey: this build has no demo: it was made without the feature \"demo\" (--no-default-features)"
    );
    ExitCode::from(WRONG_CONFIGURATION)
}
