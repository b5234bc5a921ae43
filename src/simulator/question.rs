//! The questions of Osprey's catalog reader: joins of PostgreSQL's catalogs, which the simulator
//! does not run but recognises.

use super::data::Column;
use super::value::Type;

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
}
