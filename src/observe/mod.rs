//! Metrics, health, logs: what an operator sees of a running Osprey.
//!
//! Sessions move the counters of their worker's [`metrics::Shard`]; [`Metrics`] sums the
//! shards when Prometheus asks; [`http`] serves that, and the probes of [`health::Health`];
//! [`logs`] writes to standard error; [`reloads`] keeps what became of the configuration.

mod export;
mod families;
pub mod health;
mod histograms;
pub mod http;
pub mod logs;
pub mod metrics;
pub mod observed;
mod recent;
pub mod reloads;
pub mod secrets;
mod seldom;
mod sources;
pub mod systemd;

pub use export::Metrics;
pub use health::Health;
pub use histograms::Times;
pub use recent::{Recent, Rewritten};
pub(crate) use seldom::Seldom;
pub use sources::{
    Certificate, Measured, MeasuredDatabase, MeasuredLimit, MeasuredProject, MeasuredReplicas,
    OpenConnections, ShownTo,
};
