//! The settings of one listener.

use std::net::SocketAddr;
use std::path::PathBuf;

use ipnet::IpNet;

use super::upstream::Upstream;

/// `[[listener]]`, or `[listen]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listener {
    /// Addresses to listen on; default 127.0.0.1:6432.
    pub addresses: Vec<SocketAddr>,
    /// The networks whose clients are let in; empty: all.
    pub allow: Vec<IpNet>,
    /// The networks whose clients are not, though [`Listener::allow`] may have them.
    pub deny: Vec<IpNet>,
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

impl Default for Listener {
    /// 127.0.0.1:6432, without TLS, to the upstream called `default`.
    fn default() -> Self {
        Self {
            addresses: vec![SocketAddr::from(([127, 0, 0, 1], 6432))],
            allow: Vec::new(),
            deny: Vec::new(),
            tls: None,
            proxy_protocol: ProxyProtocol::Off,
            proxy_networks: Vec::new(),
            rules: Vec::new(),
            upstream: Some(Upstream::DEFAULT_NAME.into()),
        }
    }
}
