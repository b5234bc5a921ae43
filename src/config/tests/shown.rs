//! Settings that are shown are a file that gives the same settings.

use std::sync::LazyLock;

use proptest::prelude::*;
use proptest::sample::{select, subsequence};

use super::*;

/// What replicas authenticate records with.
const HMAC_KEY: &str = "0123456789abcdef0123456789abcdef";

/// A directory with what the files of settings may name.
static FILES: LazyLock<tempfile::TempDir> = LazyLock::new(|| {
    let directory = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed(["osprey".to_owned()]).unwrap();
    for (name, text) in [
        ("one.crt", made.cert.pem()),
        ("one.key", made.signing_key.serialize_pem()),
        ("password", "from a file".to_owned()),
        ("hmac", HMAC_KEY.to_owned()),
    ] {
        let path = directory.path().join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    }
    directory
});

fn in_directory(name: &str) -> PathBuf {
    FILES.path().join(name)
}

fn seconds() -> impl Strategy<Value = Duration> {
    (1u64..100_000).prop_map(|seconds| Duration::from_millis(seconds * 250))
}

/// Anything that may stand in quotes, without spaces around it.
fn text() -> impl Strategy<Value = String> {
    "[a-z'\"\\\\é#=]{1,8}"
}

fn addresses() -> impl Strategy<Value = Vec<Address>> {
    let address = (
        select(&["holo", "10.0.0.1", "::1", "h.example.com"][..]),
        1u16..9,
    )
        .prop_map(|(host, port)| Address {
            host: host.to_owned(),
            port,
        });
    proptest::collection::hash_set(address, 1..3).prop_map(|set| set.into_iter().collect())
}

prop_compose! {
    fn upstream_tls()(
        mode in select(&[TlsMode::Disable, TlsMode::Prefer, TlsMode::Require][..]),
        file in any::<bool>(),
        server_name in proptest::option::of(text()),
    ) -> UpstreamTls {
        let client = (file && mode != TlsMode::Disable).then(|| in_directory("one.crt"));
        UpstreamTls {
            mode,
            ca: None,
            key: client.as_ref().map(|_| in_directory("one.key")),
            certificate: client,
            server_name: server_name.filter(|_| mode != TlsMode::Disable),
        }
    }
}

prop_compose! {
    fn route()(
        observe in any::<bool>(),
        kind in select(&[RouteKind::Sqe, RouteKind::CommonTable, RouteKind::Auto][..]),
        statement in any::<bool>(),
        enforce in any::<bool>(),
        retry in any::<bool>(),
        retry_writes in any::<bool>(),
        rules in any::<bool>(),
        retry_buffer in 1usize..1 << 20,
    ) -> Route {
        Route {
            mode: if observe { Mode::Observe } else { Mode::Steer },
            kind,
            scope: if statement { Scope::Statement } else { Scope::Session },
            override_client: if enforce { Override::Enforce } else { Override::Respect },
            retry,
            retry_writes,
            retry_rules: if rules { vec!["OSP-1102"] } else { Vec::new() },
            retry_buffer,
        }
    }
}

fn protect() -> impl Strategy<Value = Protect> {
    let encryption = select(&[Kms, DefaultKey, ConfiguredEncryption::None][..]);
    let rule = (encryption, proptest::option::of(text()));
    let names = subsequence(vec!["p_*", "sales", "q"], 0..=3);
    let rules = (names, proptest::collection::vec(rule, 3));
    let tables = proptest::collection::vec([text(), text(), text()], 0..3);
    (rules, tables).prop_map(|((names, rules), tables)| Protect {
        projects: names
            .into_iter()
            .zip(rules)
            .map(|(name, (encryption, key_id))| ProjectRule {
                name: name.to_owned(),
                encryption,
                key_id,
            })
            .collect(),
        tables: tables
            .into_iter()
            .map(|[database, schema, table]| TablePattern {
                database,
                schema,
                table,
            })
            .collect(),
    })
}

prop_compose! {
    fn catalog()(
        user in proptest::option::of(text()),
        file in any::<bool>(),
        borrow in any::<bool>(),
        borrow_timeout in seconds(),
        refresh in seconds(),
        servers in proptest::collection::vec(text(), 1..3),
    ) -> Catalog {
        let file = file && user.is_some();
        Catalog {
            user,
            password: file.then(|| Secret("from a file".into())),
            password_file: file.then(|| in_directory("password")),
            borrow,
            borrow_timeout,
            refresh,
            servers,
        }
    }
}

prop_compose! {
    fn upstream()(
        addresses in addresses(),
        tls in upstream_tls(),
        connect_timeout in seconds(),
        max_sessions in proptest::option::of(1usize..1000),
        route in route(),
        protect in protect(),
        catalog in catalog(),
    ) -> Upstream {
        Upstream {
            name: Upstream::DEFAULT_NAME.into(),
            addresses,
            tls,
            connect_timeout,
            max_sessions,
            route,
            protect,
            catalog,
        }
    }
}

/// With names of its own, and some parts the same as the first one's.
fn upstreams() -> impl Strategy<Value = Vec<Upstream>> {
    let upstream = (upstream(), any::<[bool; 3]>());
    let names = subsequence(vec!["default", "prod", "etl-1", "a.b_c"], 1..=3).prop_shuffle();
    (proptest::collection::vec(upstream, 3), names).prop_map(|(upstreams, names)| {
        let first = upstreams[0].0.clone();
        let named = upstreams.into_iter().zip(names);
        named
            .map(|((mut upstream, same), name)| {
                name.clone_into(&mut upstream.name);
                if same[0] {
                    upstream.route = first.route.clone();
                }
                if same[1] {
                    upstream.protect = first.protect.clone();
                }
                if same[2] {
                    upstream.catalog = first.catalog.clone();
                }
                upstream
            })
            .collect()
    })
}

/// One that leads to some of `names`.
fn listener(names: Vec<String>) -> impl Strategy<Value = Listener> {
    let patterns = subsequence(vec!["bi_*", "etl?", "it's \"*\"", "x"], 0..=3);
    let database = select(&["*", "dw", "sales*"][..]);
    let upstreams = proptest::collection::vec(select(names.clone()), 4);
    let rules = (patterns, database, upstreams);
    let networks = subsequence(vec!["10.0.0.0/8", "2001:db8::/32", "192.0.2.1/32"], 1..=3);
    let mode = select(
        &[
            ProxyProtocol::Off,
            ProxyProtocol::Accept,
            ProxyProtocol::Require,
        ][..],
    );
    let upstream = select(names.clone());
    (
        rules,
        networks,
        mode,
        proptest::option::of(upstream),
        any::<[bool; 3]>(),
    )
        .prop_map(
            move |(
                (users, database, upstreams),
                networks,
                proxy_protocol,
                upstream,
                [tls, required, allow],
            )| {
                let rules: Vec<_> = users
                    .into_iter()
                    .zip(upstreams)
                    .map(|(user, upstream)| Rule {
                        user: user.into(),
                        database: database.into(),
                        upstream,
                    })
                    .collect();
                let networks = networks.into_iter().map(|text| text.parse().unwrap());
                let off = proxy_protocol == ProxyProtocol::Off;
                let needed = names.len() == 1 || rules.is_empty();
                Listener {
                    addresses: Vec::new(),
                    allow: allow
                        .then(|| "10.0.0.0/8".parse().unwrap())
                        .into_iter()
                        .collect(),
                    deny: allow
                        .then(|| "10.9.0.0/16".parse().unwrap())
                        .into_iter()
                        .collect(),
                    tls: tls.then(|| ListenTls {
                        certificate: in_directory("one.crt"),
                        key: in_directory("one.key"),
                        client_ca: required.then(|| in_directory("one.crt")),
                        required,
                    }),
                    proxy_protocol,
                    proxy_networks: if off { Vec::new() } else { networks.collect() },
                    rules,
                    upstream: upstream.or_else(|| needed.then(|| names[0].clone())),
                }
            },
        )
}

prop_compose! {
    fn limits()(
        workers in 1usize..64,
        quotas in any::<[(u16, Option<u16>); 3]>(),
        more in any::<[Option<u16>; 5]>(),
        counts in [1usize..1000, 1..1000],
        times in [seconds(), seconds(), seconds(), seconds()],
        off in proptest::array::uniform5(proptest::option::of(1u64..32_000)),
        inspect_bytes in 1usize..1 << 30,
        cancel_orphans in any::<bool>(),
    ) -> Limits {
        let [max_sessions, max_greetings, max_logins] = quotas.map(|(total, per_address)| Quota {
            total: 1 + usize::from(total),
            per_address: per_address.map(|count| 1 + usize::from(count)),
        });
        let [greeting_timeout, login_timeout, pre_drain_delay, drain_timeout] = times;
        let [tcp_keepalive, tcp_user_timeout, idle, idle_in_transaction, statement_timeout] =
            off.map(|time| time.map(Duration::from_secs));
        let [max_sessions_per_user, max_sessions_per_database, total, per_address, per_user] =
            more.map(|count| count.map(|count| 1 + usize::from(count)));
        Limits {
            workers,
            max_sessions,
            max_sessions_per_user,
            max_sessions_per_database,
            new_sessions_per_second: Rate { total, per_address, per_user },
            idle_session_timeout: idle,
            idle_in_transaction_session_timeout: idle_in_transaction,
            statement_timeout,
            max_greetings,
            max_logins,
            max_cancels: counts[0],
            unknown_cancels_per_second: counts[1],
            greeting_timeout,
            login_timeout,
            pre_drain_delay,
            drain_timeout,
            inspect_bytes,
            cancel_orphans,
            tcp_keepalive,
            tcp_user_timeout,
        }
    }
}

fn cloud() -> impl Strategy<Value = Option<Cloud>> {
    let source = select(&[CredentialSource::Auto, CredentialSource::EcsRole][..]);
    proptest::option::of((source, any::<bool>(), seconds()).prop_map(
        |(credentials, own, timeout)| {
            let mut cloud = Cloud::in_region("cn-shanghai");
            let kms = own.then(|| values::endpoint("http://127.0.0.1:8080").unwrap());
            cloud.maxcompute_endpoint = Some(cloud.maxcompute());
            cloud.kms_endpoint = Some(kms.unwrap_or(cloud.kms()));
            cloud.sts_endpoint = Some(cloud.sts());
            cloud.ram_endpoint = Some(cloud.ram());
            Cloud {
                credentials,
                timeout,
                ..cloud
            }
        },
    ))
}

fn settings() -> impl Strategy<Value = Settings> {
    let listening = upstreams().prop_flat_map(|upstreams| {
        let names: Vec<_> = upstreams.iter().map(|u| u.name.clone()).collect();
        (
            Just(upstreams),
            proptest::collection::vec(listener(names), 1..3),
        )
    });
    let keys = (1usize..1_000_000, cloud(), any::<bool>());
    let observe = (
        any::<[bool; 5]>(),
        select(&["info", "warn,osprey::session=debug"][..]),
    );
    (listening, limits(), keys, observe).prop_map(
        |((upstreams, mut listeners), limits, (capacity, cloud, kept), (flags, log))| {
            let mut settings = Settings::for_upstream("", 1);
            for (at, listener) in (0u16..).zip(&mut listeners) {
                let address = |port: u16| SocketAddr::from(([0, 0, 0, 0], 6000 + 10 * at + port));
                let loopback = SocketAddr::from((std::net::Ipv6Addr::LOCALHOST, 7000 + at));
                listener.addresses = vec![address(0), address(1), loopback];
            }
            settings.upstreams = upstreams;
            settings.listeners = listeners;
            settings.limits = limits;
            settings.keys.capacity = capacity;
            settings.keys.cloud = cloud;
            settings.reload.watch = kept.then(|| Duration::from_millis(1500));
            settings.takeover.socket = kept.then(|| "/run/osprey/takeover".into());
            settings.takeover.drain_after = settings
                .keys
                .cloud
                .is_none()
                .then(|| Duration::from_mins(5));
            settings.replicas = kept.then(|| Replicas {
                addresses: settings.upstreams[0].addresses.clone(),
                sentinel: (log == "info").then(|| "main".into()),
                user: Some("osprey".into()),
                password_file: Some(in_directory("password")),
                password: Some(Secret("from a file".into())),
                tls: capacity % 2 == 0,
                deadline: Duration::from_millis(70),
                hmac_key_file: (capacity % 3 == 0).then(|| in_directory("hmac")),
                hmac_key: (capacity % 3 == 0).then(|| Secret(HMAC_KEY.into())),
                ..Replicas::default()
            });
            settings.keys.snapshot = kept.then(|| in_directory("keys.json"));
            let [metrics, json_logs, redact_paths, chinese, full] = flags;
            settings.observe = Observe {
                metrics: settings.observe.metrics.filter(|_| metrics),
                status_page: if full {
                    StatusPage::On
                } else {
                    StatusPage::Auto
                },
                status_hosts: if chinese {
                    vec!["osprey.example.com".into()]
                } else {
                    Vec::new()
                },
                json_logs,
                log: log.to_owned(),
                redact_paths,
                language: if chinese {
                    Language::Chinese
                } else {
                    Language::English
                },
                rules: full.then(|| "/etc/osprey/rules.toml".into()),
                docs: json_logs.then(|| "https://docs.example.com/osprey".into()),
                original_text: if full {
                    OriginalText::Full
                } else {
                    OriginalText::Short
                },
                log_statements: match (full, chinese) {
                    (true, true) => LogStatements::All,
                    (true, false) => LogStatements::Protected,
                    (false, _) => LogStatements::None,
                },
                traces: (cfg!(feature = "traces") && full).then(|| Endpoint {
                    tls: chinese,
                    host: "collector.example.com".into(),
                    port: 4318,
                }),
                trace_percent: if full { 5 } else { 100 },
            };
            settings
        },
    )
}

fn read_back(settings: &Settings) -> Result<Settings, TestCaseError> {
    let shown = settings.to_string();
    let (_directory, path) = file(&shown);
    let loaded = load(Some(path), &Environment::default(), &[])
        .map_err(|problems| TestCaseError::fail(format!("{problems:#?}\n{shown}")))?;
    Ok(loaded.settings)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn settings_shown_are_a_file_that_gives_the_same_settings(settings in settings()) {
        prop_assert_eq!(read_back(&settings)?, settings);
    }
}

#[test]
fn the_short_form_is_shown_where_it_suffices() {
    let mut settings = Settings::for_upstream("::1", 5432);
    settings.upstream_mut().addresses.push(Address {
        host: "holo".into(),
        port: 80,
    });
    settings.upstream_mut().max_sessions = Some(3);
    settings.listeners[0].proxy_protocol = ProxyProtocol::Require;
    settings.listeners[0].proxy_networks = vec!["10.0.0.0/8".parse().unwrap()];
    let shown = settings.to_string();
    assert!(
        shown.contains("[listen]\n") && shown.contains("\n[upstream]\n"),
        "{shown}"
    );
    assert_eq!(read_back(&settings).unwrap(), settings);

    settings.upstream_mut().name = "prod".into();
    settings.listeners[0].upstream = Some("prod".into());
    let shown = settings.to_string();
    assert!(
        shown.contains("[[upstream]]\n") && shown.contains("[[listener]]\n"),
        "{shown}"
    );
    assert!(
        shown.contains("\n[route]\n"),
        "what is the same is said once: {shown}"
    );
    assert_eq!(read_back(&settings).unwrap(), settings);
}

#[test]
fn a_password_is_shown_as_its_file_alone() {
    let mut settings = Settings::for_upstream("holo", 80);
    let catalog = &mut settings.upstream_mut().catalog;
    catalog.user = Some("svc".into());
    catalog.password = Some(Secret("from a file".into()));
    assert!(
        settings
            .to_string()
            .contains("user = \"svc\"  # with a password\n")
    );
    settings.upstream_mut().catalog.password_file = Some(in_directory("password"));
    let shown = settings.to_string();
    assert!(!shown.contains("from a file"), "{shown}");
    assert_eq!(read_back(&settings).unwrap(), settings);
}
