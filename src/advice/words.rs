//! Filling the table's texts: what stands for `{data}`, what fits into an error box, and where
//! Chinese has its spaces.

use serde::Deserialize;

use super::clients;
use super::rule::Both;
use crate::catalog::HologresVersion;
use crate::config::Language;

/// Characters of a message, at most: what an error box shows.
pub(super) const MESSAGE_LIMIT: usize = 200;
/// What a message's texts may name.
pub(super) const MESSAGE: &[&str] = &["data", "key", "version", "subject"];
/// What a statement may name.
const STATEMENT: &[&str] = &["database", "key_id"];

/// Words around the texts: `[words]` and `[[not_retried]]`.
#[derive(Debug)]
pub(super) struct Words {
    pub(super) around: Around,
    pub(super) not_retried: Vec<Reason>,
}

impl Words {
    /// How many characters a message of these two texts has at least, whatever the names are.
    pub(super) fn shortest(&self, texts: [&str; 2], language: Language) -> usize {
        message(texts, Names::default(), &self.around, language)
            .chars()
            .count()
    }
}

/// `[words]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Around {
    pub(super) data_of: Both,
    pub(super) project: Both,
    pub(super) data: Both,
    pub(super) key_id: Both,
    pub(super) key: Both,
    pub(super) version: Both,
    pub(super) subject_project: Both,
    pub(super) subject: Both,
    pub(super) code: Both,
    pub(super) why: Both,
    pub(super) as_of: Both,
    pub(super) said: Both,
    pub(super) said_short: Both,
}

/// `[[not_retried]]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Reason {
    pub(super) label: String,
    pub(super) why: Both,
    #[cfg_attr(
        not(test),
        expect(dead_code, reason = "the pages are written by a test")
    )]
    pub(super) help: Both,
}

/// What there is to name in a message.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Names<'a> {
    pub(super) relation: Option<&'a str>,
    pub(super) project: Option<&'a str>,
    pub(super) key_id: Option<&'a str>,
    pub(super) version: Option<HologresVersion>,
}

/// The two texts of a message with the names in place: each in the fullest form with which the whole
/// still fits an error box. A name that holds a word which clients decide by is left out, too.
pub(super) fn message(
    texts: [&str; 2],
    names: Names<'_>,
    around: &Around,
    language: Language,
) -> String {
    let fill = |text: &Both, values: &[(&str, &str)]| fill(text.of(language), values, language);
    let mut data = Vec::new();
    if let Some(relation) = names.relation {
        if let Some(project) = names.project {
            let values = [("relation", relation), ("project", project)];
            data.push(fill(&around.data_of, &values));
        }
        data.push(relation.to_owned());
    }
    if let Some(project) = names.project {
        data.push(fill(&around.project, &[("project", project)]));
    }
    data.push(around.data.of(language).to_owned());
    let key: Vec<_> = names
        .key_id
        .map(|id| fill(&around.key_id, &[("key_id", id)]))
        .into_iter()
        .chain([around.key.of(language).to_owned()])
        .collect();
    let subject: Vec<_> = names
        .project
        .map(|project| fill(&around.subject_project, &[("project", project)]))
        .into_iter()
        .chain([around.subject.of(language).to_owned()])
        .collect();
    let version = names.version.map_or_else(
        || around.version.of(language).to_owned(),
        |version| version.to_string(),
    );

    let space = if language == Language::Chinese {
        ""
    } else {
        " "
    };
    let mut message = String::new();
    for data in &data {
        for key in &key {
            for subject in &subject {
                let values = [
                    ("data", data.as_str()),
                    ("key", key),
                    ("subject", subject),
                    ("version", &version),
                ];
                message = texts
                    .map(|text| self::fill(text, &values, language))
                    .join(space);
                let fits = message.chars().count() <= MESSAGE_LIMIT;
                if fits && clients::decide_by(&message).is_none() {
                    return message;
                }
            }
        }
    }
    message
}

/// `text` with each `{name}` replaced by its value, in one pass: a value that holds braces stays as
/// it is. In Chinese, a space goes between an ideograph and a Latin letter or digit where a value
/// meets its text, and nowhere else: a name is never changed.
pub(super) fn fill(text: &str, values: &[(&str, &str)], language: Language) -> String {
    let mut filled = String::with_capacity(text.len() + 64);
    let mut rest = text;
    while let Some((before, name, after)) = next_placeholder(rest) {
        filled.push_str(before);
        match values.iter().find(|(known, _)| *known == name) {
            Some((_, value)) => {
                let chinese = language == Language::Chinese;
                if chinese && needs_space(filled.chars().next_back(), value.chars().next()) {
                    filled.push(' ');
                }
                filled.push_str(value);
                if chinese && needs_space(value.chars().next_back(), after.chars().next()) {
                    filled.push(' ');
                }
            }
            None => filled.extend(["{", name, "}"]),
        }
        rest = after;
    }
    filled.push_str(rest);
    filled
}

/// The first `{name}` of a text, with what stands before and behind it.
fn next_placeholder(text: &str) -> Option<(&str, &str, &str)> {
    let (before, rest) = text.split_once('{')?;
    let (name, after) = rest.split_once('}')?;
    Some((before, name, after))
}

fn needs_space(left: Option<char>, right: Option<char>) -> bool {
    match (left, right) {
        (Some(left), Some(right)) => {
            (is_ideograph(left) && is_latin(right)) || (is_latin(left) && is_ideograph(right))
        }
        _ => false,
    }
}

fn is_ideograph(c: char) -> bool {
    ('\u{4e00}'..='\u{9fff}').contains(&c)
}

fn is_latin(c: char) -> bool {
    c.is_ascii_graphic()
}

fn is_full_width(c: char) -> bool {
    "，。：；！？（）、《》“”".contains(c)
}

/// Checks a text of the table.
///
/// # Errors
/// What is wrong with it, in words.
pub(super) fn check(text: &str, language: Language, placeholders: &[&str]) -> Result<(), String> {
    if text.trim().is_empty() {
        return Err("is empty".into());
    }
    if let Some(word) = clients::decide_by(text) {
        return Err(format!(
            "holds \"{word}\", a word that clients decide by; say it otherwise"
        ));
    }
    check_placeholders(text, placeholders)?;
    if language == Language::Chinese {
        check_chinese(text)?;
    }
    Ok(())
}

/// Checks that a text is one statement.
///
/// # Errors
/// What is wrong with it, in words.
pub(super) fn check_statement(text: &str) -> Result<(), String> {
    check(text, Language::English, STATEMENT)?;
    let body = text.strip_suffix(';').unwrap_or(text);
    if body.contains([';', '\n']) {
        return Err("expects one statement on one line".into());
    }
    Ok(())
}

fn check_placeholders(text: &str, known: &[&str]) -> Result<(), String> {
    let mut rest = text;
    while let Some((_, name, after)) = next_placeholder(rest) {
        if !known.contains(&name) {
            return Err(format!(
                "names {{{name}}}, which is not one of {{{}}}",
                known.join("}, {")
            ));
        }
        rest = after;
    }
    Ok(())
}

/// Spaces as Chinese is written: one between an ideograph and a Latin letter or digit, none beside
/// full-width punctuation, and none beside a placeholder, whose spaces are put when it is filled.
fn check_chinese(text: &str) -> Result<(), String> {
    let quoted = |c: char| matches!(c, '{' | '}' | '`' | '"' | '<' | '>' | '…' | '-');
    let chars: Vec<char> = text.chars().collect();
    for (at, pair) in chars.windows(2).enumerate() {
        let (left, right) = (pair[0], pair[1]);
        if needs_space(Some(left), Some(right)) && !quoted(left) && !quoted(right) {
            return Err(format!("needs a space between {left} and {right}"));
        }
        let latin_before = at > 0 && is_latin(chars[at - 1]);
        let too_many = (left == ' ' && (is_full_width(right) || right == '{' && !latin_before))
            || (right == ' ' && (is_full_width(left) || left == '}'));
        if too_many {
            return Err(format!("has a space too many in \"{left}{right}\""));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_get_their_spaces_and_keep_their_own_text() {
        let zh = |text, value| fill(text, &[("data", value)], Language::Chinese);
        assert_eq!(zh("无法读取{data}：加密", "a.b"), "无法读取 a.b：加密");
        assert_eq!(zh("无法读取{data}，加密", "该数据"), "无法读取该数据，加密");
        assert_eq!(zh("因为{data}已被", "key-1"), "因为 key-1 已被");
        assert_eq!(
            zh("读取{data}。", "销售.订单2024表"),
            "读取销售.订单2024表。"
        );
        assert_eq!(
            zh("读取{data}。", "x{data}y"),
            "读取 x{data}y。",
            "once only"
        );
        let en = |text, value| fill(text, &[("data", value)], Language::English);
        assert_eq!(en("read {data}: {other}", "订单"), "read 订单: {other}");
    }

    #[test]
    fn chinese_is_spaced_as_it_is_written() {
        for good in [
            "Hologres 无法读取{data}：其数据已加密（BYOK）。",
            "最多 24 小时",
            "执行 `SET a;` 后",
        ] {
            assert_eq!(check(good, Language::Chinese, MESSAGE), Ok(()), "{good}");
        }
        for bad in [
            "因为KMS 密钥",
            "byok ，因为",
            "读取 {data}",
            "最多24 小时",
            "（ BYOK）",
        ] {
            assert!(check(bad, Language::Chinese, MESSAGE).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_hint_is_one_statement() {
        assert_eq!(check_statement("SET a = 1;"), Ok(()));
        assert_eq!(
            check_statement("ALTER DATABASE {database} SET a = 1;"),
            Ok(())
        );
        for wrong in [
            "SET a = 1; SET b = 2;",
            "SET a = 1;\nSHOW a;",
            "SET {data} = 1;",
            "",
            "QueryID: 1",
        ] {
            assert!(check_statement(wrong).is_err(), "{wrong}");
        }
    }
}
