//! What a snapshot says of a statement's text.

use std::sync::Arc;

use super::reason::Reason;
use super::session::SessionChange;
use crate::sql::{Effects, NameUse, RouteHint, WrittenName};

/// What a snapshot says of a text, of all its statements together. It is made once for each text,
/// and remembered with the snapshot.
#[derive(Debug, Clone, Default)]
pub struct Decision {
    /// Why the statement needs the route for encrypted data; `None`: it does not.
    pub protected: Option<Arc<Reason>>,
    /// True if the text reads nothing protected, and `protected` is about what it stores for later
    /// (a view, a rule, a function). That counts only for a session in which nobody follows what it
    /// makes; see [`Snapshot::decide_in`](super::Snapshot::decide_in).
    pub only_stores: bool,
    /// What else the text does that a session has to know.
    pub effects: Effects,
    /// The SQL-level names that the text makes or uses. What `PREPARE` and `DECLARE` make carries
    /// its decision by its name, for `EXECUTE` and `FETCH`.
    pub names: Vec<NameUse>,
    /// What the text changes for how names resolve in its session, and what it makes, in order,
    /// once it has succeeded.
    pub changes: Vec<SessionChange>,
    /// What a `/* osprey: route=… */` comment in the text asks for.
    pub hint: Option<RouteHint>,
    /// The relations for which [`Effects::READS_FOREIGN`] is set: the schema, if the text names
    /// one, and the name. Should HQE fail on the text, it failed on one of these.
    pub suspects: Vec<WrittenName>,
    /// The functions that the text calls and that run a text of their own making, or of which nothing is
    /// known: what they read, no text shows.
    pub opaque: Vec<WrittenName>,
}

/// What an entry of a decision's lists takes, beside its texts.
const ENTRY: usize = 96;

impl Decision {
    /// True if there is nothing in the text for a session to follow: it reads no MaxCompute data and
    /// calls nothing that may, and changes no setting, no transaction and no name. It may write.
    #[inline]
    pub(crate) fn passes(&self) -> bool {
        let reads = Effects::READS_FOREIGN.union(Effects::CALLS_UNKNOWN);
        self.protected.is_none() && !self.effects.intersects(reads) && self.passes_where_it_reads()
    }

    /// The same where the session is such that any MaxCompute data can be read.
    #[inline]
    pub(crate) fn passes_where_it_reads(&self) -> bool {
        const LEFT_ALONE: Effects = Effects::WRITES
            .union(Effects::UNDONE_WHOLE)
            .union(Effects::KEEPS_PLANS)
            .union(Effects::READS_FOREIGN)
            .union(Effects::CALLS_UNKNOWN);
        LEFT_ALONE.contains(self.effects)
            && self.hint.is_none()
            && self.names.is_empty()
            && self.changes.is_empty()
    }

    /// About as many bytes as it holds in its lists.
    pub(crate) fn weight(&self) -> usize {
        let prepared = self.names.iter().map(|name| match name {
            NameUse::Prepare { text, .. } => ENTRY + text.len(),
            _ => ENTRY,
        });
        // They are rare, and of many kinds: what they hold is about what is printed of it.
        let changes = self
            .changes
            .iter()
            .map(|change| ENTRY + format!("{change:?}").len());
        let named = self.suspects.iter().chain(&self.opaque);
        let named =
            named.map(|(schema, name)| ENTRY + schema.as_ref().map_or(0, String::len) + name.len());
        prepared.chain(changes).chain(named).sum()
    }

    /// What the other may have read without showing it, or without being steered, this one may have read.
    pub(crate) fn suspect(&mut self, other: &Self) {
        for (all, more) in [
            (&mut self.suspects, &other.suspects),
            (&mut self.opaque, &other.opaque),
        ] {
            for name in more {
                if !all.contains(name) {
                    all.push(name.clone());
                }
            }
        }
    }
}
