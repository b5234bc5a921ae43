//! What a turn has to ask and to do beside moving bytes, where something is unusual.

use std::pin::Pin;
use std::task;

use super::Running;
use super::unusual::{HELD_PATIENCE, Unusual};
use crate::net::Transport;
use crate::net::moment::Moment;
use crate::session::read_ahead::Grant;

impl<T: Transport> Running<T> {
    /// True if there is, or may be, more to do than to move bytes: once it is found that somebody wants
    /// something of this session or that something does not go on, until it is found that nothing of
    /// [`Unusual`] is the case.
    #[inline]
    pub(super) fn is_unusual(&self) -> bool {
        self.unusual.is_some()
    }

    /// True if nothing was unusual, and nobody wants anything. Who does wakes the session when he has
    /// said so.
    #[inline]
    pub(super) fn is_let_alone(&self) -> bool {
        !self.is_unusual() && self.entered.live().is_let_alone()
    }

    /// True if nothing has ended, and nothing is in the way.
    #[inline]
    pub(super) fn goes_on(&self) -> bool {
        if self.core.ended().is_some() || self.front.ended().is_some() || self.front.waits().held {
            return false;
        }
        self.back.ended().is_none() && !self.back.is_broken()
    }

    /// What is unusual about this session, to be changed.
    pub(super) fn unusual(&mut self) -> &mut Unusual {
        self.unusual.get_or_insert_default()
    }

    fn is(&self, what: impl FnOnce(&Unusual) -> bool) -> bool {
        self.unusual.as_deref().is_some_and(what)
    }

    /// True if nothing is read of the client, since the session is paused.
    #[inline]
    pub(super) fn is_holding(&self) -> bool {
        self.is(|unusual| unusual.holding)
    }

    /// True if the client is known to have gone, whatever of it was not read.
    pub(super) fn has_left(&self) -> bool {
        self.is(|unusual| unusual.left)
    }

    /// True if the server has been told that the client sends no more.
    pub(super) fn is_server_shut(&self) -> bool {
        self.is(|unusual| unusual.server_shut)
    }

    /// True while nothing is to be read of the client, since that may begin a transaction.
    pub(super) fn holds(&self) -> bool {
        self.entered.live().is_paused()
            && self.front.ended().is_none()
            && self.core.is_quiet()
            && self.front.is_drained(&self.out.to_server)
            && self.back.is_drained(&self.out.to_client)
    }

    /// True while a cancel of Osprey's own is on its way to a server that has ended what it was for:
    /// what the client says next waits, lest that be hit.
    fn awaits_cancel(&self) -> bool {
        self.is(|unusual| unusual.cancelling.is_some())
            && (self.core.is_quiet() || self.core.is_idle_in_transaction())
    }

    /// True if a turn reads nothing of the client, whatever it sends.
    #[cold]
    #[inline(never)]
    pub(super) fn leaves_client(&mut self) -> bool {
        let holding = self.holds();
        self.unusual().holding = holding;
        holding || self.awaits_cancel()
    }

    /// True if the client is waited for, as far as this goes.
    #[cold]
    #[inline(never)]
    pub(super) fn hears_client(&self) -> bool {
        !self.is_holding() && !self.awaits_cancel()
    }

    /// Lets the front lane read ahead of a client of which nothing could be read for a while, if
    /// there is memory for it, and then says so; gives the memory back once all of that has been
    /// passed on.
    #[cold]
    #[inline(never)]
    pub(super) fn try_look_ahead(&mut self, now: Moment) -> bool {
        let held = self.front.waits().held;
        let is_granted = self.is(|unusual| unusual.grant.is_some());
        if !held && is_granted && self.front.is_drained(&self.out.to_server) {
            self.front.look_ahead(0);
            self.unusual().grant = None;
        }
        let moves = self.front.take_passed_on();
        if !held || self.has_left() {
            if let Some(unusual) = self.unusual.as_deref_mut() {
                unusual.held_since = None;
            }
            return false;
        }
        let unusual = self.unusual.get_or_insert_default();
        if moves {
            // The lane moves, if slowly: no memory beyond the usual is needed.
            self.front.look_ahead(0);
            unusual.held_since = Some(now);
            return false;
        }
        let since = *unusual.held_since.get_or_insert(now);
        if unusual.grant.is_some() || now < since.after(HELD_PATIENCE) {
            return false;
        }
        let Some(grant) = Grant::take() else {
            // All the memory for reading ahead is taken at the moment.
            unusual.held_since = Some(now);
            return false;
        };
        self.front.look_ahead(grant.bytes());
        unusual.grant = Some(grant);
        true
    }

    /// True once something has happened that makes another turn worth while, beside what the lanes
    /// wait for; forgets what is as usual again.
    #[cold]
    #[inline(never)]
    pub(super) fn polls_unusual(&mut self, task: &mut task::Context<'_>) -> bool {
        let mut ready = false;
        let unread = self.front.waits().held || self.is_holding();
        if unread && !self.has_left() && self.client.poll_ended(task).is_ready() {
            self.unusual().left = true;
            ready = true;
        }
        let Some(unusual) = self.unusual.as_deref_mut() else {
            return ready;
        };
        if let Some(cancelling) = &mut unusual.cancelling
            && Pin::new(cancelling).poll(task).is_ready()
        {
            unusual.cancelling = None;
            ready = true;
        }
        ready |= unusual.poll_until(task).is_ready();
        if unusual.is_nothing() {
            self.unusual = None;
        }
        ready
    }
}
