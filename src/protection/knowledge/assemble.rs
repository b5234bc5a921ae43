//! Makes one snapshot from what the catalog, the key records, the operator's patterns and the
//! lessons say: which relations are protected, why, and through which others.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

use super::lessons::Believed;
use crate::catalog::{Conduct, Contents, Relation, Sort, project_key};
use crate::config::{ProjectRule, TablePattern};
use crate::glob::Glob;
use crate::keys::{KeyRecord, StaticProvider};
use crate::protection::projects::Encrypted;
use crate::protection::{Reason, Snapshot, SnapshotBuilder, Source};
use crate::sql::qualified;

/// All that a snapshot is made of. Equal ingredients make equal snapshots.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Ingredients {
    pub(super) patterns: Vec<TablePattern>,
    /// What the operator says of projects.
    pub(super) rules: Vec<ProjectRule>,
    pub(super) contents: Option<Arc<Contents>>,
    /// The key records of the projects that the catalog names, and of every encrypted one, by
    /// [`project_key`].
    pub(super) records: HashMap<String, Arc<KeyRecord>>,
    /// What the database's users have heard, as far as all go by it.
    pub(super) believed: Vec<Believed>,
}

impl Ingredients {
    /// The [`project_key`] of every project that the catalog names.
    pub(super) fn projects(&self) -> HashSet<String> {
        let relations = self.relations().iter();
        relations
            .filter_map(|relation| relation.project.as_deref())
            .map(project_key)
            .collect()
    }

    /// The [`project_key`] of every project that a relation leads to; `relation` is its index into
    /// [`Contents::relations`].
    fn projects_behind(&self, relation: usize) -> HashSet<String> {
        let relations = self.relations();
        let mut seen = HashSet::from([relation]);
        let mut queue = vec![relation];
        let mut projects = HashSet::new();
        while let Some(index) = queue.pop() {
            projects.extend(relations[index].project.as_deref().map(project_key));
            queue.extend(
                relations[index]
                    .reads
                    .iter()
                    .copied()
                    .filter(|&read| seen.insert(read)),
            );
        }
        projects
    }

    /// True if a key record says that the project is not encrypted.
    fn is_unencrypted(&self, project: &str) -> bool {
        let record = self.records.get(project);
        record.is_some_and(|record| !record.is_encrypted())
    }

    /// Why each of the catalog's relations is protected, if it is, in the order of
    /// [`Contents::relations`].
    fn reasons(&self, database: &str, encrypted: &Encrypted) -> Vec<Option<Arc<Reason>>> {
        let relations = self.relations();
        let patterns = self.patterns_here(database);
        let mut reasons: Vec<Option<Arc<Reason>>> = relations
            .iter()
            .map(|relation| self.own_reason(relation, &patterns, encrypted))
            .map(|reason| reason.map(Arc::new))
            .collect();
        // From these relations upward, breadth first, so that the chain in a reason is a shortest
        // one.
        let mut readers: Vec<Vec<usize>> = vec![Vec::new(); relations.len()];
        for (reader, relation) in relations.iter().enumerate() {
            for &read in &relation.reads {
                readers[read].push(reader);
            }
        }
        let mut queue: VecDeque<usize> = (0..relations.len())
            .filter(|&index| reasons[index].is_some())
            .collect();
        while let Some(read) = queue.pop_front() {
            let Some(behind) = reasons[read].clone() else {
                continue;
            };
            for &reader in &readers[read] {
                if reasons[reader].is_none() {
                    let mut via = Vec::with_capacity(behind.via.len() + 1);
                    via.push(behind.relation.clone());
                    via.extend_from_slice(&behind.via);
                    let relation = relations[reader].qualified();
                    reasons[reader] = Some(Arc::new(Reason {
                        relation,
                        via,
                        ..(*behind).clone()
                    }));
                    queue.push_back(reader);
                }
            }
        }
        reasons
    }

    /// The snapshot that these make.
    pub(super) fn snapshot(&self, database: &str, generation: u64) -> Snapshot {
        let encrypted = self.encrypted();
        let mut builder = Snapshot::builder(database);
        for pattern in &self.patterns {
            let reason = Reason {
                relation: format!("{}.{}", pattern.schema, pattern.table),
                via: Vec::new(),
                project: None,
                key: None,
                source: Source::Pattern,
            };
            builder = builder.pattern(pattern, Arc::new(reason));
        }
        if let Some(contents) = &self.contents {
            builder = builder
                .route(contents.route.clone())
                .version(contents.version)
                .search_path(contents.search_path.clone());
            builder = builder.read();
            for (index, relation) in contents.relations.iter().enumerate() {
                let behind = self.projects_behind(index);
                let behind = behind
                    .iter()
                    .filter(|project| !self.is_unencrypted(project));
                let (schema, name) = (&relation.schema, &relation.name);
                builder = builder.leads_to(schema, name, behind.map(String::as_str));
            }
            for role in &contents.unpoliced {
                builder = builder.unpoliced(role);
            }
            for (role, schema) in &contents.barred {
                builder = builder.barred(role, schema);
            }
            for (schema, name) in &contents.homonyms {
                builder = builder.homonym(schema, name);
            }
            for [read, reader] in &contents.readers {
                builder = builder.reader((&read.0, &read.1), (&reader.0, &reader.1));
            }
            for reader in &contents.relations {
                for read in reader.reads.iter().map(|read| &contents.relations[*read]) {
                    builder =
                        builder.reader((&read.schema, &read.name), (&reader.schema, &reader.name));
                }
            }
            for (relation, reason) in contents
                .relations
                .iter()
                .zip(self.reasons(database, &encrypted))
            {
                let (schema, name) = (&relation.schema, &relation.name);
                builder = match (reason, relation.sort) {
                    (Some(reason), Sort::Relation) => builder.protect(schema, name, reason),
                    (None, Sort::Relation) => builder.foreign(schema, name),
                    (Some(reason), Sort::Written) => builder.protect_write(schema, name, reason),
                    (None, Sort::Written) => builder.foreign_write(schema, name),
                    (Some(reason), Sort::Function) => {
                        builder.protect_function(schema, name, reason)
                    }
                    (None, Sort::Function) => builder.foreign_function(schema, name),
                };
                if relation.inherited && relation.sort == Sort::Relation {
                    builder = builder.inherited(schema, name);
                }
                if relation.policed && relation.sort == Sort::Relation {
                    builder = builder.policed(schema, name);
                }
            }
            for function in &contents.functions {
                let (schema, name) = (&function.schema, &function.name);
                builder = match function.conduct {
                    Conduct::OnlyReads => builder.runs_no_text(schema, name, true),
                    Conduct::RunsNoText => builder.runs_no_text(schema, name, false),
                    Conduct::MayRunText => builder.may_run_text(schema, name),
                };
                if function.sets_route || !function.sets.is_empty() {
                    let sets = function.sets.clone();
                    builder = builder.sets(schema, name, sets, function.sets_route);
                }
            }
        } else {
            builder = builder.blind();
            for lesson in &self.believed {
                if !self.is_unencrypted(&lesson.project) {
                    builder = teach(builder, lesson);
                }
            }
        }
        builder.encrypted(encrypted).build(generation)
    }

    fn encrypted(&self) -> Encrypted {
        let believed = self.believed.iter();
        Encrypted {
            rules: StaticProvider::new(&self.rules),
            records: self.records.clone(),
            believed: believed.map(|lesson| lesson.project.clone()).collect(),
        }
    }

    fn relations(&self) -> &[Relation] {
        self.contents
            .as_ref()
            .map_or(&[], |contents| &contents.relations)
    }

    fn patterns_here(&self, database: &str) -> Vec<(Glob, Glob)> {
        self.patterns
            .iter()
            .filter(|pattern| Glob::new(&pattern.database).matches(database.as_bytes()))
            .map(|pattern| (Glob::new(&pattern.schema), Glob::new(&pattern.table)))
            .collect()
    }

    /// Why a relation is protected for its own sake, whatever it reads.
    fn own_reason(
        &self,
        relation: &Relation,
        patterns: &[(Glob, Glob)],
        encrypted: &Encrypted,
    ) -> Option<Reason> {
        let project = relation.project.as_deref().map(project_key);
        let record = project
            .as_ref()
            .and_then(|project| self.records.get(project));
        let pattern = relation.sort == Sort::Relation
            && patterns.iter().any(|(schema, table)| {
                schema.matches(relation.schema.as_bytes())
                    && table.matches(relation.name.as_bytes())
            });
        let by = project.as_deref().and_then(|name| encrypted.by(name));
        let (source, key) = match by {
            Some((_, key)) if pattern => (Source::Pattern, key),
            Some(by) => by,
            None if pattern => (Source::Pattern, record.cloned()),
            None => return None,
        };
        Some(Reason {
            relation: relation.qualified(),
            via: Vec::new(),
            project,
            key,
            source,
        })
    }
}

/// A lesson while nobody has read the catalogs: it can only be about the relations on which HQE failed.
fn teach(mut builder: SnapshotBuilder, lesson: &Believed) -> SnapshotBuilder {
    for relation in &lesson.relations {
        let reason = Arc::new(Reason {
            relation: qualified(relation),
            via: Vec::new(),
            project: Some(lesson.project.clone()),
            key: None,
            source: Source::Learned,
        });
        let (schema, name) = relation;
        builder = if let Some(schema) = schema {
            builder.protect(schema, name, reason)
        } else {
            let anywhere = TablePattern {
                database: "*".into(),
                schema: "*".into(),
                table: name.clone(),
            };
            builder.pattern(&anywhere, reason)
        };
    }
    builder
}

#[cfg(test)]
mod tests;
