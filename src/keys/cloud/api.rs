//! Signed calls of Alibaba Cloud's API. A call that is throttled is tried again after a pause, one
//! whose credentials have expired is tried once more with new ones, and one that is refused has
//! failed.

use std::time::{Duration, SystemTime};

use hyper::body::Bytes;
use hyper::{Method, Response};
use serde::de::DeserializeOwned;

use super::error::{CloudError, read};
use super::random::{fraction, nonce};
use super::renewal::Renewing;
use super::sign::{self, Unsigned};
use super::surroundings::Surroundings;
use crate::config::{Cloud, Endpoint};
use crate::net::http;

/// Tries of one call, throttled ones included.
const ATTEMPTS: u32 = 4;
/// The wait after the first throttled try; each further one is twice as long. Half of each is drawn
/// by lot, so that a fleet's replicas do not come back together.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
/// The longest wait, whatever the cloud asks for.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// One call: its address, its parameters, and the names under which the API knows it.
pub(super) struct Call<'a> {
    pub(super) endpoint: &'a Endpoint,
    pub(super) method: Method,
    /// The path, each segment of it encoded.
    pub(super) path: &'a str,
    pub(super) parameters: &'a [(&'a str, &'a str)],
    pub(super) action: &'a str,
    pub(super) version: &'a str,
}

/// Makes calls, with credentials that are renewed before they end.
pub(super) struct Api {
    credentials: Renewing,
    timeout: Duration,
}

impl Api {
    /// Nothing is asked before the first call.
    pub(super) fn new(cloud: &Cloud, surroundings: Surroundings) -> Self {
        Self {
            credentials: Renewing::new(cloud, surroundings),
            timeout: cloud.timeout,
        }
    }

    /// The answer to a call, once it is one.
    ///
    /// # Errors
    /// See [`CloudError`]; the text names the action and the endpoint.
    pub(super) async fn call<T: DeserializeOwned>(&self, call: &Call<'_>) -> Result<T, CloudError> {
        let mut renewed = false;
        let mut tries = 0;
        loop {
            tries += 1;
            let answer = self.once(call).await?;
            let Err(error) = read(&answer) else {
                return serde_json::from_slice(answer.body())
                    .map_err(|error| CloudError::Malformed(format!("{}: {error}", call.action)));
            };
            match &error {
                CloudError::Refused { code, .. } if is_expired(code) && !renewed => {
                    renewed = true;
                    self.credentials.forget().await;
                }
                CloudError::Throttled(_) if tries < ATTEMPTS => {
                    let asked = asked_pause(&answer).unwrap_or_default();
                    let own = FIRST_PAUSE * 2_u32.pow(tries - 1);
                    let pause = own.mul_f64(0.5 + 0.5 * fraction()).max(asked);
                    tokio::time::sleep(pause.min(LONGEST_PAUSE)).await;
                }
                _ => return Err(error),
            }
        }
    }

    async fn once(&self, call: &Call<'_>) -> Result<Response<Bytes>, CloudError> {
        let credentials = self.credentials.get().await?;
        let query = sign::canonical_query(call.parameters);
        let host = call.endpoint.authority();
        let unsigned = Unsigned {
            method: call.method.as_str(),
            host: &host,
            path: call.path,
            query: &query,
            action: call.action,
            version: call.version,
        };
        let headers = sign::headers(&unsigned, &credentials, SystemTime::now(), &nonce());
        let target = if query.is_empty() {
            call.path.to_owned()
        } else {
            format!("{}?{query}", call.path)
        };
        let (endpoint, method) = (call.endpoint, call.method.clone());
        http::send(
            endpoint,
            method,
            &target,
            &headers,
            String::new(),
            self.timeout,
        )
        .await
        .map_err(|error| CloudError::Unavailable(format!("{} at {host}: {error}", call.action)))
    }
}

/// Codes of credentials that are no longer what they were: an STS token past its time, or a key
/// that was rotated.
fn is_expired(code: &str) -> bool {
    code.starts_with("InvalidSecurityToken") || code.starts_with("InvalidAccessKeyId")
}

/// `x-acs-retry-after`, in milliseconds.
fn asked_pause(answer: &Response<Bytes>) -> Option<Duration> {
    let header = answer.headers().get("x-acs-retry-after")?;
    header
        .to_str()
        .ok()?
        .parse()
        .ok()
        .map(Duration::from_millis)
}
