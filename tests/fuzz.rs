//! The fuzz targets of `fuzz/`, without a fuzzer: each runs over its kept corpus, and then over
//! random mutations of it for `OSPREY_FUZZ_SECONDS` (3), drawn from `OSPREY_FUZZ_SEED` (a new one each
//! time). `fuzz/run` is the long run, guided by coverage; what either finds is kept in the corpus.

#[path = "../fuzz/targets/mod.rs"]
mod targets;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// What mutations insert, besides random bytes.
const WORDS: [&[u8]; 24] = [
    b"select * from ext.secret",
    b"SELECT * FROM secret",
    b"secret",
    b"\"Mixed Case\"",
    b"'",
    b"\"",
    b"$$",
    b"$a$",
    b"--",
    b"\n",
    b"/*",
    b"*/",
    b"E'\\''",
    b"U&\"",
    b"(",
    b")",
    b";",
    b"\0",
    b"\0\0\0\x04",
    b"\x7f\xff\xff\xff",
    b"\xff\xff\xff\xff",
    b"user\0ann\0",
    b"options\0-c a=b\\ \0",
    b"\0\x03\0\0",
];

/// Longest mutation, in bytes.
const LONGEST: usize = 4 << 10;

/// xorshift64*: no more is needed here.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16
    }

    fn below(&mut self, bound: usize) -> usize {
        self.next() as usize % bound.max(1)
    }

    fn mutate(&mut self, data: &mut Vec<u8>, corpus: &[Vec<u8>]) {
        let at = self.below(data.len() + 1);
        match self.below(7) {
            0 if at < data.len() => data[at] ^= 1 << self.below(8),
            1 if at < data.len() => data[at] = self.next() as u8,
            2 => {
                let end = (at + self.below(16)).min(data.len());
                data.drain(at..end);
            }
            3 => {
                let end = (at + self.below(64)).min(data.len());
                let copy = data[at..end].to_vec();
                let to = self.below(data.len() + 1);
                data.splice(to..to, copy);
            }
            4 => {
                let other = &corpus[self.below(corpus.len())];
                let from = self.below(other.len() + 1);
                data.truncate(at);
                data.extend_from_slice(&other[from..]);
            }
            5 => {
                let word = WORDS[self.below(WORDS.len())];
                data.splice(at..at, word.iter().copied());
            }
            _ => {
                let count = self.below(8);
                let bytes: Vec<u8> = (0..count).map(|_| self.next() as u8).collect();
                data.splice(at..at, bytes);
            }
        }
        data.truncate(LONGEST);
    }
}

fn corpus(name: &str) -> Vec<Vec<u8>> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fuzz/corpus")
        .join(name);
    let mut paths: Vec<PathBuf> = std::fs::read_dir(&directory)
        .unwrap_or_else(|error| panic!("{}: {error}", directory.display()))
        .map(|entry| entry.expect("a readable corpus").path())
        .collect();
    paths.sort();
    paths
        .iter()
        .map(|path| std::fs::read(path).expect("a readable corpus"))
        .collect()
}

/// Runs a target on one input; what it panics on is written to a file that the panic names.
fn check(name: &str, target: fn(&[u8]), data: &[u8]) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| target(data))) {
        let path = std::env::temp_dir().join(format!("osprey-fuzz-{name}"));
        std::fs::write(&path, data).expect("a file for what was found");
        eprintln!(
            "{name} failed on {}: once it is mended, keep that in fuzz/corpus/{name}",
            path.display()
        );
        std::panic::resume_unwind(panic);
    }
}

fn run(name: &str) {
    let (_, target) = targets::ALL
        .into_iter()
        .find(|(known, _)| *known == name)
        .expect("a target");
    let corpus = corpus(name);
    assert!(!corpus.is_empty());
    for data in &corpus {
        check(name, target, data);
    }
    let seconds =
        std::env::var("OSPREY_FUZZ_SECONDS").map_or(3, |text| text.parse().expect("a number"));
    let seed = std::env::var("OSPREY_FUZZ_SEED").map_or_else(
        |_| {
            let now = SystemTime::now().duration_since(UNIX_EPOCH);
            now.expect("a clock that is set").as_nanos() as u64
        },
        |text| text.parse().expect("a number"),
    );
    let mut random = Random(seed | 1);
    let end = Instant::now() + Duration::from_secs(seconds);
    let mut runs = 0_u64;
    while Instant::now() < end {
        let mut data = corpus[random.below(corpus.len())].clone();
        for _ in 0..=random.below(6) {
            random.mutate(&mut data, &corpus);
        }
        check(name, target, &data);
        runs += 1;
    }
    println!(
        "{name}: {} of the corpus, {runs} mutations, OSPREY_FUZZ_SEED={seed}",
        corpus.len()
    );
}

#[test]
fn frames() {
    run("frames");
}

#[test]
fn core() {
    run("core");
}

#[test]
fn startup() {
    run("startup");
}

#[test]
fn sql() {
    run("sql");
}
