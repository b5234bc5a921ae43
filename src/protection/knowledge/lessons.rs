//! Who has heard HQE fail on which project's data, and whom that teaches.
//!
//! | what was heard | who goes by it |
//! |---|---|
//! | one user met the error | that user's sessions in that database |
//! | and the second run, with the setting, did not meet it; or a second user met the error | every session in that database |
//! | second runs of two users did not meet it | every database of the upstream |
//!
//! Each user has a quota, and a word that a second run has confirmed is never pushed out by one that
//! none has. `docs/lessons.md` states the whole rule.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use crate::facts::known::Heard;
use crate::facts::{self, Bus, Outcome, Stamp, What, WordOf};
use crate::protection::{Decision, Effects, Reason, Snapshot, Source};
use crate::sql::{WrittenName, qualified};

/// Projects that one user's word may be about, in one database.
const MAX_PER_USER: usize = 64;
/// Relations that are kept for each of them, and functions.
const MAX_RELATIONS: usize = 64;
/// Users who may have a word in one database.
const MAX_USERS: usize = 1_000;
/// Projects that are believed to be encrypted, in one database, for what its users say.
const MAX_BELIEVED: usize = 1_000;
/// Projects for which one user may be a witness to all databases of an upstream, and such users.
const MAX_TESTIMONIES: usize = 256;
const MAX_WITNESSES: usize = 1_000;

/// What one user has heard of one project.
#[derive(Debug, Clone)]
struct Word {
    project: String,
    facts: facts::Word,
    /// When it was heard first.
    heard: Instant,
    /// Until when it counts: that it was taken back, too.
    until: Instant,
}

impl Word {
    /// What was heard, if that counts.
    fn lives(&self, now: Instant) -> Option<&Heard> {
        self.facts.heard().filter(|_| now < self.until)
    }

    fn is_confirmed(&self, now: Instant) -> bool {
        now < self.until && self.facts.is_confirmed()
    }

    fn is_about(&self, heard: &Heard, suspect: &WrittenName, snapshot: &Snapshot) -> bool {
        match snapshot.leads_to(suspect, &self.project) {
            Some(leads) => leads,
            None => heard.relations.iter().any(|known| may_be(known, suspect)),
        }
    }

    /// The stamp of what this replica finds now.
    fn stamp(&self) -> Stamp {
        let now = Stamp::of(SystemTime::now());
        self.facts.newest().map_or(now, |known| now.after(known))
    }
}

/// The word about a project among one user's, or a place for it; `None`: there is no room.
fn place<'w>(words: &'w mut Vec<Word>, project: &str, now: Instant) -> Option<&'w mut Word> {
    words.retain(|word| now < word.until);
    let known = words.iter().position(|word| word.project == project);
    let at = if let Some(at) = known {
        at
    } else {
        if words.len() >= MAX_PER_USER {
            // What was taken back goes first, then the oldest that nothing has confirmed.
            let dead = words.iter().position(|word| word.facts.heard().is_none());
            let goes = dead.or_else(|| words.iter().position(|word| !word.facts.is_confirmed()));
            words.remove(goes?);
        }
        words.push(Word {
            project: project.to_owned(),
            facts: facts::Word::default(),
            heard: now,
            until: now,
        });
        words.len() - 1
    };
    words.get_mut(at)
}

/// Where the words of one database are told.
#[derive(Debug)]
struct Teller {
    database: String,
    bus: Arc<Bus>,
}

/// What one user has heard of one project, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToldLesson {
    /// The user.
    pub user: String,
    /// The project's [`project_key`](crate::catalog::project_key).
    pub project: String,
    /// The second run, with the setting, did not meet the error.
    pub confirmed: bool,
    /// How long ago it was heard first.
    pub age: Duration,
}

/// True if two written names may mean one relation.
fn may_be((one_schema, one): &WrittenName, (other_schema, other): &WrittenName) -> bool {
    one == other && (one_schema == other_schema || one_schema.is_none() || other_schema.is_none())
}

/// What one user has heard in one database: the sessions of that user go by it.
#[derive(Debug)]
pub struct UserLessons {
    user: String,
    teller: Option<Arc<Teller>>,
    /// Moves whenever the words do.
    version: AtomicU64,
    words: Mutex<Vec<Word>>,
}

impl UserLessons {
    fn new(user: &str, teller: Option<Arc<Teller>>) -> Arc<Self> {
        Arc::new(Self {
            user: user.to_owned(),
            teller,
            version: AtomicU64::new(0),
            words: Mutex::default(),
        })
    }

    /// Changes whenever a statement may be decided differently by what this user has heard.
    pub fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// Why a statement of this user's is protected by what the user has heard; `None`: it is not, or
    /// is so by what all know.
    pub fn reason(&self, decision: &Decision, snapshot: &Snapshot) -> Option<Reason> {
        let reads = decision.effects.intersects(Effects::READS_FOREIGN);
        if self.version() == 0
            || decision.protected.is_some()
            || !reads && decision.opaque.is_empty()
        {
            return None;
        }
        let now = Instant::now();
        let words = self.words();
        words
            .iter()
            .filter_map(|word| Some((word, word.lives(now)?)))
            .find_map(|(word, heard)| {
                let relation = if reads && decision.suspects.is_empty() {
                    // It may read anything, so that it may read this.
                    let known = snapshot.has_project(&word.project) == Some(true);
                    known.then(|| word.project.clone())
                } else {
                    let mut suspects = decision.suspects.iter();
                    suspects
                        .find(|suspect| word.is_about(heard, suspect, snapshot))
                        .map(qualified)
                };
                let relation = relation.or_else(|| {
                    let mut called = decision.opaque.iter();
                    let failed = |call: &&WrittenName| {
                        heard.functions.iter().any(|known| may_be(known, call))
                    };
                    called.find(failed).map(qualified)
                });
                relation.map(|relation| Reason {
                    relation,
                    via: Vec::new(),
                    project: Some(word.project.clone()),
                    key: None,
                    source: Source::Learned,
                })
            })
    }

    /// Takes in that this user met the error; `false`: it was known, or there is no room for it.
    /// `relation`: the one that was read, if the catalogs do not have it. `functions`: those that may
    /// have read it, if the statement shows no relation that may be it.
    pub(super) fn hear(
        &self,
        project: &str,
        relation: Option<&WrittenName>,
        functions: &[WrittenName],
        ttl: Duration,
    ) -> bool {
        let now = Instant::now();
        let mut words = self.words();
        let Some(word) = place(&mut words, project, now) else {
            return false;
        };
        let at = word.stamp();
        let before = word.facts.heard().cloned();
        let is_new = before.is_none();
        let mut heard = before.unwrap_or(Heard {
            first: at,
            relations: Vec::new(),
            functions: Vec::new(),
        });
        let added = add(&mut heard.relations, relation) | add(&mut heard.functions, functions);
        let is_old = word
            .facts
            .heard_at()
            .is_some_and(|last| last.age(at) > ttl / 24);
        if is_new {
            word.heard = now;
        }
        word.until = now + ttl;
        let what = What::Heard {
            of: self.of(project),
            first: heard.first,
            relations: heard.relations,
            functions: heard.functions,
        };
        word.facts.apply(&what, at, &self.by());
        if is_new || added {
            self.changed();
        }
        // That it was heard once more keeps it alive elsewhere, too; nobody has to know of each time.
        if is_new || added || is_old {
            self.tell(what, at);
        }
        is_new
    }

    /// True if there is a word about the project that nothing had confirmed.
    pub(super) fn confirm(&self, project: &str) -> bool {
        let what = What::Confirmed {
            of: self.of(project),
        };
        self.say(project, what, |word| !word.is_confirmed())
    }

    /// True if there was a word about the project to be taken back.
    pub(super) fn take_back(&self, project: &str) -> bool {
        let what = What::TakenBack {
            of: self.of(project),
        };
        let taken = self.say(project, what, |_| true);
        if taken {
            self.changed();
        }
        taken
    }

    /// Says something about a word that counts, `if_so`; true: it is said.
    fn say(&self, project: &str, what: What, if_so: impl FnOnce(&facts::Word) -> bool) -> bool {
        let now = Instant::now();
        let mut words = self.words();
        let word = words.iter_mut().find(|word| word.project == project);
        let Some(word) = word.filter(|word| word.lives(now).is_some() && if_so(&word.facts)) else {
            return false;
        };
        let at = word.stamp();
        word.facts.apply(&what, at, &self.by());
        self.tell(what, at);
        true
    }

    /// Takes in what another replica knows of this user's words, found at `at`.
    pub(super) fn take(
        &self,
        of: &WordOf,
        what: &What,
        at: Stamp,
        by: &Arc<str>,
        ttl: Duration,
    ) -> Outcome {
        let (now, wall) = (Instant::now(), Stamp::of(SystemTime::now()));
        let mut words = self.words();
        let Some(word) = place(&mut words, &of.project, now) else {
            return Outcome::Old;
        };
        let outcome = word.facts.apply(what, at, by);
        let until = now + ttl.saturating_sub(at.age(wall));
        word.until = word.until.max(until);
        if let What::Heard { first, .. } = what
            && outcome != Outcome::Old
        {
            word.heard = now.checked_sub(first.age(wall)).unwrap_or(now);
        }
        if outcome == Outcome::Changed {
            self.changed();
        }
        outcome
    }

    /// True if a second run has confirmed this user's word about a project.
    pub(super) fn is_confirmed(&self, project: &str) -> bool {
        let now = Instant::now();
        let words = self.words();
        let mut words = words.iter();
        words.any(|word| word.project == project && word.is_confirmed(now))
    }

    fn tell(&self, what: What, at: Stamp) {
        if let Some(teller) = &self.teller {
            teller.bus.tell(what, at);
        }
    }

    fn by(&self) -> Arc<str> {
        let teller = self.teller.as_ref();
        teller.map_or_else(|| "".into(), |teller| Arc::clone(teller.bus.by()))
    }

    fn of(&self, project: &str) -> WordOf {
        let teller = self.teller.as_ref();
        WordOf {
            database: teller.map(|own| own.database.clone()).unwrap_or_default(),
            user: self.user.clone(),
            project: project.to_owned(),
        }
    }

    fn changed(&self) {
        self.version.fetch_add(1, Ordering::AcqRel);
    }

    fn words(&self) -> MutexGuard<'_, Vec<Word>> {
        self.words.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Adds names, as far as there is room for them; true if one of them is new.
fn add<'a>(known: &mut Vec<WrittenName>, names: impl IntoIterator<Item = &'a WrittenName>) -> bool {
    let before = known.len();
    for name in names {
        if known.len() < MAX_RELATIONS && !known.contains(name) {
            known.push(name.clone());
        }
    }
    known.len() > before
}

/// A project that is believed, in one database, to be encrypted for what its users have heard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Believed {
    /// Its [`project_key`](crate::catalog::project_key).
    pub(super) project: String,
    /// Relations that lead to it, as long as no catalog says which do.
    pub(super) relations: Vec<WrittenName>,
}

/// What the users of one database have heard.
#[derive(Debug, Default)]
pub(super) struct Lessons {
    users: Mutex<HashMap<String, Arc<UserLessons>>>,
    teller: Option<Arc<Teller>>,
}

impl Lessons {
    /// None yet, of a database; what is heard there is told to the bus.
    pub(super) fn new(database: &str, bus: Arc<Bus>) -> Self {
        let database = database.to_owned();
        Self {
            users: Mutex::default(),
            teller: Some(Arc::new(Teller { database, bus })),
        }
    }

    /// True if none of them counts any more.
    pub(super) fn is_over(&self) -> bool {
        let now = Instant::now();
        let all = self.all();
        !all.iter().any(|own| {
            let words = own.words();
            let mut words = words.iter();
            words.any(|word| now < word.until)
        })
    }

    /// All that was found out, by whomever.
    pub(super) fn facts(&self) -> Vec<(What, Stamp, Arc<str>)> {
        let mut facts = Vec::new();
        for own in self.all() {
            for word in own.words().iter() {
                facts.extend(word.facts.facts(&own.of(&word.project)));
            }
        }
        facts
    }

    /// The words of one user. Users beyond the bound have theirs for each session alone.
    pub(super) fn of(&self, user: &str) -> Arc<UserLessons> {
        let mut users = self.users();
        if let Some(known) = users.get(user) {
            return Arc::clone(known);
        }
        if users.len() >= MAX_USERS {
            let now = Instant::now();
            let lives = |word: &Word| word.is_confirmed(now);
            users.retain(|_, lessons| {
                Arc::strong_count(lessons) > 1 || lessons.words().iter().any(lives)
            });
        }
        let new = UserLessons::new(user, self.teller.clone());
        if users.len() < MAX_USERS {
            users.insert(user.to_owned(), Arc::clone(&new));
        }
        new
    }

    /// What every session of the database goes by, in order of the projects' names, and when the first
    /// word of it ends. Of more than the bound, those that end first stay.
    pub(super) fn believed(&self) -> (Vec<Believed>, Option<Instant>) {
        struct Heard {
            users: usize,
            confirmed: bool,
            until: Instant,
            relations: Vec<WrittenName>,
        }
        let now = Instant::now();
        let mut heard: BTreeMap<String, Heard> = BTreeMap::new();
        let mut ends: Option<Instant> = None;
        for user in self.all() {
            for word in user.words().iter() {
                let Some(said) = word.lives(now) else {
                    continue;
                };
                ends = Some(ends.map_or(word.until, |ends| ends.min(word.until)));
                let known = heard.entry(word.project.clone()).or_insert_with(|| Heard {
                    users: 0,
                    confirmed: false,
                    until: word.until,
                    relations: Vec::new(),
                });
                known.users += 1;
                known.confirmed |= word.is_confirmed(now);
                known.until = known.until.min(word.until);
                for relation in &said.relations {
                    if !known.relations.contains(relation) && known.relations.len() < MAX_RELATIONS
                    {
                        known.relations.push(relation.clone());
                    }
                }
            }
        }
        let mut believed: Vec<_> = heard
            .into_iter()
            .filter(|(_, heard)| heard.confirmed || heard.users > 1)
            .collect();
        if believed.len() > MAX_BELIEVED {
            believed.sort_by_key(|(_, heard)| heard.until);
            believed.truncate(MAX_BELIEVED);
            believed.sort_by(|(one, _), (other, _)| one.cmp(other));
        }
        let believed = believed
            .into_iter()
            .map(|(project, mut heard)| {
                heard.relations.sort_unstable();
                Believed {
                    project,
                    relations: heard.relations,
                }
            })
            .collect();
        (believed, ends)
    }

    /// Those of each user.
    pub(super) fn all(&self) -> Vec<Arc<UserLessons>> {
        self.users().values().cloned().collect()
    }

    /// All of them, in the order of users and projects.
    pub(super) fn told(&self) -> Vec<ToldLesson> {
        let now = Instant::now();
        let mut told = Vec::new();
        for own in self.all() {
            let words = own.words();
            let words = words.iter().filter(|word| word.lives(now).is_some());
            told.extend(words.map(|word| ToldLesson {
                user: own.user.clone(),
                project: word.project.clone(),
                confirmed: word.is_confirmed(now),
                age: now - word.heard,
            }));
        }
        told.sort_by(|one, other| (&one.user, &one.project).cmp(&(&other.user, &other.project)));
        told
    }

    fn users(&self) -> MutexGuard<'_, HashMap<String, Arc<UserLessons>>> {
        self.users.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whose second runs have confirmed which projects' lessons, in any database of the upstream.
#[derive(Debug, Default)]
pub(super) struct Witnesses(Mutex<HashMap<String, Vec<(String, Instant)>>>);

impl Witnesses {
    /// A second run of `own`'s user has confirmed a lesson. True if another user's has, too.
    pub(super) fn agree(&self, own: &UserLessons, project: &str, ttl: Duration) -> bool {
        self.testify(&own.user, project, ttl)
    }

    /// The same of a user of another replica.
    pub(super) fn testify(&self, own: &str, project: &str, ttl: Duration) -> bool {
        let now = Instant::now();
        let lives = |(_, until): &(String, Instant)| now < *until;
        let mut witnesses = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if witnesses.len() >= MAX_WITNESSES && !witnesses.contains_key(own) {
            witnesses.retain(|_, said| said.iter().any(lives));
        }
        if witnesses.len() < MAX_WITNESSES || witnesses.contains_key(own) {
            let said = witnesses.entry(own.to_owned()).or_default();
            said.retain(lives);
            if said.len() < MAX_TESTIMONIES && !said.iter().any(|(known, _)| known == project) {
                said.push((project.to_owned(), now + ttl));
            }
        }
        witnesses.iter().any(|(user, said)| {
            *user != own && said.iter().any(|one| one.0 == project && lives(one))
        })
    }

    /// What a user's second run had confirmed turns out to be no lesson.
    pub(super) fn take_back(&self, own: &UserLessons, project: &str) {
        let mut witnesses = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(said) = witnesses.get_mut(&own.user) {
            said.retain(|(known, _)| known != project);
        }
    }
}

#[cfg(test)]
mod tests;
