//! What the core of a session costs: the walk over what the server sends, in bytes a second, and the
//! cycles of each protocol for which there is nothing to do, in nanoseconds. Run with
//! `cargo bench --bench core`; `benches/instructions` counts instructions instead of time.
//!
//! The bytes walked over are those of one buffer, again and again, as in a session that has just read
//! them: in the cache, and whole frames but for the last.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use osprey::core::{
    Advised, Commands, Core, ErrorContext, Event, Outbox, Policy, Queue, Told, World,
};
use osprey::protection::{
    Beginning, Decision, Effects, Lexing, NameContext, SessionNames, Snapshot,
};
use osprey::wire::backend::ErrorFields;
use osprey::wire::compose::frame;

mod common;

use common::many_protected;

// As in the binary.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Of the pump's larger buffers.
const BUFFER: usize = 64 << 10;

/// How often each is measured; the median counts.
const SAMPLES: usize = 41;

/// Answers as a session does in a database with so many protected relations, and [`OPEN`].
struct Known {
    snapshot: Snapshot,
}

impl Known {
    fn new(names: usize) -> Self {
        Self {
            snapshot: many_protected(names).foreign("ext", "open_items").build(1),
        }
    }
}

impl World for Known {
    fn decide(
        &self,
        text: &[u8],
        _whole: bool,
        names: &SessionNames,
        lexing: Lexing,
    ) -> Arc<Decision> {
        self.snapshot.decide_in(text, names, lexing)
    }

    fn catalog_changed(&self, _names: &SessionNames) {}

    fn knows_the_catalogs(&self) -> bool {
        true
    }

    fn begins(&self, head: &[u8], names: &SessionNames, lexing: Lexing) -> Option<Beginning> {
        self.snapshot.begins(head, names, lexing)
    }

    fn generation(&self) -> u64 {
        self.snapshot.generation()
    }

    fn has_protected(&self) -> bool {
        self.snapshot.protected_count() > 0
    }

    fn reads_encrypted_already(&self) -> bool {
        false
    }

    fn may_need_retry(&self) -> bool {
        self.snapshot.has_suspects()
    }

    fn is_cancelled(&self) -> bool {
        false
    }

    fn keeps_all(&self) -> bool {
        false
    }

    fn is_proven(&self) -> bool {
        true
    }

    fn replans(&self) -> Option<bool> {
        Some(true)
    }

    fn advise(&self, _: ErrorFields<'_>, _: &ErrorContext<'_>) -> Option<Advised> {
        None
    }
}

fn session(per_statement: bool) -> Core {
    let commands = Commands::new("hg_experimental_enable_access_odps_orc_via_holo", "false");
    let policy = Policy {
        commands: Arc::new(commands),
        per_statement,
        observe: false,
        enforce: false,
        retry_writes: true,
        retry_buffer: Some(256 << 10),
        inspect: 256 << 10,
        relay_only: false,
        told: Told::None,
        client_route: None,
    };
    Core::new(policy, at_login())
}

fn at_login() -> SessionNames {
    SessionNames::new(NameContext::new("app", "\"$user\", public, ext"))
}

fn sent(queue: &mut Queue) {
    queue.advance(usize::MAX);
}

/// One exchange: what the client sends, what the server answers.
struct Session {
    core: Core,
    out: Outbox,
    world: Known,
}

impl Session {
    fn new(names: usize, per_statement: bool) -> Self {
        Self {
            core: session(per_statement),
            out: Outbox::default(),
            world: Known::new(names),
        }
    }

    fn client(&mut self, bytes: &[u8]) {
        let progress = self
            .core
            .on_frontend(black_box(bytes), &self.world, &mut self.out);
        assert_eq!(progress.consumed, bytes.len());
        sent(&mut self.out.to_server);
    }

    fn server(&mut self, bytes: &[u8]) {
        let progress = self
            .core
            .on_backend(black_box(bytes), &self.world, &mut self.out);
        assert_eq!(progress.consumed, bytes.len());
        sent(&mut self.out.to_client);
        while let Some(event) = self.core.take_event() {
            // It would be much faster from then on, and measure nothing.
            assert!(!matches!(event, Event::RelayOnly(_)), "{event:?}");
        }
    }
}

fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    frame(&mut out, tag, |out| out.extend_from_slice(body));
    out
}

/// A DataRow of `size` bytes, header included, with one column.
fn row(size: usize) -> Vec<u8> {
    let column = size - 11;
    let mut body = vec![0, 1];
    body.extend_from_slice(&u32::try_from(column).expect("a short row").to_be_bytes());
    body.resize(body.len() + column, b'x');
    message(b'D', &body)
}

fn query(sql: &str) -> Vec<u8> {
    message(b'Q', &[sql.as_bytes(), b"\0"].concat())
}

fn parse(name: &str, sql: &str) -> Vec<u8> {
    let body = [name.as_bytes(), b"\0", sql.as_bytes(), b"\0\0\0"].concat();
    message(b'P', &body)
}

/// Bind without parameters, and Execute of all rows, both of the unnamed portal.
fn run(name: &str) -> Vec<u8> {
    let bind = [b"\0", name.as_bytes(), b"\0\0\0\0\0\0\0"].concat();
    [message(b'B', &bind), message(b'E', &[0; 5])].concat()
}

/// Not a foreign table.
const SQL: &str = "SELECT abalance FROM pgbench_accounts WHERE aid = 4711";
/// A foreign table of a project that is encrypted, and of one of which that is not known.
const PROTECTED: &str = "SELECT amount FROM ext.ods_trade_00042_detail_di WHERE id = 4711";
const OPEN: &str = "SELECT amount FROM ext.open_items WHERE id = 4711";

fn columns() -> Vec<u8> {
    message(b'T', &[&[0, 1][..], b"abalance\0", &[0; 18]].concat())
}

fn done() -> Vec<u8> {
    message(b'C', b"SELECT 1\0")
}

fn ready() -> Vec<u8> {
    message(b'Z', b"I")
}

/// To one simple Query.
fn answer() -> Vec<u8> {
    [columns(), row(20), done(), ready()].concat()
}

/// To a SET of Osprey's own.
fn set() -> Vec<u8> {
    [message(b'C', b"SET\0"), ready()].concat()
}

/// Something to measure: does it `times` times.
struct Case {
    label: String,
    /// Bytes that one time walks over; 0: one time is a cycle.
    bytes: usize,
    work: Box<dyn FnMut(usize)>,
}

/// Walks over a buffer full of `frames`.
fn walk(label: &str, frames: &[u8]) -> Case {
    let buffer = frames.repeat((BUFFER / frames.len()).max(1));
    let mut session = Session::new(0, false);
    session.client(&query("SELECT 1"));
    session.server(&columns());
    Case {
        label: format!("walk, {label}"),
        bytes: buffer.len(),
        work: Box::new(move |times| {
            for _ in 0..times {
                session.server(&buffer);
            }
        }),
    }
}

/// So many names known, an exchange that comes first, and the one to measure.
fn cycle(label: &str, names: usize, first: [&[u8]; 2], each: [Vec<u8>; 2]) -> Case {
    let mut session = Session::new(names, false);
    session.client(first[0]);
    session.server(first[1]);
    session.client(&each[0]);
    session.server(&each[1]);
    let tally = session.core.tally().rare.unwrap_or_default();
    assert_eq!(tally.set_query, tally.protected.min(1), "{label}");
    Case {
        label: format!("cycle, {label}"),
        bytes: 0,
        work: Box::new(move |times| {
            for _ in 0..times {
                session.client(&each[0]);
                session.server(&each[1]);
            }
        }),
    }
}

/// Statement scope, and statements in turn that need one engine and the other.
fn switching() -> Case {
    let mut session = Session::new(10_000, true);
    let effects = session
        .world
        .decide(OPEN.as_bytes(), true, &at_login(), Lexing::default())
        .effects;
    assert!(effects.intersects(Effects::READS_FOREIGN));
    let sent = [query(PROTECTED), query(OPEN)];
    let answers = [set(), answer()].concat();
    for query in &sent {
        session.client(query);
        session.server(&answers);
    }
    let tally = session.core.tally().rare.unwrap_or_default();
    assert_eq!((tally.set_query, tally.restores), (1, 1));
    Case {
        label: "cycle, simple, two with a switch of the engine each".into(),
        bytes: 0,
        work: Box::new(move |times| {
            for _ in 0..times {
                for query in &sent {
                    session.client(query);
                    session.server(&answers);
                }
            }
        }),
    }
}

fn cases() -> Vec<Case> {
    let mixed = [
        row(12),
        row(31),
        message(b'N', b"SNOTICE\0VNOTICE\0C00000\0Mhello\0\0"),
        row(17),
        message(b'S', b"TimeZone\0UTC\0"),
        row(60),
    ]
    .concat();
    let sync = || message(b'S', b"");
    let describe = message(b'D', b"P\0");
    let execute = message(b'E', &[0; 5]);
    let bind = message(b'B', &[0; 8]);
    let extended = [
        [parse("", SQL), bind, describe, execute, sync()].concat(),
        [message(b'1', b""), message(b'2', b""), answer()].concat(),
    ];
    let prepare = [parse("P0_1", SQL), sync()].concat();
    let prepared = [message(b'1', b""), ready()].concat();
    let prepare: [&[u8]; 2] = [&prepare, &prepared];
    let bound = [message(b'2', b""), row(20), done()].concat();
    let protected = [set(), answer()].concat();
    let nothing: [&[u8]; 2] = [b"", b""];
    vec![
        walk("rows of 100 bytes", &row(100)),
        walk("rows of 20 bytes", &row(20)),
        walk("rows of 1 KB", &row(1 << 10)),
        walk("rows of 10 KB", &row(10 << 10)),
        walk("COPY data of 100 bytes", &message(b'd', &[b'x'; 95])),
        walk("small frames of three kinds", &mixed),
        cycle("simple, no name known", 0, nothing, [query(SQL), answer()]),
        cycle("simple", 10_000, nothing, [query(SQL), answer()]),
        cycle(
            "simple, protected, the setting made before",
            10_000,
            [&query(PROTECTED), &protected],
            [query(PROTECTED), answer()],
        ),
        cycle(
            "simple, a foreign table not known to be readable",
            10_000,
            nothing,
            [query(OPEN), answer()],
        ),
        switching(),
        cycle("extended", 10_000, nothing, extended),
        cycle(
            "prepared",
            10_000,
            prepare,
            [
                [run("P0_1"), sync()].concat(),
                [bound.clone(), ready()].concat(),
            ],
        ),
        cycle(
            "prepared, pipeline of 100",
            10_000,
            prepare,
            [
                [run("P0_1").repeat(100), sync()].concat(),
                [bound.repeat(100), ready()].concat(),
            ],
        ),
    ]
}

/// Nanoseconds of one time: the median, the least and the most of the samples.
fn measure(work: &mut dyn FnMut(usize)) -> [f64; 3] {
    let mut times = 1;
    loop {
        let start = Instant::now();
        work(times);
        if start.elapsed().as_micros() > 2_000 {
            break;
        }
        times *= 2;
    }
    let mut samples: Vec<f64> = (0..SAMPLES)
        .map(|_| {
            let start = Instant::now();
            work(times);
            #[allow(clippy::cast_precision_loss)]
            let nanos = start.elapsed().as_nanos() as f64 / times as f64;
            nanos
        })
        .collect();
    samples.sort_by(f64::total_cmp);
    [samples[SAMPLES / 2], samples[0], samples[SAMPLES - 1]]
}

fn main() {
    // `cargo bench` says --bench to every benchmark.
    let arguments: Vec<String> = std::env::args().filter(|word| word != "--bench").collect();
    if let [_, label, times] = arguments.as_slice() {
        // For instruction counts: so often, without a clock.
        let times = times.parse().expect("a number of times");
        let mut cases = cases();
        let case = cases.iter_mut().find(|case| case.label == *label);
        (case.expect("a label of those printed").work)(times);
        return;
    }
    if arguments.get(1).is_some_and(|word| word == "--list") {
        for case in cases() {
            println!("{}", case.label);
        }
        return;
    }
    println!("{:<56} {:>12} {:>12} {:>12}", "", "median", "least", "most");
    for mut case in cases() {
        let nanos = measure(&mut case.work);
        let label = &case.label;
        if case.bytes == 0 {
            let [median, least, most] = nanos;
            println!("{label:<56} {median:>9.0} ns {least:>9.0} ns {most:>9.0} ns");
        } else {
            #[allow(clippy::cast_precision_loss)]
            let [median, most, least] = nanos.map(|nanos| case.bytes as f64 / nanos);
            println!("{label:<56} {median:>7.1} GB/s {least:>7.1} GB/s {most:>7.1} GB/s");
        }
    }
}
