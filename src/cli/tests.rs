//! The command line: what it takes and what it refuses.

use clap::CommandFactory as _;

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
