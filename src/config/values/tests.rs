//! Durations, sizes, addresses and their refusals.

use super::*;
use proptest::prelude::*;

#[test]
fn durations_and_sizes_have_units() {
    assert_eq!(duration("30s"), Ok(Duration::from_secs(30)));
    assert_eq!(duration(" 250 ms "), Ok(Duration::from_millis(250)));
    assert_eq!(duration("24h"), duration("1d"));
    assert_eq!(size("256KiB"), Ok(256 << 10));
    assert_eq!(size("0B"), Ok(0));
    for wrong in [
        "30",
        "s",
        "-1s",
        "1.5h",
        "10 sconds",
        "",
        "99999999999999999999s",
    ] {
        assert!(duration(wrong).is_err(), "{wrong}");
    }
    for wrong in ["256", "256kb", "KiB", "18446744073709551615GiB"] {
        assert!(size(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn the_address_of_the_pages_can_stand_in_an_error() {
    for (written, read) in [
        (
            "https://docs.example.com/osprey",
            "https://docs.example.com/osprey",
        ),
        (
            "http://docs.example.com:8080/",
            "http://docs.example.com:8080",
        ),
    ] {
        assert_eq!(docs(written).unwrap().as_deref(), Some(read));
    }
    let long = format!("https://docs.example.com/{}", "x".repeat(100));
    for wrong in [
        "",
        "/",
        "https://",
        "docs",
        "ftp://docs.example.com",
        "https://docs example.com",
        "https://文档.example.com",
        "https://u:secret@docs.example.com",
        "https://docs.example.com/#errors",
        &long,
    ] {
        let error = docs(wrong).unwrap_err();
        assert!(!error.contains("secret"), "{error}");
    }
}

proptest! {
    #[test]
    fn what_is_shown_is_read_back(millis in 0u64..u64::MAX / 2, bytes in 0usize..usize::MAX / 2) {
        let time = Duration::from_millis(millis);
        prop_assert_eq!(duration(&show_duration(time)), Ok(time));
        prop_assert_eq!(size(&show_size(bytes)), Ok(bytes));
    }

    #[test]
    fn no_text_makes_a_parser_panic(text in ".*") {
        let _ = (duration(&text), size(&text), address(&text), upstream(&text));
        let _ = (project(&text), table(&text));
    }
}

#[test]
fn upstreams() {
    let ok = |text: &str, host: &str, port| {
        assert_eq!(
            upstream(text),
            Ok(Address {
                host: host.to_owned(),
                port
            }),
            "{text}"
        );
    };
    ok("hologres.example.com:80", "hologres.example.com", 80);
    ok("hologres.example.com", "hologres.example.com", 80);
    ok("127.0.0.1:5432", "127.0.0.1", 5432);
    ok("[::1]:5432", "::1", 5432);
    ok("[::1]", "::1", 80);
    ok("2001:db8::1", "2001:db8::1", 80);
    for wrong in [
        "",
        ":80",
        "host:",
        "host:0",
        "host:65536",
        "a b:1",
        "[::1",
        "[host]:1",
        "a:1:2",
    ] {
        assert!(upstream(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn a_url_is_refused_without_repeating_it() {
    let text = upstream("postgres://bi:hunter2@holo:80/dw").unwrap_err();
    assert!(text.contains("URL") && !text.contains("hunter2"), "{text}");
    let text = upstream("bi:hunter2@holo").unwrap_err();
    assert!(!text.contains("hunter2"), "{text}");
}

#[test]
fn addresses_say_what_to_write_instead() {
    assert_eq!(
        address("localhost:6432").unwrap().to_string(),
        "127.0.0.1:6432"
    );
    assert_eq!(address("[::1]:6432").unwrap().to_string(), "[::1]:6432");
    assert!(address("6432").unwrap_err().contains("0.0.0.0:6432"));
    assert!(address(":6432").unwrap_err().contains("0.0.0.0:6432"));
    assert!(address("::1:6432").unwrap_err().contains("[::1]:6432"));
    assert!(address("db.example.com:6432").is_err());
    assert_eq!(address_or_off("off"), Ok(None));
}

#[test]
fn projects_are_whole_projects_in_lower_case() {
    assert_eq!(project_name(" Sales_Enc "), Ok("sales_enc".into()));
    assert_eq!(project_name("ods_*"), Ok("ods_*".into()));
    assert!(
        project_name("sales#dw")
            .unwrap_err()
            .contains("write \"sales\"")
    );
    assert!(project_name("a-b").is_err());
    assert!(project_name("").is_err());
}

#[test]
fn tables_fold_as_sql_does() {
    let pattern = |d: &str, s: &str, t: &str| {
        Ok(TablePattern {
            database: d.into(),
            schema: s.into(),
            table: t.into(),
        })
    };
    assert_eq!(table("Orders"), pattern("*", "*", "orders"));
    assert_eq!(table("public.*"), pattern("*", "public", "*"));
    assert_eq!(
        table("DW.\"My.Schema\".\"O\"\"x\""),
        pattern("dw", "My.Schema", "O\"x")
    );
    for wrong in ["", "a..b", "a.b.c.d", "\"a", "a b"] {
        assert!(table(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn choices_suggest() {
    let route = one_of(ROUTES);
    assert_eq!(route("auto"), Ok(RouteKind::Auto));
    assert_eq!(
        route("common_table").unwrap_err(),
        "\"common_table\" is none of sqe, common-table, auto; did you mean \"common-table\"?"
    );
}

#[test]
fn networks_names_and_databases() {
    for (text, expected) in [
        ("10.0.0.0/8", "10.0.0.0/8"),
        (" 10.1.2.3/8 ", "10.0.0.0/8"),
        ("192.0.2.7", "192.0.2.7/32"),
        ("2001:db8::/32", "2001:db8::/32"),
        ("::1", "::1/128"),
        ("::ffff:127.0.0.0/104", "127.0.0.0/8"),
        ("::ffff:192.0.2.7", "192.0.2.7/32"),
        ("::/0", "::/0"),
    ] {
        assert_eq!(network(text).unwrap().to_string(), expected, "{text}");
    }
    for wrong in ["", "10.0.0.0/33", "10.0.0/8", "internal", "10.0.0.0/8,::/0"] {
        assert!(network(wrong).is_err(), "{wrong}");
    }
    assert_eq!(upstream_name("holo-1.prod_a"), Ok("holo-1.prod_a".into()));
    for wrong in ["", "a b", " a", "a/b", "a\"b", "生产"] {
        assert!(upstream_name(wrong).is_err(), "{wrong}");
    }
    assert_eq!(database("sales*"), Ok("sales*".into()));
    assert!(database("dw@etl").unwrap_err().contains("write \"dw\""));
    assert!(database(" ").is_err());
}

#[test]
fn durations_may_be_off() {
    assert_eq!(duration_or_off("off"), Ok(None));
    assert_eq!(duration_or_off("1m"), Ok(Some(Duration::from_mins(1))));
    assert!(duration_or_off("on").unwrap_err().ends_with("or \"off\""));
}

#[test]
fn languages_are_suggested_by_what_else_they_are_called() {
    assert_eq!(language("zh"), Ok(Language::Chinese));
    for (wrong, right) in [
        ("cn", "zh"),
        ("zh_CN", "zh"),
        ("Chinese", "zh"),
        ("中文", "zh"),
        ("en-US", "en"),
    ] {
        let text = language(wrong).unwrap_err();
        assert!(
            text.ends_with(&format!("did you mean \"{right}\"?")),
            "{text}"
        );
    }
    assert!(language("de").is_err());
}

#[test]
fn addresses_have_redis_own_port_and_are_no_urls() {
    for (text, host, port) in [
        ("redis", "redis", 6379),
        ("redis:80", "redis", 80),
        ("10.0.0.1:7000", "10.0.0.1", 7000),
        ("::1", "::1", 6379),
        ("[::1]", "::1", 6379),
        ("[::1]:80", "::1", 80),
    ] {
        let host = host.to_owned();
        assert_eq!(redis_address(text), Ok(Address { host, port }), "{text}");
    }
    let refused = redis_address("rediss://u:secret@h:1").unwrap_err();
    assert!(!refused.contains("secret"), "{refused}");
    for wrong in ["", "h:0", "h:x", "a b"] {
        assert!(redis_address(wrong).is_err(), "{wrong}");
    }
}
