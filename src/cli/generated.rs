//! `osprey completions` and `osprey man-pages`: what is made from the definitions of the commands, for
//! shells and for man. A package is built with both.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Command, ValueHint};
use clap_complete::Shell;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};

/// The flags of `completions`.
#[derive(Debug, clap::Args)]
pub(super) struct Completions {
    /// The shell that they are for
    pub(super) shell: Shell,
}

/// The flags of `man-pages`.
#[derive(Debug, clap::Args)]
pub(super) struct Pages {
    /// Where they are written; made if it is not there
    #[arg(value_hint = ValueHint::DirPath)]
    pub(super) directory: PathBuf,
}

/// Prints the completions of `command` for a shell.
pub(super) fn completions(args: &Completions, command: &Command) -> ExitCode {
    let script = script(args.shell, command);
    // A reader that has seen enough (`| head`) is no mistake.
    let _ = io::stdout().write_all(&script);
    ExitCode::SUCCESS
}

/// Writes a page for `command` and one for each of its subcommands.
pub(super) fn pages(args: &Pages, command: Command) -> ExitCode {
    match write(&args.directory, command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let directory = args.directory.display();
            eprintln!("osprey: cannot write man pages to {directory}: {error}");
            ExitCode::FAILURE
        }
    }
}

/// The completions as a script. Hidden subcommands are for packages and not for whoever types.
pub(super) fn script(shell: Shell, command: &Command) -> Vec<u8> {
    let mut shown = without_hidden(command);
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut shown, "osprey", &mut script);
    script
}

/// A page's file name and its text in roff, for the command and for each subcommand that help shows.
pub(super) fn rendered(command: Command) -> io::Result<Vec<(String, Vec<u8>)>> {
    let mut command = command.disable_help_subcommand(true);
    command.build();
    let subcommands = command.get_subcommands().filter(|c| !c.is_hide_set());
    subcommands
        .map(|subcommand| page(subcommand, false))
        .chain([page(&command, true)])
        .collect()
}

fn write(directory: &Path, command: Command) -> io::Result<()> {
    std::fs::create_dir_all(directory)?;
    for (name, text) in rendered(command)? {
        std::fs::write(directory.join(name), text)?;
    }
    Ok(())
}

fn without_hidden(command: &Command) -> Command {
    // clap takes no subcommand away again, so the command is put together without them.
    let shown = command.get_subcommands().filter(|c| !c.is_hide_set());
    let shown: Vec<_> = shown.cloned().collect();
    let flags: Vec<_> = command.get_arguments().cloned().collect();
    Command::new("osprey")
        .version(env!("CARGO_PKG_VERSION"))
        .args(flags)
        .subcommands(shown)
}

/// One page. `clap_mangen` knows the sections that follow from the definition; of the help's last part, which
/// it would print as one, the examples and what stands before them (the environment's variables) each have
/// a section as man pages have them.
fn page(command: &Command, is_root: bool) -> io::Result<(String, Vec<u8>)> {
    let man = Man::new(command.clone())
        .source(concat!("Osprey ", env!("CARGO_PKG_VERSION")))
        .manual("Osprey");
    let mut text = Vec::new();
    man.render_title(&mut text)?;
    man.render_name_section(&mut text)?;
    man.render_synopsis_section(&mut text)?;
    man.render_description_section(&mut text)?;
    man.render_options_section(&mut text)?;
    if is_root {
        man.render_subcommands_section(&mut text)?;
    }
    let mut rest = Roff::new();
    if let Some(help) = command.get_after_help().map(ToString::to_string) {
        let (before, examples) = help.split_once("Examples:\n").unwrap_or((&help, ""));
        as_it_is(&mut rest, "ENVIRONMENT", before);
        as_it_is(&mut rest, "EXAMPLES", examples);
    }
    if is_root {
        rest.control("SH", ["EXIT STATUS"]);
        for (status, meaning) in [
            ("0", "All went well."),
            ("1", "It failed while running."),
            ("2", "The command line or the configuration is wrong."),
        ] {
            rest.control("TP", []).text([bold(status)]);
            rest.text([roman(meaning)]);
        }
        rest.control("PP", []);
        rest.text([roman("doctor has its own, which its page tells.")]);
        rest.control("SH", ["FILES"]);
        for (file, meaning) in [
            (
                "/etc/osprey/osprey.toml",
                "The service's configuration; it names every setting.",
            ),
            (
                "/etc/osprey/environment",
                "The service's OSPREY_… variables, one NAME=value a line; need not exist.",
            ),
        ] {
            rest.control("TP", []).text([bold(file)]);
            rest.text([roman(meaning)]);
        }
    } else {
        rest.control("SH", ["SEE ALSO"])
            .text([bold("osprey"), roman("(1)")]);
    }
    rest.to_writer(&mut text)?;
    Ok((man.get_filename(), text))
}

/// A section whose lines stay as they are.
fn as_it_is(roff: &mut Roff, heading: &str, text: &str) {
    let text = text.trim_matches('\n');
    if text.is_empty() {
        return;
    }
    roff.control("SH", [heading]).control("nf", []);
    for line in text.lines() {
        roff.text([roman(line)]);
    }
    roff.control("fi", []);
}
