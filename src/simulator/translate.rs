//! From PostgreSQL's SQL, as sqlparser reads it, to SQLite's: queries. Relations get flat names
//! (`"pg_catalog.pg_class"`), names are resolved, and each column gets the type that PostgreSQL would
//! give it, which SQLite does not know.

use sqlparser::ast::{
    Cte, Distinct, Expr, GroupByExpr, Ident, LimitClause, ObjectNamePart, OrderBy, OrderByExpr,
    OrderByKind, Query, Select, SelectItem, SelectItemQualifiedWildcardKind, SetExpr, SetOperator,
    SetQuantifier, Value as Literal,
};

use super::scope::{Relations, Scope, literal, quoted};
use super::statement::folded;
use super::translator::{ParameterTypes, Translator, output_name, sorted};
use super::value::{Column, SqlError, Type, is_registered};

/// A query in SQLite's SQL.
#[derive(Debug, Clone)]
pub(super) struct Translation {
    pub(super) sql: String,
    pub(super) columns: Vec<Column>,
    /// The relations that it reads, each as often as it names it, views looked into.
    pub(super) reads: Vec<String>,
}

/// Translates a query; finds out the types of parameters of which none was declared.
pub(super) fn translate(
    relations: &Relations,
    query: &Query,
    parameters: &mut ParameterTypes,
) -> Result<Translation, SqlError> {
    let mut translator = Translator {
        relations,
        parameters,
        reads: Vec::new(),
        scopes: Vec::new(),
        ctes: Vec::new(),
        depth: 0,
        sets: 0,
        outermost: true,
    };
    let (sql, mut columns) = translator.query(query)?;
    for column in &mut columns {
        if column.kind == Type::UNKNOWN {
            column.kind = Type::TEXT;
        }
    }
    let reads = translator.reads;
    Ok(Translation {
        sql,
        columns,
        reads,
    })
}

impl Translator<'_> {
    /// A query somewhere inside of the statement.
    pub(super) fn subquery(&mut self, query: &Query) -> Result<(String, Vec<Column>), SqlError> {
        let outermost = std::mem::replace(&mut self.outermost, false);
        let done = self.query(query);
        self.outermost = outermost;
        done
    }

    fn query(&mut self, query: &Query) -> Result<(String, Vec<Column>), SqlError> {
        let known = self.ctes.len();
        let mut sql = String::new();
        if let Some(with) = &query.with {
            let ctes = with
                .cte_tables
                .iter()
                .map(|cte| self.cte(cte, with.recursive));
            let ctes = ctes.collect::<Result<Vec<_>, _>>()?.join(", ");
            let recursive = if with.recursive { "RECURSIVE " } else { "" };
            sql = format!("WITH {recursive}{ctes} ");
        }
        let keys: &[OrderByExpr] = match query.order_by.as_ref().map(|order: &OrderBy| &order.kind)
        {
            Some(OrderByKind::Expressions(keys)) => keys,
            Some(OrderByKind::All(_)) => return Err(SqlError::not_done("ORDER BY ALL")),
            None => &[],
        };
        let (body, columns) = self.body(&query.body, keys)?;
        sql.push_str(&body);
        let (limit, offset) = match &query.limit_clause {
            Some(LimitClause::LimitOffset { limit, offset, .. }) => {
                (limit.as_ref(), offset.as_ref())
            }
            Some(LimitClause::OffsetCommaLimit { .. }) => {
                return Err(SqlError::not_done("LIMIT a, b"));
            }
            None => (None, None),
        };
        let fetch = query
            .fetch
            .as_ref()
            .and_then(|fetch| fetch.quantity.as_ref());
        if limit.or(fetch).is_some() || offset.is_some() {
            let limit = match limit.or(fetch) {
                Some(limit) => format!("coalesce({}, -1)", self.typed_as(limit, &Type::INT8)?),
                None => "-1".to_owned(),
            };
            sql = format!("{sql} LIMIT {limit}");
            if let Some(offset) = offset {
                sql = format!(
                    "{sql} OFFSET {}",
                    self.typed_as(&offset.value, &Type::INT8)?
                );
            }
        }
        self.ctes.truncate(known);
        Ok((sql, columns))
    }

    fn cte(&mut self, cte: &Cte, recursive: bool) -> Result<String, SqlError> {
        let name = folded(&cte.alias.name);
        let renamed = |mut columns: Vec<Column>| {
            for (column, alias) in columns.iter_mut().zip(&cte.alias.columns) {
                column.name = folded(&alias.name);
            }
            columns
        };
        let mut known = None;
        if recursive && let SetExpr::SetOperation { left, .. } = &*cte.query.body {
            // What it refers to itself by is known from its first part.
            let (parameters, reads) = (self.parameters.clone(), self.reads.len());
            let columns = renamed(self.inner_body(left)?.1);
            *self.parameters = parameters;
            self.reads.truncate(reads);
            known = Some(self.ctes.len());
            self.ctes.push((name.clone(), columns));
        }
        let (sql, columns) = self.subquery(&cte.query)?;
        let columns = renamed(columns);
        let names: Vec<_> = columns.iter().map(|column| quoted(&column.name)).collect();
        let sql = format!("{}({}) AS ({sql})", quoted(&name), names.join(", "));
        match known {
            Some(at) => self.ctes[at].1 = columns,
            None => self.ctes.push((name, columns)),
        }
        Ok(sql)
    }

    fn inner_body(&mut self, body: &SetExpr) -> Result<(String, Vec<Column>), SqlError> {
        let outermost = std::mem::replace(&mut self.outermost, false);
        let done = self.body(body, &[]);
        self.outermost = outermost;
        done
    }

    fn body(
        &mut self,
        body: &SetExpr,
        order: &[OrderByExpr],
    ) -> Result<(String, Vec<Column>), SqlError> {
        let (sql, columns) = match body {
            SetExpr::Select(select) => return self.select(select, order),
            SetExpr::Query(query) => {
                let (sql, columns) = self.query(query)?;
                (format!("SELECT * FROM ({sql})"), columns)
            }
            SetExpr::SetOperation {
                left,
                op,
                set_quantifier,
                right,
            } => {
                let (mut first, mut columns) = self.body(left, &[])?;
                let (mut second, others) = self.body(right, &[])?;
                let is = |one: &SetExpr| matches!(one, SetExpr::SetOperation { .. });
                if is(left) {
                    first = format!("SELECT * FROM ({first})");
                }
                if is(right) {
                    second = format!("SELECT * FROM ({second})");
                }
                let word = match op {
                    SetOperator::Union => "UNION",
                    SetOperator::Intersect => "INTERSECT",
                    SetOperator::Except | SetOperator::Minus => "EXCEPT",
                };
                if columns.len() != others.len() {
                    let message = format!("each {word} query must have the same number of columns");
                    return Err(SqlError::new("42601", message));
                }
                let all = match (op, set_quantifier) {
                    (SetOperator::Union, SetQuantifier::All) => " ALL",
                    (_, SetQuantifier::All) => {
                        return Err(SqlError::not_done(&format!("{word} ALL")));
                    }
                    _ => "",
                };
                for (column, other) in columns.iter_mut().zip(others) {
                    if column.kind == Type::UNKNOWN {
                        column.kind = other.kind;
                    }
                }
                (format!("{first} {word}{all} {second}"), columns)
            }
            SetExpr::Values(values) => {
                let mut columns: Vec<Column> = Vec::new();
                let mut rows = Vec::new();
                for row in &values.rows {
                    let mut cells = Vec::new();
                    for (at, cell) in row.content.iter().enumerate() {
                        let cell = self.expression(cell)?;
                        match columns.get_mut(at) {
                            Some(column) if column.kind == Type::UNKNOWN => column.kind = cell.kind,
                            Some(_) => {}
                            None => {
                                columns.push(Column::new(format!("column{}", at + 1), cell.kind));
                            }
                        }
                        cells.push(cell.sql);
                    }
                    rows.push(format!("({})", cells.join(", ")));
                }
                (format!("VALUES {}", rows.join(", ")), columns)
            }
            SetExpr::Table(table) => {
                let (schema, name) = (
                    table.schema_name.as_ref().map(folded),
                    table.table_name.as_ref().map(folded),
                );
                let source = self.relation(schema.as_deref(), &name.unwrap_or_default(), None)?;
                let columns = source
                    .1
                    .columns
                    .iter()
                    .map(|column| Column::new(&*column.name, column.kind.clone()));
                (format!("SELECT * FROM {}", source.0), columns.collect())
            }
            _ => {
                return Err(SqlError::not_done(
                    "a statement that writes inside of a query",
                ));
            }
        };
        // Only the columns of the result can be sorted by.
        let mut keys = Vec::new();
        for key in order {
            let at = output_position(&key.expr, &columns).ok_or_else(|| {
                SqlError::not_done("ORDER BY an expression over UNION, INTERSECT, EXCEPT or VALUES")
            })?;
            keys.push(sorted(&at.to_string(), key));
        }
        if keys.is_empty() {
            return Ok((sql, columns));
        }
        Ok((
            format!("SELECT * FROM ({sql}) ORDER BY {}", keys.join(", ")),
            columns,
        ))
    }

    fn select(
        &mut self,
        select: &Select,
        order: &[OrderByExpr],
    ) -> Result<(String, Vec<Column>), SqlError> {
        self.scopes.push(Scope::default());
        let done = self.select_in_scope(select, order);
        self.scopes.pop();
        done
    }

    fn select_in_scope(
        &mut self,
        select: &Select,
        order: &[OrderByExpr],
    ) -> Result<(String, Vec<Column>), SqlError> {
        let mut from = Vec::new();
        for tables in &select.from {
            from.push(self.tables(tables)?);
        }
        let filter = select
            .selection
            .as_ref()
            .map(|filter| self.condition(filter))
            .transpose()?;
        let groups = match &select.group_by {
            GroupByExpr::Expressions(groups, modifiers) if modifiers.is_empty() => groups,
            _ => {
                return Err(SqlError::not_done(
                    "GROUP BY ALL, GROUPING SETS, CUBE or ROLLUP",
                ));
            }
        };
        let groups = groups
            .iter()
            .map(|group| self.group(group, select))
            .collect::<Result<Vec<_>, _>>()?;
        let scope = self.scope();
        scope.groups.clone_from(&groups);
        scope.ungrouped = None;

        let (mut items, mut columns) = (Vec::new(), Vec::new());
        for item in &select.projection {
            self.item(item, &mut items, &mut columns)?;
        }
        let having = select
            .having
            .as_ref()
            .map(|having| self.condition(having))
            .transpose()?;
        let mut keys = Vec::new();
        for key in order {
            let at = output_position(&key.expr, &columns);
            let sql = match at {
                Some(at) => at.to_string(),
                None => self.expression(&key.expr)?.sql,
            };
            keys.push(sorted(&sql, key));
        }
        let mut windows = Vec::new();
        for window in &select.named_window {
            let sqlparser::ast::NamedWindowExpr::WindowSpec(spec) = &window.1 else {
                return Err(SqlError::not_done("a window named after another"));
            };
            windows.push(format!(
                "{} AS ({})",
                quoted(&folded(&window.0)),
                self.window(spec)?
            ));
        }
        let distinct = match &select.distinct {
            None | Some(Distinct::All) => "",
            Some(Distinct::Distinct) => "DISTINCT ",
            Some(Distinct::On(_)) => return Err(SqlError::not_done("DISTINCT ON")),
        };
        let scope = self.scope();
        if (scope.aggregates || having.is_some() || !groups.is_empty())
            && let Some(column) = &scope.ungrouped
        {
            let message = format!(
                "column \"{column}\" must appear in the GROUP BY clause or be used in an aggregate function"
            );
            return Err(SqlError::new("42803", message));
        }
        from.append(&mut scope.sets);
        let mut sql = format!("SELECT {distinct}{}", items.join(", "));
        let mut clause = |word: &str, parts: Vec<String>| {
            if !parts.is_empty() {
                sql = format!("{sql} {word} {}", parts.join(", "));
            }
        };
        clause("FROM", from);
        clause("WHERE", filter.into_iter().collect());
        clause("GROUP BY", groups);
        clause("HAVING", having.into_iter().collect());
        clause("WINDOW", windows);
        clause("ORDER BY", keys);
        Ok((sql, columns))
    }

    pub(super) fn scope(&mut self) -> &mut Scope {
        if self.scopes.is_empty() {
            self.scopes.push(Scope::default()); // VALUES and LIMIT stand in none
        }
        let last = self.scopes.len() - 1;
        &mut self.scopes[last]
    }

    /// A key of GROUP BY: an expression, the place of a column of the result, or its name.
    fn group(&mut self, group: &Expr, select: &Select) -> Result<String, SqlError> {
        let named = match group {
            Expr::Value(value) => match &value.value {
                Literal::Number(digits, _) => {
                    let at = digits.parse::<usize>().ok().and_then(|at| at.checked_sub(1));
                    at.and_then(|at| select.projection.get(at))
                }
                _ => None,
            },
            Expr::Identifier(name) if super::scope::column(&self.scopes, None, &folded(name)).is_err() => {
                select.projection.iter().find(|item| {
                    matches!(item, SelectItem::ExprWithAlias { alias, .. } if folded(alias) == folded(name))
                })
            }
            _ => None,
        };
        match named {
            Some(SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. }) => {
                Ok(self.expression(expr)?.sql)
            }
            _ => Ok(self.expression(group)?.sql),
        }
    }

    fn item(
        &mut self,
        item: &SelectItem,
        items: &mut Vec<String>,
        columns: &mut Vec<Column>,
    ) -> Result<(), SqlError> {
        let table = match item {
            SelectItem::UnnamedExpr(expr) => {
                // (f(…)).* is all columns of a function that yields rows.
                return self.item_expression(expr, output_name(expr), items, columns);
            }
            SelectItem::ExprWithAlias { expr, alias } => {
                return self.item_expression(expr, folded(alias), items, columns);
            }
            SelectItem::Wildcard(_) => None,
            SelectItem::QualifiedWildcard(SelectItemQualifiedWildcardKind::ObjectName(name), _) => {
                name.0.last().and_then(ObjectNamePart::as_ident).map(folded)
            }
            _ => return Err(SqlError::not_done("this kind of column list")),
        };
        let mut found = false;
        for source in self.scope().sources.clone() {
            if table.as_ref().is_some_and(|table| *table != source.alias) {
                continue;
            }
            found = true;
            for column in source.columns {
                if table.is_none() && source.merged.contains(&column.name) {
                    continue;
                }
                let name = Expr::CompoundIdentifier(vec![
                    Ident::with_quote('"', source.alias.clone()),
                    Ident::with_quote('"', column.name.clone()),
                ]);
                self.item_expression(&name, column.name, items, columns)?;
            }
        }
        if !found {
            let message = match table {
                Some(table) => format!("missing FROM-clause entry for table \"{table}\""),
                None => "SELECT * with no tables specified is not valid".to_owned(),
            };
            return Err(SqlError::new("42P01", message));
        }
        Ok(())
    }

    fn item_expression(
        &mut self,
        expr: &Expr,
        name: String,
        items: &mut Vec<String>,
        columns: &mut Vec<Column>,
    ) -> Result<(), SqlError> {
        let mut typed = self.expression(expr)?;
        if self.outermost && self.scopes.len() == 1 && is_registered(&typed.kind) {
            // The client sees names.
            typed.sql = format!("oid_to_name({}, {})", typed.sql, literal(typed.kind.name()));
        }
        items.push(format!("{} AS {}", typed.sql, quoted(&name)));
        columns.push(Column::new(name, typed.kind));
        Ok(())
    }
}

/// The place in the result, from 1, that a key of ORDER BY names by number or by name.
fn output_position(key: &Expr, columns: &[Column]) -> Option<usize> {
    match key {
        Expr::Value(value) => match &value.value {
            Literal::Number(digits, _) => digits.parse().ok(),
            _ => None,
        },
        Expr::Identifier(name) => {
            let name = folded(name);
            columns
                .iter()
                .position(|column| column.name == name)
                .map(|at| at + 1)
        }
        _ => None,
    }
}
