//! How many connections to the console there may be, and how often anyone may try.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use super::error::Error;
use crate::config::Quota;
use crate::session::{Place, Places, Rates};

/// Logins a second from one address.
const LOGINS_PER_SECOND: usize = 10;
/// Logins a second on the socket, where nobody has a password to guess.
const SOCKET_LOGINS_PER_SECOND: usize = 100;
/// What the socket's connections are counted under.
const SOCKET: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

/// The places of the console. Those over TCP cannot take those of the socket.
#[derive(Default)]
pub(super) struct Gate {
    socket: Arc<Places>,
    tcp: Arc<Places>,
    rates: Rates<IpAddr>,
}

/// Where a connection comes from; `None`: the socket.
pub(super) type From = Option<IpAddr>;

impl Gate {
    /// Whether another login may be tried.
    ///
    /// # Errors
    ///
    /// There have been too many within a moment.
    pub(super) fn try_login(&self, from: From) -> Result<(), Error> {
        let (address, most) = match from {
            Some(address) => (address, LOGINS_PER_SECOND),
            None => (SOCKET, SOCKET_LOGINS_PER_SECOND),
        };
        if self.rates.allows(address, most) {
            return Ok(());
        }
        let message = format!("too many logins: the console takes {most} a second");
        Err(Error::new("53300", message))
    }

    /// A place among at most `most`.
    ///
    /// # Errors
    ///
    /// All are taken.
    pub(super) fn enter(&self, from: From, most: usize) -> Result<Place, Error> {
        let places = if from.is_some() {
            &self.tcp
        } else {
            &self.socket
        };
        let place = places.take(from.unwrap_or(SOCKET), Quota::of(most));
        place.map_err(|_| {
            let message =
                format!("sorry, too many clients already: console.max_connections is {most}");
            Error::new("53300", message)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_sockets_places_are_its_own_and_logins_are_counted() {
        let gate = Gate::default();
        let there = Some(IpAddr::V4(Ipv4Addr::LOCALHOST));
        let first = gate.enter(there, 1).unwrap();
        assert_eq!(gate.enter(there, 1).unwrap_err().code, "53300");
        let _socket = gate.enter(None, 1).unwrap();
        drop(first);
        assert!(gate.enter(there, 1).is_ok());
        let tried = (0..30).filter(|_| gate.try_login(there).is_ok()).count();
        assert_eq!(tried, LOGINS_PER_SECOND);
        assert!(gate.try_login(None).is_ok());
    }
}
