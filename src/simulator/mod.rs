//! A small Hologres in process, for `osprey demo` and for tests of faults.
//!
//! It holds a few tables, two of them foreign tables of MaxCompute, one encrypted with a KMS key,
//! and does with them what Hologres does: HQE fails on the encrypted one with the error that the
//! vendor's page quotes, SQE reads it, and a session's settings choose the engine. It understands
//! a little SQL, says honestly where that ends, and counts what each engine has read.
//!
//! It speaks plaintext only and is meant for the loopback interface.
//!
//! | module | holds |
//! |---|---|
//! | `world` | what all connections share: relations, counters, log |
//! | `data` | the relations and their rows |
//! | `connection`, `startup`, `format` | the protocol, on pgwire's traits |
//! | `session`, `settings` | one connection's state and transactions |
//! | `statement` | the SQL that is understood, read by `lexer`, `parser`, `operand` |
//! | `expression`, `select` | what it means |
//! | `question`, `catalog` | what Osprey's catalog reader asks, and the answers |
//! | [`demo`] | the story that `osprey demo` tells |

mod catalog;
mod connection;
mod data;
pub mod demo;
mod expression;
mod format;
mod lexer;
mod operand;
mod parser;
mod question;
mod select;
mod session;
mod settings;
mod startup;
mod statement;
mod value;
mod world;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use pgwire::tokio::process_socket;
use tokio::net::TcpListener;
use tokio::task::{JoinHandle, JoinSet};

use connection::{Connection, Handlers};
use world::World;
pub use world::{Engine, Options, PANGU_ERROR, Protocol, Received, Scans};

/// A running simulator; dropping it ends it and its connections.
pub struct Simulator {
    address: SocketAddr,
    world: Arc<World>,
    accepting: JoinHandle<()>,
}

impl Simulator {
    /// Listens and serves, on the tokio runtime this is called in.
    ///
    /// # Errors
    ///
    /// If the address cannot be listened on.
    pub async fn start(options: Options) -> io::Result<Self> {
        let listener = TcpListener::bind(options.listen).await?;
        let address = listener.local_addr()?;
        let world = Arc::new(World::new(options));
        let accepting = tokio::spawn(accept(listener, Arc::clone(&world)));
        Ok(Self {
            address,
            world,
            accepting,
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

impl Drop for Simulator {
    fn drop(&mut self) {
        self.accepting.abort();
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
