//! What a database's catalogs say: the MaxCompute foreign tables, and every relation that leads
//! to one. A reading asks either through a service account ([`Service`], with tokio-postgres), or
//! through a client's session that is borrowed for it (whatever can `ask::Ask`). `lineage.rs` finds
//! what leads to a foreign table; [`Contents`] is what a reading yields.

pub(crate) mod ask;
mod bounded;
mod contents;
mod edges;
mod error;
pub(crate) mod lineage;
mod names;
pub(crate) mod query_log;
pub(crate) mod read;
mod roles;
pub(crate) mod route;
mod service;
mod version;

pub use contents::{Conduct, Contents, Function, Relation, Sort};
pub use error::{Failure, ReadError};
pub use names::{database_name, project_key};
pub use query_log::FailedReads;
pub use roles::RoleSetting;
pub use route::RouteSettings;
pub use service::{APPLICATION_NAME, Service};
pub use version::HologresVersion;
