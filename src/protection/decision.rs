//! What is decided of a statement's text.

use std::sync::Arc;

use super::reason::Reason;
use super::session::SessionChange;
use crate::sql::{Effects, NameUse, RouteHint, WrittenName};

/// What the core asks of a statement's text, once per text and snapshot.
#[derive(Debug, Clone, Default)]
pub struct Decision {
    /// Why the statement needs the route for encrypted data; `None`: it does not.
    pub protected: Option<Arc<Reason>>,
    /// It reads nothing protected: `protected` is what it stores for later (a view, a rule, a
    /// function). That counts for a session in which nobody follows what it makes; see
    /// [`Snapshot::decide_in`](super::Snapshot::decide_in).
    pub only_stores: bool,
    /// What else the statement does that a session has to know.
    pub effects: Effects,
    /// SQL-level names it makes or uses: `PREPARE`, `EXECUTE`, `DECLARE`, `FETCH` carry their
    /// decision by name.
    pub names: Vec<NameUse>,
    /// What it changes for how names resolve in its session, and what it makes, in order, once it
    /// has succeeded.
    pub changes: Vec<SessionChange>,
    /// A `/* osprey: route=… */` comment.
    pub hint: Option<RouteHint>,
    /// The relations for which [`Effects::READS_FOREIGN`] is set: schema, if the text names one, and
    /// name. Should HQE fail on the statement, it failed on one of these.
    pub suspects: Vec<WrittenName>,
}
