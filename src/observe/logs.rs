//! Log lines on standard error, for people or as one JSON object a line.

use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::ParseError;

use crate::config::Observe;

/// Why logging could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The filter is none.
    #[error("the log filter {filter:?} is not one")]
    Filter {
        /// The filter.
        filter: String,
        /// What is wrong with it.
        source: ParseError,
    },
    /// Someone else in this process logs already.
    #[error("logging is set up already")]
    Twice,
}

/// Sends log lines to standard error from now on, in colours if a person reads them and `NO_COLOR`
/// is not set.
///
/// # Errors
/// A wrong filter (which checked settings do not have), and a second call.
pub fn init(settings: &Observe) -> Result<(), Error> {
    let filter = EnvFilter::try_new(&settings.log).map_err(|source| Error::Filter {
        filter: settings.log.clone(),
        source,
    })?;
    let colours = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    let outcome = if settings.json_logs {
        lines
            .json()
            .flatten_event(true)
            .with_current_span(false)
            .try_init()
    } else {
        lines.with_ansi(colours).try_init()
    };
    outcome.map_err(|_| Error::Twice)
}
