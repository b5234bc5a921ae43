//! The list of PostgreSQL's built-in functions, held to a running server.

#![allow(clippy::unwrap_used)] // a panic is the failure's report

mod common;

use std::collections::BTreeSet;

use common::postgres;

const LIST: &str = include_str!("../src/sql/function/built_in.txt");

/// The functions that SQL can call, and whether one of a name is VOLATILE: those whose arguments and
/// result are values.
const QUERY: &str = "
    SELECT proname::text || CASE WHEN bool_or(provolatile = 'v') THEN '!' ELSE '' END
      FROM pg_proc, (SELECT array_agg(oid) FROM pg_type WHERE typname::text IN
           ('internal', 'cstring', 'trigger', 'event_trigger', 'language_handler', 'fdw_handler',
            'tsm_handler', 'index_am_handler')) internal(types)
     WHERE pronamespace = 'pg_catalog'::regnamespace AND prokind <> 'p'
       AND prorettype <> ALL (types) AND NOT proargtypes::oid[] && types
     GROUP BY proname ORDER BY 1";

/// Types that later versions dropped, with all that was made for them.
const TYPES_GONE: [&str; 4] = ["abstime", "reltime", "tinterval", "smgr"];

/// What else version 15 has no more under its old name.
const GONE: [&str; 18] = [
    "binary_upgrade_set_next_toast_pg_type_oid",
    "close_lb",
    "close_sl",
    "currtid",
    "dist_lb",
    "intinterval",
    "mktinterval",
    "numeric_fac",
    "path_center",
    "pg_backup_start_time",
    "pg_is_in_backup",
    "pg_start_backup",
    "pg_stop_backup",
    "timemi",
    "timenow",
    "timepl",
    "btabstimecmp",
    "bttintervalcmp",
];

#[tokio::test]
async fn the_list_is_the_servers() {
    let cluster = postgres::shared();
    let client = cluster.connect("postgres").await;
    let version = client
        .query_one(
            "SELECT current_setting('server_version_num')::int / 10000",
            &[],
        )
        .await
        .unwrap();
    let version: i32 = version.get(0);
    let rows = client.query(QUERY, &[]).await.unwrap();
    let server: BTreeSet<String> = rows.iter().map(|row| row.get(0)).collect();
    let list: BTreeSet<String> = LIST
        .lines()
        .filter(|line| !line.starts_with('#'))
        .flat_map(str::split_whitespace)
        .map(str::to_owned)
        .collect();
    if version == 11 {
        assert_eq!(list, server);
        return;
    }
    let name = |entry: &str| entry.trim_end_matches('!').to_owned();
    let known: BTreeSet<String> = server.iter().map(|entry| name(entry)).collect();
    for entry in &list {
        let name = name(entry);
        let gone = GONE.contains(&&*name) || TYPES_GONE.iter().any(|gone| name.contains(gone));
        assert!(known.contains(&name) || gone || version > 15, "{name}");
        // What only looks in version 11 only looks later, too.
        let changes = !entry.ends_with('!') && server.contains(&format!("{name}!"));
        assert!(!changes, "{name} is VOLATILE");
    }
}
