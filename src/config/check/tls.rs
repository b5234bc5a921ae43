//! TLS: files that are missing, and settings that have no effect.

use crate::config::listener::Listener;
use crate::config::pem::{certificates, pair};
use crate::config::problem::{Notes, setting};
use crate::config::upstream::{TlsMode, UpstreamTls};

/// Checks the TLS towards clients: its files are there, and belong together.
pub(super) fn listen_tls(listener: &Listener, path: &str, notes: &mut Notes) {
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

/// Checks the TLS towards Hologres: its files are there, and its mode uses them.
pub(super) fn upstream_tls(tls: &UpstreamTls, path: &str, notes: &mut Notes) {
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
