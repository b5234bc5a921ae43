//! `osprey explain --error`: which rule of the table an error matches, and what it advises.

use std::path::Path;

use serde_json::{Value, json};

use crate::advice::{Advice, AdviceContext, Cure, Fault, Rule, Rules, advise};
use crate::config::{Language, Problem};
use crate::wire::backend::ErrorFields;
use crate::wire::compose;

/// What Osprey's DETAIL has in front of Hologres' own words: how it begins, what begins the note on where
/// all of them are, and what ends it.
const SAID: [(&str, &str, &str); 2] =
    [("Hologres said", " (", ": "), ("Hologres 返回", "（", "：")];

/// The fields of an error as texts name them: psql, PostgreSQL's log, JDBC.
const LABELS: [(&str, u8); 8] = [
    ("DETAIL:", b'D'),
    ("HINT:", b'H'),
    ("CONTEXT:", b'W'),
    ("WHERE:", b'W'),
    ("STATEMENT:", b'q'),
    ("LOCATION:", b'F'),
    ("POSITION:", b'P'),
    ("LINE 1:", b'P'),
];

/// An error, as far as a text tells it.
#[derive(Debug, Default, PartialEq, Eq)]
struct Told {
    sqlstate: Option<String>,
    message: String,
    detail: String,
    hint: String,
    context: String,
}

/// The answer, as text or as JSON.
///
/// # Errors
/// The mistakes of the operator's file of rules, one a line.
pub(super) fn explain(text: &str, own_rules: Option<&Path>, json: bool) -> Result<String, String> {
    let own = own_rules.map(Rules::with_file).transpose();
    let own = own.map_err(|problems| {
        let lines: Vec<_> = problems.iter().map(Problem::to_string).collect();
        lines.join("\n")
    })?;
    let rules = own.as_ref().unwrap_or_else(|| Rules::in_force());
    let told = read(text);
    let mut frame = Vec::new();
    let fields = [
        (b'C', told.sqlstate.as_deref().unwrap_or("XX000")),
        (b'M', &told.message),
        (b'D', &told.detail),
        (b'H', &told.hint),
        (b'W', &told.context),
    ];
    compose::error(
        &mut frame,
        fields.map(|(code, value)| (code, value.as_bytes())),
    );
    // Behind the message's type and length.
    let error = ErrorFields::new(&frame[5..]);
    let fault = rules.recognize(error);
    let resembling = rules.resembling(error);
    let sqlstate = told.sqlstate.as_deref();
    // What a user hands on of an error box may hold Osprey's code alone; and what was known at the time may
    // have made it another one than the words do.
    let told_as = rules.iter().find(|rule| text.contains(rule.code()));
    let told_as = told_as.filter(|told| {
        let fault = fault.as_ref();
        fault.is_none_or(|fault| fault.rule().code() != told.code())
    });
    if let Some(rule) = told_as.filter(|_| !json) {
        let by_its_words = fault.as_ref().map(|fault| {
            let matched = matched(rules, fault, error, sqlstate);
            format!("\nWithout what was known then, its words are:\n{matched}")
        });
        return Ok(format!(
            "told as:   {}\ncure:      {}\nsee:       docs/errors.md, {}\n{}",
            named(rule),
            cure(rule.cure()).1,
            rule.code(),
            by_its_words.unwrap_or_default()
        ));
    }
    Ok(match (&fault, resembling, json) {
        (Some(fault), _, false) => matched(rules, fault, error, sqlstate),
        (Some(fault), _, true) => {
            let mut answer = matched_json(rules, fault, error);
            answer["told_as"] = json!(told_as.map(Rule::code));
            format!("{answer:#}\n")
        }
        (None, resembling, true) => {
            let resembles = resembling.map(Rule::code);
            let told_as = told_as.map(Rule::code);
            let answer = json!({"rule": null, "resembles": resembles, "told_as": told_as});
            format!("{answer:#}\n")
        }
        (None, Some(rule), false) => format!(
            "rule:      none\n  it has the words of {}, but it is not believed (SQLSTATE {}), or \
             clients act on it:\n  Osprey forwards it as it came\n  (such an error is believed with the \
             SQLSTATE of its kind, in the envelope in which Hologres hands it on, and where nobody's RAISE, \
             quotation mark or name stands in front of it)\n",
            named(rule),
            sqlstate.unwrap_or("not told"),
        ),
        (None, None, false) => "rule:      none: Osprey forwards it as it came\n".into(),
    })
}

fn named(rule: &Rule) -> String {
    format!("{}: {}", rule.code(), rule.title(Language::English))
}

fn advice<'r>(fault: &Fault<'r>, error: ErrorFields<'_>, language: Language) -> Advice<'r> {
    let context = AdviceContext {
        database: "database",
        language,
        ..AdviceContext::default()
    };
    advise(fault, error, &context)
}

fn cure(cure: Cure) -> (&'static str, &'static str) {
    match cure {
        Cure::Itself => (
            "itself",
            "Osprey sets the engine and runs the statement again, where that is safe",
        ),
        Cure::Offered => (
            "offered",
            "a setting and a second run; Osprey does not do it by itself",
        ),
        Cure::Advised => ("advised", "Osprey only says what to do"),
    }
}

fn matched(
    rules: &Rules,
    fault: &Fault<'_>,
    error: ErrorFields<'_>,
    sqlstate: Option<&str>,
) -> String {
    let rule = fault.rule();
    let mut lines = vec![format!("rule:      {}", named(rule))];
    lines.extend(
        rules
            .instead_of(rule)
            .map(|other| format!("  or       {}, when that is known", named(other))),
    );
    lines.push(format!("cure:      {}", cure(rule.cure()).1));
    lines.extend(
        rule.setting()
            .map(|setting| format!("setting:   {setting}")),
    );
    lines.extend(
        fault
            .project
            .as_ref()
            .map(|project| format!("project:   {project}")),
    );
    lines.push(match sqlstate {
        Some(sqlstate) => format!("SQLSTATE:  {sqlstate}"),
        None => "SQLSTATE:  not in the text; taken for XX000".into(),
    });
    lines.push(format!("see:       {}", rule.vendor()));
    for language in [Language::English, Language::Chinese] {
        let advice = advice(fault, error, language);
        lines.push(String::new());
        lines.push(if advice.untouched {
            "forwarded as it came: clients act on its words or its SQLSTATE".into()
        } else {
            advice.to_string().trim_end().to_owned()
        });
    }
    lines.push(String::new());
    lines.join("\n")
}

fn matched_json(rules: &Rules, fault: &Fault<'_>, error: ErrorFields<'_>) -> Value {
    let rule = fault.rule();
    let said = |language| {
        let advice = advice(fault, error, language);
        json!({
            "message": advice.message,
            "detail": advice.detail,
            "hint": advice.hint,
            "untouched": advice.untouched,
        })
    };
    json!({
        "rule": rule.code(),
        "title": rule.title(Language::English),
        "or": rules.instead_of(rule).map(Rule::code).collect::<Vec<_>>(),
        "cure": cure(rule.cure()).0,
        "setting": rule.setting(),
        "project": fault.project,
        "vendor": rule.vendor(),
        "en": said(Language::English),
        "zh": said(Language::Chinese),
    })
}

/// Reads what psql, a log, JDBC, Osprey itself or somebody's mail says of an error; what has no label
/// is the message.
fn read(text: &str) -> Told {
    if let Some(told) = read_json(text) {
        return told;
    }
    let text = text.trim();
    // A log line has the time, the process and more in front.
    let severity = ["ERROR:", "FATAL:", "PANIC:", "错误:"]
        .iter()
        .filter_map(|label| Some(text.find(label)? + label.len()))
        .min();
    let mut told = Told::default();
    let mut field = b'M';
    for line in text[severity.unwrap_or(0)..].lines() {
        let (label, rest) = labelled(line).unwrap_or((field, line));
        field = label;
        let value = match field {
            b'M' => &mut told.message,
            b'D' => &mut told.detail,
            b'H' => &mut told.hint,
            b'W' => &mut told.context,
            _ => continue,
        };
        if !value.is_empty() {
            value.push('\n');
        }
        value.push_str(rest.trim());
    }
    // What Osprey has rewritten is explained by what Hologres said.
    if let Some(said) = SAID.iter().find_map(|said| said_in(&told.detail, *said)) {
        told = Told {
            message: said.to_owned(),
            ..Told::default()
        };
    }
    if let Some((sqlstate, rest)) = told.message.split_once(": ")
        && is_sqlstate(sqlstate)
    {
        told.sqlstate = Some(sqlstate.to_owned());
        told.message = rest.trim_start().to_owned();
    } else {
        told.sqlstate = sqlstate_within(text);
    }
    told
}

/// Hologres' own words in a DETAIL of Osprey's.
fn said_in<'t>(detail: &'t str, (begins, note, ends): (&str, &str, &str)) -> Option<&'t str> {
    let (_, rest) = detail.split_once(begins)?;
    if let Some(noted) = rest.strip_prefix(note) {
        // The note on the log has the mark within it, too.
        let closed = noted.find([')', '）'])?;
        return noted[closed..].split_once(ends).map(|(_, said)| said);
    }
    rest.strip_prefix(ends)
}

/// A line that begins another field: the field, and what stands behind the label. In a log, the
/// label has a prefix in front and two spaces behind it.
fn labelled(line: &str) -> Option<(u8, &str)> {
    let upper = line.to_ascii_uppercase();
    LABELS.iter().find_map(|&(label, field)| {
        if upper.trim_start().starts_with(label) {
            let at = upper.find(label)?;
            return Some((field, &line[at + label.len()..]));
        }
        let in_log = format!("{label}  ");
        let at = line.find(&in_log)?;
        Some((field, &line[at + in_log.len()..]))
    })
}

/// A line of PostgreSQL's `jsonlog`, or anything of the kind.
fn read_json(text: &str) -> Option<Told> {
    let value: Value = serde_json::from_str(text).ok()?;
    let field = |name: &str| {
        value
            .get(name)
            .and_then(Value::as_str)
            .map(ToOwned::to_owned)
    };
    Some(Told {
        message: field("message")?,
        sqlstate: field("state_code").or_else(|| field("sqlstate")),
        detail: field("detail").unwrap_or_default(),
        hint: field("hint").unwrap_or_default(),
        context: field("context").unwrap_or_default(),
    })
}

fn is_sqlstate(text: &str) -> bool {
    text.len() == 5
        && text
            .bytes()
            .all(|b| b.is_ascii_uppercase() || b.is_ascii_digit())
}

/// `SQL state [XX000]`, `SQLSTATE: XX000`, `(SQLSTATE XX000)`.
fn sqlstate_within(text: &str) -> Option<String> {
    let lower = text.to_ascii_lowercase();
    let behind = ["sqlstate", "sql state"]
        .iter()
        .find_map(|label| Some(lower.find(label)? + label.len()))?;
    let rest = text[behind..].trim_start_matches(|c: char| !c.is_ascii_alphanumeric());
    rest.get(..5)
        .filter(|found| is_sqlstate(found))
        .map(ToOwned::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PANGU: &str = "status { code: SERVER_INTERNAL_ERROR message: \"hos_exception: IO error: \
        Failed to execute pangu open normal file pangu://10.1.2.3:10240/product/odps/sales_prod/data/\
        x/0001, errorcode: 9, errorcode_description: invalid argument, err_msg: \
        PanguParameterInvalidException";

    fn explained(text: &str) -> String {
        explain(text, None, false).unwrap()
    }

    #[test]
    fn an_error_is_explained_however_it_is_written() {
        let jdbc = format!("org.postgresql.util.PSQLException: ERROR: {PANGU}\n  Where: somewhere");
        for text in [
            PANGU.to_owned(),
            format!("ERROR:  {PANGU}\nCONTEXT:  SQL statement \"SELECT 1\""),
            format!("ERROR:  XX000: {PANGU}\nLOCATION:  scan, x.c:17"),
            format!(
                "2026-11-26 03:00:00.123 UTC [17] bi@dw ERROR:  {PANGU}\n2026-11-26 03:00:00.123 UTC [17] bi@dw STATEMENT:  SELECT 1"
            ),
            format!("SQL state [XX000]; error code [0]; ERROR: {PANGU}"),
            json!({"state_code": "XX000", "message": PANGU}).to_string(),
            jdbc,
        ] {
            let said = explained(&text);
            for line in [
                "rule:      OSP-1001: HQE read data",
                "  or       OSP-1002: The client chose HQE itself, when that is known",
                "cure:      Osprey sets the engine",
                "project:   sales_prod",
                "ERROR:  Hologres' engine HQE cannot read MaxCompute project sales_prod",
                "ERROR:  Hologres 的 HQE 引擎无法读取 MaxCompute 项目 sales_prod",
                "HINT:  ALTER DATABASE \"database\" SET",
            ] {
                assert!(said.contains(line), "{line} in:\n{said}\nof:\n{text}");
            }
        }
        assert!(explained(PANGU).contains("not in the text; taken for XX000"));
    }

    #[test]
    fn osprey_s_own_code_is_known_by_itself() {
        let box_of_a_tool = "[Error] Query failed. Osprey OSP-1003, see docs";
        let said = explained(box_of_a_tool);
        assert!(said.starts_with("told as:   OSP-1003: "), "{said}");
        let said = explained(&format!(
            "ERROR: cannot read it\nDETAIL: Osprey OSP-1003. Hologres said: {PANGU}"
        ));
        assert!(said.starts_with("told as:   OSP-1003: "), "{said}");
        assert!(said.contains("rule:      OSP-1001: "), "{said}");
    }

    #[test]
    fn what_osprey_said_is_explained_by_what_hologres_said() {
        let first = read(PANGU);
        for language in [Language::English, Language::Chinese] {
            let mut frame = Vec::new();
            compose::error(
                &mut frame,
                [
                    (b'C', b"XX000".as_slice()),
                    (b'M', first.message.as_bytes()),
                ],
            );
            let error = ErrorFields::new(&frame[5..]);
            let fault = Rules::in_force().recognize(error).unwrap();
            let shown = advice(&fault, error, language).to_string();
            assert_eq!(read(&shown), first);
        }
    }

    #[test]
    fn what_osprey_has_cut_is_still_explained() {
        let long = PANGU.replace("/data/", &format!("/data/{}/", "x".repeat(400)));
        let mut frame = Vec::new();
        let fields = [(b'C', b"XX000".as_slice()), (b'M', long.as_bytes())];
        compose::error(&mut frame, fields);
        let error = ErrorFields::new(&frame[5..]);
        let fault = Rules::in_force().recognize(error).unwrap();
        for language in [Language::English, Language::Chinese] {
            let context = AdviceContext {
                database: "database",
                log_id: Some("7c1e-42-1"),
                language,
                ..AdviceContext::default()
            };
            let shown = advise(&fault, error, &context);
            assert!(shown.whole.is_some());
            let said = explained(&shown.to_string());
            assert!(said.contains("rule:      OSP-1001"), "{said}");
            assert!(said.contains("project:   sales_prod"), "{said}");
        }
    }

    #[test]
    fn fields_are_told_apart() {
        let text = "ERROR:  55000: not now\nof all times\nDETAIL:  a\nb\nHINT:  c\nCONTEXT:  d\nSTATEMENT:  e";
        let told = read(text);
        assert_eq!(told.sqlstate.as_deref(), Some("55000"));
        assert_eq!(told.message, "not now\nof all times");
        assert_eq!((told.detail.as_str(), told.hint.as_str()), ("a\nb", "c"));
        assert_eq!(told.context, "d");
        assert_eq!(read("").message, "");
        assert_eq!(
            sqlstate_within("(SQLSTATE 42P01)").as_deref(),
            Some("42P01")
        );
        assert_eq!(sqlstate_within("SQLSTATE: no"), None);
    }

    #[test]
    fn what_is_not_believed_is_told() {
        let said = explained(&format!("ERROR:  42501: {PANGU}"));
        assert!(said.contains("it has the words of OSP-1001"), "{said}");
        assert!(said.contains("SQLSTATE 42501"), "{said}");
        assert!(
            explained("relation \"a\" does not exist").contains("rule:      none: Osprey forwards")
        );
        let acted_on = format!("{PANGU}; Resource busy");
        assert!(explained(&acted_on).contains("forwarded as it came"));
    }

    #[test]
    fn json_and_own_rules() {
        let said: Value = serde_json::from_str(&explain(PANGU, None, true).unwrap()).unwrap();
        assert_eq!(said["rule"], "OSP-1001");
        assert_eq!(said["cure"], "itself");
        assert_eq!(said["project"], "sales_prod");
        assert!(said["zh"]["message"].as_str().unwrap().contains("加密"));
        let none: Value = serde_json::from_str(&explain("x", None, true).unwrap()).unwrap();
        assert_eq!(none["rule"], Value::Null);
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("own.toml");
        std::fs::write(&path, "[[rule]]\ncode = 7\n").unwrap();
        let why = explain(PANGU, Some(&path), false).unwrap_err();
        assert!(why.contains("own.toml:2: rule.code: "), "{why}");
    }
}
