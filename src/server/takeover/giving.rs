//! The process that has the sockets: it gives them to one that takes over, and hears what those tell
//! that it has taken over from itself.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream as StdStream;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::net::UnixListener;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::AbortHandle;

use super::link::{
    Heard, Hello, Link, Offer, Offered, PROTOCOL, REPORT, Released, Report, Serving, TAKE_OVER,
};
use super::reporting::INTERVAL;
use crate::observe::Seldom;

/// How long the next process may take until it accepts connections; this one serves meanwhile.
const START: Duration = Duration::from_mins(1);
/// Connections at a time.
const LINKS: usize = 16;
/// After a failed accept (no descriptor left), before the next.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The processes that serve their last sessions, as they say themselves.
#[derive(Debug, Default)]
pub(crate) struct Predecessors {
    sessions: Mutex<BTreeMap<u64, u64>>,
    next: AtomicU64,
}

impl Predecessors {
    /// How many they are, and how many sessions they have.
    pub(crate) fn count(&self) -> (u64, u64) {
        let sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        (sessions.len() as u64, sessions.values().sum())
    }

    fn set(&self, number: u64, sessions: Option<u64>) {
        let mut all = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        match sessions {
            Some(sessions) => all.insert(number, sessions),
            None => all.remove(&number),
        };
    }
}

/// A process that accepts connections on the sockets that it was given.
pub(crate) struct Successor {
    pub(crate) pid: Option<u32>,
    pub(crate) version: String,
    /// It has taken the console's socket, too.
    pub(crate) console: bool,
    /// To be told once this process does not accept any more.
    released: oneshot::Sender<Released>,
}

impl Successor {
    /// This process does not accept any more; `records` is what it knows of keys.
    pub(crate) fn release(self, records: Vec<String>) {
        // One that has ended meanwhile is told nothing.
        let _ = self.released.send(Released { records });
    }
}

/// What the connections share.
struct Shared {
    /// Empty once they are another process's.
    sockets: Mutex<Vec<(Offered, OwnedFd)>>,
    /// They are, or this process ends: who reports is to look for another listener.
    over: AtomicBool,
    successors: mpsc::Sender<Successor>,
    predecessors: Arc<Predecessors>,
    take_in: Box<dyn Fn(&str) + Send + Sync>,
    /// One process at a time takes over.
    turn: Mutex<()>,
}

impl Shared {
    fn sockets(&self) -> MutexGuard<'_, Vec<(Offered, OwnedFd)>> {
        self.sockets.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The socket, served until this is dropped.
pub(crate) struct Giving {
    accepting: AbortHandle,
    shared: Arc<Shared>,
    successors: mpsc::Receiver<Successor>,
}

impl Giving {
    /// Offers `sockets` to whoever connects to `listener`. What predecessors tell of keys is given to
    /// `take_in`. Must be called within a runtime.
    ///
    /// # Errors
    ///
    /// The system refuses.
    pub(crate) fn start(
        listener: std::os::unix::net::UnixListener,
        sockets: Vec<(Offered, OwnedFd)>,
        predecessors: Arc<Predecessors>,
        take_in: impl Fn(&str) + Send + Sync + 'static,
    ) -> io::Result<Self> {
        let listener = UnixListener::from_std(listener)?;
        let (sender, successors) = mpsc::channel(1);
        let shared = Arc::new(Shared {
            sockets: Mutex::new(sockets),
            over: AtomicBool::new(false),
            successors: sender,
            predecessors,
            take_in: Box::new(take_in),
            turn: Mutex::default(),
        });
        let accepting = tokio::spawn(accept(listener, Arc::clone(&shared))).abort_handle();
        Ok(Self {
            accepting,
            shared,
            successors,
        })
    }

    /// The next process, once it accepts connections.
    pub(crate) async fn successor(&mut self) -> Successor {
        match self.successors.recv().await {
            Some(successor) => successor,
            None => std::future::pending().await,
        }
    }
}

impl Giving {
    /// True if another process has come to take over, and may have the sockets by now.
    pub(crate) fn is_under_way(&self) -> bool {
        self.shared.turn.try_lock().is_err()
    }
}

impl Drop for Giving {
    fn drop(&mut self) {
        self.accepting.abort();
        self.shared.over.store(true, Ordering::Relaxed);
        self.shared.sockets().clear();
    }
}

/// Accepts until the future is dropped. What is said with each connection may take its time, so that
/// a thread waits for it.
async fn accept(listener: UnixListener, shared: Arc<Shared>) {
    let places = Arc::new(Semaphore::new(LINKS));
    let failures = Seldom::default();
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else {
            return;
        };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream.into_std(),
            Err(error) => Err(error),
        };
        match stream {
            Ok(stream) => {
                let shared = Arc::clone(&shared);
                tokio::task::spawn_blocking(move || {
                    if let Err(error) = serve(stream, &shared) {
                        tracing::warn!(%error, "a connection to takeover.socket failed");
                    }
                    drop(place);
                });
            }
            Err(error) => {
                if let Some(left_out) = failures.now() {
                    tracing::warn!(%error, left_out, "takeover.socket: accept failed");
                }
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

fn serve(stream: StdStream, shared: &Shared) -> io::Result<()> {
    let link = Link::new(stream)?;
    let hello: Hello = link.hear()?;
    if hello.protocol != PROTOCOL {
        return refuse(
            &link,
            "it is of a version from which this one cannot take over",
        );
    }
    match hello.request.as_str() {
        TAKE_OVER => give(&link, hello.version, shared),
        REPORT => hear(&link, shared),
        _ => refuse(&link, "it does not know what is asked of it"),
    }
}

fn refuse(link: &Link, why: &str) -> io::Result<()> {
    link.say(&Offer {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        pid: Some(std::process::id()),
        refused: Some(why.to_owned()),
        sockets: Vec::new(),
    })
}

fn give(link: &Link, version: String, shared: &Shared) -> io::Result<()> {
    let Ok(_turn) = shared.turn.try_lock() else {
        return refuse(
            link,
            "another process is taking over from it at this moment",
        );
    };
    let pid = link.peer_pid();
    tracing::info!(pid, version, "another process is about to take over");
    {
        let sockets = shared.sockets();
        link.say(&Offer {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: Some(std::process::id()),
            refused: None,
            sockets: sockets.iter().map(|(offered, _)| offered.clone()).collect(),
        })?;
        for (_, socket) in sockets.iter() {
            link.give(socket.as_fd())?;
        }
    }
    link.wait(START)?;
    let serving: Serving = match link.hear() {
        Ok(serving) => serving,
        Err(error) => {
            tracing::warn!(pid, %error, "it did not come to take over; this process serves on");
            return Ok(());
        }
    };
    let (released, is_released) = oneshot::channel();
    let successor = Successor {
        pid,
        version,
        console: serving.console,
        released,
    };
    let gone = |_| io::Error::other("this process ends");
    shared
        .successors
        .blocking_send(successor)
        .map_err(|_| io::Error::other("this process ends"))?;
    link.say(&is_released.blocking_recv().map_err(gone)?)
}

/// What a process tells that serves its last sessions.
fn hear(link: &Link, shared: &Shared) -> io::Result<()> {
    let number = shared.predecessors.next.fetch_add(1, Ordering::Relaxed);
    link.wait(3 * INTERVAL)?;
    let heard = loop {
        match link.hear::<Report>() {
            Ok(report) => {
                shared.predecessors.set(number, Some(report.sessions));
                for records in &report.records {
                    (shared.take_in)(records);
                }
                if report.is_last {
                    break link.say(&Heard {});
                }
                if shared.over.load(Ordering::Relaxed) {
                    break Ok(());
                }
            }
            // It was ended.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => break Ok(()),
            Err(error) => break Err(error),
        }
    };
    shared.predecessors.set(number, None);
    heard
}
