//! The settings of `[replicas]`: how several Ospreys tell each other what they find out.

use std::path::PathBuf;
use std::time::Duration;

use super::secret::Secret;
use super::upstream::Address;
use super::values;

/// Redis' port.
const REDIS_PORT: u16 = 6379;

/// `[replicas]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replicas {
    /// Where the Redis is: all of these are the same one, or its cluster, or the sentinels that know
    /// where it is. Never empty.
    pub addresses: Vec<Address>,
    /// The name by which sentinels know it; `None`: the addresses are its own.
    pub sentinel: Option<String>,
    /// The user of its access control list; `None`: the default one.
    pub user: Option<String>,
    /// The file of the user's password.
    pub password_file: Option<PathBuf>,
    /// What stands in it.
    pub password: Option<Secret>,
    /// TLS, verified with its name.
    pub tls: bool,
    /// PEM file with CAs; `None`: the system's roots.
    pub ca: Option<PathBuf>,
    /// What the names of all keys begin with.
    pub key_prefix: String,
    /// How long a lookup waits for the Redis before it goes on without. Default 50 ms.
    pub deadline: Duration,
    /// The file of the secret that records are authenticated with.
    pub hmac_key_file: Option<PathBuf>,
    /// What stands in it.
    pub hmac_key: Option<Secret>,
}

impl Default for Replicas {
    fn default() -> Self {
        Self {
            addresses: Vec::new(),
            sentinel: None,
            user: None,
            password_file: None,
            password: None,
            tls: false,
            ca: None,
            key_prefix: "osprey".into(),
            deadline: Duration::from_millis(50),
            hmac_key_file: None,
            hmac_key: None,
        }
    }
}

/// Where a Redis is: `HOST:PORT`, or `HOST` and Redis' own port.
pub(super) fn address(text: &str) -> Result<Address, String> {
    // The value is not repeated when it may be a URL with a password in it.
    if text.contains("://") || text.contains('@') || text.contains('/') {
        return Err(
            "this is a URL; write HOST:PORT alone: user, password_file and tls are keys of their own"
                .into(),
        );
    }
    let address = values::upstream(text).map_err(|_| {
        format!(
            "{text:?} is not the address of a Redis; write HOST:PORT, such as \
             \"redis.example.com:{REDIS_PORT}\""
        )
    })?;
    let text = text.trim();
    let bare = text.trim_start_matches('[').trim_end_matches(']');
    let port = if bare == address.host {
        REDIS_PORT
    } else {
        address.port
    };
    Ok(Address { port, ..address })
}

/// What the names of keys begin with. Braces would decide in which part of a cluster they are.
pub(super) fn prefix(text: &str) -> Result<String, String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | ':' | '/');
    if text.is_empty() || text.len() > 64 || !text.chars().all(plain) {
        return Err(format!(
            "{text:?} is no prefix; it has letters, digits, _, -, ., : and / only, at most 64, such as \
             \"osprey-prod\""
        ));
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_have_redis_own_port_and_are_no_urls() {
        for (text, host, port) in [
            ("redis", "redis", 6379),
            ("redis:80", "redis", 80),
            ("10.0.0.1:7000", "10.0.0.1", 7000),
            ("::1", "::1", 6379),
            ("[::1]", "::1", 6379),
            ("[::1]:80", "::1", 80),
        ] {
            let host = host.to_owned();
            assert_eq!(address(text), Ok(Address { host, port }), "{text}");
        }
        let refused = address("rediss://u:secret@h:1").unwrap_err();
        assert!(!refused.contains("secret"), "{refused}");
        for wrong in ["", "h:0", "h:x", "a b"] {
            assert!(address(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_prefix_is_a_plain_word() {
        assert_eq!(prefix("osprey:prod-1"), Ok("osprey:prod-1".into()));
        for wrong in ["", "{x}", "a b", &"x".repeat(65)] {
            assert!(prefix(wrong).is_err(), "{wrong}");
        }
    }
}
