//! The configuration file: TOML, walked by hand so that every mistake is found in one run and each
//! is named by line and key. (A derived deserializer stops at its first mistake, and the text of
//! its errors quotes the source line, which may hold a secret.)

#[cfg(test)]
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::cloud::Cloud;
use super::console::{self, Console, ConsoleUser, Verifier};
use super::draft::{Draft, PasswordSource, Pending, PendingUpstream};
use super::include::{Included, included};
use super::limits::Limits;
use super::listener::{ListenTls, Listener, Rule};
use super::problem::Place;
use super::reader::{Asked, Reader, Section};
use super::replicas::{self, Replicas};
use super::settings::{Keys, Settings};
use super::source::{INCLUDE, Sources};
use super::upstream::{Catalog, ConfiguredEncryption, ProjectRule, Protect, Route, Upstream};
use super::{log_filter, takeover, values};

/// Reads `path` (which was named at `place`), and what it includes, into the draft.
pub(super) fn read(path: &Path, place: &Place, draft: &mut Draft) {
    let name = path.display().to_string();
    let Some(text) = text(path, place, "config", draft) else {
        return;
    };
    let mut sources = Sources::default();
    let directory = path.parent().unwrap_or(Path::new(""));
    let all = included(&text, directory);
    sources.add(&name, text);
    for Included {
        offset,
        files,
        path,
        pattern,
    } in all
    {
        draft.files.note_pattern(&path);
        let place = sources.place(offset);
        match files {
            Ok(files) => {
                for file in files {
                    if let Some(text) = self::text(&file, &place, INCLUDE, draft) {
                        sources.add(&file.display().to_string(), text);
                    }
                }
            }
            Err(error) => {
                draft.unread = true;
                let text = format!("cannot look for {pattern}: {error}");
                draft.notes.wrong_at(place, INCLUDE, text);
            }
        }
    }
    take(&sources, draft);
}

/// The text of a file that is named at `place`; `None`: there is a mistake.
fn text(path: &Path, place: &Place, key: &str, draft: &mut Draft) -> Option<String> {
    let name = path.display().to_string();
    draft.files.note(path);
    match std::fs::read(path).map(String::from_utf8) {
        Ok(Ok(text)) => return Some(text),
        Ok(Err(error)) => {
            let valid = error.utf8_error().valid_up_to();
            let line = 1 + memchr::memchr_iter(b'\n', &error.as_bytes()[..valid]).count();
            let place = Place::File { file: name, line };
            draft
                .notes
                .wrong_at(place, "", "is not UTF-8; save the file as UTF-8");
        }
        Err(error) => {
            draft.notes.wrong_at(
                place.clone(),
                key,
                format!(
                    "cannot read {name}: {error}; name a file that exists and that this user may \
                     read"
                ),
            );
        }
    }
    draft.unread = true;
    None
}

/// Reads `text` into the draft; `name` stands for the file in messages. Returns every key there is.
#[cfg(test)]
pub(super) fn parse(name: &str, text: &str, draft: &mut Draft) -> BTreeSet<String> {
    let mut sources = Sources::default();
    sources.add(name, text.to_owned());
    take(&sources, draft).names()
}

/// Reads the files into the draft. Returns what can be set in them.
pub(super) fn take(sources: &Sources, draft: &mut Draft) -> Asked {
    let root = sources.parse(&mut draft.notes);
    let credentials = draft.credentials.as_deref();
    let mut reader = Reader::new(sources, credentials, &mut draft.files, &mut draft.notes);
    match root {
        Some(root) => {
            let (settings, pending) = (&mut draft.settings, &mut draft.pending);
            walk(&mut reader, &mut Section::root(&root), settings, pending);
            reader.report_unknown();
        }
        None => draft.unread = true,
    }
    reader.asked()
}

/// The file's schema: every key, in the order of `config/osprey.toml`.
fn walk(
    reader: &mut Reader<'_>,
    root: &mut Section<'_>,
    settings: &mut Settings,
    pending: &mut Pending,
) {
    let mut include: Vec<String> = Vec::new();
    reader.texts(root, INCLUDE, values::name, &mut include);
    let mut listen = reader.section(root, "listen");
    let listeners = reader.sections(root, "listener");
    let upstreams = reader.section_or_sections(root, "upstream");

    // What these say holds for all upstreams.
    let mut common = Upstream::at(Vec::new());
    let mut section = reader.section(root, "route");
    route(reader, &mut section, &mut common.route);
    let mut section = reader.section(root, "protect");
    protect(reader, &mut section, &mut pending.protect);
    let mut section = reader.section(root, "catalog");
    catalog(
        reader,
        &mut section,
        &mut common.catalog,
        &mut pending.password,
    );

    listener(reader, &mut listen, &mut settings.listeners[0]);
    reader.end(&listen);
    several_listeners(reader, &listen, listeners, settings, pending);

    settings.upstreams.clear();
    pending.upstreams.clear();
    for mut section in upstreams {
        let mut part = PendingUpstream::at(section.path());
        let mut target = common.clone();
        upstream(reader, &mut section, &mut target, &mut part);
        settings.upstreams.push(target);
        pending.upstreams.push(part);
    }
    if settings.upstreams.is_empty() {
        if !reader.notes().is_wrong("upstream") {
            reader
                .notes()
                .wrong("upstream", "is empty; name at least one");
        }
        settings.upstreams.push(common);
        pending.upstreams.push(PendingUpstream::at("upstream"));
    }

    let mut keys = reader.section(root, "keys");
    reader.duration(&mut keys, "ttl", &mut settings.keys.ttl);
    reader.duration(&mut keys, "negative_ttl", &mut settings.keys.negative_ttl);
    reader.count(&mut keys, "capacity", &mut settings.keys.capacity);
    reader.own_path(&mut keys, "snapshot", &mut settings.keys.snapshot);
    cloud(reader, &mut keys, &mut settings.keys);
    reader.end(&keys);

    let mut observe = reader.section(root, "observe");
    let target = &mut settings.observe;
    reader.text(
        &mut observe,
        "metrics",
        values::address_or_off,
        &mut target.metrics,
    );
    reader.text(&mut observe, "log", log_filter::parse, &mut target.log);
    let formats = values::LOG_FORMATS;
    reader.choice(&mut observe, "log_format", formats, &mut target.json_logs);
    reader.boolean(&mut observe, "redact_paths", &mut target.redact_paths);
    let language = &mut target.language;
    reader.language(&mut observe, "language", language);
    reader.text(&mut observe, "docs", values::docs, &mut target.docs);
    reader.path(&mut observe, "rules", &mut target.rules);
    let pages = values::STATUS_PAGES;
    reader.choice(&mut observe, "status_page", pages, &mut target.status_page);
    let hosts = &mut target.status_hosts;
    reader.texts(&mut observe, "status_hosts", values::host_name, hosts);
    let originals = values::ORIGINAL_TEXTS;
    let original_text = &mut target.original_text;
    reader.choice(&mut observe, "original_text", originals, original_text);
    let statements = &mut target.log_statements;
    reader.choice(
        &mut observe,
        "log_statements",
        values::LOG_STATEMENTS,
        statements,
    );
    reader.text(
        &mut observe,
        "traces",
        values::collector,
        &mut target.traces,
    );
    let percent = &mut target.trace_percent;
    reader.text(&mut observe, "trace_share", values::percent, percent);
    reader.end(&observe);

    let mut section = reader.section(root, "limits");
    limits(reader, &mut section, &mut settings.limits);

    let mut section = reader.section(root, "console");
    console(reader, &mut section, &mut settings.console);

    let mut section = reader.section(root, "reload");
    reader.duration_or_off(&mut section, "watch", &mut settings.reload.watch);
    reader.end(&section);

    let mut section = reader.section(root, "takeover");
    let target = &mut settings.takeover;
    let socket = &mut target.socket;
    reader.text(&mut section, "socket", some(takeover::socket), socket);
    let time = &mut target.drain_after;
    reader.duration_or_off(&mut section, "drain_after", time);
    reader.end(&section);

    let mut section = reader.section(root, "replicas");
    settings.replicas = replicas(reader, &mut section);

    reader.end(root);
}

/// What `[listen]` and `[[listener]]` have in common.
fn listener(reader: &mut Reader<'_>, section: &mut Section<'_>, target: &mut Listener) {
    let addresses = &mut target.addresses;
    reader.texts(section, "addresses", values::address, addresses);
    reader.texts(section, "allow", values::network, &mut target.allow);
    reader.texts(section, "deny", values::network, &mut target.deny);
    let modes = values::PROXY_PROTOCOLS;
    reader.choice(section, "proxy_protocol", modes, &mut target.proxy_protocol);
    let networks = &mut target.proxy_networks;
    reader.texts(section, "proxy_networks", values::network, networks);
    let mut tls = reader.section(section, "tls");
    let mut values = ListenTls {
        certificate: PathBuf::new(),
        key: PathBuf::new(),
        client_ca: None,
        required: false,
    };
    let certificate = &mut values.certificate;
    reader.path(&mut tls, "certificate", certificate);
    reader.path(&mut tls, "key", &mut values.key);
    let client_ca = &mut values.client_ca;
    reader.path(&mut tls, "client_ca", client_ca);
    reader.boolean(&mut tls, "required", &mut values.required);
    if tls.exists() {
        target.tls = Some(values);
    }
    reader.end(&tls);
}

/// `[[listener]]`, instead of `[listen]`.
fn several_listeners(
    reader: &mut Reader<'_>,
    listen: &Section<'_>,
    sections: Vec<Section<'_>>,
    settings: &mut Settings,
    pending: &mut Pending,
) {
    let mut listeners = Vec::new();
    for mut section in sections {
        let mut target = Listener {
            addresses: Vec::new(),
            upstream: None,
            ..Listener::default()
        };
        listener(reader, &mut section, &mut target);
        let upstream = &mut target.upstream;
        reader.text(
            &mut section,
            "upstream",
            some(values::upstream_name),
            upstream,
        );
        for mut section in reader.sections(&mut section, "rule") {
            let mut rule = Rule {
                user: "*".into(),
                database: "*".into(),
                upstream: String::new(),
            };
            reader.text(&mut section, "user", values::name, &mut rule.user);
            let database = &mut rule.database;
            reader.text(&mut section, "database", values::database, database);
            let upstream = &mut rule.upstream;
            reader.text(&mut section, "upstream", values::upstream_name, upstream);
            reader.require(&section, "upstream", "the name of an [[upstream]]");
            if section.exists() {
                target.rules.push(rule);
            }
            reader.end(&section);
        }
        let example = "where clients connect, such as [\"127.0.0.1:6432\"]";
        reader.require(&section, "addresses", example);
        if section.exists() {
            listeners.push((section.path().to_owned(), target));
        }
        reader.end(&section);
    }
    if listeners.is_empty() {
        return;
    }
    if listen.exists() {
        let aside = reader.notes().aside("listen");
        reader.notes().wrong(
            "listener",
            format!("stands beside [listen]{aside}; write all listeners as [[listener]]"),
        );
    }
    (pending.listeners, settings.listeners) = listeners.into_iter().unzip();
}

/// `[upstream]`, or one `[[upstream]]`, which must have a name.
fn upstream(
    reader: &mut Reader<'_>,
    section: &mut Section<'_>,
    target: &mut Upstream,
    part: &mut PendingUpstream,
) {
    if part.is_element() {
        target.name.clear();
    }
    reader.text(section, "name", values::upstream_name, &mut target.name);
    let example = "what rules, metrics and logs call it, such as \"prod\"";
    reader.require_if(part.is_element(), section, "name", example);
    let mut address = None;
    reader.text(section, "address", some(values::upstream), &mut address);
    let addresses = &mut target.addresses;
    reader.texts(section, "addresses", values::upstream, addresses);
    let [one, several] = ["address", "addresses"].map(|key| section.key(key));
    if reader.notes().is_given(&one) && reader.notes().is_given(&several) {
        let aside = reader.notes().aside(&one);
        let text = format!("stands beside address{aside}; set one of the two");
        reader.notes().wrong(&several, text);
    }
    if let Some(address) = address {
        target.addresses = vec![address];
    }
    let timeout = &mut target.connect_timeout;
    reader.duration(section, "connect_timeout", timeout);
    reader.optional_count(section, "max_sessions", &mut target.max_sessions);

    let mut tls = reader.section(section, "tls");
    let values = &mut target.tls;
    let modes = values::TLS_MODES;
    reader.choice(&mut tls, "mode", modes, &mut values.mode);
    reader.path(&mut tls, "ca", &mut values.ca);
    let certificate = &mut values.certificate;
    reader.path(&mut tls, "certificate", certificate);
    reader.path(&mut tls, "key", &mut values.key);
    let name = &mut values.server_name;
    reader.text(&mut tls, "server_name", some(values::name), name);
    reader.end(&tls);

    let mut own = reader.section(section, "route");
    route(reader, &mut own, &mut target.route);
    let mut own = reader.section(section, "protect");
    protect(reader, &mut own, &mut part.protect);
    let mut own = reader.section(section, "catalog");
    catalog(reader, &mut own, &mut target.catalog, &mut part.password);
    reader.end(section);
}

/// `[route]`; so the others below, for all upstreams or within one.
fn route(reader: &mut Reader<'_>, section: &mut Section<'_>, target: &mut Route) {
    let modes = values::MODES;
    reader.choice(section, "mode", modes, &mut target.mode);
    let kinds = values::ROUTES;
    reader.choice(section, "kind", kinds, &mut target.kind);
    let scopes = values::SCOPES;
    reader.choice(section, "scope", scopes, &mut target.scope);
    let overrides = values::OVERRIDES;
    reader.choice(section, "override", overrides, &mut target.override_client);
    reader.boolean(section, "retry", &mut target.retry);
    reader.boolean(section, "retry_writes", &mut target.retry_writes);
    let rules = values::one_of(values::OFFERED_RULES);
    reader.texts(section, "retry_rules", rules, &mut target.retry_rules);
    let buffer = &mut target.retry_buffer;
    reader.size(section, "retry_buffer", buffer);
    reader.end(section);
}

/// `[protect]`
fn protect(reader: &mut Reader<'_>, section: &mut Section<'_>, target: &mut Protect) {
    let rules = &mut target.projects;
    reader.texts(section, "projects", values::project, rules);
    reader.texts(section, "tables", values::table, &mut target.tables);
    let mut keys: Vec<String> = (0..rules.len())
        .map(|number| format!("{}[{number}]", section.key("projects")))
        .collect();
    for mut project in reader.sections(section, "project") {
        let mut rule = ProjectRule {
            name: String::new(),
            encryption: ConfiguredEncryption::default(),
            key_id: None,
        };
        reader.text(&mut project, "name", values::project_name, &mut rule.name);
        let encryptions = values::ENCRYPTIONS;
        let encryption = &mut rule.encryption;
        reader.choice(&mut project, "encryption", encryptions, encryption);
        reader.text(&mut project, "key_id", some(values::name), &mut rule.key_id);
        reader.require(&project, "name", "the MaxCompute project");
        if project.exists() {
            keys.push(project.key("name"));
            rules.push(rule);
        }
        reader.end(&project);
    }
    reader.end(section);
    for (at, rule) in rules.iter().enumerate() {
        let same = |earlier: &ProjectRule| !rule.name.is_empty() && earlier.name == rule.name;
        if let Some(first) = rules[..at].iter().position(same) {
            let aside = reader.notes().aside(&keys[first]);
            let text = format!("project {:?} is listed twice{aside}", rule.name);
            reader.notes().wrong(&keys[at], text);
        }
    }
}

/// `[catalog]`
fn catalog(
    reader: &mut Reader<'_>,
    section: &mut Section<'_>,
    target: &mut Catalog,
    password: &mut Option<PasswordSource>,
) {
    reader.text(section, "user", some(values::name), &mut target.user);
    let mut file = None;
    reader.path(section, "password_file", &mut file);
    if let Some(file) = file {
        *password = Some(PasswordSource::File(file));
    }
    reader.forbid(
        section,
        "password",
        "a password does not belong in this file; put it into a file of its own and name that in \
         password_file, or set OSPREY_CATALOG_PASSWORD",
    );
    reader.boolean(section, "borrow", &mut target.borrow);
    let timeout = &mut target.borrow_timeout;
    reader.duration(section, "borrow_timeout", timeout);
    reader.duration(section, "refresh", &mut target.refresh);
    reader.texts(section, "servers", values::name, &mut target.servers);
    reader.end(section);
}

/// `[limits]`
fn limits(reader: &mut Reader<'_>, section: &mut Section<'_>, target: &mut Limits) {
    reader.threads_or_auto(section, "workers", &mut target.workers);
    for (total, per_address, quota) in [
        (
            "max_sessions",
            "max_sessions_per_address",
            &mut target.max_sessions,
        ),
        (
            "max_greetings",
            "max_greetings_per_address",
            &mut target.max_greetings,
        ),
        (
            "max_logins",
            "max_logins_per_address",
            &mut target.max_logins,
        ),
    ] {
        reader.count(section, total, &mut quota.total);
        reader.optional_count(section, per_address, &mut quota.per_address);
    }
    let rate = &mut target.new_sessions_per_second;
    for (key, target) in [
        ("max_sessions_per_user", &mut target.max_sessions_per_user),
        (
            "max_sessions_per_database",
            &mut target.max_sessions_per_database,
        ),
        ("new_sessions_per_second", &mut rate.total),
        ("new_sessions_per_second_per_address", &mut rate.per_address),
        ("new_sessions_per_second_per_user", &mut rate.per_user),
    ] {
        reader.optional_count(section, key, target);
    }
    reader.count(section, "max_cancels", &mut target.max_cancels);
    let unknown = &mut target.unknown_cancels_per_second;
    reader.count(section, "unknown_cancels_per_second", unknown);
    for (key, target) in [
        ("greeting_timeout", &mut target.greeting_timeout),
        ("login_timeout", &mut target.login_timeout),
        ("pre_drain_delay", &mut target.pre_drain_delay),
        ("drain_timeout", &mut target.drain_timeout),
    ] {
        reader.duration(section, key, target);
    }
    for (key, target) in [
        ("idle_session_timeout", &mut target.idle_session_timeout),
        (
            "idle_in_transaction_session_timeout",
            &mut target.idle_in_transaction_session_timeout,
        ),
        ("statement_timeout", &mut target.statement_timeout),
        ("tcp_keepalive", &mut target.tcp_keepalive),
        ("tcp_user_timeout", &mut target.tcp_user_timeout),
    ] {
        reader.duration_or_off(section, key, target);
    }
    let bytes = &mut target.inspect_bytes;
    reader.size(section, "inspect_bytes", bytes);
    reader.boolean(section, "cancel_orphans", &mut target.cancel_orphans);
    reader.end(section);
}

/// `[console]`
fn console(reader: &mut Reader<'_>, section: &mut Section<'_>, target: &mut Console) {
    let socket = &mut target.socket;
    reader.text(section, "socket", some(console::socket), socket);
    reader.text(
        section,
        "socket_mode",
        console::mode,
        &mut target.socket_mode,
    );
    reader.numbers(section, "uids", &mut target.uids);
    reader.count(section, "max_connections", &mut target.max_connections);
    reader.duration_or_off(section, "pause_timeout", &mut target.pause_timeout);
    for mut user in reader.sections(section, "user") {
        let mut value = ConsoleUser {
            name: String::new(),
            verifier: Verifier::default(),
        };
        reader.text(&mut user, "name", values::name, &mut value.name);
        let verifier = &mut value.verifier;
        reader.text(&mut user, "verifier", Verifier::parse, verifier);
        reader.forbid(
            &mut user,
            "password",
            "a password does not belong in this file; write its verifier, as pg_authid has it",
        );
        reader.require(&user, "name", "as whom to log in");
        reader.require(&user, "verifier", "SCRAM-SHA-256$…, as pg_authid has it");
        if user.exists() {
            let known = |other: &ConsoleUser| other.name == value.name;
            if !value.name.is_empty() && target.users.iter().any(known) {
                let text = format!("user {:?} is listed twice", value.name);
                reader.notes().wrong(&user.key("name"), text);
            }
            target.users.push(value);
        }
        reader.end(&user);
    }
    reader.end(section);
}

/// `[replicas]`
fn replicas(reader: &mut Reader<'_>, section: &mut Section<'_>) -> Option<Replicas> {
    let mut target = Replicas::default();
    let addresses = &mut target.addresses;
    reader.texts(section, "redis", values::redis_address, addresses);
    let sentinel = &mut target.sentinel;
    reader.text(section, "sentinel", some(values::name), sentinel);
    reader.text(section, "user", some(values::name), &mut target.user);
    reader.path(section, "password_file", &mut target.password_file);
    reader.forbid(
        section,
        "password",
        "a password does not belong in this file; put it into a file of its own and name that in \
         password_file",
    );
    reader.boolean(section, "tls", &mut target.tls);
    reader.path(section, "ca", &mut target.ca);
    let prefix = &mut target.key_prefix;
    reader.text(section, "key_prefix", replicas::prefix, prefix);
    reader.duration(section, "deadline", &mut target.deadline);
    reader.path(section, "hmac_key_file", &mut target.hmac_key_file);
    let example = "where the Redis is, such as [\"redis.example.com:6379\"]";
    reader.require(section, "redis", example);
    reader.end(section);
    section.exists().then_some(target)
}

/// `[keys.cloud]`
fn cloud(reader: &mut Reader<'_>, keys: &mut Section<'_>, settings: &mut Keys) {
    let mut section = reader.section(keys, "cloud");
    let mut cloud = Cloud::in_region("");
    reader.text(&mut section, "region", values::region, &mut cloud.region);
    reader.choice(
        &mut section,
        "credentials",
        values::CREDENTIALS,
        &mut cloud.credentials,
    );
    for (key, target) in [
        ("maxcompute_endpoint", &mut cloud.maxcompute_endpoint),
        ("kms_endpoint", &mut cloud.kms_endpoint),
        ("sts_endpoint", &mut cloud.sts_endpoint),
        ("ram_endpoint", &mut cloud.ram_endpoint),
    ] {
        reader.text(&mut section, key, some(values::endpoint), target);
    }
    reader.duration(&mut section, "timeout", &mut cloud.timeout);
    reader.require(&section, "region", "the region, such as \"cn-shanghai\"");
    if section.exists() {
        settings.cloud = Some(cloud);
    }
    reader.end(&section);
}

/// A parser of `T` as a parser of `Option<T>`.
fn some<T>(
    parser: impl Fn(&str) -> Result<T, String>,
) -> impl Fn(&str) -> Result<Option<T>, String> {
    move |text| parser(text).map(Some)
}
