//! Several upstreams and listeners: what each takes, and the mistakes that only they can have.

use super::*;

const TWO: &str = "\
[[upstream]]
name = 'a'
address = 'a:80'
[[upstream]]
name = 'b'
addresses = ['b1:80', 'b2']
";

/// [`TWO`] with something behind it.
fn two(text: &str) -> String {
    format!("{TWO}{text}")
}

/// Loads a file alone, without any flag.
fn load_alone(text: &str) -> Result<Loaded, Vec<Problem>> {
    let (_directory, path) = file(text);
    load(Some(path), &Environment::default(), &[])
}

fn settings(text: &str) -> Settings {
    load_alone(text)
        .unwrap_or_else(|problems| panic!("{problems:#?}"))
        .settings
}

/// The mistakes of a file alone, by line.
fn mistakes(text: &str) -> Vec<String> {
    let problems = load_alone(text).map(|loaded| loaded.settings).unwrap_err();
    without_directory(&problems)
}

/// The only mistake of a file.
#[track_caller]
fn mistake(text: &str, wanted: &str) {
    let mistakes = mistakes(text);
    assert!(
        mistakes.len() == 1 && mistakes[0].contains(wanted),
        "{text:?} gave {mistakes:#?}, not {wanted:?}"
    );
}

#[test]
fn each_upstream_has_its_own_beside_what_holds_for_all() {
    let settings = settings(
        "\
[[upstream]]
name = 'a'
address = 'a:80'
[[upstream]]
name = 'b'
addresses = ['b1:80', 'b2']
connect_timeout = '3s'
max_sessions = 7
[upstream.tls]
mode = 'require'
[upstream.route]
scope = 'session'
retry = false
[upstream.protect]
projects = ['own']
tables = ['own.*']
[[upstream.protect.project]]
name = 'everywhere'
encryption = 'none'
[upstream.catalog]
borrow = false
servers = ['s']
[[listener]]
addresses = ['127.0.0.1:1']
upstream = 'a'
[[listener]]
addresses = ['127.0.0.1:2', '127.0.0.1:3']
proxy_protocol = 'require'
proxy_networks = ['10.0.0.0/8', '192.0.2.1']
[[listener.rule]]
user = 'bi_*'
upstream = 'a'
[[listener.rule]]
user = 'etl_*'
database = 'sales'
upstream = 'b'
[route]
kind = 'auto'
scope = 'statement'
[protect]
projects = ['everywhere', 'other']
tables = ['all.*']
[catalog]
borrow_timeout = '2s'
refresh = '1h'
",
    );
    let [a, b] = settings.upstreams.as_slice() else {
        panic!("{:#?}", settings.upstreams);
    };
    assert_eq!((a.name.as_str(), b.name.as_str()), ("a", "b"));
    let addresses: Vec<_> = b.addresses.iter().map(Address::to_string).collect();
    assert_eq!(addresses, ["b1:80", "b2:80"]);
    assert_eq!(
        (a.connect_timeout, b.connect_timeout),
        (Duration::from_secs(10), Duration::from_secs(3))
    );
    assert_eq!((a.max_sessions, b.max_sessions), (None, Some(7)));
    assert_eq!(
        (a.tls.mode, b.tls.mode),
        (TlsMode::Prefer, TlsMode::Require)
    );
    assert_eq!(
        (a.route.kind, b.route.kind),
        (RouteKind::Auto, RouteKind::Auto)
    );
    assert_eq!(
        (a.route.scope, b.route.scope),
        (Scope::Statement, Scope::Session)
    );
    assert_eq!((a.route.retry, b.route.retry), (true, false));
    let projects = |upstream: &Upstream| -> Vec<_> {
        let rules = upstream.protect.projects.iter();
        rules
            .map(|rule| (rule.name.clone(), rule.encryption))
            .collect()
    };
    assert_eq!(
        projects(a),
        [("everywhere".into(), Kms), ("other".into(), Kms)]
    );
    assert_eq!(
        projects(b),
        [
            ("own".into(), Kms),
            ("everywhere".into(), ConfiguredEncryption::None),
            ("other".into(), Kms)
        ]
    );
    let tables = [
        values::table("own.*").unwrap(),
        values::table("all.*").unwrap(),
    ];
    assert_eq!(b.protect.tables, tables);
    assert_eq!(a.protect.tables, tables[1..]);
    assert_eq!((a.catalog.borrow, b.catalog.borrow), (true, false));
    assert_eq!(
        (a.catalog.servers[0].as_str(), b.catalog.servers[0].as_str()),
        ("odps_server", "s")
    );
    for upstream in [a, b] {
        assert_eq!(upstream.catalog.borrow_timeout, Duration::from_secs(2));
        assert_eq!(upstream.catalog.refresh, Duration::from_hours(1));
    }

    let [first, second] = settings.listeners.as_slice() else {
        panic!("{:#?}", settings.listeners);
    };
    assert_eq!(first.upstream.as_deref(), Some("a"));
    assert_eq!(first.proxy_protocol, ProxyProtocol::Off);
    assert_eq!(second.upstream, None);
    assert_eq!(second.addresses.len(), 2);
    assert_eq!(second.proxy_protocol, ProxyProtocol::Require);
    let networks: Vec<_> = second.proxy_networks.iter().map(IpNet::to_string).collect();
    assert_eq!(networks, ["10.0.0.0/8", "192.0.2.1/32"]);
    let rule = |user: &str, database: &str, upstream: &str| Rule {
        user: user.into(),
        database: database.into(),
        upstream: upstream.into(),
    };
    assert_eq!(
        second.rules,
        [rule("bi_*", "*", "a"), rule("etl_*", "sales", "b")]
    );
}

#[test]
fn with_one_upstream_every_listener_leads_to_it() {
    let text = "[upstream]\nname = 'prod'\naddresses = ['a:1', 'b:1']\nmax_sessions = 5\n\
                [listen]\nproxy_protocol = 'accept'\nproxy_networks = ['::/0']\n";
    let short = settings(text);
    assert_eq!(short.upstream().name, "prod");
    assert_eq!(short.upstream().addresses.len(), 2);
    assert_eq!(short.upstream().max_sessions, Some(5));
    assert_eq!(short.listeners[0].upstream.as_deref(), Some("prod"));
    assert_eq!(short.listeners[0].proxy_protocol, ProxyProtocol::Accept);

    let long = settings(
        "[[upstream]]\nname = 'prod'\naddress = 'a:1'\n[[listener]]\naddresses = ['127.0.0.1:1']\n\
         [[listener.rule]]\nuser = 'x'\nupstream = 'prod'\n",
    );
    assert_eq!(long.listeners[0].upstream.as_deref(), Some("prod"));
    let mixed = settings("[[upstream]]\nname = 'prod'\naddress = 'a:1'\n");
    assert_eq!(mixed.listeners[0].upstream.as_deref(), Some("prod"));
    assert_eq!(mixed.listeners[0].addresses, Listener::default().addresses);
}

#[test]
fn a_mistake_is_named_by_the_line_of_the_element_that_has_it() {
    let text = "\
[[upstream]]
name = 'a'
address = 'a:80'
[[upstream]]
name = 'b b'
adress = 'b:80'
connect_timeout = 'soon'
[upstream.tls]
mode = 'never'
ca = 7
[upstream.route]
knid = 'sqe'
[[upstream.protect.project]]
encryption = 'kms'
[[upstream]]
address = 'c:0'
[upstream.catalog]
password = 'hunter2'
[[listener]]
addresses = ['127.0.0.1:1']
upstream = 'a'
[[listener]]
proxy_networks = ['10.0.0.0/8', 'lan']
proxy_protocol = 'v2'
[[listener.rule]]
database = 'dw@wh'
upstraem = 'a'
[limits]
max_logins = 0
max_logins_per_address = 'many'
tcp_keepalive = 'never'
workers = 0
";
    let mut mistakes = mistakes(text);
    let starts = [
        ":12: upstream.route.knid: is not a setting; did you mean \"kind\"?",
        ":13: upstream.protect.project.name: is missing: the MaxCompute project",
        ":15: upstream.name: is missing: what rules, metrics and logs call it",
        ":16: upstream.address: \"c:0\" is not an upstream",
        ":18: upstream.catalog.password: a password does not belong in this file",
        ":22: listener.addresses: is missing: where clients connect",
        ":23: listener.proxy_networks: \"lan\" is not a network",
        ":24: listener.proxy_protocol: \"v2\" is none of off, accept, require",
        ":25: listener.rule.upstream: is missing: the name of an [[upstream]]",
        ":26: listener.rule.database: \"dw@wh\" names a warehouse too",
        ":27: listener.rule.upstraem: is not a setting; did you mean \"upstream\"?",
        ":29: limits.max_logins: must be above 0",
        ":30: limits.max_logins_per_address: expects a whole number above 0",
        ":31: limits.tcp_keepalive: \"never\" is not a duration; write",
        ":32: limits.workers: must be above 0",
        ":4: upstream.address: is missing: where is this Hologres instance?",
        ":5: upstream.name: \"b b\" is not a name for an upstream",
        ":6: upstream.adress: is not a setting; did you mean \"address\"?",
        ":7: upstream.connect_timeout: \"soon\" is not a duration",
        ":9: upstream.tls.mode: \"never\" is none of",
        ":10: upstream.tls.ca: expects text in double quotes, found an integer",
    ];
    mistakes.sort();
    let mut starts = starts.to_vec();
    starts.sort_unstable();
    for (mistake, start) in mistakes.iter().zip(&starts) {
        assert!(mistake.starts_with(start), "{mistake:?} is not {start:?}");
    }
    // Of the second listener, nothing is known of where it leads.
    assert_eq!(mistakes.len(), starts.len(), "{mistakes:#?}");
}

#[test]
fn names_are_unique_and_lead_somewhere() {
    mistake(
        "[[upstream]]\nname = 'a'\naddress = 'x'\n[[upstream]]\nname = 'a'\naddress = 'y'\n\
         [[listener]]\naddresses = ['127.0.0.1:1']\nupstream = 'a'\n",
        ":5: upstream.name: \"a\" is another upstream's name (",
    );
    let listener = "[[listener]]\naddresses = ['127.0.0.1:1']\n";
    mistake(
        &two(&format!("{listener}upstream = 'c'\n")),
        ":9: listener.upstream: \"c\" is the name of no upstream; ",
    );
    mistake(
        &two(&format!(
            "{listener}[[listener.rule]]\nupstream = 'staging'\n"
        )),
        ":10: listener.rule.upstream: \"staging\" is the name of no upstream; there is a, b",
    );
    mistake(
        &two(listener),
        ":7: listener: leads nowhere, since there are several upstreams; set",
    );
    mistake(
        TWO,
        "listen: leads nowhere, since there are several upstreams; write [[listener]]",
    );
    let text = two(&format!("{listener}upstream = 'a'\n"));
    let warnings = without_directory(&load_alone(&text).unwrap().warnings);
    assert_eq!(warnings, [":4: upstream: no listener leads to \"b\""]);
    mistake(
        "[[upstream]]\naddress = 'x'\n[[listener]]\naddresses = ['127.0.0.1:1']\nupstream = 'a'\n",
        ":1: upstream.name: is missing",
    );
}

#[test]
fn no_session_matches_two_rules() {
    let rules = |rules: &[(&str, &str)]| {
        let text = rules.iter().fold(String::new(), |text, (user, database)| {
            format!(
                "{text}[[listener.rule]]\nuser = '{user}'\ndatabase = '{database}'\nupstream = 'a'\n"
            )
        });
        two(&format!(
            "[[listener]]\naddresses = ['127.0.0.1:1']\nupstream = 'b'\n{text}"
        ))
    };
    for apart in [
        [("bi_*", "*"), ("etl_*", "*")],
        [("*", "sales"), ("*", "sales_?")],
        [("*_ro", "a*"), ("bi_*", "b*")],
        // Names are taken letter by letter, as Hologres takes them.
        [("*", "dw"), ("*", "DW")],
    ] {
        settings(&rules(&apart));
    }
    mistake(
        &rules(&[("x", "*"), ("bi_*", "sales*"), ("*_RO", "*_eu")]),
        ":18: listener.rule: overlaps with an earlier rule",
    );
    mistake(
        &rules(&[("bi_*", "sales*"), ("*_RO", "*_eu")]),
        ": both match user \"bi_RO\" with database \"sales_eu\"; make",
    );
    mistake(
        &rules(&[("*", "dw"), ("*", "d?")]),
        "both match any user with database \"dw\"",
    );
}

#[test]
fn no_two_sockets_have_one_address() {
    let listeners = |lists: &[&str]| {
        let text = lists.iter().fold(String::new(), |text, list| {
            format!("{text}[[listener]]\naddresses = [{list}]\nupstream = 'a'\n")
        });
        let b = "[[listener]]\naddresses = ['127.0.0.1:99']\nupstream = 'b'\n";
        two(&format!("{text}{b}"))
    };
    settings(&listeners(&[
        "'127.0.0.1:1', '127.0.0.2:1', '[::1]:1'",
        "'0.0.0.0:2', '[::1]:2'",
        "'127.0.0.1:0', '127.0.0.1:0'",
    ]));
    mistake(
        &listeners(&["'127.0.0.1:1',\n'127.0.0.1:1'"]),
        ":9: listener.addresses: 127.0.0.1:1 is listed twice",
    );
    mistake(
        &listeners(&["'127.0.0.1:1'", "'127.0.0.1:2', '127.0.0.1:1'"]),
        ":11: listener.addresses: 127.0.0.1:1 is listed twice (",
    );
    mistake(
        &listeners(&["'127.0.0.1:1', '0.0.0.0:1'"]),
        "0.0.0.0:1 cannot be had beside 127.0.0.1:1: 0.0.0.0:1 takes every address",
    );
    mistake(
        &listeners(&["'[::]:1'", "'127.0.0.1:1'"]),
        "[::]:1 takes every address of this machine, of IPv4 too",
    );
    mistake(
        &listeners(&["'0.0.0.0:9464'"]),
        "observe.metrics: 127.0.0.1:9464 is where clients connect (0.0.0.0:9464)",
    );
    let osprey_itself = listeners(&["'127.0.0.1:1'"]).replace("b2", "localhost:1");
    mistake(
        &osprey_itself,
        ":6: upstream.addresses: localhost:1 is where Osprey itself listens",
    );
    let twice = listeners(&["'127.0.0.1:1'"]).replace("b2", "b1:80");
    mistake(&twice, ":6: upstream.addresses: b1:80 is listed twice");
}

#[test]
fn the_short_and_the_long_form_do_not_mix() {
    mistake(
        "[upstream]\naddress = 'a'\n[listen]\naddresses = ['127.0.0.1:1']\n[[listener]]\n\
         addresses = ['127.0.0.1:2']\n",
        ":5: listener: stands beside [listen] (",
    );
    mistake(
        "[upstream]\naddress = 'a'\naddresses = ['b']\n",
        ":3: upstream.addresses: stands beside address (",
    );
    mistake("upstream = []\n", ":1: upstream: is empty");
    mistake(
        "[upstream]\naddresses = []\n",
        ":2: upstream.addresses: is empty",
    );
    mistake(
        "upstream = 'a'\n",
        ":1: upstream: expects a section, [upstream], found a string",
    );
    mistake(
        "[listener]\naddresses = []\n[upstream]\naddress = 'a'\n",
        ":1: listener: expects sections, each headed [[listener]], found a table",
    );

    let text = two("[[listener]]\naddresses = ['127.0.0.1:1']\nupstream = 'a'\n");
    let (_directory, path) = file(&text);
    let environment = environment(&[("OSPREY_UPSTREAM", "x:1")]);
    let flags = [flag(Key::Listen, "--listen", "127.0.0.1:5")];
    let problems = load(Some(path), &environment, &flags).unwrap_err();
    let texts: Vec<_> = problems.iter().map(Problem::to_string).collect();
    for (text, name, array, line) in [
        (&texts[0], "OSPREY_UPSTREAM", "[[upstream]]", ":1)"),
        (&texts[1], "--listen", "[[listener]]", ":7)"),
    ] {
        assert!(
            text.starts_with(&format!("{name}: the file has {array} (")),
            "{text}"
        );
        assert!(text.contains(line), "{text}");
        assert!(text.contains(&format!("leave {name} away")), "{text}");
    }
    assert_eq!(texts.len(), 2);
}

#[test]
fn flags_hold_for_the_upstreams_that_say_nothing_else() {
    let text = "\
[[upstream]]
name = 'a'
address = 'a'
[[upstream]]
name = 'b'
address = 'b'
[upstream.route]
kind = 'sqe'
[[upstream.protect.project]]
name = 'p'
encryption = 'none'
[upstream.catalog]
user = 'own'
[[listener]]
addresses = ['127.0.0.1:1']
upstream = 'a'
[[listener.rule]]
user = 'b'
upstream = 'b'
[route]
kind = 'common-table'
";
    let (_directory, path) = file(text);
    let environment = environment(&[("OSPREY_SCOPE", "statement")]);
    let flags = [
        flag(Key::Route, "--route", "auto"),
        flag(Key::EncryptedProject, "--encrypted-project", "p"),
        flag(Key::EncryptedProject, "--encrypted-project", "q"),
        flag(Key::CatalogUser, "--catalog-user", "svc"),
    ];
    let loaded = load(Some(path), &environment, &flags).unwrap();
    let kinds = loaded.settings.upstreams.iter().map(|u| u.route.kind);
    assert_eq!(kinds.collect::<Vec<_>>(), [RouteKind::Auto, RouteKind::Sqe]);
    let scopes = loaded.settings.upstreams.iter().map(|u| u.route.scope);
    assert_eq!(
        scopes.collect::<Vec<_>>(),
        [Scope::Statement, Scope::Statement]
    );
    let users = loaded
        .settings
        .upstreams
        .iter()
        .map(|u| u.catalog.user.as_deref());
    assert_eq!(users.collect::<Vec<_>>(), [Some("svc"), Some("own")]);
    let names = loaded.settings.upstreams.iter().map(|upstream| {
        let rules = upstream.protect.projects.iter();
        rules
            .map(|rule| (rule.name.as_str(), rule.encryption))
            .collect::<Vec<_>>()
    });
    assert_eq!(
        names.collect::<Vec<_>>(),
        [
            [("p", Kms), ("q", Kms)],
            [("p", ConfiguredEncryption::None), ("q", Kms)]
        ]
    );
    let twice = [
        upstream_flag(),
        flag(Key::EncryptedProject, "--encrypted-project", "p"),
        flag(Key::EncryptedProject, "--encrypted-project", "P"),
    ];
    let problems = load(None, &Environment::default(), &twice).unwrap_err();
    assert_eq!(
        problems[0].to_string(),
        "--encrypted-project: project \"p\" is listed twice"
    );
}

#[test]
fn each_account_has_its_password() {
    let directory = tempfile::tempdir().unwrap();
    let secret = |name: &str, text: &str| {
        let path = directory.path().join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        path
    };
    let (common, own) = (secret("common", "one\n"), secret("own", "two"));
    let listener = "[[listener]]\naddresses = ['127.0.0.1:1']\nupstream = 'a'\n[[listener.rule]]\n\
                    user = 'b'\nupstream = 'b'\n";
    let text = two(&format!(
        "[upstream.catalog]\nuser = 'svc_b'\npassword_file = '{}'\n{listener}[catalog]\nuser = 'svc'\n\
         password_file = '{}'\n",
        own.display(),
        common.display()
    ));
    let loaded = load_alone(&text).unwrap();
    let catalogs: Vec<_> = loaded
        .settings
        .upstreams
        .iter()
        .map(|u| &u.catalog)
        .collect();
    assert_eq!(catalogs[0].password, Some(Secret("one".into())));
    assert_eq!(catalogs[0].password_file.as_ref(), Some(&common));
    assert_eq!(catalogs[1].password, Some(Secret("two".into())));
    assert_eq!(catalogs[1].password_file.as_ref(), Some(&own));
    assert_eq!(loaded.warnings, []);

    // The variable goes before [catalog], and not before an upstream's own.
    let (_file, path) = file(&text);
    let environment = environment(&[("OSPREY_CATALOG_PASSWORD", "three")]);
    let loaded = load(Some(path), &environment, &[]).unwrap().settings;
    assert_eq!(
        loaded.upstreams[0].catalog.password,
        Some(Secret("three".into()))
    );
    assert_eq!(loaded.upstreams[0].catalog.password_file, None);
    assert_eq!(
        loaded.upstreams[1].catalog.password,
        Some(Secret("two".into()))
    );

    // Without an account there is no password, and another account's is odd.
    let (_file, path) = file(&two(&format!(
        "[upstream.catalog]\nuser = 'svc_b'\n{listener}"
    )));
    let loaded = load(Some(path), &environment, &[]).unwrap();
    assert_eq!(loaded.settings.upstreams[0].catalog.password, None);
    assert_eq!(
        loaded.settings.upstreams[1].catalog.password,
        Some(Secret("three".into()))
    );
    assert_eq!(loaded.warnings, []);
    let text = two(&format!(
        "[upstream.catalog]\nuser = 'svc_b'\n{listener}[catalog]\nuser = 'svc'\npassword_file = '{}'\n",
        common.display()
    ));
    let warnings = without_directory(&load_alone(&text).unwrap().warnings);
    assert!(
        warnings[0].starts_with(":8: upstream.catalog.user: is another account"),
        "{warnings:?}"
    );
    assert_eq!(warnings.len(), 1);
    mistake(
        &two(&format!(
            "[upstream.catalog]\npassword_file = '{}'\n{listener}",
            own.display()
        )),
        ":8: upstream.catalog.password_file: there is a password but no user",
    );
}

#[test]
fn what_holds_for_all_is_wrong_once_and_where_it_stands() {
    let text = two(
        "[[listener]]\naddresses = ['127.0.0.1:1']\nupstream = 'a'\n[[listener.rule]]\nuser = 'b'\n\
         upstream = 'b'\n[catalog]\nrefresh = '0s'\nservers = []\n[route]\nretry_buffer = '0B'\n",
    );
    let starts = [
        ":14: catalog.refresh: must be at least 1s: each time",
        ":17: route.retry_buffer: is 0",
        ":15: catalog.servers: is empty",
    ];
    let mistakes = mistakes(&text);
    assert_eq!(mistakes.len(), starts.len(), "{mistakes:#?}");
    for (mistake, start) in mistakes.iter().zip(starts) {
        assert!(mistake.starts_with(start), "{mistake}");
    }
    let own = text.replace(
        "[[listener]]",
        "[upstream.catalog]\nrefresh = '0ms'\n[[listener]]",
    );
    let own = own
        .replace("refresh = '0s'\nservers = []", "")
        .replace("'0B'", "'1B'");
    mistake(
        &own,
        ":8: upstream.catalog.refresh: must be at least 1s: each time",
    );
}

#[test]
fn who_may_send_a_proxy_header_must_be_said() {
    for (text, wanted) in [
        (
            "proxy_protocol = 'accept'",
            ":4: listen.proxy_protocol: needs proxy_networks",
        ),
        (
            "proxy_protocol = 'require'\nproxy_networks = []",
            ":5: listen.proxy_networks: is empty",
        ),
        (
            "proxy_networks = ['10.0.0.0/8']",
            ":4: listen.proxy_networks: has no effect",
        ),
        (
            "proxy_protocol = 'accept'\nproxy_networks = ['10.0.0.0/40']",
            ":5: listen.proxy_networks: \"10",
        ),
        ("allow = []", ":4: listen.allow: is empty, so that nobody"),
        (
            "allow = ['10.1.0.0/16']\ndeny = ['10.0.0.0/8']",
            ":5: listen.deny: has all of 10.1.0.0/16, which listen.allow lets in",
        ),
    ] {
        mistake(
            &format!("[upstream]\naddress = 'a'\n[listen]\n{text}\n"),
            wanted,
        );
    }
}

#[test]
fn the_kernel_takes_not_every_time() {
    for (text, wanted) in [
        (
            "tcp_keepalive = '500ms'",
            ":4: limits.tcp_keepalive: must be from 1s to 32767s",
        ),
        ("tcp_keepalive = '1d'", ":4: limits.tcp_keepalive: must be"),
        (
            "tcp_user_timeout = '0s'",
            ":4: limits.tcp_user_timeout: must be from 1ms to 24d",
        ),
        (
            "greeting_timeout = '0s'",
            ":4: limits.greeting_timeout: must be longer than 0",
        ),
        (
            "statement_timeout = '0s'",
            ":4: limits.statement_timeout: must be longer than 0, or \"off\"",
        ),
        (
            "max_sessions_per_user = 0",
            ":4: limits.max_sessions_per_user: must be above 0",
        ),
        (
            "new_sessions_per_second = 'few'",
            ":4: limits.new_sessions_per_second: expects a whole number",
        ),
    ] {
        mistake(
            &format!("[upstream]\naddress = 'a'\n[limits]\n{text}\n"),
            wanted,
        );
    }
    let off = settings(
        "[upstream]\naddress = 'a'\n[limits]\ntcp_keepalive = 'off'\ntcp_user_timeout = '30s'\n",
    );
    assert_eq!(off.limits.tcp_keepalive, None);
    assert_eq!(off.limits.tcp_user_timeout, Some(Duration::from_secs(30)));
}
