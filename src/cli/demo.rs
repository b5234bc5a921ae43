//! `osprey demo`: a simulated Hologres, Osprey in front of it, and the story of one statement.

use std::io::{self, IsTerminal, Write};
use std::net::{AddrParseError, SocketAddr, TcpListener};
use std::process::ExitCode;
use std::str::FromStr;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tokio::sync::oneshot;

use crate::config::{ConfiguredEncryption, ProjectRule, Settings};
use crate::server::{self, Server};
use crate::simulator::demo::{DATABASE, ENCRYPTED_PROJECT, Stage, Story, USER};
use crate::simulator::{Options, Simulator};

/// The account that Osprey reads the simulator's catalogs with.
const CATALOG_USER: &str = "osprey_catalog";

/// The flags.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// End after the story instead of staying up; exit status 0 only if each step happened
    #[arg(long)]
    pub(super) once: bool,

    /// Where Osprey accepts clients; a free port is taken if this one is in use
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:6432")]
    pub(super) listen: SocketAddr,

    /// Where /metrics is served, or "off"; a free port is taken if this one is in use
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:9464")]
    pub(super) metrics: Metrics,
}

/// An address, or none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Metrics(pub(super) Option<SocketAddr>);

impl FromStr for Metrics {
    type Err = AddrParseError;

    fn from_str(text: &str) -> Result<Self, AddrParseError> {
        if text.trim() == "off" {
            return Ok(Self(None));
        }
        text.trim().parse().map(Some).map(Self)
    }
}

/// Runs the demo.
pub(super) fn run(args: &Args) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build();
    let outcome = runtime
        .map_err(Failure::Io)
        .and_then(|runtime| runtime.block_on(demo(args)));
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        // Whoever read the story has closed the pipe.
        Err(Failure::Io(error)) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::FAILURE,
        Err(failure) => {
            eprintln!("osprey: {failure}");
            ExitCode::FAILURE
        }
    }
}

#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("the demo cannot run: {0}")]
    Io(#[from] io::Error),
    #[error("Osprey cannot start: {0}")]
    Server(#[from] server::Error),
}

/// Osprey on a thread of its own.
struct Running {
    listen: SocketAddr,
    metrics: Option<SocketAddr>,
    stop: oneshot::Sender<()>,
    thread: JoinHandle<Result<(), server::Error>>,
}

async fn demo(args: &Args) -> Result<bool, Failure> {
    let simulator = Simulator::start(Options::default()).await?;
    let osprey = start(args, simulator.address())?;
    let mut out = io::stdout();
    let hologres = simulator.address();
    writeln!(out, "Hologres, simulated:  {hologres}")?;
    writeln!(out, "Osprey in front:      {}", osprey.listen)?;
    match osprey.metrics {
        Some(metrics) => writeln!(out, "Osprey's metrics:     http://{metrics}/metrics")?,
        None => writeln!(out, "Osprey's metrics:     off")?,
    }

    let stage = Stage {
        simulator: &simulator,
        osprey: osprey.listen,
        metrics: osprey.metrics,
    };
    let colour = out.is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let missing = Story::new(stage, &mut out, colour).tell().await?;
    if missing.is_empty() {
        writeln!(out, "\nEach step happened.")?;
    } else {
        writeln!(out, "\nNot everything happened:")?;
        for step in &missing {
            writeln!(out, "  - {step}")?;
        }
    }
    if !args.once {
        try_next(&mut out, osprey.listen, hologres, osprey.metrics)?;
        tokio::signal::ctrl_c().await?;
    }
    let _ = osprey.stop.send(()); // Refused only if Osprey has ended, which join tells.
    match osprey.thread.join() {
        Ok(ended) => ended?,
        Err(panic) => std::panic::resume_unwind(panic),
    }
    Ok(missing.is_empty())
}

/// Statements worth a try: the encrypted table joined to a plain one, what psql asks of the catalogs,
/// and the error that there is without Osprey.
fn try_next(
    out: &mut impl Write,
    osprey: SocketAddr,
    hologres: SocketAddr,
    metrics: Option<SocketAddr>,
) -> io::Result<()> {
    const JOIN: &str = "SELECT name, sum(amount) FROM customers JOIN sales_encrypted ON customer_id = id \
                        GROUP BY name ORDER BY 2 DESC";
    let psql = |address: SocketAddr, statement: &str| {
        let (host, port) = (address.ip(), address.port());
        format!("   psql -h {host} -p {port} -U {USER} {DATABASE} -c '{statement}'")
    };
    writeln!(out, "\nTry it yourself, through Osprey:\n")?;
    writeln!(out, "{}", psql(osprey, JOIN))?;
    writeln!(out, "{}", psql(osprey, "\\d+ revenue"))?;
    let scans = "SELECT * FROM osprey_simulator.scans";
    writeln!(out, "{}", psql(osprey, scans))?;
    writeln!(out, "\nand straight at Hologres, where the first fails:\n")?;
    let (host, port) = (hologres.ip(), hologres.port());
    writeln!(out, "   psql -h {host} -p {port} -U {USER} {DATABASE}")?;
    if let Some(metrics) = metrics {
        writeln!(
            out,
            "\nWhat Osprey knows and counts, for people:  http://{metrics}/"
        )?;
        writeln!(
            out,
            "The same for Prometheus:                   http://{metrics}/metrics"
        )?;
    }
    writeln!(
        out,
        "Tables: customers, sales_plain, sales_encrypted; a view: revenue."
    )?;
    writeln!(out, "Ctrl-C ends it.")
}

fn start(args: &Args, hologres: SocketAddr) -> Result<Running, Failure> {
    let mut settings = Settings::for_upstream(hologres.ip().to_string(), hologres.port());
    settings.listeners[0].addresses = vec![free(args.listen)];
    settings.observe.metrics = args.metrics.0.map(free);
    settings.upstream_mut().catalog.user = Some(CATALOG_USER.to_owned());
    settings.upstream_mut().protect.projects.push(ProjectRule {
        name: ENCRYPTED_PROJECT.to_owned(),
        encryption: ConfiguredEncryption::Kms,
        key_id: None,
    });
    settings.limits.workers = 1;
    settings.limits.drain_timeout = Duration::from_secs(1);

    let server = Server::bind(settings)?;
    let listen = server.listen_addresses().first().copied();
    let metrics = server.metrics_address();
    let listen = listen.ok_or_else(|| io::Error::other("Osprey listens nowhere"))?;
    let (stop, stopped) = oneshot::channel();
    let thread = thread::Builder::new()
        .name("osprey".to_owned())
        .spawn(move || {
            // Dropping the sender stops Osprey as well.
            server.run(async { drop(stopped.await) })
        })?;
    Ok(Running {
        listen,
        metrics,
        stop,
        thread,
    })
}

/// `wanted`, or a free port of the same address if someone listens there already.
fn free(wanted: SocketAddr) -> SocketAddr {
    match TcpListener::bind(wanted) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            eprintln!("osprey: {wanted} is in use; taking a free port instead");
            SocketAddr::new(wanted.ip(), 0)
        }
        // Any other error is for Osprey itself to report.
        _ => wanted,
    }
}
