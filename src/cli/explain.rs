//! `osprey explain`: one statement, as a session would decide it; with `--error`, one error; with
//! `--from-log`, what would have been done where sessions were only observed.

use std::io::{self, Read as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use super::{asking, explain_error, explain_log};
use crate::catalog::Service;
use crate::config::Settings;
use crate::net::{Endpoint, SocketOptions};
use crate::protection::knowledge::Knowledge;
use crate::upstream::Explanation;

/// The flags.
#[derive(Debug, clap::Args)]
#[group(skip)]
pub(super) struct Args {
    #[command(flatten)]
    asking: asking::Args,

    /// The database that the statement is for
    #[arg(long, value_name = "NAME", required_unless_present_any = ["error", "from_log"])]
    database: Option<String>,

    /// Whose search path resolves names [default: the catalog account's]
    #[arg(long, value_name = "NAME")]
    user: Option<String>,

    /// Explain an error instead, as psql, a driver or a log has it
    #[arg(long)]
    error: bool,

    /// List instead what Osprey would have done in observe mode, of a log on standard input
    #[arg(long, conflicts_with_all = ["error", "text"])]
    from_log: bool,

    /// A file of rules of your own, behind Osprey's
    #[arg(long, value_name = "FILE", requires = "error")]
    rules: Option<PathBuf>,

    /// The statement, or the error's text; standard input if it is left away
    text: Option<String>,
}

/// Runs the command.
pub(super) fn run(args: Args) -> ExitCode {
    let json = args.asking.json;
    let mut is_answer = true;
    let outcome = if args.from_log {
        explain_log::explain(io::stdin().lock(), json)
            .map_err(|error| format!("cannot read the log: {error}"))
    } else if args.error {
        given(args.text, "error").and_then(|error| {
            // An error may hold anything.
            let error = String::from_utf8_lossy(&error);
            explain_error::explain(&error, args.rules.as_deref(), json)
        })
    } else {
        let settings = match args.asking.load() {
            Ok(loaded) => loaded.settings,
            Err(exit) => return exit,
        };
        let database = args.database.unwrap_or_default();
        given(args.text, "statement").and_then(|statement| {
            let statement = String::from_utf8(statement)
                .map_err(|_| "the statement is not UTF-8; give it as UTF-8")?;
            let user = args.user.as_deref();
            let explanation = asking::wait_for(explain(&settings, &database, user, &statement))??;
            is_answer = !explanation.is_unknown();
            Ok(if json {
                format!("{:#}\n", explanation.json())
            } else {
                explanation.text()
            })
        })
    };
    match outcome {
        Ok(answer) => {
            asking::print(&answer);
            if is_answer {
                ExitCode::SUCCESS
            } else {
                ExitCode::FAILURE
            }
        }
        Err(why) => {
            eprintln!("osprey: {why}");
            ExitCode::FAILURE
        }
    }
}

/// The argument, or standard input; `what` it is.
fn given(argument: Option<String>, what: &str) -> Result<Vec<u8>, String> {
    let mut text = Vec::new();
    match argument {
        Some(argument) => text = argument.into_bytes(),
        None => {
            io::stdin()
                .take(64 << 20)
                .read_to_end(&mut text)
                .map_err(|error| format!("cannot read the {what}: {error}"))?;
        }
    }
    if text.trim_ascii().is_empty() {
        return Err(format!(
            "there is no {what}; give it as an argument or on standard input"
        ));
    }
    Ok(text)
}

/// Decides `statement` as a session of `user` on `database` would.
///
/// # Errors
/// The catalogs cannot be read, in words.
async fn explain(
    settings: &Settings,
    database: &str,
    user: Option<&str>,
    statement: &str,
) -> Result<Explanation, String> {
    let upstream = settings.upstream();
    let endpoint = Endpoint::new(upstream, SocketOptions::default());
    let endpoint = Arc::new(endpoint.map_err(|error| error.to_string())?);
    let service = Service::new(&upstream.catalog, Arc::clone(&endpoint));
    let runtime = tokio::runtime::Handle::current();
    let knowledge = Knowledge::new(upstream, &settings.keys, endpoint, runtime, None);
    let database = knowledge.database(database);
    database.ready().await;
    if let Some(error) = database.reading_failure() {
        return Err(format!(
            "cannot read the catalogs of {}: {error}; {}",
            database.name(),
            error.failure.remedy_of_named()
        ));
    }
    let user = user
        .or(settings.upstream().catalog.user.as_deref())
        .unwrap_or_default();
    let inspect = settings.limits.inspect_bytes;
    let mut explanation = Explanation::of(&database, &upstream.route, inspect, user, statement);
    if let Some(service) = service {
        let objection = service.objection(database.name(), statement).await;
        // The catalogs have just been read, so the rest does not stand or fall with this.
        explanation.objection = objection.ok().flatten();
    }
    explanation.not_known = knowledge.keys().failures();
    explanation.not_known.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(explanation)
}

#[cfg(test)]
#[cfg(feature = "demo")] // they have its Hologres behind
mod tests {
    use super::*;
    use crate::config::{ConfiguredEncryption, ProjectRule, RouteKind};
    use crate::simulator::demo::{DATABASE, ENCRYPTED_PROJECT};
    use crate::simulator::{Options, Simulator};

    fn settings(simulator: &Simulator) -> Settings {
        let address = simulator.address();
        let mut settings = Settings::for_upstream(address.ip().to_string(), address.port());
        settings.upstream_mut().catalog.user = Some("svc".into());
        settings.upstream_mut().protect.projects.push(ProjectRule {
            name: ENCRYPTED_PROJECT.into(),
            encryption: ConfiguredEncryption::Kms,
            key_id: Some("key-1".into()),
        });
        settings
    }

    #[tokio::test]
    async fn a_view_is_explained_down_to_its_key() {
        let simulator = Simulator::start(Options::default()).await.unwrap();
        let settings = settings(&simulator);
        let said = explain(&settings, DATABASE, None, "SELECT * FROM revenue")
            .await
            .unwrap();
        let text = said.text();
        for line in [
            "protected: yes",
            "relation:  public.revenue",
            "  reads    public.sales_encrypted",
            "a KMS key (BYOK), key-1",
            "known:     the configuration says so",
            "sends:     SET hg_experimental_enable_access_odps_orc_via_holo = false",
            "once, for the rest of the session",
        ] {
            assert!(text.contains(line), "{line} in:\n{text}");
        }
        let json = said.json();
        assert_eq!(json["reasons"][0]["via"][0], "public.sales_encrypted");
        assert_eq!(json["reasons"][0]["record"]["key"]["id"], "key-1");
        assert_eq!(
            json["sends"],
            "SET hg_experimental_enable_access_odps_orc_via_holo = false"
        );
    }

    #[tokio::test]
    async fn every_protected_relation_is_told_once() {
        let simulator = Simulator::start(Options::default()).await.unwrap();
        let statement = "SELECT * FROM revenue r, sales_encrypted s, sales_encrypted t, customers";
        let said = explain(&settings(&simulator), DATABASE, None, statement)
            .await
            .unwrap();
        let json = said.json();
        assert_eq!(json["reasons"].as_array().unwrap().len(), 2, "{json:#}");
        assert_eq!(said.text().matches("relation:").count(), 2);
    }

    #[tokio::test]
    async fn what_is_not_protected_sends_nothing() {
        let simulator = Simulator::start(Options::default()).await.unwrap();
        let mut settings = settings(&simulator);
        for (statement, foreign) in [
            ("SELECT * FROM customers", false),
            ("SELECT * FROM sales_plain", true),
        ] {
            let said = explain(&settings, DATABASE, None, statement).await.unwrap();
            assert_eq!(said.json()["protected"], false);
            assert_eq!(said.json()["catalogs_read"], true);
            assert_eq!(said.json()["reads_foreign"], foreign, "{statement}");
            assert_eq!(said.json()["session"]["user"], "svc");
            assert_eq!(said.json()["session"]["search_path"][1], "public");
            assert!(said.text().contains("sends:     nothing\n"));
        }
        let asked = "/* osprey: route=hqe */ SELECT * FROM sales_encrypted";
        let said = explain(&settings, DATABASE, None, asked).await.unwrap();
        assert_eq!(said.sent(), None);
        assert!(said.text().contains("route=hqe"), "{}", said.text());

        settings.upstream_mut().catalog.user = None;
        let said = explain(&settings, DATABASE, None, "SELECT * FROM sales_encrypted");
        let said = said.await.unwrap();
        assert!(said.is_unknown());
        assert!(said.json()["protected"].is_null());
        assert_eq!(said.json()["catalogs_read"], false);
        assert!(
            said.text().contains("no catalog account"),
            "{}",
            said.text()
        );
        let said = explain(&settings, DATABASE, None, "SELECT 1")
            .await
            .unwrap();
        assert_eq!(said.json()["protected"], false, "it reads nothing");
    }

    #[tokio::test]
    async fn what_is_run_again_is_told() {
        let simulator = Simulator::start(Options::default()).await.unwrap();
        let settings = settings(&simulator);
        for (statement, word) in [
            ("SELECT * FROM sales_plain", "reads"),
            (
                "INSERT INTO customers SELECT 1 FROM sales_plain",
                "write_alone",
            ),
            (
                "BEGIN; INSERT INTO customers SELECT 1 FROM sales_plain",
                "writes",
            ),
            ("CREATE TABLE t AS SELECT * FROM sales_plain", "write_alone"),
            (
                "INSERT OVERWRITE customers SELECT * FROM sales_plain",
                "writes",
            ),
            ("SELECT my_function(1) FROM sales_plain", "unknown_function"),
        ] {
            let said = explain(&settings, DATABASE, None, statement).await.unwrap();
            assert_eq!(said.json()["run_again"], word, "{statement}");
            let yes = matches!(word, "reads" | "write_alone");
            let told = said.text().contains("run again: yes");
            assert_eq!(told, yes, "{}", said.text());
        }
    }

    #[tokio::test]
    async fn the_default_key_is_out_of_reach_of_sqe() {
        let options = Options {
            hg_version: "Hologres 3.2.0 (tag: x)".into(),
            ..Options::default()
        };
        let simulator = Simulator::start(options).await.unwrap();
        let mut settings = settings(&simulator);
        let upstream = settings.upstream_mut();
        upstream.protect.projects[0].encryption = ConfiguredEncryption::DefaultKey;
        upstream.protect.projects[0].key_id = None;
        let statement = "SELECT * FROM sales_encrypted";
        for (kind, out_of_reach) in [(RouteKind::Sqe, true), (RouteKind::CommonTable, false)] {
            settings.upstream_mut().route.kind = kind;
            let said = explain(&settings, DATABASE, None, statement).await.unwrap();
            assert_eq!(said.json()["protected"], true);
            assert_eq!(said.json()["out_of_reach"], out_of_reach);
            let told = said.text().contains("but:       engine SQE cannot read");
            assert_eq!(told, out_of_reach, "{}", said.text());
        }
    }

    #[tokio::test]
    async fn where_sessions_are_only_observed_nothing_is_sent() {
        let simulator = Simulator::start(Options::default()).await.unwrap();
        let mut settings = settings(&simulator);
        settings.upstream_mut().route.mode = crate::config::Mode::Observe;
        let said = explain(&settings, DATABASE, None, "SELECT * FROM sales_encrypted");
        let said = said.await.unwrap();
        assert_eq!(said.json()["protected"], true);
        assert_eq!(said.sent(), None);
        let text = said.text();
        assert!(
            text.contains("sends:     nothing: route.mode is \"observe\""),
            "{text}"
        );
    }

    #[tokio::test]
    async fn an_upstream_that_is_away_is_told() {
        let simulator = Simulator::start(Options::default()).await.unwrap();
        let settings = settings(&simulator);
        drop(simulator);
        let mut settings = settings;
        settings.upstream_mut().addresses[0].port = 1;
        let told = explain(&settings, DATABASE, None, "SELECT 1").await;
        let why = told.err().unwrap();
        assert!(why.contains("check upstream.address"), "{why}");
    }
}
