//! What RAM says of the role that lets Hologres use the keys.

use hyper::Method;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::AlibabaCloud;
use super::api::Call;
use super::error::CloudError;

const RAM_VERSION: &str = "2015-05-01";

/// A RAM role.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Role {
    /// Its trust policy, JSON in a text.
    pub assume_role_policy_document: String,
}

/// A policy that is attached to a role.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Policy {
    /// Its name.
    pub policy_name: String,
    /// `System` or `Custom`.
    pub policy_type: String,
}

impl AlibabaCloud {
    /// A role; `None`: there is no such role.
    ///
    /// # Errors
    /// See [`CloudError`].
    pub async fn role(&self, name: &str) -> Result<Option<Role>, CloudError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Answer {
            role: Role,
        }
        match self.ram::<Answer>("GetRole", &[("RoleName", name)]).await {
            Ok(answer) => Ok(Some(answer.role)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The policies attached to a role.
    ///
    /// # Errors
    /// See [`CloudError`].
    pub async fn policies(&self, role: &str) -> Result<Vec<Policy>, CloudError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Answer {
            policies: Policies,
        }
        #[derive(Deserialize)]
        struct Policies {
            #[serde(rename = "Policy", default)]
            policies: Vec<Policy>,
        }
        let parameters = [("RoleName", role)];
        let answer: Answer = self.ram("ListPoliciesForRole", &parameters).await?;
        Ok(answer.policies.policies)
    }

    /// The document of a policy, JSON in a text.
    ///
    /// # Errors
    /// See [`CloudError`].
    pub async fn policy_document(&self, policy: &Policy) -> Result<String, CloudError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Answer {
            default_policy_version: Version,
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Version {
            policy_document: String,
        }
        let parameters = [
            ("PolicyName", policy.policy_name.as_str()),
            ("PolicyType", policy.policy_type.as_str()),
        ];
        let answer: Answer = self.ram("GetPolicy", &parameters).await?;
        Ok(answer.default_policy_version.policy_document)
    }

    async fn ram<T: DeserializeOwned>(
        &self,
        action: &str,
        parameters: &[(&str, &str)],
    ) -> Result<T, CloudError> {
        let call = Call {
            endpoint: &self.cloud.ram(),
            method: Method::POST,
            path: "/",
            parameters,
            action,
            version: RAM_VERSION,
        };
        self.api.call(&call).await
    }
}
