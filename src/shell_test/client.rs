//! The model of a client: it goes through its script, reads what comes, and knows when it is to wait.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use super::line::{Read, front};
use super::plan::{Begin, ClientPlan, Ending, Step};
use super::random::Random;
use super::record::{Record, show};
use super::script::frame;
use super::server::startup_packet;
use super::tls::Secure;
use super::wire::Peer;

/// How long a client waits before it asks to cancel once more.
const CANCEL_AGAIN: Duration = Duration::from_secs(5);

/// How far a client has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Not connected yet.
    Before,
    /// Waits for the answers to its requests for encryption.
    Asking,
    /// Has sent its startup packet.
    Running,
    /// Has done all it wanted, and reads to the end.
    Leaving,
    /// Has ended its connection, or seen its end.
    Over,
}

/// What a client wants of the simulation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wish {
    /// Nothing.
    None,
    /// A connection that cancels its statement.
    Cancel,
}

/// One client.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) number: usize,
    pub(super) plan: ClientPlan,
    pub(super) peer: Option<Peer>,
    /// How it saw the connection end.
    pub(super) saw: Option<Read>,
    /// Since when it is gone as far as Osprey can know.
    pub(super) gone_since: Option<Instant>,
    pub(super) paused_until: Option<Instant>,
    /// It has reset its connection in the middle of a session, and said no goodbye before.
    pub(super) has_reset: bool,
    phase: Phase,
    step: usize,
    out: VecDeque<u8>,
    secure: Option<Secure>,
    /// Cycles sent.
    cycles: usize,
    /// COPYs of which data was asked for.
    copies: usize,
    answered: usize,
    to_ask: Vec<u8>,
    reads: bool,
    cancelled_at: Option<Instant>,
    /// What it did last, for the list of events.
    pub(super) did: String,
}

impl Client {
    pub(super) fn new(number: usize, plan: ClientPlan) -> Self {
        Self {
            number,
            plan,
            peer: None,
            saw: None,
            gone_since: None,
            paused_until: None,
            has_reset: false,
            phase: Phase::Before,
            step: 0,
            out: VecDeque::new(),
            secure: None,
            cycles: 0,
            copies: 0,
            answered: 0,
            to_ask: Vec::new(),
            reads: true,
            cancelled_at: None,
            did: String::new(),
        }
    }

    /// True if it has done what makes Osprey end its session or statement: it has left, or said goodbye.
    pub(super) fn has_left(&self, record: &Record) -> bool {
        let goodbye = record.sent.last().is_some_and(|message| message[0] == b'X');
        goodbye || matches!(self.phase, Phase::Leaving | Phase::Over)
    }

    /// True if its plan makes it a client with a session.
    pub(super) fn wants_session(&self) -> bool {
        matches!(self.plan.begin, Begin::Startup { .. })
    }

    /// True if it has gone through all it wanted to do.
    pub(super) fn is_done(&self) -> bool {
        matches!(self.phase, Phase::Over)
    }

    /// True if it went through its whole script.
    pub(super) fn has_finished(&self) -> bool {
        // All but the very end, where the server may have been first.
        self.step + 1 >= self.plan.steps.len()
    }

    /// Where it is in its script, for a report.
    pub(super) fn position(&self, record: &Record) -> String {
        let next: String = format!("{:?}", self.plan.steps.get(self.step))
            .chars()
            .take(60)
            .collect();
        format!(
            "client {} stands before step {} of {}, {next}; {} of {} cycles are answered; saw {:?}",
            self.number,
            self.step,
            self.plan.steps.len(),
            record.ready.saturating_sub(1),
            self.cycles,
            self.saw
        )
    }

    /// Connected: begins to speak.
    pub(super) fn begin(&mut self, peer: Peer, record: &mut Record) {
        peer.set_buffers(self.plan.window, self.plan.buffer);
        self.peer = Some(peer);
        self.phase = Phase::Running;
        match self.plan.begin {
            Begin::Startup { ssl, gss, .. } => {
                if ssl {
                    self.to_ask.push(47);
                }
                if gss {
                    self.to_ask.push(48);
                }
                self.ask_or_start(record);
            }
            Begin::Garbage => self.say(b"X\0\0\0\x04"),
            Begin::Silent | Begin::CancelFlood(_) => {}
        }
    }

    fn ask_or_start(&mut self, record: &mut Record) {
        if let Some(code) = self.to_ask.pop() {
            self.phase = Phase::Asking;
            self.out.extend([0, 0, 0, 8, 4, 210, 22, code]);
            return;
        }
        self.phase = Phase::Running;
        if let Begin::Startup {
            replication,
            pipelined,
            ..
        } = self.plan.begin
        {
            self.say(&startup_packet(self.number, replication));
            if pipelined && let Some(Step::Send { messages, .. }) = self.plan.steps.first().cloned()
            {
                self.step = 1;
                self.send(messages, record);
            }
        }
    }

    /// Says something, over TLS if that has been begun.
    fn say(&mut self, bytes: &[u8]) {
        match &mut self.secure {
            Some(secure) => secure.seal(bytes, &mut self.out),
            None => self.out.extend(bytes),
        }
    }

    fn send(&mut self, messages: Vec<Vec<u8>>, record: &mut Record) {
        for message in messages {
            self.say(&message);
            self.cycles += usize::from(matches!(message[0], b'Q' | b'S'));
            record.sent.push(message);
        }
    }

    fn is_paused(&self, now: Instant) -> bool {
        self.paused_until.is_some_and(|until| now < until)
    }

    pub(super) fn is_answered(&self, record: &Record) -> bool {
        record.ready > self.cycles
    }

    /// True if the next step can be taken.
    fn may_step(&self, record: &Record) -> bool {
        if self.phase != Phase::Running || self.out.len() > 1 << 16 {
            return false;
        }
        let next = self.plan.steps.get(self.step);
        if !self.wants_session() {
            return self.plan.begin == Begin::Garbage && matches!(next, Some(Step::End(_)));
        }
        if record.ready == 0 {
            return false;
        }
        match next {
            Some(Step::Send { waits: true, .. } | Step::AwaitReady) => self.is_answered(record),
            Some(Step::AwaitCopy) => record.copy_in > self.copies || self.is_answered(record),
            Some(_) => true,
            None => false,
        }
    }

    fn may_cancel_again(&self, now: Instant, record: &Record) -> bool {
        let waits = matches!(self.plan.steps.get(self.step), Some(Step::AwaitReady));
        let long_ago = self.cancelled_at.is_some_and(|at| now >= at + CANCEL_AGAIN);
        self.phase == Phase::Running && waits && long_ago && !self.is_answered(record)
    }

    fn has_to_authenticate(&self, record: &Record) -> bool {
        self.phase == Phase::Running && record.asked > self.answered
    }

    /// When it goes on by itself.
    pub(super) fn wakes_at(&self) -> Option<Instant> {
        self.paused_until
            .or(self.cancelled_at.map(|at| at + CANCEL_AGAIN))
    }

    /// True if [`Client::act`] has something to do.
    pub(super) fn can_act(&self, now: Instant, record: &Record) -> bool {
        let Some(peer) = &self.peer else { return false };
        if self.phase == Phase::Over || self.is_paused(now) {
            return false;
        }
        (!self.out.is_empty() && peer.may_write())
            || (self.reads && peer.may_read())
            || self.has_to_authenticate(record)
            || self.may_step(record)
            || self.may_cancel_again(now, record)
    }

    /// Does one thing.
    ///
    /// # Errors
    ///
    /// What came is not what may come.
    pub(super) fn act(
        &mut self,
        record: &mut Record,
        may_say: impl Fn(&str) -> bool,
        random: &mut Random,
    ) -> Result<Wish, String> {
        let now = Instant::now();
        let Some(peer) = self.peer.clone() else {
            return Ok(Wish::None);
        };
        if self.reads && peer.may_read() && random.one_in(2) {
            self.read(&peer, record, may_say, random)?;
        } else if !self.out.is_empty() && peer.may_write() {
            let most = random.part(self.out.len().min(1 << 16));
            let part = front(&self.out, most);
            self.did = format!("writes {most} bytes");
            match peer.write(&part) {
                Some(written) => drop(self.out.drain(..written)),
                None => self.out.clear(),
            }
        } else if self.has_to_authenticate(record) {
            self.answered += 1;
            self.did = "authenticates".into();
            let answer = frame(b'p', format!("answer {}\0", self.answered).as_bytes());
            self.send(vec![answer], record);
        } else if self.may_step(record) {
            return Ok(self.take_step(&peer, record, now));
        } else if self.may_cancel_again(now, record) {
            self.cancelled_at = Some(now);
            return Ok(Wish::Cancel);
        } else if self.reads && peer.may_read() {
            self.read(&peer, record, may_say, random)?;
        }
        Ok(Wish::None)
    }

    fn read(
        &mut self,
        peer: &Peer,
        record: &mut Record,
        may_say: impl Fn(&str) -> bool,
        random: &mut Random,
    ) -> Result<(), String> {
        let mut came = Vec::new();
        let read = peer.read(&mut came, random.within(1..=20_000));
        self.did = format!("reads {read:?}: {}", show(&came));
        match read {
            Read::Nothing => {}
            Read::Bytes(_) if self.phase == Phase::Asking => {
                match came.as_slice() {
                    b"N" => {}
                    b"S" if self.secure.is_none() => self.secure = Some(Secure::new(&mut self.out)),
                    _ => {
                        return Err(format!(
                            "a request for encryption was answered with {came:?}"
                        ));
                    }
                }
                self.ask_or_start(record);
            }
            Read::Bytes(_) => {
                if self.plan.begin == Begin::Garbage {
                    return Err("what is no startup packet was answered".into());
                }
                if let Some(secure) = &mut self.secure {
                    came = secure.open(&came, &mut self.out)?;
                }
                record.comes(&came, may_say)?;
            }
            Read::Fin | Read::Reset => {
                self.saw = Some(read);
                self.leave(peer);
            }
        }
        Ok(())
    }

    /// Closes.
    fn leave(&mut self, peer: &Peer) {
        peer.close();
        self.phase = Phase::Over;
    }

    fn take_step(&mut self, peer: &Peer, record: &mut Record, now: Instant) -> Wish {
        // A client that ends or goes silent says first what it has to say.
        let next = self.plan.steps.get(self.step).cloned();
        self.did = format!("{next:?}").chars().take(60).collect();
        if matches!(next, Some(Step::End(_))) && !self.out.is_empty() {
            return Wish::None;
        }
        self.step += 1;
        self.paused_until = None;
        match next {
            Some(Step::Send { messages, .. }) => {
                self.cancelled_at = None;
                self.send(messages, record);
            }
            Some(Step::AwaitCopy) => self.copies = record.copy_in,
            Some(Step::AwaitReady) => self.cancelled_at = None,
            Some(Step::Cancel) => {
                self.cancelled_at = Some(now);
                return Wish::Cancel;
            }
            Some(Step::Pause(time)) => {
                self.paused_until = Some(now + Duration::from_millis(time));
            }
            Some(Step::StopReading) => self.reads = false,
            Some(Step::Flood(bytes)) => self.say(&vec![0; bytes]),
            Some(Step::End(Ending::Close)) => self.leave(peer),
            Some(Step::End(Ending::HalfClose)) => {
                peer.shut_down();
                self.reads = true;
                self.phase = Phase::Leaving;
            }
            Some(Step::End(Ending::Reset)) => {
                let last = record.sent.last().map_or(0, |message| message[0]);
                let is_broken = record.sent.last().is_some_and(|message| message.len() < 6);
                self.has_reset = last != b'X' && !is_broken;
                self.end();
            }
            Some(Step::End(Ending::Mute)) => {
                self.reads = false;
                self.phase = Phase::Leaving;
            }
            None => {}
        }
        Wish::None
    }

    /// Ends its connection with a RST, wherever it is.
    pub(super) fn end(&mut self) {
        if let Some(peer) = &self.peer {
            peer.reset();
        }
        self.phase = Phase::Over;
    }
}
