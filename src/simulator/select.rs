//! SELECT: from the parsed statement to a plan whose columns are known, and from there to rows.

use super::data::{Column, Kind, Rows};
use super::expression::{Environment, Expression, ParameterTypes};
use super::parser::parse_view;
use super::settings::Settings;
use super::statement::{Item, Select};
use super::value::{SqlError, Type, Value};
use super::world::{Engine, World};

/// A SELECT whose relation and types are resolved.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    source: Source,
    /// The columns of the source.
    input: Vec<Column>,
    pub(super) columns: Vec<Column>,
    values: Vec<Expression>,
    filter: Option<Expression>,
    group: Vec<Expression>,
    grouped: bool,
    order: Vec<(Expression, bool)>,
    limit: Option<Expression>,
    offset: Option<Expression>,
}

#[derive(Debug, Clone)]
enum Source {
    /// No FROM: one row without columns.
    Nothing,
    /// By its index in the world.
    Relation(usize),
    View(usize, Box<Plan>),
}

/// What reading needs to know of the session.
pub(super) struct Reader<'a> {
    pub(super) world: &'a World,
    pub(super) settings: &'a mut Settings,
    pub(super) parameters: &'a [Value],
    pub(super) user: &'a str,
    pub(super) database: &'a str,
    pub(super) connection: i32,
}

/// Resolves `select`; types that it tells of parameters are noted in `parameters`.
pub(super) fn plan(
    select: &Select,
    world: &World,
    parameters: &mut ParameterTypes,
) -> Result<Plan, SqlError> {
    let (source, input) = match &select.from {
        None => (Source::Nothing, Vec::new()),
        Some((schema, name)) => {
            let index = world.find(schema.as_deref(), name)?;
            let relation = &world.relations[index];
            let source = match relation.kind {
                Kind::View(sql) => {
                    let view = plan(&parse_view(sql)?, world, &mut ParameterTypes::new())?;
                    Source::View(index, Box::new(view))
                }
                _ => Source::Relation(index),
            };
            (source, relation.columns.clone())
        }
    };
    if let Some(filter) = &select.filter {
        if filter.has_aggregate() {
            return Err(SqlError::new(
                "42803",
                "aggregate functions are not allowed in WHERE",
            ));
        }
        if filter.resolve(&input, parameters, Some(Type::Bool))? != Type::Bool {
            return Err(SqlError::new(
                "42804",
                "argument of WHERE must be type boolean",
            ));
        }
    }
    let mut columns = Vec::new();
    let mut values = Vec::new();
    for item in &select.items {
        match item {
            Item::All if matches!(source, Source::Nothing) => {
                let message = "SELECT * with no tables specified is not valid";
                return Err(SqlError::new("42601", message));
            }
            Item::All => {
                columns.extend(input.iter().cloned());
                values.extend(
                    input
                        .iter()
                        .map(|column| Expression::Column(column.name.clone())),
                );
            }
            Item::Expression(expression, alias) => {
                let kind = expression.resolve(&input, parameters, None)?;
                let name = alias.clone().unwrap_or_else(|| expression.name());
                columns.push(Column::new(name, kind));
                values.push(expression.clone());
            }
        }
    }
    let mut group = Vec::new();
    for key in &select.group {
        let key = output_of(key, &columns, &values, &input)?;
        key.resolve(&input, parameters, None)?;
        group.push(key);
    }
    let mut order = Vec::new();
    for (key, descending) in &select.order {
        let key = output_of(key, &columns, &values, &[])?;
        key.resolve(&input, parameters, None)?;
        order.push((key, *descending));
    }
    let grouped = !group.is_empty() || values.iter().any(Expression::has_aggregate);
    if grouped {
        let mut used = values.iter().chain(order.iter().map(|(key, _)| key));
        if let Some(column) = used.find_map(|value| value.ungrouped(&group)) {
            let message = format!(
                "column \"{column}\" must appear in the GROUP BY clause or be used in an \
                 aggregate function"
            );
            return Err(SqlError::new("42803", message));
        }
    }
    for bound in [&select.limit, &select.offset].into_iter().flatten() {
        bound.resolve(&[], parameters, Some(Type::Int8))?;
    }
    Ok(Plan {
        source,
        input,
        columns,
        values,
        filter: select.filter.clone(),
        group,
        grouped,
        order,
        limit: select.limit.clone(),
        offset: select.offset.clone(),
    })
}

/// A key of GROUP BY or ORDER BY that names an output column, by number or alias, stands for its
/// expression, unless `input` has a column of that name.
fn output_of(
    key: &Expression,
    columns: &[Column],
    values: &[Expression],
    input: &[Column],
) -> Result<Expression, SqlError> {
    match key {
        Expression::Literal(Value::Int(number), _) => usize::try_from(*number)
            .ok()
            .and_then(|number| values.get(number.checked_sub(1)?))
            .cloned()
            .ok_or_else(|| {
                SqlError::new("42P10", format!("position {number} is not in select list"))
            }),
        Expression::Column(name) if !input.iter().any(|column| column.name == *name) => {
            let found = columns.iter().position(|column| column.name == *name);
            Ok(found.map_or_else(|| key.clone(), |at| values[at].clone()))
        }
        _ => Ok(key.clone()),
    }
}

impl Plan {
    /// Runs the plan. An error that only comes up while reading is in the rows, behind those that
    /// come before it.
    pub(super) fn run(&self, reader: &mut Reader<'_>) -> Result<Rows, SqlError> {
        let Rows { rows, mut failure } = self.read(reader)?;
        if failure.is_some() && (self.grouped || !self.order.is_empty()) {
            // A group or a sort delivers nothing before it has read everything.
            return Ok(Rows {
                rows: Vec::new(),
                failure,
            });
        }
        let mut kept = Vec::new();
        for row in rows {
            let holds = match &self.filter {
                Some(filter) => filter.value(&self.input, &row, &[], reader)?.holds(),
                None => true,
            };
            if holds {
                kept.push(row);
            }
        }
        let mut keyed = Vec::new();
        for group in self.groups(kept, reader)? {
            let nulls;
            let row = if let Some(first) = group.first() {
                first
            } else {
                nulls = vec![Value::Null; self.input.len()];
                &nulls
            };
            let values: Result<Vec<_>, _> = self
                .values
                .iter()
                .map(|value| value.value(&self.input, row, &group, reader))
                .collect();
            let keys: Result<Vec<_>, _> = self
                .order
                .iter()
                .map(|(key, _)| key.value(&self.input, row, &group, reader))
                .collect();
            keyed.push((keys?, values?));
        }
        keyed.sort_by(|(left, _), (right, _)| {
            let keys = left.iter().zip(right).zip(&self.order);
            keys.map(|((left, right), (_, descending))| {
                let order = left.compare(right);
                if *descending { order.reverse() } else { order }
            })
            .find(|order| order.is_ne())
            .unwrap_or(std::cmp::Ordering::Equal)
        });
        let offset = bound(self.offset.as_ref(), "OFFSET", reader)?.unwrap_or(0);
        let limit = bound(self.limit.as_ref(), "LIMIT", reader)?.unwrap_or(usize::MAX);
        let rows: Vec<_> = keyed
            .into_iter()
            .skip(offset)
            .take(limit)
            .map(|(_, values)| values)
            .collect();
        if rows.len() >= limit {
            failure = None; // Nobody asked for the row that could not be read.
        }
        Ok(Rows { rows, failure })
    }

    /// One group per row, or as GROUP BY says; without GROUP BY an aggregate has one group.
    fn groups(
        &self,
        rows: Vec<Vec<Value>>,
        reader: &mut Reader<'_>,
    ) -> Result<Vec<Vec<Vec<Value>>>, SqlError> {
        if !self.grouped {
            return Ok(rows.into_iter().map(|row| vec![row]).collect());
        }
        if self.group.is_empty() {
            return Ok(vec![rows]);
        }
        let mut groups: Vec<(Vec<Value>, Vec<Vec<Value>>)> = Vec::new();
        for row in rows {
            let key: Result<Vec<_>, _> = self
                .group
                .iter()
                .map(|key| key.value(&self.input, &row, &[], reader))
                .collect();
            let key = key?;
            match groups.iter_mut().find(|(known, _)| *known == key) {
                Some((_, rows)) => rows.push(row),
                None => groups.push((key, vec![row])),
            }
        }
        Ok(groups.into_iter().map(|(_, rows)| rows).collect())
    }

    fn read(&self, reader: &mut Reader<'_>) -> Result<Rows, SqlError> {
        match &self.source {
            Source::Nothing => Ok(Rows {
                rows: vec![Vec::new()],
                failure: None,
            }),
            Source::View(_, plan) => plan.run(reader),
            Source::Relation(index) => Ok(reader.world.scan(*index, reader.settings)),
        }
    }

    /// The plan as EXPLAIN prints it, with the engine that the settings choose.
    pub(super) fn explain(&self, world: &World, settings: &Settings) -> Vec<String> {
        let mut lines = Vec::new();
        self.explain_into(world, settings, 0, &mut lines);
        lines
    }

    fn explain_into(
        &self,
        world: &World,
        settings: &Settings,
        depth: usize,
        lines: &mut Vec<String>,
    ) {
        let mut depth = depth;
        let mut node = |lines: &mut Vec<String>, text: &str| {
            let (indent, arrow) = if depth == 0 {
                (0, "")
            } else {
                (depth * 6 - 4, "->  ")
            };
            lines.push(format!("{:indent$}{arrow}{text}", ""));
            depth += 1;
        };
        if self.limit.is_some() || self.offset.is_some() {
            node(lines, "Limit");
        }
        if !self.order.is_empty() {
            node(lines, "Sort");
        }
        if self.grouped {
            node(
                lines,
                if self.group.is_empty() {
                    "Aggregate"
                } else {
                    "HashAggregate"
                },
            );
        }
        let filter = if self.filter.is_some() {
            ", filtered"
        } else {
            ""
        };
        match &self.source {
            Source::Nothing => node(lines, "Result"),
            Source::View(index, plan) => {
                node(
                    lines,
                    &format!("Subquery Scan on {}{filter}", world.name_of(*index)),
                );
                plan.explain_into(world, settings, depth, lines);
            }
            Source::Relation(index) => {
                node(
                    lines,
                    &format!("Seq Scan on {}{filter}", world.name_of(*index)),
                );
                let indent = depth * 6 - 4;
                if let Kind::Foreign { project, table, .. } = &world.relations[*index].kind {
                    let text = format!("Foreign Table Type: MaxCompute ({project}.{table})");
                    lines.push(format!("{:indent$}{text}", ""));
                }
                let engine = Engine::reading(&world.relations[*index].kind, settings);
                lines.push(format!("{:indent$}Engine: {engine}", ""));
            }
        }
    }
}

fn bound(
    bound: Option<&Expression>,
    clause: &str,
    reader: &mut Reader<'_>,
) -> Result<Option<usize>, SqlError> {
    let Some(bound) = bound else { return Ok(None) };
    match bound.value(&[], &[], &[], reader)? {
        Value::Null => Ok(None),
        value => match value.cast(Type::Int8)? {
            Value::Int(value) => usize::try_from(value)
                .map(Some)
                .map_err(|_| SqlError::new("2201W", format!("{clause} must not be negative"))),
            _ => Ok(None),
        },
    }
}

impl Environment for Reader<'_> {
    fn parameter(&self, index: usize) -> Value {
        self.parameters.get(index).cloned().unwrap_or(Value::Null)
    }

    fn call(&mut self, name: &str, arguments: Vec<Value>) -> Result<Value, SqlError> {
        let text = |at: usize| arguments.get(at).map(Value::printed).unwrap_or_default();
        Ok(match name {
            "version" => Value::text(VERSION),
            "hg_version" => Value::text(self.world.hg_version.as_str()),
            "current_database" | "current_catalog" => Value::text(self.database),
            "current_user" | "session_user" | "user" => Value::text(self.user),
            "current_schema" => Value::text("public"),
            "pg_backend_pid" => Value::Int(i64::from(self.connection)),
            "current_setting" => match self.settings.show(&text(0)) {
                Ok(value) => Value::text(value),
                Err(_) if arguments.get(1).is_some_and(Value::holds) => Value::Null,
                Err(error) => return Err(error),
            },
            "set_config" => {
                let local = arguments.get(2).is_some_and(Value::holds);
                self.settings.set(&text(0), Some(text(1)), local)?;
                Value::text(self.settings.show(&text(0))?)
            }
            "upper" => Value::Text(text(0).to_uppercase()),
            "lower" => Value::Text(text(0).to_lowercase()),
            "length" => Value::Int(i64::try_from(text(0).chars().count()).unwrap_or(i64::MAX)),
            _ => return Err(SqlError::not_understood(&format!("the function {name}()"))),
        })
    }
}

/// What `version()` answers, in the form Hologres has.
const VERSION: &str = "PostgreSQL 11.3 (Release-build@simulator on origin/release-2.2.x) on \
                       x86_64-pc-linux-gnu, 64-bit";
