//! The configuration file: TOML, walked by hand so that every mistake is found in one run and each
//! is named by line and key. (A derived deserializer stops at its first mistake, and the text of
//! its errors quotes the source line, which may hold a secret.)

use std::collections::BTreeSet;
use std::path::Path;

use toml::de::DeTable;

use super::problem::Place;
use super::reader::{Reader, Section};
use super::{Cloud, Draft, ListenTls, PasswordSource, ProjectRule, log_filter, values};

/// Reads `path` (which was named at `place`) into the draft.
pub(super) fn read(path: &Path, place: &Place, draft: &mut Draft) {
    let name = path.display().to_string();
    match std::fs::read(path).map(String::from_utf8) {
        Ok(Ok(text)) => {
            parse(&name, &text, draft);
        }
        Ok(Err(error)) => {
            let valid = error.utf8_error().valid_up_to();
            let line = 1 + memchr::memchr_iter(b'\n', &error.as_bytes()[..valid]).count();
            let place = Place::File { file: name, line };
            draft
                .notes
                .wrong_at(place, "", "is not UTF-8; save the file as UTF-8");
        }
        Err(error) => draft.notes.wrong_at(
            place.clone(),
            "config",
            format!(
                "cannot read {name}: {error}; name a file that exists and that this user may read"
            ),
        ),
    }
}

/// Reads `text` into the draft; `name` stands for the file in messages. Returns every key there is.
pub(super) fn parse(name: &str, text: &str, draft: &mut Draft) -> BTreeSet<String> {
    let mut reader = Reader::new(name, text, &mut draft.notes);
    let (root, errors) = DeTable::parse_recoverable(text);
    for error in &errors {
        // The message alone: the error's Display quotes the line.
        let at = error.span().map_or(0, |span| span.start);
        reader.wrong("", at, format!("not TOML: {}", error.message()));
    }
    if errors.is_empty() {
        let settings = &mut draft.settings;
        walk(
            &mut reader,
            &mut Section::root(root.get_ref()),
            settings,
            &mut draft.password,
        );
        reader.report_unknown();
    }
    reader.keys()
}

/// The file's schema: every key, in the order of `config/osprey.toml`.
fn walk(
    reader: &mut Reader<'_>,
    root: &mut Section<'_>,
    settings: &mut super::Settings,
    password: &mut Option<PasswordSource>,
) {
    let mut listen = reader.section(root, "listen");
    reader.texts(
        &mut listen,
        "addresses",
        values::address,
        &mut settings.listeners[0].addresses,
    );
    let mut tls = reader.section(&mut listen, "tls");
    let mut values = ListenTls {
        certificate: std::path::PathBuf::new(),
        key: std::path::PathBuf::new(),
        client_ca: None,
        required: false,
    };
    reader.text(
        &mut tls,
        "certificate",
        values::path,
        &mut values.certificate,
    );
    reader.text(&mut tls, "key", values::path, &mut values.key);
    reader.text(
        &mut tls,
        "client_ca",
        some(values::path),
        &mut values.client_ca,
    );
    reader.boolean(&mut tls, "required", &mut values.required);
    if tls.exists() {
        settings.listeners[0].tls = Some(values);
    }
    reader.end(&tls);
    reader.end(&listen);

    let mut upstream = reader.section(root, "upstream");
    let address = &mut settings.upstreams[0].addresses[0];
    reader.text(&mut upstream, "address", values::upstream, address);
    let timeout = &mut settings.upstreams[0].connect_timeout;
    reader.text(&mut upstream, "connect_timeout", values::duration, timeout);
    let mut tls = reader.section(&mut upstream, "tls");
    let target = &mut settings.upstreams[0].tls;
    reader.text(
        &mut tls,
        "mode",
        values::one_of(values::TLS_MODES),
        &mut target.mode,
    );
    reader.text(&mut tls, "ca", some(values::path), &mut target.ca);
    reader.text(
        &mut tls,
        "certificate",
        some(values::path),
        &mut target.certificate,
    );
    reader.text(&mut tls, "key", some(values::path), &mut target.key);
    reader.text(
        &mut tls,
        "server_name",
        some(values::name),
        &mut target.server_name,
    );
    reader.end(&tls);
    reader.end(&upstream);

    let mut route = reader.section(root, "route");
    let target = &mut settings.upstreams[0].route;
    reader.text(
        &mut route,
        "kind",
        values::one_of(values::ROUTES),
        &mut target.kind,
    );
    reader.text(
        &mut route,
        "scope",
        values::one_of(values::SCOPES),
        &mut target.scope,
    );
    let overrides = values::one_of(values::OVERRIDES);
    reader.text(
        &mut route,
        "override",
        overrides,
        &mut target.override_client,
    );
    reader.boolean(&mut route, "retry", &mut target.retry);
    reader.text(
        &mut route,
        "retry_buffer",
        values::size,
        &mut target.retry_buffer,
    );
    reader.end(&route);

    let mut protect = reader.section(root, "protect");
    let target = &mut settings.upstreams[0].protect;
    let rules = &mut target.projects;
    reader.texts(&mut protect, "projects", values::project, rules);
    reader.texts(&mut protect, "tables", values::table, &mut target.tables);
    for mut project in reader.sections(&mut protect, "project") {
        let mut rule = ProjectRule {
            name: String::new(),
            encryption: super::ConfiguredEncryption::default(),
            key_id: None,
        };
        reader.text(&mut project, "name", values::project_name, &mut rule.name);
        let encryptions = values::one_of(values::ENCRYPTIONS);
        reader.text(
            &mut project,
            "encryption",
            encryptions,
            &mut rule.encryption,
        );
        reader.text(&mut project, "key_id", some(values::name), &mut rule.key_id);
        if project.exists() {
            reader.require(&project, "name", "the MaxCompute project");
            rules.push(rule);
        }
        reader.end(&project);
    }
    reader.end(&protect);

    let mut catalog = reader.section(root, "catalog");
    let target = &mut settings.upstreams[0].catalog;
    reader.text(&mut catalog, "user", some(values::name), &mut target.user);
    let mut file = None;
    reader.text(&mut catalog, "password_file", some(values::path), &mut file);
    if let Some(file) = file {
        *password = Some(PasswordSource::File(file));
    }
    reader.forbid(
        &mut catalog,
        "password",
        "a password does not belong in this file; put it into a file of its own and name that in \
         password_file, or set OSPREY_CATALOG_PASSWORD",
    );
    reader.boolean(&mut catalog, "borrow", &mut target.borrow);
    reader.text(
        &mut catalog,
        "borrow_timeout",
        values::duration,
        &mut target.borrow_timeout,
    );
    reader.text(
        &mut catalog,
        "refresh",
        values::duration,
        &mut target.refresh,
    );
    reader.texts(&mut catalog, "servers", values::name, &mut target.servers);
    reader.end(&catalog);

    let mut keys = reader.section(root, "keys");
    reader.text(&mut keys, "ttl", values::duration, &mut settings.keys.ttl);
    reader.text(
        &mut keys,
        "negative_ttl",
        values::duration,
        &mut settings.keys.negative_ttl,
    );
    reader.count(&mut keys, "capacity", &mut settings.keys.capacity);
    reader.text(
        &mut keys,
        "snapshot",
        some(values::path),
        &mut settings.keys.snapshot,
    );
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
    let formats = values::one_of(values::LOG_FORMATS);
    reader.text(&mut observe, "log_format", formats, &mut target.json_logs);
    reader.boolean(&mut observe, "redact_paths", &mut target.redact_paths);
    let language = &mut target.language;
    reader.text(&mut observe, "language", values::language, language);
    reader.end(&observe);

    let mut limits = reader.section(root, "limits");
    let target = &mut settings.limits;
    reader.count_or_auto(&mut limits, "workers", &mut target.workers);
    reader.count(&mut limits, "max_sessions", &mut target.max_sessions.total);
    reader.text(
        &mut limits,
        "login_timeout",
        values::duration,
        &mut target.login_timeout,
    );
    reader.text(
        &mut limits,
        "drain_timeout",
        values::duration,
        &mut target.drain_timeout,
    );
    reader.text(
        &mut limits,
        "inspect_bytes",
        values::size,
        &mut target.inspect_bytes,
    );
    reader.boolean(&mut limits, "cancel_orphans", &mut target.cancel_orphans);
    reader.end(&limits);

    reader.end(root);
}

/// `[keys.cloud]`
fn cloud(reader: &mut Reader<'_>, keys: &mut Section<'_>, settings: &mut super::Keys) {
    let mut section = reader.section(keys, "cloud");
    let mut cloud = Cloud::in_region("");
    reader.text(&mut section, "region", values::region, &mut cloud.region);
    reader.text(
        &mut section,
        "credentials",
        values::one_of(values::CREDENTIALS),
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
    reader.text(
        &mut section,
        "timeout",
        values::duration,
        &mut cloud.timeout,
    );
    if section.exists() {
        reader.require(&section, "region", "the region, such as \"cn-shanghai\"");
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
