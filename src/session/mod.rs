//! The I/O shell of one session, as phases: each is a type of its own that says what it reads,
//! writes, waits for, and until when.
//!
//! ```text
//! Accepted → proxy_header → Greeting → Login → Borrowed → Running → Draining
//!                               └→ cancel
//! ```
//!
//! One task, both connections. It is generic over what makes connections ([`Network`](crate::net::Network)), and its task
//! and timers are those of its worker's loop (`net::event_loop`) or, in a test that owns all of it,
//! tokio's: it knows no socket, and which of the two it is does not show. Every place, counter and
//! registration is given back by a guard, whatever ends the session, a panic included.

mod admission;
mod admit;
mod aside;
mod begin;
mod borrowed;
mod buffers;
mod cancel;
mod closing;
mod context;
mod draining;
mod greeting;
mod live;
mod login;
mod pauses;
mod proxy_header;
mod pump;
mod read_ahead;
mod refusal;
mod refuse;
mod registry;
mod rest;
mod running;
mod scram;
mod serve;
pub mod world;

pub(crate) use admission::{Admission, Place, Places, Rates};
pub(crate) use aside::{Aside, Duplex, Visitor};
pub(crate) use context::Context;
pub use context::Shared;
pub(crate) use live::{Ask, Phase, State};
pub(crate) use refuse::{too_many, turn_away};
pub(crate) use registry::Drain;
pub(crate) use registry::SeenSession;
pub use registry::{Entry, Registry};
pub(crate) use serve::{Accepted, serve};
