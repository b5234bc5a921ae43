//! An operator's own file of rules.

use super::*;

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
