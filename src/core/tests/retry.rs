//! Running a statement again: the client sees one clean result, or the error with its reason.

use super::route::sets;
use super::trio::msg::{
    bind, close, copy_data, copy_done, describe, execute, extended, parse, query, sync,
};
use super::trio::{Trio, known, policy, unknown};
use crate::advice::NotRetried;
use crate::core::{Cure, Event, Policy};

fn retries() -> Policy {
    Policy {
        retry_buffer: Some(1 << 16),
        ..policy()
    }
}

fn in_statement_scope() -> Policy {
    Policy {
        per_statement: true,
        ..retries()
    }
}

fn trio() -> Trio {
    Trio::new(retries(), unknown())
}

fn retried(trio: &Trio) -> usize {
    let retried = |event: &&Event| matches!(event, Event::Retried { .. });
    trio.events.iter().filter(retried).count()
}

#[test]
fn a_simple_query_is_run_again() {
    let mut trio = trio();
    assert_eq!(
        trio.exchange(&query("enc 2")),
        ["T", "D row 0", "D row 1", "C SELECT 2", "Z I"]
    );
    assert_eq!(retried(&trio), 1);
}

#[test]
fn in_statement_scope_what_was_steered_before_takes_no_second_run_away() {
    let rows = ["T", "D row 0", "C SELECT 1", "Z I"];
    let in_block = ["T", "D row 0", "C SELECT 1", "Z T"];
    let mut trio = Trio::new(in_statement_scope(), unknown());
    for runs in 1..=3 {
        assert_eq!(trio.exchange(&query("enc")), rows);
        assert_eq!(retried(&trio), runs);
        trio.exchange(&query("plain"));
    }
    trio.exchange(&query("begin"));
    assert_eq!(trio.exchange(&query("enc")), in_block);
    assert_eq!(trio.exchange(&query("commit")), ["C COMMIT", "Z I"]);
    assert_eq!(
        trio.exchange(&[extended("enc"), sync()].concat())[2..],
        ["D row 0", "C SELECT 1", "Z I"]
    );
}

#[test]
fn in_statement_scope_a_transaction_that_was_steered_is_run_again_as_a_whole() {
    // What was known to be encrypted is not known any more.
    let mut trio = Trio::new(in_statement_scope(), known());
    trio.exchange(&query("begin"));
    trio.exchange(&query("enc"));
    trio.world.known = false;
    assert_eq!(
        trio.exchange(&query("enc 2")),
        ["T", "D row 0", "D row 1", "C SELECT 2", "Z T"]
    );
    assert_eq!(retried(&trio), 1);
    assert_eq!(trio.exchange(&query("commit")), ["C COMMIT", "Z I"]);
}

#[test]
fn a_sync_that_a_copy_eats_is_no_cycle_in_front_of_it() {
    let mut trio = trio();
    let data = [copy_data("x"), sync(), copy_data("y"), copy_done()].concat();
    trio.client(&[query("copyin"), data, query("enc")].concat());
    // All of it is sent before the server has asked for data.
    while trio.frontend(usize::MAX) {}
    trio.settle();
    assert_eq!(
        trio.seen(),
        ["G", "C COPY 1", "Z I", "T", "D row 0", "C SELECT 1", "Z I"]
    );
    assert_eq!(
        trio.exchange(&query("plain")),
        ["T", "D plain", "C SELECT 1", "Z I"]
    );
}

#[test]
fn what_the_client_already_has_is_not_sent_twice() {
    let mut trio = trio();
    let bytes = [
        parse("s", "enc"),
        describe('S', "s"),
        bind("c", "s"),
        describe('P', "c"),
        execute("c", 0),
        sync(),
    ];
    let seen = trio.exchange(&bytes.concat());
    assert_eq!(
        seen,
        ["1", "t", "T", "2", "T", "D row 0", "C SELECT 1", "Z I"]
    );
    assert_eq!(retried(&trio), 1);
    // The named statement is still there, once.
    let seen = trio.exchange(&[bind("", "s"), execute("", 0), sync()].concat());
    assert_eq!(seen, ["2", "D row 0", "C SELECT 1", "Z I"]);
}

#[test]
fn a_transaction_that_the_cycle_opened_is_begun_again() {
    // JDBC with autocommit off and a fetch size.
    let mut trio = trio();
    let bytes = [
        extended("begin"),
        parse("", "enc 3"),
        bind("c", ""),
        describe('P', "c"),
        execute("c", 2),
        sync(),
    ];
    let seen = trio.exchange(&bytes.concat());
    assert_eq!(
        seen,
        [
            "1", "2", "C BEGIN", "1", "2", "T", "D row 0", "D row 1", "s", "Z T"
        ]
    );
    let seen = trio.exchange(&[execute("c", 2), sync()].concat());
    assert_eq!(seen, ["D row 2", "C SELECT 1", "Z T"]);
}

#[test]
fn a_pipelined_successor_waits_and_is_answered_in_order() {
    let mut trio = trio();
    let bytes = [query("enc"), query("write"), extended("plain"), sync()];
    let seen = trio.exchange(&bytes.concat());
    assert_eq!(
        seen,
        [
            "T",
            "D row 0",
            "C SELECT 1",
            "Z I",
            "C INSERT 0 1",
            "Z I",
            "1",
            "2",
            "D plain",
            "C SELECT 1",
            "Z I"
        ]
    );
    assert_eq!(retried(&trio), 1);
}

#[test]
fn several_reads_in_one_query_are_run_again_together() {
    let mut trio = trio();
    assert_eq!(
        trio.exchange(&query("begin; enc; commit")),
        ["C BEGIN", "T", "D row 0", "C SELECT 1", "C COMMIT", "Z I"]
    );
}

#[test]
fn after_a_row_has_left_it_is_not_run_again() {
    for sent in [query("half"), query("plain; half"), query("begin; half")] {
        let mut trio = trio();
        assert!(trio.exchange(&sent).contains(&"E XX000".to_owned()));
        assert_eq!(trio.last_refusal(), Some(NotRetried::RowsSent));
    }
    let mut trio = trio();
    let seen = trio.exchange(&[extended("plain"), extended("half"), sync()].concat());
    assert_eq!(
        seen.last_chunk(),
        Some(&["D row 0".into(), "E XX000".into(), "Z I".to_owned()])
    );
    assert_eq!(trio.last_refusal(), Some(NotRetried::RowsSent));
}

#[test]
fn rows_of_the_statements_before_it_are_compared() {
    let mut trio = trio();
    assert_eq!(
        trio.exchange(&query("plain; enc")),
        [
            "T",
            "D plain",
            "C SELECT 1",
            "T",
            "D row 0",
            "C SELECT 1",
            "Z I"
        ]
    );
    assert_eq!(retried(&trio), 1);
}

#[test]
fn what_writes_is_not_run_again() {
    let mut trio = trio();
    let seen = trio.exchange(&query("write; enc"));
    assert_eq!(seen, ["C INSERT 0 1", "E XX000", "Z I"]);
    assert_eq!(trio.last_refusal(), Some(NotRetried::Writes));
    assert_eq!(
        trio.backend
            .ran
            .iter()
            .filter(|ran| *ran == "write")
            .count(),
        1
    );
}

#[test]
fn a_begin_without_a_sync_is_run_again_too() {
    // pgjdbc with autosave: BEGIN without Sync, a simple SAVEPOINT, and at once the read.
    let mut trio = trio();
    let bytes = [
        extended("begin"),
        query("savepoint"),
        extended("enc"),
        sync(),
    ];
    let seen = trio.exchange(&bytes.concat());
    assert_eq!(
        seen,
        [
            "1",
            "2",
            "C BEGIN",
            "C SAVEPOINT",
            "Z T",
            "1",
            "2",
            "D row 0",
            "C SELECT 1",
            "Z T"
        ]
    );
    assert_eq!(retried(&trio), 1);
}

#[test]
fn a_read_that_a_query_follows_without_a_sync_shows_its_error_at_once() {
    let mut trio = trio();
    let seen = trio.exchange(&[extended("enc"), query("plain")].concat());
    assert_eq!(seen, ["1", "2", "E XX000"]);
    assert_eq!(trio.exchange(&sync()), ["Z I"]);
    assert_eq!(
        trio.exchange(&query("plain")),
        ["T", "D plain", "C SELECT 1", "Z I"]
    );
}

#[test]
fn the_sync_that_a_failed_pipeline_needs_is_never_held_back() {
    for text in ["enc", "open", "plain"] {
        let mut trio = trio();
        let bytes = [extended("fail"), query(text), extended("plain"), sync()];
        assert_eq!(trio.exchange(&bytes.concat()), ["1", "2", "E 22012", "Z I"]);
    }
}

#[test]
fn nor_behind_a_second_query() {
    let mut trio = trio();
    let bytes = [
        extended("fail"),
        query("begin"),
        query("enc"),
        query("plain"),
        sync(),
    ];
    assert_eq!(trio.exchange(&bytes.concat()), ["1", "2", "E 22012", "Z I"]);
}

#[test]
fn a_write_that_stands_alone_is_run_again_and_takes_effect_once() {
    let mut trio = trio();
    assert_eq!(trio.exchange(&query("take")), ["C INSERT 0 1", "Z I"]);
    assert_eq!((retried(&trio), trio.backend.taken), (1, 1));
    let mut trio = self::trio();
    assert_eq!(
        trio.exchange(&[extended("take"), sync()].concat()),
        ["1", "2", "C INSERT 0 1", "Z I"]
    );
    assert_eq!((retried(&trio), trio.backend.taken), (1, 1));
}

#[test]
fn a_write_among_others_is_not_run_again() {
    let several = [
        query("begin; take"),
        query("take; plain"),
        [extended("plain"), extended("take"), sync()].concat(),
        [extended("take"), extended("take"), sync()].concat(),
        [query("begin"), query("take")].concat(),
    ];
    for sent in several {
        let mut trio = trio();
        assert!(trio.exchange(&sent).contains(&"E XX000".to_owned()));
        assert_eq!(trio.last_refusal(), Some(NotRetried::Writes));
        assert_eq!(retried(&trio), 0);
    }
}

#[test]
fn a_write_is_not_run_again_before_its_cycle_is_complete() {
    for sent in [
        extended("take"),
        [extended("write"), extended("enc")].concat(),
    ] {
        let mut trio = trio();
        assert!(trio.exchange(&sent).contains(&"E XX000".to_owned()));
        assert_eq!(retried(&trio), 0);
    }
}

#[test]
fn writes_are_left_alone_where_the_operator_says_so() {
    let policy = Policy {
        retry_buffer: Some(1 << 16),
        retry_writes: false,
        ..policy()
    };
    let mut trio = Trio::new(policy, unknown());
    assert_eq!(trio.exchange(&query("take")), ["E XX000", "Z I"]);
    assert_eq!(trio.last_refusal(), Some(NotRetried::Writes));
    assert_eq!(trio.exchange(&query("enc")).len(), 4);
}

#[test]
fn what_a_failed_write_has_left_behind_is_said_with_the_first_error() {
    let mut trio = trio();
    trio.backend.leaves = true;
    assert_eq!(trio.exchange(&query("take")), ["E XX000", "Z I"]);
    assert_eq!(trio.last_refusal(), Some(NotRetried::LeftBehind));
    assert!(!trio.world.ever_was_set.get());
    assert_eq!(retried(&trio), 1);
    assert_eq!(trio.backend.taken, 0);
}

/// A notice is another one in each run (`QueryID: …`), and no part of what is compared: a write must not
/// be done and the client told that it failed.
#[test]
fn notices_do_not_keep_what_failed_from_being_run_again() {
    for sent in [query("take"), [extended("take"), sync()].concat()] {
        let mut trio = trio();
        trio.backend.chatty = true;
        let seen = trio.exchange(&sent);
        let notices = seen.iter().filter(|answer| answer.starts_with('N'));
        assert_eq!(notices.count(), 2, "{seen:?}");
        assert_eq!(seen[seen.len() - 2..], ["C INSERT 0 1", "Z I"]);
        assert_eq!((retried(&trio), trio.backend.taken), (1, 1));
    }
    let mut trio = trio();
    trio.backend.chatty = true;
    trio.exchange(&query("begin"));
    trio.exchange(&query("plain"));
    let seen = trio.exchange(&query("enc 2"));
    assert!(seen.contains(&"D row 1".to_owned()), "{seen:?}");
    // One that is the same in both runs comes once.
    let mut trio = self::trio();
    trio.exchange(&query("begin"));
    trio.exchange(&query("warn"));
    let seen = trio.exchange(&query("enc 2"));
    assert!(seen.contains(&"D row 1".to_owned()), "{seen:?}");
    assert!(
        !seen.iter().any(|answer| answer.starts_with('N')),
        "{seen:?}"
    );
}

#[test]
fn another_setting_cures_where_the_operator_lets_it() {
    for sent in [query("enc 2"), [extended("enc 2"), sync()].concat()] {
        let mut trio = trio();
        trio.world.cure = Cure::Setting("SET cure = on".into());
        let seen = trio.exchange(&sent);
        assert!(seen.contains(&"D row 1".to_owned()), "{seen:?}");
        assert_eq!(retried(&trio), 1);
        // The route is as it was.
        assert_eq!(sets(&trio), 0);
        // It stays for the session.
        trio.exchange(&query("enc"));
        assert_eq!(retried(&trio), 1);
    }
    // A setting that is refused leaves the first error.
    let mut trio = trio();
    trio.world.cure = Cure::Setting("selekt".into());
    assert_eq!(trio.exchange(&query("enc")), ["E XX000", "Z I"]);
    assert_eq!(retried(&trio), 1);
}

#[test]
fn what_was_planned_on_hqe_is_planned_anew() {
    // Prepared and run while nothing was known, then learned from another statement.
    for (first, again) in [
        (
            [parse("s", "half"), bind("", "s"), execute("", 0), sync()].concat(),
            [bind("", "s"), execute("", 0), sync()].concat(),
        ),
        (
            [query("prepare s half"), query("execute s")].concat(),
            query("execute s"),
        ),
    ] {
        let mut trio = trio();
        trio.backend.plans_choose = true;
        assert!(trio.exchange(&first).contains(&"E XX000".to_owned()));
        assert_eq!(trio.last_refusal(), Some(NotRetried::RowsSent));
        trio.world.known = true;
        trio.world.generation += 1;
        let seen = trio.exchange(&again);
        assert!(seen.contains(&"D row 1".to_owned()), "{seen:?}");
        assert!(trio.events.contains(&Event::Replanned(true)));
    }
}

#[test]
fn where_plans_are_not_discarded_the_statement_is_parsed_again() {
    let run = || [bind("", "s"), execute("", 0), sync()].concat();
    let planning = || {
        let mut trio = trio();
        trio.backend.plans_choose = true;
        trio.backend.refuse_discard = true;
        trio.world.replans = Some(false);
        trio
    };
    // Known by now: in front of its Bind, also in a transaction, and once.
    for begin in [None, Some(query("begin"))] {
        let mut trio = planning();
        trio.world.proven = true;
        trio.exchange(&[parse("s", "half"), run()].concat());
        trio.world.known = true;
        trio.world.generation += 1;
        begin.map(|begin| trio.exchange(&begin));
        for _ in 0..2 {
            let seen = trio.exchange(&run());
            assert_eq!(seen[..4], ["2", "D row 0", "D row 1", "C SELECT 2"]);
        }
        assert_eq!(trio.backend.parsed("s"), 2);
    }
    // Learned from its own failure: it is run again.
    let mut trio = planning();
    trio.exchange(&[parse("s", "enc"), sync()].concat());
    for _ in 0..2 {
        let seen = trio.exchange(&run());
        assert_eq!(seen, ["2", "D row 0", "C SELECT 1", "Z I"]);
    }
    assert_eq!(retried(&trio), 1);
    assert_eq!(trio.backend.parsed("s"), 2);
}

#[test]
fn a_server_that_does_not_plan_anew_costs_no_transaction() {
    let mut trio = trio();
    trio.backend.refuse_discard = true;
    let first = [parse("s", "half"), bind("", "s"), execute("", 0), sync()].concat();
    trio.exchange(&first);
    trio.world.known = true;
    trio.world.generation += 1;
    trio.exchange(&query("begin"));
    let seen = trio.exchange(&[bind("", "s"), execute("", 0), sync()].concat());
    assert_eq!(seen, ["2", "D row 0", "D row 1", "C SELECT 2", "Z T"]);
}

#[test]
fn a_transaction_is_run_again_from_its_begin() {
    // psycopg without autocommit: BEGIN is a cycle of its own.
    let mut trio = trio();
    assert_eq!(trio.exchange(&query("begin")), ["C BEGIN", "Z T"]);
    assert_eq!(
        trio.exchange(&query("plain")),
        ["T", "D plain", "C SELECT 1", "Z T"]
    );
    assert_eq!(
        trio.exchange(&[extended("enc 2"), sync()].concat()),
        ["1", "2", "D row 0", "D row 1", "C SELECT 2", "Z T"]
    );
    assert_eq!(retried(&trio), 1);
    assert_eq!(
        trio.exchange(&query("enc")),
        ["T", "D row 0", "C SELECT 1", "Z T"]
    );
    assert_eq!(trio.exchange(&query("commit")), ["C COMMIT", "Z I"]);
}

#[test]
fn a_cursor_that_the_transaction_declared_is_declared_again() {
    // psql with FETCH_COUNT.
    let mut trio = trio();
    trio.exchange(&query("begin"));
    trio.exchange(&query("declare c enc 3"));
    assert_eq!(
        trio.exchange(&query("fetch c 2")),
        ["T", "D row 0", "D row 1", "C SELECT 2", "Z T"]
    );
    assert_eq!(retried(&trio), 1);
    assert_eq!(
        trio.exchange(&query("fetch c 2")),
        ["T", "D row 2", "C SELECT 1", "Z T"]
    );
}

#[test]
fn cycles_in_flight_before_it_are_not_taken_for_its_own() {
    let mut trio = trio();
    let bytes = [
        query("plain"),
        query("begin"),
        extended("plain"),
        sync(),
        query("enc"),
        query("commit"),
    ];
    let seen = trio.exchange(&bytes.concat());
    let rows = ["1", "2", "D plain", "C SELECT 1", "Z T"];
    let expected = [
        &["T", "D plain", "C SELECT 1", "Z I", "C BEGIN", "Z T"][..],
        &rows,
        &["T", "D row 0", "C SELECT 1", "Z T", "C COMMIT", "Z I"],
    ];
    assert_eq!(seen, expected.concat());
    assert_eq!(retried(&trio), 1);
}

#[test]
fn a_transaction_that_wrote_is_not_run_again() {
    let mut trio = trio();
    trio.exchange(&query("begin"));
    trio.exchange(&query("write"));
    assert_eq!(trio.exchange(&query("enc")), ["E XX000", "Z E"]);
    assert_eq!(trio.last_refusal(), Some(NotRetried::Writes));
    let writes = trio.backend.ran.iter().filter(|ran| *ran == "write");
    assert_eq!(writes.count(), 1);
    assert_eq!(trio.exchange(&query("rollback")), ["C ROLLBACK", "Z I"]);
    // The next transaction is a new one.
    trio.exchange(&query("begin"));
    assert_eq!(
        trio.exchange(&query("enc")),
        ["T", "D row 0", "C SELECT 1", "Z T"]
    );
}

#[test]
fn a_cursor_from_before_the_transaction_has_moved() {
    let mut trio = trio();
    trio.exchange(&query("begin"));
    trio.exchange(&query("fetch c 1"));
    assert_eq!(trio.exchange(&query("rollback")), ["C ROLLBACK", "Z I"]);
    trio.exchange(&query("begin; fetch c 1"));
    assert_eq!(retried(&trio), 0);
}

#[test]
fn a_text_that_undoes_the_route_in_front_of_its_read_is_told_so() {
    let mut trio = Trio::new(retries(), known());
    trio.exchange(&query("begin"));
    trio.exchange(&query("enc"));
    let seen = trio.exchange(&query("rollback; enc"));
    assert_eq!(seen, ["C ROLLBACK", "E XX000", "Z I"]);
    assert_eq!(trio.last_refusal(), Some(NotRetried::RouteUndone));
    // As a statement of its own it is steered again.
    assert_eq!(
        trio.exchange(&query("enc")),
        ["T", "D row 0", "C SELECT 1", "Z I"]
    );
}

#[test]
fn what_a_second_run_that_differs_has_parsed_is_closed_again() {
    let mut trio = trio();
    let first = [
        extended("moody"),
        extended("enc"),
        parse("keep", "plain"),
        sync(),
    ]
    .concat();
    let seen = trio.exchange(&first);
    assert_eq!(seen[seen.len() - 2..], ["E XX000", "Z I"]);
    assert_eq!(trio.last_refusal(), Some(NotRetried::AnsweredDifferently));
    // The client has not heard of it.
    assert_eq!(
        trio.exchange(&[parse("keep", "plain"), sync()].concat()),
        ["1", "Z I"]
    );
}

#[test]
fn if_the_second_run_differs_the_error_comes_in_the_state_that_it_left() {
    for again in ["rollback", "commit"] {
        let mut trio = trio();
        trio.exchange(&query("begin"));
        assert_eq!(
            trio.exchange(&query("moody")),
            ["T", "D mood 1", "C SELECT 1", "Z T"]
        );
        assert_eq!(trio.exchange(&query("enc")), ["E XX000", "Z E"]);
        assert_eq!(trio.last_refusal(), Some(NotRetried::AnsweredDifferently));
        // The server is where the client believes it to be.
        assert_eq!(trio.exchange(&query("plain")), ["E 25P02", "Z E"]);
        assert_eq!(trio.exchange(&query(again)), ["C ROLLBACK", "Z I"]);
    }
    // Outside a transaction, too.
    let mut trio = trio();
    let seen = trio.exchange(
        &[
            extended("begin"),
            extended("moody"),
            extended("enc"),
            sync(),
        ]
        .concat(),
    );
    assert_eq!(
        seen,
        [
            "1",
            "2",
            "C BEGIN",
            "1",
            "2",
            "D mood 1",
            "C SELECT 1",
            "1",
            "2",
            "E XX000",
            "Z E"
        ]
    );
    assert_eq!(trio.exchange(&query("plain")), ["E 25P02", "Z E"]);
}

#[test]
fn an_error_is_not_held_while_the_client_may_wait_for_it() {
    // [2]: without Sync in hand, waiting for it would be a deadlock. It is run again at once.
    let mut trio = trio();
    assert_eq!(
        trio.exchange(&[extended("plain"), extended("enc 2")].concat()),
        [
            "1",
            "2",
            "D plain",
            "C SELECT 1",
            "1",
            "2",
            "D row 0",
            "D row 1",
            "C SELECT 2"
        ]
    );
    assert_eq!(retried(&trio), 1);
    assert_eq!(
        trio.exchange(&[extended("write"), sync()].concat()),
        ["1", "2", "C INSERT 0 1", "Z I"]
    );
}

#[test]
fn in_a_pipeline_whose_second_run_differs_the_client_has_its_error_and_the_rest_is_skipped() {
    let mut trio = trio();
    let seen = trio.exchange(&[extended("moody"), extended("enc 2")].concat());
    assert_eq!(
        seen,
        ["1", "2", "D mood 1", "C SELECT 1", "1", "2", "E XX000"]
    );
    assert_eq!(trio.last_refusal(), Some(NotRetried::AnsweredDifferently));
    assert_eq!(
        trio.exchange(&[extended("write"), sync()].concat()),
        ["Z I"]
    );
    assert!(!trio.backend.ran.contains(&"write".to_owned()));
    // Within a transaction, too.
    let mut trio = self::trio();
    trio.exchange(&query("begin"));
    let seen = trio.exchange(&[extended("moody"), extended("enc 2")].concat());
    assert_eq!(
        seen,
        ["1", "2", "D mood 1", "C SELECT 1", "1", "2", "E XX000"]
    );
    assert_eq!(
        trio.exchange(&[extended("write"), sync()].concat()),
        ["Z E"]
    );
    assert_eq!(trio.exchange(&query("commit")), ["C ROLLBACK", "Z I"]);
    assert!(!trio.backend.ran.contains(&"write".to_owned()));
}

#[test]
fn a_message_cut_off_in_the_middle_leaves_no_room() {
    let mut trio = trio();
    let cut = bind("a longer name for a portal", "");
    trio.client(&extended("enc"));
    trio.settle_frontend();
    trio.client(&cut[..cut.len() - 1]);
    trio.settle();
    assert_eq!(trio.seen(), ["1", "2", "E XX000"]);
    assert_eq!(trio.last_refusal(), Some(NotRetried::CycleNotComplete));
    assert_eq!(
        trio.exchange(&[&cut[cut.len() - 1..], &sync()].concat()),
        ["Z I"]
    );
}

#[test]
fn at_most_once() {
    let mut trio = trio();
    trio.backend.refuse_set();
    assert_eq!(trio.exchange(&query("enc")), ["E XX000", "Z I"]);
    assert_eq!(trio.last_refusal(), Some(NotRetried::FailedAgain));
    let enc = trio.backend.ran.iter().filter(|ran| *ran == "enc").count();
    assert_eq!(enc, 2);
}

#[test]
fn a_cycle_that_is_too_large_is_not_run_again() {
    let small = Policy {
        retry_buffer: Some(16),
        ..policy()
    };
    let mut trio = Trio::new(small, unknown());
    assert_eq!(
        trio.exchange(&query("enc 111111111111111")),
        ["E XX000", "Z I"]
    );
    assert_eq!(trio.last_refusal(), Some(NotRetried::TooLarge));
}

#[test]
fn switched_off_is_off() {
    let mut trio = Trio::new(policy(), unknown());
    assert_eq!(trio.exchange(&query("enc")), ["E XX000", "Z I"]);
    assert_eq!(trio.last_refusal(), Some(NotRetried::SwitchedOff));
}

#[test]
fn other_errors_pass() {
    let mut trio = trio();
    assert_eq!(
        trio.exchange(&query("enc; fail")),
        ["T", "D row 0", "C SELECT 1", "E 22012", "Z I"]
    );
    assert_eq!(trio.exchange(&query("fail")), ["E 22012", "Z I"]);
}

#[test]
fn a_read_that_nothing_could_be_put_in_front_of_is_not_said_to_have_had_the_right_engine() {
    // Within a transaction that began before anything was known, of a user not known to be allowed
    // to set the route.
    let mut world = unknown();
    world.proven = false;
    let mut trio = Trio::new(policy(), world);
    trio.exchange(&query("begin"));
    trio.world.known = true;
    trio.world.generation += 1;
    trio.client(&[extended("enc"), sync(), query("enc")].concat());
    trio.settle();
    assert!(trio.seen().contains(&"E XX000".into()));
    assert!(!trio.world.was_set.get());
}

#[test]
fn a_read_behind_the_end_of_a_failed_transaction_is_not_said_to_have_had_the_right_engine() {
    for (together, retry_buffer) in [(true, None), (true, Some(1 << 16)), (false, Some(1 << 16))] {
        let policy = Policy {
            retry_buffer,
            ..policy()
        };
        let mut trio = Trio::new(policy, known());
        // What was set in the transaction is rolled back within the same Query that reads.
        for sent in [
            query("begin"),
            query("enc"),
            [describe('P', "nothing"), sync()].concat(),
            [query("commit; enc"), query("enc")].concat(),
        ] {
            trio.client(&sent);
            if !together {
                trio.settle();
            }
        }
        trio.settle();
        assert!(trio.seen().contains(&"E XX000".into()));
        assert!(!trio.world.was_set.get(), "{:?}", trio.last_refusal());
    }
}

#[test]
fn a_statement_from_before_that_is_replaced_is_not_met_by_a_second_run() {
    for name in ["", "s"] {
        let mut trio = trio();
        trio.exchange(&[parse(name, "plain"), sync()].concat());
        let replaced = [bind("b", name), close('S', name), parse(name, "enc")].concat();
        let run = [bind("", name), execute("", 0), execute("b", 0), sync()].concat();
        let seen = trio.exchange(&[replaced, run].concat());
        assert_eq!(seen, ["2", "3", "1", "2", "E XX000", "Z I"]);
        assert_eq!(retried(&trio), 0);
    }
}

#[test]
fn what_prepare_has_made_can_be_made_again() {
    for texts in [
        ["begin", "prepare s enc 2", "execute s"],
        ["prepare s enc 2", "begin", "execute s"],
        [
            "begin; prepare s plain; execute s",
            "prepare t enc 2",
            "execute t",
        ],
    ] {
        for simple in [true, false] {
            let mut trio = trio();
            let mut seen = Vec::new();
            for text in texts {
                seen = trio.exchange(&if simple || text.contains(';') {
                    query(text)
                } else {
                    [extended(text), sync()].concat()
                });
            }
            let begins: &[&str] = if simple { &["T"] } else { &["1", "2"] };
            let rows = ["D row 0", "D row 1", "C SELECT 2", "Z T"];
            assert_eq!(seen, [begins, &rows].concat(), "{texts:?}");
            assert_eq!(retried(&trio), 1);
        }
    }
    let mut trio = trio();
    let seen = trio.exchange(&query("prepare s enc; execute s"));
    assert_eq!(seen, ["C PREPARE", "T", "D row 0", "C SELECT 1", "Z I"]);
}

#[test]
fn what_executes_a_statement_that_writes_is_not_run_again() {
    for text in [
        "begin; execute s; enc",
        "begin; prepare t write; execute t; enc",
    ] {
        let mut trio = trio();
        trio.exchange(&query("prepare s write"));
        assert!(trio.exchange(&query(text)).contains(&"E XX000".to_owned()));
        assert_eq!(trio.last_refusal(), Some(NotRetried::Writes));
    }
    // The name means another statement by then than the one that was executed first.
    let mut trio = trio();
    trio.exchange(&[parse("s", "plain"), sync()].concat());
    for bytes in [
        query("begin"),
        query("execute s"),
        [close('S', "s"), sync()].concat(),
        query("prepare s open"),
    ] {
        trio.exchange(&bytes);
    }
    assert!(trio.exchange(&query("enc")).contains(&"E XX000".to_owned()));
    assert_eq!(trio.last_refusal(), Some(NotRetried::InTransaction));
}

#[test]
fn what_was_not_known_to_read_is_no_write() {
    // Made elsewhere since the catalogs were read.
    for (text, why) in [
        ("unseen", NotRetried::NotKnown),
        ("write; unseen", NotRetried::Writes),
    ] {
        let mut trio = trio();
        assert!(trio.exchange(&query(text)).contains(&"E XX000".to_owned()));
        assert_eq!(trio.last_refusal(), Some(why));
    }
}

#[test]
fn what_the_client_has_cancelled_is_not_run_again() {
    for begin in ["", "begin"] {
        let mut trio = trio();
        trio.exchange(&query(begin));
        trio.world.cancelled = true;
        let seen = trio.exchange(&query("enc"));
        let status = if begin.is_empty() { "Z I" } else { "Z E" };
        assert_eq!(seen, ["E 57014", status]);
        assert_eq!(
            trio.backend.ran.iter().filter(|ran| *ran == "enc").count(),
            1
        );
        trio.world.cancelled = false;
        trio.exchange(&query("rollback"));
        assert_eq!(trio.exchange(&query("enc"))[0], "T");
    }
}

#[test]
fn once_a_read_was_missed_whatever_only_reads_is_kept() {
    // Nobody sees what `unseen` reads.
    for begins in [query("unseen"), [extended("unseen"), sync()].concat()] {
        let mut trio = trio();
        assert!(trio.exchange(&begins).contains(&"E XX000".to_owned()));
        assert_eq!(trio.last_refusal(), Some(NotRetried::NotKnown));
        trio.world.keeps_all = true;
        let seen = trio.exchange(&begins);
        assert_eq!(seen[seen.len() - 3..], ["D row 0", "C SELECT 1", "Z I"]);
        assert_eq!(retried(&trio), 1);
    }
}
