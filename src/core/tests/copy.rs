//! COPY FROM STDIN: what is sent within it, what the server eats, and what waits for its answer.

use super::route::{sets, trio};
use super::trio::msg::{copy_data, copy_done, copy_fail, execute, extended, query, sync};

#[test]
fn within_copy_nothing_is_injected_and_its_syncs_are_eaten() {
    // [6, 6b]
    let mut trio = trio();
    let seen = trio.exchange(&[extended("copyin"), sync()].concat());
    assert_eq!(seen, ["1", "2", "G"]);
    let seen = trio.exchange(&[copy_data("x"), copy_done(), sync()].concat());
    assert_eq!(seen, ["C COPY 1", "Z I"]);
    let seen = trio.exchange(&query("copyin"));
    assert_eq!(seen, ["G"]);
    let seen = trio.exchange(
        &[
            copy_data("bad"),
            copy_data("y"),
            copy_done(),
            query("plain"),
        ]
        .concat(),
    );
    assert_eq!(
        seen,
        ["E 22P02", "Z I", "T", "D plain", "C SELECT 1", "Z I"]
    );
    assert_eq!(
        trio.exchange(&query("enc")),
        ["T", "D row 0", "C SELECT 1", "Z I"]
    );
}

#[test]
fn a_read_behind_a_copy_waits_for_its_answer() {
    let mut trio = trio();
    let seen =
        trio.exchange(&[query("copyin"), copy_data("x"), copy_done(), query("enc")].concat());
    assert_eq!(
        seen,
        ["G", "C COPY 1", "Z I", "T", "D row 0", "C SELECT 1", "Z I"]
    );
}

#[test]
fn a_read_in_the_pipeline_of_a_copy_does_not_wait_for_what_the_server_keeps_to_itself() {
    let mut trio = trio();
    let bytes = [
        extended("copyin"),
        copy_data("x"),
        copy_done(),
        extended("enc"),
        sync(),
    ];
    let seen = trio.exchange(&bytes.concat());
    assert_eq!(
        seen,
        ["1", "2", "G", "C COPY 1", "1", "2", "E XX000", "Z I"]
    );
}

#[test]
fn data_may_come_before_the_server_has_asked_for_them() {
    for data in ["x", "bad"] {
        let mut trio = trio();
        let bytes = [
            query("copyin"),
            copy_data(data),
            copy_done(),
            query("plain"),
            extended("copyin"),
            sync(),
            copy_data(data),
            copy_done(),
            sync(),
            query("enc"),
        ];
        let mut direct = super::model::Backend::new(true);
        direct.send(&bytes.concat());
        while direct.step() {}
        let expected = super::model::transcript(&direct.take());
        assert_eq!(trio.exchange(&bytes.concat()), expected);
    }
}

#[test]
fn a_copy_that_fails_late_in_the_extended_protocol_answers_once() {
    // [6b]: one error and one ReadyForQuery, since the first Sync was eaten.
    let mut trio = trio();
    assert_eq!(
        trio.exchange(&[extended("copyin"), sync()].concat()),
        ["1", "2", "G"]
    );
    let seen = trio.exchange(&[copy_data("bad"), copy_done(), sync()].concat());
    assert_eq!(seen, ["E 22P02", "Z I"]);
    assert_eq!(
        trio.exchange(&query("enc")),
        ["T", "D row 0", "C SELECT 1", "Z I"]
    );
}

#[test]
fn a_sync_within_a_copy_that_had_failed_before_is_answered() {
    for copy in [query("copyin"), extended("copyin")] {
        let mut trio = trio();
        trio.client(&[copy, copy_data("bad"), sync(), copy_done()].concat());
        trio.client(&[query("plain"), sync(), query("enc")].concat());
        trio.flow();
        let seen = trio.seen().join(" ");
        let answers = ["T D plain C SELECT 1 Z I", "Z I", "E XX000 Z I"].join(" ");
        assert!(seen.ends_with(&answers), "{seen}");
        assert_eq!(sets(&trio), 0, "which Sync was answered is not known");
    }
}

#[test]
fn the_end_of_a_second_copy_is_not_taken_for_that_of_the_first() {
    for end in [copy_done(), copy_fail()] {
        let mut trio = trio();
        trio.client(&[extended("copyin"), copy_done()].concat());
        trio.settle_frontend();
        // The server asks for the first one's data; its end is not answered yet.
        for _ in 0..3 {
            trio.server();
        }
        trio.backward(usize::MAX);
        let rest = [sync(), extended("copyin"), copy_data("x"), end, sync()];
        trio.client(&rest.concat());
        trio.settle_frontend();
        trio.settle();
        assert!(trio.core.is_quiet());
        assert_eq!(trio.exchange(&query("enc")).last().unwrap(), "Z I");
    }
}

#[test]
fn a_sync_that_the_copy_eats_ends_no_cycle() {
    let mut trio = trio();
    // The Sync is sent before the server has asked for data, and then eaten. What answers the COPY comes
    // only with the next one.
    trio.client(&[extended("copyin"), sync()].concat());
    trio.settle_frontend();
    trio.settle();
    trio.client(&[copy_done(), extended("enc")].concat());
    trio.settle_frontend();
    assert!(
        trio.to_server.ends_with(&execute("", 0)),
        "it waits for an answer that waits for a Sync"
    );
    trio.client(&sync());
    trio.settle();
    assert!(trio.core.is_quiet());
}
