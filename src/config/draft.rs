//! Settings on their way from the defaults to checked ones.

use std::path::PathBuf;

use super::files::Files;
use super::problem::Notes;
use super::secret::Secret;
use super::settings::Settings;
use super::upstream::Protect;
use super::values::HOLOGRES_PORT;

/// Settings on their way from the defaults to checked ones.
pub(super) struct Draft {
    /// The settings, as far as they are known.
    pub(super) settings: Settings,
    /// What is not among them yet.
    pub(super) pending: Pending,
    /// Where the service manager has put this service's secrets, if it has.
    pub(super) credentials: Option<PathBuf>,
    /// True if there is a file, and it could not be read.
    pub(super) unread: bool,
    /// The files that were read, or are named to be.
    pub(super) files: Files,
    /// The mistakes so far, and where each setting was given.
    pub(super) notes: Notes,
}

/// What is not in the settings yet, since a later source may replace it or what it adds to.
pub(super) struct Pending {
    /// Where the password of the catalog account of `[catalog]` comes from.
    pub(super) password: Option<PasswordSource>,
    /// What `[protect]` says.
    pub(super) protect: Protect,
    /// The path of each listener in [`Notes`]: `listen`, or `listener[0]`, `listener[1]`, …
    pub(super) listeners: Vec<String>,
    /// What is not in the settings of each upstream yet.
    pub(super) upstreams: Vec<PendingUpstream>,
}

/// What is not in the settings of one upstream yet.
pub(super) struct PendingUpstream {
    /// Its path in [`Notes`]: `upstream`, or `upstream[0]`, `upstream[1]`, …
    pub(super) path: String,
    /// Where the password of its own `catalog` comes from.
    pub(super) password: Option<PasswordSource>,
    /// What its own `protect` says.
    pub(super) protect: Protect,
}

/// Where the password of an account comes from.
#[derive(Clone)]
pub(super) enum PasswordSource {
    /// It is given as it is.
    Given(Secret),
    /// It is in this file.
    File(PathBuf),
}

impl Draft {
    /// The defaults, before any source was read.
    pub(super) fn new() -> Self {
        let mut settings = Settings::for_upstream("", HOLOGRES_PORT);
        // An upstream without an address is what the check reports as missing. Where a listener
        // leads is settled once all upstreams are known.
        settings.upstream_mut().addresses.clear();
        settings.listeners[0].upstream = None;
        Self {
            settings,
            pending: Pending {
                password: None,
                protect: Protect::default(),
                listeners: vec!["listen".into()],
                upstreams: vec![PendingUpstream::at("upstream")],
            },
            credentials: None,
            unread: false,
            files: Files::default(),
            notes: Notes::default(),
        }
    }
}

impl Pending {
    /// True if the upstreams are those of `[[upstream]]`.
    pub(super) fn is_upstream_array(&self) -> bool {
        self.upstreams.iter().any(PendingUpstream::is_element)
    }

    /// True if the listeners are those of `[[listener]]`.
    pub(super) fn is_listener_array(&self) -> bool {
        self.listeners.iter().any(|path| path.ends_with(']'))
    }
}

impl PendingUpstream {
    /// With nothing given yet.
    pub(super) fn at(path: &str) -> Self {
        Self {
            path: path.to_owned(),
            password: None,
            protect: Protect::default(),
        }
    }

    /// True if it is one `[[upstream]]` of perhaps several.
    pub(super) fn is_element(&self) -> bool {
        self.path.ends_with(']')
    }

    /// The path of one of its keys.
    pub(super) fn key(&self, key: &str) -> String {
        format!("{}.{key}", self.path)
    }

    /// The path of a key of `route`, `protect` or `catalog`: its own if it has that, else the one
    /// that holds for all.
    pub(super) fn key_or_common(&self, key: &str, notes: &Notes) -> String {
        let own = self.key(key);
        if notes.is_given(&own) {
            own
        } else {
            key.to_owned()
        }
    }
}
