-- What Alibaba's own clients ask of Hologres' catalogs and functions, as far as they can go on with it.
CREATE TABLE hologres.hg_table_properties
    (table_namespace text, table_name text, property_key text, property_value text);
CREATE TABLE hologres.hg_table_group_properties
    (tablegroup_name text, property_key text, property_value text);
CREATE TABLE hologres.hg_warehouses
    (warehouse_id int, warehouse_name text, cpu int, mem int, status text, is_default boolean);
CREATE TABLE hologres.hg_query_log
    (usename text, status text, query_id text, datname text, command_tag text, duration int,
     message text, query_start timestamptz, query_date text, query text, application_name text,
     engine_type text[], cpu_time_ms bigint, memory_bytes bigint, read_rows bigint, result_rows bigint);
CREATE VIEW public.hg_stat_activity AS
    SELECT datname, pid, usename, application_name, state, query FROM pg_catalog.pg_stat_activity;
CREATE FUNCTION pg_catalog.hg_dump_script(relation text) RETURNS text LANGUAGE sql STABLE
    AS $$ SELECT 'BEGIN; -- ' || relation $$;
CREATE FUNCTION hologres.hg_relation_size(relation text, what text DEFAULT 'data') RETURNS bigint
    LANGUAGE sql STABLE AS 'SELECT 0::bigint';
CREATE FUNCTION hologres.hg_internal_check_table_meta(relation text) RETURNS text
    LANGUAGE sql STABLE AS $$ SELECT 'Check meta succeeded'::text $$;
CREATE FUNCTION pg_catalog.instance_max_connections() RETURNS int LANGUAGE sql STABLE AS 'SELECT 128';
CREATE PROCEDURE pg_catalog.set_table_property(relation text, property text, value text)
    LANGUAGE sql AS 'SELECT 1';
-- A table that is written, as these clients look tables up.
CREATE TABLE public.holo_rows (id int PRIMARY KEY, note text);
INSERT INTO hologres.hg_table_properties VALUES
    ('public', 'holo_rows', 'distribution_key', 'id'), ('public', 'holo_rows', 'table_id', '1'),
    ('public', 'holo_rows', 'schema_version', '1'), ('public', 'holo_rows', 'table_group', 'tables');
INSERT INTO hologres.hg_table_group_properties VALUES ('tables', 'shard_count', '1');
GRANT ALL ON public.holo_rows TO PUBLIC;
GRANT SELECT ON public.hg_stat_activity TO PUBLIC;
GRANT USAGE ON SCHEMA hologres TO PUBLIC;
GRANT SELECT ON ALL TABLES IN SCHEMA hologres TO PUBLIC;
