//! What the core asks of the world, answered from the snapshots at hand.

use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use crate::advice::{self, AdviceContext, NotRetried, Setting};
use crate::catalog::route::{is_common_table, reads_encrypted, route_setting};
use crate::catalog::{HologresVersion, project_key};
use crate::config::{
    self, Language, LogStatements, Mode, OriginalText, Override, Scope, Settings, show_duration,
};
use crate::core::{Advised, Commands, Cure, ErrorContext, Policy, Told, World};
use crate::keys::{self, KeyState};
use crate::net::time::timeout;
use crate::protection::knowledge::{BorrowedReading, DatabaseKnowledge, UserLessons};
use crate::protection::{
    Beginning, Decision, Effects, Encoding, Lexing, NameContext, Reason, RouteHint, SessionNames,
    Snapshot, Source,
};
use crate::sql::{COMPUTING_RESOURCE, ComputingResource, ROUTE_SETTINGS, qualified};
use crate::upstream::Upstream;
use crate::wire::backend::ErrorFields;
use crate::wire::compose;
use crate::wire::startup::Startup;

use super::live::Live;
use super::registry::Entered;

/// How long the first session of a database waits for its catalogs to be read, so that its first
/// statement is decided by knowledge and not by luck. Statements themselves never wait.
///
/// holo-client-c gives the whole login two seconds.
const FIRST_READING: Duration = Duration::from_secs(1);

/// One session's view of what is known.
pub(super) struct SessionWorld {
    upstream: Arc<Upstream>,
    database: Arc<DatabaseKnowledge>,
    user: String,
    /// What this user has heard in this database.
    lessons: Arc<UserLessons>,
    /// The project that the error named for which something is run again.
    tried: RefCell<Option<String>>,
    /// A fresh session of this user reads encrypted data without a SET.
    reads_encrypted: bool,
    /// Any user may set the route.
    user_may_set: bool,
    /// Used when an error comes, and kept apart for that.
    errors: Box<Errors>,
    pub(super) cancel_orphans: bool,
    live: Arc<Live>,
}

/// What errors are told by.
#[derive(Default)]
struct Errors {
    /// What the client calls itself in its startup packet; empty if it does not.
    application: String,
    /// What the last error was about that [`World::advise`] had something to say of.
    about: RefCell<About>,
    /// The statement that runs has had this time, and was cancelled for it.
    timed_out: Cell<Option<Duration>>,
    redact: bool,
    language: Language,
    docs: Option<Arc<str>>,
    /// What begins the ids of the errors of which the log has the whole text; `None`: the client has it.
    ids: Option<String>,
    /// How many ids have been given.
    given: Cell<u64>,
}

/// Tells this process' ids of errors from those of another replica, or of the one before a restart.
static PROCESS: LazyLock<u64> =
    LazyLock::new(|| RandomState::new().build_hasher().finish() & 0xffff);

/// The code under which the core hears of a statement that has had its time.
pub(super) const STATEMENT_TIMEOUT: &str = "statement_timeout";
/// SQLSTATE `query_canceled`.
const QUERY_CANCELED: &[u8] = b"57014";

/// The server's error with the reason for which its statement was cancelled.
fn timed_out(error: ErrorFields<'_>, limit: Duration) -> Advised {
    let message = format!(
        "canceling statement due to statement timeout: Osprey's limits.statement_timeout is {}",
        show_duration(limit)
    );
    let mut frame = Vec::new();
    let fields = error.iter().map(|(code, value)| match code {
        b'M' => (code, message.as_bytes()),
        _ => (code, value),
    });
    compose::error(&mut frame, fields);
    Advised {
        frame,
        code: STATEMENT_TIMEOUT,
        cure: None,
    }
}

/// What an error was about, for the log.
#[derive(Debug, Default)]
pub(super) struct About {
    /// The relation, if it is known which one.
    pub(super) relation: Option<String>,
    /// The MaxCompute project.
    pub(super) project: Option<String>,
    /// Its id, and all that Hologres said, if the client got a part of it.
    pub(super) whole: Option<(String, String)>,
}

impl About {
    /// What the error says itself counts for more than why its statement was steered.
    fn new(project: Option<&str>, decision: Option<&Decision>) -> Self {
        let reason = decision.and_then(|decision| decision.protected.as_deref());
        let suspect = match decision.map(|decision| decision.suspects.as_slice()) {
            Some([name]) => Some(qualified(name)),
            _ => None,
        };
        Self {
            relation: reason.map(|reason| reason.relation.clone()).or(suspect),
            project: project
                .map(str::to_owned)
                .or_else(|| reason.and_then(|reason| reason.project.clone())),
            whole: None,
        }
    }
}

impl SessionWorld {
    /// What a session that logs in so has to go by, before [`SessionWorld::ready`].
    pub(super) fn new(
        entered: &Entered,
        startup: Startup<'_>,
        upstream: &Arc<Upstream>,
        settings: &Settings,
    ) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let database = upstream.knowledge().database(&text(startup.database()));
        let user = text(startup.user());
        let application = startup.setting("application_name");
        Self {
            lessons: database.lessons_of(&user),
            tried: RefCell::default(),
            user,
            upstream: Arc::clone(upstream),
            database,
            reads_encrypted: false,
            user_may_set: false,
            errors: Box::new(Errors {
                application: application.unwrap_or_default(),
                redact: settings.observe.redact_paths,
                language: settings.observe.language,
                docs: settings.observe.docs.clone(),
                ids: (settings.observe.original_text == OriginalText::Short)
                    .then(|| format!("{:04x}-{}", *PROCESS, entered.id())),
                ..Errors::default()
            }),
            cancel_orphans: settings.limits.cancel_orphans,
            live: Arc::clone(entered.live()),
        }
    }

    /// Has sessions of this database keep whatever only reads; true if that is new.
    pub(super) fn keep_all(&self) -> bool {
        self.database.keep_all()
    }

    /// Borrows this session to read the catalogs, if somebody has to read them and it can: in
    /// replication mode and on the fixed front end there is no SQL to do it with.
    pub(super) fn borrow_session(&self, startup: Startup<'_>) -> Option<BorrowedReading> {
        let speaks_sql = !startup.is_replication() && !startup.is_fixed_front_end();
        speaks_sql.then(|| self.database.borrow_session()).flatten()
    }

    /// Waits, at most a little, until there is something to decide by; how names resolve at login.
    pub(super) async fn ready(&mut self, startup: Startup<'_>) -> SessionNames {
        let _ = timeout(FIRST_READING, self.database.ready()).await;
        let at_startup = startup.setting("search_path");
        let path = at_startup.unwrap_or_else(|| self.database.search_path(&self.user));
        let route = self.database.route(&self.user);
        self.reads_encrypted = route.reads_encrypted_already();
        self.user_may_set = route.user_may_set;
        let role = startup.setting("role");
        let role = role.or_else(|| self.database.brought(&self.user, "role"));
        SessionNames::new(NameContext::new(&self.user, &path)).with_role(role)
    }

    /// The user's name.
    pub(super) fn user(&self) -> &str {
        &self.user
    }

    /// What the client called itself when it connected; empty if it did not.
    pub(super) fn application(&self) -> &str {
        &self.errors.application
    }

    /// The statement that runs is cancelled, since it has had its time.
    pub(super) fn time_is_up(&self, limit: Duration) {
        self.errors.timed_out.set(Some(limit));
    }

    /// Another cycle has begun.
    pub(super) fn time_is_its_own(&self) {
        self.errors.timed_out.set(None);
    }

    /// What the last error was about; for the line in the log that says what became of it.
    pub(super) fn take_about(&self) -> About {
        self.errors.about.take()
    }

    /// Says in the log why a statement is steered, or is not. No text of SQL is in it.
    fn tell(&self, decision: &Decision) {
        let hint = decision.hint.map(|hint| match hint {
            RouteHint::Sqe => "sqe",
            RouteHint::Hqe => "hqe",
            RouteHint::Off => "off",
        });
        let (user, database) = (&*self.user, self.database.name());
        if let Some(reason) = decision.protected.as_deref() {
            tracing::debug!(
                user,
                database,
                relation = %reason.relation,
                via = ?reason.via,
                project = reason.project.as_deref(),
                source = ?reason.source,
                hint,
                reads_encrypted_already = self.reads_encrypted,
                "a statement is protected"
            );
        } else {
            tracing::debug!(
                user,
                database,
                reads_foreign = decision.effects.intersects(Effects::READS_FOREIGN),
                hint,
                "a statement is not protected"
            );
        }
    }

    /// Notes that what was run again did not meet the error a second time.
    pub(super) fn cured(&self) {
        if let Some(project) = self.try_with(None) {
            self.database.confirm(&self.lessons, &project);
        }
    }

    /// From here on, what is run again is so because the error named this project; the one before.
    fn try_with(&self, project: Option<String>) -> Option<String> {
        self.tried.replace(project)
    }

    /// HQE's error came. What it teaches this user at once, it teaches others only once more is known;
    /// true if the next run of the statement is steered by it.
    fn learn(
        &self,
        project: Option<&str>,
        context: &ErrorContext<'_>,
        snapshot: &Snapshot,
    ) -> bool {
        let tried = self.try_with(None);
        if context.computing_resource == Some(ComputingResource::Serverless)
            && snapshot
                .version()
                .is_some_and(|version| version < HologresVersion::SERVERLESS)
        {
            // No engine reads it there: that says nothing of what another session's would do.
            return false;
        }
        let by_lesson = |decision: &Decision| {
            let reason = decision.protected.as_deref();
            reason.is_some_and(|reason| reason.source == Source::Learned)
        };
        if context.not_retried == Some(NotRetried::LeftBehind) {
            // It has been heard before, and the second run did not come as far.
            return context
                .decision
                .is_some_and(|decision| self.lessons.reason(decision, snapshot).is_some());
        }
        let again = context.not_retried == Some(NotRetried::FailedAgain);
        if again || context.route_was_set && context.decision.is_some_and(by_lesson) {
            // It came on the other engine, too.
            for project in [project, tried.as_deref()].into_iter().flatten() {
                self.database.take_back(&self.lessons, project);
            }
            return false;
        }
        if context.client_owns_route || context.route_was_set {
            return false;
        }
        let heard = project
            .is_some_and(|project| self.database.hear(&self.lessons, project, context.decision));
        let Some(project) = project.filter(|_| heard) else {
            return false;
        };
        if context.not_retried.is_none() {
            self.try_with(Some(project.to_owned()));
        }
        let explained = context.decision.is_some_and(|decision| {
            let read = [&decision.suspects, &decision.opaque];
            decision.protected.is_some() || read.iter().any(|names| !names.is_empty())
        });
        if !explained || snapshot.has_project(&project_key(project)) == Some(false) {
            // It reads a relation that no reading of the catalogs has seen: Hologres makes some
            // foreign tables when they are first queried.
            self.database.catalog_changed();
        }
        context
            .decision
            .is_some_and(|decision| self.lessons.reason(decision, snapshot).is_some())
    }

    /// Notes that this user's SET of the route has succeeded.
    pub(super) fn proven(&self) {
        self.upstream.set_proven(&self.user);
    }

    /// Notes whether the upstream has planned anew what it had planned.
    pub(super) fn replanned(&self, done: bool) {
        if !done && self.upstream.replans().is_none() {
            tracing::warn!(
                upstream = self.upstream.name(),
                "Hologres refused DISCARD PLANS: where it chooses the engine as it plans, prepared \
                 statements from before a switch have to be prepared anew"
            );
        }
        self.upstream.set_replans(done);
    }

    /// The database's name.
    pub(super) fn database(&self) -> &str {
        self.database.name()
    }
}

impl World for SessionWorld {
    fn decide(
        &self,
        text: &[u8],
        whole: bool,
        names: &SessionNames,
        lexing: Lexing,
    ) -> Arc<Decision> {
        let snapshot = self.database.snapshot();
        let decision = if whole {
            snapshot.decide_in(text, names, lexing)
        } else {
            snapshot.decide_prefix_in(text, names, lexing)
        };
        let decision = match self.lessons.reason(&decision, &snapshot) {
            None => decision,
            Some(reason) => Arc::new(Decision {
                protected: Some(Arc::new(reason)),
                ..(*decision).clone()
            }),
        };
        if tracing::enabled!(tracing::Level::DEBUG) {
            self.tell(&decision);
        }
        decision
    }

    fn begins(&self, head: &[u8], names: &SessionNames, lexing: Lexing) -> Option<Beginning> {
        self.database.snapshot().begins(head, names, lexing)
    }

    fn generation(&self) -> u64 {
        // Either alone only grows, so that their sum changes with each of them.
        let known = self.database.generation();
        known.wrapping_add(self.lessons.version())
    }

    fn knows_the_catalogs(&self) -> bool {
        !self.database.snapshot().is_blind()
    }

    fn catalog_changed(&self, names: &SessionNames) {
        self.database.catalog_changed_by(names);
    }

    fn has_protected(&self) -> bool {
        self.database.snapshot().protected_count() > 0 || self.lessons.version() > 0
    }

    fn reads_encrypted_already(&self) -> bool {
        self.reads_encrypted
    }

    fn may_need_retry(&self) -> bool {
        self.database.snapshot().has_suspects()
    }

    fn is_cancelled(&self) -> bool {
        self.live.is_cancelled()
    }

    fn keeps_all(&self) -> bool {
        self.database.keeps_all()
    }

    fn is_proven(&self) -> bool {
        self.user_may_set || self.upstream.is_proven(&self.user)
    }

    fn replans(&self) -> Option<bool> {
        self.upstream.replans()
    }

    fn advise(&self, error: ErrorFields<'_>, context: &ErrorContext<'_>) -> Option<Advised> {
        if let Some(limit) = self.errors.timed_out.get()
            && error.sqlstate() == QUERY_CANCELED
        {
            return Some(timed_out(error, limit));
        }
        let encoding = context.encoding.unwrap_or_else(Encoding::of_ascii);
        let original = error;
        let read = in_servers_encoding(error, encoding);
        let error = ErrorFields::new(&read);
        let fault = advice::recognize(error)?;
        self.errors
            .about
            .replace(About::new(fault.project.as_deref(), context.decision));
        let snapshot = self.database.snapshot();
        let switched_on = &self.upstream.settings().route.retry_rules;
        let cure = fault.cure(switched_on);
        let learned =
            fault.is_of_encryption() && self.learn(fault.project.as_deref(), context, &snapshot);
        let client_reads = context.client_owns_route && context.client_reads_encrypted;
        // Where the path names another project, the one that the statement is known by did not fail.
        let is_of = |reason: &&Reason| match (&fault.project, &reason.project) {
            (Some(failed), Some(known)) => project_key(failed) == project_key(known),
            _ => true,
        };
        let reason = context
            .decision
            .and_then(|decision| decision.protected.as_deref())
            .filter(is_of);
        if let Some(record) = reason.and_then(|reason| reason.key.as_deref())
            && let keys::Encryption::Kms(key) = &record.encryption
            && !matches!(key.state, KeyState::Enabled | KeyState::Unknown)
        {
            self.upstream.knowledge().keys().look_again(&record.project);
        }
        let log_id = self.errors.ids.as_ref().map(|begin| {
            self.errors.given.set(self.errors.given.get() + 1);
            format!("{begin}-{}", self.errors.given.get())
        });
        let advice = advice::advise(
            &fault,
            error,
            &AdviceContext {
                database: snapshot.database(),
                reason,
                client_set_route: context.client_owns_route && !client_reads,
                route_was_set: context.route_was_set || client_reads || self.reads_encrypted,
                learned,
                computing_resource: context.computing_resource,
                version: snapshot.version(),
                not_retried: context
                    .not_retried
                    .or(cure.is_some().then_some(NotRetried::AnsweredDifferently)),
                switched_on,
                redact: self.errors.redact,
                language: self.errors.language,
                encoding,
                docs: self.errors.docs.as_deref(),
                log_id: log_id.as_deref(),
            },
        );
        self.errors.about.borrow_mut().whole = log_id
            .zip(advice.whole.clone())
            .filter(|_| !advice.untouched);
        Some(Advised {
            frame: advice.frame(original),
            code: advice.code,
            cure: cure.map(|setting| match setting {
                Setting::Route => Cure::Route,
                Setting::Other(sql) => Cure::Setting(sql.into()),
            }),
        })
    }
}

/// The body of an error as it is in the server's encoding, whatever the client's is.
fn in_servers_encoding(error: ErrorFields<'_>, encoding: Encoding) -> Cow<'_, [u8]> {
    let body = error.body();
    if let Cow::Borrowed(_) = encoding.to_server(body) {
        return Cow::Borrowed(body);
    }
    // Field by field: a character that is cut off ends with its field.
    let mut converted = Vec::with_capacity(body.len() * 2);
    for (code, value) in error.iter() {
        converted.push(code);
        converted.extend_from_slice(&encoding.to_server(value));
        converted.push(0);
    }
    converted.push(0);
    Cow::Owned(converted)
}

/// The messages that change the engine, by route; composed once for all sessions.
#[derive(Debug)]
pub struct Routes {
    sqe: Arc<Commands>,
    common_table: Arc<Commands>,
}

impl Default for Routes {
    fn default() -> Self {
        let commands = |common_table| {
            let (name, value) = route_setting(common_table);
            Arc::new(Commands::new(name, value))
        };
        Self {
            sqe: commands(false),
            common_table: commands(true),
        }
    }
}

/// Where the client wants its queries to run, if its startup packet says so.
pub(super) fn computing_resource(startup: Startup<'_>) -> Option<ComputingResource> {
    let chosen = startup.setting(COMPUTING_RESOURCE)?;
    Some(ComputingResource::named(&chosen))
}

/// What the settings, the startup packet and the upstream's version make of a session.
pub(super) fn policy(
    startup: Startup<'_>,
    settings: &Settings,
    world: &SessionWorld,
    routes: &Routes,
) -> Policy {
    let version = world.database.snapshot().version();
    let route: &config::Route = &world.upstream.settings().route;
    let common_table = is_common_table(route.kind, version);
    let observe = route.mode == Mode::Observe;
    let commands = if common_table {
        &routes.common_table
    } else {
        &routes.sqe
    };
    Policy {
        commands: Arc::clone(commands),
        per_statement: route.scope == Scope::Statement,
        enforce: route.override_client == Override::Enforce,
        retry_buffer: (route.retry && !observe).then_some(route.retry_buffer),
        retry_writes: route.retry_writes,
        observe,
        told: match settings.observe.log_statements {
            LogStatements::None => Told::None,
            LogStatements::Protected => Told::Protected,
            LogStatements::All => Told::All,
        },
        inspect: settings.limits.inspect_bytes,
        relay_only: startup.is_replication() || startup.is_fixed_front_end(),
        client_route: {
            let chosen = ROUTE_SETTINGS
                .iter()
                .filter_map(|name| Some((name, startup.setting(name)?)));
            let reads = chosen.map(|(name, value)| reads_encrypted(name, &value));
            reads.reduce(|one, other| one || other)
        },
    }
}
