//! Expressions: their types, their parameters, their values.

use super::data::Column;
use super::value::{SqlError, Type, Value};

/// A scalar expression, an aggregate, or a reference to a column.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Expression {
    Literal(Value, Type),
    /// `$n`, counted from 0.
    Parameter(usize),
    Column(String),
    Cast(Box<Self>, Type),
    Not(Box<Self>),
    IsNull(Box<Self>, bool),
    Binary(Operator, Box<Self>, Box<Self>),
    Call(String, Vec<Self>),
    Aggregate(Aggregate, Option<Box<Self>>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operator {
    Or,
    And,
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    Concatenate,
    Add,
    Subtract,
    Multiply,
    Divide,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Aggregate {
    Count,
    Sum,
    Average,
    Least,
    Greatest,
}

impl Aggregate {
    pub(super) fn named(name: &str) -> Option<Self> {
        Some(match name {
            "count" => Self::Count,
            "sum" => Self::Sum,
            "avg" => Self::Average,
            "min" => Self::Least,
            "max" => Self::Greatest,
            _ => return None,
        })
    }
}

/// What an expression is evaluated against.
pub(super) trait Environment {
    fn parameter(&self, index: usize) -> Value;
    /// A function of the session: `current_setting()`, `hg_version()`, …
    fn call(&mut self, name: &str, arguments: Vec<Value>) -> Result<Value, SqlError>;
}

/// The parameters' types, as far as declared by the client or inferred.
pub(super) type ParameterTypes = Vec<Option<Type>>;

impl Expression {
    /// The output name of a column that has no alias.
    pub(super) fn name(&self) -> String {
        match self {
            Self::Column(name) | Self::Call(name, _) => name.clone(),
            Self::Cast(inner, kind) => match inner.name() {
                name if name == "?column?" => kind.wire().name().to_owned(),
                name => name,
            },
            Self::Aggregate(aggregate, _) => match aggregate {
                Aggregate::Count => "count",
                Aggregate::Sum => "sum",
                Aggregate::Average => "avg",
                Aggregate::Least => "min",
                Aggregate::Greatest => "max",
            }
            .to_owned(),
            _ => "?column?".to_owned(),
        }
    }

    pub(super) fn has_aggregate(&self) -> bool {
        match self {
            Self::Aggregate(..) => true,
            Self::Cast(inner, _) | Self::Not(inner) | Self::IsNull(inner, _) => {
                inner.has_aggregate()
            }
            Self::Binary(_, left, right) => left.has_aggregate() || right.has_aggregate(),
            Self::Call(_, arguments) => arguments.iter().any(Self::has_aggregate),
            Self::Literal(..) | Self::Parameter(_) | Self::Column(_) => false,
        }
    }

    /// A column that is neither part of `group` nor inside of an aggregate.
    pub(super) fn ungrouped<'a>(&'a self, group: &[Self]) -> Option<&'a str> {
        if group.contains(self) {
            return None;
        }
        match self {
            Self::Column(name) => Some(name),
            Self::Cast(inner, _) | Self::Not(inner) | Self::IsNull(inner, _) => {
                inner.ungrouped(group)
            }
            Self::Binary(_, left, right) => {
                left.ungrouped(group).or_else(|| right.ungrouped(group))
            }
            Self::Call(_, arguments) => arguments
                .iter()
                .find_map(|argument| argument.ungrouped(group)),
            Self::Aggregate(..) | Self::Literal(..) | Self::Parameter(_) => None,
        }
    }

    /// The expression's type over `columns`; a parameter whose type is still open takes
    /// `expected`, or text.
    pub(super) fn resolve(
        &self,
        columns: &[Column],
        parameters: &mut ParameterTypes,
        expected: Option<Type>,
    ) -> Result<Type, SqlError> {
        match self {
            Self::Literal(_, kind) => Ok(*kind),
            Self::Parameter(index) => {
                if parameters.len() <= *index {
                    parameters.resize(index + 1, None);
                }
                let kind = parameters[*index].or(expected).unwrap_or(Type::Text);
                parameters[*index] = Some(kind);
                Ok(kind)
            }
            Self::Column(name) => Ok(columns[position(columns, name)?].kind),
            Self::Cast(inner, kind) => {
                inner.resolve(columns, parameters, Some(*kind))?;
                Ok(*kind)
            }
            Self::Not(inner) => {
                inner.resolve(columns, parameters, Some(Type::Bool))?;
                Ok(Type::Bool)
            }
            Self::IsNull(inner, _) => {
                inner.resolve(columns, parameters, None)?;
                Ok(Type::Bool)
            }
            Self::Binary(operator, left, right) => {
                resolve_binary(*operator, left, right, columns, parameters, expected)
            }
            Self::Call(name, arguments) => {
                for argument in arguments {
                    argument.resolve(columns, parameters, None)?;
                }
                function_type(name, arguments.len())
            }
            Self::Aggregate(aggregate, argument) => {
                let argument = match argument {
                    Some(argument) => Some(argument.resolve(columns, parameters, None)?),
                    None => None,
                };
                match (aggregate, argument) {
                    (Aggregate::Count, _) | (Aggregate::Sum, Some(Type::Int4 | Type::Int8)) => {
                        Ok(Type::Int8)
                    }
                    (Aggregate::Least | Aggregate::Greatest, Some(kind)) => Ok(kind),
                    (Aggregate::Average, Some(kind)) if kind.is_number() => Ok(Type::Float8),
                    (Aggregate::Sum, Some(Type::Float8)) => Ok(Type::Float8),
                    _ => Err(no_function(&self.name(), 1)),
                }
            }
        }
    }

    /// The value for one row; aggregates are over `group`, which `row` belongs to.
    pub(super) fn value(
        &self,
        columns: &[Column],
        row: &[Value],
        group: &[Vec<Value>],
        environment: &mut dyn Environment,
    ) -> Result<Value, SqlError> {
        match self {
            Self::Literal(value, _) => Ok(value.clone()),
            Self::Parameter(index) => Ok(environment.parameter(*index)),
            Self::Column(name) => {
                let at = position(columns, name)?;
                Ok(row.get(at).cloned().unwrap_or(Value::Null))
            }
            Self::Cast(inner, kind) => inner.value(columns, row, group, environment)?.cast(*kind),
            Self::Not(inner) => Ok(match inner.value(columns, row, group, environment)? {
                Value::Bool(value) => Value::Bool(!value),
                _ => Value::Null,
            }),
            Self::IsNull(inner, negated) => {
                let null = inner.value(columns, row, group, environment)? == Value::Null;
                Ok(Value::Bool(null != *negated))
            }
            Self::Binary(operator, left, right) => {
                let left = left.value(columns, row, group, environment)?;
                let right = right.value(columns, row, group, environment)?;
                operator.apply(left, right)
            }
            Self::Call(name, arguments) => {
                let arguments: Result<Vec<_>, _> = arguments
                    .iter()
                    .map(|argument| argument.value(columns, row, group, environment))
                    .collect();
                environment.call(name, arguments?)
            }
            Self::Aggregate(aggregate, argument) => {
                let Some(argument) = argument else {
                    return Ok(Value::Int(i64::try_from(group.len()).unwrap_or(i64::MAX)));
                };
                let mut values = Vec::new();
                for row in group {
                    let value = argument.value(columns, row, &[], environment)?;
                    if value != Value::Null {
                        values.push(value);
                    }
                }
                Ok(aggregate.over(values))
            }
        }
    }
}

impl Aggregate {
    #[allow(clippy::cast_precision_loss)] // a handful of rows
    fn over(self, values: Vec<Value>) -> Value {
        if self == Self::Count {
            return Value::Int(i64::try_from(values.len()).unwrap_or(i64::MAX));
        }
        if values.is_empty() {
            return Value::Null;
        }
        let sum = |values: &[Value]| values.iter().filter_map(Value::number).sum::<f64>();
        match self {
            Self::Count => Value::Null,
            Self::Average => Value::Float(sum(&values) / values.len() as f64),
            Self::Sum => {
                let whole: Option<Vec<i64>> = values
                    .iter()
                    .map(|value| match value {
                        Value::Int(value) => Some(*value),
                        _ => None,
                    })
                    .collect();
                whole.map_or_else(
                    || Value::Float(sum(&values)),
                    |whole| Value::Int(whole.iter().sum()),
                )
            }
            Self::Least => values
                .into_iter()
                .min_by(Value::compare)
                .unwrap_or(Value::Null),
            Self::Greatest => values
                .into_iter()
                .max_by(Value::compare)
                .unwrap_or(Value::Null),
        }
    }
}

impl Operator {
    fn is_comparison(self) -> bool {
        matches!(
            self,
            Self::Equal
                | Self::NotEqual
                | Self::Less
                | Self::LessOrEqual
                | Self::Greater
                | Self::GreaterOrEqual
        )
    }

    fn apply(self, left: Value, right: Value) -> Result<Value, SqlError> {
        match (self, &left, &right) {
            (Self::And, Value::Bool(false), _) | (Self::And, _, Value::Bool(false)) => {
                return Ok(Value::Bool(false));
            }
            (Self::Or, Value::Bool(true), _) | (Self::Or, _, Value::Bool(true)) => {
                return Ok(Value::Bool(true));
            }
            (_, Value::Null, _) | (_, _, Value::Null) => return Ok(Value::Null),
            _ => {}
        }
        let (left, right) = if self.is_comparison() {
            aligned(left, right)?
        } else {
            (left, right)
        };
        let order = left.compare(&right);
        Ok(match self {
            Self::And => Value::Bool(left.holds() && right.holds()),
            Self::Or => Value::Bool(left.holds() || right.holds()),
            Self::Equal => Value::Bool(order.is_eq()),
            Self::NotEqual => Value::Bool(order.is_ne()),
            Self::Less => Value::Bool(order.is_lt()),
            Self::LessOrEqual => Value::Bool(order.is_le()),
            Self::Greater => Value::Bool(order.is_gt()),
            Self::GreaterOrEqual => Value::Bool(order.is_ge()),
            Self::Concatenate => Value::Text(left.printed() + &right.printed()),
            Self::Add | Self::Subtract | Self::Multiply | Self::Divide => {
                return self.calculate(&left, &right);
            }
        })
    }

    fn calculate(self, left: &Value, right: &Value) -> Result<Value, SqlError> {
        let divisor_is_zero = self == Self::Divide && right.number() == Some(0.0);
        if divisor_is_zero {
            return Err(SqlError::new("22012", "division by zero"));
        }
        if let (Value::Int(left), Value::Int(right)) = (left, right) {
            let result = match self {
                Self::Add => left.checked_add(*right),
                Self::Subtract => left.checked_sub(*right),
                Self::Multiply => left.checked_mul(*right),
                _ => left.checked_div(*right),
            };
            return result
                .map(Value::Int)
                .ok_or_else(|| SqlError::new("22003", "bigint out of range"));
        }
        let (Some(left), Some(right)) = (left.number(), right.number()) else {
            return Ok(Value::Null);
        };
        Ok(Value::Float(match self {
            Self::Add => left + right,
            Self::Subtract => left - right,
            Self::Multiply => left * right,
            _ => left / right,
        }))
    }
}

/// A string compared with something else is read as that.
fn aligned(left: Value, right: Value) -> Result<(Value, Value), SqlError> {
    let kind = |value: &Value| match value {
        Value::Bool(_) => Type::Bool,
        Value::Int(_) => Type::Int8,
        Value::Float(_) => Type::Float8,
        Value::Text(_) | Value::Null => Type::Text,
    };
    Ok(match (kind(&left), kind(&right)) {
        (Type::Text, other) if other != Type::Text => (left.cast(other)?, right),
        (other, Type::Text) if other != Type::Text => (left, right.cast(other)?),
        _ => (left, right),
    })
}

fn resolve_binary(
    operator: Operator,
    left: &Expression,
    right: &Expression,
    columns: &[Column],
    parameters: &mut ParameterTypes,
    expected: Option<Type>,
) -> Result<Type, SqlError> {
    let open = match operator {
        Operator::And | Operator::Or => Some(Type::Bool),
        Operator::Concatenate => Some(Type::Text),
        _ if operator.is_comparison() => None,
        _ => expected,
    };
    // A string literal takes the type of what it is compared with.
    let strings = [left, right]
        .iter()
        .any(|side| matches!(side, Expression::Literal(Value::Text(_) | Value::Null, _)));
    // The side that knows its type tells a parameter on the other side.
    let (left, right) = if matches!(left, Expression::Parameter(_)) {
        let right = right.resolve(columns, parameters, open)?;
        (left.resolve(columns, parameters, Some(right))?, right)
    } else {
        let left = left.resolve(columns, parameters, open)?;
        (left, right.resolve(columns, parameters, Some(left))?)
    };
    let numbers = left.is_number() && right.is_number();
    let comparable = left == right || numbers || strings;
    match operator {
        Operator::And | Operator::Or if left == Type::Bool && right == Type::Bool => Ok(Type::Bool),
        Operator::Concatenate if left == Type::Text || right == Type::Text => Ok(Type::Text),
        _ if operator.is_comparison() && comparable => Ok(Type::Bool),
        Operator::Add | Operator::Subtract | Operator::Multiply | Operator::Divide if numbers => {
            Ok(match (left, right) {
                (Type::Float8, _) | (_, Type::Float8) => Type::Float8,
                (Type::Int4, Type::Int4) => Type::Int4,
                _ => Type::Int8,
            })
        }
        _ => {
            let (left, right) = (left.wire(), right.wire());
            Err(SqlError::new(
                "42883",
                format!(
                    "operator does not exist between {} and {}",
                    left.name(),
                    right.name()
                ),
            ))
        }
    }
}

pub(super) fn position(columns: &[Column], name: &str) -> Result<usize, SqlError> {
    columns
        .iter()
        .position(|column| column.name == name)
        .ok_or_else(|| SqlError::new("42703", format!("column \"{name}\" does not exist")))
}

fn function_type(name: &str, arguments: usize) -> Result<Type, SqlError> {
    match (name, arguments) {
        (
            "version" | "hg_version" | "current_database" | "current_catalog" | "current_schema"
            | "current_user" | "session_user" | "user",
            0,
        )
        | ("current_setting", 1 | 2)
        | ("set_config", 3)
        | ("upper" | "lower", 1) => Ok(Type::Text),
        ("pg_backend_pid", 0) | ("length", 1) => Ok(Type::Int4),
        _ => Err(no_function(name, arguments)),
    }
}

fn no_function(name: &str, arguments: usize) -> SqlError {
    SqlError::new(
        "42883",
        format!("the simulator has no function {name} for {arguments} such arguments"),
    )
}
