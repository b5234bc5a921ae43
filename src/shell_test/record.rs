//! The oracle of one session: what its client sent, what its server said, and what of it has come
//! through.
//!
//! Towards the server, each message must be the next one of the client's, or Osprey's own: a
//! statement marked `/* osprey */`, what belongs to its own prepared statement, the Sync behind it, a
//! question about the catalogs while the session is borrowed; or a cycle that failed on encrypted data is
//! run once more from its first message. Every statement of a client's is unique, so a message that
//! is lost, doubled or out of order is none of these.
//!
//! Towards the client, each frame must be the next one that the server said in answer to the
//! client's own messages; in place of the error about encrypted data, the rewritten one. The last
//! frame may be a FATAL of Osprey's own, where there is a reason for it.

use tokio::time::Instant;

use crate::wire::Header;
use crate::wire::backend::ErrorFields;
use crate::wire::compose::OWN_NAME;

use super::backend::{Said, Sort};

/// Whose message has reached the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    /// The client's.
    Client,
    /// Osprey's.
    Own,
}

/// What the client and the server of one session have said, and how far it has come.
#[derive(Debug, Default)]
pub(super) struct Record {
    /// The client's messages behind its startup packet.
    pub(super) sent: Vec<Vec<u8>>,
    /// How many of them have reached the server.
    pub(super) arrived: usize,
    /// Where each cycle began whose messages have arrived: in `sent`, in `expected`.
    cycles: Vec<(usize, usize)>,
    /// Answers of a second run that the client has from the first.
    had: Vec<Vec<u8>>,
    /// A second run was cancelled: so many cycles of it end before the one that the client waits for,
    /// whose answer the cancel is.
    cancelled_before: Option<usize>,
    /// The last message was an own one of the extended protocol.
    own_cycle: bool,
    /// What the server has said for the client.
    expected: Vec<Said>,
    /// How many of these frames have come.
    came: usize,
    /// The rest of what has come: less than a frame.
    partial: Vec<u8>,
    /// The error of a first run was kept from the client: it comes if the server ends before the second.
    withheld: bool,
    /// SQLSTATE of the FATAL of Osprey's own that came last; or of the error of a first run, where the
    /// server was gone before the second.
    pub(super) fatal: Option<String>,
    /// A FATAL has come, of the server's or of Osprey's.
    pub(super) told: bool,
    /// ReadyForQuery frames that have come.
    pub(super) ready: usize,
    /// How often the client has been asked for COPY data.
    pub(super) copy_in: usize,
    /// Authentication requests that want an answer.
    pub(super) asked: usize,
    /// The body of BackendKeyData, as the client knows it.
    pub(super) key: Vec<u8>,
    /// Cycles that were run again.
    pub(super) again: usize,
    /// Where in `sent` the client began anew, everything before being answered, and when.
    pub(super) begun_anew: Vec<(usize, Instant)>,
}

impl Record {
    /// A message arrives at the server: whose it is.
    ///
    /// # Errors
    ///
    /// Nobody's: what is wrong, in words.
    pub(super) fn arrives(&mut self, frame: &[u8]) -> Result<Origin, String> {
        let tag = frame[0];
        if is_own(frame) {
            self.own_cycle = tag != b'Q';
            return Ok(Origin::Own);
        }
        if std::mem::take(&mut self.own_cycle) && tag == b'S' && !self.is_within_cycle() {
            return Ok(Origin::Own);
        }
        if self
            .sent
            .get(self.arrived)
            .is_some_and(|next| next == frame)
        {
            if !self.is_within_cycle() {
                self.cycles.push((self.arrived, self.expected.len()));
            }
            self.arrived += 1;
            return Ok(Origin::Client);
        }
        if let Some(error) = self.failed_at() {
            // A transaction is run again from its BEGIN, which may be some cycles back.
            let again = |(sent, _): &(usize, usize)| self.sent[*sent] == frame;
            if let Some(cycle) = self.cycles.iter().rposition(again) {
                self.begins_again(cycle, error)?;
                return Ok(Origin::Client);
            }
        }
        // A statement that is parsed a second time is closed before, and what is answered without the
        // client's Sync is flushed.
        let for_second_run =
            matches!(tag, b'C' | b'H') && (self.again > 0 || self.failed_at().is_some());
        if tag == b'S' || (tag == b'Q' && self.ready == 0) || for_second_run {
            return Ok(Origin::Own);
        }
        let next = self.sent.get(self.arrived).map(|next| show(next));
        Err(format!(
            "the server received {} where the client's next message was {}",
            show(frame),
            next.unwrap_or_else(|| "none".into())
        ))
    }

    /// The client's last message that arrived did not end its cycle.
    fn is_within_cycle(&self) -> bool {
        let last = self.arrived.checked_sub(1).map(|last| self.sent[last][0]);
        last.is_some_and(|tag| matches!(tag, b'P' | b'B' | b'D' | b'E'))
    }

    /// Where a cycle failed on encrypted data whose error the client does not have.
    fn failed_at(&self) -> Option<usize> {
        let to_come = self.expected.get(self.came..)?;
        let at = to_come.iter().rposition(|said| said.sort == Sort::Pangu)?;
        Some(self.came + at)
    }

    /// What began with `cycle` is run again: its error and what followed do not go to the client,
    /// and what came before the error does not come a second time.
    fn begins_again(&mut self, cycle: usize, error: usize) -> Result<(), String> {
        if self.came > error {
            return Err("a cycle was run again whose error the client has".into());
        }
        let (sent, begin) = self.cycles[cycle];
        self.cycles.truncate(cycle + 1);
        for (at, said) in self.expected.split_off(begin).into_iter().enumerate() {
            let is_before = begin + at < error;
            if said.sort == Sort::AnyTime {
                self.expected.push(said);
            } else if is_before {
                self.had.push(said.bytes.clone());
                self.expected.push(said);
            }
        }
        self.arrived = sent + 1;
        self.withheld = true;
        self.again += 1;
        Ok(())
    }

    /// The server says something in answer to a message of `origin`.
    ///
    /// # Errors
    ///
    /// A second run is answered differently, which the model's statements never are.
    pub(super) fn says(&mut self, said: Said, origin: Origin) -> Result<(), String> {
        if said.sort == Sort::AnyTime {
            // The ReadyForQuery of a login that lends its session waits until the session is back.
            let is_borrowed = origin == Origin::Own && self.ready == 0;
            let held = self
                .expected
                .iter()
                .rposition(|before| before.bytes[0] == b'Z');
            let at = held.filter(|_| is_borrowed).unwrap_or(self.expected.len());
            self.expected.insert(at, said);
        } else if origin == Origin::Client {
            if is_fatal(&said.bytes) {
                self.had.clear();
                self.cancelled_before = None;
                self.expected.push(said);
            } else if let Some(cycles) = self.cancelled_before {
                // What the rest of a failed transaction is answered is nobody's.
                if said.bytes[0] == b'Z' {
                    self.cancelled_before = cycles.checked_sub(1);
                }
                if self.cancelled_before.is_none() {
                    self.expected.push(said);
                }
            } else if self.had.is_empty() {
                self.expected.push(said);
            } else if said.sort == Sort::Cancelled {
                let had = std::mem::take(&mut self.had);
                self.cancelled_before = Some(had.iter().filter(|had| had[0] == b'Z').count());
                self.expected.push(said);
            } else if self.had[0] == said.bytes {
                self.had.remove(0);
            } else {
                return Err(format!("a second run answered {}", show(&said.bytes)));
            }
        }
        Ok(())
    }

    /// Bytes come to the client. `may_say`: the FATALs that Osprey has a reason for.
    ///
    /// # Errors
    ///
    /// They are not what the server said, nor Osprey's to say: what is wrong, in words.
    pub(super) fn comes(
        &mut self,
        bytes: &[u8],
        may_say: impl Fn(&str) -> bool,
    ) -> Result<(), String> {
        self.partial.extend_from_slice(bytes);
        let mut at = 0;
        loop {
            let rest = &self.partial[at..];
            let header = Header::read(rest);
            let Ok(header) = header else {
                return Err(format!("the client received no frame: {}", show(rest)));
            };
            let Some(header) = header.filter(|header| header.frame <= rest.len()) else {
                break;
            };
            let frame = rest[..header.frame].to_vec();
            at += header.frame;
            self.frame_comes(&frame, &may_say)?;
        }
        self.partial.drain(..at);
        let rest = &self.partial;
        let fits = match self.expected.get(self.came) {
            _ if rest.is_empty() || rest[0] == b'E' || self.ready == 0 => true,
            Some(next) if next.sort == Sort::Pangu => true,
            Some(next) => next.bytes.starts_with(rest),
            None => false,
        };
        if fits {
            Ok(())
        } else {
            let part = show(rest);
            Err(format!("the client received {part}, which nobody said"))
        }
    }

    fn frame_comes(&mut self, frame: &[u8], may_say: impl Fn(&str) -> bool) -> Result<(), String> {
        if let Some(fatal) = &self.fatal {
            let frame = show(frame);
            return Err(format!("behind Osprey's FATAL {fatal} came {frame}"));
        }
        self.told |= is_fatal(frame);
        self.let_overtake(frame);
        let next = self.expected.get(self.came);
        let fields = ErrorFields::new(&frame[5..]);
        let is_next = next.is_some_and(|next| {
            next.bytes == frame
                || next.sort == Sort::Pangu
                    && frame[0] == b'E'
                    && fields.sqlstate() == b"XX000"
                    && !fields.is_fatal()
                // It may say whose time was up.
                || next.sort == Sort::Cancelled
                    && frame[0] == b'E'
                    && fields.sqlstate() == b"57014"
                    && !fields.is_fatal()
        });
        if !is_next {
            let sqlstate = String::from_utf8_lossy(fields.sqlstate()).into_owned();
            let is_withheld = self.withheld && sqlstate == "XX000" && !fields.is_fatal();
            if frame[0] == b'E' && (is_withheld || fields.is_fatal() && may_say(&sqlstate)) {
                self.fatal = Some(sqlstate);
                return Ok(());
            }
            return Err(format!(
                "the client received {} where the server's next frame was {}",
                show(frame),
                next.map_or_else(|| "none".into(), |next| show(&next.bytes))
            ));
        }
        self.came += 1;
        match frame[0] {
            b'Z' => self.ready += 1,
            b'G' | b'W' => self.copy_in += 1,
            b'K' => self.key = frame[5..].to_vec(),
            b'R' if !matches!(frame[8], 0 | 12) => self.asked += 1,
            _ => {}
        }
        Ok(())
    }

    /// While an error about encrypted data is held, what may come at any moment overtakes it; and
    /// what comes behind the last answer to a borrowed session comes behind its ReadyForQuery.
    fn let_overtake(&mut self, frame: &[u8]) {
        let rest = &self.expected[self.came.min(self.expected.len())..];
        if self.ready == 0 && frame[0] == b'Z' {
            let ready = rest.iter().position(|said| said.sort != Sort::AnyTime);
            if let Some(at) = ready {
                let said = self.expected.remove(self.came + at);
                self.expected.insert(self.came, said);
            }
            return;
        }
        let is_last = rest.last().is_some_and(|last| last.bytes == frame);
        let holds = self.ready == 0 || self.expected.iter().any(|said| said.sort == Sort::Pangu);
        if is_last && is_fatal(frame) && holds {
            // The server failed before the session was back, or a second run was answered.
            let last = self.expected.len() - 1;
            self.expected.drain(self.came..last);
            return;
        }
        if rest.first().is_some_and(|next| next.sort == Sort::Pangu) {
            let first = rest.iter().position(|said| said.sort == Sort::AnyTime);
            if let Some(at) = first.filter(|at| rest[*at].bytes == frame) {
                let said = self.expected.remove(self.came + at);
                self.expected.insert(self.came, said);
            }
        }
    }

    /// True if a part of a message has come.
    pub(super) fn is_within_message(&self) -> bool {
        !self.partial.is_empty()
    }

    /// True if the client has all that the server owed it: not what may come at any moment, which
    /// the end of the session may overtake, but no part of it either.
    pub(super) fn is_complete(&self) -> bool {
        let rest = self.expected.get(self.came..).unwrap_or_default();
        rest.iter().all(|said| said.sort == Sort::AnyTime) && self.partial.is_empty()
    }
}

/// True for what belongs to a statement of Osprey's own.
fn is_own(frame: &[u8]) -> bool {
    let body = &frame[5..];
    match frame[0] {
        b'Q' => body.starts_with(b"/* osprey */"),
        b'P' | b'B' | b'E' => body.starts_with(OWN_NAME),
        b'C' | b'D' => body.get(1..).is_some_and(|name| name.starts_with(OWN_NAME)),
        _ => false,
    }
}

fn is_fatal(frame: &[u8]) -> bool {
    frame[0] == b'E' && ErrorFields::new(&frame[5..]).is_fatal()
}

/// A frame for people.
pub(super) fn show(frame: &[u8]) -> String {
    let shown: String = frame
        .iter()
        .take(70)
        .map(|byte| match byte {
            b' '..=b'~' => char::from(*byte),
            _ => '.',
        })
        .collect();
    format!("{shown:?} ({} bytes)", frame.len())
}
