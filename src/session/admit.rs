//! The step between Greeting and Login: which upstream serves this client, and is there a place to
//! log in? A session's own places are taken when its login has succeeded; who could not get one is
//! told before it tries.

use std::net::SocketAddr;
use std::sync::Arc;

use crate::config::{Quota, Settings};
use crate::net::{Network, Stream};
use crate::observe::metrics::Limit;
use crate::upstream::{Listener, Upstream};

use super::admission::{Admission, Full, Place, Places, bound};
use super::context::Context;
use super::greeting::StartupPacket;
use super::login::Login;
use super::refusal::Refusal;
use super::refuse::{refuse, refuse_for};
use super::registry::Drain;

/// A session that may log in, with its place among the logins.
pub(super) struct Admitted<T> {
    pub(super) login: Login<T>,
    pub(super) peer: SocketAddr,
    pub(super) user: String,
    pub(super) database: String,
    pub(super) place: Place,
}

/// Finds the client's upstream and a place to log in; `None`: it was refused.
pub(super) async fn admit<N: Network>(
    client: Stream<N::Transport>,
    startup: StartupPacket,
    peer: SocketAddr,
    listener: &Listener,
    context: &Context<N>,
    settings: &Settings,
) -> Option<Admitted<N::Transport>> {
    let (user, database) = {
        let view = startup.view()?;
        let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
        (text(view.user()), text(view.database()))
    };
    let encoding = startup.encoding();
    let shared = &context.shared;
    if shared.sessions.drain() != Drain::No {
        refuse_for(client, encoding, &Refusal::ShuttingDown, peer, context).await;
        return None;
    }
    let Some(upstream) = listener.upstream_of(&user, &database) else {
        // The client has written the names in its encoding, and is told of them in it.
        let view = startup.view()?;
        let [its_user, its_database] = [view.user(), view.database()]
            .map(|name| String::from_utf8_lossy(&encoding.to_server(name)).into_owned());
        let refusal = Refusal::Own {
            sqlstate: "3D000",
            message: format!(
                "Osprey has no upstream for user \"{its_user}\" and database \"{its_database}\" \
                 here: no [[listener.rule]] matches"
            ),
            hint: None,
        };
        tracing::warn!(%peer, user, database, %refusal, "no session");
        refuse(client, encoding, &refusal).await;
        return None;
    };
    // Sessions get their places once they have logged in. A client that could not get one now is
    // told so before it logs in.
    let limits = &settings.limits;
    let admission = &shared.admission;
    let full = Seats::of(upstream, admission, settings).find_map(|seat| {
        (seat.places.taken() >= seat.quota.total).then(|| seat.refusal(Full::Total))
    });
    let place = match full {
        Some(refusal) => Err(refusal),
        None => admission
            .logins
            .take(peer.ip(), limits.max_logins)
            .map_err(|full| {
                let limit = full.limit(Limit::Logins, Limit::LoginsPerAddress);
                Refusal::full(limit, bound(full, limits.max_logins))
            }),
    };
    match place {
        Ok(place) => Some(Admitted {
            login: Login {
                client,
                startup,
                upstream: Arc::clone(upstream),
                passed_on: Vec::new(),
                in_message: false,
            },
            peer,
            user,
            database,
            place,
        }),
        Err(refusal) => {
            refuse_for(client, encoding, &refusal, peer, context).await;
            None
        }
    }
}

/// One of the quotas that a session counts against.
pub(super) struct Seat {
    pub(super) places: Arc<Places>,
    pub(super) quota: Quota,
    total: Limit,
    setting: Option<String>,
}

/// The quotas that a session counts against.
pub(super) struct Seats;

impl Seats {
    /// Those of a session on this upstream: the one of all sessions, and the upstream's own if it
    /// has one.
    pub(super) fn of(
        upstream: &Upstream,
        admission: &Admission,
        settings: &Settings,
    ) -> impl Iterator<Item = Seat> + use<> {
        let own = upstream.settings().max_sessions.map(|most| Seat {
            places: admission.of_upstream(upstream.name()),
            quota: Quota::of(most),
            total: Limit::UpstreamSessions,
            setting: Some(format!("upstream \"{}\" max_sessions", upstream.name())),
        });
        let all = Seat {
            places: Arc::clone(&admission.sessions),
            quota: settings.limits.max_sessions,
            total: Limit::Sessions,
            setting: None,
        };
        std::iter::once(all).chain(own)
    }
}

impl Seat {
    /// The refusal of a session for which there is no place here.
    pub(super) fn refusal(&self, full: Full) -> Refusal {
        let limit = full.limit(self.total, Limit::SessionsPerAddress);
        let most = bound(full, self.quota);
        match &self.setting {
            Some(setting) => Refusal::Full {
                limit,
                setting: setting.clone(),
                most,
            },
            None => Refusal::full(limit, most),
        }
    }
}
