//! A placeholder with the signatures that `osprey demo` is written against; not to be merged.

use std::net::SocketAddr;

use crate::config::Settings;

/// Why the server cannot run.
#[derive(Debug, thiserror::Error)]
#[error("not written yet")]
pub struct Error;

/// The server.
pub struct Server;

impl Server {
    /// Binds the listeners.
    ///
    /// # Errors
    ///
    /// Always.
    pub fn bind(_settings: Settings) -> Result<Self, Error> {
        Err(Error)
    }

    /// Where clients connect.
    pub fn listen_addresses(&self) -> &[SocketAddr] {
        &[]
    }

    /// Where metrics are.
    pub fn metrics_address(&self) -> Option<SocketAddr> {
        None
    }

    /// Runs until `shutdown`.
    ///
    /// # Errors
    ///
    /// Never.
    pub fn run(self, shutdown: impl Future<Output = ()> + Send + 'static) -> Result<(), Error> {
        drop(shutdown);
        Ok(())
    }
}
