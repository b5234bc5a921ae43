//! The checked, typed settings. The file is TOML; flags win over the environment, the environment
//! over the file, the file over the defaults here.
//!
//! [`load`] is the whole of it: [`file`] walks the TOML text, [`given`] applies environment and
//! flags on top, [`settle`] gives each upstream what holds for all, [`check`] looks for
//! contradictions and at the files that are named. Each step notes every mistake it finds with its
//! place, so that one run shows them all.

pub(crate) mod certificate;
mod check;
mod cloud;
mod file;
mod given;
mod log_filter;
mod problem;
mod reader;
mod settle;
mod show;
mod values;

pub use certificate::certificate_expiry;
pub use cloud::{Cloud, CredentialSource, Endpoint};
pub use given::{Environment, Given, Key, VARIABLES};
pub use problem::{Place, Problem};
pub(crate) use values::show_duration;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;

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
}

/// `[[listener]]`, or `[listen]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listener {
    /// Addresses to listen on; default 127.0.0.1:6432.
    pub addresses: Vec<SocketAddr>,
    /// TLS towards clients; `None`: SSLRequest is answered `N`.
    pub tls: Option<ListenTls>,
    /// Whether a load balancer in front says who the client is.
    pub proxy_protocol: ProxyProtocol,
    /// The networks that may send a PROXY header; empty with [`ProxyProtocol::Off`].
    pub proxy_networks: Vec<IpNet>,
    /// Which upstream serves which users and databases. No two of them match the same session.
    pub rules: Vec<Rule>,
    /// The name of the upstream for sessions that no rule matches; `None`: they are refused.
    pub upstream: Option<String>,
}

/// One `[[listener.rule]]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// Pattern of user names, with `*` and `?`; `*` if not given.
    pub user: String,
    /// Pattern of database names (without `@warehouse`), with `*` and `?`; `*` if not given.
    pub database: String,
    /// The upstream's name.
    pub upstream: String,
}

/// PROXY protocol v2 (HAProxy, *The PROXY protocol*, 2.2), as a listener takes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ProxyProtocol {
    /// Not understood: what arrives is a client's own. The default.
    #[default]
    Off,
    /// Connections may begin with a header.
    Accept,
    /// Connections must begin with a header.
    Require,
}

/// `[[upstream]]`, or `[upstream]` with `[route]`, `[protect]` and `[catalog]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upstream {
    /// Its name, for rules, metrics and logs; `default` if there is only one and it has none.
    pub name: String,
    /// Where it is: all of these are the same instance. Never empty.
    pub addresses: Vec<Address>,
    /// TLS towards Hologres.
    pub tls: UpstreamTls,
    /// How long a connect may take, name resolution, all addresses and TLS included. Default 10 s.
    pub connect_timeout: Duration,
    /// Sessions on it at a time; `None`: as many as `limits.max_sessions`.
    pub max_sessions: Option<usize>,
    /// How encrypted data is made readable.
    pub route: Route,
    /// What the operator says is encrypted.
    pub protect: Protect,
    /// How the catalogs are read.
    pub catalog: Catalog,
}

/// `HOST:PORT`
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Address {
    /// Host name or IP address, without brackets.
    pub host: String,
    /// Port; Hologres' own default is 80.
    pub port: u16,
}

impl std::fmt::Display for Address {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { host, port } = self;
        if host.contains(':') {
            write!(formatter, "[{host}]:{port}")
        } else {
            write!(formatter, "{host}:{port}")
        }
    }
}

/// `[listen.tls]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListenTls {
    /// PEM file with the certificate chain.
    pub certificate: PathBuf,
    /// PEM file with the private key.
    pub key: PathBuf,
    /// PEM file with the CAs that client certificates must come from; `None`: none is asked for.
    pub client_ca: Option<PathBuf>,
    /// Refuse clients that do not use TLS.
    pub required: bool,
}

/// `[upstream.tls]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpstreamTls {
    /// As libpq's sslmode.
    pub mode: TlsMode,
    /// PEM file with CAs; `None`: the system's roots.
    pub ca: Option<PathBuf>,
    /// PEM files for client authentication.
    pub certificate: Option<PathBuf>,
    /// See `certificate`.
    pub key: Option<PathBuf>,
    /// The name to send as SNI and to verify; `None`: the host.
    pub server_name: Option<String>,
}

/// libpq's sslmode, less `allow`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TlsMode {
    /// Never TLS.
    Disable,
    /// TLS if the server has it. The default.
    #[default]
    Prefer,
    /// TLS or nothing; the certificate is not verified.
    Require,
    /// TLS with a certificate from a known CA.
    VerifyCa,
    /// The same, and the name must match.
    VerifyFull,
}

/// `[route]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// Which setting lets encrypted data be read.
    pub kind: RouteKind,
    /// How long a route stays.
    pub scope: Scope,
    /// What happens when the client sets the route itself.
    pub override_client: Override,
    /// Run a statement again after the pangu error, where that is safe.
    pub retry: bool,
    /// Bytes of a cycle kept for running it again. Default 256 KiB.
    pub retry_buffer: usize,
}

/// See the vendor's pages *Query MaxCompute data encrypted based on BYOK* and *Common Table*.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RouteKind {
    /// `SET hg_experimental_enable_access_odps_orc_via_holo = false`
    #[default]
    Sqe,
    /// `SET hg_experimental_external_catalog_routing = 'odps:common_table,dlf:hqe'`
    CommonTable,
    /// By version: common-table from V3.2.
    Auto,
}

/// How long a route stays once it was set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Scope {
    /// For the rest of the session.
    #[default]
    Session,
    /// For the statement that needs it.
    Statement,
}

/// What happens when the client sets the route itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Override {
    /// The client is the master: left alone from then on.
    #[default]
    Respect,
    /// Osprey sets the route all the same.
    Enforce,
}

/// `[protect]`: what the operator says is encrypted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Protect {
    /// MaxCompute projects encrypted with a KMS key; `*` and `?` are wildcards.
    pub projects: Vec<ProjectRule>,
    /// Tables by pattern `[database.]schema.table`, each part with `*` and `?`.
    pub tables: Vec<TablePattern>,
}

/// One `[[protect.project]]` or `--encrypted-project NAME`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProjectRule {
    /// Project name or pattern, lower case.
    pub name: String,
    /// Which kind of encryption.
    pub encryption: ConfiguredEncryption,
    /// KMS key id, if the operator knows it.
    pub key_id: Option<String>,
}

/// What the operator says of a project.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ConfiguredEncryption {
    /// Encrypted with a KMS key. The default.
    #[default]
    Kms,
    /// Encrypted with MaxCompute's default key.
    DefaultKey,
    /// Not encrypted, whatever others say.
    None,
}

/// `database.schema.table`; a missing part is `*`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TablePattern {
    /// Database pattern.
    pub database: String,
    /// Schema pattern.
    pub schema: String,
    /// Table pattern.
    pub table: String,
}

/// `[catalog]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Catalog {
    /// The service account; `None`: there is none.
    pub user: Option<String>,
    /// Its password (`OSPREY_CATALOG_PASSWORD`, or what is in `password_file`).
    pub password: Option<Secret>,
    /// The file that the password is from; `None` if it is from elsewhere.
    pub password_file: Option<PathBuf>,
    /// Without an account, a database's first session reads its catalogs in its own name. Default
    /// true.
    pub borrow: bool,
    /// How long that may hold its client up. Default 1 s.
    pub borrow_timeout: Duration,
    /// How often each database is read again. Default 5 min.
    pub refresh: Duration,
    /// Names of the foreign servers that are MaxCompute's. Default `odps_server`.
    pub servers: Vec<String>,
}

/// A value that is never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub String);

impl std::fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("[REDACTED]")
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

/// The language of what Osprey says. Statements, codes and Hologres' own text are the same in all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub enum Language {
    /// English.
    #[default]
    English,
    /// Simplified Chinese.
    Chinese,
}

/// `[observe]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observe {
    /// Where /metrics and /healthz are served; default 127.0.0.1:9464. `None`: nowhere.
    pub metrics: Option<SocketAddr>,
    /// `text` or `json` logs.
    pub json_logs: bool,
    /// A tracing filter, e.g. `info` or `osprey=debug`.
    pub log: String,
    /// Replace pangu paths in messages and logs.
    pub redact_paths: bool,
    /// The language of rewritten errors.
    pub language: Language,
}

/// `[limits]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Worker threads; default one per core.
    pub workers: usize,
    /// Sessions at a time; default 10,000. The next one gets FATAL 53300.
    pub max_sessions: Quota,
    /// Connections that have not said yet what they want; default 1,000. Beyond, none is accepted:
    /// they wait in the kernel.
    pub max_greetings: Quota,
    /// Logins in progress, each with an upstream connection; default 1,000. The next one gets FATAL
    /// 53300.
    pub max_logins: Quota,
    /// Cancel requests on their way to an upstream; default 100. Those of sessions that are served
    /// here wait for a place, others are dropped.
    pub max_cancels: usize,
    /// Cancel requests a second and client address whose session is not served here; default 100.
    /// Beyond, they are dropped.
    pub unknown_cancels_per_second: usize,
    /// From accept to a whole startup packet, TLS included. Default 10 s; two seconds at most while
    /// three quarters of `max_greetings` are taken.
    pub greeting_timeout: Duration,
    /// From the startup packet to the first ReadyForQuery. Default 60 s.
    pub login_timeout: Duration,
    /// After SIGTERM, how long clients are still accepted while `/readyz` says otherwise, for load
    /// balancers to notice. Default 0 s.
    pub pre_drain_delay: Duration,
    /// After that, how long sessions in a transaction or statement may go on. Default 30 s.
    pub drain_timeout: Duration,
    /// Statement texts longer than this are looked at only this far. Default 256 KiB.
    pub inspect_bytes: usize,
    /// Cancel upstream the statement that a lost client left behind. Default true.
    pub cancel_orphans: bool,
    /// How long a connection may be silent before its peer is asked whether it is there; default
    /// 60 s. `None`: never.
    pub tcp_keepalive: Option<Duration>,
    /// How long sent data may go unacknowledged before the connection is lost (tcp(7),
    /// `TCP_USER_TIMEOUT`). It also ends connections whose peer does not read, so the default is
    /// `None`: the system's own rules.
    pub tcp_user_timeout: Option<Duration>,
}

/// How many of something there may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quota {
    /// Together.
    pub total: usize,
    /// From one client address (`…_per_address`); `None`: as many as together.
    pub per_address: Option<usize>,
}

impl Quota {
    /// `total` together, from however many addresses.
    pub const fn of(total: usize) -> Self {
        Self {
            total,
            per_address: None,
        }
    }
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
            keys: Keys {
                ttl: Duration::from_hours(24),
                negative_ttl: Duration::from_mins(1),
                capacity: 10_000,
                snapshot: None,
                cloud: None,
            },
            observe: Observe {
                metrics: Some(SocketAddr::from(([127, 0, 0, 1], 9464))),
                json_logs: false,
                log: "info".into(),
                redact_paths: false,
                language: Language::English,
            },
            limits: Limits {
                workers: std::thread::available_parallelism().map_or(1, usize::from),
                max_sessions: Quota::of(10_000),
                max_greetings: Quota::of(1_000),
                max_logins: Quota::of(1_000),
                max_cancels: 100,
                unknown_cancels_per_second: 100,
                greeting_timeout: Duration::from_secs(10),
                login_timeout: Duration::from_mins(1),
                pre_drain_delay: Duration::ZERO,
                drain_timeout: Duration::from_secs(30),
                inspect_bytes: 256 << 10,
                cancel_orphans: true,
                tcp_keepalive: Some(Duration::from_mins(1)),
                tcp_user_timeout: None,
            },
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

impl Default for Listener {
    /// 127.0.0.1:6432, without TLS, to the upstream called `default`.
    fn default() -> Self {
        Self {
            addresses: vec![SocketAddr::from(([127, 0, 0, 1], 6432))],
            tls: None,
            proxy_protocol: ProxyProtocol::Off,
            proxy_networks: Vec::new(),
            rules: Vec::new(),
            upstream: Some(Upstream::DEFAULT_NAME.into()),
        }
    }
}

impl Upstream {
    /// The name of an upstream that is the only one and has no other.
    pub const DEFAULT_NAME: &str = "default";

    /// The defaults, at these addresses.
    pub fn at(addresses: Vec<Address>) -> Self {
        Self {
            name: Self::DEFAULT_NAME.into(),
            addresses,
            tls: UpstreamTls {
                mode: TlsMode::default(),
                ca: None,
                certificate: None,
                key: None,
                server_name: None,
            },
            connect_timeout: Duration::from_secs(10),
            max_sessions: None,
            route: Route {
                kind: RouteKind::default(),
                scope: Scope::default(),
                override_client: Override::default(),
                retry: true,
                retry_buffer: 256 << 10,
            },
            protect: Protect::default(),
            catalog: Catalog {
                user: None,
                password: None,
                password_file: None,
                borrow: true,
                borrow_timeout: Duration::from_secs(1),
                refresh: Duration::from_mins(5),
                servers: vec!["odps_server".into()],
            },
        }
    }

    /// Its first address, for messages.
    pub fn address(&self) -> String {
        self.addresses
            .first()
            .map(ToString::to_string)
            .unwrap_or_default()
    }
}

/// Settings that may be used, and what about them deserves a second look.
#[derive(Debug)]
pub struct Loaded {
    /// The settings.
    pub settings: Settings,
    /// Not wrong, but worth mending: a private key that everyone may read, for example.
    pub warnings: Vec<Problem>,
}

/// Reads the file (`config`, else `OSPREY_CONFIG`, else none), the environment and the flags, in
/// rising order of precedence, and checks the result, files included.
///
/// # Errors
/// Every mistake found, each with its place and with what would be right. Values that may be
/// secret are never among the text.
pub fn load(
    config: Option<std::path::PathBuf>,
    environment: &Environment,
    flags: &[Given],
) -> Result<Loaded, Vec<Problem>> {
    let mut draft = Draft::new();
    if let Some((path, place)) = given::config_file(config, environment, &mut draft.notes) {
        file::read(&path, &place, &mut draft);
    }
    given::apply_environment(environment, &mut draft);
    given::apply_flags(flags, &mut draft);
    settle::settle(&mut draft);
    // Of a file that could not be read, all that is said would seem to be missing.
    if !draft.unread {
        check::check(&draft.settings, &draft.pending, &mut draft.notes);
    }
    if draft.notes.problems.is_empty() {
        Ok(Loaded {
            settings: draft.settings,
            warnings: draft.notes.warnings,
        })
    } else {
        Err(draft.notes.problems)
    }
}

/// Settings on their way from the defaults to checked ones.
struct Draft {
    settings: Settings,
    pending: Pending,
    /// There is a file, and it could not be read.
    unread: bool,
    notes: problem::Notes,
}

/// What is not in the settings yet, since a later source may replace it or what it adds to.
struct Pending {
    /// Where the password of the catalog account of `[catalog]` comes from.
    password: Option<PasswordSource>,
    /// `[protect]`
    protect: Protect,
    /// The path of each listener in [`problem::Notes`]: `listen`, or `listener[0]`, `listener[1]`, …
    listeners: Vec<String>,
    /// One for each upstream.
    upstreams: Vec<PendingUpstream>,
}

/// See [`Pending`].
struct PendingUpstream {
    /// Its path in [`problem::Notes`]: `upstream`, or `upstream[0]`, `upstream[1]`, …
    path: String,
    /// Where the password of its own `catalog` comes from.
    password: Option<PasswordSource>,
    /// What its own `protect` says.
    protect: Protect,
}

/// See [`Pending::password`].
#[derive(Clone)]
enum PasswordSource {
    Given(Secret),
    File(PathBuf),
}

impl Draft {
    fn new() -> Self {
        let mut settings = Settings::for_upstream("", values::HOLOGRES_PORT);
        // No address is what the check reports as missing; where a listener leads is settled once
        // all upstreams are known.
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
            unread: false,
            notes: problem::Notes::default(),
        }
    }
}

impl Pending {
    /// True if the upstreams are those of `[[upstream]]`.
    fn is_upstream_array(&self) -> bool {
        self.upstreams.iter().any(PendingUpstream::is_element)
    }

    /// True if the listeners are those of `[[listener]]`.
    fn is_listener_array(&self) -> bool {
        self.listeners.iter().any(|path| path.ends_with(']'))
    }
}

impl PendingUpstream {
    fn at(path: &str) -> Self {
        Self {
            path: path.to_owned(),
            password: None,
            protect: Protect::default(),
        }
    }

    /// True if it is one `[[upstream]]` of perhaps several.
    fn is_element(&self) -> bool {
        self.path.ends_with(']')
    }

    /// The path of one of its keys.
    fn key(&self, key: &str) -> String {
        format!("{}.{key}", self.path)
    }

    /// The path of a key of `route`, `protect` or `catalog`: its own if it has that, else the one
    /// that holds for all.
    fn key_or_common(&self, key: &str, notes: &problem::Notes) -> String {
        let own = self.key(key);
        if notes.is_given(&own) {
            own
        } else {
            key.to_owned()
        }
    }
}

#[cfg(test)]
mod tests;
