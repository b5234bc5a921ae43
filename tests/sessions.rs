//! Labelled sessions, each decided statement by statement with what a real PostgreSQL's catalogs say
//! of their database. The format is described at the head of `corpus/sessions.txt`.
//!
//! `OSPREY_SESSIONS=FILE` takes the sessions of another file, and the database of the `.sql` beside
//! it, instead: then misses and false alarms are printed and not judged.

#![allow(clippy::unwrap_used)] // a panic is the failure's report

mod common;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use common::postgres::{self, PASSWORD};
use osprey::config::{ConfiguredEncryption, ProjectRule, Secret, Settings};
use osprey::protection::knowledge::{DatabaseKnowledge, Knowledge};
use osprey::protection::{Encoding, Lexing, NameContext, NameUse, SessionNames};

/// The name of the sessions' database, and their encrypted MaxCompute project.
const DATABASE: &str = "held";
const ENCRYPTED: &str = "byok_prj";

/// One session, whose statements all succeed.
struct Session<'a> {
    database: &'a DatabaseKnowledge,
    names: SessionNames,
    /// Statements and cursors by their SQL-level name, if they read encrypted data.
    named: HashMap<String, bool>,
}

impl<'a> Session<'a> {
    fn new(database: &'a DatabaseKnowledge, user: &str) -> Self {
        Self {
            database,
            names: SessionNames::new(NameContext::new(user, &database.search_path(user))),
            named: HashMap::new(),
        }
    }

    /// True if `text` needs the route for encrypted data.
    fn run(&mut self, text: &str) -> bool {
        let lexing = self.names.lexings()[0];
        let text = encoded(text, lexing);
        let snapshot = self.database.snapshot();
        let decision = snapshot.decide_in(&text, &self.names, lexing);
        let mut protected = decision.protected.is_some();
        for name in &decision.names {
            match name {
                NameUse::Execute(name) | NameUse::Fetch(name) => {
                    protected |= self.named.get(name).copied().unwrap_or(false);
                }
                NameUse::Prepare { name, .. } | NameUse::Declare(name) => {
                    self.named
                        .insert(name.clone(), decision.protected.is_some());
                }
                _ => {}
            }
        }
        self.names.apply(&decision.changes);
        protected
    }
}

/// A session's statements: `;` parts them outside quotes, `\;` keeps two in one text.
fn statements(case: &str) -> Vec<String> {
    let mut statements = vec![String::new()];
    let mut rest = case;
    let mut quote: Option<&str> = None;
    while let Some(character) = rest.chars().next() {
        let mut taken = character.len_utf8();
        match quote {
            Some(end) if rest.starts_with(end) => {
                taken = end.len();
                quote = None;
            }
            None if rest.starts_with("\\;") => {
                statements.last_mut().unwrap().push(';');
                rest = &rest[2..];
                continue;
            }
            None if rest.starts_with("$$") => {
                taken = 2;
                quote = Some("$$");
            }
            None if character == '\'' => quote = Some("'"),
            None if character == '"' => quote = Some("\""),
            None if character == ';' => {
                statements.push(String::new());
                rest = &rest[1..];
                continue;
            }
            _ => {}
        }
        statements.last_mut().unwrap().push_str(&rest[..taken]);
        rest = &rest[taken..];
    }
    statements
        .into_iter()
        .map(|statement| statement.trim().to_owned())
        .filter(|statement| !statement.is_empty())
        .collect()
}

/// `\n`, `\r`, `\t`, and `{{N*text}}` with `{i}` in it.
fn unescaped(case: &str) -> String {
    let case = case
        .replace("\\n", "\n")
        .replace("\\r", "\r")
        .replace("\\t", "\t");
    let Some((before, rest)) = case.split_once("{{") else {
        return case;
    };
    let (repeated, after) = rest.split_once("}}").unwrap();
    let (times, text) = repeated.split_once('*').unwrap();
    let times: usize = times.parse().unwrap();
    let many: String = (0..times)
        .map(|count| text.replace("{i}", &count.to_string()))
        .collect();
    format!("{before}{many}{after}")
}

/// The bytes of a statement in a session's encoding.
fn encoded(text: &str, lexing: Lexing) -> Vec<u8> {
    let encoders = [
        ("BIG5", encoding_rs::BIG5),
        ("EUC_JP", encoding_rs::EUC_JP),
        ("GB18030", encoding_rs::GB18030),
        ("GBK", encoding_rs::GBK),
        ("LATIN1", encoding_rs::WINDOWS_1252),
        ("SJIS", encoding_rs::SHIFT_JIS),
        ("UHC", encoding_rs::EUC_KR),
        ("UTF8", encoding_rs::UTF_8),
    ];
    let is_it = |(name, _): &(&str, _)| Encoding::named(name) == Some(lexing.encoding);
    let (_, encoder) = encoders.into_iter().find(is_it).unwrap();
    let (bytes, _, lossy) = encoder.encode(text);
    assert!(!lossy, "{text} cannot be written in {}", encoder.name());
    bytes.into_owned()
}

/// The first statement of a session that needs the route, or `None`.
fn protected(database: &DatabaseKnowledge, case: &str) -> Option<String> {
    let case = unescaped(case);
    let (user, case) = match case.strip_prefix("\\c - ") {
        Some(rest) => rest.split_once('\n').unwrap(),
        None => (postgres::SUPERUSER, case.as_str()),
    };
    let mut session = Session::new(database, user);
    statements(case)
        .into_iter()
        .find(|statement| session.run(statement))
}

/// The sessions' database, its catalogs read as Osprey reads them.
async fn database(sql: &str) -> (Arc<Knowledge>, Arc<DatabaseKnowledge>) {
    let cluster = postgres::shared();
    let client = cluster.database(DATABASE).await;
    let setup = "CREATE FOREIGN DATA WRAPPER odps_fdw; \
                 CREATE SERVER odps_server FOREIGN DATA WRAPPER odps_fdw";
    client.batch_execute(setup).await.unwrap();
    // Nothing here reads foreign tables, and nobody knows Hologres' settings.
    let script: Vec<String> = sql
        .lines()
        .filter(|line| !line.starts_with("set hg_"))
        .map(|line| line.replace("with data;", "with no data;"))
        .collect();
    client.batch_execute(&script.join("\n")).await.unwrap();
    for line in sql.lines().filter(|line| line.ends_with("with data;")) {
        let name = line.split_whitespace().nth(3).unwrap();
        let filled =
            format!("UPDATE pg_class SET relispopulated = true WHERE oid = '{name}'::regclass");
        client.batch_execute(&filled).await.unwrap();
    }
    let mut settings = Settings::for_upstream("127.0.0.1", cluster.port);
    settings.upstream_mut().catalog.user = Some(postgres::SUPERUSER.into());
    settings.upstream_mut().catalog.password = Some(Secret(PASSWORD.into()));
    settings.upstream_mut().protect.projects = vec![ProjectRule {
        name: ENCRYPTED.into(),
        encryption: ConfiguredEncryption::Kms,
        key_id: None,
    }];
    let knowledge = common::knowledge(&settings);
    let database = knowledge.database(DATABASE);
    database.ready().await;
    assert!(database.snapshot().protected_count() > 0);
    (knowledge, database)
}

#[tokio::test]
async fn sessions_are_decided_as_labelled() {
    let given = std::env::var_os("OSPREY_SESSIONS").map(PathBuf::from);
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus/sessions.txt");
    let path = given.clone().unwrap_or(own);
    let read = |path: &Path| std::fs::read_to_string(path).unwrap();
    let sessions = read(&path);
    let cluster = postgres::shared();
    let (_knowledge, database) = database(&read(&path.with_extension("sql"))).await;
    drop(cluster);

    let (mut sessions_read, mut misses, mut false_alarms) = (0, Vec::new(), Vec::new());
    for line in sessions.lines() {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let mut columns = line.split('\t');
        let (label, case, why) = (
            columns.next().unwrap(),
            columns.next().unwrap(),
            columns.next().unwrap(),
        );
        sessions_read += 1;
        let short: String = case.chars().take(300).collect();
        match (label, protected(&database, case)) {
            ("y", None) => misses.push(format!("{why}: {short}")),
            ("n", Some(statement)) => {
                let statement: String = statement.chars().take(120).collect();
                false_alarms.push(format!("{why}: {short}\n      at: {statement}"));
            }
            ("y" | "n" | "m", _) => {}
            _ => panic!("{label} is no label: {line}"),
        }
    }
    let report = format!(
        "{sessions_read} sessions, {} missed, {} false alarms\nmissed:\n  {}\nfalse alarms:\n  {}",
        misses.len(),
        false_alarms.len(),
        misses.join("\n  "),
        false_alarms.join("\n  ")
    );
    println!("{report}");
    assert!(
        given.is_some() || misses.is_empty() && false_alarms.is_empty(),
        "{report}"
    );
}
