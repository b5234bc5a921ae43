//! Settings that roles bring along (`ALTER ROLE … SET`): a fresh session of such a role differs
//! from what the service account sees.

use std::collections::BTreeMap;

/// A setting that a role's fresh sessions have in this database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoleSetting {
    /// The role, exactly as the catalog spells it.
    pub role: String,
    /// The setting's name.
    pub name: String,
    /// Its value, as `SHOW` prints it.
    pub value: String,
}

/// One row of `pg_db_role_setting`.
pub(super) struct Row {
    /// The role; `None`: all roles.
    pub(super) role: Option<String>,
    /// True if the row holds in this database only.
    pub(super) here_only: bool,
    /// The settings, each as `name=value`.
    pub(super) settings: Vec<String>,
}

/// What the rows come to, for the settings that are among `names`: the settings of roles, and those
/// of everyone else. As in PostgreSQL, a role's setting for this database goes before its general
/// one, and either goes before the database's own, which goes before the one of all databases.
pub(super) fn resolve(
    mut rows: Vec<Row>,
    names: &[&str],
) -> (Vec<RoleSetting>, BTreeMap<String, String>) {
    rows.sort_by_key(|row| row.here_only);
    let mut of_roles: BTreeMap<(String, String), String> = BTreeMap::new();
    let mut of_all = BTreeMap::new();
    for row in rows {
        for setting in row.settings {
            let Some((name, value)) = setting.split_once('=') else {
                continue;
            };
            if !names.contains(&name) {
                continue;
            }
            let (name, value) = (name.to_owned(), value.to_owned());
            match &row.role {
                Some(role) => of_roles.insert((role.clone(), name), value),
                None => of_all.insert(name, value),
            };
        }
    }
    let of_roles = of_roles
        .into_iter()
        .map(|((role, name), value)| RoleSetting { role, name, value })
        .collect();
    (of_roles, of_all)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(role: Option<&str>, here_only: bool, setting: &str) -> Row {
        Row {
            role: role.map(Into::into),
            here_only,
            settings: vec![setting.into()],
        }
    }

    #[test]
    fn the_more_particular_goes_before_the_general() {
        let rows = vec![
            row(Some("bi"), true, "search_path=here, x=y"),
            row(Some("bi"), false, "search_path=anywhere"),
            row(Some("etl"), false, "search_path=etl"),
            row(Some("etl"), false, "work_mem=4MB"),
            row(None, true, "search_path=database"),
            row(None, false, "search_path=everyone"),
            row(None, false, "nonsense"),
        ];
        let (of_roles, of_all) = resolve(rows, &["search_path"]);
        let setting = |role: &str, value: &str| RoleSetting {
            role: role.into(),
            name: "search_path".into(),
            value: value.into(),
        };
        assert_eq!(
            of_roles,
            [setting("bi", "here, x=y"), setting("etl", "etl")]
        );
        assert_eq!(of_all["search_path"], "database");
        assert_eq!(of_all.len(), 1);
    }
}
