//! Every table over a server that nobody has used yet, and the reference that documents them.

use std::fmt::Write as _;
use std::sync::Arc;

use super::help::COMMANDS;
use super::tables::TABLES;
use super::value::{Type, Value};
use super::world::{Control, View, World};
use crate::config::Settings;
use crate::observe::metrics::Reload;
use crate::server::Server;

const PAGE: &str = include_str!("../../docs/console.md");
/// Between these lines stands what the code says.
const BEGIN: &str = "<!-- made from the code: cargo test --lib console::tests -- --ignored -->\n";
const END: &str = "<!-- end -->\n";

/// A server on free ports, in front of nothing, with what the console sees of it.
fn world() -> (Server, World) {
    let mut settings = Settings::for_upstream("127.0.0.1", 1);
    settings.listeners[0].addresses = vec!["127.0.0.1:0".parse().unwrap()];
    settings.observe.metrics = None;
    settings.upstream_mut().max_sessions = Some(5);
    let server = Server::bind(settings).unwrap();
    let world = World {
        view: View {
            shared: Arc::clone(server.shared()),
        },
        control: Control {
            reload: Box::new(|| Box::pin(async { Reload::Applied })),
            drain: Box::new(|| ()),
        },
    };
    (server, world)
}

#[test]
fn every_row_has_a_value_of_its_type_for_each_column() {
    let (_server, world) = world();
    let upstream = &world.upstreams()[0];
    upstream.knowledge().keys().learn("sales");
    let mut filled = 0;
    for table in TABLES {
        let rows = (table.rows)(&world);
        filled += usize::from(!rows.is_empty());
        for row in rows {
            assert_eq!(row.len(), table.columns.len(), "{}", table.name);
            for (value, column) in row.iter().zip(table.columns) {
                let right = match value {
                    Value::Null => true,
                    Value::Text(_) => column.kind == Type::Text,
                    Value::Int(_) => column.kind == Type::Int,
                    Value::Float(_) => column.kind == Type::Float,
                    Value::Bool(_) => column.kind == Type::Bool,
                };
                assert!(right, "{}.{}: {value:?}", table.name, column.name);
            }
        }
    }
    assert_eq!(
        filled, 9,
        "upstreams, keys, lessons, statements, latency, limits, stats, config, version"
    );
}

#[test]
fn limits_and_settings_are_those_in_force() {
    let (_server, world) = world();
    let rows = |name| {
        let table = super::tables::named(name).unwrap();
        (table.rows)(&world)
    };
    let text = |text: &str| Value::Text(text.to_owned());
    let limit = |setting, most| vec![text(setting), Value::Int(most), Value::Null, Value::Int(0)];
    assert!(rows("limits").contains(&limit("upstream.default.max_sessions", 5)));
    let mut shared = Settings::clone(&world.shared.settings.load());
    shared.limits.max_sessions_per_user = Some(3);
    world.shared.settings.store(Arc::new(shared));
    assert!(rows("limits").contains(&limit("limits.max_sessions_per_user", 3)));
    let setting = vec![text("route"), text("kind"), text("\"sqe\""), Value::Null];
    assert!(rows("config").contains(&setting));

    // What is read at a start alone is not in force before the next one.
    let mut other = Settings::clone(&world.shared.settings.load());
    other.observe.log = "debug".into();
    other.console.socket = Some("/run/osprey/console".into());
    other.listeners[0].addresses = vec!["127.0.0.1:7".parse().unwrap()];
    world.shared.settings.store(Arc::new(other));
    let config = rows("config");
    let of = |section: &str, key: &str| {
        let row = config
            .iter()
            .find(|row| row[..2] == [text(section), text(key)]);
        row.map(|row| [row[2].clone(), row[3].clone()])
    };
    let log = [text("\"info\""), text("\"debug\"")];
    assert_eq!(of("observe", "log"), Some(log));
    let socket = [Value::Null, text("\"/run/osprey/console\"")];
    assert_eq!(of("console", "socket"), Some(socket));
    let addresses = [text("[\"127.0.0.1:0\"]"), text("[\"127.0.0.1:7\"]")];
    assert_eq!(of("listen", "addresses"), Some(addresses));
}

/// The reference, as the code says it.
fn reference() -> String {
    let mut page = String::from("## Commands\n\n| command | what it does |\n|---|---|\n");
    for (command, about) in COMMANDS {
        let _ = writeln!(page, "| `{}` | {about} |", command.replace('|', "\\|"));
    }
    page += "\n## Tables\n";
    for table in TABLES {
        let (name, about) = (table.name, table.about);
        let _ = writeln!(page, "\n### `{name}`\n\n{about}.\n");
        page += "| column | type | what it says |\n|---|---|---|\n";
        for column in table.columns {
            let kind = column.kind.name();
            let _ = writeln!(page, "| `{}` | `{kind}` | {} |", column.name, column.means);
        }
    }
    page
}

/// The page in three parts, of which the reference is the middle one.
fn parts() -> (&'static str, &'static str, &'static str) {
    let (before, rest) = PAGE
        .split_once(BEGIN)
        .expect("docs/console.md has the first mark");
    let (middle, after) = rest
        .split_once(END)
        .expect("docs/console.md has the second mark");
    (before, middle, after)
}

#[test]
fn the_reference_says_what_the_code_does() {
    let (_, middle, _) = parts();
    assert!(
        middle == reference(),
        "docs/console.md is out of date: cargo test --lib console::tests -- --ignored writes it anew"
    );
}

#[test]
#[ignore = "writes docs/console.md"]
fn write_the_reference() {
    let (before, _, after) = parts();
    let page = [before, BEGIN, &reference(), END, after].concat();
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/console.md");
    std::fs::write(path, page).unwrap();
}
