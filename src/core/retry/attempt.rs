//! What is kept for a second run, and what the client has of the first.

use std::borrow::Cow;
use std::hash::BuildHasher;

use crate::advice::NotRetried;
use crate::wire::backend::{Status, command_tag, tag};
use crate::wire::{HEADER, Header};

use super::super::interface::Cure;
use super::parameters::Parameters;
use super::statements::Statements;

/// Bytes of answers, within one transaction, that are worth comparing with those of a second run.
const COMPARED: usize = 4 << 20;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// It is on its way, and was not answered in full.
    First,
    /// HQE failed; all is swallowed up to ReadyForQuery.
    Held,
    /// It was sent again; this much of what the client has came again.
    Again(Heard),
    /// The second run answers differently than the first; all is swallowed up to its end.
    Differs,
    /// The session is brought back to where the error of the first run had left it.
    Undoing,
}

/// What was answered: how many frames, and a hash over them in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Heard {
    pub(super) frames: usize,
    pub(super) hash: u64,
}

impl Heard {
    pub(super) fn add(&mut self, frame: &[u8]) {
        self.frames += 1;
        self.hash = foldhash::fast::FixedState::default().hash_one((self.hash, frame));
    }
}

/// The notices of a run, as hashes.
#[derive(Debug, Default)]
pub(super) struct Notices(Vec<u64>);

/// So many are remembered; the client may get what is beyond twice.
const NOTICES: usize = 1_000;

impl Notices {
    fn hash(frame: &[u8]) -> u64 {
        foldhash::fast::FixedState::default().hash_one(frame)
    }

    /// One went to the client.
    pub(super) fn note(&mut self, frame: Option<&[u8]>) {
        if let Some(frame) = frame.filter(|_| self.0.len() < NOTICES) {
            self.0.push(Self::hash(frame));
        }
    }

    /// True if the client has had this one; once for each time.
    pub(super) fn take(&mut self, frame: Option<&[u8]>) -> bool {
        let Some(hash) = frame.map(Self::hash) else {
            return false;
        };
        let found = self.0.iter().position(|known| *known == hash);
        found.map(|at| self.0.remove(at)).is_some()
    }
}

/// An answer without what is another in each run: the OIDs of tables in a RowDescription. A temporary
/// view that the first run has made is made anew by the second.
pub(super) fn comparable(header: Header, frame: &[u8]) -> Cow<'_, [u8]> {
    if header.tag != tag::ROW_DESCRIPTION {
        return Cow::Borrowed(frame);
    }
    let mut frame = frame.to_vec();
    let mut column = HEADER + 2;
    while let Some(name) = frame.get(column..).and_then(|rest| memchr::memchr(0, rest)) {
        let table = column + name + 1;
        let Some(oid) = frame.get_mut(table..table + 4) else {
            break;
        };
        oid.fill(0);
        column = table + COLUMN_BEHIND_NAME;
    }
    Cow::Owned(frame)
}

/// The commands that leave something behind in the session, as their CommandComplete names them.
const LEAVES: [&[u8]; 4] = [b"SET", b"RESET", b"PREPARE", b"DECLARE CURSOR"];

/// Bytes of a column in a RowDescription behind its name.
const COLUMN_BEHIND_NAME: usize = 18;

/// What may be run again.
#[derive(Debug)]
pub(super) struct Attempt {
    /// The frames of its cycles, as the client sent them.
    pub(super) frames: Vec<u8>,
    /// The present cycle has not been sent in full.
    pub(super) recording: bool,
    /// It is kept whatever it reads.
    pub(super) whatever: bool,
    /// It had not been sent in full when it failed: the rest follows the second run.
    pub(super) partial: bool,
    /// What comes behind has to wait for the answer.
    pub(super) waits: bool,
    /// It will, or may, go on after the present cycle: there is a transaction.
    pub(super) goes_on: bool,
    /// A cycle of it may have ended the transaction with which it began: what it changed by then is
    /// not undone by a failure behind that.
    pub(super) may_have_ended: bool,
    /// ReadyForQuery of so many earlier cycles come first.
    pub(super) before: usize,
    /// As many ReadyForQuery come up to that of the last cycle that a Query ended and not a Sync.
    pub(super) unsynced: usize,
    /// What the client has got of the first run.
    pub(super) heard: Heard,
    pub(super) heard_bytes: usize,
    /// The notices that the client has got of the first run.
    pub(super) noticed: Notices,
    /// ParseComplete among it: these statements outlive the transaction.
    pub(super) parsed: usize,
    /// The names that PREPARE statements of it give, in their order, and how many of those have
    /// succeeded: these outlive the transaction, too.
    pub(super) prepared: Vec<String>,
    pub(super) prepared_heard: usize,
    /// The first line of the COPY that is being answered, which is still to come, names its columns.
    pub(super) header_line: bool,
    /// Rows of the statement that is being answered were sent.
    pub(super) row: bool,
    /// ParameterStatus that the client has got since it began, and those kept from it since it
    /// failed.
    pub(super) told: Parameters,
    pub(super) untold: Parameters,
    /// Cursors declared, and portals bound, within it.
    pub(super) cursors: Vec<String>,
    /// The prepared statements that it names.
    pub(super) statements: Statements,
    /// The error of the first run, rewritten.
    pub(super) error: Vec<u8>,
    pub(super) code: &'static str,
    /// What is set for the second run.
    pub(super) cure: Cure,
    /// It writes, alone in its cycle.
    pub(super) writes: bool,
    /// What it makes has a name of its own: a table, a materialized view.
    pub(super) makes: bool,
    /// Answers of the second run went to the client.
    pub(super) answered: bool,
    /// The second run answers otherwise, and has taken effect.
    pub(super) done: bool,
    /// The named statements that the second run parses, and that the client does not know of: the first run
    /// had failed by then.
    pub(super) parsed_beyond: Vec<Box<[u8]>>,
    /// The second run has changed the session (SET, PREPARE, DECLARE), and nothing of it has failed.
    pub(super) leaves: bool,
    /// The error of the first run as it came, if it writes.
    pub(super) original: Vec<u8>,
    /// In which the error of the first run left the session.
    pub(super) status: Status,
    pub(super) phase: Phase,
}

impl Attempt {
    pub(super) fn new(before: usize, whatever: bool) -> Self {
        Self {
            frames: Vec::new(),
            recording: true,
            whatever,
            partial: false,
            waits: false,
            goes_on: false,
            may_have_ended: false,
            before,
            unsynced: 0,
            heard: Heard::default(),
            heard_bytes: 0,
            noticed: Notices::default(),
            parsed: 0,
            prepared: Vec::new(),
            prepared_heard: 0,
            header_line: false,
            row: false,
            told: Parameters::default(),
            untold: Parameters::default(),
            cursors: Vec::new(),
            statements: Statements::default(),
            error: Vec::new(),
            code: "",
            cure: Cure::Route,
            writes: false,
            makes: false,
            answered: false,
            done: false,
            parsed_beyond: Vec::new(),
            leaves: false,
            original: Vec::new(),
            status: Status::Idle,
            phase: Phase::First,
        }
    }

    /// All that the client has of the first run has come again.
    pub(super) fn is_level(&self) -> bool {
        matches!(self.phase, Phase::Again(seen) if seen == self.heard)
    }

    /// A command of the second run is complete.
    pub(super) fn completed_again(&mut self, frame: Option<&[u8]>) {
        let command = frame.map(|frame| command_tag(&frame[HEADER..]));
        self.leaves |= command.is_some_and(|command| LEAVES.contains(&command));
    }

    /// One more answer of the second run came.
    pub(super) fn compare(&mut self, mut seen: Heard, answer: &[u8]) {
        seen.add(answer);
        let same = seen == self.heard || seen.frames < self.heard.frames;
        self.phase = if same {
            Phase::Again(seen)
        } else {
            Phase::Differs
        };
    }

    /// An answer of the first run goes to the client. Why it cannot be run again, if that is so now.
    pub(super) fn hear(
        &mut self,
        header: Header,
        frame: Option<&[u8]>,
        answering: Answering,
    ) -> Option<NotRetried> {
        match header.tag {
            tag::COPY_OUT => self.header_line = answering.copies_header,
            tag::COPY_DATA if std::mem::take(&mut self.header_line) => {}
            tag::DATA_ROW | tag::COPY_DATA => self.row = true,
            // From here on it fails, if it does, as its transaction commits.
            tag::COMMAND_COMPLETE if self.writes => return Some(NotRetried::Writes),
            tag::COMMAND_COMPLETE => {
                self.row = false;
                let command = frame.map(|frame| command_tag(&frame[HEADER..]));
                self.prepared_heard += usize::from(command == Some(b"PREPARE"));
            }
            tag::PORTAL_SUSPENDED => self.row = false,
            tag::PARSE_COMPLETE => self.parsed += 1,
            _ => {}
        }
        self.heard_bytes += header.frame;
        match frame {
            _ if self.row && !self.goes_on && !answering.more => Some(NotRetried::RowsSent),
            Some(frame) if self.heard_bytes <= COMPARED => {
                self.heard.add(&comparable(header, frame));
                None
            }
            _ => Some(NotRetried::TooLarge),
        }
    }
}

/// What is known of the statement that is being answered.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Answering {
    /// It is not the last of what would be run again.
    pub(crate) more: bool,
    /// It is a COPY whose first line names its columns.
    pub(crate) copies_header: bool,
}
