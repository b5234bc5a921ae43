//! What must hold of a running session after each of its turns, looked for under test alone.

use super::Running;
use crate::net::Transport;
use crate::net::sizes::{LARGE, SMALL};
use crate::session::read_ahead::Grant;
use crate::session::registry::Drain;
use crate::shell_test::{self, AS_USUAL, BOUNDED_MEMORY, CORE_HOLDS};

/// The longest statement or message that the core wants to see at once, by the simulation's settings.
const SEEN_AT_ONCE: usize = 64 << 10;

impl<T: Transport> Running<T> {
    /// Called after every turn: the bounds of memory, and the invariants of the core's machines.
    pub(super) fn check(&self) {
        if let Err(broken) = self.core.check() {
            shell_test::note(CORE_HOLDS, || broken);
        }
        if !self.is_unusual() {
            let live = self.entered.live();
            let unusual = [
                ("it is paused", live.is_paused()),
                ("it is asked something", live.asked().is_some()),
                ("it is to end", self.entered.drain() != Drain::No),
                ("its server hears of an end", self.wants_to_shut_server()),
                ("it is being held", self.holds() || self.is_holding()),
                ("something does not go on", !self.goes_on()),
            ];
            if let Some((what, _)) = unusual.iter().find(|(_, is_so)| *is_so) {
                shell_test::note(AS_USUAL, || (*what).into());
            }
        }
        // A buffer may have been doubled when it was full. What the core wants to see at once is less,
        // but where everything is tiny.
        let usual = 2 * LARGE.max(SEEN_AT_ONCE);
        let grant = self.unusual.as_ref().and_then(|it| it.grant.as_ref());
        let ahead = grant.map_or(0, Grant::bytes);
        let lanes = [
            ("the client", &self.front, usual.max(ahead + SMALL)),
            ("the server", &self.back, usual),
        ];
        for (source, lane, bound) in lanes {
            let kept = lane.memory();
            if kept > bound {
                shell_test::note(BOUNDED_MEMORY, || {
                    format!("{kept} bytes are kept for what comes from {source}, {bound} may be")
                });
            }
        }
    }
}
