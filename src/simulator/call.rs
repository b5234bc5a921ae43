//! From PostgreSQL's SQL to SQLite's: calls of functions, aggregates and windows.

use sqlparser::ast::{
    DuplicateTreatment, Function, FunctionArg, FunctionArgExpr, FunctionArgumentClause,
    FunctionArguments, WindowFrameBound, WindowSpec, WindowType,
};

use super::function_table::{AGGREGATES, FUNCTIONS, SETS, WINDOW};
use super::scope::quoted;
use super::statement::folded;
use super::translator::{Translator, Typed, as_text, shortened, sorted, split};
use super::value::{SqlError, Type, array_of, is_integer, type_name, type_named};

impl Translator<'_> {
    pub(super) fn function(&mut self, function: &Function) -> Result<Typed, SqlError> {
        let (_, name) = split(&function.name)?;
        let (given, distinct, clauses) = match &function.args {
            FunctionArguments::None => (&[][..], false, &[][..]),
            FunctionArguments::List(list) => {
                let distinct = list.duplicate_treatment == Some(DuplicateTreatment::Distinct);
                (&list.args[..], distinct, &list.clauses[..])
            }
            FunctionArguments::Subquery(query) if name == "array" => {
                let (sql, columns) = self.subquery(query)?;
                let [column] = &columns[..] else {
                    return Err(SqlError::new(
                        "42601",
                        "subquery must return only one column",
                    ));
                };
                let sql = format!(
                    "array_from_json((SELECT json_group_array({}) FROM ({sql})))",
                    quoted(&column.name)
                );
                let kind = if column.kind == Type::UNKNOWN {
                    &Type::TEXT
                } else {
                    &column.kind
                };
                return Ok(Typed::new(sql, array_of(kind)));
            }
            FunctionArguments::Subquery(_) => {
                return Err(SqlError::not_done("a subquery as arguments"));
            }
        };
        if SETS.iter().any(|(set, _)| *set == name) {
            return self.set_in_list(&name, given);
        }
        let aggregate = AGGREGATES.iter().find(|(known, _)| *known == name);
        let window = WINDOW.iter().find(|(known, _)| *known == name);
        if aggregate.is_some() && function.over.is_none() {
            self.scope().aggregates = true;
        }
        let inside = self.scope().inside;
        self.scope().inside = inside || aggregate.is_some() && function.over.is_none();
        let (args, order) = self.arguments(given, clauses)?;
        let filter = function
            .filter
            .as_ref()
            .map(|filter| self.condition(filter))
            .transpose()?;
        let filter = filter.map_or(String::new(), |filter| format!(" FILTER (WHERE {filter})"));
        self.scope().inside = inside;
        let over = match &function.over {
            Some(WindowType::WindowSpec(spec)) => format!(" OVER ({})", self.window(spec)?),
            Some(WindowType::NamedWindow(name)) => format!(" OVER {}", quoted(&folded(name))),
            None => String::new(),
        };
        let first = args
            .iter()
            .map(|arg| &arg.kind)
            .find(|kind| **kind != Type::UNKNOWN)
            .unwrap_or(&Type::TEXT)
            .clone();
        let all: Vec<_> = args.iter().map(|arg| &*arg.sql).collect();
        let all = all.join(", ");
        if let Some((_, kind)) = aggregate.or(window) {
            let kind = match *kind {
                "arg" => first,
                "sum" if is_integer(&first) => Type::INT8,
                "sum" => Type::FLOAT8,
                "array" => array_of(&first),
                kind => type_named(kind).unwrap_or(Type::TEXT),
            };
            let distinct = if distinct { "DISTINCT " } else { "" };
            let engine = match &*name {
                "bool_and" | "every" => "min",
                "bool_or" => "max",
                "array_agg" | "json_agg" => "json_group_array",
                name => name,
            };
            let sql = format!("{engine}({distinct}{all}{order}){filter}{over}");
            return Ok(match &*name {
                "array_agg" => Typed::new(format!("array_from_json(nullif({sql}, '[]'))"), kind),
                _ => Typed::new(sql, kind),
            });
        }
        let mut args = args;
        if matches!(&*name, "coalesce" | "nullif" | "greatest" | "least") {
            let plain = given.iter().filter_map(|arg| match arg {
                FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => Some(expr),
                _ => None,
            });
            args = plain
                .zip(args)
                .map(|(expr, arg)| self.coerced(expr, arg, &first))
                .collect::<Result<_, _>>()?;
        }
        call(&name, &args).ok_or_else(|| {
            let kinds: Vec<_> = args.iter().map(|arg| type_name(&arg.kind)).collect();
            SqlError::new(
                "42883",
                format!(
                    "function {name}({}) does not exist in the demo's Hologres",
                    kinds.join(", ")
                ),
            )
        })
    }

    /// The arguments, and ORDER BY behind them.
    fn arguments(
        &mut self,
        given: &[FunctionArg],
        clauses: &[FunctionArgumentClause],
    ) -> Result<(Vec<Typed>, String), SqlError> {
        let mut args = Vec::new();
        for arg in given {
            args.push(match arg {
                FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => self.expression(expr)?,
                FunctionArg::Unnamed(FunctionArgExpr::Wildcard) => Typed::new("*", Type::INT8),
                _ => return Err(SqlError::not_done("named arguments")),
            });
        }
        let mut order = String::new();
        for clause in clauses {
            let FunctionArgumentClause::OrderBy(keys) = clause else {
                return Err(SqlError::not_done(&shortened(&clause.to_string())));
            };
            let keys = keys
                .iter()
                .map(|key| Ok(sorted(&self.expression(&key.expr)?.sql, key)));
            order = format!(
                " ORDER BY {}",
                keys.collect::<Result<Vec<_>, SqlError>>()?.join(", ")
            );
        }
        Ok((args, order))
    }

    /// What stands in the parentheses of OVER.
    pub(super) fn window(&mut self, spec: &WindowSpec) -> Result<String, SqlError> {
        let mut parts = Vec::new();
        parts.extend(spec.window_name.as_ref().map(|name| quoted(&folded(name))));
        if !spec.partition_by.is_empty() {
            let keys = spec
                .partition_by
                .iter()
                .map(|key| Ok(self.expression(key)?.sql));
            parts.push(format!(
                "PARTITION BY {}",
                keys.collect::<Result<Vec<_>, SqlError>>()?.join(", ")
            ));
        }
        if !spec.order_by.is_empty() {
            let keys = spec
                .order_by
                .iter()
                .map(|key| Ok(sorted(&self.expression(&key.expr)?.sql, key)));
            parts.push(format!(
                "ORDER BY {}",
                keys.collect::<Result<Vec<_>, SqlError>>()?.join(", ")
            ));
        }
        if let Some(frame) = &spec.window_frame {
            let mut bound = |bound: &WindowFrameBound| {
                Ok(match bound {
                    WindowFrameBound::CurrentRow => "CURRENT ROW".to_owned(),
                    WindowFrameBound::Preceding(None) => "UNBOUNDED PRECEDING".to_owned(),
                    WindowFrameBound::Following(None) => "UNBOUNDED FOLLOWING".to_owned(),
                    WindowFrameBound::Preceding(Some(rows)) => {
                        format!("{} PRECEDING", self.expression(rows)?.sql)
                    }
                    WindowFrameBound::Following(Some(rows)) => {
                        format!("{} FOLLOWING", self.expression(rows)?.sql)
                    }
                })
            };
            let start = bound(&frame.start_bound)?;
            parts.push(match &frame.end_bound {
                Some(end) => format!("{} BETWEEN {start} AND {}", frame.units, bound(end)?),
                None => format!("{} {start}", frame.units),
            });
        }
        Ok(parts.join(" "))
    }
}

/// A call of one of [`FUNCTIONS`]; `None`: there is none of that name.
pub(super) fn call(name: &str, args: &[Typed]) -> Option<Typed> {
    let (_, kind, template) = FUNCTIONS
        .iter()
        .find(|(names, ..)| names.split(' ').any(|known| known == name))?;
    let first = args
        .iter()
        .map(|arg| &arg.kind)
        .find(|kind| **kind != Type::UNKNOWN)
        .unwrap_or(&Type::TEXT);
    let kind = match *kind {
        "arg" => first.clone(),
        kind => type_named(kind.strip_prefix('_').unwrap_or(kind)).map(|element| {
            if kind.starts_with('_') {
                array_of(&element)
            } else {
                element
            }
        })?,
    };
    let given: Vec<_> = args
        .iter()
        .map(|arg| match name {
            "concat" | "concat_ws" | "quote_literal" | "array_append" => as_text(arg),
            _ => arg.sql.clone(),
        })
        .collect();
    if template.is_empty() {
        return Some(Typed::new(format!("{name}({})", given.join(", ")), kind));
    }
    let mut pieces = template.split('$');
    let mut sql = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        let mut letters = piece.chars();
        match letters.next() {
            Some('*') => sql.push_str(&given.join(", ")),
            Some(digit) => {
                let at = digit.to_digit(10)? as usize;
                sql.push_str(given.get(at.checked_sub(1)?).map_or("NULL", |arg| arg));
            }
            None => {}
        }
        sql.push_str(letters.as_str());
    }
    Some(Typed::new(sql, kind))
}
