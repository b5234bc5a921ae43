//! The functions that queries may call: what each returns, and how the engine computes it: by a
//! function of SQLite's, by one of ours ([`register`]), or by what stands here in SQLite's SQL.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use regex_lite::RegexBuilder;
use rusqlite::Connection;
use rusqlite::functions::FunctionFlags;

use super::engine::PANGU_ERROR;
use super::settings::unrecognized;
use super::value::{
    SqlError, Type, Value, array_text, elements, printed, text_to_value, type_name, type_named,
};

/// Functions of one row: names, the type of the result, and the SQL, in which `$1` is the first
/// argument and `$*` all. Without SQL it is a function of that name in the engine. Types beside
/// `pg_type`'s: `arg` is the first argument's, `elem` that of its elements.
pub(super) const FUNCTIONS: &[(&str, &str, &str)] = &[
    // Texts
    (
        "lower upper reverse initcap trim ltrim rtrim btrim replace translate repeat lpad rpad left right split_part chr substr regexp_replace",
        "text",
        "",
    ),
    ("concat concat_ws", "text", ""),
    ("substring", "text", "substr($*)"),
    ("length char_length character_length", "int4", "length($*)"),
    ("octet_length", "int4", "length(CAST($1 AS BLOB))"),
    ("strpos", "int4", "instr($1, $2)"),
    ("ascii", "int4", "unicode($1)"),
    ("starts_with", "bool", "(substr($1, 1, length($2)) = $2)"),
    ("quote_ident quote_literal", "text", ""),
    (
        "quote_nullable",
        "text",
        "coalesce(quote_literal($1), 'NULL')",
    ),
    // Numbers
    ("abs", "arg", ""),
    ("round", "float8", "round($*)"),
    ("ceil ceiling", "float8", "ceil($1)"),
    ("floor trunc sqrt exp ln power", "float8", ""),
    (
        "random",
        "float8",
        "(random() / 18446744073709551616.0 + 0.5)",
    ),
    ("pow", "float8", "power($*)"),
    ("sign", "int4", ""),
    ("mod", "arg", "modulo($*)"),
    ("pi", "float8", "3.141592653589793"),
    // Whatever
    ("coalesce", "arg", "coalesce($*, NULL)"),
    ("nullif", "arg", ""),
    ("greatest", "arg", "greatest($*)"),
    ("least", "arg", "least($*)"),
    // Times
    (
        "now current_timestamp transaction_timestamp statement_timestamp clock_timestamp pg_postmaster_start_time pg_conf_load_time",
        "timestamptz",
        "strftime('%Y-%m-%d %H:%M:%f+00')",
    ),
    (
        "localtimestamp",
        "timestamp",
        "strftime('%Y-%m-%d %H:%M:%f')",
    ),
    ("current_date", "date", "date()"),
    ("current_time", "text", "time()"),
    (
        "date_part",
        "float8",
        "CAST(strftime(CASE $1 WHEN 'year' THEN '%Y' WHEN 'month' THEN '%m' WHEN 'day' THEN '%d' WHEN 'hour' THEN '%H' WHEN 'minute' THEN '%M' WHEN 'epoch' THEN '%s' END, substr($2, 1, 19)) AS REAL)",
    ),
    (
        "date_trunc",
        "timestamptz",
        "strftime(CASE $1 WHEN 'year' THEN '%Y-01-01 00:00:00+00' WHEN 'month' THEN '%Y-%m-01 00:00:00+00' WHEN 'day' THEN '%Y-%m-%d 00:00:00+00' WHEN 'hour' THEN '%Y-%m-%d %H:00:00+00' WHEN 'minute' THEN '%Y-%m-%d %H:%M:00+00' END, substr($2, 1, 19))",
    ),
    ("age", "int4", "NULL"),
    // Arrays
    ("array_to_string", "text", ""),
    ("array_append array_remove array_cat", "arg", ""),
    (
        "array_length array_upper cardinality",
        "int4",
        "array_length($1)",
    ),
    (
        "array_lower",
        "int4",
        "CASE WHEN array_length($1) > 0 THEN 1 END",
    ),
    ("array_position", "int4", ""),
    ("string_to_array", "_text", ""),
    ("array_in", "text", "$1"), // an array type's typinput
    (
        "json_build_object jsonb_build_object",
        "json",
        "json_object($*)",
    ),
    (
        "json_build_array jsonb_build_array",
        "json",
        "json_array($*)",
    ),
    // The session
    (
        "current_user user session_user current_role",
        "name",
        "session_value('user')",
    ),
    (
        "current_database current_catalog",
        "name",
        "session_value('database')",
    ),
    ("current_schema", "name", "'public'"),
    (
        "current_schemas",
        "_name",
        "CASE $1 WHEN 1 THEN '{pg_catalog,public}' ELSE '{public}' END",
    ),
    ("current_setting", "text", ""),
    ("set_config", "text", ""),
    (
        "version",
        "text",
        "'PostgreSQL 11.3 (Osprey''s simulated Hologres)'",
    ),
    ("hg_version", "text", "session_value('hg_version')"),
    (
        "pg_backend_pid",
        "int4",
        "CAST(session_value('pid') AS INTEGER)",
    ),
    ("inet_server_addr inet_client_addr", "inet", "NULL"),
    ("inet_server_port inet_client_port", "int4", "NULL"),
    (
        "pg_is_in_recovery pg_is_wal_replay_paused pg_is_other_temp_schema",
        "bool",
        "0",
    ),
    ("pg_my_temp_schema", "oid", "0"),
    ("txid_current txid_current_if_assigned", "int8", "1"),
    ("pg_sleep", "void", "''"),
    // What the catalogs say
    ("format_type", "text", ""),
    (
        "to_regclass to_regtype to_regproc to_regnamespace to_regrole",
        "text",
        "",
    ),
    (
        "pg_get_userbyid",
        "name",
        "coalesce((SELECT rolname FROM \"pg_catalog.pg_authid\" WHERE oid = $1), 'unknown (OID=' || $1 || ')')",
    ),
    (
        "pg_table_is_visible",
        "bool",
        "EXISTS (SELECT 1 FROM \"pg_catalog.pg_class\" WHERE oid = $1 AND relnamespace IN (11, 2200))",
    ),
    (
        "pg_function_is_visible pg_type_is_visible pg_operator_is_visible pg_opclass_is_visible pg_opfamily_is_visible pg_collation_is_visible pg_conversion_is_visible pg_statistics_obj_is_visible pg_ts_config_is_visible pg_ts_dict_is_visible pg_ts_parser_is_visible pg_ts_template_is_visible",
        "bool",
        "($1 IS NOT NULL)",
    ),
    (
        "has_table_privilege has_any_column_privilege has_column_privilege has_schema_privilege has_database_privilege has_function_privilege has_language_privilege has_sequence_privilege has_server_privilege has_foreign_data_wrapper_privilege has_tablespace_privilege has_type_privilege pg_has_role",
        "bool",
        "1",
    ),
    (
        "row_security_active pg_relation_is_publishable pg_column_is_updatable",
        "bool",
        "0",
    ),
    ("pg_relation_is_updatable", "int4", "0"),
    (
        "pg_get_expr pg_get_constraintdef pg_get_viewdef pg_get_indexdef",
        "text",
        "",
    ),
    (
        "pg_get_triggerdef pg_get_ruledef pg_get_functiondef pg_get_partkeydef pg_get_partition_constraintdef pg_get_statisticsobjdef pg_get_statisticsobjdef_columns pg_get_serial_sequence pg_get_function_sqlbody pg_tablespace_location pg_get_function_arg_default pg_get_statisticsobjdef_expressions pg_describe_object",
        "text",
        "NULL",
    ),
    (
        "pg_get_function_result",
        "text",
        "(SELECT format_type(prorettype, NULL) FROM \"pg_catalog.pg_proc\" WHERE oid = $1)",
    ),
    (
        "pg_get_function_arguments pg_get_function_identity_arguments",
        "text",
        "(SELECT '' FROM \"pg_catalog.pg_proc\" WHERE oid = $1)",
    ),
    (
        "obj_description",
        "text",
        "(SELECT description FROM \"pg_catalog.pg_description\" WHERE objoid = $1 AND objsubid = 0)",
    ),
    (
        "col_description",
        "text",
        "(SELECT description FROM \"pg_catalog.pg_description\" WHERE objoid = $1 AND objsubid = $2)",
    ),
    ("shobj_description", "text", "NULL"),
    (
        "pg_encoding_to_char",
        "name",
        "CASE $1 WHEN 6 THEN 'UTF8' ELSE '' END",
    ),
    (
        "pg_char_to_encoding",
        "int4",
        "CASE upper($1) WHEN 'UTF8' THEN 6 ELSE -1 END",
    ),
    ("pg_client_encoding getdatabaseencoding", "name", "'UTF8'"),
    (
        "pg_database_size pg_table_size pg_relation_size pg_total_relation_size pg_indexes_size pg_tablespace_size pg_stat_get_numscans pg_stat_get_tuples_inserted",
        "int8",
        "0",
    ),
    ("pg_size_pretty", "text", "($1 || ' bytes')"),
    ("pg_stat_get_last_vacuum_time", "timestamptz", "NULL"),
];

/// Aggregates and window functions, with the type of their results. `sum` is an integer's int8.
pub(super) const AGGREGATES: &[(&str, &str)] = &[
    ("count", "int8"),
    ("sum", "sum"),
    ("avg", "float8"),
    ("min", "arg"),
    ("max", "arg"),
    ("string_agg", "text"),
    ("array_agg", "array"),
    ("json_agg", "json"),
    ("bool_and", "bool"),
    ("bool_or", "bool"),
    ("every", "bool"),
];

/// See [`AGGREGATES`].
pub(super) const WINDOW: &[(&str, &str)] = &[
    ("row_number", "int8"),
    ("rank", "int8"),
    ("dense_rank", "int8"),
    ("percent_rank", "float8"),
    ("cume_dist", "float8"),
    ("ntile", "int4"),
    ("lag", "arg"),
    ("lead", "arg"),
    ("first_value", "arg"),
    ("last_value", "arg"),
    ("nth_value", "arg"),
];

/// Functions that yield rows, with their columns: name, type and SQL over the rows of `json_each`,
/// whose name is `$`.
pub(super) const SETS: &[(&str, &[(&str, &str, &str)])] = &[
    ("unnest", &[("unnest", "elem", "$.value")]),
    ("generate_series", &[("generate_series", "int4", "$.value")]),
    (
        "generate_subscripts",
        &[("generate_subscripts", "int4", "($.key + 1)")],
    ),
    (
        "_pg_expandarray",
        &[("x", "elem", "$.value"), ("n", "int4", "($.key + 1)")],
    ),
    (
        "pg_options_to_table",
        &[
            (
                "option_name",
                "text",
                "substr($.value, 1, instr($.value, '=') - 1)",
            ),
            (
                "option_value",
                "text",
                "substr($.value, instr($.value, '=') + 1)",
            ),
        ],
    ),
    (
        "aclexplode",
        &[
            ("grantor", "oid", "NULL"),
            ("grantee", "oid", "NULL"),
            ("privilege_type", "text", "NULL"),
            ("is_grantable", "bool", "NULL"),
        ],
    ),
    (
        "pg_get_keywords",
        &[
            ("word", "text", "NULL"),
            ("catcode", "char", "NULL"),
            ("catdesc", "text", "NULL"),
        ],
    ),
];

/// What functions know of the statement that runs. One runs at a time.
#[derive(Debug, Default)]
pub(super) struct Context {
    /// `user`, `database`, `pid`, `hg_version`.
    pub(super) session: BTreeMap<&'static str, String>,
    pub(super) settings: BTreeMap<String, String>,
    /// How many rows HQE may still read of encrypted data; `None`: another engine reads.
    pub(super) readable: Option<usize>,
    /// What `set_config` asks for: name, value, whether for the transaction.
    pub(super) sets: Vec<(String, String, bool)>,
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

fn text(text: impl Into<String>) -> Answer {
    Ok(Value::Text(text.into()))
}

fn flag(flag: bool) -> Answer {
    Ok(Value::Integer(flag.into()))
}

fn maybe(text: Option<String>) -> Answer {
    Ok(text.map_or(Value::Null, Value::Text))
}

/// Gives `connection` the functions that [`FUNCTIONS`] and the translation name and that SQLite lacks.
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
    add("name_to_oid", STRICT, |call| name_to_oid(call))?;
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
            Ok(found.ok().map(|_| given.get::<String>(0)).transpose()?)
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
    add("reverse", STRICT, |call| {
        text(call.text(0).chars().rev().collect::<String>())
    })?;
    add("initcap", STRICT, |call| {
        let mut begins = true;
        let letters = call
            .text(0)
            .chars()
            .map(|letter| {
                let first = std::mem::replace(&mut begins, !letter.is_alphanumeric());
                if first {
                    letter.to_ascii_uppercase()
                } else {
                    letter.to_ascii_lowercase()
                }
            })
            .collect::<String>();
        text(letters)
    })?;
    add("btrim", STRICT, |call| {
        let cut = if call.values.len() > 1 {
            call.text(1)
        } else {
            " ".to_owned()
        };
        text(call.text(0).trim_matches(|letter| cut.contains(letter)))
    })?;
    add("translate", STRICT, |call| {
        let (from, to) = (call.text(1), call.text(2));
        let to: Vec<char> = to.chars().collect();
        let letters = call
            .text(0)
            .chars()
            .filter_map(|letter| {
                from.chars()
                    .position(|one| one == letter)
                    .map_or(Some(letter), |at| to.get(at).copied())
            })
            .collect::<String>();
        text(letters)
    })?;
    add("repeat", STRICT, |call| {
        let times = usize::try_from(call.integer(1)).unwrap_or(0).min(10_000);
        text(call.text(0).repeat(times))
    })?;
    add("lpad", STRICT, |call| text(padded(call, true)))?;
    add("rpad", STRICT, |call| text(padded(call, false)))?;
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
    add("chr", STRICT, |call| {
        let letter = u32::try_from(call.integer(0)).ok().and_then(char::from_u32);
        text(letter.map_or(String::new(), String::from))
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
    add("trunc", STRICT, |call| {
        Ok(Value::Real(call.float(0).trunc()))
    })?;
    add("sqrt", STRICT, |call| Ok(Value::Real(call.float(0).sqrt())))?;
    add("exp", STRICT, |call| Ok(Value::Real(call.float(0).exp())))?;
    add("ln", STRICT, |call| Ok(Value::Real(call.float(0).ln())))?;
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
            Value::Integer(count as i64)
        })
    })?;
    add("array_position", STRICT, |call| {
        let wanted = Some(call.text(1));
        let at = elements(&call.text(0))
            .into_iter()
            .position(|element| element == wanted);
        Ok(at.map_or(Value::Null, |at| Value::Integer(at as i64 + 1)))
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

fn padded(call: &Call<'_>, before: bool) -> String {
    let fill = if call.values.len() > 2 {
        call.text(2)
    } else {
        " ".to_owned()
    };
    let given: Vec<char> = call.text(0).chars().collect();
    let width = usize::try_from(call.integer(1)).unwrap_or(0).min(10_000);
    let missing: String = fill
        .chars()
        .cycle()
        .take(width.saturating_sub(given.len()))
        .collect();
    let given: String = given.into_iter().take(width).collect();
    if before {
        missing + &given
    } else {
        given + &missing
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
            .map(|at| FIRST_FUNCTION + at as i64),
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

/// The OID of the first function in `pg_proc`.
pub(super) const FIRST_FUNCTION: i64 = 6000;

/// All functions with the types of their results, in the order of their OIDs.
pub(super) fn functions() -> impl Iterator<Item = (&'static str, &'static str)> {
    let plain = FUNCTIONS
        .iter()
        .flat_map(|(names, kind, _)| names.split(' ').map(move |name| (name, *kind)));
    plain
        .chain(AGGREGATES.iter().copied())
        .chain(WINDOW.iter().copied())
}
