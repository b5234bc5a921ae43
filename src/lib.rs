//! Osprey: a PostgreSQL-wire query proxy for Alibaba Cloud Hologres.
//!
//! # The walk of one query
//!
//! 1. [`server`] accepts a connection and hands it to a worker; [`session`] reads the startup
//!    packet, finds the [`upstream`] that serves this user and database, connects to it through
//!    [`net`] and relays authentication.
//! 2. The session's pump reads from the client and asks [`core`] what to do with each range of
//!    bytes. The core knows no socket and no clock: frames in, ranges out.
//! 3. For each statement the core asks the [`protection`] snapshot of the database whether it
//!    touches MaxCompute data encrypted with a KMS key. [`sql`] finds what a statement touches;
//!    [`catalog`] and [`keys`] supply what is known about it, in the background or, without an
//!    account, through the first session of each database.
//! 4. If the session's engine is not the one the statement needs, the core puts
//!    `SET hg_experimental_enable_access_odps_orc_via_holo = false` in front, in the same write.
//! 5. Replies are forwarded as they come; those to our own SET are swallowed; an error that
//!    [`advice`] recognises is rewritten so that its reader knows what to do.
//!
//! The console is the database `osprey`, for whoever runs the process.
//!
//! [`observe`] counts and logs along the way, [`config`] holds the checked settings, [`cli`] the
//! commands, and [`simulator`], behind the feature `demo`, a small Hologres in process for `osprey demo`.
//!
//! `docs/architecture.md` has the map of these modules, what each may know of the others, the words, and
//! this walk function by function.

pub mod advice;
pub mod catalog;
mod chance;
pub mod cli;
pub mod config;
mod console;
pub mod core;
pub mod facts;
pub mod fleet;
mod glob;
pub mod keys;
pub mod net;
pub mod observe;
pub mod protection;
pub mod server;
pub mod session;
#[cfg(test)]
mod shell_test;
#[cfg(feature = "demo")]
pub mod simulator;
#[cfg(test)]
mod spent;
pub mod sql;
pub mod traces;
pub mod upstream;
pub mod wire;
