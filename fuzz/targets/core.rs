//! The core, between a client and a server that send anything at all: well-formed messages in any
//! order, broken ones, in pieces of any size.
//!
//! Whatever comes, nothing panics; each byte is forwarded or dropped exactly once and in order, and
//! none of the client's is dropped; the core never wants more in hand than its limits say; what is
//! given to it again with more behind it is consumed in the end; a session that is only relayed is
//! not changed by a byte.

use std::cell::Cell;
use std::sync::{Arc, LazyLock};

use osprey::core::{
    Advised, Commands, Core, ErrorContext, Event, Op, Outbox, Policy, Progress, Queue, Told, World,
};
use osprey::protection::{
    Beginning, Decision, Lexing, NameContext, Reason, SessionNames, Snapshot, Source,
};
use osprey::wire::backend::ErrorFields;
use osprey::wire::{HEADER, compose};

use super::Input;

/// Bytes of a message of the server's that the core may want at once, at most.
const LOOK_LIMIT: usize = 64 << 10;

const PANGU: &[u8] = b"hos_exception: IO error: Failed to execute pangu open normal file pangu://x/1, err_msg: PanguParameterInvalidException";

const TEXTS: [&str; 30] = [
    "SELECT * FROM secret",
    "SELECT * FROM secret; SELECT 1",
    "SELECT * FROM open_data",
    "SELECT 1",
    "",
    "BEGIN",
    "COMMIT",
    "ROLLBACK",
    "SAVEPOINT s",
    "ROLLBACK TO s",
    "BEGIN; SELECT * FROM secret; COMMIT",
    "COPY t FROM STDIN",
    "COPY secret TO STDOUT",
    "INSERT INTO t SELECT * FROM secret",
    "INSERT INTO t VALUES (1)",
    "PREPARE a AS SELECT * FROM secret",
    "EXECUTE a",
    "DEALLOCATE ALL",
    "DECLARE c CURSOR FOR SELECT * FROM open_data",
    "FETCH 1 FROM c",
    "CLOSE ALL",
    "DISCARD ALL",
    "SET hg_experimental_enable_access_odps_orc_via_holo = off",
    "RESET ALL",
    "SET ROLE x",
    "SET LOCAL search_path = s",
    "CREATE TEMP TABLE secret (id int)",
    "CREATE VIEW v AS SELECT * FROM secret",
    "/* osprey: route=sqe */ SELECT 1",
    "DO $$ BEGIN END $$",
];

static SNAPSHOT: LazyLock<Snapshot> = LazyLock::new(|| {
    let reason = Reason {
        relation: "public.secret".into(),
        via: Vec::new(),
        project: None,
        key: None,
        source: Source::Key,
    };
    Snapshot::builder("shop")
        .foreign("public", "open_data")
        .protect("public", "secret", Arc::new(reason))
        .build(1)
});

/// What is known, and changes while the session runs.
struct Known {
    generation: Cell<u64>,
    proven: Cell<bool>,
    reads_encrypted: bool,
}

impl World for Known {
    fn decide(
        &self,
        text: &[u8],
        whole: bool,
        names: &SessionNames,
        lexing: Lexing,
    ) -> Arc<Decision> {
        if whole {
            SNAPSHOT.decide_in(text, names, lexing)
        } else {
            SNAPSHOT.decide_prefix_in(text, names, lexing)
        }
    }

    fn begins(&self, head: &[u8], names: &SessionNames, lexing: Lexing) -> Option<Beginning> {
        SNAPSHOT.begins(head, names, lexing)
    }

    fn catalog_changed(&self, _names: &SessionNames) {}

    fn knows_the_catalogs(&self) -> bool {
        self.generation.get().is_multiple_of(2)
    }

    fn generation(&self) -> u64 {
        self.generation.get()
    }

    fn has_protected(&self) -> bool {
        true
    }

    fn reads_encrypted_already(&self) -> bool {
        self.reads_encrypted
    }

    fn may_need_retry(&self) -> bool {
        true
    }

    fn is_cancelled(&self) -> bool {
        false
    }

    fn keeps_all(&self) -> bool {
        self.proven.get() && !self.reads_encrypted
    }

    fn is_proven(&self) -> bool {
        self.proven.get()
    }

    fn replans(&self) -> Option<bool> {
        self.proven.get().then_some(self.reads_encrypted)
    }

    fn advise(&self, error: ErrorFields<'_>, _context: &ErrorContext<'_>) -> Option<Advised> {
        let known = error.message().starts_with(b"hos_exception");
        known.then(|| {
            let mut frame = Vec::new();
            compose::error(&mut frame, [(b'S', b"ERROR".as_slice()), (b'M', b"advice")]);
            Advised {
                frame,
                code: "OSP-1001",
                cure: Some(osprey::core::Cure::Route),
            }
        })
    }
}

/// The input is the policy, and then a script of who sends what.
pub(crate) fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let flags = input.byte();
    let policy = Policy {
        commands: Arc::new(Commands::new("route", "false")),
        per_statement: flags & 1 != 0,
        observe: flags & 0x90 == 0x90,
        enforce: flags & 2 != 0,
        retry_writes: true,
        retry_buffer: (flags & 4 != 0).then_some(1 << 10),
        inspect: if flags & 8 != 0 { 1 << 10 } else { 24 },
        relay_only: flags & 0xf0 == 0xf0,
        told: if flags & 1 != 0 {
            Told::All
        } else {
            Told::Protected
        },
        client_route: (flags & 0x30 == 0x30).then_some(flags & 0x40 == 0),
    };
    let mut session = Session {
        world: Known {
            generation: Cell::new(1),
            proven: Cell::new(flags & 0x40 != 0),
            reads_encrypted: flags & 0xc0 == 0xc0,
        },
        limit: HEADER + policy.inspect,
        relay_only: policy.relay_only,
        core: Core::new(policy, SessionNames::new(NameContext::new("ann", "public"))),
        out: Outbox::default(),
        client: Lane::default(),
        server: Lane::default(),
    };
    while !input.is_empty() {
        let what = input.byte();
        match what % 4 {
            0 => client_sends(&mut input, &mut session.client.input),
            1 => server_sends(&mut input, &mut session.server.input),
            2 => session.turn(usize::from(input.byte() % 64), usize::MAX),
            _ => session.turn(usize::MAX, usize::from(what / 4)),
        }
        if what & 0xfc == 0xfc {
            session.world.generation.set(u64::from(what));
        }
        if what & 0x0c == 0 {
            session.turn(usize::MAX, usize::MAX);
        }
    }
    session.turn(usize::MAX, usize::MAX);
}

/// One direction.
#[derive(Default)]
struct Lane {
    /// Sent, and not consumed.
    input: Vec<u8>,
    /// The core wants so many bytes at once.
    wanted: usize,
}

struct Session {
    world: Known,
    /// Bytes of a message of the client's that the core may want at once, at most.
    limit: usize,
    relay_only: bool,
    core: Core,
    out: Outbox,
    client: Lane,
    server: Lane,
}

impl Session {
    /// Up to so many bytes of each direction reach the core.
    fn turn(&mut self, front: usize, back: usize) {
        let Self {
            core, world, out, ..
        } = self;
        let lane = &mut self.client;
        while let Some(piece) = piece(lane, front) {
            let progress = core.on_frontend(&lane.input[..piece], world, out);
            core.check().expect("the invariants hold");
            check(progress, piece, self.limit, core);
            let done: Vec<u8> = lane.input.drain(..progress.consumed).collect();
            lane.wanted = progress.wanted;
            // Behind the end, what the client still sends is let go.
            let may_drop = core.ended().is_some();
            let sent = perform(&mut out.to_server, &done, may_drop);
            assert!(!self.relay_only || sent == done, "the relay changes bytes");
            perform_own(&mut out.to_client);
            if progress.consumed == 0 {
                break;
            }
        }
        let lane = &mut self.server;
        while let Some(piece) = piece(lane, back) {
            let progress = core.on_backend(&lane.input[..piece], world, out);
            core.check().expect("the invariants hold");
            check(progress, piece, LOOK_LIMIT, core);
            let done: Vec<u8> = lane.input.drain(..progress.consumed).collect();
            lane.wanted = progress.wanted;
            let sent = perform(&mut out.to_client, &done, true);
            assert!(!self.relay_only || sent == done, "the relay changes bytes");
            perform_own(&mut out.to_server);
            if progress.consumed == 0 {
                break;
            }
        }
        while let Some(event) = core.take_event() {
            if event == Event::Proven {
                world.proven.set(true);
            }
        }
        let _ = (
            std::mem::take(core.tally()),
            core.is_quiet(),
            core.is_busy(),
            core.backend_mid_message(),
        );
    }
}

/// How much of a lane's input the core sees next; `None`: nothing, or less than it wants.
fn piece(lane: &Lane, count: usize) -> Option<usize> {
    let piece = count.max(lane.wanted).min(lane.input.len());
    (piece > 0 && piece >= lane.wanted).then_some(piece)
}

fn check(progress: Progress, given: usize, limit: usize, core: &Core) {
    let Progress {
        consumed,
        wanted,
        blocked,
    } = progress;
    assert!(consumed <= given, "more than there was");
    assert!(wanted <= limit, "wants {wanted} bytes");
    let rest = given - consumed;
    let stuck = rest >= HEADER && wanted <= rest && !blocked && core.ended().is_none();
    assert!(!stuck, "stops within {rest} bytes without a reason");
}

/// Does what a queue says over the bytes that were consumed; what was sent.
fn perform(queue: &mut Queue, consumed: &[u8], may_drop: bool) -> Vec<u8> {
    let mut at = 0;
    let mut sent = Vec::new();
    for op in queue.iter() {
        match op {
            Op::Forward(bytes) => {
                sent.extend_from_slice(&consumed[at..at + bytes]);
                at += bytes;
            }
            Op::Drop(bytes) => {
                assert!(may_drop || bytes == 0, "the client's bytes are dropped");
                at += bytes;
            }
            Op::Own(bytes) => sent.extend_from_slice(bytes),
        }
    }
    assert_eq!(at, consumed.len(), "bytes are unaccounted for");
    assert_eq!(queue.advance(sent.len()), at);
    assert!(queue.is_empty());
    sent
}

/// What a walk in one direction says in the other is Osprey's own.
fn perform_own(queue: &mut Queue) {
    perform(queue, &[], false);
}

fn name(input: &mut Input<'_>) -> &'static str {
    input.choose(&["", "", "a", "b", "c"])
}

fn text<'a>(input: &mut Input<'a>) -> &'a [u8] {
    match usize::from(input.byte()) {
        index if index < 224 => TEXTS[index % TEXTS.len()].as_bytes(),
        more => input.bytes(more - 224),
    }
}

/// One message of the client's, well formed or not.
fn client_sends(input: &mut Input<'_>, to: &mut Vec<u8>) {
    let kind = input.choose(b"QQQPPBBEESSSDCHFdcfXp?R");
    if kind == b'R' {
        // Anything.
        let count = usize::from(input.byte());
        to.extend_from_slice(input.bytes(count));
        return;
    }
    compose::frame(to, kind, |to| match kind {
        b'Q' => {
            to.extend_from_slice(text(input));
            to.push(0);
        }
        b'P' => {
            to.extend_from_slice(name(input).as_bytes());
            to.push(0);
            to.extend_from_slice(text(input));
            to.extend_from_slice(&[0; 3]);
        }
        b'B' => {
            to.extend_from_slice(name(input).as_bytes());
            to.push(0);
            to.extend_from_slice(name(input).as_bytes());
            to.extend_from_slice(&[0; 7]);
        }
        b'E' => {
            to.extend_from_slice(name(input).as_bytes());
            to.extend_from_slice(&[0; 5]);
        }
        b'D' | b'C' => {
            to.push(input.choose(b"SP"));
            to.extend_from_slice(name(input).as_bytes());
            to.push(0);
        }
        b'd' | b'p' | b'?' => {
            let count = usize::from(input.byte());
            to.extend_from_slice(input.bytes(count));
        }
        _ => {}
    });
}

/// One message of the server's, well formed or not; what it belongs to is anyone's guess.
fn server_sends(input: &mut Input<'_>, to: &mut Vec<u8>) {
    let kind = input.choose(b"ZZZZ112233CCCDDTtnsIEEEENASGHWcdV?R");
    if kind == b'R' {
        let count = usize::from(input.byte());
        to.extend_from_slice(input.bytes(count));
        return;
    }
    compose::frame(to, kind, |to| match kind {
        b'Z' => to.push(input.choose(b"IIITE?")),
        b'C' => to.extend_from_slice(input.choose(&[
            b"SELECT 1\0".as_slice(),
            b"SET\0",
            b"BEGIN\0",
            b"COMMIT\0",
            b"ROLLBACK\0",
            b"COPY 1\0",
            b"DISCARD ALL\0",
            b"",
        ])),
        b'E' => {
            let fields: [&[u8]; 3] = input.choose(&[
                [b"ERROR".as_slice(), b"XX000", PANGU],
                [b"ERROR", b"22012", b"division by zero"],
                [b"ERROR", b"57014", b"canceling statement"],
                [b"ERROR", b"25P02", b"aborted"],
                [b"ERROR", b"42501", b"permission denied"],
                [b"FATAL", b"57P01", b"terminating connection"],
            ]);
            for (code, value) in b"SCM".iter().zip(fields) {
                to.push(*code);
                to.extend_from_slice(value);
                to.push(0);
            }
            to.push(0);
        }
        b'D' | b'T' | b't' | b'N' | b'A' | b'S' | b'd' | b'?' => {
            let count = usize::from(input.byte());
            to.extend_from_slice(input.bytes(count));
        }
        _ => {}
    });
}
