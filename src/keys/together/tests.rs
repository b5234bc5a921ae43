//! Replicas of a cache, each with its own connection to one real Redis, and a clock that the test moves.

use std::collections::HashMap;
use std::net::TcpListener;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::SystemTime;

use tokio::runtime::Handle;

use super::super::{Chain, Clock, KeyCache, KmsKey};
use super::*;
use crate::config::{Address, Replicas};
use crate::facts::{Bus, Fact, Outcome};
use crate::fleet::{Fleet, Sink};

const HOUR: Duration = Duration::from_hours(1);
const PROJECTS: usize = 40;

/// By how much the test's clock is ahead, in milliseconds. The tests of this file share it, and only one
/// of them moves it.
static AHEAD: AtomicU64 = AtomicU64::new(0);

fn wall() -> Stamp {
    Stamp(Stamp::of(SystemTime::now()).0 + AHEAD.load(Ordering::SeqCst))
}

struct Moved;

impl Clock for Moved {
    fn monotonic(&self) -> Duration {
        Duration::from_millis(wall().0)
    }

    fn wall(&self) -> SystemTime {
        wall().time()
    }
}

/// A redis-server of the test's own.
struct Redis {
    process: Child,
    port: u16,
    _directory: tempfile::TempDir,
}

impl Redis {
    async fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = free.local_addr().unwrap().port();
        drop(free);
        // Debian's package redis-server would start a service; redis-tools has the program, too, under
        // the name that it has as a checker of files.
        let process = Command::new("/usr/bin/redis-check-rdb")
            .arg0("redis-server")
            .args(["--bind", "127.0.0.1", "--save", "", "--port"])
            .arg(port.to_string())
            .arg("--dir")
            .arg(directory.path())
            .stdout(Stdio::null())
            .spawn()
            .expect("Debian's package redis-tools is needed");
        let redis = Self {
            process,
            port,
            _directory: directory,
        };
        redis.connect().await;
        redis
    }

    async fn connect(&self) -> redis::aio::MultiplexedConnection {
        for _ in 0..500 {
            if let Ok(stream) = tokio::net::TcpStream::connect(("127.0.0.1", self.port)).await {
                let who = redis::RedisConnectionInfo::default();
                let config = redis::AsyncConnectionConfig::new();
                if let Ok((connection, driver)) =
                    redis::aio::MultiplexedConnection::new_with_config(&who, stream, config).await
                {
                    tokio::spawn(driver);
                    return connection;
                }
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("the redis-server does not answer");
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A cloud that counts.
#[derive(Default)]
struct Cloud {
    lookups: Mutex<HashMap<String, usize>>,
    all: AtomicUsize,
}

impl KeyProvider for Cloud {
    fn lookup<'a>(&'a self, project: &'a str) -> LookupFuture<'a> {
        Box::pin(async move {
            *self
                .lookups
                .lock()
                .unwrap()
                .entry(project.to_owned())
                .or_default() += 1;
            self.all.fetch_add(1, Ordering::SeqCst);
            tokio::time::sleep(Duration::from_millis(20)).await;
            let key = Encryption::Kms(KmsKey::default());
            Ok(Some(record(project, key, wall())))
        })
    }
}

struct Sinks(KeyCache);

impl Sink for Sinks {
    fn take(&self, fact: &Fact) -> Outcome {
        self.0.take(fact)
    }

    fn facts(&self) -> Vec<Fact> {
        let bus = Bus::new("up", "".into());
        let facts = self.0.facts().into_iter();
        facts.map(|(what, at, by)| bus.fact(what, at, by)).collect()
    }

    fn ttl(&self) -> Duration {
        24 * HOUR
    }
}

/// One replica; it ends when it is dropped.
struct Replica {
    cache: KeyCache,
    fleet: Fleet,
    _sink: Arc<Sinks>,
}

impl Replica {
    async fn start(redis: &Redis, cloud: &Arc<Cloud>, patience: Duration) -> Self {
        // A loaded machine is no Redis that is away.
        Self::start_by(redis, cloud, patience, Duration::from_secs(5)).await
    }

    async fn start_by(
        redis: &Redis,
        cloud: &Arc<Cloud>,
        patience: Duration,
        deadline: Duration,
    ) -> Self {
        let settings = Replicas {
            addresses: vec![Address {
                host: "127.0.0.1".into(),
                port: redis.port,
            }],
            deadline,
            ..Replicas::default()
        };
        let fleet =
            Fleet::start_by(wall, &settings, crate::fleet::name(), &Handle::current()).unwrap();
        let bus = Arc::new(Bus::new("up", Arc::clone(fleet.by())));
        let member = fleet.join(Arc::clone(&bus));
        let keys = Keys::default();
        let mut together = Together::new(
            Arc::clone(&member),
            Arc::clone(cloud) as Arc<dyn KeyProvider>,
            &keys,
        );
        together.patience = patience;
        let chain = Arc::new(Chain(vec![Arc::new(together)]));
        let cache = KeyCache::new(keys, chain, Arc::new(Moved), Handle::current());
        cache.join(bus);
        let sink = Arc::new(Sinks(cache.clone()));
        let weak: std::sync::Weak<Sinks> = Arc::downgrade(&sink);
        member.give_to(weak);
        until("the connection", || fleet.counts().is_connected()).await;
        Self {
            cache,
            fleet,
            _sink: sink,
        }
    }

    fn counted(&self, lookup: Lookup) -> u64 {
        self.fleet.counts().lookups.of(lookup).get()
    }
}

async fn until(what: &str, met: impl Fn() -> bool) {
    for _ in 0..2_000 {
        if met() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("waited for {what}");
}

/// All projects, of each replica.
async fn ask_all(replicas: &[Replica], rounds: usize) {
    let asking = (0..rounds * PROJECTS * replicas.len()).map(|number| {
        let cache = replicas[number % replicas.len()].cache.clone();
        tokio::spawn(async move { cache.get(&format!("p{}", number % PROJECTS)).await })
    });
    for answer in futures::future::join_all(asking).await {
        assert!(answer.unwrap().unwrap().unwrap().is_encrypted());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_day_is_a_day_for_all_replicas_and_through_restarts() {
    let redis = Redis::start().await;
    let cloud = Arc::new(Cloud::default());
    let all = || cloud.all.load(Ordering::SeqCst);
    let mut replicas = Vec::new();
    for _ in 0..3 {
        replicas.push(Replica::start(&redis, &cloud, PATIENCE).await);
    }
    ask_all(&replicas, 3).await;
    assert_eq!(all(), PROJECTS, "one lookup of each project");

    // For as long as no record is due, nothing is looked up; not even by those that begin anew.
    for hour in 1..=23 {
        AHEAD.fetch_add(HOUR.as_millis() as u64, Ordering::SeqCst);
        if hour % 6 == 0 {
            replicas.remove(0);
            let new = Replica::start(&redis, &cloud, PATIENCE).await;
            until("all to be known from the start", || {
                new.cache.records() == PROJECTS
            })
            .await;
            replicas.push(new);
        }
        ask_all(&replicas, 1).await;
    }
    assert_eq!(all(), PROJECTS);
    let begun = |replica: &Replica| replica.cache.metrics().lookups.get();
    assert!(
        replicas.iter().all(|replica| begun(replica) == 0),
        "all three were restarted"
    );

    // Then each is renewed once for all, and nobody waits for it.
    let near = HOUR / 60 * 58;
    AHEAD.fetch_add(near.as_millis() as u64, Ordering::SeqCst);
    ask_all(&replicas, 1).await;
    assert_eq!(all(), PROJECTS, "two minutes before the day is over");
    for _ in 0..4 {
        AHEAD.fetch_add(HOUR.as_millis() as u64 / 6, Ordering::SeqCst);
        ask_all(&replicas, 1).await;
        until("what was renewed to be known to all", || {
            let renewed = all() - PROJECTS;
            let young = |replica: &Replica| {
                let listed = replica.cache.list();
                listed.iter().filter(|one| one.age < 6 * HOUR).count()
            };
            replicas.iter().all(|replica| young(replica) == renewed)
        })
        .await;
    }
    until("each project to be renewed", || all() == 2 * PROJECTS).await;
    ask_all(&replicas, 1).await;
    let lookups = cloud.lookups.lock().unwrap().clone();
    assert!(lookups.values().all(|count| *count == 2), "{lookups:?}");
    for replica in &replicas {
        assert_eq!(replica.cache.metrics().misses.get(), 0);
        assert_eq!(replica.counted(Lookup::Alone), 0);
    }
}

#[tokio::test]
async fn a_redis_that_is_late_is_asked_again() {
    use rustix::process::{Pid, Signal, kill_process};

    let redis = Redis::start().await;
    let cloud = Arc::new(Cloud::default());
    let deadline = Duration::from_millis(50);
    let replica = Replica::start_by(&redis, &cloud, PATIENCE, deadline).await;
    let process = Pid::from_child(&redis.process);
    kill_process(process, Signal::STOP).unwrap();
    let cache = replica.cache.clone();
    let asking = tokio::spawn(async move { cache.get("sales").await });
    tokio::time::sleep(3 * deadline).await;
    assert!(!asking.is_finished());
    kill_process(process, Signal::CONT).unwrap();
    assert!(asking.await.unwrap().unwrap().is_some());
    // The answer that came too late was the lease, and is not waited for.
    assert_eq!(replica.counted(Lookup::Alone), 0);
    assert_eq!(replica.counted(Lookup::Waited), 0);
    assert_eq!(replica.counted(Lookup::Leased), 1);
    assert_eq!(cloud.lookups.lock().unwrap()["sales"], 1);
}

#[tokio::test]
async fn one_that_is_gone_is_not_waited_for() {
    let mut redis = Redis::start().await;
    let cloud = Arc::new(Cloud::default());
    let replica = Replica::start(&redis, &cloud, PATIENCE).await;
    redis.process.kill().unwrap();
    until("the end of the connection", || {
        !replica.fleet.counts().is_connected()
    })
    .await;
    let begun = Instant::now();
    assert!(replica.cache.get("sales").await.unwrap().is_some());
    assert!(begun.elapsed() < PATIENCE / 4, "{:?}", begun.elapsed());
    assert_eq!(replica.counted(Lookup::Alone), 1);
}

#[tokio::test]
async fn a_lease_that_is_held_for_too_long_is_not_waited_for() {
    let redis = Redis::start().await;
    let cloud = Arc::new(Cloud::default());
    let replica = Replica::start(&redis, &cloud, Duration::from_millis(300)).await;
    let mut liar = redis.connect().await;
    let keys: Vec<String> = redis::cmd("KEYS")
        .arg("*")
        .query_async(&mut liar)
        .await
        .unwrap();
    assert!(!keys.is_empty(), "it has said that it is there");
    // The name of the place: as another project's lookup has it.
    replica.cache.get("other").await.unwrap();
    let keys: Vec<String> = redis::cmd("KEYS")
        .arg("*:key:other")
        .query_async(&mut liar)
        .await
        .unwrap();
    let lease = keys[0].replace(":key:other", ":lease:sales");
    let held = redis::cmd("SET")
        .arg(&lease)
        .arg("for ever")
        .exec_async(&mut liar)
        .await;
    held.unwrap();
    assert!(replica.cache.get("sales").await.unwrap().is_some());
    assert_eq!(replica.counted(Lookup::Alone), 1);
    assert_eq!(cloud.lookups.lock().unwrap()["sales"], 1);
}
