//! What is known of PostgreSQL's and Hologres' own functions, by their names. Any other function
//! may do anything, and may run what its string arguments say.

use std::collections::HashMap;
use std::sync::LazyLock;

use foldhash::fast::RandomState;

/// What a call of a known function may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Known {
    /// Nothing that running it twice would double. Keywords and types that may stand before a
    /// parenthesis are among these.
    Harmless,
    /// Something that must not be doubled: it writes, locks, counts or sends. It reads no relation.
    NotTwice,
    /// It runs SQL, or reads the relation, that an argument names.
    RunsText,
}

/// `name` or `name!` each; see the head of the file.
const BUILT_IN: &str = include_str!("built_in.txt");

/// VOLATILE functions of PostgreSQL that only look, or wait.
const HARMLESS_THOUGH_VOLATILE: &str = "\
    clock_timestamp current_query currval lastval pg_blocking_pids pg_collation_actual_version \
    pg_current_logfile pg_current_wal_flush_lsn pg_current_wal_insert_lsn pg_current_wal_lsn \
    pg_database_size pg_indexes_size pg_is_in_backup pg_is_in_recovery pg_is_wal_replay_paused \
    pg_jit_available pg_last_committed_xact pg_last_wal_receive_lsn pg_last_wal_replay_lsn \
    pg_last_xact_replay_timestamp pg_lock_status pg_notification_queue_usage pg_relation_size \
    pg_safe_snapshot_blocking_pids pg_sequence_last_value pg_sleep pg_sleep_for pg_sleep_until \
    pg_stat_get_xact_blocks_fetched pg_stat_get_xact_blocks_hit \
    pg_stat_get_xact_function_calls pg_stat_get_xact_function_self_time \
    pg_stat_get_xact_function_total_time pg_stat_get_xact_numscans \
    pg_stat_get_xact_tuples_deleted pg_stat_get_xact_tuples_fetched \
    pg_stat_get_xact_tuples_hot_updated pg_stat_get_xact_tuples_inserted \
    pg_stat_get_xact_tuples_returned pg_stat_get_xact_tuples_updated pg_table_size \
    pg_tablespace_size pg_total_relation_size pg_xact_commit_timestamp random timeofday timezone \
    txid_status";

/// Not VOLATILE, and yet it assigns a number.
const NOT_TWICE_THOUGH_STABLE: &str = "txid_current";

/// Functions of PostgreSQL that run a query or read a relation given by name: those of its source
/// that go through SPI with an argument's text (`xml.c`, `tsvector_op.c`, `tsquery_rewrite.c`), or
/// open the relation that an argument names (`currtid`).
const RUN_TEXT: &str = "\
    currtid currtid2 cursor_to_xml cursor_to_xmlschema query_to_xml query_to_xml_and_xmlschema \
    query_to_xmlschema table_to_xml table_to_xml_and_xmlschema table_to_xmlschema ts_rewrite ts_stat";

/// Those that read whatever is in a schema or in the database.
const READ_ANYTHING: &str = "\
    database_to_xml database_to_xml_and_xmlschema database_to_xmlschema schema_to_xml \
    schema_to_xml_and_xmlschema schema_to_xmlschema";

/// Functions that PostgreSQL 12 to 17 brought; none of them is VOLATILE.
const LATER: &str = "\
    acosh any_value array_shuffle array_sample asinh atanh bit_count bit_xor cosh date_add date_bin \
    date_subtract erf erfc gcd gen_random_uuid json_exists json_query json_scalar json_serialize \
    json_table json_value jsonb_path_exists jsonb_path_exists_tz jsonb_path_match \
    jsonb_path_match_tz jsonb_path_query jsonb_path_query_array jsonb_path_query_array_tz \
    jsonb_path_query_first jsonb_path_query_first_tz jsonb_path_query_tz jsonb_set_lax lcm log10 \
    min_scale multirange pg_current_xact_id_if_assigned pg_get_statisticsobjdef_columns \
    pg_get_statisticsobjdef_expressions pg_input_is_valid range_agg range_intersect_agg \
    regexp_count regexp_instr regexp_like regexp_substr sinh string_to_table tanh to_bin to_oct \
    trim_array trim_scale unistr uuid_extract_timestamp uuid_extract_version";

/// Keywords that cannot name a function unless they are quoted (PostgreSQL's reserved words and those
/// for columns, `pg_get_keywords()`), and others where a parenthesis may stand behind them by the
/// grammar.
const KEYWORDS: &str = "\
    all and any array as asc asymmetric between bigint bit boolean both by case cast char character \
    check coalesce collate collation column columns conflict constraint cube current_catalog \
    current_date current_role current_time current_timestamp current_user day dec decimal default \
    deferrable desc distinct do double else end except exists extract false fetch filter float for \
    foreign from grant greatest group grouping groups having hour if ilike in initially inout insert \
    int integer intersect interval into is isnull join key lateral leading least limit localtime \
    localtimestamp materialized minute month national nchar none normalize not notnull null nullif \
    numeric offset on only or order ordinality out over overlaps overlay partition passing placing \
    position preceding precision primary range real references returning rollup row rows second \
    select session_user set setof sets similar smallint some substring symmetric table tablesample \
    then time timestamp to trailing treat trim true union unique user using values varchar variadic \
    varying when where window with within xmlattributes xmlconcat xmlelement xmlexists xmlforest \
    xmlnamespaces xmlparse xmlpi xmlroot xmlserialize xmltable year zone";

/// Functions of `information_schema`, which say of an index or a column what the catalogs have (pgjdbc's
/// `getPrimaryKeys` calls one of them).
const INFORMATION_SCHEMA: &str = "\
    _pg_char_max_length _pg_char_octet_length _pg_datetime_precision _pg_expandarray \
    _pg_index_position _pg_interval_type _pg_keysequal _pg_numeric_precision \
    _pg_numeric_precision_radix _pg_numeric_scale _pg_truetypid _pg_truetypmod";

/// Types that may be written as functions are.
const TYPES: &str = "bytea inet json jsonb regtype roaringbitmap uuid";

/// Hologres' own functions that compute from their arguments or tell what the catalogs say, in the
/// words of where they are known from.
const HOLOGRES: [(&str, &str); 9] = [
    ("vendor page: hg_version", "hg_version"),
    (
        "vendor page: functions for roaring bitmaps",
        "rb_and rb_and_agg rb_and_cardinality rb_and_cardinality_agg rb_build rb_build_agg \
         rb_cardinality rb_contains rb_iterate rb_or rb_or_agg rb_or_cardinality \
         rb_or_cardinality_agg rb_to_array",
    ),
    (
        "vendor pages: string, date, array and aggregate functions, Oracle and Spark compatible ones",
        "add_months approx_count_distinct array_contains array_distinct array_except array_join \
         array_max array_min array_sort array_union date_diff dateadd datediff datepart explode \
         from_unixtime get_json_object ifnull instr listagg log2 max_by median min_by nvl pivot \
         quarter regexp_extract split uuid_generate_v4 week",
    ),
    (
        "vendor pages: Proxima and HGraph vectors; hologres-vector",
        "approx_cosine_distance approx_euclidean_distance approx_inner_product_distance \
         pm_approx_euclidean_distance pm_approx_inner_product_distance \
         pm_approx_squared_euclidean_distance pm_euclidean_distance pm_inner_product_distance \
         pm_squared_euclidean_distance",
    ),
    (
        "hologres-cli and hologres-mcp-server: a table's DDL from the catalogs",
        "hg_dump_script",
    ),
    (
        "holo-client: whether a table's metadata is in place",
        "hg_internal_check_table_meta",
    ),
    ("hologres-mcp-server: a table's size", "hg_relation_size"),
    (
        "vendor page: a logical partition table's partitions",
        "hg_list_logical_partition",
    ),
    (
        "holo-client, Flink and Hive connectors: what the instance and the connection are",
        "hg_fixed_conn_id instance_max_connections",
    ),
];

/// Hologres' own functions that change something, and read no relation.
const HOLOGRES_NOT_TWICE: [(&str, &str); 2] = [
    (
        "holo-client: refreshes metadata, makes and drops replication slots",
        "hg_create_logical_replication_slot hg_drop_logical_replication_slot \
         hg_internal_refresh_meta",
    ),
    (
        "hologres-mcp-server: the query queue's rules",
        "hg_set_classifier_rule_condition_value",
    ),
];

/// Where Hologres keeps functions of its own, beside `pg_catalog`.
const HOLOGRES_SCHEMA: &[u8] = b"hologres";

static NAMES: LazyLock<HashMap<&'static [u8], Known, RandomState>> = LazyLock::new(|| {
    let mut names = HashMap::default();
    let mut say = |list: &'static str, known: Known| {
        names.extend(list.split_whitespace().map(|name| (name.as_bytes(), known)));
    };
    for name in built_in() {
        match name.strip_suffix('!') {
            Some(name) => say(name, Known::NotTwice),
            None => say(name, Known::Harmless),
        }
    }
    for (_, list) in HOLOGRES {
        say(list, Known::Harmless);
    }
    for (_, list) in HOLOGRES_NOT_TWICE {
        say(list, Known::NotTwice);
    }
    for list in [
        HARMLESS_THOUGH_VOLATILE,
        LATER,
        INFORMATION_SCHEMA,
        KEYWORDS,
        TYPES,
    ] {
        say(list, Known::Harmless);
    }
    say(NOT_TWICE_THOUGH_STABLE, Known::NotTwice);
    say(RUN_TEXT, Known::RunsText);
    say(READ_ANYTHING, Known::RunsText);
    names
});

/// The names of [`BUILT_IN`].
fn built_in() -> impl Iterator<Item = &'static str> {
    BUILT_IN
        .lines()
        .filter(|line| !line.starts_with('#'))
        .flat_map(str::split_whitespace)
}

/// What is known of the function, keyword or type of this name in lower case; `None`: nothing.
pub(crate) fn known(name: &[u8]) -> Option<Known> {
    NAMES.get(name).copied()
}

/// What is known of the function, keyword or type that a word names as it is written, in whatever
/// case; `None`: nothing.
pub(crate) fn known_word(word: &[u8]) -> Option<Known> {
    let mut buffer = [0_u8; 63];
    let lower = buffer.get_mut(..word.len())?;
    lower.copy_from_slice(word);
    lower.make_ascii_lowercase();
    known(lower)
}

/// True if functions of this schema are the ones that [`known`] means.
pub(crate) fn is_schema_of_known(schema: &[u8]) -> bool {
    let all: [&[u8]; 3] = [b"pg_catalog", b"information_schema", HOLOGRES_SCHEMA];
    all.contains(&schema)
}

/// True if the function reads relations that nothing in its call names.
pub(crate) fn reads_anything(name: &[u8]) -> bool {
    READ_ANYTHING
        .split_whitespace()
        .any(|known| known.as_bytes() == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_beside_the_list_is_about_functions_of_the_list() {
        let built_in: HashMap<&str, bool> = built_in()
            .map(|name| match name.strip_suffix('!') {
                Some(name) => (name, true),
                None => (name, false),
            })
            .collect();
        assert!(built_in.len() > 1_700);
        for name in HARMLESS_THOUGH_VOLATILE.split_whitespace() {
            assert_eq!(built_in.get(name), Some(&true), "{name}");
        }
        for name in NOT_TWICE_THOUGH_STABLE.split_whitespace() {
            assert_eq!(built_in.get(name), Some(&false), "{name}");
        }
        for list in [RUN_TEXT, READ_ANYTHING] {
            for name in list.split_whitespace() {
                assert!(built_in.contains_key(name), "{name}");
            }
        }
        for name in LATER.split_whitespace() {
            assert!(!built_in.contains_key(name), "{name}");
        }
    }

    #[test]
    fn what_writes_or_locks_is_known_and_not_harmless() {
        for name in [
            "nextval",
            "setval",
            "pg_advisory_lock",
            "pg_try_advisory_lock",
            "set_config",
            "pg_cancel_backend",
            "pg_terminate_backend",
            "lo_import",
            "pg_notify",
            "pg_reload_conf",
            "txid_current",
            "setseed",
            "hg_internal_refresh_meta",
        ] {
            assert_eq!(known(name.as_bytes()), Some(Known::NotTwice), "{name}");
        }
        for name in ["query_to_xml", "ts_stat", "schema_to_xml", "ts_rewrite"] {
            assert_eq!(known(name.as_bytes()), Some(Known::RunsText), "{name}");
        }
        for name in ["dblink", "crosstab", "my_function", "first", "operator", ""] {
            assert_eq!(known(name.as_bytes()), None, "{name}");
        }
        for name in [
            "COUNT",
            "coalesce",
            "pg_sleep",
            "XmlTable",
            "hg_dump_script",
        ] {
            assert_eq!(known_word(name.as_bytes()), Some(Known::Harmless), "{name}");
        }
    }
}
