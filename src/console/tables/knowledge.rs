//! What is known: databases, protected relations, keys, lessons.

use std::sync::Arc;

use super::super::table::{Table, column};
use super::super::value::Type::{Bool, Float, Int, Text};
use super::super::value::{Row, Value};
use super::super::world::View;
use crate::catalog::database_name;
use crate::keys::cloud::timestamp;
use crate::keys::{Encryption, Listed, Origin, words};
use crate::protection::Source;
use crate::protection::knowledge::DatabaseKnowledge;
use crate::upstream::Upstream;

pub(super) static DATABASES: Table = Table {
    name: "databases",
    about: "The databases that clients have opened, and what is known of each; and those that PAUSE names",
    columns: &[
        column(
            "upstream",
            Text,
            "the Hologres instance; NULL: no client has opened the database, which PAUSE names",
        ),
        column("database", Text, "its name, without `@warehouse`"),
        column("sessions", Int, "sessions in it, logins included"),
        column(
            "paused",
            Bool,
            "PAUSE holds its sessions: they begin no transaction",
        ),
        column(
            "version",
            Text,
            "Hologres' version, as the catalogs say it; NULL before they were read",
        ),
        column(
            "protected",
            Int,
            "relations that are protected by name; those that patterns protect are not counted",
        ),
        column(
            "foreign_relations",
            Int,
            "relations that lead to MaxCompute, and are not known to be encrypted",
        ),
        column(
            "catalog_age",
            Float,
            "seconds since the catalogs were read; NULL: never",
        ),
        column(
            "catalog_overdue",
            Float,
            "seconds for which a reading has been due and has not succeeded; NULL: nobody is to read them",
        ),
        column("readings", Int, "readings that succeeded, since the start"),
        column("failures", Int, "readings that failed, since the start"),
        column(
            "last_failure",
            Text,
            "what the last reading failed with, if it did",
        ),
    ],
    rows: databases,
};

pub(super) static TABLES: Table = Table {
    name: "tables",
    about: "The relations that are protected by name, and why",
    columns: &[
        column("upstream", Text, "the Hologres instance"),
        column("database", Text, "the database"),
        column("relation", Text, "`schema.name`"),
        column(
            "via",
            Text,
            "the relations through which it reads encrypted data; empty: it is a foreign table itself",
        ),
        column("project", Text, "the MaxCompute project, if it is known"),
        column(
            "source",
            Text,
            "who says so: `key` (a key record), `learned` (HQE failed on it), `pattern` (the configuration)",
        ),
    ],
    rows: tables,
};

pub(super) static KEYS: Table = Table {
    name: "keys",
    about: "What is known of MaxCompute projects and their keys",
    columns: &[
        column(
            "upstream",
            Text,
            "the Hologres instance for which it was looked up",
        ),
        column("project", Text, "the MaxCompute project"),
        column(
            "encryption",
            Text,
            "`none`, `default-key` or `kms`; NULL: the lookup failed",
        ),
        column("key_id", Text, "the KMS key, if it is known"),
        column("algorithm", Text, "as the cloud names it, if it is known"),
        column(
            "key_state",
            Text,
            "`Enabled`, `Disabled`, `PendingDeletion`, `PendingImport`, `Unknown`",
        ),
        column(
            "material_expires",
            Text,
            "when imported key material expires",
        ),
        column(
            "deletion",
            Text,
            "when the key is deleted, if that is pending",
        ),
        column(
            "origin",
            Text,
            "who says so: `configuration`, `cloud`, `learned`",
        ),
        column("age", Float, "seconds since it was looked up"),
        column("stale", Bool, "it is past its time, since lookups fail"),
        column(
            "failure",
            Text,
            "what the last lookup failed with, if it did",
        ),
    ],
    rows: keys,
};

pub(super) static LESSONS: Table = Table {
    name: "lessons",
    about: "What was learned from failures of HQE's",
    columns: &[
        column("upstream", Text, "the Hologres instance"),
        column(
            "database",
            Text,
            "the database; NULL where it holds for all of the instance",
        ),
        column(
            "user",
            Text,
            "the user who met the failure; NULL where it holds for all of the instance",
        ),
        column(
            "project",
            Text,
            "the MaxCompute project: what FORGET LESSON takes",
        ),
        column(
            "confirmed",
            Bool,
            "running the statement again with the setting made succeeded; docs/lessons.md says who goes by it",
        ),
        column("age", Float, "seconds since it was learned"),
    ],
    rows: lessons,
};

/// The databases of all upstreams, in the order of their names.
fn all_databases(view: &View) -> Vec<(Arc<Upstream>, Arc<DatabaseKnowledge>)> {
    let mut all = Vec::new();
    for upstream in view.upstreams() {
        let mut databases = upstream.knowledge().databases();
        databases.sort_by(|one, two| one.name().cmp(two.name()));
        all.extend(
            databases
                .into_iter()
                .map(|database| (Arc::clone(&upstream), database)),
        );
    }
    all
}

fn name_of(upstream: &Upstream) -> Value {
    Value::Text(upstream.name().to_owned())
}

fn databases(view: &View) -> Vec<Row> {
    let sessions = view.shared.sessions.sessions();
    let row = |(upstream, database): (Arc<Upstream>, Arc<DatabaseKnowledge>)| {
        let in_it = sessions.iter().filter(|session| {
            session.upstream == upstream.name()
                && database_name(&session.database) == database.name()
        });
        let snapshot = database.load_full();
        let counts = database.counts();
        let seconds = |time: Option<_>| time.map_or(Value::Null, Value::seconds);
        let failure = database.reading_failure();
        vec![
            name_of(&upstream),
            Value::Text(database.name().to_owned()),
            Value::count(in_it.count()),
            Value::Bool(view.shared.sessions.is_paused(database.name())),
            Value::text_or_null(snapshot.version().map(|version| version.to_string())),
            Value::count(snapshot.protected_count()),
            Value::count(snapshot.foreign_count()),
            seconds(database.reading_age()),
            seconds(database.reading_overdue()),
            Value::count(counts.readings.get()),
            Value::count(counts.reading_failures.get()),
            Value::text_or_null(failure.map(|failure| failure.to_string())),
        ]
    };
    let known = all_databases(view);
    let mut paused = view.shared.sessions.paused_databases();
    paused.retain(|name| known.iter().all(|(_, database)| database.name() != *name));
    let mut rows: Vec<Row> = known.into_iter().map(row).collect();
    let only_paused = paused.into_iter().map(|name| {
        let mut row = vec![Value::Null; DATABASES.columns.len()];
        row[1] = Value::Text(name);
        row[2] = Value::Int(0);
        row[3] = Value::Bool(true);
        row
    });
    rows.extend(only_paused);
    rows
}

fn tables(view: &View) -> Vec<Row> {
    let mut rows = Vec::new();
    for (upstream, database) in all_databases(view) {
        let snapshot = database.load_full();
        let mut protected: Vec<_> = snapshot.protected_relations().collect();
        protected.sort_by_key(|(schema, name, _)| (*schema, *name));
        rows.extend(protected.into_iter().map(|(schema, name, reason)| {
            let source = match reason.source {
                Source::Pattern => "pattern",
                Source::Key => "key",
                Source::Learned => "learned",
            };
            vec![
                name_of(&upstream),
                Value::Text(database.name().to_owned()),
                Value::Text(format!("{schema}.{name}")),
                Value::Text(reason.via.join(" > ")),
                Value::text_or_null(reason.project.clone()),
                Value::Text(source.to_owned()),
            ]
        }));
    }
    rows
}

fn keys(view: &View) -> Vec<Row> {
    let mut rows = Vec::new();
    for upstream in view.upstreams() {
        let cache = upstream.knowledge().keys();
        let mut known = cache.list();
        known.sort_by(|one, two| one.record.project.cmp(&two.record.project));
        let mut unknown = cache.failures();
        unknown.retain(|(project, _)| known.iter().all(|one| one.record.project != *project));
        unknown.sort_by(|one, two| one.0.cmp(&two.0));
        rows.extend(known.into_iter().map(|listed| key(&upstream, &listed)));
        rows.extend(unknown.into_iter().map(|(project, failure)| {
            let mut row = vec![name_of(&upstream), Value::Text(project)];
            row.resize(KEYS.columns.len() - 1, Value::Null);
            row.push(Value::Text(failure.to_string()));
            row
        }));
    }
    rows
}

fn key(upstream: &Upstream, listed: &Listed) -> Row {
    let record = &listed.record;
    let (encryption, key) = match &record.encryption {
        Encryption::None => ("none", None),
        Encryption::DefaultKey => ("default-key", None),
        Encryption::Kms(key) => ("kms", Some(key)),
    };
    let origin = match record.origin {
        Origin::Configured => "configuration",
        Origin::Cloud => "cloud",
        Origin::Learned => "learned",
    };
    vec![
        name_of(upstream),
        Value::Text(record.project.clone()),
        Value::Text(encryption.to_owned()),
        Value::text_or_null(key.and_then(|key| key.id.clone())),
        Value::text_or_null(key.and_then(|key| key.algorithm.clone())),
        Value::text_or_null(key.map(|key| words::state(key.state))),
        Value::text_or_null(
            key.and_then(|key| key.material_expires)
                .map(timestamp::format),
        ),
        Value::text_or_null(key.and_then(|key| key.deletion).map(timestamp::format)),
        Value::Text(origin.to_owned()),
        Value::seconds(listed.age),
        Value::Bool(listed.stale),
        Value::text_or_null(listed.failure.as_ref().map(ToString::to_string)),
    ]
}

fn lessons(view: &View) -> Vec<Row> {
    let mut rows = Vec::new();
    for upstream in view.upstreams() {
        let mut listed = upstream.knowledge().keys().list();
        listed.retain(|listed| listed.record.origin == Origin::Learned);
        listed.sort_by(|one, two| one.record.project.cmp(&two.record.project));
        rows.extend(listed.into_iter().map(|listed| {
            vec![
                name_of(&upstream),
                Value::Null,
                Value::Null,
                Value::Text(listed.record.project.clone()),
                Value::Bool(true),
                Value::seconds(listed.age),
            ]
        }));
    }
    for (upstream, database) in all_databases(view) {
        rows.extend(database.told_lessons().into_iter().map(|lesson| {
            vec![
                name_of(&upstream),
                Value::Text(database.name().to_owned()),
                Value::Text(lesson.user),
                Value::Text(lesson.project),
                Value::Bool(lesson.confirmed),
                Value::seconds(lesson.age),
            ]
        }));
    }
    rows
}
