//! Hologres' version, and reading it from the text that `hg_version()` answers. That is done
//! loosely: the vendor's own samples carry typos, and newer texts are shorter.

/// A Hologres version, from `hg_version()`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HologresVersion(pub u16, pub u16, pub u16);

impl HologresVersion {
    /// The first version that reads encrypted MaxCompute data at all (vendor page, *Limits*).
    pub const READS_ENCRYPTED: Self = Self(1, 1, 0);
    /// The first version that needs no back-end configuration for it (vendor page, *Limits*).
    pub const NEEDS_NO_BACKEND_CONFIGURATION: Self = Self(1, 3, 31);
    /// The first version whose common-table route reads encrypted data, with either kind of key.
    pub const COMMON_TABLE: Self = Self(3, 2, 0);
    /// The first version that reads encrypted MaxCompute data on serverless resources.
    pub const SERVERLESS: Self = Self(3, 1, 3);
}

impl std::fmt::Display for HologresVersion {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "V{}.{}.{}", self.0, self.1, self.2)
    }
}

/// Finds the version in texts such as `Hologres 1.3.31 (tag: …)`, `Hologres r3.1.36` or
/// `hologres V2.0`; a missing third part is 0. `None`: there is none to find.
pub(super) fn parse(text: &str) -> Option<HologresVersion> {
    const WORD: &str = "hologres";
    let lower = text.to_ascii_lowercase();
    lower
        .match_indices(WORD)
        .find_map(|(at, _)| numbers(&lower[at + WORD.len()..]))
}

fn numbers(rest: &str) -> Option<HologresVersion> {
    let rest = rest
        .strip_prefix(|c: char| c.is_ascii_whitespace())?
        .trim_start();
    let rest = rest.strip_prefix(['r', 'v']).unwrap_or(rest);
    let (major, rest) = number(rest)?;
    let (minor, rest) = number(rest.strip_prefix('.')?)?;
    let patch = rest
        .strip_prefix('.')
        .and_then(number)
        .map_or(0, |(patch, _)| patch);
    Some(HologresVersion(major, minor, patch))
}

fn number(text: &str) -> Option<(u16, &str)> {
    let end = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    Some((text[..end].parse().ok()?, &text[end..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_forms_seen_in_the_wild() {
        let long = "Hologres 0.9.29 (tag: 0.9.29 build: Release,Skylake,clang), compatible with \
                    PostgreSQL 11.3 (Release-build@1b725dxxxx on origin/ralease-0.9.x)";
        for (text, expected) in [
            (long, (0, 9, 29)),
            (
                "Hologres 0.11.1 (tag: release-0.11.x build: Release)",
                (0, 11, 1),
            ),
            ("Hologres 3.1.36", (3, 1, 36)),
            ("hologres r2.2.47", (2, 2, 47)),
            ("HOLOGRES  V4.0", (4, 0, 0)),
            ("Hologres 3.1.2-rc (x)", (3, 1, 2)),
            ("the Hologres server, Hologres 10.12.3", (10, 12, 3)),
        ] {
            let (major, minor, patch) = expected;
            assert_eq!(
                parse(text),
                Some(HologresVersion(major, minor, patch)),
                "{text}"
            );
        }
    }

    #[test]
    fn nothing_to_find() {
        for text in [
            "",
            "PostgreSQL 15.20",
            "Hologres",
            "Hologres x.y",
            "Hologres 70000.1.1",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn versions_compare_as_numbers() {
        assert!(HologresVersion(10, 0, 0) > HologresVersion(9, 9, 9));
        assert!(HologresVersion(1, 3, 30) < HologresVersion::NEEDS_NO_BACKEND_CONFIGURATION);
    }
}
