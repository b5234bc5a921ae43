//! One Hologres instance as a value ([`Upstream`]): how to connect to it, what is known of it, who may
//! set the route there, and its limits. And the map of all that are configured ([`Upstreams`]), with
//! the listeners that lead to them.
//!
//! Nothing here changes once it is made. A reload makes other values and swaps the map; a session
//! owns its [`Upstream`] from login to its last cancel, so whatever began with one ends with it.

mod explanation;
mod instance;
mod listener;
mod map;
mod proven;

pub use explanation::Explanation;
pub use instance::Upstream;
pub use listener::{KeptOut, Listener};
pub use map::{TlsFiles, Upstreams, socket_options};
