//! What a session's clocks bring about: its end, or the end of its statement.

use std::sync::Arc;

use super::{Ending, ORPHAN_GRACE, Running};
use crate::config::show_duration;
use crate::net::moment::Moment;
use crate::net::{Network, Transport};
use crate::observe::metrics::CloseReason;
use crate::session::closing::fatal_notice;
use crate::session::context::Context;
use crate::session::rest::Doing;

impl<T: Transport> Running<T> {
    fn doing(&self) -> Doing {
        let arrived = || {
            self.front.is_drained(&self.out.to_server) && self.back.is_drained(&self.out.to_client)
        };
        if self.core.is_relay_only() || self.is_holding() {
            Doing::Other
        } else if self.core.is_working() {
            Doing::Statement
        } else if self.core.is_busy() || !arrived() {
            Doing::Other
        } else if self.core.is_quiet() {
            Doing::Idle
        } else if self.core.is_idle_in_transaction() {
            Doing::IdleInTransaction
        } else {
            Doing::Other
        }
    }

    /// Ends the session, or cancels its statement, if it has had its time.
    pub(super) fn keep_time<N: Network<Transport = T>>(
        &mut self,
        now: Moment,
        context: &Arc<Context<N>>,
    ) -> Option<Ending> {
        self.unusual.as_ref()?.rest.as_ref()?;
        let doing = self.doing();
        let rest = self.unusual.as_mut()?.rest.as_mut()?;
        rest.note(doing, now);
        let limit = rest.limit()?;
        if rest.until().is_none_or(|until| now < until) {
            return None;
        }
        if doing == Doing::Statement {
            rest.cancel_again(now.after(ORPHAN_GRACE));
            self.world.time_is_up(limit);
            self.cancel(context);
            return None;
        }
        let (sqlstate, reason, words, setting) = if doing == Doing::Idle {
            (
                "57P05",
                CloseReason::IdleSession,
                "idle-session",
                "limits.idle_session_timeout",
            )
        } else {
            (
                "25P03",
                CloseReason::IdleInTransaction,
                "idle-in-transaction",
                "limits.idle_in_transaction_session_timeout",
            )
        };
        let message = format!(
            "terminating connection due to {words} timeout: Osprey's {setting} is {}",
            show_duration(limit)
        );
        self.out.to_client.own(fatal_notice(sqlstate, &message));
        Some(Ending::orderly(reason))
    }
}
