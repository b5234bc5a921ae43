//! Sockets that the service manager has opened already (`sd_listen_fds(3)`): they outlive this
//! process, so that a restart refuses no connection.

use std::net::{SocketAddr, TcpListener};

use listenfd::ListenFd;

/// The listening sockets that this process has been given.
pub(super) struct Inherited(Vec<(SocketAddr, TcpListener)>);

impl Inherited {
    /// Those of `$LISTEN_FDS`; what is no TCP socket is left alone.
    pub(super) fn from_environment() -> Self {
        let mut passed = ListenFd::from_env();
        let mut sockets = Vec::new();
        for number in 0..passed.len() {
            let socket = passed.take_tcp_listener(number).ok().flatten();
            if let Some(socket) = socket
                && let Ok(address) = socket.local_addr()
            {
                sockets.push((address, socket));
            }
        }
        Self(sockets)
    }

    /// The one of this address. The configuration says where to listen: where the socket comes from
    /// makes no difference.
    pub(super) fn take(&mut self, address: SocketAddr) -> Option<TcpListener> {
        let at = self.0.iter().position(|(other, _)| *other == address)?;
        Some(self.0.swap_remove(at).1)
    }

    /// Says which ones are not used.
    pub(super) fn warn_of_the_rest(self) {
        for (address, _) in self.0 {
            tracing::warn!(
                %address,
                "the service manager passed on a socket at which the configuration does not listen; \
                 it is closed: name it in listen.addresses, or leave it out of the .socket unit"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_is_taken_by_its_address_and_once() {
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        let mut inherited = Inherited(vec![(address, socket)]);
        assert!(inherited.take("127.0.0.1:1".parse().unwrap()).is_none());
        assert!(inherited.take(address).is_some());
        assert!(inherited.take(address).is_none());
    }
}
