//! One signed call of Alibaba Cloud's API: throttling is waited out, credentials that expired are
//! renewed once, a refusal is final.

use std::time::{Duration, SystemTime};

use hyper::body::Bytes;
use hyper::{Method, Response, StatusCode};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::credentials::{Renewing, Surroundings};
use super::http;
use super::sign::{self, Unsigned};
use crate::config::{Cloud, Endpoint};

/// Tries of one call, throttled ones included.
const ATTEMPTS: u32 = 4;
/// The wait after the first throttled try; each further one is twice as long. Half of each is drawn
/// by lot, so that a fleet's replicas do not come back together.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
/// The longest wait, whatever the cloud asks for.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// Characters of the cloud's message that are kept for logs.
const MAX_MESSAGE: usize = 300;

/// Why a call has no result.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CloudError {
    /// The cloud said no; asking again changes nothing.
    #[error("refused: {code}: {message} (HTTP {status})")]
    Refused {
        /// HTTP status.
        status: u16,
        /// The cloud's `Code`.
        code: String,
        /// The cloud's `Message`.
        message: String,
    },
    /// Still throttled after all tries.
    #[error("throttled: {0}")]
    Throttled(String),
    /// No answer, or one that says that the service is unwell.
    #[error("no answer: {0}")]
    Unavailable(String),
    /// An answer that cannot be read.
    #[error("not understood: {0}")]
    Malformed(String),
    /// Nobody gave credentials, or they cannot be had.
    #[error("no credentials: {0}")]
    Credentials(String),
}

impl CloudError {
    /// True if what was asked for does not exist, as opposed to being kept from the caller.
    pub(super) fn is_not_found(&self) -> bool {
        matches!(self, Self::Refused { status: 404, code, .. } if !code.starts_with("Forbidden."))
    }
}

/// What to call.
pub(super) struct Call<'a> {
    pub(super) endpoint: &'a Endpoint,
    pub(super) method: Method,
    /// Each segment encoded.
    pub(super) path: &'a str,
    pub(super) parameters: &'a [(&'a str, &'a str)],
    pub(super) action: &'a str,
    pub(super) version: &'a str,
}

/// Calls with credentials that are renewed before they end.
pub(super) struct Api {
    credentials: Renewing,
    timeout: Duration,
}

impl Api {
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
                    let pause = own.mul_f64(0.5 + 0.5 * lot()).max(asked);
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

/// The error body, in the two spellings that the services use.
#[derive(Default, Deserialize)]
struct Complaint {
    #[serde(alias = "Code", alias = "errorCode", default)]
    code: String,
    #[serde(alias = "Message", alias = "errorMsg", default)]
    message: String,
}

/// An answer's error, by its HTTP status: bodies of successes carry a sample `errorCode`, too.
pub(super) fn read(answer: &Response<Bytes>) -> Result<(), CloudError> {
    let status = answer.status();
    if status.is_success() {
        return Ok(());
    }
    let complaint: Complaint = serde_json::from_slice(answer.body()).unwrap_or_default();
    let message: String = complaint.message.chars().take(MAX_MESSAGE).collect();
    let code = complaint.code;
    if status == StatusCode::TOO_MANY_REQUESTS || code.contains("Throttling") {
        return Err(CloudError::Throttled(format!("{code}: {message}")));
    }
    if status.is_server_error() {
        return Err(CloudError::Unavailable(format!(
            "HTTP {}: {code}: {message}",
            status.as_u16()
        )));
    }
    Err(CloudError::Refused {
        status: status.as_u16(),
        code,
        message,
    })
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

/// A number that no request before had.
pub(super) fn nonce() -> String {
    sign::hex(&random())
}

/// From 0 to 1.
fn lot() -> f64 {
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
