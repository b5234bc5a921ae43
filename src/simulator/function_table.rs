//! The functions that queries may call: what each returns, and how the engine computes it: by a
//! function of SQLite's, by one of ours (`functions.rs`), or by what stands here in SQLite's SQL.

/// Functions of one row: names, the type of the result, and the SQL, in which `$1` is the first
/// argument and `$*` all. Without SQL it is a function of that name in the engine. Types beside
/// `pg_type`'s: `arg` is the first argument's, `elem` that of its elements.
pub(super) const FUNCTIONS: &[(&str, &str, &str)] = &[
    // Texts
    (
        "lower upper trim ltrim rtrim btrim replace left right split_part substr regexp_replace",
        "text",
        "",
    ),
    ("concat concat_ws", "text", ""),
    ("substring", "text", "substr($*)"),
    ("length char_length character_length", "int4", "length($*)"),
    ("octet_length", "int4", "length(CAST($1 AS BLOB))"),
    ("strpos", "int4", "instr($1, $2)"),
    ("ascii", "int4", "unicode($1)"),
    ("starts_with", "bool", "(substr($1, 1, length($2)) = $2)"),
    ("quote_ident quote_literal", "text", ""),
    (
        "quote_nullable",
        "text",
        "coalesce(quote_literal($1), 'NULL')",
    ),
    // Numbers
    ("abs", "arg", ""),
    ("round", "float8", "round($*)"),
    ("ceil ceiling", "float8", "ceil($1)"),
    ("floor power", "float8", ""),
    (
        "random",
        "float8",
        "(random() / 18446744073709551616.0 + 0.5)",
    ),
    ("pow", "float8", "power($*)"),
    ("sign", "int4", ""),
    ("mod", "arg", "modulo($*)"),
    ("pi", "float8", "3.141592653589793"),
    // Whatever
    ("coalesce", "arg", "coalesce($*, NULL)"),
    ("nullif", "arg", ""),
    ("greatest", "arg", "greatest($*)"),
    ("least", "arg", "least($*)"),
    // Times
    (
        "now current_timestamp transaction_timestamp statement_timestamp clock_timestamp pg_postmaster_start_time pg_conf_load_time",
        "timestamptz",
        "strftime('%Y-%m-%d %H:%M:%f+00')",
    ),
    (
        "localtimestamp",
        "timestamp",
        "strftime('%Y-%m-%d %H:%M:%f')",
    ),
    ("current_date", "date", "date()"),
    ("current_time", "text", "time()"),
    (
        "date_part",
        "float8",
        "CAST(strftime(CASE $1 WHEN 'year' THEN '%Y' WHEN 'month' THEN '%m' WHEN 'day' THEN '%d' WHEN 'hour' THEN '%H' WHEN 'minute' THEN '%M' WHEN 'epoch' THEN '%s' END, substr($2, 1, 19)) AS REAL)",
    ),
    (
        "date_trunc",
        "timestamptz",
        "strftime(CASE $1 WHEN 'year' THEN '%Y-01-01 00:00:00+00' WHEN 'month' THEN '%Y-%m-01 00:00:00+00' WHEN 'day' THEN '%Y-%m-%d 00:00:00+00' WHEN 'hour' THEN '%Y-%m-%d %H:00:00+00' WHEN 'minute' THEN '%Y-%m-%d %H:%M:00+00' END, substr($2, 1, 19))",
    ),
    ("age", "int4", "NULL"),
    // Arrays
    ("array_to_string", "text", ""),
    ("array_append array_remove array_cat", "arg", ""),
    (
        "array_length array_upper cardinality",
        "int4",
        "array_length($1)",
    ),
    (
        "array_lower",
        "int4",
        "CASE WHEN array_length($1) > 0 THEN 1 END",
    ),
    ("array_position", "int4", ""),
    ("string_to_array", "_text", ""),
    ("array_in", "text", "$1"), // an array type's typinput
    (
        "json_build_object jsonb_build_object",
        "json",
        "json_object($*)",
    ),
    (
        "json_build_array jsonb_build_array",
        "json",
        "json_array($*)",
    ),
    // The session
    (
        "current_user user session_user current_role",
        "name",
        "session_value('user')",
    ),
    (
        "current_database current_catalog",
        "name",
        "session_value('database')",
    ),
    ("current_schema", "name", "'public'"),
    (
        "current_schemas",
        "_name",
        "CASE $1 WHEN 1 THEN '{pg_catalog,public}' ELSE '{public}' END",
    ),
    ("current_setting", "text", ""),
    ("set_config", "text", ""),
    (
        "version",
        "text",
        "'PostgreSQL 11.3 (Osprey''s simulated Hologres)'",
    ),
    ("hg_version", "text", "session_value('hg_version')"),
    (
        "pg_backend_pid",
        "int4",
        "CAST(session_value('pid') AS INTEGER)",
    ),
    ("inet_server_addr inet_client_addr", "inet", "NULL"),
    ("inet_server_port inet_client_port", "int4", "NULL"),
    (
        "pg_is_in_recovery pg_is_wal_replay_paused pg_is_other_temp_schema",
        "bool",
        "0",
    ),
    ("pg_my_temp_schema", "oid", "0"),
    ("txid_current txid_current_if_assigned", "int8", "1"),
    ("pg_sleep", "void", "''"),
    // What the catalogs say
    ("format_type", "text", ""),
    (
        "to_regclass to_regtype to_regproc to_regnamespace to_regrole",
        "text",
        "",
    ),
    (
        "pg_get_userbyid",
        "name",
        "coalesce((SELECT rolname FROM \"pg_catalog.pg_authid\" WHERE oid = $1), 'unknown (OID=' || $1 || ')')",
    ),
    (
        "pg_table_is_visible",
        "bool",
        "EXISTS (SELECT 1 FROM \"pg_catalog.pg_class\" WHERE oid = $1 AND relnamespace IN (11, 2200))",
    ),
    (
        "pg_function_is_visible pg_type_is_visible pg_operator_is_visible pg_opclass_is_visible pg_opfamily_is_visible pg_collation_is_visible pg_conversion_is_visible pg_statistics_obj_is_visible pg_ts_config_is_visible pg_ts_dict_is_visible pg_ts_parser_is_visible pg_ts_template_is_visible",
        "bool",
        "($1 IS NOT NULL)",
    ),
    (
        "has_table_privilege has_any_column_privilege has_column_privilege has_schema_privilege has_database_privilege has_function_privilege has_language_privilege has_sequence_privilege has_server_privilege has_foreign_data_wrapper_privilege has_tablespace_privilege has_type_privilege pg_has_role",
        "bool",
        "1",
    ),
    (
        "row_security_active pg_relation_is_publishable pg_column_is_updatable",
        "bool",
        "0",
    ),
    ("pg_relation_is_updatable", "int4", "0"),
    (
        "pg_get_expr pg_get_constraintdef pg_get_viewdef pg_get_indexdef",
        "text",
        "",
    ),
    (
        "pg_get_triggerdef pg_get_ruledef pg_get_functiondef pg_get_partkeydef pg_get_partition_constraintdef pg_get_statisticsobjdef pg_get_statisticsobjdef_columns pg_get_serial_sequence pg_get_function_sqlbody pg_tablespace_location pg_get_function_arg_default pg_get_statisticsobjdef_expressions pg_describe_object",
        "text",
        "NULL",
    ),
    (
        "pg_get_function_result",
        "text",
        "(SELECT format_type(prorettype, NULL) FROM \"pg_catalog.pg_proc\" WHERE oid = $1)",
    ),
    (
        "pg_get_function_arguments pg_get_function_identity_arguments",
        "text",
        "(SELECT '' FROM \"pg_catalog.pg_proc\" WHERE oid = $1)",
    ),
    (
        "obj_description",
        "text",
        "(SELECT description FROM \"pg_catalog.pg_description\" WHERE objoid = $1 AND objsubid = 0)",
    ),
    (
        "col_description",
        "text",
        "(SELECT description FROM \"pg_catalog.pg_description\" WHERE objoid = $1 AND objsubid = $2)",
    ),
    ("shobj_description", "text", "NULL"),
    (
        "pg_encoding_to_char",
        "name",
        "CASE $1 WHEN 6 THEN 'UTF8' ELSE '' END",
    ),
    (
        "pg_char_to_encoding",
        "int4",
        "CASE upper($1) WHEN 'UTF8' THEN 6 ELSE -1 END",
    ),
    ("pg_client_encoding getdatabaseencoding", "name", "'UTF8'"),
    (
        "pg_database_size pg_table_size pg_relation_size pg_total_relation_size pg_indexes_size pg_tablespace_size pg_stat_get_numscans pg_stat_get_tuples_inserted",
        "int8",
        "0",
    ),
    ("pg_size_pretty", "text", "($1 || ' bytes')"),
    ("pg_stat_get_last_vacuum_time", "timestamptz", "NULL"),
];

/// Aggregates and window functions, with the type of their results. `sum` is an integer's int8.
pub(super) const AGGREGATES: &[(&str, &str)] = &[
    ("count", "int8"),
    ("sum", "sum"),
    ("avg", "float8"),
    ("min", "arg"),
    ("max", "arg"),
    ("string_agg", "text"),
    ("array_agg", "array"),
    ("json_agg", "json"),
    ("bool_and", "bool"),
    ("bool_or", "bool"),
    ("every", "bool"),
];

/// See [`AGGREGATES`].
pub(super) const WINDOW: &[(&str, &str)] = &[
    ("row_number", "int8"),
    ("rank", "int8"),
    ("dense_rank", "int8"),
    ("percent_rank", "float8"),
    ("cume_dist", "float8"),
    ("ntile", "int4"),
    ("lag", "arg"),
    ("lead", "arg"),
    ("first_value", "arg"),
    ("last_value", "arg"),
    ("nth_value", "arg"),
];

/// A column of a function's rows: name, type, SQL.
type SetColumn = (&'static str, &'static str, &'static str);

/// Functions that yield rows, with their columns; their SQL is over the rows of `json_each`,
/// whose name is `$`.
pub(super) const SETS: &[(&str, &[SetColumn])] = &[
    ("unnest", &[("unnest", "elem", "$.value")]),
    ("generate_series", &[("generate_series", "int4", "$.value")]),
    (
        "generate_subscripts",
        &[("generate_subscripts", "int4", "($.key + 1)")],
    ),
    (
        "_pg_expandarray",
        &[("x", "elem", "$.value"), ("n", "int4", "($.key + 1)")],
    ),
    (
        "pg_options_to_table",
        &[
            (
                "option_name",
                "text",
                "substr($.value, 1, instr($.value, '=') - 1)",
            ),
            (
                "option_value",
                "text",
                "substr($.value, instr($.value, '=') + 1)",
            ),
        ],
    ),
    (
        "aclexplode",
        &[
            ("grantor", "oid", "NULL"),
            ("grantee", "oid", "NULL"),
            ("privilege_type", "text", "NULL"),
            ("is_grantable", "bool", "NULL"),
        ],
    ),
    (
        "pg_get_keywords",
        &[
            ("word", "text", "NULL"),
            ("catcode", "char", "NULL"),
            ("catdesc", "text", "NULL"),
        ],
    ),
];

/// The OID of the first function in `pg_proc`.
pub(super) const FIRST_FUNCTION: i64 = 6000;

/// All functions with the types of their results, in the order of their OIDs.
pub(super) fn functions() -> impl Iterator<Item = (&'static str, &'static str)> {
    let plain = FUNCTIONS
        .iter()
        .flat_map(|(names, kind, _)| names.split(' ').map(move |name| (name, *kind)));
    plain
        .chain(AGGREGATES.iter().copied())
        .chain(WINDOW.iter().copied())
}
