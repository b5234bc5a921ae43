//! How long certificates are valid.

use std::path::Path;
use std::time::{Duration, SystemTime};

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use x509_cert::der::Decode as _;

use super::problem::Notes;

/// A certificate that expires within this time is worth a warning: ACME clients renew earlier
/// (RFC 8555 leaves it to them; certbot does 30 days before).
const SOON: Duration = Duration::from_hours(14 * 24);
/// Of one that was made for a shorter time, the last third is.
const LAST_PART: u32 = 3;

/// From when to when all certificates of a chain are valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Validity {
    from: x509_cert::time::Time,
    until: x509_cert::time::Time,
}

impl Validity {
    /// `None`: there is none, or one that cannot be read.
    fn of(chain: &[CertificateDer<'_>]) -> Option<Self> {
        let mut whole: Option<Self> = None;
        for certificate in chain {
            let parsed = x509_cert::Certificate::from_der(certificate).ok()?;
            let validity = parsed.tbs_certificate.validity;
            let (from, until) = (validity.not_before, validity.not_after);
            let whole = whole.get_or_insert(Self { from, until });
            if time(from) > time(whole.from) {
                whole.from = from;
            }
            if time(until) < time(whole.until) {
                whole.until = until;
            }
        }
        whole
    }

    /// What is to be said about it, if anything.
    fn concern(&self, now: SystemTime) -> Option<String> {
        let (from, until) = (time(self.from), time(self.until));
        if until <= now {
            let text = format!(
                "has expired, on {}: peers that verify it refuse it",
                self.until
            );
            return Some(format!("{text}; renew it"));
        }
        if from > now {
            let text = format!("is valid only from {} on", self.from);
            return Some(format!("{text}; check the clock of this machine"));
        }
        let lifetime = until.duration_since(from).unwrap_or_default();
        let left = until.duration_since(now).unwrap_or_default();
        (left < SOON.min(lifetime / LAST_PART)).then(|| {
            let days = left.as_secs() / 86_400;
            format!("expires on {}, in {days} days; renew it", self.until)
        })
    }
}

fn time(of: x509_cert::time::Time) -> SystemTime {
    SystemTime::UNIX_EPOCH + of.to_unix_duration()
}

/// Warns of a chain that has expired or soon will.
pub(super) fn warn_of_expiry(
    chain: &[CertificateDer<'_>],
    path: &Path,
    name: &str,
    notes: &mut Notes,
) {
    let concern = Validity::of(chain).and_then(|validity| validity.concern(SystemTime::now()));
    if let Some(concern) = concern {
        notes.warn(name, format!("{} {concern}", path.display()));
    }
}

/// When the first certificate of the chain in a PEM file expires; `None`: the file cannot be used.
pub fn certificate_expiry(path: &Path) -> Option<SystemTime> {
    let chain = CertificateDer::pem_file_iter(path).ok()?;
    let chain: Vec<_> = chain.collect::<Result<_, _>>().ok()?;
    Validity::of(&chain).map(|validity| time(validity.until))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    const DAY: Duration = Duration::from_hours(24);

    /// A certificate in PEM, and its key, valid between these times.
    pub(crate) fn made(from: SystemTime, until: SystemTime) -> (String, String) {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut parameters = rcgen::CertificateParams::new(["localhost".to_owned()]).unwrap();
        parameters.not_before = from.into();
        parameters.not_after = until.into();
        let certificate = parameters.self_signed(&key).unwrap();
        (certificate.pem(), key.serialize_pem())
    }

    fn validity(pems: &str) -> Validity {
        let chain = CertificateDer::pem_slice_iter(pems.as_bytes());
        Validity::of(&chain.collect::<Result<Vec<_>, _>>().unwrap()).unwrap()
    }

    #[test]
    fn what_has_expired_or_soon_will_is_told() {
        let now = SystemTime::UNIX_EPOCH + 20_000 * DAY;
        for (from, until, words) in [
            (now - 90 * DAY, now + 20 * DAY, None),
            (
                now - 80 * DAY,
                now + 10 * DAY,
                Some("2024-10-14T00:00:00Z, in 10 days"),
            ),
            (
                now - 80 * DAY,
                now - DAY,
                Some("has expired, on 2024-10-03T00:00:00Z"),
            ),
            (
                now + DAY,
                now + 80 * DAY,
                Some("only from 2024-10-05T00:00:00Z on"),
            ),
            // One that lives for two days is renewed each day.
            (now - DAY, now + DAY, None),
            (now - 44 * DAY / 24, now + 4 * DAY / 24, Some("in 0 days")),
        ] {
            let said = validity(&made(from, until).0).concern(now);
            match words {
                None => assert_eq!(said, None),
                Some(words) => assert!(said.clone().unwrap().contains(words), "{said:?}"),
            }
        }
    }

    #[test]
    fn of_a_chain_the_first_end_counts() {
        let now = SystemTime::UNIX_EPOCH + 20_000 * DAY;
        let whole = [(3, 9), (2, 4), (1, 8)]
            .map(|(from, until)| made(now + from * DAY, now + until * DAY).0)
            .concat();
        let whole = validity(&whole);
        assert_eq!(time(whole.from), now + 3 * DAY);
        assert_eq!(time(whole.until), now + 4 * DAY);
    }
}
