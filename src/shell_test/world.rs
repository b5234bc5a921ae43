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
use tokio::sync::{Notify, Semaphore};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::advice;
use crate::config::{Quota, Scope, Settings, TablePattern, TlsMode};
use crate::observe::Metrics;
use crate::observe::metrics::CloseReason;
use crate::server::parts::{Acceptor, Workers, take_on};
use crate::session::world::Routes;
use crate::session::{Admission, Ask, Context, Registry, Shared};
use crate::upstream::{TlsFiles, Upstreams};

use super::Broken;
use super::client::Client;
use super::network::Net;
use super::plan::Plan;
use super::random::Random;
use super::record::Record;
use super::server::ServerConnection;
use super::tls::certificate;
use super::wire::Peer;

/// Events that are kept for a report.
const KEPT: usize = 50;
/// Steps after which everyone is made to leave, whatever they still wanted.
const MOST_STEPS: usize = 6_000;
/// The longest leap of time where nothing can happen.
pub(super) const LEAP: Duration = Duration::from_secs(2);

/// A connection that asks to cancel.
#[derive(Debug)]
pub(super) struct Canceller {
    pub(super) peer: Peer,
    pub(super) packet: VecDeque<u8>,
    /// The client whose statement it is to cancel; `None`: nobody's.
    pub(super) client: Option<usize>,
    /// Cancel requests for it that its server had seen before.
    pub(super) seen_before: usize,
    pub(super) over: bool,
    pub(super) saw_fin: bool,
}

/// What the console has asked of a client's session.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) client: usize,
    pub(super) what: Ask,
    pub(super) at: Instant,
}

/// Everything in one run.
pub(super) struct World {
    pub(super) plan: Plan,
    pub(super) random: Random,
    pub(super) net: Net,
    pub(super) shared: Arc<Shared<Net>>,
    pub(super) context: Arc<Context<Net>>,
    pub(super) sockets: Vec<SocketAddr>,
    pub(super) settings: Settings,
    pub(super) clients: Vec<Client>,
    pub(super) records: Vec<Record>,
    pub(super) servers: Vec<ServerConnection>,
    pub(super) cancellers: Vec<Canceller>,
    /// Cancel requests that servers have seen: the key, how often.
    pub(super) cancels_seen: Vec<Vec<u8>>,
    /// What the console has asked for, and the chance by which it chooses.
    pub(super) asked: Vec<Asked>,
    pub(super) choice: Random,
    /// Statements that were cancelled on Osprey's own account.
    pub(super) cancelled: u64,
    pub(super) step: usize,
    begun: Instant,
    pub(super) draining: Option<JoinHandle<()>>,
    /// A second SIGTERM.
    pub(super) hurry: Arc<Notify>,
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
    pub(super) killed: u64,
    pub(super) cancelled: u64,
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
    limits.statement_timeout = plan.statement_timeout;
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
        let files = TlsFiles::read(&settings).expect("these settings name no file");
        let upstreams = Upstreams::new(&settings, files, &sockets, None, &Handle::current(), None);
        let metrics = Metrics::new(
            1,
            advice::Case::ALL.iter().map(|case| case.code()),
            advice::NotRetried::ALL.iter().map(|why| why.label()),
        );
        let shared = Arc::new(Shared {
            started: Arc::new(settings.clone()),
            settings: ArcSwap::from_pointee(settings.clone()),
            upstreams: ArcSwap::from_pointee(upstreams),
            metrics: Arc::new(metrics),
            rewritten: crate::observe::Recent::default(),
            traces: crate::traces::Traces::default(),
            routes: Routes::default(),
            sessions: Arc::new(Registry::default()),
            admission: Admission::default(),
            listening: Vec::new(),
            aside: std::sync::OnceLock::new(),
            network: net.clone(),
        });
        let context = Arc::new(Context {
            shared: Arc::clone(&shared),
            shard: Arc::clone(shared.metrics.shard(0)),
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
            refusals: Arc::new(Semaphore::new(4)),
        };
        tokio::spawn(acceptor.run(std::future::pending()));
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
            asked: Vec::new(),
            choice: Random::new(seed, 7),
            cancelled: 0,
            step: 0,
            begun: Instant::now(),
            draining: None,
            hurry: Arc::default(),
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
            killed: shard.sessions_closed.of(CloseReason::Killed).get(),
            cancelled: self.cancelled,
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
}
