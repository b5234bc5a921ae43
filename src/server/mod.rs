//! Listeners and what keeps the process going.

use std::net::SocketAddr;

/// Why the server could not start or go on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An address cannot be listened on.
    #[error("cannot listen on {address} for {what}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Clients or metrics.
        what: &'static str,
        /// The system's answer.
        source: std::io::Error,
    },
}

/// Serves until it is told to stop.
///
/// # Errors
/// See [`Error`].
pub fn run(settings: crate::config::Settings) -> Result<(), Error> {
    for address in settings.listen.addresses {
        std::net::TcpListener::bind(address).map_err(|source| Error::Listen {
            address,
            what: "clients",
            source,
        })?;
    }
    Ok(())
}
