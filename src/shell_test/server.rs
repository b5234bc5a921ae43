//! The model of a server's end of one connection: startup and authentication, then a
//! [`Backend`], and the ways in which servers fail.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use crate::wire::Header;
use crate::wire::startup::Packet;

use super::backend::{Backend, Said, Sort, error};
use super::line::{Read, front};
use super::plan::{Authentication, Failing, ServerPlan};
use super::random::Random;
use super::record::{Origin, Record, show};
use super::script::frame;
use super::wire::Peer;

/// Bytes of answers beyond which a server does not read, as one that waits in `send` does not.
const BACKLOG: usize = 64 << 10;

/// What happened that concerns others.
#[derive(Debug)]
pub(super) enum Effect {
    /// Nothing.
    None,
    /// A cancel request with this key has come, and its connection is closed.
    Cancel(Vec<u8>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Start,
    Authenticating(u8),
    Ready,
    /// Holds a cancel request, until it acts on it.
    Cancelling,
    /// Has failed, and ends so once everything is sent.
    Failing(Failing),
    Gone,
}

#[derive(Debug)]
struct Asleep {
    until: Option<Instant>,
    frame: Vec<u8>,
    origin: Origin,
}

/// One connection to a server.
#[derive(Debug)]
pub(super) struct ServerConnection {
    pub(super) peer: Peer,
    /// Which server it is, by the number of its address.
    pub(super) server: u8,
    /// Whose session it is.
    pub(super) client: Option<usize>,
    /// The body of BackendKeyData.
    pub(super) key: Vec<u8>,
    /// It has said ReadyForQuery.
    pub(super) logged_in: bool,
    /// When it was made.
    pub(super) made: Instant,
    /// It ended with a RST of its own.
    pub(super) has_reset: bool,
    /// It was told of the end in good order.
    pub(super) saw_fin: bool,
    state: State,
    plan: ServerPlan,
    backend: Backend,
    input: Vec<u8>,
    out: VecDeque<u8>,
    asleep: Option<Asleep>,
    cancelled: bool,
    /// What runs is cancelled for a client that is gone, or is to go.
    pub(super) cut_off: bool,
    /// A write was lost by that.
    has_lost: bool,
    messages: usize,
    /// What it did last, for the list of events.
    pub(super) did: String,
}

impl ServerConnection {
    pub(super) fn new(peer: Peer, server: u8) -> Self {
        Self {
            peer,
            server,
            client: None,
            key: Vec::new(),
            logged_in: false,
            made: Instant::now(),
            has_reset: false,
            saw_fin: false,
            state: State::Start,
            plan: ServerPlan::kind(),
            backend: Backend::new(false),
            input: Vec::new(),
            out: VecDeque::new(),
            asleep: None,
            cancelled: false,
            cut_off: false,
            has_lost: false,
            messages: 0,
            did: String::new(),
        }
    }

    /// True if it holds a cancel request.
    pub(super) fn is_cancelling(&self) -> bool {
        self.state == State::Cancelling
    }

    /// The body of the key that the cancel request it holds names.
    pub(super) fn cancel_key(&self) -> &[u8] {
        self.input.get(8..).unwrap_or_default()
    }

    /// True while it is open at this end.
    pub(super) fn is_open(&self) -> bool {
        self.state != State::Gone
    }

    /// A cancel request names its key: the statement that runs ends, if one does. Whose it is.
    pub(super) fn cancel(&mut self) -> Option<Origin> {
        let asleep = self.asleep.as_ref();
        let asleep = asleep.filter(|_| self.plan.honours_cancels)?;
        self.cancelled = true;
        Some(asleep.origin)
    }

    /// When it goes on by itself.
    pub(super) fn wakes_at(&self) -> Option<Instant> {
        self.asleep.as_ref().and_then(|asleep| asleep.until)
    }

    /// True if [`ServerConnection::act`] has something to do.
    pub(super) fn can_act(&self, now: Instant) -> bool {
        match self.state {
            State::Gone | State::Failing(Failing::Mute) => false,
            State::Cancelling => true,
            State::Failing(_) => {
                self.out.is_empty() || self.peer.may_write() || self.peer.may_read()
            }
            _ => self.may_flush() || self.is_awake(now) || self.may_take(),
        }
    }

    fn may_flush(&self) -> bool {
        !self.out.is_empty() && self.peer.may_write()
    }

    fn is_awake(&self, now: Instant) -> bool {
        let asleep = self.asleep.as_ref();
        asleep
            .is_some_and(|asleep| self.cancelled || asleep.until.is_some_and(|until| now >= until))
    }

    fn may_take(&self) -> bool {
        let listens = self.asleep.is_none() && self.out.len() < BACKLOG;
        listens && (self.has_frame() || self.peer.may_read())
    }

    fn has_frame(&self) -> bool {
        match self.state {
            State::Start => matches!(Packet::length(&self.input),
                Ok(Some(length)) if self.input.len() >= length),
            _ => matches!(Header::read(&self.input),
                Ok(Some(header)) if self.input.len() >= header.frame),
        }
    }

    /// Does one thing.
    ///
    /// # Errors
    ///
    /// What has come is not what may come.
    pub(super) fn act(
        &mut self,
        records: &mut [Record],
        plan_of: impl Fn(usize) -> (ServerPlan, bool),
        random: &mut Random,
    ) -> Result<Effect, String> {
        let now = Instant::now();
        self.did = format!("{:?}", self.state);
        if self.state == State::Cancelling {
            if random.one_in(3) {
                let key = self.cancel_key().to_vec();
                self.end();
                return Ok(Effect::Cancel(key));
            }
            return Ok(Effect::None);
        }
        if self.may_flush() && (random.one_in(2) || !(self.is_awake(now) || self.may_take())) {
            self.flush(random);
            return Ok(Effect::None);
        }
        if let State::Failing(how) = self.state {
            self.go_on_failing(how, random);
            return Ok(Effect::None);
        }
        if self.is_awake(now) {
            if let Some(asleep) = self.asleep.take() {
                let cancelled = std::mem::take(&mut self.cancelled);
                self.run(&asleep.frame, asleep.origin, cancelled, records, random)?;
            }
            return Ok(Effect::None);
        }
        if !self.may_take() {
            return Ok(Effect::None);
        }
        if !self.has_frame() {
            let read = self.peer.read(&mut self.input, random.within(1..=20_000));
            self.did = format!("reads {read:?}");
            match read {
                Read::Fin => {
                    self.saw_fin = true;
                    self.end();
                }
                Read::Reset => self.state = State::Gone,
                _ => {}
            }
            return Ok(Effect::None);
        }
        match self.state {
            State::Start => self.start(records, plan_of)?,
            State::Authenticating(asked) => self.authenticate(asked, records)?,
            _ => self.take(records, random)?,
        }
        Ok(Effect::None)
    }

    /// It ends with a RST, wherever it is.
    pub(super) fn fail_at_once(&mut self) {
        if self.is_open() {
            self.has_reset = true;
            self.peer.reset();
            self.state = State::Gone;
        }
    }

    fn end(&mut self) {
        self.peer.close();
        self.state = State::Gone;
    }

    fn flush(&mut self, random: &mut Random) {
        let most = random.part(self.out.len().min(1 << 16));
        let part = front(&self.out, most);
        self.did = format!("writes {most} bytes");
        match self.peer.write(&part) {
            Some(written) => drop(self.out.drain(..written)),
            None => self.state = State::Gone,
        }
    }

    fn go_on_failing(&mut self, how: Failing, random: &mut Random) {
        if !self.out.is_empty() {
            self.flush(random);
            return;
        }
        match how {
            Failing::Fatal | Failing::Close => self.end(),
            Failing::Reset => {
                self.has_reset = true;
                self.peer.reset();
                self.state = State::Gone;
            }
            Failing::FatalAndStays | Failing::Mute => {
                let mut ignored = Vec::new();
                if matches!(
                    self.peer.read(&mut ignored, 10_000),
                    Read::Fin | Read::Reset
                ) {
                    self.end();
                }
            }
        }
    }

    fn start(
        &mut self,
        records: &mut [Record],
        plan_of: impl Fn(usize) -> (ServerPlan, bool),
    ) -> Result<(), String> {
        let length = Packet::length(&self.input).ok().flatten().unwrap_or(8);
        let packet: Vec<u8> = self.input.drain(..length).collect();
        match Packet::read(&packet) {
            Ok(Packet::SslRequest) => self.out.push_back(b'N'),
            Ok(Packet::Cancel(_)) => {
                self.state = State::Cancelling;
                self.input = packet;
            }
            Ok(Packet::Startup(startup)) => {
                let user = String::from_utf8_lossy(startup.user()).into_owned();
                let client: usize = user.trim_start_matches('c').parse().unwrap_or_default();
                let expected = startup_packet(client, startup.is_replication());
                if packet != expected {
                    return Err("the server received another startup packet".into());
                }
                let (plan, replication) = plan_of(client);
                self.client = Some(client);
                self.plan = plan;
                self.backend = Backend::new(replication);
                let client_number = u32::try_from(client).unwrap_or_default();
                self.key = [client_number.to_be_bytes(), [self.server, 7, 7, 7]].concat();
                let record = &mut records[client];
                match plan.authentication {
                    Authentication::Trust => self.let_in(record)?,
                    Authentication::Password => self.ask(3, b"", record)?,
                    Authentication::Scram => self.ask(10, b"SCRAM-SHA-256\0\0", record)?,
                    Authentication::Refuse => {
                        let refusal = error("FATAL", "28P01", "password authentication failed");
                        self.say(refusal, record)?;
                        self.state = State::Failing(Failing::Close);
                    }
                    Authentication::Mute => self.state = State::Failing(Failing::Mute),
                }
            }
            other => return Err(format!("the server received {other:?} at startup")),
        }
        Ok(())
    }

    fn ask(&mut self, what: u32, rest: &[u8], record: &mut Record) -> Result<(), String> {
        let body = [&what.to_be_bytes(), rest].concat();
        self.state = State::Authenticating(what as u8);
        self.say(frame(b'R', &body), record)
    }

    fn authenticate(&mut self, asked: u8, records: &mut [Record]) -> Result<(), String> {
        let Some(client) = self.client else {
            return Ok(());
        };
        let record = &mut records[client];
        let frame = self.next_frame();
        if record.arrives(&frame)? == Origin::Own {
            return Err("Osprey itself answered an authentication request".into());
        }
        match asked {
            10 => self.ask(11, b"r=nonce,s=salt,i=4096", record),
            11 => {
                self.say(super::script::frame(b'R', b"\0\0\0\x0cv=signature"), record)?;
                self.let_in(record)
            }
            _ => self.let_in(record),
        }
    }

    fn let_in(&mut self, record: &mut Record) -> Result<(), String> {
        self.say(frame(b'R', &[0; 4]), record)?;
        if self.plan.talks {
            let long = format!("application_name\0{}\0", "x".repeat(3_000));
            self.say(frame(b'S', long.as_bytes()), record)?;
        }
        let encoding = frame(b'S', b"client_encoding\0UTF8\0");
        self.say(encoding, record)?;
        self.say(frame(b'K', &self.key.clone()), record)?;
        self.say(frame(b'Z', b"I"), record)?;
        self.state = State::Ready;
        self.logged_in = true;
        Ok(())
    }

    fn say(&mut self, bytes: Vec<u8>, record: &mut Record) -> Result<(), String> {
        self.out.extend(&bytes);
        let sort = Sort::Answer;
        record.says(Said { bytes, sort }, Origin::Client)
    }

    fn next_frame(&mut self) -> Vec<u8> {
        let frame = Header::read(&self.input).ok().flatten();
        let length = frame.map_or(0, |header| header.frame);
        self.input.drain(..length).collect()
    }

    fn take(&mut self, records: &mut [Record], random: &mut Random) -> Result<(), String> {
        let Some(client) = self.client else {
            return Ok(());
        };
        let frame = self.next_frame();
        let origin = records[client].arrives(&frame)?;
        self.did = format!("takes {} of {origin:?}", show(&frame));
        self.messages += 1;
        if let Some((after, how)) = self.plan.fails
            && self.messages > after
        {
            if matches!(how, Failing::Fatal | Failing::FatalAndStays) {
                let fatal = error(
                    "FATAL",
                    "57P01",
                    "terminating connection due to administrator command",
                );
                self.say(fatal, &mut records[client])?;
            } else if how == Failing::Reset {
                self.out.clear();
            }
            self.state = State::Failing(how);
            return Ok(());
        }
        if frame[0] == b'X' {
            self.end();
            return Ok(());
        }
        let takes = match (origin, self.backend.takes(frame[0], &frame[5..])) {
            (Origin::Own, Some(0)) if random.one_in(4) => Some(random.below(50)),
            (_, takes) => takes,
        };
        if takes == Some(0) {
            return self.run(&frame, origin, false, records, random);
        }
        let until = takes.map(|time| Instant::now() + Duration::from_millis(time as u64));
        self.asleep = Some(Asleep {
            until,
            frame,
            origin,
        });
        Ok(())
    }

    fn run(
        &mut self,
        frame: &[u8],
        origin: Origin,
        cancelled: bool,
        records: &mut [Record],
        random: &mut Random,
    ) -> Result<(), String> {
        let Some(client) = self.client else {
            return Ok(());
        };
        self.did = format!("runs {} of {origin:?}, cancelled: {cancelled}", show(frame));
        let is_cut_off = std::mem::take(&mut self.cut_off) && cancelled;
        self.has_lost |= is_cut_off && self.backend.would_write(frame[0], &frame[5..]);
        self.backend.message(frame[0], &frame[5..], cancelled);
        let wrote =
            |said: &Said| said.bytes.starts_with(b"C") && said.bytes[5..].starts_with(b"INSERT");
        if self.has_lost && self.backend.said.iter().any(wrote) {
            return Err("it writes, though what was to be written before was lost".into());
        }
        if self.plan.notices && random.one_in(8) {
            let (tag, body) = random.pick(&[
                // As of a server that goes: less than a warning belongs to a statement.
                (b'N', &b"SWARNING\0VWARNING\0C57P02\0Mlook\0\0"[..]),
                (b'S', &b"application_name\0x\0"[..]),
                (b'A', &b"\0\0\0\x01channel\0payload\0"[..]),
            ]);
            self.backend.put_as(Sort::AnyTime, tag, body);
        }
        for said in std::mem::take(&mut self.backend.said) {
            self.out.extend(&said.bytes);
            records[client].says(said, origin)?;
        }
        Ok(())
    }
}

/// The startup packet of a client, by its number.
pub(super) fn startup_packet(client: usize, replication: bool) -> Vec<u8> {
    let mut body = format!("user\0c{client}\0database\0sales\0").into_bytes();
    if replication {
        body.extend_from_slice(b"replication\0database\0");
    }
    body.push(0);
    let mut packet = Vec::new();
    let length = u32::try_from(8 + body.len()).unwrap_or_default();
    packet.extend_from_slice(&length.to_be_bytes());
    packet.extend_from_slice(&196_608_u32.to_be_bytes());
    packet.extend_from_slice(&body);
    packet
}
