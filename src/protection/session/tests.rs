//! What a session has changed and made, through transactions and savepoints, and how its bounds err.

use super::*;

fn stated(change: Change) -> SessionChange {
    change.into()
}

fn path(schema: &str, local: bool) -> SessionChange {
    stated(Change::SearchPath {
        path: Value::Is(vec![schema.to_owned()]),
        local,
    })
}

fn made(name: &str, temporary: bool) -> SessionChange {
    SessionChange::Made {
        name: (None, name.to_owned()),
        temporary,
        until_commit: false,
        stored: false,
        first: None,
        leads: Leads::ToMaxCompute,
    }
}

fn dropped(schema: Option<&str>, name: &str) -> Change {
    Change::Dropped {
        name: (schema.map(Into::into), name.into()),
        cascade: false,
    }
}

fn session() -> SessionNames {
    SessionNames::new(NameContext::new("ann", "\"$user\", public"))
}

fn searched(session: &SessionNames) -> String {
    let path = session.names().search_path.as_ref();
    path.map_or("?".to_owned(), |path| path.join(","))
}

#[test]
fn settings_follow_transactions_and_savepoints() {
    let mut session = session();
    let mut after = |changes: &[SessionChange]| {
        session.apply(changes);
        searched(&session)
    };
    assert_eq!(after(&[path("a", true)]), "$user,public", "no transaction");
    assert_eq!(after(&[stated(Change::Begin)]), "$user,public");
    assert_eq!(after(&[path("a", true)]), "a");
    assert_eq!(after(&[stated(Change::Savepoint("s".into()))]), "a");
    assert_eq!(after(&[path("b", false)]), "b");
    assert_eq!(after(&[stated(Change::Savepoint("s".into()))]), "b");
    assert_eq!(after(&[path("c", true)]), "c");
    assert_eq!(after(&[stated(Change::RollbackTo("s".into()))]), "b");
    assert_eq!(after(&[path("c", true)]), "c");
    assert_eq!(after(&[stated(Change::Commit)]), "b");
    assert_eq!(after(&[stated(Change::Begin), path("d", false)]), "d");
    assert_eq!(after(&[stated(Change::Rollback)]), "b");
    assert_eq!(after(&[stated(Change::DiscardAll)]), "$user,public");
}

#[test]
fn where_queries_run_is_followed_from_the_login_on() {
    let set = |resource, local| stated(Change::ComputingResource { resource, local });
    assert_eq!(session().computing_resource(), None);
    let mut session = session().with_computing_resource(Some(ComputingResource::Serverless));
    let mut after = |changes: &[SessionChange]| {
        session.apply(changes);
        session.computing_resource()
    };
    let (serverless, local) = (
        Some(ComputingResource::Serverless),
        Some(ComputingResource::Local),
    );
    assert_eq!(after(&[]), serverless);
    assert_eq!(
        after(&[set(Value::Is(ComputingResource::Local), false)]),
        local
    );
    assert_eq!(
        after(&[set(Value::Is(ComputingResource::Serverless), true)]),
        local
    );
    let in_block = [
        stated(Change::Begin),
        set(Value::Is(ComputingResource::Serverless), true),
    ];
    assert_eq!(after(&in_block), serverless);
    assert_eq!(after(&[stated(Change::Commit)]), local);
    assert_eq!(after(&[set(Value::Unknown, false)]), None);
    assert_eq!(after(&[set(Value::Default, false)]), serverless);
    assert_eq!(
        after(&[set(Value::Is(ComputingResource::Local), false)]),
        local
    );
    assert_eq!(after(&[stated(Change::DiscardAll)]), serverless);
}

#[test]
fn a_role_that_is_not_known_makes_its_schema_unknown() {
    let mut session = session();
    let role = |role| stated(Change::Role { role, local: false });
    session.apply(&[role(Value::Is("bob".into()))]);
    assert_eq!(session.names().user, "bob");
    session.apply(&[role(Value::Unknown)]);
    assert_eq!(searched(&session), "?");
    session.apply(&[path("a", false)]);
    assert_eq!(searched(&session), "a");
    let user = |user, local| stated(Change::User { user, local });
    session.apply(&[user(Value::Default, false), path("$user", false)]);
    assert_eq!(session.names().user, "ann");
    assert_eq!(searched(&session), "$user");
    session.apply(&[role(Value::Is("bob".into())), stated(Change::Begin)]);
    session.apply(&[user(Value::Is("eve".into()), true)]);
    assert_eq!(session.names().user, "eve");
    session.apply(&[stated(Change::Commit)]);
    assert_eq!(session.names().user, "bob");
}

/// As PostgreSQL 15 answered each of these with `current_user`.
#[test]
fn a_role_of_the_login_is_what_a_reset_comes_back_to() {
    let is = |name: &str| Value::Is(name.to_owned());
    let role = |role| Change::Role { role, local: false };
    let user = |user| Change::User { user, local: false };
    let mut session = session().with_role(Some("team".into()));
    let mut after = |change| {
        session.apply(&[stated(change)]);
        session.names().user.clone()
    };
    assert_eq!(after(Change::Begin), "team");
    assert_eq!(after(role(is("none"))), "ann");
    assert_eq!(after(role(Value::Default)), "team");
    assert_eq!(after(role(is("bob"))), "bob");
    assert_eq!(after(user(is("eve"))), "eve");
    assert_eq!(after(user(Value::Default)), "team");
    assert_eq!(after(role(is("bob"))), "bob");
    assert_eq!(after(Change::DiscardAll), "team");
}

#[test]
fn what_a_session_made_is_forgotten_when_the_catalogs_tell() {
    let mut session = session();
    session.apply(&[made("t", true), made("v", false)]);
    session.apply(&[stated(dropped(None, "x"))]);
    assert!(session.own().temporary(b"t").is_some() && session.own().is_open(b"x"));
    assert_eq!(
        session
            .own()
            .made(Some(b"s"), b"v", session.names())
            .count(),
        1
    );
    session.apply(&[stated(Change::Begin)]);
    session.catalogs_were_read();
    assert_eq!(
        session.own().made(None, b"v", session.names()).count(),
        1,
        "not committed"
    );
    session.apply(&[stated(Change::Commit)]);
    session.catalogs_were_read();
    assert_eq!(session.own().made(None, b"v", session.names()).count(), 0);
    assert!(
        session.own().temporary(b"t").is_some(),
        "they do not tell of these"
    );
    session.apply(&[stated(Change::Anything)]);
    assert!(session.own().is_open(b"y") && session.own().temporary(b"t").is_none());
}

#[test]
fn memory_is_bounded_and_the_rest_is_the_safe_side() {
    let mut session = session();
    session.apply(&[stated(Change::Begin)]);
    for number in 0..2_000 {
        session.apply(&[made(&number.to_string(), number % 2 == 0)]);
        session.apply(&[stated(Change::Savepoint(number.to_string()))]);
    }
    let is_known = |number: &i32| {
        let name = number.to_string();
        session
            .own()
            .made(None, name.as_bytes(), session.names())
            .next()
            .is_some()
    };
    assert!(session.saved.len() <= MAX_SAVED && (0..2_000).filter(is_known).count() <= 1_000);
    // What holds now is known. What a forgotten savepoint comes back to is not.
    assert!(!session.own().is_open(b"x") && session.names().search_path.is_some());
    session.apply(&[stated(Change::RollbackTo("1990".into()))]);
    assert!(!session.own().is_open(b"x") && session.names().search_path.is_some());
    session.apply(&[stated(Change::RollbackTo("5".into()))]);
    assert!(session.own().is_open(b"x") && session.names().search_path.is_none());
    assert!(session.has_route() && session.lexings().len() > 1);
    session.apply(&[stated(Change::Rollback)]);
    assert!(session.own().is_empty() && session.names().search_path.is_some());
}

#[test]
fn how_texts_are_read_follows_transactions_and_reports() {
    let encoding = |name| Encoding::named(name).expect("an encoding");
    let set = |name, local| {
        let encoding = Value::Is(encoding(name));
        stated(Change::Encoding { encoding, local })
    };
    let gbk = Lexing {
        encoding: encoding("GBK"),
        ..Lexing::default()
    };
    let mut session = session().with_lexing(gbk);
    assert!(session.lexing_is(gbk) && session.lexings() == [gbk]);
    session.apply(&[stated(Change::Begin), set("SJIS", false), set("UTF8", true)]);
    assert_eq!(session.lexings(), [Lexing::default()]);
    session.apply(&[stated(Change::Commit)]);
    assert_eq!(session.lexings()[0].encoding, encoding("SJIS"));
    session.apply(&[stated(Change::DiscardAll)]);
    assert!(session.lexing_is(gbk), "as at login");
    // What is not known may be anything, until the server says it.
    session.apply(&[stated(Change::Anything)]);
    assert!(!session.lexing_is(gbk) && session.lexings().len() > 2);
    session.lexing_was_reported(gbk);
    assert!(session.lexing_is(gbk));
    // How long a value lasts the statements say, whatever it is.
    session.apply(&[stated(Change::Begin), set("UTF8", true)]);
    session.lexing_was_reported(Lexing {
        backslash: Backslash::Escapes,
        encoding: encoding("SJIS"),
    });
    session.apply(&[stated(Change::Commit)]);
    assert_eq!(session.lexings()[0].encoding, encoding("GBK"));
    assert_eq!(session.lexings()[0].backslash, Backslash::Escapes);
}

#[test]
fn a_savepoint_that_is_released_is_forgotten() {
    let mut session = SessionNames::new(NameContext::new("ann", "pub"));
    let mut after = |change| {
        session.apply(&[stated(change)]);
        session.names().search_path.clone()
    };
    let path = |path: &str| Change::SearchPath {
        path: Value::Is(vec![path.into()]),
        local: false,
    };
    after(Change::Begin);
    let at_first = after(Change::Savepoint("s".into()));
    after(path("other"));
    after(Change::Savepoint("s".into()));
    after(Change::Release("s".into()));
    assert_eq!(after(Change::RollbackTo("s".into())), at_first);
    // However many there were, nothing is in doubt for it.
    for number in 0..2 * MAX_SAVED {
        after(Change::Savepoint(number.to_string()));
        after(Change::Release(number.to_string()));
    }
    assert_eq!(after(Change::Commit), at_first);
}
