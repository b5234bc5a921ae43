//! TLS as a client of the model's speaks it. Every length in it is the same in every run: the
//! certificate is one of Ed25519, and nothing is resumed.

use std::collections::VecDeque;
use std::io::{Read as _, Write as _};
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use rustls::client::Resumption;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection};

use crate::config::{ListenTls, TlsMode, Upstream};
use crate::net::tls;

/// A certificate and its key, made once for all seeds.
pub(super) fn certificate() -> ListenTls {
    static FILES: OnceLock<(tempfile::TempDir, PathBuf, PathBuf)> = OnceLock::new();
    let (_, certificate, key) = FILES.get_or_init(|| {
        let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).expect("a key");
        let parameters = rcgen::CertificateParams::new(vec!["osprey".into()]).expect("a name");
        let signed = parameters.self_signed(&pair).expect("a certificate");
        let directory = tempfile::tempdir().expect("a directory");
        let certificate = directory.path().join("certificate.pem");
        let key = directory.path().join("key.pem");
        std::fs::write(&certificate, signed.pem()).expect("a file");
        std::fs::write(&key, pair.serialize_pem()).expect("a file");
        (directory, certificate, key)
    });
    ListenTls {
        certificate: certificate.clone(),
        key: key.clone(),
        client_ca: None,
        required: false,
    }
}

fn config() -> Arc<ClientConfig> {
    static CONFIG: OnceLock<Arc<ClientConfig>> = OnceLock::new();
    let config = CONFIG.get_or_init(|| {
        let mut settings = Upstream::at(Vec::new()).tls;
        settings.mode = TlsMode::Require;
        let config = tls::client_config(&settings).expect("no files are named");
        let mut config = ClientConfig::clone(&config.expect("there is TLS"));
        config.resumption = Resumption::disabled();
        Arc::new(config)
    });
    Arc::clone(config)
}

/// One connection's TLS.
#[derive(Debug)]
pub(super) struct Secure(ClientConnection);

impl Secure {
    /// Begins the handshake.
    pub(super) fn new(out: &mut VecDeque<u8>) -> Self {
        let name = ServerName::try_from("osprey").expect("a name");
        let connection = ClientConnection::new(config(), name).expect("a configuration that fits");
        let mut secure = Self(connection);
        secure.0.set_buffer_limit(None);
        secure.send(out);
        secure
    }

    /// Encrypts `plain`, as soon as there are keys.
    pub(super) fn seal(&mut self, plain: &[u8], out: &mut VecDeque<u8>) {
        self.0.writer().write_all(plain).expect("no limit is set");
        self.send(out);
    }

    /// Decrypts what came.
    ///
    /// # Errors
    ///
    /// It is not TLS.
    pub(super) fn open(&mut self, came: &[u8], out: &mut VecDeque<u8>) -> Result<Vec<u8>, String> {
        let mut rest = came;
        let mut plain = Vec::new();
        while !rest.is_empty() {
            self.0
                .read_tls(&mut rest)
                .map_err(|error| error.to_string())?;
            let state = self
                .0
                .process_new_packets()
                .map_err(|error| error.to_string())?;
            let mut part = vec![0; state.plaintext_bytes_to_read()];
            self.0
                .reader()
                .read_exact(&mut part)
                .map_err(|error| error.to_string())?;
            plain.extend(part);
        }
        self.send(out);
        Ok(plain)
    }

    fn send(&mut self, out: &mut VecDeque<u8>) {
        while self.0.wants_write() {
            let mut bytes = Vec::new();
            self.0.write_tls(&mut bytes).expect("memory takes all");
            out.extend(bytes);
        }
    }
}
