//! Settings as text: the configuration file that would give the same ones. Secrets are left out.

use std::fmt::{self, Display, Formatter};
use std::path::Path;

use super::values::{self, show_duration, show_size};
use super::{Settings, TablePattern};

impl Display for Settings {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self {
            listeners,
            upstreams,
            keys,
            observe,
            limits,
        } = self;
        let listen = &listeners[0];
        let upstream = &upstreams[0];
        let super::Upstream {
            route,
            protect,
            catalog,
            ..
        } = upstream;
        writeln!(f, "[listen]")?;
        writeln!(f, "addresses = {}", list(&listen.addresses))?;
        if let Some(tls) = &listen.tls {
            writeln!(f, "\n[listen.tls]")?;
            file(f, "certificate", Some(&tls.certificate))?;
            file(f, "key", Some(&tls.key))?;
            file(f, "client_ca", tls.client_ca.as_deref())?;
            writeln!(f, "required = {}", tls.required)?;
        }

        writeln!(f, "\n[upstream]")?;
        writeln!(f, "address = \"{}\"", upstream.address())?;
        writeln!(
            f,
            "connect_timeout = \"{}\"",
            show_duration(upstream.connect_timeout)
        )?;
        writeln!(f, "\n[upstream.tls]")?;
        writeln!(
            f,
            "mode = \"{}\"",
            values::word(values::TLS_MODES, &upstream.tls.mode)
        )?;
        file(f, "ca", upstream.tls.ca.as_deref())?;
        file(f, "certificate", upstream.tls.certificate.as_deref())?;
        file(f, "key", upstream.tls.key.as_deref())?;
        if let Some(name) = &upstream.tls.server_name {
            writeln!(f, "server_name = {}", quote(name))?;
        }

        writeln!(f, "\n[route]")?;
        writeln!(
            f,
            "kind = \"{}\"",
            values::word(values::ROUTES, &route.kind)
        )?;
        writeln!(
            f,
            "scope = \"{}\"",
            values::word(values::SCOPES, &route.scope)
        )?;
        let respect = values::word(values::OVERRIDES, &route.override_client);
        writeln!(f, "override = \"{respect}\"")?;
        writeln!(f, "retry = {}", route.retry)?;
        writeln!(f, "retry_buffer = \"{}\"", show_size(route.retry_buffer))?;

        writeln!(f, "\n[protect]")?;
        writeln!(f, "tables = {}", list(&protect.tables))?;
        for rule in &protect.projects {
            writeln!(f, "\n[[protect.project]]")?;
            writeln!(f, "name = {}", quote(&rule.name))?;
            let encryption = values::word(values::ENCRYPTIONS, &rule.encryption);
            writeln!(f, "encryption = \"{encryption}\"")?;
            if let Some(id) = &rule.key_id {
                writeln!(f, "key_id = {}", quote(id))?;
            }
        }

        writeln!(f, "\n[catalog]")?;
        if let Some(user) = &catalog.user {
            let has = if catalog.password.is_some() {
                "a password"
            } else {
                "no password"
            };
            writeln!(f, "user = {}  # with {has}", quote(user))?;
        }
        writeln!(f, "borrow = {}", catalog.borrow)?;
        let borrow_timeout = show_duration(catalog.borrow_timeout);
        writeln!(f, "borrow_timeout = \"{borrow_timeout}\"")?;
        writeln!(f, "refresh = \"{}\"", show_duration(catalog.refresh))?;
        writeln!(f, "servers = {}", list(&catalog.servers))?;

        writeln!(f, "\n[keys]")?;
        writeln!(f, "ttl = \"{}\"", show_duration(keys.ttl))?;
        writeln!(f, "negative_ttl = \"{}\"", show_duration(keys.negative_ttl))?;
        writeln!(f, "capacity = {}", keys.capacity)?;
        file(f, "snapshot", keys.snapshot.as_deref())?;
        if let Some(cloud) = &keys.cloud {
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
            writeln!(f, "timeout = \"{}\"", show_duration(cloud.timeout))?;
        }

        let metrics = observe
            .metrics
            .map_or_else(|| "off".into(), |address| address.to_string());
        writeln!(f, "\n[observe]")?;
        writeln!(f, "metrics = \"{metrics}\"")?;
        writeln!(f, "log = {}", quote(&observe.log))?;
        let format = values::word(values::LOG_FORMATS, &observe.json_logs);
        writeln!(f, "log_format = \"{format}\"")?;
        writeln!(f, "redact_paths = {}", observe.redact_paths)?;
        let language = values::word(values::LANGUAGES, &observe.language);
        writeln!(f, "language = \"{language}\"")?;

        writeln!(f, "\n[limits]")?;
        writeln!(f, "workers = {}", limits.workers)?;
        writeln!(f, "max_sessions = {}", limits.max_sessions.total)?;
        writeln!(
            f,
            "login_timeout = \"{}\"",
            show_duration(limits.login_timeout)
        )?;
        writeln!(
            f,
            "drain_timeout = \"{}\"",
            show_duration(limits.drain_timeout)
        )?;
        writeln!(f, "inspect_bytes = \"{}\"", show_size(limits.inspect_bytes))?;
        writeln!(f, "cancel_orphans = {}", limits.cancel_orphans)
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
