//! A table of the console: its columns, and where its rows come from.

use super::value::{Row, Type};
use super::world::View;

/// One column.
pub(super) struct Described {
    pub(super) name: &'static str,
    pub(super) kind: Type,
    /// What it says, for the reference.
    pub(super) means: &'static str,
}

/// One table. It is made anew whenever it is asked for.
pub(super) struct Table {
    pub(super) name: &'static str,
    /// What it shows, for the reference and for HELP.
    pub(super) about: &'static str,
    pub(super) columns: &'static [Described],
    pub(super) rows: fn(&View) -> Vec<Row>,
}

/// A column, described.
pub(super) const fn column(name: &'static str, kind: Type, means: &'static str) -> Described {
    Described { name, kind, means }
}
