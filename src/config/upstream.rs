//! The settings of one upstream.

use std::path::PathBuf;
use std::time::Duration;

use super::secret::Secret;

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
    /// Whether anything is done at all.
    pub mode: Mode,
    /// Which setting lets encrypted data be read.
    pub kind: RouteKind,
    /// How long a route stays.
    pub scope: Scope,
    /// What happens when the client sets the route itself.
    pub override_client: Override,
    /// Run a statement again after the pangu error, where that is safe.
    pub retry: bool,
    /// The same for a write that stands alone: one statement, outside a transaction block, of which
    /// the server leaves nothing where it fails. Only where `retry` is on.
    pub retry_writes: bool,
    /// The rules of Osprey's table that are only offered, and that the operator has switched on: their
    /// codes. An error of such a rule is taken like the pangu error, but teaches nothing.
    pub retry_rules: Vec<&'static str>,
    /// Bytes of a cycle kept for running it again. Default 256 KiB.
    pub retry_buffer: usize,
}

/// Whether Osprey acts, or only says what it would do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// Statements are steered, and errors rewritten.
    #[default]
    Steer,
    /// Every message passes as it came; what would have been done is counted and logged.
    Observe,
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
                mode: Mode::default(),
                kind: RouteKind::default(),
                scope: Scope::default(),
                override_client: Override::default(),
                retry: true,
                retry_writes: true,
                retry_rules: Vec::new(),
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
