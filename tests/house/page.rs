//! Every file and every name of the code that docs/architecture.md names is there, and every room is
//! on the page.

use std::path::Path;

use crate::source::House;
use crate::{FLOORS, HOUSE};

const PAGE: &str = include_str!("../../docs/architecture.md");

/// What a definition begins with.
const KINDS: &[&str] = &[
    "fn", "struct", "enum", "trait", "type", "const", "static", "mod",
];

/// What stands between backquotes, with the line on which it does.
fn spans(page: &str) -> impl Iterator<Item = (usize, &str)> {
    page.lines().enumerate().flat_map(|(index, line)| {
        let parts = line.split('`').skip(1).step_by(2);
        parts.map(move |span| (index + 1, span))
    })
}

/// What is wrong with a span, if it names a file or something in the code.
fn wrong(span: &str, house: &House) -> Option<String> {
    if span.contains("::") {
        return wrong_name(span, house);
    }
    let is_path = !span.contains(' ') && !span.starts_with('/') && span.contains(['/', '.']);
    let is_file = Path::new(span).extension().is_some_and(|extension| {
        ["rs", "md", "toml", "txt", "sh"]
            .iter()
            .any(|e| extension == *e)
    });
    if !is_path || !(is_file || span.contains('/')) {
        return None;
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let found = [root.join(span), root.join("src").join(span)];
    (!found.iter().any(|path| path.exists())).then(|| format!("there is no file {span}"))
}

/// What is wrong with a name: a module, something that it defines, and perhaps a part of that.
fn wrong_name(span: &str, house: &House) -> Option<String> {
    let name = span.trim_end_matches("()");
    let path: Vec<&str> = name.split("::").collect();
    let module = (1..=path.len())
        .rev()
        .map(|length| path[..length].join("::"))
        .find(|module| house.modules().any(|known| known == module));
    let Some(module) = module else {
        return Some(format!("{span} begins with no module of this crate"));
    };
    let parts = &path[module.split("::").count()..];
    let defined = |module: &str, words: &[&str], name: &str| {
        house
            .texts_of(module)
            .any(|text| words.iter().any(|word| defines(text, word, name)))
    };
    let missing = match parts {
        [] => None,
        [item] => (!defined(&module, KINDS, item)).then_some(*item),
        // A method, which any file of the room may have; a constant, a variant or a field.
        [item, part, ..] if defined(&module, KINDS, item) => {
            (!defined(path[0], &["fn", "const", "", "pub"], part)).then_some(*part)
        }
        [item, ..] => Some(*item),
    };
    missing.map(|missing| format!("{span}: there is no {missing} in {module}"))
}

/// True if a line of a text says `word name`, whatever its visibility; without a word, if a line begins
/// with the name.
fn defines(text: &str, word: &str, name: &str) -> bool {
    text.lines().any(|line| {
        let line = line.trim_start();
        let behind = if word.is_empty() {
            line.strip_prefix(name)
        } else {
            let start = format!("{word} {name}");
            line.find(&start)
                .filter(|at| !line[..*at].ends_with(|c: char| c.is_alphanumeric()))
                .map(|at| &line[at + start.len()..])
        };
        behind.is_some_and(|rest| !rest.starts_with(|c: char| c.is_alphanumeric() || c == '_'))
    })
}

#[test]
fn what_the_page_names_is_there() {
    let wrong: Vec<String> = spans(PAGE)
        .filter_map(|(line, span)| {
            wrong(span, &HOUSE).map(|why| format!("docs/architecture.md:{line}: {why}"))
        })
        .collect();
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
}

#[test]
fn every_room_is_on_the_page() {
    for room in FLOORS.iter().copied().flatten() {
        let forms = [format!("{room}/"), format!("{room}.rs")];
        assert!(
            spans(PAGE).any(|(_, span)| forms.iter().any(|form| form == span)),
            "docs/architecture.md does not say what the room `{room}` is for"
        );
    }
}

#[test]
fn what_is_not_there_is_told() {
    let house = House::of(
        [
            ("core/mod.rs", "mod queue;\npub struct Core;\n"),
            (
                "core/queue.rs",
                "impl Core {\n    pub(super) fn push(&self) {}\n}\n",
            ),
        ]
        .into_iter(),
    );
    for right in [
        "core::Core",
        "core::Core::push",
        "core::queue",
        "SET a = 1",
        "tests/house/page.rs",
    ] {
        assert_eq!(wrong(right, &house), None, "{right}");
    }
    for mistake in [
        "core::Cor",
        "core::Core::pus",
        "core::queues",
        "tests/house/pages.rs",
    ] {
        assert!(wrong(mistake, &house).is_some(), "{mistake}");
    }
}
