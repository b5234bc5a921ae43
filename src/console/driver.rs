//! What clients ask a PostgreSQL when they connect, and of its catalogs. The catalogs are empty here,
//! but for the tables of the console.

use super::error::Error;
use super::lexer::{Placed, Token};
use super::tables::TABLES;
use super::value::{Column, Row, Type, Value};

/// The schema that the tables are in, for clients that want one.
pub(super) const SCHEMA: &str = "console";
/// The database.
pub(super) const DATABASE: &str = "osprey";
/// The version that clients are told to expect: what they know of it decides what they ask.
pub(super) const SERVER_VERSION: &str = "15.0";

/// Settings that clients ask for, with what is so in every session.
const SETTINGS: &[(&str, &str)] = &[
    ("transaction isolation level", "read committed"),
    ("transaction_isolation", "read committed"),
    ("default_transaction_isolation", "read committed"),
    ("transaction_read_only", "off"),
    ("default_transaction_read_only", "off"),
    ("server_version", SERVER_VERSION),
    ("server_version_num", "150000"),
    ("server_encoding", "UTF8"),
    ("client_encoding", "UTF8"),
    ("standard_conforming_strings", "on"),
    ("integer_datetimes", "on"),
    ("search_path", SCHEMA),
    ("timezone", "UTC"),
    ("time zone", "UTC"),
    ("datestyle", "ISO, MDY"),
    ("intervalstyle", "postgres"),
    ("extra_float_digits", "1"),
    ("bytea_output", "hex"),
    ("application_name", ""),
    ("in_hot_standby", "off"),
    ("is_superuser", "off"),
    ("statement_timeout", "0"),
    ("max_identifier_length", "63"),
    ("lc_collate", "C"),
    ("lc_ctype", "C"),
];

/// Rows at hand, with their columns.
type Rows = (Vec<Column>, Vec<Row>);

fn column(name: &str, kind: Type) -> Column {
    Column {
        name: name.to_owned(),
        kind,
    }
}

/// The value of a setting; `None`: no client asks for it.
fn setting(name: &str) -> Option<&'static str> {
    let known = SETTINGS.iter().find(|(known, _)| *known == name);
    known.map(|(_, value)| *value)
}

/// `SHOW` of a setting, named by words with a blank between them.
pub(super) fn show(name: &str) -> Option<Rows> {
    let value = setting(name)?;
    let column = column(&name.replace(' ', "_"), Type::Text);
    Some((vec![column], vec![vec![Value::Text(value.to_owned())]]))
}

/// What clients are told of settings when they log in.
pub(super) fn reported(user: &str) -> impl Iterator<Item = (String, String)> {
    const REPORTED: &[(&str, &str)] = &[
        ("server_version", "server_version"),
        ("server_encoding", "server_encoding"),
        ("client_encoding", "client_encoding"),
        ("standard_conforming_strings", "standard_conforming_strings"),
        ("integer_datetimes", "integer_datetimes"),
        ("TimeZone", "timezone"),
        ("DateStyle", "datestyle"),
        ("IntervalStyle", "intervalstyle"),
        ("is_superuser", "is_superuser"),
        ("application_name", "application_name"),
        ("in_hot_standby", "in_hot_standby"),
        (
            "default_transaction_read_only",
            "default_transaction_read_only",
        ),
    ];
    let all = REPORTED
        .iter()
        .filter_map(|(name, known)| Some((*name, setting(known)?)));
    let all = all.chain([("session_authorization", user)]);
    let all: Vec<_> = all
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    all.into_iter()
}

/// True if a query is one of PostgreSQL's catalogs, or of the standard's, or of a function's rows.
pub(super) fn is_about_catalogs(words: &[Placed]) -> bool {
    let from = words.iter().any(|(token, _)| token.is_word("from"));
    let calls = words.windows(3).any(|three| {
        let [(from, _), (name, _), (open, _)] = three else {
            return false;
        };
        from.is_word("from") && matches!(name, Token::Name { .. }) && open.is_symbol("(")
    });
    let is_catalog = |name: &str| name.starts_with("pg_") || name == "information_schema";
    let names = words.iter().filter_map(|(token, _)| match token {
        Token::Name { text, .. } => Some(text.as_str()),
        _ => None,
    });
    from && (calls || names.into_iter().any(is_catalog))
}

/// The answer to such a query: no rows, with the columns that it asks for; or, to the questions of
/// psql's `\d`, `\dt` and `\l` without a pattern, the console's tables and its database.
pub(super) fn catalog(words: &[Placed]) -> Rows {
    let names = outputs(words);
    let columns: Vec<_> = names.iter().map(|name| column(name, Type::Text)).collect();
    let has = |wanted: &[&str]| {
        let names = names.iter().take(wanted.len());
        names
            .map(|name| name.to_lowercase())
            .eq(wanted.iter().copied())
    };
    let text = |value: &str| Value::Text(value.to_owned());
    let mut rows: Vec<Row> = Vec::new();
    if has(&["schema", "name", "type", "owner"]) && lists_tables(words) {
        let row = |name: &&str| vec![text(SCHEMA), text(name), text("table"), text(DATABASE)];
        let mut tables: Vec<_> = TABLES.iter().map(|table| table.name).collect();
        tables.sort_unstable();
        rows = tables.iter().map(row).collect();
    } else if has(&["name", "owner", "encoding"]) {
        rows = vec![vec![text(DATABASE), text(DATABASE), text("UTF8")]];
    }
    for row in &mut rows {
        row.resize(columns.len(), Value::Null);
    }
    (columns, rows)
}

/// True if a query of `pg_class` has tables among what it looks for, of any name in any schema.
fn lists_tables(words: &[Placed]) -> bool {
    let is = |word| words.iter().position(|(token, _)| token.is_word(word));
    let (Some(_), Some(condition)) = (is("pg_class"), is("where")) else {
        return false;
    };
    let condition = &words[condition..];
    let wants_tables = condition.iter().any(|(token, _)| match token {
        // An element of a list, or of an array: `{r,p}`.
        Token::Text(text) => text
            .trim_matches(['{', '}'])
            .split(',')
            .any(|kind| kind == "r"),
        _ => false,
    });
    let matches = |token: &Token| token.is_word("operator") || token.is_symbol("~");
    let is_named = condition.windows(2).any(|pair| {
        let [(name, _), (behind, _)] = pair else {
            return false;
        };
        name.is_word("relname") || name.is_word("nspname") && matches(behind)
    });
    wants_tables && !is_named
}

/// The names of the columns that a query gives: behind AS, or the last name of each.
fn outputs(words: &[Placed]) -> Vec<String> {
    let tokens: Vec<_> = words.iter().map(|(token, _)| token).collect();
    let mut depth = 0;
    let depths: Vec<i32> = tokens
        .iter()
        .map(|token| {
            let here = depth;
            depth += i32::from(token.is_symbol("(")) - i32::from(token.is_symbol(")"));
            here.min(depth)
        })
        .collect();
    // A CASE has ELSE and END of its own, and no comma or FROM outside of parentheses.
    let at_top =
        |word: &str| (0..tokens.len()).find(|&at| depths[at] == 0 && tokens[at].is_word(word));
    let begin = at_top("select").map_or(0, |at| at + 1);
    let end = (begin..tokens.len()).find(|&at| depths[at] == 0 && tokens[at].is_word("from"));
    let end = end.unwrap_or(tokens.len());
    let mut outputs = Vec::new();
    let mut first = begin;
    for at in begin..=end {
        let ends = at == end || depths[at] == 0 && tokens[at].is_symbol(",");
        if ends {
            outputs.push(name_of(&tokens[first..at]));
            first = at + 1;
        }
    }
    outputs
}

/// The name of one column.
fn name_of(expression: &[&Token]) -> String {
    let last = expression.last();
    if let Some(Token::Name { text, .. }) = last {
        return text.clone();
    }
    // A call is named by its function.
    let call = expression.windows(2).find_map(|pair| match pair {
        [Token::Name { text, .. }, open] if open.is_symbol("(") => Some(text.clone()),
        _ => None,
    });
    call.unwrap_or_else(|| "?column?".to_owned())
}

/// `SELECT` without `FROM`: constants, and functions that clients call when they connect. `place` is
/// where the statement begins.
///
/// # Errors
///
/// An expression of another kind.
pub(super) fn constants(words: &[Placed], place: usize, user: &str) -> Result<Rows, Error> {
    let mut row = Vec::new();
    let mut columns = Vec::new();
    let mut depth = 0;
    let parts = words.split(|(token, _)| {
        depth += i32::from(token.is_symbol("(")) - i32::from(token.is_symbol(")"));
        depth == 0 && token.is_symbol(",")
    });
    for part in parts {
        let at = part.first().map_or(place, |(_, at)| *at);
        let tokens: Vec<_> = part.iter().map(|(token, _)| token).collect();
        let (expression, name) = match tokens.as_slice() {
            [expression @ .., as_word, Token::Name { text, .. }] if as_word.is_word("as") => {
                (expression, text.clone())
            }
            expression => (expression, name_of(expression)),
        };
        let (value, kind) = constant(expression, at, user)?;
        columns.push(column(&name, kind));
        row.push(value);
    }
    Ok((columns, vec![row]))
}

fn constant(expression: &[&Token], at: usize, user: &str) -> Result<(Value, Type), Error> {
    let wrong = || {
        let message = "the console has no expressions: its queries are of its tables";
        Error {
            at: Some(at),
            ..Error::new("0A000", message).hint("HELP lists the commands.")
        }
    };
    // A type behind changes nothing about a constant.
    let cast = expression.iter().position(|token| token.is_symbol("::"));
    let expression = &expression[..cast.unwrap_or(expression.len())];
    let expression = match expression {
        [schema, dot, rest @ ..] if schema.is_word("pg_catalog") && dot.is_symbol(".") => rest,
        expression => expression,
    };
    match expression {
        [Token::Text(text)] => Ok((Value::Text(text.clone()), Type::Text)),
        [Token::Number(text)] => match Type::Int.parse(text) {
            Some(value) => Ok((value, Type::Int)),
            None => Type::Float
                .parse(text)
                .map(|value| (value, Type::Float))
                .ok_or_else(wrong),
        },
        [
            Token::Name {
                text,
                quoted: false,
            },
        ] => match text.as_str() {
            "null" => Ok((Value::Null, Type::Text)),
            "true" => Ok((Value::Bool(true), Type::Bool)),
            "false" => Ok((Value::Bool(false), Type::Bool)),
            "current_user" | "session_user" | "user" | "current_role" | "current_catalog"
            | "current_schema" => {
                Ok(function(text, None, user).unwrap_or((Value::Null, Type::Text)))
            }
            _ => Err(wrong()),
        },
        [Token::Name { text, .. }, open, arguments @ .., close]
            if open.is_symbol("(") && close.is_symbol(")") =>
        {
            let argument = match arguments.first() {
                Some(Token::Text(text)) => Some(text.as_str()),
                _ => None,
            };
            function(text, argument, user).ok_or_else(|| {
                let message = format!("function {text} does not exist");
                Error {
                    at: Some(at),
                    ..Error::new("42883", message).hint("HELP lists the commands.")
                }
            })
        }
        _ => Err(wrong()),
    }
}

/// What a function answers, here; `None`: nobody calls it to find out where it is.
fn function(name: &str, argument: Option<&str>, user: &str) -> Option<(Value, Type)> {
    let text = |value: &str| Some((Value::Text(value.to_owned()), Type::Text));
    match name {
        "version" => text(&format!(
            "PostgreSQL {SERVER_VERSION} (the console of Osprey {})",
            env!("CARGO_PKG_VERSION")
        )),
        "current_user" | "session_user" | "user" | "current_role" => text(user),
        "current_database" | "current_catalog" => text(DATABASE),
        "current_schema" => text(SCHEMA),
        "current_setting" => match setting(argument?) {
            Some(value) => text(value),
            None => Some((Value::Null, Type::Text)),
        },
        "pg_backend_pid" => Some((Value::count(std::process::id()), Type::Int)),
        "pg_is_in_recovery" => Some((Value::Bool(false), Type::Bool)),
        name if name.starts_with("pg_") || name.starts_with("has_") || name == "set_config" => {
            Some((Value::Null, Type::Text))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::lexer::statements;
    use super::*;

    fn words(text: &str) -> Vec<Placed> {
        statements(text).unwrap().remove(0)
    }

    /// As psql 15 asks for `\dt`.
    const TABLES_OF_PSQL: &str = r#"SELECT n.nspname as "Schema", c.relname as "Name",
        CASE c.relkind WHEN 'r' THEN 'table' WHEN 'v' THEN 'view' END as "Type",
        pg_catalog.pg_get_userbyid(c.relowner) as "Owner"
        FROM pg_catalog.pg_class c LEFT JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
        WHERE c.relkind IN ('r','p','') AND n.nspname <> 'pg_catalog'"#;

    #[test]
    fn psql_lists_the_tables_and_the_database() {
        let (columns, rows) = catalog(&words(TABLES_OF_PSQL));
        assert_eq!((columns.len(), rows.len()), (4, TABLES.len()));
        let views = TABLES_OF_PSQL.replace("IN ('r','p','')", "IN ('v','')");
        assert!(catalog(&words(&views)).1.is_empty());
        // As pgcli asks.
        let other = TABLES_OF_PSQL
            .to_lowercase()
            .replace("in ('r','p','')", "= any('{r,p,\"\"}')");
        assert_eq!(catalog(&words(&other)).1.len(), TABLES.len());
        let one = TABLES_OF_PSQL.to_owned() + " AND c.relname OPERATOR(pg_catalog.~) '^(x)$'";
        assert!(catalog(&words(&one)).1.is_empty());
        let databases = "SELECT d.datname as \"Name\", pg_get_userbyid(d.datdba) as \"Owner\", \
                         pg_encoding_to_char(d.encoding) as \"Encoding\", d.x FROM pg_database d";
        let (columns, rows) = catalog(&words(databases));
        assert_eq!((columns.len(), rows[0].len()), (4, 4));
    }

    #[test]
    fn other_questions_have_no_rows_but_their_columns() {
        let asked =
            "SELECT a.attname, count(*), (SELECT x, y FROM z) AS q, max(b) FROM pg_attribute a";
        let (columns, rows) = catalog(&words(asked));
        let names: Vec<_> = columns.iter().map(|column| &*column.name).collect();
        assert_eq!(names, ["attname", "count", "q", "max"]);
        assert!(rows.is_empty());
    }

    #[test]
    fn constants_have_their_types() {
        let all = words(
            "SELECT 1, 'x'::text AS a, 1.5, true, current_user, current_setting('timezone'), pg_x(1, 2)",
        );
        let (columns, rows) = constants(&all[1..], 0, "ops").unwrap();
        let names: Vec<_> = columns.iter().map(|column| &*column.name).collect();
        assert_eq!(
            names,
            [
                "?column?",
                "a",
                "?column?",
                "true",
                "current_user",
                "current_setting",
                "pg_x"
            ]
        );
        let printed: Vec<_> = rows[0].iter().map(Value::printed).collect();
        let expected = ["1", "x", "1.5", "t", "ops", "UTC"].map(|text| Some(text.to_owned()));
        assert_eq!(printed[..6], expected);
        assert_eq!(printed[6], None);
        for wrong in [
            "SELECT 1 + 1",
            "SELECT nothing",
            "SELECT nosuch(1)",
            "SELECT",
        ] {
            let words = words(wrong);
            assert!(constants(&words[1..], 0, "ops").is_err(), "{wrong}");
        }
    }
}
