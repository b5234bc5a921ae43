//! Every row: its example, when it counts, and what it says word for word.

use super::*;

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
        computing_resource: Some(ComputingResource::Serverless),
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
            .contains("Key state as of 2026-11-25T08:30:00Z."),
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
    for spelt in [
        r"a pangu:\/\/x\/y, b",
        "a pan gu:/\n/x/y, b",
        r"a pangu:\n//x, b",
    ] {
        assert_eq!(redact_path(spelt), "a pangu://[redacted], b");
    }
}

/// Whatever field the path is in, and whether or not Osprey has words of its own for the error.
#[test]
fn no_field_has_the_path() {
    let redacted = AdviceContext {
        redact: true,
        ..context()
    };
    for untouched in [false, true] {
        let mut frame = Vec::new();
        let path = b"SQL statement \"select\" of pangu://10.1.2.3/x/0001, then".as_slice();
        let said = AS_PUBLISHED.as_bytes();
        let fields = [
            (b'S', b"ERROR".as_slice()),
            (b'C', b"XX000"),
            (b'M', said),
            (b'W', path),
            (b'q', path),
        ];
        compose::error(&mut frame, fields);
        let error = ErrorFields::new(&frame[5..]);
        let fault = recognize(error).expect("an error that is known");
        let advice = Advice {
            untouched,
            ..advise(&fault, error, &redacted)
        };
        let frame = advice.frame(error);
        let told = String::from_utf8_lossy(&frame);
        assert!(!told.contains("10.1.2.3"), "{told}");
        let statements = told.matches("of pangu://[redacted], then").count();
        assert_eq!(statements, 2, "{told}");
    }
}

#[test]
fn what_is_offered_is_what_an_operator_can_switch_on() {
    let rules = Rules::in_force();
    let offered = rules.iter().filter(|rule| rule.cure() == Cure::Offered);
    let offered: Vec<_> = offered.map(Rule::code).collect();
    // What `route.retry_rules` takes.
    assert_eq!(offered, ["OSP-1102", "OSP-1121", "OSP-1122"]);
    let fault = |text: &str| recognized(text).unwrap();
    let (on, off) = (["OSP-1102", "OSP-1122"], ["OSP-1121"]);
    for (example, cure) in [
        (
            "hos_exception: not an ORC file",
            crate::advice::Setting::Route,
        ),
        (
            "Get result failed: time before 1925 not supported",
            crate::advice::Setting::Other(
                "SET hg_experimental_functions_use_pg_implementation = 'to_char,to_date,to_timestamp';",
            ),
        ),
    ] {
        assert_eq!(fault(example).cure(&on), Some(cure));
        assert_eq!(fault(example).cure(&off), None);
    }
}
