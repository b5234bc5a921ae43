//! One run: Osprey's real path from the queue of accepted connections to their close, among models
//! of clients and servers, step by step.
//!
//! A step lets one to three things happen that can happen now, chosen by the seed, and then a
//! millisecond pass, in which Osprey does all that it can; then the invariants are checked. Where
//! nothing can happen but by the clock, time passes faster.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use crate::advice;
use crate::config::{Address, Quota, Scope, Settings, TablePattern, TlsMode};
use crate::observe::Metrics;
use crate::server::parts::{Acceptor, Workers, apply, drain, take_on};
use crate::session::world::Routes;
use crate::session::{Admission, Context, Drain, Registry, Shared};
use crate::upstream::Upstreams;
use crate::wire::startup::cancel_request;

use super::Broken;
use super::client::{Client, Wish};
use super::network::{Net, server_at};
use super::plan::{Begin, Fault, Plan};
use super::random::Random;
use super::record::Record;
use super::server::{Effect, ServerConnection};
use super::tls::certificate;
use super::wire::{Peer, Read, Towards};

/// Events that are kept for a report.
const KEPT: usize = 50;
/// Steps after which everyone is made to leave, whatever they still wanted.
const MOST_STEPS: usize = 6_000;
/// The longest leap of time where nothing can happen.
const LEAP: Duration = Duration::from_secs(2);

/// A connection that asks to cancel.
#[derive(Debug)]
pub(super) struct Canceller {
    pub(super) peer: Peer,
    packet: VecDeque<u8>,
    /// The client whose statement it is to cancel; `None`: nobody's.
    pub(super) client: Option<usize>,
    /// Cancel requests for it that its server had seen before.
    pub(super) seen_before: usize,
    pub(super) over: bool,
    pub(super) saw_fin: bool,
}

/// Everything in one run.
pub(super) struct World {
    pub(super) plan: Plan,
    pub(super) random: Random,
    pub(super) net: Net,
    pub(super) shared: Arc<Shared<Net>>,
    pub(super) context: Arc<Context<Net>>,
    sockets: Vec<SocketAddr>,
    pub(super) settings: Settings,
    pub(super) clients: Vec<Client>,
    pub(super) records: Vec<Record>,
    pub(super) servers: Vec<ServerConnection>,
    pub(super) cancellers: Vec<Canceller>,
    /// Cancel requests that servers have seen: the key, how often.
    pub(super) cancels_seen: Vec<Vec<u8>>,
    pub(super) step: usize,
    begun: Instant,
    pub(super) draining: Option<JoinHandle<()>>,
    pub(super) drain_began: Option<Instant>,
    events: VecDeque<String>,
    kept: usize,
    /// When something happened last.
    pub(super) moved: Instant,
}

/// What one run did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Did {
    pub(super) steps: u64,
    pub(super) sessions: u64,
    pub(super) seconds: u64,
    pub(super) retries: u64,
}

fn settings(plan: &Plan) -> Settings {
    let mut settings = Settings::for_upstream("one", 80);
    if plan.offers_tls {
        settings.listeners[0].tls = Some(certificate());
    }
    let limits = &mut settings.limits;
    limits.workers = 1;
    limits.login_timeout = Duration::from_secs(20);
    limits.drain_timeout = Duration::from_secs(5);
    limits.inspect_bytes = 32 << 10;
    limits.max_sessions = Quota::of(plan.max_sessions);
    limits.max_cancels = plan.max_cancels;
    let upstream = settings.upstream_mut();
    upstream.catalog.borrow = plan.borrows;
    upstream.route.retry_buffer = 32 << 10;
    if plan.per_statement {
        upstream.route.scope = Scope::Statement;
    }
    if !plan.asks_for_tls {
        upstream.tls.mode = TlsMode::Disable;
    }
    upstream.protect.tables = vec![TablePattern {
        database: "*".into(),
        schema: "*".into(),
        table: "enc*".into(),
    }];
    settings
}

impl World {
    /// The world of one seed, with Osprey in it.
    pub(super) fn new(seed: u64) -> Self {
        let mut plan = Plan::new(seed);
        let mut random = Random::new(seed, 3);
        let addresses = plan.addresses.iter().map(|(number, _)| *number).collect();
        let hosts = vec![("one", addresses), ("two", vec![2])];
        let net = Net::new(Random::new(seed, 4), hosts);
        for (number, behaviour) in &plan.addresses {
            net.set_behaviour(*number, *behaviour);
        }
        let settings = settings(&plan);
        let sockets = settings.listeners[0].addresses.clone();
        let upstreams = Upstreams::new(&settings, &sockets, None, &Handle::current())
            .expect("these settings name no file");
        let metrics = Metrics::new(
            1,
            advice::Case::ALL.iter().map(|case| case.code()),
            advice::NotRetried::ALL.iter().map(|why| why.label()),
        );
        let shared = Arc::new(Shared {
            settings: ArcSwap::from_pointee(settings.clone()),
            upstreams: ArcSwap::from_pointee(upstreams),
            metrics: Arc::new(metrics),
            routes: Routes::default(),
            sessions: Arc::new(Registry::default()),
            admission: Admission::default(),
            network: net.clone(),
        });
        let context = Arc::new(Context {
            shared: Arc::clone(&shared),
            worker: 0,
        });
        let (workers, receivers) = Workers::ways(1);
        for receiver in receivers {
            tokio::spawn(take_on(receiver, Arc::clone(&context)));
        }
        let acceptor = Acceptor {
            listener: net.clone(),
            socket: 0,
            shared: Arc::clone(&shared),
            workers,
        };
        tokio::spawn(acceptor.run());
        // Drawn and not used: the seeds of docs/simulation.md stay what they were.
        random.below(2);
        let clients: Vec<_> = std::mem::take(&mut plan.clients)
            .into_iter()
            .enumerate()
            .map(|(number, plan)| Client::new(number, plan))
            .collect();
        Self {
            records: clients.iter().map(|_| Record::default()).collect(),
            clients,
            plan,
            random,
            net,
            shared,
            context,
            sockets,
            settings,
            servers: Vec::new(),
            cancellers: Vec::new(),
            cancels_seen: Vec::new(),
            step: 0,
            begun: Instant::now(),
            draining: None,
            drain_began: None,
            events: VecDeque::new(),
            kept: super::number("OSPREY_SIM_EVENTS").map_or(KEPT, |kept| kept as usize),
            moved: Instant::now(),
        }
    }

    /// Runs to the end.
    pub(super) async fn run(&mut self) -> Result<Did, Broken> {
        loop {
            let happened = self.step().await?;
            self.check()?;
            let all_done = self.clients.iter().all(Client::is_done);
            if all_done || self.is_stuck(happened) || self.step > MOST_STEPS {
                break;
            }
        }
        if self.step <= MOST_STEPS {
            self.check_healthy()?;
        }
        self.wind_up().await?;
        let shard = &self.shared.metrics.shards()[0];
        Ok(Did {
            steps: self.step as u64,
            sessions: shard.sessions_opened.get(),
            seconds: self.begun.elapsed().as_secs(),
            retries: shard.retries.get(),
        })
    }

    /// Nothing has happened for so long that nothing will.
    fn is_stuck(&mut self, happened: bool) -> bool {
        let now = Instant::now();
        let paused = |client: &Client| client.paused_until.is_some_and(|until| now < until);
        if happened || self.clients.iter().any(paused) {
            self.moved = now;
        }
        now >= self.moved + Duration::from_secs(100)
    }

    /// Everyone leaves, and the process is told to end.
    async fn wind_up(&mut self) -> Result<(), Broken> {
        self.sigterm();
        let all_over = |world: &Self| {
            let drained = world.draining.as_ref().is_none_or(JoinHandle::is_finished);
            drained && Arc::strong_count(&world.context) <= 2
        };
        let begun = Instant::now();
        let mut left = false;
        while !all_over(self) {
            if !left && Instant::now() >= begun + Duration::from_secs(6) {
                // Those who were there when the drain ended them do not stay for ever.
                left = true;
                for client in &mut self.clients {
                    client.end();
                }
                for canceller in &mut self.cancellers {
                    canceller.peer.reset();
                    canceller.over = true;
                }
            }
            if Instant::now() >= begun + Duration::from_secs(90) {
                break;
            }
            self.step().await?;
            self.check()?;
        }
        self.check_end()
    }

    /// The invariants of a moment.
    fn check(&mut self) -> Result<(), Broken> {
        if let Some(broken) = super::take_noted() {
            return Err(broken);
        }
        self.check_moment()
    }

    pub(super) fn log(&mut self, event: impl FnOnce() -> String) {
        if self.events.len() >= self.kept {
            self.events.pop_front();
        }
        let mut line = format!(
            "{:>6} {:>9.3} s  ",
            self.step,
            self.begun.elapsed().as_secs_f64()
        );
        line.push_str(&event());
        self.events.push_back(line);
    }

    /// What happened last, for a report.
    pub(super) fn events(&self) -> String {
        let mut text = String::new();
        for event in &self.events {
            let _ = writeln!(text, "  {event}");
        }
        text
    }

    pub(super) fn sigterm(&mut self) {
        if self.draining.is_none() {
            self.log(|| "SIGTERM: a drain begins".into());
            self.drain_began = Some(Instant::now());
            let shared = Arc::clone(&self.shared);
            self.draining = Some(tokio::spawn(async move { drain(&shared).await }));
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
        )
        .expect("these settings name no file");
    }

    fn signals(&mut self) {
        if self.plan.drain_at == Some(self.step) {
            self.sigterm();
        }
        if self.plan.drain_now_at == Some(self.step) && self.draining.is_some() {
            self.log(|| "the drain is to end at once".into());
            self.shared.sessions.set_drain(Drain::Now);
        }
        while self.plan.reload_at.contains(&self.step) {
            self.plan.reload_at.retain(|at| *at != self.step);
            self.reload();
        }
    }

    /// One step. True if something could happen.
    async fn step(&mut self) -> Result<bool, Broken> {
        self.step += 1;
        self.signals();
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
        let wires = self.peers().filter_map(|peer| peer.moves_again());
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
                let line = format!("client {number}: {fault:?} {towards:?}");
                if self.events.len() >= self.kept {
                    self.events.pop_front();
                }
                self.events
                    .push_back(format!("{step:>6}             {line}"));
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
                let wish = client.act(record, said, &mut self.random);
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
