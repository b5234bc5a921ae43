//! What the session's setting is, as of everything that was sent, and whether it will last.
//!
//! SET is transactional, so "set" is only as good as the transaction it was made in. On any doubt
//! the route is unknown, and an unknown route is set again: that costs no round trip.

/// What the session's setting is, as of everything that was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum State {
    /// What the session started with.
    #[default]
    Default,
    /// Encrypted data can be read: we set it.
    Set,
    /// Either.
    Unknown,
}

/// The route of one session.
#[derive(Debug, Default)]
pub(super) struct Route {
    state: State,
    /// The setting was changed by us inside a transaction that may still be undone.
    in_transaction: bool,
    /// The client has sent a SET of it: whether that is in force, the session's context says.
    client_sets: bool,
    /// It has been told that the client's own is in force.
    told: bool,
    /// A SET of ours failed where nothing of the client's was at stake: no more attempts.
    disabled: bool,
    /// A change of ours has failed, and what it was for is being answered.
    is_missed: bool,
    /// This user may set the route: a change or a proof of ours has succeeded.
    proven: bool,
    /// A proof of ours was sent; one is enough.
    proof_sent: bool,
    /// The server may keep a plan that it made while the route was not set.
    native_plans: bool,
    /// What it may keep such a plan of may need the route now.
    stale_plans: bool,
    /// A statement that ends the transaction was sent while `in_transaction`: what the state was,
    /// should it turn out to be a COMMIT.
    at_end: Option<State>,
    /// Changes of ours within pipelines that are not answered in full yet.
    inline: u32,
    /// Of these, the ones in the pipeline that is being answered, whose own answer has come.
    answered: u32,
    /// The end of that pipeline was sent: what the state is, should all of it succeed.
    at_sync: Option<State>,
}

impl Route {
    /// At the start of a session; `client_sets`: the client set the route at startup.
    pub(super) fn new(client_sets: bool) -> Self {
        Self {
            client_sets,
            ..Self::default()
        }
    }

    /// What the setting is, as of everything that was sent.
    pub(super) fn state(&self) -> State {
        self.state
    }

    /// False if no route of the client's own can be in force.
    pub(super) fn may_be_the_clients(&self) -> bool {
        self.client_sets
    }

    /// A route of the client's own is in force. True if that was not told before.
    pub(super) fn tell(&mut self) -> bool {
        !std::mem::replace(&mut self.told, true)
    }

    /// True if a change of ours was refused.
    pub(super) fn is_refused(&self) -> bool {
        self.disabled
    }

    /// A change of ours was refused: no more attempts.
    pub(super) fn refused(&mut self) {
        self.disabled = true;
    }

    /// True if a change or a proof of ours has succeeded.
    pub(super) fn is_proven(&self) -> bool {
        self.proven
    }

    /// A change or a proof of ours has succeeded. True if it is the first.
    pub(super) fn prove(&mut self) -> bool {
        !std::mem::replace(&mut self.proven, true)
    }

    /// True if a proof is worth sending: none was sent, and nothing is known by now.
    pub(super) fn needs_proof(&self) -> bool {
        !self.disabled && !self.proven && !self.proof_sent && self.state == State::Default
    }

    /// A proof was sent.
    pub(super) fn proof_sent(&mut self) {
        self.proof_sent = true;
    }

    /// Something was planned, in a plan that the server keeps, and may need the route later; `now`: and now.
    pub(super) fn planned(&mut self, now: bool) {
        let natively = self.state != State::Set;
        self.native_plans |= natively;
        self.stale_plans |= natively && now;
    }

    /// What was planned before may need the route by now.
    pub(super) fn plans_are_stale(&mut self) {
        (self.native_plans, self.stale_plans) = (true, true);
    }

    /// True if what fails for want of the route may fail with it, too.
    pub(super) fn has_native_plans(&self) -> bool {
        self.native_plans
    }

    /// True if setting the route is not enough.
    pub(super) fn has_stale_plans(&self) -> bool {
        self.stale_plans
    }

    /// The server was asked to plan anew.
    pub(super) fn replanned(&mut self) {
        (self.native_plans, self.stale_plans) = (false, false);
    }

    /// A statement of the client's was sent that sets the route.
    pub(super) fn client_sets(&mut self) {
        self.client_sets = true;
        self.unknown();
    }

    /// We sent a change of the setting. `transaction`: it may be inside one.
    pub(super) fn changed(&mut self, to: State, transaction: bool) {
        self.state = to;
        self.in_transaction |= transaction;
        self.at_end = None;
        self.at_sync = None;
    }

    /// We sent a change within a client's pipeline.
    pub(super) fn changed_inline(&mut self, to: State) {
        self.changed(to, true);
        self.inline += 1;
    }

    /// A change within a pipeline was answered; the rest of the pipeline was not yet.
    pub(super) fn inline_answered(&mut self) {
        self.answered += 1;
    }

    /// A change within a pipeline failed, or was skipped.
    pub(super) fn inline_failed(&mut self) {
        self.inline = self.inline.saturating_sub(1);
        self.failed();
    }

    /// The end of a pipeline was sent. What was changed within it may yet be skipped or undone, so
    /// what comes behind does not rely on it.
    pub(super) fn pipeline_sent(&mut self) {
        if self.inline > 0 && self.state != State::Unknown {
            self.at_sync = Some(self.state);
            self.state = State::Unknown;
        }
    }

    /// Anything may have happened to the setting.
    pub(super) fn doubt(&mut self) {
        if self.state != State::Default || self.in_transaction || self.client_sets {
            self.state = State::Unknown;
        }
        self.at_end = None;
        self.at_sync = None;
    }

    /// The client changed the setting itself, or a change of ours may be skipped: not even the
    /// default is known.
    pub(super) fn unknown(&mut self) {
        self.state = State::Unknown;
        self.at_end = None;
        self.at_sync = None;
    }

    /// A statement that may end the transaction was sent.
    pub(super) fn transaction_ends(&mut self) {
        if self.in_transaction {
            self.at_end = Some(self.state);
            self.state = State::Unknown;
            self.in_transaction = false;
            self.at_sync = None;
        }
    }

    /// The server answered COMMIT, or ROLLBACK, to a statement that ends a transaction.
    pub(super) fn transaction_ended(&mut self, committed: bool) {
        if let Some(state) = self.at_end.take()
            && committed
        {
            self.state = state;
        }
    }

    /// Our own cycle was answered; `transaction` says what its ReadyForQuery said.
    pub(super) fn settled(&mut self, transaction: bool, last: bool) {
        if last && !transaction && self.inline == 0 {
            self.in_transaction = false;
        } else if transaction && self.state != State::Unknown {
            self.in_transaction = true;
        }
    }

    /// Our own change failed in front of what it was for.
    pub(super) fn missed(&mut self) {
        self.failed();
        self.is_missed = true;
    }

    /// What it was for was answered.
    pub(super) fn settle_missed(&mut self) {
        self.is_missed = false;
    }

    /// True if what is being answered lacks a change of ours that has failed.
    pub(super) fn is_missed(&self) -> bool {
        self.is_missed
    }

    /// Our own change failed, or was skipped.
    pub(super) fn failed(&mut self) {
        self.state = State::Unknown;
        self.at_end = None;
        self.at_sync = None;
    }

    /// An ErrorResponse to the client's cycle: what was set within its pipeline is undone.
    pub(super) fn pipeline_failed(&mut self) {
        if self.answered > 0 {
            self.inline = self
                .inline
                .saturating_sub(std::mem::take(&mut self.answered));
            self.failed();
        }
    }

    /// A cycle of the client's ended with this status.
    #[inline]
    pub(super) fn cycle_ended(&mut self, idle: bool) {
        if self.answered > 0 {
            self.changes_are_settled(idle);
        }
    }

    /// The changes within the cycle that were answered hold now.
    #[inline(never)]
    fn changes_are_settled(&mut self, idle: bool) {
        let answered = std::mem::take(&mut self.answered);
        self.inline = self.inline.saturating_sub(answered);
        if self.inline > 0 {
            return;
        }
        if let Some(state) = self.at_sync.take() {
            self.state = state;
        }
        if idle && self.state != State::Unknown {
            self.in_transaction = false;
        }
    }
}

impl Route {
    /// What may still be undone makes the state unknown, and no more changes are answered than were
    /// sent.
    pub(super) fn check(&self) -> Result<(), String> {
        let unknown = self.state == State::Unknown;
        let rules = [
            (
                self.at_end.is_none() || unknown,
                "unknown until the transaction's end is answered",
            ),
            (
                self.at_sync.is_none() || unknown,
                "unknown until the pipeline's end is answered",
            ),
            (
                self.answered <= self.inline,
                "only what was sent is answered",
            ),
        ];
        super::check::all("the route", rules, self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_within_a_transaction_lasts_only_if_it_commits() {
        for (committed, state) in [(true, State::Set), (false, State::Unknown)] {
            let mut route = Route::default();
            route.changed(State::Set, true);
            route.settled(true, true);
            route.transaction_ends();
            assert_eq!(route.state, State::Unknown);
            route.transaction_ended(committed);
            assert_eq!(route.state, state);
        }
    }

    #[test]
    fn a_change_outside_lasts_whatever_transactions_do() {
        let mut route = Route::default();
        route.changed(State::Set, false);
        route.settled(false, true);
        route.transaction_ends();
        route.transaction_ended(false);
        assert_eq!(route.state, State::Set);
    }

    #[test]
    fn a_failed_pipeline_undoes_what_was_set_within_it() {
        let mut route = Route::default();
        route.changed_inline(State::Set);
        route.inline_answered();
        route.pipeline_failed();
        route.cycle_ended(true);
        assert_eq!(route.state, State::Unknown);
    }

    #[test]
    fn a_pipeline_that_commits_keeps_it() {
        let mut route = Route::default();
        route.changed_inline(State::Set);
        route.inline_answered();
        route.pipeline_sent();
        route.cycle_ended(true);
        route.transaction_ends();
        assert_eq!(route.state, State::Set);
    }

    #[test]
    fn doubt_does_not_touch_what_was_never_changed() {
        let mut route = Route::default();
        route.doubt();
        assert_eq!(route.state, State::Default);
        route.changed(State::Set, false);
        route.doubt();
        assert_eq!(route.state, State::Unknown);
    }
}
