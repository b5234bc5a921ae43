//! Opening the console.

use std::sync::Arc;

use tokio::runtime::Handle;

use super::gate::Gate;
use super::office::Office;
use super::socket::{self, Open};
use super::tcp::Tcp;
use super::world::{Control, View, World};
use crate::net::TcpNetwork;
use crate::net::unix::UnixSocket;
use crate::observe::Seldom;
use crate::session::Shared;

/// Opens the console of a process: on its listeners and, if there is one, on a socket. Its statements
/// run on `runtime`. The socket is there until what is returned is dropped.
pub(crate) fn start(
    shared: &Arc<Shared<TcpNetwork>>,
    control: Control,
    socket: Option<UnixSocket>,
    runtime: &Handle,
) -> Option<Open> {
    let office = Arc::new(Office {
        world: Arc::new(World {
            view: View {
                shared: Arc::clone(shared),
            },
            control,
        }),
        gate: Gate::default(),
        refusals: Seldom::default(),
        runtime: runtime.clone(),
    });
    let open = socket.map(|socket| socket::open(socket, Arc::clone(&office), runtime));
    // A process has one console: a second one would be a mistake of the caller's, and harmless.
    let _ = shared.aside.set(Box::new(Tcp(office)));
    open
}
