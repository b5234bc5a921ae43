//! The database: SQLite in memory, made from `schema.sql`, with catalogs that say what is in it.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rusqlite::{Connection, ErrorCode};
use sqlparser::ast::{
    ColumnDef, ColumnOption, CreateServerOption, ObjectName, SetExpr, Statement, TableObject,
};
use sqlparser::dialect::PostgreSqlDialect;
use sqlparser::parser::Parser;

use super::catalogs::Filling;
use super::functions::{Context, locked, register};
use super::scope::{Relation, Relations, quoted};
use super::statement::folded;
use super::translate::{Translation, translate};
use super::translator::split;
use super::value::{Column, SqlError, Type, Value, is_float, is_integer, type_named};

const SCHEMA: &str = include_str!("schema.sql");

/// The most rows that a result may have: it is held in memory.
const MAX_ROWS: usize = 100_000;

/// How long a statement may run: others wait for it.
const PATIENCE: Duration = Duration::from_secs(10);

/// OIDs that PostgreSQL gives to catalogs; clients write some of them down.
const OIDS: [(&str, i64); 16] = [
    ("pg_type", 1247),
    ("pg_attribute", 1249),
    ("pg_proc", 1255),
    ("pg_class", 1259),
    ("pg_authid", 1260),
    ("pg_database", 1262),
    ("pg_foreign_server", 1417),
    ("pg_foreign_data_wrapper", 2328),
    ("pg_attrdef", 2604),
    ("pg_constraint", 2606),
    ("pg_depend", 2608),
    ("pg_description", 2609),
    ("pg_namespace", 2615),
    ("pg_rewrite", 2618),
    ("pg_trigger", 2620),
    ("pg_extension", 3079),
];

/// Rows, and the error that comes after the last of them.
#[derive(Debug, Default)]
pub(super) struct Rows {
    pub(super) rows: Vec<Vec<Value>>,
    pub(super) failure: Option<SqlError>,
}

/// The engine. One statement runs at a time: all it reads is in memory.
pub(super) struct Database {
    connection: Connection,
    pub(super) context: Arc<Mutex<Context>>,
}

impl Database {
    /// Makes it, and says what is in it.
    pub(super) fn new() -> Result<(Self, Relations), SqlError> {
        let mut connection =
            Connection::open_in_memory().map_err(|error| SqlError::unforeseen(&error))?;
        let context: Arc<Mutex<Context>> = Arc::default();
        let watched = Arc::clone(&context);
        let late = move || {
            let deadline = locked(&watched).deadline;
            deadline.is_some_and(|deadline| Instant::now() > deadline)
        };
        connection
            .progress_handler(100_000, Some(late))
            .map_err(|error| SqlError::unforeseen(&error))?;
        register(&connection, &context).map_err(|error| SqlError::unforeseen(&error))?;
        let database = Self {
            connection,
            context,
        };
        let mut relations = Relations::new();
        let statements = Parser::parse_sql(&PostgreSqlDialect {}, SCHEMA)
            .map_err(|error| SqlError::new("XX000", format!("schema.sql: {error}")))?;
        database.execute("BEGIN")?;
        let mut keys = Vec::new();
        for statement in statements {
            database.define(statement, &mut relations, &mut keys)?;
        }
        Filling {
            connection: &database.connection,
            context: &database.context,
            relations: &relations,
            keys: &keys,
        }
        .fill()?;
        database.execute("COMMIT")?;
        Ok((database, relations))
    }

    fn execute(&self, sql: &str) -> Result<(), SqlError> {
        self.connection
            .execute_batch(sql)
            .map_err(|error| self.failure(&error))
    }

    /// One statement of `schema.sql`.
    fn define(
        &self,
        statement: Statement,
        relations: &mut Relations,
        keys: &mut Vec<(String, String)>,
    ) -> Result<(), SqlError> {
        let (name, columns, foreign, kind) = match statement {
            Statement::CreateTable(table) => (table.name, table.columns, None, 'r'),
            Statement::CreateForeignTable(table) => {
                let option = |name: &str| {
                    let mut options = table.options.iter().flatten();
                    let found =
                        options.find(|option: &&CreateServerOption| folded(&option.key) == name);
                    found
                        .map(|option| option.value.value.clone())
                        .unwrap_or_default()
                };
                let foreign = (option("project_name"), option("table_name"));
                (
                    table.name.clone(),
                    table.columns.clone(),
                    Some(foreign),
                    'f',
                )
            }
            Statement::CreateView(view) => {
                let made = translate(relations, &view.query, &mut Vec::new())?;
                let definition = format!(" {};", view.query);
                return self.view(&view.name, made, definition, relations);
            }
            Statement::Insert(insert) => {
                let (TableObject::TableName(name), Some(source)) = (&insert.table, &insert.source)
                else {
                    return Err(SqlError::not_done("this INSERT"));
                };
                debug_assert!(
                    matches!(*source.body, SetExpr::Values(_)),
                    "rows are written out"
                );
                let rows = translate(relations, source, &mut Vec::new())?;
                return self.execute(&format!(
                    "INSERT INTO {} {}",
                    quoted(&flat(name)?),
                    rows.sql
                ));
            }
            other => return Err(SqlError::not_done(&other.to_string())),
        };
        let name = flat(&name)?;
        for column in &columns {
            let primary = |option: &ColumnOption| matches!(option, ColumnOption::PrimaryKey(_));
            if column.options.iter().any(|option| primary(&option.option)) {
                keys.push((name.clone(), folded(&column.name)));
            }
        }
        let columns = columns.iter().map(column).collect::<Result<Vec<_>, _>>()?;
        let written: Vec<_> = columns
            .iter()
            .map(|column| format!("{} {}", quoted(&column.name), affinity(&column.kind)))
            .collect();
        self.execute(&format!(
            "CREATE TABLE {} ({})",
            quoted(&name),
            written.join(", ")
        ))?;
        add(
            relations,
            &name,
            kind,
            columns,
            foreign,
            Vec::new(),
            String::new(),
        );
        Ok(())
    }

    fn view(
        &self,
        name: &ObjectName,
        made: Translation,
        definition: String,
        relations: &mut Relations,
    ) -> Result<(), SqlError> {
        let name = flat(name)?;
        self.execute(&format!("CREATE VIEW {} AS {}", quoted(&name), made.sql))?;
        add(
            relations,
            &name,
            'v',
            made.columns,
            None,
            made.reads,
            definition,
        );
        Ok(())
    }

    /// Puts other rows into a table whose rows change.
    pub(super) fn replace(&self, table: &str, rows: Vec<Vec<Value>>) -> Result<(), SqlError> {
        let table = quoted(table);
        self.execute(&format!("DELETE FROM {table}"))?;
        for row in rows {
            let places = vec!["?"; row.len()].join(", ");
            let sql = format!("INSERT INTO {table} VALUES ({places})");
            let inserted = self
                .connection
                .execute(&sql, rusqlite::params_from_iter(row));
            inserted.map_err(|error| self.failure(&error))?;
        }
        Ok(())
    }

    /// Whether the engine understands what the translation has made.
    pub(super) fn check(&self, sql: &str) -> Result<(), SqlError> {
        self.connection
            .prepare(sql)
            .map(drop)
            .map_err(|error| self.failure(&error))
    }

    /// Runs a query.
    pub(super) fn run(&self, sql: &str, parameters: &[Value]) -> Rows {
        let mut read = Rows::default();
        locked(&self.context).deadline = Some(Instant::now() + PATIENCE);
        if let Err(error) = self.read(sql, parameters, &mut read.rows) {
            read.failure = Some(error);
        }
        read
    }

    fn read(
        &self,
        sql: &str,
        parameters: &[Value],
        into: &mut Vec<Vec<Value>>,
    ) -> Result<(), SqlError> {
        let failed = |error: rusqlite::Error| self.failure(&error);
        let mut statement = self.connection.prepare(sql).map_err(failed)?;
        for (at, value) in parameters
            .iter()
            .enumerate()
            .take(statement.parameter_count())
        {
            statement
                .raw_bind_parameter(at + 1, value)
                .map_err(failed)?;
        }
        let width = statement.column_count();
        let mut rows = statement.raw_query();
        while let Some(row) = rows.next().map_err(failed)? {
            if into.len() == MAX_ROWS {
                return Err(SqlError::not_done(&format!(
                    "results of more than {MAX_ROWS} rows"
                )));
            }
            let row = (0..width)
                .map(|at| row.get(at))
                .collect::<rusqlite::Result<Vec<Value>>>();
            into.push(row.map_err(failed)?);
        }
        Ok(())
    }

    /// Why a function of ours failed, or what SQLite says.
    fn failure(&self, error: &rusqlite::Error) -> SqlError {
        if error.sqlite_error_code() == Some(ErrorCode::OperationInterrupted) {
            let message = "canceling statement due to statement timeout";
            return SqlError::new("57014", message);
        }
        let failure = locked(&self.context).failure.take();
        failure.unwrap_or_else(|| SqlError::unforeseen(error))
    }
}

fn flat(name: &ObjectName) -> Result<String, SqlError> {
    let (schema, name) = split(name)?;
    Ok(format!("{}.{name}", schema.as_deref().unwrap_or("public")))
}

fn column(column: &ColumnDef) -> Result<Column, SqlError> {
    let text = column.data_type.to_string();
    let kind = type_named(&text)
        .ok_or_else(|| SqlError::new("42704", format!("type \"{text}\" does not exist")))?;
    Ok(Column::new(folded(&column.name), kind))
}

/// What SQLite is told of a column's type.
fn affinity(kind: &Type) -> &'static str {
    match kind {
        kind if is_integer(kind) || *kind == Type::BOOL => "INTEGER",
        kind if is_float(kind) => "REAL",
        _ => "TEXT",
    }
}

fn add(
    relations: &mut Relations,
    flat: &str,
    kind: char,
    columns: Vec<Column>,
    foreign: Option<(String, String)>,
    reads: Vec<String>,
    definition: String,
) {
    let (schema, name) = flat.split_once('.').unwrap_or(("public", flat));
    let known = OIDS
        .iter()
        .find(|(one, _)| *one == name)
        .map(|(_, oid)| *oid);
    let next = i64::try_from(relations.len()).unwrap_or(i64::MAX);
    let own = matches!(schema, "public" | "osprey_simulator");
    let oid = known.unwrap_or(if own { 16_384 + next } else { 12_000 + next });
    let relation = Relation {
        oid,
        schema: schema.to_owned(),
        name: name.to_owned(),
        kind,
        columns,
        foreign,
        reads,
        definition,
    };
    relations.insert(flat.to_owned(), relation);
}
