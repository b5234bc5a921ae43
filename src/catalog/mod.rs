//! What a database's catalogs say: the MaxCompute foreign tables, and every relation that leads
//! to one. A reading asks either through a service account ([`Service`], with tokio-postgres), or
//! through a session that its client lends (whatever can [`ask::Ask`]). [`lineage`] finds what
//! leads to a foreign table.

pub(crate) mod ask;
mod error;
pub(crate) mod lineage;
pub(crate) mod read;
mod roles;
pub(crate) mod route;
mod service;
mod version;

pub use error::{Failure, ReadError};
pub use lineage::Sort;
pub use roles::RoleSetting;
pub use service::{APPLICATION_NAME, Service};

/// The names of the setting that chooses the engine, in the order in which they are asked for. The
/// second is the newer spelling; servers keep the older one.
const ORC_VIA_HOLO: [&str; 2] = [
    "hg_experimental_enable_access_odps_orc_via_holo",
    "hg_enable_access_odps_orc_via_holo",
];
const CATALOG_ROUTING: &str = "hg_experimental_external_catalog_routing";

/// What reads MaxCompute: a foreign table on MaxCompute's server, or a view or partition/inheritance
/// parent that leads to one; a rule or a materialized view when its relation is written; or a
/// function whose body does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Relation {
    /// Schema, exactly as the catalog spells it.
    pub schema: String,
    /// Name, exactly as the catalog spells it.
    pub name: String,
    /// What is done to it, for it to read MaxCompute.
    pub sort: Sort,
    /// It does so only through what inherits from it: `ONLY` it does not.
    pub inherited: bool,
    /// A foreign table's MaxCompute project (`project` or `project#schema`, as the table option
    /// says; compare by [`project_key`]). `None`: not a MaxCompute foreign table, or one without
    /// the option.
    pub project: Option<String>,
    /// The relations that it reads directly, as indices into [`Contents::relations`]; only those
    /// that lead to MaxCompute.
    pub reads: Vec<usize>,
}

impl Relation {
    /// `schema.name`, with `()` behind a function's, for people.
    pub fn qualified(&self) -> String {
        let brackets = match self.sort {
            Sort::Function => "()",
            Sort::Relation | Sort::Written => "",
        };
        format!("{}.{}{brackets}", self.schema, self.name)
    }
}

/// A function of which every body is known, and none runs a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Function {
    /// Schema, exactly as the catalog spells it.
    pub schema: String,
    /// Name, exactly as the catalog spells it; all functions of that name are meant.
    pub name: String,
    /// It does nothing but read, nor does what it calls.
    pub only_reads: bool,
}

/// What `SHOW` answers for the settings that choose the engine, in a fresh session of this
/// database.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RouteSettings {
    /// `hg_experimental_enable_access_odps_orc_via_holo`: on is HQE. `None`: the setting does not
    /// exist (42704) or was not asked.
    pub orc_via_holo: Option<bool>,
    /// `hg_experimental_external_catalog_routing`.
    pub catalog_routing: Option<String>,
    /// True if `pg_settings.context` says that any user may set the orc setting.
    pub user_may_set: bool,
}

impl RouteSettings {
    /// The same for a session whose role brings along `name = value`; other settings than these
    /// change nothing.
    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Self {
        if ORC_VIA_HOLO.contains(&name) {
            self.orc_via_holo = boolean(value);
        } else if name == CATALOG_ROUTING {
            self.catalog_routing = Some(value.to_owned());
        }
        self
    }

    /// True if a fresh session of this database reads encrypted data without any SET of ours.
    pub fn reads_encrypted_already(&self) -> bool {
        self.orc_via_holo == Some(false)
            || self
                .catalog_routing
                .as_deref()
                .is_some_and(|routing| routing.to_ascii_lowercase().contains("odps:common_table"))
    }
}

/// A Hologres version, from `hg_version()`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HologresVersion(pub u16, pub u16, pub u16);

impl HologresVersion {
    /// The first version that reads encrypted MaxCompute data at all (vendor page, *Limits*).
    pub const READS_ENCRYPTED: Self = Self(1, 1, 0);
    /// The first version that needs no back-end configuration for it (vendor page, *Limits*).
    pub const NEEDS_NO_BACKEND_CONFIGURATION: Self = Self(1, 3, 31);
    /// The first version whose common-table route reads encrypted data, with either kind of key.
    pub const COMMON_TABLE: Self = Self(3, 2, 0);
}

impl std::fmt::Display for HologresVersion {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "V{}.{}.{}", self.0, self.1, self.2)
    }
}

/// Everything one reading of a database's catalogs yields.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Contents {
    /// Relations that lead to MaxCompute.
    pub relations: Vec<Relation>,
    /// `(schema, name)` of all other relations that bear the name of one in `relations`: what an
    /// unqualified name may mean instead.
    pub homonyms: Vec<(String, String)>,
    /// Functions that run no text; of any other, what its arguments say may be run.
    pub functions: Vec<Function>,
    /// The settings that choose the engine.
    pub route: RouteSettings,
    /// `hg_version()`; `None` when it does not exist or cannot be read.
    pub version: Option<HologresVersion>,
    /// The search_path a fresh session of this database has, e.g. `"$user", public`.
    pub search_path: String,
    /// What roles bring along instead, of search_path and the settings in `route`.
    pub role_settings: Vec<RoleSetting>,
}

/// The name under which a MaxCompute project's key record is kept: without `#schema`, in lower
/// case (project names are lower-case by rule, but IMPORT FOREIGN SCHEMA examples shout).
pub fn project_key(option: &str) -> String {
    let project = option
        .split_once('#')
        .map_or(option, |(project, _)| project);
    project.trim().to_ascii_lowercase()
}

/// The database behind a startup packet's `database`: Hologres' virtual warehouses are named
/// `database@warehouse` there and share the database's catalogs.
pub fn database_name(startup: &str) -> &str {
    match startup.rsplit_once('@') {
        Some((database, _)) if !database.is_empty() => database,
        _ => startup,
    }
}

/// A boolean setting as SHOW may print it: PostgreSQL says `on`, the vendor's page `false`.
fn boolean(text: &str) -> Option<bool> {
    match text.trim().to_ascii_lowercase().as_str() {
        "on" | "true" | "yes" | "1" | "t" => Some(true),
        "off" | "false" | "no" | "0" | "f" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_boolean_setting_in_either_spelling() {
        assert_eq!(boolean("off"), Some(false));
        assert_eq!(boolean("FALSE"), Some(false));
        assert_eq!(boolean("on"), Some(true));
        assert_eq!(boolean(""), None);
    }

    #[test]
    fn what_a_role_brings_along_changes_its_route() {
        let route = RouteSettings {
            orc_via_holo: Some(true),
            ..RouteSettings::default()
        };
        let same = route.clone().with("work_mem", "4MB");
        assert_eq!(same, route);
        for name in ORC_VIA_HOLO {
            assert!(route.clone().with(name, "off").reads_encrypted_already());
        }
        let routed = route.with(CATALOG_ROUTING, "odps:common_table,dlf:hqe");
        assert!(routed.reads_encrypted_already());
    }

    #[test]
    fn a_project_is_compared_without_its_schema_and_case() {
        assert_eq!(project_key("Sales_Prod#default"), "sales_prod");
        assert_eq!(project_key("sales_prod"), "sales_prod");
    }

    #[test]
    fn a_warehouse_shares_its_databases_knowledge() {
        assert_eq!(database_name("sales@wh1"), "sales");
        assert_eq!(database_name("sales"), "sales");
        assert_eq!(database_name("@odd"), "@odd");
    }
}
