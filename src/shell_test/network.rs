//! The network between Osprey and everyone else: host names, addresses that answer, refuse or say
//! nothing, and the queue of connections that clients have made and Osprey has not accepted.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use crate::net::{Network, SocketOptions};
use crate::server::parts::{Handed, Listen};

use super::random::Random;
use super::wire::{Peer, Wire, connection};

/// What an address does when it is connected to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Behaviour {
    /// A server is there.
    Answers,
    /// Nothing listens there.
    Refuses,
    /// Packets to it are lost.
    Mute,
}

/// The address of server number `number`.
pub(super) fn server_at(number: u8) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, number], 80))
}

#[derive(Debug)]
struct State {
    random: Random,
    hosts: Vec<(&'static str, Vec<u8>)>,
    behaviours: Vec<(u8, Behaviour)>,
    /// Connections that Osprey has made, for the model of the server.
    made: VecDeque<(SocketAddr, Peer)>,
    /// Connections that clients have made.
    backlog: VecDeque<(Wire, SocketAddr)>,
}

/// The network, as Osprey and as the simulation see it.
#[derive(Debug, Clone)]
pub(super) struct Net {
    state: Arc<Mutex<State>>,
    arrived: Arc<Notify>,
}

impl Net {
    /// With these hosts, by the numbers of their addresses.
    pub(super) fn new(random: Random, hosts: Vec<(&'static str, Vec<u8>)>) -> Self {
        Self {
            state: Arc::new(Mutex::new(State {
                random,
                hosts,
                behaviours: Vec::new(),
                made: VecDeque::new(),
                backlog: VecDeque::new(),
            })),
            arrived: Arc::default(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From here on the address behaves so.
    pub(super) fn set_behaviour(&self, number: u8, behaviour: Behaviour) {
        self.state().behaviours.insert(0, (number, behaviour));
    }

    /// A client connects.
    pub(super) fn connect_client(&self, from: SocketAddr, random: Random) -> Peer {
        let (wire, peer) = connection(SocketOptions::default(), random);
        self.state().backlog.push_back((wire, from));
        self.arrived.notify_one();
        peer
    }

    /// The next connection that Osprey has made.
    pub(super) fn take_made(&self) -> Option<(SocketAddr, Peer)> {
        self.state().made.pop_front()
    }
}

impl Network for Net {
    type Transport = Wire;

    async fn resolve(&self, host: &str, _: u16) -> io::Result<Vec<SocketAddr>> {
        let state = self.state();
        let mut hosts = state.hosts.iter();
        let found = hosts.find(|(name, _)| *name == host);
        let found = found.ok_or(io::ErrorKind::NotFound)?;
        Ok(found.1.iter().copied().map(server_at).collect())
    }

    async fn connect(&self, address: SocketAddr, options: SocketOptions) -> io::Result<Wire> {
        let (behaviour, delay, random) = {
            let mut state = self.state();
            let mut behaviours = state.behaviours.iter();
            let known = behaviours.find(|(number, _)| server_at(*number) == address);
            let behaviour = known.map_or(Behaviour::Answers, |(_, behaviour)| *behaviour);
            let delay = state.random.below(20) as u64;
            let seed = state.random.below(usize::MAX) as u64;
            (behaviour, delay, Random::new(seed, 1))
        };
        match behaviour {
            Behaviour::Mute => std::future::pending().await,
            Behaviour::Refuses => Err(io::ErrorKind::ConnectionRefused.into()),
            Behaviour::Answers => {
                tokio::time::sleep(Duration::from_millis(delay)).await;
                let (wire, peer) = connection(options, random);
                self.state().made.push_back((address, peer));
                Ok(wire)
            }
        }
    }
}

impl Listen for Net {
    type Stream = Wire;

    async fn accept(&mut self) -> io::Result<(Wire, SocketAddr)> {
        loop {
            if let Some(next) = self.state().backlog.pop_front() {
                return Ok(next);
            }
            self.arrived.notified().await;
        }
    }

    fn say(stream: &Wire, frame: &[u8]) {
        stream.say(frame);
    }

    fn is_reserved(_: &Wire) -> bool {
        false
    }
}

impl Handed<Net> for Wire {
    fn take_on(self, options: SocketOptions) -> io::Result<Wire> {
        Ok(self.with_options(options))
    }
}
