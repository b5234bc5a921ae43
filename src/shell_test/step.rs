//! One step of a run: signals, new connections, what befalls connections, and one to three of the things
//! that can happen now.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::{Instant, sleep};

use crate::config::Address;
use crate::server::parts::{apply, drain};
use crate::upstream::TlsFiles;
use crate::wire::startup::cancel_request;

use super::Broken;
use super::client::{Client, Wish};
use super::line::{Read, Towards};
use super::network::server_at;
use super::plan::{Begin, Fault};
use super::random::Random;
use super::server::{Effect, ServerConnection};
use super::wire::Peer;
use super::world::{Asked, Canceller, LEAP, World};

impl World {
    pub(super) fn sigterm(&mut self) {
        if self.draining.is_none() {
            self.log(|| "SIGTERM: a drain begins".into());
            self.drain_began = Some(Instant::now());
            let shared = Arc::clone(&self.shared);
            let hurry = Arc::clone(&self.hurry);
            self.draining = Some(tokio::spawn(async move {
                drain(&shared, hurry.notified()).await;
            }));
        }
    }

    fn reload(&mut self) {
        let address = &mut self.settings.upstream_mut().addresses[0];
        let host = if address.host == "one" { "two" } else { "one" };
        *address = Address {
            host: host.into(),
            port: 80,
        };
        self.log(|| format!("SIGHUP: the upstream is {host} from now on"));
        apply(
            &self.shared,
            &self.sockets,
            &Handle::current(),
            self.settings.clone(),
            TlsFiles::read(&self.settings).expect("these settings name no file"),
        );
    }

    fn signals(&mut self) {
        if self.plan.drain_at == Some(self.step) {
            self.sigterm();
        }
        if self.plan.drain_now_at == Some(self.step) && self.draining.is_some() {
            self.log(|| "a second SIGTERM: the drain is to end at once".into());
            self.hurry.notify_one();
        }
        while self.plan.reload_at.contains(&self.step) {
            self.plan.reload_at.retain(|at| *at != self.step);
            self.reload();
        }
    }

    /// Somebody says KILL or CANCEL at the console.
    fn ask(&mut self) {
        let step = self.step;
        while let Some(at) = self.plan.orders.iter().position(|(at, _)| *at == step) {
            let (_, what) = self.plan.orders.remove(at);
            let sessions = self.shared.sessions.sessions();
            if sessions.is_empty() {
                continue;
            }
            let session = &sessions[self.choice.below(sessions.len())];
            let client = session.user.trim_start_matches('c').parse();
            let client: usize = client.unwrap_or_default();
            self.log(|| format!("the console: {what:?} the session of client {client}"));
            self.shared.sessions.ask(session.id, what);
            let at = Instant::now();
            self.asked.push(Asked { client, what, at });
        }
    }

    /// One step. True if something could happen.
    pub(super) async fn step(&mut self) -> Result<bool, Broken> {
        self.step += 1;
        self.signals();
        self.ask();
        self.connect();
        self.befall();
        let mut happened = false;
        for _ in 0..self.random.within(1..=3) {
            happened |= self.one()?;
        }
        if happened {
            sleep(Duration::from_millis(1)).await;
        } else {
            self.leap().await;
        }
        let now = Instant::now();
        for peer in self.peers() {
            peer.time_passes(now);
        }
        Ok(happened)
    }

    /// Lets time pass up to the next moment at which somebody goes on.
    async fn leap(&mut self) {
        let now = Instant::now();
        let clients = self.clients.iter().filter_map(Client::wakes_at);
        let servers = self.servers.iter().filter_map(ServerConnection::wakes_at);
        let wires = self.peers().filter_map(Peer::moves_again);
        let next = clients
            .chain(servers)
            .chain(wires)
            .filter(|at| *at > now)
            .min();
        let leap = next.map_or(LEAP, |at| at - now).min(LEAP);
        sleep(leap.max(Duration::from_millis(1))).await;
    }

    fn peers(&self) -> impl Iterator<Item = &Peer> {
        let clients = self
            .clients
            .iter()
            .filter_map(|client| client.peer.as_ref());
        let servers = self.servers.iter().map(|server| &server.peer);
        let cancellers = self.cancellers.iter().map(|canceller| &canceller.peer);
        clients.chain(servers).chain(cancellers)
    }

    /// New connections, of clients and of Osprey.
    fn connect(&mut self) {
        for number in 0..self.clients.len() {
            let client = &self.clients[number];
            let due = self.step >= client.plan.begins_at || self.moved + LEAP < Instant::now();
            if client.peer.is_some() || !due {
                continue;
            }
            if let Begin::CancelFlood(count) = client.plan.begin {
                for stranger in 0..count {
                    let key = [&[0, 0, 9, stranger as u8][..], &[9; 4]].concat();
                    self.connect_canceller(cancel_request(&key), None);
                }
            }
            self.log(|| format!("client {number} connects"));
            let peer = self.connect_from(number);
            self.clients[number].begin(peer, &mut self.records[number]);
            if let Begin::CancelFlood(_) = self.clients[number].plan.begin {
                self.clients[number].end();
            }
        }
        while let Some((address, peer)) = self.net.take_made() {
            let number = (0..=9).find(|number| server_at(*number) == address);
            let number = number.unwrap_or_default();
            self.log(|| format!("Osprey connects to server {number}"));
            self.servers.push(ServerConnection::new(peer, number));
        }
    }

    fn connect_from(&mut self, client: usize) -> Peer {
        let address = SocketAddr::from(([192, 168, 0, client as u8 + 1], 40_000));
        let seed = self.random.below(usize::MAX) as u64;
        self.net.connect_client(address, Random::new(seed, 5))
    }

    fn connect_canceller(&mut self, packet: Vec<u8>, client: Option<usize>) {
        let peer = self.connect_from(client.unwrap_or(77));
        let key = packet.get(8..).unwrap_or_default();
        let seen_before = self.seen(key);
        self.cancellers.push(Canceller {
            peer,
            packet: packet.into(),
            client,
            seen_before,
            over: false,
            saw_fin: false,
        });
    }

    /// How many cancel requests with this key servers have seen.
    pub(super) fn seen(&self, key: &[u8]) -> usize {
        self.cancels_seen.iter().filter(|seen| *seen == key).count()
    }

    /// What befalls connections now.
    fn befall(&mut self) {
        for number in 0..self.clients.len() {
            let step = self.step;
            let mut lines = Vec::new();
            let client = &mut self.clients[number];
            let Some(peer) = client.peer.clone() else {
                continue;
            };
            let due = |(at, _): &(usize, Fault)| *at <= step;
            while let Some(at) = client.plan.faults.iter().position(due) {
                let (_, fault) = client.plan.faults.remove(at);
                let server = self
                    .servers
                    .iter_mut()
                    .rfind(|server| server.client == Some(number));
                let towards = self.random.pick(&[Towards::Osprey, Towards::Peer]);
                match (fault, server) {
                    (Fault::Stall(time), _) => peer.stall(towards, Duration::from_millis(time)),
                    (Fault::Cut, _) => peer.cut(),
                    (Fault::Reset, _) => {
                        peer.reset();
                        client.end();
                    }
                    (Fault::Window(size), _) => {
                        peer.set_buffers(size, client.plan.buffer);
                        if size != client.plan.window {
                            let again = Fault::Window(client.plan.window);
                            client.plan.faults.push((step + 100, again));
                        }
                    }
                    (Fault::ServerStall(time), Some(server)) => {
                        server.peer.stall(towards, Duration::from_millis(time));
                    }
                    (Fault::ServerReset, Some(server)) => server.fail_at_once(),
                    _ => {}
                }
                lines.push(format!("client {number}: {fault:?} {towards:?}"));
            }
            for line in lines {
                self.log(|| line);
            }
        }
    }

    /// One thing that can happen now, if there is one.
    fn one(&mut self) -> Result<bool, Broken> {
        let now = Instant::now();
        let mut can = Vec::new();
        for (number, client) in self.clients.iter().enumerate() {
            if client.can_act(now, &self.records[number]) {
                can.push(Happening::Client(number));
            }
            if let Some(peer) = &client.peer {
                for towards in [Towards::Osprey, Towards::Peer] {
                    if peer.can_move(towards, now) {
                        can.push(Happening::ClientWire(number, towards));
                    }
                }
            }
        }
        for (number, server) in self.servers.iter().enumerate() {
            if server.can_act(now) {
                can.push(Happening::Server(number));
            }
            for towards in [Towards::Osprey, Towards::Peer] {
                if server.peer.can_move(towards, now) {
                    can.push(Happening::ServerWire(number, towards));
                }
            }
        }
        for (number, canceller) in self.cancellers.iter().enumerate() {
            let peer = &canceller.peer;
            let acts = peer.may_read() || !canceller.packet.is_empty();
            if !canceller.over && acts {
                can.push(Happening::Canceller(number));
            }
            for towards in [Towards::Osprey, Towards::Peer] {
                if peer.can_move(towards, now) {
                    can.push(Happening::CancellerWire(number, towards));
                }
            }
        }
        if can.is_empty() {
            return Ok(false);
        }
        let next = can[self.random.below(can.len())];
        self.happens(next)?;
        Ok(true)
    }

    fn happens(&mut self, next: Happening) -> Result<(), Broken> {
        let random = &mut self.random;
        match next {
            Happening::ClientWire(number, towards) => {
                if let Some(peer) = &self.clients[number].peer {
                    let moved = peer.deliver(towards, |most| random.part(most));
                    self.log(|| format!("client {number}: {moved} bytes arrive at {towards:?}"));
                }
            }
            Happening::ServerWire(number, towards) => {
                let peer = &self.servers[number].peer;
                let moved = peer.deliver(towards, |most| random.part(most));
                self.log(|| {
                    format!("server connection {number}: {moved} bytes arrive at {towards:?}")
                });
            }
            Happening::CancellerWire(number, towards) => {
                self.cancellers[number].peer.deliver(towards, |most| most);
                self.log(|| format!("cancel {number}: something arrives at {towards:?}"));
            }
            Happening::Client(number) => {
                let may_say = self.reasons(number);
                let client = &mut self.clients[number];
                let record = &mut self.records[number];
                let said = |code: &str| may_say.contains(&code);
                let (sent, answered) = (record.sent.len(), client.is_answered(record));
                let wish = client.act(record, said, &mut self.random);
                if answered && record.sent.len() > sent {
                    record.begun_anew.push((sent, Instant::now()));
                }
                let did = std::mem::take(&mut client.did);
                self.log(|| format!("client {number} {did}"));
                let broken =
                    |what| Broken::new(super::TRANSPARENT, format!("client {number}: {what}"));
                match wish.map_err(broken)? {
                    Wish::None => {}
                    Wish::Cancel => {
                        let key = self.records[number].key.clone();
                        if !key.is_empty() {
                            self.log(|| format!("client {number} asks to cancel"));
                            self.connect_canceller(cancel_request(&key), Some(number));
                        }
                    }
                }
            }
            Happening::Server(number) => {
                let clients = &self.clients;
                let plan_of = |client: usize| {
                    let plan = &clients[client].plan;
                    let replication = matches!(
                        plan.begin,
                        Begin::Startup {
                            replication: true,
                            ..
                        }
                    );
                    (plan.server, replication)
                };
                let server = &mut self.servers[number];
                let effect = server.act(&mut self.records, plan_of, &mut self.random);
                let client = server.client;
                let did = std::mem::take(&mut server.did);
                self.log(|| format!("server connection {number}, client {client:?}: {did}"));
                let broken = |what| {
                    Broken::new(
                        super::FAITHFUL,
                        format!("server connection {number}, client {client:?}: {what}"),
                    )
                };
                if let Effect::Cancel(key) = effect.map_err(broken)? {
                    self.cancel(number, key)?;
                }
            }
            Happening::Canceller(number) => {
                let canceller = &mut self.cancellers[number];
                if !canceller.packet.is_empty() {
                    let packet: Vec<u8> = canceller.packet.drain(..).collect();
                    canceller.peer.write(&packet);
                    return Ok(());
                }
                match canceller.peer.read(&mut Vec::new(), 10) {
                    Read::Fin => {
                        canceller.saw_fin = true;
                        canceller.over = true;
                        canceller.peer.close();
                        self.check_cancelled(number)?;
                    }
                    Read::Reset => {
                        canceller.over = true;
                        canceller.peer.close();
                    }
                    _ => {}
                }
            }
        }
        Ok(())
    }
}

/// Something that can happen.
#[derive(Debug, Clone, Copy)]
enum Happening {
    Client(usize),
    ClientWire(usize, Towards),
    Server(usize),
    ServerWire(usize, Towards),
    Canceller(usize),
    CancellerWire(usize, Towards),
}
