//! A session's settings and what transactions do to them, as PostgreSQL has it: SET is undone by
//! ROLLBACK, SET LOCAL by either end of the transaction, and a statement outside of BEGIN is in an
//! implicit transaction of its own.

use std::collections::BTreeMap;

use super::value::{SqlError, boolean};

/// The setting that chooses between HQE (on) and SQE (off).
pub(super) const ORC_VIA_HOLO: &str = "hg_experimental_enable_access_odps_orc_via_holo";
/// Its newer name: the same setting.
const ORC_VIA_HOLO_RENAMED: &str = "hg_enable_access_odps_orc_via_holo";
/// The setting that can send MaxCompute reads through Common Table instead.
pub(super) const CATALOG_ROUTING: &str = "hg_experimental_external_catalog_routing";
/// How many rows HQE delivers before it fails on encrypted data.
pub(super) const FAIL_AFTER_ROWS: &str = "osprey_simulator.fail_after_rows";

/// Reported to the client whenever they change (PostgreSQL's `GUC_REPORT`).
const REPORTED: [&str; 6] = [
    "application_name",
    "client_encoding",
    "DateStyle",
    "IntervalStyle",
    "standard_conforming_strings",
    "TimeZone",
];

const DEFAULTS: [(&str, &str); 26] = [
    (ORC_VIA_HOLO, "on"),
    (CATALOG_ROUTING, "odps:hqe,dlf:hqe"),
    (FAIL_AFTER_ROWS, "0"),
    ("application_name", ""),
    ("client_encoding", "UTF8"),
    ("client_min_messages", "notice"),
    ("datestyle", "ISO, MDY"),
    ("default_transaction_isolation", "read committed"),
    ("default_transaction_read_only", "off"),
    ("extra_float_digits", "0"),
    ("idle_in_transaction_session_timeout", "10min"),
    ("integer_datetimes", "on"),
    ("intervalstyle", "postgres"),
    ("is_superuser", "off"),
    ("lc_collate", "en_US.UTF-8"),
    ("max_identifier_length", "63"),
    ("max_index_keys", "32"),
    ("search_path", "\"$user\", public"),
    ("server_encoding", "UTF8"),
    ("server_version", "11.3"),
    ("server_version_num", "110003"),
    ("standard_conforming_strings", "on"),
    ("statement_timeout", "8h"),
    ("timezone", "UTC"),
    ("transaction_isolation", "read committed"),
    ("transaction_read_only", "off"),
];

type Values = BTreeMap<String, String>;

/// All settings of one session, and the transaction it is in.
#[derive(Debug)]
pub(super) struct Settings {
    /// What RESET goes back to.
    initial: Values,
    /// What stays when the transaction commits.
    session: Values,
    /// What counts now; differs from `session` by SET LOCAL.
    current: Values,
    transaction: Option<Transaction>,
    reported: Vec<(&'static str, String)>,
}

#[derive(Debug)]
struct Transaction {
    before: Values,
    /// Begun by BEGIN, not by a statement on its own.
    explicit: bool,
    failed: bool,
    savepoints: Vec<(String, Values, Values)>,
}

/// What ReadyForQuery says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Status {
    Idle,
    InTransaction,
    Failed,
}

impl Settings {
    /// Settings of a new session: the defaults, then `overrides` (the database's, then the startup
    /// packet's), which become what RESET goes back to.
    pub(super) fn new(
        overrides: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, SqlError> {
        let mut initial: Values = DEFAULTS
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        for (name, value) in overrides {
            let name = canonical(&name);
            let value = checked(&name, value)?;
            initial.insert(name, value);
        }
        let mut settings = Self {
            session: initial.clone(),
            current: initial.clone(),
            initial,
            transaction: None,
            reported: Vec::new(),
        };
        settings.take_changed_reports();
        Ok(settings)
    }

    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.current.get(&canonical(name)).map(String::as_str)
    }

    /// All that there are, by their names in lower case.
    pub(super) fn all(&self) -> &BTreeMap<String, String> {
        &self.current
    }

    /// True if the session has set it to something else than it began with.
    pub(super) fn is_own(&self, name: &str) -> bool {
        self.current.get(name) != self.initial.get(name)
    }

    /// `SHOW name`.
    pub(super) fn show(&self, name: &str) -> Result<&str, SqlError> {
        self.get(name).ok_or_else(|| unrecognized(name))
    }

    /// `SET name = value`; `None` is DEFAULT.
    pub(super) fn set(
        &mut self,
        name: &str,
        value: Option<String>,
        local: bool,
    ) -> Result<(), SqlError> {
        let name = canonical(name);
        let value = match value {
            Some(value) => Some(checked(&name, value)?),
            None => self.initial.get(&name).cloned(),
        };
        let put = |values: &mut Values| match &value {
            Some(value) => drop(values.insert(name.clone(), value.clone())),
            None => drop(values.remove(&name)),
        };
        put(&mut self.current);
        if !local {
            put(&mut self.session);
        }
        Ok(())
    }

    /// `RESET ALL`.
    pub(super) fn reset_all(&mut self) {
        self.session = self.initial.clone();
        self.current = self.initial.clone();
    }

    pub(super) fn status(&self) -> Status {
        match &self.transaction {
            Some(transaction) if transaction.failed => Status::Failed,
            Some(transaction) if transaction.explicit => Status::InTransaction,
            _ => Status::Idle,
        }
    }

    /// A statement is about to run: it is in a transaction, if only in one of its own.
    pub(super) fn begin_statement(&mut self) {
        if self.transaction.is_none() {
            self.transaction = Some(Transaction {
                before: self.session.clone(),
                explicit: false,
                failed: false,
                savepoints: Vec::new(),
            });
        }
    }

    /// The end of a simple query, or Sync: commits what no BEGIN has made last longer.
    pub(super) fn end_implicit(&mut self) {
        if self.status() == Status::Idle {
            self.commit();
        }
    }

    /// A statement has failed.
    pub(super) fn fail(&mut self) {
        match &mut self.transaction {
            Some(transaction) if transaction.explicit => transaction.failed = true,
            _ => self.rollback(),
        }
    }

    /// `BEGIN`.
    pub(super) fn begin(&mut self) {
        self.begin_statement();
        if let Some(transaction) = &mut self.transaction {
            transaction.explicit = true;
        }
    }

    /// `COMMIT`: false if there was only something to roll back.
    pub(super) fn commit(&mut self) -> bool {
        if self.status() == Status::Failed {
            self.rollback();
            return false;
        }
        self.transaction = None;
        self.current = self.session.clone();
        true
    }

    /// `ROLLBACK`.
    pub(super) fn rollback(&mut self) {
        if let Some(transaction) = self.transaction.take() {
            self.session = transaction.before;
            self.current = self.session.clone();
        }
    }

    /// `SAVEPOINT name`.
    pub(super) fn savepoint(&mut self, name: String) -> Result<(), SqlError> {
        let (session, current) = (self.session.clone(), self.current.clone());
        let transaction = self.explicit_transaction("SAVEPOINT")?;
        transaction.savepoints.push((name, session, current));
        Ok(())
    }

    /// `RELEASE name`.
    pub(super) fn release(&mut self, name: &str) -> Result<(), SqlError> {
        let transaction = self.explicit_transaction("RELEASE SAVEPOINT")?;
        let at = position(transaction, name)?;
        transaction.savepoints.truncate(at);
        Ok(())
    }

    /// `ROLLBACK TO name`: the savepoint stays.
    pub(super) fn rollback_to(&mut self, name: &str) -> Result<(), SqlError> {
        let transaction = self.explicit_transaction("ROLLBACK TO SAVEPOINT")?;
        let at = position(transaction, name)?;
        transaction.savepoints.truncate(at + 1);
        transaction.failed = false;
        let (_, session, current) = transaction.savepoints[at].clone();
        self.session = session;
        self.current = current;
        Ok(())
    }

    fn explicit_transaction(&mut self, statement: &str) -> Result<&mut Transaction, SqlError> {
        match &mut self.transaction {
            Some(transaction) if transaction.explicit => Ok(transaction),
            _ => Err(SqlError::new(
                "25P01",
                format!("{statement} can only be used in transaction blocks"),
            )),
        }
    }

    /// The reported settings that have changed since the last call, as the client names them.
    pub(super) fn take_changed_reports(&mut self) -> Vec<(&'static str, String)> {
        let now: Vec<_> = REPORTED
            .iter()
            .map(|name| (*name, self.get(name).unwrap_or_default().to_owned()))
            .collect();
        let changed = now
            .iter()
            .filter(|entry| !self.reported.contains(entry))
            .cloned()
            .collect();
        self.reported = now;
        changed
    }

    /// All reported settings, for the start of a session.
    pub(super) fn reports(&self) -> &[(&'static str, String)] {
        &self.reported
    }
}

fn position(transaction: &Transaction, name: &str) -> Result<usize, SqlError> {
    let found = transaction
        .savepoints
        .iter()
        .rposition(|savepoint| savepoint.0 == name);
    found.ok_or_else(|| SqlError::new("3B001", format!("savepoint \"{name}\" does not exist")))
}

fn canonical(name: &str) -> String {
    let name = name.to_ascii_lowercase();
    if name == ORC_VIA_HOLO_RENAMED {
        ORC_VIA_HOLO.to_owned()
    } else {
        name
    }
}

/// The value as SHOW will print it.
fn checked(name: &str, value: String) -> Result<String, SqlError> {
    let kind = if name == ORC_VIA_HOLO {
        match boolean(&value) {
            Some(value) => return Ok(if value { "on" } else { "off" }.to_owned()),
            None => "a Boolean",
        }
    } else if name == FAIL_AFTER_ROWS && value.parse::<usize>().is_err() {
        "an integer"
    } else {
        return Ok(value);
    };
    let message = if kind == "a Boolean" {
        format!("parameter \"{name}\" requires a Boolean value")
    } else {
        format!("invalid value for parameter \"{name}\": \"{value}\"")
    };
    Err(SqlError::new("22023", message))
}

pub(super) fn unrecognized(name: &str) -> SqlError {
    SqlError::new(
        "42704",
        format!("unrecognized configuration parameter \"{name}\""),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn turn_off(settings: &mut Settings, local: bool) {
        settings
            .set(ORC_VIA_HOLO, Some("false".to_owned()), local)
            .unwrap();
    }

    fn settings() -> Settings {
        Settings::new([]).unwrap()
    }

    #[test]
    fn both_names_are_one_setting() {
        let mut settings = settings();
        settings
            .set(ORC_VIA_HOLO_RENAMED, Some("0".into()), false)
            .unwrap();
        assert_eq!(settings.get(ORC_VIA_HOLO), Some("off"));
        settings.set(ORC_VIA_HOLO, None, false).unwrap();
        assert_eq!(settings.get(ORC_VIA_HOLO_RENAMED), Some("on"));
    }

    #[test]
    fn rollback_undoes_set_and_commit_undoes_set_local() {
        let mut settings = settings();
        settings.begin();
        turn_off(&mut settings, false);
        settings.rollback();
        assert_eq!(settings.get(ORC_VIA_HOLO), Some("on"));

        settings.begin();
        turn_off(&mut settings, true);
        assert_eq!(settings.get(ORC_VIA_HOLO), Some("off"));
        assert!(settings.commit());
        assert_eq!(settings.get(ORC_VIA_HOLO), Some("on"));
    }

    #[test]
    fn a_failed_block_can_only_roll_back() {
        let mut settings = settings();
        settings.begin();
        turn_off(&mut settings, false);
        settings.fail();
        assert_eq!(settings.status(), Status::Failed);
        assert!(!settings.commit());
        assert_eq!(settings.get(ORC_VIA_HOLO), Some("on"));
        assert_eq!(settings.status(), Status::Idle);
    }

    #[test]
    fn rollback_to_a_savepoint_revives_the_transaction() {
        let mut settings = settings();
        settings.begin();
        settings.savepoint("a".into()).unwrap();
        turn_off(&mut settings, false);
        settings.fail();
        settings.rollback_to("a").unwrap();
        assert_eq!(settings.status(), Status::InTransaction);
        assert_eq!(settings.get(ORC_VIA_HOLO), Some("on"));
        assert_eq!(settings.release("b").unwrap_err().code, "3B001");
    }

    #[test]
    fn a_failed_implicit_transaction_undoes_its_set() {
        let mut settings = settings();
        settings.begin_statement();
        turn_off(&mut settings, false);
        settings.fail();
        assert_eq!(settings.get(ORC_VIA_HOLO), Some("on"));
    }

    #[test]
    fn reset_goes_back_to_what_the_session_began_with() {
        let started = [(
            "hg_enable_access_odps_orc_via_holo".to_owned(),
            "off".to_owned(),
        )];
        let mut settings = Settings::new(started).unwrap();
        settings
            .set(ORC_VIA_HOLO, Some("on".into()), false)
            .unwrap();
        settings.reset_all();
        assert_eq!(settings.get(ORC_VIA_HOLO), Some("off"));
    }
}
