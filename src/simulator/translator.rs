//! The translation's state, and what its parts have in common.

use sqlparser::ast::{
    AccessExpr, DataType, Expr, ObjectName, ObjectNamePart, OrderByExpr, OrderBySort, SelectItem,
    SetExpr, Value as Literal,
};

use super::scope::{Relations, Scope, literal};
use super::statement::folded;
use super::value::{Column, SqlError, Type, is_float, is_integer, is_registered, type_named};

/// The types of a statement's parameters, as far as they are known.
pub(super) type ParameterTypes = Vec<Option<Type>>;

/// The work on one statement.
pub(super) struct Translator<'a> {
    pub(super) relations: &'a Relations,
    pub(super) parameters: &'a mut ParameterTypes,
    pub(super) reads: Vec<String>,
    pub(super) scopes: Vec<Scope>,
    /// The CTEs in sight, the innermost last.
    pub(super) ctes: Vec<(String, Vec<Column>)>,
    /// How many expressions this one is inside of.
    pub(super) depth: usize,
    /// How many functions that yield rows there are so far.
    pub(super) sets: usize,
    /// In the select list of the statement itself, whose values go to the client.
    pub(super) outermost: bool,
}

/// SQL and its type.
#[derive(Debug, Clone)]
pub(super) struct Typed {
    pub(super) sql: String,
    pub(super) kind: Type,
}

impl Typed {
    pub(super) fn new(sql: impl Into<String>, kind: Type) -> Self {
        Self {
            sql: sql.into(),
            kind,
        }
    }
}

/// A key of ORDER BY, with NULLs where PostgreSQL has them.
pub(super) fn sorted(sql: &str, key: &OrderByExpr) -> String {
    let descending = matches!(key.options.sort, Some(OrderBySort::Desc));
    let nulls_first = key.options.nulls_first.unwrap_or(descending);
    let direction = if descending { " DESC" } else { "" };
    format!(
        "{sql}{direction} NULLS {}",
        if nulls_first { "FIRST" } else { "LAST" }
    )
}

/// The schema, if there is one, and the name.
pub(super) fn split(name: &ObjectName) -> Result<(Option<String>, String), SqlError> {
    let mut parts: Vec<String> = name
        .0
        .iter()
        .filter_map(ObjectNamePart::as_ident)
        .map(folded)
        .collect();
    let last = parts
        .pop()
        .ok_or_else(|| SqlError::not_done("this kind of name"))?;
    Ok((parts.pop(), last))
}

/// The type that a cast names.
pub(super) fn data_type(kind: &DataType) -> Result<Type, SqlError> {
    let text = kind.to_string();
    type_named(&text)
        .ok_or_else(|| SqlError::new("42704", format!("type \"{text}\" does not exist")))
}

/// The text of a string literal.
pub(super) fn string(value: &Literal) -> Option<&str> {
    match value {
        Literal::SingleQuotedString(text)
        | Literal::EscapedStringLiteral(text)
        | Literal::UnicodeStringLiteral(text) => Some(text),
        Literal::DollarQuotedString(text) => Some(&text.value),
        _ => None,
    }
}

/// The number, from 0, of the parameter that `value` is.
pub(super) fn placeholder(value: &Literal) -> Option<usize> {
    match value {
        Literal::Placeholder(text) => text
            .strip_prefix('$')?
            .parse::<usize>()
            .ok()?
            .checked_sub(1)
            .filter(|at| *at < 65_535),
        _ => None,
    }
}

/// The name that PostgreSQL gives to a column of the result.
pub(super) fn output_name(expr: &Expr) -> String {
    let unnamed = || "?column?".to_owned();
    match expr {
        Expr::Identifier(name) => folded(name),
        Expr::CompoundIdentifier(parts) => parts.last().map_or_else(unnamed, folded),
        Expr::Nested(inner) | Expr::Collate { expr: inner, .. } => output_name(inner),
        Expr::Cast {
            expr,
            data_type: kind,
            ..
        } => match output_name(expr) {
            name if name == "?column?" => {
                data_type(kind).map_or(name, |kind| kind.name().to_owned())
            }
            name => name,
        },
        Expr::Function(function) => {
            split(&function.name).map_or_else(|_| unnamed(), |(_, name)| name)
        }
        Expr::Case { .. } => "case".to_owned(),
        Expr::Exists { .. } => "exists".to_owned(),
        Expr::Array(_) => "array".to_owned(),
        Expr::Value(value) if matches!(value.value, Literal::Boolean(_)) => "bool".to_owned(),
        Expr::Substring { .. } => "substring".to_owned(),
        Expr::Trim { .. } => "btrim".to_owned(),
        Expr::Position { .. } => "position".to_owned(),
        Expr::Extract { .. } => "date_part".to_owned(),
        Expr::Ceil { .. } => "ceil".to_owned(),
        Expr::Floor { .. } => "floor".to_owned(),
        Expr::CompoundFieldAccess { root, access_chain } => match access_chain.last() {
            Some(AccessExpr::Dot(field)) => output_name(field),
            _ => output_name(root),
        },
        Expr::Subquery(query) => match &*query.body {
            SetExpr::Select(select) => match select.projection.first() {
                Some(SelectItem::UnnamedExpr(expr)) => output_name(expr),
                Some(SelectItem::ExprWithAlias { alias, .. }) => folded(alias),
                _ => unnamed(),
            },
            _ => unnamed(),
        },
        _ => unnamed(),
    }
}

/// As much of a text as one line of an error takes.
pub(super) fn shortened(text: &str) -> String {
    if text.chars().count() <= 60 {
        return text.to_owned();
    }
    text.chars().take(57).chain("...".chars()).collect()
}

/// The text of a value.
pub(super) fn as_text(typed: &Typed) -> String {
    match &typed.kind {
        kind if *kind == Type::BOOL => format!(
            "CASE {} WHEN 1 THEN 'true' WHEN 0 THEN 'false' END",
            typed.sql
        ),
        kind if is_registered(kind) => {
            format!("oid_to_name({}, {})", typed.sql, literal(kind.name()))
        }
        kind if is_float(kind) => format!("cast_text({})", typed.sql),
        kind if is_integer(kind) => format!("CAST({} AS TEXT)", typed.sql),
        _ => typed.sql.clone(),
    }
}
