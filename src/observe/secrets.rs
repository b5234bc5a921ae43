//! Taking passwords and tokens out of what others have said, before it is logged. A server's error
//! may quote what its client sent: `invalid command-line argument: sts_token=…`.

use std::borrow::Cow;

const HIDDEN: &str = "[redacted]";

/// Words in the names of what is secret, in lower case.
const NAMES: [&str; 8] = [
    "password",
    "passwd",
    "pwd",
    "token",
    "secret",
    "credential",
    "access_key",
    "accesskey",
];

/// `text` without each of the values `known`, and without what stands behind a name that such values
/// have: `name=value`, `name: value`, `name "value"`. Rather too much is taken than too little.
pub fn hide<'t>(text: &'t str, known: &[String]) -> Cow<'t, str> {
    let mut ranges: Vec<(usize, usize)> = known
        .iter()
        .filter(|value| !value.is_empty())
        .flat_map(|value| text.match_indices(value.as_str()))
        .map(|(at, value)| (at, at + value.len()))
        .collect();
    let lower = text.to_ascii_lowercase();
    for name in NAMES {
        let behind = lower.match_indices(name).map(|(at, _)| at + name.len());
        ranges.extend(behind.filter_map(|at| value_behind(text, at)));
    }
    if ranges.is_empty() {
        return text.into();
    }
    ranges.sort_unstable();
    let mut hidden = String::with_capacity(text.len());
    let mut kept = 0;
    for (start, end) in ranges {
        if start >= kept {
            hidden.push_str(&text[kept..start]);
            hidden.push_str(HIDDEN);
        }
        kept = kept.max(end);
    }
    hidden.push_str(&text[kept..]);
    hidden.into()
}

/// Where the value lies whose name goes on at `at`.
fn value_behind(text: &str, at: usize) -> Option<(usize, usize)> {
    let quotes = ['"', '\'', '`'];
    let rest = &text[at..];
    // The rest of the name, and the quote that ends it.
    let rest =
        rest.trim_start_matches(|c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-'));
    let unquoted = rest.strip_prefix(quotes).unwrap_or(rest);
    let value = match unquoted.trim_start().strip_prefix(['=', ':']) {
        Some(behind) => behind.trim_start(),
        // `password "x"`, but not `password authentication failed`.
        None => rest
            .strip_prefix(' ')
            .filter(|value| value.starts_with(quotes))?,
    };
    let start = text.len() - value.len();
    let length = if value.starts_with(quotes) {
        let end = value[1..].find(&value[..1]);
        end.map_or(value.len(), |end| end + 2)
    } else {
        let ends =
            |c: char| c.is_whitespace() || quotes.contains(&c) || matches!(c, ',' | ';' | ')');
        value.find(ends).unwrap_or(value.len())
    };
    (length > 0).then_some((start, start + length))
}

#[cfg(test)]
mod tests {
    use super::hide;

    #[test]
    fn what_is_named_as_a_secret_is_hidden() {
        for (text, hidden) in [
            (
                "invalid command-line argument for server process: sts_token=CAES+/x==",
                "invalid command-line argument for server process: sts_token=[redacted]",
            ),
            (
                "invalid value for parameter \"sts_token\": \"ab c\", sorry",
                "invalid value for parameter \"sts_token\": [redacted], sorry",
            ),
            ("Password: 'x' is wrong", "Password: [redacted] is wrong"),
            ("password \"päss\" is wrong", "password [redacted] is wrong"),
            (
                "AccessKeySecret=s;AccessKeyId=i",
                "AccessKeySecret=[redacted];AccessKeyId=[redacted]",
            ),
            ("token=\"never ends", "token=[redacted]"),
        ] {
            assert_eq!(hide(text, &[]), hidden);
        }
    }

    #[test]
    fn the_rest_stays_as_it_is() {
        for text in [
            "password authentication failed for user \"bob\"",
            "role \"token_reader\" does not exist",
            "the token expired",
            "password=",
        ] {
            assert_eq!(hide(text, &[]), text);
        }
    }

    #[test]
    fn what_is_known_to_be_secret_is_hidden_wherever_it_stands() {
        let known = ["correct horse".to_owned(), String::new()];
        assert_eq!(
            hide("no \"correct horse\" here, correct horse", &known),
            "no \"[redacted]\" here, [redacted]"
        );
    }
}
