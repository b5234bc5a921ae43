//! The console: the database `osprey`, for whoever runs this process. Any client of PostgreSQL's can
//! read its tables and give its commands, on a Unix socket or, where users are configured, on the
//! listeners' ports.
//!
//! It looks at what sessions tell of themselves and asks things of them; nothing of a session waits
//! for it. Its tables are made anew whenever somebody asks, on the runtime of the background tasks.
//!
//! | file | holds |
//! |---|---|
//! | `lexer`, `parser`, `statement` | what is understood |
//! | `driver` | what clients ask when they connect, and of PostgreSQL's catalogs |
//! | `tables/` | the tables; `query` is what a query takes of one |
//! | `command` | what commands do |
//! | `connection`, `login`, `scram`, `format`, `serve` | the protocol, on pgwire's traits |
//! | `socket`, `tcp`, `gate` | where clients come from, and how many may |

mod command;
mod connection;
mod driver;
mod error;
mod format;
mod gate;
mod help;
mod lexer;
mod login;
mod office;
mod parser;
mod query;
mod scram;
mod serve;
mod socket;
mod start;
mod statement;
mod status;
mod table;
mod tables;
mod tcp;
mod value;
mod world;

pub(crate) use start::start;
pub(crate) use status::status;
pub(crate) use world::Control;

#[cfg(test)]
mod tests;
