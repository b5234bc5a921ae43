//! What the core asks of the world, answered from the snapshots at hand.

use std::sync::Arc;
use std::time::Duration;

use crate::advice::{self, AdviceContext, NotRetried};
use crate::catalog::route::{is_common_table, route_setting};
use crate::config::{self, Language, Mode, Override, Scope, Settings};
use crate::core::{Advised, Commands, ErrorContext, Policy, World};
use crate::protection::knowledge::{BorrowedReading, DatabaseKnowledge};
use crate::protection::{Decision, Lexing, NameContext, SessionNames};
use crate::sql::ROUTE_SETTINGS;
use crate::upstream::Upstream;
use crate::wire::backend::ErrorFields;
use crate::wire::startup::Startup;

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
    /// A fresh session of this user reads encrypted data without a SET.
    reads_encrypted: bool,
    /// Any user may set the route.
    user_may_set: bool,
    redact: bool,
    language: Language,
    pub(super) cancel_orphans: bool,
}

impl SessionWorld {
    /// What a session that logs in so has to go by, before [`SessionWorld::ready`].
    pub(super) fn new(startup: Startup<'_>, upstream: &Arc<Upstream>, settings: &Settings) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let database = upstream.knowledge().database(&text(startup.database()));
        let user = text(startup.user());
        Self {
            user,
            upstream: Arc::clone(upstream),
            database,
            reads_encrypted: false,
            user_may_set: false,
            redact: settings.observe.redact_paths,
            language: settings.observe.language,
            cancel_orphans: settings.limits.cancel_orphans,
        }
    }

    /// Borrows this session to read the catalogs, if somebody has to read them and it can: in
    /// replication mode and on the fixed front end there is no SQL to do it with.
    pub(super) fn borrow_session(&self, startup: Startup<'_>) -> Option<BorrowedReading> {
        let speaks_sql = !startup.is_replication() && !startup.is_fixed_front_end();
        speaks_sql.then(|| self.database.borrow_session()).flatten()
    }

    /// Waits, at most a little, until there is something to decide by; how names resolve at login.
    pub(super) async fn ready(&mut self, startup: Startup<'_>) -> SessionNames {
        let _ = tokio::time::timeout(FIRST_READING, self.database.ready()).await;
        let at_startup = startup
            .settings()
            .into_iter()
            .rev()
            .find_map(|(name, value)| (name == "search_path").then_some(value));
        let path = at_startup.unwrap_or_else(|| self.database.search_path(&self.user));
        let route = self.database.route(&self.user);
        self.reads_encrypted = route.reads_encrypted_already();
        self.user_may_set = route.user_may_set;
        SessionNames::new(NameContext::new(&self.user, &path))
    }

    /// The user's name.
    pub(super) fn user(&self) -> &str {
        &self.user
    }

    /// HQE failed on a statement. Where it reads one relation that may be the cause, that is the one;
    /// among several it is not known which, and only the project that the error names is believed.
    fn learn(&self, project: Option<&str>, decision: Option<&Decision>) {
        match decision.map(|decision| decision.suspects.as_slice()) {
            Some([(schema, name)]) => {
                self.database
                    .learn_relation(schema.as_deref(), name, project);
            }
            _ => {
                if let Some(project) = project {
                    self.upstream.knowledge().learn_project(project);
                }
            }
        }
    }

    /// Notes that this user's SET of the route has succeeded.
    pub(super) fn proven(&self) {
        self.upstream.set_proven(&self.user);
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
        if whole {
            snapshot.decide_in(text, names, lexing)
        } else {
            snapshot.decide_prefix_in(text, names, lexing)
        }
    }

    fn generation(&self) -> u64 {
        self.database.snapshot().generation()
    }

    fn knows_the_catalogs(&self) -> bool {
        !self.database.snapshot().is_blind()
    }

    fn catalog_changed(&self, names: &SessionNames) {
        self.database.catalog_changed_by(names);
    }

    fn has_protected(&self) -> bool {
        self.database.snapshot().protected_count() > 0
    }

    fn reads_encrypted_already(&self) -> bool {
        self.reads_encrypted
    }

    fn may_need_retry(&self) -> bool {
        self.database.snapshot().has_suspects()
    }

    fn is_proven(&self) -> bool {
        self.user_may_set || self.upstream.is_proven(&self.user)
    }

    fn advise(&self, error: ErrorFields<'_>, context: &ErrorContext<'_>) -> Option<Advised> {
        let fault = advice::recognize(error)?;
        let snapshot = self.database.snapshot();
        let mut learned = false;
        if fault.is_curable() && !context.client_owns_route && !context.route_was_set {
            // With this lesson, the next session's statement need not fail first.
            self.learn(fault.project.as_deref(), context.decision);
            let suspects = context
                .decision
                .map_or(0, |decision| decision.suspects.len());
            // The next run of the same statement is steered if what it reads is known by name.
            learned = suspects == 1 || suspects > 1 && fault.project.is_some();
            let explained = context.decision.is_some_and(|decision| {
                decision.protected.is_some() || !decision.suspects.is_empty()
            });
            if !explained {
                // It reads a relation that no reading of the catalogs has seen: Hologres makes some
                // foreign tables when they are first queried.
                self.database.catalog_changed();
            }
        }
        let advice = advice::advise(
            &fault,
            error,
            &AdviceContext {
                database: snapshot.database(),
                reason: context
                    .decision
                    .and_then(|decision| decision.protected.as_deref()),
                client_set_route: context.client_owns_route,
                route_was_set: context.route_was_set || self.reads_encrypted,
                learned,
                version: snapshot.version(),
                not_retried: context.not_retried.or(fault
                    .is_curable()
                    .then_some(NotRetried::AnsweredDifferently)),
                redact: self.redact,
                language: self.language,
                ..AdviceContext::default()
            },
        );
        Some(Advised {
            frame: advice.frame(error),
            code: advice.code,
            curable: fault.is_curable(),
        })
    }
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
        observe,
        inspect: settings.limits.inspect_bytes,
        relay_only: startup.is_replication() || startup.is_fixed_front_end(),
        client_owns_route: startup
            .settings()
            .iter()
            .any(|(name, _)| ROUTE_SETTINGS.contains(&name.as_str())),
    }
}
