//! Where credentials come from: the environment, files, a role. The variables' names are those of
//! Alibaba Cloud's own SDKs.

use std::time::Duration;

use super::credentials::Credentials;
use super::error::CloudError;
use super::surroundings::Surroundings;
use super::{files, temporary};
use crate::config::{Cloud, CredentialSource, Endpoint, Secret};

/// Where to look for credentials.
pub(super) struct Sources {
    source: CredentialSource,
    sts: Endpoint,
    timeout: Duration,
    surroundings: Surroundings,
}

impl Sources {
    /// Where the configuration says to look.
    pub(super) fn new(cloud: &Cloud, surroundings: Surroundings) -> Self {
        Self {
            source: cloud.credentials,
            sts: cloud.sts(),
            timeout: cloud.timeout,
            surroundings,
        }
    }

    /// The credentials of the first source that has any, among those that are to be asked.
    pub(super) async fn find(&self) -> Result<Credentials, CloudError> {
        let found = match self.source {
            CredentialSource::Environment => self.environment(),
            CredentialSource::Oidc => self.oidc().await?,
            CredentialSource::File => self.file().await?,
            CredentialSource::EcsRole => Some(self.ecs_role(None).await?),
            // In the order of Alibaba Cloud's SDKs; what is there but does not work is an error,
            // not a reason to act as somebody else.
            CredentialSource::Auto => match self.environment() {
                Some(found) => Some(found),
                None => match self.oidc().await? {
                    Some(found) => Some(found),
                    None => match self.file().await? {
                        Some(found) => Some(found),
                        None => Some(self.ecs_role(None).await?),
                    },
                },
            },
        };
        found.ok_or_else(|| CloudError::Credentials(self.missing().into()))
    }

    async fn oidc(&self) -> Result<Option<Credentials>, CloudError> {
        temporary::oidc(&self.surroundings, &self.sts, self.timeout).await
    }

    async fn ecs_role(&self, role: Option<String>) -> Result<Credentials, CloudError> {
        temporary::ecs_role(&self.surroundings, role, self.timeout).await
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
            Some(files::Found::EcsRole(role)) => self.ecs_role(role).await.map(Some),
            None => Ok(None),
        }
    }
}
