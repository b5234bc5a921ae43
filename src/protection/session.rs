//! What a session has changed for itself: how its names resolve, how its texts are read, and what it
//! has made that the catalogs do not say yet. It is a value that is followed through transactions and savepoints;
//! each [`SessionChange`] comes from a statement that has succeeded.

use std::sync::Arc;

use super::names::NameContext;
use super::reason::Reason;
use super::relations::clip;
use super::setting::Setting;
use crate::catalog::route::reads_encrypted;
use crate::sql::{
    Backslash, Change, ComputingResource, Encoding, Lexing, ROUTE_SETTINGS, RouteSetting, Value,
    WrittenName,
};

/// Where a relation or function leads that a session has made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Leads {
    /// Not to MaxCompute.
    Nowhere,
    /// To MaxCompute data that is not known to be encrypted.
    ToMaxCompute,
    /// To encrypted data.
    ToProtected(Arc<Reason>),
}

impl Leads {
    fn weight(&self) -> u8 {
        match self {
            Self::Nowhere => 0,
            Self::ToMaxCompute => 1,
            Self::ToProtected(_) => 2,
        }
    }
}

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

/// A temporary relation.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Temporary {
    name: String,
    leads: Leads,
    until_commit: bool,
    /// It is a view, which is gone with what it reads.
    stored: bool,
}

/// The schema of a session's own relations and functions.
const TEMPORARY: &str = "pg_temp";

/// What a session has made and dropped since the catalogs were read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Own {
    temporary: Vec<Temporary>,
    /// What is the first of its name by a search path.
    first: Vec<(NameContext, String, Leads)>,
    made: Vec<(WrittenName, Leads)>,
    dropped: Vec<String>,
    replaced: Vec<WrittenName>,
    anything: bool,
    /// Relations that are not named here may have been made, or lead elsewhere.
    others: bool,
}

impl Own {
    /// True if every name leads where the catalogs say.
    pub(super) fn is_empty(&self) -> bool {
        self.temporary.is_empty()
            && self.first.is_empty()
            && self.made.is_empty()
            && self.dropped.is_empty()
            && self.replaced.is_empty()
            && !(self.anything || self.others)
    }

    /// False if a relation may lead elsewhere than the catalogs say that is not named here.
    pub(super) fn names_all(&self) -> bool {
        let are_all = self.made.len() < MAX_OWN && self.dropped.len() < MAX_OWN;
        are_all && !(self.anything || self.others)
    }

    /// True if every name that leads to MaxCompute does so by the catalogs, too.
    pub(super) fn adds_nothing(&self) -> bool {
        let nowhere = |leads: &Leads| *leads == Leads::Nowhere;
        self.made.iter().all(|(_, leads)| nowhere(leads))
            && self.temporary.iter().all(|one| nowhere(&one.leads))
    }

    /// The same with what others have made and dropped since the catalogs were read.
    pub(super) fn with(&self, others: &Self) -> Self {
        let mut all = self.clone();
        for made in &others.made {
            remember(&mut all.made, made.clone());
        }
        for dropped in &others.dropped {
            remember(&mut all.dropped, dropped.clone());
        }
        for replaced in &others.replaced {
            remember(&mut all.replaced, replaced.clone());
        }
        all
    }

    /// Temporary relations of which this is so hide nothing any more, and may be there all the same; and
    /// nothing else is certain to be the first of its name.
    fn may_be_gone(&mut self, gone: impl Fn(&Temporary) -> bool) {
        self.first.clear();
        let (gone, stay) = std::mem::take(&mut self.temporary)
            .into_iter()
            .partition(gone);
        self.temporary = stay;
        let gone: Vec<Temporary> = gone;
        for one in gone {
            if one.leads != Leads::Nowhere {
                let name = (Some(TEMPORARY.to_owned()), one.name);
                remember(&mut self.made, (name, one.leads));
            }
        }
    }

    /// Where the session's temporary relation of this name leads, if there is one.
    pub(super) fn temporary(&self, name: &[u8]) -> Option<&Leads> {
        let name = clip(name);
        let mut found = self.temporary.iter();
        found
            .find(|one| one.name.as_bytes() == name)
            .map(|one| &one.leads)
    }

    /// Where the relation leads that a bare name means by this path, if the session has made it.
    pub(super) fn first(&self, names: &NameContext, name: &[u8]) -> Option<&Leads> {
        let name = clip(name);
        let mut found = self.first.iter();
        names.search_path.as_ref()?;
        found
            .find(|(by, known, _)| known.as_bytes() == name && by == names)
            .map(|(_, _, leads)| leads)
    }

    /// Where the relations and functions lead that the session has made and that this name may
    /// mean.
    pub(super) fn made(&self, schema: Option<&[u8]>, name: &[u8]) -> impl Iterator<Item = &Leads> {
        let meant = self.made.iter().filter(move |((its_schema, its_name), _)| {
            its_name.as_bytes() == name
                && schema.is_none_or(|schema| {
                    its_schema
                        .as_deref()
                        .is_none_or(|its_schema| its_schema.as_bytes() == schema)
                })
        });
        meant.map(|(_, leads)| leads)
    }

    /// True if a name may mean any relation that bears it, whatever the search path says.
    pub(super) fn is_open(&self, name: &[u8]) -> bool {
        self.anything || self.dropped.iter().any(|known| known.as_bytes() == name)
    }

    /// True if what the catalogs say of this relation holds no longer.
    pub(super) fn is_replaced(&self, schema: Option<&[u8]>, name: &[u8]) -> bool {
        let is_it = |(its_schema, its_name): &WrittenName| {
            its_name.as_bytes() == name && its_schema.as_deref().map(str::as_bytes) == schema
        };
        schema.is_some() && self.replaced.iter().any(is_it)
    }

    /// True if a schema that is written in front of a name may not be the one that the catalogs
    /// know.
    pub(super) fn any_schema(&self) -> bool {
        self.anything
    }
}

/// So many names are remembered; by then the catalogs have told of the first of them.
const MAX_OWN: usize = 1_000;

/// So many savepoints are remembered. What holds behind a ROLLBACK TO an older one is not known.
const MAX_SAVED: usize = 256;

fn remember<T: PartialEq>(known: &mut Vec<T>, new: T) {
    known.retain(|old| *old != new);
    if known.len() == MAX_OWN {
        known.remove(0);
    }
    known.push(new);
}

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

impl Scope {
    /// Of which nothing is known.
    fn unknown() -> Self {
        let own = Own {
            anything: true,
            ..Own::default()
        };
        Self {
            path: Value::Unknown.into(),
            user: Value::Unknown.into(),
            role: Value::Unknown.into(),
            backslash: Value::Unknown.into(),
            encoding: Value::Unknown.into(),
            orc_via_holo: Value::Unknown.into(),
            catalog_routing: Value::Unknown.into(),
            computing_resource: Value::Unknown.into(),
            own: Arc::new(own),
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
    scope: Scope,
    /// What holds again after ROLLBACK, and after ROLLBACK TO each savepoint.
    saved: Vec<(Option<String>, Scope)>,
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
            scope: Scope::default(),
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
            scope: Scope {
                path: path.map_or(Value::Unknown, Value::Is).into(),
                user: Value::Is(now.user.clone()).into(),
                ..Scope::default()
            },
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
        } = &self.scope;
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
            self.scope.backslash.correct(lexing.backslash);
            self.scope.encoding.correct(lexing.encoding);
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
        self.scope.own = Arc::new(self.scope.own.with(others));
        self
    }

    /// True if a transaction has begun.
    pub fn in_transaction(&self) -> bool {
        !self.saved.is_empty()
    }

    /// Takes in the changes of a text that has succeeded, in their order. What is local to a
    /// transaction is over at once if no transaction is open.
    pub fn apply(&mut self, changes: &[SessionChange]) {
        let before = self.scope.clone();
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
            let own = Arc::make_mut(&mut self.scope.own);
            // They do not tell of these.
            own.made
                .retain(|((schema, _), _)| schema.as_deref() == Some(TEMPORARY));
            own.first.clear();
            own.dropped.clear();
            own.replaced.clear();
            own.anything = false;
            own.others = false;
            self.epoch = self.epoch.wrapping_add(1);
        }
    }

    /// Takes in the changes of one statement, within a text that has more.
    pub(super) fn change(&mut self, changes: &[SessionChange]) {
        let before = self.scope.clone();
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
                    if let Some(by) = first {
                        let own = Arc::make_mut(&mut self.scope.own);
                        let cut = clip(name.1.as_bytes());
                        let name = String::from_utf8_lossy(cut).into_owned();
                        own.first.retain(|(_, known, _)| *known != name);
                        remember(&mut own.first, (*by.clone(), name, leads.clone()));
                    }
                    if *temporary {
                        self.make_temporary(Temporary {
                            name: String::from_utf8_lossy(clip(name.1.as_bytes())).into_owned(),
                            leads: leads.clone(),
                            until_commit: *until_commit,
                            stored: *stored,
                        });
                    } else {
                        self.make(name, leads);
                    }
                }
            }
        }
    }

    fn resolve_unless(&mut self, before: &Scope) {
        if self.scope != *before {
            self.epoch = self.epoch.wrapping_add(1);
            self.resolve();
        }
    }

    fn follow(&mut self, change: &Change) {
        let scope = &mut self.scope;
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
                let own = Arc::make_mut(&mut scope.own);
                own.first
                    .retain(|(_, known, _)| known.as_bytes() != clip(name.as_bytes()));
                let before = own.temporary.len();
                if schema.as_deref().is_none_or(|schema| schema == TEMPORARY) {
                    let name = clip(name.as_bytes());
                    own.temporary.retain(|one| one.name.as_bytes() != name);
                }
                if own.temporary.len() == before {
                    remember(&mut own.dropped, name.clone());
                }
                if *cascade {
                    own.may_be_gone(|one| one.stored);
                }
            }
            Change::Replaced(name) => {
                remember(&mut Arc::make_mut(&mut scope.own).replaced, name.clone());
            }
            Change::Relations => Arc::make_mut(&mut scope.own).others = true,
            Change::Anything => {
                let own = Arc::make_mut(&mut scope.own);
                own.may_be_gone(|_| true);
                own.anything = true;
                scope.path.set(Value::Unknown, false);
                scope.backslash.set(Value::Unknown, false);
                scope.encoding.set(Value::Unknown, false);
            }
            Change::MayDrop => Arc::make_mut(&mut scope.own).may_be_gone(|_| true),
            Change::DiscardTemporary => Arc::make_mut(&mut scope.own).temporary.clear(),
            Change::DiscardAll => *scope = Scope::default(),
            Change::Begin if self.saved.is_empty() => self.saved.push((None, scope.clone())),
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
                self.saved.push((Some(name.clone()), scope.clone()));
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
                    self.scope = self.saved[at].1.clone();
                    self.saved.truncate(at + 1);
                } else if self.forgotten {
                    self.saved.truncate(1);
                    let mut unknown = Scope::unknown();
                    let own = Arc::make_mut(&mut unknown.own);
                    own.made.clone_from(&self.scope.own.made);
                    own.temporary.clone_from(&self.scope.own.temporary);
                    own.may_be_gone(|_| true);
                    self.scope = unknown;
                }
            }
        }
    }

    /// Where the innermost savepoint of this name stands among what is saved.
    fn saved_as(&self, name: &str) -> Option<usize> {
        let is_it = |(saved, _): &(Option<String>, Scope)| saved.as_deref() == Some(name);
        self.saved.iter().rposition(is_it)
    }

    /// A temporary relation of this name leads there from now on. One that was there may be so still
    /// (IF NOT EXISTS).
    fn make_temporary(&mut self, new: Temporary) {
        let own = Arc::make_mut(&mut self.scope.own);
        if let Some(known) = own.temporary.iter_mut().find(|one| one.name == new.name) {
            if known.leads.weight() < new.leads.weight() {
                known.leads = new.leads;
            }
        } else if own.temporary.len() < MAX_OWN {
            // One that is not remembered hides no other, which errs on the safe side.
            own.temporary.push(new);
        }
    }

    /// A relation or function of this name leads there from now on.
    fn make(&mut self, name: &WrittenName, leads: &Leads) {
        if *leads != Leads::Nowhere {
            let made = &mut Arc::make_mut(&mut self.scope.own).made;
            remember(made, (name.clone(), leads.clone()));
        }
    }

    fn end_local(&mut self) {
        let scope = &mut self.scope;
        if scope.own.temporary.iter().any(|one| one.until_commit) {
            let own = Arc::make_mut(&mut scope.own);
            own.temporary.retain(|one| !one.until_commit);
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
