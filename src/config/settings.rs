//! Everything that can be configured, as typed values with their defaults.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::cloud::{Cloud, Endpoint};
use super::console::Console;
use super::limits::Limits;
use super::listener::Listener;
use super::reload::Reload;
use super::replicas::Replicas;
use super::takeover::Takeover;
use super::upstream::{Address, Upstream};

/// Everything that can be configured, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Where clients connect, and where that leads: `[[listener]]`, or the one of `[listen]`.
    pub listeners: Vec<Listener>,
    /// The Hologres instances behind: `[[upstream]]`, or the one of `[upstream]`. Never empty;
    /// names are unique.
    pub upstreams: Vec<Upstream>,
    /// The key cache.
    pub keys: Keys,
    /// Metrics and health.
    pub observe: Observe,
    /// Sessions' limits and deadlines.
    pub limits: Limits,
    /// The console.
    pub console: Console,
    /// When the configuration is read again.
    pub reload: Reload,
    /// How the next process takes over.
    pub takeover: Takeover,
    /// How replicas tell each other what they find out; `None`: they do not.
    pub replicas: Option<Replicas>,
}

impl Settings {
    /// The defaults, for one upstream.
    pub fn for_upstream(host: impl Into<String>, port: u16) -> Self {
        let address = Address {
            host: host.into(),
            port,
        };
        Self {
            listeners: vec![Listener::default()],
            upstreams: vec![Upstream::at(vec![address])],
            keys: Keys::default(),
            observe: Observe::default(),
            limits: Limits::default(),
            console: Console::default(),
            reload: Reload::default(),
            takeover: Takeover::default(),
            replicas: None,
        }
    }

    /// The first upstream, and the only one where the file has no `[[upstream]]`.
    ///
    /// # Panics
    /// If there is none, which no checked settings are.
    pub fn upstream(&self) -> &Upstream {
        self.upstreams.first().expect("settings have an upstream")
    }

    /// See [`Settings::upstream`].
    ///
    /// # Panics
    /// As [`Settings::upstream`].
    pub fn upstream_mut(&mut self) -> &mut Upstream {
        self.upstreams
            .first_mut()
            .expect("settings have an upstream")
    }
}

/// `[keys]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keys {
    /// How long a key record is believed. Default 24 h.
    pub ttl: Duration,
    /// How long a failed lookup is remembered. Default 60 s.
    pub negative_ttl: Duration,
    /// At most this many records. Default 10,000.
    pub capacity: usize,
    /// The file that keeps the records over a restart; `None`: nothing does.
    pub snapshot: Option<PathBuf>,
    /// The cloud to ask about projects and keys; `None`: nobody is asked.
    pub cloud: Option<Cloud>,
}

impl Default for Keys {
    fn default() -> Self {
        Self {
            ttl: Duration::from_hours(24),
            negative_ttl: Duration::from_mins(1),
            capacity: 10_000,
            snapshot: None,
            cloud: None,
        }
    }
}

/// The language of what Osprey says. Statements, codes and Hologres' own text are the same in all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub enum Language {
    /// English.
    #[default]
    English,
    /// Simplified Chinese.
    Chinese,
}

/// How much of Hologres' own text a rewritten error holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub enum OriginalText {
    /// Its beginning and its end, where it is long; the whole is in Osprey's log.
    #[default]
    Short,
    /// All of it.
    Full,
}

/// Of which statements a line is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogStatements {
    /// Of none.
    #[default]
    None,
    /// Of those that read what is protected.
    Protected,
    /// Of all.
    All,
}

/// Whether the metrics' address serves the status page.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum StatusPage {
    /// Only on a loopback address: it shows the names of projects and relations, without a login.
    #[default]
    Auto,
    /// It does.
    On,
    /// It does not.
    Off,
}

/// `[observe]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observe {
    /// Where /metrics and /healthz are served; default 127.0.0.1:9464. `None`: nowhere.
    pub metrics: Option<SocketAddr>,
    /// Whether the status page is served there.
    pub status_page: StatusPage,
    /// The names by which browsers may ask for it, beside addresses and `localhost`; lower case. A page
    /// of somebody else's can give its own name the address of this process.
    pub status_hosts: Vec<String>,
    /// `text` or `json` logs.
    pub json_logs: bool,
    /// A tracing filter, e.g. `info` or `osprey=debug`.
    pub log: String,
    /// Replace pangu paths in messages and logs.
    pub redact_paths: bool,
    /// The language of rewritten errors.
    pub language: Language,
    /// Where rewritten errors say that the pages can be read, without a slash at its end. `None`: in
    /// the directory `docs` of the sources.
    pub docs: Option<Arc<str>>,
    /// A file of the operator's own rules of advice, behind Osprey's.
    pub rules: Option<PathBuf>,
    /// How much of Hologres' own text is in rewritten errors.
    pub original_text: OriginalText,
    /// Which statements are logged, without the values in them.
    pub log_statements: LogStatements,
    /// Where traces are sent: a collector of OpenTelemetry's, by OTLP over HTTP.
    pub traces: Option<Endpoint>,
    /// Of how many sessions in a hundred.
    pub trace_percent: u8,
}

impl Observe {
    /// True if the status page is served.
    pub fn serves_status_page(&self) -> bool {
        match self.status_page {
            StatusPage::On => true,
            StatusPage::Off => false,
            StatusPage::Auto => self
                .metrics
                .is_some_and(|address| address.ip().is_loopback()),
        }
    }
}

impl Default for Observe {
    fn default() -> Self {
        Self {
            metrics: Some(SocketAddr::from(([127, 0, 0, 1], 9464))),
            status_page: StatusPage::Auto,
            status_hosts: Vec::new(),
            json_logs: false,
            log: "info".into(),
            redact_paths: false,
            language: Language::English,
            docs: None,
            rules: None,
            original_text: OriginalText::Short,
            log_statements: LogStatements::None,
            traces: None,
            trace_percent: 100,
        }
    }
}
