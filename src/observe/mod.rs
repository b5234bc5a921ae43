//! Metrics, health, logs.

pub mod metrics;
