//! What a message of the client's is, and what the statement does that it carries, binds or runs.

use std::sync::Arc;

use crate::protection::{Decision, SessionChange};
use crate::sql::{Change, Effects, call_with};
use crate::wire::backend::Status;
use crate::wire::frontend::{Bind, Parse, Target, execute_portal, query_text, tag};
use crate::wire::{HEADER, Header};

use super::Core;
use super::context::Deciding;
use super::interface::World;
use super::ledger::Sent;
use super::names::Names;
use super::remembered::WORTH_REMEMBERING;

/// What a message turns out to be.
pub(super) enum Look<'a> {
    /// False: the server may refuse the text for its encoding, before it begins with the Query.
    Query(Arc<Decision>, bool),
    /// False: only the head of the text is in hand.
    Parse(Parse<'a>, bool, Arc<Decision>),
    Bind(Bind<'a>, Arc<Decision>),
    /// The portal's name, and what it runs.
    Execute(&'a [u8], Sent),
    Describe(Option<Target<'a>>),
    Close(Option<Target<'a>>),
    /// A message that the server will refuse: it is forwarded, and its refusal explains it.
    Malformed(u8),
    Sync,
    FunctionCall,
    CopyData,
    CopyEnd,
    Terminate,
    Other,
}

impl Look<'_> {
    /// That of the statement which the message carries, binds or runs.
    pub(super) fn decision(&self) -> Option<&Decision> {
        match self {
            Self::Query(decision, _) | Self::Parse(_, _, decision) | Self::Bind(_, decision) => {
                Some(decision)
            }
            Self::Execute(_, portal) => Some(&portal.decision),
            _ => None,
        }
    }
}

/// A Parse carries one statement: what its text may do behind the part that is in hand, it does not
/// do for another one.
fn one_statement(mut decision: Arc<Decision>) -> Arc<Decision> {
    let anything = SessionChange::from(Change::Anything);
    if decision.changes.contains(&anything) {
        let decision = Arc::make_mut(&mut decision);
        decision.changes.retain(|change| *change != anything);
    }
    decision
}

impl Core {
    /// How many bytes of a message must be in hand before it can be looked at.
    pub(super) fn wanted(&self, header: Header, rest: &[u8]) -> usize {
        if header.frame <= rest.len() {
            return 0;
        }
        let head = match header.tag {
            // The names come first; what follows them may be a gigabyte.
            tag::BIND => {
                let body = &rest[HEADER..rest.len().min(header.frame)];
                match Bind::read(body) {
                    Some(bind) if !self.names.may_run_values(bind.statement) => return 0,
                    Some(_) => HEADER + self.policy.inspect,
                    None => (rest.len().max(64) * 2).min(HEADER + self.policy.inspect),
                }
            }
            tag::QUERY | tag::PARSE | tag::DESCRIBE | tag::CLOSE | tag::EXECUTE => {
                HEADER + self.policy.inspect
            }
            _ => return 0,
        };
        header.frame.min(head)
    }

    /// What a message is, and what the statement does that it carries, binds or runs. `decided`: what the
    /// text of a Query does, if that was found out before.
    pub(super) fn look<'a>(
        &mut self,
        header: Header,
        frame: &'a [u8],
        decided: Option<Arc<Decision>>,
        world: &impl World,
    ) -> Look<'a> {
        // However much is in hand: what is seen does not depend on how the bytes came.
        let seen = frame.len().min(HEADER + self.policy.inspect);
        let body = &frame[HEADER..seen];
        let whole = seen == header.frame;
        match header.tag {
            tag::QUERY => {
                let text = query_text(body);
                let decision = match decided {
                    Some(decision) => decision,
                    None if whole => self.decide_query(text, world),
                    None => self.deciding(world).decide(text, false),
                };
                Look::Query(self.effective(decision, world), whole && text.is_ascii())
            }
            tag::PARSE => match Parse::read(body) {
                Some(parse) => {
                    let decision = self.decide_parse(parse.text, whole, world);
                    Look::Parse(parse, whole, decision)
                }
                None => Look::Malformed(header.tag),
            },
            tag::BIND => match Bind::read(body) {
                Some(bind) => {
                    let decision = if self.ledger.has_names() {
                        self.prepared(bind.statement, &Decision::default(), 0, world)
                            .map(Arc::new)
                    } else {
                        let (names, deciding) = self.naming(world);
                        names.decision(bind.statement, &deciding)
                    };
                    let decision = match decision {
                        Some(decision) => self.effective(decision, world),
                        None => Arc::clone(&self.unknown),
                    };
                    let decision = self.with_values(decision, bind, world);
                    Look::Bind(bind, decision)
                }
                None => Look::Malformed(header.tag),
            },
            tag::EXECUTE => match execute_portal(body) {
                Some(name) => {
                    let sent = self.names.portal(name);
                    Look::Execute(name, sent.unwrap_or_else(|| self.unseen()))
                }
                None => Look::Malformed(header.tag),
            },
            tag::DESCRIBE => Look::Describe(Target::read(body)),
            tag::CLOSE => Look::Close(Target::read(body)),
            tag::SYNC => Look::Sync,
            tag::FUNCTION_CALL => Look::FunctionCall,
            tag::COPY_DATA => Look::CopyData,
            tag::COPY_DONE | tag::COPY_FAIL => Look::CopyEnd,
            tag::TERMINATE => Look::Terminate,
            // It has no body; with one it fails, and the server skips to a Sync.
            tag::FLUSH if header.frame > HEADER => Look::Malformed(header.tag),
            _ => Look::Other,
        }
    }

    /// A decision together with what the values of a Bind do that the statement may run as a text
    /// (`CALL hg_insert_overwrite($1, $2)`): the same as if they stood in it.
    fn with_values(
        &self,
        decision: Arc<Decision>,
        bind: Bind<'_>,
        world: &impl World,
    ) -> Arc<Decision> {
        let Some(function) = decision.opaque.first() else {
            return decision;
        };
        let mut values = bind.values().filter(|value| !value.is_empty()).peekable();
        if decision.protected.is_some()
            || values.peek().is_none()
            || !self.names.may_run_values(bind.statement)
        {
            return decision;
        }
        let called = self
            .deciding(world)
            .decide(&call_with(function, values), true);
        let reads = called.effects.intersects(Effects::READS_FOREIGN);
        if called.protected.is_none() && !reads {
            return decision;
        }
        let mut decision = (*decision).clone();
        decision.protected.clone_from(&called.protected);
        decision.effects |= called.effects.intersection(Effects::READS_FOREIGN);
        decision.suspect(&called);
        Arc::new(decision)
    }

    /// What the text of a Query does.
    pub(super) fn decide_query(&mut self, text: &[u8], world: &impl World) -> Arc<Decision> {
        if text.len() >= WORTH_REMEMBERING {
            self.decide_whole(text, world)
        } else {
            self.deciding(world).decide(text, true)
        }
    }

    /// What the statement of a Parse does.
    fn decide_parse(&mut self, text: &[u8], whole: bool, world: &impl World) -> Arc<Decision> {
        if whole {
            self.decide_whole(text, world)
        } else {
            one_statement(self.deciding(world).decide(text, whole))
        }
    }

    /// What a text does that a client may send again and again, as one does that does not name its
    /// statements.
    fn decide_whole(&mut self, text: &[u8], world: &impl World) -> Arc<Decision> {
        let deciding = self.deciding(world);
        if !deciding.is_certain() {
            return deciding.decide(text, true);
        }
        let generation = deciding.generation();
        self.context.decided(text, generation).unwrap_or_else(|| {
            let decision = self.deciding(world).decide(text, true);
            self.context.remember(text, generation, &decision);
            decision
        })
    }

    /// What a statement is decided by that is sent now.
    pub(super) fn deciding<'a, W: World>(&'a self, world: &'a W) -> Deciding<'a, W> {
        Deciding {
            world,
            in_block: self.cycle.status() != Status::Idle,
            context: &self.context,
            ledger: &self.ledger,
            around: &[],
        }
    }

    /// The names, and what a statement is decided by that is sent now.
    pub(super) fn naming<'a, W: World>(
        &'a mut self,
        world: &'a W,
    ) -> (&'a mut Names, Deciding<'a, W>) {
        let deciding = Deciding {
            world,
            in_block: self.cycle.status() != Status::Idle,
            context: &self.context,
            ledger: &self.ledger,
            around: &[],
        };
        (&mut self.names, deciding)
    }
}
