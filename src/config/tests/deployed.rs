//! What `deploy/` brings along, and certificates that come to their end.

use std::time::SystemTime;

use super::*;
use crate::config::certificate::tests::made;

const DOCKERFILE: &str = include_str!("../../../deploy/Dockerfile");

#[test]
fn the_containers_file_listens_where_the_container_can_be_reached() {
    let loaded = load_text(include_str!("../../../deploy/container.toml")).unwrap();
    let mut expected = Settings::for_upstream("holo", 80);
    expected.listeners[0].addresses = vec!["0.0.0.0:6432".parse().unwrap()];
    expected.observe.metrics = Some("0.0.0.0:9464".parse().unwrap());
    assert_eq!(loaded.settings, expected);
    assert_eq!(loaded.warnings, []);
}

#[test]
fn the_image_asks_for_its_health_where_its_file_says() {
    let loaded = load_text(include_str!("../../../deploy/container.toml")).unwrap();
    let port = loaded.settings.observe.metrics.unwrap().port();
    let asked = format!("\"ready\", \"--metrics\", \"127.0.0.1:{port}\"");
    assert!(DOCKERFILE.contains(&asked), "{asked}");
}

/// A file that is mounted has its say, and one for root and the group alone can be read.
#[test]
fn the_image_sets_nothing_but_where_its_file_is_and_runs_as_its_own_group() {
    let variables = DOCKERFILE.match_indices("OSPREY_");
    let set: Vec<_> = variables
        .map(|(at, _)| DOCKERFILE[at..].split(['=', ' ', '\n']).next().unwrap())
        .collect();
    assert_eq!(set, ["OSPREY_CONFIG"]);
    for part in [
        "FROM scratch",
        "deploy/container-root /usr/local/bin/osprey /image",
        "USER 65532:65532",
        "cargo build --profile dist --locked --no-default-features",
    ] {
        assert!(DOCKERFILE.contains(part), "{part}");
    }
}

#[test]
fn an_expired_certificate_is_a_warning() {
    let now = SystemTime::now();
    let day = Duration::from_hours(24);
    for (until, words) in [
        (now - day, Some("has expired, on ")),
        (now + 2 * day, Some("expires on ")),
        (now + 60 * day, None),
    ] {
        let (directory, path) = file("");
        let name = |file: &str| directory.path().join(file);
        let (certificate, key) = made(now - 90 * day, until);
        std::fs::write(name("a.crt"), certificate).unwrap();
        std::fs::write(name("a.key"), key).unwrap();
        std::fs::set_permissions(name("a.key"), std::fs::Permissions::from_mode(0o600)).unwrap();
        let [certificate, key] = ["a.crt", "a.key"].map(|file| name(file).display().to_string());
        let text = format!("[listen.tls]\ncertificate = '{certificate}'\nkey = '{key}'\n");
        std::fs::write(&path, text).unwrap();
        let flags = [upstream_flag()];
        let loaded = load(Some(path), &Environment::default(), &flags).unwrap();
        let warnings: Vec<_> = loaded.warnings.iter().map(Problem::to_string).collect();
        match words {
            None => assert!(warnings.is_empty(), "{warnings:?}"),
            Some(words) => {
                let [warning] = &warnings[..] else {
                    panic!("{warnings:?}")
                };
                assert!(warning.contains("listen.tls.certificate"), "{warning}");
                assert!(warning.contains(words), "{warning}");
            }
        }
    }
}
