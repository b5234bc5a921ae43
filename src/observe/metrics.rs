//! Counters that sessions move: one [`Shard`] per worker, so that no cache line is shared, summed
//! when scraped.

use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// A counter that one worker moves and the scraper reads.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds one.
    pub fn inc(&self) {
        self.add(1);
    }

    /// Adds `n`.
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    /// The present value.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Values of a label that are known when this is compiled.
pub trait Kind: Copy + 'static {
    /// All of them, each at its own index.
    const ALL: &'static [Self];
    /// The label's value.
    fn label(self) -> &'static str;
    /// Its place in [`Kind::ALL`].
    fn index(self) -> usize;
}

/// An enum whose variants are the values of a label.
macro_rules! kinds {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $label:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub enum $name { $($(#[$variant_doc])* $variant,)+ }

        impl $name {
            pub(super) const COUNT: usize = [$($label),+].len();
        }

        impl Kind for $name {
            const ALL: &'static [Self] = &[$(Self::$variant),+];
            fn label(self) -> &'static str {
                match self { $(Self::$variant => $label),+ }
            }
            fn index(self) -> usize {
                self as usize
            }
        }
    };
}

kinds! {
    /// Why a session ended.
    CloseReason {
        /// The client closed, with Terminate or without.
        Client = "client",
        /// Hologres closed.
        Upstream = "upstream",
        /// A frame that is none (08P01).
        ProtocolError = "protocol_error",
        /// Hologres, or Osprey, refused the login.
        LoginFailed = "login_failed",
        /// Hologres could not be reached.
        Unreachable = "unreachable",
        /// The login took too long.
        Timeout = "timeout",
        /// It was idle for longer than `limits.idle_session_timeout`.
        IdleSession = "idle_session",
        /// It was idle in a transaction for longer than `limits.idle_in_transaction_session_timeout`.
        IdleInTransaction = "idle_in_transaction",
        /// Osprey is shutting down.
        Drained = "drained",
        /// An operator ended it, by the console.
        Killed = "killed",
        /// A fault of Osprey's own.
        Panic = "panic",
    }
}

kinds! {
    /// What became of a cancel request.
    Cancel {
        /// It went to the server of its session.
        Forwarded = "forwarded",
        /// No session here has its key; it went to every upstream of its listener.
        Unknown = "unknown",
        /// No session here has its key, and there were too many of the kind.
        Dropped = "dropped",
        /// The server could not be reached.
        Failed = "failed",
    }
}

kinds! {
    /// What a connection began with on a listener that takes PROXY headers.
    ProxyHeader {
        /// A header that named the client.
        Taken = "taken",
        /// A header of the load balancer's own connection, a health check.
        Local = "local",
        /// No header.
        Missing = "missing",
        /// A header from a network that may not send one.
        Forbidden = "forbidden",
        /// A broken header.
        Invalid = "invalid",
    }
}

/// The settings by which connections are refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// `limits.max_sessions`
    Sessions,
    /// `limits.max_sessions_per_address`
    SessionsPerAddress,
    /// `limits.max_sessions_per_user`
    SessionsPerUser,
    /// `limits.max_sessions_per_database`
    SessionsPerDatabase,
    /// `limits.new_sessions_per_second`
    NewSessions,
    /// `limits.new_sessions_per_second_per_address`
    NewSessionsPerAddress,
    /// `limits.new_sessions_per_second_per_user`
    NewSessionsPerUser,
    /// `max_sessions` of an upstream
    UpstreamSessions,
    /// `limits.max_logins`
    Logins,
    /// `limits.max_logins_per_address`
    LoginsPerAddress,
    /// `limits.max_greetings_per_address`
    GreetingsPerAddress,
    /// `allow` of a listener
    Allow,
    /// `deny` of a listener
    Deny,
    /// The limit of open files.
    OpenFiles,
    /// None: Osprey is shutting down.
    Draining,
}

impl Limit {
    /// The keys of all these settings, each at its own index.
    pub const NAMES: &[&str] = &[
        "limits.max_sessions",
        "limits.max_sessions_per_address",
        "limits.max_sessions_per_user",
        "limits.max_sessions_per_database",
        "limits.new_sessions_per_second",
        "limits.new_sessions_per_second_per_address",
        "limits.new_sessions_per_second_per_user",
        "upstream.max_sessions",
        "limits.max_logins",
        "limits.max_logins_per_address",
        "limits.max_greetings_per_address",
        "listener.allow",
        "listener.deny",
        "open_files",
        "draining",
    ];

    /// The setting's key.
    pub fn name(self) -> &'static str {
        Self::NAMES[self as usize]
    }
}

kinds! {
    /// Which protocol carried a statement.
    Protocol {
        /// A Query message.
        Simple = "simple",
        /// An Execute message.
        Extended = "extended",
    }
}

kinds! {
    /// How a SET of Osprey's own was sent.
    Injection {
        /// As a Query in front of the client's.
        OwnQuery = "own_query",
        /// As an extended cycle in front of the client's.
        OwnCycle = "own_cycle",
        /// Without Sync, inside a pipeline that had begun.
        Inline = "inline",
        /// To put back what was there before.
        Restore = "restore",
        /// To see whether this user may set it, before a transaction begins.
        Proof = "proof",
    }
}

kinds! {
    /// Which way bytes went.
    Direction {
        /// From the client to Hologres.
        ToServer = "to_server",
        /// From Hologres to the client.
        ToClient = "to_client",
    }
}

kinds! {
    /// What came of reading the configuration again.
    Reload {
        /// It is in force.
        Applied = "applied",
        /// It has mistakes; what was in force stays in force.
        Refused = "refused",
        /// It could not be read in time.
        TimedOut = "timed_out",
    }
}

kinds! {
    /// What became of a connection to the console.
    ConsoleLogin {
        /// It is logged in.
        Accepted = "accepted",
        /// Not this user, or not this password.
        Refused = "refused",
        /// Too many connections at a time, or logins a second.
        Limited = "limited",
    }
}

kinds! {
    /// What became of a statement on the console.
    ConsoleCommand {
        /// It shows something.
        Read = "read",
        /// It has changed something.
        Write = "write",
        /// It has failed.
        Failed = "failed",
    }
}

kinds! {
    /// What reads the MaxCompute data of a statement.
    Engine {
        /// Nothing: it reads none.
        Local = "local",
        /// HQE, unless the session itself, or the database, has chosen another engine.
        Hqe = "hqe",
        /// SQE, or Common Table: the statement was steered.
        Sqe = "sqe",
    }
}

impl Engine {
    /// `steered`: to the engine for encrypted data; `foreign`: MaxCompute data may be read.
    pub fn of(steered: bool, foreign: bool) -> Self {
        match (steered, foreign) {
            (true, _) => Self::Sqe,
            (false, true) => Self::Hqe,
            (false, false) => Self::Local,
        }
    }
}

kinds! {
    /// By what a statement was known to touch encrypted data.
    KnownBy {
        /// A pattern of the operator's.
        Pattern = "pattern",
        /// The project's key record: of the configuration, the cloud, or what every user goes by.
        Key = "key",
        /// What its user, or its database, has learned from a failure.
        Lesson = "lesson",
    }
}

/// What the console has done.
#[derive(Debug, Default)]
pub struct ConsoleCounts {
    /// Connections, by what became of them.
    pub logins: Kinds<ConsoleLogin, { ConsoleLogin::COUNT }>,
    /// Statements, by what became of them.
    pub commands: Kinds<ConsoleCommand, { ConsoleCommand::COUNT }>,
}

/// One counter per value of a label.
#[derive(Debug)]
pub struct Kinds<K, const N: usize, C = Counter>([C; N], PhantomData<K>);

impl<K, const N: usize, C: Default> Default for Kinds<K, N, C> {
    fn default() -> Self {
        Self(std::array::from_fn(|_| C::default()), PhantomData)
    }
}

impl<K: Kind, const N: usize, C> Kinds<K, N, C> {
    /// What is counted of one value.
    pub fn of(&self, kind: K) -> &C {
        &self.0[kind.index()]
    }
}

impl<K: Kind, const N: usize> Kinds<K, N> {
    /// Each label's value, with what is counted of it.
    pub fn labelled(&self) -> Vec<(&'static str, u64)> {
        let count = |kind: &K| (kind.label(), self.of(*kind).get());
        K::ALL.iter().map(count).collect()
    }
}

/// One histogram per engine.
pub type ByEngine<S> = Kinds<Engine, { Engine::COUNT }, Durations<S>>;

/// Counters by a label whose values are constants of other modules. Takes a lock: for what happens
/// rarely.
#[derive(Debug, Default)]
pub struct Labels(Mutex<BTreeMap<&'static str, u64>>);

impl Labels {
    /// Adds one.
    pub fn inc(&self, label: &'static str) {
        *self
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .entry(label)
            .or_default() += 1;
    }

    /// Adds the present values to `sums`.
    pub fn sum_into(&self, sums: &mut BTreeMap<&'static str, u64>) {
        for (label, count) in self.0.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            *sums.entry(label).or_default() += count;
        }
    }
}

/// Which durations a histogram tells apart.
pub trait Scale: 'static {
    /// The upper bounds of its buckets in nanoseconds, ascending; at most [`MAX_BOUNDS`].
    const BOUNDS: &'static [u64];
}

/// Bounds that a histogram has at most.
pub const MAX_BOUNDS: usize = 15;

/// The bounds for connects: 0.25 ms (same rack) to 10 s (the default time-out).
#[derive(Debug, Default)]
pub struct Connects;

impl Scale for Connects {
    const BOUNDS: &'static [u64] = &[
        250_000,
        500_000,
        1_000_000,
        2_500_000,
        5_000_000,
        10_000_000,
        25_000_000,
        50_000_000,
        100_000_000,
        250_000_000,
        1_000_000_000,
        2_500_000_000,
        10_000_000_000,
    ];
}

/// The bounds for Osprey's own work: 1 µs to 16 ms, each twice the one before.
#[derive(Debug, Default)]
pub struct OwnWork;

impl Scale for OwnWork {
    const BOUNDS: &'static [u64] = &[
        1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 64_000, 128_000, 256_000, 512_000, 1_024_000,
        2_048_000, 4_096_000, 8_192_000, 16_384_000,
    ];
}

/// The bounds for statements: 1 ms to 5 minutes.
#[derive(Debug, Default)]
pub struct Statements;

impl Scale for Statements {
    const BOUNDS: &'static [u64] = &[
        1_000_000,
        2_500_000,
        5_000_000,
        10_000_000,
        25_000_000,
        50_000_000,
        100_000_000,
        250_000_000,
        500_000_000,
        1_000_000_000,
        2_500_000_000,
        10_000_000_000,
        30_000_000_000,
        100_000_000_000,
        300_000_000_000,
    ];
}

/// A histogram of durations.
#[derive(Debug, Default)]
pub struct Durations<S> {
    /// Not cumulative; the one behind the last bound holds what is longer.
    buckets: [Counter; MAX_BOUNDS + 1],
    nanoseconds: Counter,
    scale: PhantomData<S>,
}

impl<S: Scale> Durations<S> {
    /// Counts one.
    pub fn observe(&self, time: Duration) {
        self.observe_each(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX), 1);
    }

    /// Counts `times` that took so many nanoseconds each.
    #[inline]
    pub fn observe_each(&self, each: u64, times: u64) {
        // In their order: what takes long can pay for the search.
        let bucket = S::BOUNDS.iter().position(|&bound| each <= bound);
        self.buckets[bucket.unwrap_or(S::BOUNDS.len())].add(times);
        self.nanoseconds.add(each.saturating_mul(times));
    }

    /// The count of each bucket, not cumulative; only as many as there are bounds, and one more.
    pub fn counts(&self) -> [u64; MAX_BOUNDS + 1] {
        std::array::from_fn(|bucket| self.buckets[bucket].get())
    }

    /// The sum of all times, in nanoseconds.
    pub fn total(&self) -> u64 {
        self.nanoseconds.get()
    }
}

/// What one worker counts. The alignment keeps two workers' shards off each other's cache lines
/// (128 bytes: processors fetch lines in pairs).
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct Shard {
    /// Connections taken on as sessions.
    pub sessions_opened: Counter,
    /// Sessions ended, by reason; what was opened and not closed is active.
    pub sessions_closed: Kinds<CloseReason, { CloseReason::COUNT }>,
    /// Connections refused, by [`Limit::name`].
    pub sessions_refused: Labels,
    /// Logins that Hologres refused.
    pub login_failures: Counter,
    /// Connects to Hologres that failed.
    pub upstream_connect_failures: Counter,
    /// How long connects to Hologres took.
    pub upstream_connect_time: Durations<Connects>,
    /// Osprey's own work on a cycle: what it spent on its messages in both directions, system calls
    /// included, and waiting for neither side. One cycle of a session in several is measured, and the others
    /// count as it does.
    pub own_time: Durations<OwnWork>,
    /// How long logins took that succeeded, from the connection to the first ReadyForQuery.
    pub login_time: Durations<Connects>,
    /// How long cycles took that run statements, by protocol and by engine, from their first message to
    /// their ReadyForQuery.
    pub statement_time: Kinds<Protocol, { Protocol::COUNT }, ByEngine<Statements>>,
    /// How long they took to the first bytes of an answer.
    pub first_answer_time: ByEngine<Statements>,
    /// How long the first runs took of statements that a second one has cured.
    pub heal_time: Durations<Statements>,
    /// Statements that clients sent: Query and Execute messages.
    pub statements: Kinds<Protocol, { Protocol::COUNT }>,
    /// Of these, the ones that touch encrypted data.
    pub protected_statements: Counter,
    /// Of these, how they were known.
    pub known_by: Kinds<KnownBy, { KnownBy::COUNT }>,
    /// Of these, the ones in front of which no SET could be sent.
    pub unsteered_statements: Counter,
    /// Statements that were cancelled for `limits.statement_timeout`.
    pub statement_timeouts: Counter,
    /// Cycles ended by ReadyForQuery, Osprey's own not counted.
    pub cycles: Counter,
    /// SETs of Osprey's own.
    pub injections: Kinds<Injection, { Injection::COUNT }>,
    /// Of these, the ones that Hologres refused.
    pub injection_failures: Counter,
    /// Errors rewritten, by their OSP code.
    pub errors_rewritten: Labels,
    /// Statements that would have been steered, in sessions that are only observed.
    pub would_steer: Counter,
    /// Errors that would have been rewritten, in sessions that are only observed, by their OSP code.
    pub would_rewrite: Labels,
    /// Statements run again.
    pub retries: Counter,
    /// Those of them that write.
    pub retried_writes: Counter,
    /// Statements that failed on encrypted data and were not run again, by reason.
    pub retries_refused: Labels,
    /// Sessions from whose middle on nothing was injected, because the order of messages had become
    /// ambiguous.
    pub relay_only_sessions: Counter,
    /// Sessions whose client set the route itself.
    pub client_route_sessions: Counter,
    /// Bytes forwarded.
    pub bytes: Kinds<Direction, { Direction::COUNT }>,
    /// Cancel requests of clients, by what became of them.
    pub cancel_requests: Kinds<Cancel, { Cancel::COUNT }>,
    /// What connections began with on listeners that take PROXY headers.
    pub proxy_headers: Kinds<ProxyHeader, { ProxyHeader::COUNT }>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_share_no_cache_line() {
        assert_eq!(align_of::<Shard>() % 128, 0);
        assert_eq!(size_of::<Shard>() % 128, 0);
    }

    #[test]
    fn kinds_are_counted_apart() {
        let shard = Shard::default();
        shard.sessions_closed.of(CloseReason::Drained).inc();
        shard.sessions_closed.of(CloseReason::Client).add(2);
        let counts: Vec<_> = CloseReason::ALL
            .iter()
            .map(|&kind| (kind.label(), shard.sessions_closed.of(kind).get()))
            .filter(|(_, count)| *count > 0)
            .collect();
        assert_eq!(counts, [("client", 2), ("drained", 1)]);
    }

    #[test]
    fn a_bound_belongs_to_its_own_bucket() {
        let times = Durations::<Connects>::default();
        times.observe(Duration::from_micros(250));
        times.observe(Duration::from_micros(251));
        times.observe(Duration::from_hours(1));
        let counts = times.counts();
        assert_eq!(
            (counts[0], counts[1], counts[Connects::BOUNDS.len()]),
            (1, 1, 1)
        );
        assert_eq!(times.total(), 3_600_000_501_000);
    }

    #[test]
    fn cycles_of_one_turn_share_its_time() {
        let times = Durations::<OwnWork>::default();
        times.observe_each(3_000, 3);
        assert_eq!(times.counts()[2], 3);
        assert_eq!(times.total(), 9_000);
    }
}
