//! What SET, RESET and `set_config()` do to the settings that a session has to know: those that
//! choose the route, and those that change how names resolve.

use super::Analysis;
use super::keyword::Keyword;
use super::lexer::Kind;
use super::token::Statement;
use crate::protection::Effects;

/// The settings that choose the engine for MaxCompute tables; the first two are one setting under
/// its old and its new name.
pub(crate) const ROUTE_SETTINGS: [&str; 3] = [
    "hg_experimental_enable_access_odps_orc_via_holo",
    "hg_enable_access_odps_orc_via_holo",
    "hg_experimental_external_catalog_routing",
];

/// The present role, and with it the rights and settings that count, is another one afterwards.
const OTHER_ROLE: Effects = Effects::ROUTE_DOUBT.with(Effects::CHANGES_NAMES);

/// What a setting's change means.
fn change_of(name: &[u8], route: Effects) -> Effects {
    let is = |setting: &str| name.eq_ignore_ascii_case(setting.as_bytes());
    if ROUTE_SETTINGS.into_iter().any(is) {
        route
    } else if is("search_path") {
        Effects::CHANGES_NAMES
    } else if is("role") || is("session_authorization") {
        OTHER_ROLE
    } else {
        Effects::default()
    }
}

/// `SET …`; `index` is behind the SET.
pub(super) fn set(statement: &Statement<'_, '_>, mut index: usize, analysis: &mut Analysis<'_>) {
    let local = statement.keyword(index) == Keyword::Local;
    if (local || statement.keyword(index) == Keyword::Session) && statement.is_name(index + 1) {
        index += 1;
    }
    if !local && statement.folded(index).eq_ignore_ascii_case(b"search_path") {
        analysis.search_path = schemas(statement, index + 2);
    }
    analysis.add(match statement.keyword(index) {
        Keyword::Role | Keyword::Authorization => OTHER_ROLE,
        Keyword::Session if statement.keyword(index + 1) == Keyword::Authorization => OTHER_ROLE,
        Keyword::Schema => Effects::CHANGES_NAMES,
        Keyword::Transaction => Effects::default(),
        _ => {
            let value = index + 2;
            let to_default = statement.keyword(value) == Keyword::Default;
            let route = if to_default {
                Effects::RESETS_ROUTE
            } else {
                Effects::SETS_ROUTE
            };
            change_of(&statement.folded(index), route)
        }
    });
}

/// The list of schemas from `index` to the end; `None`: it is not one of names and plain strings.
fn schemas(statement: &Statement<'_, '_>, mut index: usize) -> Option<Vec<String>> {
    let mut schemas = Vec::new();
    loop {
        schemas.push(match statement.plain_string(index) {
            Some(name) => String::from_utf8(name.to_vec()).ok()?,
            None if statement.keyword(index) == Keyword::Default => return None,
            None if statement.is_name(index) => statement.folded_text(index),
            None => return None,
        });
        match statement.kind(index + 1) {
            None => return Some(schemas),
            Some(Kind::Comma) => index += 2,
            Some(_) => return None,
        }
    }
}

/// `RESET …`; `index` is behind the RESET.
pub(super) fn reset(statement: &Statement<'_, '_>, index: usize, analysis: &mut Analysis<'_>) {
    analysis.add(match statement.keyword(index) {
        Keyword::All => Effects::RESETS_ALL.with(Effects::CHANGES_NAMES),
        Keyword::Session => OTHER_ROLE,
        _ => change_of(&statement.folded(index), Effects::RESETS_ROUTE),
    });
}

/// `set_config(name, value, is_local)`; `open` is the parenthesis.
pub(super) fn set_config(statement: &Statement<'_, '_>, open: usize, analysis: &mut Analysis<'_>) {
    let literal = statement.plain_string(open + 1);
    let alone = statement.kind(open + 2) == Some(Kind::Comma);
    analysis.add(match literal {
        Some(name) if alone => change_of(name, Effects::SETS_ROUTE),
        _ => OTHER_ROLE,
    });
}
