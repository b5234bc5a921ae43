//! What one value alone cannot show: settings that contradict each other, and the files that the
//! configuration names.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::net::SocketAddr;
use std::path::Path;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::problem::Notes;
use super::{Draft, PasswordSource, Secret, Settings, TlsMode};

/// Checks the draft as a whole and reads the password file, if there is one.
pub(super) fn check(draft: &mut Draft) {
    password(draft);
    let (settings, notes) = (&draft.settings, &mut draft.notes);
    addresses(settings, notes);
    listen_tls(settings, notes);
    upstream_tls(settings, notes);
    protect(settings, notes);
    quantities(settings, notes);
    snapshot(settings, notes);
}

/// The file itself need not exist yet.
fn snapshot(settings: &Settings, notes: &mut Notes) {
    let Some(path) = &settings.keys.snapshot else {
        return;
    };
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    if path.is_dir() || !directory.is_dir() {
        notes.warn(
            "keys.snapshot",
            format!(
                "{} cannot be written; name a file in a directory that exists and that Osprey's \
                 user may write to",
                path.display()
            ),
        );
    }
}

fn password(draft: &mut Draft) {
    let notes = &mut draft.notes;
    let key = match &draft.password {
        Some(PasswordSource::File(_)) => "catalog.password_file",
        _ => "catalog.password",
    };
    match draft.password.take() {
        Some(PasswordSource::Given(secret)) => {
            draft.settings.upstreams[0].catalog.password = Some(secret);
        }
        Some(PasswordSource::File(path)) => {
            warn_if_public(&path, key, "the password", notes);
            match std::fs::read_to_string(&path) {
                Ok(text) if text.trim().is_empty() => {
                    notes.wrong(key, format!("{} is empty", path.display()));
                }
                Ok(text) => {
                    let line = text.trim_end_matches(['\r', '\n']).to_owned();
                    draft.settings.upstreams[0].catalog.password = Some(Secret(line));
                }
                Err(error) => unreadable(&path, key, &error, notes),
            }
        }
        None => {}
    }
    let catalog = &draft.settings.upstreams[0].catalog;
    let given = notes.is_given("catalog.password") || notes.is_given("catalog.password_file");
    if catalog.user.is_none() && given {
        notes.wrong(
            key,
            "there is a password but no user; set --catalog-user, OSPREY_CATALOG_USER or \
             catalog.user",
        );
    }
    if catalog.user.is_some() && !given {
        notes.warn(
            "catalog.user",
            "has no password; unless Hologres lets this user in without one, set \
             OSPREY_CATALOG_PASSWORD or catalog.password_file",
        );
    }
}

fn addresses(settings: &Settings, notes: &mut Notes) {
    let listen = &settings.listeners[0].addresses;
    if listen.is_empty() && !notes.problems.iter().any(|p| p.key == "listen.addresses") {
        notes.wrong(
            "listen.addresses",
            "is empty; name at least one, such as \"127.0.0.1:6432\"",
        );
    }
    let mut seen = BTreeSet::new();
    for address in listen {
        // Port 0 asks the system for a free one each time.
        if address.port() != 0 && !seen.insert(address) {
            notes.wrong("listen.addresses", format!("{address} is listed twice"));
        }
    }
    if let Some(metrics) = settings.observe.metrics
        && let Some(address) = listen.iter().find(|address| clash(**address, metrics))
    {
        notes.wrong(
            "observe.metrics",
            format!("{metrics} is where clients connect ({address}); choose another port"),
        );
    }
    let upstream = &settings.upstreams[0].addresses[0];
    if upstream.host.is_empty() && !notes.problems.iter().any(|p| p.key == "upstream.address") {
        notes.wrong(
            "upstream.address",
            "is missing: where is Hologres? Give --upstream HOST:PORT, OSPREY_UPSTREAM, or \
             address under [upstream] in the file",
        );
    }
    let upstream_ip = match upstream.host.as_str() {
        "localhost" => Some([127, 0, 0, 1].into()),
        host => host.parse().ok(),
    };
    if let Some(ip) = upstream_ip
        && let address = SocketAddr::new(ip, upstream.port)
        && listen
            .iter()
            .any(|own| clash(*own, address) && ip.is_loopback())
    {
        notes.wrong(
            "upstream.address",
            format!("{address} is where Osprey itself listens; name the Hologres endpoint"),
        );
    }
}

/// True if a socket bound to one takes connections to the other.
fn clash(one: SocketAddr, other: SocketAddr) -> bool {
    let all = one.ip().is_unspecified() || other.ip().is_unspecified();
    one.port() != 0 && one.port() == other.port() && (all || one.ip() == other.ip())
}

fn listen_tls(settings: &Settings, notes: &mut Notes) {
    let Some(tls) = &settings.listeners[0].tls else {
        return;
    };
    let mut complete = true;
    for (key, path, what) in [
        (
            "listen.tls.certificate",
            &tls.certificate,
            "certificate chain",
        ),
        ("listen.tls.key", &tls.key, "private key"),
    ] {
        if path.as_os_str().is_empty() {
            complete = false;
            if !notes.is_given(key) {
                let place = "listen.tls";
                notes.wrong(
                    place,
                    format!("{key} is missing: the PEM file with the {what}"),
                );
            }
        }
    }
    if complete {
        pair(
            &tls.certificate,
            "listen.tls.certificate",
            &tls.key,
            "listen.tls.key",
            notes,
        );
    }
    if let Some(ca) = &tls.client_ca {
        certificates(ca, "listen.tls.client_ca", notes);
    }
}

fn upstream_tls(settings: &Settings, notes: &mut Notes) {
    let tls = &settings.upstreams[0].tls;
    let verifies = matches!(tls.mode, TlsMode::VerifyCa | TlsMode::VerifyFull);
    match &tls.ca {
        Some(ca) if verifies => {
            certificates(ca, "upstream.tls.ca", notes);
        }
        Some(_) => notes.wrong(
            "upstream.tls.ca",
            "has no effect, since upstream.tls.mode does not verify certificates; set mode to \
             \"verify-full\" (or \"verify-ca\"), or leave ca away",
        ),
        None if verifies && rustls_native_certs::load_native_certs().certs.is_empty() => {
            notes.wrong(
                "upstream.tls.mode",
                "verifies certificates, but this system has no certificate authorities; set \
                 upstream.tls.ca, or install them (Debian: ca-certificates)",
            );
        }
        None => {}
    }
    if tls.mode == TlsMode::Disable {
        for key in ["certificate", "key", "server_name"] {
            let key = format!("upstream.tls.{key}");
            if notes.is_given(&key) {
                notes.wrong(
                    &key,
                    "has no effect, since upstream.tls.mode is \"disable\"",
                );
            }
        }
        return;
    }
    match (&tls.certificate, &tls.key) {
        (Some(certificate), Some(key)) => {
            pair(
                certificate,
                "upstream.tls.certificate",
                key,
                "upstream.tls.key",
                notes,
            );
        }
        (Some(_), None) => {
            notes.wrong(
                "upstream.tls.certificate",
                "needs its private key: set upstream.tls.key",
            );
        }
        (None, Some(_)) => notes.wrong(
            "upstream.tls.key",
            "needs its certificate: set upstream.tls.certificate",
        ),
        (None, None) => {}
    }
}

fn protect(settings: &Settings, notes: &mut Notes) {
    let mut seen = BTreeSet::new();
    for rule in &settings.upstreams[0].protect.projects {
        if !rule.name.is_empty() && !seen.insert(&rule.name) {
            let key = if notes.is_given("protect.project") {
                "protect.project"
            } else {
                "protect.projects"
            };
            notes.wrong(key, format!("project {:?} is listed twice", rule.name));
        }
    }
}

fn quantities(settings: &Settings, notes: &mut Notes) {
    let Settings { keys, limits, .. } = settings;
    let upstream = &settings.upstreams[0];
    let super::Upstream { route, catalog, .. } = upstream;
    for (key, duration) in [
        ("upstream.connect_timeout", upstream.connect_timeout),
        ("catalog.refresh", catalog.refresh),
        ("catalog.borrow_timeout", catalog.borrow_timeout),
        ("keys.ttl", keys.ttl),
        ("keys.negative_ttl", keys.negative_ttl),
        ("limits.login_timeout", limits.login_timeout),
    ] {
        if duration.is_zero() {
            notes.wrong(key, "must be longer than 0");
        }
    }
    if keys
        .cloud
        .as_ref()
        .is_some_and(|cloud| cloud.timeout.is_zero())
    {
        notes.wrong("keys.cloud.timeout", "must be longer than 0");
    }
    if limits.inspect_bytes == 0 {
        notes.wrong(
            "limits.inspect_bytes",
            "must be above 0, or no statement is looked at",
        );
    }
    if route.retry && route.retry_buffer == 0 {
        notes.wrong(
            "route.retry_buffer",
            "is 0, so that nothing could be run again; set retry = false if that is meant",
        );
    }
    if keys.negative_ttl > keys.ttl {
        notes.wrong(
            "keys.negative_ttl",
            "is longer than keys.ttl: a failed lookup would be believed for longer than a \
             successful one",
        );
    }
    if catalog.servers.is_empty() && !notes.problems.iter().any(|p| p.key == "catalog.servers") {
        notes.wrong(
            "catalog.servers",
            "is empty; MaxCompute's server is \"odps_server\"",
        );
    }
}

/// Checks a certificate chain, its private key, and that they belong together.
fn pair(chain: &Path, chain_name: &str, key: &Path, key_name: &str, notes: &mut Notes) {
    warn_if_public(key, key_name, "the private key", notes);
    let chain = certificates(chain, chain_name, notes);
    let pem = match std::fs::read(key) {
        Ok(pem) => pem,
        Err(error) => return unreadable(key, key_name, &error, notes),
    };
    let Ok(key) = PrivateKeyDer::from_pem_slice(&pem) else {
        let text = format!("{} holds no unencrypted private key in PEM", key.display());
        return notes.wrong(key_name, text);
    };
    let Some(chain) = chain else { return };
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    match rustls::sign::CertifiedKey::from_der(chain, key, &provider) {
        Ok(_) => {}
        Err(rustls::Error::InconsistentKeys(_)) => {
            notes.wrong(
                key_name,
                format!("is not the key of the certificate in {chain_name}"),
            );
        }
        // rustls does not name webpki's errors.
        Err(error) if error.to_string().contains("UnsupportedCertVersion") => notes.wrong(
            chain_name,
            "is an X.509 certificate of version 1, and TLS needs version 3: `openssl x509 -req` \
             writes it if it is given an extension, such as basicConstraints=CA:FALSE in a file \
             named by -extfile",
        ),
        Err(error) => notes.wrong(key_name, format!("cannot be used: {error}")),
    }
}

/// The certificates in a PEM file.
fn certificates(
    path: &Path,
    name: &str,
    notes: &mut Notes,
) -> Option<Vec<CertificateDer<'static>>> {
    let pem = match std::fs::read(path) {
        Ok(pem) => pem,
        Err(error) => {
            unreadable(path, name, &error, notes);
            return None;
        }
    };
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    match chain {
        Ok(chain) if !chain.is_empty() => Some(chain),
        _ => {
            notes.wrong(
                name,
                format!("{} holds no certificate in PEM", path.display()),
            );
            None
        }
    }
}

fn unreadable(path: &Path, name: &str, error: &dyn Display, notes: &mut Notes) {
    notes.wrong(
        name,
        format!(
            "cannot read {}: {error}; name a file that exists and that this user may read",
            path.display()
        ),
    );
}

/// Warns of a secret in a file that everyone may read.
fn warn_if_public(path: &Path, name: &str, what: &str, notes: &mut Notes) {
    use std::os::unix::fs::PermissionsExt as _;
    let public = |metadata: std::fs::Metadata| metadata.permissions().mode() & 0o004 != 0;
    if std::fs::metadata(path).is_ok_and(public) {
        let path = path.display();
        notes.warn(
            name,
            format!("everyone may read {what} in {path}; run: chmod o= {path}"),
        );
    }
}
