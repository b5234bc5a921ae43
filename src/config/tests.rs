//! Layers, checks and the places of mistakes.

mod deployed;
mod long;
mod several;
mod shipped;
mod shown;

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;

use super::ConfiguredEncryption::{DefaultKey, Kms};
use super::draft::Draft;
use super::*;

fn environment(variables: &[(&str, &str)]) -> Environment {
    Environment::from_variables(variables.iter().map(|(n, v)| ((*n).into(), (*v).into())))
}

fn flag(key: Key, flag: &'static str, value: &str) -> Given {
    Given {
        key,
        flag,
        value: value.into(),
    }
}

fn upstream_flag() -> Given {
    flag(Key::Upstream, "--upstream", "holo:80")
}

/// A file in a directory of its own, which lives as long as the first part.
fn file(text: &str) -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("osprey.toml");
    std::fs::write(&path, text).unwrap();
    (directory, path)
}

fn load_text(text: &str) -> Result<Loaded, Vec<Problem>> {
    let (_directory, path) = file(text);
    load(Some(path), &Environment::default(), &[upstream_flag()])
}

/// The problems of a file, without the directory's name.
fn problems(text: &str) -> Vec<String> {
    let problems = load_text(text)
        .map(|loaded| loaded.settings.to_string())
        .unwrap_err();
    without_directory(&problems)
}

/// From the line on, where a problem begins with the file's name.
fn without_directory(problems: &[Problem]) -> Vec<String> {
    let text = |problem: &Problem| {
        let text = problem.to_string();
        let (file, rest) = text.split_once("osprey.toml").unwrap_or_default();
        let first = !file.is_empty() && !file.contains(": ");
        if first { rest.to_owned() } else { text }
    };
    problems.iter().map(text).collect()
}

#[test]
fn nothing_but_an_upstream_is_needed() {
    let loaded = load(None, &Environment::default(), &[upstream_flag()]).unwrap();
    assert_eq!(loaded.settings, Settings::for_upstream("holo", 80));
    assert_eq!(loaded.warnings, []);
}

#[test]
fn without_an_upstream_it_says_how_to_name_one() {
    let problems = load(None, &Environment::default(), &[]).unwrap_err();
    assert_eq!(problems.len(), 1);
    let text = problems[0].to_string();
    assert!(
        text.contains("--upstream HOST:PORT") && text.contains("OSPREY_UPSTREAM"),
        "{text}"
    );
}

#[test]
fn flags_win_over_the_environment_and_that_over_the_file() {
    let text = "[upstream]\naddress = 'file:1'\n[listen]\naddresses = ['127.0.0.1:1']\n\
                [route]\nkind = 'auto'\nscope = 'statement'\n";
    let (_directory, path) = file(text);
    let variables = [
        ("OSPREY_CONFIG", path.to_str().unwrap()),
        ("OSPREY_UPSTREAM", "variable:2"),
        ("OSPREY_LISTEN", "127.0.0.1:2,[::1]:2"),
        ("OSPREY_ROUTE", "common-table"),
        ("OSPREY_LOG", ""),
    ];
    let environment = environment(&variables);
    let loaded = load(None, &environment, &[]).unwrap().settings;
    assert_eq!(
        (
            loaded.upstream().addresses[0].host.as_str(),
            loaded.upstream().addresses[0].port
        ),
        ("variable", 2)
    );
    assert_eq!(loaded.listeners[0].addresses.len(), 2);
    assert_eq!(loaded.upstream().route.kind, RouteKind::CommonTable);
    assert_eq!(loaded.upstream().route.scope, Scope::Statement);
    assert_eq!(loaded.observe.log, "info", "an empty variable is not set");

    let flags = [
        flag(Key::Upstream, "--upstream", "flag:3"),
        flag(Key::Listen, "--listen", "127.0.0.1:3"),
        flag(Key::Listen, "--listen", "127.0.0.1:4"),
        flag(Key::Route, "--route", "sqe"),
        flag(Key::Metrics, "--metrics", "off"),
    ];
    let loaded = load(None, &environment, &flags).unwrap().settings;
    assert_eq!(loaded.upstream().addresses[0].host, "flag");
    let ports: Vec<u16> = loaded.listeners[0]
        .addresses
        .iter()
        .map(SocketAddr::port)
        .collect();
    assert_eq!(ports, [3, 4]);
    assert_eq!(loaded.upstream().route.kind, RouteKind::Sqe);
    assert_eq!(loaded.observe.metrics, None);
}

#[test]
fn encrypted_projects_add_up_and_the_later_source_wins() {
    let (_directory, path) = file(
        "[[protect.project]]\nname = 'a'\nencryption = 'none'\n[[protect.project]]\nname = 'b'\n\
         encryption = 'default-key'\nkey_id = 'k'\n",
    );
    let flags = [
        upstream_flag(),
        flag(Key::EncryptedProject, "--encrypted-project", "A"),
    ];
    let environment = environment(&[("OSPREY_ENCRYPTED_PROJECTS", "c, d")]);
    let rules = load(Some(path), &environment, &flags)
        .unwrap()
        .settings
        .upstream()
        .protect
        .projects
        .clone();
    let rules: Vec<_> = rules
        .iter()
        .map(|rule| (rule.name.as_str(), rule.encryption))
        .collect();
    assert_eq!(
        rules,
        [("b", DefaultKey), ("c", Kms), ("d", Kms), ("a", Kms)]
    );
}

#[test]
fn every_mistake_of_a_file_is_shown_with_its_line_and_what_is_right() {
    let text = "\
[listen]
adresses = ['127.0.0.1:6432']
[upstream]
connect_timeout = 10
[upstream.tls]
mode = 'verify_full'
[keys]
ttl = '24 hours'
capacity = 'many'
metrics = 'off'
[limits]
max_sessions = -1
[bananas]
";
    assert_eq!(
        problems(text),
        [
            ":4: upstream.connect_timeout: expects text in double quotes, found an integer",
            ":6: upstream.tls.mode: \"verify_full\" is none of disable, prefer, require, \
             verify-ca, verify-full; did you mean \"verify-full\"?",
            ":8: keys.ttl: \"24 hours\" is not a duration; write a whole number and a unit (ms, \
             s, m, h or d), such as \"30s\" or \"24h\"",
            ":9: keys.capacity: expects a whole number above 0, without quotes, found a string",
            ":12: limits.max_sessions: must be above 0",
            ":2: listen.adresses: is not a setting; did you mean \"addresses\"?",
            ":10: keys.metrics: is not a setting here; did you mean observe.metrics?",
            ":13: bananas: is not a setting; what can stand here: include, listen, listener, \
             upstream, route, protect, catalog, keys, observe, limits, console, reload, \
             takeover, replicas",
        ]
    );
}

#[test]
fn broken_toml_is_shown_by_line_without_quoting_it() {
    let problems = problems("[catalog]\nuser = 'bi'\npassword = \"hunter2\n[keys]\n");
    assert!(problems[0].starts_with(":3: not TOML: "), "{problems:?}");
    assert!(!problems.concat().contains("hunter2"), "{problems:?}");
    for (text, problem) in [
        (
            "[limits]\nworkers = 1\nworkers = 2\n",
            ":3: not TOML: workers stands here for the second time",
        ),
        (
            "[limits]\nworkers = 100000\n",
            ":2: limits.workers: must be at most 1024; \"auto\" is one for each core",
        ),
        (
            "[limits]\n[keys]\n[limits]\n",
            ":3: not TOML: limits stands here for the second time",
        ),
    ] {
        assert_eq!(self::problems(text)[0], problem);
    }
}

#[test]
fn a_password_in_the_file_is_refused_without_quoting_it() {
    let problems = problems("[catalog]\nuser = 'bi'\npassword = 'hunter2'\n");
    assert_eq!(problems.len(), 1);
    assert!(problems[0].starts_with(":3: catalog.password: a password does not belong"));
    assert!(!problems[0].contains("hunter2"));
}

#[test]
fn a_file_that_does_not_exist_is_named_with_where_it_was_named() {
    let environment = environment(&[("OSPREY_CONFIG", "/nowhere/osprey.toml")]);
    let problems = load(None, &environment, &[upstream_flag()]).unwrap_err();
    let text = problems[0].to_string();
    assert!(
        text.starts_with("OSPREY_CONFIG: cannot read /nowhere/osprey.toml"),
        "{text}"
    );
}

#[test]
fn text_that_is_not_utf8_is_shown_by_line() {
    let (_directory, path) = file("");
    std::fs::write(&path, b"[catalog]\nuser = '\xd6\xd0'\n").unwrap();
    let problems = load(Some(path), &Environment::default(), &[upstream_flag()]).unwrap_err();
    assert!(
        problems[0]
            .to_string()
            .contains("osprey.toml:2: is not UTF-8"),
        "{problems:?}"
    );
}

#[test]
fn wrong_flags_and_variables_are_named_as_such() {
    let environment = environment(&[("OSPREY_LISTEN", "127.0.0.1:1,6432"), ("OSPREY_LOGS", "x")]);
    let flags = [flag(Key::Upstream, "--upstream", "holo:port")];
    let problems = load(None, &environment, &flags).unwrap_err();
    let texts: Vec<_> = problems.iter().map(Problem::to_string).collect();
    assert!(
        texts[0].starts_with("OSPREY_LISTEN: \"6432\" is not an address"),
        "{texts:?}"
    );
    assert!(
        texts[1].starts_with("--upstream: \"holo:port\" is not an upstream"),
        "{texts:?}"
    );
    assert_eq!(texts.len(), 2, "{texts:?}");
}

#[test]
fn a_misspelt_variable_is_a_warning_and_a_foreign_one_is_not() {
    let environment = environment(&[
        ("OSPREY_UPSTRAEM", "holo"),
        ("OSPREY_SERVICE_HOST", "10.0.0.1"),
        ("OSPREY_PORT_6432_TCP", "tcp://10.0.0.1:6432"),
    ]);
    let warnings = load(None, &environment, &[upstream_flag()])
        .unwrap()
        .warnings;
    let warnings: Vec<_> = warnings.iter().map(Problem::to_string).collect();
    assert_eq!(
        warnings,
        ["OSPREY_UPSTRAEM: is not a variable of Osprey's; did you mean OSPREY_UPSTREAM?"]
    );
}

#[test]
fn passwords_come_from_a_variable_or_a_file() {
    let environment = environment(&[("OSPREY_CATALOG_PASSWORD", "one")]);
    let user = flag(Key::CatalogUser, "--catalog-user", "svc");
    let loaded = load(None, &environment, &[upstream_flag(), user.clone()]).unwrap();
    assert_eq!(
        loaded.settings.upstream().catalog.password,
        Some(Secret("one".into()))
    );
    assert!(!format!("{:?}{}", loaded.settings, loaded.settings).contains("\"one\""));

    let (_directory, path) = file("two\n");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    let name = path.to_str().unwrap();
    let password = flag(Key::CatalogPasswordFile, "--catalog-password-file", name);
    let flags = [upstream_flag(), user, password];
    let loaded = load(None, &environment, &flags).unwrap();
    assert_eq!(
        loaded.settings.upstream().catalog.password,
        Some(Secret("two".into())),
        "the flag wins"
    );
    assert_eq!(loaded.warnings, []);

    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    let warnings = load(None, &environment, &flags).unwrap().warnings;
    assert!(
        warnings[0].to_string().contains("chmod o= "),
        "{warnings:?}"
    );
}

#[test]
fn contradictions_are_named() {
    let one = |text: &str, wanted: &str| {
        let problems = problems(text);
        assert!(
            problems.len() == 1 && problems[0].contains(wanted),
            "{text:?} gave {problems:?}, not {wanted:?}"
        );
    };
    one(
        "[upstream.tls]\nca = '/x'",
        ":2: upstream.tls.ca: has no effect",
    );
    one(
        "[upstream.tls]\nmode = 'disable'\nserver_name = 'x'",
        ":3: upstream.tls.server_name: has",
    );
    one(
        "[upstream.tls]\ncertificate = '/x'",
        "needs its private key",
    );
    one(
        "[listen.tls]\ncertificate = '/x'",
        ":1: listen.tls: listen.tls.key is missing",
    );
    one(
        "[listen]\naddresses = ['127.0.0.1:9464']",
        "observe.metrics: 127.0.0.1:9464 is where",
    );
    one(
        "[listen]\naddresses = ['127.0.0.1:1', '127.0.0.1:1']",
        "listed twice",
    );
    one("[listen]\naddresses = []", "is empty; name at least one");
    one(
        "[keys.cloud]\ncredentials = 'file'",
        ":1: keys.cloud.region: is missing",
    );
    one(
        "[keys.cloud]\nregion = 'r'\nkms_endpoint = 'http://kms.example.com'",
        "must be https",
    );
    one(
        "[keys.cloud]\nregion = 'r'\ntimeout = '0s'",
        ":3: keys.cloud.timeout: must be longer",
    );
    one(
        "[keys]\nttl = '1s'",
        "keys.negative_ttl: is longer than keys.ttl",
    );
}

#[test]
fn zero_durations_are_refused_except_where_they_mean_at_once() {
    let texts =
        problems("[limits]\nlogin_timeout = '0s'\ndrain_timeout = '0s'\npre_drain_delay = '0s'");
    assert_eq!(texts, [":2: limits.login_timeout: must be longer than 0"]);
}

#[test]
fn an_upstream_that_is_osprey_itself_is_refused() {
    let flags = [flag(Key::Upstream, "--upstream", "localhost:6432")];
    let problems = load(None, &Environment::default(), &flags).unwrap_err();
    assert!(
        problems[0].to_string().contains("Osprey itself listens"),
        "{problems:?}"
    );
}

#[test]
fn a_snapshot_file_needs_a_directory() {
    let warned = |snapshot: &str| {
        let (_directory, path) = file(&format!("[keys]\nsnapshot = '{snapshot}'\n"));
        let loaded = load(Some(path), &Environment::default(), &[upstream_flag()]).unwrap();
        let warnings: String = loaded.warnings.iter().map(Problem::to_string).collect();
        warnings.contains("keys.snapshot")
    };
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path().display();
    assert!(!warned(&format!("{directory}/keys.json")));
    assert!(!warned("keys.json"));
    assert!(warned(&format!("{directory}/none/keys.json")));
}

#[test]
fn a_socket_needs_a_directory_and_a_place_of_its_own() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name).display().to_string();
    std::fs::write(at("file"), "").unwrap();
    let said = |place: &str| {
        let (_directory, path) = file(&format!("[takeover]\nsocket = '{place}'\n"));
        let loaded = load(Some(path), &Environment::default(), &[upstream_flag()]);
        let problems = loaded.map_or_else(|problems| problems, |loaded| loaded.warnings);
        let texts = problems.iter().map(Problem::to_string);
        texts
            .filter(|text| text.contains("takeover.socket"))
            .collect::<Vec<_>>()
    };
    assert!(said(&at("none")).is_empty());
    assert!(said(&at("none/socket"))[0].contains("does not exist yet"));
    assert!(said(&at("file"))[0].contains("is no socket"));
}

/// Osprey writes there: what is not its own stays.
#[test]
fn a_snapshot_file_is_osprey_s_own_or_not_there_yet() {
    let directory = tempfile::tempdir().unwrap();
    let place = directory.path().join("keys.json");
    let refused = |place: &std::path::Path| {
        let (_directory, path) = file(&format!("[keys]\nsnapshot = '{}'\n", place.display()));
        let loaded = load(Some(path), &Environment::default(), &[upstream_flag()]);
        loaded.err().map(|problems| problems[0].to_string())
    };
    assert_eq!(refused(&place), None);
    for own in ["", "{\n  \"format\": \"osprey key records\",\n  \"ver"] {
        std::fs::write(&place, own).unwrap();
        assert_eq!(refused(&place), None, "{own}");
    }
    std::fs::write(&place, "my notes").unwrap();
    let told = refused(&place).expect("it is somebody's");
    assert!(
        told.contains("keys.snapshot") && told.contains("something else"),
        "{told}"
    );
    let told = refused(directory.path()).expect("it is a directory");
    assert!(told.contains("is a directory"), "{told}");
}

#[test]
fn certificates_and_keys_are_read_and_must_belong_together() {
    let (directory, path) = file("");
    let name = |file: &str| directory.path().join(file).display().to_string();
    let write = |file: &str, text: &str| {
        std::fs::write(name(file), text).unwrap();
        std::fs::set_permissions(name(file), std::fs::Permissions::from_mode(0o600)).unwrap();
    };
    for who in ["a", "b"] {
        let made = rcgen::generate_simple_self_signed([who.to_owned()]).unwrap();
        write(&format!("{who}.crt"), &made.cert.pem());
        write(&format!("{who}.key"), &made.signing_key.serialize_pem());
    }
    let load = |certificate: &str, key: &str| {
        let (certificate, key) = (name(certificate), name(key));
        let text = format!("[listen.tls]\ncertificate = '{certificate}'\nkey = '{key}'\n");
        std::fs::write(&path, text).unwrap();
        let loaded = load(
            Some(path.clone()),
            &Environment::default(),
            &[upstream_flag()],
        );
        loaded.map_err(|problems| problems.iter().map(Problem::to_string).collect::<String>())
    };
    assert_eq!(load("a.crt", "a.key").unwrap().warnings, []);
    assert!(
        load("a.crt", "b.key")
            .unwrap_err()
            .contains("is not the key of the certificate")
    );
    assert!(
        load("a.key", "a.key")
            .unwrap_err()
            .contains("holds no certificate in PEM")
    );
    assert!(
        load("a.crt", "a.crt")
            .unwrap_err()
            .contains("holds no unencrypted private key")
    );
    assert!(load("none", "a.key").unwrap_err().contains("No such file"));
}

#[test]
fn what_a_file_would_have_said_is_not_missing_if_it_cannot_be_read() {
    let environment = environment(&[("OSPREY_CATALOG_PASSWORD", "x")]);
    for (name, text) in [("osprey.toml", "[upstream\n"), ("none.toml", "")] {
        let (directory, _) = file(text);
        let flags = [flag(Key::Route, "--route", "fast")];
        let path = directory.path().join(name);
        let problems = load(Some(path), &environment, &flags).unwrap_err();
        let texts: Vec<_> = problems.iter().map(Problem::to_string).collect();
        assert_eq!(texts.len(), 2, "{texts:?}");
        assert!(texts[1].starts_with("--route: "), "{texts:?}");
    }
}

#[test]
fn a_project_is_listed_once() {
    let text = "[protect]\nprojects = ['a', 'b',\n'A']\n[[protect.project]]\nname = 'b'\n";
    let texts = problems(text);
    assert!(
        texts[0].starts_with(":3: protect.projects: project \"a\" is listed twice ("),
        "{texts:?}"
    );
    assert!(
        texts[1].starts_with(":5: protect.project.name: project \"b\" is"),
        "{texts:?}"
    );
    assert_eq!(texts.len(), 2, "{texts:?}");
}

#[test]
fn a_password_file_has_one_line() {
    for (text, wanted) in [
        ("one\ntwo\n", "has more than one line"),
        ("# the password:\r\none", "has more than one line"),
        ("\n", "is empty"),
    ] {
        let (_directory, path) = file(text);
        let flags = [
            upstream_flag(),
            flag(Key::CatalogUser, "--catalog-user", "svc"),
            flag(
                Key::CatalogPasswordFile,
                "--catalog-password-file",
                path.to_str().unwrap(),
            ),
        ];
        let problems = load(None, &Environment::default(), &flags).unwrap_err();
        let told = problems[0].to_string();
        assert!(
            told.starts_with("--catalog-password-file: ") && told.contains(wanted),
            "{told}"
        );
        assert!(!told.contains("two") && !told.contains("one\""), "{told}");
    }
}

#[test]
fn slips_in_words_are_mistakes() {
    for (text, wanted) in [
        (
            "[limits]\nworkers = 0",
            ":2: limits.workers: must be above 0",
        ),
        (
            "[limits]\nworkers = 99999999999999999999",
            "is too large a number",
        ),
        ("[observe]\nlanguage = 'cn'", "did you mean \"zh\"?"),
        (
            "[observe]\nlog = 'verbose'",
            ":2: observe.log: \"verbose\" is not a log filter",
        ),
        (
            "[observe]\nlog = 'info,osprey::sesion=debug'",
            "did you mean \"osprey::session\"?",
        ),
    ] {
        let texts = problems(text);
        assert!(
            texts.len() == 1 && texts[0].contains(wanted),
            "{text}: {texts:?}"
        );
    }
}
