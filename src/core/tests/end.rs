//! What passes behind a session's end, and where nothing is looked into.

use crate::core::{Core, Op, Outbox, Policy};
use crate::wire::compose;

use super::trio::{at_login, known, policy};

fn core(relay_only: bool) -> (Core, Outbox) {
    let policy = Policy {
        relay_only,
        ..policy()
    };
    (Core::new(policy, at_login()), Outbox::default())
}

#[test]
fn what_a_client_sends_behind_the_end_is_let_go() {
    let invalid = b"Q\0\0\0\x01";
    let fatal = b"E\0\0\0\x13SFATAL\0VFATAL\0\0";
    for (from_client, from_server) in [
        (&b"X\0\0\0\x04"[..], &b""[..]),
        (invalid, b""),
        (b"", invalid),
        (b"", fatal),
    ] {
        let (mut core, mut out) = core(false);
        core.on_frontend(from_client, &known(), &mut out);
        core.on_backend(from_server, &known(), &mut out);
        assert!(core.ended().is_some());
        out = Outbox::default();
        let endless = vec![b'x'; 1 << 16];
        for _ in 0..3 {
            let progress = core.on_frontend(&endless, &known(), &mut out);
            assert_eq!(progress.consumed, endless.len());
        }
        assert!(out.to_server.iter().all(|op| matches!(op, Op::Drop(_))));
    }
}

#[test]
fn what_is_only_relayed_is_counted_by_its_frames_all_the_same() {
    let (mut core, mut out) = core(true);
    for (bytes, mid_message) in [
        (&b"d\0\0"[..], true),
        (b"\0\x08ab", true),
        (b"cd", false),
        (b"d\0\0\0\x04d\0\0\0\x05", true),
        (b"x", false),
        // This is no header: from here on nothing is known of frames.
        (b"d\0\0\0\x01", true),
        (b"anything", true),
    ] {
        let progress = core.on_backend(bytes, &known(), &mut out);
        assert_eq!(progress.consumed, bytes.len());
        assert_eq!(core.backend_mid_message(), mid_message, "{bytes:?}");
    }
    assert!(out.to_client.iter().all(|op| matches!(op, Op::Forward(_))));
}

fn query(text: &str) -> Vec<u8> {
    let mut frame = Vec::new();
    compose::frame(&mut frame, b'Q', |body| {
        body.extend_from_slice(text.as_bytes());
        body.push(0);
    });
    frame
}

#[test]
fn a_pipeline_loses_nothing_of_its_midst() {
    // What was sent, and whether the statement in front may be ended: if it was the last, if the client
    // has more to say that is not sent, and if it was the last and the client has said goodbye.
    for (texts, last, more, goodbye) in [
        (&["read"][..], true, true, true),
        (&["read", "read"], true, true, true),
        (&["write"], true, false, false),
        (&["write", "read"], false, false, false),
        (&["read", "write"], false, false, false),
        (&["read", "vacuum", "read"], false, false, false),
        (&["begin;read"], true, false, false),
        (&["begin", "read"], false, false, false),
        (&["copyin"], true, false, false),
    ] {
        let (mut core, mut out) = core(false);
        let sent: Vec<u8> = texts.iter().flat_map(|text| query(text)).collect();
        core.on_frontend(&sent, &known(), &mut out);
        assert!(core.is_busy());
        assert_eq!(core.may_be_cut_off(true, true), last, "{texts:?}");
        assert_eq!(core.may_be_cut_off(false, true), more, "{texts:?}");
        assert_eq!(core.may_be_cut_off(true, false), goodbye, "{texts:?}");
    }
    let (mut core, mut out) = core(true);
    core.on_frontend(&query("read"), &known(), &mut out);
    assert!(!core.may_be_cut_off(true, true), "nobody knows what it is");
}
