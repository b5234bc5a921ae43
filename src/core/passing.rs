//! What nearly every cycle is: one that is sent whole while nothing else is on its way, of statements
//! in which there is nothing for a session to follow ([`Decision::passes`]), or of such as read
//! MaxCompute data where the route is set and stays as it is. All that the walk would
//! note of its messages one by one is noted here at once; its answers are passed on up to
//! ReadyForQuery, and nobody counts them.
//!
//! Whatever else it is, the walk goes on message by message. Which of the two it was nobody can tell
//! from outside; a test compares them.

use std::sync::Arc;

use crate::protection::Decision;
use crate::sql::is_plain;
use crate::wire::backend::Status;
use crate::wire::frontend::tag;
use crate::wire::{HEADER, Header};

use super::Core;
use super::interface::{Told, World};
use super::ledger::Sent;
use super::remembered::{Generation, WORTH_REMEMBERING};
use super::route::State;

/// What was found where a cycle may begin.
pub(super) enum Found {
    /// A cycle that passes, of so many bytes: it has been noted.
    Whole(usize),
    /// The walk has to look; the decision of its Query is made already.
    Query(Arc<Decision>),
    /// The walk has to look.
    Other,
}

/// A cycle of the extended protocol that passes.
#[derive(Default)]
struct Extended {
    /// Bytes, its Sync included.
    length: usize,
    executes: u32,
    /// What the unnamed statement does, if it is parsed anew.
    parsed: Option<Arc<Decision>>,
    /// What its one statement does.
    bound: Option<Arc<Decision>>,
}

impl Core {
    /// Notes the cycle with which the present call's input begins, if it passes.
    #[inline]
    pub(super) fn pass(&mut self, input: &[u8], world: &impl World) -> Found {
        if !std::mem::take(&mut self.has_just_passed) && !self.is_at_ease() || world.keeps_all() {
            return Found::Other;
        }
        match input.first() {
            Some(&tag::QUERY) => self.pass_query(input, world),
            Some(&(tag::PARSE | tag::BIND)) => self.pass_extended(input, world),
            _ => Found::Other,
        }
    }

    /// True if a statement that does this is sent as it is, and nothing of it is kept. Where the route is
    /// set, nothing is run again, and what was planned before has been planned anew.
    #[inline]
    fn passes(&self, decision: &Decision) -> bool {
        decision.passes()
            || self.route.state() == State::Set
                && !self.route.has_stale_plans()
                && (decision.protected.is_some() || !self.policy.per_statement)
                && decision.passes_where_it_reads()
    }

    /// True if nothing is on its way, and nothing is to be kept or told of what is sent now.
    #[inline]
    pub(super) fn is_at_ease(&self) -> bool {
        #[cfg(test)]
        if self.walks_all {
            return false;
        }
        self.ledger.is_empty()
            && self.ended.is_none()
            && !self.relay_only
            && !self.from_client.is_mid_message()
            && self.cycle.is_over()
            && self.context.is_certain(self.cycle.status())
            && !self.copy.is_on()
            && !self.retry.is_on()
            && !self.names.needs_plan()
            && self.policy.told == Told::None
    }

    /// The message at the beginning of `input`, if it is in hand in full and is looked at in full.
    #[inline]
    fn whole_message<'i>(&self, input: &'i [u8]) -> Option<(u8, &'i [u8])> {
        let header = Header::read(input).ok()??;
        if header.frame > HEADER + self.policy.inspect {
            return None;
        }
        Some((header.tag, input.get(HEADER..header.frame)?))
    }

    fn pass_query(&mut self, input: &[u8], world: &impl World) -> Found {
        let Some((_, body)) = self.whole_message(input) else {
            return Found::Other;
        };
        let Some((0, text)) = body.split_last() else {
            return Found::Other;
        };
        let generation = self.deciding(world).generation();
        let (decision, is_plain) = match self.context.begins_as_before(text, generation) {
            Some(decision) => (decision, true),
            None => match self.decide_whole_query(text, generation, world) {
                Some(decided) => decided,
                None => return Found::Other,
            },
        };
        if !self.passes(&decision) {
            return Found::Query(decision);
        }
        self.tally.queries += 1;
        // The server may refuse other texts for their encoding, before it begins with the Query.
        self.names.simple_query(is_plain);
        self.note_whole(self.sent(decision), 1);
        Found::Whole(HEADER + body.len())
    }

    /// What the text of a Query does, and whether all of it is ASCII; `None`: a zero is within it. A short
    /// one is remembered, if there is nothing to say of it.
    #[inline(never)]
    fn decide_whole_query(
        &mut self,
        text: &[u8],
        generation: Generation,
        world: &impl World,
    ) -> Option<(Arc<Decision>, bool)> {
        let is_plain = is_plain(text);
        if !is_plain && memchr::memchr(0, text).is_some() {
            return None;
        }
        let decision = self.decide_query(text, world);
        if is_plain
            && text.len() < WORTH_REMEMBERING
            && decision.passes()
            && decision.effects.is_empty()
        {
            self.context.glance(text, generation, &decision, world);
        }
        Some((decision, is_plain))
    }

    #[inline(never)]
    fn pass_extended(&mut self, input: &[u8], world: &impl World) -> Found {
        let Some(Extended {
            length,
            executes,
            parsed,
            bound: Some(decision),
        }) = self.extended(input, world)
        else {
            return Found::Other;
        };
        self.tally.executes += u64::from(executes);
        if let Some(parsed) = parsed {
            self.names.parse_unnamed(parsed);
        }
        let sent = self.sent(decision);
        self.note_whole(sent.clone(), executes);
        self.names.bind(b"", sent);
        Found::Whole(length)
    }

    /// What a cycle of the extended protocol is; `None`: it is not in hand up to its Sync, or does not
    /// pass. Its statements have one decision, so that it does not matter which of them an error is of.
    fn extended(&mut self, input: &[u8], world: &impl World) -> Option<Extended> {
        let mut cycle = Extended::default();
        loop {
            let (kind, body) = self.whole_message(&input[cycle.length..])?;
            cycle.length += HEADER + body.len();
            match kind {
                tag::PARSE => {
                    // Of the unnamed statement.
                    let (0, begins) = body.split_first()? else {
                        return None;
                    };
                    let generation = self.deciding(world).generation();
                    // The walk remembers what it decides.
                    let decision = self.context.decided_up_to_zero(begins, generation)?;
                    cycle.parsed = Some(decision).filter(|decision| self.passes(decision));
                    cycle.parsed.as_ref()?;
                }
                tag::BIND => {
                    // To the unnamed portal.
                    let (0, statement) = body.split_first()? else {
                        return None;
                    };
                    let decision = match &cycle.parsed {
                        Some(parsed) if statement.first() == Some(&0) => Arc::clone(parsed),
                        _ => {
                            let (names, deciding) = self.naming(world);
                            names.settled_decision(statement, &deciding)?
                        }
                    };
                    let same = |bound: &Arc<Decision>| Arc::ptr_eq(bound, &decision);
                    if !self.passes(&decision) || !cycle.bound.as_ref().is_none_or(same) {
                        return None;
                    }
                    cycle.bound = Some(decision);
                }
                // Of the unnamed portal.
                tag::EXECUTE if cycle.bound.is_some() && body.first() == Some(&0) => {
                    cycle.executes += 1;
                }
                tag::DESCRIBE => {}
                tag::FLUSH if body.is_empty() => {}
                tag::SYNC => return Some(cycle),
                _ => return None,
            }
        }
    }

    /// Notes the ReadyForQuery of a cycle that passes, if nothing is on its way behind it. False: the walk
    /// has to look.
    #[expect(clippy::inline_always, reason = "a call costs as much as a part of it")]
    #[inline(always)]
    pub(super) fn passes_end(&mut self, status: Status, world: &impl World) -> bool {
        if self.cycle.is_open() || !self.ledger.end_passing() {
            return false;
        }
        self.cycle.passed(status);
        self.copy.over();
        self.cycle_ended(status, world);
        self.note_cure();
        self.tally.cycles += 1;
        self.has_just_passed = self.context.is_certain(status);
        true
    }

    /// Notes what both kinds of cycles have in common.
    #[expect(clippy::inline_always, reason = "a call costs as much as a part of it")]
    #[inline(always)]
    fn note_whole(&mut self, sent: Sent, runs: u32) {
        self.cycle.pass(sent.decision.effects, runs);
        self.count_reads(&sent.decision, runs);
        self.names.cycle_turns();
        self.keep_nothing(0);
        self.ledger.push_passing(sent);
    }
}
