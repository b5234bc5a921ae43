//! The filter for log lines. It is what the `tracing-subscriber` crate's `EnvFilter` takes, without
//! what that takes though nobody means it: to `EnvFilter` a misspelt level is a target, and a
//! misspelt target is one for which nothing is logged.

use tracing_subscriber::EnvFilter;

use super::problem::nearest;

/// The levels, in rising order.
const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

/// This crate, as a target.
const OWN: &str = "osprey";

/// The modules that log; a test compares them with the source.
const MODULES: &[&str] = &[
    "osprey::cli::serve",
    "osprey::console::command",
    "osprey::console::connection",
    "osprey::console::login",
    "osprey::console::socket",
    "osprey::fleet::link",
    "osprey::fleet::shared",
    "osprey::keys::cache",
    "osprey::keys::cache::kept",
    "osprey::keys::cloud",
    "osprey::keys::cloud::api",
    "osprey::keys::cloud::renewal",
    "osprey::net::endpoint",
    "osprey::net::event_loop::timers",
    "osprey::net::tcp",
    "osprey::observe::http",
    "osprey::observe::logs",
    "osprey::observe::systemd",
    "osprey::protection::knowledge::database",
    "osprey::protection::knowledge::refresh",
    "osprey::server::activation",
    "osprey::server::ending",
    "osprey::server::listening",
    "osprey::server::reload",
    "osprey::server::signals",
    "osprey::server::takeover::giving",
    "osprey::server::takeover::successor",
    "osprey::server::takeover::taking",
    "osprey::server::watchdog",
    "osprey::server::watching",
    "osprey::server::worker",
    "osprey::session::admit",
    "osprey::session::begin",
    "osprey::session::cancel",
    "osprey::session::pump",
    "osprey::session::refuse",
    "osprey::session::running",
    "osprey::session::running::report",
    "osprey::session::scram",
    "osprey::session::serve",
    "osprey::session::world",
    "osprey::traces::otlp",
];

/// Checks a filter: levels, each for all modules or behind `TARGET=`, separated by commas. Blanks beside
/// the commas are allowed here, though not to `EnvFilter`.
pub(crate) fn parse(text: &str) -> Result<String, String> {
    let wrong = |why: &str| Err(format!("{text:?} is not a log filter: {why}"));
    if text.trim().is_empty() {
        return wrong(&format!("it is empty; write one of {}", LEVELS.join(", ")));
    }
    let directives: Vec<_> = text.split(',').map(str::trim).collect();
    for directive in &directives {
        if let Err(why) = check(directive) {
            return wrong(&why);
        }
    }
    let filter = directives.join(",");
    match EnvFilter::try_new(&filter) {
        Ok(_) => Ok(filter),
        Err(_) => {
            wrong("write a level, or levels for modules, as in \"info,osprey::session=debug\"")
        }
    }
}

/// One part: `LEVEL`, `TARGET=LEVEL`, or a target of this crate's alone. (`EnvFilter` would take
/// spans in brackets as well; nothing here opens one.)
fn check(directive: &str) -> Result<(), String> {
    let target = match directive.split_once('=') {
        Some((target, word)) => {
            level(word.trim())?;
            target.trim()
        }
        None => directive,
    };
    let name = target.split("::").next().unwrap_or_default();
    if name == OWN {
        return module(target);
    }
    if target == directive {
        return level(target);
    }
    let plain = |c: char| c.is_alphanumeric() || matches!(c, '_' | ':');
    if target.is_empty() || !target.chars().all(plain) {
        return Err(format!("{target:?} is no crate or module"));
    }
    match nearest(name, [OWN]) {
        Some(right) => Err(format!(
            "{name:?} is no crate here; did you mean \"{right}\"?"
        )),
        None => Ok(()),
    }
}

fn level(word: &str) -> Result<(), String> {
    if LEVELS.iter().any(|level| level.eq_ignore_ascii_case(word)) {
        return Ok(());
    }
    let slip = nearest(word, LEVELS)
        .map(|level| format!("; did you mean \"{level}\"?"))
        .unwrap_or_default();
    let levels = LEVELS.join(", ");
    Err(format!(
        "{word:?} is no level; levels are {levels}, alone or for a module, as in \
         \"info,osprey::session=debug\"{slip}"
    ))
}

/// A module that logs, or one around such.
fn module(target: &str) -> Result<(), String> {
    let known = |module: &&str| {
        let rest = module.strip_prefix(target);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
    };
    if MODULES.iter().any(known) {
        return Ok(());
    }
    let right = match nearest(target, MODULES.iter().flat_map(|module| with_outer(module))) {
        Some(module) => format!("did you mean \"{module}\"?"),
        None => format!("those that do are {}", MODULES.join(", ")),
    };
    Err(format!("there is no module {target} that logs; {right}"))
}

/// A module, and those around it.
fn with_outer(module: &'static str) -> impl Iterator<Item = &'static str> {
    std::iter::successors(Some(module), |inner| {
        inner.rsplit_once("::").map(|(outer, _)| outer)
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::*;

    #[test]
    fn levels_and_targets() {
        for right in [
            "info",
            "INFO",
            "off",
            "info,osprey::session=debug",
            "info,osprey=debug",
            "osprey",
            "osprey::keys=trace,hyper=off,tokio_postgres::connection=debug",
        ] {
            assert_eq!(parse(right).as_deref(), Ok(right));
        }
        assert_eq!(
            parse(" info, osprey=debug ").as_deref(),
            Ok("info,osprey=debug")
        );
        for (wrong, why) in [
            ("", "it is empty"),
            ("verbose", "\"verbose\" is no level; levels are off, error"),
            ("inof", "did you mean \"info\"?"),
            ("infos,osprey::session=debug", "did you mean \"info\"?"),
            ("info,osprey::session=debugg", "did you mean \"debug\"?"),
            ("info,osprey::session=5", "\"5\" is no level"),
            (
                "info,osprey::sesion=debug",
                "did you mean \"osprey::session\"?",
            ),
            ("info,osprey::sql=debug", "no module osprey::sql that logs"),
            ("info,ospery::session=debug", "did you mean \"osprey\"?"),
            ("info,hyper", "\"hyper\" is no level"),
            ("info,a b=debug", "no crate or module"),
            ("[span]=debug", "no crate or module"),
            ("info,,debug", "\"\" is no level"),
        ] {
            let text = parse(wrong).expect_err(wrong);
            assert!(text.contains(why), "{wrong}: {text}");
        }
    }

    /// The modules of `directory` in whose files something is logged.
    fn logging(directory: &Path, path: &str, found: &mut BTreeSet<String>) {
        let calls =
            ["trace", "debug", "info", "warn", "error"].map(|level| format!("tracing::{level}!"));
        for entry in std::fs::read_dir(directory).unwrap() {
            let entry = entry.unwrap().path();
            let name = entry.file_stem().unwrap().to_str().unwrap();
            let module = match name {
                "mod" | "lib" | "main" => path.to_owned(),
                name => format!("{path}::{name}"),
            };
            if entry.is_dir() {
                logging(&entry, &module, found);
            } else {
                let text = std::fs::read_to_string(&entry).unwrap();
                if calls.iter().any(|call| text.contains(call)) {
                    found.insert(module);
                }
            }
        }
    }

    #[test]
    fn every_module_that_logs_is_known_and_no_other() {
        let mut found = BTreeSet::new();
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        logging(&source, OWN, &mut found);
        let known = MODULES.iter().map(|&module| module.to_owned());
        assert_eq!(found, known.collect::<BTreeSet<_>>());
    }
}
