//! Recognition against the forms that are known and the texts that must not be taken for one; what
//! each row advises, within its bounds, in both languages; what clients act on.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::condition::Fact;
use super::*;
use crate::keys::{Encryption, KeyRecord, KeyState, KmsKey};
use crate::protection::Source;

const AS_PUBLISHED: &str = "status { code: SERVER_INTERNAL_ERROR message: \"hos_exception: IO error: \
    Failed to execute pangu open normal file pangu://10.1.2.3:10240/product/odps/sales_prod/data/\
    20240101/part/0001, errorcode: 9, errorcode_description: invalid argument, err_msg: \
    PanguParameterInvalidException";
const LANGUAGES: [Language; 2] = [Language::English, Language::Chinese];

/// The body of an ErrorResponse.
fn body(fields: &[(u8, &str)]) -> Vec<u8> {
    let fields = fields.iter().map(|(code, value)| (*code, value.as_bytes()));
    let mut frame = Vec::new();
    compose::error(&mut frame, fields);
    frame.split_off(5)
}

/// An internal error of this message, as Hologres sends it.
fn internal(message: &str) -> Vec<u8> {
    body(&[
        (b'S', "ERROR"),
        (b'V', "ERROR"),
        (b'C', "XX000"),
        (b'M', message),
    ])
}

/// The fault of an internal error with this message, detail and context.
fn recognized_of(message: &str, detail: &str, context: &str) -> Option<Fault<'static>> {
    let fields = [
        (b'C', "XX000"),
        (b'M', message),
        (b'D', detail),
        (b'W', context),
    ];
    recognize(ErrorFields::new(&body(&fields)))
}

fn recognized(message: &str) -> Option<Fault<'static>> {
    recognize(ErrorFields::new(&internal(message)))
}

/// The code of the row that an internal error of this message matches.
fn code(message: &str) -> Option<&'static str> {
    recognized(message).map(|fault| fault.rule().code())
}

fn advise_on(message: &str, context: &AdviceContext<'_>) -> Advice<'static> {
    let body = internal(message);
    let error = ErrorFields::new(&body);
    let fault = recognize(error).unwrap_or_else(|| panic!("not recognised: {message}"));
    advise(&fault, error, context)
}

fn rule(code: &str) -> &'static Rule {
    let found = Rules::in_force().iter().find(|rule| rule.code() == code);
    found.unwrap_or_else(|| panic!("there is no {code}"))
}

/// The error that a rule's example has, or that of the rule in whose place it stands.
pub(super) fn example_error(rule: &'static Rule) -> &'static str {
    let instead = || self::rule(rule.instead_of.as_deref().unwrap_or_default());
    rule.example
        .error
        .as_deref()
        .unwrap_or_else(|| example_error(instead()))
}

/// What a rule advises on its example.
pub(super) fn advised(rule: &'static Rule, language: Language) -> Advice<'static> {
    let reason = reason(encryption_of(&rule.example.facts));
    let error = match &rule.instead_of {
        Some(instead) => example_error(self::rule(instead)),
        None => example_error(rule),
    };
    let known = |fact| rule.example.facts.contains(&fact);
    let context = AdviceContext {
        database: "sales",
        reason: Some(&reason),
        client_set_route: known(Fact::ClientSetRoute),
        route_was_set: known(Fact::RouteWasSet),
        learned: known(Fact::Learned),
        computing_resource: if known(Fact::Serverless) {
            ComputingResource::Serverless
        } else {
            ComputingResource::Unknown
        },
        version: rule.example.version,
        not_retried: Some(if known(Fact::ClientSetRoute) {
            NotRetried::ClientSetRoute
        } else if known(Fact::RouteWasSet) {
            NotRetried::RouteWasSet
        } else if rule.cure() == Cure::Itself {
            NotRetried::RouteNotSet
        } else {
            NotRetried::FailedAgain
        }),
        language,
        ..AdviceContext::default()
    };
    advise_on(error, &context)
}

fn encryption_of(facts: &[Fact]) -> Encryption {
    let known = |fact| facts.contains(&fact);
    if known(Fact::DefaultKey) {
        Encryption::DefaultKey
    } else if known(Fact::KeyDisabled) {
        kms(KeyState::Disabled)
    } else if known(Fact::KeyPendingDeletion) {
        kms(KeyState::PendingDeletion)
    } else if known(Fact::KeyMaterialMissing) {
        kms(KeyState::PendingImport)
    } else {
        kms(KeyState::Enabled)
    }
}

fn reason(encryption: Encryption) -> Reason {
    Reason {
        relation: "public.orders".into(),
        via: Vec::new(),
        project: Some("sales_prod".into()),
        key: Some(Arc::new(KeyRecord {
            project: "sales_prod".into(),
            encryption,
            origin: Origin::Cloud,
            looked_up: timestamp::parse("2026-11-25T08:30:00Z").unwrap(),
        })),
        source: Source::Key,
    }
}

fn kms(state: KeyState) -> Encryption {
    Encryption::Kms(KmsKey {
        id: Some("key-hzz65f0a".into()),
        state,
        ..KmsKey::default()
    })
}

fn context<'a>() -> AdviceContext<'a> {
    AdviceContext {
        database: "sales",
        ..AdviceContext::default()
    }
}

// ------------------------------------------------------------------------------------------------
// Recognition

#[test]
fn the_published_error_with_its_path_and_project() {
    let fault = recognized(AS_PUBLISHED).unwrap();
    assert_eq!(fault.rule().code(), "OSP-1001");
    assert!(fault.is_curable());
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
        assert!(!recognized(&message).unwrap().is_curable());
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
    // Even with the right SQLSTATE, which RAISE … USING ERRCODE gives to anything.
    for context in [
        "PL/pgSQL function inline_code_block line 1 at RAISE",
        "PL/pgSQL function inline_code_block line 1 at ASSERT",
        "PL/pgSQL函数inline_code_block的第1行的RAISE",
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
    let start = std::time::Instant::now();
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
    assert!(
        start.elapsed() < Duration::from_secs(5),
        "{:?}",
        start.elapsed()
    );
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

// ------------------------------------------------------------------------------------------------
// The table

#[test]
fn every_rule_matches_its_example_and_only_its() {
    for rule in Rules::in_force().iter() {
        if let Some(example) = &rule.example.error {
            assert_eq!(code(example), Some(rule.code()), "{example}");
        }
        for language in LANGUAGES {
            let advice = advised(rule, language);
            assert_eq!(advice.code, rule.code());
            assert!(!advice.untouched, "{}", rule.code());
            assert!(rule.story.is_some(), "{}", rule.code());
        }
    }
}

#[test]
fn every_pattern_of_a_rule_is_reached() {
    for (text, expected) in [
        (
            "AXF Exception: specified partitions count in odps table: sales.orders is: 900, exceeds the limitation of 512, please add stricter partition filter",
            "OSP-1105",
        ),
        (
            "Query:[1] Get result failed: exec sql failed => status:7 msg:ERROR: External table size 268911MB exceeded the maximum cache size 102400MB",
            "OSP-1106",
        ),
        (
            "status { code: SERVER_INTERNAL_ERROR message: \"query next from foreign table executor failed, Not implemented.\" }",
            "OSP-1103",
        ),
        (
            "status { code: SERVER_INTERNAL_ERROR message: \"query next from foreign table executor failed，Unknown file type: 3\" }",
            "OSP-1104",
        ),
        (
            "Build desc failed: failed to get foregin table split:Can't find file system factory: jdbc:postgresql",
            "OSP-1113",
        ),
        ("code: kActorNotExist", "OSP-1118"),
        ("babysitter 3 is not ready", "OSP-1118"),
        (
            "Operation failed. Try again.: kTimedOut: ERPC_ERROR_TIMEOUT",
            "OSP-1118",
        ),
        ("foreign meta fetcher, internal error", "OSP-1118"),
        ("query exceed per query memory limitation", "OSP-1119"),
        (
            "Cannot reserve capacity larger than 2^31 - 1 for binary",
            "OSP-1121",
        ),
        (
            "query is cancelled Cannot find index full ID:17",
            "OSP-1123",
        ),
        ("kms: Forbidden.NoPermission", "OSP-1010"),
        ("Forbidden.NoPermission by kms", "OSP-1010"),
        (
            "assume AliyunServiceRoleForHologresEncryption: status { }",
            "OSP-1010",
        ),
        ("kms: Forbidden.KeyNotFound", "OSP-1011"),
    ] {
        assert_eq!(code(text), Some(expected), "{text}");
    }
}

#[test]
fn every_condition_has_its_row() {
    let version = |a, b, c| Some(HologresVersion(a, b, c));
    let default_key = reason(Encryption::DefaultKey);
    let enabled = reason(kms(KeyState::Enabled));
    let disabled = reason(kms(KeyState::Disabled));
    let deleting = reason(kms(KeyState::PendingDeletion));
    let importing = reason(kms(KeyState::PendingImport));
    let expired = reason(Encryption::Kms(KmsKey {
        material_expires: Some(SystemTime::now() - Duration::from_secs(1)),
        ..KmsKey::default()
    }));
    let expires_later = reason(Encryption::Kms(KmsKey {
        material_expires: Some(SystemTime::now() + Duration::from_hours(1)),
        ..KmsKey::default()
    }));
    let of = |reason| AdviceContext {
        reason: Some(reason),
        ..context()
    };
    let at = |version| AdviceContext {
        version,
        ..context()
    };
    let serverless = AdviceContext {
        computing_resource: ComputingResource::Serverless,
        ..context()
    };
    let client = AdviceContext {
        client_set_route: true,
        ..context()
    };
    let set = AdviceContext {
        route_was_set: true,
        ..context()
    };
    for (context, code) in [
        (context(), "OSP-1001"),
        (at(version(4, 0, 0)), "OSP-1001"),
        (of(&enabled), "OSP-1001"),
        (of(&expires_later), "OSP-1001"),
        (client, "OSP-1002"),
        (set, "OSP-1003"),
        (
            AdviceContext {
                client_set_route: true,
                ..set
            },
            "OSP-1003",
        ),
        (of(&default_key), "OSP-1004"),
        (at(version(1, 0, 9)), "OSP-1005"),
        (at(version(1, 3, 30)), "OSP-1006"),
        (at(version(1, 3, 31)), "OSP-1001"),
        (of(&disabled), "OSP-1007"),
        (of(&deleting), "OSP-1008"),
        (of(&importing), "OSP-1009"),
        (of(&expired), "OSP-1009"),
        (
            AdviceContext {
                version: version(3, 1, 2),
                ..serverless
            },
            "OSP-1012",
        ),
        (
            AdviceContext {
                version: version(3, 1, 2),
                route_was_set: true,
                ..serverless
            },
            "OSP-1012",
        ),
        (
            AdviceContext {
                version: version(3, 1, 3),
                ..serverless
            },
            "OSP-1001",
        ),
        (serverless, "OSP-1001"),
    ] {
        assert_eq!(advise_on(AS_PUBLISHED, &context).code, code, "{context:?}");
    }
}

#[test]
fn the_plain_case_word_for_word() {
    let reason = reason(kms(KeyState::Enabled));
    let context = AdviceContext {
        database: "my \"odd\" db",
        reason: Some(&reason),
        not_retried: Some(NotRetried::RowsSent),
        docs: Some("https://osprey.example"),
        ..context()
    };
    let advice = advise_on(AS_PUBLISHED, &context);
    assert_eq!(
        advice.message,
        "Hologres' engine HQE cannot read public.orders (MaxCompute project sales_prod): it is encrypted \
         (BYOK). Let the database's owner run the statement in HINT once, then reconnect and run the query again."
    );
    assert_eq!(
        advice.detail,
        format!(
            "Osprey OSP-1001, docs: https://osprey.example/errors#osp-1001\nThe statement was not run \
             again, because rows of its result had already been sent.\nHologres said: {AS_PUBLISHED}"
        )
    );
    assert_eq!(
        advice.hint.as_deref(),
        Some(
            "ALTER DATABASE \"my \"\"odd\"\" db\" SET \
             hg_experimental_enable_access_odps_orc_via_holo = false;"
        )
    );
    let chinese = advise_on(
        AS_PUBLISHED,
        &AdviceContext {
            language: Language::Chinese,
            ..context
        },
    );
    assert_eq!(
        chinese.message,
        "Hologres 的 HQE 引擎无法读取 public.orders（MaxCompute 项目 sales_prod）：其数据已加密（BYOK）。\
         请由数据库所有者执行一次 HINT 中的语句，然后重新连接并再次执行查询。"
    );
    assert!(chinese.detail.starts_with(
        "Osprey OSP-1001，文档：https://osprey.example/zh/errors#osp-1001\n该语句未被重新执行，原因：\
         结果中的部分行已经发送给客户端。\nHologres 返回：status"
    ), "{}", chinese.detail);
    assert_eq!(chinese.hint, advice.hint);
}

#[test]
fn what_was_learned_changes_the_advice() {
    let learned = AdviceContext {
        learned: true,
        not_retried: Some(NotRetried::Writes),
        ..context()
    };
    let advice = advise_on(AS_PUBLISHED, &learned);
    assert_eq!(advice.code, "OSP-1001");
    assert_eq!(
        advice.message,
        "Hologres' engine HQE cannot read MaxCompute project sales_prod: it is encrypted (BYOK). Run it \
         again: Osprey now knows that project sales_prod is encrypted."
    );
    assert_eq!(advice.hint, None);
    // Where the engine could not be chosen, it cannot be the next time.
    let refused = AdviceContext {
        not_retried: Some(NotRetried::RouteNotSet),
        ..learned
    };
    assert!(advise_on(AS_PUBLISHED, &refused).hint.is_some());
}

#[test]
fn only_routes_that_the_version_has() {
    let default_key = reason(Encryption::DefaultKey);
    for (version, common_table, upgrade) in [
        (Some(HologresVersion(3, 1, 9)), false, true),
        (Some(HologresVersion(3, 2, 0)), true, false),
        (None, false, true),
    ] {
        let context = AdviceContext {
            reason: Some(&default_key),
            version,
            ..context()
        };
        let advice = advise_on(AS_PUBLISHED, &context);
        assert_eq!(advice.code, "OSP-1004");
        let hint = advice.hint.unwrap();
        assert_eq!(hint.contains("common_table"), common_table, "{hint}");
        assert_eq!(
            advice.message.to_lowercase().contains("upgrade"),
            upgrade,
            "{}",
            advice.message
        );
        let context = AdviceContext {
            route_was_set: true,
            reason: None,
            ..context
        };
        let advice = advise_on(AS_PUBLISHED, &context);
        assert_eq!(advice.code, "OSP-1003");
        assert_eq!(advice.hint.unwrap().contains("common_table"), common_table);
    }
}

#[test]
fn a_key_state_has_its_time() {
    let disabled = reason(kms(KeyState::Disabled));
    let of_record = AdviceContext {
        reason: Some(&disabled),
        ..context()
    };
    let advice = advise_on(AS_PUBLISHED, &of_record);
    assert!(
        advice
            .detail
            .contains("The key's state is that of 2026-11-25T08:30:00Z."),
        "{}",
        advice.detail
    );
    assert_eq!(
        advice.hint.as_deref(),
        Some("aliyun kms EnableKey --KeyId key-hzz65f0a")
    );
    // What KMS says in the error itself is as of now.
    let advice = advise_on("kms: Rejected.Disabled", &of_record);
    assert_eq!(advice.code, "OSP-1007");
    assert!(!advice.detail.contains("2026"), "{}", advice.detail);
    // A key that could end a command and begin another is not put into one.
    let mut odd = reason(kms(KeyState::Disabled));
    if let Some(Encryption::Kms(key)) = odd
        .key
        .as_mut()
        .map(|key| &mut Arc::make_mut(key).encryption)
    {
        key.id = Some("k; rm -rf /".into());
    }
    let advice = advise_on(
        AS_PUBLISHED,
        &AdviceContext {
            reason: Some(&odd),
            ..context()
        },
    );
    assert_eq!(advice.hint, None);
}

#[test]
fn a_name_that_clients_decide_by_is_left_out() {
    let named = Reason {
        relation: "public.\"Resource busy\"".into(),
        ..reason(kms(KeyState::Enabled))
    };
    let context = AdviceContext {
        database: "Connection refused",
        reason: Some(&named),
        ..context()
    };
    let advice = advise_on(AS_PUBLISHED, &context);
    assert!(
        advice
            .message
            .contains("cannot read MaxCompute project sales_prod:"),
        "{}",
        advice.message
    );
    assert_eq!(advice.hint, None);
}

#[test]
fn the_path_is_taken_out_on_request() {
    let redacted = AdviceContext {
        redact: true,
        ..context()
    };
    let advice = advise_on(AS_PUBLISHED, &redacted);
    for secret in ["10.1.2.3", "20240101", "0001,"] {
        assert!(!advice.detail.contains(secret), "{}", advice.detail);
    }
    assert!(
        advice.detail.contains("pangu://[redacted], errorcode: 9"),
        "{}",
        advice.detail
    );
    let cut = AS_PUBLISHED
        .replace("/20240101/", "/20240101/\n")
        .replace("/part/", "/part\\\\n/");
    assert!(!redact_path(&cut).contains("0001"), "{}", redact_path(&cut));
    assert_eq!(redact_path("nothing here"), "nothing here");
    assert_eq!(
        redact_path("a PANGU://x/y, b, /product/odps/p/data/z\" c"),
        "a pangu://[redacted], b, pangu://[redacted]\" c"
    );
}

// ------------------------------------------------------------------------------------------------
// What the client gets

fn fields_of(frame: &[u8]) -> Vec<(u8, String)> {
    ErrorFields::new(&frame[5..])
        .iter()
        .map(|(code, value)| (code, String::from_utf8_lossy(value).into_owned()))
        .collect()
}

#[test]
fn all_other_fields_survive() {
    let message = rule("OSP-1121").example.error.as_deref().unwrap();
    let sent = [
        (b'S', "错误"),
        (b'V', "ERROR"),
        (b'C', "HV000"),
        (b'M', message),
        (b'D', "a detail"),
        (b'H', "a hint"),
        (b'P', "17"),
        (b'p', "3"),
        (b'q', "SELECT 1"),
        (b'W', "somewhere"),
        (b's', "public"),
        (b't', "orders"),
        (b'F', "x.c"),
        (b'L', "42"),
        (b'R', "RevalidateCachedQuery"),
        (b'Z', "new"),
    ];
    let body = body(&sent);
    let error = ErrorFields::new(&body);
    let advice = advise(&recognize(error).unwrap(), error, &context());
    let got = fields_of(&advice.frame(error));
    for (code, value) in sent {
        if !matches!(code, b'M' | b'D' | b'H') {
            assert!(got.contains(&(code, value.to_owned())), "{}", code as char);
        }
    }
    assert_eq!(got.len(), sent.len());
    let one = |code| {
        got.iter()
            .filter(|(other, _)| *other == code)
            .map(|(_, value)| value.clone())
            .collect::<Vec<_>>()
    };
    assert_eq!(one(b'M'), [advice.message.clone()]);
    assert!(
        one(b'D')[0].ends_with(&format!(
            "Hologres said: {message}\nDETAIL: a detail\nHINT: a hint"
        )),
        "{got:?}"
    );
    assert_eq!(one(b'H'), [advice.hint.clone().unwrap()]);
    // A rule without a statement leaves Hologres' own hint where it is.
    let message = rule("OSP-1110").example.error.as_deref().unwrap();
    let body = self::body(&[(b'C', "XX000"), (b'M', message), (b'H', "a hint")]);
    let error = ErrorFields::new(&body);
    let advice = advise(&recognize(error).unwrap(), error, &context());
    let got = fields_of(&advice.frame(error));
    assert!(got.contains(&(b'H', "a hint".into())), "{got:?}");
    assert!(!advice.detail.contains("a hint"), "{}", advice.detail);
}

#[test]
fn an_error_on_which_clients_act_is_left_as_it_came() {
    for word in clients::WORDS {
        for field in [b'M', b'D', b'H', b'W'] {
            // Advice alone: the error is not even recognised.
            let plain = "Query:[1] Get result failed: time before 1925 not supported";
            let text = if field == b'M' {
                format!("{plain}; {word}")
            } else {
                plain.to_owned()
            };
            let mut fields = vec![(b'C', "XX000"), (b'M', text.as_str()), (b'F', "x.c")];
            if field != b'M' {
                fields.push((field, word));
            }
            assert!(
                recognize(ErrorFields::new(&body(&fields))).is_none(),
                "{word}"
            );
            // What another engine may read is still run again; its error goes out as it came.
            let text = if field == b'M' {
                format!("{AS_PUBLISHED}; {word}")
            } else {
                AS_PUBLISHED.to_owned()
            };
            fields[1] = (b'M', text.as_str());
            let body = body(&fields);
            let error = ErrorFields::new(&body);
            // PostgreSQL's own words at the message's end are not believed at all.
            if let Some(fault) = recognize(error) {
                assert!(fault.is_curable());
                let advice = advise(&fault, error, &context());
                assert!(advice.untouched, "{word}");
                assert_eq!(&advice.frame(error)[5..], body, "{word}");
            }
        }
    }
    for sqlstate in [
        "0A000", "08000", "08006", "53000", "53200", "57P01", "57P03", "57P05",
    ] {
        assert!(clients::acted_on(sqlstate), "{sqlstate}");
        assert!(
            Rules::in_force()
                .iter()
                .all(|rule| !rule.sqlstates.iter().any(|known| known == sqlstate))
        );
    }
    assert!(
        Rules::in_force()
            .iter()
            .flat_map(|rule| &rule.sqlstates)
            .all(|known| !clients::acted_on(known))
    );
    assert!(!clients::acted_on("XX000") && !clients::acted_on("57014"));
}

/// Every text in every language, with the longest names there can be and without any, is within its
/// bound and holds no word that clients decide by.
#[test]
fn every_text_fits_a_box_and_decides_nothing() {
    let longest = Reason {
        relation: format!("{}.{}", "s".repeat(63), "订".repeat(63)),
        project: Some("p".repeat(28)),
        ..reason(Encryption::Kms(KmsKey {
            id: Some("k".repeat(80)),
            state: KeyState::Disabled,
            ..KmsKey::default()
        }))
    };
    let usual = reason(kms(KeyState::Disabled));
    let long_name = "\"".repeat(63);
    for rule in Rules::in_force().iter() {
        let matched = match &rule.instead_of {
            Some(instead) => self::rule(instead),
            None => rule,
        };
        for (text, language, reason) in rule.texts.iter().flat_map(|text| {
            LANGUAGES.into_iter().flat_map(move |language| {
                [None, Some(0), Some(1)].map(|reason| (text, language, reason))
            })
        }) {
            let reason = reason.map(|which| [&usual, &longest][which]);
            let names = words::Names {
                relation: reason.map(|reason| reason.relation.as_str()),
                project: reason.and_then(|reason| reason.project.as_deref()),
                key_id: Some(if reason.is_some() {
                    "key-hzz65f0a"
                } else {
                    "k"
                }),
                version: Some(HologresVersion(10, 10, 100)),
            };
            let around = &Rules::in_force().words().around;
            let texts = [text.what.of(language), text.todo.of(language)];
            let message = words::message(texts, names, around, language);
            let length = message.chars().count();
            assert!(
                length <= MESSAGE_LIMIT,
                "{}: {length}: {message}",
                rule.code()
            );
            assert_eq!(clients::decide_by(&message), None, "{message}");
            assert!(!message.contains(['{', '}']), "{message}");
            let stop = if language == Language::Chinese {
                '。'
            } else {
                '.'
            };
            for text in texts {
                assert!(text.ends_with(stop), "{text}");
            }
            if language == Language::Chinese && reason.is_none_or(|reason| reason == &usual) {
                assert_eq!(words::check(&message, language, &[]), Ok(()), "{message}");
            }
            if let Some(hint) = &text.hint {
                let hint = statement(hint, &long_name, Some("key-hzz65f0a")).unwrap();
                assert!(hint.chars().count() <= 300, "{hint}");
                assert_eq!(clients::decide_by(&hint), None, "{hint}");
                assert!(!hint.contains('\n'), "{hint}");
            }
        }
        for (why, language) in NotRetried::ALL
            .into_iter()
            .flat_map(|why| LANGUAGES.map(|language| (why, language)))
        {
            let context = AdviceContext {
                not_retried: Some(why),
                reason: Some(&usual),
                language,
                docs: Some("https://a-rather-long-name.data-platform.example.com/osprey"),
                ..context()
            };
            let advice = advise_on(example_error(matched), &context);
            let said = advice
                .detail
                .find("Hologres said: ")
                .or(advice.detail.find("Hologres 返回："))
                .unwrap();
            let ours = &advice.detail[..said];
            assert!(ours.chars().count() <= 300, "{ours}");
            assert_eq!(clients::decide_by(ours), None, "{ours}");
        }
    }
}

#[test]
fn every_reason_why_not_has_its_words() {
    let words = &Rules::in_force().words().not_retried;
    assert_eq!(words.len(), NotRetried::ALL.len());
    for (why, words) in NotRetried::ALL.into_iter().zip(words) {
        assert_eq!(why.label(), words.label);
        for language in LANGUAGES {
            for text in [words.why.of(language), words.help.of(language)] {
                assert_eq!(words::check(text, language, &[]), Ok(()), "{text}");
            }
        }
    }
}

/// What is in the pages of Chinese is spaced as Chinese is, too.
#[test]
fn every_story_is_spaced_well() {
    for rule in Rules::in_force().iter() {
        let story = rule.story.as_ref().unwrap();
        for both in [Some(&story.why), story.did.as_ref(), Some(&story.help)]
            .into_iter()
            .flatten()
        {
            for language in LANGUAGES {
                assert_eq!(
                    words::check(both.of(language), language, &["name"]),
                    Ok(()),
                    "{}",
                    rule.code()
                );
            }
        }
    }
}

#[test]
fn codes_are_labels_of_metrics() {
    let codes: Vec<_> = Case::ALL.iter().map(|case| case.code()).collect();
    assert_eq!(codes[0], "OSP-1001", "the pangu rule is the first row");
    let different: std::collections::BTreeSet<_> = codes.iter().collect();
    assert_eq!(different.len(), codes.len());
}

#[test]
fn what_costs_lifts_or_opens_is_only_advised() {
    let itself: Vec<_> = Rules::in_force()
        .iter()
        .filter(|rule| rule.cure() == Cure::Itself)
        .map(Rule::code)
        .collect();
    assert_eq!(itself, ["OSP-1001"]);
    for code in [
        "OSP-1105", "OSP-1106", "OSP-1108", "OSP-1119", "OSP-1120", "OSP-1125",
    ] {
        assert_eq!(rule(code).cure(), Cure::Advised, "{code}");
    }
}

// ------------------------------------------------------------------------------------------------
// An operator's own file

const OWN_RULE: &str = r#"
[[rule]]
code = "OPS-17"
title.en = "The nightly load is running"
title.zh = "夜间加载正在运行"
cure = "advised"
error = ["orders_nightly … is locked by the loader"]
vendor = "https://wiki.example.com/nightly"
example.error = "status { orders_nightly 3 is locked by the loader }"

[[rule.text]]
what.en = "The nightly load has not ended yet."
what.zh = "夜间加载尚未结束。"
do.en = "Run the query again after 06:00."
do.zh = "请在 06:00 之后再次执行查询。"
"#;

#[test]
fn an_operators_own_rules_stand_behind_ospreys() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("rules.toml");
    std::fs::write(&path, OWN_RULE).unwrap();
    let rules = Rules::with_file(&path).unwrap();
    assert_eq!(rules.iter().last().map(Rule::code), Some("OPS-17"));
    let body = internal("status { orders_nightly 3 is locked by the loader }");
    let error = ErrorFields::new(&body);
    let advice = advise(&rules.recognize(error).unwrap(), error, &context());
    assert_eq!(advice.code, "OPS-17");
    assert_eq!(
        advice.message,
        "The nightly load has not ended yet. Run the query again after 06:00."
    );
    assert!(
        advice
            .detail
            .starts_with("Osprey OPS-17, docs: https://wiki.example.com/nightly\n"),
        "{}",
        advice.detail
    );
    assert!(recognize(error).is_none(), "it is not in force");
    assert!(
        Rules::with_file(&directory.path().join("missing")).unwrap_err()[0]
            .to_string()
            .contains("cannot be read")
    );
    std::fs::write(&path, b"# x\n\xff").unwrap();
    assert!(
        Rules::with_file(&path).unwrap_err()[0]
            .to_string()
            .contains("rules.toml:2: is not UTF-8")
    );
}

#[test]
fn a_mistake_is_refused_by_file_line_and_key() {
    let refused = |from: &str, to: &str| {
        assert!(OWN_RULE.contains(from), "{from}");
        let text = OWN_RULE.replacen(from, to, 1);
        let problems = Rules::parse(Some(("own.toml", &text))).unwrap_err();
        problems
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join("\n")
    };
    for (from, to, expected) in [
        ("OPS-17", "OSP-1", "own.toml:3: rule.code: expects letters"),
        ("OPS-17", "ops", "own.toml:3: rule.code: "),
        (
            "\"advised\"",
            "\"itself\"",
            "own.toml:6: rule.cure: expects \"advised\"",
        ),
        (
            "\"advised\"",
            "\"always\"",
            "own.toml:6: rule.cure: unknown variant",
        ),
        ("\"advised\"", "7", "own.toml:6: rule.cure: "),
        (
            "cure = \"advised\"",
            "cure = \"advised\"\ncurse = 1",
            "own.toml:7: rule.curse: unknown field",
        ),
        ("cure = \"advised\"\n", "", "missing field `cure`"),
        (
            "error = [",
            "sqlstate = [\"P0001\"]\nerror = [",
            "own.toml:7: rule.sqlstate: expects some of XX000",
        ),
        (
            "\"orders_nightly … is locked by the loader\"",
            "\"…\"",
            "own.toml:7: rule.error: expects a text",
        ),
        ("https://wiki", "ftp://wiki", "own.toml:8: rule.vendor: "),
        (
            "orders_nightly 3",
            "orders_daily 3",
            "own.toml:9: rule.example.error: does not look",
        ),
        (
            "what.zh = \"夜间加载尚未结束。\"\n",
            "",
            "own.toml:12: rule.text.what: missing field `zh`",
        ),
        (
            "The nightly load has not ended yet.",
            "Resource busy.",
            "own.toml:12: rule.text.what: holds \"resource busy\"",
        ),
        (
            "not ended yet",
            &"very ".repeat(60),
            "own.toml:12: rule.text.what: is too long",
        ),
        (
            "not ended yet",
            "{thing}",
            "own.toml:12: rule.text.what: names {thing}",
        ),
        ("请在 06:00", "请在06:00", "rule.text.do: needs a space"),
        (
            "do.en",
            "when = [\"moon\"]\ndo.en",
            "rule.text.when: expects one of client_set_route",
        ),
        (
            "do.en",
            "when = [\"learned\"]\ndo.en",
            "rule.text: expects a last text without",
        ),
        (
            "do.en",
            "hint = \"SET a = 1; SET b = 2;\"\ndo.en",
            "rule.text.hint: expects one statement",
        ),
        (
            "[[rule]]",
            "[words]\n[[rule]]",
            "own.toml:2: words: is not a key",
        ),
        ("[[rule]]", "[[rule]", "own.toml:2: not TOML"),
        (
            "error = [",
            "versions = \"3.0\"\nerror = [",
            "own.toml:7: rule.versions: expects \"< 1.2.3\"",
        ),
        (
            "error = [",
            "instead_of = \"OSP-9\"\nerror = [",
            "own.toml:7: rule.instead_of: expects the code",
        ),
    ] {
        let said = refused(from, to);
        assert!(said.contains(expected), "{expected}\nin:\n{said}");
    }
    // All mistakes of all rules are told, each rule's by itself.
    let twice = format!(
        "{}{}",
        OWN_RULE.replace("https", "http"),
        OWN_RULE.replace("\"advised\"", "3")
    );
    assert_eq!(
        Rules::parse(Some(("own.toml", &twice))).unwrap_err().len(),
        2
    );
    let again = format!("{OWN_RULE}{OWN_RULE}");
    assert!(
        Rules::parse(Some(("own.toml", &again))).unwrap_err()[0]
            .to_string()
            .contains("is there already")
    );
    assert!(
        Rules::parse(Some(("own.toml", ""))).unwrap_err()[0]
            .to_string()
            .contains("no [[rule]] section")
    );
}
