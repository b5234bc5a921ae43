//! Which MaxCompute projects' data the relations of a database lead to, by its catalogs, and which projects
//! are encrypted, whether or not a relation leads to them.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use foldhash::fast::RandomState;

use super::reason::Source;
use crate::keys::{KeyRecord, Origin, StaticProvider};
use crate::sql::WrittenName;

/// Who says which projects are encrypted. Projects are named as
/// [`project_key`](crate::catalog::project_key) spells them.
#[derive(Debug, Clone, Default)]
pub(super) struct Encrypted {
    /// The operator's rules, for projects of which there is no record yet.
    pub(super) rules: StaticProvider,
    pub(super) records: HashMap<String, Arc<KeyRecord>>,
    /// Those that lessons say are encrypted, for want of a record.
    pub(super) believed: HashSet<String>,
}

impl Encrypted {
    /// Who says that the project is encrypted, and what is known of its key; `None`: nobody does.
    pub(super) fn by(&self, project: &str) -> Option<(Source, Option<Arc<KeyRecord>>)> {
        let record = self.records.get(project).cloned();
        let record = record.or_else(|| self.rules.record(project).map(Arc::new));
        match record {
            Some(record) if !record.is_encrypted() => None,
            Some(record) if record.origin == Origin::Learned => {
                Some((Source::Learned, Some(record)))
            }
            Some(record) => Some((Source::Key, Some(record))),
            None => {
                let believed = self.believed.contains(project);
                believed.then_some((Source::Learned, None))
            }
        }
    }
}

/// The projects that the catalogs of one database name, but for those of which a key record says that
/// they are not encrypted.
#[derive(Debug, Default)]
pub(super) struct Projects {
    all: HashSet<Arc<str>, RandomState>,
    behind: HashMap<Box<str>, Vec<Behind>, RandomState>,
}

#[derive(Debug)]
struct Behind {
    schema: Box<str>,
    projects: Box<[Arc<str>]>,
}

impl Projects {
    /// Adds a relation or function that the catalogs have, with the projects that it leads to.
    pub(super) fn insert<'p>(
        &mut self,
        schema: &str,
        name: &str,
        projects: impl Iterator<Item = &'p str>,
    ) {
        let mut known = Vec::new();
        for project in projects {
            let project = if let Some(project) = self.all.get(project) {
                Arc::clone(project)
            } else {
                let project: Arc<str> = project.into();
                self.all.insert(Arc::clone(&project));
                project
            };
            known.push(project);
        }
        self.behind.entry(name.into()).or_default().push(Behind {
            schema: schema.into(),
            projects: known.into(),
        });
    }

    /// True if a relation of the database leads to this project's data.
    pub(super) fn has(&self, project: &str) -> bool {
        self.all.contains(project)
    }

    /// True if a relation of this name leads to the project's data; `None`: the catalogs have none of
    /// this name that leads to MaxCompute.
    pub(super) fn lead_to(&self, (schema, name): &WrittenName, project: &str) -> Option<bool> {
        let mut meant = self
            .behind
            .get(name.as_str())?
            .iter()
            .filter(|behind| {
                schema
                    .as_ref()
                    .is_none_or(|schema| **schema == *behind.schema)
            })
            .peekable();
        meant.peek()?;
        Some(meant.any(|behind| behind.projects.iter().any(|known| **known == *project)))
    }
}
