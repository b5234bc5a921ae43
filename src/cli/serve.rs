//! `osprey serve`

use std::error::Error;
use std::process::ExitCode;

use super::descriptors;
use super::settings::Args;
use crate::config::Environment;
use crate::observe::logs;
use crate::server::Reread;

/// Runs the command.
pub(super) fn run(args: Args) -> ExitCode {
    let reading = args.clone().read(&Environment::of_process());
    let files = reading.files;
    let loaded = match Args::shown(reading.outcome) {
        Ok(loaded) => loaded,
        Err(exit) => return exit,
    };
    if let Err(error) = logs::init(&loaded.settings.observe) {
        return failed(&error);
    }
    let version = env!("CARGO_PKG_VERSION");
    let file = loaded.file.as_ref().map(|file| file.display().to_string());
    let configuration = file.as_deref().unwrap_or("flags and environment alone");
    logs::say(
        tracing::Level::INFO,
        &format!("version {version} starts; configuration: {configuration}"),
        &[("version", version), ("configuration", configuration)],
    );
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    if let Some(warning) = descriptors::raise_limit(loaded.settings.limits.max_sessions.total) {
        tracing::warn!("{warning}");
    }
    let read_again = move || {
        let reading = args.clone().read(&Environment::of_process());
        let (said, settings) = match reading.outcome {
            Ok(loaded) => (loaded.warnings, Some(loaded.settings)),
            Err(problems) => (problems, None),
        };
        for problem in &said {
            if settings.is_some() {
                tracing::warn!("{problem}");
            } else {
                tracing::error!("{problem}");
            }
        }
        Reread {
            settings,
            files: reading.files,
        }
    };
    let exit = match crate::server::run(loaded.settings, files, read_again) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(&error),
    };
    logs::flush();
    exit
}

/// Says why, with all causes, and what to exit with.
fn failed(error: &dyn Error) -> ExitCode {
    let causes = std::iter::successors(error.source(), |&cause| cause.source());
    let text = causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"));
    logs::say(tracing::Level::ERROR, &text, &[]);
    ExitCode::FAILURE
}
