//! Workers: a thread, its event loop, and the sessions that live on it.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{self, Poll};
use std::thread::JoinHandle;

use pin_project_lite::pin_project;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};

use crate::net::event_loop::{self, EventLoop};
use crate::net::{Network, SocketOptions, Tcp, TcpNetwork};
use crate::session::{self, Accepted, Context, Place, Shared};
use crate::upstream::{Listener, socket_options};

use super::watchdog::Watchdog;

/// Connections on their way to a worker: it is woken for the first one, and takes all.
const ON_THEIR_WAY: usize = 64;

/// A connection on its way to a worker.
pub(crate) trait Handed<N: Network>: Send + 'static {
    /// The connection, as it lives on the worker.
    ///
    /// # Errors
    ///
    /// The worker's loop refuses it.
    fn take_on(self, options: SocketOptions) -> io::Result<N::Transport>;
}

impl Handed<TcpNetwork> for std::net::TcpStream {
    fn take_on(self, options: SocketOptions) -> io::Result<Tcp> {
        Tcp::accepted(self, options)
    }
}

/// What a worker takes on.
pub(crate) struct Connection<C> {
    stream: C,
    peer: SocketAddr,
    listener: Arc<Listener>,
    place: Place,
    load: Load,
}

/// The way to one worker.
struct Worker<C> {
    connections: mpsc::Sender<Connection<C>>,
    /// Connections on it.
    load: Arc<AtomicUsize>,
}

/// The way to all workers.
pub(crate) struct Workers<C>(Arc<[Worker<C>]>);

impl<C> Clone for Workers<C> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

/// The workers' threads.
pub(super) struct Threads(Vec<(JoinHandle<()>, oneshot::Sender<()>)>);

impl Workers<std::net::TcpStream> {
    /// Starts one thread per configured worker; a watchdog hears of each that it goes on.
    pub(super) fn start(
        shared: &Arc<Shared<TcpNetwork>>,
        watchdog: Option<&Watchdog>,
        background: &Handle,
    ) -> io::Result<(Self, Threads)> {
        let count = shared.metrics.shards().len();
        let (workers, receivers) = Self::ways(count);
        let mut threads = Vec::with_capacity(count);
        for (worker, receiver) in receivers.into_iter().enumerate() {
            let (stop, stopped) = oneshot::channel();
            let context = Arc::new(Context {
                shared: Arc::clone(shared),
                worker,
            });
            let beat = watchdog.map(|watchdog| watchdog.beat(worker));
            let event_loop = EventLoop::new()?;
            let background = background.clone();
            let thread = std::thread::Builder::new()
                .name(format!("osprey-worker-{worker}"))
                .spawn(move || {
                    // For the resolver, and whatever else waits for a thread.
                    let _background = background.enter();
                    let ended = event_loop.run(async {
                        if let Some(beat) = beat {
                            event_loop::spawn(beat);
                        }
                        tokio::select! {
                            () = take_on(receiver, context) => {}
                            _ = stopped => {}
                        }
                    });
                    if let Err(error) = ended {
                        tracing::error!(worker, %error, "a worker cannot go on");
                    }
                })?;
            threads.push((thread, stop));
        }
        Ok((workers, Threads(threads)))
    }
}

impl<C> Workers<C> {
    /// The ways to `count` workers, and their ends.
    pub(crate) fn ways(count: usize) -> (Self, Vec<mpsc::Receiver<Connection<C>>>) {
        let (workers, receivers): (Vec<_>, _) = (0..count)
            .map(|_| {
                let (connections, receiver) = mpsc::channel(ON_THEIR_WAY);
                let load = Arc::default();
                (Worker { connections, load }, receiver)
            })
            .unzip();
        (Self(workers.into()), receivers)
    }

    /// Hands a connection to the least loaded worker.
    pub(super) async fn take(
        &self,
        stream: C,
        peer: SocketAddr,
        listener: Arc<Listener>,
        place: Place,
    ) {
        let least = self
            .0
            .iter()
            .min_by_key(|worker| worker.load.load(Ordering::Relaxed));
        let Some(worker) = least else { return };
        let connection = Connection {
            stream,
            peer,
            listener,
            place,
            load: Load::on(&worker.load),
        };
        // Sending fails only if the worker has stopped, with the process.
        let _ = worker.connections.send(connection).await;
    }
}

impl Threads {
    /// Ends every worker, with what is left on it.
    pub(super) fn stop(self) {
        for (thread, stop) in self.0 {
            let _ = stop.send(());
            if thread.join().is_err() {
                tracing::error!("a worker had panicked");
            }
        }
    }
}

/// Serves what comes, until nothing can come any more.
pub(crate) async fn take_on<N: Network, C: Handed<N>>(
    mut connections: mpsc::Receiver<Connection<C>>,
    context: Arc<Context<N>>,
) {
    while let Some(connection) = connections.recv().await {
        let Connection {
            stream,
            peer,
            listener,
            place,
            load,
        } = connection;
        let options = socket_options(&context.shared.settings.load());
        let stream = match stream.take_on(options) {
            Ok(stream) => stream,
            Err(error) => {
                tracing::warn!(%peer, %error, "a connection was lost at once");
                continue;
            }
        };
        let accepted = Accepted {
            stream,
            peer,
            listener,
            place,
        };
        let session = session::serve(accepted, Arc::clone(&context));
        event_loop::spawn(Counted {
            session,
            _load: load,
        });
        // However many come, those who are there have their turns.
        event_loop::share().await;
    }
}

pin_project! {
    /// A session, counted while it is there. It is polled as it is, where a block that waits for it
    /// would have a state of its own.
    struct Counted<F> {
        #[pin]
        session: F,
        _load: Load,
    }
}

impl<F: Future<Output = ()>> Future for Counted<F> {
    type Output = ();

    #[inline]
    fn poll(self: Pin<&mut Self>, context: &mut task::Context<'_>) -> Poll<()> {
        self.project().session.poll(context)
    }
}

/// One connection on a worker, counted until it is dropped, also by a panic.
struct Load(Arc<AtomicUsize>);

impl Load {
    fn on(worker: &Arc<AtomicUsize>) -> Self {
        worker.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(worker))
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
