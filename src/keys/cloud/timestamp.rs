//! Alibaba Cloud's timestamps, `2023-10-26T10:22:32Z`, in UTC and to the second.

use std::time::{SystemTime, UNIX_EPOCH};

use x509_cert::der::DateTime;

/// The text of a time; times before 1970 are 1970, and those after 9999 the last of 9999.
pub fn format(time: SystemTime) -> String {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    DateTime::from_unix_duration(since)
        .unwrap_or(DateTime::INFINITY)
        .to_string()
}

/// The time of a text; `None`: it is not one (an empty text says "not set").
pub fn parse(text: &str) -> Option<SystemTime> {
    let time: DateTime = text.parse().ok()?;
    Some(UNIX_EPOCH + time.unix_duration())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn known_moments() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_698_315_752, "2023-10-26T10:22:32Z"),
            (4_102_444_799, "2099-12-31T23:59:59Z"),
        ] {
            let time = UNIX_EPOCH + Duration::from_secs(seconds);
            assert_eq!(format(time), text);
            assert_eq!(parse(text), Some(time));
        }
    }

    #[test]
    fn what_is_not_a_time() {
        for text in [
            "",
            "never",
            "2023-10-26 10:22:32Z",
            "2023-02-29T00:00:00Z",
            "2023-13-01T00:00:00Z",
            "2023-10-00T00:00:00Z",
            "1969-12-31T00:00:00Z",
            "2023-10-26T24:00:00Z",
            "2023-10-26T+1:00:00Z",
            "2023-10-26T1\u{fc}:00:0Z",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn every_time_survives_its_text(seconds in 0u64..250_000_000_000) {
            let time = UNIX_EPOCH + Duration::from_secs(seconds);
            proptest::prop_assert_eq!(parse(&format(time)), Some(time));
        }
    }
}
