//! Alibaba Cloud's V3 signature, ACS3-HMAC-SHA256 (Alibaba Cloud SDK, *V3 request structure and
//! signature*).

use std::fmt::Write as _;
use std::time::SystemTime;

use hmac::{Hmac, KeyInit, Mac};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use sha2::{Digest, Sha256};

use super::credentials::Credentials;
use super::timestamp;

const ALGORITHM: &str = "ACS3-HMAC-SHA256";
/// All but RFC 3986's unreserved characters.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~');

/// What is signed of a request. Bodies are empty throughout: parameters are in the query.
pub(super) struct Unsigned<'a> {
    /// `GET` or `POST`.
    pub(super) method: &'a str,
    /// The host as the `Host` header says it.
    pub(super) host: &'a str,
    /// The path, each segment of it encoded by [`encode`].
    pub(super) path: &'a str,
    /// The query as [`canonical_query`] makes it.
    pub(super) query: &'a str,
    pub(super) action: &'a str,
    pub(super) version: &'a str,
}

/// The headers to send besides `Host`, the signature among them.
pub(super) fn headers(
    request: &Unsigned<'_>,
    credentials: &Credentials,
    date: SystemTime,
    nonce: &str,
) -> Vec<(&'static str, String)> {
    let body = hex::encode(Sha256::digest(b""));
    // In the order of their names, `host` being the first.
    let mut headers = vec![
        ("x-acs-action", request.action.to_owned()),
        ("x-acs-content-sha256", body.clone()),
        ("x-acs-date", timestamp::format(date)),
    ];
    if let Some(token) = &credentials.token {
        headers.push(("x-acs-security-token", token.0.trim().to_owned()));
    }
    headers.push(("x-acs-signature-nonce", nonce.to_owned()));
    headers.push(("x-acs-version", request.version.to_owned()));

    let mut canonical = format!("host:{}\n", request.host);
    let mut signed = String::from("host");
    for (name, value) in &headers {
        // Writing to a String does not fail.
        let _ = writeln!(canonical, "{name}:{value}");
        let _ = write!(signed, ";{name}");
    }
    let Unsigned {
        method,
        path,
        query,
        ..
    } = request;
    let whole = format!("{method}\n{path}\n{query}\n{canonical}\n{signed}\n{body}");
    let to_sign = format!(
        "{ALGORITHM}\n{}",
        hex::encode(Sha256::digest(whole.as_bytes()))
    );
    let mut mac = Hmac::<Sha256>::new_from_slice(credentials.secret.0.as_bytes())
        .expect("HMAC takes a key of any length");
    mac.update(to_sign.as_bytes());
    let signature = hex::encode(mac.finalize().into_bytes());
    headers.push((
        "authorization",
        format!(
            "{ALGORITHM} Credential={},SignedHeaders={signed},Signature={signature}",
            credentials.id
        ),
    ));
    headers
}

/// A query, sorted by name and encoded, in the one form that is both sent and signed.
pub(super) fn canonical_query(parameters: &[(&str, &str)]) -> String {
    let mut encoded: Vec<_> = parameters
        .iter()
        .map(|(name, value)| (encode(name), encode(value)))
        .collect();
    encoded.sort_unstable();
    let pairs: Vec<_> = encoded
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    pairs.join("&")
}

/// Encodes a text as RFC 3986 has it: everything but the unreserved characters as `%XX`.
pub(super) fn encode(text: &str) -> String {
    utf8_percent_encode(text, RESERVED).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Secret;

    /// The vendor's published example.
    #[test]
    fn the_published_vector() {
        let query = canonical_query(&[
            ("RegionId", "cn-shanghai"),
            (
                "ImageId",
                "win2019_1809_x64_dtc_zh-cn_40G_alibase_20230811.vhd",
            ),
        ]);
        let request = Unsigned {
            method: "POST",
            host: "ecs.cn-shanghai.aliyuncs.com",
            path: "/",
            query: &query,
            action: "RunInstances",
            version: "2014-05-26",
        };
        let credentials = Credentials {
            id: "YourAccessKeyId".into(),
            secret: Secret("YourAccessKeySecret".into()),
            token: None,
            expires: None,
        };
        let date = timestamp::parse("2023-10-26T10:22:32Z").unwrap();
        let headers = headers(
            &request,
            &credentials,
            date,
            "3156853299f313e23d1673dc12e1703d",
        );
        let (name, value) = headers.last().unwrap();
        assert_eq!(*name, "authorization");
        assert_eq!(
            value,
            "ACS3-HMAC-SHA256 Credential=YourAccessKeyId,SignedHeaders=host;x-acs-action;\
             x-acs-content-sha256;x-acs-date;x-acs-signature-nonce;x-acs-version,Signature=\
             06563a9e1b43f5dfe96b81484da74bceab24a1d853912eee15083a6f0f3283c0"
        );
    }

    #[test]
    fn encoding_is_that_of_rfc_3986() {
        assert_eq!(encode("a b*c+~/é"), "a%20b%2Ac%2B~%2F%C3%A9");
        assert_eq!(canonical_query(&[("b", ""), ("a", "=&")]), "a=%3D%26&b=");
    }
}
