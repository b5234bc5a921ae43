//! Which setting lets encrypted data be read: for sessions, and for the commands that explain them.

use super::HologresVersion;
use crate::config::RouteKind;
use crate::sql::ROUTE_SETTINGS;

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
