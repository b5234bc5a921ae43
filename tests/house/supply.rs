//! What the binary is made of: `deny.toml` says what may be, and `Cargo.lock` what is. cargo-deny does
//! the same and more, where it is installed.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

fn read(name: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).unwrap()
}

fn cargo(arguments: &[&str]) -> String {
    let done = Command::new(env!("CARGO"))
        .args(arguments)
        .args(["--locked", "--offline"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(done.status.success(), "{done:?}");
    String::from_utf8(done.stdout).unwrap()
}

/// The crates in the binary, as `name version`.
fn crates() -> Vec<String> {
    let tree = cargo(&[
        "tree", "--edges", "normal", "--prefix", "none", "--format", "{p}",
    ]);
    let mut crates: Vec<String> = tree
        .lines()
        .map(|line| {
            let mut words = line.split(' ');
            let name = words.next().unwrap();
            format!("{name} {}", words.next().unwrap().trim_start_matches('v'))
        })
        .collect();
    crates.sort();
    crates.dedup();
    crates
}

/// The system that this runs on: others' crates need not be here.
fn host() -> String {
    let done = Command::new("rustc").arg("-vV").output().unwrap();
    let said = String::from_utf8(done.stdout).unwrap();
    let host = said.lines().find_map(|line| line.strip_prefix("host: "));
    host.unwrap().to_owned()
}

/// What cargo says of each of them.
fn packages() -> Vec<Value> {
    let all = cargo(&[
        "metadata",
        "--format-version",
        "1",
        "--filter-platform",
        &host(),
    ]);
    let metadata: Value = serde_json::from_str(&all).unwrap();
    let crates = crates();
    let name = |package: &Value| {
        let text = |key: &str| package[key].as_str().unwrap().to_owned();
        format!("{} {}", text("name"), text("version"))
    };
    let all = metadata["packages"].as_array().unwrap().iter();
    let packages: Vec<Value> = all.filter(|p| crates.contains(&name(p))).cloned().collect();
    assert_eq!(packages.len(), crates.len());
    packages
}

fn deny() -> toml::Table {
    read("deny.toml").parse().unwrap()
}

fn texts(value: &toml::Value) -> Vec<&str> {
    value
        .as_array()
        .unwrap()
        .iter()
        .map(|v| v.as_str().unwrap())
        .collect()
}

/// True if one of the choices of an SPDX expression has allowed licences alone. `/` is the old way to
/// write OR.
fn is_allowed(expression: &str, allowed: &[&str]) -> bool {
    let spaced = expression
        .replace('(', " ( ")
        .replace(')', " ) ")
        .replace('/', " OR ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut at = 0;
    let good = either(&words, &mut at, allowed);
    assert_eq!(at, words.len(), "{expression:?} is not understood");
    good
}

fn either(words: &[&str], at: &mut usize, allowed: &[&str]) -> bool {
    let mut good = both(words, at, allowed);
    while words.get(*at) == Some(&"OR") {
        *at += 1;
        good |= both(words, at, allowed);
    }
    good
}

fn both(words: &[&str], at: &mut usize, allowed: &[&str]) -> bool {
    let mut good = one(words, at, allowed);
    while words.get(*at) == Some(&"AND") {
        *at += 1;
        good &= one(words, at, allowed);
    }
    good
}

fn one(words: &[&str], at: &mut usize, allowed: &[&str]) -> bool {
    let word = words.get(*at).copied().unwrap_or_default();
    *at += 1;
    if word == "(" {
        let good = either(words, at, allowed);
        assert_eq!(words.get(*at), Some(&")"));
        *at += 1;
        return good;
    }
    if words.get(*at) == Some(&"WITH") {
        let with = format!("{word} WITH {}", words[*at + 1]);
        *at += 2;
        return allowed.contains(&&*with);
    }
    allowed.contains(&word)
}

#[test]
fn licences_are_among_those_that_are_allowed() {
    let deny = deny();
    let allowed = texts(&deny["licenses"]["allow"]);
    let wrong: Vec<String> = packages()
        .iter()
        .map(|p| {
            (
                p["name"].as_str().unwrap(),
                p["license"].as_str().unwrap_or("none"),
            )
        })
        .filter(|(_, license)| !is_allowed(license, &allowed))
        .map(|(name, license)| format!("{name}: {license}"))
        .collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn an_expression_is_allowed_if_one_of_its_choices_is() {
    let allowed = ["MIT", "ISC", "Apache-2.0 WITH LLVM-exception"];
    for (expression, good) in [
        ("MIT", true),
        ("GPL-3.0", false),
        ("GPL-3.0 OR MIT", true),
        ("GPL-3.0/MIT", true),
        ("MIT AND GPL-3.0", false),
        ("MIT AND (GPL-3.0 OR ISC)", true),
        ("(MIT OR ISC) AND GPL-3.0", false),
        ("Apache-2.0 WITH LLVM-exception OR GPL-3.0", true),
        ("Apache-2.0", false),
    ] {
        assert_eq!(is_allowed(expression, &allowed), good, "{expression}");
    }
}

#[test]
fn sources_are_known_and_no_crate_is_banned() {
    let deny = deny();
    let registries = texts(&deny["sources"]["allow-registry"]);
    let bans = deny["bans"]["deny"].as_array().unwrap();
    let bans: Vec<&str> = bans
        .iter()
        .map(|ban| ban["crate"].as_str().unwrap())
        .collect();
    assert!(bans.contains(&"ring"));
    for package in packages() {
        let name = package["name"].as_str().unwrap();
        assert!(!bans.contains(&name), "{name} is banned");
        // Without a source: it is the project itself.
        let Some(source) = package["source"].as_str() else {
            assert_eq!(name, "osprey");
            continue;
        };
        let registry = source.strip_prefix("registry+").unwrap_or(source);
        assert!(registries.contains(&registry), "{name} comes from {source}");
    }
}

/// Nothing in the binary needs a newer compiler than what Osprey says that it needs.
#[test]
fn the_oldest_compiler_is_enough_for_every_crate() {
    let number = |text: &str| -> Vec<u64> { text.split('.').map(|n| n.parse().unwrap()).collect() };
    let manifest: toml::Table = read("Cargo.toml").parse().unwrap();
    let own = manifest["package"]["rust-version"].as_str().unwrap();
    for package in packages() {
        if let Some(needed) = package["rust_version"].as_str() {
            let name = package["name"].as_str().unwrap();
            assert!(number(needed) <= number(own), "{name} needs Rust {needed}");
        }
    }
    for (file, told) in [
        ("CONTRIBUTING.md", format!("Rust {own} or later")),
        ("CONTRIBUTING.md", format!("cargo +{own} check")),
        ("README.md", format!("Rust ({own} or later)")),
        ("README.zh.md", format!("Rust（{own} 或以上版本）")),
    ] {
        assert!(read(file).contains(&told), "{file}: {told}");
    }
    let dockerfile = read("deploy/Dockerfile");
    let images = dockerfile
        .lines()
        .filter_map(|line| line.strip_prefix("FROM rust:"));
    let images: Vec<_> = images
        .map(|image| image.split('-').next().unwrap())
        .collect();
    assert!(!images.is_empty(), "deploy/Dockerfile builds with no Rust");
    for image in images {
        assert!(number(image) >= number(own), "deploy/Dockerfile: {image}");
    }
    assert_eq!(
        manifest["lints"]["clippy"]["incompatible_msrv"].as_str(),
        Some("deny")
    );
}

/// The fuzz targets have a lock file of their own, which nothing else reads: it is made anew
/// (`cargo update --workspace --manifest-path fuzz/Cargo.toml`) when Osprey's dependencies change.
#[test]
fn the_fuzz_targets_lock_what_osprey_needs() {
    let manifest: toml::Table = read("Cargo.toml").parse().unwrap();
    let is_optional = |need: &toml::Value| need.get("optional").is_some();
    let needs = manifest["dependencies"].as_table().unwrap();
    let needs = needs.iter().filter(|(_, need)| !is_optional(need));
    let needs: BTreeSet<&str> = needs.map(|(name, _)| name.as_str()).collect();
    let lock: toml::Table = read("fuzz/Cargo.lock").parse().unwrap();
    let packages = lock["package"].as_array().unwrap();
    let osprey = packages
        .iter()
        .find(|package| package["name"].as_str() == Some("osprey"))
        .unwrap();
    // A crate of which there are several is named with its version.
    let locked = texts(&osprey["dependencies"]).into_iter();
    let locked: BTreeSet<&str> = locked.filter_map(|name| name.split(' ').next()).collect();
    assert_eq!(locked, needs);
}
