//! The settings that bound sessions, in number and in time.

use std::time::Duration;

/// `[limits]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Worker threads; default one per core.
    pub workers: usize,
    /// Sessions at a time; default 10,000. The next one gets FATAL 53300.
    pub max_sessions: Quota,
    /// Of them, those of one user on one upstream; `None`: as many as together. So with the next one.
    pub max_sessions_per_user: Option<usize>,
    /// Those on one database of one upstream.
    pub max_sessions_per_database: Option<usize>,
    /// How many may begin a second, with a second's worth at once. The next one gets FATAL 53300.
    pub new_sessions_per_second: Rate,
    /// Connections that have not said yet what they want; default 1,000. Beyond, none is accepted:
    /// they wait in the kernel.
    pub max_greetings: Quota,
    /// Logins in progress, each with an upstream connection; default 1,000. The next one gets FATAL
    /// 53300.
    pub max_logins: Quota,
    /// Cancel requests on their way to an upstream; default 100. Those of sessions that are served
    /// here wait for a place, others are dropped.
    pub max_cancels: usize,
    /// Cancel requests a second and client address whose session is not served here; default 100.
    /// Beyond, they are dropped.
    pub unknown_cancels_per_second: usize,
    /// From accept to a whole startup packet, TLS included. Default 10 s; two seconds at most while
    /// three quarters of `max_greetings` are taken.
    pub greeting_timeout: Duration,
    /// From the startup packet to the first ReadyForQuery. Default 60 s.
    pub login_timeout: Duration,
    /// How long a session may be idle outside a transaction before it gets FATAL 57P05; `None`: for
    /// ever.
    pub idle_session_timeout: Option<Duration>,
    /// How long it may be idle within a transaction before it gets FATAL 25P03; `None`: for ever.
    pub idle_in_transaction_session_timeout: Option<Duration>,
    /// How long a statement may take before Osprey cancels it (57014); `None`: as long as Hologres
    /// lets it.
    pub statement_timeout: Option<Duration>,
    /// After SIGTERM, how long clients are still accepted while `/readyz` says otherwise, for load
    /// balancers to notice. Default 0 s.
    pub pre_drain_delay: Duration,
    /// After that, how long sessions in a transaction or statement may go on. Default 30 s.
    pub drain_timeout: Duration,
    /// Statement texts longer than this are looked at only this far. Default 256 KiB.
    pub inspect_bytes: usize,
    /// Cancel upstream the statement that a client left behind which is gone: if it sent nothing behind
    /// that, or all that it left only reads. A write is not cancelled for a goodbye. Default true.
    pub cancel_orphans: bool,
    /// How long a connection may be silent before its peer is asked whether it is there; default
    /// 60 s. `None`: never.
    pub tcp_keepalive: Option<Duration>,
    /// How long sent data may go unacknowledged before the connection is lost (tcp(7),
    /// `TCP_USER_TIMEOUT`). It also ends connections whose peer does not read, so the default is
    /// `None`: the system's own rules.
    pub tcp_user_timeout: Option<Duration>,
}

/// How many of something there may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quota {
    /// From all addresses together.
    pub total: usize,
    /// From one client address (`…_per_address`); `None`: as many as together.
    pub per_address: Option<usize>,
}

impl Quota {
    /// `total` together, from however many addresses.
    pub const fn of(total: usize) -> Self {
        Self {
            total,
            per_address: None,
        }
    }
}

/// How many of something may begin a second; `None`: as many as come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Rate {
    /// From all together.
    pub total: Option<usize>,
    /// From one client address (`…_per_address`).
    pub per_address: Option<usize>,
    /// For one user on one upstream (`…_per_user`).
    pub per_user: Option<usize>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            workers: std::thread::available_parallelism().map_or(1, usize::from),
            max_sessions: Quota::of(10_000),
            max_sessions_per_user: None,
            max_sessions_per_database: None,
            new_sessions_per_second: Rate::default(),
            max_greetings: Quota::of(1_000),
            max_logins: Quota::of(1_000),
            max_cancels: 100,
            unknown_cancels_per_second: 100,
            greeting_timeout: Duration::from_secs(10),
            login_timeout: Duration::from_mins(1),
            idle_session_timeout: None,
            idle_in_transaction_session_timeout: None,
            statement_timeout: None,
            pre_drain_delay: Duration::ZERO,
            drain_timeout: Duration::from_secs(30),
            inspect_bytes: 256 << 10,
            cancel_orphans: true,
            tcp_keepalive: Some(Duration::from_mins(1)),
            tcp_user_timeout: None,
        }
    }
}
