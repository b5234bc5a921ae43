-- The SQL side of the stand-in for Hologres; see README.md.
\echo Use "CREATE EXTENSION hologres" to load this file. \quit

CREATE SCHEMA hologres;

-- What MaxCompute holds: one table per MaxCompute table, named "project.table" or
-- "project#schema.table", all in lower case.
CREATE SCHEMA odps_data;

CREATE FUNCTION pg_catalog.hg_version() RETURNS text
    AS 'MODULE_PATHNAME', 'hg_version' LANGUAGE C STABLE STRICT PARALLEL SAFE;

CREATE FUNCTION hologres.odps_fdw_handler() RETURNS fdw_handler
    AS 'MODULE_PATHNAME', 'odps_fdw_handler' LANGUAGE C STRICT;

CREATE FUNCTION hologres.odps_fdw_validator(text[], oid) RETURNS void
    AS 'MODULE_PATHNAME', 'odps_fdw_validator' LANGUAGE C STRICT;

CREATE FOREIGN DATA WRAPPER odps_fdw
    HANDLER hologres.odps_fdw_handler VALIDATOR hologres.odps_fdw_validator;

CREATE SERVER odps_server FOREIGN DATA WRAPPER odps_fdw;

GRANT USAGE ON FOREIGN SERVER odps_server TO PUBLIC;

-- What the tests look at. The counters live in shared memory: no rollback takes them back.
CREATE FUNCTION hologres.scan_count(engine int, failures boolean) RETURNS bigint
    AS 'MODULE_PATHNAME', 'hologres_scan_count' LANGUAGE C VOLATILE STRICT;

-- Scans begun, and scans that failed, per engine; in this database, since the last reset.
CREATE FUNCTION hologres.scans(OUT engine text, OUT scans bigint, OUT failures bigint)
    RETURNS SETOF record LANGUAGE sql VOLATILE STRICT AS $$
    SELECT name, hologres.scan_count(number, false), hologres.scan_count(number, true)
    FROM (VALUES (0, 'HQE'), (1, 'SQE'), (2, 'COMMON_TABLE')) AS engines (number, name) $$;

CREATE FUNCTION hologres.reset_scans() RETURNS void
    AS 'MODULE_PATHNAME', 'hologres_reset_scans' LANGUAGE C VOLATILE STRICT;

CREATE FUNCTION hologres.setting_changes() RETURNS bigint
    AS 'MODULE_PATHNAME', 'hologres_setting_changes' LANGUAGE C VOLATILE STRICT;

REVOKE ALL ON FUNCTION hologres.scan_count(int, boolean), hologres.scans(),
    hologres.reset_scans(), hologres.setting_changes() FROM PUBLIC;
