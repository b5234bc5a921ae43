//! Credentials: where they come from, and their renewal before they end. The variables' names are
//! those of Alibaba Cloud's own SDKs.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::Mutex;

use super::api::CloudError;
use super::{files, temporary};
use crate::config::{Cloud, CredentialSource, Endpoint, Secret};

/// Temporary credentials are renewed this long before they end, as Alibaba Cloud's SDKs do.
const RENEW_BEFORE: Duration = Duration::from_mins(15);
/// After a try that failed, how long until the next: those at hand are used meanwhile, and where there
/// are none, all who ask are told the same at once.
const TRY_AGAIN: Duration = Duration::from_secs(30);

/// An access key, temporary if it has a token.
#[derive(Clone)]
pub(super) struct Credentials {
    pub(super) id: String,
    pub(super) secret: Secret,
    pub(super) token: Option<Secret>,
    /// `None`: never.
    pub(super) expires: Option<SystemTime>,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let start: String = self.id.chars().take(4).collect();
        write!(formatter, "Credentials({start}…)")
    }
}

type Variable = dyn Fn(&str) -> Option<String> + Send + Sync;

/// What the process finds around it: variables, a home directory, the machine's metadata service.
pub struct Surroundings {
    /// An environment variable; an empty one counts as not set.
    pub(super) variable: Box<Variable>,
    /// Where `.aliyun/config.json` and `.alibabacloud/credentials.ini` are.
    pub(super) home: Option<PathBuf>,
    /// The ECS instance's metadata service.
    pub(super) metadata: Endpoint,
}

impl Surroundings {
    /// Those of this process.
    pub fn of_process() -> Self {
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        Self {
            home: variable("HOME").map(PathBuf::from),
            variable: Box::new(variable),
            metadata: Endpoint {
                tls: false,
                host: "100.100.100.200".into(),
                port: 80,
            },
        }
    }

    /// A variable of Alibaba Cloud's SDKs, without their common prefix.
    pub(super) fn own(&self, name: &str) -> Option<String> {
        (self.variable)(&format!("ALIBABA_CLOUD_{name}"))
    }
}

/// Credentials that are had once and renewed before they end.
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
    pub(super) fn new(cloud: &Cloud, surroundings: Surroundings) -> Self {
        Self {
            sources: Sources {
                source: cloud.credentials,
                sts: cloud.sts(),
                timeout: cloud.timeout,
                surroundings,
            },
            state: Mutex::new(State::Nothing),
        }
    }

    /// Those to sign with now. Whoever comes while they are renewed waits for that.
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

    /// The cloud does not take them any more: the next one who asks gets others.
    pub(super) async fn forget(&self) {
        *self.state.lock().await = State::Nothing;
    }
}

/// Where to look.
pub(super) struct Sources {
    source: CredentialSource,
    pub(super) sts: Endpoint,
    pub(super) timeout: Duration,
    pub(super) surroundings: Surroundings,
}

impl Sources {
    async fn find(&self) -> Result<Credentials, CloudError> {
        let found = match self.source {
            CredentialSource::Environment => self.environment(),
            CredentialSource::Oidc => temporary::oidc(self).await?,
            CredentialSource::File => self.file().await?,
            CredentialSource::EcsRole => Some(temporary::ecs_role(self, None).await?),
            // In the order of Alibaba Cloud's SDKs; what is there but does not work is an error,
            // not a reason to act as somebody else.
            CredentialSource::Auto => match self.environment() {
                Some(found) => Some(found),
                None => match temporary::oidc(self).await? {
                    Some(found) => Some(found),
                    None => match self.file().await? {
                        Some(found) => Some(found),
                        None => Some(temporary::ecs_role(self, None).await?),
                    },
                },
            },
        };
        found.ok_or_else(|| CloudError::Credentials(self.missing().into()))
    }

    fn missing(&self) -> &'static str {
        match self.source {
            CredentialSource::Environment => {
                "set ALIBABA_CLOUD_ACCESS_KEY_ID and ALIBABA_CLOUD_ACCESS_KEY_SECRET"
            }
            CredentialSource::Oidc => {
                "set ALIBABA_CLOUD_ROLE_ARN, ALIBABA_CLOUD_OIDC_PROVIDER_ARN and \
                 ALIBABA_CLOUD_OIDC_TOKEN_FILE"
            }
            _ => {
                "there is neither ~/.aliyun/config.json nor ~/.alibabacloud/credentials.ini (or the \
                 file in ALIBABA_CLOUD_CREDENTIALS_FILE)"
            }
        }
    }

    fn environment(&self) -> Option<Credentials> {
        let own = |name| self.surroundings.own(name);
        Some(Credentials {
            id: own("ACCESS_KEY_ID")?,
            secret: Secret(own("ACCESS_KEY_SECRET")?),
            token: own("SECURITY_TOKEN").map(Secret),
            expires: None,
        })
    }

    async fn file(&self) -> Result<Option<Credentials>, CloudError> {
        match files::find(&self.surroundings).map_err(CloudError::Credentials)? {
            Some(files::Found::Credentials(found)) => Ok(Some(found)),
            Some(files::Found::EcsRole(role)) => temporary::ecs_role(self, role).await.map(Some),
            None => Ok(None),
        }
    }
}
