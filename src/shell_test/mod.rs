//! The simulation of the shell: Osprey's real path from an accepted connection to its close, with
//! models of clients and of a server around it, on a network and a clock that a seed decides about.
//!
//! # Why tokio's own clock
//!
//! Sessions are generic over [`Network`](crate::net::Network), and on a thread that runs no event loop
//! of Osprey's their tasks and timers are tokio's. So a current-thread runtime with a paused clock and
//! connections in memory are all that is needed, and
//! the simulation decides about every byte: [`wire`] lets a window shrink to nothing, a RST overtake
//! data and a peer fall silent in the middle of a header. turmoil was the alternative. It simulates
//! hosts and whole TCP connections between tasks that use *its* sockets; what this is about, short
//! reads and writes, readiness and half-closed ends, lies below what it shows.
//!
//! # How it works
//!
//! [`Plan`](plan::Plan) decides from a seed who connects and what befalls whom;
//! [`World`](world::World) runs it step by step; [`record`] is the oracle of one session and
//! [`invariants`] says what must hold at every step and at the end. `docs/simulation.md` says how to
//! run it, how to replay a seed, and which faults it finds when their fixes are taken out.
//!
//! # Why a seed replays
//!
//! One thread, one source of chance, no clock of the system's. What would depend on them in Osprey
//! itself does not: a drain wakes sessions in the order of their numbers, `select!` on this path is
//! `biased`, and under test a snapshot is made in place.

mod backend;
mod client;
mod invariants;
mod line;
mod network;
mod plan;
mod random;
mod record;
mod script;
mod server;
mod step;
mod tls;
mod wire;
mod world;

use std::cell::RefCell;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use world::{Did, World};

const TRANSPARENT: &str = "a client receives what its server said, in order, and nothing of Osprey's but a documented FATAL at the end";
const FAITHFUL: &str = "a server receives what its client sent, in order, nothing lost, and nothing of Osprey's but its marked statements";
const SERVED: &str = "a client whom nothing befalls is served to its end";
const ENDS: &str = "a session ends within its bound after its client is gone";
const DRAINED: &str = "a drain ends every session within limits.drain_timeout and four seconds";
const GIVEN_BACK: &str = "every place, entry and count is given back";
pub(crate) const BOUNDED_MEMORY: &str =
    "a session keeps no more in memory than its buffers may grow to";
pub(crate) const CORE_HOLDS: &str = "the machines of the core hold their invariants";
pub(crate) const AS_USUAL: &str = "a session of which nothing unusual is noted has nothing unusual";
const PANICS: &str = "no session panics";
const PLACES_AFTER_LOGIN: &str =
    "a session's place is taken when its login has succeeded, not before";
const BOUNDED_CANCELS: &str =
    "cancel requests of strangers are at most limits.max_cancels at a time";
const CANCELLED_WHERE: &str = "a cancel request reaches the server of its session and no other";
const CANCELLED_WHY: &str =
    "a statement is cancelled only if somebody asks for it, its time is up or its client is gone";
const CANCELS_NO_LATER: &str =
    "a cancel of Osprey's own hits nothing that its client sends once it is answered";
const KILLED: &str = "a session that is killed ends within ten seconds";
const CANCEL_ANSWERED: &str =
    "the connection of a cancel request ends after the server has acted on it";
const TOLD_WHY: &str = "whoever is refused is told why";
const PASSED_ON: &str = "a peer's RST is passed on as RST, its FIN as FIN";
const REPLAYS: &str = "a seed replays exactly";

/// Seeds that are run if `OSPREY_SIM_SEEDS` does not say.
const SEEDS: u64 = if cfg!(feature = "tiny-io") { 50 } else { 2_000 };

/// An invariant that does not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Broken {
    invariant: &'static str,
    what: String,
}

impl Broken {
    pub(crate) fn new(invariant: &'static str, what: String) -> Self {
        Self { invariant, what }
    }
}

thread_local! {
    static NOTED: RefCell<Option<Broken>> = const { RefCell::new(None) };
}

/// For checks within Osprey: an invariant does not hold. Does nothing outside a simulation but be
/// remembered.
pub(crate) fn note(invariant: &'static str, what: impl FnOnce() -> String) {
    NOTED.with_borrow_mut(|noted| {
        noted.get_or_insert_with(|| Broken::new(invariant, what()));
    });
}

fn take_noted() -> Option<Broken> {
    NOTED.with_borrow_mut(Option::take)
}

/// Runs one seed.
fn run(seed: u64) -> Result<Did, String> {
    take_noted();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime needs nothing of the system");
    runtime.block_on(async {
        let mut world = World::new(seed);
        world.run().await.map_err(|broken| {
            let Broken { invariant, what } = broken;
            let events = world.events();
            format!(
                "seed {seed}, step {}: broken: {invariant}\n  {what}\n{events}\
                 replay: OSPREY_SIM_SEED={seed} cargo test --lib shell_test",
                world.step
            )
        })
    })
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

#[test]
fn the_shell_holds_its_invariants_whatever_the_network_does() {
    if let Some(seed) = number("OSPREY_SIM_SEED") {
        match run(seed) {
            Ok(did) => println!("seed {seed} holds: {did:?}"),
            Err(report) => panic!("{report}"),
        }
        return;
    }
    let first = number("OSPREY_SIM_FIRST").unwrap_or(1);
    let seeds = number("OSPREY_SIM_SEEDS").unwrap_or(SEEDS);
    let (next, steps) = (AtomicU64::new(first), AtomicU64::new(0));
    let totals = Mutex::new(Did::default());
    let failed: Mutex<Vec<(u64, String)>> = Mutex::default();
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    let found = failed.lock().map_or(0, |failed| failed.len() as u64);
                    let enough = found >= number("OSPREY_SIM_FINDINGS").unwrap_or(1);
                    if seed >= first + seeds || enough {
                        return;
                    }
                    match run(seed) {
                        Ok(did) => {
                            steps.fetch_add(did.steps, Ordering::Relaxed);
                            let mut totals = totals.lock().expect("nobody panics with it");
                            totals.sessions += did.sessions;
                            totals.seconds += did.seconds;
                            totals.retries += did.retries;
                            totals.killed += did.killed;
                            totals.cancelled += did.cancelled;
                        }
                        Err(report) => failed
                            .lock()
                            .expect("nobody panics with it")
                            .push((seed, report)),
                    }
                }
            });
        }
    });
    let mut failed = failed.into_inner().expect("nobody panics with it");
    failed.sort();
    for (_, report) in failed.iter().skip(1) {
        println!(
            "{}\n",
            report.lines().take(2).collect::<Vec<_>>().join("\n")
        );
    }
    if let Some((_, report)) = failed.first() {
        panic!("{report}");
    }
    let totals = totals.into_inner().expect("nobody panics with it");
    println!(
        "{seeds} seeds: {} steps, {} sessions, {} retries, {} sessions killed, {} statements cancelled by Osprey, \
         {} s of simulated time",
        steps.into_inner(),
        totals.sessions,
        totals.retries,
        totals.killed,
        totals.cancelled,
        totals.seconds
    );
}

#[test]
fn a_seed_replays_exactly() {
    for seed in 1..=10 {
        assert_eq!(run(seed), run(seed), "{REPLAYS}: {seed}");
    }
}
