//! `osprey demo`

use std::process::ExitCode;

/// The flags.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// End after the story instead of staying up; exit status 0 only if each step happened
    #[arg(long)]
    pub(super) once: bool,

    /// Where Osprey accepts clients; port 0 takes a free one
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:6432")]
    pub(super) listen: std::net::SocketAddr,

    /// Where /metrics is served; port 0 takes a free one
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:9464")]
    pub(super) metrics: std::net::SocketAddr,
}

pub(super) fn run(args: &Args) -> ExitCode {
    eprintln!("osprey: this build has no demo ({args:?})");
    ExitCode::FAILURE
}
