//! What a client sends before authentication.

use osprey::wire::startup::{MAX_STARTUP, Packet, Startup, cancel_request};

/// Reads the input as the login does: the length first, then a packet of that length.
pub(crate) fn run(data: &[u8]) {
    let Ok(Some(length)) = Packet::length(data) else {
        return;
    };
    assert!((8..=MAX_STARTUP).contains(&length));
    // A packet that is cut short never gets as far; the view must bear it all the same.
    let packet = &data[..length.min(data.len())];
    match Packet::read(packet) {
        Ok(Packet::Startup(startup)) => look(startup, packet),
        Ok(Packet::Cancel(whole)) => {
            assert_eq!(whole, packet);
            let again = cancel_request(&packet[8..]);
            assert_eq!(Packet::read(&again), Ok(Packet::Cancel(&again)));
            assert_eq!(again[4..], packet[4..]);
        }
        Ok(Packet::SslRequest | Packet::GssEncRequest) => assert_eq!(packet.len(), 8),
        Err(_) => {}
    }
}

fn look(startup: Startup<'_>, packet: &[u8]) {
    assert_eq!(startup.packet, packet);
    let bytes: usize = startup
        .parameters()
        .map(|(name, value)| name.len() + value.len() + 2)
        .sum();
    assert!(bytes <= packet.len());
    for (name, _) in startup.parameters() {
        assert!(!name.is_empty());
    }
    assert!(
        packet.len() >= startup.user().len() + startup.database().len()
            || startup.database() == startup.user()
    );
    assert!(startup.options().iter().map(Vec::len).sum::<usize>() <= packet.len());
    for (name, _) in startup.settings() {
        assert!(!name.contains(char::is_uppercase) || !name.is_ascii());
    }
    let last = startup.settings().into_iter().rev();
    let mut last = last.filter(|(name, _)| name == "search_path");
    assert_eq!(
        startup.setting("search_path"),
        last.next().map(|(_, value)| value)
    );
    let _ = (startup.is_replication(), startup.is_fixed_front_end());
}
