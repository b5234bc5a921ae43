//! The provider that asks Alibaba Cloud: MaxCompute says how a project is encrypted and with which
//! key, and KMS what has become of the key.
//!
//! What the account may list comes in a few calls: `ListProjects` answers for all its projects at
//! once, and whoever looks one of these up within the minute is answered from that. Any other
//! project, and any project of an account that may not list, costs one `GetProject`.

mod api;
mod credentials;
mod error;
#[cfg(test)]
pub(crate) mod fake;
mod files;
mod ram;
mod random;
mod renewal;
mod sign;
mod sources;
mod surroundings;
mod temporary;
pub mod timestamp;

use std::collections::{HashMap, HashSet};
use std::sync::{MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use hyper::Method;
use serde::Deserialize;
use tokio::sync::Mutex;
use tokio::time::timeout;

use api::{Api, Call};
pub use error::CloudError;
pub use ram::{Policy, Role};
pub use surroundings::Surroundings;

use super::{
    Encryption, KeyProvider, KeyRecord, KeyState, KmsKey, LookupError, LookupFuture, Origin,
};
use crate::config::Cloud;

const MAXCOMPUTE_VERSION: &str = "2022-01-04";
const KMS_VERSION: &str = "2016-01-20";

/// How long what was listed answers for lookups; the cache in front keeps it for longer.
const LISTING_LIFE: Duration = Duration::from_mins(1);
/// After a listing that failed (the account may not, as a rule), projects are asked for one by one
/// for this long.
const LISTING_PAUSE: Duration = Duration::from_mins(10);
/// How long a listing may take: the lookup that waits for it has time left to ask for its own project.
const LISTING_DEADLINE: Duration = Duration::from_secs(20);
/// Projects asked for in one page of a listing, and pages read at most.
const PAGE: &str = "100";
const MAX_PAGES: usize = 20;

/// Asks the cloud about projects and keys.
pub struct AlibabaCloud {
    cloud: Cloud,
    api: Api,
    listing: Mutex<Option<Listing>>,
    /// Projects whose keys KMS did not describe when it was asked last, for a reason that passes.
    in_part: std::sync::Mutex<HashSet<String>>,
}

struct Listing {
    at: Instant,
    /// `None`: it failed.
    projects: Option<HashMap<String, Encrypted>>,
}

/// `data.properties.encryption` of a project.
#[derive(Debug, Clone, Default, Deserialize)]
struct Encrypted {
    #[serde(default)]
    enable: bool,
    #[serde(default)]
    algorithm: Option<String>,
    #[serde(default)]
    key: Option<String>,
}

#[derive(Deserialize)]
struct Answer<T> {
    data: T,
}

#[derive(Deserialize)]
struct Project {
    #[serde(default)]
    name: String,
    #[serde(default)]
    properties: Option<Properties>,
}

#[derive(Deserialize)]
struct Properties {
    #[serde(default)]
    encryption: Option<Encrypted>,
}

#[derive(Deserialize)]
struct Page {
    #[serde(default)]
    projects: Vec<Project>,
    #[serde(default)]
    marker: Option<String>,
}

impl AlibabaCloud {
    /// Nothing is asked before the first lookup.
    pub fn new(cloud: Cloud, surroundings: Surroundings) -> Self {
        Self {
            api: Api::new(&cloud, surroundings),
            cloud,
            listing: Mutex::new(None),
            in_part: std::sync::Mutex::default(),
        }
    }

    async fn project(&self, project: &str) -> Result<Option<Encrypted>, CloudError> {
        if let Some(listed) = self.listed(project).await {
            return Ok(Some(listed));
        }
        let path = format!("/api/v1/projects/{}", sign::encode(project));
        let call = Call {
            endpoint: &self.cloud.maxcompute(),
            method: Method::GET,
            path: &path,
            parameters: &[("verbose", "true")],
            action: "GetProject",
            version: MAXCOMPUTE_VERSION,
        };
        match self.api.call::<Answer<Project>>(&call).await {
            Ok(answer) => {
                let properties = answer.data.properties;
                let encryption = properties.and_then(|properties| properties.encryption);
                Ok(Some(encryption.unwrap_or_default()))
            }
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// What a listing younger than a minute says of the project, if it says anything.
    async fn listed(&self, project: &str) -> Option<Encrypted> {
        // Whoever comes while the listing is made waits for the lock, so that it is one call for
        // all.
        let mut listing = self.listing.lock().await;
        let current = listing.as_ref().is_some_and(|listing| {
            let life = match listing.projects {
                Some(_) => LISTING_LIFE,
                None => LISTING_PAUSE,
            };
            listing.at.elapsed() < life
        });
        if !current {
            let listed = timeout(LISTING_DEADLINE, self.list()).await;
            let late = |_| {
                let deadline = LISTING_DEADLINE.as_secs();
                CloudError::Unavailable(format!("no whole list within {deadline} s"))
            };
            let projects = match listed.map_err(late).flatten() {
                Ok(projects) => Some(projects),
                Err(error) => {
                    tracing::debug!(%error, "cannot list projects; asking for each");
                    None
                }
            };
            *listing = Some(Listing {
                at: Instant::now(),
                projects,
            });
        }
        let projects = listing.as_ref()?.projects.as_ref()?;
        projects.get(project).cloned()
    }

    async fn list(&self) -> Result<HashMap<String, Encrypted>, CloudError> {
        let endpoint = self.cloud.maxcompute();
        let mut projects = HashMap::new();
        let mut marker = String::new();
        for _ in 0..MAX_PAGES {
            let call = Call {
                endpoint: &endpoint,
                method: Method::GET,
                path: "/api/v1/projects",
                parameters: &[("maxItem", PAGE), ("marker", &marker)],
                action: "ListProjects",
                version: MAXCOMPUTE_VERSION,
            };
            let page = self.api.call::<Answer<Page>>(&call).await?.data;
            for project in page.projects {
                // A listing that leaves the property out says nothing of it.
                if let Some(encryption) = project.properties.and_then(|p| p.encryption) {
                    projects.insert(project.name.to_ascii_lowercase(), encryption);
                }
            }
            match page.marker {
                Some(next) if !next.is_empty() && next != marker => marker = next,
                _ => break,
            }
        }
        Ok(projects)
    }

    /// KMS' word on a key: its state, origin and dates.
    ///
    /// # Errors
    /// See [`CloudError`].
    pub async fn describe_key(&self, id: &str) -> Result<KmsKey, CloudError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Described {
            key_metadata: Metadata,
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Metadata {
            key_state: String,
            #[serde(default)]
            origin: String,
            #[serde(default)]
            delete_date: String,
            #[serde(default)]
            material_expire_time: String,
        }
        let call = Call {
            endpoint: &self.cloud.kms(),
            method: Method::POST,
            path: "/",
            parameters: &[("KeyId", id)],
            action: "DescribeKey",
            version: KMS_VERSION,
        };
        let metadata = self.api.call::<Described>(&call).await?.key_metadata;
        Ok(KmsKey {
            id: Some(id.to_owned()),
            algorithm: None,
            state: key_state(&metadata.key_state),
            origin: Some(metadata.origin).filter(|origin| !origin.is_empty()),
            material_expires: timestamp::parse(&metadata.material_expire_time),
            deletion: timestamp::parse(&metadata.delete_date),
        })
    }

    fn in_part(&self) -> MutexGuard<'_, HashSet<String>> {
        self.in_part.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn record(&self, project: &str) -> Result<Option<KeyRecord>, CloudError> {
        self.in_part().remove(project);
        let Some(encrypted) = self.project(project).await? else {
            return Ok(None);
        };
        let encryption = match (encrypted.enable, encrypted.key) {
            (false, _) => Encryption::None,
            (true, Some(id)) if is_kms_key(&id) => {
                // What matters most is that the project is encrypted. That stays true if this
                // account may not describe the key, which may be another account's.
                let described = self.describe_key(&id).await.unwrap_or_else(|error| {
                    tracing::warn!(project, key = id, %error, "KMS does not describe the key");
                    if !matches!(error, CloudError::Refused { .. }) {
                        self.in_part().insert(project.to_owned());
                    }
                    KmsKey {
                        id: Some(id),
                        ..KmsKey::default()
                    }
                });
                Encryption::Kms(KmsKey {
                    algorithm: encrypted.algorithm,
                    ..described
                })
            }
            (true, _) => Encryption::DefaultKey,
        };
        Ok(Some(KeyRecord {
            project: project.to_owned(),
            encryption,
            origin: Origin::Cloud,
            looked_up: SystemTime::now(),
        }))
    }
}

impl KeyProvider for AlibabaCloud {
    fn lookup<'a>(&'a self, project: &'a str) -> LookupFuture<'a> {
        Box::pin(async move {
            let record = self.record(project).await;
            record.map_err(|error| LookupError(error.to_string()))
        })
    }

    fn was_in_part(&self, project: &str) -> bool {
        self.in_part().contains(project)
    }
}

/// True if MaxCompute names a key of the customer's: a key id (a UUID or `key-…`), an alias or an
/// ARN. Everything else is its name for the default key, which is spelt in more than one way.
fn is_kms_key(key: &str) -> bool {
    let uuid = key.len() == 36
        && key.bytes().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        });
    uuid || ["key-", "alias/", "acs:kms:"]
        .iter()
        .any(|start| key.starts_with(start))
}

fn key_state(text: &str) -> KeyState {
    match text {
        "Enabled" => KeyState::Enabled,
        "Disabled" => KeyState::Disabled,
        "PendingDeletion" => KeyState::PendingDeletion,
        "PendingImport" => KeyState::PendingImport,
        _ => KeyState::Unknown,
    }
}

#[cfg(test)]
mod tests;
