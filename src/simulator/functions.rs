//! The functions that queries may call: what each returns, and how the engine computes it: by a
//! function of SQLite's, by one of ours ([`register`]), or by what stands here in SQLite's SQL.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use regex_lite::RegexBuilder;
use rusqlite::Connection;
use rusqlite::functions::FunctionFlags;

use super::engine::PANGU_ERROR;
use super::function_table::{FIRST_FUNCTION, functions};
use super::settings::unrecognized;
use super::value::{
    SqlError, Type, Value, array_text, elements, printed, text_to_value, type_name, type_named,
};

/// What `set_config` asks for: name, value, whether for the transaction alone.
pub(super) type SetRequest = (String, String, bool);

/// What functions know of the statement that runs. One runs at a time.
#[derive(Debug, Default)]
pub(super) struct Context {
    /// `user`, `database`, `pid`, `hg_version`.
    pub(super) session: BTreeMap<&'static str, String>,
    pub(super) settings: BTreeMap<String, String>,
    /// How many rows HQE may still read of encrypted data; `None`: another engine reads.
    pub(super) readable: Option<usize>,
    pub(super) sets: Vec<SetRequest>,
    /// When the statement has run for too long.
    pub(super) deadline: Option<Instant>,
    /// Why a function of ours failed.
    pub(super) failure: Option<SqlError>,
    /// The relations' OIDs, as regclass writes and reads them; how views and the like are defined.
    pub(super) relations: BTreeMap<i64, String>,
    pub(super) definitions: BTreeMap<i64, String>,
}

pub(super) fn locked(context: &Mutex<Context>) -> MutexGuard<'_, Context> {
    context.lock().unwrap_or_else(PoisonError::into_inner)
}

type Answer = Result<Value, SqlError>;

/// What a function is called with.
struct Call<'a> {
    values: &'a [Value],
    context: &'a Mutex<Context>,
}

impl Call<'_> {
    fn text(&self, at: usize) -> String {
        self.values.get(at).and_then(printed).unwrap_or_default()
    }

    fn integer(&self, at: usize) -> i64 {
        match self.values.get(at) {
            Some(Value::Integer(number)) => *number,
            Some(Value::Text(text)) => text.trim().parse().unwrap_or_default(),
            Some(Value::Real(number)) => *number as i64,
            _ => 0,
        }
    }

    #[allow(clippy::cast_precision_loss)] // the sample data is far below 2^53
    fn float(&self, at: usize) -> f64 {
        match self.values.get(at) {
            Some(Value::Integer(number)) => *number as f64,
            Some(Value::Real(number)) => *number,
            _ => self.text(at).trim().parse().unwrap_or_default(),
        }
    }
}

#[allow(clippy::unnecessary_wraps)] // as functions answer
fn text(text: impl Into<String>) -> Answer {
    Ok(Value::Text(text.into()))
}

#[allow(clippy::unnecessary_wraps)] // as functions answer
fn flag(flag: bool) -> Answer {
    Ok(Value::Integer(flag.into()))
}

#[allow(clippy::unnecessary_wraps)] // as functions answer
fn maybe(text: Option<String>) -> Answer {
    Ok(text.map_or(Value::Null, Value::Text))
}

/// Gives `connection` the functions that SQLite lacks: those of the table of functions, and those that the
/// translation writes.
pub(super) fn register(
    connection: &Connection,
    context: &Arc<Mutex<Context>>,
) -> rusqlite::Result<()> {
    /// How many arguments are required not to be NULL.
    const STRICT: bool = true;
    const LAX: bool = false;
    let add = |name: &'static str, strict: bool, act: fn(&Call<'_>) -> Answer| {
        let context = Arc::clone(context);
        let flags = FunctionFlags::SQLITE_UTF8;
        connection.create_scalar_function(name, -1, flags, move |given| {
            let values = (0..given.len())
                .map(|at| given.get(at))
                .collect::<rusqlite::Result<Vec<Value>>>()?;
            if strict && values.contains(&Value::Null) {
                return Ok(Value::Null);
            }
            let call = Call {
                values: &values,
                context: &context,
            };
            act(&call).map_err(|failure| {
                let message = failure.message.clone();
                locked(&context).failure = Some(failure);
                rusqlite::Error::UserFunctionError(message.into())
            })
        })
    };

    // Operators and casts
    add("matches", STRICT, |call| {
        let pattern = RegexBuilder::new(&call.text(1))
            .case_insensitive(call.integer(2) != 0)
            .build();
        let pattern = pattern.map_err(|_| SqlError::new("2201B", "invalid regular expression"))?;
        flag(pattern.is_match(&call.text(0)))
    })?;
    add("is_like", STRICT, |call| {
        let (mut given, mut pattern) = (call.text(0), call.text(1));
        if call.integer(2) != 0 {
            (given, pattern) = (given.to_lowercase(), pattern.to_lowercase());
        }
        let escape = if call.values.len() > 3 {
            call.text(3).chars().next()
        } else {
            Some('\\')
        };
        let given: Vec<char> = given.chars().collect();
        let pattern: Vec<char> = pattern.chars().collect();
        flag(is_like(&given, &pattern, escape))
    })?;
    add("divide", STRICT, |call| match call.values {
        [Value::Integer(_), Value::Integer(0)] => Err(by_zero()),
        [Value::Integer(left), Value::Integer(right)] => {
            Ok(Value::Integer(left.wrapping_div(*right)))
        }
        _ if call.float(1) == 0.0 => Err(by_zero()),
        _ => Ok(Value::Real(call.float(0) / call.float(1))),
    })?;
    add("modulo", STRICT, |call| match call.integer(1) {
        0 => Err(by_zero()),
        right => Ok(Value::Integer(call.integer(0).wrapping_rem(right))),
    })?;
    add("cast_text", STRICT, |call| text(call.text(0)))?;
    add("cast_value", STRICT, |call| {
        let kind = type_named(&call.text(1)).unwrap_or(Type::TEXT);
        match &call.values[0] {
            Value::Text(text) => text_to_value(text, &kind),
            Value::Real(number) if super::value::is_integer(&kind) => {
                Ok(Value::Integer(number.round_ties_even() as i64))
            }
            Value::Integer(_) if super::value::is_float(&kind) => Ok(Value::Real(call.float(0))),
            Value::Integer(number) if kind == Type::BOOL => flag(*number != 0),
            value => Ok(value.clone()),
        }
    })?;
    add("name_to_oid", STRICT, name_to_oid)?;
    add("oid_to_name", STRICT, |call| {
        text(oid_to_name(call, &call.text(1), call.integer(0)))
    })?;
    for (name, kind) in [
        ("to_regclass", "regclass"),
        ("to_regtype", "regtype"),
        ("to_regproc", "regproc"),
        ("to_regnamespace", "regnamespace"),
        ("to_regrole", "regrole"),
    ] {
        let context = Arc::clone(context);
        connection.create_scalar_function(name, 1, FunctionFlags::SQLITE_UTF8, move |given| {
            let values = [given.get::<Value>(0)?, Value::Text(kind.to_owned())];
            let found = name_to_oid(&Call {
                values: &values,
                context: &context,
            });
            found.ok().map(|_| given.get::<String>(0)).transpose()
        })?;
    }
    add("hqe_reads", LAX, |call| {
        match &mut locked(call.context).readable {
            Some(0) => return Err(SqlError::new("XX000", PANGU_ERROR)),
            Some(rows) => *rows -= 1,
            None => {}
        }
        flag(true)
    })?;

    // Texts and numbers
    add("btrim", STRICT, |call| {
        let cut = if call.values.len() > 1 {
            call.text(1)
        } else {
            " ".to_owned()
        };
        text(call.text(0).trim_matches(|letter| cut.contains(letter)))
    })?;
    add("left", STRICT, |call| {
        let given: Vec<char> = call.text(0).chars().collect();
        text(
            given[..bound(call.integer(1), given.len())]
                .iter()
                .collect::<String>(),
        )
    })?;
    add("right", STRICT, |call| {
        let given: Vec<char> = call.text(0).chars().collect();
        text(
            given[given.len() - bound(call.integer(1), given.len())..]
                .iter()
                .collect::<String>(),
        )
    })?;
    add("split_part", STRICT, |call| {
        let (given, separator) = (call.text(0), call.text(1));
        let at = usize::try_from(call.integer(2))
            .unwrap_or(0)
            .saturating_sub(1);
        text(given.split(&*separator).nth(at).unwrap_or_default())
    })?;
    add("regexp_replace", STRICT, |call| {
        let pattern = RegexBuilder::new(&call.text(1))
            .case_insensitive(call.text(3).contains('i'))
            .build();
        let pattern = pattern.map_err(|_| SqlError::new("2201B", "invalid regular expression"))?;
        let (given, with) = (call.text(0), call.text(2).replace('\\', "$"));
        let limit = usize::from(!call.text(3).contains('g'));
        text(pattern.replacen(&given, limit, &*with).into_owned())
    })?;
    add("concat", LAX, |call| {
        text(
            (0..call.values.len())
                .map(|at| call.text(at))
                .collect::<String>(),
        )
    })?;
    add("concat_ws", LAX, |call| {
        let parts: Vec<String> = call.values.iter().skip(1).filter_map(printed).collect();
        text(parts.join(&call.text(0)))
    })?;
    add("quote_ident", STRICT, |call| {
        let name = call.text(0);
        let plain =
            |letter: char| letter.is_ascii_lowercase() || letter == '_' || letter.is_ascii_digit();
        let quoted = !name.chars().all(plain)
            || name.starts_with(|letter: char| letter.is_ascii_digit())
            || name.is_empty();
        text(if quoted {
            format!("\"{}\"", name.replace('"', "\"\""))
        } else {
            name
        })
    })?;
    add("quote_literal", STRICT, |call| {
        text(format!("'{}'", call.text(0).replace('\'', "''")))
    })?;
    add("ceil", STRICT, |call| Ok(Value::Real(call.float(0).ceil())))?;
    add("floor", STRICT, |call| {
        Ok(Value::Real(call.float(0).floor()))
    })?;
    add("power", STRICT, |call| {
        Ok(Value::Real(call.float(0).powf(call.float(1))))
    })?;
    add("greatest", LAX, |call| Ok(extreme(call, |a, b| a > b)))?;
    add("least", LAX, |call| Ok(extreme(call, |a, b| a < b)))?;

    // Arrays
    add("array_make", LAX, |call| {
        let all: Vec<_> = call.values.iter().map(printed).collect();
        text(array_text(&all))
    })?;
    add("array_from_json", STRICT, |call| {
        let all: Vec<serde_json::Value> = serde_json::from_str(&call.text(0)).unwrap_or_default();
        let all: Vec<_> = all
            .into_iter()
            .map(|value| match value {
                serde_json::Value::Null => None,
                serde_json::Value::String(text) => Some(text),
                value => Some(value.to_string()),
            })
            .collect();
        text(array_text(&all))
    })?;
    add("array_to_json", STRICT, |call| {
        let numbers = call.integer(1) != 0;
        let all = elements(&call.text(0))
            .into_iter()
            .map(|element| match element {
                Some(text) if numbers => text
                    .parse::<i64>()
                    .map_or(text.into(), serde_json::Value::from),
                element => element.into(),
            });
        text(serde_json::Value::Array(all.collect()).to_string())
    })?;
    add("series_json", STRICT, |call| {
        let step = if call.values.len() > 2 {
            call.integer(2)
        } else {
            1
        };
        let (mut at, last) = (call.integer(0), call.integer(1));
        let mut all = Vec::new();
        while step != 0 && all.len() < 100_000 && (if step > 0 { at <= last } else { at >= last }) {
            all.push(at);
            at += step;
        }
        text(serde_json::Value::from(all).to_string())
    })?;
    add("array_get", STRICT, |call| {
        let at = call.integer(1) - call.integer(2);
        let element = usize::try_from(at)
            .ok()
            .and_then(|at| elements(&call.text(0)).into_iter().nth(at))
            .flatten();
        maybe(element)
    })?;
    add("array_length", STRICT, |call| {
        let count = elements(&call.text(0)).len();
        Ok(if count == 0 {
            Value::Null
        } else {
            Value::Integer(i64::try_from(count).unwrap_or(i64::MAX))
        })
    })?;
    add("array_position", STRICT, |call| {
        let wanted = Some(call.text(1));
        let at = elements(&call.text(0))
            .into_iter()
            .position(|element| element == wanted);
        Ok(at.map_or(Value::Null, |at| {
            Value::Integer(i64::try_from(at).map_or(0, |at| at + 1))
        }))
    })?;
    add("array_contains", STRICT, |call| {
        let all = elements(&call.text(0));
        flag(
            elements(&call.text(1))
                .iter()
                .all(|element| all.contains(element)),
        )
    })?;
    add("array_overlaps", STRICT, |call| {
        let all = elements(&call.text(0));
        flag(
            elements(&call.text(1))
                .iter()
                .any(|element| all.contains(element)),
        )
    })?;
    add("array_cat", LAX, |call| {
        let mut all = elements(&call.text(0));
        all.extend(elements(&call.text(1)));
        text(array_text(&all))
    })?;
    add("array_append", LAX, |call| {
        let mut all = elements(&call.text(0));
        all.push(printed(&call.values[1]));
        text(array_text(&all))
    })?;
    add("array_remove", LAX, |call| {
        let mut all = elements(&call.text(0));
        all.retain(|element| *element != printed(&call.values[1]));
        text(array_text(&all))
    })?;
    add("array_to_string", STRICT, |call| {
        let null = (call.values.len() > 2).then(|| call.text(2));
        let all = elements(&call.text(0))
            .into_iter()
            .filter_map(|element| element.or_else(|| null.clone()));
        text(all.collect::<Vec<_>>().join(&call.text(1)))
    })?;
    add("string_to_array", STRICT, |call| {
        let given = call.text(0);
        let all: Vec<_> = given
            .split(&*call.text(1))
            .map(|part| Some(part.to_owned()))
            .collect();
        text(array_text(&all))
    })?;

    // The session and the catalogs
    add("session_value", STRICT, |call| {
        maybe(locked(call.context).session.get(&*call.text(0)).cloned())
    })?;
    add("current_setting", LAX, |call| {
        let name = call.text(0).to_lowercase();
        match locked(call.context).settings.get(&name) {
            Some(value) => text(value.clone()),
            None if call.values.len() > 1 && call.integer(1) != 0 => Ok(Value::Null),
            None => Err(unrecognized(&name)),
        }
    })?;
    add("set_config", LAX, |call| {
        let set = (call.text(0), call.text(1), call.integer(2) != 0);
        locked(call.context).sets.push(set);
        text(call.text(1))
    })?;
    add("format_type", LAX, |call| {
        if call
            .values
            .first()
            .is_none_or(|value| *value == Value::Null)
        {
            return Ok(Value::Null);
        }
        text(oid_to_name(call, "regtype", call.integer(0)))
    })?;
    add("pg_get_expr", STRICT, |call| text(call.text(0)))?;
    for name in ["pg_get_constraintdef", "pg_get_viewdef", "pg_get_indexdef"] {
        add(name, LAX, |call| {
            // pg_get_indexdef(index, column, pretty) is the column alone.
            let definition = locked(call.context)
                .definitions
                .get(&call.integer(0))
                .cloned();
            if call.values.len() == 3 && call.integer(1) > 0 {
                let columns = definition.as_deref().and_then(|text| text.rsplit_once('('));
                let column = columns.and_then(|(_, columns)| {
                    let at = usize::try_from(call.integer(1)).ok()?;
                    columns
                        .trim_end_matches(')')
                        .split(", ")
                        .nth(at.checked_sub(1)?)
                });
                return maybe(column.map(str::to_owned));
            }
            maybe(definition)
        })?;
    }
    Ok(())
}

fn by_zero() -> SqlError {
    SqlError::new("22012", "division by zero")
}

/// How many of `length` characters `left(…, count)` takes: a negative count leaves so many out.
fn bound(count: i64, length: usize) -> usize {
    let size = usize::try_from(count.unsigned_abs()).unwrap_or(usize::MAX);
    if count < 0 {
        length.saturating_sub(size)
    } else {
        size.min(length)
    }
}

fn extreme(call: &Call<'_>, better: fn(f64, f64) -> bool) -> Value {
    let mut best = Value::Null;
    for (at, value) in call.values.iter().enumerate() {
        let wins = match (&best, value) {
            (_, Value::Null) => false,
            (Value::Null, _) => true,
            (Value::Text(best), Value::Text(value)) => {
                let order = if value > best { 1.0 } else { -1.0 };
                better(order, 0.0)
            }
            (best, _) => {
                let best = Call {
                    values: std::slice::from_ref(best),
                    context: call.context,
                }
                .float(0);
                better(call.float(at), best)
            }
        };
        if wins {
            best = value.clone();
        }
    }
    best
}

fn is_like(text: &[char], pattern: &[char], escape: Option<char>) -> bool {
    match pattern {
        [] => text.is_empty(),
        ['%', rest @ ..] => (0..=text.len()).any(|at| is_like(&text[at..], rest, escape)),
        [first, literal, rest @ ..] if Some(*first) == escape => {
            text.first() == Some(literal) && is_like(&text[1..], rest, escape)
        }
        [first, rest @ ..] => {
            let fits = text
                .first()
                .is_some_and(|letter| *first == '_' || letter == first);
            fits && is_like(&text[1..], rest, escape)
        }
    }
}

/// What casts to regclass and its like mean: the OID of a name, or of a number's digits.
fn name_to_oid(call: &Call<'_>) -> Answer {
    let (name, kind) = (call.text(0), call.text(1));
    if let Ok(oid) = name.parse::<i64>() {
        return Ok(Value::Integer(oid));
    }
    let plain = name.replace('"', "");
    let plain = plain.strip_prefix("pg_catalog.").unwrap_or(&plain);
    let plain = plain.strip_prefix("public.").unwrap_or(plain);
    let found = match kind.as_str() {
        "regclass" => locked(call.context)
            .relations
            .iter()
            .find(|(_, name)| **name == plain)
            .map(|(oid, _)| *oid),
        "regtype" => type_named(&name).map(|kind| kind.oid().into()),
        "regnamespace" => NAMESPACES
            .iter()
            .find(|(_, name)| *name == plain)
            .map(|(oid, _)| *oid),
        "regrole" => ROLES
            .iter()
            .find(|(_, name)| *name == plain)
            .map(|(oid, _)| *oid),
        _ => functions()
            .position(|(name, _)| name == plain)
            .map(|at| FIRST_FUNCTION + i64::try_from(at).unwrap_or(0)),
    };
    let (code, what) = match kind.as_str() {
        "regclass" => ("42P01", "relation"),
        "regtype" => ("42704", "type"),
        "regnamespace" => ("3F000", "schema"),
        "regrole" => ("42704", "role"),
        _ => ("42883", "function"),
    };
    found
        .map(Value::Integer)
        .ok_or_else(|| SqlError::new(code, format!("{what} \"{name}\" does not exist")))
}

fn oid_to_name(call: &Call<'_>, kind: &str, oid: i64) -> String {
    let named = |all: &[(i64, &str)]| {
        all.iter()
            .find(|(one, _)| *one == oid)
            .map(|(_, name)| (*name).to_owned())
    };
    let name = match kind {
        "regclass" => locked(call.context).relations.get(&oid).cloned(),
        "regtype" => u32::try_from(oid)
            .ok()
            .and_then(Type::from_oid)
            .map(|kind| type_name(&kind)),
        "regnamespace" => named(&NAMESPACES),
        "regrole" => named(&ROLES),
        _ => usize::try_from(oid - FIRST_FUNCTION)
            .ok()
            .and_then(|at| functions().nth(at))
            .map(|(name, _)| name.to_owned()),
    };
    match name {
        Some(name) => name,
        None if oid == 0 => "-".to_owned(),
        None if kind == "regtype" => "???".to_owned(),
        None => oid.to_string(),
    }
}

/// The schemas and roles, as `schema.sql` has them.
const NAMESPACES: [(i64, &str); 4] = [
    (11, "pg_catalog"),
    (2200, "public"),
    (13000, "information_schema"),
    (16383, "osprey_simulator"),
];
const ROLES: [(i64, &str); 3] = [
    (10, "holo_admin"),
    (16001, "analyst"),
    (16002, "osprey_catalog"),
];

#[cfg(test)]
mod tests {
    use super::super::function_table::FUNCTIONS;
    use super::*;

    #[test]
    fn the_engine_has_every_function_that_the_table_leaves_to_it() {
        let connection = Connection::open_in_memory().unwrap();
        register(&connection, &Arc::default()).unwrap();
        let left = FUNCTIONS.iter().filter(|(.., sql)| sql.is_empty());
        for name in left.flat_map(|(names, ..)| names.split(' ')) {
            let known = "SELECT count(*) FROM pragma_function_list WHERE name = ?1";
            let found = connection.query_row(known, [name], |row| row.get::<_, i64>(0));
            assert!(found.unwrap() > 0, "{name}");
        }
    }
}
