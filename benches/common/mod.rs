//! What the benchmarks decide by.

use std::sync::Arc;

use osprey::protection::{Reason, Snapshot, SnapshotBuilder, Source};

/// A database in which so many relations of the schema `ext` are protected.
pub(crate) fn many_protected(names: usize) -> SnapshotBuilder {
    (0..names).fold(Snapshot::builder("shop"), |builder, number| {
        let name = format!("ods_trade_{number:05}_detail_di");
        let reason = Reason {
            relation: format!("ext.{name}"),
            via: Vec::new(),
            project: Some("trade".into()),
            key: None,
            source: Source::Key,
        };
        builder.protect("ext", &name, Arc::new(reason))
    })
}
