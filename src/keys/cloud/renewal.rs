//! Credentials that are asked for once and then kept, until shortly before they end.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::Mutex;

use super::credentials::Credentials;
use super::error::CloudError;
use super::sources::Sources;
use super::surroundings::Surroundings;
use crate::config::Cloud;

/// Temporary credentials are renewed this long before they end, as Alibaba Cloud's SDKs do.
const RENEW_BEFORE: Duration = Duration::from_mins(15);
/// After a try that failed, how long until the next: those at hand are used meanwhile, and where there
/// are none, all who ask are told the same at once.
const TRY_AGAIN: Duration = Duration::from_secs(30);

/// Credentials that are kept, and renewed before they end.
pub(super) struct Renewing {
    sources: Sources,
    state: Mutex<State>,
}

enum State {
    Nothing,
    Held {
        credentials: Arc<Credentials>,
        renew_at: Option<SystemTime>,
    },
    Failed {
        error: CloudError,
        again: Instant,
    },
}

impl Renewing {
    /// Nothing is asked before the first call.
    pub(super) fn new(cloud: &Cloud, surroundings: Surroundings) -> Self {
        Self {
            sources: Sources::new(cloud, surroundings),
            state: Mutex::new(State::Nothing),
        }
    }

    /// The credentials to sign with now. Whoever comes while they are renewed waits for that.
    pub(super) async fn get(&self) -> Result<Arc<Credentials>, CloudError> {
        let mut state = self.state.lock().await;
        let now = SystemTime::now();
        match &*state {
            State::Held {
                credentials,
                renew_at,
            } if renew_at.is_none_or(|at| now < at) => return Ok(Arc::clone(credentials)),
            State::Failed { error, again } if Instant::now() < *again => return Err(error.clone()),
            _ => {}
        }
        let error = match self.sources.find().await {
            Ok(found) => {
                let credentials = Arc::new(found);
                *state = State::Held {
                    credentials: Arc::clone(&credentials),
                    renew_at: credentials.expires.map(|at| at - RENEW_BEFORE),
                };
                return Ok(credentials);
            }
            Err(error) => error,
        };
        if let State::Held {
            credentials,
            renew_at,
        } = &mut *state
            && credentials.expires.is_none_or(|at| now < at)
        {
            tracing::warn!(%error, "cannot renew the cloud's credentials yet");
            *renew_at = Some(now + TRY_AGAIN);
            return Ok(Arc::clone(credentials));
        }
        *state = State::Failed {
            error: error.clone(),
            again: Instant::now() + TRY_AGAIN,
        };
        Err(error)
    }

    /// Forgets the credentials, since the cloud does not take them any more. The next one who asks
    /// gets others.
    pub(super) async fn forget(&self) {
        *self.state.lock().await = State::Nothing;
    }
}
