//! What a session has changed for itself: how its names resolve, how its texts are read, and what it
//! has made that the catalogs do not say yet. It is a value that is followed through transactions and savepoints;
//! each [`SessionChange`] comes from a statement that has succeeded.

use std::sync::{Arc, LazyLock};

use super::names::NameContext;
use super::own::{Leads, Own};
use super::setting::Setting;
use crate::catalog::route::reads_encrypted;
use crate::sql::{
    Backslash, Change, ComputingResource, Encoding, Lexing, ROUTE_SETTINGS, RouteSetting, Value,
    WrittenName,
};

/// What a statement changes for its session, once it has succeeded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SessionChange {
    /// What its text alone says.
    Stated(Change),
    /// A relation or function was made, replaced, or leads elsewhere now.
    Made {
        /// Its name.
        name: WrittenName,
        /// A temporary relation: it hides others of its name.
        temporary: bool,
        /// It is dropped at the end of its transaction.
        until_commit: bool,
        /// It is defined by what it reads, and is gone with that.
        stored: bool,
        /// By these names it is the first of its own on the search path.
        first: Option<Box<NameContext>>,
        /// Where it leads.
        leads: Leads,
    },
}

impl From<Change> for SessionChange {
    fn from(change: Change) -> Self {
        Self::Stated(change)
    }
}

impl SessionChange {
    /// True if a name may lead elsewhere once this holds.
    pub fn moves_names(&self) -> bool {
        let stays = matches!(
            self,
            Self::Stated(
                Change::Begin
                    | Change::Savepoint(_)
                    | Change::Release(_)
                    | Change::Route { .. }
                    | Change::ComputingResource { .. }
            )
        );
        !(stays || self.ends_transaction())
    }

    /// True if by this what the transaction has changed may hold no longer.
    pub fn ends_transaction(&self) -> bool {
        matches!(
            self,
            Self::Stated(Change::Commit | Change::Rollback | Change::RollbackTo(_))
        )
    }
}

/// So many savepoints are remembered. What holds behind a ROLLBACK TO an older one is not known.
const MAX_SAVED: usize = 256;

/// The value of `role` by which the present role is the session's user.
const NO_ROLE: &str = "none";

/// Settings and relations at one point of a session.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Scope {
    path: Setting<Vec<String>>,
    user: Setting<String>,
    /// As the setting of this name has it: [`NO_ROLE`] is the user.
    role: Setting<String>,
    backslash: Setting<Backslash>,
    encoding: Setting<Encoding>,
    orc_via_holo: Setting<String>,
    catalog_routing: Setting<String>,
    computing_resource: Setting<ComputingResource>,
    own: Arc<Own>,
}

/// That of a session that has changed nothing.
static FRESH: LazyLock<Arc<Scope>> = LazyLock::new(Arc::default);

impl Scope {
    /// True if something of it ends with the transaction.
    fn ends_with_transaction(&self) -> bool {
        self.path.is_local()
            || self.user.is_local()
            || self.role.is_local()
            || self.backslash.is_local()
            || self.encoding.is_local()
            || self.orc_via_holo.is_local()
            || self.catalog_routing.is_local()
            || self.computing_resource.is_local()
            || self.own.ends_with_transaction()
    }

    /// Of which nothing is known.
    fn unknown() -> Self {
        Self {
            path: Value::Unknown.into(),
            user: Value::Unknown.into(),
            role: Value::Unknown.into(),
            backslash: Value::Unknown.into(),
            encoding: Value::Unknown.into(),
            orc_via_holo: Value::Unknown.into(),
            catalog_routing: Value::Unknown.into(),
            computing_resource: Value::Unknown.into(),
            own: Arc::new(Own::unknown()),
        }
    }
}

/// How names resolve and texts are read in a session, now and after its transaction.
#[derive(Debug, Clone)]
pub struct SessionNames {
    /// The user and the search path at login, as far as they are known.
    login_user: Option<String>,
    login_role: String,
    login_path: Option<Vec<String>>,
    login_lexing: Lexing,
    /// The client chose the route at its login, and whether by it encrypted data is read.
    login_route: Option<bool>,
    /// The `hg_computing_resource` that the client chose at its login, if it chose one.
    login_resource: Option<ComputingResource>,
    /// Shared by all in which nothing has changed since: savepoints are many, and changes few.
    scope: Arc<Scope>,
    /// What holds again after ROLLBACK, and after ROLLBACK TO each savepoint.
    saved: Vec<(Option<String>, Arc<Scope>)>,
    /// The transaction has savepoints that are not among them: older ones.
    forgotten: bool,
    now: NameContext,
    epoch: u32,
}

impl SessionNames {
    /// A session that has just logged in.
    pub fn new(login: NameContext) -> Self {
        Self {
            login_user: Some(login.user.clone()),
            login_role: NO_ROLE.to_owned(),
            login_path: login.search_path.clone(),
            login_lexing: Lexing::default(),
            login_route: None,
            login_resource: None,
            scope: Arc::clone(&FRESH),
            saved: Vec::new(),
            forgotten: false,
            now: login,
            epoch: 0,
        }
    }

    /// A session of which nothing is known but how its names resolve now.
    pub(super) fn somewhere(now: NameContext) -> Self {
        let path = now.search_path.clone();
        Self {
            login_user: None,
            login_role: NO_ROLE.to_owned(),
            login_path: None,
            login_lexing: Lexing::default(),
            login_route: None,
            login_resource: None,
            scope: Arc::new(Scope {
                path: path.map_or(Value::Unknown, Value::Is).into(),
                user: Value::Is(now.user.clone()).into(),
                ..Scope::default()
            }),
            saved: Vec::new(),
            forgotten: false,
            now,
            epoch: 0,
        }
    }

    /// The same session, which has this role since its login; `None`: its user's.
    #[must_use]
    pub fn with_role(mut self, login: Option<String>) -> Self {
        self.login_role = login.unwrap_or_else(|| NO_ROLE.to_owned());
        self.resolve();
        self
    }

    /// The same session, whose texts are read so since its login.
    #[must_use]
    pub fn with_lexing(mut self, login: Lexing) -> Self {
        self.login_lexing = login;
        self
    }

    /// The same session, whose client has, or has not, chosen the route at its login; true: one by which
    /// encrypted data is read.
    #[must_use]
    pub fn with_route(mut self, chosen: Option<bool>) -> Self {
        self.login_route = chosen;
        self
    }

    /// The same session, whose client has chosen this `hg_computing_resource` at its login.
    #[must_use]
    pub fn with_computing_resource(mut self, login: Option<ComputingResource>) -> Self {
        self.login_resource = login;
        self
    }

    /// The session's `hg_computing_resource`; `None`: the session has not said it, or not in words
    /// that can be read.
    pub fn computing_resource(&self) -> Option<ComputingResource> {
        let resource = self.scope.computing_resource.now();
        resource.or(self.login_resource.as_ref()).copied()
    }

    /// True if a value of the client's own is in force for one of the settings that choose the route.
    pub fn has_route(&self) -> bool {
        let settings = [&self.scope.orc_via_holo, &self.scope.catalog_routing];
        settings.into_iter().any(|setting| match setting.now() {
            Value::Is(_) | Value::Unknown => true,
            Value::Default => self.login_route.is_some(),
        })
    }

    /// True if by the client's own values that are in force encrypted data is read.
    pub fn route_reads_encrypted(&self) -> bool {
        let settings = [
            (ROUTE_SETTINGS[0], &self.scope.orc_via_holo),
            (ROUTE_SETTINGS[2], &self.scope.catalog_routing),
        ];
        settings
            .into_iter()
            .any(|(name, setting)| match setting.now() {
                Value::Is(value) => reads_encrypted(name, value),
                Value::Unknown => false,
                Value::Default => self.login_route == Some(true),
            })
    }

    /// The value that the session has given the setting of this name, until it ends; `None`: it has not,
    /// or only for its transaction.
    pub fn route_value(&self, setting: &str) -> Option<&str> {
        let scope = &self.scope;
        let setting = if setting == ROUTE_SETTINGS[2] {
            &scope.catalog_routing
        } else {
            &scope.orc_via_holo
        };
        match setting.lasting() {
            Some(Value::Is(value)) => Some(value),
            _ => None,
        }
    }

    /// The ways in which texts may be read now, by what the session has set.
    pub fn lexings(&self) -> Vec<Lexing> {
        let Scope {
            backslash,
            encoding,
            ..
        } = &*self.scope;
        let backslashes = match backslash.now().or(Some(&self.login_lexing.backslash)) {
            Some(known) => vec![*known],
            None => vec![Backslash::Plain, Backslash::Escapes],
        };
        let encodings = match encoding.now().or(Some(&self.login_lexing.encoding)) {
            Some(known) => vec![*known],
            None => Encoding::any().to_vec(),
        };
        let with = |encoding: Encoding| {
            let both = backslashes.iter();
            both.map(move |backslash| Lexing {
                backslash: *backslash,
                encoding,
            })
        };
        encodings.into_iter().flat_map(with).collect()
    }

    /// True if texts are read so now, and in no other way, by what the session has set.
    pub fn lexing_is(&self, lexing: Lexing) -> bool {
        let login = &self.login_lexing;
        let backslash = self.scope.backslash.now().or(Some(&login.backslash));
        let encoding = self.scope.encoding.now().or(Some(&login.encoding));
        backslash == Some(&lexing.backslash) && encoding == Some(&lexing.encoding)
    }

    /// Texts are read so now: the server says it, whatever the session's statements have said.
    pub fn lexing_was_reported(&mut self, lexing: Lexing) {
        if !self.lexing_is(lexing) {
            let scope = Arc::make_mut(&mut self.scope);
            scope.backslash.correct(lexing.backslash);
            scope.encoding.correct(lexing.encoding);
        }
    }

    /// How unqualified names resolve now, temporary relations apart.
    pub fn names(&self) -> &NameContext {
        &self.now
    }

    /// What the session has made and dropped.
    pub(super) fn own(&self) -> &Own {
        &self.scope.own
    }

    /// The same session, after others have made and dropped this.
    #[must_use]
    pub(super) fn after(mut self, others: &Own) -> Self {
        let own = Arc::new(self.scope.own.with(others));
        Arc::make_mut(&mut self.scope).own = own;
        self
    }

    /// True if a transaction has begun.
    pub fn in_transaction(&self) -> bool {
        !self.saved.is_empty()
    }

    /// Takes in the changes of a text that has succeeded, in their order. What is local to a
    /// transaction is over at once if no transaction is open.
    pub fn apply(&mut self, changes: &[SessionChange]) {
        let before = Arc::clone(&self.scope);
        self.follow_all(changes);
        if !self.in_transaction() {
            self.end_local();
        }
        self.resolve_unless(&before);
    }

    /// Changes whenever a name may lead elsewhere than before.
    pub fn epoch(&self) -> u32 {
        self.epoch
    }

    /// Forgets what had to be remembered of committed DDL: the catalogs have been read since, and
    /// say it.
    pub fn catalogs_were_read(&mut self) {
        if !self.in_transaction() {
            let scope = Arc::make_mut(&mut self.scope);
            Arc::make_mut(&mut scope.own).catalogs_were_read();
            self.epoch = self.epoch.wrapping_add(1);
        }
    }

    /// Takes in the changes of one statement, within a text that has more.
    pub(super) fn change(&mut self, changes: &[SessionChange]) {
        let before = Arc::clone(&self.scope);
        self.follow_all(changes);
        self.resolve_unless(&before);
    }

    fn follow_all(&mut self, changes: &[SessionChange]) {
        for change in changes {
            match change {
                SessionChange::Stated(change) => self.follow(change),
                SessionChange::Made {
                    name,
                    temporary,
                    until_commit,
                    stored,
                    first,
                    leads,
                } => {
                    let scope = Arc::make_mut(&mut self.scope);
                    let own = Arc::make_mut(&mut scope.own);
                    if let Some(by) = first {
                        own.make_first(by, &name.1, leads);
                    }
                    if *temporary {
                        own.make_temporary(&name.1, leads, *until_commit, *stored);
                    } else if *leads != Leads::Nowhere {
                        own.make(name, leads);
                    }
                }
            }
        }
    }

    fn resolve_unless(&mut self, before: &Arc<Scope>) {
        if !Arc::ptr_eq(&self.scope, before) && self.scope != *before {
            self.epoch = self.epoch.wrapping_add(1);
            self.resolve();
        }
    }

    fn follow(&mut self, change: &Change) {
        match change {
            Change::DiscardAll => self.scope = Arc::clone(&FRESH),
            Change::Begin if self.saved.is_empty() => {
                self.saved.push((None, Arc::clone(&self.scope)));
            }
            Change::Begin => {}
            Change::Commit => {
                self.saved.clear();
                self.forgotten = false;
                self.end_local();
            }
            Change::Rollback => {
                self.forgotten = false;
                if let Some((_, before)) = self.saved.drain(..).next() {
                    self.scope = before;
                }
            }
            Change::Savepoint(name) => {
                if self.saved.len() == MAX_SAVED {
                    // The first is what ROLLBACK comes back to.
                    self.saved.remove(1);
                    self.forgotten = true;
                }
                self.saved
                    .push((Some(name.clone()), Arc::clone(&self.scope)));
            }
            Change::Release(name) => {
                if let Some(at) = self.saved_as(name) {
                    self.saved.truncate(at);
                } else if self.forgotten {
                    self.saved.truncate(1);
                }
            }
            Change::RollbackTo(name) => {
                if let Some(at) = self.saved_as(name) {
                    self.scope = Arc::clone(&self.saved[at].1);
                    self.saved.truncate(at + 1);
                } else if self.forgotten {
                    self.saved.truncate(1);
                    let mut unknown = Scope::unknown();
                    unknown.own = Arc::new(self.scope.own.perhaps());
                    self.scope = Arc::new(unknown);
                }
            }
            _ => self.follow_in_scope(change),
        }
    }

    /// Follows what changes settings and relations.
    fn follow_in_scope(&mut self, change: &Change) {
        let scope = Arc::make_mut(&mut self.scope);
        match change {
            Change::SearchPath { path, local } => scope.path.set(path.clone(), *local),
            Change::Role { role, local } => scope.role.set(role.clone(), *local),
            Change::Backslash { backslash, local } => {
                scope.backslash.set(backslash.clone(), *local);
            }
            Change::Encoding { encoding, local } => scope.encoding.set(encoding.clone(), *local),
            Change::Route {
                setting,
                value,
                local,
            } => {
                let setting = match setting {
                    RouteSetting::OrcViaHolo => &mut scope.orc_via_holo,
                    RouteSetting::CatalogRouting => &mut scope.catalog_routing,
                };
                setting.set(value.clone(), *local);
            }
            Change::ComputingResource { resource, local } => {
                scope.computing_resource.set(resource.clone(), *local);
            }
            Change::User { user, local } => {
                let role = match user {
                    Value::Default => Value::Default,
                    Value::Is(_) | Value::Unknown => Value::Is(NO_ROLE.to_owned()),
                };
                scope.user.set(user.clone(), *local);
                scope.role.set(role, *local);
            }
            Change::Dropped {
                name: (schema, name),
                cascade,
            } => {
                Arc::make_mut(&mut scope.own).drop(schema.as_deref(), name, *cascade);
            }
            Change::Replaced(name) => {
                Arc::make_mut(&mut scope.own).replace(name);
            }
            Change::Relations => Arc::make_mut(&mut scope.own).others_changed(),
            Change::AnyRelation => Arc::make_mut(&mut scope.own).anything_changed(),
            Change::Anything => {
                Arc::make_mut(&mut scope.own).anything_changed();
                scope.path.set(Value::Unknown, false);
                scope.backslash.set(Value::Unknown, false);
                scope.encoding.set(Value::Unknown, false);
            }
            Change::MayDrop => Arc::make_mut(&mut scope.own).all_may_be_gone(),
            Change::DiscardTemporary => Arc::make_mut(&mut scope.own).discard_temporary(),
            Change::DiscardAll
            | Change::Begin
            | Change::Commit
            | Change::Rollback
            | Change::Savepoint(_)
            | Change::Release(_)
            | Change::RollbackTo(_) => {}
        }
    }

    /// Where the innermost savepoint of this name stands among what is saved.
    fn saved_as(&self, name: &str) -> Option<usize> {
        let is_it = |(saved, _): &(Option<String>, Arc<Scope>)| saved.as_deref() == Some(name);
        self.saved.iter().rposition(is_it)
    }

    fn end_local(&mut self) {
        if !self.scope.ends_with_transaction() {
            return;
        }
        let scope = Arc::make_mut(&mut self.scope);
        if scope.own.ends_with_transaction() {
            Arc::make_mut(&mut scope.own).end_transaction();
        }
        scope.path.end_local();
        scope.user.end_local();
        scope.role.end_local();
        scope.backslash.end_local();
        scope.encoding.end_local();
        scope.orc_via_holo.end_local();
        scope.catalog_routing.end_local();
        scope.computing_resource.end_local();
    }

    fn resolve(&mut self) {
        let scope = &self.scope;
        let user = scope.user.now().or(self.login_user.as_ref());
        let role = match scope.role.now().or(Some(&self.login_role)) {
            Some(role) if role == NO_ROLE => user,
            role => role,
        };
        let path = scope.path.now().or(self.login_path.as_ref());
        // If the role is not known, neither is a path with the role's own schema in it.
        let is_known =
            |path: &&Vec<String>| role.is_some() || path.iter().all(|schema| schema != "$user");
        self.now = NameContext {
            user: role.cloned().unwrap_or_default(),
            search_path: path.filter(is_known).cloned(),
        };
    }
}

#[cfg(test)]
mod tests;
