//! What is understood, and what is said of the rest.

use super::*;

fn one(text: &str) -> Parsed {
    let mut all = parse(text, "ops").unwrap_or_else(|error| panic!("{text}: {error:?}"));
    assert_eq!(all.len(), 1, "{text}");
    all.remove(0)
}

fn command(text: &str) -> Command {
    match one(text).statement {
        Statement::Command(command) => command,
        _ => panic!("{text} is no command"),
    }
}

fn wrong(text: &str) -> Error {
    match parse(text, "ops") {
        Err(error) => error,
        Ok(_) => panic!("{text} is understood"),
    }
}

fn text(text: &str) -> Operand {
    Operand::Value(Value::Text(text.to_owned()))
}

#[test]
fn commands_are_read_in_any_case() {
    assert_eq!(command("reload"), Command::Reload);
    assert_eq!(command("Drain;"), Command::Drain);
    assert_eq!(command("PAUSE"), Command::Pause(None));
    assert_eq!(command("pause DW"), Command::Pause(Some(text("dw"))));
    assert_eq!(
        command("Resume 'my-db'"),
        Command::Resume(Some(text("my-db")))
    );
    assert_eq!(
        command("KILL 7"),
        Command::Kill(Operand::Value(Value::Int(7)))
    );
    assert_eq!(command("cancel $1"), Command::Cancel(Operand::Parameter(0)));
    assert_eq!(command("INVALIDATE KEY ALL"), Command::InvalidateKey(None));
    assert_eq!(
        command("invalidate key Finance_BYOK"),
        Command::InvalidateKey(Some(text("finance_byok")))
    );
    assert_eq!(
        command("FORGET LESSON \"S\".\"T.x\""),
        Command::ForgetLesson(Some(text("S.T.x")))
    );
    assert_eq!(command("REFRESH CATALOG"), Command::RefreshCatalog(None));
    assert_eq!(
        command("refresh catalog 'my-db'"),
        Command::RefreshCatalog(Some(text("my-db")))
    );
    assert_eq!(
        command("SET LOG 'info,osprey::session=debug'"),
        Command::SetLog(text("info,osprey::session=debug"))
    );
    let Statement::Explain(explain) = one("EXPLAIN ROUTE 'SELECT 1' AS bob IN dw").statement else {
        panic!("no explanation")
    };
    assert_eq!(explain.statement, text("SELECT 1"));
    assert_eq!(
        (explain.user, explain.database),
        (Some(text("bob")), Some(text("dw")))
    );
}

#[test]
fn a_query_has_columns_conditions_an_order_and_a_limit() {
    let parsed = one(
        "SELECT s.id, s.user AS who FROM sessions s WHERE s.user = 'x' AND age > 1.5 \
         AND client NOT LIKE '10.%' AND backend_pid IS NOT NULL ORDER BY age DESC, id LIMIT $2 OFFSET 1",
    );
    let Statement::Select(select) = parsed.statement else {
        panic!("no query")
    };
    let names: Vec<_> = select.columns.iter().map(|column| &*column.name).collect();
    assert_eq!(names, ["id", "who"]);
    assert_eq!(select.conditions.len(), 4);
    assert_eq!(select.order.len(), 2);
    assert!(select.order[0].1 && !select.order[1].1);
    assert_eq!(select.limit, Some(Operand::Parameter(1)));
    assert_eq!(parsed.parameters, [None, Some(Type::Int)]);
}

#[test]
fn a_parameter_has_its_columns_type() {
    let parsed = one("select count(*) from sessions where id = $1 and user like $2");
    assert_eq!(parsed.parameters, [Some(Type::Int), Some(Type::Text)]);
    assert_eq!(one("KILL $1").parameters, [Some(Type::Int)]);
    let catalog = "SELECT relname FROM pg_class WHERE relkind = ANY($1) AND x = $2";
    assert_eq!(one(catalog).parameters, [None, None]);
}

#[test]
fn every_table_is_shown_and_selected() {
    for table in TABLES {
        for text in [
            format!("SHOW {}", table.name.to_uppercase()),
            format!("show {} like '%x%'", table.name),
            format!("SELECT * FROM {}", table.name),
            format!("SELECT * FROM console.{} AS t LIMIT 1", table.name),
        ] {
            let columns = one(&text).statement.columns();
            assert_eq!(columns.len(), table.columns.len(), "{text}");
        }
    }
}

#[test]
fn what_is_not_known_is_told_with_what_is_near() {
    for (text, code, hint) in [
        ("SHWO SESSIONS", "42601", "Did you mean SHOW? HELP"),
        ("SHOW SESIONS", "42601", "Did you mean SESSIONS? HELP"),
        ("SHOW SOMETHING", "42601", "HELP lists the commands."),
        ("FROBNICATE", "42601", "HELP lists the commands."),
        ("KILL", "42601", "HELP"),
        ("KILL x", "42601", "HELP"),
        ("KILL 1 2", "42601", "HELP"),
        ("INVALIDATE finance", "42601", "HELP"),
        ("SELECT * FROM sesions", "42P01", "Did you mean sessions?"),
        ("SELECT usr FROM sessions", "42703", "Did you mean user?"),
        (
            "SELECT nothing_like_it FROM version",
            "42703",
            "version has version, uptime",
        ),
        ("SELECT user, count(*) FROM sessions", "0A000", "HELP"),
        ("SELECT user FROM sessions GROUP BY user", "0A000", "HELP"),
        (
            "SELECT * FROM sessions WHERE id = 1 OR id = 2",
            "0A000",
            "HELP",
        ),
        ("SELECT * FROM sessions WHERE (id = 1)", "0A000", "HELP"),
        ("SELECT max(age) FROM sessions", "0A000", "HELP"),
        ("DELETE FROM sessions", "42601", "HELP"),
        ("UPDATE sessions SET id = 1", "42601", "HELP"),
        ("", "", ""),
    ] {
        if text.is_empty() {
            assert!(parse(text, "ops").unwrap().is_empty());
            continue;
        }
        let error = wrong(text);
        assert_eq!(error.code, code, "{text}: {error:?}");
        let said = error.hint.clone().unwrap_or_default();
        assert!(said.contains(hint), "{text}: {said}");
    }
    assert_eq!(wrong("SELECT * FROM sessions WHERE id = 'x'").code, "22P02");
    assert_eq!(wrong("SELECT 'x").at, Some(7));
}

#[test]
fn what_drivers_say_is_taken() {
    for text in [
        "SET extra_float_digits = 3",
        "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY",
        "SET application_name = 'psql'",
        "RESET ALL",
        "DISCARD ALL",
        "BEGIN",
        "START TRANSACTION READ ONLY",
        "COMMIT",
        "ROLLBACK TO SAVEPOINT a",
        "SHOW TRANSACTION ISOLATION LEVEL",
        "show standard_conforming_strings",
        "SELECT version()",
        "select pg_catalog.version()",
        "SELECT current_schema(), current_database() AS db, session_user",
        "SELECT 1",
        "SELECT 'x'::text AS a, NULL, true",
        "SELECT * FROM limits WHERE setting = ('x') AND limit_value > ('1'::int8)",
        "SELECT n.nspname as \"Schema\", c.relname FROM pg_catalog.pg_class c",
        "SELECT t.typname FROM pg_type t WHERE t.oid = 1",
        "SELECT * FROM information_schema.tables",
        "SELECT * FROM unnest(current_schemas(true))",
        "WITH x AS (SELECT 1) SELECT a.attname FROM pg_attribute a",
    ] {
        one(text);
    }
    let all = "SELECT pg_advisory_unlock_all(); CLOSE ALL; UNLISTEN *; RESET ALL;";
    assert_eq!(parse(all, "ops").unwrap().len(), 4);
}
