//! The story that `osprey demo` tells: each step is done with a real client over loopback, and
//! counts as told only if what it shows has been seen to happen.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_postgres::{Client, Config, NoTls, SimpleQueryMessage};

pub use super::engine::ENCRYPTED_PROJECT;
use super::settings::ORC_VIA_HOLO;
use super::{Engine, PANGU_ERROR, Simulator};

/// The database and the user of the story.
pub const DATABASE: &str = "shop";
/// See [`DATABASE`].
pub const USER: &str = "analyst";

const ENCRYPTED: &str = "SELECT region, count(*) AS orders, sum(amount) AS revenue\n\
                         FROM sales_encrypted GROUP BY region ORDER BY revenue DESC";
const PLAIN: &str = "SELECT order_id, product, amount FROM sales_plain WHERE region = 'east'";
const VIEW: &str = "SELECT region, revenue FROM revenue ORDER BY revenue DESC LIMIT 1";

/// How long the catalogs may take to be read before the story goes on without.
const CATALOG_PATIENCE: Duration = Duration::from_secs(10);
/// Columns that text takes at most, behind its margin of three.
const WIDTH: usize = 93;

/// Where the story takes place.
pub struct Stage<'a> {
    /// The simulated Hologres.
    pub simulator: &'a Simulator,
    /// Where Osprey listens.
    pub osprey: SocketAddr,
    /// Where Osprey serves its metrics, if it does.
    pub metrics: Option<SocketAddr>,
}

/// The story's output and what of it did not happen.
pub struct Story<'a, W> {
    stage: Stage<'a>,
    out: W,
    colour: bool,
    missing: Vec<String>,
}

/// What ended the story before its end.
type Failure = Box<dyn std::error::Error + Send + Sync>;
type Samples = BTreeMap<String, f64>;

impl<'a, W: Write> Story<'a, W> {
    /// A story to be told on `out`; `colour`: with bold headings.
    pub fn new(stage: Stage<'a>, out: W, colour: bool) -> Self {
        Self {
            stage,
            out,
            colour,
            missing: Vec::new(),
        }
    }

    /// Tells it, and returns what did not happen: nothing, if all went well.
    ///
    /// # Errors
    ///
    /// If `out` cannot be written to.
    pub async fn tell(mut self) -> io::Result<Vec<String>> {
        if let Err(failure) = self.steps().await {
            if let Some(error) = failure.downcast_ref::<io::Error>()
                && error.kind() == io::ErrorKind::BrokenPipe
            {
                return Err(io::ErrorKind::BrokenPipe.into());
            }
            self.missing
                .push(format!("the story broke off: {}", explained(&*failure)));
        }
        Ok(self.missing)
    }

    async fn steps(&mut self) -> Result<(), Failure> {
        self.heading("1. Straight to Hologres: its engine HQE cannot read the encrypted table")?;
        self.directly().await?;

        let client = connect(self.stage.osprey).await?;
        self.wait_for_catalog().await?;
        let before = match self.stage.metrics {
            Some(metrics) => Some((metrics, scrape(metrics).await?)),
            None => None,
        };
        let mark = self.stage.simulator.received().len();

        self.heading("2. The same statement through Osprey: rows")?;
        self.through_osprey(&client).await?;
        self.heading("3. A plain table through Osprey: its engine stays as it was")?;
        self.plain().await?;
        self.heading("4. What Osprey did")?;
        self.injected(mark)?;
        match before {
            Some((metrics, before)) => self.moved(metrics, &before).await,
            None => Ok(()),
        }
    }

    async fn directly(&mut self) -> Result<(), Failure> {
        let client = connect(self.stage.simulator.address()).await?;
        self.statement(ENCRYPTED)?;
        match client.simple_query(ENCRYPTED).await {
            Ok(_) => self.missed("step 1: Hologres' error was expected, and did not come"),
            Err(error) => {
                let Some(error) = error.as_db_error() else {
                    return Err(error.into());
                };
                self.wrapped(&format!("{}:  ", error.severity()), error.message())?;
                self.line(format_args!("SQLSTATE: {}", error.code().code()))?;
                if error.message() != PANGU_ERROR {
                    self.missed("step 1: the error is not the one of encrypted data");
                }
            }
        }
        Ok(())
    }

    async fn through_osprey(&mut self, client: &Client) -> Result<(), Failure> {
        let scans = || {
            self.stage
                .simulator
                .scans(Engine::Sqe, "public.sales_encrypted")
        };
        let before = scans();
        self.statement(ENCRYPTED)?;
        match client.simple_query(ENCRYPTED).await {
            Ok(answer) if table(&answer).len() > 1 => self.table(&table(&answer))?,
            Ok(_) => self.missed("step 2: no rows came through Osprey"),
            Err(error) => {
                self.wrapped("", &explained(&error))?;
                self.missed("step 2: the statement failed through Osprey");
            }
        }
        let scans = self
            .stage
            .simulator
            .scans(Engine::Sqe, "public.sales_encrypted");
        if scans.begun == before.begun {
            self.missed("step 2: SQE has not read the encrypted table");
        }
        self.line("")?;
        self.line("A view over that table, in a session of its own:")?;
        self.line("")?;
        let client = connect(self.stage.osprey).await?;
        self.statement(VIEW)?;
        match client.query(VIEW, &[]).await {
            Ok(rows) if rows.len() == 1 => {
                let row = &rows[0];
                let values = vec![row.get::<_, String>(0), row.get::<_, f64>(1).to_string()];
                self.table(&[vec!["region".into(), "revenue".into()], values])?;
            }
            Ok(_) => self.missed("step 2: the view has no rows through Osprey"),
            Err(error) => {
                self.wrapped("", &explained(&error))?;
                self.missed("step 2: the view failed through Osprey");
            }
        }
        Ok(())
    }

    async fn plain(&mut self) -> Result<(), Failure> {
        let client = connect(self.stage.osprey).await?;
        let scans = |engine| {
            self.stage
                .simulator
                .scans(engine, "public.sales_plain")
                .begun
        };
        let (hqe, sqe) = (scans(Engine::Hqe), scans(Engine::Sqe));
        self.statement(PLAIN)?;
        let answer = client.simple_query(PLAIN).await?;
        self.table(&table(&answer))?;
        self.line("")?;
        let show = format!("SHOW {ORC_VIA_HOLO}");
        self.statement(&show)?;
        let shown = table(&client.simple_query(&show).await?);
        self.table(&shown)?;
        if shown.get(1).and_then(|row| row.first()).map(String::as_str) != Some("on") {
            self.missed("step 3: the setting is not on, though only a plain table was read");
        }
        let (hqe, sqe) = (scans(Engine::Hqe) - hqe, scans(Engine::Sqe) - sqe);
        self.line("")?;
        let counted =
            format!("Scans of sales_plain, as the simulator counts: HQE {hqe}, SQE {sqe}");
        self.line(counted)?;
        if (hqe, sqe) != (1, 0) {
            self.missed("step 3: HQE alone should have read the plain table, once");
        }
        Ok(())
    }

    /// Shows what Hologres received on the connection of step 2.
    fn injected(&mut self, mark: usize) -> Result<(), Failure> {
        let received = self.stage.simulator.received();
        let received = received.get(mark..).unwrap_or_default();
        let connection = received
            .iter()
            .find(|one| one.sql == ENCRYPTED)
            .map(|one| one.connection);
        self.line("Hologres received, on the connection of step 2:")?;
        let mut injected = false;
        for one in received
            .iter()
            .filter(|one| Some(one.connection) == connection)
        {
            let ours = one.sql.contains(ORC_VIA_HOLO);
            let by = if ours { "Osprey" } else { "client" };
            injected |= ours;
            self.wrapped(&format!("  {by}  "), &one.sql)?;
        }
        self.line("")?;
        if !injected {
            self.missed("step 4: no SET of Osprey's arrived at Hologres");
        }
        Ok(())
    }

    /// Shows the metrics that have moved since `before`.
    async fn moved(&mut self, metrics: SocketAddr, before: &Samples) -> Result<(), Failure> {
        self.line(format_args!(
            "What moved at http://{metrics}/metrics meanwhile:"
        ))?;
        let after = scrape(metrics).await?;
        let mut injections = 0.0;
        for (name, value) in &after {
            let moved = value - before.get(name).unwrap_or(&0.0);
            if name.starts_with("osprey_injections") {
                injections += moved;
            }
            if moved > 0.0 && name.starts_with("osprey_") && name.contains("_total") {
                self.line(format_args!("  {name:<72} +{moved}"))?;
            }
        }
        if injections < 1.0 {
            self.missed("step 4: osprey_injections_total has not moved");
        }
        Ok(())
    }

    /// Waits until Osprey has read the catalogs: the view is known only from there.
    async fn wait_for_catalog(&mut self) -> Result<(), Failure> {
        let deadline = Instant::now() + CATALOG_PATIENCE;
        while Instant::now() < deadline {
            let known = if let Some(metrics) = self.stage.metrics {
                scrape(metrics).await?.iter().any(|(name, value)| {
                    name.starts_with("osprey_catalog_protected_relations{") && *value > 0.0
                })
            } else {
                // The last question of a reading. Should the statement come before what is made of
                // its answer, Osprey learns from the error.
                let received = self.stage.simulator.received();
                received
                    .iter()
                    .any(|one| one.sql.contains("relhassubclass"))
            };
            if known {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        self.missed("Osprey has not learned from the catalogs which relations are encrypted");
        Ok(())
    }

    fn missed(&mut self, what: &str) {
        self.missing.push(what.to_owned());
    }

    fn heading(&mut self, text: &str) -> io::Result<()> {
        let (bold, plain) = if self.colour {
            ("\x1b[1m", "\x1b[0m")
        } else {
            ("", "")
        };
        writeln!(self.out, "\n{bold}{text}{plain}\n")
    }

    fn line(&mut self, text: impl Display) -> io::Result<()> {
        let line = format!("   {text}");
        writeln!(self.out, "{}", line.trim_end())
    }

    /// A statement behind psql's prompt.
    fn statement(&mut self, sql: &str) -> io::Result<()> {
        let mut prompt = format!("{DATABASE}=> ");
        for line in format!("{sql};").lines() {
            self.line(format_args!("{prompt}{line}"))?;
            prompt = " ".repeat(prompt.len());
        }
        Ok(())
    }

    /// Text broken between words; further lines are indented as far as `lead` is long.
    fn wrapped(&mut self, lead: &str, text: &str) -> io::Result<()> {
        let mut line = lead.to_owned();
        let mut filled = false;
        for word in text.split_whitespace() {
            if filled && line.chars().count() + 1 + word.chars().count() > WIDTH {
                self.line(&line)?;
                line = " ".repeat(lead.len());
                filled = false;
            }
            if filled {
                line.push(' ');
            }
            line.push_str(word);
            filled = true;
        }
        self.line(&line)
    }

    /// Rows as psql prints them, the first being the column names.
    fn table(&mut self, rows: &[Vec<String>]) -> io::Result<()> {
        let Some(names) = rows.first() else {
            return Ok(());
        };
        let width = |at: usize| {
            let lengths = rows
                .iter()
                .filter_map(|row| row.get(at))
                .map(|value| value.chars().count());
            lengths.max().unwrap_or(0)
        };
        let widths: Vec<_> = (0..names.len()).map(width).collect();
        let rule: Vec<_> = widths.iter().map(|width| "-".repeat(width + 2)).collect();
        for (number, row) in rows.iter().enumerate() {
            let cells = row.iter().zip(&widths).map(|(value, &width)| {
                if number > 0 && value.parse::<f64>().is_ok() {
                    format!(" {value:>width$} ")
                } else {
                    format!(" {value:<width$} ")
                }
            });
            self.line(cells.collect::<Vec<_>>().join("|"))?;
            if number == 0 {
                self.line(rule.join("+"))?;
            }
        }
        Ok(())
    }
}

async fn connect(address: SocketAddr) -> Result<Client, Failure> {
    let mut config = Config::new();
    config.host(address.ip().to_string()).port(address.port());
    config
        .user(USER)
        .dbname(DATABASE)
        .application_name("osprey demo");
    config.connect_timeout(Duration::from_secs(10));
    let (client, connection) = config.connect(NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

/// The column names and the rows of an answer.
fn table(answer: &[SimpleQueryMessage]) -> Vec<Vec<String>> {
    let mut rows = Vec::new();
    for message in answer {
        match message {
            SimpleQueryMessage::RowDescription(columns) => {
                rows.push(
                    columns
                        .iter()
                        .map(|column| column.name().to_owned())
                        .collect(),
                );
            }
            SimpleQueryMessage::Row(row) => {
                let value = |at| row.get(at).unwrap_or_default().to_owned();
                rows.push((0..row.len()).map(value).collect());
            }
            _ => {}
        }
    }
    rows
}

/// Every sample that Osprey serves, by name and labels.
async fn scrape(metrics: SocketAddr) -> Result<Samples, Failure> {
    let mut stream = TcpStream::connect(metrics).await?;
    let request = format!("GET /metrics HTTP/1.0\r\nHost: {metrics}\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let status = head.lines().next().unwrap_or_default();
    if status.split(' ').nth(1) != Some("200") {
        return Err(format!("http://{metrics}/metrics answered \"{status}\"").into());
    }
    Ok(samples(body))
}

/// The samples of Prometheus' text format, comments left out.
fn samples(text: &str) -> Samples {
    text.lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| {
            let (name, value) = line.rsplit_once(' ')?;
            Some((name.to_owned(), value.parse().ok()?))
        })
        .collect()
}

/// An error with all of its sources: tokio-postgres says "db error" and keeps the message inside.
fn explained(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_read_with_their_labels() {
        let text = "# HELP a b\n# TYPE a counter\na_total{kind=\"x y\"} 3\nb 0.5\n";
        let expected = [
            ("a_total{kind=\"x y\"}".to_owned(), 3.0),
            ("b".to_owned(), 0.5),
        ];
        assert_eq!(samples(text), Samples::from(expected));
    }
}
