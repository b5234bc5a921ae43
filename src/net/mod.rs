//! Connections: what a session needs of one ([`transport`]), plaintext or TLS ([`stream`],
//! [`tls`]), and how a server is reached that has several addresses ([`endpoint`]). Unix sockets are in
//! `unix`; the files that may be open in `descriptors`; one HTTP request to somebody else's API in `http`.

pub(crate) mod descriptors;
pub mod endpoint;
pub(crate) mod event_loop;
pub(crate) mod http;
pub(crate) mod moment;
pub(crate) mod sizes;
pub mod stream;
pub mod tcp;
pub(crate) mod time;
pub mod tls;
pub mod transport;
pub(crate) mod unix;

pub use endpoint::{Endpoint, Unreachable};
pub use stream::Stream;
pub use tcp::{Tcp, TcpNetwork, TokioNetwork};
pub use transport::{Network, SocketOptions, Transport};
