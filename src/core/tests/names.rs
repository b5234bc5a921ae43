//! Which decision a name carries, and by which search path names resolve.

use super::route::trio;
use super::trio::msg::{bind, close, copy_data, copy_done, execute, extended, parse, query, sync};

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
fn a_search_path_is_certain_once_nothing_can_take_it_back() {
    let ext = || Some("ext".to_owned());
    let paths = |sent: &[Vec<u8>]| {
        let mut trio = trio();
        for bytes in sent {
            trio.exchange(bytes);
        }
        trio.world.paths.take()
    };
    let set = || query("set path");
    assert_eq!(paths(&[set()]), [ext()]);
    assert_eq!(paths(&[[extended("set path"), sync()].concat()]), [ext()]);
    // The second of two counts once both are answered.
    assert_eq!(paths(&[[set(), set()].concat()]), [ext()]);
    // In a transaction it may be undone; the next one outside is certain again.
    assert_eq!(paths(&[query("begin"), set(), query("rollback")]), []);
    assert_eq!(
        paths(&[[query("begin"), set(), query("commit")].concat()]),
        []
    );
    assert_eq!(
        paths(&[[set(), query("begin"), query("rollback")].concat()]),
        []
    );
    assert_eq!(
        paths(&[query("begin"), set(), query("rollback"), set()]),
        [ext()]
    );
    let pipeline = ["begin", "set path", "rollback"].map(extended).concat();
    assert_eq!(paths(&[[pipeline, sync()].concat()]), []);
    let failed = ["set path", "fail"].map(extended).concat();
    assert_eq!(paths(&[[failed, sync()].concat()]), []);
    assert_eq!(paths(&[query("set path; fail")]), []);
    // What shadows names does so until DISCARD ALL.
    assert_eq!(paths(&[query("temp"), set()]), []);
    assert_eq!(
        paths(&[query("temp"), query("discard all"), set()]),
        [None, ext()]
    );
    // What is sent behind it, and answered with it, is not forgotten.
    let behind = |text| [query("discard all"), query(text)].concat();
    assert_eq!(paths(&[behind("temp"), set()]), []);
    assert_eq!(paths(&[[set(), query("temp")].concat(), set()]), []);
}
