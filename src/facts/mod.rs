//! What sessions and lookups find out, as values.
//!
//! A [`Fact`] says what was found, of which upstream, when and by which replica. One reducer
//! ([`known`]) turns facts into what is known, and every fact goes through it, whether it was found in
//! this process, stands in the file of `keys.snapshot`, or came from another replica:
//!
//! | rule | |
//! |---|---|
//! | order and duplicates | do not matter: whoever has the same facts knows the same |
//! | of two facts about the same thing | the newer one counts. At the same millisecond: the one that protects more, in the order of [`Encryption`] |
//! | a project is forgotten | what was found of it at that time or earlier counts no more, whenever it comes |
//! | a word is taken back | the same, of what that user heard of the project in that database |
//! | a provider's word and a lesson | the provider's word counts, even if it is the older one |
//! | nobody knows the project | contradicts no lesson; takes the place of older provider's words |
//! | age | is that of the fact, never of its reading: older than `keys.ttl`, or more than [`SKEW`] ahead of the clock, it is refused |
//!
//! Whoever finds something after having heard of another fact stamps it later than that one
//! ([`Stamp::after`]), whatever the clocks say: a lookup that was begun after an invalidation is not
//! undone by it though the invalidating replica's clock is ahead.
//!
//! A [`Bus`] carries what one process finds to whoever passes it on.

mod bus;
mod fact;
pub mod known;
mod record;
mod stamp;

#[cfg(test)]
mod tests;

pub use bus::Bus;
pub use fact::{Fact, Refused, What, WordOf};
pub use known::{Known, Outcome, Project, Word};
pub use record::{Encryption, KeyRecord, KeyState, KmsKey, Origin};
pub use stamp::{SKEW, Stamp};
