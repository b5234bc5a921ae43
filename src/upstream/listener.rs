//! A listener as a value: its TLS, whom it believes about the client's address, and which upstream
//! serves whom.

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use rustls::ServerConfig;

use super::instance::Upstream;
use crate::catalog::database_name;
use crate::config::{self, ProxyProtocol};
use crate::glob::Glob;
use crate::net::tls::{self, TlsError};

/// What a client meets that connects to one of a listener's addresses.
pub struct Listener {
    tls: Option<Arc<ServerConfig>>,
    requires_tls: bool,
    proxy_protocol: ProxyProtocol,
    proxy_networks: Vec<IpNet>,
    allow: Vec<IpNet>,
    deny: Vec<IpNet>,
    rules: Vec<Rule>,
    otherwise: Option<Arc<Upstream>>,
}

/// Why a client is not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeptOut {
    /// None of the networks that are let in has its address.
    NotAllowed,
    /// One of those that are not has.
    Denied,
}

struct Rule {
    user: Glob,
    database: Glob,
    upstream: Arc<Upstream>,
}

impl Listener {
    /// TLS towards its clients.
    ///
    /// # Errors
    ///
    /// A file of it cannot be used.
    pub(super) fn tls(settings: &config::Listener) -> Result<Option<Arc<ServerConfig>>, TlsError> {
        settings.tls.as_ref().map(tls::server_config).transpose()
    }

    /// Names that stand for no upstream lead nowhere; checked settings have none.
    pub(super) fn new(
        settings: &config::Listener,
        tls: Option<Arc<ServerConfig>>,
        upstreams: &[Arc<Upstream>],
    ) -> Self {
        let named = |name: &str| {
            let mut all = upstreams.iter();
            all.find(|upstream| upstream.name() == name).cloned()
        };
        let rules = settings.rules.iter().filter_map(|rule| {
            Some(Rule {
                user: Glob::exact(&rule.user),
                database: Glob::exact(&rule.database),
                upstream: named(&rule.upstream)?,
            })
        });
        Self {
            tls,
            requires_tls: settings.tls.as_ref().is_some_and(|tls| tls.required),
            proxy_protocol: settings.proxy_protocol,
            proxy_networks: settings.proxy_networks.clone(),
            allow: settings.allow.clone(),
            deny: settings.deny.clone(),
            rules: rules.collect(),
            otherwise: settings.upstream.as_deref().and_then(named),
        }
    }

    /// The same, leading to the present values of its upstreams; to what it led to where one of them
    /// is configured no more.
    pub(super) fn led_anew(&self, upstreams: &[Arc<Upstream>]) -> Arc<Self> {
        let present = |old: &Arc<Upstream>| {
            let mut all = upstreams.iter();
            let found = all.find(|new| new.name() == old.name());
            Arc::clone(found.unwrap_or(old))
        };
        Arc::new(Self {
            tls: self.tls.clone(),
            requires_tls: self.requires_tls,
            proxy_protocol: self.proxy_protocol,
            proxy_networks: self.proxy_networks.clone(),
            allow: self.allow.clone(),
            deny: self.deny.clone(),
            rules: self
                .rules
                .iter()
                .map(|rule| Rule {
                    user: rule.user.clone(),
                    database: rule.database.clone(),
                    upstream: present(&rule.upstream),
                })
                .collect(),
            otherwise: self.otherwise.as_ref().map(present),
        })
    }

    /// TLS towards clients; `None`: there is none.
    pub fn server_config(&self) -> Option<&Arc<ServerConfig>> {
        self.tls.as_ref()
    }

    /// True if clients without TLS are refused.
    pub fn requires_tls(&self) -> bool {
        self.requires_tls
    }

    /// Whether connections begin with a PROXY header.
    pub fn proxy_protocol(&self) -> ProxyProtocol {
        self.proxy_protocol
    }

    /// True if a PROXY header from `peer` is believed.
    pub fn believes(&self, peer: IpAddr) -> bool {
        let peer = peer.to_canonical();
        self.proxy_networks.iter().any(|net| net.contains(&peer))
    }

    /// Why clients from `address` are not let in; `None`: they are.
    pub fn keeps_out(&self, address: IpAddr) -> Option<KeptOut> {
        let address = address.to_canonical();
        let among = |nets: &[IpNet]| nets.iter().any(|net| net.contains(&address));
        if among(&self.deny) {
            return Some(KeptOut::Denied);
        }
        (!self.allow.is_empty() && !among(&self.allow)).then_some(KeptOut::NotAllowed)
    }

    /// The upstream that serves `user` on `database`, as a startup packet names them.
    pub fn upstream_of(&self, user: &str, database: &str) -> Option<&Arc<Upstream>> {
        let database = database_name(database).as_bytes();
        let serves =
            |rule: &&Rule| rule.user.matches(user.as_bytes()) && rule.database.matches(database);
        let rule = self.rules.iter().find(serves).map(|rule| &rule.upstream);
        rule.or(self.otherwise.as_ref())
    }

    /// Every upstream that it may lead to, each once.
    pub fn upstreams(&self) -> Vec<Arc<Upstream>> {
        let mut all: Vec<Arc<Upstream>> = Vec::new();
        let led_to = self.rules.iter().map(|rule| &rule.upstream);
        for upstream in led_to.chain(&self.otherwise) {
            if !all.iter().any(|known| Arc::ptr_eq(known, upstream)) {
                all.push(Arc::clone(upstream));
            }
        }
        all
    }
}
