//! Which decision a name carries, by which search path names resolve, and how texts are read.

use super::route::{sets, trio};
use super::trio::msg::{bind, close, copy_data, copy_done, execute, extended, parse, query, sync};
use super::trio::{Trio, known, policy};
use crate::core::Policy;
use crate::protection::Backslash;

#[test]
fn a_late_answer_does_not_make_a_newer_portal_unknown() {
    let mut trio = trio();
    trio.client(&query("plain"));
    trio.frontend(usize::MAX);
    trio.client(&[parse("", "copyin"), bind("", "")].concat());
    trio.frontend(usize::MAX);
    // The answer to the first cycle comes between Bind and Execute of the second.
    trio.server();
    trio.backward(usize::MAX);
    trio.client(
        &[
            execute("", 0),
            copy_data("bad"),
            copy_done(),
            sync(),
            query("enc"),
        ]
        .concat(),
    );
    trio.frontend(usize::MAX);
    let mut seen = trio.seen();
    trio.settle();
    seen.extend(trio.seen());
    let tail = [
        "1",
        "2",
        "G",
        "E 22P02",
        "Z I",
        "T",
        "D row 0",
        "C SELECT 1",
        "Z I",
    ];
    assert_eq!(seen[seen.len() - tail.len()..], tail);
}

#[test]
fn a_decision_belongs_to_the_parse_that_succeeded() {
    let mut trio = trio();
    trio.exchange(&[parse("s", "plain"), sync()].concat());
    // The name is taken: this Parse fails, and `s` stays what it was.
    assert_eq!(
        trio.exchange(&[parse("s", "fail"), sync()].concat()),
        ["E 42P05", "Z I"]
    );
    trio.exchange(&[close('S', "s"), parse("s", "enc"), sync()].concat());
    let seen = trio.exchange(&[bind("", "s"), execute("", 0), sync()].concat());
    assert_eq!(seen, ["2", "D row 0", "C SELECT 1", "Z I"]);
}

#[test]
fn of_several_parses_of_a_name_on_their_way_any_may_be_the_one_that_succeeds() {
    let policy = Policy {
        per_statement: true,
        ..policy()
    };
    let mut trio = Trio::new(policy, known());
    // The second Parse fails, since the name is taken, and takes what is behind it up to the Sync with it.
    let taken = [parse("b", "enc"), parse("b", "open")].concat();
    let skipped = [query("enc"), extended("open"), sync()].concat();
    let seen = trio.exchange(&[taken, skipped, query("execute b")].concat());
    assert_eq!(
        seen,
        ["1", "E 42P05", "Z I", "T", "D row 0", "C SELECT 1", "Z I"]
    );
}

#[test]
fn a_search_path_lasts_as_long_as_its_transaction_says() {
    // By which path the last statement was decided, once all before it was answered.
    let path = |sent: &[Vec<u8>]| {
        let mut trio = trio();
        for bytes in sent {
            trio.exchange(bytes);
        }
        trio.exchange(&query("mine"));
        trio.world.paths.take().pop().unwrap()
    };
    let set = || query("path ext");
    assert_eq!(path(&[set()]), "ext");
    assert_eq!(path(&[[extended("path ext"), sync()].concat()]), "ext");
    assert_eq!(path(&[[set(), query("path pub")].concat()]), "pub");
    assert_eq!(path(&[query("begin"), set()]), "ext");
    assert_eq!(path(&[query("begin"), set(), query("rollback")]), "pub");
    assert_eq!(path(&[query("begin"), set(), query("commit")]), "ext");
    let undone = ["begin", "savepoint", "path ext", "rollback to", "commit"];
    assert_eq!(path(&undone.map(query)), "pub");
    // The COMMIT of a transaction that has failed is a ROLLBACK.
    let failed = ["begin", "path ext", "fail", "commit"];
    assert_eq!(path(&failed.map(query)), "pub");
    let pipeline = ["begin", "path ext", "rollback"].map(extended).concat();
    assert_eq!(path(&[[pipeline, sync()].concat()]), "pub");
    let pipeline = ["path ext", "fail"].map(extended).concat();
    assert_eq!(path(&[[pipeline, sync()].concat()]), "pub");
    // A BEGIN goes on with what its own cycle has begun.
    let pipeline = ["path ext", "begin"].map(extended).concat();
    assert_eq!(
        path(&[[pipeline, sync()].concat(), query("rollback")]),
        "pub"
    );
    assert_eq!(path(&[query("path ext; fail")]), "pub");
    assert_eq!(path(&[query("path ext; begin; fail; commit")]), "?");
    assert_eq!(path(&[set(), query("discard all")]), "pub");
}

#[test]
fn what_is_in_flight_may_lead_elsewhere() {
    // Nothing is answered while the read is sent: both paths are possible.
    let mut trio = trio();
    trio.client(&[query("path ext"), query("mine")].concat());
    trio.settle_frontend();
    trio.settle();
    assert_eq!(sets(&trio), 1);
    // Once it is answered, only the new one is.
    trio.exchange(&query("path pub"));
    trio.world.paths.take();
    trio.exchange(&query("mine"));
    assert_eq!(trio.world.paths.take(), ["pub"]);
    // A statement that was prepared under another path is decided anew.
    let mut trio = self::trio();
    trio.exchange(&[parse("s", "mine"), sync()].concat());
    trio.exchange(&query("path ext"));
    let seen = trio.exchange(&[bind("", "s"), execute("", 0), sync()].concat());
    assert_eq!(seen, ["2", "D row 0", "C SELECT 1", "Z I"]);
    assert_eq!(sets(&trio), 1);
}

#[test]
fn what_prepare_has_made_is_decided_when_it_is_executed() {
    let mut trio = trio();
    trio.exchange(&query("prepare s mine"));
    assert_eq!(sets(&trio), 0);
    trio.exchange(&query("path ext"));
    let seen = trio.exchange(&query("execute s"));
    assert_eq!(seen, ["T", "D row 0", "C SELECT 1", "Z I"]);
    assert_eq!(sets(&trio), 1);
    // Sent together with what leads elsewhere, and with the PREPARE itself.
    let mut trio = self::trio();
    trio.exchange(&query("prepare s enc; execute s"));
    assert_eq!(sets(&trio), 1);
    for used in [
        extended("execute s"),
        [bind("", "s"), execute("", 0)].concat(),
    ] {
        let mut trio = self::trio();
        trio.client(&[query("prepare s enc"), used, sync()].concat());
        trio.settle_frontend();
        trio.settle();
        assert_eq!(sets(&trio), 1);
    }
}

#[test]
fn what_leads_elsewhere_in_front_of_an_execute_counts_for_it() {
    let prepared = [
        query("prepare s mine"),
        [parse("s", "mine"), sync()].concat(),
    ];
    let path = || query("path ext");
    let bound = || [bind("", "s"), execute("", 0), sync()].concat();
    for prepared in prepared {
        let together = [prepared.clone(), path(), bound()].concat();
        for (first, then) in [
            (prepared.clone(), query("path ext; execute s")),
            (
                prepared.clone(),
                query("begin; path ext; execute s; commit"),
            ),
            (prepared, [path(), bound()].concat()),
            (Vec::new(), together),
        ] {
            let mut trio = trio();
            trio.client(&first);
            trio.settle_frontend();
            trio.settle();
            assert_eq!(sets(&trio), 0);
            trio.client(&then);
            trio.settle_frontend();
            trio.settle();
            assert_eq!(sets(&trio), 1, "{:?}", String::from_utf8_lossy(&then));
        }
    }
}

/// Encrypted, if it was parsed while `standard_conforming_strings` was off.
const ESCAPED: &str = r"\'";

/// The session, before a server that reports parameters at once or late.
fn trios() -> [Trio; 2] {
    let mut late = trio();
    late.backend.reports_late = true;
    [trio(), late]
}

#[test]
fn texts_are_read_as_the_server_reports_it() {
    // How the last text was read, once all before it was answered.
    let lexing = |sent: &[Vec<u8>]| {
        let each = trios().map(|mut trio| {
            for bytes in sent {
                trio.exchange(bytes);
            }
            trio.world.lexings.take();
            trio.exchange(&query(ESCAPED));
            let lexings = trio.world.lexings.take();
            assert_eq!(lexings.len(), 1, "{lexings:?}");
            lexings[0].backslash
        });
        assert_eq!(each[0], each[1]);
        each[0]
    };
    let set = || query("quotes off");
    assert_eq!(lexing(&[]), Backslash::Plain);
    assert_eq!(lexing(&[set()]), Backslash::Escapes);
    assert_eq!(
        lexing(&[[extended("quotes off"), sync()].concat()]),
        Backslash::Escapes
    );
    assert_eq!(lexing(&[query("begin"), set()]), Backslash::Escapes);
    assert_eq!(
        lexing(&[query("begin"), set(), query("rollback")]),
        Backslash::Plain
    );
    let undone = ["begin", "savepoint", "quotes off", "rollback to", "commit"];
    assert_eq!(lexing(&undone.map(query)), Backslash::Plain);
    assert_eq!(lexing(&[query("quotes off; fail")]), Backslash::Plain);
    assert_eq!(lexing(&[set(), query("discard all")]), Backslash::Plain);
    // Whatever its statements have said.
    let mut trio = trio();
    trio.backend.quotes("off");
    trio.exchange(&query("plain"));
    assert_eq!(
        trio.exchange(&query(ESCAPED)),
        ["T", "D row 0", "C SELECT 1", "Z I"]
    );
}

#[test]
fn what_is_in_flight_may_be_read_otherwise() {
    for parameter in ["quotes off", "begin; quotes off", "discard all; quotes off"] {
        for mut trio in trios() {
            trio.client(&[query(parameter), query(ESCAPED)].concat());
            trio.settle_frontend();
            trio.settle();
            assert_eq!(sets(&trio), 1, "{parameter}");
        }
    }
    for mut trio in trios() {
        let pipeline = [extended("quotes off"), extended(ESCAPED), sync()];
        let seen = trio.exchange(&pipeline.concat());
        assert_eq!(seen.last().map(String::as_str), Some("Z I"));
        assert!(!seen.contains(&"E XX000".to_owned()), "{seen:?}");
        // Other texts are read in one way, whatever is in flight.
        trio.world.lexings.take();
        trio.client(&[query("quotes on"), query("plain")].concat());
        trio.settle_frontend();
        let lexings = trio.world.lexings.take();
        assert!(lexings.iter().all(|lexing| *lexing == lexings[0]));
        trio.settle();
    }
}

#[test]
fn of_a_text_that_fails_any_prepare_may_hold() {
    // The second PREPARE fails, and the first has made the statement all the same.
    let prepares = query("prepare b enc; prepare b plain");
    let executes = query("execute b");
    for at_once in [false, true] {
        let mut trio = trio();
        let seen = if at_once {
            trio.exchange(&[prepares.clone(), executes.clone()].concat())
        } else {
            trio.exchange(&prepares);
            trio.exchange(&executes)
        };
        assert_eq!(seen[seen.len() - 3..], ["D row 0", "C SELECT 1", "Z I"]);
    }
}

#[test]
fn a_prepared_statement_stays_read_as_it_was_parsed() {
    for mut trio in trios() {
        trio.exchange(&query("quotes off"));
        trio.exchange(&[parse("s", ESCAPED), sync()].concat());
        trio.exchange(&query("quotes on"));
        trio.exchange(&[parse("t", ESCAPED), sync()].concat());
        // Each is decided anew.
        trio.exchange(&query("path ext"));
        for (name, backslash) in [("t", Backslash::Plain), ("s", Backslash::Escapes)] {
            trio.world.lexings.take();
            let seen = trio.exchange(&[bind("", name), execute("", 0), sync()].concat());
            assert_eq!(seen[2..], ["C SELECT 1", "Z I"]);
            let lexings = trio.world.lexings.take();
            assert!(lexings.iter().all(|lexing| lexing.backslash == backslash));
            assert!(!lexings.is_empty());
        }
    }
}

#[test]
fn a_text_sent_before_is_decided_anew_only_if_something_has_changed() {
    let mut trio = trio();
    let long = |word: &str| format!("{word}{}", " ".repeat(200));
    let times_decided = |trio: &mut Trio, bytes: &[u8]| {
        trio.world.paths.take();
        trio.exchange(bytes);
        trio.world.paths.take().len()
    };
    let plain = query(&long("plain"));
    assert_eq!(times_decided(&mut trio, &plain), 1);
    assert_eq!(times_decided(&mut trio, &plain), 0);
    let parsed = [parse("", &long("plain")), bind("", ""), sync()].concat();
    assert_eq!(times_decided(&mut trio, &parsed), 0);
    // Another session's DDL, and the session's own doing.
    trio.world.generation += 1;
    assert_eq!(times_decided(&mut trio, &plain), 1);
    trio.exchange(&query("path ext"));
    assert_eq!(times_decided(&mut trio, &plain), 1);
    assert_eq!(times_decided(&mut trio, &plain), 0);
    // A few are remembered.
    let others = ["begin", "commit", "open", "rollback"].map(|word| query(&long(word)));
    for (count, other) in others.iter().enumerate() {
        assert_eq!(times_decided(&mut trio, other), 1);
        let forgotten = usize::from(count == 3);
        assert_eq!(
            times_decided(&mut trio, &plain),
            forgotten,
            "behind {count}"
        );
    }
    // A short one is not worth it.
    assert_eq!(times_decided(&mut trio, &query("plain")), 1);
    assert_eq!(times_decided(&mut trio, &query("plain")), 1);
}

/// A Parse or Close of the unnamed statement behind an error is skipped: it is there as before.
#[test]
fn what_is_skipped_leaves_the_unnamed_statement_as_it_was() {
    let run = |portal: &str| [bind("", portal), execute("", 0), sync()].concat();
    let mut trio = trio();
    trio.exchange(&[parse("", "plain"), sync()].concat());
    trio.exchange(&[parse("n", "selekt"), close('S', ""), sync()].concat());
    // A SET as a Query would destroy it.
    trio.exchange(&[parse("e", "enc"), run("e")].concat());
    assert_eq!(sets(&trio), 1);
    assert_eq!(
        trio.exchange(&run("")),
        ["2", "D plain", "C SELECT 1", "Z I"]
    );

    let mut trio = self::trio();
    trio.exchange(&[parse("", "enc"), sync()].concat());
    trio.exchange(&[parse("n", "selekt"), parse("", "plain"), sync()].concat());
    assert_eq!(
        trio.exchange(&run("")),
        ["2", "D row 0", "C SELECT 1", "Z I"]
    );
    assert_eq!(sets(&trio), 1);
}
