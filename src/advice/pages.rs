//! docs/errors.md and docs/zh/errors.md, written from the table.
//!
//! `cargo test --lib advice::pages -- --ignored` writes them anew.

use std::fmt::Write as _;
use std::path::PathBuf;

use super::tests::{advised, advised_each, example_error};
use super::*;
use crate::config::Language;

/// The page's beginning and the words around the rules.
struct Words {
    file: &'static str,
    intro: &'static str,
    why: &'static str,
    did: &'static str,
    help: &'static str,
    vendor: &'static str,
    offered: &'static str,
    advised: &'static str,
    elsewhere: &'static str,
    not_retried: &'static str,
}

fn words(language: Language) -> Words {
    match language {
        Language::English => Words {
            file: "docs/errors.md",
            intro: include_str!("pages/errors.md"),
            why: "**Cause.**",
            did: "**What Osprey did.**",
            help: "**What to do.**",
            vendor: "[The vendor's page]",
            offered: "It forwarded the error with this advice. The setting and a second run cure it: \
                      Osprey does so where an operator has named the code in `route.retry_rules`.",
            advised: "It forwarded the error with this advice.",
            elsewhere: "The same in JDBC, and in a BI tool's box",
            not_retried: "# Why a statement was not run again\n\n\
                          | in DETAIL | label in logs and metrics | what would let Osprey run it again |\n\
                          |---|---|---|\n",
        },
        Language::Chinese => Words {
            file: "docs/zh/errors.md",
            intro: include_str!("pages/errors.zh.md"),
            why: "**原因**：",
            did: "**Osprey 做了什么**：",
            help: "**如何处理**：",
            vendor: "[官方文档]",
            offered: "转发了该错误，并附上以上建议。设置该参数并再次执行即可解决；运维人员在 `route.retry_rules` 中写入该错误码后，Osprey 会自行完成。",
            advised: "转发了该错误，并附上以上建议。",
            elsewhere: "JDBC 和 BI 工具的错误框中的显示",
            not_retried: "# 语句为什么没有被重新执行\n\n\
                          | DETAIL 中的文字 | 日志和指标中的标签 | 怎样才能让 Osprey 重新执行 |\n\
                          |---|---|---|\n",
        },
    }
}

/// A box of at most 60 characters a line, as programs with windows show an error.
fn boxed(text: &str) -> String {
    let width = |c: char| if c.is_ascii() { 1 } else { 2 };
    let mut lines = Vec::new();
    for paragraph in text.lines() {
        let mut line = String::new();
        let mut used = 0;
        for word in paragraph.split_inclusive(' ') {
            let length: usize = word.chars().map(width).sum();
            if used + length > 60 && used > 0 {
                lines.push(std::mem::take(&mut line));
                used = 0;
            }
            for c in word.chars() {
                if used + width(c) > 60 {
                    lines.push(std::mem::take(&mut line));
                    used = 0;
                }
                line.push(c);
                used += width(c);
            }
        }
        lines.push(line);
    }
    let edge = format!("+{}+\n", "-".repeat(62));
    let rows = lines.iter().map(|line| {
        let line = line.trim_end();
        let used: usize = line.chars().map(width).sum();
        format!("| {line}{} |\n", " ".repeat(60 - used))
    });
    format!("{edge}{}{edge}", rows.collect::<String>())
}

/// As pgjdbc's `getMessage()` has it.
fn as_jdbc(advice: &Advice<'_>) -> String {
    let mut text = format!("ERROR: {}\n  Detail: {}", advice.message, advice.detail);
    if let Some(hint) = &advice.hint {
        let _ = write!(text, "\n  Hint: {hint}");
    }
    text.push('\n');
    text
}

/// As psql shows it; and, folded away, as JDBC and a box do.
fn in_three_forms(advice: &Advice<'_>, elsewhere: &str) -> String {
    let jdbc = as_jdbc(advice);
    format!(
        "```\n{advice}```\n\n<details><summary>{elsewhere}</summary>\n\n```\n{jdbc}```\n\n\
         ```\n{}```\n\n</details>\n\n",
        boxed(&jdbc)
    )
}

/// A text behind its label; English is broken anew into lines of at most 100 characters, and a list
/// behind the first paragraph stays as it is.
fn paragraph(label: &str, text: &str, language: Language) -> String {
    let (first, list) = match text.trim().split_once("\n\n") {
        Some((first, list)) => (first, format!("\n\n{list}")),
        None => (text.trim(), String::new()),
    };
    if language == Language::Chinese {
        return format!("{label}{first}{list}");
    }
    let mut lines = vec![label.to_owned()];
    for word in first.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= 100 => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    format!("{}{list}", lines.join("\n"))
}

fn page(language: Language) -> String {
    let rules = Rules::in_force();
    let words = words(language);
    let mut sorted: Vec<_> = rules.iter().collect();
    sorted.sort_by_key(|rule| rule.code());
    let first = advised(sorted[0], language);
    let mut page = words
        .intro
        .replace("{psql}", &first.to_string())
        .replace("{jdbc}", &as_jdbc(&first))
        .replace("{box}", &boxed(&as_jdbc(&first)));
    for rule in sorted {
        let story = rule.story.as_ref().expect("Osprey's own rules have one");
        let did = match (&story.did, rule.cure) {
            (Some(did), _) => did.of(language).trim(),
            (None, Cure::Offered) => words.offered,
            (None, _) => words.advised,
        };
        let code = rule.code();
        let title = rule.title(language);
        let shown: String = advised_each(rule, language)
            .iter()
            .map(|advice| in_three_forms(advice, words.elsewhere))
            .collect();
        let _ = write!(
            page,
            "\n## {code}\n\n**{title}**\n\n{shown}{}\n\n{}\n\n{}\n\n{}({})\n",
            paragraph(words.why, story.why.of(language), language),
            paragraph(words.did, did, language),
            paragraph(words.help, story.help.of(language), language),
            words.vendor,
            rule.vendor(),
        );
    }
    page.push('\n');
    page.push_str(words.not_retried);
    for why in &rules.words().not_retried {
        let _ = writeln!(
            page,
            "| {} | `{}` | {} |",
            why.why.of(language),
            why.label,
            why.help.of(language)
        );
    }
    page
}

fn path(language: Language) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(words(language).file)
}

#[test]
fn the_pages_are_those_of_the_table() {
    for language in [Language::English, Language::Chinese] {
        let kept = std::fs::read_to_string(path(language)).unwrap_or_default();
        assert!(
            kept == page(language),
            "{} is stale: write it anew with cargo test --lib advice::pages -- --ignored",
            path(language).display()
        );
    }
}

#[test]
#[ignore = "writes the pages anew"]
fn write_the_pages() {
    for language in [Language::English, Language::Chinese] {
        let path = path(language);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, page(language)).unwrap();
    }
}

#[test]
fn both_pages_have_the_same_structure() {
    let headings = |language| -> Vec<_> {
        page(language)
            .lines()
            .filter(|line| line.starts_with("## "))
            .map(ToOwned::to_owned)
            .collect()
    };
    let english: Vec<String> = headings(Language::English);
    assert_eq!(english, headings(Language::Chinese));
    assert_eq!(english.len(), Rules::in_force().iter().count());
    assert!(
        Rules::in_force()
            .iter()
            .all(|rule| !example_error(rule).is_empty())
    );
}
