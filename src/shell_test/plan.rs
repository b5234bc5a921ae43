//! What a seed decides in advance: the settings, who connects and what they do, how the server treats
//! them, what befalls their connections, and when the process is told to drain or to reload.

use std::time::Duration;

use crate::session::Ask;

use super::network::Behaviour;
use super::random::Random;
use super::script::{Writer, query};

/// The last of the seeds in the tables of docs/simulation.md.
const SEEDS_OF_THE_TABLE: u64 = 10_000;

/// Everything that a seed decides in advance.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) clients: Vec<ClientPlan>,
    /// The addresses of the first upstream's host, and how they behave.
    pub(super) addresses: Vec<(u8, Behaviour)>,
    /// The step at which SIGTERM comes, if it comes before all clients are done.
    pub(super) drain_at: Option<usize>,
    /// The step at which a drain is made to end at once.
    pub(super) drain_now_at: Option<usize>,
    /// The steps at which the configuration is read again, with another upstream.
    pub(super) reload_at: Vec<usize>,
    pub(super) borrows: bool,
    pub(super) asks_for_tls: bool,
    /// Clients that ask for TLS get it.
    pub(super) offers_tls: bool,
    pub(super) per_statement: bool,
    pub(super) max_sessions: usize,
    pub(super) max_cancels: usize,
    /// The steps at which the console is told to KILL or CANCEL a session, whichever there is.
    pub(super) orders: Vec<(usize, Ask)>,
    pub(super) statement_timeout: Option<Duration>,
}

/// What a client does.
#[derive(Debug)]
pub(super) struct ClientPlan {
    /// Nothing befalls it: it must be served in full.
    pub(super) healthy: bool,
    pub(super) begins_at: usize,
    pub(super) begin: Begin,
    pub(super) steps: Vec<Step>,
    pub(super) server: ServerPlan,
    pub(super) window: usize,
    pub(super) buffer: usize,
    pub(super) faults: Vec<(usize, Fault)>,
    /// Nothing befalls its connections, whatever the server does.
    pub(super) undisturbed: bool,
}

/// How a client begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Begin {
    /// A startup packet, behind an SSLRequest and a GSSENCRequest or not.
    Startup {
        /// SSLRequest first.
        ssl: bool,
        /// GSSENCRequest first.
        gss: bool,
        /// In replication mode.
        replication: bool,
        /// The first statement comes in the same flight.
        pipelined: bool,
    },
    /// Bytes that are no startup packet.
    Garbage,
    /// Nothing at all.
    Silent,
    /// Cancel requests with keys that nobody has.
    CancelFlood(usize),
}

/// One thing that a client does.
#[derive(Debug, Clone)]
pub(super) enum Step {
    /// Sends messages; `waits`: once everything before is answered.
    Send {
        /// The messages.
        messages: Vec<Vec<u8>>,
        /// See above.
        waits: bool,
    },
    /// Waits until the server asks for COPY data.
    AwaitCopy,
    /// Waits until everything before is answered.
    AwaitReady,
    /// Asks to cancel, on a connection of its own.
    Cancel,
    /// Does nothing for so many milliseconds, reading included.
    Pause(u64),
    /// Reads no more.
    StopReading,
    /// Sends bytes that nobody looks at.
    Flood(usize),
    /// Ends.
    End(Ending),
}

impl Step {
    /// True if it sends a message with this text in it.
    fn sends(&self, text: &[u8]) -> bool {
        let Self::Send { messages, .. } = self else {
            return false;
        };
        messages
            .iter()
            .any(|message| message.windows(text.len()).any(|part| part == text))
    }
}

/// How a client ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    /// Closes.
    Close,
    /// Closes its sending half, and reads to the end.
    HalfClose,
    /// Resets.
    Reset,
    /// Stays, and does nothing.
    Mute,
}

/// How the server treats a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ServerPlan {
    pub(super) authentication: Authentication,
    pub(super) honours_cancels: bool,
    /// It fails after so many messages.
    pub(super) fails: Option<(usize, Failing)>,
    pub(super) notices: bool,
    /// It has much to say at login.
    pub(super) talks: bool,
}

/// How a server lets a client in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Authentication {
    /// At once.
    Trust,
    /// Asks for a password.
    Password,
    /// Performs SCRAM.
    Scram,
    /// Refuses.
    Refuse,
    /// Says nothing.
    Mute,
}

/// How a server fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Failing {
    /// A FATAL, then it closes.
    Fatal,
    /// A FATAL, and it stays.
    FatalAndStays,
    /// It closes.
    Close,
    /// It resets.
    Reset,
    /// It says and reads nothing more.
    Mute,
}

/// What befalls a client's connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// Nothing arrives for so many milliseconds.
    Stall(u64),
    /// Nothing passes any more.
    Cut,
    /// A RST towards both sides.
    Reset,
    /// The window shrinks to so many bytes.
    Window(usize),
    /// The same on the connection to the server.
    ServerStall(u64),
    /// A RST from the server's side.
    ServerReset,
}

impl Plan {
    /// The plan of one seed.
    pub(super) fn new(seed: u64) -> Self {
        let mut random = Random::new(seed, 2);
        let random = &mut random;
        let count = random.within(1..=5);
        let mut clients: Vec<_> = (0..count)
            .map(|client| ClientPlan::new(random, client))
            .collect();
        // What is played since the table of docs/simulation.md was made: its seeds stay what they were.
        let more = seed.is_multiple_of(8);
        for client in clients.iter_mut().filter(|_| more) {
            client.server.talks = true;
        }
        if seed % 16 == 10 || seed > SEEDS_OF_THE_TABLE && !seed.is_multiple_of(2) {
            let mut random = Random::new(seed, 7);
            for (number, client) in clients.iter_mut().enumerate() {
                client.leaves_writes_behind(number, &mut random);
            }
        }
        let mut reload_at = Vec::new();
        for _ in 0..random.below(3) {
            reload_at.push(random.below(400));
        }
        let (orders, statement_timeout) = Self::orders(seed);
        if !orders.is_empty() || statement_timeout.is_some() {
            for client in &mut clients {
                client.takes_any_cancel();
                if statement_timeout.is_some() {
                    client.server.heeds_cancels();
                }
            }
        }
        let first = random.pick(&[Behaviour::Mute, Behaviour::Refuses, Behaviour::Answers]);
        Self {
            clients,
            addresses: vec![(9, first), (1, Behaviour::Answers)],
            drain_at: random.one_in(3).then(|| random.below(500)),
            drain_now_at: random.one_in(3).then(|| random.below(600)),
            reload_at,
            borrows: random.one_in(4),
            asks_for_tls: random.one_in(2),
            offers_tls: more,
            per_statement: random.one_in(3),
            max_sessions: if random.one_in(6) { 1 } else { 100 },
            max_cancels: random.within(1..=4),
            orders,
            statement_timeout,
        }
    }

    /// What the console is told, and how long statements may take; of both there is something in some
    /// of the seeds alone: those of the table stay what they were.
    fn orders(seed: u64) -> (Vec<(usize, Ask)>, Option<Duration>) {
        let plays = seed % 8 == 4 || seed > SEEDS_OF_THE_TABLE && seed.is_multiple_of(2);
        if !plays {
            return (Vec::new(), None);
        }
        let mut random = Random::new(seed, 6);
        let mut orders = Vec::new();
        for _ in 0..random.below(12) {
            let order = if random.one_in(4) {
                Ask::Kill
            } else {
                Ask::Cancel
            };
            orders.push((random.below(500), order));
        }
        let timeout = random.one_in(2).then(|| random.pick(&[20, 300, 2_500]));
        (orders, timeout.map(Duration::from_millis))
    }
}

impl ClientPlan {
    /// Any of its statements may be cancelled, a second run, too.
    fn takes_any_cancel(&mut self) {
        let mut steps = self.steps.iter();
        let may_run_again = steps.any(|step| step.sends(b"from e"));
        self.server.notices &= !may_run_again;
    }

    /// It may go while the server does the first of its pipelined writes, if it is one of those that
    /// something befalls.
    fn leaves_writes_behind(&mut self, client: usize, random: &mut Random) {
        let speaks_sql = matches!(
            self.begin,
            Begin::Startup {
                replication: false,
                ..
            }
        );
        if self.healthy || !speaks_sql || random.one_in(3) {
            return;
        }
        self.steps.pop();
        self.steps.push(Step::AwaitReady);
        let messages = [0, 1].map(|n| {
            let id = 1_000 * client + 900 + n;
            query(&format!(
                "insert into t values ({id}) /* pg_sleep_ms=3000 */"
            ))
        });
        self.steps.push(Step::Send {
            messages: messages.into(),
            waits: true,
        });
        let ending = random.pick(&[Ending::Close, Ending::Reset, Ending::HalfClose]);
        self.steps.push(Step::End(ending));
    }

    fn new(random: &mut Random, client: usize) -> Self {
        let healthy = random.one_in(2);
        let begin = match random.below(20) {
            0 if !healthy => Begin::Garbage,
            1 if !healthy => Begin::Silent,
            2 if !healthy => Begin::CancelFlood(random.within(2..=12)),
            _ => Begin::Startup {
                ssl: random.one_in(3),
                gss: random.one_in(8),
                replication: random.one_in(10),
                pipelined: random.one_in(6),
            },
        };
        let (window, buffer) = (
            random.pick(&[700, 5_000, 1 << 16]),
            random.pick(&[700, 5_000, 1 << 16]),
        );
        let mut writer = Writer {
            moves_much: window.min(buffer) > 1_000,
            random,
            client,
            number: 0,
            steps: Vec::new(),
            tame: healthy,
        };
        if let Begin::Startup {
            replication: true, ..
        } = begin
        {
            let id = writer.id();
            let text = format!("start_replication {id} /* rows=40 size=3000 */");
            writer.send(vec![query(&text)], true);
        } else {
            for _ in 0..writer.random.within(1..=6) {
                writer.one();
                if writer.random.one_in(20) {
                    let pause = writer.random.pick(&[50, 3_000, 200_000]);
                    writer.steps.push(Step::Pause(pause));
                }
            }
        }
        writer.ending();
        let steps = writer.steps;
        // In a transaction or a pipeline, or behind a cancel that hits Osprey's own SET, a table that is known to be
        // encrypted fails, too.
        let may_fail = |step: &Step| {
            step.sends(b"begin") || step.sends(b"\0\0\0\0\0") || matches!(step, Step::Cancel)
        };
        let reads_unknown = steps.iter().any(|step| step.sends(b"from ext_"))
            || steps.iter().any(may_fail) && steps.iter().any(|step| step.sends(b"from enc_"));
        let mut server = ServerPlan::new(random, healthy);
        // What of two runs' notices a client gets is the core's own affair, and tested there.
        server.notices &= !reads_unknown;
        if let Begin::Startup {
            pipelined: true, ..
        } = begin
        {
            // A client that does not wait cannot be asked anything.
            server.authentication = Authentication::Trust;
        }
        let mut faults = Vec::new();
        if !healthy {
            for _ in 0..random.below(3) {
                let fault = match random.below(12) {
                    0..=2 => Fault::Stall(random.pick(&[20, 2_000, 20_000])),
                    3 => Fault::Cut,
                    4 => Fault::Reset,
                    5..=7 => Fault::Window(random.pick(&[0, 1, 100])),
                    8..=10 => Fault::ServerStall(random.pick(&[20, 2_000, 20_000])),
                    _ => Fault::ServerReset,
                };
                faults.push((random.below(300), fault));
            }
        }
        Self {
            healthy,
            begins_at: random.below(150),
            begin,
            steps,
            server,
            window,
            buffer,
            undisturbed: faults.is_empty(),
            faults,
        }
    }
}

impl ServerPlan {
    /// Ends what it is asked to cancel: another one would be asked every two seconds for ever.
    fn heeds_cancels(&mut self) {
        self.honours_cancels = true;
        self.fails = self.fails.filter(|(_, how)| *how != Failing::Mute);
    }

    /// That of a server of which nobody has said anything.
    pub(super) fn kind() -> Self {
        Self {
            authentication: Authentication::Trust,
            honours_cancels: true,
            fails: None,
            notices: false,
            talks: false,
        }
    }

    fn new(random: &mut Random, healthy: bool) -> Self {
        use Authentication::{Mute, Password, Refuse, Scram, Trust};
        let mut authentication = random.pick(&[Trust, Trust, Password, Scram]);
        if !healthy && random.one_in(6) {
            authentication = random.pick(&[Refuse, Mute]);
        }
        let failing = [
            Failing::Fatal,
            Failing::FatalAndStays,
            Failing::Close,
            Failing::Reset,
            Failing::Mute,
        ];
        let fails = !healthy && random.one_in(3);
        Self {
            authentication,
            honours_cancels: healthy || !random.one_in(4),
            fails: fails.then(|| (random.below(30), random.pick(&failing))),
            notices: random.one_in(2),
            talks: false,
        }
    }
}
