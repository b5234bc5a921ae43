//! A client, the core and a backend, stepped by hand: no socket, no clock.

use std::sync::Arc;

use crate::advice::NotRetried;
use crate::core::{
    Advised, Commands, Core, Cure, ErrorContext, Event, Op, Outbox, Policy, Queue, Told, World,
};
use crate::protection::{
    Backslash, Beginning, Decision, Effects, Lexing, NameContext, NameUse, Reason, SessionChange,
    SessionNames, Source,
};
use crate::sql::{Change, RouteSetting, Value};
use crate::wire::backend::ErrorFields;
use crate::wire::compose;

use super::model::Backend;

/// What is known, for tests.
#[derive(Debug, Clone)]
pub(super) struct FakeWorld {
    /// `enc` is known to be protected; otherwise it merely may need to be run again.
    pub(super) known: bool,
    /// Counts the changes of what is known.
    pub(super) generation: u64,
    pub(super) proven: bool,
    pub(super) cancelled: bool,
    pub(super) keeps_all: bool,
    pub(super) reads_encrypted: bool,
    /// The server takes DISCARD PLANS, as far as anybody knows.
    pub(super) replans: Option<bool>,
    /// What cures an error, as the table says.
    pub(super) cure: Cure,
    /// What the core said of the last error that was rewritten: the route had been set for it.
    pub(super) was_set: std::cell::Cell<bool>,
    /// It said so of any of them. The model's server never fails so where the route is set.
    pub(super) ever_was_set: std::cell::Cell<bool>,
    /// The search paths by which the core has had something decided.
    pub(super) paths: std::cell::RefCell<Vec<String>>,
    /// The ways in which it has had something read.
    pub(super) lexings: std::cell::RefCell<Vec<Lexing>>,
}

/// How names resolve at login.
pub(super) fn at_login() -> SessionNames {
    SessionNames::new(NameContext::new("ann", "pub"))
}

/// The search path, if it is known.
fn path(names: &SessionNames) -> String {
    let path = names.names().search_path.as_ref();
    path.map_or_else(|| "?".into(), |path| path.join(","))
}

/// What a statement changes for how names resolve.
fn changes(word: &str) -> Option<SessionChange> {
    let path = |path: &str| Change::SearchPath {
        path: Value::Is(vec![path.into()]),
        local: false,
    };
    let quotes = |backslash| Change::Backslash {
        backslash: Value::Is(backslash),
        local: false,
    };
    let route = |value, local| Change::Route {
        setting: RouteSetting::OrcViaHolo,
        value,
        local,
    };
    let change = match word {
        "set on" | "set off" | "set nonsense" => route(Value::Is(word[4..].into()), false),
        "local on" => route(Value::Is(word.into()), true),
        "reset" => route(Value::Default, false),
        "begin" => Change::Begin,
        "commit" => Change::Commit,
        "rollback" => Change::Rollback,
        "savepoint" => Change::Savepoint("s".into()),
        "rollback to" => Change::RollbackTo("s".into()),
        "path ext" => path("ext"),
        "path pub" => path("pub"),
        "quotes off" => quotes(Backslash::Escapes),
        "quotes on" => quotes(Backslash::Plain),
        "discard all" => Change::DiscardAll,
        _ => return None,
    };
    Some(change.into())
}

impl World for FakeWorld {
    fn decide(
        &self,
        text: &[u8],
        _whole: bool,
        names: &SessionNames,
        lexing: Lexing,
    ) -> Arc<Decision> {
        let text = String::from_utf8_lossy(text);
        let mut decision = Decision::default();
        if text.contains(';') {
            decision.effects = Effects::MULTIPLE;
        }
        let mut names = names.clone();
        self.paths.borrow_mut().push(path(&names));
        self.lexings.borrow_mut().push(lexing);
        let mut add = |effects| decision.effects |= effects;
        for word in text.split(';').map(str::trim) {
            if let Some(change) = changes(word) {
                names.apply(std::slice::from_ref(&change));
                decision.changes.push(change);
            }
            match word {
                "begin" => add(Effects::BEGINS),
                "commit" | "rollback" | "rollback to" => add(Effects::ENDS),
                "set on" | "set off" | "set nonsense" | "local on" => add(Effects::SETS_ROUTE),
                "reset" => add(Effects::RESETS_ROUTE),
                "discard all" => add(Effects::RESETS_ALL.union(Effects::WRITES)),
                "copyin" => add(Effects::COPY_IN.union(Effects::WRITES)),
                "write" => add(Effects::UNDONE_WHOLE),
                "vacuum" => add(Effects::WRITES),
                "doubt" => add(Effects::ROUTE_DOUBT.union(Effects::WRITES)),
                _ => {}
            }
            let mut body = word;
            if let Some((name, declared)) = word
                .strip_prefix("declare ")
                .or_else(|| word.strip_prefix("hold "))
                .and_then(|rest| rest.split_once(' '))
            {
                decision.names.push(NameUse::Declare(name.into()));
                body = declared;
            }
            if let Some((name, _)) = word
                .strip_prefix("fetch ")
                .and_then(|rest| rest.split_once(' '))
            {
                decision.names.push(NameUse::Fetch(name.into()));
            }
            let mine = body == "mine" && path(&names) != "pub";
            let escaped = body == r"\'" && lexing.backslash == Backslash::Escapes;
            if body == "take" {
                add(Effects::UNDONE_WHOLE);
            }
            if body.starts_with("enc") || matches!(body, "half" | "take") || mine || escaped {
                add(Effects::READS_FOREIGN);
                if self.known {
                    decision.protected = Some(Arc::new(Reason {
                        relation: "public.enc".into(),
                        via: Vec::new(),
                        project: None,
                        key: None,
                        source: Source::Pattern,
                    }));
                }
            }
            if word == "open" {
                add(Effects::READS_FOREIGN);
            }
            if let Some((name, prepared)) = word
                .strip_prefix("prepare ")
                .and_then(|rest| rest.split_once(' '))
            {
                decision.names.push(NameUse::Prepare {
                    name: name.into(),
                    text: prepared.as_bytes().into(),
                    backslash: lexing.backslash,
                });
            }
            if let Some(name) = word.strip_prefix("execute ") {
                decision.names.push(NameUse::Execute(name.into()));
            }
        }
        Arc::new(decision)
    }

    fn begins(&self, _: &[u8], _: &SessionNames, _: Lexing) -> Option<Beginning> {
        None
    }

    fn generation(&self) -> u64 {
        self.generation
    }

    fn knows_the_catalogs(&self) -> bool {
        true
    }

    fn catalog_changed(&self, _names: &SessionNames) {}

    fn has_protected(&self) -> bool {
        self.known
    }

    fn reads_encrypted_already(&self) -> bool {
        self.reads_encrypted
    }

    fn may_need_retry(&self) -> bool {
        true
    }

    fn is_cancelled(&self) -> bool {
        self.cancelled
    }

    fn keeps_all(&self) -> bool {
        self.keeps_all
    }

    fn is_proven(&self) -> bool {
        self.proven
    }

    fn replans(&self) -> Option<bool> {
        self.replans
    }

    fn advise(&self, error: ErrorFields<'_>, context: &ErrorContext<'_>) -> Option<Advised> {
        let pangu = String::from_utf8_lossy(error.message()).contains("pangu");
        pangu.then(|| {
            self.was_set.set(context.route_was_set);
            self.ever_was_set
                .set(self.ever_was_set.get() | context.route_was_set);
            let mut frame = Vec::new();
            compose::error(
                &mut frame,
                [
                    (b'S', b"ERROR".as_slice()),
                    (b'C', b"XX000"),
                    (b'M', b"advice"),
                ],
            );
            Advised {
                frame,
                code: "OSP-1001",
                cure: Some(self.cure.clone()),
            }
        })
    }
}

/// The three, and the bytes between them.
pub(super) struct Trio {
    pub(super) world: FakeWorld,
    pub(super) core: Core,
    pub(super) backend: Backend,
    out: Outbox,
    from_client: Vec<u8>,
    client_staged: Vec<u8>,
    client_wanted: usize,
    /// What of it the core has seen, or could.
    client_shown: usize,
    from_server: Vec<u8>,
    server_staged: Vec<u8>,
    server_wanted: usize,
    server_shown: usize,
    /// Everything the client got.
    pub(super) to_client: Vec<u8>,
    /// Everything the server got.
    pub(super) to_server: Vec<u8>,
    /// What went to the server, one entry per turn: a turn is one write.
    pub(super) writes: Vec<Vec<u8>>,
    pub(super) events: Vec<Event>,
    /// Something may be run again.
    pub(super) retries: bool,
}

pub(super) fn policy() -> Policy {
    Policy {
        commands: Arc::new(Commands::new("route", "false")),
        per_statement: false,
        observe: false,
        enforce: false,
        retry_buffer: None,
        retry_writes: true,
        inspect: 1 << 16,
        relay_only: false,
        told: Told::None,
        client_route: None,
    }
}

pub(super) fn known() -> FakeWorld {
    FakeWorld {
        known: true,
        proven: true,
        cancelled: false,
        keeps_all: false,
        reads_encrypted: false,
        replans: None,
        cure: Cure::Route,
        generation: 1,
        was_set: std::cell::Cell::default(),
        ever_was_set: std::cell::Cell::default(),
        paths: std::cell::RefCell::default(),
        lexings: std::cell::RefCell::default(),
    }
}

pub(super) fn unknown() -> FakeWorld {
    FakeWorld {
        known: false,
        ..known()
    }
}

/// Does what a queue says, over the bytes that the core has dealt with.
fn perform(queue: &mut Queue, staged: &mut Vec<u8>, to: &mut Vec<u8>) {
    let mut at = 0;
    let mut sent = 0;
    for op in queue.iter() {
        match op {
            Op::Forward(bytes) => {
                to.extend_from_slice(&staged[at..at + bytes]);
                at += bytes;
                sent += bytes;
            }
            Op::Drop(bytes) => at += bytes,
            Op::Own(bytes) => {
                to.extend_from_slice(bytes);
                sent += bytes.len();
            }
        }
    }
    let consumed = queue.advance(sent);
    assert_eq!(consumed, at);
    assert!(queue.is_empty());
    staged.drain(..consumed);
    assert!(staged.is_empty());
}

impl Trio {
    pub(super) fn new(policy: Policy, world: FakeWorld) -> Self {
        Self {
            world,
            retries: policy.retry_buffer.is_some(),
            core: Core::new(policy, at_login()),
            backend: Backend::new(false),
            out: Outbox::default(),
            from_client: Vec::new(),
            client_staged: Vec::new(),
            client_wanted: 0,
            client_shown: 0,
            from_server: Vec::new(),
            server_staged: Vec::new(),
            server_wanted: 0,
            server_shown: 0,
            to_client: Vec::new(),
            to_server: Vec::new(),
            writes: Vec::new(),
            events: Vec::new(),
        }
    }

    /// The client sends.
    pub(super) fn client(&mut self, bytes: &[u8]) {
        self.from_client.extend_from_slice(bytes);
    }

    /// Up to `count` new bytes from the client reach the core.
    pub(super) fn frontend(&mut self, count: usize) -> bool {
        let before = self.client_shown;
        let take = before.saturating_add(count).min(self.from_client.len());
        self.client_shown = take;
        if take == 0 || take < self.client_wanted {
            return take > before;
        }
        let is_new = take > before;
        let progress = self
            .core
            .on_frontend(&self.from_client[..take], &self.world, &mut self.out);
        self.client_wanted = progress.wanted;
        self.client_shown -= progress.consumed;
        self.client_staged
            .extend(self.from_client.drain(..progress.consumed));
        let before = self.to_server.len();
        self.flush();
        is_new || progress.consumed > 0 || self.to_server.len() > before
    }

    /// The server handles one message.
    pub(super) fn server(&mut self) -> bool {
        let stepped = self.backend.step();
        let answer = self.backend.take();
        self.from_server.extend_from_slice(&answer);
        stepped
    }

    /// Up to `count` new bytes from the server reach the core.
    pub(super) fn backward(&mut self, count: usize) -> bool {
        let before = self.server_shown;
        let take = before.saturating_add(count).min(self.from_server.len());
        self.server_shown = take;
        if take == 0 || take < self.server_wanted {
            return take > before;
        }
        let progress = self
            .core
            .on_backend(&self.from_server[..take], &self.world, &mut self.out);
        self.server_wanted = progress.wanted;
        self.server_shown -= progress.consumed;
        self.server_staged
            .extend(self.from_server.drain(..progress.consumed));
        self.flush();
        take > before || progress.consumed > 0
    }

    fn flush(&mut self) {
        if let Err(broken) = self.core.check() {
            panic!("{broken}");
        }
        let mut to_server = Vec::new();
        perform(
            &mut self.out.to_server,
            &mut self.client_staged,
            &mut to_server,
        );
        perform(
            &mut self.out.to_client,
            &mut self.server_staged,
            &mut self.to_client,
        );
        if !to_server.is_empty() {
            self.backend.send(&to_server);
            self.to_server.extend_from_slice(&to_server);
            self.writes.push(to_server);
        }
        while let Some(event) = self.core.take_event() {
            if event == Event::Proven {
                self.world.proven = true;
            }
            self.events.push(event);
        }
    }

    /// Lets everything flow until nothing moves.
    pub(super) fn settle(&mut self) {
        self.flow();
        assert!(
            !self
                .events
                .iter()
                .any(|event| matches!(event, Event::RelayOnly(_))),
            "the core lost track: {:?}",
            self.events
        );
    }

    /// Lets what the client sends flow to the server, which does nothing yet.
    pub(super) fn settle_frontend(&mut self) {
        while self.frontend(usize::MAX) {}
    }

    /// The same, whatever the core thinks of it.
    pub(super) fn flow(&mut self) {
        while self.frontend(usize::MAX) | self.server() | self.backward(usize::MAX) {}
    }

    /// The client sends, everything flows; what the client got.
    pub(super) fn exchange(&mut self, bytes: &[u8]) -> Vec<String> {
        self.client(bytes);
        self.settle();
        self.seen()
    }

    /// What the client got since the last call.
    pub(super) fn seen(&mut self) -> Vec<String> {
        super::model::transcript(&std::mem::take(&mut self.to_client))
    }

    /// The reason that the last rewritten error gives for not having been run again.
    pub(super) fn last_refusal(&self) -> Option<NotRetried> {
        self.events.iter().rev().find_map(|event| match event {
            Event::ErrorRewritten { not_retried, .. } => *not_retried,
            _ => None,
        })
    }
}

/// Frames, for clients.
pub(super) mod msg {
    use crate::wire::compose;

    fn frame(tag: u8, body: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        compose::frame(&mut out, tag, |out| out.extend_from_slice(body));
        out
    }

    pub(in super::super) fn query(sql: &str) -> Vec<u8> {
        frame(b'Q', format!("{sql}\0").as_bytes())
    }

    pub(in super::super) fn parse(name: &str, sql: &str) -> Vec<u8> {
        frame(b'P', format!("{name}\0{sql}\0\0\0").as_bytes())
    }

    pub(in super::super) fn bind(portal: &str, statement: &str) -> Vec<u8> {
        frame(
            b'B',
            format!("{portal}\0{statement}\0\0\0\0\0\0\0").as_bytes(),
        )
    }

    pub(in super::super) fn execute(portal: &str, rows: u32) -> Vec<u8> {
        let mut body = format!("{portal}\0").into_bytes();
        body.extend_from_slice(&rows.to_be_bytes());
        frame(b'E', &body)
    }

    pub(in super::super) fn describe(kind: char, name: &str) -> Vec<u8> {
        frame(b'D', format!("{kind}{name}\0").as_bytes())
    }

    pub(in super::super) fn close(kind: char, name: &str) -> Vec<u8> {
        frame(b'C', format!("{kind}{name}\0").as_bytes())
    }

    pub(in super::super) fn sync() -> Vec<u8> {
        frame(b'S', b"")
    }

    pub(in super::super) fn copy_data(data: &str) -> Vec<u8> {
        frame(b'd', data.as_bytes())
    }

    pub(in super::super) fn copy_done() -> Vec<u8> {
        frame(b'c', b"")
    }

    pub(in super::super) fn copy_fail() -> Vec<u8> {
        frame(b'f', b"given up\0")
    }

    /// Parse, Bind, Execute of the unnamed statement.
    pub(in super::super) fn extended(sql: &str) -> Vec<u8> {
        [parse("", sql), bind("", ""), execute("", 0)].concat()
    }
}
