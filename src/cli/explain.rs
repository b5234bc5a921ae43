//! `osprey explain`: one statement, as a session would decide it; with `--error`, one error.

use std::io::{self, Read as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use serde_json::json;

use super::{asking, explain_error, words};
use crate::catalog::Service;
use crate::config::{Scope, Settings};
use crate::keys::{Encryption, LookupError};
use crate::net::{Endpoint, SocketOptions};
use crate::protection::knowledge::{DatabaseKnowledge, Knowledge};
use crate::protection::{Decision, Effects, NameContext, Reason, RouteHint, Source};

/// The flags.
#[derive(Debug, clap::Args)]
#[group(skip)]
pub(super) struct Args {
    #[command(flatten)]
    asking: asking::Args,

    /// The database that the statement is for
    #[arg(long, value_name = "NAME", required_unless_present = "error")]
    database: Option<String>,

    /// Whose search path resolves names [default: the catalog account's]
    #[arg(long, value_name = "NAME")]
    user: Option<String>,

    /// Explain an error instead, as psql, a driver or a log has it
    #[arg(long)]
    error: bool,

    /// A file of rules of your own, behind Osprey's
    #[arg(long, value_name = "FILE", requires = "error")]
    rules: Option<PathBuf>,

    /// The statement, or the error's text; standard input if it is left away
    text: Option<String>,
}

/// What there is to say.
pub(super) struct Explanation {
    database: String,
    decision: Arc<Decision>,
    reasons: Vec<Arc<Reason>>,
    /// The catalogs were read.
    read: bool,
    /// What Hologres has against the statement, as it says it to the catalog account.
    objection: Option<String>,
    /// Projects that nobody could be asked about, and why.
    not_known: Vec<(String, LookupError)>,
    scope: Scope,
    /// The setting that would be made: name and value.
    setting: (&'static str, &'static str),
    /// That setting lets data be read that is encrypted with the default key, too.
    common_table: bool,
    /// A fresh session reads encrypted data without it.
    already: bool,
}

/// Runs the command.
pub(super) fn run(args: Args) -> ExitCode {
    let json = args.asking.json;
    let outcome = if args.error {
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
            ExitCode::SUCCESS
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
pub(super) async fn explain(
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
    let knowledge = Knowledge::new(upstream, &settings.keys, endpoint, runtime);
    let database = knowledge.database(database);
    database.ready().await;
    if let Some(error) = database.reading_failure() {
        return Err(format!(
            "cannot read the catalogs of {}: {error}; {}",
            database.name(),
            error.failure.remedy()
        ));
    }
    let user = user
        .or(settings.upstream().catalog.user.as_deref())
        .unwrap_or_default();
    let mut explanation = decide(settings, &database, user, statement);
    if let Some(service) = service {
        let objection = service.objection(database.name(), statement).await;
        // The catalogs have just been read, so the rest does not stand or fall with this.
        explanation.objection = objection.ok().flatten();
    }
    explanation.not_known = knowledge.keys().failures();
    explanation.not_known.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(explanation)
}

fn decide(
    settings: &Settings,
    database: &DatabaseKnowledge,
    user: &str,
    statement: &str,
) -> Explanation {
    let snapshot = database.load_full();
    let names = NameContext::new(user, &database.search_path(user));
    let text = statement.as_bytes();
    let decision = match text.get(..settings.limits.inspect_bytes) {
        Some(head) if head.len() < text.len() => snapshot.decide_prefix(head, &names),
        _ => snapshot.decide(text, &names),
    };
    // Of a text that is cut off, the decision's own reason is all that is known.
    let reasons = match &decision.protected {
        None => Vec::new(),
        Some(first) => match snapshot.reasons(text, &names) {
            all if all.is_empty() => vec![Arc::clone(first)],
            all => all,
        },
    };
    let common_table =
        crate::catalog::route::is_common_table(settings.upstream().route.kind, snapshot.version());
    Explanation {
        database: database.name().to_owned(),
        decision,
        reasons,
        read: database.reading_age().is_some(),
        objection: None,
        not_known: Vec::new(),
        scope: settings.upstream().route.scope,
        setting: crate::catalog::route::route_setting(common_table),
        common_table,
        already: database.route(user).reads_encrypted_already(),
    }
}

impl Explanation {
    /// The statement that a session which has not had it yet would get in front.
    fn sent(&self) -> Option<String> {
        let wanted = match self.decision.hint {
            Some(RouteHint::Sqe) => true,
            Some(RouteHint::Hqe | RouteHint::Off) => false,
            None => self.decision.protected.is_some(),
        };
        let (name, value) = self.setting;
        (wanted && !self.already).then(|| format!("SET {name} = {value}"))
    }

    /// True if it reads data that is encrypted with the default key, and what is sent does not let it.
    fn is_out_of_reach(&self) -> bool {
        let default_key = |reason: &Arc<Reason>| {
            let record = reason.key.as_deref();
            record.is_some_and(|record| record.encryption == Encryption::DefaultKey)
        };
        !self.common_table && self.sent().is_some() && self.reasons.iter().any(default_key)
    }

    fn json(&self) -> serde_json::Value {
        let reasons = self.reasons.iter().map(|reason| {
            json!({
                "relation": reason.relation,
                "via": reason.via,
                "project": reason.project,
                "source": source(reason.source),
                "record": reason.key.as_deref().map(words::record),
            })
        });
        json!({
            "database": self.database,
            "protected": self.decision.protected.is_some(),
            "catalogs_read": self.read,
            "objection": self.objection,
            "reasons": reasons.collect::<Vec<_>>(),
            "not_looked_up": self
                .not_known
                .iter()
                .map(|(project, error)| json!({"project": project, "error": error.to_string()}))
                .collect::<Vec<_>>(),
            "reads_foreign": self.decision.effects.has(Effects::READS_FOREIGN),
            "hint": self.decision.hint.map(hint),
            "reads_encrypted_already": self.already,
            "sends": self.sent(),
            "out_of_reach": self.is_out_of_reach(),
        })
    }

    fn text(&self) -> String {
        let mut lines = Vec::new();
        if self.decision.protected.is_some() {
            lines.push("protected: yes".into());
            self.reasons
                .iter()
                .for_each(|reason| told(reason, &mut lines));
        } else {
            lines.push("protected: no".to_owned());
            if self.decision.effects.has(Effects::READS_FOREIGN) {
                lines.push(
                    "  it reads MaxCompute data that is not known to be encrypted; should HQE fail \
                     on it, Osprey learns from that"
                        .into(),
                );
            }
        }
        if let Some(objection) = &self.objection {
            lines.push(format!("Hologres:  {objection}, to the catalog account"));
        }
        if !self.read {
            lines.push(
                "not known: which relations lead to MaxCompute, since there is no catalog account \
                 to read the catalogs with (--catalog-user); sessions read them in their own name"
                    .into(),
            );
        }
        for (project, error) in &self.not_known {
            lines.push(format!("not known: project {project}: {error}"));
        }
        if let Some(asked) = self.decision.hint {
            lines.push(format!("comment:   osprey: route={}", hint(asked)));
        }
        let sent = match self.sent() {
            Some(sent) => {
                let lasts = match self.scope {
                    Scope::Session => "once, for the rest of the session",
                    Scope::Statement => "for this statement alone",
                };
                format!("{sent}\n           {lasts}")
            }
            None if self.already => {
                format!("nothing: sessions of {} start with it", self.database)
            }
            None => "nothing".into(),
        };
        lines.push(format!("sends:     {sent}"));
        if self.is_out_of_reach() {
            lines.push(
                "but:       engine SQE cannot read data encrypted with MaxCompute's default key; set \
                 route.kind = \"common-table\" (--route common-table), from Hologres V3.2 on"
                    .into(),
            );
        }
        lines.join("\n") + "\n"
    }
}

fn told(reason: &Reason, lines: &mut Vec<String>) {
    lines.push(format!("relation:  {}", reason.relation));
    for via in &reason.via {
        lines.push(format!("  reads    {via}"));
    }
    if let Some(project) = &reason.project {
        lines.push(format!("project:   {project}"));
    }
    if let Some(record) = &reason.key {
        lines.push(format!("key:       {}", words::encryption(record)));
    }
    let known = match (reason.source, &reason.key) {
        (Source::Key, Some(record)) => words::origin(record.origin),
        (Source::Pattern, _) => "a pattern under [protect] matches it",
        (Source::Key | Source::Learned, _) => "HQE failed on it",
    };
    lines.push(format!("known:     {known}"));
}

fn source(source: Source) -> &'static str {
    match source {
        Source::Pattern => "pattern",
        Source::Key => "key",
        Source::Learned => "learned",
    }
}

fn hint(hint: RouteHint) -> &'static str {
    match hint {
        RouteHint::Sqe => "sqe",
        RouteHint::Hqe => "hqe",
        RouteHint::Off => "off",
    }
}

#[cfg(test)]
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
            assert!(said.text().contains("sends:     nothing\n"));
        }
        let asked = "/* osprey: route=hqe */ SELECT * FROM sales_encrypted";
        let said = explain(&settings, DATABASE, None, asked).await.unwrap();
        assert_eq!(said.sent(), None);
        assert!(said.text().contains("route=hqe"), "{}", said.text());

        settings.upstream_mut().catalog.user = None;
        let said = explain(&settings, DATABASE, None, "SELECT * FROM sales_encrypted");
        let said = said.await.unwrap();
        assert_eq!(said.json()["protected"], false);
        assert_eq!(said.json()["catalogs_read"], false);
        assert!(
            said.text().contains("no catalog account"),
            "{}",
            said.text()
        );
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
