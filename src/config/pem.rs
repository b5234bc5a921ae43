//! The PEM files that TLS is configured with: whether they can be read, and belong together.

use std::path::Path;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::certificate::warn_of_expiry;
use super::named_file::{unreadable, warn_if_public};
use super::problem::{Notes, setting};

/// Checks a certificate chain, its private key, and that they belong together.
pub(super) fn pair(
    chain_path: &Path,
    chain_name: &str,
    key: &Path,
    key_name: &str,
    notes: &mut Notes,
) {
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
pub(super) fn certificates(
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
