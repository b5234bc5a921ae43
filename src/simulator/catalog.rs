//! The questions of Osprey's catalog reader: joins of PostgreSQL's catalogs, which the simulator
//! does not run but recognises, and answers from what it holds.

use super::data::{Column, Kind};
use super::settings::{CATALOG_ROUTING, ORC_VIA_HOLO};
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
    /// The relations that bear the names in `$1`.
    Bearers,
    /// Context and source of the setting `$1`.
    Setting,
    /// The schema of `hg_version()`.
    VersionSchema,
}

/// What a question's text, and no other's, contains.
const MARKS: [(Question, [&str; 2]); 5] = [
    (
        Question::ForeignTables,
        ["pg_catalog.pg_foreign_table", "ftoptions"],
    ),
    (
        Question::Edges,
        ["pg_catalog.pg_rewrite", "pg_catalog.pg_depend"],
    ),
    (Question::Bearers, ["pg_catalog.pg_class", "unnest($1)"]),
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
            Self::ForeignTables => {
                let mut columns = texts(&["nspname", "relname"]);
                columns.push(Column::new("ftoptions", Type::TextArray));
                columns
            }
            Self::Edges => texts(&["nspname", "relname", "nspname", "relname"]),
            Self::Bearers => texts(&["nspname", "relname"]),
            Self::Setting => texts(&["context", "source"]),
            Self::VersionSchema => texts(&["quote_ident"]),
        }
    }

    /// The type of `$1`, if there is one.
    pub(super) fn parameters(self) -> Vec<Type> {
        match self {
            Self::ForeignTables | Self::Bearers => vec![Type::TextArray],
            Self::Setting => vec![Type::Text],
            Self::Edges | Self::VersionSchema => Vec::new(),
        }
    }

    /// The rows of the answer.
    pub(super) fn rows(self, world: &World, parameters: &[Value]) -> Vec<Vec<Value>> {
        let listed = |name: &str| match parameters.first() {
            Some(Value::List(names)) => names.iter().any(|listed| listed == name),
            _ => false,
        };
        let relations = world.relations.iter();
        match self {
            Self::ForeignTables if !listed("odps_server") => Vec::new(),
            Self::ForeignTables => relations
                .filter_map(|relation| {
                    let Kind::Foreign { project, table, .. } = &relation.kind else {
                        return None;
                    };
                    let options = vec![
                        format!("project_name={project}"),
                        format!("table_name={table}"),
                    ];
                    let (schema, name) = (relation.schema, relation.name);
                    Some(vec![
                        Value::text(schema),
                        Value::text(name),
                        Value::List(options),
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
                        Value::text(schema),
                        Value::text(name),
                    ])
                })
                .collect(),
            Self::Bearers => relations
                .filter(|relation| listed(relation.name))
                .map(|relation| vec![Value::text(relation.schema), Value::text(relation.name)])
                .collect(),
            Self::Setting => match parameters.first() {
                Some(Value::Text(name)) if name == ORC_VIA_HOLO || name == CATALOG_ROUTING => {
                    vec![vec![Value::text("user"), Value::text("default")]]
                }
                _ => Vec::new(),
            },
            Self::VersionSchema => vec![vec![Value::text("pg_catalog")]],
        }
    }
}
