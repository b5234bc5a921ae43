//! What the databases of one upstream share: the settings that matter to them, and what is known of
//! keys.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::watch;

use super::lessons::{Lessons, Witnesses};
use crate::catalog::Service;
use crate::config::{Catalog, Keys, ProjectRule, TablePattern, Upstream};
use crate::facts::Bus;
use crate::fleet::Member;
use crate::keys::{self, KeyCache, KeyProvider};
use crate::net::Endpoint;

/// What the databases of one upstream share.
pub(super) struct Common {
    /// The settings in force.
    pub(super) rules: ArcSwap<Rules>,
    /// Changes whenever `rules` does, for those who wait for that.
    pub(super) changes: watch::Sender<u64>,
    /// What is known of projects and their keys.
    pub(super) keys: KeyCache,
    /// Whose lessons second runs have confirmed.
    pub(super) witnesses: Witnesses,
    /// What the users of each database have heard.
    pub(super) lessons: Mutex<HashMap<String, Arc<Lessons>>>,
    /// Where it is told what is found.
    pub(super) bus: Arc<Bus>,
    /// How it is told to other replicas, if there are any.
    pub(super) replicas: Option<Arc<Member>>,
}

/// Databases whose lessons are kept in mind; beyond, those that none of this process's uses, and in
/// which none counts any more, are forgotten.
const MAX_DATABASES: usize = 1_000;

impl Common {
    /// What the users of a database have heard. Databases beyond the bound have it for themselves.
    pub(super) fn lessons_of(&self, database: &str) -> Arc<Lessons> {
        let lessons = self.lessons.lock();
        let mut lessons = lessons.unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = lessons.get(database) {
            return Arc::clone(known);
        }
        if lessons.len() >= MAX_DATABASES {
            lessons.retain(|_, known| Arc::strong_count(known) > 1 || !known.is_over());
        }
        let new = Arc::new(Lessons::new(database, Arc::clone(&self.bus)));
        if lessons.len() < MAX_DATABASES {
            lessons.insert(database.to_owned(), Arc::clone(&new));
        }
        new
    }
}

/// The settings that matter to what is known.
#[derive(Clone)]
pub(super) struct Rules {
    pub(super) projects: Vec<ProjectRule>,
    pub(super) patterns: Vec<TablePattern>,
    pub(super) reader: CatalogReader,
    pub(super) refresh: Duration,
    pub(super) keys: Keys,
}

/// Who reads the catalogs.
#[derive(Clone)]
pub(super) enum CatalogReader {
    /// Osprey does, in the name of the service account.
    Account(Service),
    /// Clients' sessions do, in their own names; see [`borrowed`](super::borrowed).
    Sessions {
        /// The foreign servers that are MaxCompute's.
        servers: Vec<String>,
    },
    /// Nobody does.
    Off,
    /// Nobody does any more: what was read stays known to the sessions that are still there.
    Retired,
}

impl CatalogReader {
    /// Whoever the settings say reads the catalogs.
    pub(super) fn new(catalog: &Catalog, endpoint: Arc<Endpoint>) -> Self {
        match Service::new(catalog, endpoint) {
            Some(service) => Self::Account(service),
            None if catalog.borrow => Self::Sessions {
                servers: catalog.servers.clone(),
            },
            None => Self::Off,
        }
    }
}

impl Rules {
    /// The part of the settings that matters here; a service account reaches the upstream through
    /// `endpoint`.
    pub(super) fn new(settings: &Upstream, keys: &Keys, endpoint: Arc<Endpoint>) -> Self {
        Self {
            projects: settings.protect.projects.clone(),
            patterns: settings.protect.tables.clone(),
            reader: CatalogReader::new(&settings.catalog, endpoint),
            refresh: settings.catalog.refresh,
            keys: keys.clone(),
        }
    }

    /// Who is asked about projects, by these settings.
    pub(super) fn provider(&self, replicas: Option<&Arc<Member>>) -> Arc<dyn KeyProvider> {
        keys::configured(&self.projects, &self.keys, replicas)
    }
}
