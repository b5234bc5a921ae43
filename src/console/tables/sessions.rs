//! Who is there: sessions, clients, upstreams.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::super::table::{Table, column};
use super::super::value::Type::{Float, Int, Text};
use super::super::value::{Row, Value};
use super::super::world::View;
use crate::catalog::route::is_common_table;
use crate::config::{Mode, RouteKind, Scope, TlsMode};
use crate::core::Steering;
use crate::session::{Phase, SeenSession, State};
use crate::upstream::Upstream;
use crate::wire::backend::Status;

pub(super) static SESSIONS: Table = Table {
    name: "sessions",
    about: "Every session, from its login to its end",
    columns: &[
        column(
            "id",
            Int,
            "its number, for KILL and CANCEL, and in the log (`session`)",
        ),
        column(
            "client",
            Text,
            "the client's address; behind a load balancer that sends PROXY headers, the one that it names",
        ),
        column("client_port", Int, "and its port"),
        column(
            "backend_pid",
            Int,
            "the process that serves it in Hologres: `pid` in `pg_stat_activity` and in `hologres.hg_query_log`, which see only Osprey's address; NULL before it is known",
        ),
        column("user", Text, "as whom it logs in"),
        column(
            "database",
            Text,
            "into which database, as the client named it",
        ),
        column("upstream", Text, "the name of the Hologres instance"),
        column(
            "phase",
            Text,
            "`login`, `borrowed` (it reads the catalogs for Osprey), `running`, `draining`",
        ),
        column(
            "transaction",
            Text,
            "as of the last answer: `idle`, `in transaction`, `failed transaction`",
        ),
        column(
            "state",
            Text,
            "`active`: the server is, or may be, working for it; `held`: it is paused, and begins nothing; else `idle`",
        ),
        column(
            "engine",
            Text,
            "what reads MaxCompute data in its next statement: `default` (as the session began), `SQE` or `common-table` (Osprey has set it), `client` (the client has, and is left alone), `unknown` (it is set again where it matters)",
        ),
        column("age", Float, "seconds since it began"),
        column(
            "state_age",
            Float,
            "seconds since its statement began or, if it is idle, since the last one ended",
        ),
        column("bytes_to_server", Int, "bytes forwarded to Hologres"),
        column("bytes_to_client", Int, "bytes forwarded to the client"),
    ],
    rows: sessions,
};

pub(super) static CLIENTS: Table = Table {
    name: "clients",
    about: "Client addresses with what they have open",
    columns: &[
        column("client", Text, "the address"),
        column("sessions", Int, "its sessions, logins included"),
        column(
            "active",
            Int,
            "those for which a server is, or may be, working",
        ),
        column("users", Int, "as how many different users"),
        column(
            "bytes_to_server",
            Int,
            "bytes forwarded to Hologres by the sessions that are open",
        ),
        column(
            "bytes_to_client",
            Int,
            "bytes forwarded to the client by the sessions that are open",
        ),
    ],
    rows: clients,
};

pub(super) static UPSTREAMS: Table = Table {
    name: "upstreams",
    about: "The Hologres instances that are configured",
    columns: &[
        column("name", Text, "its name"),
        column("address", Text, "where it is"),
        column("tls", Text, "TLS towards it: `upstream.tls.mode`"),
        column("sessions", Int, "sessions on it, logins included"),
        column("max_sessions", Int, "its own limit; NULL: it has none"),
        column("mode", Text, "`route.mode`"),
        column("route", Text, "`route.kind`"),
        column("scope", Text, "`route.scope`"),
        column(
            "catalog_reader",
            Text,
            "who reads its catalogs: `account`, `sessions` (in their own names) or `nobody`",
        ),
        column(
            "databases",
            Int,
            "databases that clients have opened and that are kept in mind",
        ),
        column(
            "key_records",
            Int,
            "MaxCompute projects of which it is known how they are encrypted",
        ),
    ],
    rows: upstreams,
};

fn sessions(view: &View) -> Vec<Row> {
    let upstreams = view.upstreams();
    let row = |session: SeenSession| {
        let seen = session.seen;
        let engine = match seen.state.steering {
            Steering::None => "default",
            Steering::Steered => steered_to(&upstreams, &session),
            Steering::Unknown => "unknown",
            Steering::Client => "client",
        };
        let pid = match seen.backend_pid {
            0 => Value::Null,
            pid => Value::count(pid),
        };
        vec![
            Value::count(session.id),
            Value::Text(session.peer.ip().to_canonical().to_string()),
            Value::count(session.peer.port()),
            pid,
            Value::Text(session.user),
            Value::Text(session.database),
            Value::Text(session.upstream),
            Value::Text(phase(seen.state.phase).to_owned()),
            Value::Text(transaction(seen.state.transaction).to_owned()),
            Value::Text(state(seen.state).to_owned()),
            Value::Text(engine.to_owned()),
            Value::seconds(seen.age),
            Value::seconds(seen.since_change),
            Value::count(seen.bytes_to_server),
            Value::count(seen.bytes_to_client),
        ]
    };
    let sessions = view.shared.sessions.sessions();
    sessions.into_iter().map(row).collect()
}

/// The engine that Osprey's SET leads to, in a session of this database.
fn steered_to(upstreams: &[std::sync::Arc<Upstream>], session: &SeenSession) -> &'static str {
    let mut all = upstreams.iter();
    let Some(upstream) = all.find(|upstream| upstream.name() == session.upstream) else {
        return "SQE";
    };
    let name = crate::catalog::database_name(&session.database);
    let databases = upstream.knowledge().databases();
    let database = databases.iter().find(|database| database.name() == name);
    let version = database.and_then(|database| database.snapshot().version());
    if is_common_table(upstream.settings().route.kind, version) {
        "common-table"
    } else {
        "SQE"
    }
}

fn state(state: State) -> &'static str {
    match state {
        State { busy: true, .. } => "active",
        State { held: true, .. } => "held",
        _ => "idle",
    }
}

fn phase(phase: Phase) -> &'static str {
    match phase {
        Phase::Login => "login",
        Phase::Borrowed => "borrowed",
        Phase::Running => "running",
        Phase::Draining => "draining",
    }
}

fn transaction(status: Status) -> &'static str {
    match status {
        Status::Idle => "idle",
        Status::Transaction => "in transaction",
        Status::Failed => "failed transaction",
    }
}

fn clients(view: &View) -> Vec<Row> {
    let mut by_address: BTreeMap<IpAddr, Vec<SeenSession>> = BTreeMap::new();
    for session in view.shared.sessions.sessions() {
        let address = session.peer.ip().to_canonical();
        by_address.entry(address).or_default().push(session);
    }
    let row = |(address, sessions): (IpAddr, Vec<SeenSession>)| {
        let mut users: Vec<_> = sessions.iter().map(|session| &session.user).collect();
        users.sort_unstable();
        users.dedup();
        let active = sessions.iter().filter(|session| session.seen.state.busy);
        let sum = |bytes: fn(&SeenSession) -> u64| sessions.iter().map(bytes).sum::<u64>();
        vec![
            Value::Text(address.to_string()),
            Value::count(sessions.len()),
            Value::count(active.count()),
            Value::count(users.len()),
            Value::count(sum(|session| session.seen.bytes_to_server)),
            Value::count(sum(|session| session.seen.bytes_to_client)),
        ]
    };
    by_address.into_iter().map(row).collect()
}

fn upstreams(view: &View) -> Vec<Row> {
    let sessions = view.shared.sessions.sessions();
    let row = |upstream: &std::sync::Arc<Upstream>| {
        let settings = upstream.settings();
        let on_it = sessions
            .iter()
            .filter(|session| session.upstream == upstream.name());
        let tls = match settings.tls.mode {
            TlsMode::Disable => "disable",
            TlsMode::Prefer => "prefer",
            TlsMode::Require => "require",
            TlsMode::VerifyCa => "verify-ca",
            TlsMode::VerifyFull => "verify-full",
        };
        let mode = match settings.route.mode {
            Mode::Steer => "steer",
            Mode::Observe => "observe",
        };
        let route = match settings.route.kind {
            RouteKind::Sqe => "sqe",
            RouteKind::CommonTable => "common-table",
            RouteKind::Auto => "auto",
        };
        let scope = match settings.route.scope {
            Scope::Session => "session",
            Scope::Statement => "statement",
        };
        let reader = match &settings.catalog {
            catalog if catalog.user.is_some() => "account",
            catalog if catalog.borrow => "sessions",
            _ => "nobody",
        };
        let knowledge = upstream.knowledge();
        vec![
            Value::Text(upstream.name().to_owned()),
            Value::Text(upstream.endpoint().address()),
            Value::Text(tls.to_owned()),
            Value::count(on_it.count()),
            settings.max_sessions.map_or(Value::Null, Value::count),
            Value::Text(mode.to_owned()),
            Value::Text(route.to_owned()),
            Value::Text(scope.to_owned()),
            Value::Text(reader.to_owned()),
            Value::count(knowledge.databases().len()),
            Value::count(knowledge.keys().records()),
        ]
    };
    view.upstreams().iter().map(row).collect()
}
