//! Settings as text: the configuration file that would give the same ones. Secrets are left out.

use std::fmt::{self, Display, Formatter};
use std::path::Path;
use std::time::Duration;

use super::console::Console;
use super::limits::Limits;
use super::listener::{Listener, ProxyProtocol};
use super::reload::Reload;
use super::replicas::Replicas;
use super::settings::{Keys, Observe, Settings};
use super::takeover::Takeover;
use super::upstream::{Catalog, Protect, Route, TablePattern, Upstream};
use super::values::{self, show_duration, show_size};

/// With `[listen]` and `[upstream]` if they say all; else with `[[upstream]]` and `[[listener]]`.
/// What is the same for all upstreams is said once, under `[route]`, `[protect]` and `[catalog]`.
impl Display for Settings {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match (self.listeners.as_slice(), self.upstreams.as_slice()) {
            ([listener], [upstream]) if is_plain(listener) && upstream.is_default() => {
                writeln!(f, "[listen]")?;
                write_listener(f, listener, "listen")?;
                writeln!(f, "\n[upstream]")?;
                write_upstream(f, upstream)?;
            }
            (listeners, upstreams) => {
                for upstream in upstreams {
                    writeln!(f, "[[upstream]]")?;
                    writeln!(f, "name = {}", quote(&upstream.name))?;
                    write_upstream(f, upstream)?;
                    self.write_own(f, upstream)?;
                    writeln!(f)?;
                }
                for (at, listener) in listeners.iter().enumerate() {
                    writeln!(f, "{}[[listener]]", if at == 0 { "" } else { "\n" })?;
                    if let Some(name) = &listener.upstream {
                        writeln!(f, "upstream = {}", quote(name))?;
                    }
                    write_listener(f, listener, "listener")?;
                    for rule in &listener.rules {
                        writeln!(f, "\n[[listener.rule]]")?;
                        writeln!(f, "user = {}", quote(&rule.user))?;
                        writeln!(f, "database = {}", quote(&rule.database))?;
                        writeln!(f, "upstream = {}", quote(&rule.upstream))?;
                    }
                }
            }
        }
        if let Some(route) = self.common(|upstream| &upstream.route) {
            write_route(f, route, "")?;
        }
        if let Some(protect) = self.common(|upstream| &upstream.protect) {
            write_protect(f, protect, "")?;
        }
        if let Some(catalog) = self.common(|upstream| &upstream.catalog) {
            write_catalog(f, catalog, "")?;
        }
        write_keys(f, &self.keys)?;
        write_observe(f, &self.observe)?;
        write_limits(f, &self.limits)?;
        write_console(f, &self.console)?;
        write_reload(f, &self.reload)?;
        write_takeover(f, &self.takeover)?;
        match &self.replicas {
            Some(replicas) => write_replicas(f, replicas),
            None => Ok(()),
        }
    }
}

impl Settings {
    /// The part of all upstreams' settings, if it is the same.
    fn common<T: PartialEq>(&self, part: impl Fn(&Upstream) -> &T) -> Option<&T> {
        let mut parts = self.upstreams.iter().map(part);
        let first = parts.next()?;
        parts.all(|other| other == first).then_some(first)
    }

    /// What an upstream has for itself.
    fn write_own(&self, f: &mut Formatter<'_>, upstream: &Upstream) -> fmt::Result {
        let prefix = "upstream.";
        if self.common(|upstream| &upstream.route).is_none() {
            write_route(f, &upstream.route, prefix)?;
        }
        if self.common(|upstream| &upstream.protect).is_none() {
            write_protect(f, &upstream.protect, prefix)?;
        }
        if self.common(|upstream| &upstream.catalog).is_none() {
            write_catalog(f, &upstream.catalog, prefix)?;
        }
        Ok(())
    }
}

impl Upstream {
    fn is_default(&self) -> bool {
        self.name == Self::DEFAULT_NAME
    }
}

/// True if `[listen]` can say it.
fn is_plain(listener: &Listener) -> bool {
    listener.rules.is_empty() && listener.upstream.as_deref() == Some(Upstream::DEFAULT_NAME)
}

fn write_listener(f: &mut Formatter<'_>, listener: &Listener, section: &str) -> fmt::Result {
    writeln!(f, "addresses = {}", list(&listener.addresses))?;
    for (key, networks) in [("allow", &listener.allow), ("deny", &listener.deny)] {
        if !networks.is_empty() {
            writeln!(f, "{key} = {}", list(networks))?;
        }
    }
    let mode = values::word(values::PROXY_PROTOCOLS, &listener.proxy_protocol);
    writeln!(f, "proxy_protocol = \"{mode}\"")?;
    if listener.proxy_protocol != ProxyProtocol::Off {
        writeln!(f, "proxy_networks = {}", list(&listener.proxy_networks))?;
    }
    if let Some(tls) = &listener.tls {
        writeln!(f, "\n[{section}.tls]")?;
        file(f, "certificate", Some(&tls.certificate))?;
        file(f, "key", Some(&tls.key))?;
        file(f, "client_ca", tls.client_ca.as_deref())?;
        writeln!(f, "required = {}", tls.required)?;
    }
    Ok(())
}

/// Without the name, and without what may hold for all.
fn write_upstream(f: &mut Formatter<'_>, upstream: &Upstream) -> fmt::Result {
    match upstream.addresses.as_slice() {
        [address] => writeln!(f, "address = {}", quote(&address.to_string()))?,
        addresses => writeln!(f, "addresses = {}", list(addresses))?,
    }
    duration(f, "connect_timeout", upstream.connect_timeout)?;
    count(f, "max_sessions", upstream.max_sessions)?;
    let tls = &upstream.tls;
    writeln!(f, "\n[upstream.tls]")?;
    let mode = tls.mode;
    writeln!(f, "mode = \"{mode}\"")?;
    file(f, "ca", tls.ca.as_deref())?;
    file(f, "certificate", tls.certificate.as_deref())?;
    file(f, "key", tls.key.as_deref())?;
    match &tls.server_name {
        Some(name) => writeln!(f, "server_name = {}", quote(name)),
        None => Ok(()),
    }
}

fn write_route(f: &mut Formatter<'_>, route: &Route, prefix: &str) -> fmt::Result {
    writeln!(f, "\n[{prefix}route]")?;
    let mode = values::word(values::MODES, &route.mode);
    writeln!(f, "mode = \"{mode}\"")?;
    let kind = values::word(values::ROUTES, &route.kind);
    writeln!(f, "kind = \"{kind}\"")?;
    let scope = values::word(values::SCOPES, &route.scope);
    writeln!(f, "scope = \"{scope}\"")?;
    let respect = values::word(values::OVERRIDES, &route.override_client);
    writeln!(f, "override = \"{respect}\"")?;
    writeln!(f, "retry = {}", route.retry)?;
    writeln!(f, "retry_writes = {}", route.retry_writes)?;
    writeln!(f, "retry_rules = {:?}", route.retry_rules)?;
    writeln!(f, "retry_buffer = \"{}\"", show_size(route.retry_buffer))
}

fn write_protect(f: &mut Formatter<'_>, protect: &Protect, prefix: &str) -> fmt::Result {
    writeln!(f, "\n[{prefix}protect]")?;
    writeln!(f, "tables = {}", list(&protect.tables))?;
    for rule in &protect.projects {
        writeln!(f, "\n[[{prefix}protect.project]]")?;
        writeln!(f, "name = {}", quote(&rule.name))?;
        let encryption = values::word(values::ENCRYPTIONS, &rule.encryption);
        writeln!(f, "encryption = \"{encryption}\"")?;
        if let Some(id) = &rule.key_id {
            writeln!(f, "key_id = {}", quote(id))?;
        }
    }
    Ok(())
}

fn write_catalog(f: &mut Formatter<'_>, catalog: &Catalog, prefix: &str) -> fmt::Result {
    writeln!(f, "\n[{prefix}catalog]")?;
    if let Some(user) = &catalog.user {
        let password = match (&catalog.password_file, &catalog.password) {
            (Some(_), _) => "",
            (None, Some(_)) => "  # with a password",
            (None, None) => "  # with no password",
        };
        writeln!(f, "user = {}{password}", quote(user))?;
    }
    file(f, "password_file", catalog.password_file.as_deref())?;
    writeln!(f, "borrow = {}", catalog.borrow)?;
    duration(f, "borrow_timeout", catalog.borrow_timeout)?;
    duration(f, "refresh", catalog.refresh)?;
    writeln!(f, "servers = {}", list(&catalog.servers))
}

fn write_keys(f: &mut Formatter<'_>, keys: &Keys) -> fmt::Result {
    writeln!(f, "\n[keys]")?;
    duration(f, "ttl", keys.ttl)?;
    duration(f, "negative_ttl", keys.negative_ttl)?;
    writeln!(f, "capacity = {}", keys.capacity)?;
    file(f, "snapshot", keys.snapshot.as_deref())?;
    let Some(cloud) = &keys.cloud else {
        return Ok(());
    };
    writeln!(f, "\n[keys.cloud]")?;
    writeln!(f, "region = {}", quote(&cloud.region))?;
    let credentials = values::word(values::CREDENTIALS, &cloud.credentials);
    writeln!(f, "credentials = \"{credentials}\"")?;
    for (key, endpoint) in [
        ("maxcompute_endpoint", cloud.maxcompute()),
        ("kms_endpoint", cloud.kms()),
        ("sts_endpoint", cloud.sts()),
        ("ram_endpoint", cloud.ram()),
    ] {
        writeln!(f, "{key} = \"{endpoint}\"")?;
    }
    duration(f, "timeout", cloud.timeout)
}

fn write_observe(f: &mut Formatter<'_>, observe: &Observe) -> fmt::Result {
    let metrics = observe
        .metrics
        .map_or_else(|| "off".into(), |address| address.to_string());
    writeln!(f, "\n[observe]")?;
    writeln!(f, "metrics = \"{metrics}\"")?;
    let page = values::word(values::STATUS_PAGES, &observe.status_page);
    writeln!(f, "status_page = \"{page}\"")?;
    writeln!(f, "status_hosts = {:?}", observe.status_hosts)?;
    writeln!(f, "log = {}", quote(&observe.log))?;
    let format = values::word(values::LOG_FORMATS, &observe.json_logs);
    writeln!(f, "log_format = \"{format}\"")?;
    writeln!(f, "redact_paths = {}", observe.redact_paths)?;
    let language = values::word(values::LANGUAGES, &observe.language);
    writeln!(f, "language = \"{language}\"")?;
    if let Some(docs) = &observe.docs {
        writeln!(f, "docs = {}", quote(docs))?;
    }
    file(f, "rules", observe.rules.as_deref())?;
    let original = values::word(values::ORIGINAL_TEXTS, &observe.original_text);
    writeln!(f, "original_text = \"{original}\"")?;
    let statements = values::word(values::LOG_STATEMENTS, &observe.log_statements);
    writeln!(f, "log_statements = \"{statements}\"")?;
    if let Some(collector) = &observe.traces {
        let scheme = if collector.tls { "https" } else { "http" };
        let (host, port) = (&collector.host, collector.port);
        writeln!(f, "traces = \"{scheme}://{host}:{port}\"")?;
    }
    writeln!(f, "trace_share = \"{}%\"", observe.trace_percent)
}

fn write_limits(f: &mut Formatter<'_>, limits: &Limits) -> fmt::Result {
    writeln!(f, "\n[limits]")?;
    writeln!(f, "workers = {}", limits.workers)?;
    for (key, quota) in [
        ("max_sessions", limits.max_sessions),
        ("max_greetings", limits.max_greetings),
        ("max_logins", limits.max_logins),
    ] {
        writeln!(f, "{key} = {}", quota.total)?;
        count(f, &format!("{key}_per_address"), quota.per_address)?;
    }
    let rate = limits.new_sessions_per_second;
    for (key, most) in [
        ("max_sessions_per_user", limits.max_sessions_per_user),
        (
            "max_sessions_per_database",
            limits.max_sessions_per_database,
        ),
        ("new_sessions_per_second", rate.total),
        ("new_sessions_per_second_per_address", rate.per_address),
        ("new_sessions_per_second_per_user", rate.per_user),
    ] {
        count(f, key, most)?;
    }
    writeln!(f, "max_cancels = {}", limits.max_cancels)?;
    let unknown = limits.unknown_cancels_per_second;
    writeln!(f, "unknown_cancels_per_second = {unknown}")?;
    duration(f, "greeting_timeout", limits.greeting_timeout)?;
    duration(f, "login_timeout", limits.login_timeout)?;
    duration(f, "pre_drain_delay", limits.pre_drain_delay)?;
    duration(f, "drain_timeout", limits.drain_timeout)?;
    for (key, time) in [
        ("idle_session_timeout", limits.idle_session_timeout),
        (
            "idle_in_transaction_session_timeout",
            limits.idle_in_transaction_session_timeout,
        ),
        ("statement_timeout", limits.statement_timeout),
        ("tcp_keepalive", limits.tcp_keepalive),
        ("tcp_user_timeout", limits.tcp_user_timeout),
    ] {
        duration_or_off(f, key, time)?;
    }
    writeln!(f, "inspect_bytes = \"{}\"", show_size(limits.inspect_bytes))?;
    writeln!(f, "cancel_orphans = {}", limits.cancel_orphans)
}

fn write_console(f: &mut Formatter<'_>, console: &Console) -> fmt::Result {
    writeln!(f, "\n[console]")?;
    file(f, "socket", console.socket.as_deref())?;
    writeln!(f, "socket_mode = \"{:04o}\"", console.socket_mode)?;
    writeln!(f, "uids = {:?}", console.uids)?;
    writeln!(f, "max_connections = {}", console.max_connections)?;
    duration_or_off(f, "pause_timeout", console.pause_timeout)?;
    for user in &console.users {
        writeln!(f, "# and [[console.user]] name = {}", quote(&user.name))?;
    }
    Ok(())
}

fn write_reload(f: &mut Formatter<'_>, reload: &Reload) -> fmt::Result {
    writeln!(f, "\n[reload]")?;
    duration_or_off(f, "watch", reload.watch)
}

fn write_takeover(f: &mut Formatter<'_>, takeover: &Takeover) -> fmt::Result {
    writeln!(f, "\n[takeover]")?;
    file(f, "socket", takeover.socket.as_deref())?;
    duration_or_off(f, "drain_after", takeover.drain_after)
}

fn write_replicas(f: &mut Formatter<'_>, replicas: &Replicas) -> fmt::Result {
    writeln!(f, "\n[replicas]")?;
    writeln!(f, "redis = {}", list(&replicas.addresses))?;
    for (key, name) in [
        ("sentinel", &replicas.sentinel),
        ("user", &replicas.user),
        ("key_prefix", &Some(replicas.key_prefix.clone())),
    ] {
        if let Some(name) = name {
            writeln!(f, "{key} = {}", quote(name))?;
        }
    }
    file(f, "password_file", replicas.password_file.as_deref())?;
    writeln!(f, "tls = {}", replicas.tls)?;
    file(f, "ca", replicas.ca.as_deref())?;
    duration(f, "deadline", replicas.deadline)?;
    file(f, "hmac_key_file", replicas.hmac_key_file.as_deref())
}

fn duration_or_off(f: &mut Formatter<'_>, key: &str, time: Option<Duration>) -> fmt::Result {
    match time {
        Some(time) => duration(f, key, time),
        None => writeln!(f, "{key} = \"off\""),
    }
}

fn duration(f: &mut Formatter<'_>, key: &str, time: Duration) -> fmt::Result {
    writeln!(f, "{key} = \"{}\"", show_duration(time))
}

fn count(f: &mut Formatter<'_>, key: &str, count: Option<usize>) -> fmt::Result {
    match count {
        Some(count) => writeln!(f, "{key} = {count}"),
        None => Ok(()),
    }
}

/// Every part in double quotes, so that nothing is folded.
impl Display for TablePattern {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let part = |part: &str| part.replace('"', "\"\"");
        let Self {
            database,
            schema,
            table,
        } = self;
        write!(
            f,
            "\"{}\".\"{}\".\"{}\"",
            part(database),
            part(schema),
            part(table)
        )
    }
}

fn file(f: &mut Formatter<'_>, key: &str, path: Option<&Path>) -> fmt::Result {
    match path {
        Some(path) => writeln!(f, "{key} = {}", quote(&path.display().to_string())),
        None => Ok(()),
    }
}

fn list(items: &[impl Display]) -> String {
    let items: Vec<_> = items.iter().map(|item| quote(&item.to_string())).collect();
    format!("[{}]", items.join(", "))
}

/// A TOML string.
fn quote(text: &str) -> String {
    toml::Value::from(text).to_string()
}
