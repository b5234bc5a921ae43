//! What a reload keeps and what it makes anew.

use super::*;
use crate::config::{Address, Rule, TlsMode};

fn settings(names: &[&str]) -> Settings {
    let mut settings = Settings::for_upstream("unused", 80);
    settings.upstreams = names.iter().map(|name| named(name, 80)).collect();
    settings.listeners[0].upstream = Some(names[0].to_string());
    for upstream in &mut settings.upstreams {
        upstream.catalog.borrow = false;
    }
    settings
}

fn named(name: &str, port: u16) -> config::Upstream {
    let mut upstream = config::Upstream::at(vec![Address {
        host: name.into(),
        port,
    }]);
    upstream.name = name.into();
    upstream
}

fn of_sockets(
    settings: &Settings,
    sockets: &[SocketAddr],
    before: Option<&Upstreams>,
) -> Upstreams {
    let files = TlsFiles::read(settings).unwrap();
    Upstreams::new(settings, files, sockets, before, &Handle::current(), None)
}

fn make(settings: &Settings, before: Option<&Upstreams>) -> Upstreams {
    let sockets = settings.listeners[0].addresses.clone();
    of_sockets(settings, &sockets, before)
}

#[tokio::test]
async fn what_is_known_of_the_same_server_stays_known() {
    let mut settings = settings(&["one", "two"]);
    let before = make(&settings, None);
    before.all()[0].set_proven("bi");
    settings.upstreams[0].route.retry = false;
    settings.upstreams[1].addresses[0].port = 81;
    let after = make(&settings, Some(&before));
    let same = |number: usize| {
        let (old, new) = (&before.all()[number], &after.all()[number]);
        Arc::ptr_eq(old.knowledge(), new.knowledge())
    };
    assert!(same(0), "another rule, but the same server");
    assert!(!same(1), "another server");
    assert!(after.all()[0].is_proven("bi"));
    assert!(!after.all()[0].settings().route.retry);
    assert!(
        before.all()[0].settings().route.retry,
        "a value does not change"
    );
}

#[tokio::test]
async fn another_route_has_to_be_proven_anew() {
    let mut settings = settings(&["one"]);
    let before = make(&settings, None);
    before.all()[0].set_proven("bi");
    settings.upstreams[0].route.kind = config::RouteKind::CommonTable;
    assert!(!make(&settings, Some(&before)).all()[0].is_proven("bi"));
}

#[tokio::test]
async fn another_kind_of_tls_is_another_server() {
    let mut settings = settings(&["one"]);
    let before = make(&settings, None);
    settings.upstreams[0].tls.mode = TlsMode::Require;
    let after = make(&settings, Some(&before));
    assert!(!Arc::ptr_eq(
        before.all()[0].knowledge(),
        after.all()[0].knowledge()
    ));
}

#[tokio::test]
async fn upstreams_with_the_same_databases_do_not_learn_from_each_other() {
    let both = make(&settings(&["one", "two"]), None);
    let [one, two] = both.all() else { panic!() };
    one.set_proven("bi");
    one.knowledge().keys().learn("byok");
    assert!(!two.is_proven("bi"));
    assert_eq!(two.knowledge().keys().records(), 0);
}

#[tokio::test]
async fn a_rule_says_who_is_served_where() {
    let mut settings = settings(&["one", "two", "three"]);
    settings.listeners[0].rules = vec![
        Rule {
            user: "bi_*".into(),
            database: "*".into(),
            upstream: "two".into(),
        },
        Rule {
            user: "dev".into(),
            database: "sales".into(),
            upstream: "three".into(),
        },
    ];
    let upstreams = make(&settings, None);
    let listener = upstreams.listener(0).unwrap();
    let leads = |user, database| listener.upstream_of(user, database).map(|to| to.name());
    assert_eq!(leads("bi_1", "sales"), Some("two"));
    assert_eq!(leads("dev", "sales@wh1"), Some("three"));
    assert_eq!(leads("dev", "other"), Some("one"));
    assert_eq!(listener.upstreams().len(), 3);
    settings.listeners[0].upstream = None;
    let upstreams = make(&settings, None);
    let listener = upstreams.listener(0).unwrap();
    assert!(listener.upstream_of("dev", "other").is_none());
}

#[tokio::test]
async fn a_socket_whose_address_is_gone_keeps_its_listener() {
    let before_settings = settings(&["one"]);
    let sockets = before_settings.listeners[0].addresses.clone();
    let before = make(&before_settings, None);
    let mut after_settings = settings(&["one"]);
    after_settings.listeners[0].addresses = vec!["127.0.0.1:7000".parse().unwrap()];
    let after = of_sockets(&after_settings, &sockets, Some(&before));
    let kept = after.listener(0).unwrap();
    let led_to = kept.upstream_of("bi", "dw").unwrap();
    assert!(
        Arc::ptr_eq(led_to, &after.all()[0]),
        "to what is in force now"
    );
}

#[tokio::test]
async fn a_socket_whose_listener_was_moved_has_what_that_says_now() {
    let before_settings = settings(&["one", "two"]);
    let sockets = before_settings.listeners[0].addresses.clone();
    let before = make(&before_settings, None);
    let mut moved = settings(&["one", "two"]);
    moved.listeners[0].addresses = vec!["127.0.0.1:7000".parse().unwrap()];
    moved.listeners[0].upstream = Some("two".into());
    let leads = |upstreams: &Upstreams, socket| {
        let listener = upstreams.listener(socket).unwrap();
        listener.upstream_of("bi", "dw").unwrap().name().to_owned()
    };
    let after = of_sockets(&moved, &sockets, Some(&before));
    assert_eq!(leads(&after, 0), "two");
    // Of two listeners one is gone: what the other says is not for its socket.
    let both = [sockets[0], "127.0.0.1:7000".parse().unwrap()];
    let mut two = settings(&["one", "two"]);
    two.listeners.push(moved.listeners[0].clone());
    let before = of_sockets(&two, &both, None);
    let after = of_sockets(&moved, &both, Some(&before));
    assert_eq!([leads(&after, 0), leads(&after, 1)], ["one", "two"]);
    // Of two one is moved: its own socket has what it says now, and not the other's.
    let mut one_moved = two.clone();
    one_moved.listeners[1].addresses = vec!["127.0.0.1:7001".parse().unwrap()];
    one_moved.listeners[1].upstream = Some("one".into());
    let after = of_sockets(&one_moved, &both, Some(&before));
    assert_eq!([leads(&after, 0), leads(&after, 1)], ["one", "one"]);
}

#[test]
fn each_upstream_keeps_its_key_records_in_a_file_of_its_own() {
    let mut keys = Settings::for_upstream("holo", 80).keys;
    keys.snapshot = Some("/var/lib/osprey/keys.json".into());
    let path = |name| keys_of(&named(name, 80), &keys).snapshot.unwrap();
    assert_eq!(path("default").to_str(), Some("/var/lib/osprey/keys.json"));
    assert_eq!(
        path("prod.eu").to_str(),
        Some("/var/lib/osprey/keys.prod.eu.json")
    );
}

#[tokio::test]
async fn the_end_of_every_certificate_is_known() {
    use std::time::{Duration, SystemTime};

    let directory = tempfile::tempdir().unwrap();
    // Certificates have whole seconds.
    let until = SystemTime::UNIX_EPOCH + Duration::from_secs(4_000_000_000);
    let (certificate, key) = config::certificate::tests::made(SystemTime::UNIX_EPOCH, until);
    let [chain, private] = ["a.crt", "a.key"].map(|name| directory.path().join(name));
    std::fs::write(&chain, certificate).unwrap();
    std::fs::write(&private, key).unwrap();
    let mut settings = settings(&["one", "two"]);
    settings.listeners[0].tls = Some(config::ListenTls {
        certificate: chain.clone(),
        key: private.clone(),
        client_ca: None,
        required: false,
    });
    settings.upstreams[1].tls.certificate = Some(chain);
    settings.upstreams[1].tls.key = Some(private);
    let expected = [
        (ShownTo::Clients, "127.0.0.1:6432"),
        (ShownTo::Upstream, "two"),
    ];
    let expected = expected.map(|(shown_to, name)| Certificate {
        shown_to,
        name: name.into(),
        expires: until,
    });
    assert_eq!(make(&settings, None).certificates(), expected);
}
