//! What the process finds around it that credentials may come from.

use std::path::PathBuf;

use crate::config::Endpoint;

type Variable = dyn Fn(&str) -> Option<String> + Send + Sync;

/// What the process finds around it: variables, a home directory, the machine's metadata service.
pub struct Surroundings {
    /// Reads an environment variable; an empty one counts as not set.
    pub(super) variable: Box<Variable>,
    /// The home directory, in which `.aliyun/config.json` and `.alibabacloud/credentials.ini` are
    /// looked for.
    pub(super) home: Option<PathBuf>,
    /// Where the ECS instance's metadata service is.
    pub(super) metadata: Endpoint,
}

impl Surroundings {
    /// What this process finds around it.
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

    /// The value of a variable of Alibaba Cloud's SDKs; `name` is without their common prefix.
    pub(super) fn own(&self, name: &str) -> Option<String> {
        (self.variable)(&format!("ALIBABA_CLOUD_{name}"))
    }
}
