//! Which functions are known to be harmless when they run twice, and what reading a call tells.

use super::Analysis;
use super::lexer::Kind;
use super::relations::relation_name;
use super::setting;
use super::token::Statement;
use crate::protection::Effects;

/// Functions, types and keywords that may stand before a parenthesis without any effect on data,
/// sequences, locks or settings. Sorted; a test holds it so.
#[rustfmt::skip]
const KNOWN: &[&str] = &[
    "abbrev", "abs", "acldefault", "aclexplode", "acos", "acosd", "acosh", "age", "all", "and",
    "any", "any_value", "approx_count_distinct", "area", "array", "array_agg", "array_append",
    "array_cat", "array_contains", "array_dims", "array_distinct", "array_except", "array_fill",
    "array_join", "array_length", "array_lower", "array_max", "array_min", "array_ndims",
    "array_position", "array_positions", "array_prepend", "array_remove", "array_replace",
    "array_sort", "array_to_json", "array_to_string", "array_union", "array_upper", "as", "ascii",
    "asin", "asind", "asinh", "asymmetric", "atan", "atan2", "atan2d", "atand", "atanh", "avg",
    "between", "bigint", "bit", "bit_and", "bit_count", "bit_length", "bit_or", "bit_xor", "bool",
    "bool_and", "bool_or", "boolean", "box", "bpchar", "broadcast", "btrim", "by", "bytea",
    "cardinality", "case", "cast", "cbrt", "ceil", "ceiling", "center", "char", "char_length",
    "character", "character_length", "chr", "cidr", "circle", "clock_timestamp", "coalesce",
    "col_description", "collation", "concat", "concat_ws", "conflict", "convert", "convert_from",
    "convert_to", "corr", "cos", "cosd", "cosh", "cot", "cotd", "count", "covar_pop", "covar_samp",
    "cube", "cume_dist", "current_catalog", "current_database", "current_schema",
    "current_schemas", "current_setting", "currval", "date", "date_bin", "date_part", "date_trunc",
    "dateadd", "datediff", "datepart", "daterange", "day", "dec", "decimal", "decode", "degrees",
    "dense_rank", "diameter", "distinct", "div", "double", "else", "encode", "erf", "erfc",
    "every", "except", "exists", "exp", "explode", "extract", "factorial", "family", "filter",
    "first_value", "float", "floor", "for", "format", "format_type", "from", "from_unixtime",
    "gcd", "gen_random_uuid", "generate_series", "generate_subscripts", "get_bit", "get_byte",
    "get_json_object", "greatest", "group", "grouping", "has_any_column_privilege",
    "has_column_privilege", "has_database_privilege", "has_foreign_data_wrapper_privilege",
    "has_function_privilege", "has_language_privilege", "has_schema_privilege",
    "has_sequence_privilege", "has_server_privilege", "has_table_privilege",
    "has_tablespace_privilege", "has_type_privilege", "having", "hg_version", "host", "hostmask",
    "hour", "if", "ifnull", "ilike", "in", "inet", "inet_client_addr", "inet_client_port",
    "inet_merge", "inet_same_family", "inet_server_addr", "inet_server_port", "initcap", "insert",
    "instr", "int", "int2", "int4", "int4range", "int8", "int8range", "integer", "intersect",
    "interval", "is", "isclosed", "isempty", "isfinite", "isnull", "join", "json", "json_agg",
    "json_array_elements", "json_array_elements_text", "json_array_length", "json_build_array",
    "json_build_object", "json_each", "json_each_text", "json_exists", "json_extract_path",
    "json_extract_path_text", "json_object", "json_object_agg", "json_object_keys",
    "json_populate_record", "json_populate_recordset", "json_query", "json_strip_nulls",
    "json_table", "json_to_record", "json_to_recordset", "json_typeof", "json_value", "jsonb",
    "jsonb_agg", "jsonb_array_elements", "jsonb_array_elements_text", "jsonb_array_length",
    "jsonb_build_array", "jsonb_build_object", "jsonb_each", "jsonb_each_text", "jsonb_exists",
    "jsonb_extract_path", "jsonb_extract_path_text", "jsonb_insert", "jsonb_object",
    "jsonb_object_agg", "jsonb_object_keys", "jsonb_path_exists", "jsonb_path_exists_tz",
    "jsonb_path_match", "jsonb_path_query", "jsonb_path_query_array", "jsonb_path_query_first",
    "jsonb_path_query_tz", "jsonb_populate_record", "jsonb_populate_recordset", "jsonb_pretty",
    "jsonb_set", "jsonb_set_lax", "jsonb_strip_nulls", "jsonb_to_record", "jsonb_to_recordset",
    "jsonb_to_tsvector", "jsonb_typeof", "justify_days", "justify_hours", "justify_interval",
    "key", "lag", "last_value", "lastval", "lateral", "lcm", "lead", "least", "left", "length",
    "like", "limit", "line", "listagg", "ln", "log", "log10", "log2", "lower", "lower_inc",
    "lower_inf", "lpad", "lseg", "ltrim", "macaddr", "make_date", "make_interval", "make_time",
    "make_timestamp", "make_timestamptz", "makeaclitem", "masklen", "materialized", "max",
    "max_by", "md5", "median", "min", "min_by", "minute", "mod", "mode", "money", "month", "name",
    "national", "nchar", "netmask", "network", "normalize", "not", "now", "npoints", "nth_value",
    "ntile", "nullif", "num_nonnulls", "num_nulls", "numeric", "numnode", "numrange", "nvl",
    "obj_description", "octet_length", "offset", "oid", "on", "or", "ordinality", "over",
    "overlaps", "overlay", "parse_ident", "partition", "path", "percent_rank", "percentile_cont",
    "percentile_disc", "pg_backend_pid", "pg_blocking_pids", "pg_client_encoding",
    "pg_collation_for", "pg_collation_is_visible", "pg_column_size", "pg_conf_load_time",
    "pg_conversion_is_visible", "pg_current_xact_id_if_assigned", "pg_database_size",
    "pg_describe_object", "pg_encoding_to_char", "pg_filenode_relation", "pg_function_is_visible",
    "pg_get_constraintdef", "pg_get_expr", "pg_get_function_arguments",
    "pg_get_function_identity_arguments", "pg_get_function_result", "pg_get_functiondef",
    "pg_get_indexdef", "pg_get_keywords", "pg_get_partkeydef", "pg_get_ruledef",
    "pg_get_serial_sequence", "pg_get_statisticsobjdef", "pg_get_triggerdef", "pg_get_userbyid",
    "pg_get_viewdef", "pg_has_role", "pg_identify_object", "pg_indexes_size", "pg_is_in_recovery",
    "pg_is_other_temp_schema", "pg_jit_available", "pg_lock_status", "pg_my_temp_schema",
    "pg_opclass_is_visible", "pg_operator_is_visible", "pg_options_to_table",
    "pg_postmaster_start_time", "pg_relation_filenode", "pg_relation_filepath", "pg_relation_size",
    "pg_sequence_last_value", "pg_show_all_settings", "pg_size_pretty", "pg_sleep",
    "pg_stat_get_activity", "pg_table_is_visible", "pg_table_size", "pg_tablespace_location",
    "pg_tablespace_size", "pg_timezone_abbrevs", "pg_timezone_names", "pg_total_relation_size",
    "pg_ts_config_is_visible", "pg_type_is_visible", "pg_typeof", "phraseto_tsquery", "pi",
    "pivot", "plainto_tsquery", "point", "polygon", "position", "pow", "power", "preceding",
    "precision", "quarter", "querytree", "quote_ident", "quote_literal", "quote_nullable",
    "radians", "radius", "random", "range", "range_agg", "range_merge", "rank", "rb_and",
    "rb_and_agg", "rb_and_cardinality", "rb_and_cardinality_agg", "rb_build", "rb_build_agg",
    "rb_cardinality", "rb_contains", "rb_iterate", "rb_or", "rb_or_agg", "rb_or_cardinality",
    "rb_or_cardinality_agg", "rb_to_array", "real", "regclass", "regexp_count", "regexp_extract",
    "regexp_instr", "regexp_like", "regexp_match", "regexp_matches", "regexp_replace",
    "regexp_split_to_array", "regexp_split_to_table", "regexp_substr", "regr_avgx", "regr_avgy",
    "regr_count", "regr_intercept", "regr_r2", "regr_slope", "regtype", "repeat", "replace",
    "returning", "reverse", "right", "roaringbitmap", "rollup", "round", "row", "row_number",
    "row_security_active", "row_to_json", "rows", "rpad", "rtrim", "scale", "second", "select",
    "session_user", "set", "set_bit", "set_byte", "set_masklen", "sets", "setweight", "sha224",
    "sha256", "sha384", "sha512", "shobj_description", "sign", "similar", "sin", "sind", "sinh",
    "smallint", "some", "split", "split_part", "sqrt", "starts_with", "statement_timestamp",
    "stddev", "stddev_pop", "stddev_samp", "string_agg", "string_to_array", "string_to_table",
    "strip", "strpos", "substr", "substring", "sum", "symmetric", "tan", "tand", "tanh", "text",
    "then", "time", "timeofday", "timestamp", "timestamptz", "timetz", "to_ascii", "to_char",
    "to_date", "to_hex", "to_json", "to_jsonb", "to_number", "to_regclass", "to_regnamespace",
    "to_regproc", "to_regrole", "to_regtype", "to_timestamp", "to_tsquery", "to_tsvector",
    "transaction_timestamp", "translate", "trim", "trim_array", "trunc", "ts_headline", "ts_rank",
    "ts_rank_cd", "tsrange", "tstzrange", "tsvector_to_array", "txid_current_if_assigned", "union",
    "unistr", "unnest", "upper", "upper_inc", "upper_inf", "using", "uuid", "uuid_generate_v4",
    "values", "var_pop", "var_samp", "varbit", "varchar", "variance", "varying", "version",
    "websearch_to_tsquery", "week", "when", "where", "width_bucket", "window", "with", "within",
    "xml", "xml_is_well_formed", "xmlagg", "xmlattributes", "xmlcomment", "xmlconcat",
    "xmlelement", "xmlexists", "xmlforest", "xmlparse", "xmlpi", "xmlroot", "xmlserialize",
    "xmltable", "xpath", "xpath_exists", "year", "zone",
];

/// True if `name(` in an expression has no effect that running it twice would double.
pub(crate) fn is_known(name: &[u8]) -> bool {
    let mut buffer = [0_u8; 40];
    let Some(lower) = buffer.get_mut(..name.len()) else {
        return false;
    };
    lower.copy_from_slice(name);
    lower.make_ascii_lowercase();
    KNOWN
        .binary_search_by(|known| known.as_bytes().cmp(lower))
        .is_ok()
}

/// What a call tells: the name's last part is at `index`, the parenthesis behind it. Answers
/// whether the function is known.
pub(super) fn call<'a>(
    statement: &Statement<'_, 'a>,
    index: usize,
    analysis: &mut Analysis<'a>,
) -> bool {
    let qualified = index > 0 && statement.kind(index - 1) == Some(Kind::Dot);
    if statement.kind(index) == Some(Kind::Word) && !qualified {
        let word = statement.bytes(index);
        if is_known(word) {
            return true;
        }
        if !word.eq_ignore_ascii_case(b"set_config") {
            unknown(statement, index, analysis);
            return false;
        }
    }
    let name = statement.folded(index);
    let built_in = !qualified || index > 1 && *statement.folded(index - 2) == *b"pg_catalog";
    if built_in && *name == *b"set_config" {
        setting::set_config(statement, index + 1, analysis);
        analysis.add(Effects::CALLS_UNKNOWN);
        return true;
    }
    if built_in && is_known(&name) && !name.iter().any(u8::is_ascii_uppercase) {
        return true;
    }
    unknown(statement, index, analysis);
    false
}

fn unknown<'a>(statement: &Statement<'_, 'a>, last: usize, analysis: &mut Analysis<'a>) {
    analysis.add(Effects::CALLS_UNKNOWN);
    let mut first = last;
    while first > 1 && statement.kind(first - 1) == Some(Kind::Dot) && statement.is_name(first - 2)
    {
        first -= 2;
    }
    analysis.calls.extend(relation_name(statement, first, last));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_sorted() {
        for pair in KNOWN.windows(2) {
            assert!(pair[0] < pair[1], "{} before {}", pair[0], pair[1]);
        }
        assert!(KNOWN.iter().all(|name| name.len() <= 40));
    }

    #[test]
    fn what_writes_locks_or_runs_text_is_not_known() {
        for name in [
            "nextval",
            "setval",
            "pg_advisory_lock",
            "pg_try_advisory_lock",
            "set_config",
            "pg_cancel_backend",
            "pg_terminate_backend",
            "dblink",
            "query_to_xml",
            "lo_import",
            "pg_notify",
            "pg_reload_conf",
            "txid_current",
            "setseed",
            "my_function",
            "",
        ] {
            assert!(!is_known(name.as_bytes()), "{name}");
        }
        assert!(is_known(b"COUNT") && is_known(b"coalesce") && is_known(b"pg_sleep"));
    }
}
