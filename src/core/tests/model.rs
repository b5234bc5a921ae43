//! A small model of a PostgreSQL backend: the extended protocol, skipping to Sync, implicit
//! transactions, a transactional setting, prepared statements and portals, COPY IN.
//!
//! It understands a toy language, statements separated by `;`: `enc N` (reads N encrypted rows),
//! `half` (of two rows, only the second is encrypted),
//! `plain`, `open` (MaxCompute data that is not encrypted), `fail`, `show`, `write`, `begin`, `commit`, `rollback`, `savepoint`, `rollback to`,
//! `path ext` and `path pub` (a transactional search path), `mine` (encrypted, if the path is `ext`),
//! `discard all`, `vacuum`, `copyin`, `set on`, `set off`, `reset`, `declare NAME BODY`,
//! `hold NAME BODY` (a cursor WITH HOLD, which COMMIT runs to its end),
//! `fetch NAME N`, `moody` (answers differently each time), `warn` (a notice), `bold` and
//! `faint` (set a parameter that is reported), `quotes off` and `quotes on` (set
//! `standard_conforming_strings`), `\'` (encrypted, if that is off when it is parsed), `take` (a write
//! that reads encrypted rows), and Osprey's own statements.

use std::collections::HashMap;

use crate::wire::backend::ErrorFields;
use crate::wire::frontend::{Bind, Parse, Target, execute_portal, query_text};
use crate::wire::{HEADER, Header, compose};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Block {
    None,
    Open,
    Failed,
}

/// The backend.
#[derive(Debug)]
pub(super) struct Backend {
    /// Reads encrypted data whatever the setting says: what a client sees when the route has been
    /// right from the start.
    ideal: bool,
    /// By what a SET of the route fails.
    pub(super) set_fails: Option<Failure>,
    /// The engine is chosen as a statement is planned, and prepared statements keep their plans.
    pub(super) plans_choose: bool,
    /// DISCARD PLANS is refused (42601).
    pub(super) refuse_discard: bool,
    /// A `take` that fails leaves behind what it makes.
    pub(super) leaves: bool,
    /// What reads encrypted rows says a notice first, another one each time.
    pub(super) chatty: bool,
    said: u8,
    /// A setting was made with which HQE reads everything.
    cured: bool,
    left: bool,
    /// How often a `take` has taken effect.
    pub(super) taken: usize,
    taken_at_begin: usize,
    taken_at_savepoint: usize,
    /// The engine of the plan that runs: true for HQE.
    plan: Option<bool>,
    block: Block,
    /// Something ran since the last Sync or Query ended.
    started: bool,
    session: bool,
    local: Option<bool>,
    at_begin: bool,
    /// A parameter that is reported at once, as PostgreSQL 11 does.
    style: &'static str,
    style_at_begin: &'static str,
    /// `standard_conforming_strings`
    quotes: &'static str,
    quotes_at_begin: &'static str,
    /// What was reported of it. With `reports_late`, it is reported in front of ReadyForQuery, as
    /// PostgreSQL does since 14.
    reported: &'static str,
    pub(super) reports_late: bool,
    at_savepoint: Option<(bool, &'static str, &'static str)>,
    path: &'static str,
    path_at_begin: &'static str,
    prepared: HashMap<Vec<u8>, Prepared>,
    portals: HashMap<Vec<u8>, Portal>,
    /// Cursors WITH HOLD of the present transaction.
    held: Vec<String>,
    skipping: bool,
    copy: Option<bool>,
    input: Vec<u8>,
    output: Vec<u8>,
    /// Every statement text that ran, for tests that look behind the curtain.
    pub(super) ran: Vec<String>,
    /// The names of all statements that were parsed.
    parsed: Vec<Vec<u8>>,
    /// How often `moody` ran, which answers differently each time.
    mood: u32,
}

#[derive(Debug, Clone)]
struct Prepared {
    text: String,
    /// The engine that its plan has chosen, and the search path with which it was made: with another one the
    /// statement is planned anew (PostgreSQL, `RevalidateCachedQuery`).
    plan: Option<(bool, &'static str)>,
}

impl Prepared {
    fn new(text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            plan: None,
        }
    }
}

#[derive(Debug, Clone)]
struct Portal {
    text: String,
    plan: Option<bool>,
    done: usize,
}

impl Portal {
    fn new(text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            plan: None,
            done: 0,
        }
    }
}

pub(super) type Failure = (&'static str, String);

impl Backend {
    /// From now on, this user may not set the route.
    pub(super) fn refuse_set(&mut self) {
        self.set_fails = Some(("42501", "permission denied to set parameter".into()));
    }
}

/// The text of the vendor's page.
pub(super) const PANGU: &str = "status { code: SERVER_INTERNAL_ERROR message: \"hos_exception: IO error: Failed to execute pangu open normal file pangu://x:1/product/odps/p/data/t/1, errorcode: 9, errorcode_description: invalid argument, err_msg: PanguParameterInvalidException";

impl Backend {
    pub(super) fn new(ideal: bool) -> Self {
        Self {
            ideal,
            set_fails: None,
            plans_choose: false,
            refuse_discard: false,
            leaves: false,
            chatty: false,
            said: 0,
            cured: false,
            left: false,
            taken: 0,
            taken_at_begin: 0,
            taken_at_savepoint: 0,
            plan: None,
            block: Block::None,
            started: false,
            session: true,
            local: None,
            at_begin: true,
            style: "plain",
            style_at_begin: "plain",
            quotes: "on",
            quotes_at_begin: "on",
            reported: "on",
            reports_late: false,
            at_savepoint: None,
            path: "pub",
            path_at_begin: "pub",
            prepared: HashMap::new(),
            portals: HashMap::new(),
            held: Vec::new(),
            skipping: false,
            copy: None,
            input: Vec::new(),
            output: Vec::new(),
            ran: Vec::new(),
            parsed: Vec::new(),
            mood: 0,
        }
    }

    pub(super) fn send(&mut self, bytes: &[u8]) {
        self.input.extend_from_slice(bytes);
    }

    pub(super) fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.output)
    }

    /// Handles the next whole message. False if there is none.
    pub(super) fn step(&mut self) -> bool {
        let Ok(Some(header)) = Header::read(&self.input) else {
            return false;
        };
        if header.frame > self.input.len() {
            return false;
        }
        let frame: Vec<u8> = self.input.drain(..header.frame).collect();
        self.message(header.tag, &frame[HEADER..]);
        true
    }

    fn put(&mut self, tag: u8, body: &[u8]) {
        compose::frame(&mut self.output, tag, |out| out.extend_from_slice(body));
    }

    fn message(&mut self, tag: u8, body: &[u8]) {
        if let Some(simple) = self.copy {
            match tag {
                b'd' if body == b"bad" => {
                    self.copy = None;
                    self.fail(&("22P02", "bad data".into()), !simple);
                    if simple {
                        self.ready();
                    }
                }
                b'd' | b'S' | b'H' => {}
                b'c' => {
                    self.copy = None;
                    self.put(b'C', b"COPY 1\0");
                    if simple {
                        self.end_query();
                    }
                }
                _ => {
                    self.copy = None;
                    self.fail(&("57014", "COPY from stdin failed".into()), !simple);
                    if simple {
                        self.ready();
                    }
                }
            }
            return;
        }
        if self.skipping && tag != b'S' {
            return;
        }
        match tag {
            b'Q' => self.query(&String::from_utf8_lossy(query_text(body))),
            b'S' => {
                self.skipping = false;
                self.end_query();
            }
            b'P' | b'B' | b'E' | b'D' | b'C' => {
                if let Err(failure) = self.extended(tag, body) {
                    self.fail(&failure, true);
                }
            }
            b'F' => {
                self.put(b'V', &[0xff; 4]);
                self.ready();
            }
            _ => {}
        }
    }

    fn begin_implicit(&mut self) {
        if !self.started && self.block == Block::None {
            self.at_begin = self.session;
            self.style_at_begin = self.style;
            self.quotes_at_begin = self.quotes;
            self.path_at_begin = self.path;
            self.taken_at_begin = self.taken;
        }
        self.started = true;
    }

    fn extended(&mut self, tag: u8, body: &[u8]) -> Result<(), Failure> {
        match tag {
            b'P' => {
                let parse = Parse::read(body).expect("well formed");
                let text = self.read(&String::from_utf8_lossy(parse.text));
                self.begin_implicit();
                self.refuse_in_failed(&text)?;
                if text == "selekt" {
                    return Err(("42601", "syntax error".into()));
                }
                if parse.name.is_empty() {
                    self.prepared.remove(parse.name);
                } else if self.prepared.contains_key(parse.name) {
                    return Err(("42P05", "prepared statement already exists".into()));
                }
                self.prepared.insert(parse.name.into(), Prepared::new(text));
                self.parsed.push(parse.name.into());
                self.put(b'1', b"");
            }
            b'B' => {
                let bind = Bind::read(body).expect("well formed");
                self.begin_implicit();
                let Some((text, plan)) = self.plan_of(bind.statement) else {
                    return Err(("26000", "prepared statement does not exist".into()));
                };
                self.refuse_in_failed(&text)?;
                if !bind.portal.is_empty() && self.portals.contains_key(bind.portal) {
                    return Err(("42P03", "portal already exists".into()));
                }
                let portal = Portal {
                    plan,
                    ..Portal::new(text)
                };
                self.portals.insert(bind.portal.into(), portal);
                self.put(b'2', b"");
            }
            b'E' => {
                let name = execute_portal(body).expect("well formed");
                let limit = body[name.len() + 1..]
                    .try_into()
                    .map_or(0, u32::from_be_bytes);
                self.begin_implicit();
                let Some(Portal { text, plan, done }) = self.portals.get(name).cloned() else {
                    return Err(("34000", "portal does not exist".into()));
                };
                self.refuse_in_failed(&text)?;
                let rows = self.run_planned(&text, plan, false)?;
                if self.copy.is_some() {
                    return Ok(());
                }
                match rows {
                    Outcome::Tag(command) => self.put(b'C', format!("{command}\0").as_bytes()),
                    Outcome::Rows(rows) => {
                        let end = if limit == 0 {
                            rows.len()
                        } else {
                            rows.len().min(done + limit as usize)
                        };
                        for row in &rows[done.min(end)..end] {
                            self.put(b'D', row.as_bytes());
                        }
                        if limit != 0 && end < rows.len() {
                            self.put(b's', b"");
                        } else {
                            self.put(
                                b'C',
                                format!("SELECT {}\0", end.saturating_sub(done)).as_bytes(),
                            );
                        }
                        if let Some(portal) = self.portals.get_mut(name) {
                            portal.done = end;
                        }
                    }
                    Outcome::Empty => self.put(b'I', b""),
                }
            }
            b'D' => {
                self.begin_implicit();
                let text = match Target::read(body) {
                    Some(Target::Statement(name)) => {
                        let text = self.prepared.get(name).map(|it| it.text.clone());
                        if text.is_some() {
                            self.put(b't', &[0, 0]);
                        }
                        text
                    }
                    Some(Target::Portal(name)) => {
                        self.portals.get(name).map(|portal| portal.text.clone())
                    }
                    None => None,
                };
                let Some(text) = text else {
                    return Err(("26000", "nothing to describe".into()));
                };
                if text.starts_with("enc") || matches!(&*text, "plain" | "open" | "mine" | "show") {
                    self.put(b'T', b"columns");
                } else {
                    self.put(b'n', b"");
                }
            }
            _ => {
                match Target::read(body) {
                    Some(Target::Statement(name)) => {
                        self.prepared.remove(name);
                    }
                    Some(Target::Portal(name)) => {
                        self.portals.remove(name);
                    }
                    None => {}
                }
                self.put(b'3', b"");
            }
        }
        Ok(())
    }

    fn refuse_in_failed(&self, text: &str) -> Result<(), Failure> {
        if self.block == Block::Failed
            && !matches!(
                own(text),
                "commit" | "rollback" | "rollback to" | "ROLLBACK"
            )
        {
            return Err(("25P02", "current transaction is aborted".into()));
        }
        Ok(())
    }

    fn query(&mut self, text: &str) {
        self.prepared.remove(&b""[..]);
        self.portals.remove(&b""[..]);
        self.begin_implicit();
        let text = self.read(text);
        for statement in text.split(';').map(str::trim) {
            let result = self
                .refuse_in_failed(statement)
                .and_then(|()| self.run(statement, true));
            match result {
                Ok(_) if self.copy.is_some() => return,
                Ok(Outcome::Tag(command)) => self.put(b'C', format!("{command}\0").as_bytes()),
                Ok(Outcome::Rows(rows)) => {
                    self.put(b'T', b"columns");
                    for row in &rows {
                        self.put(b'D', row.as_bytes());
                    }
                    self.put(b'C', format!("SELECT {}\0", rows.len()).as_bytes());
                }
                Ok(Outcome::Empty) => self.put(b'I', b""),
                Err(failure) => {
                    self.fail(&failure, false);
                    break;
                }
            }
        }
        self.end_query();
    }

    /// How often a statement of this name was parsed.
    pub(super) fn parsed(&self, name: &str) -> usize {
        let of_name = |parsed: &&Vec<u8>| parsed.as_slice() == name.as_bytes();
        self.parsed.iter().filter(of_name).count()
    }

    /// The engine that the session's settings choose: true for HQE.
    fn engine(&self) -> bool {
        !(self.ideal || self.cured) && self.local.unwrap_or(self.session)
    }

    /// A prepared statement's text, and the engine that its plan has chosen.
    fn plan_of(&mut self, name: &[u8]) -> Option<(String, Option<bool>)> {
        let (engine, path) = (self.plans_choose.then(|| self.engine()), self.path);
        let statement = self.prepared.get_mut(name)?;
        if statement
            .plan
            .is_none_or(|(_, made_with)| made_with != path)
        {
            statement.plan = engine.map(|engine| (engine, path));
        }
        let engine = statement.plan.map(|(engine, _)| engine);
        Some((statement.text.clone(), engine))
    }

    fn run_planned(
        &mut self,
        text: &str,
        plan: Option<bool>,
        simple: bool,
    ) -> Result<Outcome, Failure> {
        self.plan = plan;
        let outcome = self.run(text, simple);
        self.plan = None;
        outcome
    }

    /// The engine that reads what runs: true for HQE.
    fn runs_on_hqe(&self) -> bool {
        self.plan.unwrap_or_else(|| self.engine())
    }

    fn run(&mut self, text: &str, simple: bool) -> Result<Outcome, Failure> {
        self.ran.push(text.to_owned());
        let text = own(text);
        if self.chatty && (text.starts_with("enc") || text == "take") {
            self.said += 1;
            self.put(b'N', &[b'M', b'0' + self.said, 0, 0]);
        }
        if text.starts_with("SELECT pg_catalog.set_config") {
            self.may_set()?;
            self.local = Some(false);
            return Ok(Outcome::Rows(vec!["false".into()]));
        }
        if text.starts_with("SET ") || text == "set off" {
            self.may_set()?;
            self.session = text.ends_with("'on'");
            return Ok(Outcome::Tag("SET"));
        }
        if text.starts_with("RESET ") || text == "reset" || text == "set on" {
            self.session = true;
            return Ok(Outcome::Tag(if text == "set on" { "SET" } else { "RESET" }));
        }
        if text == "set nonsense" {
            return Err(("22023", "invalid value for parameter".into()));
        }
        if text == "local on" {
            self.local = (self.block == Block::Open).then_some(true);
            return Ok(Outcome::Tag("SET"));
        }
        if text == "half" {
            if self.runs_on_hqe() {
                if simple {
                    self.put(b'T', b"columns");
                }
                self.put(b'D', b"row 0");
                return Err(("XX000", PANGU.into()));
            }
            return Ok(Outcome::Rows(vec!["row 0".into(), "row 1".into()]));
        }
        if let Some(count) = text.strip_prefix("enc") {
            if self.runs_on_hqe() {
                return Err(("XX000", PANGU.into()));
            }
            let count = count.trim().parse().unwrap_or(1);
            return Ok(Outcome::Rows(
                (0..count).map(|row| format!("row {row}")).collect(),
            ));
        }
        if let Some((name, body)) = text
            .strip_prefix("hold ")
            .and_then(|rest| rest.split_once(' '))
        {
            if self.block == Block::Open {
                self.held.push(body.into());
            } else {
                self.run(body, simple)?;
            }
            self.portals.insert(name.into(), Portal::new(body));
            return Ok(Outcome::Tag("DECLARE CURSOR"));
        }
        if let Some((name, body)) = text
            .strip_prefix("declare ")
            .and_then(|rest| rest.split_once(' '))
        {
            self.portals.insert(name.into(), Portal::new(body));
            return Ok(Outcome::Tag("DECLARE CURSOR"));
        }
        if let Some((name, count)) = text
            .strip_prefix("fetch ")
            .and_then(|rest| rest.split_once(' '))
        {
            let Some(Portal {
                text: body, done, ..
            }) = self.portals.get(name.as_bytes()).cloned()
            else {
                return Err(("34000", "cursor does not exist".into()));
            };
            let Outcome::Rows(rows) = self.run(&body, simple)? else {
                return Ok(Outcome::Empty);
            };
            let end = rows.len().min(done + count.parse().unwrap_or(1));
            let portal = Portal {
                done: end,
                ..Portal::new(body)
            };
            self.portals.insert(name.into(), portal);
            return Ok(Outcome::Rows(rows[done.min(end)..end].to_vec()));
        }
        if let Some((name, body)) = text
            .strip_prefix("prepare ")
            .and_then(|rest| rest.split_once(' '))
        {
            if self.prepared.contains_key(name.as_bytes()) {
                return Err(("42P05", "prepared statement already exists".into()));
            }
            self.prepared
                .insert(name.as_bytes().into(), Prepared::new(body));
            return Ok(Outcome::Tag("PREPARE"));
        }
        if let Some(name) = text.strip_prefix("execute ") {
            let Some((body, plan)) = self.plan_of(name.as_bytes()) else {
                return Err(("26000", "prepared statement does not exist".into()));
            };
            let executable = [
                "enc", "half", "mine", "open", "moody", "plain", "write", "take",
            ];
            if !executable.iter().any(|word| body.starts_with(word)) {
                return Err(("42601", "only queries can be executed".into()));
            }
            return self.run_planned(&body, plan, simple);
        }
        if text == "SET cure = on" {
            self.cured = true;
            return Ok(Outcome::Tag("SET"));
        }
        if text == "DISCARD PLANS" {
            if self.refuse_discard {
                return Err(("42601", "syntax error".into()));
            }
            self.prepared.values_mut().for_each(|it| it.plan = None);
            return Ok(Outcome::Tag("DISCARD PLANS"));
        }
        if text == "take" {
            if self.runs_on_hqe() {
                self.left = self.leaves;
                return Err(("XX000", PANGU.into()));
            }
            if self.left {
                return Err(("42P07", "relation already exists".into()));
            }
            self.taken += 1;
            return Ok(Outcome::Tag("INSERT 0 1"));
        }
        if text.starts_with("SELECT 'Osprey") {
            return Err(("22P02", "invalid input syntax for type integer".into()));
        }
        match text {
            "" => Ok(Outcome::Empty),
            "moody" => {
                self.mood += 1;
                Ok(Outcome::Rows(vec![format!("mood {}", self.mood)]))
            }
            "plain" | "open" => Ok(Outcome::Rows(vec!["plain".into()])),
            "write" => Ok(Outcome::Tag("INSERT 0 1")),
            "fail" => Err(("22012", "division by zero".into())),
            "show" => {
                let on = self.local.unwrap_or(self.session);
                Ok(Outcome::Rows(vec![if on { "on" } else { "off" }.into()]))
            }
            "begin" | "BEGIN" => {
                self.block = Block::Open;
                Ok(Outcome::Tag("BEGIN"))
            }
            "commit" | "rollback" | "ROLLBACK" => {
                let commits = text == "commit" && self.block != Block::Failed;
                let held = std::mem::take(&mut self.held);
                if commits
                    && let Some(failure) = held.iter().find_map(|body| self.run(body, simple).err())
                {
                    self.block = Block::None;
                    self.taken = self.taken_at_begin;
                    return Err(failure);
                }
                if !commits {
                    self.taken = self.taken_at_begin;
                    self.session = self.at_begin;
                    self.path = self.path_at_begin;
                    self.set_style(self.style_at_begin);
                    self.set_quotes(self.quotes_at_begin);
                }
                self.block = Block::None;
                self.transaction_over();
                self.at_begin = self.session;
                self.style_at_begin = self.style;
                self.quotes_at_begin = self.quotes;
                self.path_at_begin = self.path;
                self.taken_at_begin = self.taken;
                Ok(Outcome::Tag(if commits { "COMMIT" } else { "ROLLBACK" }))
            }
            "savepoint" | "rollback to" if self.block == Block::None => {
                Err(("25P01", "only in transaction blocks".into()))
            }
            "savepoint" => {
                self.at_savepoint = Some((self.session, self.path, self.quotes));
                self.taken_at_savepoint = self.taken;
                Ok(Outcome::Tag("SAVEPOINT"))
            }
            "rollback to" => match self.at_savepoint {
                Some((session, path, quotes)) => {
                    self.set_quotes(quotes);
                    self.taken = self.taken_at_savepoint;
                    self.session = session;
                    self.path = path;
                    self.block = Block::Open;
                    Ok(Outcome::Tag("ROLLBACK"))
                }
                None => Err(("3B001", "savepoint does not exist".into())),
            },
            "discard all" => {
                self.prepared.clear();
                self.session = true;
                self.path = "pub";
                self.set_quotes("on");
                Ok(Outcome::Tag("DISCARD ALL"))
            }
            "vacuum" if self.block == Block::Open => Err((
                "25001",
                "VACUUM cannot run inside a transaction block".into(),
            )),
            "vacuum" => Ok(Outcome::Tag("VACUUM")),
            "warn" => {
                self.put(b'N', b"\0");
                Ok(Outcome::Tag("WARN"))
            }
            "path ext" | "path pub" => {
                self.path = if text == "path ext" { "ext" } else { "pub" };
                Ok(Outcome::Tag("SET"))
            }
            "mine" if self.path == "ext" => self.run("enc", simple),
            "unseen" => self.run("enc", simple),
            "mine" => self.run("plain", simple),
            "bold" | "faint" => {
                self.set_style(if text == "bold" { "bold" } else { "faint" });
                Ok(Outcome::Tag("SET"))
            }
            "quotes off" | "quotes on" => {
                self.set_quotes(if text == "quotes off" { "off" } else { "on" });
                Ok(Outcome::Tag("SET"))
            }
            "copyin" => {
                self.copy = Some(simple);
                self.put(b'G', &[0, 0, 0]);
                Ok(Outcome::Empty)
            }
            other => Err(("42601", format!("syntax error at {other}"))),
        }
    }

    fn set_style(&mut self, style: &'static str) {
        if self.style != style {
            self.style = style;
            self.put(b'S', format!("style\0{style}\0").as_bytes());
        }
    }

    fn set_quotes(&mut self, quotes: &'static str) {
        self.quotes = quotes;
        if !self.reports_late {
            self.report();
        }
    }

    /// The parameter is changed by something that no statement says.
    pub(super) fn quotes(&mut self, quotes: &'static str) {
        self.quotes = quotes;
        self.quotes_at_begin = quotes;
        self.report();
    }

    fn report(&mut self) {
        if self.reported != self.quotes {
            self.reported = self.quotes;
            let status = format!("standard_conforming_strings\0{}\0", self.quotes);
            self.put(b'S', status.as_bytes());
        }
    }

    /// A text as it is read now, whatever the setting is when it runs.
    fn read(&self, text: &str) -> String {
        let read = if self.quotes == "off" { "enc" } else { "plain" };
        text.replace(r"\'", read)
    }

    fn may_set(&self) -> Result<(), Failure> {
        self.set_fails.clone().map_or(Ok(()), Err)
    }

    fn transaction_over(&mut self) {
        self.local = None;
        self.held.clear();
        self.at_savepoint = None;
        self.portals.clear();
    }

    fn fail(&mut self, failure: &Failure, skip: bool) {
        compose::error(
            &mut self.output,
            [
                (b'S', b"ERROR".as_slice()),
                (b'V', b"ERROR"),
                (b'C', failure.0.as_bytes()),
                (b'M', failure.1.as_bytes()),
            ],
        );
        self.skipping = skip;
        if self.block == Block::None {
            self.taken = self.taken_at_begin;
            self.session = self.at_begin;
            self.path = self.path_at_begin;
            self.set_style(self.style_at_begin);
            self.set_quotes(self.quotes_at_begin);
            self.transaction_over();
            self.started = false;
        } else {
            self.block = Block::Failed;
        }
    }

    fn end_query(&mut self) {
        if self.block == Block::None {
            self.transaction_over();
        }
        self.started = false;
        self.ready();
    }

    fn ready(&mut self) {
        self.report();
        let status = match self.block {
            Block::None => b"I",
            Block::Open => b"T",
            Block::Failed => b"E",
        };
        self.put(b'Z', status);
    }
}

enum Outcome {
    Tag(&'static str),
    Rows(Vec<String>),
    Empty,
}

/// A statement without Osprey's mark.
fn own(text: &str) -> &str {
    text.trim().trim_start_matches("/* osprey */ ")
}

/// What a client sees, readable: `Z` with its status, `C` with its tag, errors by SQLSTATE.
pub(super) fn transcript(mut bytes: &[u8]) -> Vec<String> {
    let mut seen = Vec::new();
    while let Ok(Some(header)) = Header::read(bytes) {
        assert!(header.frame <= bytes.len(), "a message was cut off");
        let body = &bytes[HEADER..header.frame];
        let tag = char::from(header.tag);
        seen.push(match tag {
            'E' => format!(
                "E {}",
                String::from_utf8_lossy(ErrorFields::new(body).sqlstate())
            ),
            'Z' | 'C' | 'D' | 'S' => format!(
                "{tag} {}",
                String::from_utf8_lossy(body).trim_end_matches('\0')
            ),
            _ => tag.to_string(),
        });
        bytes = &bytes[header.frame..];
    }
    assert!(bytes.is_empty(), "a message was cut off");
    seen
}
