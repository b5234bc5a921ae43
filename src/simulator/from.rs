//! From PostgreSQL's SQL to SQLite's: what stands in FROM, and functions that yield rows.

use sqlparser::ast::{
    Expr, FunctionArg, FunctionArgExpr, Ident, JoinConstraint, JoinOperator, ObjectName,
    TableAlias, TableFactor, TableWithJoins,
};

use super::function_table::SETS;
use super::scope::{Source, Visible, find, literal, quoted};
use super::statement::folded;
use super::translator::{Translator, Typed, split};
use super::value::{Column, SqlError, Type, element_of};

impl Translator<'_> {
    pub(super) fn tables(&mut self, tables: &TableWithJoins) -> Result<String, SqlError> {
        let mut sql = self.table(&tables.relation)?;
        for join in &tables.joins {
            let before = self.scope().sources.len();
            let right = self.table(&join.relation)?;
            let (word, constraint) = match &join.join_operator {
                JoinOperator::Join(constraint) | JoinOperator::Inner(constraint) => {
                    ("JOIN", constraint)
                }
                JoinOperator::CrossJoin(constraint) => ("CROSS JOIN", constraint),
                JoinOperator::Left(constraint) | JoinOperator::LeftOuter(constraint) => {
                    ("LEFT JOIN", constraint)
                }
                JoinOperator::Right(constraint) | JoinOperator::RightOuter(constraint) => {
                    ("RIGHT JOIN", constraint)
                }
                JoinOperator::FullOuter(constraint) => ("FULL JOIN", constraint),
                _ => return Err(SqlError::not_done("this kind of join")),
            };
            let using: Vec<String> = match constraint {
                JoinConstraint::On(condition) => {
                    sql = format!("{sql} {word} {right} ON {}", self.condition(condition)?);
                    continue;
                }
                JoinConstraint::Using(names) => names
                    .iter()
                    .filter_map(|name| Some(folded(name.0.last()?.as_ident()?)))
                    .collect(),
                JoinConstraint::Natural => {
                    let sources = &self.scope().sources;
                    let (left, right) = sources.split_at(before);
                    let names = right
                        .iter()
                        .flat_map(|source| &source.columns)
                        .map(|column| column.name.clone());
                    names
                        .filter(|name| {
                            left.iter().any(|source| {
                                source.columns.iter().any(|column| column.name == *name)
                            })
                        })
                        .collect()
                }
                JoinConstraint::None if word == "CROSS JOIN" => Vec::new(),
                JoinConstraint::None => {
                    let message = "syntax error: JOIN without ON, USING or NATURAL";
                    return Err(SqlError::new("42601", message));
                }
                JoinConstraint::UsingAlias(..) => {
                    return Err(SqlError::not_done("USING with an alias"));
                }
            };
            if using.is_empty() {
                sql = format!("{sql} {word} {right}");
                continue;
            }
            let names: Vec<_> = using.iter().map(|name| quoted(name)).collect();
            sql = format!("{sql} {word} {right} USING ({})", names.join(", "));
            for source in &mut self.scope().sources[before..] {
                source.merged.extend(using.iter().cloned());
            }
        }
        Ok(sql)
    }

    /// A table in FROM; its columns become visible.
    fn table(&mut self, table: &TableFactor) -> Result<String, SqlError> {
        let (sql, source) = match table {
            TableFactor::Table {
                name,
                alias,
                args: None,
                ..
            } => {
                let (schema, name) = split(name)?;
                self.relation(schema.as_deref(), &name, alias.as_ref())?
            }
            TableFactor::Table {
                name,
                alias,
                args: Some(args),
                with_ordinality,
                ..
            } => self.set_in_from(
                &split(name)?.1,
                &args.args,
                alias.as_ref(),
                *with_ordinality,
            )?,
            TableFactor::Function {
                name,
                args,
                alias,
                with_ordinality,
                ..
            } => self.set_in_from(&split(name)?.1, args, alias.as_ref(), *with_ordinality)?,
            TableFactor::UNNEST {
                alias,
                array_exprs,
                with_ordinality,
                ..
            } => {
                let args: Vec<_> = array_exprs
                    .iter()
                    .map(|array| FunctionArg::Unnamed(FunctionArgExpr::Expr(array.clone())))
                    .collect();
                self.set_in_from("unnest", &args, alias.as_ref(), *with_ordinality)?
            }
            TableFactor::Derived {
                lateral: false,
                subquery,
                alias,
                ..
            } => {
                // A subquery in FROM sees nothing of its neighbours.
                let scopes = std::mem::take(&mut self.scope().sources);
                let done = self.subquery(subquery);
                self.scope().sources = scopes;
                let (sql, columns) = done?;
                let name = alias.as_ref().map_or_else(
                    || format!("subquery{}", self.scope().sources.len()),
                    |alias| folded(&alias.name),
                );
                Self::derived(&sql, columns, name, alias.as_ref())
            }
            TableFactor::NestedJoin {
                table_with_joins,
                alias: None,
            } => {
                return Ok(format!("({})", self.tables(table_with_joins)?));
            }
            TableFactor::Derived { .. } => return Err(SqlError::not_done("LATERAL")),
            _ => return Err(SqlError::not_done("this kind of table in FROM")),
        };
        if self
            .scope()
            .sources
            .iter()
            .any(|other| other.alias == source.alias)
        {
            let message = format!("table name \"{}\" specified more than once", source.alias);
            return Err(SqlError::new("42712", message));
        }
        self.scope().sources.push(source);
        Ok(sql)
    }

    /// A table that is in parentheses, with its columns named anew.
    fn derived(
        sql: &str,
        columns: Vec<Column>,
        name: String,
        alias: Option<&TableAlias>,
    ) -> (String, Source) {
        let aliases = alias.map(|alias| &alias.columns[..]).unwrap_or_default();
        let visible = columns.into_iter().enumerate().map(|(at, column)| {
            let renamed = aliases
                .get(at)
                .map_or_else(|| column.name.clone(), |alias| folded(&alias.name));
            Visible {
                name: renamed,
                kind: column.kind,
                sql: format!("{}.{}", quoted(&name), quoted(&column.name)),
            }
        });
        let columns = visible.collect();
        // VALUES has the same names for its columns in both dialects.
        (
            format!("({sql}) AS {}", quoted(&name)),
            Source {
                alias: name,
                columns,
                oid: 0,
                merged: Vec::new(),
            },
        )
    }

    pub(super) fn relation(
        &mut self,
        schema: Option<&str>,
        name: &str,
        alias: Option<&TableAlias>,
    ) -> Result<(String, Source), SqlError> {
        let shown = alias.map_or_else(|| name.to_owned(), |alias| folded(&alias.name));
        let cte = self
            .ctes
            .iter()
            .rev()
            .find(|(cte, _)| schema.is_none() && cte == name);
        let (sql, columns, oid) = if let Some((_, columns)) = cte {
            (quoted(name), columns.clone(), 0)
        } else {
            let relation = find(self.relations, schema, name)?;
            let flat = relation.qualified();
            if relation.kind == 'v' {
                self.reads.extend(relation.reads.iter().cloned());
            } else {
                self.reads.push(flat.clone());
            }
            (
                stored(relation.is_encrypted(), &flat),
                relation.columns.clone(),
                relation.oid,
            )
        };
        let aliases = alias.map(|alias| &alias.columns[..]).unwrap_or_default();
        let visible = columns.into_iter().enumerate().map(|(at, column)| {
            let renamed = aliases
                .get(at)
                .map_or_else(|| column.name.clone(), |alias| folded(&alias.name));
            Visible {
                name: renamed,
                kind: column.kind,
                sql: format!("{}.{}", quoted(&shown), quoted(&column.name)),
            }
        });
        let columns = visible.collect();
        Ok((
            format!("{sql} AS {}", quoted(&shown)),
            Source {
                alias: shown,
                columns,
                oid,
                merged: Vec::new(),
            },
        ))
    }

    fn set_in_from(
        &mut self,
        function: &str,
        args: &[FunctionArg],
        alias: Option<&TableAlias>,
        ordinality: bool,
    ) -> Result<(String, Source), SqlError> {
        let shown = alias.map_or_else(|| function.to_owned(), |alias| folded(&alias.name));
        if SETS.iter().all(|(name, _)| *name != function) {
            // A function of one value is a table of one row.
            let call = sqlparser::ast::Function {
                name: ObjectName::from(vec![Ident::with_quote('"', function)]),
                uses_odbc_syntax: false,
                parameters: sqlparser::ast::FunctionArguments::None,
                args: sqlparser::ast::FunctionArguments::List(
                    sqlparser::ast::FunctionArgumentList {
                        duplicate_treatment: None,
                        args: args.to_vec(),
                        clauses: Vec::new(),
                    },
                ),
                within_group: Vec::new(),
                filter: None,
                null_treatment: None,
                over: None,
            };
            let value = self.expression(&Expr::Function(call))?;
            let sql = format!("SELECT {} AS {}", value.sql, quoted(&shown));
            return Ok(Self::derived(
                &sql,
                vec![Column::new(shown.clone(), value.kind)],
                shown,
                alias,
            ));
        }
        let mut columns = self.set_columns(function, args, &quoted(&shown))?;
        if ordinality {
            let sql = format!("({}.key + 1)", quoted(&shown));
            columns.1.push(Visible {
                name: "ordinality".into(),
                kind: Type::INT8,
                sql,
            });
        }
        let single = columns.1.len() == 1;
        for (at, column) in columns.1.iter_mut().enumerate() {
            match alias.and_then(|alias| alias.columns.get(at)) {
                Some(renamed) => column.name = folded(&renamed.name),
                None if single && alias.is_some() => column.name.clone_from(&shown),
                None => {}
            }
        }
        let sql = format!("json_each({}) AS {}", columns.0, quoted(&shown));
        Ok((
            sql,
            Source {
                alias: shown,
                columns: columns.1,
                oid: 0,
                merged: Vec::new(),
            },
        ))
    }

    /// The JSON of a function's rows, and its columns.
    fn set_columns(
        &mut self,
        function: &str,
        args: &[FunctionArg],
        rows: &str,
    ) -> Result<(String, Vec<Visible>), SqlError> {
        let Some((_, columns)) = SETS.iter().find(|(name, _)| *name == function) else {
            let message = format!("function {function}() does not exist");
            return Err(SqlError::new("42883", message));
        };
        let args = args.iter().map(|arg| match arg {
            FunctionArg::Unnamed(FunctionArgExpr::Expr(arg)) => self.expression(arg),
            _ => Err(SqlError::not_done("this kind of argument")),
        });
        let args = args.collect::<Result<Vec<_>, _>>()?;
        let first = args
            .first()
            .cloned()
            .unwrap_or_else(|| Typed::new("NULL", Type::TEXT));
        let element = element_of(&first.kind).unwrap_or(Type::TEXT);
        let json = match function {
            "generate_series" => {
                let all: Vec<_> = args.iter().map(|arg| &*arg.sql).collect();
                format!("series_json({})", all.join(", "))
            }
            _ => format!(
                "array_to_json({}, {})",
                first.sql,
                i32::from(super::value::is_integer(&element))
            ),
        };
        let visible = columns.iter().map(|(name, kind, sql)| Visible {
            name: (*name).to_owned(),
            kind: if *kind == "elem" {
                element.clone()
            } else {
                super::value::type_named(kind).unwrap_or(Type::TEXT)
            },
            sql: sql.replace('$', rows),
        });
        Ok((json, visible.collect()))
    }

    /// A function in the select list that yields rows: it is joined to what is in FROM. More than one
    /// column of it become a record, whose fields [`Translator::expression`] takes out again.
    pub(super) fn set_in_list(
        &mut self,
        function: &str,
        args: &[FunctionArg],
    ) -> Result<Typed, SqlError> {
        self.sets += 1;
        let rows = quoted(&format!("rows {}", self.sets));
        let (json, columns) = self.set_columns(function, args, &rows)?;
        self.scope()
            .sets
            .push(format!("json_each({json}) AS {rows}"));
        if let [column] = &columns[..] {
            return Ok(Typed::new(column.sql.clone(), column.kind.clone()));
        }
        let fields: Vec<_> = columns
            .iter()
            .map(|column| format!("{}, {}", literal(&column.name), column.sql))
            .collect();
        Ok(Typed::new(
            format!("json_object({})", fields.join(", ")),
            Type::RECORD,
        ))
    }
}

/// What stands in FROM for a relation's rows. Those of an encrypted table pass by a function that
/// fails where HQE would; LIMIT keeps SQLite from filtering before it.
fn stored(encrypted: bool, flat: &str) -> String {
    if encrypted {
        format!(
            "(SELECT * FROM {0} WHERE hqe_reads({0}.rowid) LIMIT -1)",
            quoted(flat)
        )
    } else {
        quoted(flat)
    }
}
