//! The command line: what it takes and what it refuses.

use clap::ValueEnum as _;
use clap_complete::Shell;

use super::*;
use crate::config::Environment;

fn parse(line: &str) -> Result<Cli, clap::Error> {
    Cli::try_parse_from(line.split_whitespace())
}

#[test]
fn the_definition_is_consistent() {
    Cli::command().debug_assert();
}

/// These flags are a promise to scripts.
#[test]
fn the_promised_flags_are_taken_with_and_without_the_command() {
    let flags = "--upstream holo:80 --listen 127.0.0.1:1 --listen [::1]:1 --metrics off \
                 --encrypted-project a --encrypted-project b --catalog-user svc \
                 --log debug --log-format json --route auto --scope statement";
    for command in ["serve", "check-config", ""] {
        let cli = parse(&format!("osprey {command} {flags}")).unwrap();
        let settings = match cli.command {
            Some(Command::Serve(settings)) => settings,
            Some(Command::CheckConfig(args)) => args.settings,
            Some(_) => unreachable!("not asked for"),
            None => cli.settings,
        };
        let loaded = settings.load(&Environment::default()).unwrap().settings;
        assert_eq!(loaded.upstream().addresses[0].host, "holo");
        assert_eq!(loaded.listeners[0].addresses.len(), 2);
        assert_eq!(loaded.observe.metrics, None);
        assert_eq!(loaded.upstream().protect.projects.len(), 2);
        assert_eq!(loaded.upstream().catalog.user.as_deref(), Some("svc"));
        assert!(loaded.observe.json_logs);
    }
}

#[test]
fn a_wrong_command_line_exits_with_2() {
    for line in [
        "osprey sreve",
        "osprey serve --upstraem holo:80",
        "osprey serve --upstream",
        "osprey serve holo:80",
        "osprey --upstream holo:80 serve",
        "osprey ready --metrics off",
        #[cfg(feature = "demo")]
        "osprey demo --listen nowhere",
    ] {
        assert_eq!(parse(line).unwrap_err().exit_code(), 2, "{line}");
    }
    assert_eq!(parse("osprey --version").unwrap_err().exit_code(), 0);
    assert_eq!(parse("osprey --help").unwrap_err().exit_code(), 0);
}

#[test]
fn an_error_is_explained_without_database_or_upstream() {
    assert!(parse("osprey explain --error --rules own.toml text").is_ok());
    assert!(parse("osprey explain --error").is_ok());
    for line in [
        "osprey explain text",
        "osprey explain --database dw --rules own.toml text",
    ] {
        assert_eq!(parse(line).unwrap_err().exit_code(), 2, "{line}");
    }
}

#[test]
fn a_password_on_the_command_line_is_not_repeated() {
    let error = parse("osprey serve --catalog-password=hunter2 --upstream a:1").unwrap_err();
    assert!(!error.to_string().contains("hunter2"), "{error}");
}

#[test]
fn every_flag_of_serve_has_a_variable_that_the_help_names() {
    let command = Cli::command();
    let serve = command.find_subcommand("serve").unwrap();
    for (variable, _) in crate::config::VARIABLES {
        assert!(settings::AFTER_HELP.contains(variable), "{variable}");
    }
    for flag in serve.get_arguments().filter_map(clap::Arg::get_long) {
        let name = flag.replace('-', "_").to_uppercase();
        let known = settings::AFTER_HELP.contains(&format!("OSPREY_{name}"));
        assert!(known || flag == "help", "--{flag}");
    }
}

#[test]
fn one_of_several_upstreams_may_be_asked_about() {
    for line in [
        "osprey explain --config f --in-upstream etl --database dw x",
        "osprey doctor --config f --in-upstream etl",
    ] {
        assert!(parse(line).is_ok(), "{line}");
    }
    assert!(parse("osprey serve --in-upstream etl").is_err());
}

#[test]
fn help_fits_a_terminal() {
    let mut command = Cli::command();
    for name in ["serve", "explain", "doctor"] {
        let command = command.find_subcommand_mut(name).unwrap();
        let help = command.render_help().to_string();
        let long: Vec<_> = help
            .lines()
            .filter(|line| line.chars().count() > 100)
            .collect();
        assert!(long.is_empty(), "{long:#?}");
    }
}

/// The subcommands that help shows, and the command itself.
fn shown() -> Vec<clap::Command> {
    let mut command = Cli::command();
    command.build();
    let shown = command.get_subcommands().filter(|c| !c.is_hide_set());
    let mut shown: Vec<_> = shown.filter(|c| c.get_name() != "help").cloned().collect();
    shown.push(command);
    shown
}

#[test]
fn every_command_has_a_page_with_each_of_its_options() {
    let pages = generated::rendered(Cli::command()).unwrap();
    assert_eq!(pages.len(), shown().len());
    for command in shown() {
        let root = command.get_name() == "osprey";
        let name = command.get_display_name().unwrap_or("osprey");
        let (_, page) = pages
            .iter()
            .find(|(file, _)| *file == format!("{name}.1"))
            .unwrap_or_else(|| panic!("no page of {name}"));
        let page = String::from_utf8(page.clone()).unwrap();
        let page = page.replace("\\-", "-").replace("\\*(Aq", "'");
        for flag in command.get_arguments().filter_map(clap::Arg::get_long) {
            assert!(page.contains(&format!("--{flag}")), "{name}: --{flag}");
        }
        let about = command.get_about().unwrap().to_string();
        assert!(page.contains(&about), "{name}: {about}");
        for other in shown() {
            let reference = format!("osprey-{}(1)", other.get_name());
            let named = !root || other.get_name() == "osprey" || page.contains(&reference);
            assert!(named, "{reference}");
        }
        for hidden in ["man-pages", "Not in this build"] {
            assert!(!page.contains(hidden), "{name}: {hidden}");
        }
    }
    let (_, serve) = &pages[0];
    let serve = String::from_utf8(serve.clone()).unwrap();
    for (variable, _) in crate::config::VARIABLES {
        assert!(serve.contains(variable), "{variable}");
    }
    assert!(
        serve.contains(".SH ENVIRONMENT") && serve.contains(".SH EXAMPLES"),
        "{serve}"
    );
}

#[test]
fn completions_know_every_command_and_each_of_its_options() {
    for shell in Shell::value_variants() {
        let script = generated::script(*shell, &Cli::command());
        let script = String::from_utf8(script).unwrap();
        for command in shown() {
            let name = command.get_name();
            assert!(script.contains(name), "{shell}: {name}");
            for flag in command.get_arguments().filter_map(clap::Arg::get_long) {
                // fish names a flag without its hyphens.
                let known = [format!("--{flag}"), format!("-l {flag}")];
                assert!(
                    known.iter().any(|k| script.contains(k)),
                    "{shell}: --{flag}"
                );
            }
        }
        assert!(!script.contains("man-pages"), "{shell}");
    }
    assert_eq!(parse("osprey completions csh").unwrap_err().exit_code(), 2);
}
