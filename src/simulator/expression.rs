//! From PostgreSQL's SQL to SQLite's: expressions, with the types that PostgreSQL gives them.

use sqlparser::ast::{
    AccessExpr, BinaryOperator, DataType, Expr, InTarget, Subscript, TrimWhereField, UnaryOperator,
    Value as Literal,
};

use super::call::call;
use super::function_table::SETS;
use super::scope::{column, literal};
use super::statement::folded;
use super::translator::{Translator, Typed, as_text, data_type, placeholder, shortened, string};
use super::value::{
    SqlError, Type, Value, array_of, element_of, is_float, is_integer, is_registered,
    text_to_value, type_name, type_named,
};

/// How deep expressions may stand in each other; SQLite's limit is 1000.
const MAX_DEPTH: usize = 900;

impl Translator<'_> {
    /// An expression; what is in GROUP BY as a whole is grouped with all that is in it.
    pub(super) fn expression(&mut self, expr: &Expr) -> Result<Typed, SqlError> {
        let before = self.scopes.last().and_then(|scope| scope.ungrouped.clone());
        if self.depth == MAX_DEPTH {
            return Err(SqlError::new("54001", "stack depth limit exceeded"));
        }
        self.depth += 1;
        let typed = self.ungrouped(expr);
        self.depth -= 1;
        let typed = typed?;
        if let Some(scope) = self.scopes.last_mut()
            && scope.groups.contains(&typed.sql)
        {
            scope.ungrouped = before;
        }
        Ok(typed)
    }

    /// An expression where a boolean is wanted.
    pub(super) fn condition(&mut self, expr: &Expr) -> Result<String, SqlError> {
        self.typed_as(expr, &Type::BOOL)
    }

    /// An expression where a value of `kind` is wanted: literals and parameters become that.
    pub(super) fn typed_as(&mut self, expr: &Expr, kind: &Type) -> Result<String, SqlError> {
        let typed = self.expression(expr)?;
        Ok(self.coerced(expr, typed, kind)?.sql)
    }

    pub(super) fn coerced(
        &mut self,
        expr: &Expr,
        typed: Typed,
        kind: &Type,
    ) -> Result<Typed, SqlError> {
        if typed.kind != Type::UNKNOWN || *kind == Type::UNKNOWN {
            return Ok(typed);
        }
        let mut expr = expr;
        while let Expr::Nested(inner) = expr {
            expr = inner;
        }
        let Expr::Value(value) = expr else {
            return Ok(Typed::new(typed.sql, kind.clone()));
        };
        if let Some(at) = placeholder(&value.value) {
            self.parameters[at] = Some(kind.clone());
        } else if let Some(text) = string(&value.value) {
            return cast_literal(text, kind);
        }
        Ok(Typed::new(typed.sql, kind.clone()))
    }

    /// Two operands, each where the other's type is wanted.
    fn pair(&mut self, left: &Expr, right: &Expr) -> Result<(Typed, Typed), SqlError> {
        let (first, second) = (self.expression(left)?, self.expression(right)?);
        let first = self.coerced(left, first, &second.kind)?;
        let second = self.coerced(right, second, &first.kind)?;
        Ok((first, second))
    }

    fn ungrouped(&mut self, expr: &Expr) -> Result<Typed, SqlError> {
        let is = |sql: String| Ok(Typed::new(sql, Type::BOOL));
        match expr {
            Expr::Identifier(name) => self.name(None, &folded(name)),
            Expr::CompoundIdentifier(parts) => match &parts[..] {
                [.., table, name] => self.name(Some(&folded(table)), &folded(name)),
                _ => Err(SqlError::not_done("this kind of name")),
            },
            Expr::Value(value) => self.literal(&value.value),
            Expr::TypedString(typed) => {
                let kind = data_type(&typed.data_type)?;
                cast_literal(string(&typed.value.value).unwrap_or_default(), &kind)
            }
            Expr::Nested(inner) => {
                let inner = self.expression(inner)?;
                Ok(Typed::new(format!("({})", inner.sql), inner.kind))
            }
            Expr::Collate { expr, .. } => self.expression(expr),
            Expr::IsNull(inner) => is(format!("({} IS NULL)", self.expression(inner)?.sql)),
            Expr::IsNotNull(inner) => is(format!("({} IS NOT NULL)", self.expression(inner)?.sql)),
            Expr::IsTrue(inner) => is(format!("({} IS 1)", self.condition(inner)?)),
            Expr::IsNotTrue(inner) => is(format!("({} IS NOT 1)", self.condition(inner)?)),
            Expr::IsFalse(inner) => is(format!("({} IS 0)", self.condition(inner)?)),
            Expr::IsNotFalse(inner) => is(format!("({} IS NOT 0)", self.condition(inner)?)),
            Expr::IsUnknown(inner) => is(format!("({} IS NULL)", self.condition(inner)?)),
            Expr::IsNotUnknown(inner) => is(format!("({} IS NOT NULL)", self.condition(inner)?)),
            Expr::IsDistinctFrom(left, right) => {
                let (left, right) = self.pair(left, right)?;
                is(format!("({} IS NOT {})", left.sql, right.sql))
            }
            Expr::IsNotDistinctFrom(left, right) => {
                let (left, right) = self.pair(left, right)?;
                is(format!("({} IS {})", left.sql, right.sql))
            }
            Expr::Between {
                expr,
                negated,
                low,
                high,
            } => {
                let (low, high) = (self.pair(expr, low)?, self.pair(expr, high)?);
                let not = if *negated { "NOT " } else { "" };
                is(format!(
                    "({} {not}BETWEEN {} AND {})",
                    low.0.sql, low.1.sql, high.1.sql
                ))
            }
            Expr::In {
                expr: left,
                target,
                negated,
                ..
            } => {
                let not = if *negated { "NOT " } else { "" };
                let wanted = self.expression(left)?;
                let list = match target {
                    InTarget::List(list) => {
                        let list = list.iter().map(|one| self.typed_as(one, &wanted.kind));
                        list.collect::<Result<Vec<_>, _>>()?.join(", ")
                    }
                    InTarget::Subquery(query) => self.subquery(query)?.0,
                    _ => return Err(SqlError::not_done("this kind of IN")),
                };
                is(format!("({} {not}IN ({list}))", wanted.sql))
            }
            Expr::Like {
                negated,
                any: false,
                expr,
                pattern,
                escape_char,
            } => self.like(expr, pattern, escape_char.as_deref(), *negated, false),
            Expr::ILike {
                negated,
                any: false,
                expr,
                pattern,
                escape_char,
            } => self.like(expr, pattern, escape_char.as_deref(), *negated, true),
            Expr::BinaryOp { left, op, right } => self.operator(left, &spelled(op), right),
            Expr::AnyOp {
                left,
                compare_op,
                right,
                ..
            } => self.any(left, &spelled(compare_op), right, false),
            Expr::AllOp {
                left,
                compare_op,
                right,
            } => self.any(left, &spelled(compare_op), right, true),
            Expr::UnaryOp { op, expr } => match op {
                UnaryOperator::Not => is(format!("(NOT {})", self.condition(expr)?)),
                UnaryOperator::Minus | UnaryOperator::Plus | UnaryOperator::BitwiseNot => {
                    let typed = self.expression(expr)?;
                    Ok(Typed::new(format!("({op} {})", typed.sql), typed.kind))
                }
                _ => Err(SqlError::not_done(&format!("the operator {op}"))),
            },
            Expr::Cast {
                expr,
                data_type: kind,
                ..
            } => self.cast(expr, kind),
            Expr::Case {
                operand,
                conditions,
                else_result,
                ..
            } => {
                let mut kind = Type::UNKNOWN;
                let mut results = Vec::new();
                for result in conditions
                    .iter()
                    .map(|when| &when.result)
                    .chain(else_result.as_deref())
                {
                    let typed = self.expression(result)?;
                    if kind == Type::UNKNOWN || is_float(&typed.kind) {
                        kind = typed.kind.clone();
                    }
                    results.push((result, typed));
                }
                let mut results = results.into_iter();
                let mut sql = "CASE".to_owned();
                for when in conditions {
                    let condition = match operand {
                        Some(operand) => {
                            let (left, right) = self.pair(operand, &when.condition)?;
                            format!("{} = {}", left.sql, right.sql)
                        }
                        None => self.condition(&when.condition)?,
                    };
                    if let Some((result, typed)) = results.next() {
                        let typed = self.coerced(result, typed, &kind)?;
                        sql = format!("{sql} WHEN {condition} THEN {}", typed.sql);
                    }
                }
                if let Some((result, typed)) = results.next() {
                    sql = format!("{sql} ELSE {}", self.coerced(result, typed, &kind)?.sql);
                }
                let kind = if kind == Type::UNKNOWN {
                    Type::TEXT
                } else {
                    kind
                };
                Ok(Typed::new(format!("{sql} END"), kind))
            }
            Expr::Exists { subquery, negated } => {
                let not = if *negated { "NOT " } else { "" };
                is(format!("({not}EXISTS ({}))", self.subquery(subquery)?.0))
            }
            Expr::Subquery(query) => {
                let (sql, columns) = self.subquery(query)?;
                let kind = columns
                    .first()
                    .map_or(Type::TEXT, |column| column.kind.clone());
                Ok(Typed::new(format!("({sql})"), kind))
            }
            Expr::Array(array) => {
                let all = array.elem.iter().map(|one| self.expression(one));
                let all = all.collect::<Result<Vec<_>, _>>()?;
                let element = all.iter().find(|one| one.kind != Type::UNKNOWN);
                let kind = array_of(&element.map_or(Type::TEXT, |one| one.kind.clone()));
                let all: Vec<_> = all.iter().map(as_text).collect();
                Ok(Typed::new(format!("array_make({})", all.join(", ")), kind))
            }
            Expr::CompoundFieldAccess { root, access_chain } => self.access(root, access_chain),
            Expr::Function(function) => self.function(function),
            Expr::Substring {
                expr,
                substring_from,
                substring_for,
                ..
            } => {
                let mut all = vec![self.expression(expr)?.sql];
                all.push(
                    substring_from
                        .as_ref()
                        .map_or(Ok("1".to_owned()), |from| self.typed_as(from, &Type::INT4))?,
                );
                if let Some(count) = substring_for {
                    all.push(self.typed_as(count, &Type::INT4)?);
                }
                Ok(Typed::new(
                    format!("substr({})", all.join(", ")),
                    Type::TEXT,
                ))
            }
            Expr::Trim {
                trim_where,
                trim_what,
                expr,
                trim_characters,
            } => {
                let name = match trim_where {
                    Some(TrimWhereField::Leading) => "ltrim",
                    Some(TrimWhereField::Trailing) => "rtrim",
                    _ => "trim",
                };
                let what = trim_what
                    .as_deref()
                    .or_else(|| trim_characters.as_ref()?.first());
                let what = what.map(|what| self.expression(what)).transpose()?;
                let what = what.map_or(String::new(), |what| format!(", {}", what.sql));
                Ok(Typed::new(
                    format!("{name}({}{what})", self.expression(expr)?.sql),
                    Type::TEXT,
                ))
            }
            Expr::Position { expr, r#in } => {
                let (part, whole) = (self.expression(expr)?.sql, self.expression(r#in)?.sql);
                Ok(Typed::new(format!("instr({whole}, {part})"), Type::INT4))
            }
            Expr::Ceil { expr, .. } => Ok(Typed::new(
                format!("ceil({})", self.expression(expr)?.sql),
                Type::FLOAT8,
            )),
            Expr::Floor { expr, .. } => Ok(Typed::new(
                format!("floor({})", self.expression(expr)?.sql),
                Type::FLOAT8,
            )),
            Expr::Extract { field, expr, .. } => {
                let field = literal(&field.to_string().to_lowercase());
                let value = self.expression(expr)?;
                let args = [Typed::new(field, Type::TEXT), value];
                Ok(call("date_part", &args).unwrap_or_else(|| Typed::new("NULL", Type::FLOAT8)))
            }
            Expr::Tuple(parts) => {
                let parts = parts
                    .iter()
                    .map(|part| Ok(self.expression(part)?.sql))
                    .collect::<Result<Vec<_>, SqlError>>()?;
                Ok(Typed::new(format!("({})", parts.join(", ")), Type::RECORD))
            }
            _ => Err(SqlError::not_done(&shortened(&expr.to_string()))),
        }
    }

    fn name(&mut self, table: Option<&str>, name: &str) -> Result<Typed, SqlError> {
        let found = match column(&self.scopes, table, name) {
            Ok(found) => found,
            Err(error) => {
                const WITHOUT_PARENTHESES: [&str; 9] = [
                    "current_user",
                    "session_user",
                    "user",
                    "current_role",
                    "current_catalog",
                    "current_schema",
                    "current_date",
                    "current_timestamp",
                    "localtimestamp",
                ];
                let known = table.is_none() && WITHOUT_PARENTHESES.contains(&name);
                return known.then(|| call(name, &[])).flatten().ok_or(error);
            }
        };
        if found.depth == 0 {
            let scope = self.scope();
            let source = scope
                .sources
                .iter()
                .find(|source| source.alias == found.alias);
            // The first column is the key of each table here that has one.
            let key = source.and_then(|source| source.columns.first());
            let grouped = |sql: &String| scope.groups.contains(sql);
            if !scope.inside
                && !grouped(&found.column.sql)
                && !key.is_some_and(|key| grouped(&key.sql))
            {
                let name = format!("{}.{}", found.alias, found.column.name);
                scope.ungrouped.get_or_insert(name);
            }
        }
        Ok(Typed::new(found.column.sql, found.column.kind))
    }

    fn literal(&mut self, value: &Literal) -> Result<Typed, SqlError> {
        if let Some(text) = string(value) {
            return Ok(Typed::new(literal(text), Type::UNKNOWN));
        }
        if let Some(at) = placeholder(value) {
            while self.parameters.len() <= at {
                self.parameters.push(None);
            }
            let kind = self.parameters[at].clone().unwrap_or(Type::UNKNOWN);
            return Ok(Typed::new(format!("?{}", at + 1), kind));
        }
        Ok(match value {
            Literal::Number(digits, _) => match digits.parse::<i64>() {
                Ok(number) if i32::try_from(number).is_ok() => Typed::new(digits, Type::INT4),
                Ok(_) => Typed::new(digits, Type::INT8),
                Err(_) => Typed::new(digits, Type::FLOAT8),
            },
            Literal::Boolean(value) => Typed::new(if *value { "1" } else { "0" }, Type::BOOL),
            Literal::Null => Typed::new("NULL", Type::UNKNOWN),
            value => return Err(SqlError::not_done(&format!("the literal {value}"))),
        })
    }

    fn operator(&mut self, left: &Expr, op: &str, right: &Expr) -> Result<Typed, SqlError> {
        let is = |sql: String| Ok(Typed::new(sql, Type::BOOL));
        match op {
            "AND" | "OR" => is(format!(
                "({} {op} {})",
                self.condition(left)?,
                self.condition(right)?
            )),
            "=" | "<>" | "!=" | "<" | ">" | "<=" | ">=" => {
                let (left, right) = self.pair(left, right)?;
                comparable(&left, op, &right)?;
                is(format!("({} {op} {})", left.sql, right.sql))
            }
            "||" => {
                let (first, second) = (self.expression(left)?, self.expression(right)?);
                if let Some(kind) = [&first, &second]
                    .into_iter()
                    .find(|one| element_of(&one.kind).is_some())
                {
                    let as_array = |one: &Typed| {
                        if element_of(&one.kind).is_some() {
                            one.sql.clone()
                        } else {
                            format!("array_make({})", as_text(one))
                        }
                    };
                    return Ok(Typed::new(
                        format!("array_cat({}, {})", as_array(&first), as_array(&second)),
                        kind.kind.clone(),
                    ));
                }
                Ok(Typed::new(
                    format!("({} || {})", as_text(&first), as_text(&second)),
                    Type::TEXT,
                ))
            }
            "+" | "-" | "*" | "/" | "%" | "&" | "|" | "<<" | ">>" | "^" => {
                let (left, right) = self.pair(left, right)?;
                let number = |typed: &Typed| {
                    is_integer(&typed.kind) || is_float(&typed.kind) || typed.kind == Type::UNKNOWN
                };
                if !number(&left) || !number(&right) {
                    return Err(no_operator(&left, op, &right));
                }
                let kind = match (&left.kind, &right.kind) {
                    (left, right) if is_float(left) || is_float(right) || op == "^" => Type::FLOAT8,
                    (left, right) if *left == Type::INT8 || *right == Type::INT8 => Type::INT8,
                    _ => Type::INT4,
                };
                let sql = match op {
                    "/" => format!("divide({}, {})", left.sql, right.sql),
                    "%" => format!("modulo({}, {})", left.sql, right.sql),
                    "^" => format!("power({}, {})", left.sql, right.sql),
                    op => format!("({} {op} {})", left.sql, right.sql),
                };
                Ok(Typed::new(sql, kind))
            }
            "~" | "!~" | "~*" | "!~*" => {
                let (left, right) = (
                    self.typed_as(left, &Type::TEXT)?,
                    self.typed_as(right, &Type::TEXT)?,
                );
                let not = if op.starts_with('!') { "NOT " } else { "" };
                is(format!(
                    "({not}matches({left}, {right}, {}))",
                    i32::from(op.ends_with('*'))
                ))
            }
            "~~" | "!~~" | "~~*" | "!~~*" => {
                self.like(left, right, None, op.starts_with('!'), op.ends_with('*'))
            }
            "@>" => is(format!(
                "array_contains({}, {})",
                self.expression(left)?.sql,
                self.expression(right)?.sql
            )),
            "<@" => is(format!(
                "array_contains({1}, {0})",
                self.expression(left)?.sql,
                self.expression(right)?.sql
            )),
            "&&" => is(format!(
                "array_overlaps({}, {})",
                self.expression(left)?.sql,
                self.expression(right)?.sql
            )),
            op => Err(SqlError::not_done(&format!("the operator {op}"))),
        }
    }

    fn like(
        &mut self,
        text: &Expr,
        pattern: &Expr,
        escape: Option<&Expr>,
        negated: bool,
        any_case: bool,
    ) -> Result<Typed, SqlError> {
        let (text, pattern) = (
            self.typed_as(text, &Type::TEXT)?,
            self.typed_as(pattern, &Type::TEXT)?,
        );
        let escape = escape.map(|escape| self.expression(escape)).transpose()?;
        let escape = escape.map_or(String::new(), |escape| format!(", {}", escape.sql));
        let not = if negated { "NOT " } else { "" };
        let sql = format!(
            "({not}is_like({text}, {pattern}, {}{escape}))",
            i32::from(any_case)
        );
        Ok(Typed::new(sql, Type::BOOL))
    }

    /// `left op ANY (right)` and `left op ALL (right)`.
    fn any(&mut self, left: &Expr, op: &str, right: &Expr, all: bool) -> Result<Typed, SqlError> {
        let mut inner = right;
        while let Expr::Nested(nested) = inner {
            inner = nested;
        }
        if let Expr::Subquery(query) = inner {
            let word = match (op, all) {
                ("=", false) => "IN",
                ("<>" | "!=", true) => "NOT IN",
                _ => {
                    return Err(SqlError::not_done(&format!(
                        "{op} ANY or ALL of a subquery"
                    )));
                }
            };
            let left = self.expression(left)?.sql;
            return Ok(Typed::new(
                format!("({left} {word} ({}))", self.subquery(query)?.0),
                Type::BOOL,
            ));
        }
        let wanted = self.expression(left)?;
        let array = self.expression(right)?;
        let array = self.coerced(right, array, &array_of(&wanted.kind))?;
        let element = element_of(&array.kind).unwrap_or(Type::TEXT);
        let wanted = self.coerced(left, wanted, &element)?;
        let compared = match op {
            "=" | "<>" | "!=" | "<" | ">" | "<=" | ">=" => {
                format!("{} {op} any_of.value", wanted.sql)
            }
            "~" => format!("matches({}, any_of.value, 0)", wanted.sql),
            "~~" => format!("is_like({}, any_of.value, 0)", wanted.sql),
            _ => return Err(SqlError::not_done(&format!("{op} ANY or ALL"))),
        };
        let rows = format!(
            "json_each(array_to_json({}, {})) AS any_of",
            array.sql,
            i32::from(is_integer(&element))
        );
        let sql = if all {
            format!("(NOT EXISTS (SELECT 1 FROM {rows} WHERE NOT ({compared})))")
        } else {
            format!("(EXISTS (SELECT 1 FROM {rows} WHERE {compared}))")
        };
        Ok(Typed::new(sql, Type::BOOL))
    }

    fn cast(&mut self, expr: &Expr, to: &DataType) -> Result<Typed, SqlError> {
        let kind = data_type(to)?;
        let typed = self.expression(expr)?;
        let unknown = typed.kind == Type::UNKNOWN;
        let typed = self.coerced(expr, typed, &kind)?;
        if unknown && typed.sql.starts_with('?') {
            return Ok(typed);
        }
        let from = &typed.kind;
        let text = |kind: &Type| {
            matches!(
                *kind,
                Type::TEXT | Type::VARCHAR | Type::NAME | Type::BPCHAR | Type::UNKNOWN
            )
        };
        let sql = if is_registered(&kind) && !is_integer(from) {
            format!("name_to_oid({}, {})", as_text(&typed), literal(kind.name()))
        } else if text(&kind) {
            let length = to.to_string();
            let length = length
                .split_once('(')
                .map(|(_, rest)| rest.trim_end_matches(')'));
            let length = length.and_then(|digits| digits.parse::<u32>().ok());
            match length {
                Some(length) => format!("substr({}, 1, {length})", as_text(&typed)),
                None => as_text(&typed),
            }
        } else if kind == Type::CHAR {
            format!("substr({}, 1, 1)", as_text(&typed))
        } else if *from == kind {
            typed.sql
        } else if is_integer(&kind) || is_float(&kind) || matches!(kind, Type::BOOL | Type::DATE) {
            format!("cast_value({}, {})", typed.sql, literal(&type_name(&kind)))
        } else {
            typed.sql
        };
        Ok(Typed::new(sql, kind))
    }

    /// `root[index]`, `(record).field`, and a column's name in front of these.
    fn access(&mut self, root: &Expr, chain: &[AccessExpr]) -> Result<Typed, SqlError> {
        let mut chain = chain;
        let mut typed = match (root, chain) {
            (Expr::Identifier(table), [AccessExpr::Dot(Expr::Identifier(name)), rest @ ..]) => {
                chain = rest;
                self.name(Some(&folded(table)), &folded(name))?
            }
            _ => self.expression(root)?,
        };
        for access in chain {
            typed = match access {
                AccessExpr::Subscript(Subscript::Index { index }) => {
                    let index = self.typed_as(index, &Type::INT4)?;
                    // Vectors begin at 0.
                    let first =
                        i32::from(typed.kind.name().starts_with('_') || typed.kind == Type::TEXT);
                    let element = element_of(&typed.kind).unwrap_or(Type::TEXT);
                    let sql = format!("array_get({}, {index}, {first})", typed.sql);
                    let sql = if is_integer(&element) {
                        format!("CAST({sql} AS INTEGER)")
                    } else {
                        sql
                    };
                    Typed::new(sql, element)
                }
                AccessExpr::Dot(Expr::Identifier(field)) => {
                    let field = folded(field);
                    let kind = SETS
                        .iter()
                        .flat_map(|(_, columns)| *columns)
                        .find(|(name, ..)| *name == field);
                    let kind = kind
                        .and_then(|(_, kind, _)| type_named(kind))
                        .unwrap_or(Type::INT4);
                    Typed::new(
                        format!(
                            "json_extract({}, {})",
                            typed.sql,
                            literal(&format!("$.{field}"))
                        ),
                        kind,
                    )
                }
                _ => return Err(SqlError::not_done("this kind of subscript")),
            };
        }
        Ok(typed)
    }
}

/// A text literal as one of `kind`.
fn cast_literal(text: &str, kind: &Type) -> Result<Typed, SqlError> {
    if is_registered(kind) && text.parse::<i64>().is_err() {
        return Ok(Typed::new(
            format!("name_to_oid({}, {})", literal(text), literal(kind.name())),
            kind.clone(),
        ));
    }
    let sql = match text_to_value(text, kind)? {
        Value::Integer(number) => number.to_string(),
        Value::Real(number) => format!("{number:?}"),
        _ => literal(text),
    };
    Ok(Typed::new(sql, kind.clone()))
}

/// PostgreSQL compares no numbers with texts, nor booleans with either.
fn comparable(left: &Typed, op: &str, right: &Typed) -> Result<(), SqlError> {
    let sort = |kind: &Type| match kind {
        kind if *kind == Type::BOOL => Some(1),
        kind if is_integer(kind) || is_float(kind) => Some(2),
        kind if matches!(
            *kind,
            Type::TEXT | Type::VARCHAR | Type::NAME | Type::CHAR | Type::BPCHAR
        ) =>
        {
            Some(3)
        }
        _ => None,
    };
    match (sort(&left.kind), sort(&right.kind)) {
        (Some(one), Some(other)) if one != other => Err(no_operator(left, op, right)),
        _ => Ok(()),
    }
}

fn no_operator(left: &Typed, op: &str, right: &Typed) -> SqlError {
    let (left, right) = (type_name(&left.kind), type_name(&right.kind));
    SqlError::new(
        "42883",
        format!("operator does not exist: {left} {op} {right}"),
    )
}

fn spelled(op: &BinaryOperator) -> String {
    op.to_string()
}
