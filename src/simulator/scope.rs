//! What names mean at a place of a query: the columns of the tables in its FROM, its CTEs, and the
//! relations of the database.

use std::collections::HashMap;

use super::engine::ENCRYPTED_PROJECT;
use super::value::{Column, SqlError, Type};

/// A table or view of the database.
#[derive(Debug, Clone)]
pub(super) struct Relation {
    pub(super) oid: i64,
    pub(super) schema: String,
    pub(super) name: String,
    /// As in `pg_class.relkind`.
    pub(super) kind: char,
    pub(super) columns: Vec<Column>,
    /// Of a foreign table: its MaxCompute project and the table there.
    pub(super) foreign: Option<(String, String)>,
    /// The tables that a view reads, by their qualified names, and its text.
    pub(super) reads: Vec<String>,
    pub(super) definition: String,
}

impl Relation {
    pub(super) fn qualified(&self) -> String {
        format!("{}.{}", self.schema, self.name)
    }

    /// True if HQE cannot read it.
    pub(super) fn is_encrypted(&self) -> bool {
        let project = self.foreign.as_ref().map(|(project, _)| &**project);
        project == Some(ENCRYPTED_PROJECT)
    }
}

/// All relations, by their qualified names.
pub(super) type Relations = HashMap<String, Relation>;

/// Finds a relation by name; without a schema it is in `pg_catalog` or `public`.
pub(super) fn find<'a>(
    relations: &'a Relations,
    schema: Option<&str>,
    name: &str,
) -> Result<&'a Relation, SqlError> {
    let path = match schema {
        Some(schema) => &[schema][..],
        None => &["pg_catalog", "public"],
    };
    let mut named = path.iter().map(|schema| format!("{schema}.{name}"));
    named.find_map(|name| relations.get(&name)).ok_or_else(|| {
        let written = schema.map_or_else(|| name.to_owned(), |schema| format!("{schema}.{name}"));
        SqlError::new("42P01", format!("relation \"{written}\" does not exist"))
    })
}

/// A column that a query may name, and the SQL for it.
#[derive(Debug, Clone)]
pub(super) struct Visible {
    pub(super) name: String,
    pub(super) kind: Type,
    pub(super) sql: String,
}

/// One table of a FROM clause.
#[derive(Debug, Clone)]
pub(super) struct Source {
    pub(super) alias: String,
    pub(super) columns: Vec<Visible>,
    /// The relation's OID, which its column `tableoid` has; 0 for what is none.
    pub(super) oid: i64,
    /// Columns that a join with USING has merged into those of a table before.
    pub(super) merged: Vec<String>,
}

/// One SELECT's names, and what grouping makes of them.
#[derive(Debug, Default)]
pub(super) struct Scope {
    pub(super) sources: Vec<Source>,
    /// What is behind the tables in FROM: functions in the select list that yield rows.
    pub(super) sets: Vec<String>,
    pub(super) groups: Vec<String>,
    pub(super) aggregates: bool,
    /// True inside of an aggregate's arguments.
    pub(super) inside: bool,
    /// A column that stands neither in an aggregate nor in GROUP BY.
    pub(super) ungrouped: Option<String>,
}

/// What a name was found to be.
pub(super) struct Found {
    pub(super) column: Visible,
    pub(super) alias: String,
    /// How many scopes further out.
    pub(super) depth: usize,
}

/// Finds a column from the innermost scope outward.
pub(super) fn column(scopes: &[Scope], table: Option<&str>, name: &str) -> Result<Found, SqlError> {
    let mut table_seen = false;
    for (depth, scope) in scopes.iter().rev().enumerate() {
        let mut found: Option<Found> = None;
        for source in &scope.sources {
            if table.is_some_and(|table| table != source.alias) {
                continue;
            }
            table_seen = true;
            if table.is_none() && source.merged.iter().any(|merged| merged == name) {
                continue;
            }
            let hidden = (name == "tableoid" && source.oid != 0).then(|| Visible {
                name: name.to_owned(),
                kind: Type::OID,
                sql: source.oid.to_string(),
            });
            let column = source.columns.iter().find(|column| column.name == name);
            if let Some(column) = column.or(hidden.as_ref()) {
                if found.is_some() {
                    let message = format!("column reference \"{name}\" is ambiguous");
                    return Err(SqlError::new("42702", message));
                }
                let (column, alias) = (column.clone(), source.alias.clone());
                found = Some(Found {
                    column,
                    alias,
                    depth,
                });
            }
        }
        if let Some(found) = found {
            return Ok(found);
        }
    }
    Err(match table {
        Some(table) if !table_seen => {
            let message = format!("missing FROM-clause entry for table \"{table}\"");
            SqlError::new("42P01", message)
        }
        Some(table) => SqlError::new("42703", format!("column {table}.{name} does not exist")),
        None => SqlError::new("42703", format!("column \"{name}\" does not exist")),
    })
}

/// A name as SQLite's SQL quotes it.
pub(super) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A text as SQLite's SQL quotes it.
pub(super) fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}
