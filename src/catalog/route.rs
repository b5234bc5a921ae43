//! The settings that let encrypted data be read: which of them a session gets, and what a database says
//! of them.

use super::version::HologresVersion;
use crate::config::RouteKind;
use crate::sql::ROUTE_SETTINGS;

/// The names of the setting that chooses the engine, in the order in which they are asked for. The
/// second is the newer spelling; servers keep the older one.
pub(super) const ORC_VIA_HOLO: [&str; 2] = [
    "hg_experimental_enable_access_odps_orc_via_holo",
    "hg_enable_access_odps_orc_via_holo",
];
/// The name of the setting that routes external catalogs.
pub(super) const CATALOG_ROUTING: &str = "hg_experimental_external_catalog_routing";

/// True if sessions get the common-table route.
pub(crate) fn is_common_table(kind: RouteKind, version: Option<HologresVersion>) -> bool {
    match kind {
        RouteKind::Sqe => false,
        RouteKind::CommonTable => true,
        RouteKind::Auto => version.is_some_and(|version| version >= HologresVersion::COMMON_TABLE),
    }
}

/// The setting that lets encrypted data be read: its name and its value.
pub(crate) fn route_setting(common_table: bool) -> (&'static str, &'static str) {
    if common_table {
        (ROUTE_SETTINGS[2], "'odps:common_table,dlf:hqe'")
    } else {
        (ROUTE_SETTINGS[0], "false")
    }
}

/// True if a session whose setting of this name has this value reads encrypted data.
pub(crate) fn reads_encrypted(name: &str, value: &str) -> bool {
    if name == CATALOG_ROUTING {
        value.to_ascii_lowercase().contains("odps:common_table")
    } else {
        boolean(value) == Some(false)
    }
}

/// What `SHOW` answers for the settings that choose the engine, in a fresh session of this
/// database.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RouteSettings {
    /// Whether `hg_experimental_enable_access_odps_orc_via_holo` is on, which means HQE. `None`:
    /// the setting does not exist (42704) or was not asked for.
    pub orc_via_holo: Option<bool>,
    /// The value of `hg_experimental_external_catalog_routing`.
    pub catalog_routing: Option<String>,
    /// True if `pg_settings.context` says that any user may set the first of these.
    pub user_may_set: bool,
}

impl RouteSettings {
    /// These settings for a session whose role brings along `name = value`. If it is another
    /// setting than these, nothing changes.
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
                .is_some_and(|routing| reads_encrypted(CATALOG_ROUTING, routing))
    }
}

/// Reads a boolean setting as SHOW may print it: PostgreSQL says `on`, the vendor's page `false`.
pub(super) fn boolean(text: &str) -> Option<bool> {
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
}
