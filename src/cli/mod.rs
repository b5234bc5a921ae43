//! The command line. Exit status: 0 fine, 1 it failed while running, 2 the command line or the
//! configuration is wrong.

mod check_config;
mod demo;
mod descriptors;
mod serve;
mod settings;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// The command line or the configuration is wrong; clap's own mistakes exit with it too.
const WRONG_CONFIGURATION: u8 = 2;

const ABOUT: &str = "A query proxy for Alibaba Cloud Hologres that lets any client read \
                     BYOK-encrypted MaxCompute data";
const EXAMPLES: &str = "\
Examples:
  osprey demo
      see it work, with a small Hologres inside; nothing else is needed
  osprey serve --upstream your-instance.hologres.aliyuncs.com:80 --encrypted-project sales_enc
      then connect clients to 127.0.0.1:6432 instead, with the same user, password and database
  osprey check-config --config /etc/osprey/osprey.toml
      check a configuration and show what it comes to

Without a command, osprey serves. `osprey serve --help` lists the settings.";

#[derive(Debug, Parser)]
#[command(
    name = "osprey",
    version,
    about = ABOUT,
    after_help = EXAMPLES,
    args_conflicts_with_subcommands = true,
    next_line_help = true
)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    settings: settings::Args,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Accept clients and pass them on to Hologres (the default command)
    #[command(after_help = settings::AFTER_HELP, next_line_help = true)]
    Serve(settings::Args),
    /// Check the configuration, show what it comes to, and exit
    ///
    /// Takes the same flags, variables and file as serve, and reads the files that these name. Prints
    /// the resulting settings as a configuration file, without passwords. Exits with 0 if they are
    /// right and with 2 if not; then every mistake is shown on standard error.
    #[command(
        after_help = settings::AFTER_HELP,
        next_line_help = true,
        verbatim_doc_comment
    )]
    CheckConfig(settings::Args),
    /// Tell the story of one encrypted table: the error without Osprey, the rows with it
    Demo(demo::Args),
}

/// Runs the command line of this process.
pub fn run() -> ExitCode {
    let cli = Cli::parse();
    match cli.command {
        None => serve::run(cli.settings),
        Some(Command::Serve(settings)) => serve::run(settings),
        Some(Command::CheckConfig(settings)) => check_config::run(settings),
        Some(Command::Demo(args)) => demo::run(&args),
    }
}

#[cfg(test)]
mod tests;
