//! What the client gets: all other fields as they were, texts within their bounds, nothing that
//! programs act on.

use super::*;
use crate::protection::Encoding;

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
    assert_eq!(one(b'M'), std::slice::from_ref(&advice.message));
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
                assert!(fault.is_of_encryption());
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
                let hint =
                    advise::statement(hint, &long_name, Some("key-hzz65f0a"), Encoding::default())
                        .unwrap();
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

/// What is known around an error, in every combination: the message, the hint and what Osprey adds in
/// the detail are within their bounds in both languages, and so is the whole detail where Hologres'
/// text is cut.
#[test]
fn every_combination_of_what_is_known_fits_a_box() {
    let keys = [
        Encryption::None,
        Encryption::DefaultKey,
        kms(KeyState::Enabled),
        kms(KeyState::Disabled),
        kms(KeyState::PendingDeletion),
        kms(KeyState::PendingImport),
    ];
    let mut reasons: Vec<_> = keys.into_iter().map(|key| Some(reason(key))).collect();
    for known in reasons.iter_mut().flatten() {
        known.relation = format!("{}.{}", "s".repeat(63), "订".repeat(63));
    }
    reasons.push(None);
    let versions = [(1, 0, 0), (1, 3, 30), (3, 1, 2), (3, 2, 0), (4, 10, 100)]
        .map(|(major, minor, patch)| Some(HologresVersion(major, minor, patch)));
    let whys: Vec<_> = NotRetried::ALL
        .into_iter()
        .map(Some)
        .chain([None])
        .collect();
    let matched = Rules::in_force()
        .iter()
        .filter(|rule| rule.instead_of.is_none());
    let mut seen = std::collections::BTreeSet::new();
    for error in matched.map(example_error) {
        let long = format!("{error} {}", "z".repeat(2000));
        let body = internal(error);
        let long_body = internal(&long);
        let errors = [&body, &long_body].map(|body| ErrorFields::new(body));
        let Some(fault) = recognize(errors[0]) else {
            continue;
        };
        for (reason, version) in reasons
            .iter()
            .flat_map(|reason| versions.iter().chain([&None]).map(move |v| (reason, *v)))
        {
            // What an error that is not curable is told by has nothing to do with the rest.
            let (whys, flags) = if fault.is_of_encryption() {
                (&whys[..], 0..16)
            } else {
                (&whys[whys.len() - 1..], 0..1)
            };
            for (&not_retried, flags) in whys
                .iter()
                .flat_map(|why| flags.clone().map(move |flags| (why, flags)))
            {
                for language in LANGUAGES {
                    let context = AdviceContext {
                        database: "sales",
                        reason: reason.as_ref(),
                        client_set_route: flags & 1 != 0,
                        route_was_set: flags & 2 != 0,
                        learned: flags & 4 != 0,
                        computing_resource: Some(if flags & 8 != 0 {
                            ComputingResource::Serverless
                        } else {
                            ComputingResource::Local
                        }),
                        version,
                        not_retried,
                        language,
                        docs: Some("https://a-rather-long-name.data-platform.example.com/ospreys"),
                        log_id: Some("7c1e-1000000-10"),
                        ..AdviceContext::default()
                    };
                    let advice = advise(&fault, errors[1], &context);
                    seen.insert(advice.code);
                    let length = |text: &str| text.chars().count();
                    assert!(
                        length(&advice.message) <= MESSAGE_LIMIT,
                        "{}",
                        advice.message
                    );
                    let said = advise::SAID_FIRST + 3 * length(advise::CUT) + advise::SAID_LAST;
                    assert!(length(&advice.detail) <= 300 + said, "{}", advice.detail);
                    assert_eq!(advice.whole.as_deref(), Some(long.as_str()));
                    assert!(
                        advice.detail.contains("7c1e-1000000-10"),
                        "{}",
                        advice.detail
                    );
                    let hint = advice.hint.as_deref().unwrap_or_default();
                    assert!(length(hint) <= 200 && !hint.contains('\n'), "{hint}");
                }
            }
        }
    }
    assert_eq!(seen.len(), Rules::in_force().iter().count(), "{seen:?}");
}

#[test]
fn a_long_text_is_cut_in_its_middle() {
    let long = AS_PUBLISHED.replace("20240101", &"7".repeat(300));
    let short = AdviceContext {
        log_id: Some("7c1e-42-1"),
        ..context()
    };
    let advice = advise_on(&long, &short);
    let said = advice.detail.lines().last().unwrap();
    assert!(
        said.starts_with(
            "Hologres said (all of it: log 7c1e-42-1): status { code: SERVER_INTERNAL_ERROR"
        ),
        "{said}"
    );
    assert!(said.contains(" … "), "{said}");
    assert!(said.ends_with("PanguParameterInvalidException"), "{said}");
    assert_eq!(advice.whole.as_deref(), Some(long.as_str()));
    // What is redacted for the client is redacted in the log.
    let redacted = AdviceContext {
        redact: true,
        ..short
    };
    let advice = advise_on(&long, &redacted);
    assert!(
        !advice.detail.contains("7777") && advice.whole.is_none(),
        "{advice}"
    );
    // Without an id there is nowhere to find it.
    let full = advise_on(&long, &context());
    assert!(
        full.detail.ends_with(&format!("Hologres said: {long}")),
        "{full}"
    );
    assert_eq!(full.whole, None);
    // Short texts stay whole.
    let advice = advise_on("kms: Rejected.Disabled", &short);
    assert!(
        advice
            .detail
            .ends_with("Hologres said: kms: Rejected.Disabled"),
        "{advice}"
    );
    assert_eq!(advice.whole, None);
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

fn pangu_in(name: &str, database: &str, relation: &str, language: Language) -> Vec<(u8, Vec<u8>)> {
    let encoding = Encoding::named(name).expect("an encoding");
    let example = rule("OSP-1001").example.error.as_deref().unwrap();
    let mut sent = Vec::new();
    crate::wire::compose::error(
        &mut sent,
        [
            (b'S', &*encoding.to_client("错误")),
            (b'C', b"XX000"),
            (b'M', example.as_bytes()),
        ],
    );
    let error = ErrorFields::new(&sent[5..]);
    let reason = Reason {
        relation: relation.into(),
        via: Vec::new(),
        project: Some("sales_prod".into()),
        key: None,
        source: crate::protection::Source::Learned,
    };
    let fault = recognize(error).unwrap();
    let advice = advise(
        &fault,
        error,
        &AdviceContext {
            database,
            reason: Some(&reason),
            language,
            encoding,
            ..AdviceContext::default()
        },
    );
    let frame = advice.frame(error);
    let told = ErrorFields::new(&frame[5..]);
    told.iter()
        .map(|(code, value)| (code, value.to_vec()))
        .collect()
}

fn text_in(name: &str, fields: &[(u8, Vec<u8>)], code: u8) -> String {
    let encoding = Encoding::named(name).expect("an encoding");
    let (_, value) = fields.iter().find(|(known, _)| *known == code).unwrap();
    String::from_utf8(encoding.to_server(value).into_owned()).expect("valid in the encoding")
}

#[test]
fn a_client_is_told_in_its_encoding() {
    for name in ["GBK", "GB18030", "EUC_CN", "UTF8", "SQL_ASCII"] {
        let told = pangu_in(name, "数据", "public.订单", Language::Chinese);
        assert!(
            text_in(name, &told, b'M').contains("无法读取 public.订单"),
            "{name}"
        );
        assert!(
            text_in(name, &told, b'H').starts_with("ALTER DATABASE \"数据\" SET"),
            "{name}"
        );
        assert_eq!(text_in(name, &told, b'S'), "错误", "{name}");
    }
}

#[test]
fn what_the_clients_encoding_does_not_have_is_spelt_out() {
    for name in ["LATIN1", "WIN1251", "JOHAB"] {
        let told = pangu_in(name, "da\"\\数", "public.订单", Language::Chinese);
        let message = text_in(name, &told, b'M');
        assert!(
            message.is_ascii() && message.contains("cannot read"),
            "{name} {message}"
        );
        assert!(message.contains(r"public.\8BA2\5355"), "{name} {message}");
        assert_eq!(
            text_in(name, &told, b'H').split(" SET").next().unwrap(),
            r#"ALTER DATABASE U&"da""\\\6570""#
        );
    }
}

#[test]
fn what_is_no_text_is_passed_on_as_it_came() {
    let example = rule("OSP-1001").example.error.as_deref().unwrap();
    let mut sent = Vec::new();
    let broken = [example.as_bytes(), b" \xff\xfe"].concat();
    let fields = [(b'C', &b"XX000"[..]), (b'M', &broken), (b'D', b"d")];
    crate::wire::compose::error(&mut sent, fields);
    let error = ErrorFields::new(&sent[5..]);
    let fault = recognize(error).unwrap();
    assert!(fault.is_of_encryption());
    let advice = advise(&fault, error, &AdviceContext::default());
    assert_eq!(advice.frame(error), sent);
}
