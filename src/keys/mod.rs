//! What is known of a MaxCompute project's encryption: the key record, who can look one up, and
//! the 24-hour cache in front of them.
//!
//! Encryption is a property of the whole project, never of a table (MaxCompute, *Storage
//! encryption*: "per-project basis").

mod cache;
mod clock;
pub mod cloud;
mod configured;
mod entry;
mod provider;
mod together;
pub(crate) mod words;

pub use cache::{KeyCache, KeyMetrics, LessonOutcome, Listed};
pub use clock::{Clock, SystemClock};
pub use configured::configured;
pub use entry::Answer;
pub use provider::{Chain, KeyProvider, LookupError, LookupFuture, StaticProvider};

pub use crate::facts::{Encryption, KeyRecord, KeyState, KmsKey, Origin};
