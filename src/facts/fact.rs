//! One thing that was found.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::record::Encryption;
use super::stamp::{SKEW, Stamp};

/// One thing that was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fact {
    /// The upstream that it is about.
    pub upstream: Arc<str>,
    /// When it was found.
    pub at: Stamp,
    /// The replica that found it.
    pub by: Arc<str>,
    /// What was found.
    #[serde(flatten)]
    pub what: What,
}

/// What was found. Projects are named by their [`project_key`](crate::catalog::project_key).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "fact", rename_all = "kebab-case")]
pub enum What {
    /// A provider says how a project is encrypted; `None`: nobody knows it.
    Key {
        /// The project.
        project: String,
        /// How it is encrypted.
        encryption: Option<Encryption>,
    },
    /// Second runs of two users have shown that HQE cannot read the project's data.
    Lesson {
        /// The project.
        project: String,
    },
    /// What is known of a project's key is to be looked up anew; `None`: of all projects.
    Forget {
        /// The project.
        project: Option<String>,
    },
    /// A user met HQE's error about a project's data.
    Heard {
        /// Whose word it is.
        #[serde(flatten)]
        of: WordOf,
        /// When the user met it first.
        first: Stamp,
        /// Relations that the catalogs did not have, and on which HQE failed: schema and name.
        relations: Vec<(Option<String>, String)>,
        /// Functions whose texts nobody sees, and in a call of which HQE failed.
        functions: Vec<(Option<String>, String)>,
    },
    /// The second run, with the setting, did not meet it.
    Confirmed {
        /// Whose word it is.
        #[serde(flatten)]
        of: WordOf,
    },
    /// The error came on the other engine, too, or an operator has it forgotten.
    TakenBack {
        /// Whose word it is.
        #[serde(flatten)]
        of: WordOf,
    },
    /// DDL was seen passing: a database's catalogs are to be read again.
    CatalogChanged {
        /// The database.
        database: String,
    },
}

/// Whose word about what a fact is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct WordOf {
    /// The database.
    pub database: String,
    /// The user.
    pub user: String,
    /// The project.
    pub project: String,
}

/// Why a fact of another replica is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Refused {
    /// It is older than facts may get.
    Old,
    /// It is of a time that has not come yet: somebody's clock is wrong.
    Future,
}

impl Fact {
    /// Whether it may be taken at `now`, where facts are believed for `ttl`.
    ///
    /// # Errors
    ///
    /// See [`Refused`].
    pub fn in_time(&self, now: Stamp, ttl: Duration) -> Result<(), Refused> {
        if self.at > now.plus(SKEW) {
            Err(Refused::Future)
        } else if self.at.age(now) > ttl {
            Err(Refused::Old)
        } else {
            Ok(())
        }
    }
}
