//! Checks what one value alone cannot show: whether settings contradict each other, and whether the
//! files that they name can be used.

mod addresses;
mod leads;
mod tls;

use std::os::unix::fs::FileTypeExt as _;
use std::path::Path;
use std::time::Duration;

use ipnet::IpNet;
use rustix::fs::{Access, access};

use addresses::{listen_addresses, upstream_addresses};
use leads::{names, overlaps};
use tls::{listen_tls, upstream_tls};

use super::draft::{Pending, PendingUpstream};
use super::key_records::{Found, look};
use super::limits::Limits;
use super::listener::{Listener, ProxyProtocol};
use super::pem::certificates;
use super::problem::Notes;
use super::settings::Settings;
use super::upstream::Upstream;
use super::values::show_duration;

/// Linux' `MAX_TCP_KEEPIDLE`.
const LONGEST_KEEPALIVE: Duration = Duration::from_secs(32_767);
/// A lookup is given up after a minute.
const LONGEST_DEADLINE: Duration = Duration::from_secs(10);
/// Each time, all catalogs are read.
const SHORTEST_REFRESH: Duration = Duration::from_secs(1);
/// What a file is replaced with that stands in a directory.
const MAY_WRITE: Access = Access::WRITE_OK.union(Access::EXEC_OK);
/// Each look reads every file.
const OFTENEST_LOOK: Duration = Duration::from_millis(100);
/// Characters of the key that records are authenticated with.
const SHORTEST_KEY: usize = 32;
/// `TCP_USER_TIMEOUT` is an `int` of milliseconds; in whole days.
const LONGEST_USER_TIMEOUT: Duration = Duration::from_hours(24 * 24);

/// Checks the settings as a whole, and the files that they name.
pub(super) fn check(settings: &Settings, pending: &Pending, notes: &mut Notes) {
    listen_addresses(settings, pending, notes);
    for (listener, path) in settings.listeners.iter().zip(&pending.listeners) {
        proxy_protocol(listener, path, notes);
        let_in(listener, path, notes);
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
    reload(settings, notes);
    takeover(settings, notes);
    sockets(settings, notes);
    replicas(settings, notes);
}

fn replicas(settings: &Settings, notes: &mut Notes) {
    let Some(replicas) = &settings.replicas else {
        return;
    };
    if notes.is_given("replicas.redis")
        && !notes.is_wrong("replicas.redis")
        && replicas.addresses.is_empty()
    {
        notes.wrong("replicas.redis", "is empty; name at least one address");
    }
    above_zero("replicas.deadline", replicas.deadline, notes);
    if replicas.deadline > LONGEST_DEADLINE {
        let longest = show_duration(LONGEST_DEADLINE);
        notes.wrong(
            "replicas.deadline",
            format!("must be at most {longest}: a lookup would wait longer than it may take"),
        );
    }
    match &replicas.ca {
        Some(file) if replicas.tls => {
            certificates(file, "replicas.ca", notes);
        }
        Some(_) => notes.wrong(
            "replicas.ca",
            "has no effect, since replicas.tls is false; set that to true, or leave ca away",
        ),
        None => {}
    }
    if replicas.user.is_some() && replicas.password_file.is_none() {
        notes.wrong(
            "replicas.user",
            "needs a password; name the file that has it in replicas.password_file",
        );
    }
    if replicas
        .hmac_key
        .as_ref()
        .is_some_and(|key| key.0.len() < SHORTEST_KEY)
    {
        notes.wrong(
            "replicas.hmac_key_file",
            format!(
                "holds a key of less than {SHORTEST_KEY} characters; make one with: openssl rand -hex 32"
            ),
        );
    }
    if replicas.hmac_key_file.is_none() {
        notes.warn(
            "replicas",
            "records are not authenticated: whoever can write to the Redis can teach this Osprey; set \
             hmac_key_file",
        );
    }
}

fn reload(settings: &Settings, notes: &mut Notes) {
    if settings
        .reload
        .watch
        .is_some_and(|every| every < OFTENEST_LOOK)
    {
        let least = show_duration(OFTENEST_LOOK);
        notes.wrong(
            "reload.watch",
            format!("must be at least {least}, or \"off\""),
        );
    }
}

fn takeover(settings: &Settings, notes: &mut Notes) {
    let (takeover, console) = (&settings.takeover, &settings.console);
    if takeover.socket.is_some() && takeover.socket == console.socket {
        let aside = notes.aside("console.socket");
        let text = format!("is the console's socket{aside}; name another one");
        notes.wrong("takeover.socket", text);
    }
}

/// Where the console and the next process are to connect. systemd may make the directory at the start.
fn sockets(settings: &Settings, notes: &mut Notes) {
    let named = [
        ("console.socket", &settings.console.socket),
        ("takeover.socket", &settings.takeover.socket),
    ];
    for (key, path) in named {
        let Some(path) = path else { continue };
        let shown = path.display();
        let is_other = std::fs::metadata(path).is_ok_and(|found| !found.file_type().is_socket());
        if is_other {
            notes.wrong(
                key,
                format!("names {shown}, which is no socket; name one that is not there yet"),
            );
        } else if !directory_of(path).is_dir() {
            notes.warn(
                key,
                format!("{shown} cannot be made: its directory does not exist yet"),
            );
        }
    }
}

fn directory_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// The file itself need not exist yet.
fn snapshot(settings: &Settings, notes: &mut Notes) {
    let Some(path) = &settings.keys.snapshot else {
        return;
    };
    let directory = directory_of(path);
    let shown = path.display();
    if let Ok(Found::Else(why)) = look(path) {
        notes.wrong(
            "keys.snapshot",
            format!(
                "names {shown}, which {why}; name a file that is not there yet, or that Osprey has \
                 written"
            ),
        );
    } else if !directory.is_dir() || access(directory, MAY_WRITE).is_err() {
        notes.warn(
            "keys.snapshot",
            format!(
                "{shown} cannot be written by this user; name a file in a directory that exists and \
                 that Osprey's user may write to"
            ),
        );
    }
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

/// Lists by which nobody could come in.
fn let_in(listener: &Listener, path: &str, notes: &mut Notes) {
    let allow = format!("{path}.allow");
    if notes.is_given(&allow) && !notes.is_wrong(&allow) && listener.allow.is_empty() {
        notes.wrong(
            &allow,
            "is empty, so that nobody would be let in; leave it away to let in everybody",
        );
    }
    let denied = |net: &&IpNet| listener.deny.iter().any(|deny| deny.contains(*net));
    if let Some(net) = listener.allow.iter().find(denied) {
        let deny = format!("{path}.deny");
        notes.wrong(
            &deny,
            format!("has all of {net}, which {allow} lets in; leave one of the two away"),
        );
    }
}

fn upstream_quantities(upstream: &Upstream, part: &PendingUpstream, notes: &mut Notes) {
    let Upstream { route, catalog, .. } = upstream;
    let connect_timeout = part.key("connect_timeout");
    let common = |key, notes: &Notes| part.key_or_common(key, notes);
    for (key, duration) in [
        (connect_timeout, upstream.connect_timeout),
        (
            common("catalog.borrow_timeout", notes),
            catalog.borrow_timeout,
        ),
    ] {
        above_zero(&key, duration, notes);
    }
    let key = common("catalog.refresh", notes);
    if catalog.refresh < SHORTEST_REFRESH {
        let least = show_duration(SHORTEST_REFRESH);
        notes.wrong(
            &key,
            format!("must be at least {least}: each time all catalogs are read; what Osprey sees passing it \
                     reads again by itself"),
        );
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
    for (key, time) in [
        ("limits.idle_session_timeout", limits.idle_session_timeout),
        (
            "limits.idle_in_transaction_session_timeout",
            limits.idle_in_transaction_session_timeout,
        ),
        ("limits.statement_timeout", limits.statement_timeout),
    ] {
        if time.is_some_and(|time| time.is_zero()) {
            notes.wrong(key, "must be longer than 0, or \"off\"");
        }
    }
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
