//! `osprey try`: the first five minutes with a real Hologres: what it is, which projects its foreign
//! tables read, which of them HQE cannot read, and the same statement with Osprey in front.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead as _, BufReader, IsTerminal as _, Write};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
use tokio::sync::oneshot;
use tokio_postgres::{NoTls, SimpleQueryMessage};

use super::{asking, settings};
use crate::advice;
use crate::catalog::{self, Contents, Service, Sort, project_key};
use crate::config::{
    ConfiguredEncryption, Environment, Given, Key, Mode, ProjectRule, Secret, Settings, TlsMode,
    load,
};
use crate::net::{Endpoint, SocketOptions};
use crate::server::Server;
use crate::wire::backend::ErrorFields;
use crate::wire::compose;

/// How long one read may take: Hologres may have to start something for it.
const READ_DEADLINE: Duration = Duration::from_mins(1);
/// So many tables of a project are tried until one of them tells.
const TABLES_TRIED: usize = 5;
/// Exit status: Hologres could not be reached or its catalogs not be read.
const NOT_REACHED: u8 = 2;

/// The flags.
#[derive(Debug, clap::Args)]
#[group(skip)]
pub(super) struct Args {
    /// The Hologres endpoint; port 80 if none is given
    #[arg(long, value_name = "HOST:PORT")]
    upstream: String,

    /// The database to look at
    #[arg(long, value_name = "NAME")]
    database: String,

    /// The user to connect as; the password is asked for, or taken from PGPASSWORD
    #[arg(long, value_name = "NAME")]
    user: String,

    /// TLS, as libpq's sslmode: disable, prefer, require, verify-ca or verify-full
    #[arg(long, value_name = "MODE", default_value = "prefer")]
    tls: TlsMode,

    /// A PEM file with the CAs to trust [default: the system's]
    #[arg(long, value_name = "FILE")]
    tls_ca: Option<std::path::PathBuf>,

    /// Read one row (LIMIT 1) of a foreign table of each project without asking first
    #[arg(long)]
    read: bool,
}

/// Runs the command.
pub(super) fn run(args: Args) -> ExitCode {
    let upstream = Given {
        key: Key::Upstream,
        flag: "--upstream",
        value: args.upstream,
    };
    let mut settings = match load(None, &Environment::default(), &[upstream]) {
        Ok(loaded) => loaded.settings,
        Err(problems) => {
            for problem in problems {
                eprintln!("osprey: {problem}");
            }
            return ExitCode::from(settings::WRONG_CONFIGURATION);
        }
    };
    let upstream = settings.upstream_mut();
    upstream.tls.mode = args.tls;
    upstream.tls.ca = args.tls_ca;
    upstream.catalog.password = password(&args.user).map(Secret);
    upstream.catalog.user = Some(args.user);
    let consent = |question: &str| args.read || asked(question);
    let outcome = asking::wait_for(examine(
        &settings,
        &args.database,
        consent,
        &mut io::stdout(),
    ));
    match outcome {
        Ok(Ok(true)) => ExitCode::SUCCESS,
        Ok(Ok(false)) => ExitCode::FAILURE,
        // Whoever read has seen enough.
        Ok(Err(Failure::Told(error))) if error.kind() == io::ErrorKind::BrokenPipe => {
            ExitCode::FAILURE
        }
        Ok(Err(failure)) => {
            eprintln!("osprey: {failure}");
            ExitCode::from(NOT_REACHED)
        }
        Err(why) => {
            eprintln!("osprey: {why}");
            ExitCode::from(NOT_REACHED)
        }
    }
}

/// `PGPASSWORD`, or what is typed at the terminal; `None`: there is neither, or nothing was typed.
fn password(user: &str) -> Option<String> {
    if let Some(given) = std::env::var_os("PGPASSWORD") {
        return Some(given.to_string_lossy().into_owned());
    }
    let terminal = OpenOptions::new().read(true).write(true).open("/dev/tty");
    let mut terminal = terminal.ok()?;
    let shown = tcgetattr(&terminal).ok()?;
    let mut hidden = shown.clone();
    hidden.local_modes.remove(LocalModes::ECHO);
    tcsetattr(&terminal, OptionalActions::Flush, &hidden).ok()?;
    let typed = prompted(&mut terminal, &format!("Password for user {user}: "));
    // The terminal gets its echo back whatever came of the reading.
    let _ = tcsetattr(&terminal, OptionalActions::Flush, &shown);
    let _ = terminal.write_all(b"\n");
    typed.ok().filter(|typed| !typed.is_empty())
}

fn prompted(terminal: &mut File, question: &str) -> io::Result<String> {
    terminal.write_all(question.as_bytes())?;
    let mut line = String::new();
    BufReader::new(&*terminal).read_line(&mut line)?;
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}

/// Asks at the terminal; no where there is none.
fn asked(question: &str) -> bool {
    if !io::stdin().is_terminal() {
        return false;
    }
    print!("{question} [y/N] ");
    let _ = io::stdout().flush();
    let mut line = String::new();
    let read = io::stdin().lock().read_line(&mut line);
    read.is_ok() && matches!(line.trim().to_ascii_lowercase().as_str(), "y" | "yes")
}

#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("{0}")]
    Hologres(String),
    #[error("Osprey cannot start: {0}")]
    Server(#[from] crate::server::Error),
    #[error("cannot tell: {0}")]
    Told(#[from] io::Error),
}

/// What came of one read.
#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    Rows(usize),
    /// HQE's failure on encrypted data, in Hologres' words.
    Encrypted(String),
    Failed(String),
}

/// Looks at the database and tells what it finds; true unless something fails with Osprey, too.
async fn examine(
    settings: &Settings,
    database: &str,
    consent: impl FnOnce(&str) -> bool,
    out: &mut impl Write,
) -> Result<bool, Failure> {
    let contents = contents(settings, database).await?;
    match contents.version {
        Some(version) => writeln!(out, "Hologres {version}, database {database}")?,
        None => writeln!(out, "Hologres of an unknown version, database {database}")?,
    }
    if contents.route.reads_encrypted_already() {
        writeln!(
            out,
            "This database reads encrypted data already: Osprey would set nothing."
        )?;
    }
    let projects = by_project(&contents);
    if projects.is_empty() {
        writeln!(
            out,
            "It has no foreign tables of MaxCompute: there is nothing for Osprey to do."
        )?;
        return Ok(true);
    }
    writeln!(out, "\nIts foreign tables, by MaxCompute project:")?;
    for (project, tables) in &projects {
        writeln!(out, "  {project}: {}, such as {}", tables.len(), tables[0])?;
    }
    let question = "\nRead one row (LIMIT 1) of a foreign table of each project, to see which ones HQE \
                    cannot read?";
    if !consent(question) {
        writeln!(
            out,
            "\nNothing was read: with --read one row of a table of each project is."
        )?;
        writeln!(out, "{}", configuration(settings, &[], &[]))?;
        return Ok(true);
    }

    // In front of it, an Osprey that only observes: every message passes as it came.
    let direct = Running::start(settings, Mode::Observe, &[])?;
    writeln!(out, "\nWithout Osprey:")?;
    let mut failing: Vec<(String, String)> = Vec::new();
    for (project, tables) in &projects {
        for table in tables.iter().take(TABLES_TRIED) {
            let statement = statement(table);
            match direct.read(settings, database, &statement).await {
                Outcome::Rows(rows) => {
                    writeln!(out, "  {project}: can be read ({statement}: {rows} rows)")?;
                    break;
                }
                Outcome::Encrypted(said) => {
                    writeln!(
                        out,
                        "  {project}: FAILS on HQE: it is encrypted ({statement})"
                    )?;
                    writeln!(out, "    {said}")?;
                    failing.push((project.clone(), statement));
                    break;
                }
                Outcome::Failed(why) => writeln!(out, "  {project}: {statement}: {why}")?,
            }
        }
    }
    direct.stop()?;
    let encrypted: Vec<String> = failing.iter().map(|(project, _)| project.clone()).collect();
    let (mut cured, mut not_cured) = (Vec::new(), Vec::new());
    if !failing.is_empty() {
        let steering = Running::start(settings, Mode::Steer, &encrypted)?;
        writeln!(out, "\nThrough Osprey:")?;
        for (project, statement) in &failing {
            match steering.read(settings, database, statement).await {
                Outcome::Rows(rows) => {
                    cured.push(project.as_str());
                    writeln!(out, "  {project}: {statement}: {rows} rows")?;
                }
                Outcome::Encrypted(why) | Outcome::Failed(why) => {
                    not_cured.push(project.as_str());
                    writeln!(out, "  {project}: {statement}: FAILS, too\n    {why}")?;
                }
            }
        }
        steering.stop()?;
    }
    writeln!(out, "{}", configuration(settings, &cured, &not_cured))?;
    Ok(not_cured.is_empty())
}

async fn contents(settings: &Settings, database: &str) -> Result<Contents, Failure> {
    let upstream = settings.upstream();
    let endpoint = Endpoint::new(upstream, SocketOptions::default())
        .map_err(|error| Failure::Hologres(error.to_string()))?;
    let service = Service::new(&upstream.catalog, Arc::new(endpoint))
        .ok_or_else(|| Failure::Hologres("there is no user".into()))?;
    service
        .read(database)
        .await
        .map_err(|error| Failure::Hologres(format!("{error}; {}", remedy(error.failure))))
}

/// What can be done about it, in this command's own words.
fn remedy(failure: catalog::Failure) -> &'static str {
    match failure {
        catalog::Failure::Unreachable => "check --upstream, and that the instance runs",
        catalog::Failure::Tls => "check --tls and --tls-ca",
        catalog::Failure::Login => {
            "check --user and its password (PGPASSWORD, or what was typed), and the instance's IP \
             address whitelist"
        }
        catalog::Failure::NoDatabase => "check --database",
        catalog::Failure::Permission => "let --user connect to the database and read pg_catalog",
        other => other.remedy(),
    }
}

/// The foreign tables of each project, quoted for SQL.
fn by_project(contents: &Contents) -> BTreeMap<String, Vec<String>> {
    let mut projects: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let quote = |name: &str| format!("\"{}\"", name.replace('"', "\"\""));
    for relation in &contents.relations {
        if let (Sort::Relation, Some(project)) = (relation.sort, &relation.project) {
            let table = format!("{}.{}", quote(&relation.schema), quote(&relation.name));
            projects
                .entry(project_key(project))
                .or_default()
                .push(table);
        }
    }
    projects
}

fn statement(table: &str) -> String {
    format!("SELECT * FROM {table} LIMIT 1")
}

/// The configuration file for what was found: which projects give rows through Osprey, and which fail
/// on HQE and give none.
fn configuration(settings: &Settings, encrypted: &[&str], not_cured: &[&str]) -> String {
    let upstream = settings.upstream();
    let text = |text: &str| toml::Value::from(text).to_string();
    let address = text(&upstream.addresses[0].to_string());
    let mut lines = vec![
        "\nThe configuration file for it (osprey serve --config FILE):\n".to_owned(),
        "[upstream]".to_owned(),
        format!("address = {address}"),
    ];
    let mode = upstream.tls.mode;
    lines.extend(["\n[upstream.tls]".to_owned(), format!("mode = \"{mode}\"")]);
    if let Some(ca) = &upstream.tls.ca {
        lines.push(format!("ca = {}", text(&ca.to_string_lossy())));
    }
    if !encrypted.is_empty() {
        let projects: Vec<_> = encrypted.iter().map(|project| text(project)).collect();
        lines.push("\n[protect]".to_owned());
        lines.push(format!("projects = [{}]", projects.join(", ")));
    }
    let comment = |project: &&str| format!("# {project} fails through Osprey, too: see above");
    lines.extend(not_cured.iter().map(comment));
    lines.join("\n")
}

/// An Osprey on a free port of this machine's own, on a thread of its own.
struct Running {
    listen: SocketAddr,
    stop: oneshot::Sender<()>,
    thread: JoinHandle<Result<(), crate::server::Error>>,
}

impl Running {
    fn start(settings: &Settings, mode: Mode, encrypted: &[String]) -> Result<Self, Failure> {
        let mut settings = settings.clone();
        settings.listeners[0].addresses = vec![SocketAddr::from(([127, 0, 0, 1], 0))];
        settings.observe.metrics = None;
        settings.limits.workers = 1;
        settings.limits.drain_timeout = Duration::from_secs(1);
        let upstream = settings.upstream_mut();
        upstream.route.mode = mode;
        let rule = |project: &String| ProjectRule {
            name: project.clone(),
            encryption: ConfiguredEncryption::Kms,
            key_id: None,
        };
        upstream.protect.projects = encrypted.iter().map(rule).collect();
        let server = Server::bind(settings)?;
        let listen = server.listen_addresses().first().copied();
        let listen = listen.ok_or_else(|| io::Error::other("Osprey listens nowhere"))?;
        let (stop, stopped) = oneshot::channel();
        let thread = thread::Builder::new()
            .name("osprey".to_owned())
            // Dropping the sender stops it as well.
            .spawn(move || server.run(async { drop(stopped.await) }))?;
        Ok(Self {
            listen,
            stop,
            thread,
        })
    }

    /// Reads as the user, in a session of its own.
    async fn read(&self, settings: &Settings, database: &str, statement: &str) -> Outcome {
        let catalog = &settings.upstream().catalog;
        let mut config = tokio_postgres::Config::new();
        config
            .host(self.listen.ip().to_string())
            .port(self.listen.port())
            .user(catalog.user.as_deref().unwrap_or_default())
            .dbname(database)
            .application_name("osprey-try");
        if let Some(Secret(password)) = &catalog.password {
            config.password(password);
        }
        let reading = async {
            let (client, connection) = config.connect(NoTls).await?;
            let connection = tokio::spawn(connection);
            let answer = client.simple_query(statement).await;
            drop(client);
            let _ = connection.await;
            answer
        };
        match tokio::time::timeout(READ_DEADLINE, reading).await {
            Ok(Ok(answer)) => {
                let is_row =
                    |message: &&SimpleQueryMessage| matches!(message, SimpleQueryMessage::Row(_));
                Outcome::Rows(answer.iter().filter(is_row).count())
            }
            Ok(Err(error)) => failed(&error),
            Err(_) => Outcome::Failed(format!("no answer in {} s", READ_DEADLINE.as_secs())),
        }
    }

    fn stop(self) -> Result<(), Failure> {
        let _ = self.stop.send(()); // Refused only if it has ended, which join tells.
        match self.thread.join() {
            Ok(ended) => Ok(ended?),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }
}

fn failed(error: &tokio_postgres::Error) -> Outcome {
    let Some(said) = error.as_db_error() else {
        return Outcome::Failed(error.to_string());
    };
    let mut frame = Vec::new();
    let fields = [
        (b'C', said.code().code().as_bytes()),
        (b'M', said.message().as_bytes()),
        (b'D', said.detail().unwrap_or_default().as_bytes()),
    ];
    compose::error(&mut frame, fields);
    // Behind the message's type and length.
    let fault = advice::recognize(ErrorFields::new(&frame[5..]));
    if fault.is_some_and(|fault| fault.is_of_encryption()) {
        return Outcome::Encrypted(said.message().to_owned());
    }
    let detail = said.detail().map(|detail| format!("\n    {detail}"));
    Outcome::Failed(format!("{}{}", said.message(), detail.unwrap_or_default()))
}

#[cfg(test)]
#[cfg(feature = "demo")] // they have its Hologres behind
mod tests {
    use super::*;
    use crate::simulator::demo::{DATABASE, ENCRYPTED_PROJECT, USER};
    use crate::simulator::{Options, Simulator};

    async fn told(simulator: &Simulator, read: bool) -> (Result<bool, Failure>, String) {
        let address = simulator.address();
        let mut settings = Settings::for_upstream(address.ip().to_string(), address.port());
        settings.upstream_mut().catalog.user = Some(USER.into());
        let mut out = Vec::new();
        let outcome = examine(&settings, DATABASE, |_| read, &mut out).await;
        (outcome, String::from_utf8(out).unwrap())
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn what_fails_on_hqe_gives_rows_through_osprey() {
        let simulator = Simulator::start(Options::default()).await.unwrap();
        let (outcome, said) = told(&simulator, true).await;
        assert!(matches!(outcome, Ok(true)), "{outcome:?} {said}");
        for line in [
            &format!("{ENCRYPTED_PROJECT}: 1, such as \"public\".\"sales_encrypted\""),
            "finance_plain: can be read (SELECT * FROM \"public\".\"sales_plain\" LIMIT 1: 1 rows)",
            &format!("{ENCRYPTED_PROJECT}: FAILS on HQE: it is encrypted"),
            "Failed to execute pangu",
            &format!(
                "{ENCRYPTED_PROJECT}: SELECT * FROM \"public\".\"sales_encrypted\" LIMIT 1: 1 rows"
            ),
        ] {
            assert!(said.contains(line), "{line} in:\n{said}");
        }
        // What it prints is a configuration that Osprey takes.
        let (_, file) = said.split_once("FILE):\n").unwrap();
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("osprey.toml");
        std::fs::write(&path, file).unwrap();
        let loaded = load(Some(path), &Environment::default(), &[])
            .unwrap()
            .settings;
        assert_eq!(
            loaded.upstream().addresses[0].port,
            simulator.address().port()
        );
        assert_eq!(
            loaded.upstream().protect.projects[0].name,
            ENCRYPTED_PROJECT
        );
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn nothing_is_read_without_consent() {
        let simulator = Simulator::start(Options::default()).await.unwrap();
        let (outcome, said) = told(&simulator, false).await;
        assert!(matches!(outcome, Ok(true)), "{outcome:?} {said}");
        assert!(
            said.contains("Nothing was read") && !said.contains("SELECT"),
            "{said}"
        );
        assert!(said.contains("[upstream]\naddress = "), "{said}");
    }

    #[tokio::test]
    async fn a_hologres_that_is_away_is_told() {
        let mut settings = Settings::for_upstream("127.0.0.1", 1);
        settings.upstream_mut().catalog.user = Some(USER.into());
        let outcome = examine(&settings, DATABASE, |_| true, &mut Vec::new()).await;
        let why = outcome.unwrap_err().to_string();
        assert!(why.contains("check --upstream"), "{why}");
    }
}
