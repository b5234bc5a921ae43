//! The server's side of SCRAM-SHA-256 (RFC 5802, RFC 7677), without channel binding.

use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::{Digest as _, Sha256};

use crate::config::Verifier;

/// The mechanism's name.
pub(super) const MECHANISM: &str = "SCRAM-SHA-256";
/// What a user who does not exist is told to hash, so that nobody finds out who does.
const USUAL_ITERATIONS: u32 = 4096;

/// Makes the salts of users who do not exist, the same for a name as long as the process lives.
static MOCK_KEY: LazyLock<[u8; 32]> = LazyLock::new(random);

/// An exchange whose first half is done.
#[derive(Debug)]
pub(super) struct Exchange {
    verifier: Verifier,
    /// There is such a user.
    exists: bool,
    /// What the client has said of channel binding.
    header: String,
    nonce: String,
    /// Both first messages, as they are signed.
    firsts: String,
}

fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    rustls::crypto::aws_lc_rs::default_provider()
        .secure_random
        .fill(&mut bytes)
        .expect("aws-lc has entropy once TLS has");
    bytes
}

fn sign(key: &[u8], text: &[u8]) -> [u8; 32] {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    mac.update(text);
    mac.finalize().into_bytes().into()
}

/// Begins an exchange with the client's first message; `None`: it is none. Of a user without a
/// verifier, the exchange goes on as any other and fails at its end. Returns the answer, too.
pub(super) fn begin(
    message: &[u8],
    user: &str,
    verifier: Option<&Verifier>,
) -> Option<(Exchange, String)> {
    let message = std::str::from_utf8(message).ok()?;
    // `n`: the client has no channel binding. `y`: it thinks that we have none, and is right.
    let (binding, rest) = message.split_once(',')?;
    let (authorization, bare) = rest.split_once(',')?;
    if !matches!(binding, "n" | "y") {
        return None;
    }
    let header = format!("{binding},{authorization},");
    // The name in the message counts for nothing: PostgreSQL's clients leave it empty.
    let (_, rest) = bare.strip_prefix("n=")?.split_once(',')?;
    let client_nonce = rest.strip_prefix("r=")?.split(',').next()?;
    if client_nonce.is_empty() {
        return None;
    }
    let mock = || Verifier {
        iterations: USUAL_ITERATIONS,
        salt: sign(&*MOCK_KEY, user.as_bytes())[..16].to_vec(),
        stored_key: vec![0; 32],
        server_key: vec![0; 32],
    };
    let exists = verifier.is_some();
    let verifier = verifier.cloned().unwrap_or_else(mock);
    let nonce = format!("{client_nonce}{}", STANDARD.encode(random::<18>()));
    let salt = STANDARD.encode(&verifier.salt);
    let first = format!("r={nonce},s={salt},i={}", verifier.iterations);
    let exchange = Exchange {
        verifier,
        exists,
        header,
        nonce,
        firsts: format!("{bare},{first}"),
    };
    Some((exchange, first))
}

impl Exchange {
    /// Ends the exchange with the client's last message; `None`: it does not know the password.
    /// Returns the answer, which shows that the server has the verifier.
    pub(super) fn end(&self, message: &[u8]) -> Option<String> {
        let message = std::str::from_utf8(message).ok()?;
        let (unsigned, proof) = message.rsplit_once(",p=")?;
        let (binding, rest) = unsigned.strip_prefix("c=")?.split_once(",r=")?;
        let nonce = rest.split(',').next()?;
        let binding = STANDARD.decode(binding).ok()?;
        if binding != self.header.as_bytes() || nonce != self.nonce {
            return None;
        }
        let signed = format!("{},{unsigned}", self.firsts);
        let proof: [u8; 32] = STANDARD.decode(proof).ok()?.try_into().ok()?;
        let signature = sign(&self.verifier.stored_key, signed.as_bytes());
        let key: [u8; 32] = std::array::from_fn(|at| proof[at] ^ signature[at]);
        let stored = Sha256::digest(key);
        // Whatever differs, it takes as long.
        let pairs = stored.iter().zip(&self.verifier.stored_key);
        let difference = pairs.fold(0, |difference, (one, two)| difference | (one ^ two));
        if difference != 0 || !self.exists {
            return None;
        }
        let signature = sign(&self.verifier.server_key, signed.as_bytes());
        Some(format!("v={}", STANDARD.encode(signature)))
    }
}

#[cfg(test)]
mod tests {
    use postgres_protocol::authentication::sasl::{ChannelBinding, ScramSha256};
    use postgres_protocol::password::scram_sha_256;

    use super::*;
    use crate::config::{Environment, load};

    /// The verifier of a password, by way of a configuration file.
    fn verifier(password: &str) -> Verifier {
        let verifier = scram_sha_256(password.as_bytes());
        let file = tempfile::NamedTempFile::new().unwrap();
        let text = format!(
            "[upstream]\naddress = \"holo\"\n[[console.user]]\nname = \"ops\"\nverifier = {verifier:?}\n"
        );
        std::fs::write(file.path(), text).unwrap();
        let loaded = load(Some(file.path().to_owned()), &Environment::default(), &[]).unwrap();
        loaded.settings.console.users[0].verifier.clone()
    }

    /// What comes of a login with tokio-postgres' side of the exchange.
    fn login(password: &str, verifier: Option<&Verifier>) -> Option<bool> {
        let mut client = ScramSha256::new(password.as_bytes(), ChannelBinding::unsupported());
        let (exchange, first) = begin(client.message(), "ops", verifier)?;
        client.update(first.as_bytes()).unwrap();
        let last = exchange.end(client.message())?;
        Some(client.finish(last.as_bytes()).is_ok())
    }

    #[test]
    fn who_knows_the_password_logs_in_and_nobody_else() {
        let verifier = verifier("correct horse");
        assert_eq!(login("correct horse", Some(&verifier)), Some(true));
        assert_eq!(login("battery staple", Some(&verifier)), None);
        assert_eq!(login("correct horse", None), None);
    }

    #[test]
    fn a_user_who_does_not_exist_has_a_salt_that_stays() {
        let salt = |user| {
            let (_, first) = begin(b"n,,n=,r=x", user, None).unwrap();
            first.split(',').nth(1).unwrap().to_owned()
        };
        assert_eq!(salt("a"), salt("a"));
        assert_ne!(salt("a"), salt("b"));
    }

    #[test]
    fn what_is_no_message_is_none() {
        for wrong in [
            "",
            "n",
            "n,,",
            "n,,n=",
            "n,,n=,r=",
            "p=tls-unique,,n=,r=x",
            "n,,m=1,n=,r=x",
            "x,,n=,r=y",
        ] {
            assert!(begin(wrong.as_bytes(), "ops", None).is_none(), "{wrong}");
        }
        let (exchange, _) = begin(b"n,,n=,r=x", "ops", Some(&verifier("x"))).unwrap();
        for wrong in ["", "c=biws", "c=biws,r=x,p=", "c=biws,r=x,p=AAAA"] {
            assert!(exchange.end(wrong.as_bytes()).is_none(), "{wrong}");
        }
    }
}
