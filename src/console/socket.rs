//! The Unix socket.

use std::os::unix::net::UnixListener as StdListener;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::net::{UnixListener, UnixStream};
use tokio::runtime::Handle;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::connection::{Connection, Login, Way};
use super::office::Office;
use super::serve::serve;
use crate::net::unix::{SocketFile, UnixSocket};
use crate::observe::Seldom;

/// After a failed accept (no descriptor left), before the next.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The console's socket, served until this is dropped; its file goes with it.
pub(crate) struct Open {
    accepting: AbortHandle,
    file: Option<SocketFile>,
}

impl Open {
    /// Leaves the socket and its file to the process that has taken it over.
    pub(crate) fn leave(mut self) {
        if let Some(file) = self.file.take() {
            file.leave();
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// Begins to serve on `runtime`.
pub(super) fn open(socket: UnixSocket, office: Arc<Office>, runtime: &Handle) -> Open {
    let (listener, file) = socket.into_parts();
    let accepting = runtime.spawn(accept(listener, office)).abort_handle();
    Open {
        accepting,
        file: Some(file),
    }
}

/// Accepts until the future is dropped.
async fn accept(listener: StdListener, office: Arc<Office>) {
    let listener = match UnixListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => {
            tracing::error!(%error, "the console's socket cannot be served");
            return;
        }
    };
    let failures = Seldom::default();
    loop {
        match listener.accept().await {
            Ok((client, _)) => {
                tokio::spawn(accepted(client, Arc::clone(&office)));
            }
            Err(error) => {
                if let Some(left_out) = failures.now() {
                    tracing::warn!(%error, left_out, "console: accept failed");
                }
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn accepted(client: UnixStream, office: Arc<Office>) {
    let Ok(peer) = client.peer_cred() else {
        return;
    };
    let limit = office.world.shared.settings.load().limits.greeting_timeout;
    let connection = Connection {
        office,
        from: None,
        way: Way::Peer { uid: peer.uid() },
        login: Mutex::new(Login::default()),
    };
    let deadline = Instant::now() + limit;
    serve(Box::new(client), false, Arc::new(connection), deadline).await;
}
