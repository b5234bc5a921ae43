//! PostgreSQL's catalogs, filled with what the database holds.

use std::sync::Mutex;

use rusqlite::Connection;
use tokio_postgres::types::Kind;

use super::function_table::{FIRST_FUNCTION, functions};
use super::functions::{Context, locked};
use super::scope::{Relation, Relations, quoted};
use super::value::{
    Column, SqlError, TYPES, Type, Value, array_of, array_text, element_of, is_float, is_integer,
    type_named, type_size,
};

/// The catalogs' rows, from what there is.
pub(super) struct Filling<'a> {
    pub(super) connection: &'a Connection,
    pub(super) context: &'a Mutex<Context>,
    pub(super) relations: &'a Relations,
    /// Tables with a column that is their primary key.
    pub(super) keys: &'a [(String, String)],
}

const OWNER: i64 = 10;
const CATALOG: i64 = 11;

impl Filling<'_> {
    /// Fills them.
    pub(super) fn fill(&self) -> Result<(), SqlError> {
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
                    ("oid", int(FIRST_FUNCTION + count(at))),
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
            .connection
            .execute(&sql, rusqlite::params_from_iter(row));
        inserted
            .map(drop)
            .map_err(|error| SqlError::unforeseen(&error))
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
        locked(self.context).relations.insert(oid, shown);
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
            locked(self.context)
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
                ("relnatts", int(count(width))),
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
                ("attnum", int(count(at) + 1)),
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
        let mut context = locked(self.context);
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
        let array_in = array_in.map_or(0, |at| FIRST_FUNCTION + count(at));
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
                _ if element.is_some() => "A",
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

fn count(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
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
