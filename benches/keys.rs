//! What it costs to ask the key cache for a project that it knows, by one thread and by two that ask
//! for the same ones: the median of many samples, in nanoseconds. Run with `cargo bench --bench keys`.

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use osprey::config::Keys;
use osprey::keys::{
    Encryption, KeyCache, KeyProvider, KeyRecord, KmsKey, LookupFuture, Origin, SystemClock,
};
use tokio::runtime::{Builder, Runtime};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const PROJECTS: usize = 1_000;
const SAMPLES: usize = 41;
/// Questions of one sample.
const TIMES: usize = 50_000;

/// Every project is encrypted.
struct Encrypted;

impl KeyProvider for Encrypted {
    fn lookup<'a>(&'a self, project: &'a str) -> LookupFuture<'a> {
        let record = KeyRecord {
            project: project.to_owned(),
            encryption: Encryption::Kms(KmsKey::default()),
            origin: Origin::Configured,
            looked_up: SystemTime::now(),
        };
        Box::pin(async move { Ok(Some(record)) })
    }
}

fn runtime() -> Runtime {
    let built = Builder::new_current_thread().enable_time().build();
    built.expect("clocks alone ask nothing of the machine")
}

/// Nanoseconds a question.
fn sample(cache: &KeyCache, projects: &[String]) -> f64 {
    runtime().block_on(async {
        let start = Instant::now();
        for project in projects.iter().cycle().take(TIMES) {
            let answer = cache.get(black_box(project)).await;
            assert!(matches!(black_box(answer), Ok(Some(_))));
        }
        #[allow(clippy::cast_precision_loss)]
        let nanos = start.elapsed().as_nanos() as f64 / TIMES as f64;
        nanos
    })
}

fn print(label: &str, mut samples: Vec<f64>) {
    samples.sort_by(f64::total_cmp);
    let (median, least, most) = (
        samples[samples.len() / 2],
        samples[0],
        samples[samples.len() - 1],
    );
    println!("{label:<56} {median:>9.0} ns {least:>9.0} ns {most:>9.0} ns");
}

fn main() {
    let lookups = runtime();
    let settings = Keys {
        ttl: Duration::from_hours(24),
        negative_ttl: Duration::from_mins(1),
        capacity: 10_000,
        snapshot: None,
        cloud: None,
    };
    let cache = KeyCache::new(
        settings,
        Arc::new(Encrypted),
        Arc::new(SystemClock::default()),
        lookups.handle().clone(),
    );
    let projects: Vec<String> = (0..PROJECTS)
        .map(|number| format!("ods_trade_{number:04}"))
        .collect();
    lookups.block_on(async {
        for project in &projects {
            assert!(matches!(cache.get(project).await, Ok(Some(_))));
        }
    });
    println!("{:<56} {:>12} {:>12} {:>12}", "", "median", "least", "most");
    print(
        "hit, one thread",
        (0..SAMPLES).map(|_| sample(&cache, &projects)).collect(),
    );
    let both = || {
        std::thread::scope(|scope| {
            let other = scope.spawn(|| sample(&cache, &projects));
            let own = sample(&cache, &projects);
            [own, other.join().expect("it panics only if this one does")]
        })
    };
    print(
        "hit, two threads",
        (0..SAMPLES).flat_map(|_| both()).collect(),
    );
}
