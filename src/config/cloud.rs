//! The settings of `[keys.cloud]`: how Alibaba Cloud's API is asked about projects and keys, if it
//! is.

use std::fmt::{self, Display, Formatter};
use std::time::Duration;

/// `[keys.cloud]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cloud {
    /// The region's id, such as `cn-shanghai`.
    pub region: String,
    /// Where the access key comes from.
    pub credentials: CredentialSource,
    /// MaxCompute's endpoint; `None`: the region's own. The same holds for the others.
    pub maxcompute_endpoint: Option<Endpoint>,
    /// See `maxcompute_endpoint`.
    pub kms_endpoint: Option<Endpoint>,
    /// See `maxcompute_endpoint`.
    pub sts_endpoint: Option<Endpoint>,
    /// RAM has one endpoint for all regions.
    pub ram_endpoint: Option<Endpoint>,
    /// How long one request may take. Default 10 s.
    pub timeout: Duration,
}

impl Cloud {
    /// True if the other one's answers are about the same projects and keys.
    pub fn is_same(&self, other: &Self) -> bool {
        self.region == other.region
            && self.maxcompute_endpoint == other.maxcompute_endpoint
            && self.kms_endpoint == other.kms_endpoint
    }
}

/// Where the access key comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CredentialSource {
    /// The first of the others that there is, in their order here.
    #[default]
    Auto,
    /// `ALIBABA_CLOUD_ACCESS_KEY_ID` and its like.
    Environment,
    /// A Kubernetes service account's token (RRSA).
    Oidc,
    /// The command line's profile, or the SDKs' file.
    File,
    /// The ECS instance's RAM role.
    EcsRole,
}

/// Where an API is served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// HTTPS, or HTTP.
    pub tls: bool,
    /// Host name or IPv4 address.
    pub host: String,
    /// TCP port.
    pub port: u16,
}

impl Cloud {
    /// The defaults, for one region.
    pub fn in_region(region: impl Into<String>) -> Self {
        Self {
            region: region.into(),
            credentials: CredentialSource::default(),
            maxcompute_endpoint: None,
            kms_endpoint: None,
            sts_endpoint: None,
            ram_endpoint: None,
            timeout: Duration::from_secs(10),
        }
    }

    /// Where MaxCompute is asked: its own endpoint, or the region's. The same holds for the others.
    pub fn maxcompute(&self) -> Endpoint {
        self.endpoint(self.maxcompute_endpoint.as_ref(), "maxcompute")
    }

    /// See [`Cloud::maxcompute`].
    pub fn kms(&self) -> Endpoint {
        self.endpoint(self.kms_endpoint.as_ref(), "kms")
    }

    /// See [`Cloud::maxcompute`].
    pub fn sts(&self) -> Endpoint {
        self.endpoint(self.sts_endpoint.as_ref(), "sts")
    }

    /// See [`Cloud::maxcompute`].
    pub fn ram(&self) -> Endpoint {
        let own = self.ram_endpoint.clone();
        own.unwrap_or_else(|| Endpoint::https("ram.aliyuncs.com"))
    }

    fn endpoint(&self, own: Option<&Endpoint>, product: &str) -> Endpoint {
        own.cloned()
            .unwrap_or_else(|| Endpoint::https(&format!("{product}.{}.aliyuncs.com", self.region)))
    }
}

impl Endpoint {
    fn https(host: &str) -> Self {
        Self {
            tls: true,
            host: host.to_owned(),
            port: 443,
        }
    }

    /// The endpoint as a `Host` header says it: without the port if that is the scheme's own.
    pub fn authority(&self) -> String {
        let usual = if self.tls { 443 } else { 80 };
        if self.port == usual {
            self.host.clone()
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

impl Display for Endpoint {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "https" } else { "http" };
        write!(f, "{scheme}://{}", self.authority())
    }
}
