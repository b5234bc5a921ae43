//! The form in which records stand in the Redis: the format's version, who vouches for it, and the
//! record itself.
//!
//! `1 MAC JSON`, where MAC is the HMAC-SHA256, in hexadecimal, of the key prefix, the record's kind,
//! what it is about, and the JSON; or `-` where the operator has given no key.

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

use crate::config::Secret;

/// The version of the format.
const VERSION: &str = "1";
/// The largest record.
pub(super) const MAX_RECORD: usize = 4 << 10;

/// Why a record is not believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Broken {
    /// It is of a version that is not known yet: whoever wrote it is newer. It is left alone.
    Newer,
    /// It is not vouched for by who has the key.
    Forged,
    /// It is none of these.
    Nonsense,
}

/// What makes and opens records.
pub(super) struct Seal {
    prefix: String,
    key: Option<Secret>,
}

impl Seal {
    pub(super) fn new(prefix: &str, key: Option<Secret>) -> Self {
        Self {
            prefix: prefix.to_owned(),
            key,
        }
    }

    /// A record of this kind about something; `None`: it would be too large.
    pub(super) fn close(&self, kind: &str, about: &str, json: &str) -> Option<Vec<u8>> {
        let mac = match &self.key {
            None => "-".to_owned(),
            Some(key) => {
                let mac = self.mac(key, kind, about, json).finalize().into_bytes();
                hex::encode(mac)
            }
        };
        let record = format!("{VERSION} {mac} {json}").into_bytes();
        (record.len() <= MAX_RECORD).then_some(record)
    }

    /// What a record says, if it is believed.
    pub(super) fn open<'r>(
        &self,
        kind: &str,
        about: &str,
        record: &'r [u8],
    ) -> Result<&'r str, Broken> {
        let nonsense = Broken::Nonsense;
        if record.len() > MAX_RECORD {
            return Err(nonsense);
        }
        let text = std::str::from_utf8(record).map_err(|_| nonsense)?;
        let (version, rest) = text.split_once(' ').ok_or(nonsense)?;
        if version != VERSION {
            let is_newer = version.parse::<u32>().is_ok_and(|version| version > 1);
            return Err(if is_newer { Broken::Newer } else { nonsense });
        }
        let (mac, json) = rest.split_once(' ').ok_or(nonsense)?;
        if let Some(key) = &self.key {
            let mac = hex::decode(mac).map_err(|_| Broken::Forged)?;
            let own = self.mac(key, kind, about, json);
            own.verify_slice(&mac).map_err(|_| Broken::Forged)?;
        }
        Ok(json)
    }

    fn mac(&self, key: &Secret, kind: &str, about: &str, json: &str) -> Hmac<Sha256> {
        let mut mac = Hmac::<Sha256>::new_from_slice(key.0.as_bytes())
            .expect("HMAC takes keys of any length");
        for part in [VERSION, &self.prefix, kind, about, json] {
            mac.update(&(part.len() as u64).to_be_bytes());
            mac.update(part.as_bytes());
        }
        mac
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(key: &str) -> Seal {
        Seal::new("osprey", Some(Secret(key.into())))
    }

    #[test]
    fn only_who_has_the_key_is_believed() {
        let own = with("0123456789abcdef0123456789abcdef");
        let record = own.close("fact", "u", "{\"a\": 1}").unwrap();
        assert_eq!(own.open("fact", "u", &record), Ok("{\"a\": 1}"));
        let forged = Err(Broken::Forged);
        assert_eq!(own.open("lease", "u", &record), forged);
        assert_eq!(own.open("fact", "v", &record), forged);
        assert_eq!(with("another").open("fact", "u", &record), forged);
        for at in 2..record.len() {
            let mut other = record.clone();
            other[at] ^= 1;
            assert!(own.open("fact", "u", &other).is_err(), "byte {at}");
        }
        let unsigned = Seal::new("osprey", None).close("fact", "u", "{}").unwrap();
        assert_eq!(own.open("fact", "u", &unsigned), forged);
    }

    #[test]
    fn without_a_key_all_are_and_a_newer_format_is_told() {
        let own = Seal::new("osprey", None);
        let signed = with("key").close("fact", "u", "{}").unwrap();
        assert_eq!(own.open("fact", "u", &signed), Ok("{}"));
        assert_eq!(own.open("fact", "u", b"1 - {}"), Ok("{}"));
        assert_eq!(own.open("fact", "u", b"2 new things"), Err(Broken::Newer));
        for nonsense in [&b""[..], b"1", b"0 - {}", b"x - {}", b"\xff - {}", b"1 -"] {
            assert_eq!(own.open("fact", "u", nonsense), Err(Broken::Nonsense));
        }
    }

    #[test]
    fn a_record_has_its_bound() {
        let own = Seal::new("osprey", None);
        let large = "x".repeat(MAX_RECORD);
        assert_eq!(own.close("fact", "u", &large), None);
        let record = [b"1 - ", large.as_bytes()].concat();
        assert_eq!(own.open("fact", "u", &record), Err(Broken::Nonsense));
    }
}
