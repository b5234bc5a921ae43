//! Accepting connections, on a thread that does nothing else.
//!
//! What connections come from is a trait, [`Listen`], so that a test can put a queue of its own in the
//! place of a socket. Each listening socket has its number, by which the present [`Upstreams`](crate::upstream) know
//! its listener. While `limits.max_greetings` connections have not said what they want, nothing is
//! accepted: who comes then waits in the kernel.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::join_all;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Builder;
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::worker::{Handed, Workers};
use crate::net::endpoint::is_out_of_descriptors;
use crate::net::{Network, TcpNetwork};
use crate::observe::metrics::Limit;
use crate::session::{self, Place, Shared};

/// How long to wait after accept failed for want of descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How long the workers may take to take what was accepted last.
const LAST_HAND_OVERS: Duration = Duration::from_secs(3);

/// What connections come from.
pub(crate) trait Listen: Send + Sync + 'static {
    /// A connection as it was accepted.
    type Stream: Send + 'static;
    /// The same on its way to a worker.
    type Handed: Send + 'static;

    /// The next connection, and whose it is.
    fn accept(&self) -> impl Future<Output = io::Result<(Self::Stream, SocketAddr)>> + Send;

    /// Makes it fit to go to another thread.
    ///
    /// # Errors
    ///
    /// The system refuses; the connection is lost.
    fn hand_over(stream: Self::Stream) -> io::Result<Self::Handed>;

    /// Sends as much of `frame` as goes out at once.
    fn say(stream: &Self::Stream, frame: &[u8]);
}

impl Listen for TcpListener {
    type Stream = TcpStream;
    type Handed = std::net::TcpStream;

    async fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        Self::accept(self).await
    }

    fn hand_over(stream: TcpStream) -> io::Result<std::net::TcpStream> {
        stream.into_std()
    }

    fn say(stream: &TcpStream, frame: &[u8]) {
        let _ = rustix::net::send(stream, frame, rustix::net::SendFlags::NOSIGNAL);
    }
}

/// The thread that accepts.
pub(super) struct Listening {
    thread: JoinHandle<()>,
    stop: oneshot::Sender<()>,
}

impl Listening {
    /// Begins to accept on every socket.
    pub(super) fn start(
        listeners: Vec<std::net::TcpListener>,
        shared: &Arc<Shared<TcpNetwork>>,
        workers: &Workers<std::net::TcpStream>,
    ) -> std::io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let (stop, stopped) = oneshot::channel();
        let acceptors = {
            let _entered = runtime.enter();
            listeners
                .into_iter()
                .enumerate()
                .map(|(socket, listener)| {
                    Ok(Acceptor {
                        listener: TcpListener::from_std(listener)?,
                        socket,
                        shared: Arc::clone(shared),
                        workers: workers.clone(),
                    })
                })
                .collect::<std::io::Result<Vec<_>>>()?
        };
        let thread = std::thread::Builder::new()
            .name("osprey-accept".into())
            .spawn(move || {
                runtime.block_on(async {
                    let stopped = stopped.map(drop).shared();
                    let accepting = acceptors
                        .into_iter()
                        .map(|acceptor| tokio::spawn(acceptor.run(stopped.clone())));
                    let accepting = join_all(accepting.collect::<Vec<_>>());
                    stopped.await;
                    let _ = timeout(LAST_HAND_OVERS, accepting).await;
                });
            })?;
        Ok(Self { thread, stop })
    }

    /// Closes every listening socket, once what was accepted has been handed to the workers.
    pub(super) fn stop(self) {
        let _ = self.stop.send(());
        if self.thread.join().is_err() {
            tracing::error!("the thread that accepts had panicked");
        }
    }
}

/// Hands the connections of one socket to the workers.
pub(crate) struct Acceptor<L: Listen, N> {
    pub(crate) listener: L,
    pub(crate) socket: usize,
    pub(crate) shared: Arc<Shared<N>>,
    pub(crate) workers: Workers<L::Handed>,
}

impl<N: Network, L: Listen<Handed: Handed<N>>> Acceptor<L, N> {
    /// Accepts until it is stopped; what was accepted by then is handed on.
    pub(crate) async fn run(self, stopped: impl Future<Output = ()>) {
        let greetings = &self.shared.admission.greetings;
        let mut stopped = std::pin::pin!(stopped);
        loop {
            let accepted = tokio::select! {
                biased;
                () = &mut stopped => return,
                accepted = self.next() => accepted,
            };
            let (stream, peer) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    self.failed(&error);
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            // The settings may have changed: accepting may have taken hours.
            let quota = self.shared.settings.load().limits.max_greetings;
            match greetings.wait(peer.ip(), quota).await {
                Ok(place) => self.hand_over(stream, peer, place).await,
                Err(_) => self.refuse(&stream, peer, quota.per_address.unwrap_or_default()),
            }
        }
    }

    /// The next connection, once there is room for it.
    async fn next(&self) -> io::Result<(L::Stream, SocketAddr)> {
        let quota = self.shared.settings.load().limits.max_greetings;
        let greetings = &self.shared.admission.greetings;
        greetings.wait_for_room(quota.total).await;
        self.listener.accept().await
    }

    async fn hand_over(&self, stream: L::Stream, peer: SocketAddr, place: Place) {
        let upstreams = self.shared.upstreams.load_full();
        if let (Some(listener), Ok(stream)) =
            (upstreams.listener(self.socket), L::hand_over(stream))
        {
            let listener = Arc::clone(listener);
            self.workers.take(stream, peer, listener, place).await;
        }
    }

    fn failed(&self, error: &std::io::Error) {
        let Some(left_out) = self.shared.admission.refusal_log.now() else {
            return;
        };
        if is_out_of_descriptors(error) {
            tracing::warn!(
                %error,
                left_out,
                "cannot accept a connection: raise the limit of open files (LimitNOFILE= in \
                 systemd, ulimit -n)"
            );
        } else {
            tracing::warn!(%error, left_out, "cannot accept a connection");
        }
    }

    /// Says why, as far as that goes out at once: nobody waits for a client that has too many
    /// connections already.
    fn refuse(&self, stream: &L::Stream, peer: SocketAddr, most: usize) {
        let limit = Limit::GreetingsPerAddress;
        let metrics = &self.shared.metrics;
        if let Some(shard) = metrics.shards().first() {
            shard.sessions_refused.inc(limit.name());
        }
        if let Some(left_out) = self.shared.admission.refusal_log.now() {
            tracing::warn!(%peer, limit = limit.name(), left_out, "a connection was refused");
        }
        L::say(stream, &session::too_many(limit, most));
    }
}
