//! Which databases are paused: no transaction begins in them until they go on.

use std::collections::BTreeSet;

use crate::catalog::database_name;

/// Which databases are paused.
#[derive(Debug, Default)]
pub(super) struct Pauses {
    all: bool,
    databases: BTreeSet<String>,
    /// Moves with every change.
    changes: u64,
}

impl Pauses {
    /// Pauses one database, or all.
    pub(super) fn pause(&mut self, database: Option<&str>) {
        match database {
            Some(name) => {
                self.databases.insert(name.to_owned());
            }
            None => self.all = true,
        }
        self.changes += 1;
    }

    /// Lets one database go on, or all; false: it was not paused by itself.
    pub(super) fn resume(&mut self, database: Option<&str>) -> bool {
        self.changes += 1;
        if let Some(name) = database {
            return self.databases.remove(name);
        }
        let was_paused = self.is_any();
        (self.all, self.databases) = (false, BTreeSet::new());
        was_paused
    }

    /// True if sessions of this database, as a startup packet names it, are held.
    pub(super) fn cover(&self, startup_database: &str) -> bool {
        self.all || self.databases.contains(database_name(startup_database))
    }

    /// True if all databases are paused.
    pub(super) fn are_all(&self) -> bool {
        self.all
    }

    /// The databases that are paused by themselves.
    pub(super) fn named(&self) -> impl Iterator<Item = &str> {
        self.databases.iter().map(String::as_str)
    }

    /// True if anything is paused.
    pub(super) fn is_any(&self) -> bool {
        self.all || !self.databases.is_empty()
    }

    /// A number that is another one after every change.
    pub(super) fn changes(&self) -> u64 {
        self.changes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_is_paused_with_its_warehouses_and_goes_on_by_its_name() {
        let mut pauses = Pauses::default();
        pauses.pause(Some("dw"));
        assert!(pauses.cover("dw") && pauses.cover("dw@etl") && !pauses.cover("dwh"));
        assert!(!pauses.resume(Some("dwh")));
        assert!(pauses.resume(Some("dw")) && !pauses.is_any());
        pauses.pause(None);
        pauses.pause(Some("dw"));
        assert!(pauses.cover("anything"));
        assert!(pauses.resume(None) && !pauses.cover("dw"));
        assert!(!pauses.resume(None));
    }
}
