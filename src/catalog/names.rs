//! Names as startup packets and table options spell them, and the keys under which things are known by
//! them.

/// The name under which a MaxCompute project's key record is kept: without `#schema`, in lower
/// case (project names are lower-case by rule, but IMPORT FOREIGN SCHEMA examples shout).
pub fn project_key(option: &str) -> String {
    let project = option
        .split_once('#')
        .map_or(option, |(project, _)| project);
    project.trim().to_ascii_lowercase()
}

/// The name of the database that a startup packet's `database` means. Hologres' virtual warehouses
/// are named `database@warehouse` there, and share the database's catalogs.
pub fn database_name(startup: &str) -> &str {
    match startup.rsplit_once('@') {
        Some((database, _)) if !database.is_empty() => database,
        _ => startup,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
