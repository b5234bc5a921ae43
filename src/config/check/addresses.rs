//! Addresses that clash, are missing, or lead back to Osprey itself.

use std::net::{IpAddr, SocketAddr};

use crate::config::draft::{Pending, PendingUpstream};
use crate::config::problem::Notes;
use crate::config::settings::Settings;
use crate::config::upstream::Upstream;

/// Checks where clients connect: no two sockets can have the same address.
pub(super) fn listen_addresses(settings: &Settings, pending: &Pending, notes: &mut Notes) {
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

/// Checks where the upstreams are: each address once, and none of them Osprey's own.
pub(super) fn upstream_addresses(
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
