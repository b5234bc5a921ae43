//! A small Hologres in process, for `osprey demo` and for tests of faults.
//!
//! It holds a few tables, two of them foreign tables of MaxCompute, one encrypted with a KMS key,
//! and does with them what Hologres does: HQE fails on the encrypted one with the error that the
//! vendor's page quotes, SQE reads it, and a session's settings choose the engine. Queries are run
//! by SQLite, in memory: it was chosen because it builds in seconds with nothing but a C compiler.
//! Where the simulator ends it says so in a line, and it counts what each engine has read.
//!
//! It speaks plaintext only and is meant for the loopback interface.
//!
//! | module | holds |
//! |---|---|
//! | `world` | what all connections share: database, counters, log |
//! | `database`, schema.sql | SQLite, and what is in it |
//! | `catalogs` | PostgreSQL's catalogs, made from that |
//! | `connection`, `startup`, `format` | the protocol, on pgwire's traits |
//! | `session`, `settings`, `engine` | one connection's state and transactions; which engine reads |
//! | `statement` | statements, as sqlparser reads them or, if they concern the session, we do |
//! | `translate`, `from`, `expression`, `call` | from PostgreSQL's dialect to SQLite's, with types |
//! | `scope`, `translator`, `value` | what these share: names, state, types |
//! | `function_table`, `functions` | which functions there are; those that SQLite has not |
//! | [`demo`] | the story that `osprey demo` tells |

mod call;
mod catalogs;
mod connection;
mod database;
pub mod demo;
mod engine;
mod expression;
mod format;
mod from;
mod function_table;
mod functions;
mod scope;
mod session;
mod settings;
mod startup;
mod statement;
mod translate;
mod translator;
mod value;
mod world;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread;

use pgwire::tokio::process_socket;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use connection::{Connection, Handlers};
pub use engine::{ENCRYPTED_PROJECT, Engine, PANGU_ERROR};
use world::World;
pub use world::{Options, Protocol, Received, Scans};

/// The stack of a simulator's thread. Reading, keeping and dropping what stands in many operators or
/// parentheses goes as deep as these; texts of more words than `statement` takes do not get there.
const STACK: usize = 256 << 20;

/// A running simulator; dropping it ends it and its connections.
pub struct Simulator {
    address: SocketAddr,
    world: Arc<World>,
    /// Its thread ends when this is dropped.
    _running: oneshot::Sender<()>,
}

impl Simulator {
    /// Listens, and serves on a thread of its own.
    ///
    /// # Errors
    ///
    /// If the address cannot be listened on.
    pub async fn start(options: Options) -> io::Result<Self> {
        let listener = TcpListener::bind(options.listen).await?.into_std()?;
        let address = listener.local_addr()?;
        let world = Arc::new(World::new(options)?);
        let (running, dropped) = oneshot::channel::<()>();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let listener = {
            let _inside = runtime.enter();
            TcpListener::from_std(listener)?
        };
        let shared = Arc::clone(&world);
        thread::Builder::new()
            .name("hologres".to_owned())
            .stack_size(STACK)
            .spawn(move || {
                runtime.block_on(async {
                    tokio::select! {
                        () = accept(listener, shared) => {}
                        _ = dropped => {}
                    }
                });
            })?;
        Ok(Self {
            address,
            world,
            _running: running,
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How often `engine` has read `relation` (`schema.name`).
    pub fn scans(&self, engine: Engine, relation: &str) -> Scans {
        self.world.scans(engine, relation)
    }

    /// The statements it has run, oldest first; at most the last ten thousand.
    pub fn received(&self) -> Vec<Received> {
        self.world.received()
    }
}

async fn accept(listener: TcpListener, world: Arc<World>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                // A failed accept concerns that client only.
                if let Ok((socket, _)) = accepted {
                    let handlers = Handlers(Arc::new(Connection::new(Arc::clone(&world))));
                    connections.spawn(process_socket(socket, None, handlers));
                }
            }
            Some(_) = connections.join_next() => {}
        }
    }
}
