//! Workers: a thread, a current-thread runtime, and the sessions that live on it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Builder;
use tokio::sync::{mpsc, oneshot};

use crate::session::{self, Context, Shared};

/// How long to wait after accept failed for want of descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

type Connection = (std::net::TcpStream, SocketAddr);

/// The way to one worker.
#[derive(Clone)]
struct Worker {
    connections: mpsc::UnboundedSender<Connection>,
    /// Connections on it.
    load: Arc<AtomicUsize>,
}

/// All workers.
pub(super) struct Workers {
    workers: Vec<Worker>,
    threads: Vec<(JoinHandle<()>, oneshot::Sender<()>)>,
}

impl Workers {
    /// Starts one thread per configured worker.
    pub(super) fn start(shared: &Arc<Shared>) -> std::io::Result<Self> {
        let count = shared.metrics.shards().len();
        let mut workers = Vec::with_capacity(count);
        let mut threads = Vec::with_capacity(count);
        for worker in 0..count {
            let (connections, receiver) = mpsc::unbounded_channel();
            let (stop, stopped) = oneshot::channel();
            let load = Arc::new(AtomicUsize::new(0));
            let context = Arc::new(Context {
                shared: Arc::clone(shared),
                worker,
            });
            let runtime = Builder::new_current_thread().enable_all().build()?;
            let sessions = take_on(receiver, context, Arc::clone(&load));
            let thread = std::thread::Builder::new()
                .name(format!("osprey-worker-{worker}"))
                .spawn(move || {
                    runtime.block_on(async {
                        tokio::select! {
                            () = sessions => {}
                            _ = stopped => {}
                        }
                    });
                })?;
            workers.push(Worker { connections, load });
            threads.push((thread, stop));
        }
        Ok(Self { workers, threads })
    }

    /// Something that hands connections to the workers.
    pub(super) fn acceptor(&self) -> Acceptor {
        Acceptor {
            workers: self.workers.clone(),
        }
    }

    /// Ends every worker, with what is left on it.
    pub(super) fn stop(self) {
        for (thread, stop) in self.threads {
            let _ = stop.send(());
            if thread.join().is_err() {
                tracing::error!("a worker had panicked");
            }
        }
    }
}

async fn take_on(
    mut connections: mpsc::UnboundedReceiver<Connection>,
    context: Arc<Context>,
    load: Arc<AtomicUsize>,
) {
    while let Some((socket, peer)) = connections.recv().await {
        let guard = Load(Arc::clone(&load));
        match TcpStream::from_std(socket) {
            Ok(socket) => {
                let context = Arc::clone(&context);
                tokio::spawn(async move {
                    session::serve(socket, peer, context).await;
                    drop(guard);
                });
            }
            Err(error) => tracing::warn!(%peer, %error, "a connection was lost at once"),
        }
    }
}

/// One connection on a worker, counted until it is dropped, also by a panic.
struct Load(Arc<AtomicUsize>);

impl Drop for Load {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Hands connections to the least loaded worker.
pub(super) struct Acceptor {
    workers: Vec<Worker>,
}

impl Acceptor {
    /// Accepts for ever.
    pub(super) async fn accept(self, listener: TcpListener) {
        loop {
            let (socket, peer) = match listener.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let least = self
                .workers
                .iter()
                .min_by_key(|worker| worker.load.load(Ordering::Relaxed));
            let (Some(worker), Ok(socket)) = (least, socket.into_std()) else {
                continue;
            };
            worker.load.fetch_add(1, Ordering::Relaxed);
            if worker.connections.send((socket, peer)).is_err() {
                worker.load.fetch_sub(1, Ordering::Relaxed);
            }
        }
    }
}
