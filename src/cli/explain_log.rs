//! `osprey explain --from-log`: what Osprey would have done for the sessions that it only observed, by
//! user and application.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::io::{self, BufRead};

use serde_json::{Value, json};

use crate::observe::observed::{WOULD_REWRITE, WOULD_STEER, WOULD_SWITCH};

/// Whose sessions they were.
#[derive(Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Whose {
    user: String,
    application: String,
    database: String,
}

/// What would have been done for them.
#[derive(Debug, Default)]
struct Would {
    sessions: u64,
    /// Further statements: only a log at level debug has them.
    statements: u64,
    /// The relations that they read, with their projects.
    relations: BTreeSet<String>,
    /// Errors that would have been rewritten, by code.
    errors: BTreeMap<String, u64>,
}

/// The answer, as text or as JSON. A log may be of any length and hold anything.
///
/// # Errors
/// The log cannot be read.
pub(super) fn explain(log: impl BufRead, as_json: bool) -> io::Result<String> {
    let mut found: BTreeMap<Whose, Would> = BTreeMap::new();
    for line in log.split(b'\n') {
        read(&String::from_utf8_lossy(&line?), &mut found);
    }
    Ok(if as_json {
        json_of(&found)
    } else {
        text_of(&found)
    })
}

/// Counts what one line says.
fn read(line: &str, found: &mut BTreeMap<Whose, Would>) {
    let object: Option<Value> = Some(line.trim())
        .filter(|line| line.starts_with('{'))
        .and_then(|line| serde_json::from_str(line).ok());
    let field = |name: &str| match &object {
        Some(object) => object.get(name)?.as_str().map(str::to_owned),
        None => in_text(line, name),
    };
    let says = |words: &str| match &object {
        Some(object) => object.get("message").and_then(Value::as_str) == Some(words),
        None => line.contains(&format!(": {words} ")),
    };
    let (switch, steer, rewrite) = (says(WOULD_SWITCH), says(WOULD_STEER), says(WOULD_REWRITE));
    if !(switch || steer || rewrite) {
        return;
    }
    let whose = Whose {
        user: field("user").unwrap_or_default(),
        application: field("application").unwrap_or_default(),
        database: field("database").unwrap_or_default(),
    };
    let would = found.entry(whose).or_default();
    would.sessions += u64::from(switch);
    would.statements += u64::from(steer);
    if rewrite {
        let code = field("code").unwrap_or_default();
        *would.errors.entry(code).or_default() += 1;
    }
    if let Some(relation) = field("relation") {
        would.relations.insert(match field("project") {
            Some(project) => format!("{relation} (project {project})"),
            None => relation,
        });
    }
}

/// The value of a field of a line for people: `name="value"`, where `\` is in front of a `"` or a `\`
/// that belongs to the value.
fn in_text(line: &str, name: &str) -> Option<String> {
    let (_, rest) = line.split_once(&format!(" {name}=\""))?;
    let mut value = String::new();
    let mut chars = rest.chars();
    loop {
        match chars.next()? {
            '"' => return Some(value),
            '\\' => value.push(chars.next()?),
            other => value.push(other),
        }
    }
}

fn text_of(found: &BTreeMap<Whose, Would>) -> String {
    if found.is_empty() {
        return "nothing: no line of this log is about a session that was only observed \
                (route.mode = \"observe\")\n"
            .into();
    }
    let mut text = String::new();
    for (whose, would) in found {
        let application = match whose.application.as_str() {
            "" => "no application name",
            name => name,
        };
        let (user, database) = (&whose.user, &whose.database);
        let _ = writeln!(text, "{user}, {application}, database {database}");
        let (sessions, statements) = (would.sessions, would.statements);
        if sessions + statements > 0 {
            let _ = write!(text, "  sessions that would have been switched: {sessions}");
            if statements > 0 {
                let _ = write!(text, ", with {statements} further statements");
            }
            text.push('\n');
        }
        for relation in &would.relations {
            let _ = writeln!(text, "    reads {relation}");
        }
        for (code, count) in &would.errors {
            let _ = writeln!(
                text,
                "  errors that would have been rewritten, {code}: {count}"
            );
        }
    }
    text
}

fn json_of(found: &BTreeMap<Whose, Would>) -> String {
    let list: Vec<Value> = found
        .iter()
        .map(|(whose, would)| {
            json!({
                "user": whose.user,
                "application": whose.application,
                "database": whose.database,
                "sessions": would.sessions,
                "further_statements": would.statements,
                "relations": would.relations,
                "errors": would.errors,
            })
        })
        .collect();
    format!("{:#}\n", Value::from(list))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn explained(log: &str, as_json: bool) -> String {
        explain(log.as_bytes(), as_json).unwrap()
    }

    fn log() -> String {
        let mut lines = Vec::new();
        for (session, words) in [(1, WOULD_SWITCH), (1, WOULD_STEER), (2, WOULD_SWITCH)] {
            lines.push(format!(
                "2026-11-26T08:00:00Z  INFO osprey::session: {words} session={session} user=\"etl\" \
                 application=\"dbt \\\"x\\\"\" database=\"dw\" relation=\"public.orders\" project=\"sales_enc\""
            ));
        }
        let error = json!({
            "level": "INFO", "message": WOULD_REWRITE, "code": "OSP-1001", "user": "bi",
            "application": "", "database": "dw",
        });
        lines.extend([error.to_string(), error.to_string()]);
        lines.push("2026-11-26T08:00:00Z  INFO osprey: session closed user=\"x\"".into());
        lines.push("{\"message\": 17}".into());
        lines.push("{ no JSON".into());
        lines.join("\n")
    }

    #[test]
    fn lines_are_counted_by_user_and_application() {
        assert_eq!(
            explained(&log(), false),
            "bi, no application name, database dw\n  \
               errors that would have been rewritten, OSP-1001: 2\n\
             etl, dbt \"x\", database dw\n  \
               sessions that would have been switched: 2, with 1 further statements\n    \
                 reads public.orders (project sales_enc)\n"
        );
        let said: Value = serde_json::from_str(&explained(&log(), true)).unwrap();
        assert_eq!(said[0]["errors"]["OSP-1001"], 2);
        assert_eq!(said[1]["application"], "dbt \"x\"");
        assert_eq!(said[1]["relations"][0], "public.orders (project sales_enc)");
    }

    #[test]
    fn a_log_without_such_lines_is_said_to_be_one() {
        assert!(explained("a\n\u{fffd}\nuser=\"", false).starts_with("nothing: "));
        assert_eq!(explained("", true), "[]\n");
        // Whoever chooses a name cannot make a line of it, nor another field.
        let forged = format!("INFO x: session opened user=\"a: {WOULD_SWITCH}\"");
        assert!(
            explained(&forged, false).starts_with("nothing: "),
            "{forged}"
        );
        let odd = format!("INFO x: {WOULD_SWITCH} user=\"a\\\" database=\\\"b\" database=\"dw\"");
        assert!(
            explained(&odd, false).contains("a\" database=\"b, no application name, database dw")
        );
    }
}
