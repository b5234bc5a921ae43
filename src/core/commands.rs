//! What Osprey sends to the server on its own account, in each form that it may take.

use bytes::Bytes;

use crate::wire::compose;

use super::ledger::Own;

/// Our own messages, composed once.
#[derive(Debug)]
pub struct Commands {
    /// The setting's name.
    name: String,
    pub(super) set: Forms,
    pub(super) restore: Forms,
    pub(super) proof: Forms,
    pub(super) replan: Forms,
    rollback: Bytes,
    fail: Bytes,
    begin_and_fail: Bytes,
    sync: Bytes,
    /// Makes the server skip up to the client's Sync, as it would after the first run's error.
    pub(super) stumble: Bytes,
}

#[derive(Debug)]
pub(super) struct Forms {
    /// A simple Query.
    pub(super) query: Bytes,
    /// A cycle of the extended protocol, with its Sync.
    pub(super) cycle: Bytes,
    /// Messages of the extended protocol without a Sync.
    pub(super) inline: Bytes,
}

impl Forms {
    fn new(sql: &str) -> Self {
        let mut query = Vec::new();
        compose::query(&mut query, marked(sql).as_bytes());
        let mut inline = Vec::new();
        compose::own_statement(&mut inline, marked(sql).as_bytes());
        Self {
            query: query.into(),
            cycle: cycle(&[sql]),
            inline: inline.into(),
        }
    }
}

/// With the mark by which people know Osprey's own statements.
fn marked(sql: &str) -> String {
    format!("/* osprey */ {sql}")
}

/// Fails, and says in the server's log what for.
const FAIL: &str = "SELECT 'Osprey: the transaction had failed before'::pg_catalog.int4";

fn cycle(statements: &[&str]) -> Bytes {
    let mut out = Vec::new();
    for sql in statements {
        compose::own_statement(&mut out, marked(sql).as_bytes());
    }
    compose::sync(&mut out);
    out.into()
}

impl Commands {
    /// For the setting `name`, with `value` for encrypted data. Both are constants of Osprey's
    /// own, never a user's input.
    pub fn new(name: &str, value: &str) -> Self {
        Self {
            name: name.to_owned(),
            set: Forms::new(&format!("SET {name} = {value}")),
            restore: Forms::new(&format!("RESET {name}")),
            proof: Forms::new(&format!(
                "SELECT pg_catalog.set_config('{name}', '{}', true)",
                value.trim_matches('\'')
            )),
            replan: Forms::new("DISCARD PLANS"),
            rollback: cycle(&["ROLLBACK"]),
            fail: cycle(&[FAIL]),
            begin_and_fail: cycle(&["BEGIN", FAIL]),
            sync: cycle(&[]),
            stumble: {
                let mut out = Vec::new();
                compose::execute_own_portal(&mut out);
                out.into()
            },
        }
    }

    /// Gives the setting the value again that the client gave it; `None`: as a session begins with.
    pub(super) fn put_back(&self, value: Option<&str>) -> Option<Forms> {
        // What a backslash is in a string is the session's affair.
        let value = value.filter(|value| value.is_ascii() && !value.contains('\\'))?;
        let quoted = value.replace('\'', "''");
        Some(Forms::new(&format!("SET {} = '{quoted}'", self.name)))
    }

    /// A cycle with a SET of the operator's choice.
    pub(super) fn cure(sql: &str) -> Bytes {
        cycle(&[sql])
    }

    /// The setting's name.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// The form that is a cycle of its own.
    pub(super) fn cycle(&self, own: Own) -> &Bytes {
        match own {
            Own::Set => &self.set.cycle,
            Own::Restore => &self.restore.cycle,
            Own::Proof => &self.proof.cycle,
            Own::Replan => &self.replan.cycle,
            Own::Rollback => &self.rollback,
            Own::Fail => &self.fail,
            Own::BeginAndFail => &self.begin_and_fail,
            // What they close and parse stands in front of it; a cure has its own text.
            Own::Close | Own::Parse | Own::Cure | Own::Sync => &self.sync,
        }
    }
}
