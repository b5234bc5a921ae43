//! Which providers the configuration asks for.

use std::sync::Arc;

use super::cloud::{AlibabaCloud, Surroundings};
use super::provider::{Chain, KeyProvider, StaticProvider};
use super::together::Together;
use crate::config::{Keys, ProjectRule};
use crate::fleet::Member;

/// Who is asked about projects, by the configuration: the operator's own rules, then the cloud, if
/// it is configured, by one of all replicas, if there are several.
pub fn configured(
    rules: &[ProjectRule],
    keys: &Keys,
    replicas: Option<&Arc<Member>>,
) -> Arc<dyn KeyProvider> {
    let rules = StaticProvider::new(rules);
    let Some(cloud) = &keys.cloud else {
        return Arc::new(rules);
    };
    let mut cloud: Arc<dyn KeyProvider> =
        Arc::new(AlibabaCloud::new(cloud.clone(), Surroundings::of_process()));
    if let Some(member) = replicas {
        cloud = Arc::new(Together::new(Arc::clone(member), cloud, keys));
    }
    Arc::new(Chain(vec![Arc::new(rules), cloud]))
}
