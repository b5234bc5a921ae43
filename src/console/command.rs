//! What commands do.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

use super::error::Error;
use super::query::value;
use super::statement::{Command, Explain, Operand};
use super::value::{Row, Value};
use super::world::World;
use crate::catalog::project_key;
use crate::keys::Origin;
use crate::observe::logs;
use crate::observe::metrics::Reload;
use crate::protection::knowledge::DatabaseKnowledge;
use crate::session::{Ask, Shared};
use crate::upstream::{Explanation, Upstream};

/// How often a PAUSE looks whether it has come into force.
const PAUSE_TICK: Duration = Duration::from_millis(20);
/// How long it looks.
const PAUSE_PATIENCE: Duration = Duration::from_secs(30);

/// Does what a command says, with the values of Bind.
///
/// # Errors
///
/// It cannot be done.
pub(super) async fn run(command: &Command, bound: &[Value], world: &World) -> Result<(), Error> {
    let text = |operand: &Operand| value(operand, bound).printed().unwrap_or_default();
    match command {
        Command::Reload => reload((world.control.reload)().await),
        Command::Drain => {
            (world.control.drain)();
            Ok(())
        }
        Command::Pause(database) => pause(world, database.as_ref().map(text).as_deref()).await,
        Command::Resume(database) => resume(world, database.as_ref().map(text).as_deref()),
        Command::Kill(id) => ask(world, &value(id, bound), Ask::Kill),
        Command::Cancel(id) => ask(world, &value(id, bound), Ask::Cancel),
        Command::InvalidateKey(project) => invalidate(world, project.as_ref().map(text).as_deref()),
        Command::ForgetLesson(subject) => forget(world, subject.as_ref().map(text).as_deref()),
        Command::RefreshCatalog(database) => refresh(world, database.as_ref().map(text).as_deref()),
        Command::SetLog(filter) => {
            logs::set_filter(&text(filter)).map_err(|why| Error::new("22023", why))
        }
    }
}

fn reload(outcome: Reload) -> Result<(), Error> {
    let failed = |code, why: &str| {
        let message = format!("the configuration was not taken: {why}");
        Err(Error::new(code, message)
            .hint("The log says what is wrong. What was in force stays in force."))
    };
    match outcome {
        Reload::Applied => Ok(()),
        Reload::Refused => failed("F0000", "it has mistakes"),
        Reload::TimedOut => failed("58030", "it could not be read in time"),
    }
}

fn ask(world: &World, id: &Value, what: Ask) -> Result<(), Error> {
    let found = match id {
        Value::Int(id) => u64::try_from(*id).is_ok_and(|id| world.shared.sessions.ask(id, what)),
        _ => false,
    };
    if found {
        return Ok(());
    }
    let id = id.printed().unwrap_or_else(|| "NULL".to_owned());
    Err(Error::new("42704", format!("there is no session {id}")).hint("SHOW SESSIONS lists them."))
}

/// Waits until nothing is under way in what is paused. False: the pause was taken back before.
async fn is_quiet<N>(shared: &Shared<N>, database: Option<&str>) -> bool {
    while shared.sessions.held().1 > 0 {
        tokio::time::sleep(PAUSE_TICK).await;
        if !shared.sessions.is_pause_in_force(database) {
            return false;
        }
    }
    true
}

/// Holds back what would begin, and waits until nothing is under way any more.
async fn pause(world: &World, database: Option<&str>) -> Result<(), Error> {
    let shared = &world.shared;
    let changes = shared.sessions.pause(database);
    let timeout = shared.settings.load().console.pause_timeout;
    let (tell, quiet) = oneshot::channel();
    let (watched, name) = (Arc::clone(shared), database.map(str::to_owned));
    // It goes on if whoever has asked leaves.
    tokio::spawn(async move {
        let quiet = is_quiet(&watched, name.as_deref());
        let _ = tell.send(tokio::time::timeout(PAUSE_PATIENCE, quiet).await);
        let Some(limit) = timeout else { return };
        // The time runs from when the pause is in force.
        tokio::time::sleep(limit).await;
        if watched.sessions.resume_after(changes) {
            tracing::warn!(
                "console.pause_timeout is over: sessions go on, though nobody said RESUME"
            );
        }
    });
    match quiet.await.unwrap_or(Ok(false)) {
        Ok(true) => return Ok(()),
        Ok(false) => {
            let message = "the pause was taken back before everything was quiet";
            return Err(
                Error::new("55000", message).hint("SHOW DATABASES says what is paused now.")
            );
        }
        Err(_) => {}
    }
    let busy = shared.sessions.held().1;
    let message = format!("paused, but {busy} sessions are still in a transaction or statement");
    Err(Error::new("55006", message).hint(
        "They go on to its end, and are held then: SHOW SESSIONS. RESUME takes the pause back.",
    ))
}

fn resume(world: &World, database: Option<&str>) -> Result<(), Error> {
    let was_paused = world.shared.sessions.resume(database);
    if let Some(name) = database.filter(|name| world.shared.sessions.is_paused(name)) {
        let message = format!("database \"{name}\" stays paused, since all are");
        return Err(
            Error::new("55000", message).hint("RESUME without a name lets all databases go on.")
        );
    }
    if was_paused {
        return Ok(());
    }
    let message = match database {
        Some(name) => format!("database \"{name}\" is not paused by itself"),
        None => "nothing is paused".to_owned(),
    };
    let error = Error::new("55000", message);
    Err(match database {
        Some(_) => error.hint("RESUME without a name lets all databases go on."),
        None => error,
    })
}

fn invalidate(world: &World, project: Option<&str>) -> Result<(), Error> {
    let Some(project) = project else {
        for upstream in world.upstreams() {
            upstream.knowledge().keys().invalidate_all();
        }
        return Ok(());
    };
    let mut found = false;
    for upstream in world.upstreams() {
        found |= upstream.knowledge().keys().invalidate(project);
    }
    if found {
        return Ok(());
    }
    let message = format!("nothing is known of project \"{project}\"");
    Err(Error::new("42704", message).hint("SHOW KEYS lists the projects."))
}

fn forget(world: &World, subject: Option<&str>) -> Result<(), Error> {
    let is_meant = |lesson: &str| subject.is_none_or(|subject| project_key(subject) == lesson);
    let mut found = false;
    for upstream in world.upstreams() {
        let keys = upstream.knowledge().keys();
        for listed in keys.list() {
            let record = &listed.record;
            if record.origin == Origin::Learned && is_meant(&record.project) {
                found |= keys.invalidate(&record.project);
            }
        }
        for database in upstream.knowledge().databases() {
            for lesson in database.told_lessons() {
                found |= is_meant(&lesson.project) && database.forget_lesson(&lesson.project);
            }
        }
    }
    match subject {
        Some(subject) if !found => {
            let message = format!("nothing was learned about \"{subject}\"");
            Err(Error::new("42704", message).hint("SHOW LESSONS lists what was."))
        }
        _ => Ok(()),
    }
}

fn refresh(world: &World, name: Option<&str>) -> Result<(), Error> {
    let mut found = false;
    for upstream in world.upstreams() {
        for database in upstream.knowledge().databases() {
            if name.is_none_or(|name| name == database.name()) {
                database.catalog_changed();
                found = true;
            }
        }
    }
    match name {
        Some(name) if !found => Err(no_database(name)),
        _ => Ok(()),
    }
}

fn no_database(name: &str) -> Error {
    let message = format!("no client has opened a database \"{name}\"");
    Error::new("3D000", message).hint("SHOW DATABASES lists those of which something is known.")
}

/// How a statement of a client's would be decided, in lines.
///
/// # Errors
///
/// It is not clear for which database, or nothing is known of that.
pub(super) fn explain(
    explain: &Explain,
    bound: &[Value],
    world: &World,
) -> Result<Vec<Row>, Error> {
    let text = |operand: &Operand| value(operand, bound).printed();
    let given = explain.database.as_ref().and_then(text);
    let user = explain.user.as_ref().and_then(text);
    let (upstream, database) = place(world, user.as_deref(), given.as_deref())?;
    let settings = world.shared.settings.load();
    let route = &upstream.settings().route;
    let account = upstream.settings().catalog.user.as_deref();
    let explanation = Explanation::of(
        &database,
        route,
        settings.limits.inspect_bytes,
        user.as_deref().or(account).unwrap_or_default(),
        &text(&explain.statement).unwrap_or_default(),
    );
    let lines = explanation.text();
    let row = |line: &str| vec![Value::Text(line.to_owned())];
    Ok(lines.trim_end().lines().map(row).collect())
}

/// Where a session of this user's in this database would be: as the listeners say, the first one
/// first. Without a name, in the only database of which something is known.
fn place(
    world: &World,
    user: Option<&str>,
    name: Option<&str>,
) -> Result<(Arc<Upstream>, Arc<DatabaseKnowledge>), Error> {
    let mut known = Vec::new();
    for upstream in world.upstreams() {
        let databases = upstream.knowledge().databases();
        known.extend(
            databases
                .into_iter()
                .map(|database| (Arc::clone(&upstream), database)),
        );
    }
    if let Some(name) = name {
        known.retain(|(_, database)| database.name() == name);
    }
    if known.len() < 2 {
        return known.pop().ok_or_else(|| match name {
            Some(name) => no_database(name),
            None => Error::new("3D000", "no client has opened a database yet"),
        });
    }
    let Some(name) = name else {
        let message = "several databases are known: say for which one";
        return Err(Error::new("3D000", message).hint("EXPLAIN ROUTE '…' IN database"));
    };
    let upstreams = world.shared.upstreams.load();
    let listeners = (0..).map_while(|socket| upstreams.listener(socket));
    let leads_to: Vec<_> = listeners
        .filter_map(|listener| listener.upstream_of(user.unwrap_or_default(), name))
        .map(|upstream| upstream.name().to_owned())
        .collect();
    let rank = |(upstream, _): &(Arc<Upstream>, _)| {
        let at = leads_to.iter().position(|name| name == upstream.name());
        at.unwrap_or(usize::MAX)
    };
    known.sort_by_key(rank);
    Ok(known.remove(0))
}
