//! What all connections to one simulator share: the database, the counters, the log.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::database::{Database, Rows};
use super::engine::{Engine, PANGU_ERROR};
use super::functions::{SetRequest, locked as locked_context};
use super::scope::{Relation, Relations};
use super::settings::{FAIL_AFTER_ROWS, Settings};
use super::translate::Translation;
use super::value::{SqlError, Value, array_text};

/// How a simulated Hologres differs from the usual.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where to listen; port 0 takes a free one.
    pub listen: SocketAddr,
    /// The cleartext password every user must give; `None` trusts everyone.
    pub password: Option<String>,
    /// How many rows HQE delivers before it fails on encrypted data. A session can change it for
    /// itself by `SET osprey_simulator.fail_after_rows = n`.
    pub fail_after_rows: usize,
    /// What `hg_version()` answers.
    pub hg_version: String,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            password: None,
            fail_after_rows: 0,
            hg_version: "Hologres 2.2.47 (tag: simulator), compatible with PostgreSQL 11.3".into(),
        }
    }
}

/// How many received statements are kept.
const LOG: usize = 10_000;

/// How often an engine has read a relation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Scans {
    /// Scans begun.
    pub begun: u64,
    /// Those of them that failed on encrypted data.
    pub failed: u64,
}

/// A statement as it arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Received {
    /// The connection's process number, as in BackendKeyData.
    pub connection: i32,
    /// How it came.
    pub protocol: Protocol,
    /// Its text; of a simple query all of it.
    pub sql: String,
}

/// How a statement came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// A Query message.
    Simple,
    /// An Execute message that begins to run a portal.
    Extended,
}

/// Who asks.
pub(super) struct Asking<'a> {
    pub(super) settings: &'a Settings,
    pub(super) user: &'a str,
    pub(super) database: &'a str,
    pub(super) connection: i32,
}

/// The OID of the database that a session is in.
const DATABASE_OID: i64 = 16_000;

/// The shared state.
pub(super) struct World {
    pub(super) relations: Relations,
    database: Mutex<Database>,
    pub(super) hg_version: String,
    pub(super) password: Option<String>,
    fail_after_rows: usize,
    connections: AtomicI32,
    databases: Mutex<BTreeMap<String, BTreeMap<String, String>>>,
    scans: Mutex<BTreeMap<(Engine, String), Scans>>,
    received: Mutex<VecDeque<Received>>,
}

impl World {
    pub(super) fn new(options: Options) -> io::Result<Self> {
        let (database, relations) =
            Database::new().map_err(|error| io::Error::other(error.message))?;
        Ok(Self {
            relations,
            database: Mutex::new(database),
            hg_version: options.hg_version,
            password: options.password,
            fail_after_rows: options.fail_after_rows,
            connections: AtomicI32::new(0),
            databases: Mutex::default(),
            scans: Mutex::default(),
            received: Mutex::default(),
        })
    }

    /// The process number of the next connection.
    pub(super) fn next_connection(&self) -> i32 {
        1 + self.connections.fetch_add(1, Ordering::Relaxed)
    }

    /// The relation of that qualified name, if it is a foreign table's.
    pub(super) fn foreign(&self, name: &str) -> Option<&Relation> {
        self.relations
            .get(name)
            .filter(|relation| relation.foreign.is_some())
    }

    /// Whether the engine can run what the translation has made.
    pub(super) fn check(&self, sql: &str) -> Result<(), SqlError> {
        locked(&self.database).check(sql)
    }

    /// Runs a query for a session, on the engines that its settings choose.
    pub(super) fn run(
        &self,
        query: &Translation,
        parameters: &[Value],
        asking: &Asking<'_>,
    ) -> Result<(Rows, Vec<SetRequest>), SqlError> {
        let database = locked(&self.database);
        for read in &query.reads {
            if let Some(rows) = self.present(read, asking) {
                database.replace(read, rows)?;
            }
        }
        let hqe = Engine::reading(true, asking.settings) == Engine::Hqe;
        let delivered = asking.settings.get(FAIL_AFTER_ROWS);
        let delivered = delivered.and_then(|rows| rows.parse().ok()).unwrap_or(0);
        {
            let mut context = locked_context(&database.context);
            context.session = [
                ("user", asking.user.to_owned()),
                ("database", asking.database.to_owned()),
                ("pid", asking.connection.to_string()),
                ("hg_version", self.hg_version.clone()),
            ]
            .into();
            context.settings = asking.settings.all().clone();
            context.readable = hqe.then_some(delivered);
            context.sets.clear();
            context.failure = None;
        }
        let rows = database.run(&query.sql, parameters);
        let sets = std::mem::take(&mut locked_context(&database.context).sets);
        let failed = rows
            .failure
            .as_ref()
            .is_some_and(|failure| failure.message == PANGU_ERROR);
        let mut scans = locked(&self.scans);
        for read in query
            .reads
            .iter()
            .filter(|read| read.starts_with("public."))
        {
            let relation = self.foreign(read);
            let engine = Engine::reading(relation.is_some(), asking.settings);
            let count = scans.entry((engine, read.clone())).or_default();
            count.begun += 1;
            count.failed += u64::from(failed && relation.is_some_and(Relation::is_encrypted));
        }
        Ok((rows, sets))
    }

    /// The rows of a relation that are others at each moment.
    fn present(&self, relation: &str, asking: &Asking<'_>) -> Option<Vec<Vec<Value>>> {
        let text = |text: &str| Value::Text(text.to_owned());
        match relation {
            "osprey_simulator.scans" => Some(self.scans_rows()),
            "osprey_simulator.statements" => Some(self.statements_rows()),
            "pg_catalog.pg_database" => Some(Self::databases_rows(asking.database)),
            "pg_catalog.pg_db_role_setting" => {
                let databases = locked(&self.databases);
                let settings = databases.get(asking.database)?.iter();
                let settings: Vec<_> = settings
                    .map(|(name, value)| Some(format!("{name}={value}")))
                    .collect();
                Some(vec![vec![
                    Value::Integer(DATABASE_OID),
                    Value::Integer(0),
                    Value::Text(array_text(&settings)),
                ]])
            }
            "pg_catalog.pg_settings" => {
                let altered = self.database_settings(asking.database);
                let rows = asking.settings.all().iter().map(|(name, value)| {
                    let source = if asking.settings.is_own(name) {
                        "session"
                    } else if altered.iter().any(|(altered, _)| altered == name) {
                        "database"
                    } else {
                        "default"
                    };
                    vec![
                        text(name),
                        text(value),
                        Value::Null,
                        text("Preset Options"),
                        text(""),
                        Value::Null,
                        text("user"),
                        text("string"),
                        text(source),
                        Value::Null,
                        Value::Null,
                        Value::Null,
                        text(value),
                        text(value),
                        Value::Null,
                        Value::Null,
                        Value::Integer(0),
                    ]
                });
                Some(rows.collect())
            }
            _ => None,
        }
    }

    fn databases_rows(present: &str) -> Vec<Vec<Value>> {
        let mut names = vec![present, "postgres"];
        names.dedup();
        let rows = names.into_iter().zip(DATABASE_OID..).map(|(name, oid)| {
            let text = |text: &str| Value::Text(text.to_owned());
            let number = Value::Integer;
            vec![
                number(oid),
                text(name),
                number(10),
                number(6),
                text("en_US.UTF-8"),
                text("en_US.UTF-8"),
                number(0),
                number(1),
                number(-1),
                number(12_000),
                number(0),
                number(0),
                number(1663),
                Value::Null,
            ]
        });
        rows.collect()
    }

    pub(super) fn scans(&self, engine: Engine, relation: &str) -> Scans {
        let scans = locked(&self.scans);
        scans
            .get(&(engine, relation.to_owned()))
            .copied()
            .unwrap_or_default()
    }

    fn scans_rows(&self) -> Vec<Vec<Value>> {
        let number = |count: u64| Value::Integer(i64::try_from(count).unwrap_or(i64::MAX));
        locked(&self.scans)
            .iter()
            .map(|((engine, relation), count)| {
                vec![
                    Value::Text(engine.to_string()),
                    Value::Text(relation.clone()),
                    number(count.begun),
                    number(count.failed),
                ]
            })
            .collect()
    }

    fn statements_rows(&self) -> Vec<Vec<Value>> {
        let name = |protocol| match protocol {
            Protocol::Simple => "simple",
            Protocol::Extended => "extended",
        };
        locked(&self.received)
            .iter()
            .map(|received| {
                vec![
                    Value::Integer(i64::from(received.connection)),
                    Value::Text(name(received.protocol).to_owned()),
                    Value::Text(received.sql.clone()),
                ]
            })
            .collect()
    }

    pub(super) fn record(&self, received: Received) {
        let mut log = locked(&self.received);
        if log.len() == LOG {
            log.pop_front();
        }
        log.push_back(received);
    }

    pub(super) fn received(&self) -> Vec<Received> {
        locked(&self.received).iter().cloned().collect()
    }

    /// `ALTER DATABASE … SET`; `None` resets.
    pub(super) fn alter_database(&self, database: &str, name: &str, value: Option<String>) {
        let mut databases = locked(&self.databases);
        let settings = databases.entry(database.to_owned()).or_default();
        match value {
            Some(value) => drop(settings.insert(name.to_ascii_lowercase(), value)),
            None => drop(settings.remove(&name.to_ascii_lowercase())),
        }
    }

    /// What a new connection to `database` begins with, other than the defaults.
    pub(super) fn database_settings(&self, database: &str) -> Vec<(String, String)> {
        let fail_after_rows = (FAIL_AFTER_ROWS.to_owned(), self.fail_after_rows.to_string());
        let databases = locked(&self.databases);
        let altered = databases.get(database).into_iter().flatten();
        let altered = altered.map(|(name, value)| (name.clone(), value.clone()));
        std::iter::once(fail_after_rows).chain(altered).collect()
    }
}

/// The lock, also after a panic elsewhere: the state is whole between any two statements.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
