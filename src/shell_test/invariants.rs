//! What must hold, and where it is looked for.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::observe::metrics::{CloseReason, Kind as _};
use crate::session::Ask;

use super::line::Read;
use super::plan::Begin;
use super::record::Origin;
use super::world::World;
use super::{
    BOUNDED_CANCELS, Broken, CANCEL_ANSWERED, CANCELLED_WHERE, CANCELLED_WHY, CANCELS_NO_LATER,
    DRAINED, ENDS, GIVEN_BACK, KILLED, PANICS, PASSED_ON, PLACES_AFTER_LOGIN, SERVED, TOLD_WHY,
};

/// A second for its last words, and one to hear them.
const KILLED_WITHIN: Duration = Duration::from_secs(10);

impl World {
    /// The SQLSTATEs of the FATALs that Osprey has a reason to tell a client.
    pub(super) fn reasons(&self, client: usize) -> Vec<&'static str> {
        let mut reasons = Vec::new();
        if self.draining.is_some() {
            // A drain; or the login that it found.
            reasons.extend(["57P01", "57P03"]);
        }
        if self.is_killed(client) {
            reasons.push("57P01");
        }
        if self.plan.max_sessions == 1 {
            reasons.push("53300");
        }
        if !self.clients[client].plan.healthy {
            // A login that took too long, or whose server failed; bytes that are no message.
            reasons.extend(["57014", "08006", "08P01"]);
        }
        reasons
    }

    /// True if the console has been told to end this client's session.
    fn is_killed(&self, client: usize) -> bool {
        let mut asked = self.asked.iter();
        asked.any(|asked| asked.client == client && asked.what == Ask::Kill)
    }

    /// Whoever is killed is gone soon after.
    fn check_killed(&self) -> Result<(), Broken> {
        let now = Instant::now();
        for asked in self.asked.iter().filter(|asked| asked.what == Ask::Kill) {
            let client = &self.clients[asked.client];
            let Some(peer) = client.peer.as_ref().filter(|peer| !peer.osprey_closed()) else {
                continue;
            };
            // What a login has said is not cut off: its client has limits.login_timeout for it.
            let stalls = peer.moves_again().is_some() || !client.plan.undisturbed;
            let stalls = stalls && self.records[asked.client].ready == 0;
            let bound = if stalls && !self.plan.borrows {
                KILLED_WITHIN * 4
            } else {
                KILLED_WITHIN
            };
            if now > asked.at + bound {
                let what = format!("client {} still has one", client.number);
                return Err(Broken::new(KILLED, what));
            }
        }
        Ok(())
    }

    /// A cancel request has reached the statement that a client's session runs, by a connection that
    /// was made at `made`.
    fn check_hit(&mut self, number: usize, made: Instant, given_up: bool) -> Result<(), Broken> {
        let (client, record) = (&self.clients[number], &self.records[number]);
        let mut cancellers = self.cancellers.iter();
        if cancellers.any(|canceller| canceller.client == Some(number)) {
            return Ok(());
        }
        self.cancelled += 1;
        let is_asked = self.asked.iter().any(|asked| asked.client == number);
        let has_reason = is_asked
            || self.plan.statement_timeout.is_some()
            || !client.plan.undisturbed
            || client.has_left(record)
            || record.ready == 0;
        if !has_reason {
            let what = format!("that of client {number} was");
            return Err(Broken::new(CANCELLED_WHY, what));
        }
        let is_timed = self.plan.statement_timeout.is_some();
        if !is_timed && client.has_left(record) {
            let mut servers = self.servers.iter_mut();
            if let Some(server) = servers.find(|server| server.client == Some(number)) {
                server.cut_off = true;
            }
        }
        let last = record.arrived.saturating_sub(1);
        // What passes in replication mode is not looked into: nobody knows when it is answered.
        let is_relayed = matches!(
            client.plan.begin,
            Begin::Startup {
                replication: true,
                ..
            }
        );
        let later = |(first, at): &(usize, Instant)| *first <= last && *at > made;
        if !given_up && !is_relayed && record.begun_anew.iter().any(later) {
            let message = super::record::show(&record.sent[last]);
            let what = format!("it hit {message} of client {number}, which came after it");
            return Err(Broken::new(CANCELS_NO_LATER, what));
        }
        Ok(())
    }

    /// What must hold at every moment.
    pub(super) fn check_moment(&mut self) -> Result<(), Broken> {
        let shard = &self.shared.metrics.shards()[0];
        if shard.sessions_closed.of(CloseReason::Panic).get() > 0 {
            return Err(Broken::new(
                PANICS,
                "a session is counted as ended by one".into(),
            ));
        }
        let admission = &self.shared.admission;
        let logged_in = self
            .servers
            .iter()
            .filter(|server| server.logged_in)
            .count();
        let taken = admission.sessions.taken();
        if taken > logged_in {
            let what = format!("{taken} places are taken, {logged_in} sessions were logged in");
            return Err(Broken::new(PLACES_AFTER_LOGIN, what));
        }
        let strangers = self
            .servers
            .iter()
            .filter(|server| server.is_cancelling() && server.cancel_key().get(2) == Some(&9));
        let strangers = strangers.count();
        if strangers > self.plan.max_cancels {
            let most = self.plan.max_cancels;
            let what = format!("{strangers} are on their way, max_cancels is {most}");
            return Err(Broken::new(BOUNDED_CANCELS, what));
        }
        self.check_ends()?;
        self.check_killed()?;
        self.check_how_ended()?;
        self.check_drain()
    }

    /// Who ended how is passed on, and whoever is refused is told why.
    fn check_how_ended(&self) -> Result<(), Broken> {
        if self.draining.is_some() {
            return Ok(());
        }
        for client in &self.clients {
            let (number, record) = (client.number, &self.records[client.number]);
            if self.is_killed(number) {
                continue;
            }
            let mut servers = self.servers.iter();
            let server = servers.rfind(|server| server.client == Some(number));
            let undisturbed = client.plan.undisturbed && client.wants_session();
            if client.saw.is_some() && undisturbed && record.ready == 0 && !record.told {
                if record.is_within_message() {
                    continue;
                }
                let what = format!("client {number} saw {:?} and heard nothing", client.saw);
                return Err(Broken::new(TOLD_WHY, what));
            }
            let Some(server) = server.filter(|_| record.ready > 0) else {
                continue;
            };
            // Behind a goodbye the session is over, however the server ends.
            let goodbye = record.sent.last().is_some_and(|message| message[0] == b'X');
            if server.has_reset && client.saw == Some(Read::Fin) && !record.told && !goodbye {
                let what = format!("the server of client {number} reset, the client saw a FIN");
                return Err(Broken::new(PASSED_ON, what));
            }
            if client.has_reset && server.saw_fin && undisturbed && !record.told {
                let what = format!("client {number} reset, its server saw a FIN");
                return Err(Broken::new(PASSED_ON, what));
            }
        }
        Ok(())
    }

    /// Sessions whose clients are gone end in time.
    fn check_ends(&mut self) -> Result<(), Broken> {
        let now = Instant::now();
        // Two seconds until it is noticed, thirty for the server, three to close; a login has its own
        // limit, and a borrowed one waits for a cancel and its end besides.
        let bound = Duration::from_secs(if self.plan.borrows { 75 } else { 40 });
        for client in &mut self.clients {
            let Some(peer) = &client.peer else { continue };
            if !peer.is_gone_for_osprey(now) {
                client.gone_since = None;
                continue;
            }
            let since = *client.gone_since.get_or_insert(now);
            let number = client.number;
            let mut servers = self.servers.iter();
            let is_left = |peer: &super::wire::Peer| !peer.osprey_closed();
            let left = is_left(peer)
                || servers.any(|server| server.client == Some(number) && is_left(&server.peer));
            if left && now > since + bound {
                let what =
                    format!("client {number} is gone for {bound:?}, and its session is there");
                return Err(Broken::new(ENDS, what));
            }
        }
        Ok(())
    }

    fn check_drain(&self) -> Result<(), Broken> {
        let over = self.draining.as_ref().is_some_and(JoinHandle::is_finished);
        let left = self.shared.sessions.count();
        if over && left > 0 {
            return Err(Broken::new(DRAINED, format!("{left} sessions are left")));
        }
        Ok(())
    }

    /// A cancel request has reached a server.
    pub(super) fn cancel(&mut self, at: usize, key: Vec<u8>) -> Result<(), Broken> {
        let server = self.servers[at].server;
        self.log(|| format!("server {server} is asked to cancel {key:?}"));
        let (made, given_up) = (self.servers[at].made, self.servers[at].peer.osprey_closed());
        let (mut found, mut hit) = (false, None);
        for session in &mut self.servers {
            if session.server == server && session.key == key && session.is_open() {
                let whose = session.cancel();
                hit = hit.or(session.client.filter(|_| whose == Some(Origin::Client)));
                found = true;
            }
        }
        if let Some(client) = hit {
            self.check_hit(client, made, given_up)?;
        }
        let elsewhere = self.servers.iter().any(|session| {
            session.key == key
                && session.server != server
                && session.is_open()
                && !session.peer.osprey_closed()
        });
        if !found && elsewhere {
            let what = format!("server {server} was asked to cancel what another one does");
            return Err(Broken::new(CANCELLED_WHERE, what));
        }
        self.cancels_seen.push(key);
        Ok(())
    }

    /// A client that asked to cancel sees the end of its connection.
    pub(super) fn check_cancelled(&mut self, canceller: usize) -> Result<(), Broken> {
        let canceller = &self.cancellers[canceller];
        let Some(client) = canceller.client else {
            return Ok(());
        };
        let record = &self.records[client];
        let healthy = self.clients[client].plan.healthy && self.clients[client].saw.is_none();
        let is_there = self.clients[client]
            .peer
            .as_ref()
            .is_some_and(|peer| !peer.osprey_closed());
        if healthy && is_there && self.seen(&record.key) <= canceller.seen_before {
            let what = format!("client {client} was told so before its server had heard of it");
            return Err(Broken::new(CANCEL_ANSWERED, what));
        }
        Ok(())
    }

    /// Whom nothing befell has been served.
    pub(super) fn check_healthy(&self) -> Result<(), Broken> {
        if self.draining.is_some() {
            return Ok(());
        }
        for client in &self.clients {
            let record = &self.records[client.number];
            let refused = record.fatal.is_some() || self.is_killed(client.number);
            if !client.plan.healthy || refused || !client.wants_session() {
                continue;
            }
            if !client.has_finished() {
                return Err(Broken::new(SERVED, client.position(record)));
            }
            if client.saw.is_some() && !record.is_complete() {
                let what = format!("client {} did not get all that was said", client.number);
                return Err(Broken::new(SERVED, what));
            }
        }
        Ok(())
    }

    /// What must hold once everyone has left.
    pub(super) fn check_end(&self) -> Result<(), Broken> {
        let tasks = Arc::strong_count(&self.context).saturating_sub(2);
        if tasks > 0 {
            return Err(Broken::new(
                ENDS,
                format!("{tasks} connections are still served"),
            ));
        }
        let shared = &self.shared;
        let admission = &shared.admission;
        let taken = [
            ("greetings", &admission.greetings),
            ("logins", &admission.logins),
            ("sessions", &admission.sessions),
            ("cancels", &admission.cancels),
            ("cancels of strangers", &admission.unknown_cancels),
        ];
        for (what, places) in taken {
            if places.taken() > 0 || places.addresses() > 0 {
                return Err(Broken::new(
                    GIVEN_BACK,
                    format!("places of {what} are taken"),
                ));
            }
        }
        let (open, keys) = shared.sessions.sizes();
        if shared.sessions.count() + open + keys > 0 {
            let what = format!("{open} entries and {keys} keys are in the registry");
            return Err(Broken::new(GIVEN_BACK, what));
        }
        let shard = &shared.metrics.shards()[0];
        let closed: u64 = CloseReason::ALL
            .iter()
            .map(|reason| shard.sessions_closed.of(*reason).get())
            .sum();
        let opened = shard.sessions_opened.get();
        if opened != closed {
            let what = format!("{opened} sessions were counted as opened, {closed} as closed");
            return Err(Broken::new(GIVEN_BACK, what));
        }
        Ok(())
    }
}
