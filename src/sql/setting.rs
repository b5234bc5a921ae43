//! What SET, RESET and `set_config()` do to the settings that a session has to know: those that
//! choose the route, those that change how names resolve, and those by which texts are read.

use super::analysis::Analysis;
use super::change::{Change, ComputingResource, RouteSetting, Value};
use super::effects::Effects;
use super::encoding::Encoding;
use super::keyword::Keyword;
use super::lexer::Kind;
use super::lexing::Backslash;
use super::token::{Script, Statement};

/// The names of the settings that choose the engine for MaxCompute tables. The first two are the
/// old and the new name of one setting.
pub(crate) const ROUTE_SETTINGS: [&str; 3] = [
    "hg_experimental_enable_access_odps_orc_via_holo",
    "hg_enable_access_odps_orc_via_holo",
    "hg_experimental_external_catalog_routing",
];

/// The present role, and with it the rights and settings that count, is another one afterwards.
const OTHER_ROLE: Effects = Effects::ROUTE_DOUBT.union(Effects::CHANGES_NAMES);

/// The name of the setting that says where a session's queries run.
pub(crate) const COMPUTING_RESOURCE: &str = "hg_computing_resource";

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

/// Reads `SET …`; `index` is the token behind the SET.
pub(super) fn set(statement: &Statement<'_, '_>, mut index: usize, analysis: &mut Analysis<'_>) {
    let local = statement.keyword(index) == Keyword::Local;
    if (local || statement.keyword(index) == Keyword::Session) && statement.is_name(index + 1) {
        index += 1;
    }
    analysis
        .changes
        .extend(changed_by_set(statement, index, local));
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

/// What SET changes for names; `index` is at the setting's name.
fn changed_by_set(statement: &Statement<'_, '_>, index: usize, local: bool) -> Option<Change> {
    let session = statement.keyword(index) == Keyword::Session;
    if session || statement.keyword(index) == Keyword::Authorization {
        let user = index + 1 + usize::from(session);
        let is_authorization = !session || statement.keyword(index + 1) == Keyword::Authorization;
        let user = is_authorization.then(|| one_value(statement, user));
        return user.map(|user| Change::User { user, local });
    }
    let name = statement.folded(index);
    let is = |setting: &str| name.eq_ignore_ascii_case(setting.as_bytes());
    if statement.keyword(index) == Keyword::Schema {
        let path = one_value(statement, index + 1).map(|schema| vec![schema]);
        Some(Change::SearchPath { path, local })
    } else if is("search_path") {
        let path = if statement.keyword(index + 2) == Keyword::Default {
            Value::Default
        } else {
            schemas(statement, index + 2).map_or(Value::Unknown, Value::Is)
        };
        Some(Change::SearchPath { path, local })
    } else if is("role") {
        let equals =
            statement.bytes(index + 1) == b"=" || statement.keyword(index + 1) == Keyword::To;
        let role = one_value(statement, index + 1 + usize::from(equals));
        Some(Change::Role { role, local })
    } else if is("session_authorization") {
        let user = one_value(statement, index + 2);
        Some(Change::User { user, local })
    } else if statement.is_word(index, "names") && statement.bytes(index + 1) != b"=" {
        // SET NAMES; without a value, it is the default (gram.y, `opt_encoding`).
        let encoding = match statement.kind(index + 1) {
            Some(_) => encoding(one_value(statement, index + 1)),
            None => Value::Default,
        };
        Some(Change::Encoding { encoding, local })
    } else {
        followed(&name, one_value(statement, index + 2), local)
    }
}

/// What a setting of this name changes, if it is one that a session follows by its value alone.
fn followed(name: &[u8], value: Value<String>, local: bool) -> Option<Change> {
    let is = |setting: &&str| name.eq_ignore_ascii_case(setting.as_bytes());
    if let Some(at) = ROUTE_SETTINGS.iter().position(is) {
        let setting = if at < 2 {
            RouteSetting::OrcViaHolo
        } else {
            RouteSetting::CatalogRouting
        };
        Some(Change::Route {
            setting,
            value,
            local,
        })
    } else if name.eq_ignore_ascii_case(b"client_encoding") {
        let encoding = encoding(value);
        Some(Change::Encoding { encoding, local })
    } else if name.eq_ignore_ascii_case(b"standard_conforming_strings") {
        let backslash = backslash(&value);
        Some(Change::Backslash { backslash, local })
    } else if name.eq_ignore_ascii_case(COMPUTING_RESOURCE.as_bytes()) {
        let resource = value.map(|name| ComputingResource::named(&name));
        Some(Change::ComputingResource { resource, local })
    } else {
        None
    }
}

/// A name that no encoding has is refused by the server, and may be one that it has learned.
fn encoding(value: Value<String>) -> Value<Encoding> {
    match value {
        Value::Is(name) => Encoding::named(&name).map_or(Value::Unknown, Value::Is),
        Value::Default => Value::Default,
        Value::Unknown => Value::Unknown,
    }
}

/// What `standard_conforming_strings` says; its values may be cut (PostgreSQL, `parse_bool`).
fn backslash(value: &Value<String>) -> Value<Backslash> {
    let text = match value {
        Value::Is(text) => text.to_ascii_lowercase(),
        Value::Default => return Value::Default,
        Value::Unknown => return Value::Unknown,
    };
    let cuts = |word: &str, least: usize| text.len() >= least && word.starts_with(&text);
    if cuts("on", 2) || cuts("true", 1) || cuts("yes", 1) || text == "1" {
        Value::Is(Backslash::Plain)
    } else if cuts("off", 2) || cuts("false", 1) || cuts("no", 1) || text == "0" {
        Value::Is(Backslash::Escapes)
    } else {
        Value::Unknown
    }
}

/// The one name or plain string at `index`, if it is the last.
fn one_value(statement: &Statement<'_, '_>, index: usize) -> Value<String> {
    if statement.kind(index + 1).is_some() {
        return Value::Unknown;
    }
    if statement.keyword(index) == Keyword::Default {
        return Value::Default;
    }
    let text = match statement.plain_string(index) {
        Some(text) => String::from_utf8(text.to_vec()).ok(),
        None if statement.is_name(index) => Some(statement.folded_text(index)),
        None => None,
    };
    text.map_or(Value::Unknown, Value::Is)
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

/// The schemas of a search path in the form in which the catalogs and SHOW have it. The answer is
/// `None` if it is not a list of names.
pub(crate) fn search_path(list: &str) -> Option<Vec<String>> {
    let text = format!("SET search_path = {list}");
    let script = Script::read(text.as_bytes(), Backslash::Plain);
    let statement = script.statements().next()?;
    schemas(&statement, 3)
}

const DEFAULT_PATH: Change = Change::SearchPath {
    path: Value::Default,
    local: false,
};

/// Reads `RESET …`; `index` is the token behind the RESET.
pub(super) fn reset(statement: &Statement<'_, '_>, index: usize, analysis: &mut Analysis<'_>) {
    let name = statement.folded(index);
    let is = |setting: &str| name.eq_ignore_ascii_case(setting.as_bytes());
    match statement.keyword(index) {
        Keyword::Session => analysis.changes.push(Change::User {
            user: Value::Default,
            local: false,
        }),
        Keyword::Role => analysis.changes.push(Change::Role {
            role: Value::Default,
            local: false,
        }),
        // It leaves the role alone.
        Keyword::All => {
            let reset = |name: &[u8]| followed(name, Value::Default, false);
            analysis.changes.push(DEFAULT_PATH);
            analysis.changes.extend(reset(b"client_encoding"));
            analysis
                .changes
                .extend(reset(b"standard_conforming_strings"));
            for setting in [ROUTE_SETTINGS[0], ROUTE_SETTINGS[2], COMPUTING_RESOURCE] {
                analysis.changes.extend(reset(setting.as_bytes()));
            }
        }
        _ if is("search_path") => analysis.changes.push(DEFAULT_PATH),
        _ => {
            let reset = followed(&name, Value::Default, false);
            analysis.changes.extend(reset);
        }
    }
    analysis.add(match statement.keyword(index) {
        Keyword::All => Effects::RESETS_ALL.union(Effects::CHANGES_NAMES),
        Keyword::Session => OTHER_ROLE,
        _ => change_of(&statement.folded(index), Effects::RESETS_ROUTE),
    });
}

/// Reads `set_config(name, value, is_local)`; `open` is its parenthesis.
pub(super) fn set_config(statement: &Statement<'_, '_>, open: usize, analysis: &mut Analysis<'_>) {
    let literal = statement.plain_string(open + 1);
    let alone = statement.kind(open + 2) == Some(Kind::Comma);
    analysis.changes.extend(match literal {
        Some(name) if alone && name.eq_ignore_ascii_case(b"search_path") => {
            Some(path_of_set_config(statement, open))
        }
        Some(name) if alone && followed(name, Value::Unknown, false).is_some() => {
            let value = statement.plain_string(open + 3);
            let value = value.and_then(|value| String::from_utf8(value.to_vec()).ok());
            let value = match value {
                _ if !set_config_is_whole(statement, open) => Value::Unknown,
                Some(value) => Value::Is(value),
                None if gives_null(statement, open) => Value::Default,
                None => Value::Unknown,
            };
            followed(name, value, is_local(statement, open) == Some(true))
        }
        Some(name)
            if alone && !change_of(name, Effects::default()).intersects(Effects::CHANGES_NAMES) =>
        {
            None
        }
        _ => Some(Change::Anything),
    });
    analysis.add(match literal {
        Some(name) if alone && gives_null(statement, open) => {
            change_of(name, Effects::RESETS_ROUTE)
        }
        Some(name) if alone => change_of(name, Effects::SETS_ROUTE),
        _ => OTHER_ROLE.union(Effects::CALLS_UNKNOWN),
    });
}

/// True for `set_config(name, NULL, …)`, which resets the setting.
fn gives_null(statement: &Statement<'_, '_>, open: usize) -> bool {
    statement.is_word(open + 3, "null") && statement.kind(open + 4) == Some(Kind::Comma)
}

/// The search path that `SELECT set_config('search_path', 'a, b', false)` sets, if that is all that the
/// statement does: with a FROM it may be called more than once, or not at all.
fn path_of_set_config(statement: &Statement<'_, '_>, open: usize) -> Change {
    let local = is_local(statement, open) == Some(true);
    let value = statement
        .plain_string(open + 3)
        .and_then(|value| std::str::from_utf8(value).ok());
    let is_whole = set_config_is_whole(statement, open);
    let path = match value {
        None if is_whole && gives_null(statement, open) => Value::Default,
        Some(value) if is_whole && value.trim().is_empty() => Value::Is(Vec::new()),
        Some(value) if is_whole => search_path(value).map_or(Value::Unknown, Value::Is),
        _ => Value::Unknown,
    };
    Change::SearchPath { path, local }
}

/// True if the statement is `SELECT set_config(…, …, true) [[AS] label]`, or `false`, and no more.
fn set_config_is_whole(statement: &Statement<'_, '_>, open: usize) -> bool {
    let behind = open + 7;
    let label = behind + usize::from(statement.keyword(behind) == Keyword::As);
    let is_end =
        statement.len() == behind || statement.is_name(label) && statement.len() == label + 1;
    statement.keyword(0) == Keyword::Select
        && open <= 4
        && statement.kind(open + 4) == Some(Kind::Comma)
        && is_local(statement, open).is_some()
        && statement.after(open) == behind
        && is_end
}

/// The third argument of `set_config(`, if it is one value.
fn is_local(statement: &Statement<'_, '_>, open: usize) -> Option<bool> {
    match statement.keyword(open + 5) {
        Keyword::True => return Some(true),
        Keyword::False => return Some(false),
        _ => {}
    }
    match &*statement.plain_string(open + 5)?.to_ascii_lowercase() {
        b"t" | b"true" | b"on" | b"yes" | b"1" => Some(true),
        b"f" | b"false" | b"off" | b"no" | b"0" => Some(false),
        _ => None,
    }
}
