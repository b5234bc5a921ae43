//! The cache's rules, each with a provider that does as it is told and a clock that is moved.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::time::SystemTime;

use tokio::sync::Notify;

use super::super::{Encryption, KeyState, KmsKey, LookupFuture};
use super::*;

mod clock;
mod kept;

const HOUR: Duration = Duration::from_hours(1);

#[derive(Default)]
struct ManualClock(Mutex<Duration>);

impl ManualClock {
    fn forward(&self, by: Duration) {
        *self.0.lock().unwrap() += by;
    }
}

impl Clock for ManualClock {
    fn monotonic(&self) -> Duration {
        *self.0.lock().unwrap()
    }

    fn wall(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + self.monotonic()
    }
}

/// Answers what `answers` holds; `None` there: fails.
#[derive(Default)]
struct Scripted {
    answers: Mutex<HashMap<String, Option<Encryption>>>,
    failing: Mutex<Option<&'static str>>,
    lookups: AtomicUsize,
    /// While there is one, lookups wait for it.
    gate: Mutex<Option<Arc<Notify>>>,
    /// What its records say of when they were looked up: `None`, this moment.
    looked_up: Mutex<Option<SystemTime>>,
    /// Its answers lack what it would know soon.
    in_part: AtomicBool,
    clock: Arc<ManualClock>,
}

impl Scripted {
    fn says(&self, project: &str, encryption: Option<Encryption>) {
        self.answers
            .lock()
            .unwrap()
            .insert(project.into(), encryption);
    }

    fn fails(&self, why: Option<&'static str>) {
        *self.failing.lock().unwrap() = why;
    }

    fn lookups(&self) -> usize {
        self.lookups.load(Ordering::SeqCst)
    }
}

impl KeyProvider for Scripted {
    fn lookup<'a>(&'a self, project: &'a str) -> LookupFuture<'a> {
        Box::pin(async move {
            self.lookups.fetch_add(1, Ordering::SeqCst);
            let gate = self.gate.lock().unwrap().clone();
            if let Some(gate) = gate {
                gate.notified().await;
            }
            let failing = *self.failing.lock().unwrap();
            match failing {
                Some("panic") => panic!("as told"),
                Some(why) => return Err(LookupError(why.into())),
                None => {}
            }
            let looked_up = *self.looked_up.lock().unwrap();
            let looked_up = looked_up.unwrap_or_else(|| self.clock.wall());
            let answer = self.answers.lock().unwrap().get(project).cloned().flatten();
            Ok(answer.map(|encryption| KeyRecord {
                project: project.into(),
                encryption,
                origin: Origin::Cloud,
                looked_up,
            }))
        })
    }

    fn was_in_part(&self, _: &str) -> bool {
        self.in_part.load(Ordering::SeqCst)
    }
}

struct Fixture {
    cache: KeyCache,
    provider: Arc<Scripted>,
    clock: Arc<ManualClock>,
}

fn kms() -> Encryption {
    Encryption::Kms(KmsKey::default())
}

fn fixture(capacity: usize) -> Fixture {
    let provider = Arc::new(Scripted::default());
    provider.says("sales", Some(kms()));
    let clock = Arc::clone(&provider.clock);
    let settings = Keys {
        ttl: 24 * HOUR,
        negative_ttl: Duration::from_mins(1),
        capacity,
        snapshot: None,
        cloud: None,
    };
    let cache = KeyCache::new(settings, provider.clone(), clock.clone(), Handle::current());
    Fixture {
        cache,
        provider,
        clock,
    }
}

impl Fixture {
    async fn encryption(&self, project: &str) -> Option<Encryption> {
        self.cache
            .get(project)
            .await
            .unwrap()
            .map(|record| record.encryption.clone())
    }

    /// Lets what runs in the background end.
    async fn settle(&self) {
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
    }
}

#[tokio::test]
async fn a_record_is_looked_up_once_whatever_its_spelling() {
    let f = fixture(100);
    assert_eq!(f.encryption("Sales#default").await, Some(kms()));
    assert_eq!(f.encryption("sales").await, Some(kms()));
    assert_eq!(f.provider.lookups(), 1);
    let metrics = f.cache.metrics();
    assert_eq!(
        (
            metrics.hits.get(),
            metrics.misses.get(),
            metrics.lookups.get()
        ),
        (1, 1, 1)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_askers_cause_one_lookup_per_project() {
    let f = fixture(100);
    for project in 0..20 {
        f.provider.says(&format!("p{project}"), Some(kms()));
    }
    let gate = Arc::new(Notify::new());
    *f.provider.gate.lock().unwrap() = Some(gate.clone());
    let askers: Vec<_> = (0..1000)
        .map(|asker| {
            let cache = f.cache.clone();
            tokio::spawn(async move { cache.get(&format!("p{}", asker % 20)).await })
        })
        .collect();
    while f.cache.metrics().misses.get() < 1000 {
        tokio::task::yield_now().await;
    }
    *f.provider.gate.lock().unwrap() = None;
    while askers.iter().any(|asker| !asker.is_finished()) {
        gate.notify_waiters();
        tokio::task::yield_now().await;
    }
    for asker in askers {
        assert!(asker.await.unwrap().unwrap().unwrap().is_encrypted());
    }
    assert_eq!(f.provider.lookups(), 20);
}

#[tokio::test]
async fn one_who_leaves_takes_nobody_elses_answer_away() {
    let f = fixture(100);
    let gate = Arc::new(Notify::new());
    *f.provider.gate.lock().unwrap() = Some(gate.clone());
    let leaving = f.cache.get("sales");
    assert!(
        tokio::time::timeout(Duration::from_millis(10), leaving)
            .await
            .is_err()
    );
    gate.notify_one();
    assert_eq!(f.encryption("sales").await, Some(kms()));
    assert_eq!(f.provider.lookups(), 1);
}

#[tokio::test]
async fn it_is_renewed_after_its_day_with_nobody_waiting() {
    let f = fixture(100);
    f.encryption("sales").await;
    f.clock.forward(23 * HOUR + 59 * HOUR / 60);
    f.encryption("sales").await;
    f.settle().await;
    assert_eq!(f.provider.lookups(), 1, "its day is not over");

    let due = f
        .cache
        .0
        .entries
        .get("sales")
        .unwrap()
        .known
        .as_ref()
        .unwrap()
        .refresh_at;
    f.clock
        .forward(due.checked_sub(f.clock.monotonic()).unwrap());
    let gate = Arc::new(Notify::new());
    *f.provider.gate.lock().unwrap() = Some(gate.clone());
    assert_eq!(
        f.encryption("sales").await,
        Some(kms()),
        "answered though the lookup hangs"
    );
    f.encryption("sales").await;
    f.settle().await;
    assert_eq!(
        f.provider.lookups(),
        2,
        "one renewal, however often it is asked for"
    );
    f.provider.says("sales", Some(Encryption::None));
    let mut changes = f.cache.changes();
    gate.notify_one();
    changes.changed().await.unwrap();
    assert_eq!(f.encryption("sales").await, Some(Encryption::None));
    assert_eq!(
        f.cache.metrics().misses.get(),
        1,
        "nobody waited after the first time"
    );
}

#[tokio::test]
async fn what_was_looked_up_together_is_not_renewed_together() {
    let f = fixture(1000);
    for project in 0..200 {
        let project = format!("p{project}");
        f.provider.says(&project, Some(kms()));
        f.encryption(&project).await;
    }
    let known = |entry: &Entry| {
        let known = entry.known.as_ref().unwrap();
        (known.refresh_at, known.expires_at)
    };
    let entries = f.cache.0.entries.iter();
    let (mut due, expired): (Vec<_>, Vec<_>) = entries.map(|entry| known(&entry)).unzip();
    due.sort_unstable();
    assert!(due[0] >= 24 * HOUR);
    assert!(due[199] <= 24 * HOUR + HOUR / 2);
    let spread = due[199].checked_sub(due[0]).unwrap();
    assert!(spread > HOUR / 4, "{spread:?}");
    // Whoever reads once a day finds it as long as this.
    assert!(expired.iter().all(|at| (25 * HOUR..26 * HOUR).contains(at)));
}

#[tokio::test]
async fn a_failure_is_remembered_for_a_while() {
    let f = fixture(100);
    f.provider.fails(Some("throttled"));
    assert_eq!(
        f.cache.get("sales").await,
        Err(LookupError("throttled".into()))
    );
    f.clock.forward(Duration::from_secs(59));
    assert_eq!(
        f.cache.get("sales").await,
        Err(LookupError("throttled".into()))
    );
    assert_eq!(f.provider.lookups(), 1);
    assert_eq!(f.cache.metrics().failures.get(), 1);
    f.provider.fails(None);
    f.clock.forward(Duration::from_secs(1));
    assert_eq!(f.encryption("sales").await, Some(kms()));
}

#[tokio::test]
async fn a_stale_record_is_served_while_the_provider_fails() {
    let f = fixture(100);
    f.encryption("sales").await;
    f.clock.forward(48 * HOUR);
    f.provider.fails(Some("away"));
    assert_eq!(f.encryption("sales").await, Some(kms()));
    assert_eq!(f.encryption("sales").await, Some(kms()));
    assert_eq!(f.provider.lookups(), 2, "the failure is remembered");
    let listed = &f.cache.list()[0];
    assert!(listed.stale);
    assert_eq!(listed.age, 48 * HOUR);
    assert_eq!(listed.failure, Some(LookupError("away".into())));
    f.provider.fails(None);
    f.clock.forward(HOUR);
    f.encryption("sales").await;
    assert!(!f.cache.list()[0].stale);
    assert_eq!(f.cache.list()[0].failure, None);
}

#[tokio::test]
async fn what_was_known_of_a_key_stays_known_while_nobody_describes_it() {
    let f = fixture(100);
    let key = |id: &str, state| {
        Some(Encryption::Kms(KmsKey {
            id: Some(id.into()),
            state,
            ..KmsKey::default()
        }))
    };
    let described = key("one", KeyState::Disabled);
    f.provider.says("sales", described.clone());
    assert_eq!(f.encryption("sales").await, described);
    // KMS is away when the day is over.
    f.provider.says("sales", key("one", KeyState::Unknown));
    f.provider.in_part.store(true, Ordering::SeqCst);
    f.clock.forward(25 * HOUR);
    f.encryption("sales").await;
    f.settle().await;
    assert_eq!(f.encryption("sales").await, described);
    assert_eq!(
        (f.provider.lookups(), f.cache.metrics().failures.get()),
        (2, 1)
    );
    // It is asked again soon, and not only once the next day is over.
    let now = key("one", KeyState::Enabled);
    f.provider.says("sales", now.clone());
    f.provider.in_part.store(false, Ordering::SeqCst);
    f.clock.forward(Duration::from_mins(1));
    f.encryption("sales").await;
    f.settle().await;
    assert_eq!(f.encryption("sales").await, now);
    f.clock.forward(HOUR);
    f.encryption("sales").await;
    f.settle().await;
    assert_eq!(f.provider.lookups(), 3);
    // Of another key nothing is known.
    let other = key("two", KeyState::Unknown);
    f.provider.says("sales", other.clone());
    f.provider.in_part.store(true, Ordering::SeqCst);
    f.clock.forward(25 * HOUR);
    f.encryption("sales").await;
    f.settle().await;
    assert_eq!(f.encryption("sales").await, other);
}

#[tokio::test]
async fn a_panicking_provider_has_failed_and_is_asked_again() {
    let f = fixture(100);
    f.provider.fails(Some("panic"));
    assert!(f.cache.get("sales").await.is_err());
    f.provider.fails(None);
    f.clock.forward(HOUR);
    assert_eq!(f.encryption("sales").await, Some(kms()));
}

#[tokio::test]
async fn an_unknown_project_is_asked_for_again_later() {
    let f = fixture(100);
    assert_eq!(f.encryption("new").await, None);
    assert_eq!(f.encryption("new").await, None);
    assert_eq!(f.provider.lookups(), 1);
    f.provider.says("new", Some(Encryption::DefaultKey));
    f.clock.forward(Duration::from_mins(1));
    let changes = f.cache.changes();
    assert_eq!(f.encryption("new").await, Some(Encryption::DefaultKey));
    assert!(
        changes.has_changed().unwrap(),
        "whoever built on its being unknown is told"
    );
}

#[tokio::test]
async fn invalidation_forgets_and_tells() {
    let f = fixture(100);
    f.provider.says("hr", Some(kms()));
    f.encryption("sales").await;
    f.encryption("hr").await;
    let mut changes = f.cache.changes();
    f.cache.invalidate("SALES");
    assert!(changes.has_changed().unwrap());
    changes.mark_unchanged();
    f.encryption("hr").await;
    f.encryption("sales").await;
    assert_eq!(f.provider.lookups(), 3);
    f.cache.invalidate("absent");
    assert!(!changes.has_changed().unwrap());
    f.cache.invalidate_all();
    f.encryption("hr").await;
    assert_eq!(f.provider.lookups(), 4);
}

#[tokio::test]
async fn what_is_invalidated_while_it_flies_is_not_kept() {
    let f = fixture(100);
    let gate = Arc::new(Notify::new());
    *f.provider.gate.lock().unwrap() = Some(gate.clone());
    let cache = f.cache.clone();
    let waiting = tokio::spawn(async move { cache.get("sales").await });
    f.settle().await;
    f.cache.invalidate("sales");
    gate.notify_one();
    assert!(waiting.await.unwrap().unwrap().is_some());
    assert!(f.cache.list().is_empty());
}

#[tokio::test]
async fn the_bound_holds_and_the_newest_stay() {
    let f = fixture(32);
    for project in 0..100 {
        let project = format!("p{project}");
        f.provider.says(&project, Some(kms()));
        f.encryption(&project).await;
        f.clock.forward(3 * HOUR);
        assert!(f.cache.0.entries.len() <= 33);
    }
    f.cache.bound();
    assert!(f.cache.0.entries.len() <= 32);
    assert!(f.cache.0.entries.contains_key("p99"));
    assert!(!f.cache.0.entries.contains_key("p0"));
    assert!(f.cache.metrics().evictions.get() >= 67);
}

#[tokio::test]
async fn a_lesson_lasts_a_day_unless_a_provider_contradicts_it() {
    let f = fixture(100);
    let mut changes = f.cache.changes();
    assert_eq!(f.cache.learn("New#x"), LessonOutcome::Taken);
    assert!(changes.has_changed().unwrap());
    changes.mark_unchanged();
    assert_eq!(f.cache.learn("new"), LessonOutcome::Known);
    let record = f.cache.get("new").await.unwrap().unwrap();
    assert_eq!(
        (record.origin, &record.encryption),
        (Origin::Learned, &kms())
    );
    assert_eq!(f.provider.lookups(), 0);

    // Asked again after a minute; not knowing is no contradiction.
    f.clock.forward(Duration::from_mins(2));
    f.cache.get("new").await.unwrap();
    f.settle().await;
    assert_eq!(f.provider.lookups(), 1);
    assert_eq!(f.encryption("new").await, Some(kms()));

    f.provider.says("new", Some(Encryption::None));
    f.clock.forward(Duration::from_mins(2));
    f.cache.get("new").await.unwrap();
    f.settle().await;
    assert_eq!(f.encryption("new").await, Some(Encryption::None));
    assert_eq!(f.cache.metrics().contradicted.get(), 1);
    assert!(changes.has_changed().unwrap());
    assert_eq!(f.cache.learn("new"), LessonOutcome::Contradicted);
    assert_eq!(f.encryption("new").await, Some(Encryption::None));

    f.cache.learn("old");
    f.clock.forward(25 * HOUR);
    assert_eq!(f.encryption("old").await, None, "aged out");
}

#[tokio::test]
async fn another_configuration_is_looked_up_anew() {
    let f = fixture(100);
    f.encryption("sales").await;
    let other = Arc::new(Scripted::default());
    other.says("sales", Some(Encryption::DefaultKey));
    let settings = Keys {
        ttl: HOUR,
        negative_ttl: HOUR,
        capacity: 10,
        snapshot: None,
        cloud: None,
    };
    f.cache.reconfigure(settings.clone(), other.clone());
    assert_eq!(f.encryption("sales").await, Some(Encryption::DefaultKey));
    assert_eq!(f.cache.negative_ttl(), HOUR);

    // What was known serves for want of an answer.
    other.fails(Some("away"));
    f.cache.reconfigure(settings.clone(), other.clone());
    assert_eq!(f.encryption("sales").await, Some(Encryption::DefaultKey));
    assert!(f.cache.list()[0].stale && f.cache.list()[0].failure.is_some());

    // What the configuration has said does not, nor what another cloud has.
    let cloud = |region: &str| Keys {
        cloud: Some(crate::config::Cloud {
            region: region.into(),
            credentials: crate::config::CredentialSource::Environment,
            maxcompute_endpoint: None,
            kms_endpoint: None,
            sts_endpoint: None,
            ram_endpoint: None,
            timeout: HOUR,
        }),
        ..settings.clone()
    };
    f.cache.reconfigure(cloud("r1"), other.clone());
    assert_eq!(f.cache.records(), 0);
    other.fails(None);
    f.encryption("sales").await;
    f.cache.reconfigure(cloud("r1"), other.clone());
    assert_eq!(f.cache.records(), 1);
    f.cache.reconfigure(cloud("r2"), other);
    assert_eq!(f.cache.records(), 0);
}

#[tokio::test]
async fn a_record_that_was_met_is_looked_up_again_but_not_again_and_again() {
    let f = fixture(100);
    f.cache.look_again("sales");
    f.encryption("sales").await;
    f.cache.look_again("sales");
    f.settle().await;
    assert_eq!(f.provider.lookups(), 1, "it is fresh");
    f.provider.says("sales", Some(Encryption::DefaultKey));
    f.clock.forward(Duration::from_mins(2));
    for _ in 0..3 {
        f.cache.look_again("sales");
    }
    f.settle().await;
    assert_eq!(f.provider.lookups(), 2);
    assert_eq!(f.encryption("sales").await, Some(Encryption::DefaultKey));
}

#[tokio::test]
async fn names_that_are_made_up_push_out_no_record() {
    let f = fixture(160);
    for project in 0..150 {
        let project = format!("p{project}");
        f.provider.says(&project, Some(kms()));
        f.encryption(&project).await;
    }
    for made_up in 0..1_000 {
        f.encryption(&format!("made_up_{made_up}")).await;
    }
    assert!(f.cache.0.entries.len() <= 161);
    assert_eq!(f.cache.records(), 150);
}

#[tokio::test]
async fn lessons_have_a_part_of_the_cache_and_the_first_of_them_stay() {
    let f = fixture(40);
    f.provider.says("sales", Some(kms()));
    f.encryption("sales").await;
    for project in 0..10 {
        let taken = f.cache.learn(&format!("p{project}"));
        assert_eq!(taken, LessonOutcome::Taken);
    }
    for project in 10..500 {
        let taken = f.cache.learn(&format!("p{project}"));
        assert_eq!(taken, LessonOutcome::NoRoom);
    }
    assert_eq!(f.cache.learn("p0"), LessonOutcome::Known);
    assert_eq!(f.encryption("p9").await, Some(kms()));
    assert_eq!(f.cache.records(), 11);
    assert_eq!(f.cache.metrics().evictions.get(), 0);
    // They make room for others when they end.
    f.clock.forward(25 * HOUR);
    assert_eq!(f.cache.learn("late"), LessonOutcome::Taken);
}
