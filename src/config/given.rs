//! Settings from outside of the file: environment variables and flags.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::draft::{Draft, PasswordSource, Pending, PendingUpstream};
use super::problem::{Notes, Place, nearest};
use super::secret::Secret;
use super::settings::Settings;
use super::upstream::{ProjectRule, Upstream};
use super::{log_filter, values};

/// The variables of the process's environment that are Osprey's, by name.
#[derive(Debug, Clone, Default)]
pub struct Environment(BTreeMap<String, OsString>);

impl Environment {
    /// The variables of this process.
    pub fn of_process() -> Self {
        Self::from_variables(std::env::vars_os())
    }

    /// The variables among `variables` whose names start with `OSPREY_`, and systemd's
    /// `CREDENTIALS_DIRECTORY`. An empty one counts as not
    /// set, since many tools that start containers cannot unset one.
    pub fn from_variables(variables: impl IntoIterator<Item = (OsString, OsString)>) -> Self {
        let ours = |(name, value): (OsString, OsString)| {
            let name = name.into_string().ok()?;
            let is_ours = name.starts_with("OSPREY_") || name == CREDENTIALS_VARIABLE;
            (is_ours && !value.is_empty()).then_some((name, value))
        };
        Self(variables.into_iter().filter_map(ours).collect())
    }
}

/// A setting that a flag or an environment variable may give.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Key {
    /// `upstream.address`
    Upstream,
    /// `listen.addresses`: the first one given replaces those of the file.
    Listen,
    /// `observe.metrics`
    Metrics,
    /// `protect.projects`: adds to those of `[protect]` in the file; a rule of the same name is
    /// replaced there. This one and those of `[catalog]` and `[route]` hold for all upstreams but
    /// those that say something else themselves.
    EncryptedProject,
    /// `catalog.user`
    CatalogUser,
    /// The catalog account's password itself; from the environment only.
    CatalogPassword,
    /// `catalog.password_file`
    CatalogPasswordFile,
    /// `route.mode`
    Mode,
    /// `route.kind`
    Route,
    /// `route.scope`
    Scope,
    /// `observe.log`
    Log,
    /// `observe.log_format`
    LogFormat,
}

impl Key {
    /// The dotted key in the file.
    fn in_file(self) -> &'static str {
        match self {
            Self::Upstream => "upstream.address",
            Self::Listen => "listen.addresses",
            Self::Metrics => "observe.metrics",
            Self::EncryptedProject => "protect.projects",
            Self::CatalogUser => "catalog.user",
            Self::CatalogPassword => "catalog.password",
            Self::CatalogPasswordFile => "catalog.password_file",
            Self::Mode => "route.mode",
            Self::Route => "route.kind",
            Self::Scope => "route.scope",
            Self::Log => "observe.log",
            Self::LogFormat => "observe.log_format",
        }
    }

    fn is_list(self) -> bool {
        matches!(self, Self::Listen | Self::EncryptedProject)
    }
}

/// One flag as it was given.
#[derive(Debug, Clone)]
pub struct Given {
    /// Which setting.
    pub key: Key,
    /// The flag's name, for messages: `--listen`.
    pub flag: &'static str,
    /// Its value, unchecked.
    pub value: String,
}

/// The environment variables and what each sets. Lists are separated by commas.
pub const VARIABLES: [(&str, Key); 12] = [
    ("OSPREY_UPSTREAM", Key::Upstream),
    ("OSPREY_LISTEN", Key::Listen),
    ("OSPREY_METRICS", Key::Metrics),
    ("OSPREY_ENCRYPTED_PROJECTS", Key::EncryptedProject),
    ("OSPREY_CATALOG_USER", Key::CatalogUser),
    ("OSPREY_CATALOG_PASSWORD", Key::CatalogPassword),
    ("OSPREY_CATALOG_PASSWORD_FILE", Key::CatalogPasswordFile),
    ("OSPREY_ROUTE", Key::Route),
    ("OSPREY_MODE", Key::Mode),
    ("OSPREY_SCOPE", Key::Scope),
    ("OSPREY_LOG", Key::Log),
    ("OSPREY_LOG_FORMAT", Key::LogFormat),
];
/// Names the configuration file.
const CONFIG_VARIABLE: &str = "OSPREY_CONFIG";

/// The directory in which systemd puts a service's secrets (systemd.exec(5), `LoadCredential=`).
const CREDENTIALS_VARIABLE: &str = "CREDENTIALS_DIRECTORY";

/// Where the service manager has put this service's secrets, if it has.
pub(super) fn credentials(environment: &Environment) -> Option<PathBuf> {
    environment.0.get(CREDENTIALS_VARIABLE).map(PathBuf::from)
}

/// The configuration file, if one is named, and where it is named.
pub(super) fn config_file(
    flag: Option<PathBuf>,
    environment: &Environment,
    notes: &mut Notes,
) -> Option<(PathBuf, Place)> {
    let names = VARIABLES.map(|(name, _)| name);
    for name in environment.0.keys().filter(|name| *name != CONFIG_VARIABLE) {
        // Only near misses: OSPREY_SERVICE_HOST and its like are Kubernetes' own.
        let known = names.contains(&name.as_str());
        if let Some(right) = nearest_variable(name, names).filter(|_| !known) {
            notes.given(name, Place::Named(name.clone()));
            notes.warn(
                name,
                format!("is not a variable of Osprey's; did you mean {right}?"),
            );
        }
    }
    let named = |name: &str| Place::Named(name.to_owned());
    flag.map(|path| (path, named("--config"))).or_else(|| {
        let path = environment.0.get(CONFIG_VARIABLE)?;
        Some((path.into(), named(CONFIG_VARIABLE)))
    })
}

fn nearest_variable<'c>(name: &str, names: [&'c str; VARIABLES.len()]) -> Option<&'c str> {
    let prefix = "OSPREY_";
    let own = name.strip_prefix(prefix)?;
    let all = names.into_iter().chain([CONFIG_VARIABLE]);
    let right = nearest(
        own,
        all.clone().filter_map(|name| name.strip_prefix(prefix)),
    )?;
    all.into_iter()
        .find(|name| name.strip_prefix(prefix) == Some(right))
}

/// Applies the environment on top of the draft.
pub(super) fn apply_environment(environment: &Environment, draft: &mut Draft) {
    let has = |name| environment.0.contains_key(name);
    if has("OSPREY_CATALOG_PASSWORD") && has("OSPREY_CATALOG_PASSWORD_FILE") {
        draft.notes.wrong_at(
            Place::Named("OSPREY_CATALOG_PASSWORD".into()),
            "",
            "OSPREY_CATALOG_PASSWORD_FILE is set as well; set one of the two",
        );
    }
    for (name, key) in VARIABLES {
        let Some(value) = environment.0.get(name) else {
            continue;
        };
        let place = Place::Named(name.to_owned());
        let Some(value) = value.to_str() else {
            draft.notes.wrong_at(place, key.in_file(), "is not UTF-8");
            continue;
        };
        let values = if key.is_list() {
            value.split(',').collect()
        } else {
            vec![value]
        };
        apply(key, &values, &place, draft);
    }
}

/// Applies flags on top of the draft.
pub(super) fn apply_flags(flags: &[Given], draft: &mut Draft) {
    for (at, flag) in flags.iter().enumerate() {
        if flags[..at].iter().any(|earlier| earlier.key == flag.key) {
            continue;
        }
        let values: Vec<_> = flags
            .iter()
            .filter(|other| other.key == flag.key)
            .map(|other| other.value.as_str())
            .collect();
        apply(
            flag.key,
            &values,
            &Place::Named(flag.flag.to_owned()),
            draft,
        );
    }
}

/// Applies all values that one place gives for a setting.
fn apply(key: Key, given: &[&str], place: &Place, draft: &mut Draft) {
    let array = match key {
        Key::Upstream if draft.pending.is_upstream_array() => Some("upstream"),
        Key::Listen if draft.pending.is_listener_array() => Some("listener"),
        _ => None,
    };
    if let Some(array) = array {
        let aside = draft.notes.aside(array);
        let text = format!(
            "the file has [[{array}]]{aside}; write this there and leave {place} away, or leave \
             [[{array}]] away"
        );
        draft.notes.wrong_at(place.clone(), key.in_file(), text);
        return;
    }
    draft.notes.given(key.in_file(), place.clone());
    let mut parsed = Parsed {
        key,
        given,
        place,
        notes: &mut draft.notes,
    };
    let (settings, pending) = (&mut draft.settings, &mut draft.pending);
    match key {
        Key::Upstream => {
            if let Some(address) = parsed.last(values::upstream) {
                settings.upstreams[0].addresses = vec![address];
            }
        }
        Key::Listen => settings.listeners[0].addresses = parsed.all(values::address),
        Key::EncryptedProject => {
            let rules = &mut pending.protect.projects;
            let added: Vec<ProjectRule> = parsed.all(values::project);
            for (at, rule) in added.iter().enumerate() {
                if added[..at].iter().any(|earlier| earlier.name == rule.name) {
                    parsed.wrong(format!("project {:?} is listed twice", rule.name));
                }
            }
            rules.retain(|rule| added.iter().all(|new| new.name != rule.name));
            rules.extend(added);
        }
        Key::Metrics => parsed.set(values::address_or_off, &mut settings.observe.metrics),
        Key::CatalogUser => {
            if let Some(user) = parsed.last(values::name) {
                for upstream in without_own(key, settings, pending, &draft.notes) {
                    upstream.catalog.user = Some(user.clone());
                }
            }
        }
        Key::CatalogPassword => {
            let secret = given.last().map(|text| Secret((*text).to_owned()));
            pending.password = secret.map(PasswordSource::Given);
        }
        Key::CatalogPasswordFile => {
            let credentials = draft.credentials.as_deref();
            let path = |text: &str| values::path(text, Path::new(""), credentials);
            if let Some(file) = parsed.last(path) {
                draft.files.note(&file);
                pending.password = Some(PasswordSource::File(file));
            }
        }
        Key::Mode => {
            if let Some(mode) = parsed.last(values::one_of(values::MODES)) {
                for upstream in without_own(key, settings, pending, &draft.notes) {
                    upstream.route.mode = mode;
                }
            }
        }
        Key::Route => {
            if let Some(kind) = parsed.last(values::one_of(values::ROUTES)) {
                for upstream in without_own(key, settings, pending, &draft.notes) {
                    upstream.route.kind = kind;
                }
            }
        }
        Key::Scope => {
            if let Some(scope) = parsed.last(values::one_of(values::SCOPES)) {
                for upstream in without_own(key, settings, pending, &draft.notes) {
                    upstream.route.scope = scope;
                }
            }
        }
        Key::Log => parsed.set(log_filter::parse, &mut settings.observe.log),
        Key::LogFormat => {
            parsed.set(
                values::one_of(values::LOG_FORMATS),
                &mut settings.observe.json_logs,
            );
        }
    }
}

/// The upstreams that do not say in the file themselves what `key` says for all.
fn without_own<'s>(
    key: Key,
    settings: &'s mut Settings,
    pending: &Pending,
    notes: &Notes,
) -> impl Iterator<Item = &'s mut Upstream> {
    let own = |part: &PendingUpstream| notes.is_given(&part.key(key.in_file()));
    let owns: Vec<bool> = pending.upstreams.iter().map(own).collect();
    let upstreams = settings.upstreams.iter_mut().zip(owns);
    upstreams.filter_map(|(upstream, own)| (!own).then_some(upstream))
}

/// The values one place gives for a setting, on their way to a type.
struct Parsed<'p> {
    key: Key,
    given: &'p [&'p str],
    place: &'p Place,
    notes: &'p mut Notes,
}

impl Parsed<'_> {
    fn all<T>(&mut self, parse: impl Fn(&str) -> Result<T, String>) -> Vec<T> {
        let mut values = Vec::new();
        for text in self.given {
            match parse(text) {
                Ok(value) => values.push(value),
                Err(text) => self.wrong(text),
            }
        }
        values
    }

    fn wrong(&mut self, text: String) {
        let place = self.place.clone();
        self.notes.wrong_at(place, self.key.in_file(), text);
    }

    fn last<T>(&mut self, parse: impl Fn(&str) -> Result<T, String>) -> Option<T> {
        self.all(parse).pop()
    }

    fn set<T>(&mut self, parse: impl Fn(&str) -> Result<T, String>, target: &mut T) {
        if let Some(value) = self.last(parse) {
            *target = value;
        }
    }
}
