//! The command line. Exit status: 0 fine, 1 it failed while running, 2 the command line or the
//! configuration is wrong. (`doctor` has its own: 0 healthy, 1 warnings, 2 broken.)

mod asking;
mod check_config;
#[cfg(feature = "demo")]
mod demo;
mod descriptors;
mod doctor;
mod explain;
mod explain_error;
mod explain_log;
mod generated;
#[cfg(not(feature = "demo"))]
mod no_demo;
mod ready;
mod serve;
mod settings;
mod try_out;

use std::process::ExitCode;

use clap::{CommandFactory as _, Parser, Subcommand};

const ABOUT: &str = "A query proxy for Alibaba Cloud Hologres that lets any client read \
                     BYOK-encrypted MaxCompute data";
const DEMO_EXAMPLE: &str = if cfg!(feature = "demo") {
    "  osprey demo
      see it work, with a small Hologres inside; nothing else is needed
"
} else {
    ""
};
const EXAMPLES: &str =
    "  osprey try --upstream your-instance.hologres.aliyuncs.com:80 --database dw --user alice
      look at your own Hologres: what fails there, and what Osprey makes of it; it changes nothing
  osprey serve --upstream your-instance.hologres.aliyuncs.com:80 --encrypted-project sales_enc
      then connect clients to 127.0.0.1:6432 instead, with the same user, password and database
  osprey check-config --config /etc/osprey/osprey.toml
      check a configuration and show what it comes to
  osprey explain --config /etc/osprey/osprey.toml --database dw 'SELECT * FROM orders'
      is it protected, through what, and what would be sent?
  osprey explain --error < error.txt
      what does this error of Hologres' mean, and what helps?
  osprey doctor --config /etc/osprey/osprey.toml --database dw
      check the whole set-up, the cloud's side included

Without a command, osprey serves. `osprey serve --help` lists the settings.";

#[derive(Debug, Parser)]
#[command(
    name = "osprey",
    version,
    about = ABOUT,
    after_help = format!("Examples:\n{DEMO_EXAMPLE}{EXAMPLES}"),
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
    CheckConfig(check_config::Args),
    /// Say whether Osprey takes a statement to read encrypted data, why, and what it would send
    ///
    /// Reads the database's catalogs with the catalog account and asks who knows the projects' keys.
    /// With --error, says instead which rule an error of Hologres' matches and what it advises; that
    /// asks nobody and needs no configuration. With --from-log, says by user and application what
    /// Osprey would have done for sessions that it only observed, of a log in either format.
    /// Exits with 0 whatever the answer, and with 1 if there is none, or if it is that nothing is known.
    #[command(next_line_help = true)]
    Explain(explain::Args),
    /// Check a whole set-up: upstream, databases, projects, keys, roles; and say what mends it
    ///
    /// Exits with 0 if all is well, with 1 if there are warnings, and with 2 if something is broken.
    #[command(next_line_help = true)]
    Doctor(doctor::Args),
    /// Look at a real Hologres: which projects HQE cannot read, and the same statement through Osprey
    ///
    /// Connects as a user, reads the version and the catalogs, and names the foreign tables' projects.
    /// Only with consent (asked for, or --read) it reads one row of a table of each project, shows which
    /// reads fail on HQE and what they give through Osprey, and prints the configuration file for that.
    /// It changes nothing. Exits with 0 if all that failed gives rows through Osprey, with 1 if not, and
    /// with 2 if Hologres cannot be reached.
    #[command(name = "try", next_line_help = true)]
    TryOut(try_out::Args),
    /// Ask an Osprey whether it accepts clients: for the health check of a container
    ///
    /// Exits with 0 if it does, and with 1 if it does not yet, not any more, or does not answer.
    #[command(next_line_help = true)]
    Ready(ready::Args),
    /// Tell the story of one encrypted table: the error without Osprey, the rows with it
    #[cfg(feature = "demo")]
    Demo(demo::Args),
    /// Not in this build
    #[cfg(not(feature = "demo"))]
    #[command(hide = true)]
    Demo(no_demo::Args),
    /// Print the completions of Osprey's commands and flags for a shell
    ///
    /// For bash, in a session: source <(osprey completions bash). Packages install them.
    #[command(next_line_help = true)]
    Completions(generated::Completions),
    /// Write the man pages, for packages
    #[command(hide = true)]
    ManPages(generated::Pages),
}

/// Runs the command line of this process.
pub fn run() -> ExitCode {
    let cli = Cli::parse();
    match cli.command {
        None => serve::run(cli.settings),
        Some(Command::Serve(settings)) => serve::run(settings),
        Some(Command::CheckConfig(settings)) => check_config::run(settings),
        Some(Command::Explain(args)) => explain::run(args),
        Some(Command::Doctor(args)) => doctor::run(args),
        Some(Command::TryOut(args)) => try_out::run(args),
        Some(Command::Ready(args)) => ready::run(&args),
        #[cfg(feature = "demo")]
        Some(Command::Demo(args)) => demo::run(&args),
        #[cfg(not(feature = "demo"))]
        Some(Command::Demo(args)) => no_demo::run(&args),
        Some(Command::Completions(args)) => generated::completions(&args, &Cli::command()),
        Some(Command::ManPages(args)) => generated::pages(&args, Cli::command()),
    }
}

#[cfg(test)]
mod tests;
