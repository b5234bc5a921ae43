//! Patterns with `*` (any run of characters) and `?` (any one character), ignoring ASCII case: for
//! tables, MaxCompute projects and the actions of RAM policies.

/// One pattern.
#[derive(Debug, Clone)]
pub(crate) struct Glob(Vec<u8>);

impl Glob {
    pub(crate) fn new(pattern: &str) -> Self {
        Self(pattern.as_bytes().to_ascii_lowercase())
    }

    /// True if the whole name matches. Linear in the name for each `*` of the pattern.
    pub(crate) fn matches(&self, name: &[u8]) -> bool {
        let pattern = &self.0;
        let (mut at, mut from) = (0, 0);
        let mut star: Option<(usize, usize)> = None;
        while from < name.len() {
            match pattern.get(at) {
                Some(b'*') => {
                    star = Some((at + 1, from));
                    at += 1;
                }
                Some(b'?') => {
                    at += 1;
                    from = next_character(name, from);
                }
                Some(byte) if *byte == name[from].to_ascii_lowercase() => {
                    at += 1;
                    from += 1;
                }
                _ => {
                    // Let the last star take one byte more.
                    let Some((behind, taken)) = star else {
                        return false;
                    };
                    star = Some((behind, taken + 1));
                    at = behind;
                    from = taken + 1;
                }
            }
        }
        pattern[at..].iter().all(|byte| *byte == b'*')
    }

    /// The longest run of characters that every matching name contains; empty if there is none.
    pub(crate) fn literal(&self) -> &[u8] {
        self.0
            .split(|byte| matches!(byte, b'*' | b'?'))
            .max_by_key(|run| run.len())
            .unwrap_or_default()
    }
}

fn next_character(name: &[u8], from: usize) -> usize {
    let mut next = from + 1;
    while name.get(next).is_some_and(|byte| byte & 0xc0 == 0x80) {
        next += 1;
    }
    next
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_and_question_marks() {
        for (pattern, name, expected) in [
            ("*", "", true),
            ("*", "anything", true),
            ("orders", "ORDERS", true),
            ("orders", "orders2", false),
            ("ord*s", "orders", true),
            ("*_enc", "a_enc_enc", true),
            ("*_enc", "a_enc_en", false),
            ("a*b*c", "a-b-b-c", true),
            ("a*b*c", "a-c-b", false),
            ("t?", "t1", true),
            ("t?", "té", true),
            ("t?", "t", false),
            ("?", "", false),
            ("", "", true),
            ("", "a", false),
            ("*a*b*", "xxaxxbxx", true),
            ("*a*b*", "xxbxxaxx", false),
            ("*_prod", "sales_prod_old", false),
        ] {
            assert_eq!(
                Glob::new(pattern).matches(name.as_bytes()),
                expected,
                "{pattern} {name}"
            );
        }
        // Not a test of the answer alone: it is to come in time.
        assert!(!Glob::new(&"a*".repeat(200)).matches("a".repeat(199).as_bytes()));
    }

    #[test]
    fn literals() {
        assert_eq!(Glob::new("a*orders_?").literal(), b"orders_");
        assert_eq!(Glob::new("*?*").literal(), b"");
    }
}
