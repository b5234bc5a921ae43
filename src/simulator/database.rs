//! The database: SQLite in memory, made from `schema.sql`, with catalogs that say what is in it.

use std::sync::{Arc, Mutex};

use rusqlite::Connection;
use sqlparser::ast::{
    ColumnDef, ColumnOption, CreateServerOption, ObjectName, SetExpr, Statement, TableObject,
};
use sqlparser::dialect::PostgreSqlDialect;
use sqlparser::parser::Parser;
use tokio_postgres::types::Kind;

use super::functions::{Context, FIRST_FUNCTION, functions, locked, register};
use super::scope::{Relation, Relations, quoted};
use super::statement::folded;
use super::translate::{Translation, translate};
use super::translator::split;
use super::value::{
    Column, SqlError, TYPES, Type, Value, array_of, array_text, element_of, is_float, is_integer,
    type_named, type_size,
};

const SCHEMA: &str = include_str!("schema.sql");

/// The most rows that a result may have: it is held in memory.
const MAX_ROWS: usize = 100_000;

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
        let connection = Connection::open_in_memory().map_err(|error| unforeseen(&error))?;
        let context = Arc::default();
        register(&connection, &context).map_err(|error| unforeseen(&error))?;
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
            database: &database,
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
        locked(&self.context)
            .failure
            .take()
            .unwrap_or_else(|| unforeseen(error))
    }
}

fn unforeseen(error: &rusqlite::Error) -> SqlError {
    SqlError::not_done(&format!("this ({error})"))
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
    let next = relations.len() as i64;
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

/// The catalogs' rows, from what there is.
struct Filling<'a> {
    database: &'a Database,
    relations: &'a Relations,
    /// Tables with a column that is their primary key.
    keys: &'a [(String, String)],
}

const OWNER: i64 = 10;
const CATALOG: i64 = 11;

impl Filling<'_> {
    fn fill(&self) -> Result<(), SqlError> {
        let mut relations: Vec<_> = self.relations.values().collect();
        relations.sort_unstable_by_key(|relation| relation.oid);
        for relation in relations {
            self.relation(relation)?;
        }
        self.types()?;
        for (at, (name, kind)) in functions().enumerate() {
            let kind = type_named(kind.strip_prefix('_').unwrap_or(kind)).unwrap_or(Type::TEXT);
            self.insert(
                "pg_proc",
                &[
                    ("oid", int(FIRST_FUNCTION + at as i64)),
                    ("proname", text(name)),
                    ("pronamespace", int(CATALOG)),
                    ("proowner", int(OWNER)),
                    ("prolang", int(12)),
                    ("prokind", text("f")),
                    ("provolatile", text("v")),
                    ("proparallel", text("u")),
                    ("prorettype", int(kind.oid().into())),
                    ("proargtypes", text("")),
                    ("prosrc", text(name)),
                ],
            )?;
        }
        Ok(())
    }

    /// One row of a catalog; columns that are not given are false, 0, empty or NULL.
    fn insert(&self, catalog: &str, given: &[(&str, Value)]) -> Result<(), SqlError> {
        let name = format!("pg_catalog.{catalog}");
        let Some(relation) = self.relations.get(&name) else {
            return Err(SqlError::new(
                "42P01",
                format!("{name} is not in schema.sql"),
            ));
        };
        let row = relation.columns.iter().map(|column| {
            let value = given.iter().find(|(name, _)| *name == column.name);
            value
                .map(|(_, value)| value.clone())
                .unwrap_or(match &column.kind {
                    kind if is_integer(kind) || *kind == Type::BOOL => int(0),
                    kind if is_float(kind) => Value::Real(0.0),
                    kind if *kind == Type::CHAR => text(""),
                    _ => Value::Null,
                })
        });
        let row: Vec<Value> = row.collect();
        let places = vec!["?"; row.len()].join(", ");
        let sql = format!("INSERT INTO {} VALUES ({places})", quoted(&name));
        let inserted = self
            .database
            .connection
            .execute(&sql, rusqlite::params_from_iter(row));
        inserted
            .map(drop)
            .map_err(|error| self.database.failure(&error))
    }

    fn relation(&self, relation: &Relation) -> Result<(), SqlError> {
        let oid = relation.oid;
        let schema = namespace(&relation.schema);
        let key = self
            .keys
            .iter()
            .find(|(table, _)| *table == relation.qualified());
        let shown = match relation.schema.as_str() {
            "public" | "pg_catalog" => relation.name.clone(),
            _ => relation.qualified(),
        };
        locked(&self.database.context).relations.insert(oid, shown);
        self.class(
            oid,
            &relation.name,
            schema,
            relation.kind,
            relation.columns.len(),
            key.is_some(),
        )?;
        for (at, column) in relation.columns.iter().enumerate() {
            let primary = key.is_some_and(|(_, key)| *key == column.name);
            self.attribute(oid, column, at, primary)?;
        }
        if let Some((project, table)) = &relation.foreign {
            let options = [
                format!("project_name={project}"),
                format!("table_name={table}"),
            ];
            let options = array_text(&options.map(Some));
            self.insert(
                "pg_foreign_table",
                &[
                    ("ftrelid", int(oid)),
                    ("ftserver", int(15_002)),
                    ("ftoptions", text(&options)),
                ],
            )?;
        }
        if relation.kind == 'v' {
            locked(&self.database.context)
                .definitions
                .insert(oid, relation.definition.clone());
            let rule = oid + 10_000;
            self.insert(
                "pg_rewrite",
                &[
                    ("oid", int(rule)),
                    ("rulename", text("_RETURN")),
                    ("ev_class", int(oid)),
                    ("ev_type", text("1")),
                    ("ev_enabled", text("O")),
                    ("is_instead", int(1)),
                ],
            )?;
            let mut reads = relation.reads.clone();
            reads.sort_unstable();
            reads.dedup();
            for read in reads.iter().filter_map(|read| self.relations.get(read)) {
                self.insert(
                    "pg_depend",
                    &[
                        ("classid", int(2618)),
                        ("objid", int(rule)),
                        ("refclassid", int(1259)),
                        ("refobjid", int(read.oid)),
                        ("deptype", text("n")),
                    ],
                )?;
            }
        }
        if let Some((_, column)) = key {
            self.primary_key(relation, column, schema)?;
        }
        Ok(())
    }

    fn class(
        &self,
        oid: i64,
        name: &str,
        schema: i64,
        kind: char,
        width: usize,
        indexed: bool,
    ) -> Result<(), SqlError> {
        self.insert(
            "pg_class",
            &[
                ("oid", int(oid)),
                ("relname", text(name)),
                ("relnamespace", int(schema)),
                ("relowner", int(OWNER)),
                ("relam", int(if kind == 'i' { 403 } else { 0 })),
                ("relfilenode", int(if kind == 'v' { 0 } else { oid })),
                ("relpersistence", text("p")),
                ("relkind", text(&kind.to_string())),
                ("relnatts", int(width as i64)),
                ("relhasindex", int(indexed.into())),
                ("relhasrules", int((kind == 'v').into())),
                ("relispopulated", int(1)),
                ("relreplident", text(if kind == 'r' { "d" } else { "n" })),
            ],
        )
    }

    fn attribute(
        &self,
        relation: i64,
        column: &Column,
        at: usize,
        primary: bool,
    ) -> Result<(), SqlError> {
        let size = i64::from(type_size(&column.kind));
        self.insert(
            "pg_attribute",
            &[
                ("attrelid", int(relation)),
                ("attname", text(&column.name)),
                ("atttypid", int(column.kind.oid().into())),
                ("attstattarget", int(-1)),
                ("attlen", int(size)),
                ("attnum", int(at as i64 + 1)),
                ("attcacheoff", int(-1)),
                ("atttypmod", int(-1)),
                ("attbyval", int((1..=8).contains(&size).into())),
                ("attstorage", text(if size < 0 { "x" } else { "p" })),
                ("attalign", text("i")),
                ("attnotnull", int(primary.into())),
                ("attislocal", int(1)),
                ("attcollation", int(collation(&column.kind))),
            ],
        )
    }

    /// A constraint, and the index behind it.
    fn primary_key(&self, relation: &Relation, column: &str, schema: i64) -> Result<(), SqlError> {
        let (index, constraint) = (relation.oid + 1_000, relation.oid + 2_000);
        let name = format!("{}_pkey", relation.name);
        let at = relation
            .columns
            .iter()
            .position(|one| one.name == column)
            .unwrap_or(0);
        let number = (at + 1).to_string();
        self.class(index, &name, schema, 'i', 1, false)?;
        self.attribute(index, &relation.columns[at], 0, false)?;
        self.insert(
            "pg_index",
            &[
                ("indexrelid", int(index)),
                ("indrelid", int(relation.oid)),
                ("indnatts", int(1)),
                ("indnkeyatts", int(1)),
                ("indisunique", int(1)),
                ("indisprimary", int(1)),
                ("indimmediate", int(1)),
                ("indisvalid", int(1)),
                ("indisready", int(1)),
                ("indislive", int(1)),
                ("indkey", text(&number)),
                ("indcollation", text("0")),
                ("indclass", text("1978")),
                ("indoption", text("0")),
            ],
        )?;
        self.insert(
            "pg_constraint",
            &[
                ("oid", int(constraint)),
                ("conname", text(&name)),
                ("connamespace", int(schema)),
                ("contype", text("p")),
                ("convalidated", int(1)),
                ("conrelid", int(relation.oid)),
                ("conindid", int(index)),
                ("confupdtype", text(" ")),
                ("confdeltype", text(" ")),
                ("confmatchtype", text(" ")),
                ("conislocal", int(1)),
                ("connoinherit", int(1)),
                ("conkey", text(&format!("{{{number}}}"))),
            ],
        )?;
        let mut context = locked(&self.database.context);
        context.relations.insert(index, name.clone());
        context
            .definitions
            .insert(constraint, format!("PRIMARY KEY ({column})"));
        let made = format!(
            "CREATE UNIQUE INDEX {name} ON {} USING btree ({column})",
            relation.qualified()
        );
        context.definitions.insert(index, made);
        Ok(())
    }

    fn types(&self) -> Result<(), SqlError> {
        let array_in = functions().position(|(name, _)| name == "array_in");
        let array_in = array_in.map_or(0, |at| FIRST_FUNCTION + at as i64);
        let mut types: Vec<_> = TYPES.values().collect();
        types.sort_unstable_by_key(|kind| kind.oid());
        for kind in types {
            let element = element_of(kind);
            let array = array_of(kind);
            let array = if element_of(&array).as_ref() == Some(kind) {
                array.oid()
            } else {
                0
            };
            let category = match kind {
                kind if element.is_some() => (kind, "A").1,
                kind if *kind == Type::BOOL => "B",
                kind if is_integer(kind) || is_float(kind) => "N",
                kind if matches!(
                    *kind,
                    Type::TEXT | Type::VARCHAR | Type::NAME | Type::BPCHAR | Type::CHAR
                ) =>
                {
                    "S"
                }
                kind if matches!(
                    *kind,
                    Type::DATE | Type::TIME | Type::TIMESTAMP | Type::TIMESTAMPTZ
                ) =>
                {
                    "D"
                }
                _ => "U",
            };
            let sort = match kind.kind() {
                Kind::Pseudo => "p",
                Kind::Range(_) => "r",
                Kind::Multirange(_) => "m",
                _ => "b",
            };
            let size = i64::from(type_size(kind));
            self.insert(
                "pg_type",
                &[
                    ("oid", int(kind.oid().into())),
                    ("typname", text(kind.name())),
                    ("typnamespace", int(CATALOG)),
                    ("typowner", int(OWNER)),
                    ("typlen", int(size)),
                    ("typbyval", int((1..=8).contains(&size).into())),
                    ("typtype", text(sort)),
                    ("typcategory", text(category)),
                    ("typisdefined", int(1)),
                    (
                        "typinput",
                        int(if kind.name().starts_with('_') {
                            array_in
                        } else {
                            0
                        }),
                    ),
                    ("typcollation", int(collation(kind))),
                    ("typdelim", text(",")),
                    (
                        "typelem",
                        int(element.map_or(0, |element| element.oid().into())),
                    ),
                    ("typarray", int(array.into())),
                    ("typalign", text("i")),
                    ("typstorage", text(if size < 0 { "x" } else { "p" })),
                    ("typtypmod", int(-1)),
                ],
            )?;
        }
        Ok(())
    }
}

fn int(number: i64) -> Value {
    Value::Integer(number)
}

fn text(text: &str) -> Value {
    Value::Text(text.to_owned())
}

/// The OID of the collation that columns of a type have.
fn collation(kind: &Type) -> i64 {
    match *kind {
        Type::TEXT | Type::VARCHAR | Type::BPCHAR => 100,
        Type::NAME => 950,
        _ => 0,
    }
}

/// The schemas' OIDs, as `schema.sql` has them.
fn namespace(schema: &str) -> i64 {
    match schema {
        "public" => 2200,
        "information_schema" => 13_000,
        "osprey_simulator" => 16_383,
        _ => CATALOG,
    }
}
