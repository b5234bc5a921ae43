//! The tables that there are.

mod knowledge;
mod process;
mod sessions;

use super::table::Table;

/// All of them, in the order of HELP.
pub(super) static TABLES: &[&Table] = &[
    &sessions::SESSIONS,
    &sessions::CLIENTS,
    &sessions::UPSTREAMS,
    &knowledge::DATABASES,
    &knowledge::TABLES,
    &knowledge::KEYS,
    &knowledge::LESSONS,
    &process::ADVICE,
    &process::STATEMENTS,
    &process::LATENCY,
    &process::LIMITS,
    &process::REPLICAS,
    &process::STATS,
    &process::CONFIG,
    &process::VERSION,
];

/// The table of this name.
pub(super) fn named(name: &str) -> Option<&'static Table> {
    TABLES.iter().copied().find(|table| table.name == name)
}
