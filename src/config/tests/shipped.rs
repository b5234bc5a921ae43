//! `config/osprey.toml` shows every setting, and shows it right.

use super::super::file as toml_file;
use super::*;

const SHIPPED: &str = include_str!("../../../config/osprey.toml");

/// The shipped file with the lines that start with `mark` enabled.
fn enabled(marks: &[&str]) -> String {
    let enable = |line: &str| {
        let mark = marks.iter().find(|mark| line.starts_with(**mark));
        mark.map_or(line, |mark| &line[mark.len()..]).to_owned() + "\n"
    };
    SHIPPED.lines().map(enable).collect()
}

#[test]
fn the_shipped_file_is_right_as_it_is_and_with_every_default_enabled() {
    for text in [SHIPPED.to_owned(), enabled(&["#= "])] {
        let loaded = load_text(&text).unwrap_or_else(|problems| panic!("{problems:#?}"));
        assert_eq!(loaded.settings, Settings::for_upstream("holo", 80));
        assert_eq!(loaded.warnings, []);
    }
}

#[test]
fn the_shipped_file_shows_every_key_and_its_examples_are_right() {
    let text = enabled(&["#= ", "#e.g. "]);
    let mut draft = Draft::new();
    let asked = toml_file::parse("osprey.toml", &text, &mut draft);
    let without_feature = |key: &str| !cfg!(feature = "traces") && key == "observe.traces";
    let mut problems = draft.notes.problems.clone();
    problems.retain(|problem| !without_feature(&problem.key));
    assert_eq!(problems, []);
    let mut shown = draft.notes.settings();
    let mut draft = Draft::new();
    toml_file::parse("osprey.toml", &long_form(), &mut draft);
    shown.append(&mut draft.notes.settings());
    // A listener and an upstream take what the short form takes; it is shown there.
    let elsewhere = |key: &str| {
        let short = key
            .strip_prefix("listener.")
            .map(|key| format!("listen.{key}"));
        let short = short.or_else(|| key.strip_prefix("upstream.").map(str::to_owned));
        short.is_some_and(|short| shown.contains(&short))
    };
    let missing: Vec<_> = asked
        .iter()
        .filter(|key| !shown.contains(*key) && !elsewhere(key))
        .collect();
    assert!(
        missing.is_empty(),
        "config/osprey.toml does not show {missing:?}"
    );
}

/// The shipped file with the long form enabled, and the short one out of its way.
fn long_form() -> String {
    let short = ["[listen]", "[upstream]", "[upstream.tls]"];
    let lines = SHIPPED.lines().filter(|line| !short.contains(line));
    let enable = |line: &str| line.strip_prefix("#or: ").unwrap_or(line).to_owned() + "\n";
    lines.map(enable).collect()
}

#[test]
fn the_shipped_long_form_is_right() {
    let (_directory, path) = file(&long_form());
    let loaded = load(Some(path), &Environment::default(), &[]);
    let loaded = loaded.unwrap_or_else(|problems| panic!("{problems:#?}"));
    let Settings {
        upstreams,
        listeners,
        ..
    } = &loaded.settings;
    let names: Vec<_> = upstreams.iter().map(|u| u.name.as_str()).collect();
    assert_eq!(names, ["prod", "etl"]);
    assert_eq!(upstreams[0].route.kind, RouteKind::Sqe);
    assert_eq!(upstreams[1].route.kind, RouteKind::CommonTable);
    assert_eq!(upstreams[1].protect.projects.len(), 2);
    assert_eq!(listeners.len(), 2);
    assert_eq!(listeners[0].rules.len(), 2);
    assert_eq!(listeners[0].rules[0].database, "*");
    // The account has no password, since the file that the password would be in does not exist.
    assert_eq!(loaded.warnings.len(), 1, "{:?}", loaded.warnings);
}

proptest::proptest! {
    /// Whatever a file is broken into, it is answered with problems, and none repeats a secret.
    #[test]
    fn a_broken_file_neither_panics_nor_tells_its_secrets(
        line in 0..SHIPPED.lines().count(),
        cut in 0usize..200,
        insert in "[\"'=\\[\\]{}.#\n a-z0-9]{0,6}",
    ) {
        let mut lines: Vec<String> =
            enabled(&["#= ", "#e.g. "]).lines().map(str::to_owned).collect();
        let secret = "password = \"hunter2-is-secret\"";
        let (before, after) = secret.split_at(cut.min(secret.len()));
        lines.insert(line, format!("{before}{insert}{after}"));
        let mut draft = Draft::new();
        toml_file::parse("osprey.toml", &lines.join("\n"), &mut draft);
        let texts: String = draft.notes.problems.iter().map(Problem::to_string).collect();
        let told = texts.contains("hunter2") || texts.contains("is-secret");
        proptest::prop_assert!(!told, "{}", texts);
    }
}
