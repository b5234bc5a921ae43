//! The questions of Osprey's catalog reader: joins of PostgreSQL's catalogs, which the simulator
//! does not run but recognises, and answers from what it holds.

use super::data::{Column, Kind};
use super::statement::parse_view;
use super::value::{Type, Value};
use super::world::World;

/// What is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Question {
    /// The foreign tables and their options.
    ForeignTables,
    /// Which relation reads which.
    Edges,
    /// The relations that bear names of interest.
    Bearers,
    /// Context and source of a setting.
    Setting,
    /// The schema of `hg_version()`.
    VersionSchema,
}

/// What a question's text, and no other's, contains.
const MARKS: [(Question, [&str; 2]); 5] = [
    (
        Question::ForeignTables,
        ["pg_catalog.pg_foreign_table", "'odps_server'"],
    ),
    (
        Question::Edges,
        ["pg_catalog.pg_rewrite", "pg_catalog.pg_depend"],
    ),
    (Question::Bearers, ["pg_catalog.pg_class", "relhassubclass"]),
    (Question::Setting, ["pg_catalog.pg_settings", "context"]),
    (
        Question::VersionSchema,
        ["pg_catalog.pg_proc", "hg_version"],
    ),
];

impl Question {
    /// The question that `sql` asks, if it is one of them.
    pub(super) fn recognise(sql: &str) -> Option<Self> {
        let asks = |marks: &[&str; 2]| marks.iter().all(|mark| sql.contains(mark));
        MARKS
            .iter()
            .find(|(_, marks)| asks(marks))
            .map(|(question, _)| *question)
    }

    /// The columns of the answer.
    pub(super) fn columns(self) -> Vec<Column> {
        let texts = |names: &[&str]| -> Vec<Column> {
            names
                .iter()
                .map(|name| Column::new(*name, Type::Text))
                .collect()
        };
        match self {
            Self::ForeignTables => texts(&["nspname", "relname", "ftoptions"]),
            Self::Edges => texts(&[
                "nspname", "relname", "case", "nspname", "relname", "text", "bool",
            ]),
            Self::Bearers => texts(&["nspname", "relname"]),
            Self::Setting => texts(&["context", "source"]),
            Self::VersionSchema => texts(&["quote_ident"]),
        }
    }

    /// The rows of the answer.
    pub(super) fn rows(self, world: &World) -> Vec<Vec<Value>> {
        let relations = world.relations.iter();
        match self {
            Self::ForeignTables => relations
                .filter_map(|relation| {
                    let Kind::Foreign { project, table, .. } = &relation.kind else {
                        return None;
                    };
                    let options = format!("{{project_name={project},table_name={table}}}");
                    let (schema, name) = (relation.schema, relation.name);
                    Some(vec![
                        Value::text(schema),
                        Value::text(name),
                        Value::Text(options),
                    ])
                })
                .collect(),
            Self::Edges => relations
                .filter_map(|relation| {
                    let Kind::View(sql) = relation.kind else {
                        return None;
                    };
                    let (schema, name) = parse_view(sql).ok()?.from?;
                    let schema = schema.unwrap_or_else(|| "public".to_owned());
                    Some(vec![
                        Value::text(relation.schema),
                        Value::text(relation.name),
                        Value::text("r"),
                        Value::text(schema),
                        Value::text(name),
                        Value::text("r"),
                        Value::text("f"),
                    ])
                })
                .collect(),
            Self::Bearers => relations
                .map(|relation| vec![Value::text(relation.schema), Value::text(relation.name)])
                .collect(),
            Self::Setting => vec![vec![Value::text("user"), Value::text("default")]],
            Self::VersionSchema => vec![vec![Value::text("pg_catalog")]],
        }
    }
}
