//! Accepting connections, on a thread that does nothing else.
//!
//! What connections come from is a trait, [`Listen`], so that a test can put a queue of its own in the
//! place of a socket. Each listening socket has its number, by which the present [`Upstreams`](crate::upstream) know
//! its listener. While `limits.max_greetings` connections have not said what they want, nothing is
//! accepted: who comes then waits in the kernel.

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::join_all;
use rustix::net::SendFlags;
use tokio::sync::{Semaphore, oneshot};

use super::worker::{Handed, Workers};
use crate::net::descriptors;
use crate::net::event_loop::{self, EventLoop};
use crate::net::tcp::TcpAcceptor;
use crate::net::time::{sleep, timeout};
use crate::net::{Network, SocketOptions, Stream, TcpNetwork};
use crate::observe::metrics::Limit;
use crate::session::{self, Context, Place, Shared};

/// How long to wait after accept failed for want of descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// So many clients at a time are told why they are refused once they have said what they want. Others
/// are told at once, which those do not understand that ask for TLS first. They are fewer where few files
/// may be open.
const REFUSALS: usize = 16;

/// How long the workers may take to take what was accepted last.
const LAST_HAND_OVERS: Duration = Duration::from_secs(3);

/// What connections come from.
pub(crate) trait Listen: Send + Sync + 'static {
    /// A connection as it was accepted, which nobody watches yet.
    type Stream: Send + 'static;

    /// The next connection, and whose it is.
    fn accept(&mut self) -> impl Future<Output = io::Result<(Self::Stream, SocketAddr)>> + Send;

    /// Sends as much of `frame` as goes out at once.
    fn say(stream: &Self::Stream, frame: &[u8]);

    /// True if no session may keep the connection, since few files are left.
    fn is_reserved(stream: &Self::Stream) -> bool;
}

impl Listen for TcpAcceptor {
    type Stream = TcpStream;

    async fn accept(&mut self) -> io::Result<(TcpStream, SocketAddr)> {
        Self::accept(self).await
    }

    fn say(stream: &TcpStream, frame: &[u8]) {
        let _ = rustix::net::send(stream, frame, SendFlags::NOSIGNAL);
    }

    fn is_reserved(stream: &TcpStream) -> bool {
        descriptors::is_reserved(stream)
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
        listeners: Vec<TcpListener>,
        shared: &Arc<Shared<TcpNetwork>>,
        workers: &Workers<TcpStream>,
    ) -> io::Result<Self> {
        let event_loop = EventLoop::new()?;
        let (stop, stopped) = oneshot::channel();
        let (begun, begins) = std::sync::mpsc::sync_channel(1);
        let (shared, workers) = (Arc::clone(shared), workers.clone());
        let thread = std::thread::Builder::new()
            .name("osprey-accept".into())
            .spawn(move || {
                let ended = event_loop.run(async {
                    let (outcome, acceptors) = match acceptors(listeners, &shared, &workers) {
                        Ok(acceptors) => (Ok(()), acceptors),
                        Err(error) => (Err(error), Vec::new()),
                    };
                    // There is somebody who waits for it.
                    let _ = begun.send(outcome);
                    accept_until(stopped, acceptors).await;
                });
                if let Err(error) = ended {
                    tracing::error!(%error, "no connection is accepted any more");
                }
            })?;
        // The thread has said so, or has ended without a word.
        begins.recv().map_err(io::Error::other)??;
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

/// One for each socket, which the loop of this thread watches.
fn acceptors(
    listeners: Vec<TcpListener>,
    shared: &Arc<Shared<TcpNetwork>>,
    workers: &Workers<TcpStream>,
) -> io::Result<Vec<Acceptor<TcpAcceptor, TcpNetwork>>> {
    let refusals = usize::try_from(descriptors::reserve() / 4);
    let refusals = refusals.map_or(REFUSALS, |most| REFUSALS.min(most));
    let acceptor = |(socket, listener)| {
        Ok(Acceptor {
            listener: TcpAcceptor::new(listener)?,
            socket,
            shared: Arc::clone(shared),
            workers: workers.clone(),
            refusals: Arc::new(Semaphore::new(refusals)),
        })
    };
    listeners.into_iter().enumerate().map(acceptor).collect()
}

/// Accepts until it is stopped, and closes the sockets.
async fn accept_until(
    stopped: oneshot::Receiver<()>,
    acceptors: Vec<Acceptor<TcpAcceptor, TcpNetwork>>,
) {
    let stopped = stopped.map(drop).shared();
    let accepting = acceptors.into_iter().map(|acceptor| {
        let (ends, ended) = oneshot::channel::<()>();
        let accepting = acceptor.run(stopped.clone());
        event_loop::spawn(async move {
            accepting.await;
            drop(ends);
        });
        ended
    });
    let accepting = join_all(accepting.collect::<Vec<_>>());
    stopped.clone().await;
    let _ = timeout(LAST_HAND_OVERS, accepting).await;
}

/// Hands the connections of one socket to the workers.
pub(crate) struct Acceptor<L: Listen, N> {
    pub(crate) listener: L,
    pub(crate) socket: usize,
    pub(crate) shared: Arc<Shared<N>>,
    pub(crate) workers: Workers<L::Stream>,
    /// Places for clients that are told why they are refused.
    pub(crate) refusals: Arc<Semaphore>,
}

impl<N: Network, L: Listen<Stream: Handed<N>>> Acceptor<L, N> {
    /// Accepts until it is stopped; what was accepted by then is handed on.
    pub(crate) async fn run(mut self, stopped: impl Future<Output = ()>) {
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
                    sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            if L::is_reserved(&stream) {
                let files = descriptors::limit().unwrap_or_default();
                let files = usize::try_from(files).unwrap_or(usize::MAX);
                self.refuse(stream, peer, Limit::OpenFiles, files);
                continue;
            }
            // The settings may have changed: accepting may have taken hours.
            let quota = self.shared.settings.load().limits.max_greetings;
            let greetings = &self.shared.admission.greetings;
            if let Ok(place) = greetings.wait(peer.ip(), quota).await {
                self.hand_over(stream, peer, place).await;
            } else {
                let most = quota.per_address.unwrap_or_default();
                self.refuse(stream, peer, Limit::GreetingsPerAddress, most);
            }
        }
    }

    /// The next connection, once there is room for it.
    async fn next(&mut self) -> io::Result<(L::Stream, SocketAddr)> {
        let quota = self.shared.settings.load().limits.max_greetings;
        let greetings = &self.shared.admission.greetings;
        if greetings.taken() >= quota.total
            && let Some(left_out) = self.shared.admission.refusal_log.now()
        {
            tracing::warn!(
                greetings = quota.total,
                left_out,
                "limits.max_greetings connections have not said yet what they want: those behind them wait"
            );
        }
        greetings.wait_for_room(quota.total).await;
        self.listener.accept().await
    }

    async fn hand_over(&self, stream: L::Stream, peer: SocketAddr, place: Place) {
        let upstreams = self.shared.upstreams.load_full();
        if let Some(listener) = upstreams.listener(self.socket) {
            let listener = Arc::clone(listener);
            self.workers.take(stream, peer, listener, place).await;
        }
    }

    fn failed(&self, error: &io::Error) {
        let Some(left_out) = self.shared.admission.refusal_log.now() else {
            return;
        };
        if descriptors::are_out(error) {
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

    /// Says why. Accepting does not wait for that.
    fn refuse(&self, stream: L::Stream, peer: SocketAddr, limit: Limit, most: usize) {
        let context = Context {
            shared: Arc::clone(&self.shared),
            shard: Arc::clone(self.shared.metrics.shard(0)),
        };
        context.shard.sessions_refused.inc(limit.name());
        if let Some(left_out) = self.shared.admission.refusal_log.now() {
            tracing::warn!(%peer, limit = limit.name(), left_out, "a connection was refused");
        }
        let Ok(place) = Arc::clone(&self.refusals).try_acquire_owned() else {
            L::say(&stream, &session::too_many(limit, most));
            return;
        };
        let upstreams = self.shared.upstreams.load_full();
        let taken = stream.take_on(SocketOptions::default());
        if let (Ok(client), Some(listener)) = (taken, upstreams.listener(self.socket)) {
            let (client, listener) = (Stream::Plain(client), Arc::clone(listener));
            event_loop::spawn(async move {
                session::turn_away(client, (peer, &listener), limit, most, &context).await;
                drop(place);
            });
        }
    }
}
