//! From PostgreSQL's SQL, as sqlparser reads it, to SQLite's: queries. Relations get flat names
//! (`"pg_catalog.pg_class"`), names are resolved, and each column gets the type that PostgreSQL would
//! give it, which SQLite does not know.

use sqlparser::ast::{
    Cte, Distinct, Expr, FunctionArg, FunctionArgExpr, GroupByExpr, Ident, JoinConstraint,
    JoinOperator, LimitClause, ObjectName, ObjectNamePart, OrderBy, OrderByExpr, OrderByKind,
    Query, Select, SelectItem, SelectItemQualifiedWildcardKind, SetExpr, SetOperator,
    SetQuantifier, TableAlias, TableFactor, TableWithJoins, Value as Literal,
};

use super::functions::SETS;
use super::scope::{Relations, Scope, Source, Visible, find, literal, quoted};
use super::statement::folded;
use super::translator::{ParameterTypes, Translator, Typed, output_name, sorted, split};
use super::value::{Column, SqlError, Type, element_of, is_registered};

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
                                columns.push(Column::new(format!("column{}", at + 1), cell.kind))
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
            keys.push(sorted(at.to_string(), key));
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
            keys.push(sorted(sql, key));
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

    fn tables(&mut self, tables: &TableWithJoins) -> Result<String, SqlError> {
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
                self.derived(&sql, columns, name, alias.as_ref())
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
        &mut self,
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

    fn relation(
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
        let (sql, columns, oid) = match cte {
            Some((_, columns)) => (quoted(name), columns.clone(), 0),
            None => {
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
            }
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
            return Ok(self.derived(
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
