//! Why the cloud has no result to give, and how its answers say so.

use hyper::body::Bytes;
use hyper::{Response, StatusCode};
use serde::Deserialize;

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

/// The error body, in the two spellings that the services use.
#[derive(Default, Deserialize)]
struct Complaint {
    #[serde(alias = "Code", alias = "errorCode", default)]
    code: String,
    #[serde(alias = "Message", alias = "errorMsg", default)]
    message: String,
}

/// The error that an answer reports, if it does. Its HTTP status decides that: the bodies of
/// successes carry a sample `errorCode`, too.
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
