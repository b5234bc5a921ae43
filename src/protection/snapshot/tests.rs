//! Snapshots: quick answers are those of reading, and no text is too much.

use std::sync::LazyLock;

use proptest::prelude::*;

use super::*;
use crate::protection::{Reason, SessionChange, Source};
use crate::spent::{by_this_thread, since};
use crate::sql::{Change, Value};

static SNAPSHOT: LazyLock<Snapshot> = LazyLock::new(|| {
    let reason = Reason {
        relation: "ext.secret".into(),
        via: Vec::new(),
        project: None,
        key: None,
        source: Source::Key,
    };
    Snapshot::builder("shop")
        .protect("ext", "secret", Arc::new(reason.clone()))
        .protect("ext", "Select", Arc::new(reason.clone()))
        .protect("ext", "order", Arc::new(reason))
        .foreign("ext", "open_data")
        .build(1)
});

const GAPS: &[&[u8]] = &[b" ", b" ", b"", b"\n"];

/// Text of the kind that SQL is made of, most of it nonsense.
fn soup() -> impl Strategy<Value = Vec<u8>> {
    const WORDS: &[&[u8]] = &[
        b"SELECT",
        b"select",
        b"from",
        b"secret",
        b"ext",
        b"open_data",
        b"plain",
        b"with",
        b"as",
        b"insert",
        b"into",
        b"update",
        b"set",
        b"delete",
        b"using",
        b"join",
        b"on",
        b"where",
        b"union",
        b"table",
        b"values",
        b"for",
        b"share",
        b"only",
        b"lateral",
        b"recursive",
        b"explain",
        b"analyze",
        b"prepare",
        b"execute",
        b"declare",
        b"copy",
        b"to",
        b"stdin",
        b"create",
        b"begin",
        b"commit",
        b"prepared",
        b"do",
        b"call",
        b"reset",
        b"all",
        b"set_config",
        b"nextval",
        b"lower",
        b"hg_enable_access_odps_orc_via_holo",
        b"x",
        b"(",
        b"(",
        b")",
        b")",
        b"[",
        b"]",
        b",",
        b".",
        b";",
        b"*",
        b"=",
        b"1",
        b"$1",
        b"'",
        b"''",
        b"'secret'",
        b"order",
        b"\"order\"",
        b"\"Select\"",
        b"\"",
        b"\"secret\"",
        b"U&\"s\\0065cret\"",
        b"$$",
        b"$a$",
        b"--",
        b"/*",
        b"*/",
        b"\n",
        b"E'\\",
        b"\\'",
        b"\xb6\xa9",
        b"\xff",
        b"\0",
    ];
    let word = proptest::sample::select(WORDS);
    let gap = proptest::sample::select(GAPS);
    proptest::collection::vec((word, gap), 0..24).prop_map(|parts| {
        parts
            .into_iter()
            .flat_map(|(word, gap)| [word, gap].concat())
            .collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(5_000))]

    /// What needs no reading is decided as reading would decide it. (For a statement that
    /// writes, nobody asks what it calls.)
    #[test]
    fn quick_answers_are_those_of_reading(text in soup(), escapes in any::<bool>()) {
        let backslash = if escapes { Backslash::Escapes } else { Backslash::Plain };
        let snapshot = &*SNAPSHOT;
        let names = NameContext::default();
        let read = snapshot.read(sql::analyze(&text, backslash), &names, &NOTHING, None);
        let quick = snapshot.quick.transaction(&text).or_else(|| snapshot.quick.decide(&text));
        if let Some(quick) = quick {
            if quick.effects.intersects(Effects::WRITES) {
                // What a failure leaves of it matters only where it reads MaxCompute.
                prop_assert!(read.effects.intersects(Effects::WRITES.union(Effects::UNDONE_WHOLE)));
            } else {
                prop_assert_eq!(quick.effects, read.effects);
            }
            prop_assert_eq!(&quick.protected, &read.protected);
            prop_assert_eq!(&quick.names, &read.names);
            prop_assert_eq!(&quick.changes, &read.changes);
            prop_assert_eq!(quick.hint, read.hint);
        }
    }

    /// A text that goes on as others that began so is one in which there is nothing to follow.
    #[test]
    fn what_goes_on_as_others_is_decided_as_they_are(
        begins in proptest::sample::select(vec!["select ", "Select a from plain where ", "with a as (select ", ""]),
        text in soup(),
        cut in any::<proptest::sample::Index>(),
    ) {
        let text = [begins.as_bytes(), &text].concat();
        let (head, rest) = text.split_at(cut.index(text.len() + 1));
        let session = SessionNames::new(NameContext::default());
        let beginning = SNAPSHOT.begins(head, &session, Lexing::default());
        if beginning.is_some_and(|beginning| beginning.goes_on(rest)) {
            let reading = sql::analyze(&text, Backslash::Plain);
            let read = SNAPSHOT.read(reading, session.names(), &NOTHING, None);
            prop_assert!(read.passes() && read.effects.is_empty(), "{:?}", read);
            let whole = SNAPSHOT.quick.decide(&text);
            prop_assert!(whole.is_some_and(|whole| whole.effects.is_empty()));
        }
    }

    /// What a head leaves unseen is taken to write, and to change anything.
    #[test]
    fn heads_cut_anywhere_are_taken_to_write(text in soup(), cut in 0_usize..200) {
        let head = &text[..cut.min(text.len())];
        let decision = SNAPSHOT.decide_prefix(head, &NameContext::default());
        prop_assert!(decision.effects.intersects(Effects::WRITES));
        prop_assert_eq!(decision.changes.last(), Some(&Change::Anything.into()));
    }
}

#[test]
fn a_name_in_another_encoding_may_be_any_that_is_not_ascii() {
    let reason = Reason {
        relation: "ext.订单".into(),
        via: Vec::new(),
        project: None,
        key: None,
        source: Source::Key,
    };
    let snapshot = Snapshot::builder("shop")
        .protect("ext", "订单", Arc::new(reason))
        .build(1);
    let protected = |text: &[u8]| {
        snapshot
            .decide(text, &NameContext::default())
            .protected
            .is_some()
    };
    // 订单 and 客户 in GBK.
    assert!(protected(b"select * from \xb6\xa9\xb5\xa5"));
    assert!(protected(b"select * from ext.\"\xbf\xcd\xbb\xa7\""));
    assert!(!protected(b"select '\xb6\xa9\xb5\xa5' from plain"));
    assert!(!protected("select * from 客户".as_bytes()));
    // Without such names it matters to nobody.
    let decision = SNAPSHOT.decide(b"select * from \xb6\xa9", &NameContext::default());
    assert!(decision.protected.is_none());
}

#[test]
fn a_text_is_decided_as_its_session_reads_it_and_remembered_for_those_that_read_it_so() {
    let reason = Reason {
        relation: "ext.订单".into(),
        via: Vec::new(),
        project: None,
        key: None,
        source: Source::Key,
    };
    let snapshot = Snapshot::builder("shop")
        .protect("ext", "订单", Arc::new(reason))
        .build(1);
    let session = SessionNames::new(NameContext::new("ann", "ext"));
    let utf8 = Lexing::default();
    let escaping = Lexing {
        backslash: Backslash::Escapes,
        ..utf8
    };
    let gbk = Lexing {
        encoding: sql::Encoding::named("GBK").expect("an encoding"),
        ..utf8
    };
    let blanks = " ".repeat(200);
    let escaped = format!(r"select '\'' from 订单 where{blanks} '\'' = a");
    let named = b"select 1 from \xb6\xa9\xb5\xa5, \xbf\xcd".to_vec();
    let other = b"select 1 from \xbf\xcd\xbb\xa7".to_vec();
    // Each of them in turn, and again from memory.
    for _ in 0..2 {
        for (text, lexing, expected) in [
            (escaped.as_bytes(), utf8, false),
            (escaped.as_bytes(), escaping, true),
            (&named, gbk, true),
            (&other, gbk, false),
            (b"select 1 from \xe8\xae\xa2\xe5\x8d\x95", gbk, false),
            (b"select 1 from \xe8\xae\xa2\xe5\x8d\x95", utf8, true),
        ] {
            let decision = snapshot.decide_in(text, &session, lexing);
            let text = String::from_utf8_lossy(text);
            assert_eq!(decision.protected.is_some(), expected, "{text} {lexing:?}");
        }
    }
    let suspect = Snapshot::builder("shop").foreign("ext", "订单").build(1);
    let decision = suspect.decide_in(&named, &session, gbk);
    assert_eq!(decision.suspects, [(None, "订单".to_owned())]);
}

/// Deep and long texts: no stack to overflow, no step that looks at everything again.
#[test]
fn hostile_texts_are_read_in_linear_time() {
    let snapshot = &*SNAPSHOT;
    let names = NameContext::default();
    for unit in [
        "(",
        "[",
        "((secret",
        "select(",
        "with secret as (",
        "with recursive secret as (",
        "with recursive a as (x) ",
        ", secret as (x)",
        "select * from (",
        "'",
        "$a",
        "$$",
        "/*",
        "--",
        "\"",
        "U&\"",
        "E'\\",
        "secret.",
        "secret,",
        "from secret join ",
        ";",
        "do 'secret",
        "call f('secret')",
        "union all ",
        "explain ",
        "insert into secret ",
        "savepoint a;",
        "create temp table a (b int);savepoint a;",
        "create view secret as select * from secret;",
        "drop table a, b;begin;",
        "set search_path = a, b;rollback;",
    ] {
        let text = format!(
            "with x as (select 1){}",
            unit.repeat((256 << 10) / unit.len())
        );
        let start = by_this_thread();
        snapshot.decide(text.as_bytes(), &names);
        snapshot.decide(unit.repeat((256 << 10) / unit.len()).as_bytes(), &names);
        // Quadratic work on 256 KiB takes minutes, linear work well under a second.
        assert!(since(start).as_secs() < 10, "{unit}");
    }
}

#[test]
fn a_name_that_is_a_keyword_is_met_between_quotes_or_behind_a_dot() {
    let snapshot = &*SNAPSHOT;
    let names = NameContext::default();
    for text in [
        "select a from plain order by a",
        "SELECT a, 'Select' FROM plain t WHERE t.a = 1.0 ORDER BY t.b",
        "insert into plain select 1 order by 1",
    ] {
        assert!(snapshot.quick(text.as_bytes()).is_some(), "{text}");
    }
    for text in [
        "select * from \"Select\"",
        "select * from ext.\"Select\"",
        "select * from \"order\"",
        "select * from ext.order",
        "select * from ext . ORDER",
        "select * from ext.\n order",
        "insert into plain select * from ext./* */order",
        "insert into plain select * from ext.-- \n order",
    ] {
        let decision = snapshot.decide(text.as_bytes(), &names);
        assert!(decision.protected.is_some(), "{text}");
    }
    let reason = Arc::clone(snapshot.protected().next().expect("one").2);
    let long = "É".repeat(31);
    let snapshot = Snapshot::builder("shop")
        .protect("ext", &long, reason)
        .build(1);
    let text = format!("select * from ext.\"{long}ÉÉ\"");
    let decision = snapshot.decide(text.as_bytes(), &names);
    assert!(
        decision.protected.is_some(),
        "a name that is cut in the catalogs"
    );
}

/// CTEs hide names however many they are.
#[test]
fn a_thousand_ctes_hide_what_they_hide() {
    let snapshot = &*SNAPSHOT;
    let list: Vec<String> = (0..1_000)
        .map(|number| format!("c{number} AS (SELECT 1)"))
        .collect();
    let list = list.join(", ");
    for (text, protected) in [
        (
            format!("WITH {list}, secret AS (SELECT 1) SELECT * FROM secret"),
            false,
        ),
        (
            format!("WITH secret AS (SELECT 1), {list} SELECT * FROM secret"),
            false,
        ),
        (
            format!("WITH {list}, c AS (SELECT * FROM secret), secret AS (SELECT 1) TABLE c"),
            true,
        ),
        (
            format!("SELECT * FROM (WITH {list}, secret AS (SELECT 1) TABLE secret) t, secret"),
            true,
        ),
        (
            format!("WITH RECURSIVE {list}, c AS (TABLE secret), secret AS (SELECT 1) TABLE c"),
            false,
        ),
    ] {
        let decision = snapshot.decide(text.as_bytes(), &NameContext::default());
        assert_eq!(
            decision.protected.is_some(),
            protected,
            "{}",
            &text[text.len() - 60..]
        );
    }
}

/// What the last of these texts reads, in a session that has sent all of them.
fn reads_protected(texts: &[&str]) -> bool {
    let mut session = SessionNames::new(NameContext::new("app", "ext, public"));
    let mut last = false;
    for text in texts {
        if *text == "(the catalogs are read)" {
            session.catalogs_were_read();
            continue;
        }
        let decision = SNAPSHOT.decide_in(text.as_bytes(), &session, Lexing::default());
        last = decision.protected.is_some();
        session.apply(&decision.changes);
    }
    last
}

#[test]
fn temporary_relations_hide_what_they_hide_for_as_long_as_they_are_there() {
    let read = "SELECT * FROM secret";
    assert!(reads_protected(&[read]));
    let made = "CREATE TEMP TABLE secret (a int)";
    assert!(!reads_protected(&[made, read]));
    assert!(!reads_protected(&[
        made,
        "DROP TABLE IF EXISTS other.secret",
        read
    ]));
    assert!(reads_protected(&[made, "DROP TABLE secret", read]));
    assert!(reads_protected(&[made, "DROP TABLE pg_temp.secret", read]));
    let until_commit = "CREATE TEMP TABLE secret ON COMMIT DROP AS SELECT 1 AS a";
    assert!(!reads_protected(&["BEGIN", until_commit, read]));
    assert!(reads_protected(&["BEGIN", until_commit, "COMMIT", read]));
    assert!(reads_protected(&[until_commit, read]));
    let kept = "CREATE TEMP TABLE secret (a int) ON COMMIT DELETE ROWS";
    assert!(!reads_protected(&["BEGIN", kept, "COMMIT", read]));
    let view = "CREATE TEMP VIEW secret AS SELECT * FROM plain";
    assert!(!reads_protected(&[view, "DROP TABLE plain", read]));
    assert!(reads_protected(&[view, "DROP TABLE plain CASCADE", read]));
}

#[test]
fn temporary_views_lead_where_they_lead() {
    let view = "CREATE TEMP VIEW mine AS SELECT * FROM secret";
    let read = "SELECT * FROM mine";
    assert!(reads_protected(&[view, read]));
    let again = "CREATE TEMP TABLE IF NOT EXISTS mine (a int)";
    assert!(reads_protected(&[view, again, read]));
    assert!(reads_protected(&[
        view,
        "SET search_path = public, pg_temp",
        read
    ]));
    let function = "CREATE FUNCTION pg_temp.f() RETURNS bigint LANGUAGE sql \
                    AS 'SELECT count(*) FROM ext.secret'";
    let call = "SELECT pg_temp.f()";
    assert!(reads_protected(&[
        function,
        "(the catalogs are read)",
        call
    ]));
    // PostgreSQL cuts both.
    let (long, longer) = ("m".repeat(64), "m".repeat(80));
    let view = format!("CREATE TEMP VIEW {long} AS SELECT * FROM secret");
    assert!(reads_protected(&[
        &view,
        &format!("SELECT * FROM {longer}")
    ]));
    let dropped = format!("DROP VIEW {longer}");
    assert!(!reads_protected(&[
        &view,
        &dropped,
        &format!("SELECT * FROM {long}")
    ]));
}

/// A call of what sets something is looked for, and changes what its body may change.
#[test]
fn what_a_function_may_set_is_not_known_behind_its_call() {
    let path = |local| Change::SearchPath {
        path: Value::Unknown,
        local,
    };
    let snapshot = Snapshot::builder("shop")
        .sets("public", "enter", vec![path(false)], false)
        .sets("ext", "enter", vec![path(true)], true)
        .sets("public", "reroute", Vec::new(), true)
        .build(1);
    let session = SessionNames::new(NameContext::new("app", "public"));
    let after = |text: &str| {
        let decision = snapshot.decide_in(text.as_bytes(), &session, Lexing::default());
        let mut after = session.clone();
        after.apply(&[Change::Begin.into()]);
        after.apply(&decision.changes);
        let known = after.names().search_path.is_some();
        (known, decision.effects.intersects(Effects::ROUTE_DOUBT))
    };
    assert_eq!(after("SELECT public.enter()"), (false, false));
    assert_eq!(after("SELECT 1, enter(a) FROM t"), (false, true));
    assert_eq!(after("SELECT reroute()"), (true, true));
    assert_eq!(after("SELECT ext.reroute(), other.enter()"), (true, false));
}

#[test]
fn what_a_session_makes_its_search_path() {
    let snapshot = Snapshot::builder("shop").build(1);
    let path = |sql: &str| {
        let decision = snapshot.decide(sql.as_bytes(), &NameContext::default());
        decision.changes.iter().find_map(|change| match change {
            SessionChange::Stated(Change::SearchPath {
                path: Value::Is(path),
                local: false,
            }) => Some(path.join("|")),
            _ => None,
        })
    };
    let certain = |sql, expected: &str| assert_eq!(path(sql).as_deref(), Some(expected), "{sql}");
    certain("SET search_path TO Ext", "ext");
    certain(
        "set session SEARCH_PATH = \"$user\", \"Mixed\", 'a b' ;",
        "$user|Mixed|a b",
    );
    certain("SET search_path = 'a, b'", "a, b");
    certain("SET SCHEMA 'ext'", "ext");
    certain(
        "SELECT set_config('search_path', 'ext, \"B\"', false)",
        "ext|B",
    );
    for sql in [
        "SET LOCAL search_path = ext",
        "SET search_path TO DEFAULT",
        "SET search_path = E'a\\x62'",
        "SET search_path = ext oops",
        "RESET search_path",
        "SELECT set_config('search_path', 'ext', true)",
        "SELECT set_config('search_path', 'ext', false) FROM plain",
        "SELECT set_config('search_path', 'ext', false), 1",
    ] {
        assert_eq!(path(sql), None, "{sql}");
    }
}

/// To a role that may not use a schema, a bare name never means what is there.
#[test]
fn a_schema_that_the_role_may_not_use_is_not_on_its_path() {
    let reason = SNAPSHOT.relations.any_protected().expect("one is");
    let snapshot = Snapshot::builder("shop")
        .protect("ext", "secret", reason)
        .homonym("desk", "secret")
        .barred("guest", "ext")
        .barred("clerk", "desk")
        .build(1);
    let mut session = SessionNames::new(NameContext::new("guest", "ext, desk"));
    let mut reads = |text: &str| {
        let decision = snapshot.decide_in(text.as_bytes(), &session, Lexing::default());
        session.apply(&decision.changes);
        decision.protected.is_some()
    };
    assert!(!reads("SELECT * FROM secret"));
    assert!(reads("SELECT * FROM ext.secret"));
    assert!(!reads("SET ROLE owner"));
    assert!(reads("SELECT * FROM secret"));
    assert!(!reads("SET search_path = desk, ext"));
    assert!(!reads("SELECT * FROM secret"));
    assert!(!reads("SET ROLE clerk"));
    assert!(reads("SELECT * FROM secret"));
}

#[test]
fn who_may_use_a_schema_is_read_again_when_it_may_have_changed() {
    let changes = |text: &str| {
        let decision = SNAPSHOT.decide(text.as_bytes(), &NameContext::default());
        decision.effects.intersects(Effects::CHANGES_CATALOG)
    };
    assert!(changes("GRANT USAGE ON SCHEMA ext TO guest"));
    assert!(changes("REVOKE ALL ON SCHEMA ext FROM PUBLIC"));
    assert!(changes("GRANT clerks TO guest"));
    assert!(!changes("GRANT SELECT ON ext.plain TO guest"));
}

/// The snapshot after a session has committed this.
fn after(ddl: &str) -> Snapshot {
    let mut session = SessionNames::new(NameContext::new("app", "ext, public"));
    let decision = SNAPSHOT.decide_in(ddl.as_bytes(), &session, Lexing::default());
    session.apply(&decision.changes);
    SNAPSHOT.after(&session, 2)
}

/// What DDL names is all that has to be assumed of it.
#[test]
fn only_ddl_that_does_not_name_what_it_makes_leaves_any_name_open() {
    for followed in [
        "CREATE TABLE t (a int)",
        "CREATE TEMP TABLE t AS SELECT 1",
        "CREATE SCHEMA IF NOT EXISTS s",
        "CREATE VIEW v AS SELECT * FROM plain",
        "CREATE FOREIGN TABLE t (a int) SERVER odps_server OPTIONS (project_name 'p')",
        "ALTER TABLE t RENAME TO u",
        "ALTER TABLE t ADD COLUMN b int",
        "DROP TABLE IF EXISTS t",
        "CREATE INDEX ON t (a)",
        "IMPORT FOREIGN SCHEMA p LIMIT TO (t) FROM SERVER odps_server INTO s",
    ] {
        assert!(!after(followed).is_blind(), "{followed}");
    }
    for open in [
        "IMPORT FOREIGN SCHEMA p FROM SERVER odps_server INTO s",
        "CREATE SCHEMA s CREATE VIEW v AS SELECT 1",
        "CREATE RULE r AS ON SELECT TO t DO INSTEAD SELECT 1",
        "ALTER SCHEMA s RENAME TO t",
        "DROP SCHEMA s CASCADE",
        "DO $$ BEGIN EXECUTE 'x'; END $$",
        "CALL p()",
    ] {
        assert!(after(open).is_blind(), "{open}");
    }
}

/// Whatever a view was made from may have been made elsewhere a moment ago.
#[test]
fn what_was_just_made_of_something_may_lead_to_maxcompute() {
    let snapshot = after("CREATE VIEW v AS SELECT * FROM plain");
    let names = NameContext::new("other", "public");
    let reads = |text: &str| {
        let decision = snapshot.decide(text.as_bytes(), &names);
        (
            decision.protected.is_some(),
            decision.effects.intersects(Effects::READS_FOREIGN),
        )
    };
    assert_eq!(reads("SELECT * FROM v"), (false, true));
    assert_eq!(reads("SELECT * FROM w"), (false, false));
    let snapshot = after("CREATE VIEW v AS SELECT * FROM ext.secret");
    let decision = snapshot.decide(b"SELECT * FROM v", &names);
    assert!(decision.protected.is_some());
}

#[test]
fn a_text_that_differs_in_its_values_alone_goes_on_as_the_one_before() {
    let session = SessionNames::new(NameContext::default());
    let goes_on = |head: &[u8], rest: &[u8]| {
        let beginning = SNAPSHOT.begins(head, &session, Lexing::default());
        beginning.map(|beginning| beginning.goes_on(rest))
    };
    let head = b"SELECT count(*) FROM public.plain WHERE id = ";
    for rest in [&b"7"[..], b"7; ", b"'x'", b"", b"7 and b = 9"] {
        assert_eq!(goes_on(head, rest), Some(true));
    }
    for rest in [
        &b"7; select 1"[..],
        b"(select 1)",
        b"7 union select * from secret",
        b"a.b",
        b"7 -- x",
        b"7 into x",
    ] {
        assert_eq!(goes_on(head, rest), Some(false));
    }
    // A name that is cut in two.
    assert_eq!(goes_on(b"SELECT a FROM plain, secr", b"et"), Some(false));
    assert_eq!(goes_on(b"SELECT a FROM secret", b""), None);
    assert_eq!(goes_on(b"SELECT", b" 1"), None);
    assert_eq!(goes_on(b"DELETE FROM plain WHERE a = ", b"1"), None);
    for odd in [&b"7\0"[..], "'ä'".as_bytes()] {
        assert_eq!(goes_on(head, odd), Some(false));
    }
    let snapshot = Snapshot::builder("shop").build(1);
    let beginning = snapshot
        .begins(head, &session, Lexing::default())
        .expect("one that helps");
    assert!(beginning.goes_on(b"'x'"));
    drop(snapshot);
    assert!(!beginning.goes_on(b"'x'"));
    // Names that end with a number.
    let reason = Reason {
        relation: "ext.t17".into(),
        via: Vec::new(),
        project: None,
        key: None,
        source: Source::Key,
    };
    let snapshot = Snapshot::builder("shop")
        .protect("ext", "t17", Arc::new(reason))
        .build(1);
    for (head, number, goes_on) in [
        (&b"select * from t"[..], &b"17"[..], false),
        (b"select * from t1", b"7", false),
        (b"select * from t", b"18", true),
        (b"select * from a", b"17;", true),
    ] {
        let beginning = snapshot
            .begins(head, &session, Lexing::default())
            .expect("one that helps");
        assert_eq!(beginning.goes_on(number), goes_on);
    }
}
