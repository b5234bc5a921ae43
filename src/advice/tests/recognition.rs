//! Which errors are believed, and which a user has made look like one.

use super::*;
use crate::spent::{by_this_thread, since};

#[test]
fn the_published_error_with_its_path_and_project() {
    let fault = recognized(AS_PUBLISHED).unwrap();
    assert_eq!(fault.rule().code(), "OSP-1001");
    assert!(fault.is_of_encryption());
    assert_eq!(fault.project.as_deref(), Some("sales_prod"));
    let masked = AS_PUBLISHED.replace("sales_prod", "*");
    assert_eq!(
        recognized(&masked).unwrap().project,
        None,
        "no project is called that"
    );
}

#[test]
fn every_disguise() {
    let escaped = AS_PUBLISHED.replace('"', r#"\""#);
    let twice = AS_PUBLISHED.replace('"', r#"\\\""#);
    for message in [
        format!("ERROR: {AS_PUBLISHED}\" }}"),
        AS_PUBLISHED.to_uppercase(),
        AS_PUBLISHED.to_lowercase(),
        AS_PUBLISHED.replace(' ', "\n"),
        AS_PUBLISHED.replace(", ", "\r\n  "),
        AS_PUBLISHED.replace("PanguParameter", "PanguParameter\n"),
        AS_PUBLISHED.replace("errorcode: 9", "errorcode: 17"),
        AS_PUBLISHED.replace("PanguParameterInvalidException", "PanguFileLockException"),
        AS_PUBLISHED.replace(", errorcode: 9", "\\\\n errorcode: 9\\\\n"),
        format!(
            "exec query failed => status:7,error=ERROR:  Query:[20000745330718297] Get result \
                 failed: code: kActorInvokeError\nmsg: \"code: kInternalError msg: \\\"{escaped}\\\"\""
        ),
        format!(
            "Query:[1070285448673] code: kActorInvokeError msg: \"[holo_query_executor.cc:330 \
                 operator()] HGERR_code XX000 HGERR_msge internal error: {twice} HGERR_detl x\""
        ),
    ] {
        assert_eq!(code(&message), Some("OSP-1001"), "{message}");
    }
    let in_detail = recognized_of("internal error", AS_PUBLISHED, "");
    assert_eq!(in_detail.unwrap().project.as_deref(), Some("sales_prod"));
    assert!(recognized_of("internal error", "", AS_PUBLISHED).is_some());
    let through_function = "SQL statement \"SELECT count(*) FROM orders\"\n\
                            PL/pgSQL function report() line 3 at SQL statement";
    assert!(recognized_of(AS_PUBLISHED, "", through_function).is_some());
    let mut invalid = internal(AS_PUBLISHED);
    invalid.splice(invalid.len() - 2..invalid.len() - 2, *b"\xff\xfe");
    assert!(recognize(ErrorFields::new(&invalid)).is_some());
}

#[test]
fn a_path_cut_by_line_breaks_is_put_together() {
    for cut in ["/sales_\n  prod/", "/sales_\\\\nprod/"] {
        let cut = AS_PUBLISHED.replace("/sales_prod/", cut);
        assert_eq!(
            recognized(&cut).unwrap().project.as_deref(),
            Some("sales_prod")
        );
    }
}

#[test]
fn another_errorcode_is_another_error() {
    for (from, to) in [
        ("errorcode: 9", "errorcode: 2"),
        ("errorcode: 9", "errorcode: 91"),
        ("/product/odps/", "/product/other/"),
    ] {
        let message = AS_PUBLISHED.replace(from, to).replace(
            "PanguParameterInvalidException",
            "PanguFileNotFoundException",
        );
        assert_eq!(code(&message), Some("OSP-1101"), "{message}");
        assert!(!recognized(&message).unwrap().is_of_encryption());
    }
}

#[test]
fn ordinary_errors_are_left_alone() {
    for message in [
        "",
        "relation \"orders\" does not exist",
        "relation \"panguparameterinvalidexception\" does not exist",
        "PanguParameterInvalidException",
        "err_msg: panguparameterinvalidexception",
        "Query:[1] Get result failed: exec sql failed => status:7 msg:ERROR: nothing known",
        "status { code: SERVER_INTERNAL_ERROR message: \"pangu://h:1/product/odps/p/data/f, errorcode: 9\" }",
        "status { code: SERVER_INTERNAL_ERROR message: \"pangu://h:1/product/odps/p/data/f, errorcode: 2\" }",
        "the pangu is a pangolin; errorcode: 9",
        "canceling statement due to user request",
        "role \"AliyunHologresEncryptionDefaultRole\" does not exist",
        "could not open file \"PanguParameterInvalidException\": No such file or directory",
        "key Rejected.Disabled",
        "table not an ORC file",
        "code: kActorInvokeError msg: \"something else\"",
    ] {
        assert_eq!(code(message), None, "{message}");
    }
}

/// Whoever may send SQL can put words into an error: none of these is believed.
#[test]
fn what_a_user_made_is_told_apart() {
    let quoted = format!("\"{AS_PUBLISHED}\"");
    let with = |before: &str| format!("{before}{quoted}");
    // SQLSTATEs that such errors have: RAISE, ASSERT, LOAD, casts, rows, names, and the rest.
    for sqlstate in [
        "42501", "58P01", "P0001", "P0004", "22023", "22P02", "22007", "22001", "23505", "23514",
        "42703", "42P01", "42601", "38000", "55000", "57014", "0A000", "08006", "53200", "57P01",
        "58030", "F0000", "HV000", "54000", "00000", "xx001", "",
    ] {
        let error = body(&[(b'S', "ERROR"), (b'C', sqlstate), (b'M', AS_PUBLISHED)]);
        assert!(recognize(ErrorFields::new(&error)).is_none(), "{sqlstate}");
    }
    let no_sqlstate = body(&[(b'M', AS_PUBLISHED)]);
    assert!(recognize(ErrorFields::new(&no_sqlstate)).is_none());
    // A statement that the context quotes may have such words; the server says who raised it.
    for (routine, believed) in [("execQuery", true), ("exec_stmt_raise", false), ("", false)] {
        let context = "SQL statement \"SELECT count(*) FROM events WHERE what <> 'RAISE'\"\n\
                       PL/pgSQL function f() line 1 at SQL statement";
        let error = body(&[
            (b'C', "XX000"),
            (b'M', AS_PUBLISHED),
            (b'W', context),
            (b'R', routine),
        ]);
        let found = recognize(ErrorFields::new(&error)).is_some();
        assert_eq!(found, believed, "{routine}");
    }
    // Even with the right SQLSTATE, which RAISE … USING ERRCODE gives to anything.
    for context in [
        "PL/pgSQL function inline_code_block line 1 at RAISE",
        "PL/pgSQL function inline_code_block line 1 at ASSERT",
        "PL/pgSQL函数inline_code_block的第1行的RAISE",
        "PL/pgSQL 函数 inline_code_block 第 1 行的 RAISE 处",
        "inline_code_block PL/pgSQL fonksiyonu, 1. satır, RAISE içinde",
        "PL/pgSQL function pg_temp.\"a\nb\"() line 1 at RAISE",
        "PL/pgSQL function \"a\nb\"() line 1 at ASSERT\nSQL statement \"SELECT 1\"",
        "PL/pgSQL function f() line 2 at RAISE\nSQL statement \"SELECT f()\"",
        "PL/Perl function \"f\"",
        "PL/Python function \"f\"",
        "Traceback (most recent call last):\nPL/Python function \"f\"",
        "elog ERROR x\nin PL/Tcl function \"f\"",
        "while executing query on unnamed dblink connection",
        "remote SQL command: SELECT f()",
    ] {
        assert!(
            recognized_of(AS_PUBLISHED, "", context).is_none(),
            "{context}"
        );
    }
    for routine in ["exec_stmt_raise", "exec_stmt_assert"] {
        let error = body(&[
            (b'S', "ERROR"),
            (b'C', "XX000"),
            (b'M', AS_PUBLISHED),
            (b'R', routine),
        ]);
        assert!(recognize(ErrorFields::new(&error)).is_none(), "{routine}");
    }
    for message in [
        with("invalid input syntax for type integer: "),
        with("syntax error at or near "),
        with("malformed array literal: "),
        with("unrecognized configuration parameter "),
        with("Value too long: "),
        with("string is not a valid identifier: "),
        with("could not open file "),
        with("could not access file "),
        with("access to library "),
        with("relation "),
        with("cache lookup failed for relation "),
        // An engine wraps PostgreSQL's own error around the words.
        with(
            "Query:[17] Get result failed: code: kActorInvokeError msg: invalid input syntax for integer: ",
        ),
        with("internal error: value too long for type character varying(3): "),
        with("Query:[17] Build desc failed: relation does not exist: "),
        format!("Query:[17] cannot plan: SELECT '{AS_PUBLISHED}'"),
        with(
            "status { code: SERVER_INTERNAL_ERROR message: \"hos_exception: Invalid argument: cannot parse ",
        ),
        with("Query:[17] Build desc failed: no column "),
        format!(
            "code: kActorInvokeError msg: [x.cc:1 f()] HGERR_code 22P02 HGERR_msge {AS_PUBLISHED}"
        ),
        format!(
            "code: kActorInvokeError msg: [x.cc:1 f()] HGERR_code P0001 HGERR_msge {AS_PUBLISHED}"
        ),
    ] {
        assert_eq!(code(&message), None, "{message}");
    }
    // Names cannot hold the whole of it, and two names are not taken together.
    let names = "cannot lock \"IO error: Failed to execute pangu pangu://\".\"x/product/odps/abc/data/, errorcode: 9\"";
    assert_eq!(code(names), None);
    for (message, detail, context) in [
        (
            "duplicate key value violates unique constraint \"log_pkey\"",
            format!("Key (message)=({AS_PUBLISHED}) already exists."),
            String::new(),
        ),
        (
            "some trouble",
            format!("Failing row contains (1, {AS_PUBLISHED})."),
            String::new(),
        ),
        (
            "some trouble",
            String::new(),
            format!("COPY log, line 1, column at: {quoted}"),
        ),
        (
            "some trouble",
            String::new(),
            format!("JSON data, line 1: {quoted}"),
        ),
        (
            "some trouble",
            String::new(),
            format!("SQL statement \"SELECT '{AS_PUBLISHED}' / 0\"\nPL/pgSQL function f()"),
        ),
        (
            "some trouble",
            String::new(),
            format!("SQL语句 \"SELECT '{AS_PUBLISHED}' / 0\""),
        ),
        (
            "some trouble",
            String::new(),
            format!("SQL function \"f\" statement 1: {AS_PUBLISHED}"),
        ),
        (
            "some trouble",
            String::new(),
            format!("unnamed portal with parameters: $1 = '{AS_PUBLISHED}'"),
        ),
    ] {
        assert!(
            recognized_of(message, &detail, &context).is_none(),
            "{detail}{context}"
        );
    }
}

/// The same for errors that are only advised on: no advice from forged words.
#[test]
fn no_rule_believes_a_user() {
    for rule in Rules::in_force().iter() {
        let Some(example) = &rule.example.error else {
            continue;
        };
        for sqlstate in [
            "P0001", "P0004", "42501", "58P01", "22P02", "22023", "23505",
        ] {
            let error = body(&[(b'C', sqlstate), (b'M', example)]);
            assert!(
                recognize(ErrorFields::new(&error)).is_none(),
                "{} {sqlstate}",
                rule.code()
            );
        }
        let raised = "PL/pgSQL function f() line 1 at RAISE";
        assert!(
            recognized_of(example, "", raised).is_none(),
            "{}",
            rule.code()
        );
        let cast = format!("invalid input syntax for type integer: \"{example}\"");
        assert!(recognized(&cast).is_none(), "{}", rule.code());
    }
}

#[test]
fn bounded_work_on_bad_input() {
    let start = by_this_thread();
    let long = format!("{}{AS_PUBLISHED}", "pangu://x ".repeat(50_000));
    assert!(recognized(&long).is_some());
    let words = "IO error: Failed to execute pangu pangu:// /product/odps/ ".repeat(10_000);
    assert!(recognized(&words).is_none());
    let huge = format!("{}{AS_PUBLISHED}", "x".repeat(10 << 20));
    assert!(recognized(&huge).is_none(), "passed on as it came");
    let many: Vec<_> = (0..10_000)
        .map(|_| (b'x', "y"))
        .chain([(b'C', "XX000"), (b'M', AS_PUBLISHED)])
        .collect();
    assert!(recognize(ErrorFields::new(&body(&many))).is_some());
    let spent = since(start);
    assert!(spent < Duration::from_secs(5), "{spent:?}");
}

proptest::proptest! {
    #[test]
    fn no_text_makes_it_panic(text in ".*", bytes: Vec<u8>) {
        let mixed = format!(
            "IO error: Failed to execute pangu {text}pangu://{text}/product/odps/{text}/data/, errorcode: 9{text}"
        );
        proptest::prop_assert!(!redact_path(&mixed).to_lowercase().contains("/product/odps/"));
        for candidate in [mixed.as_bytes(), text.as_bytes(), &bytes] {
            let mut frame = Vec::new();
            let fields = [(b'C', b"XX000".as_slice()), (b'M', candidate), (b'D', &bytes), (b'W', text.as_bytes())];
            compose::error(&mut frame, fields);
            let error = ErrorFields::new(&frame[5..]);
            if let Some(fault) = recognize(error) {
                let advice = advise(&fault, error, &context());
                advice.frame(error);
            }
            recognize(ErrorFields::new(candidate));
        }
    }
}
