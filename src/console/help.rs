//! What HELP says. The reference in docs/console.md has the same lines.

use super::table::Table;
use super::tables::TABLES;
use super::value::{Column, Row, Type, Value};

/// Every command, and what it does.
pub(super) const COMMANDS: &[(&str, &str)] = &[
    (
        "SHOW table [LIKE 'pattern']",
        "the rows of a table; with LIKE those in which a column matches",
    ),
    (
        "SELECT … FROM table [WHERE column = 'value' AND …] [ORDER BY column] [LIMIT n]",
        "the same, as a query: columns or count(*), conditions joined by AND",
    ),
    ("HELP [table]", "this, or the columns of a table"),
    (
        "EXPLAIN ROUTE 'statement' [AS user] [IN database]",
        "whether Osprey takes a statement to read encrypted data, why, and what it would send",
    ),
    (
        "CANCEL id",
        "cancels what a session's server is doing, as its client could (57014)",
    ),
    ("KILL id", "ends a session; its client is told so (57P01)"),
    ("RELOAD", "reads the configuration again, as SIGHUP does"),
    (
        "DRAIN",
        "shuts down, as SIGTERM does: sessions finish what they are at, then the process ends",
    ),
    (
        "PAUSE [database]",
        "lets no transaction begin and no client log in, in a database or in all, and waits until those under way have ended",
    ),
    ("RESUME [database]", "lets them go on"),
    (
        "INVALIDATE KEY project|ALL",
        "forgets what is known of a project's key, so that it is looked up again",
    ),
    (
        "FORGET LESSON subject|ALL",
        "takes back what was learned from a failure of HQE's; subject: as SHOW LESSONS has it",
    ),
    (
        "REFRESH CATALOG [database]",
        "has a database's catalogs read again, or those of all",
    ),
    (
        "SET LOG 'filter'",
        "logs by another filter until the next start, as observe.log has it",
    ),
];

/// The rows of HELP.
pub(super) fn help() -> (Vec<Column>, Vec<Row>) {
    let columns = ["command", "what it does"].map(|name| Column {
        name: name.to_owned(),
        kind: Type::Text,
    });
    let row = |command: &str, about: &str| {
        let parts = [command, about];
        parts.map(|part| Value::Text(part.to_owned())).into()
    };
    let commands = COMMANDS.iter().map(|(command, about)| row(command, about));
    let tables = TABLES.iter().map(|table| {
        let command = format!("SHOW {}", table.name.to_uppercase());
        row(&command, table.about)
    });
    (columns.into(), commands.chain(tables).collect())
}

/// The rows of HELP for one table: its columns.
pub(super) fn columns_of(table: &Table) -> (Vec<Column>, Vec<Row>) {
    let columns = ["column", "type", "what it says"].map(|name| Column {
        name: name.to_owned(),
        kind: Type::Text,
    });
    let rows = table.columns.iter().map(|column| {
        let parts = [column.name, column.kind.name(), column.means];
        parts.map(|part| Value::Text(part.to_owned())).into()
    });
    (columns.into(), rows.collect())
}
