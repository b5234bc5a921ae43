//! The checked, typed settings. The file is TOML; flags win over the environment, the environment
//! over the file, the file over the defaults.
//!
//! [`load()`] is the whole of it: `file.rs` walks the TOML text (of one file, or of several that
//! `source.rs` puts together), `given.rs` applies environment and
//! flags on top, `settle.rs` gives each upstream what holds for all, `check.rs` looks for
//! contradictions and at the files that are named. Each step notes every mistake it finds with its
//! place, so that one run shows them all. The types, each with its defaults, are in `settings.rs`,
//! `listener.rs`, `upstream.rs`, `limits.rs`, `console.rs`, `reload.rs`, `takeover.rs`, `replicas.rs` and
//! `cloud.rs`.

mod at_start;
pub(crate) mod certificate;
mod check;
mod cloud;
mod console;
mod draft;
mod file;
mod files;
mod given;
mod include;
mod key_records;
mod limits;
mod listener;
mod load;
mod log_filter;
mod named_file;
mod pem;
mod problem;
mod reader;
mod reload;
mod replicas;
mod schema;
mod secret;
mod settings;
mod settle;
mod show;
mod source;
mod takeover;
mod upstream;
mod values;

pub use at_start::waits_for_restart;
pub use certificate::certificate_expiry;
pub use cloud::{Cloud, CredentialSource, Endpoint};
pub use console::{Console, ConsoleUser, Verifier};
pub use files::Files;
pub use given::{Environment, Given, Key, VARIABLES};
pub(crate) use key_records::{Found, KEY_RECORDS, look};
pub use limits::{Limits, Quota, Rate};
pub use listener::{ListenTls, Listener, ProxyProtocol, Rule};
pub use load::{Loaded, Reading, load, read};
pub(crate) use log_filter::parse as log_filter;
pub(crate) use problem::nearest;
pub use problem::{Place, Problem};
pub use reload::Reload;
pub use replicas::Replicas;
pub use schema::schema;
pub use secret::Secret;
pub use settings::{Keys, Language, LogStatements, Observe, OriginalText, Settings, StatusPage};
pub use takeover::Takeover;
pub use upstream::{
    Address, Catalog, ConfiguredEncryption, Mode, Override, ProjectRule, Protect, Route, RouteKind,
    Scope, TablePattern, TlsMode, Upstream, UpstreamTls,
};
pub(crate) use values::show_duration;

#[cfg(test)]
mod tests;
