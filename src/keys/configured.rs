//! Which providers the configuration asks for.

use std::sync::Arc;

use super::cloud::{AlibabaCloud, Surroundings};
use super::provider::{Chain, KeyProvider, StaticProvider};
use crate::config::{Cloud, ProjectRule};

/// Who is asked about projects, by the configuration: the operator's own rules, then the cloud, if
/// it is configured.
pub fn configured(rules: &[ProjectRule], cloud: Option<&Cloud>) -> Arc<dyn KeyProvider> {
    let rules = StaticProvider::new(rules);
    match cloud {
        None => Arc::new(rules),
        Some(cloud) => {
            let cloud = AlibabaCloud::new(cloud.clone(), Surroundings::of_process());
            Arc::new(Chain(vec![Arc::new(rules), Arc::new(cloud)]))
        }
    }
}
