//! One upstream's part in what replicas tell each other: what the Redis has of it, and the questions
//! that a lookup asks.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::Duration;

use sha2::{Digest as _, Sha256};
use tokio::sync::Notify;

use super::counts::{Counts, Lookup, NotBelieved};
use super::shared::Shared;
use super::store::{Beside, Entry, LEASE, Names, Store, is_late};
use crate::facts::{Bus, Encryption, Fact, Known, Outcome, SKEW, Stamp, What};

/// The most things of which facts of others are taken in, within a day.
const MAX_THINGS: usize = 16_384;
/// Of a failure's text, so much is passed on.
const MAX_FAILURE: usize = 500;
/// If a word names so many relations and functions that it is too large, so many are passed on.
const NAMES: usize = 4;

/// Whoever takes in what others have found about one upstream, and knows what was found here.
pub trait Sink: Send + Sync {
    /// Takes in what another replica has found.
    fn take(&self, fact: &Fact) -> Outcome;
    /// All that is known here.
    fn facts(&self) -> Vec<Fact>;
    /// How long facts are believed.
    fn ttl(&self) -> Duration;
}

/// One upstream's part in what replicas tell each other.
pub struct Member {
    pub(super) shared: Arc<Shared>,
    pub(super) names: Names,
    pub(super) bus: Arc<Bus>,
    /// What its keys, and the records in them, are about.
    about: String,
    sink: OnceLock<Weak<dyn Sink>>,
    state: Mutex<State>,
    /// Something was found out.
    news: Notify,
}

/// What the stream has, as far as it was read.
#[derive(Default)]
struct State {
    there: Known,
    /// The id of the last entry that was read since the last reading of all.
    behind: Option<String>,
    /// The number of the last entry that was ever read.
    seen: (u64, u64),
}

/// What is known elsewhere of a project.
pub enum Asked {
    /// A provider's word, and when that was; `None`: nobody knows the project.
    Found(Option<Encryption>, Stamp),
    /// This replica is to look it up, for all.
    Leased(Lease),
    /// Another replica is at it.
    Busy,
    /// Another replica has failed, a moment ago.
    Failed(String),
    /// The Redis is there, and has not answered in time; or it has not since another lookup's question.
    Late,
    /// The Redis is away.
    Away,
}

/// How old what counts may be.
#[derive(Debug, Clone, Copy)]
pub struct Fresh {
    /// A provider's word.
    pub word: Duration,
    /// That no provider knows the project.
    pub unknown: Duration,
}

impl Fresh {
    fn counts(self, at: Stamp, is_known: bool, now: Stamp) -> bool {
        at.age(now) < if is_known { self.word } else { self.unknown }
    }
}

impl Member {
    pub(super) fn new(shared: Arc<Shared>, bus: Arc<Bus>) -> Self {
        let hash = Sha256::digest(bus.upstream().as_bytes());
        let about = hex::encode(&hash[..8]);
        Self {
            names: Names::new(&shared.settings.key_prefix, &about),
            shared,
            bus,
            about,
            sink: OnceLock::new(),
            state: Mutex::default(),
            news: Notify::new(),
        }
    }

    /// Names who takes in what others find; the first one counts.
    pub fn give_to(&self, sink: Weak<dyn Sink>) {
        let _ = self.sink.set(sink);
        self.shared.again.notify_one();
    }

    /// What is counted.
    pub fn counts(&self) -> &Counts {
        &self.shared.counts
    }

    /// Counts how a lookup went.
    pub fn count(&self, lookup: Lookup) {
        self.shared.counts.lookups.of(lookup).inc();
    }

    /// The wall clock.
    pub fn now(&self) -> Stamp {
        self.shared.now()
    }

    /// Waits until the project's record is heard of, or for `time`.
    pub async fn listen(&self, project: &str, fresh: Fresh, time: Duration) {
        let heard = async {
            loop {
                let mut news = std::pin::pin!(self.news.notified());
                news.as_mut().enable();
                if self.heard(project, fresh).is_some() {
                    return;
                }
                news.await;
            }
        };
        // Over at the one or the other.
        let _ = tokio::time::timeout(time, heard).await;
    }

    /// The last word on a project that has been heard of, if it counts.
    fn heard(&self, project: &str, fresh: Fresh) -> Option<(Option<Encryption>, Stamp)> {
        let state = self.state();
        let (at, encryption) = state.there.last_word(project)?;
        let counts = fresh.counts(at, encryption.is_some(), self.now());
        counts.then(|| (encryption.cloned(), at))
    }

    /// When a project was last to be looked up anew, as far as it is known here.
    pub fn forgotten(&self, project: &str) -> Option<Stamp> {
        self.state().there.forgotten(project)
    }

    /// Asks what is known of a project, or for the lease.
    pub async fn ask(self: &Arc<Self>, project: &str, fresh: Fresh) -> Asked {
        if let Some((encryption, at)) = self.heard(project, fresh) {
            return Asked::Found(encryption, at);
        }
        if !self.shared.counts.is_connected() {
            return Asked::Away;
        }
        let Some(store) = self.shared.store() else {
            return Asked::Late;
        };
        let now = self.now();
        let token = format!("{}/{}", self.shared.by, now.0);
        let asked = match store.ask(&self.names, project, &token).await {
            Ok(asked) => asked,
            Err(error) => {
                self.shared.note(&error);
                return if is_late(&error) {
                    Asked::Late
                } else {
                    Asked::Away
                };
            }
        };
        let mut is_newer = false;
        let found = match self.believe(&asked.record) {
            Ok(fact) => Some(fact),
            Err(_) if asked.record.is_empty() => None,
            Err(why) => {
                is_newer = why == NotBelieved::Newer;
                self.shared.refuse(why);
                None
            }
        };
        if let Some(Fact {
            what: What::Key {
                project: of,
                encryption,
            },
            at,
            ..
        }) = found
            && of == project
            && fresh.counts(at, encryption.is_some(), now)
            && Some(at) > self.forgotten(project)
        {
            if asked.is_leased {
                // It goes by itself, should this fail.
                let _ = store.give_back(&self.names, project).await;
            }
            return Asked::Found(encryption, at);
        }
        // It may have been given to this replica by an answer that came too late.
        let own = format!("{}/", self.shared.by);
        if asked.is_leased || asked.lease.starts_with(own.as_bytes()) {
            return Asked::Leased(Lease {
                member: Arc::clone(self),
                project: project.to_owned(),
                token,
                is_newer,
            });
        }
        let failure = self
            .shared
            .seal
            .open("failure", &self.about_of(project), &asked.lease);
        match failure.ok().and_then(|failure| still_so(failure, now)) {
            Some(why) => Asked::Failed(why.to_owned()),
            None => Asked::Busy,
        }
    }

    /// What a record says, if it is believed now.
    fn believe(&self, record: &[u8]) -> Result<Fact, NotBelieved> {
        let json = self.shared.seal.open("fact", &self.about, record)?;
        let fact: Fact = serde_json::from_str(json).map_err(|_| NotBelieved::Nonsense)?;
        if fact.upstream != *self.bus.upstream() {
            return Err(NotBelieved::Elsewhere);
        }
        fact.in_time(self.now(), self.ttl())?;
        Ok(fact)
    }

    /// Takes in an entry of the stream.
    pub(super) fn receive(&self, (id, fields): &Entry) {
        let number = number(id);
        let (is_live, has_room) = {
            let mut state = self.state();
            let is_live = state.seen > (0, 0) && number > state.seen;
            state.seen = state.seen.max(number);
            state.behind = Some(id.clone());
            if state.there.len() >= MAX_THINGS {
                let horizon = self.now().less(self.ttl());
                state.there.forget_before(horizon);
            }
            (is_live, state.there.len() < MAX_THINGS)
        };
        let record = match &fields[..] {
            [name, record] if name == b"f" => &record[..],
            _ => b"",
        };
        let fact = match self.believe(record) {
            Ok(_) if !has_room => return self.shared.refuse(NotBelieved::NoRoom),
            Ok(fact) => fact,
            Err(why) => return self.shared.refuse(why),
        };
        if self.state().there.apply(&fact) == Outcome::Old {
            return;
        }
        // Of what changed before this replica began, it has read the result.
        let is_over = matches!(fact.what, What::CatalogChanged { .. }) && !is_live;
        if fact.by != self.shared.by
            && !is_over
            && let Some(sink) = self.sink()
            && sink.take(&fact) != Outcome::Old
        {
            self.shared.counts.received.inc();
        }
        self.news.notify_waiters();
    }

    /// The id behind which the stream is to be read.
    pub(super) fn behind(&self) -> String {
        let behind = self.state().behind.clone();
        behind.unwrap_or_else(|| format!("{}-0", self.now().less(self.ttl()).less(LEASE).0))
    }

    /// All of the stream is to be read again.
    pub(super) fn read_anew(&self) {
        let mut state = self.state();
        state.there = Known::default();
        state.behind = None;
    }

    /// What is known here and not there.
    pub(super) fn lacks(&self) -> Vec<Arc<Fact>> {
        let Some(sink) = self.sink() else {
            return Vec::new();
        };
        let (now, ttl) = (self.now(), sink.ttl());
        let facts = sink.facts().into_iter();
        let facts = facts.filter(|fact| fact.in_time(now, ttl).is_ok());
        let state = self.state();
        let mut there = state.there.clone();
        drop(state);
        facts
            .filter(|fact| there.apply(fact) != Outcome::Old)
            .map(Arc::new)
            .collect()
    }

    /// Passes on what was found here.
    pub(super) async fn send(
        &self,
        store: &Store<'_>,
        facts: &[Arc<Fact>],
    ) -> redis::RedisResult<()> {
        let records: Vec<_> = facts
            .iter()
            .enumerate()
            .filter_map(|(at, fact)| {
                // Of many hints about one database the last is enough.
                let is_repeated = matches!(fact.what, What::CatalogChanged { .. })
                    && facts[at + 1..].iter().any(|later| later.what == fact.what);
                if is_repeated {
                    return None;
                }
                let beside = match &fact.what {
                    What::Forget {
                        project: Some(project),
                    } => Beside::Forget { project },
                    _ => Beside::Nothing,
                };
                Some((self.sealed(fact)?, beside))
            })
            .collect();
        if records.is_empty() {
            return Ok(());
        }
        store.write(&self.names, &records).await?;
        self.sent(facts.iter().map(|fact| &**fact), records.len());
        Ok(())
    }

    fn sent<'f>(&self, facts: impl Iterator<Item = &'f Fact>, count: usize) {
        self.shared.counts.sent.add(count as u64);
        let mut state = self.state();
        for fact in facts {
            state.there.apply(fact);
        }
    }

    /// A fact as a record; `None`: no record may be so large.
    fn sealed(&self, fact: &Fact) -> Option<Vec<u8>> {
        let close = |fact: &Fact| {
            let json = serde_json::to_string(fact).ok()?;
            self.shared.seal.close("fact", &self.about, &json)
        };
        close(fact).or_else(|| {
            let mut less = fact.clone();
            if let What::Heard {
                relations,
                functions,
                ..
            } = &mut less.what
            {
                relations.truncate(NAMES);
                functions.truncate(NAMES);
            }
            close(&less)
        })
    }

    fn about_of(&self, project: &str) -> String {
        format!("{}:{project}", self.about)
    }

    fn sink(&self) -> Option<Arc<dyn Sink>> {
        self.sink.get()?.upgrade()
    }

    fn ttl(&self) -> Duration {
        let sink = self.sink();
        sink.map_or(Duration::from_hours(24), |sink| sink.ttl())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// That this replica is to look a project up, for all.
pub struct Lease {
    member: Arc<Member>,
    project: String,
    token: String,
    /// What stands there is of a format that is not known yet: it is not written over.
    is_newer: bool,
}

impl Lease {
    /// Keeps it for as long as the lookup takes; never returns.
    pub async fn keep(&self) {
        loop {
            tokio::time::sleep(LEASE / 3).await;
            if let Some(store) = self.member.shared.store() {
                // Should it be lost, another replica looks the project up, too.
                let kept = store.keep(&self.member.names, &self.project, &self.token);
                if let Err(error) = kept.await {
                    self.member.shared.note(&error);
                }
            }
        }
    }

    /// Tells all what was found at `at`.
    pub async fn found(self, encryption: Option<Encryption>, at: Stamp, time: Duration) {
        let Self {
            member, project, ..
        } = &self;
        let what = What::Key {
            project: project.clone(),
            encryption,
        };
        let by = Arc::clone(&member.shared.by);
        let fact = member.bus.fact(what, at, by);
        let beside = if self.is_newer {
            Beside::Forget { project }
        } else {
            Beside::Record { project, time }
        };
        let (Some(record), Some(store)) = (member.sealed(&fact), member.shared.store()) else {
            // Once the Redis is back it is compared with what is known here.
            return;
        };
        match store.write(&member.names, &[(record, beside)]).await {
            Ok(()) => member.sent(std::iter::once(&fact), 1),
            Err(error) => {
                member.shared.note(&error);
                member.shared.again.notify_one();
            }
        }
    }

    /// Tells all that the lookup failed, and need not be tried again for a time.
    pub async fn failed(self, why: &str, time: Duration) {
        let Self {
            member, project, ..
        } = &self;
        let why: String = why.chars().take(MAX_FAILURE).collect();
        // Whoever writes it again later does not make it so again.
        let until = member.now().plus(time);
        let about = member.about_of(project);
        let failure = format!("{} {why}", until.0);
        let record = member.shared.seal.close("failure", &about, &failure);
        if let (Some(record), Some(store)) = (record, member.shared.store())
            && let Err(error) = store.fail(&member.names, project, &record, time).await
        {
            member.shared.note(&error);
        }
    }
}

/// Why a lookup has failed, if that still counts; in front of it stands until when.
fn still_so(failure: &str, now: Stamp) -> Option<&str> {
    let (until, why) = failure.split_once(' ')?;
    let until = Stamp(until.parse().ok()?);
    (now <= until.plus(SKEW)).then_some(why)
}

/// The two numbers of an entry's id.
fn number(id: &str) -> (u64, u64) {
    let (time, number) = id.split_once('-').unwrap_or((id, "0"));
    (time.parse().unwrap_or(0), number.parse().unwrap_or(0))
}
