//! What one value alone cannot show: settings that contradict each other, and the files that the
//! configuration names.

use std::fmt::Display;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::certificate::warn_of_expiry;
use super::problem::{Notes, nearest, setting};
use super::values::show_duration;
use super::{
    Limits, Listener, Pending, PendingUpstream, ProxyProtocol, Settings, TlsMode, Upstream,
    UpstreamTls,
};
use crate::glob::Glob;

/// Linux' `MAX_TCP_KEEPIDLE`.
const LONGEST_KEEPALIVE: Duration = Duration::from_secs(32_767);
/// `TCP_USER_TIMEOUT` is an `int` of milliseconds; in whole days.
const LONGEST_USER_TIMEOUT: Duration = Duration::from_hours(24 * 24);

/// Checks the settings as a whole, and the files that they name.
pub(super) fn check(settings: &Settings, pending: &Pending, notes: &mut Notes) {
    listen_addresses(settings, pending, notes);
    for (listener, path) in settings.listeners.iter().zip(&pending.listeners) {
        proxy_protocol(listener, path, notes);
        listen_tls(listener, path, notes);
        overlaps(listener, path, notes);
    }
    for (upstream, part) in settings.upstreams.iter().zip(&pending.upstreams) {
        upstream_addresses(upstream, part, settings, notes);
        upstream_tls(&upstream.tls, &part.key("tls"), notes);
        upstream_quantities(upstream, part, notes);
    }
    names(settings, pending, notes);
    quantities(settings, notes);
    limits(&settings.limits, notes);
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

/// Where clients connect: no two sockets can have the same address.
fn listen_addresses(settings: &Settings, pending: &Pending, notes: &mut Notes) {
    let mut all: Vec<(SocketAddr, String, &str)> = Vec::new();
    for (listener, path) in settings.listeners.iter().zip(&pending.listeners) {
        let key = format!("{path}.addresses");
        if listener.addresses.is_empty() && !notes.is_wrong(&key) {
            notes.wrong(
                &key,
                "is empty; name at least one, such as \"127.0.0.1:6432\"",
            );
        }
        for (number, &address) in listener.addresses.iter().enumerate() {
            let key = format!("{key}[{number}]");
            if let Some((other, other_key, other_path)) =
                all.iter().find(|(other, ..)| clash(address, *other))
            {
                let aside = if other_path == path {
                    String::new()
                } else {
                    notes.aside(other_key)
                };
                let text = if address == *other {
                    format!("{address} is listed twice{aside}")
                } else {
                    let wide = if covers(address, *other) {
                        address
                    } else {
                        *other
                    };
                    format!(
                        "{address} cannot be had beside {other}{aside}: {wide} takes every address \
                         of this machine{}; leave one of them away",
                        if wide.is_ipv6() { ", of IPv4 too" } else { "" }
                    )
                };
                notes.wrong(&key, text);
            }
            all.push((address, key, path));
        }
    }
    if let Some(metrics) = settings.observe.metrics
        && let Some((address, ..)) = all.iter().find(|(address, ..)| clash(*address, metrics))
    {
        notes.wrong(
            "observe.metrics",
            format!("{metrics} is where clients connect ({address}); choose another port"),
        );
    }
}

fn upstream_addresses(
    upstream: &Upstream,
    part: &PendingUpstream,
    settings: &Settings,
    notes: &mut Notes,
) {
    let [one, several] = ["address", "addresses"].map(|key| part.key(key));
    let wrong = ["upstream", &one, &several].map(|key| notes.is_wrong(key));
    if upstream.addresses.is_empty() && !wrong.contains(&true) {
        if notes.is_given(&several) {
            notes.wrong(&several, "is empty; name at least one");
        } else if part.is_element() {
            notes.wrong(
                &one,
                "is missing: where is this Hologres instance? Give address = \"HOST:PORT\"",
            );
        } else {
            notes.wrong(
                &one,
                "is missing: where is Hologres? Give --upstream HOST:PORT, OSPREY_UPSTREAM, or \
                 address under [upstream] in the file",
            );
        }
    }
    for (number, address) in upstream.addresses.iter().enumerate() {
        let key = if notes.is_given(&several) && !notes.is_given(&one) {
            format!("{several}[{number}]")
        } else {
            one.clone()
        };
        if upstream.addresses[..number].contains(address) {
            notes.wrong(&key, format!("{address} is listed twice"));
        }
        let ip = match address.host.as_str() {
            "localhost" => Some([127, 0, 0, 1].into()),
            host => host.parse().ok(),
        };
        let own = ip
            .filter(IpAddr::is_loopback)
            .map(|ip| SocketAddr::new(ip, address.port));
        let mut listening = settings.listeners.iter().flat_map(|l| &l.addresses);
        if own.is_some_and(|own| listening.any(|listening| covers(*listening, own))) {
            notes.wrong(
                &key,
                format!("{address} is where Osprey itself listens; name the Hologres endpoint"),
            );
        }
    }
}

/// True if no two sockets can listen on them at the same time.
fn clash(one: SocketAddr, other: SocketAddr) -> bool {
    covers(one, other) || covers(other, one)
}

/// True if a socket that listens on `one` takes connections to `other`. One on `[::]` takes those
/// of IPv4 too (ipv6(7), `IPV6_V6ONLY`). Port 0 is a free one each time.
fn covers(one: SocketAddr, other: SocketAddr) -> bool {
    let all = one.ip().is_unspecified() && (one.is_ipv6() || other.is_ipv4());
    one.port() != 0 && one.port() == other.port() && (all || one.ip() == other.ip())
}

fn proxy_protocol(listener: &Listener, path: &str, notes: &mut Notes) {
    let key = format!("{path}.proxy_protocol");
    let networks = format!("{path}.proxy_networks");
    if notes.is_wrong(&networks) || notes.is_wrong(&key) {
        return;
    }
    if listener.proxy_protocol == ProxyProtocol::Off {
        if notes.is_given(&networks) {
            notes.wrong(
                &networks,
                "has no effect, since proxy_protocol is \"off\"; set that to \"accept\" or \
                 \"require\", or leave proxy_networks away",
            );
        }
    } else if listener.proxy_networks.is_empty() {
        let needed = "the networks of those that may say who a client is, such as [\"10.0.0.0/8\"]";
        if notes.is_given(&networks) {
            notes.wrong(&networks, format!("is empty; name {needed}"));
        } else {
            notes.wrong(&key, format!("needs proxy_networks: {needed}"));
        }
    }
}

/// Each session must match one rule at most.
fn overlaps(listener: &Listener, path: &str, notes: &mut Notes) {
    let globs = listener.rules.iter().map(|rule| {
        let [user, database] = [&rule.user, &rule.database].map(|pattern| Glob::exact(pattern));
        (user, database)
    });
    let globs: Vec<_> = globs.collect();
    for (at, (user, database)) in globs.iter().enumerate() {
        for (earlier, (other_user, other_database)) in globs[..at].iter().enumerate() {
            let (Some(user), Some(database)) =
                (user.common(other_user), database.common(other_database))
            else {
                continue;
            };
            // The empty name, which nobody has, is one that only patterns of stars have in common.
            let such = |what: &str, name: String| match name.as_str() {
                "" => format!("any {what}"),
                name => format!("{what} {name:?}"),
            };
            let aside = notes.aside(&format!("{path}.rule[{earlier}]"));
            let (user, database) = (such("user", user), such("database", database));
            notes.wrong(
                &format!("{path}.rule[{at}]"),
                format!(
                    "overlaps with an earlier rule{aside}: both match {user} with {database}; make \
                     the patterns such that no session matches two"
                ),
            );
        }
    }
}

/// The upstreams' names, and those that lead to them.
fn names(settings: &Settings, pending: &Pending, notes: &mut Notes) {
    let upstreams = &settings.upstreams;
    let mut complete = true;
    for (at, (upstream, part)) in upstreams.iter().zip(&pending.upstreams).enumerate() {
        let key = part.key("name");
        if notes.is_wrong(&key) {
            complete = false;
            continue;
        }
        let mut earlier = upstreams[..at].iter().zip(&pending.upstreams);
        if let Some((_, other)) = earlier.find(|(other, _)| other.name == upstream.name) {
            let aside = notes.aside(&other.key("name"));
            let text = format!("{:?} is another upstream's name{aside}", upstream.name);
            notes.wrong(&key, text);
        }
    }
    // Should one have no name, it may be what is meant.
    if !complete {
        return;
    }
    let names: Vec<&str> = upstreams.iter().map(|u| u.name.as_str()).collect();
    let check = |key: &str, name: &str, notes: &mut Notes| {
        if notes.is_wrong(key) || names.contains(&name) {
            return;
        }
        let right = match nearest(name, names.iter().copied()) {
            Some(right) => format!("did you mean {right:?}?"),
            None => format!("there is {}", names.join(", ")),
        };
        notes.wrong(key, format!("{name:?} is the name of no upstream; {right}"));
    };
    for (listener, path) in settings.listeners.iter().zip(&pending.listeners) {
        for (number, rule) in listener.rules.iter().enumerate() {
            let key = format!("{path}.rule[{number}].upstream");
            check(&key, &rule.upstream, notes);
        }
        if let Some(name) = &listener.upstream {
            check(&format!("{path}.upstream"), name, notes);
        } else if listener.rules.is_empty() && path == "listen" {
            notes.wrong(
                path,
                "leads nowhere, since there are several upstreams; write [[listener]] instead, with \
                 upstream = \"NAME\" or [[listener.rule]]",
            );
        } else if listener.rules.is_empty() && !notes.is_wrong(&format!("{path}.upstream")) {
            notes.wrong(
                path,
                "leads nowhere, since there are several upstreams; set upstream = \"NAME\", or \
                 write [[listener.rule]]",
            );
        }
    }
    for (upstream, part) in upstreams.iter().zip(&pending.upstreams) {
        let name = &upstream.name;
        let leads = |listener: &Listener| {
            let rules = listener.rules.iter().map(|rule| &rule.upstream);
            rules.chain(&listener.upstream).any(|other| other == name)
        };
        if !settings.listeners.iter().any(leads) {
            notes.warn(&part.path, format!("no listener leads to {name:?}"));
        }
    }
}

fn listen_tls(listener: &Listener, path: &str, notes: &mut Notes) {
    let Some(tls) = &listener.tls else {
        return;
    };
    let [certificate, key, client_ca] =
        ["certificate", "key", "client_ca"].map(|key| format!("{path}.tls.{key}"));
    let mut complete = true;
    for (key, file, what) in [
        (&certificate, &tls.certificate, "certificate chain"),
        (&key, &tls.key, "private key"),
    ] {
        if file.as_os_str().is_empty() {
            complete = false;
            if !notes.is_given(key) {
                let name = setting(key);
                notes.wrong(
                    &format!("{path}.tls"),
                    format!("{name} is missing: the PEM file with the {what}"),
                );
            }
        }
    }
    if complete {
        pair(&tls.certificate, &certificate, &tls.key, &key, notes);
    }
    if let Some(ca) = &tls.client_ca {
        certificates(ca, &client_ca, notes);
    }
}

fn upstream_tls(tls: &UpstreamTls, path: &str, notes: &mut Notes) {
    let [mode, ca, certificate, key, server_name] =
        ["mode", "ca", "certificate", "key", "server_name"].map(|key| format!("{path}.{key}"));
    let verifies = matches!(tls.mode, TlsMode::VerifyCa | TlsMode::VerifyFull);
    match &tls.ca {
        Some(file) if verifies => {
            certificates(file, &ca, notes);
        }
        Some(_) => notes.wrong(
            &ca,
            "has no effect, since upstream.tls.mode does not verify certificates; set mode to \
             \"verify-full\" (or \"verify-ca\"), or leave ca away",
        ),
        None if verifies && rustls_native_certs::load_native_certs().certs.is_empty() => {
            notes.wrong(
                &mode,
                "verifies certificates, but this system has no certificate authorities; set \
                 upstream.tls.ca, or install them (Debian: ca-certificates)",
            );
        }
        None => {}
    }
    if tls.mode == TlsMode::Disable {
        for key in [&certificate, &key, &server_name] {
            if notes.is_given(key) {
                notes.wrong(key, "has no effect, since upstream.tls.mode is \"disable\"");
            }
        }
        return;
    }
    match (&tls.certificate, &tls.key) {
        (Some(chain), Some(private)) => pair(chain, &certificate, private, &key, notes),
        (Some(_), None) => {
            notes.wrong(&certificate, "needs its private key: set upstream.tls.key");
        }
        (None, Some(_)) => notes.wrong(&key, "needs its certificate: set upstream.tls.certificate"),
        (None, None) => {}
    }
}

fn upstream_quantities(upstream: &Upstream, part: &PendingUpstream, notes: &mut Notes) {
    let Upstream { route, catalog, .. } = upstream;
    let connect_timeout = part.key("connect_timeout");
    let common = |key, notes: &Notes| part.key_or_common(key, notes);
    for (key, duration) in [
        (connect_timeout, upstream.connect_timeout),
        (common("catalog.refresh", notes), catalog.refresh),
        (
            common("catalog.borrow_timeout", notes),
            catalog.borrow_timeout,
        ),
    ] {
        above_zero(&key, duration, notes);
    }
    let key = common("route.retry_buffer", notes);
    if route.retry && route.retry_buffer == 0 {
        notes.wrong(
            &key,
            "is 0, so that nothing could be run again; set retry = false if that is meant",
        );
    }
    let key = common("catalog.servers", notes);
    if catalog.servers.is_empty() && !notes.is_wrong(&key) {
        notes.wrong(&key, "is empty; MaxCompute's server is \"odps_server\"");
    }
}

fn above_zero(key: &str, duration: Duration, notes: &mut Notes) {
    if duration.is_zero() {
        notes.wrong(key, "must be longer than 0");
    }
}

fn quantities(settings: &Settings, notes: &mut Notes) {
    let Settings { keys, .. } = settings;
    above_zero("keys.ttl", keys.ttl, notes);
    above_zero("keys.negative_ttl", keys.negative_ttl, notes);
    if let Some(cloud) = &keys.cloud {
        above_zero("keys.cloud.timeout", cloud.timeout, notes);
    }
    if keys.negative_ttl > keys.ttl {
        notes.wrong(
            "keys.negative_ttl",
            "is longer than keys.ttl: a failed lookup would be believed for longer than a \
             successful one",
        );
    }
}

fn limits(limits: &Limits, notes: &mut Notes) {
    above_zero("limits.greeting_timeout", limits.greeting_timeout, notes);
    above_zero("limits.login_timeout", limits.login_timeout, notes);
    if limits.inspect_bytes == 0 {
        notes.wrong(
            "limits.inspect_bytes",
            "must be above 0, or no statement is looked at",
        );
    }
    for (key, time, least, most) in [
        (
            "limits.tcp_keepalive",
            limits.tcp_keepalive,
            Duration::from_secs(1),
            LONGEST_KEEPALIVE,
        ),
        (
            "limits.tcp_user_timeout",
            limits.tcp_user_timeout,
            Duration::from_millis(1),
            LONGEST_USER_TIMEOUT,
        ),
    ] {
        if time.is_some_and(|time| time < least || time > most) {
            let [least, most] = [least, most].map(show_duration);
            notes.wrong(
                key,
                format!(
                    "must be from {least} to {most}, which is what the kernel takes, or \"off\""
                ),
            );
        }
    }
}

/// Checks a certificate chain, its private key, and that they belong together.
fn pair(chain_path: &Path, chain_name: &str, key: &Path, key_name: &str, notes: &mut Notes) {
    warn_if_public(key, key_name, "the private key", notes);
    let chain = certificates(chain_path, chain_name, notes);
    let pem = match std::fs::read(key) {
        Ok(pem) => pem,
        Err(error) => return unreadable(key, key_name, &error, notes),
    };
    let Ok(key) = PrivateKeyDer::from_pem_slice(&pem) else {
        let text = format!("{} holds no unencrypted private key in PEM", key.display());
        return notes.wrong(key_name, text);
    };
    let Some(certificates) = chain else { return };
    warn_of_expiry(&certificates, chain_path, chain_name, notes);
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    match rustls::sign::CertifiedKey::from_der(certificates, key, &provider) {
        Ok(_) => {}
        Err(rustls::Error::InconsistentKeys(_)) => {
            notes.wrong(
                key_name,
                format!(
                    "is not the key of the certificate in {}",
                    setting(chain_name)
                ),
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

pub(super) fn unreadable(path: &Path, name: &str, error: &dyn Display, notes: &mut Notes) {
    notes.wrong(
        name,
        format!(
            "cannot read {}: {error}; name a file that exists and that this user may read",
            path.display()
        ),
    );
}

/// Warns of a secret in a file that everyone may read.
pub(super) fn warn_if_public(path: &Path, name: &str, what: &str, notes: &mut Notes) {
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
