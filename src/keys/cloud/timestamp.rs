//! Alibaba Cloud's timestamps, `2023-10-26T10:22:32Z`, in UTC and to the second; and those of HTTP's headers.

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

const MONTHS: [&str; 12] = [
    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
];

/// The time of an HTTP header, `Thu, 26 Oct 2023 10:22:32 GMT` (RFC 9110, 5.6.7; the obsolete forms left
/// out).
pub fn parse_http(text: &str) -> Option<SystemTime> {
    let mut words = text.split_once(", ")?.1.split(' ');
    let (day, month, year) = (words.next()?, words.next()?, words.next()?);
    let (time, zone) = (words.next()?, words.next()?);
    let month = MONTHS.iter().position(|known| *known == month)? + 1;
    if zone != "GMT" || words.next().is_some() {
        return None;
    }
    parse(&format!("{year}-{month:02}-{day}T{time}Z"))
}

/// The text of a time for an HTTP header; which day of the week it is, nobody reads.
#[cfg(test)]
pub(super) fn format_http(time: SystemTime) -> String {
    let text = format(time);
    let (date, clock) = text.trim_end_matches('Z').split_once('T').unwrap();
    let [year, month, day] = [&date[..4], &date[5..7], &date[8..]];
    let month = MONTHS[month.parse::<usize>().unwrap() - 1];
    format!("Thu, {day} {month} {year} {clock} GMT")
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
    fn times_of_headers() {
        let time = parse("2023-10-26T10:22:32Z");
        assert_eq!(parse_http("Thu, 26 Oct 2023 10:22:32 GMT"), time);
        for text in [
            "",
            "120",
            "Thu, 26 Oct 2023 10:22:32 CET",
            "Thu, 26 Okt 2023 10:22:32 GMT",
            "Thu, 26 Oct 2023 10:22:32 GMT GMT",
            "Thursday, 26-Oct-23 10:22:32 GMT",
        ] {
            assert_eq!(parse_http(text), None, "{text}");
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
