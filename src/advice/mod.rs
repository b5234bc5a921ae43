//! Hologres' errors, turned into messages that say what to do.
//!
//! Everything is in one table, `rules.toml`: what an error looks like, what it means, what to do in
//! English and Chinese, and whether Osprey does it by itself. [`recognize()`] tells such an error from
//! all others, [`advise()`] chooses the row by what is known and fills in its text. Every row has a
//! stable code, `OSP-NNNN`, with a section in `docs/errors.md`, which is generated from the table.

mod advise;
mod clients;
mod condition;
mod context;
#[cfg(test)]
mod pages;
mod pattern;
mod reader;
mod recognize;
mod redact;
mod rule;
mod rules;
#[cfg(test)]
mod tests;
mod words;

pub use advise::{Advice, advise};
pub use context::{AdviceContext, NotRetried};
pub use recognize::{Fault, Setting, recognize};
pub use redact::redact_path;
pub use rule::{Cure, Rule};
pub use rules::{Case, Cases, Rules};
