//! The flags that `serve` and `check-config` share, and the settings they come to.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use crate::advice::Rules;
use crate::config::{self, Environment, Given, Key, Loaded, Problem, Reading};

/// The command line or the configuration is wrong; clap's own mistakes exit with it too.
pub(super) const WRONG_CONFIGURATION: u8 = 2;

/// Where to go on from a wrong configuration.
const ELSEWHERE: &str = if cfg!(feature = "demo") {
    "`osprey serve --help` lists the settings; `osprey demo` needs none."
} else {
    "`osprey serve --help` lists the settings."
};

pub(super) const AFTER_HELP: &str = "\
Flags win over environment variables, these win over the file, the file wins over the defaults.
Each flag has its variable: OSPREY_CONFIG, OSPREY_UPSTREAM, OSPREY_LISTEN, OSPREY_METRICS,
OSPREY_ENCRYPTED_PROJECTS, OSPREY_CATALOG_USER, OSPREY_CATALOG_PASSWORD_FILE, OSPREY_MODE,
OSPREY_ROUTE, OSPREY_SCOPE, OSPREY_LOG, OSPREY_LOG_FORMAT; lists are separated by commas. The
catalog account's password itself may be in OSPREY_CATALOG_PASSWORD. Everything else is set in the
file.

Examples:
  osprey serve --upstream your-instance.hologres.aliyuncs.com:80 --encrypted-project sales_enc
      clients connect to 127.0.0.1:6432; what reads project sales_enc runs on the right engine
  OSPREY_CATALOG_PASSWORD=… osprey serve --upstream HOST:80 --catalog-user svc_osprey \\
          --encrypted-project 'enc_*' --listen 0.0.0.0:6432
      find the foreign tables of these projects, and the views over them, in the catalogs
  osprey serve --config /etc/osprey/osprey.toml --log info,osprey::session=debug";

/// The flags. Values are checked with those of the other sources, so that all mistakes show at
/// once and each is named by where it was made.
#[derive(Debug, Clone, Default, clap::Args)]
pub(super) struct Args {
    /// The Hologres endpoint to pass clients on to; port 80 if none is given
    #[arg(long, value_name = "HOST:PORT")]
    upstream: Option<String>,

    /// Where clients connect; may be repeated [default: 127.0.0.1:6432]
    #[arg(long, value_name = "ADDR:PORT")]
    listen: Vec<String>,

    /// Where /metrics, /healthz and /readyz are served, or "off" [default: 127.0.0.1:9464]
    #[arg(long, value_name = "ADDR:PORT|off")]
    metrics: Option<String>,

    /// A MaxCompute project encrypted with a KMS key, with * and ? as wildcards; may be repeated
    #[arg(long, value_name = "NAME")]
    encrypted_project: Vec<String>,

    /// The Hologres account that reads the catalogs for foreign tables and views
    #[arg(long, value_name = "USER")]
    catalog_user: Option<String>,

    /// A file with that account's password
    #[arg(long, value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    catalog_password_file: Option<String>,

    /// The configuration file; config/osprey.toml shows every setting
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,

    /// Act, or only count and log what would be done: steer or observe [default: steer]
    #[arg(long, value_name = "MODE")]
    mode: Option<String>,

    /// What to set for encrypted data: sqe, common-table (from V3.2) or auto [default: sqe]
    #[arg(long, value_name = "ROUTE")]
    route: Option<String>,

    /// How long it stays set: session or statement [default: session]
    #[arg(long, value_name = "SCOPE")]
    scope: Option<String>,

    /// What to log: error, warn, info, debug or trace, also per module [default: info]
    #[arg(long, value_name = "FILTER")]
    log: Option<String>,

    /// How to log: text or json [default: text]
    #[arg(long, value_name = "FORMAT")]
    log_format: Option<String>,
}

impl Args {
    /// The settings that these flags, the environment and the file come to. Warnings and mistakes
    /// are for the caller to show.
    ///
    /// # Errors
    /// What to exit with, after every mistake has been shown on standard error.
    pub(super) fn load(self, environment: &Environment) -> Result<Loaded, ExitCode> {
        Self::shown(self.read(environment).outcome)
    }

    /// Shows every mistake on standard error.
    ///
    /// # Errors
    /// What to exit with, if there are some.
    pub(super) fn shown(outcome: Result<Loaded, Vec<Problem>>) -> Result<Loaded, ExitCode> {
        outcome.map_err(|problems| {
            let mut text = String::new();
            for problem in &problems {
                let _ = writeln!(text, "osprey: {problem}");
            }
            let count = problems.len();
            let mistakes = if count == 1 { "mistake" } else { "mistakes" };
            let _ = writeln!(
                text,
                "osprey: {count} {mistakes} in the configuration. {ELSEWHERE}"
            );
            // Nobody there to be told changes nothing about how this ends.
            let _ = std::io::stderr().write_all(text.as_bytes());
            ExitCode::from(WRONG_CONFIGURATION)
        })
    }

    /// The same without a word, for a process that has a log to show mistakes in.
    pub(super) fn read(self, environment: &Environment) -> Reading {
        let config = self.config.clone();
        let mut reading = config::read(config, environment, &self.given());
        reading.outcome = reading.outcome.and_then(|loaded| {
            if let Some(file) = &loaded.settings.observe.rules {
                Rules::with_file(file)?;
            }
            Ok(loaded)
        });
        reading
    }

    fn given(self) -> Vec<Given> {
        let one = |key, flag, value: Option<String>| (key, flag, Vec::from_iter(value));
        [
            one(Key::Upstream, "--upstream", self.upstream),
            (Key::Listen, "--listen", self.listen),
            one(Key::Metrics, "--metrics", self.metrics),
            (
                Key::EncryptedProject,
                "--encrypted-project",
                self.encrypted_project,
            ),
            one(Key::CatalogUser, "--catalog-user", self.catalog_user),
            one(
                Key::CatalogPasswordFile,
                "--catalog-password-file",
                self.catalog_password_file,
            ),
            one(Key::Mode, "--mode", self.mode),
            one(Key::Route, "--route", self.route),
            one(Key::Scope, "--scope", self.scope),
            one(Key::Log, "--log", self.log),
            one(Key::LogFormat, "--log-format", self.log_format),
        ]
        .into_iter()
        .flat_map(|(key, flag, values)| {
            values
                .into_iter()
                .map(move |value| Given { key, flag, value })
        })
        .collect()
    }
}
