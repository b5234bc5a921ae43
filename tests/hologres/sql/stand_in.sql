-- What the stand-in for Hologres does. Run as a superuser in a new database of a server that was
-- started with hologres in shared_preload_libraries and
-- hologres.encrypted_projects = 'finance_byok:kms, legacy_default:default'.
\set VERBOSITY terse
\set SHOW_CONTEXT never
SET client_min_messages = warning;

SELECT hg_version() LIKE 'Hologres 2.2.10 %' AS version;
SELECT srvname, fdwname FROM pg_foreign_server JOIN pg_foreign_data_wrapper w ON w.oid = srvfdw;

-- One setting under two names.
SHOW hg_experimental_enable_access_odps_orc_via_holo;
SET hg_enable_access_odps_orc_via_holo = false;
SHOW hg_experimental_enable_access_odps_orc_via_holo;
SHOW hg_enable_access_odps_orc_via_holo;
RESET hg_experimental_enable_access_odps_orc_via_holo;
SHOW hg_enable_access_odps_orc_via_holo;
BEGIN;
SET hg_enable_access_odps_orc_via_holo = off;
SAVEPOINT s;
SET hg_experimental_enable_access_odps_orc_via_holo = on;
SHOW hg_enable_access_odps_orc_via_holo;
ROLLBACK TO s;
SHOW hg_experimental_enable_access_odps_orc_via_holo;
SET LOCAL hg_experimental_enable_access_odps_orc_via_holo = on;
ROLLBACK;
SHOW hg_experimental_enable_access_odps_orc_via_holo;
SHOW hg_enable_access_odps_orc_via_holo;
SELECT set_config('hg_enable_access_odps_orc_via_holo', 'off', false);
SHOW hg_experimental_enable_access_odps_orc_via_holo;
RESET ALL;
SHOW hg_experimental_enable_access_odps_orc_via_holo;
SELECT hologres.setting_changes() AS changes;

-- A database's default, given under the new name, is the default of both.
SELECT current_database() AS db \gset
ALTER DATABASE :"db" SET hg_enable_access_odps_orc_via_holo = off;
\c
\set VERBOSITY terse
SHOW hg_experimental_enable_access_odps_orc_via_holo;
SET hg_experimental_enable_access_odps_orc_via_holo = on;
RESET ALL;
SHOW hg_enable_access_odps_orc_via_holo;
ALTER DATABASE :"db" RESET hg_enable_access_odps_orc_via_holo;
\c
\set VERBOSITY terse
SELECT hologres.reset_scans();

-- Foreign tables and their rows.
CREATE TABLE odps_data."open_project.t" (a int, b text);
INSERT INTO odps_data."open_project.t" SELECT g, 'row ' || g FROM generate_series(1, 3) g;
CREATE TABLE odps_data."finance_byok#s.t" (LIKE odps_data."open_project.t");
INSERT INTO odps_data."finance_byok#s.t" SELECT * FROM odps_data."open_project.t";
CREATE TABLE odps_data."legacy_default.t" (LIKE odps_data."open_project.t");
CREATE FOREIGN TABLE plain (b text, a int) SERVER odps_server
    OPTIONS (project_name 'open_project', table_name 't');
CREATE FOREIGN TABLE secret (a int, b text) SERVER odps_server
    OPTIONS (project_name 'FINANCE_BYOK#s', table_name 't');
CREATE FOREIGN TABLE legacy (a int, b text) SERVER odps_server
    OPTIONS (project_name 'legacy_default', table_name 't');
CREATE FOREIGN TABLE bad (a int) SERVER odps_server OPTIONS (project_name 'p');
CREATE FOREIGN TABLE bad (a int) SERVER odps_server
    OPTIONS (project_name 'p', table_name 't', encrypted 'true');
CREATE FOREIGN TABLE bad (a int) SERVER odps_server
    OPTIONS (project_name 'p', table_name 'none');
SELECT * FROM bad;
SELECT * FROM plain ORDER BY a;
SELECT p.a, q.b FROM plain p JOIN plain q ON q.a > p.a ORDER BY 1, 2;
SELECT (SELECT count(*) FROM plain q WHERE q.a <= g) FROM generate_series(0, 2) g;

-- The engines.
EXPLAIN (COSTS OFF) SELECT * FROM secret WHERE a > 1;
SELECT * FROM secret;
\echo :LAST_ERROR_SQLSTATE
SET hologres.fail_after_rows = 2;
\set FETCH_COUNT 1
SELECT * FROM secret;
\unset FETCH_COUNT
RESET hologres.fail_after_rows;
SET hg_experimental_enable_access_odps_orc_via_holo = false;
EXPLAIN (COSTS OFF) SELECT * FROM secret WHERE a > 1;
SELECT * FROM secret;
SELECT * FROM legacy;
SET hg_experimental_external_catalog_routing = 'odps:common_table,dlf:hqe';
EXPLAIN (COSTS OFF) SELECT * FROM legacy;
SELECT * FROM legacy;

-- What was counted outlives a rollback.
SELECT * FROM hologres.scans();
BEGIN;
SELECT count(*) FROM plain;
ROLLBACK;
SELECT * FROM hologres.scans() WHERE engine = 'COMMON_TABLE';
SELECT hologres.setting_changes();

-- Who may not know what is encrypted.
CREATE ROLE stand_in_user;
SET ROLE stand_in_user;
SHOW hologres.encrypted_projects;
SELECT * FROM hologres.scans();
RESET ROLE;
DROP ROLE stand_in_user;

-- Import.
CREATE SCHEMA imported;
IMPORT FOREIGN SCHEMA "FINANCE_BYOK#s" FROM SERVER odps_server INTO imported;
IMPORT FOREIGN SCHEMA "FINANCE_BYOK#s" LIMIT TO (t) FROM SERVER odps_server INTO imported
    OPTIONS (if_table_exist 'ignore');
SELECT ftoptions FROM pg_foreign_table WHERE ftrelid = 'imported.t'::regclass;

-- A version that does not have the settings.
SET hologres.refuse_set = on;
SET hg_experimental_enable_access_odps_orc_via_holo = false;
