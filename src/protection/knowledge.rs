//! What is known of every database, kept up to date in the background: catalogs are read, projects
//! looked up, lessons taken in, and one snapshot per database swapped in when anything changed.
//!
//! Sessions read the present snapshot and never wait for any of it.

mod assemble;
mod borrowed;
mod borrowing;
mod common;
mod database;
mod lessons;
mod pace;
mod refresh;
mod sharing;

use std::sync::{Arc, Mutex, Weak};

use arc_swap::ArcSwap;
use dashmap::DashMap;
use tokio::runtime::Handle;
use tokio::sync::watch;

pub use borrowed::BorrowedReading;
pub use database::{DatabaseCounts, DatabaseKnowledge};
pub use lessons::{ToldLesson, UserLessons};

use common::{CatalogReader, Common, Rules};
use lessons::Witnesses;

use crate::catalog::database_name;
use crate::config::{Keys, Upstream};
use crate::facts::Bus;
use crate::fleet::Fleet;
use crate::keys::{Encryption, KeyCache, Listed, SystemClock, words};
use crate::net::Endpoint;
use crate::observe::{Measured, MeasuredDatabase, MeasuredProject};

/// Databases kept in mind at a time. Their names come from clients, which may make them up; beyond
/// this, those that no session uses are forgotten.
const MAX_DATABASES: usize = 1_000;

/// All that is known of one upstream.
pub struct Knowledge {
    common: Arc<Common>,
    runtime: Handle,
    databases: DashMap<String, Arc<DatabaseKnowledge>, foldhash::fast::RandomState>,
}

impl Knowledge {
    /// Nothing is read until the first database is asked for. Background tasks run on `runtime`;
    /// the service account, if there is one, reaches the upstream through `endpoint`. What is found is
    /// told to other replicas by `fleet`, if there are any.
    pub fn new(
        settings: &Upstream,
        keys: &Keys,
        endpoint: Arc<Endpoint>,
        runtime: Handle,
        fleet: Option<&Fleet>,
    ) -> Arc<Self> {
        let address = endpoint.address();
        // What is known of keys is known of one region's.
        let region = keys
            .cloud
            .as_ref()
            .map_or("", |cloud| cloud.region.as_str());
        let by = fleet.map_or_else(|| "".into(), |fleet| Arc::clone(fleet.by()));
        let bus = Arc::new(Bus::new(&format!("{address} {region}"), by));
        let replicas = fleet.map(|fleet| fleet.join(Arc::clone(&bus)));
        let rules = Rules::new(settings, keys, endpoint);
        let keys = KeyCache::new(
            rules.keys.clone(),
            rules.provider(replicas.as_ref()),
            Arc::new(SystemClock::default()),
            runtime.clone(),
        );
        keys.keep(address);
        keys.join(Arc::clone(&bus));
        let knowledge = Arc::new(Self {
            common: Arc::new(Common {
                rules: ArcSwap::from_pointee(rules),
                changes: watch::Sender::new(0),
                keys,
                witnesses: Witnesses::default(),
                lessons: Mutex::default(),
                bus,
                replicas,
            }),
            runtime,
            databases: DashMap::default(),
        });
        if let Some(replicas) = &knowledge.common.replicas {
            let sink: Weak<Self> = Arc::downgrade(&knowledge);
            replicas.give_to(sink);
        }
        knowledge
    }

    /// What is known of the database that a startup packet names (`database` or
    /// `database@warehouse`). The first to ask starts its background task; ask only for clients
    /// that the upstream has let in, since each name costs a reading.
    pub fn database(&self, startup_database: &str) -> Arc<DatabaseKnowledge> {
        let name = database_name(startup_database);
        if let Some(known) = self.databases.get(name) {
            return Arc::clone(&known);
        }
        if self.databases.len() >= MAX_DATABASES {
            self.databases
                .retain(|_, database| Arc::strong_count(database) > 1);
        }
        let entry = self.databases.entry(name.to_owned());
        let known =
            entry.or_insert_with(|| refresh::start(name, Arc::clone(&self.common), &self.runtime));
        Arc::clone(&known)
    }

    /// All databases asked for, in no order, but those that have been dropped and that no session
    /// uses: they are forgotten.
    pub fn databases(&self) -> Vec<Arc<DatabaseKnowledge>> {
        self.databases
            .retain(|_, database| Arc::strong_count(database) > 1 || !database.is_gone());
        self.databases
            .iter()
            .map(|entry| Arc::clone(&entry))
            .collect()
    }

    /// The key cache, for the console and for metrics.
    pub fn keys(&self) -> &KeyCache {
        &self.common.keys
    }

    /// What the metrics say of all this, now; `upstream` is the name it goes by.
    pub fn measure(&self, upstream: &str) -> Measured {
        let keys = &self.common.keys;
        let counted = keys.metrics();
        let mut lessons = (counted.learned.get(), counted.contradicted.get());
        let databases = self.databases().into_iter().map(|database| {
            let counts = database.counts();
            lessons.0 += counts.lessons.get();
            lessons.1 += counts.lessons_contradicted.get();
            MeasuredDatabase {
                upstream: upstream.to_owned(),
                name: database.name().to_owned(),
                snapshot_age: database.reading_age(),
                overdue: database.reading_overdue(),
                protected_relations: database.snapshot().protected_count() as u64,
                refreshes: counts.readings.get(),
                refresh_failures: counts.reading_failures.get(),
            }
        });
        let databases = databases.collect();
        Measured {
            key_lookups: counted.lookups.get(),
            key_lookup_failures: counted.failures.get(),
            key_cache_hits: counted.hits.get(),
            key_cache_misses: counted.misses.get(),
            key_records: keys.records() as u64,
            key_stale_answers: counted.stale.get(),
            key_evictions: counted.evictions.get(),
            lessons_learned: lessons.0,
            lessons_contradicted: lessons.1,
            databases,
            projects: encrypted(upstream, &keys.list()),
            ..Measured::default()
        }
    }

    /// Other settings from now on; every database is read again and its snapshot made anew. Key
    /// records are forgotten only if the settings about them changed.
    pub fn apply(&self, settings: &Upstream, keys: &Keys, endpoint: Arc<Endpoint>) {
        let rules = Rules::new(settings, keys, endpoint);
        let before = self.common.rules.swap(Arc::new(rules.clone()));
        if before.projects != rules.projects || before.keys != rules.keys {
            let provider = rules.provider(self.common.replicas.as_ref());
            self.common.keys.reconfigure(rules.keys.clone(), provider);
        }
        self.common.changes.send_modify(|changes| *changes += 1);
    }

    /// Writes to `keys.snapshot` what is not there yet.
    pub async fn save(&self) {
        self.common.keys.save().await;
    }

    /// The upstream is not among the configured ones any more: its sessions go on with what is
    /// known, and nobody connects to it on Osprey's own account, a reading under way included.
    pub fn retire(&self) {
        self.common.rules.rcu(|rules| Rules {
            reader: CatalogReader::Retired,
            ..Rules::clone(rules)
        });
        self.common.changes.send_modify(|changes| *changes += 1);
    }
}

/// What is measured of the projects among these that are encrypted.
fn encrypted(upstream: &str, records: &[Listed]) -> Vec<MeasuredProject> {
    let measured = |listed: &Listed| {
        let (key_state, material_expires) = match &listed.record.encryption {
            Encryption::None => return None,
            Encryption::DefaultKey => ("DefaultKey", None),
            Encryption::Kms(key) => (words::state(key.state), key.material_expires),
        };
        Some(MeasuredProject {
            upstream: upstream.to_owned(),
            project: listed.record.project.clone(),
            key_state,
            age: listed.age,
            material_expires,
        })
    };
    records.iter().filter_map(measured).collect()
}
