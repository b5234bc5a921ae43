//! What is told of the statements that are sent.

use super::trio::msg::{bind, execute, parse, query, sync};
use super::trio::{Trio, known, policy};
use crate::core::{Event, Policy, Told};

/// What is told of one session, as `Q text` or `P text`, with `!` where it is protected.
fn told(wanted: Told) -> Vec<String> {
    let policy = Policy {
        told: wanted,
        ..policy()
    };
    let mut trio = Trio::new(policy, known());
    trio.exchange(&query("plain 'a secret'"));
    trio.exchange(&query("enc 2 -- a secret"));
    let refused = [parse("s", "error"), bind("", "s"), sync()].concat();
    trio.exchange(&refused);
    // The server will skip the second: nobody knows that yet.
    trio.exchange(&[parse("t", "error"), parse("u", "enc 'skipped'"), sync()].concat());
    let twice = [parse("v", "enc 17"), bind("", "v"), execute("", 0)];
    trio.exchange(&[twice.concat(), bind("", "v"), execute("", 0), sync()].concat());
    let events = trio.events.into_iter();
    events
        .filter_map(|event| match event {
            Event::Statement(told) => {
                let kind = if told.is_prepared { 'P' } else { 'Q' };
                let mark = if told.protected.is_some() { " !" } else { "" };
                Some(format!("{kind} {}{mark}", told.text))
            }
            _ => None,
        })
        .collect()
}

#[test]
fn each_statement_is_told_of_once_and_without_its_values() {
    assert!(told(Told::None).is_empty());
    assert_eq!(
        told(Told::Protected),
        ["Q enc ? !", "P enc ? !", "P enc ? !"]
    );
    assert_eq!(
        told(Told::All),
        [
            "Q plain ?",
            "Q enc ? !",
            "P error",
            "P error",
            "P enc ? !",
            "P enc ? !"
        ]
    );
}
