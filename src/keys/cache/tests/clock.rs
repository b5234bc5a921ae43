//! Jumps of the wall clock: ages are measured by another one.

use super::*;

/// A steady clock, and a wall clock that is set apart from it by so many seconds.
#[derive(Default)]
struct Jumping {
    steady: ManualClock,
    apart: Mutex<i64>,
}

impl Clock for Jumping {
    fn monotonic(&self) -> Duration {
        self.steady.monotonic()
    }

    fn wall(&self) -> SystemTime {
        let apart = *self.apart.lock().unwrap();
        let by = Duration::from_secs(apart.unsigned_abs());
        let steady = self.steady.wall();
        if apart < 0 { steady - by } else { steady + by }
    }
}

#[tokio::test]
async fn a_clock_that_jumps_makes_nothing_older_or_younger() {
    let provider = Arc::new(Scripted::default());
    provider.says("sales", Some(kms()));
    let clock = Arc::new(Jumping::default());
    clock.steady.forward(1000 * HOUR);
    let settings = Keys {
        ttl: 24 * HOUR,
        negative_ttl: Duration::from_mins(1),
        capacity: 100,
        snapshot: None,
        cloud: None,
    };
    let cache = KeyCache::new(settings, provider.clone(), clock.clone(), Handle::current());
    let f = Fixture {
        cache,
        provider,
        clock: Arc::default(),
    };
    let looks_up_by = |wall| *f.provider.looked_up.lock().unwrap() = Some(wall);
    looks_up_by(clock.wall());
    assert_eq!(f.encryption("sales").await, Some(kms()));
    for apart in [86_400, -3_600, 30 * 86_400, 0] {
        *clock.apart.lock().unwrap() = apart;
        assert_eq!(f.encryption("sales").await, Some(kms()));
        f.settle().await;
        assert_eq!(f.provider.lookups(), 1, "{apart} s apart");
        let listed = f.cache.list();
        assert!(
            listed
                .iter()
                .all(|listed| !listed.stale && listed.age < HOUR)
        );
    }
    // Told to find out anew while the clock is back, it finds out once.
    *clock.apart.lock().unwrap() = -30 * 86_400;
    f.cache.invalidate("sales");
    looks_up_by(clock.wall());
    for _ in 0..3 {
        assert_eq!(f.encryption("sales").await, Some(kms()));
        f.settle().await;
        assert_eq!(f.provider.lookups(), 2);
    }
    // Its day is over when it is over, wherever the wall clock stands.
    *clock.apart.lock().unwrap() = -3_600;
    clock.steady.forward(25 * HOUR);
    looks_up_by(clock.wall());
    assert_eq!(f.encryption("sales").await, Some(kms()));
    f.settle().await;
    assert_eq!(f.provider.lookups(), 3);
}
