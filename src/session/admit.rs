//! The step between Greeting and Login: which upstream serves this client, and is there a place to
//! log in? A session's own places are taken when its login has succeeded; who could not get one is
//! told before it tries.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use crate::catalog::database_name;
use crate::config::{Quota, Rate, Settings};
use crate::net::{Network, Stream};
use crate::observe::metrics::Limit;
use crate::upstream::{Listener, Upstream};

use super::admission::{Admission, Full, Held, Place, Places, Share, Shares, bound};
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
    let rate = limits.new_sessions_per_second;
    let seats = Seats::of(upstream, (&user, &database), admission, settings);
    let full = too_soon(rate, upstream, &user, peer.ip(), admission)
        .or_else(|| seats.iter().find_map(Seat::full));
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

/// One of the bounds that a session counts against.
pub(super) enum Seat {
    /// Among all sessions.
    All(Arc<Places>, Quota),
    /// Among those of one upstream, with the name that its bound has.
    Upstream(Arc<Places>, usize, String),
    /// Among those of one user, or on one database.
    Share(Arc<Shares>, Share, usize, Limit),
}

/// A place on a [`Seat`], given back when it is dropped.
pub(super) enum Taken {
    Place(#[expect(dead_code, reason = "held to be dropped")] Place),
    Share(#[expect(dead_code, reason = "held to be dropped")] Held),
}

/// The bounds that a session counts against.
pub(super) struct Seats;

impl Seats {
    /// Those of a session on this upstream, of this user on this database: the one of all sessions,
    /// and what else is bounded.
    pub(super) fn of(
        upstream: &Upstream,
        (user, database): (&str, &str),
        admission: &Admission,
        settings: &Settings,
    ) -> Vec<Seat> {
        let limits = &settings.limits;
        let all = Arc::clone(&admission.sessions);
        let mut seats = vec![Seat::All(all, limits.max_sessions)];
        if let Some(most) = upstream.settings().max_sessions {
            let places = admission.of_upstream(upstream.name());
            let setting = format!("upstream \"{}\" max_sessions", upstream.name());
            seats.push(Seat::Upstream(places, most, setting));
        }
        let database = database_name(database);
        for (shares, name, most, limit) in [
            (
                &admission.by_user,
                user,
                limits.max_sessions_per_user,
                Limit::SessionsPerUser,
            ),
            (
                &admission.by_database,
                database,
                limits.max_sessions_per_database,
                Limit::SessionsPerDatabase,
            ),
        ] {
            if let Some(most) = most {
                let share = (upstream.name().to_owned(), name.to_owned());
                seats.push(Seat::Share(Arc::clone(shares), share, most, limit));
            }
        }
        seats
    }
}

impl Seat {
    /// Takes a place on it.
    pub(super) fn take(&self, address: IpAddr) -> Result<Taken, Refusal> {
        let place = match self {
            Self::All(places, quota) => places.take(address, *quota),
            Self::Upstream(places, most, _) => places.take(address, Quota::of(*most)),
            Self::Share(shares, share, most, _) => {
                let taken = shares.take(share, *most).map(Taken::Share);
                return taken.ok_or_else(|| self.refusal(Full::Total));
            }
        };
        place.map(Taken::Place).map_err(|full| self.refusal(full))
    }

    /// Why there is no place on it, if there is none at all.
    fn full(&self) -> Option<Refusal> {
        let full = match self {
            Self::All(places, quota) => places.taken() >= quota.total,
            Self::Upstream(places, most, _) => places.taken() >= *most,
            Self::Share(shares, share, most, _) => shares.taken(share) >= *most,
        };
        full.then(|| self.refusal(Full::Total))
    }

    /// The refusal of a session for which there is no place here.
    fn refusal(&self, full: Full) -> Refusal {
        match self {
            Self::All(_, quota) => {
                let limit = full.limit(Limit::Sessions, Limit::SessionsPerAddress);
                Refusal::full(limit, bound(full, *quota))
            }
            Self::Upstream(_, most, setting) => Refusal::Full {
                limit: Limit::UpstreamSessions,
                setting: setting.clone(),
                most: *most,
            },
            Self::Share(_, _, most, limit) => Refusal::full(*limit, *most),
        }
    }
}

/// Looks whether one more session may begin now. Whoever is refused takes nothing from others' rates:
/// the narrowest is asked first.
fn too_soon(
    rate: Rate,
    upstream: &Upstream,
    user: &str,
    address: IpAddr,
    admission: &Admission,
) -> Option<Refusal> {
    let refused = |most: Option<usize>, allows: &dyn Fn(usize) -> bool, limit| {
        let most = most?;
        (!allows(most)).then(|| Refusal::full(limit, most))
    };
    let by_address = &admission.new_sessions_by_address;
    let by_user = &admission.new_sessions_by_user;
    let share = || (upstream.name().to_owned(), user.to_owned());
    refused(
        rate.per_address,
        &|most| by_address.allows(address, most),
        Limit::NewSessionsPerAddress,
    )
    .or_else(|| {
        refused(
            rate.per_user,
            &|most| by_user.allows(share(), most),
            Limit::NewSessionsPerUser,
        )
    })
    .or_else(|| {
        refused(
            rate.total,
            &|most| admission.new_sessions.allows((), most),
            Limit::NewSessions,
        )
    })
}
