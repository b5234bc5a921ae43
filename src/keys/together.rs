//! A provider in front of which replicas agree on who asks it: for all of them, a project is looked up
//! once.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::provider::{KeyProvider, LookupError, LookupFuture};
use super::{KeyRecord, Origin};
use crate::config::Keys;
use crate::facts::{Encryption, Stamp};
use crate::fleet::{Asked, Lookup, Member};

/// How long to wait for a replica that is at it, before this one looks the project up for itself: a
/// lookup takes less, and what keeps a lease for longer may be no replica.
const PATIENCE: Duration = Duration::from_secs(20);
/// How often to look whether the lease is free, should nothing be heard.
const POLL: Duration = Duration::from_millis(250);
/// The part of `keys.ttl` after which a record may be due to be looked up anew: the earliest moment at
/// which a cache renews one.
const FRESH: f64 = 0.81;

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
        let mut waited = false;
        while begun.elapsed() < self.patience {
            let fresh = self.ttl.mul_f64(FRESH);
            match self.member.ask(project, fresh, self.negative_ttl).await {
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
                Asked::Busy => {
                    waited = true;
                    self.member.news(POLL).await;
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
}

impl KeyProvider for Together {
    fn lookup<'a>(&'a self, project: &'a str) -> LookupFuture<'a> {
        Box::pin(self.look_up(project))
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
