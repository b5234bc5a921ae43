//! Recognition against the forms that are known and the texts that must not be taken for one, and
//! the table of cases.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::*;
use crate::keys::{KeyRecord, KeyState, Origin};
use crate::protection::Source;

const AS_PUBLISHED: &str = "status { code: SERVER_INTERNAL_ERROR message: \"hos_exception: IO error: \
    Failed to execute pangu open normal file pangu://10.1.2.3:10240/product/odps/sales_prod/data/\
    20240101/part/0001, errorcode: 9, errorcode_description: invalid argument, err_msg: \
    PanguParameterInvalidException";

fn recognized(message: &str) -> Option<Fault> {
    recognize(message.as_bytes(), b"", b"")
}

fn pangu() -> Fault {
    recognized(AS_PUBLISHED).unwrap()
}

#[test]
fn the_published_error_with_its_path_and_project() {
    let fault = pangu();
    assert_eq!(fault.kind, FaultKind::HqeCannotRead);
    assert!(fault.is_curable());
    assert_eq!(fault.project.as_deref(), Some("sales_prod"));
    assert_eq!(
        fault.path.as_deref(),
        Some("pangu://10.1.2.3:10240/product/odps/sales_prod/data/20240101/part/0001")
    );
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
        "PanguParameterInvalidException".to_owned(),
        "err_msg: panguparameterinvalidexception".to_owned(),
    ] {
        let fault = recognized(&message);
        assert_eq!(
            fault.map(|fault| fault.kind),
            Some(FaultKind::HqeCannotRead),
            "{message}"
        );
    }
    let in_detail = recognize(b"internal error", AS_PUBLISHED.as_bytes(), b"");
    assert_eq!(in_detail.unwrap().project.as_deref(), Some("sales_prod"));
    assert!(recognize(b"internal error", b"", AS_PUBLISHED.as_bytes()).is_some());
    let through_function = b"PL/pgSQL function report() line 3 at SQL statement";
    assert!(recognize(AS_PUBLISHED.as_bytes(), b"", through_function).is_some());
    assert!(recognize(&[AS_PUBLISHED.as_bytes(), b"\xff\xfe"].concat(), b"", b"").is_some());
}

#[test]
fn a_path_cut_by_line_breaks_is_put_together() {
    let cut = AS_PUBLISHED.replace("/sales_prod/", "/sales_\n  prod/");
    let fault = recognized(&cut).unwrap();
    assert_eq!(fault.project.as_deref(), Some("sales_prod"));
    let cut = AS_PUBLISHED.replace("/sales_prod/", "/sales_\\\\nprod/");
    assert_eq!(
        recognized(&cut).unwrap().project.as_deref(),
        Some("sales_prod")
    );
}

#[test]
fn ordinary_errors_are_left_alone() {
    for message in [
        "",
        "relation \"orders\" does not exist",
        "relation \"panguparameterinvalidexception\" does not exist",
        "You have NO privilege 'odps:Select' on sales_prod",
        "Query:[1] Get result failed: exec sql failed => status:7 msg:ERROR: External table size exceeded",
        "status { code: SERVER_INTERNAL_ERROR message: \"query next from foreign table executor failed, \
         Unknown file type: orc2\" }",
        "status { code: SERVER_INTERNAL_ERROR message: \"pangu://h:1/product/odps/p/data/f, errorcode: 91\" }",
        "status { code: SERVER_INTERNAL_ERROR message: \"pangu://h:1/product/odps/p/data/f, errorcode: 2\" }",
        "the pangu is a pangolin; errorcode: 9",
        "canceling statement due to user request",
        "role \"AliyunHologresEncryptionDefaultRole\" does not exist",
        "could not open file \"PanguParameterInvalidException\": No such file or directory",
        "key Rejected.Disabled",
    ] {
        assert_eq!(recognized(message), None, "{message}");
    }
}

#[test]
fn what_a_user_quotes_is_told_apart() {
    let raised = b"PL/pgSQL function inline_code_block line 1 at RAISE";
    assert_eq!(recognize(AS_PUBLISHED.as_bytes(), b"", raised), None);
    let nested = b"PL/pgSQL function f() line 2 at RAISE\nSQL statement \"SELECT f()\"";
    assert_eq!(recognize(AS_PUBLISHED.as_bytes(), b"", nested), None);
    for prefix in [
        "invalid input syntax for type integer: ",
        "syntax error at or near ",
        "malformed array literal: ",
        "unrecognized configuration parameter ",
        "Value too long: ",
    ] {
        assert_eq!(
            recognized(&format!("{prefix}\"{AS_PUBLISHED}\"")),
            None,
            "{prefix}"
        );
    }
    let row = format!("Key (message)=({AS_PUBLISHED}) already exists.");
    let message = b"duplicate key value violates unique constraint \"log_pkey\"";
    assert_eq!(recognize(message, row.as_bytes(), b""), None);
    let copied = format!("COPY log, line 1, column at: \"{AS_PUBLISHED}\"");
    assert_eq!(recognize(b"some trouble", b"", copied.as_bytes()), None);
    let statement = format!("SQL statement \"SELECT '{AS_PUBLISHED}' / 0\"\nPL/pgSQL function f()");
    assert_eq!(
        recognize(b"division by zero", b"", statement.as_bytes()),
        None
    );
}

#[test]
fn kms_and_ram_refusals() {
    for (text, kind) in [
        ("Rejected.Disabled", FaultKind::KeyDisabled),
        ("rejected.pendingdeletion", FaultKind::KeyPendingDeletion),
        ("Rejected.PendingImport", FaultKind::KeyPendingImport),
        ("Forbidden.KeyNotFound", FaultKind::KeyNotFound),
        (
            "assume AliyunHologresEncryptionDefaultRole",
            FaultKind::RoleOrPolicy,
        ),
        ("kms: Forbidden.NoPermission", FaultKind::RoleOrPolicy),
    ] {
        let message = format!("status {{ code: SERVER_INTERNAL_ERROR message: \"{text}\" }}");
        let fault = recognized(&message).unwrap();
        assert_eq!(fault.kind, kind, "{text}");
        assert!(!fault.is_curable());
    }
}

#[test]
fn a_long_message_is_looked_at_in_linear_time() {
    let long = format!("{}{AS_PUBLISHED}", "pangu://x ".repeat(50_000));
    let start = std::time::Instant::now();
    assert!(recognized(&long).is_some());
    assert!(start.elapsed() < Duration::from_secs(2));
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
            looked_up: SystemTime::UNIX_EPOCH,
        })),
        source: Source::Key,
    }
}

fn kms(state: KeyState) -> Encryption {
    Encryption::Kms(KmsKey {
        id: Some("key-7".into()),
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

#[test]
fn the_plain_case_word_for_word() {
    let reason = reason(kms(KeyState::Enabled));
    let context = AdviceContext {
        database: "my \"odd\" db",
        reason: Some(&reason),
        not_retried: Some(NotRetried::RowsSent),
        ..context()
    };
    let advice = advise(&pangu(), AS_PUBLISHED, &context);
    assert_eq!(advice.code, "OSP-1001");
    assert_eq!(
        advice.message,
        "Hologres' engine HQE cannot read public.orders (MaxCompute project sales_prod), because it \
         is encrypted with a KMS key (BYOK). Let the database's owner run the statement in HINT once, \
         then reconnect and run the query again."
    );
    assert_eq!(
        advice.detail,
        format!(
            "OSP-1001. The statement was not run again, because rows of its result had already \
                 been sent. Hologres said: {AS_PUBLISHED}"
        )
    );
    assert_eq!(
        advice.hint,
        "ALTER DATABASE \"my \"\"odd\"\" db\" SET \
         hg_experimental_enable_access_odps_orc_via_holo = false;\n\
         Verify in a new connection: SHOW hg_experimental_enable_access_odps_orc_via_holo; it must \
         answer off (or false)."
    );
}

#[test]
fn every_condition_has_its_case() {
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
    let cases = [
        (context(), "OSP-1001"),
        (
            AdviceContext {
                version: version(4, 0, 0),
                ..context()
            },
            "OSP-1001",
        ),
        (
            AdviceContext {
                reason: Some(&enabled),
                ..context()
            },
            "OSP-1001",
        ),
        (
            AdviceContext {
                reason: Some(&expires_later),
                ..context()
            },
            "OSP-1001",
        ),
        (
            AdviceContext {
                client_set_route: true,
                ..context()
            },
            "OSP-1002",
        ),
        (
            AdviceContext {
                route_was_set: true,
                ..context()
            },
            "OSP-1003",
        ),
        (
            AdviceContext {
                client_set_route: true,
                route_was_set: true,
                ..context()
            },
            "OSP-1003",
        ),
        (
            AdviceContext {
                reason: Some(&default_key),
                ..context()
            },
            "OSP-1004",
        ),
        (
            AdviceContext {
                version: version(1, 0, 9),
                ..context()
            },
            "OSP-1005",
        ),
        (
            AdviceContext {
                version: version(1, 3, 30),
                ..context()
            },
            "OSP-1006",
        ),
        (
            AdviceContext {
                version: version(1, 3, 31),
                ..context()
            },
            "OSP-1001",
        ),
        (
            AdviceContext {
                reason: Some(&disabled),
                ..context()
            },
            "OSP-1007",
        ),
        (
            AdviceContext {
                reason: Some(&deleting),
                ..context()
            },
            "OSP-1008",
        ),
        (
            AdviceContext {
                reason: Some(&importing),
                ..context()
            },
            "OSP-1009",
        ),
        (
            AdviceContext {
                reason: Some(&expired),
                ..context()
            },
            "OSP-1009",
        ),
    ];
    for (context, code) in cases {
        assert_eq!(advise(&pangu(), "x", &context).code, code, "{context:?}");
    }
    let refused = Fault {
        kind: FaultKind::RoleOrPolicy,
        path: None,
        project: None,
    };
    assert_eq!(advise(&refused, "x", &context()).code, "OSP-1010");
    let missing = Fault {
        kind: FaultKind::KeyNotFound,
        path: None,
        project: None,
    };
    assert_eq!(advise(&missing, "x", &context()).code, "OSP-1011");
}

#[test]
fn the_default_key_needs_the_common_table_route() {
    let reason = reason(Encryption::DefaultKey);
    let old = AdviceContext {
        reason: Some(&reason),
        version: Some(HologresVersion(3, 1, 9)),
        ..context()
    };
    let advice = advise(&pangu(), "x", &old);
    assert!(
        advice
            .message
            .contains("Upgrade the instance to V3.2 or later"),
        "{}",
        advice.message
    );
    assert!(advice.message.contains("V3.1.9"), "{}", advice.message);
    let new = AdviceContext {
        version: Some(HologresVersion(3, 2, 0)),
        ..old
    };
    let advice = advise(&pangu(), "x", &new);
    assert!(!advice.message.contains("Upgrade"), "{}", advice.message);
    assert!(
        advice.hint.starts_with(
            "ALTER DATABASE \"sales\" SET hg_experimental_external_catalog_routing = \
             'odps:common_table,dlf:hqe';"
        ),
        "{}",
        advice.hint
    );
}

#[test]
fn the_path_is_taken_out_on_request() {
    let redacted = AdviceContext {
        redact: true,
        ..context()
    };
    let advice = advise(&pangu(), AS_PUBLISHED, &redacted);
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

#[test]
fn hologres_own_detail_and_hint_are_kept() {
    let context = AdviceContext {
        original_detail: "at pangu://h/product/odps/p/data/x",
        original_hint: "ask",
        redact: true,
        ..context()
    };
    let advice = advise(&pangu(), "what happened", &context);
    assert_eq!(
        advice.detail,
        "OSP-1001. Hologres said: what happened\nDETAIL: at pangu://[redacted]\nHINT: ask"
    );
}

proptest::proptest! {
    #[test]
    fn no_text_makes_it_panic(text in ".*", bytes: Vec<u8>) {
        let mixed = format!("{text}pangu://{text}/product/odps/{text}/data/, errorcode: 9{text}");
        proptest::prop_assert!(!redact_path(&mixed).to_lowercase().contains("/product/odps/"));
        for candidate in [mixed.as_bytes(), text.as_bytes(), &bytes] {
            recognize(candidate, &bytes, text.as_bytes());
        }
    }
}

#[test]
fn both_languages_fill_every_case_and_every_reason_why_not() {
    let reason = reason(kms(KeyState::Enabled));
    for case in Case::ALL {
        let facts = Facts {
            relation: Some(&reason.relation),
            project: None,
            key: None,
            version: None,
            database: quote_identifier("sales"),
        };
        for (text, stop) in [
            (english::text(case, &facts), '.'),
            (chinese::text(case, &facts), '。'),
        ] {
            assert!(text.happened.contains("public.orders"), "{}", text.happened);
            assert!(text.happened.ends_with(stop), "{}", text.happened);
            assert!(text.to_do.ends_with(stop), "{}", text.to_do);
            assert!(!text.hint.is_empty());
        }
    }
    let chinese = AdviceContext {
        language: Language::Chinese,
        not_retried: Some(NotRetried::Writes),
        ..context()
    };
    let advice = advise(&pangu(), "原文", &chinese);
    assert!(
        advice
            .message
            .contains("HQE 引擎无法读取 MaxCompute 项目 sales_prod"),
        "{}",
        advice.message
    );
    assert!(
        advice
            .detail
            .starts_with("OSP-1001。该语句未被重新执行，原因：它不是只读语句。")
    );
    assert!(advice.hint.starts_with("ALTER DATABASE \"sales\" SET "));
}

#[test]
fn every_code_has_its_page() {
    let page = include_str!("../../docs/errors.md");
    for case in Case::ALL {
        let heading = format!("\n## {}", case.code());
        assert_eq!(page.matches(&heading).count(), 1, "{}", case.code());
    }
    assert_eq!(page.matches("\n## OSP-").count(), Case::ALL.len());
    for why in NotRetried::ALL {
        let row = format!("| {} | `{}` |", english::why(why), why.label());
        assert!(page.contains(&row), "{row}");
    }
}
