//! Random bytes, from the library that also makes those of TLS.

/// A number that no request before had.
pub(super) fn nonce() -> String {
    let mut bytes = [0_u8; 16];
    rustls::crypto::aws_lc_rs::default_provider()
        .secure_random
        .fill(&mut bytes)
        .expect("aws-lc has entropy once TLS has");
    hex::encode(bytes)
}
