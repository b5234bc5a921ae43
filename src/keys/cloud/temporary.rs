//! Temporary credentials: the role of an ECS instance, from its metadata service (version 2: a
//! token first), and a role assumed with a Kubernetes service account's token (RRSA, OIDC).

use hyper::body::Bytes;
use hyper::{Method, Response};
use serde::Deserialize;
use std::time::{Duration, SystemTime};

use super::credentials::Credentials;
use super::error::{CloudError, read};
use super::random::nonce;
use super::sign::canonical_query;
use super::surroundings::Surroundings;
use super::{sign, timestamp};
use crate::config::{Endpoint, Secret};
use crate::net::http;

/// Where an instance's role is found.
const ROLES: &str = "/latest/meta-data/ram/security-credentials/";
/// How long the metadata service's own token may be used; it is used at once.
const METADATA_TOKEN_SECONDS: &str = "60";
/// The metadata service is on the instance's own host; elsewhere, nobody answers at all.
const METADATA_TIMEOUT: Duration = Duration::from_secs(2);
/// How long an assumed role lasts.
const SESSION_SECONDS: &str = "3600";

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Issued {
    access_key_id: String,
    access_key_secret: String,
    security_token: String,
    expiration: String,
}

impl Issued {
    fn credentials(self) -> Result<Credentials, CloudError> {
        let expires = timestamp::parse(&self.expiration)
            .ok_or_else(|| CloudError::Malformed("Expiration is not a time".into()))?;
        Ok(Credentials {
            id: self.access_key_id,
            secret: Secret(self.access_key_secret),
            token: Some(Secret(self.security_token)),
            expires: Some(expires),
        })
    }
}

/// Credentials of a role of this ECS instance: of `role`, else of the one in
/// `ALIBABA_CLOUD_ECS_METADATA`, else of the one that it has.
pub(super) async fn ecs_role(
    surroundings: &Surroundings,
    role: Option<String>,
    timeout: Duration,
) -> Result<Credentials, CloudError> {
    let disabled = surroundings.own("ECS_METADATA_DISABLED");
    if disabled.is_some_and(|value| value.eq_ignore_ascii_case("true")) {
        return Err(CloudError::Credentials(
            "none in the environment and in files, and ALIBABA_CLOUD_ECS_METADATA_DISABLED is set"
                .into(),
        ));
    }
    let ask = async |method, path: &str, header| {
        let what = "the instance's metadata service";
        let answer = send(
            &surroundings.metadata,
            method,
            path,
            header,
            String::new(),
            METADATA_TIMEOUT.min(timeout),
        );
        let answer = answer
            .await
            .map_err(|error| CloudError::Credentials(format!("{what}: {error}")))?;
        String::from_utf8(answer.into_body().to_vec())
            .map_err(|_| CloudError::Malformed(format!("{what}: not UTF-8")))
    };
    let lifetime = (
        "x-aliyun-ecs-metadata-token-ttl-seconds",
        METADATA_TOKEN_SECONDS.to_owned(),
    );
    let token = ask(Method::PUT, "/latest/api/token", lifetime).await?;
    let token = ("x-aliyun-ecs-metadata-token", token.trim().to_owned());
    let role = match role.or_else(|| surroundings.own("ECS_METADATA")) {
        Some(role) => role,
        None => ask(Method::GET, ROLES, token.clone()).await?,
    };
    let path = format!("{ROLES}{}", sign::encode(role.trim()));
    let issued = ask(Method::GET, &path, token).await?;
    let issued: Issued = serde_json::from_str(&issued)
        .map_err(|_| CloudError::Malformed("the instance role's credentials".into()))?;
    issued.credentials()
}

/// Credentials of the role that this pod's service account may assume; `None`: the variables that
/// name it are not set.
pub(super) async fn oidc(
    surroundings: &Surroundings,
    sts: &Endpoint,
    timeout: Duration,
) -> Result<Option<Credentials>, CloudError> {
    #[derive(Deserialize)]
    struct Assumed {
        #[serde(rename = "Credentials")]
        issued: Issued,
    }
    let own = |name| surroundings.own(name);
    let (Some(role), Some(provider), Some(file)) = (
        own("ROLE_ARN"),
        own("OIDC_PROVIDER_ARN"),
        own("OIDC_TOKEN_FILE"),
    ) else {
        return Ok(None);
    };
    // Kubernetes replaces the file long before the token in it ends.
    let token = std::fs::read_to_string(&file)
        .map_err(|error| CloudError::Credentials(format!("cannot read {file}: {error}")))?;
    let session = own("ROLE_SESSION_NAME").unwrap_or_else(|| "osprey".into());
    let query = canonical_query(&[
        ("Action", "AssumeRoleWithOIDC"),
        ("Version", "2015-04-01"),
        ("Format", "JSON"),
        ("Timestamp", &timestamp::format(SystemTime::now())),
        ("SignatureNonce", &nonce()),
    ]);
    let body = canonical_query(&[
        ("RoleArn", &role),
        ("OIDCProviderArn", &provider),
        ("OIDCToken", token.trim()),
        ("RoleSessionName", &session),
        ("DurationSeconds", SESSION_SECONDS),
    ]);
    let form = (
        "content-type",
        "application/x-www-form-urlencoded".to_owned(),
    );
    let target = format!("/?{query}");
    let answer = send(sts, Method::POST, &target, form, body, timeout).await?;
    let assumed: Assumed = serde_json::from_slice(answer.body())
        .map_err(|_| CloudError::Malformed("AssumeRoleWithOIDC".into()))?;
    assumed.issued.credentials().map(Some)
}

async fn send(
    endpoint: &Endpoint,
    method: Method,
    target: &str,
    header: (&'static str, String),
    body: String,
    deadline: Duration,
) -> Result<Response<Bytes>, CloudError> {
    let answer = http::send(endpoint, method, target, &[header], body, deadline)
        .await
        .map_err(|error| CloudError::Unavailable(error.to_string()))?;
    read(&answer)?;
    Ok(answer)
}
