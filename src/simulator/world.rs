//! What all connections to one simulator share: the relations, the counters, the log.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::data::{Kind, Relation, Rows, relations};
use super::settings::{CATALOG_ROUTING, FAIL_AFTER_ROWS, ORC_VIA_HOLO, Settings};
use super::value::{SqlError, Value};

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

/// What the vendor's page quotes for HQE reading encrypted data, to the letter.
pub const PANGU_ERROR: &str = "status { code: SERVER_INTERNAL_ERROR message: \"hos_exception: \
     IO error: Failed to execute pangu open normal file \
     pangu://xxx:xxx/product/odps/xxx/data/xxxx/xxx/xxx, errorcode: 9, errorcode_description: \
     invalid argument, err_msg: PanguParameterInvalidException";

/// What reads a relation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Engine {
    /// Hologres Query Engine: fast, cannot read data encrypted with a KMS key.
    Hqe,
    /// Seahawks Query Engine.
    Sqe,
    /// The Common Table path.
    CommonTable,
}

impl Engine {
    /// The engine that `settings` choose for a relation.
    pub(super) fn reading(kind: &Kind, settings: &Settings) -> Self {
        let routing = settings.get(CATALOG_ROUTING).unwrap_or_default();
        if !matches!(kind, Kind::Foreign { .. }) {
            Self::Hqe
        } else if routing.contains("odps:common_table") {
            Self::CommonTable
        } else if settings.get(ORC_VIA_HOLO) == Some("off") {
            Self::Sqe
        } else {
            Self::Hqe
        }
    }
}

impl fmt::Display for Engine {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Hqe => "HQE",
            Self::Sqe => "SQE",
            Self::CommonTable => "Common Table",
        })
    }
}

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

/// The shared state.
pub(super) struct World {
    pub(super) relations: Vec<Relation>,
    pub(super) hg_version: String,
    pub(super) password: Option<String>,
    fail_after_rows: usize,
    connections: AtomicI32,
    databases: Mutex<BTreeMap<String, BTreeMap<String, String>>>,
    scans: Mutex<BTreeMap<(Engine, String), Scans>>,
    received: Mutex<VecDeque<Received>>,
}

impl World {
    pub(super) fn new(options: Options) -> Self {
        Self {
            relations: relations(),
            hg_version: options.hg_version,
            password: options.password,
            fail_after_rows: options.fail_after_rows,
            connections: AtomicI32::new(0),
            databases: Mutex::default(),
            scans: Mutex::default(),
            received: Mutex::default(),
        }
    }

    /// The process number of the next connection.
    pub(super) fn next_connection(&self) -> i32 {
        1 + self.connections.fetch_add(1, Ordering::Relaxed)
    }

    /// The index of the relation of that name; without a schema it is in `public`.
    pub(super) fn find(&self, schema: Option<&str>, name: &str) -> Result<usize, SqlError> {
        let wanted = schema.unwrap_or("public");
        self.relations
            .iter()
            .position(|relation| relation.schema == wanted && relation.name == name)
            .ok_or_else(|| {
                let written =
                    schema.map_or_else(|| name.to_owned(), |schema| format!("{schema}.{name}"));
                SqlError::new("42P01", format!("relation \"{written}\" does not exist"))
            })
    }

    pub(super) fn name_of(&self, index: usize) -> String {
        let relation = &self.relations[index];
        format!("{}.{}", relation.schema, relation.name)
    }

    /// Reads a relation that is not a view.
    pub(super) fn scan(&self, index: usize, settings: &Settings) -> Rows {
        let relation = &self.relations[index];
        let engine = Engine::reading(&relation.kind, settings);
        let (rows, failure) = match &relation.kind {
            Kind::Foreign {
                encrypted: true,
                rows,
                ..
            } if engine == Engine::Hqe => {
                let delivered = settings
                    .get(FAIL_AFTER_ROWS)
                    .and_then(|rows| rows.parse().ok());
                let delivered = rows.iter().take(delivered.unwrap_or(0)).cloned().collect();
                (delivered, Some(SqlError::new("XX000", PANGU_ERROR)))
            }
            Kind::Table(rows) | Kind::Foreign { rows, .. } => (rows.clone(), None),
            Kind::View(_) => (Vec::new(), None),
            Kind::Scans => return rows_of(self.scans_rows()),
            Kind::Statements => return rows_of(self.statements_rows()),
        };
        let mut scans = locked(&self.scans);
        let count = scans.entry((engine, self.name_of(index))).or_default();
        count.begun += 1;
        count.failed += u64::from(failure.is_some());
        Rows { rows, failure }
    }

    pub(super) fn scans(&self, engine: Engine, relation: &str) -> Scans {
        let scans = locked(&self.scans);
        scans
            .get(&(engine, relation.to_owned()))
            .copied()
            .unwrap_or_default()
    }

    fn scans_rows(&self) -> Vec<Vec<Value>> {
        let number = |count: u64| Value::Int(i64::try_from(count).unwrap_or(i64::MAX));
        locked(&self.scans)
            .iter()
            .map(|((engine, relation), count)| {
                vec![
                    Value::text(engine.to_string()),
                    Value::text(relation.as_str()),
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
                    Value::Int(i64::from(received.connection)),
                    Value::text(name(received.protocol)),
                    Value::text(received.sql.as_str()),
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

fn rows_of(rows: Vec<Vec<Value>>) -> Rows {
    Rows {
        rows,
        failure: None,
    }
}

/// The lock, also after a panic elsewhere: the state is whole between any two statements.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
