//! What is counted of the replicas' talk, for metrics and the console.

use std::sync::atomic::{AtomicBool, Ordering};

use super::seal::Broken;
use crate::facts::Refused;
use crate::observe::metrics::{Counter, Kind, Kinds};

/// What became of a question to the Redis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// It was answered.
    Answered,
    /// It was refused: the Redis is full, say, or the user may not do that.
    Refused,
    /// There was no answer within the deadline.
    TimedOut,
    /// The connection broke.
    Broken,
}

impl Kind for Operation {
    const ALL: &'static [Self] = &[Self::Answered, Self::Refused, Self::TimedOut, Self::Broken];

    fn label(self) -> &'static str {
        match self {
            Self::Answered => "answered",
            Self::Refused => "refused",
            Self::TimedOut => "timed_out",
            Self::Broken => "broken",
        }
    }

    fn index(self) -> usize {
        self as usize
    }
}

/// Why a record was not believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotBelieved {
    /// It is not vouched for by who has the key.
    Forged,
    /// It is of a newer format.
    Newer,
    /// It has no form that is known.
    Nonsense,
    /// It is about another upstream than its place says.
    Elsewhere,
    /// It is too old.
    Old,
    /// It is of a time that has not come yet.
    Future,
    /// There is no room for it.
    NoRoom,
}

impl Kind for NotBelieved {
    const ALL: &'static [Self] = &[
        Self::Forged,
        Self::Newer,
        Self::Nonsense,
        Self::Elsewhere,
        Self::Old,
        Self::Future,
        Self::NoRoom,
    ];

    fn label(self) -> &'static str {
        match self {
            Self::Forged => "forged",
            Self::Newer => "newer_format",
            Self::Nonsense => "nonsense",
            Self::Elsewhere => "elsewhere",
            Self::Old => "old",
            Self::Future => "future",
            Self::NoRoom => "no_room",
        }
    }

    fn index(self) -> usize {
        self as usize
    }
}

impl From<Broken> for NotBelieved {
    fn from(broken: Broken) -> Self {
        match broken {
            Broken::Newer => Self::Newer,
            Broken::Forged => Self::Forged,
            Broken::Nonsense => Self::Nonsense,
        }
    }
}

impl From<Refused> for NotBelieved {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Old => Self::Old,
            Refused::Future => Self::Future,
        }
    }
}

/// How a lookup of a project was spared, or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lookup {
    /// Another replica had found it out.
    Found,
    /// Another replica was at it, and this one waited for what it found.
    Waited,
    /// Another replica had failed a moment ago.
    Failed,
    /// This replica looked it up, for all.
    Leased,
    /// This replica looked it up for itself: the Redis was away, or the replica that was at it took
    /// too long.
    Alone,
}

impl Kind for Lookup {
    const ALL: &'static [Self] = &[
        Self::Found,
        Self::Waited,
        Self::Failed,
        Self::Leased,
        Self::Alone,
    ];

    fn label(self) -> &'static str {
        match self {
            Self::Found => "found",
            Self::Waited => "waited",
            Self::Failed => "failed",
            Self::Leased => "leased",
            Self::Alone => "alone",
        }
    }

    fn index(self) -> usize {
        self as usize
    }
}

/// The counters.
#[derive(Debug, Default)]
pub struct Counts {
    pub(super) connected: AtomicBool,
    /// Questions to the Redis.
    pub operations: Kinds<Operation, 4>,
    /// Facts of other replicas that were taken in.
    pub received: Counter,
    /// Facts that were passed on to the others.
    pub sent: Counter,
    /// Records that were not believed.
    pub not_believed: Kinds<NotBelieved, 7>,
    /// Lookups of projects that this replica has not in its own cache.
    pub lookups: Kinds<Lookup, 5>,
}

impl Counts {
    /// True while the Redis answers.
    pub fn is_connected(&self) -> bool {
        self.connected.load(Ordering::Acquire)
    }
}
