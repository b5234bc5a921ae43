//! Whether a statement touches encrypted MaxCompute data, and why: one immutable [`Snapshot`] per
//! database, swapped in by background tasks, read by sessions without waiting.

mod decision;
pub mod knowledge;
mod memo;
mod names;
mod own;
mod projects;
mod quick;
mod reason;
mod relations;
mod resolve;
mod scan;
mod session;
mod setting;
mod snapshot;

pub use decision::Decision;
pub use names::NameContext;
pub use own::Leads;
pub use reason::{Reason, Source};
pub use session::{SessionChange, SessionNames};
pub use snapshot::{Beginning, Snapshot, SnapshotBuilder};

/// The words of a statement's text in which a [`Decision`] is told.
pub use crate::sql::{Backslash, ComputingResource, Effects, Encoding, Lexing, NameUse, RouteHint};
