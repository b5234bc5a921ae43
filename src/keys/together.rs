//! A provider in front of which replicas agree on who asks it: for all of them, a project is looked up
//! once.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::provider::{KeyProvider, LookupError, LookupFuture};
use super::{KeyRecord, Origin};
use crate::chance::half_or_more;
use crate::config::Keys;
use crate::facts::{Encryption, Stamp};
use crate::fleet::{Asked, Fresh, Lookup, Member};

/// How long to wait for a replica that is at it, before this one looks the project up for itself: a
/// lookup takes less, and what keeps a lease for longer may be no replica.
const PATIENCE: Duration = Duration::from_secs(20);
/// When to ask whether the lease is free, should nothing be heard: after that, twice that, and so on;
/// that its holder has failed is heard in no other way.
const POLL: Duration = Duration::from_millis(250);
/// The longest of these times.
const LONGEST_POLL: Duration = Duration::from_secs(2);
/// How often a Redis that is there, and late, is asked once more: many replicas that start at once keep
/// it busy, and what is asked for is soon heard of. One that does not answer at all is away by then.
const LATE: u32 = 4;
/// How long after the first time at the most: after that, twice that, and so on.
const LATE_WAIT: Duration = Duration::from_millis(200);

/// A provider that is asked by one replica for all.
pub(super) struct Together {
    member: Arc<Member>,
    provider: Arc<dyn KeyProvider>,
    ttl: Duration,
    negative_ttl: Duration,
    patience: Duration,
}

impl Together {
    pub(super) fn new(member: Arc<Member>, provider: Arc<dyn KeyProvider>, keys: &Keys) -> Self {
        Self {
            member,
            provider,
            ttl: keys.ttl,
            negative_ttl: keys.negative_ttl,
            patience: PATIENCE,
        }
    }

    async fn look_up(&self, project: &str) -> Result<Option<KeyRecord>, LookupError> {
        let begun = Instant::now();
        // A record is renewed once its time is over, not before.
        let fresh = Fresh {
            word: self.ttl,
            unknown: self.negative_ttl,
        };
        let (mut waited, mut poll, mut late) = (false, POLL, 0);
        while begun.elapsed() < self.patience {
            match self.member.ask(project, fresh).await {
                Asked::Found(encryption, at) => {
                    self.member.count(if waited {
                        Lookup::Waited
                    } else {
                        Lookup::Found
                    });
                    return Ok(encryption.map(|encryption| record(project, encryption, at)));
                }
                Asked::Failed(why) => {
                    self.member.count(Lookup::Failed);
                    return Err(LookupError(why));
                }
                Asked::Away => break,
                Asked::Late if late == LATE => break,
                Asked::Late => {
                    self.listen(project, fresh, LATE_WAIT * (1 << late)).await;
                    late += 1;
                }
                Asked::Busy => {
                    waited = true;
                    self.listen(project, fresh, poll).await;
                    poll = (poll * 2).min(LONGEST_POLL);
                }
                Asked::Leased(lease) => {
                    self.member.count(Lookup::Leased);
                    // The answer is as old as the question.
                    let at = self.member.now();
                    let forgotten = self.member.forgotten(project);
                    let at = forgotten.map_or(at, |forgotten| at.after(forgotten));
                    let outcome = tokio::select! {
                        outcome = self.provider.lookup(project) => outcome,
                        () = lease.keep() => continue,
                    };
                    return match outcome {
                        Ok(found) => {
                            let encryption = found.map(|found| found.encryption);
                            let time = match encryption {
                                Some(_) => self.ttl,
                                None => self.negative_ttl,
                            };
                            lease.found(encryption.clone(), at, time).await;
                            Ok(encryption.map(|encryption| record(project, encryption, at)))
                        }
                        Err(error) => {
                            lease.failed(&error.0, self.negative_ttl).await;
                            Err(error)
                        }
                    };
                }
            }
        }
        self.member.count(Lookup::Alone);
        self.provider.lookup(project).await
    }

    /// Waits until the record is heard of, or for half of `time` to all of it.
    async fn listen(&self, project: &str, fresh: Fresh, time: Duration) {
        let time = half_or_more(time);
        self.member.listen(project, fresh, time).await;
    }
}

impl KeyProvider for Together {
    fn lookup<'a>(&'a self, project: &'a str) -> LookupFuture<'a> {
        Box::pin(self.look_up(project))
    }

    fn was_in_part(&self, project: &str) -> bool {
        self.provider.was_in_part(project)
    }
}

fn record(project: &str, encryption: Encryption, at: Stamp) -> KeyRecord {
    KeyRecord {
        project: project.to_owned(),
        encryption,
        origin: Origin::Cloud,
        looked_up: at.time(),
    }
}

#[cfg(test)]
mod tests;
