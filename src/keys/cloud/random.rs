//! Random bytes, from the library that also makes those of TLS.

/// A number that no request before had.
pub(super) fn nonce() -> String {
    hex::encode(random())
}

/// A number from 0 to 1.
pub(super) fn fraction() -> f64 {
    let [a, b, ..] = random();
    f64::from(u16::from_be_bytes([a, b])) / f64::from(u16::MAX)
}

fn random() -> [u8; 16] {
    let mut bytes = [0; 16];
    rustls::crypto::aws_lc_rs::default_provider()
        .secure_random
        .fill(&mut bytes)
        .expect("aws-lc has entropy once TLS has");
    bytes
}
