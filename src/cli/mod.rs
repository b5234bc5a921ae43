//! To be written.

pub mod demo;

/// Runs the command line.
pub fn run() -> std::process::ExitCode {
    #[derive(clap::Parser)]
    struct Args {
        #[command(subcommand)]
        command: Command,
    }
    #[derive(clap::Subcommand)]
    enum Command {
        Demo(demo::DemoArgs),
    }
    let Command::Demo(args) = <Args as clap::Parser>::parse().command;
    demo::run(&args)
}
