//! What a statement touches: the relations it names, whether it only reads, and what it does to
//! settings, transactions and SQL-level names.
//!
//! `lexer` knows where tokens begin and end, `token` groups them into statements, `statement` tells
//! what each statement is, and `relations` walks through its queries to find the relations
//! that they read. The walk is tolerant: it needs to recognise where relations stand (behind FROM,
//! JOIN, a comma of a FROM list, …), not to know the grammar, so that syntax of Hologres' own does
//! not blind it. Where it can err, it errs towards naming too much. What it cannot read at all
//! (DO bodies, functions, unknown statements) is answered by `Analysis::mentions`: every
//! identifier counts.

mod analysis;
mod body;
mod change;
mod definition;
mod effects;
mod encoding;
mod function;
mod hint;
mod keyword;
pub(crate) mod lexer;
mod lexing;
mod mention;
mod plpgsql;
mod query;
mod quoting;
mod reading;
mod relation_name;
mod relations;
mod setting;
mod shown;
mod statement;
mod token;

pub(crate) use analysis::{Analysis, Made, MadeFrom};
pub(crate) use body::{Body, read as read_body};
pub use change::{Change, ComputingResource, RouteSetting, Value};
pub use effects::{Effects, NameUse};
pub use encoding::{Encoding, unicode_escape};
pub(crate) use function::is_harmless as is_harmless_function;
pub use hint::RouteHint;
pub(crate) use keyword::Keyword;
pub use lexing::{Backslash, Lexing, may_be_read_otherwise};
pub(crate) use lexing::{is_digits, is_plain};
pub(crate) use reading::{Reading, UNSEEN, analyze, analyze_prefix};
pub use relation_name::WrittenName;
pub(crate) use relation_name::{RelationName, call_with, qualified};
pub(crate) use setting::{COMPUTING_RESOURCE, ROUTE_SETTINGS, search_path};
pub use shown::{trace_parent, without_literals};
