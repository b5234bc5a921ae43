//! A fleet of replicas that tell each other what they find, simulated: the reducer is the real one, the
//! Redis, the network and the clouds are models. docs/scale.md says what came of a thousand replicas.
//!
//! Small by default. `OSPREY_REPLICAS=1000 OSPREY_SESSIONS=1000000 cargo test --release --test fleet --
//! --nocapture` is the run of that page; `OSPREY_SEED` is another one.

// Times and counts are far below 2^52.
#![allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss
)]

use std::cmp::Reverse;
use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BinaryHeap, HashMap, HashSet};
use std::sync::Arc;

use osprey::facts::{Encryption, Fact, KmsKey, Known, Stamp, What, WordOf};

/// Microseconds.
type Time = u64;

const MS: Time = 1_000;
const SECOND: Time = 1_000 * MS;
const MINUTE: Time = 60 * SECOND;
const HOUR: Time = 60 * MINUTE;
const DAY: Time = 24 * HOUR;

/// As `fleet::store` has them.
const LEASE: Time = 10 * SECOND;
const MAX_STREAM: usize = 100_000;
/// As `keys::together` has it: when to ask again where another replica is at it, the first time and the
/// longest; and how often, and how long after, where the Redis is late.
const POLL: Time = 250 * MS;
const LONGEST_POLL: Time = 2 * SECOND;
const LATE: u32 = 4;
const LATE_WAIT: Time = 200 * MS;
/// As `fleet::link` has it: each replica says so often that it is there.
const BEAT: Time = 2 * SECOND;
/// What one command takes of the Redis' one thread, small ones in pipelines: 125,000 in a second.
const COMMAND: Time = 8;
/// `replicas.deadline`: whoever is not answered by then asks once more, and at last goes on alone.
const DEADLINE: Time = 50 * MS;
/// Between these parts of a day a cache renews a record; and so long one serves that is asked for.
const RENEWAL: (f64, f64) = (1.0, 1.02);
const SERVES: f64 = 1.08;
/// The wall clock at the start, in milliseconds.
const EPOCH: u64 = 1_800_000_000_000;
/// A record on the wire, and in the stream: what docs/replicas.md describes, with an HMAC.
const RECORD_BYTES: u64 = 400;
/// Of so many replicas all that is known is reduced by the real reducer; the others have the same stream.
const WITNESSES: usize = 12;

/// `SplitMix64`.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound.max(1)
    }

    fn between(&mut self, low: Time, high: Time) -> Time {
        low + self.below(high - low + 1)
    }

    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// One way through the network: a third of a millisecond, seldom much more.
    fn way(&mut self) -> Time {
        match self.below(1_000) {
            0 => self.between(100 * MS, 600 * MS),
            1..=20 => self.between(2 * MS, 40 * MS),
            _ => self.between(150, 600),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    /// A client's session reads a project.
    Session {
        replica: usize,
        project: usize,
    },
    /// A replica asks the Redis about a project, with the lookups that wait for it.
    Ask {
        replica: usize,
        project: usize,
    },
    /// The cloud has answered.
    Answered {
        replica: usize,
        project: usize,
    },
    /// A record is due to be looked up anew.
    Renew {
        replica: usize,
        project: usize,
    },
    /// An entry of the stream has come.
    Heard {
        replica: usize,
        entry: usize,
    },
    Ends {
        replica: usize,
    },
    Starts {
        replica: usize,
    },
    RedisGoes {
        loses: bool,
    },
    RedisComes,
    /// An operator's INVALIDATE KEY, at a replica.
    Invalidate {
        replica: usize,
        project: usize,
    },
    /// A user's statement met HQE's error, and its second run did not.
    Lesson {
        replica: usize,
        user: usize,
        project: usize,
    },
    /// DDL has passed.
    Ddl {
        replica: usize,
        database: usize,
    },
}

/// A question that has no answer yet.
struct Asking {
    poll: Time,
    late: u32,
}

#[derive(Default)]
struct Replica {
    up: bool,
    /// When what is on its way to it has arrived, so that nothing overtakes.
    arrives: Time,
    /// The entries of the stream that it has had.
    read: usize,
    /// When each project's record was looked up.
    records: HashMap<usize, Time>,
    forgotten: HashMap<usize, Time>,
    asking: HashMap<usize, Asking>,
    /// Until then the Redis is not asked for a record, since an answer is late.
    doubted: Time,
    /// Found while the Redis was away.
    unsent: Vec<Fact>,
    witness: Option<Known>,
    /// The last thing that it has stamped, or heard.
    latest: u64,
}

#[derive(Default)]
struct Redis {
    up: bool,
    stream: Vec<(Time, Fact)>,
    /// The first entry that still stands there.
    first: usize,
    records: HashMap<usize, Time>,
    forgotten: HashMap<usize, Time>,
    leases: HashMap<usize, (usize, Time)>,
    commands: u64,
    bytes_out: u64,
    /// The most in one second.
    busiest: u64,
    second: (Time, u64),
    /// When all that it was asked is answered.
    busy_until: Time,
}

impl Redis {
    /// How long the answer takes.
    fn command(&mut self, now: Time, count: u64, bytes: u64) -> Time {
        self.commands += count;
        self.bytes_out += bytes;
        if self.second.0 != now / SECOND {
            self.second = (now / SECOND, 0);
        }
        self.second.1 += count;
        self.busiest = self.busiest.max(self.second.1);
        self.busy_until = self.busy_until.max(now) + count * COMMAND;
        self.busy_until - now
    }

    /// When the project was looked up, if a record of that stands there and counts.
    fn record(&self, project: usize, now: Time) -> Option<Time> {
        let forgotten = self.forgotten.get(&project);
        let there = self.records.get(&project).copied();
        let counts = |at: &Time| {
            now - at < part_of_a_day(RENEWAL.0) && forgotten.is_none_or(|then| then < at)
        };
        there.filter(counts)
    }
}

struct Fleet {
    now: Time,
    random: Random,
    events: BinaryHeap<Reverse<(Time, u64, Event)>>,
    made: u64,
    replicas: Vec<Replica>,
    redis: Redis,
    lookups: BTreeMap<usize, Vec<Time>>,
    /// From the moment a fact was found to the last replica that was there and could be reached.
    spread: Vec<Time>,
    /// How many replicas an entry has yet to reach.
    heard: HashMap<usize, usize>,
    alone: u64,
}

impl Fleet {
    fn new(replicas: usize, seed: u64) -> Self {
        let mut fleet = Self {
            now: 0,
            random: Random(seed),
            events: BinaryHeap::new(),
            made: 0,
            replicas: (0..replicas).map(|_| Replica::default()).collect(),
            redis: Redis {
                up: true,
                ..Redis::default()
            },
            lookups: BTreeMap::new(),
            spread: Vec::new(),
            heard: HashMap::new(),
            alone: 0,
        };
        for replica in 0..replicas {
            fleet.replicas[replica].witness = (replica < WITNESSES).then(Known::default);
            fleet.at(0, Event::Starts { replica });
        }
        fleet
    }

    fn at(&mut self, time: Time, event: Event) {
        self.made += 1;
        self.events.push(Reverse((time, self.made, event)));
    }

    fn soon(&mut self, after: Time, event: Event) {
        self.at(self.now + after, event);
    }

    fn run(&mut self, until: Time) {
        while let Some(Reverse((time, _, event))) = self.events.peek().copied() {
            if time > until {
                break;
            }
            self.events.pop();
            self.now = time;
            self.step(event);
        }
        self.now = until;
    }

    fn step(&mut self, event: Event) {
        match event {
            Event::Session { replica, project } => {
                // A balancer sends it elsewhere while that one is down.
                let replica = self.one_that_is_up(replica);
                if !self.has(replica, project) {
                    self.ask(replica, project);
                }
            }
            Event::Ask { replica, project } => self.answer_of_redis(replica, project),
            Event::Answered { replica, project } => self.looked_up(replica, project),
            Event::Renew { replica, project } => {
                if self.replicas[replica].up && self.is_due(replica, project) {
                    self.ask(replica, project);
                }
            }
            Event::Heard { replica, entry } => self.hear(replica, entry),
            Event::Ends { replica } => {
                let witness = self.replicas[replica].witness.is_some();
                self.replicas[replica] = Replica {
                    witness: witness.then(Known::default),
                    ..Replica::default()
                };
            }
            Event::Starts { replica } => {
                self.replicas[replica].up = true;
                self.catch_up(replica);
            }
            Event::RedisGoes { loses } => {
                self.redis.up = false;
                self.redis.leases.clear();
                if loses {
                    self.redis.first = self.redis.stream.len();
                    self.redis.records.clear();
                    self.redis.forgotten.clear();
                }
            }
            Event::RedisComes => {
                self.redis.up = true;
                for replica in 0..self.replicas.len() {
                    if self.replicas[replica].up {
                        self.catch_up(replica);
                    }
                }
            }
            Event::Invalidate { replica, project } => {
                let replica = self.one_that_is_up(replica);
                let what = What::Forget {
                    project: Some(name(project)),
                };
                self.found(replica, what);
            }
            Event::Lesson {
                replica,
                user,
                project,
            } => {
                let replica = self.one_that_is_up(replica);
                let of = WordOf {
                    database: "dw".into(),
                    user: format!("user{user}"),
                    project: name(project),
                };
                let first = self.stamp(replica);
                let heard = What::Heard {
                    of: of.clone(),
                    first,
                    relations: Vec::new(),
                    functions: Vec::new(),
                };
                self.found(replica, heard);
                self.found(replica, What::Confirmed { of });
            }
            Event::Ddl { replica, database } => {
                let replica = self.one_that_is_up(replica);
                let database = format!("db{database}");
                self.found(replica, What::CatalogChanged { database });
            }
        }
    }

    fn one_that_is_up(&self, from: usize) -> usize {
        let all = self.replicas.len();
        (0..all)
            .map(|step| (from + step) % all)
            .find(|replica| self.replicas[*replica].up)
            .expect("not all are down at once")
    }

    fn has(&self, replica: usize, project: usize) -> bool {
        let known = &self.replicas[replica];
        let looked_up = known.records.get(&project);
        looked_up.is_some_and(|at| {
            at + part_of_a_day(SERVES) > self.now
                && known.forgotten.get(&project).is_none_or(|then| then < at)
        })
    }

    fn is_due(&self, replica: usize, project: usize) -> bool {
        let at = self.replicas[replica].records.get(&project);
        at.is_none_or(|at| self.now - at >= part_of_a_day(RENEWAL.0))
    }

    fn ask(&mut self, replica: usize, project: usize) {
        if let Entry::Vacant(none) = self.replicas[replica].asking.entry(project) {
            none.insert(Asking {
                poll: POLL,
                late: 0,
            });
            let way = self.random.way();
            self.soon(way, Event::Ask { replica, project });
        }
    }

    /// One question: what stands there, or the lease.
    fn answer_of_redis(&mut self, replica: usize, project: usize) {
        let (now, part) = (self.now, 0.5 + self.random.unit() / 2.0);
        let shorter = |time: Time| (time as f64 * part) as Time;
        let cloud = self.random.between(80 * MS, 900 * MS);
        let own = &mut self.replicas[replica];
        let Some(asking) = own.asking.get_mut(&project).filter(|_| own.up) else {
            return;
        };
        if !self.redis.up {
            self.alone += 1;
            self.soon(DEADLINE + cloud, Event::Answered { replica, project });
            return;
        }
        let mut waits = 0;
        if own.doubted <= now {
            waits = self.redis.command(now, 3, RECORD_BYTES);
            if waits > DEADLINE {
                // Then it is asked whether it is there.
                own.doubted = now + DEADLINE + self.redis.command(now, 1, 0);
            }
        }
        if own.doubted > now {
            if waits > DEADLINE && self.redis.record(project, now).is_none() {
                // It comes too late, but it may well be the lease.
                let until = now + LEASE;
                self.redis.leases.entry(project).or_insert((replica, until));
            }
            if asking.late == LATE {
                self.alone += 1;
                self.soon(DEADLINE + cloud, Event::Answered { replica, project });
            } else {
                let wait = waits.min(DEADLINE) + shorter(LATE_WAIT << asking.late);
                asking.late += 1;
                self.soon(wait, Event::Ask { replica, project });
            }
            return;
        }
        if let Some(at) = self.redis.record(project, now) {
            let own = &mut self.replicas[replica];
            own.asking.remove(&project);
            own.records.insert(project, at);
            self.renew_later(replica, project, at);
            return;
        }
        let held = self.redis.leases.get(&project);
        if held.is_some_and(|(by, until)| *until > now && *by != replica) {
            let poll = asking.poll;
            asking.poll = (poll * 2).min(LONGEST_POLL);
            self.soon(shorter(poll), Event::Ask { replica, project });
            return;
        }
        self.redis
            .leases
            .insert(project, (replica, self.now + LEASE));
        self.soon(cloud, Event::Answered { replica, project });
    }

    fn looked_up(&mut self, replica: usize, project: usize) {
        if !self.replicas[replica].up || self.replicas[replica].asking.remove(&project).is_none() {
            return;
        }
        self.lookups.entry(project).or_default().push(self.now);
        if self.redis.up {
            self.redis.leases.remove(&project);
        }
        let what = What::Key {
            project: name(project),
            encryption: Some(if project.is_multiple_of(2) {
                Encryption::Kms(KmsKey::default())
            } else {
                Encryption::None
            }),
        };
        self.found(replica, what);
    }

    fn renew_later(&mut self, replica: usize, project: usize, at: Time) {
        let part = RENEWAL.0 + (RENEWAL.1 - RENEWAL.0) * self.random.unit();
        let when = (at + part_of_a_day(part)).max(self.now);
        self.at(when, Event::Renew { replica, project });
    }

    fn stamp(&mut self, replica: usize) -> Stamp {
        // Clocks differ by a little.
        let skew = (replica as u64 % 41) * 5;
        let own = &mut self.replicas[replica];
        own.latest = (EPOCH + self.now / MS + skew).max(own.latest + 1);
        Stamp(own.latest)
    }

    /// A replica has found something: it knows it, and tells it.
    fn found(&mut self, replica: usize, what: What) {
        let fact = Fact {
            upstream: "hologres:80".into(),
            at: self.stamp(replica),
            by: Arc::from(format!("replica{replica}")),
            what,
        };
        self.take(replica, &fact, self.now);
        if self.redis.up {
            self.publish(fact);
        } else {
            self.replicas[replica].unsent.push(fact);
        }
    }

    fn publish(&mut self, fact: Fact) {
        self.redis.command(self.now, 4, 0);
        match &fact.what {
            What::Key { project, .. } => {
                self.redis.records.insert(number(project), self.now);
            }
            What::Forget {
                project: Some(project),
            } => {
                self.redis.forgotten.insert(number(project), self.now);
            }
            _ => {}
        }
        let entry = self.redis.stream.len();
        self.redis.stream.push((self.now, fact));
        self.redis.first = self.redis.first.max((entry + 1).saturating_sub(MAX_STREAM));
        let mut expected = 0;
        for other in 0..self.replicas.len() {
            if self.replicas[other].up {
                expected += 1;
                self.deliver(other, entry);
            }
        }
        self.heard.insert(entry, expected);
    }

    fn deliver(&mut self, replica: usize, entry: usize) {
        let way = self.redis.busy_until.saturating_sub(self.now) + self.random.way();
        let own = &mut self.replicas[replica];
        own.arrives = own.arrives.max(self.now + way);
        let time = own.arrives;
        self.at(time, Event::Heard { replica, entry });
    }

    fn hear(&mut self, replica: usize, entry: usize) {
        let (published, fact) = self.redis.stream[entry].clone();
        if let Some(left) = self.heard.get_mut(&entry) {
            *left -= 1;
            if *left == 0 {
                self.heard.remove(&entry);
                self.spread.push(self.now - published);
            }
        }
        if !self.replicas[replica].up || entry < self.replicas[replica].read {
            return;
        }
        self.replicas[replica].read = entry + 1;
        // What came together is read by one question.
        self.redis.command(self.now, 1, RECORD_BYTES);
        self.take(replica, &fact, published);
    }

    fn take(&mut self, replica: usize, fact: &Fact, at: Time) {
        let own = &mut self.replicas[replica];
        own.latest = own.latest.max(fact.at.0);
        if let Some(known) = &mut own.witness {
            known.apply(fact);
        }
        match &fact.what {
            What::Key { project, .. } => {
                let project = number(project);
                let newer = own.records.get(&project).is_none_or(|then| *then < at);
                if newer {
                    own.records.insert(project, at);
                    own.asking.remove(&project);
                    self.renew_later(replica, project, at);
                }
            }
            What::Forget {
                project: Some(project),
            } => {
                let then = own.forgotten.entry(number(project)).or_default();
                *then = at.max(*then);
            }
            _ => {}
        }
    }

    /// A replica is connected: it reads the whole stream, and tells what is missing there.
    fn catch_up(&mut self, replica: usize) {
        if !self.redis.up {
            return;
        }
        let (first, end) = (self.redis.first, self.redis.stream.len());
        let entries = (end - first) as u64;
        self.redis
            .command(self.now, entries / 200 + 2, entries * RECORD_BYTES);
        for entry in first..end {
            let (at, fact) = self.redis.stream[entry].clone();
            self.take(replica, &fact, at);
        }
        self.replicas[replica].read = end;
        for fact in std::mem::take(&mut self.replicas[replica].unsent) {
            self.publish(fact);
        }
    }
}

fn part_of_a_day(part: f64) -> Time {
    (DAY as f64 * part) as Time
}

fn name(project: usize) -> String {
    format!("project{project}")
}

fn number(project: &str) -> usize {
    project
        .trim_start_matches("project")
        .parse()
        .expect("made by name()")
}

fn asked(name: &str, otherwise: u64) -> u64 {
    let asked = std::env::var(name).ok();
    asked.map_or(otherwise, |value| value.parse().expect("a number"))
}

fn part(sorted: &[Time], of: f64) -> f64 {
    let place = ((sorted.len() - 1) as f64 * of) as usize;
    sorted[place] as f64 / MS as f64
}

#[test]
fn a_fleet_looks_up_once_and_knows_the_same() {
    let count = usize::try_from(asked("OSPREY_REPLICAS", 60)).expect("a number of replicas");
    let sessions = asked("OSPREY_SESSIONS", 20_000);
    let projects = usize::try_from(asked("OSPREY_PROJECTS", 300)).expect("a number of projects");
    let seed = asked("OSPREY_SEED", 7);
    let mut fleet = Fleet::new(count, seed);
    let mut random = Random(seed ^ 0xfee1);
    let replica = |random: &mut Random| usize::try_from(random.below(count as u64)).expect("small");
    // Some projects are read by most.
    let project = |random: &mut Random| (random.unit().powi(3) * projects as f64) as usize;

    // All of them cold, and everybody at once.
    for number in 0..sessions {
        let time = match number {
            _ if number < sessions / 10 => random.below(SECOND),
            _ => random.below(DAY + 2 * HOUR),
        };
        let session = Event::Session {
            replica: replica(&mut random),
            project: project(&mut random),
        };
        fleet.at(time, session);
        if number % 1_000 == 0 {
            let lesson = Event::Lesson {
                replica: replica(&mut random),
                user: usize::try_from(random.below(200)).expect("small"),
                project: project(&mut random),
            };
            fleet.at(time, lesson);
        }
        if number % 500 == 0 {
            let ddl = Event::Ddl {
                replica: replica(&mut random),
                database: usize::try_from(random.below(20)).expect("small"),
            };
            fleet.at(time, ddl);
        }
    }
    // A rolling restart in the third hour, replica by replica.
    for replica in 0..count {
        let time = 3 * HOUR + replica as Time * 2 * SECOND;
        fleet.at(time, Event::Ends { replica });
        fleet.at(time + 1_500 * MS, Event::Starts { replica });
    }
    fleet.run(5 * HOUR);
    let asked_for: HashSet<usize> = fleet.lookups.keys().copied().collect();
    let first_hours: usize = fleet.lookups.values().map(Vec::len).sum();
    let alone = fleet.alone;
    if alone == 0 {
        let once = "one lookup for each project that was read";
        assert_eq!(first_hours, asked_for.len(), "{once}");
    } else {
        // The Redis had more to do at the start than it could.
        assert!(count > 100, "{alone} lookups alone");
    }
    let busiest = fleet.redis.busiest;

    // Invalidations: each makes one lookup more, for all.
    let mut invalidated = HashSet::new();
    for number in 0..20 {
        let project = project(&mut random);
        let time = 6 * HOUR + number * MINUTE;
        if invalidated.insert(project) {
            let replica = replica(&mut random);
            fleet.at(time, Event::Invalidate { replica, project });
            for _ in 0..count {
                let session = Event::Session {
                    replica: usize::try_from(random.below(count as u64)).expect("small"),
                    project,
                };
                fleet.at(time + 5 * SECOND + random.below(SECOND), session);
            }
        }
    }
    fleet.run(7 * HOUR);
    for project in &invalidated {
        let after = fleet.lookups[project]
            .iter()
            .filter(|time| **time > 6 * HOUR)
            .count();
        assert_eq!(after, 1, "project {project}");
    }

    // The Redis is away for ten minutes, and comes back without its data.
    fleet.at(8 * HOUR, Event::RedisGoes { loses: true });
    fleet.at(8 * HOUR + 10 * MINUTE, Event::RedisComes);
    let before: usize = fleet.lookups.values().map(Vec::len).sum();
    fleet.run(9 * HOUR);
    let meanwhile: usize = fleet.lookups.values().map(Vec::len).sum::<usize>() - before;
    // And every record is renewed once, when its day is over.
    fleet.run(DAY + 2 * HOUR);
    let total: usize = fleet.lookups.values().map(Vec::len).sum();

    // Whoever was there knows the same.
    fleet.run(DAY + 3 * HOUR);
    let known: Vec<&Known> = fleet
        .replicas
        .iter()
        .filter_map(|one| one.witness.as_ref())
        .collect();
    for other in &known[1..] {
        for project in 0..projects {
            let project = name(project);
            let of = |known: &Known| {
                known
                    .last_word(&project)
                    .map(|(at, said)| (at, said.cloned()))
            };
            assert_eq!(of(known[0]), of(other), "{project}");
        }
        assert_eq!(known[0].len(), other.len());
    }

    fleet.spread.sort_unstable();
    let in_time = part(&fleet.spread, 0.99) < 1_000.0;
    assert!(
        in_time || alone > 0,
        "within a second, where the Redis keeps up"
    );
    let beats = (DAY + 3 * HOUR) / BEAT * count as u64;
    let of_replicas = count as u64 * (known[0].len() as u64) * 600;
    println!("{count} replicas, {sessions} sessions, {projects} projects, seed {seed}: 27 hours");
    println!("facts told               {}", fleet.redis.stream.len());
    println!(
        "known to all after       {:.1} ms (half of them), {:.0} ms (99 %), {:.0} ms (the last)",
        part(&fleet.spread, 0.5),
        part(&fleet.spread, 0.99),
        part(&fleet.spread, 1.0)
    );
    println!(
        "commands to the Redis    {} and {beats} signs of life; in the busiest second of the cold start {busiest}, of all {}",
        fleet.redis.commands, fleet.redis.busiest
    );
    println!(
        "bytes from the Redis     {:.1} MB",
        fleet.redis.bytes_out as f64 / 1e6
    );
    println!(
        "the stream               {:.2} MB",
        (fleet.redis.stream.len() as u64 * RECORD_BYTES) as f64 / 1e6
    );
    println!(
        "lookups at the cloud     {first_hours} cold for {} projects, {alone} of them alone; {meanwhile} while the Redis was away; {total} in all, without a fleet at least {}",
        asked_for.len(),
        asked_for.len() * count
    );
    println!(
        "memory for facts         {:.2} MB in all replicas",
        of_replicas as f64 / 1e6
    );
}
