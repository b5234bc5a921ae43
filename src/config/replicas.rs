//! The settings of `[replicas]`: how several Ospreys tell each other what they find out.

use std::path::PathBuf;
use std::time::Duration;

use super::secret::Secret;
use super::upstream::Address;

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
    fn a_prefix_is_a_plain_word() {
        assert_eq!(prefix("osprey:prod-1"), Ok("osprey:prod-1".into()));
        for wrong in ["", "{x}", "a b", &"x".repeat(65)] {
            assert!(prefix(wrong).is_err(), "{wrong}");
        }
    }
}
