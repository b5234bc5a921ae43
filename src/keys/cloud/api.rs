//! Signed calls of Alibaba Cloud's API. A call that is throttled is tried again after a pause, one
//! whose credentials have expired is tried once more with new ones, one that is refused for its date is
//! tried once more with the cloud's, and one that is refused otherwise has failed. An endpoint that asks
//! for a longer rest is left alone for so long.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use hyper::body::Bytes;
use hyper::{Method, Response};
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use super::error::{CloudError, read};
use super::random::nonce;
use super::renewal::Renewing;
use super::sign::{self, Unsigned};
use super::surroundings::Surroundings;
use crate::chance::half_or_more;
use crate::config::{Cloud, Endpoint};
use crate::net::http;

/// Tries of one call, throttled ones included.
const ATTEMPTS: u32 = 4;
/// The wait after the first throttled try; each further one is twice as long. Half of each is drawn
/// by lot, so that a fleet's replicas do not come back together.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
/// The longest wait for which whoever asked is kept waiting.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// The longest rest that an endpoint is given, whatever it asks for.
const LONGEST_REST: Duration = Duration::from_mins(15);

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
    state: Mutex<State>,
}

/// What answers have said of calls to come.
#[derive(Default)]
struct State {
    /// Until when an endpoint is left alone.
    rests: HashMap<String, Instant>,
    /// How far this machine's clock is from the cloud's.
    clock: Offset,
}

/// How far one clock is from another.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Offset {
    #[default]
    None,
    Ahead(Duration),
    Behind(Duration),
}

impl Offset {
    /// That of the clock that shows `here` when the other one shows `there`.
    fn between(here: SystemTime, there: SystemTime) -> Self {
        match here.duration_since(there) {
            Ok(ahead) => Self::Ahead(ahead),
            Err(behind) => Self::Behind(behind.duration()),
        }
    }

    /// What the other clock shows when this one shows `here`.
    fn there(self, here: SystemTime) -> SystemTime {
        let there = match self {
            Self::None => Some(here),
            Self::Ahead(by) => here.checked_sub(by),
            Self::Behind(by) => here.checked_add(by),
        };
        there.unwrap_or(here)
    }
}

impl Api {
    /// Nothing is asked before the first call.
    pub(super) fn new(cloud: &Cloud, surroundings: Surroundings) -> Self {
        Self {
            credentials: Renewing::new(cloud, surroundings),
            timeout: cloud.timeout,
            state: Mutex::default(),
        }
    }

    /// The answer to a call, once it is one.
    ///
    /// # Errors
    /// See [`CloudError`]; the text names the action and the endpoint.
    pub(super) async fn call<T: DeserializeOwned>(&self, call: &Call<'_>) -> Result<T, CloudError> {
        let mut renewed = false;
        let mut dated = false;
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
                CloudError::Refused { code, .. } if is_untimely(code) && !dated => {
                    dated = true;
                    if !self.take_clock(&answer) {
                        return Err(error);
                    }
                }
                CloudError::Throttled(_) if tries < ATTEMPTS => {
                    let asked = asked_pause(&answer).unwrap_or_default();
                    if asked > LONGEST_PAUSE {
                        self.rest(call, asked);
                        return Err(error);
                    }
                    let own = FIRST_PAUSE * 2_u32.pow(tries - 1);
                    let pause = half_or_more(own).max(asked);
                    tokio::time::sleep(pause.min(LONGEST_PAUSE)).await;
                }
                _ => return Err(error),
            }
        }
    }

    async fn once(&self, call: &Call<'_>) -> Result<Response<Bytes>, CloudError> {
        let host = call.endpoint.authority();
        self.rested(&host)?;
        let credentials = self.credentials.get().await?;
        let query = sign::canonical_query(call.parameters);
        let unsigned = Unsigned {
            method: call.method.as_str(),
            host: &host,
            path: call.path,
            query: &query,
            action: call.action,
            version: call.version,
        };
        let headers = sign::headers(&unsigned, &credentials, self.now(), &nonce());
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

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        // Each change of it is a single one.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The time as the cloud has it.
    fn now(&self) -> SystemTime {
        self.state().clock.there(SystemTime::now())
    }

    /// Takes the time from an answer. False: it does not say what time it is.
    fn take_clock(&self, answer: &Response<Bytes>) -> bool {
        let date = header(answer, "date").and_then(http_date);
        let Some(there) = date else {
            return false;
        };
        let clock = Offset::between(SystemTime::now(), there);
        self.state().clock = clock;
        tracing::warn!(
            ?clock,
            "this machine's clock is not the cloud's: calls are signed with the cloud's time"
        );
        true
    }

    /// The call's endpoint is left alone.
    fn rest(&self, call: &Call<'_>, asked: Duration) {
        let until = Instant::now() + asked.min(LONGEST_REST);
        self.state().rests.insert(call.endpoint.authority(), until);
    }

    /// An error as long as an endpoint is left alone.
    fn rested(&self, host: &str) -> Result<(), CloudError> {
        let mut state = self.state();
        let Some(until) = state.rests.get(host) else {
            return Ok(());
        };
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            state.rests.remove(host);
            return Ok(());
        }
        Err(CloudError::Throttled(format!(
            "{host} has asked to be left alone for {} s more",
            left.as_secs() + 1
        )))
    }
}

/// Codes of requests whose date is too far from the cloud's.
fn is_untimely(code: &str) -> bool {
    code.starts_with("InvalidTimeStamp") || code.starts_with("IllegalTimestamp")
}

fn header<'a>(answer: &'a Response<Bytes>, name: &str) -> Option<&'a str> {
    answer.headers().get(name)?.to_str().ok()
}

/// Codes of credentials that are no longer what they were: an STS token past its time, or a key
/// that was rotated.
fn is_expired(code: &str) -> bool {
    code.starts_with("InvalidSecurityToken") || code.starts_with("InvalidAccessKeyId")
}

/// The time of a header.
fn http_date(text: &str) -> Option<SystemTime> {
    httpdate::parse_http_date(text).ok()
}

/// How long the cloud asks to be left alone: `x-acs-retry-after`, in milliseconds, or HTTP's own
/// `Retry-After`, in seconds or as a date, which is taken by the clock that has set it.
fn asked_pause(answer: &Response<Bytes>) -> Option<Duration> {
    let milliseconds = header(answer, "x-acs-retry-after").and_then(|text| text.parse().ok());
    if let Some(milliseconds) = milliseconds {
        return Some(Duration::from_millis(milliseconds));
    }
    let text = header(answer, "retry-after")?;
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let now = header(answer, "date").and_then(http_date);
    let until = http_date(text)?;
    until
        .duration_since(now.unwrap_or_else(SystemTime::now))
        .ok()
}
