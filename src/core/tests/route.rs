//! The rules of setting the route, one test each. Numbers in brackets name the experiment on a
//! real PostgreSQL 15 that the rule comes from.

use super::trio::msg::{bind, close, describe, execute, extended, parse, query, sync};
use super::trio::{FakeWorld, Trio, known, policy, unknown};
use crate::advice::NotRetried;
use crate::core::{Event, Policy};

pub(super) fn trio() -> Trio {
    Trio::new(policy(), known())
}

fn unproven() -> FakeWorld {
    FakeWorld {
        proven: false,
        ..known()
    }
}

/// How often our SET went to the server.
pub(super) fn sets(trio: &Trio) -> usize {
    ran(trio, "/* osprey */ SET route = false")
}

fn ran(trio: &Trio, text: &str) -> usize {
    trio.backend.ran.iter().filter(|ran| *ran == text).count()
}

#[test]
fn a_simple_query_gets_a_set_of_its_own_in_the_same_write() {
    let mut trio = trio();
    assert_eq!(
        trio.exchange(&query("enc")),
        ["T", "D row 0", "C SELECT 1", "Z I"]
    );
    assert_eq!(trio.writes.len(), 1, "an injection costs no round trip");
    assert_eq!(sets(&trio), 1);
    assert_eq!(
        trio.exchange(&query("enc")),
        ["T", "D row 0", "C SELECT 1", "Z I"]
    );
    assert_eq!(sets(&trio), 1, "once set, it stays set");
}

#[test]
fn what_is_not_protected_passes_untouched() {
    let mut trio = trio();
    let bytes = [query("plain"), query("write"), extended("plain"), sync()].concat();
    trio.exchange(&bytes);
    assert_eq!(trio.to_server, bytes);
}

#[test]
fn an_extended_cycle_gets_a_cycle_of_ours_in_front() {
    let mut trio = trio();
    let seen = trio.exchange(&[extended("enc"), sync()].concat());
    assert_eq!(seen, ["1", "2", "D row 0", "C SELECT 1", "Z I"]);
    assert_eq!((trio.writes.len(), sets(&trio)), (1, 1));
}

#[test]
fn the_set_is_a_query_where_that_takes_nothing_from_the_client() {
    let forms = |before: &[u8], cycle: &[u8]| {
        let mut trio = trio();
        trio.exchange(before);
        trio.exchange(cycle);
        let rare = trio.core.tally().rare.unwrap_or_default();
        (rare.set_query, rare.set_cycle)
    };
    let unnamed = [extended("plain"), sync()].concat();
    let named = [parse("p", "enc"), bind("", "p"), execute("", 0), sync()].concat();
    assert_eq!(forms(b"", &named), (1, 0));
    // The next one may be bound to the unnamed statement.
    assert_eq!(forms(&unnamed, &named), (0, 1));
    // A Query, or a Parse, destroys that by itself.
    let queried = [unnamed.clone(), query("plain")].concat();
    assert_eq!(forms(&queried, &named), (1, 0));
    assert_eq!(forms(&unnamed, &[extended("enc"), sync()].concat()), (1, 0));
    // Within a transaction there may be portals.
    assert_eq!(forms(&query("begin"), &named), (0, 1));
}

#[test]
fn the_unnamed_statement_survives_our_set() {
    // [1]: a simple SET between Parse and Bind would destroy it.
    let mut trio = trio();
    trio.exchange(&[parse("", "enc"), describe('S', ""), sync()].concat());
    trio.exchange(&query("reset"));
    trio.exchange(&[parse("", "enc"), sync()].concat());
    let seen = trio.exchange(&[bind("", ""), execute("", 0), sync()].concat());
    assert_eq!(seen, ["2", "D row 0", "C SELECT 1", "Z I"]);
}

#[test]
fn a_suspended_portal_survives_our_set() {
    // [1e, 17]
    let mut trio = trio();
    trio.exchange(&query("begin"));
    trio.exchange(&[parse("p", "plain"), bind("c", "p"), sync()].concat());
    let seen = trio.exchange(&[extended("enc 2"), sync()].concat());
    assert_eq!(seen, ["1", "2", "D row 0", "D row 1", "C SELECT 2", "Z T"]);
    let seen = trio.exchange(&[execute("c", 0), sync()].concat());
    assert_eq!(seen, ["D plain", "C SELECT 1", "Z T"]);
}

#[test]
fn our_cycle_commits_by_itself_and_outlives_a_failing_statement() {
    // [3b]
    let mut trio = trio();
    let seen = trio.exchange(&[extended("enc"), extended("fail"), sync()].concat());
    assert_eq!(seen.last().map(String::as_str), Some("Z I"));
    assert!(seen.contains(&"E 22012".to_owned()));
    trio.exchange(&query("enc"));
    assert_eq!(sets(&trio), 1);
}

#[test]
fn a_statement_late_in_a_pipeline_puts_the_set_in_front_of_it_all() {
    let mut trio = trio();
    let seen = trio.exchange(&[extended("begin"), extended("enc"), sync()].concat());
    assert_eq!(
        seen,
        [
            "1",
            "2",
            "C BEGIN",
            "1",
            "2",
            "D row 0",
            "C SELECT 1",
            "Z T"
        ]
    );
    assert_eq!(trio.exchange(&query("rollback")), ["C ROLLBACK", "Z I"]);
    trio.exchange(&query("enc"));
    assert_eq!(
        sets(&trio),
        1,
        "it was set before BEGIN: ROLLBACK does not touch it"
    );
}

#[test]
fn within_a_begun_pipeline_there_is_never_a_sync_of_ours() {
    // [14b]
    let mut trio = trio();
    trio.client(&extended("plain"));
    trio.settle();
    trio.client(&extended("enc"));
    trio.settle();
    let seen = trio.exchange(&sync());
    assert_eq!(
        seen,
        [
            "1",
            "2",
            "D plain",
            "C SELECT 1",
            "1",
            "2",
            "D row 0",
            "C SELECT 1",
            "Z I"
        ]
    );
    let syncs = trio
        .to_server
        .windows(5)
        .filter(|bytes| *bytes == sync())
        .count();
    assert_eq!((syncs, sets(&trio)), (1, 1));
    trio.exchange(&query("enc"));
    assert_eq!(sets(&trio), 1, "the pipeline committed, so it stays");
}

#[test]
fn a_failed_pipeline_undoes_what_was_set_within_it() {
    // [3, 25]
    let mut trio = trio();
    trio.client(&extended("plain"));
    trio.settle();
    trio.client(&extended("enc"));
    trio.settle();
    trio.exchange(&[extended("fail"), sync()].concat());
    let seen = trio.exchange(&query("enc"));
    assert_eq!(seen, ["T", "D row 0", "C SELECT 1", "Z I"]);
    assert_eq!(sets(&trio), 2);
}

#[test]
fn vacuum_behind_our_cycle_runs() {
    // [21]
    let mut trio = trio();
    trio.exchange(&[extended("enc"), sync()].concat());
    assert_eq!(trio.exchange(&query("vacuum")), ["C VACUUM", "Z I"]);
}

#[test]
fn rollback_takes_a_set_made_inside_away_and_commit_keeps_it() {
    // [22, 10b]
    for (end, expected) in [("rollback", 2), ("commit", 1)] {
        let mut trio = trio();
        trio.exchange(&query("begin"));
        trio.exchange(&query("enc"));
        trio.exchange(&query(end));
        let seen = trio.exchange(&query("enc"));
        assert_eq!(seen, ["T", "D row 0", "C SELECT 1", "Z I"]);
        assert_eq!(sets(&trio), expected, "{end}");
    }
}

#[test]
fn the_commit_of_a_failed_block_is_a_rollback() {
    // [10b]
    let mut trio = trio();
    trio.exchange(&query("begin"));
    trio.exchange(&query("enc"));
    trio.exchange(&query("fail"));
    assert_eq!(trio.exchange(&query("commit")), ["C ROLLBACK", "Z I"]);
    let seen = trio.exchange(&query("enc"));
    assert_eq!(seen, ["T", "D row 0", "C SELECT 1", "Z I"]);
    assert_eq!(sets(&trio), 2);
}

#[test]
fn rollback_to_a_savepoint_makes_the_route_unknown() {
    // [5]
    let mut trio = trio();
    trio.exchange(&query("begin"));
    trio.exchange(&query("savepoint"));
    trio.exchange(&query("enc"));
    trio.exchange(&query("rollback to"));
    let seen = trio.exchange(&query("enc"));
    assert_eq!(seen, ["T", "D row 0", "C SELECT 1", "Z T"]);
}

#[test]
fn pipelined_transactions_are_followed_without_waiting_for_answers() {
    let mut trio = trio();
    let bytes = [
        query("begin"),
        query("enc"),
        query("rollback"),
        query("enc"),
        extended("enc"),
        sync(),
    ];
    let seen = trio.exchange(&bytes.concat());
    assert!(!seen.iter().any(|seen| seen.starts_with('E')), "{seen:?}");
}

#[test]
fn in_a_failed_transaction_nothing_is_injected() {
    // [10, 23]
    let mut trio = trio();
    trio.exchange(&query("begin"));
    trio.exchange(&query("fail"));
    for bytes in [query("enc"), [extended("enc"), sync()].concat()] {
        let before = trio.to_server.len();
        trio.exchange(&bytes);
        assert_eq!(trio.to_server[before..], bytes);
    }
}

#[test]
fn in_a_skipped_pipeline_nothing_is_injected_and_a_query_gets_no_answer() {
    // [7b, 14]
    let mut trio = trio();
    trio.client(&parse("", "selekt"));
    trio.settle();
    assert_eq!(trio.seen(), ["E 42601"]);
    assert_eq!(trio.exchange(&query("enc")), [""; 0]);
    assert_eq!(trio.exchange(&sync()), ["Z I"]);
    assert_eq!(sets(&trio), 0);
    assert_eq!(
        trio.exchange(&query("enc")),
        ["T", "D row 0", "C SELECT 1", "Z I"]
    );
}

#[test]
fn our_set_may_be_skipped_together_with_the_clients_pipeline() {
    let mut trio = trio();
    trio.client(&parse("", "selekt"));
    trio.frontend(usize::MAX);
    // The server has not answered yet: the SET goes inline, and is skipped.
    let seen = trio.exchange(&[extended("enc"), sync()].concat());
    assert_eq!(seen, ["E 42601", "Z I"]);
    assert_eq!(
        trio.exchange(&query("enc")),
        ["T", "D row 0", "C SELECT 1", "Z I"]
    );
}

#[test]
fn the_first_set_of_a_user_is_never_made_inside_a_transaction() {
    // [13b]: a SET that fails there would abort it. So BEGIN is preceded by a proof.
    let mut trio = Trio::new(policy(), unproven());
    assert_eq!(trio.exchange(&query("begin")), ["C BEGIN", "Z T"]);
    assert!(trio.events.contains(&Event::Proven));
    assert_eq!(
        trio.exchange(&query("enc")),
        ["T", "D row 0", "C SELECT 1", "Z T"]
    );
    assert_eq!(trio.exchange(&query("commit")), ["C COMMIT", "Z I"]);
}

#[test]
fn the_proof_changes_nothing() {
    let mut trio = Trio::new(policy(), unproven());
    trio.exchange(&[extended("begin"), sync()].concat());
    assert_eq!(
        trio.exchange(&query("show")),
        ["T", "D on", "C SELECT 1", "Z T"]
    );
}

#[test]
fn a_set_that_fails_outside_changes_nothing_and_is_not_tried_again() {
    let mut trio = Trio::new(policy(), unproven());
    trio.backend.refuse_set();
    let seen = trio.exchange(&query("enc"));
    assert_eq!(seen, ["E XX000", "Z I"], "the statement runs, on HQE");
    trio.exchange(&query("enc"));
    assert_eq!(sets(&trio), 1);
    let failures = trio.events.iter().filter(|event| {
        matches!(event, Event::SetFailed { sqlstate, aborted_transaction: false, .. } if sqlstate == "42501")
    });
    assert_eq!(failures.count(), 1);
}

#[test]
fn whoever_loses_a_transaction_to_our_set_is_told_by_what() {
    for (sqlstate, message, steers_on) in [
        ("57014", "canceling statement due to user request", true),
        (
            "57014",
            "canceling statement due to statement timeout",
            true,
        ),
        ("42501", "permission denied to set parameter", false),
    ] {
        for pipelined in [false, true] {
            let mut trio = Trio::new(policy(), known());
            trio.exchange(&query("begin"));
            trio.backend.set_fails = Some((sqlstate, message.into()));
            let error = format!("E {sqlstate}");
            let seen = if pipelined {
                trio.exchange(&[extended("enc"), extended("plain"), sync()].concat())
            } else {
                trio.exchange(&query("enc"))
            };
            assert_eq!(seen, [error.as_str(), "Z E"]);
            // What failed was the client's: nothing is left to cancel.
            assert!(!trio.events.contains(&Event::CancelAgain));
            assert_eq!(trio.exchange(&query("enc")), ["E 25P02", "Z E"]);
            trio.backend.set_fails = None;
            trio.exchange(&query("rollback"));
            trio.exchange(&query("begin"));
            let seen = trio.exchange(&query("enc"));
            assert_eq!(seen[0] == "T", steers_on, "{sqlstate}: {seen:?}");
        }
    }
}

#[test]
fn a_cancel_within_a_pipeline_is_no_refusal() {
    let mut trio = Trio::new(policy(), known());
    trio.exchange(&query("begin"));
    trio.exchange(&query("reset"));
    trio.backend.set_fails = Some(("57014", "canceling statement due to user request".into()));
    let pipeline = [extended("reset"), extended("enc"), sync()].concat();
    let seen = trio.exchange(&pipeline);
    assert_eq!(seen, ["1", "2", "C RESET", "E 57014", "Z E"]);
    trio.backend.set_fails = None;
    trio.exchange(&query("rollback"));
    assert_eq!(trio.exchange(&query("enc"))[0], "T");
}

#[test]
fn a_user_who_may_not_set_keeps_its_transactions() {
    let mut trio = Trio::new(policy(), unproven());
    trio.backend.refuse_set();
    assert_eq!(trio.exchange(&query("begin")), ["C BEGIN", "Z T"]);
    assert_eq!(trio.exchange(&query("write")), ["C INSERT 0 1", "Z T"]);
    assert_eq!(trio.exchange(&query("commit")), ["C COMMIT", "Z I"]);
}

#[test]
fn the_client_is_the_master_of_the_setting() {
    let mut trio = trio();
    trio.exchange(&query("set on"));
    assert!(trio.events.contains(&Event::ClientOwnsRoute));
    assert_eq!(trio.exchange(&query("enc")), ["E XX000", "Z I"]);
    assert_eq!(sets(&trio), 0);
    // A pool that resets the session hands it back.
    trio.exchange(&query("discard all"));
    assert_eq!(
        trio.exchange(&query("enc")),
        ["T", "D row 0", "C SELECT 1", "Z I"]
    );
}

#[test]
fn a_set_of_the_clients_counts_while_it_is_in_force() {
    let rows = ["T", "D row 0", "C SELECT 1", "Z I"];
    for over in [
        &["set nonsense"][..],
        &["begin", "set on", "rollback"],
        &["begin", "set nonsense", "commit"],
        &["begin", "local on", "commit"],
        &["local on"],
        &["set on; fail"],
        &["begin", "savepoint", "set on", "rollback to", "commit"],
    ] {
        let sent: Vec<_> = over.iter().map(|text| query(text)).collect();
        let mut trio = trio();
        for bytes in &sent {
            trio.exchange(bytes);
        }
        assert_eq!(trio.exchange(&query("enc")), rows, "{over:?}");
        // All in one packet.
        let mut trio = self::trio();
        let seen = trio.exchange(&[sent.concat(), query("enc")].concat());
        assert_eq!(
            seen.last_chunk(),
            Some(&rows.map(str::to_owned)),
            "{over:?}"
        );
        // Where it must be learned, too.
        let policy = Policy {
            retry_buffer: Some(1 << 16),
            ..policy()
        };
        let mut trio = Trio::new(policy, unknown());
        let seen = trio.exchange(&[sent.concat(), query("enc")].concat());
        assert_eq!(
            seen.last_chunk(),
            Some(&rows.map(str::to_owned)),
            "{over:?}"
        );
    }
    for holds in [
        &["set on"][..],
        &["begin", "set on", "commit"],
        &["begin", "local on"],
        &["begin", "set on", "savepoint", "reset", "rollback to"],
    ] {
        let mut trio = trio();
        for text in holds {
            trio.exchange(&query(text));
        }
        let seen = trio.exchange(&query("enc"));
        assert_eq!(seen[0], "E XX000", "{holds:?}");
        assert_eq!(sets(&trio), 0);
    }
}

#[test]
fn enforce_sets_the_route_all_the_same() {
    let enforce = Policy {
        enforce: true,
        ..policy()
    };
    let mut trio = Trio::new(enforce, known());
    trio.exchange(&query("enc"));
    trio.exchange(&query("set on"));
    assert_eq!(
        trio.exchange(&query("enc")),
        ["T", "D row 0", "C SELECT 1", "Z I"]
    );
}

#[test]
fn a_reset_makes_it_be_set_again() {
    let mut trio = trio();
    for reset in ["reset", "discard all"] {
        trio.exchange(&query("enc"));
        trio.exchange(&query(reset));
        assert_eq!(
            trio.exchange(&query("enc")),
            ["T", "D row 0", "C SELECT 1", "Z I"],
            "{reset}"
        );
    }
}

#[test]
fn where_encrypted_data_can_be_read_already_nothing_is_injected() {
    let world = FakeWorld {
        reads_encrypted: true,
        ..known()
    };
    let mut trio = Trio::new(policy(), world);
    let bytes = [query("begin"), query("enc")].concat();
    trio.exchange(&bytes);
    assert_eq!(trio.to_server, bytes);
}

#[test]
fn replication_and_fixed_front_ends_are_relayed() {
    let relay = Policy {
        relay_only: true,
        ..policy()
    };
    let mut trio = Trio::new(relay, known());
    let bytes = query("enc");
    trio.exchange(&bytes);
    assert_eq!(trio.to_server, bytes);
}

#[test]
fn statement_scope_puts_the_route_back_for_what_may_run_on_hqe() {
    let per_statement = Policy {
        per_statement: true,
        ..policy()
    };
    // `enc` is read as a MaxCompute table that is not known to be encrypted once `known` is off.
    let mut trio = Trio::new(per_statement, known());
    trio.exchange(&query("enc"));
    trio.exchange(&query("plain"));
    assert_eq!(
        ran(&trio, "/* osprey */ RESET route"),
        0,
        "it changes only when it must"
    );
    trio.world.known = false;
    trio.exchange(&query("enc"));
    assert_eq!(ran(&trio, "/* osprey */ RESET route"), 1);
}

#[test]
fn a_broken_frame_ends_the_session_with_a_proper_error() {
    let mut trio = trio();
    trio.client(b"Q\0\0\0\x01");
    trio.frontend(usize::MAX);
    assert_eq!(trio.seen(), ["E 08P01"]);
    assert_eq!(trio.core.ended(), Some(crate::core::End::Broken));
}

#[test]
fn a_bind_whose_names_do_not_end_is_not_held_whole() {
    let mut trio = trio();
    let mut bind = b"B\x40\0\0\0".to_vec();
    bind.resize(policy().inspect * 2, b'a');
    trio.client(&bind);
    while trio.frontend(1000) {}
    assert_eq!(trio.to_server, bind);
}

#[test]
fn of_a_long_text_only_the_head_is_looked_at_however_the_bytes_come() {
    let policy = Policy {
        inspect: 8,
        ..policy()
    };
    for (text, seen) in [("enc; fail", 1), ("plain;;;;;enc", 0)] {
        for piece in [1, usize::MAX] {
            let mut trio = Trio::new(policy.clone(), known());
            trio.client(&query(text));
            while trio.frontend(piece) {}
            trio.settle();
            assert_eq!(sets(&trio), seen, "{text}");
        }
    }
}

#[test]
fn the_first_read_of_a_transaction_waits_for_a_place() {
    // pgjdbc with autosave: BEGIN without Sync, a simple SAVEPOINT, and at once the read.
    let world = FakeWorld {
        proven: false,
        ..known()
    };
    for world in [world, known()] {
        let mut trio = Trio::new(policy(), world);
        let read = [extended("enc"), sync()].concat();
        trio.client(&[extended("begin"), query("savepoint"), read].concat());
        trio.settle();
        let begun = ["1", "2", "C BEGIN", "C SAVEPOINT", "Z T"];
        let read = ["1", "2", "D row 0", "C SELECT 1", "Z T"];
        assert_eq!(trio.seen(), [begun, read].concat());
        let rare = trio.core.tally().rare.unwrap_or_default();
        assert_eq!(rare.not_steered, 0);
    }
}

#[test]
fn within_the_pipeline_that_begins_its_transaction_a_read_waits_for_the_proof() {
    let mut trio = Trio::new(policy(), unproven());
    trio.client(&extended("begin"));
    trio.settle();
    trio.client(&[extended("enc"), sync()].concat());
    trio.settle();
    let seen = [
        "1",
        "2",
        "C BEGIN",
        "1",
        "2",
        "D row 0",
        "C SELECT 1",
        "Z T",
    ];
    assert_eq!(trio.seen(), seen);
}

#[test]
fn the_route_is_not_put_back_in_front_of_what_needs_it() {
    let policy = || Policy {
        per_statement: true,
        ..policy()
    };
    // A plain foreign table behind an encrypted one in the same pipeline.
    let mut trio = Trio::new(policy(), known());
    trio.exchange(&query("enc"));
    trio.client(&[extended("enc"), query("open"), sync()].concat());
    trio.settle();
    assert_eq!(trio.seen()[..4], ["1", "2", "D row 0", "C SELECT 1"]);
    // A cursor WITH HOLD is run to its end by COMMIT.
    let mut trio = Trio::new(policy(), known());
    for text in ["begin", "write", "hold c enc 2", "open", "commit"] {
        let seen = trio.exchange(&query(text));
        assert!(
            !seen.iter().any(|line| line.starts_with('E')),
            "{text}: {seen:?}"
        );
    }
}

#[test]
fn a_plan_that_needs_no_route_asks_for_no_other() {
    let policy = Policy {
        per_statement: true,
        ..policy()
    };
    let run = |name| [bind("", name), execute("", 0), sync()].concat();
    let discarded = |trio: &Trio| ran(trio, "/* osprey */ DISCARD PLANS");
    let mut trio = Trio::new(policy, known());
    trio.backend.plans_choose = true;
    trio.exchange(&[parse("e", "enc"), parse("o", "open"), sync()].concat());
    let alternate = |trio: &mut Trio| {
        for name in ["o", "e", "o", "e", "o"] {
            let seen = trio.exchange(&run(name));
            assert!(seen[1].starts_with('D'), "{name}: {seen:?}");
        }
    };
    alternate(&mut trio);
    // The first of them for the Parse.
    assert_eq!((sets(&trio), discarded(&trio)), (3, 0));
    // `enc` is read as an open table while nothing is known, and needs another plan when that is over.
    trio.world.known = false;
    trio.world.generation += 1;
    trio.exchange(&run("e"));
    trio.world.known = true;
    trio.world.generation += 1;
    alternate(&mut trio);
    assert_eq!((sets(&trio), discarded(&trio)), (5, 1));
}

#[test]
fn what_is_put_back_is_what_the_client_had_set() {
    let policy = Policy {
        per_statement: true,
        enforce: true,
        ..policy()
    };
    for (set, shown) in [("set off", "D off"), ("set on", "D on"), ("reset", "D on")] {
        let mut trio = Trio::new(policy.clone(), known());
        for text in [set, "enc", "open"] {
            trio.exchange(&query(text));
        }
        assert_eq!(trio.exchange(&query("show"))[1], shown, "{set}");
    }
}

/// What changes names is followed for each statement behind it, so that the client waits before there is
/// too much of it in flight; within one cycle, whose answers may wait for its end, it does not.
#[test]
fn a_deep_pipeline_of_changes_waits_and_comes_through() {
    const DEEP: usize = 1_000;
    let mut trio = trio();
    let sent: Vec<u8> = (0..DEEP).flat_map(|_| query("path ext")).collect();
    let seen = trio.exchange(&[sent, query("mine")].concat());
    assert_eq!(seen.len(), 2 * DEEP + 4, "{:?}", seen.last());
    assert_eq!(seen[2 * DEEP..], ["T", "D row 0", "C SELECT 1", "Z I"]);

    let mut trio = self::trio();
    let sent: Vec<u8> = (0..DEEP).flat_map(|_| extended("path ext")).collect();
    let seen = trio.exchange(&[sent, extended("mine"), sync()].concat());
    assert_eq!(seen.last().map(String::as_str), Some("Z I"));
    assert!(seen.contains(&"D row 0".to_owned()), "{:?}", seen.last());
}

#[test]
fn what_is_bound_is_what_its_own_cycle_has_parsed() {
    // Were that Parse to fail, the Bind would be skipped. A BEGIN that is taken for something else would
    // have the SET of a user who may not make it abort the transaction.
    for name in ["", "p"] {
        let run = |sql| {
            [
                close('S', name),
                parse(name, sql),
                bind("", name),
                execute("", 0),
            ]
            .concat()
        };
        let mut trio = Trio::new(policy(), unproven());
        trio.backend.refuse_set();
        let cycle = [run(""), run("declare c enc 3"), run("begin"), sync()].concat();
        trio.client(&[cycle, query("enc")].concat());
        trio.frontend(1);
        trio.frontend(20);
        trio.settle();
        assert!(!trio.seen().contains(&"E 42501".to_owned()), "{name:?}");
    }
}

#[test]
fn behind_a_query_within_a_pipeline_a_late_read_is_steered() {
    // As pgjdbc sends a batch with autosave: BEGIN without a Sync, the savepoint as a Query.
    let mut trio = trio();
    let batch = [
        extended("begin"),
        query("savepoint"),
        extended("plain"),
        extended("enc"),
        sync(),
    ];
    let seen = trio.exchange(&batch.concat());
    assert_eq!(seen[seen.len() - 3..], ["D row 0", "C SELECT 1", "Z T"]);
    // If the transaction has failed, the error is the same.
    let mut trio = self::trio();
    let batch = [
        extended("begin"),
        query("fail"),
        extended("plain"),
        extended("enc"),
        sync(),
    ];
    let seen = trio.exchange(&batch.concat());
    assert_eq!(seen[seen.len() - 4..], ["E 22012", "Z E", "E 25P02", "Z E"]);
    trio.exchange(&query("rollback"));
    assert_eq!(trio.exchange(&query("enc"))[0], "T");
}

#[test]
fn a_set_whose_time_is_up_is_told_and_tried_again() {
    let retries = Policy {
        retry_buffer: Some(1 << 16),
        ..policy()
    };
    let mut trio = Trio::new(retries, known());
    trio.backend.set_fails = Some((
        "57014",
        "canceling statement due to statement timeout".into(),
    ));
    assert_eq!(trio.exchange(&query("enc")), ["E XX000", "Z I"]);
    assert!(trio.events.contains(&Event::SetTimedOut));
    assert_eq!(trio.last_refusal(), Some(NotRetried::RouteNotSet));
    trio.backend.set_fails = None;
    assert_eq!(trio.exchange(&query("enc"))[0], "T");
}
