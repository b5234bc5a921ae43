//! A small model of a PostgreSQL backend behind its login: the simple and the extended protocol,
//! skipping to Sync, transaction blocks, COPY, one setting, and Hologres' error on encrypted tables
//! unless the setting was made.
//!
//! A statement's text says what it does: `select 7 /* rows=3 size=100 */ from plain` answers with
//! three rows of a hundred bytes, `from enc…` and `from ext…` read encrypted data, `pg_sleep` is
//! slow, `1/0` fails.

use std::collections::HashMap;

use crate::wire::compose;
use crate::wire::frontend::{Bind, Parse, Target, execute_portal, query_text};

/// The text of the vendor's page.
const PANGU: &str = "status { code: SERVER_INTERNAL_ERROR message: \"hos_exception: IO error: Failed to execute pangu open normal file pangu://x:1/product/odps/p/data/t/1, errorcode: 9, errorcode_description: invalid argument, err_msg: PanguParameterInvalidException";

/// What a frame of the server's is to the oracle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sort {
    /// An answer.
    Answer,
    /// What may come at any moment: a notice, a notification, a changed parameter.
    AnyTime,
    /// The error about encrypted data.
    Pangu,
    /// That of a statement that was cancelled.
    Cancelled,
}

/// One frame that the server sends.
#[derive(Debug, Clone)]
pub(super) struct Said {
    pub(super) bytes: Vec<u8>,
    pub(super) sort: Sort,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Block {
    None,
    Open,
    Failed,
}

/// The number behind `name=` in a statement's text.
pub(super) fn number(text: &str, name: &str) -> Option<usize> {
    let (_, rest) = text.split_once(name)?;
    let digits = rest.split(|byte: char| !byte.is_ascii_digit()).next()?;
    digits.parse().ok()
}

/// The backend.
#[derive(Debug)]
pub(super) struct Backend {
    block: Block,
    route_is_set: bool,
    /// What it was when the present transaction began.
    at_begin: Option<bool>,
    prepared: HashMap<Vec<u8>, String>,
    portals: HashMap<Vec<u8>, String>,
    skipping: bool,
    /// Within COPY IN; true: a simple Query began it.
    copy: Option<bool>,
    pub(super) replication: bool,
    pub(super) said: Vec<Said>,
}

enum Outcome {
    Tag(&'static str),
    Rows(usize, usize),
    CopyIn,
    CopyOut(usize, usize),
}

type Failure = (&'static str, &'static str);

const CANCELLED: Failure = ("57014", "canceling statement due to user request");

impl Backend {
    pub(super) fn new(replication: bool) -> Self {
        Self {
            block: Block::None,
            route_is_set: false,
            at_begin: None,
            prepared: HashMap::new(),
            portals: HashMap::new(),
            skipping: false,
            copy: None,
            replication,
            said: Vec::new(),
        }
    }

    fn put(&mut self, tag: u8, body: &[u8]) {
        self.put_as(Sort::Answer, tag, body);
    }

    pub(super) fn put_as(&mut self, sort: Sort, tag: u8, body: &[u8]) {
        let mut bytes = Vec::with_capacity(body.len() + 5);
        compose::frame(&mut bytes, tag, |out| out.extend_from_slice(body));
        self.said.push(Said { bytes, sort });
    }

    /// How long the statement of a message takes, in milliseconds; `None`: for ever.
    pub(super) fn takes(&self, tag: u8, body: &[u8]) -> Option<usize> {
        if self.skipping || self.copy.is_some() {
            return Some(0);
        }
        let text = match tag {
            b'Q' => String::from_utf8_lossy(query_text(body)).into_owned(),
            b'E' => {
                let portal = execute_portal(body).unwrap_or_default();
                self.portals.get(portal).cloned().unwrap_or_default()
            }
            _ => return Some(0),
        };
        if text.contains("for_ever") {
            return None;
        }
        Some(number(&text, "pg_sleep_ms=").unwrap_or(0))
    }

    /// True if what a message runs writes, or stands in a transaction that may have written.
    pub(super) fn would_write(&self, tag: u8, body: &[u8]) -> bool {
        let text = match tag {
            b'Q' => Some(String::from_utf8_lossy(query_text(body)).into_owned()),
            b'E' => execute_portal(body).and_then(|portal| self.portals.get(portal).cloned()),
            _ => None,
        };
        self.block == Block::Open || text.is_some_and(|text| unmarked(&text).starts_with("insert"))
    }

    /// Handles one message; `cancelled`: a cancel request came while its statement ran.
    pub(super) fn message(&mut self, tag: u8, body: &[u8], cancelled: bool) {
        if let Some(simple) = self.copy {
            self.copy_message(tag, simple);
            return;
        }
        if self.skipping && tag != b'S' {
            return;
        }
        match tag {
            b'Q' => {
                let text = String::from_utf8_lossy(query_text(body)).into_owned();
                self.prepared.remove(&b""[..]);
                self.portals.remove(&b""[..]);
                self.query(&text, cancelled);
            }
            b'S' => {
                self.skipping = false;
                self.end_query();
            }
            b'P' | b'B' | b'E' | b'D' | b'C' => {
                if let Err(failure) = self.extended(tag, body, cancelled) {
                    self.fail(failure);
                    self.skipping = true;
                }
            }
            _ => {}
        }
    }

    fn copy_message(&mut self, tag: u8, simple: bool) {
        match tag {
            b'd' | b'S' | b'H' => return,
            b'c' => self.put(b'C', b"COPY 1\0"),
            _ => {
                self.fail(("57014", "COPY from stdin failed"));
                self.skipping = !simple;
            }
        }
        self.copy = None;
        if simple {
            self.end_query();
        }
    }

    fn query(&mut self, text: &str, cancelled: bool) {
        match self.outcome(text, cancelled) {
            Ok(Outcome::CopyIn) => {
                self.copy = Some(true);
                self.put(b'G', &[0, 0, 0]);
                return;
            }
            Ok(outcome) => {
                if matches!(outcome, Outcome::Rows(..)) {
                    self.put(b'T', &columns());
                }
                self.answer(&outcome);
            }
            Err(failure) => self.fail(failure),
        }
        self.end_query();
    }

    fn answer(&mut self, outcome: &Outcome) {
        match *outcome {
            Outcome::Tag(tag) => self.put(b'C', format!("{tag}\0").as_bytes()),
            Outcome::Rows(rows, size) => {
                for row in 0..rows {
                    let mut body = vec![0, 1];
                    let length = u32::try_from(size).unwrap_or_default();
                    body.extend_from_slice(&length.to_be_bytes());
                    body.extend(std::iter::repeat_n(b'a' + (row % 26) as u8, size));
                    self.put(b'D', &body);
                }
                self.put(b'C', format!("SELECT {rows}\0").as_bytes());
            }
            Outcome::CopyOut(rows, size) => {
                let both = self.replication;
                self.put(if both { b'W' } else { b'H' }, &[0, 0, 0]);
                for row in 0..rows {
                    self.put(b'd', &vec![b'A' + (row % 26) as u8; size]);
                }
                self.put(b'c', b"");
                self.put(b'C', format!("COPY {rows}\0").as_bytes());
            }
            Outcome::CopyIn => {}
        }
    }

    fn extended(&mut self, tag: u8, body: &[u8], cancelled: bool) -> Result<(), Failure> {
        const BROKEN: Failure = ("08P01", "invalid message");
        self.at_begin.get_or_insert(self.route_is_set);
        match tag {
            b'P' => {
                let parse = Parse::read(body).ok_or(BROKEN)?;
                let text = String::from_utf8_lossy(parse.text).into_owned();
                self.refuse_in_failed(&text)?;
                self.prepared.insert(parse.name.into(), text);
                self.put(b'1', b"");
            }
            b'B' => {
                let bind = Bind::read(body).ok_or(BROKEN)?;
                let text = self.prepared.get(bind.statement).cloned();
                let text = text.ok_or(("26000", "prepared statement does not exist"))?;
                self.refuse_in_failed(&text)?;
                self.portals.insert(bind.portal.into(), text);
                self.put(b'2', b"");
            }
            b'E' => {
                let portal = execute_portal(body).ok_or(BROKEN)?;
                let text = self.portals.get(portal).cloned();
                let text = text.ok_or(("34000", "portal does not exist"))?;
                match self.outcome(&text, cancelled)? {
                    Outcome::CopyIn => {
                        self.copy = Some(false);
                        self.put(b'G', &[0, 0, 0]);
                    }
                    outcome => self.answer(&outcome),
                }
            }
            b'D' => {
                let text = match Target::read(body).ok_or(BROKEN)? {
                    Target::Statement(name) => {
                        let text = self.prepared.get(name).cloned();
                        if text.is_some() {
                            self.put(b't', &[0, 0]);
                        }
                        text
                    }
                    Target::Portal(name) => self.portals.get(name).cloned(),
                };
                let text = text.ok_or(("26000", "nothing to describe"))?;
                if text.starts_with("select") {
                    self.put(b'T', &columns());
                } else {
                    self.put(b'n', b"");
                }
            }
            _ => {
                match Target::read(body).ok_or(BROKEN)? {
                    Target::Statement(name) => self.prepared.remove(name),
                    Target::Portal(name) => self.portals.remove(name),
                };
                self.put(b'3', b"");
            }
        }
        Ok(())
    }

    fn refuse_in_failed(&self, text: &str) -> Result<(), Failure> {
        let text = unmarked(text);
        if self.block == Block::Failed
            && !text.starts_with("commit")
            && !text.starts_with("rollback")
        {
            return Err(("25P02", "current transaction is aborted"));
        }
        Ok(())
    }

    fn outcome(&mut self, text: &str, cancelled: bool) -> Result<Outcome, Failure> {
        self.refuse_in_failed(text)?;
        // The end of a transaction that has failed is not kept from its end.
        let ends_failed = self.block == Block::Failed;
        if cancelled && !ends_failed {
            return Err(CANCELLED);
        }
        self.at_begin.get_or_insert(self.route_is_set);
        let text = unmarked(text);
        // The catalogs are empty.
        let default = usize::from(!text.contains("pg_catalog"));
        let rows = number(&text, "rows=").unwrap_or(default);
        let size = number(&text, "size=").unwrap_or(10);
        if text.starts_with("set ") {
            self.route_is_set = true;
            return Ok(Outcome::Tag("SET"));
        }
        if text.starts_with("reset ") {
            self.route_is_set = false;
            return Ok(Outcome::Tag("RESET"));
        }
        if text.starts_with("begin") {
            self.block = Block::Open;
            return Ok(Outcome::Tag("BEGIN"));
        }
        if text.starts_with("commit") || text.starts_with("rollback") {
            let commits = text.starts_with("commit") && self.block != Block::Failed;
            if !commits && let Some(before) = self.at_begin {
                self.route_is_set = before;
            }
            self.block = Block::None;
            return Ok(Outcome::Tag(if commits { "COMMIT" } else { "ROLLBACK" }));
        }
        if text.starts_with("insert") {
            return Ok(Outcome::Tag("INSERT 0 1"));
        }
        if text.starts_with("discard") {
            return Ok(Outcome::Tag("DISCARD PLANS"));
        }
        if text.starts_with("copy") && text.contains("from stdin") {
            return Ok(Outcome::CopyIn);
        }
        if text.starts_with("copy") || text.starts_with("start_replication") {
            return Ok(Outcome::CopyOut(rows, size));
        }
        if text.starts_with("select 'osprey") {
            return Err(("22P02", "invalid input syntax for type integer"));
        }
        if text.contains("1/0") {
            return Err(("22012", "division by zero"));
        }
        let encrypted = text.contains("from enc") || text.contains("from ext");
        if encrypted && !self.route_is_set {
            return Err(("XX000", PANGU));
        }
        Ok(Outcome::Rows(rows, size))
    }

    fn fail(&mut self, (sqlstate, message): Failure) {
        if self.block == Block::Open {
            self.block = Block::Failed;
        } else if self.block == Block::None
            && let Some(before) = self.at_begin.take()
        {
            self.route_is_set = before;
        }
        let sort = match message {
            PANGU => Sort::Pangu,
            _ if sqlstate == CANCELLED.0 => Sort::Cancelled,
            _ => Sort::Answer,
        };
        let bytes = error("ERROR", sqlstate, message);
        self.said.push(Said { bytes, sort });
    }

    fn end_query(&mut self) {
        if self.block == Block::None {
            self.at_begin = None;
        }
        let status = match self.block {
            Block::None => b"I",
            Block::Open => b"T",
            Block::Failed => b"E",
        };
        self.put(b'Z', status);
    }
}

fn unmarked(text: &str) -> String {
    let text = text.trim().trim_start_matches("/* osprey */ ");
    text.to_ascii_lowercase()
}

/// An ErrorResponse.
pub(super) fn error(severity: &str, sqlstate: &str, message: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let fields = [
        (b'S', severity.as_bytes()),
        (b'V', severity.as_bytes()),
        (b'C', sqlstate.as_bytes()),
        (b'M', message.as_bytes()),
    ];
    compose::error(&mut bytes, fields);
    bytes
}

/// The RowDescription of one column of text.
fn columns() -> Vec<u8> {
    let mut body = vec![0, 1];
    body.extend_from_slice(b"id\0");
    body.extend_from_slice(&[
        0, 0, 0, 0, 0, 0, 0, 0, 0, 25, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0,
    ]);
    body
}
