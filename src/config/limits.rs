//! The settings that bound sessions, in number and in time.

use std::time::Duration;

/// `[limits]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Worker threads; default one per core.
    pub workers: usize,
    /// Sessions at a time; default 10,000. The next one gets FATAL 53300.
    pub max_sessions: Quota,
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
    /// After SIGTERM, how long clients are still accepted while `/readyz` says otherwise, for load
    /// balancers to notice. Default 0 s.
    pub pre_drain_delay: Duration,
    /// After that, how long sessions in a transaction or statement may go on. Default 30 s.
    pub drain_timeout: Duration,
    /// Statement texts longer than this are looked at only this far. Default 256 KiB.
    pub inspect_bytes: usize,
    /// Cancel upstream the statement that a lost client left behind. Default true.
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

impl Default for Limits {
    fn default() -> Self {
        Self {
            workers: std::thread::available_parallelism().map_or(1, usize::from),
            max_sessions: Quota::of(10_000),
            max_greetings: Quota::of(1_000),
            max_logins: Quota::of(1_000),
            max_cancels: 100,
            unknown_cancels_per_second: 100,
            greeting_timeout: Duration::from_secs(10),
            login_timeout: Duration::from_mins(1),
            pre_drain_delay: Duration::ZERO,
            drain_timeout: Duration::from_secs(30),
            inspect_bytes: 256 << 10,
            cancel_orphans: true,
            tcp_keepalive: Some(Duration::from_mins(1)),
            tcp_user_timeout: None,
        }
    }
}
