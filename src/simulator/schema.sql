-- What the simulated database holds, in PostgreSQL's words: the demo's own relations, and as much of
-- pg_catalog and information_schema as clients ask about. The rows of pg_class, pg_attribute and the
-- like are made from these definitions (database.rs); those that never change are here.

CREATE TABLE public.customers (id int4 PRIMARY KEY, name text, region text, active bool);
INSERT INTO public.customers VALUES
    (1, 'Aurora Foods', 'north', true), (2, 'Baltic Freight', 'north', true),
    (3, 'Cedar Textiles', 'south', false), (4, 'Delta Optics', 'east', true),
    (5, 'Everest Tea', 'west', true);
CREATE FOREIGN TABLE public.sales_encrypted
    (order_id int8, customer_id int4, region text, product text, amount float8, ds text)
    SERVER odps_server OPTIONS (project_name 'finance_encrypted', table_name 'sales');
INSERT INTO public.sales_encrypted VALUES
    (1001, 1, 'north', 'flour', 1250.5, '20260105'), (1002, 2, 'north', 'pallets', 480.0, '20260105'),
    (1003, 3, 'south', 'linen', 920.75, '20260106'), (1004, 4, 'east', 'lenses', 3310.0, '20260106'),
    (1005, 5, 'west', 'oolong', 640.25, '20260107'), (1006, 1, 'north', 'oats', 310.0, '20260107'),
    (1007, 4, 'east', 'prisms', 1875.5, '20260108'), (1008, 5, 'west', 'sencha', 505.0, '20260108');
CREATE FOREIGN TABLE public.sales_plain
    (order_id int8, customer_id int4, region text, product text, amount float8, ds text)
    SERVER odps_server OPTIONS (project_name 'finance_plain', table_name 'sales');
INSERT INTO public.sales_plain VALUES
    (1001, 1, 'north', 'flour', 1250.5, '20260105'), (1002, 2, 'north', 'pallets', 480.0, '20260105'),
    (1003, 3, 'south', 'linen', 920.75, '20260106'), (1004, 4, 'east', 'lenses', 3310.0, '20260106'),
    (1005, 5, 'west', 'oolong', 640.25, '20260107'), (1006, 1, 'north', 'oats', 310.0, '20260107'),
    (1007, 4, 'east', 'prisms', 1875.5, '20260108'), (1008, 5, 'west', 'sencha', 505.0, '20260108');
CREATE VIEW public.revenue AS
    SELECT region, count(*) AS orders, sum(amount) AS revenue FROM public.sales_encrypted GROUP BY region;
CREATE TABLE osprey_simulator.scans (engine text, relation text, scans int8, failures int8);
CREATE TABLE osprey_simulator.statements (connection int8, protocol text, statement text);

CREATE TABLE pg_catalog.pg_class (oid oid, relname name, relnamespace oid, reltype oid, reloftype oid, relowner oid, relam oid, relfilenode oid, reltablespace oid, relpages int4, reltuples float4, relallvisible int4, reltoastrelid oid, relhasindex bool, relisshared bool, relpersistence "char", relkind "char", relnatts int2, relchecks int2, relhasoids bool, relhasrules bool, relhastriggers bool, relhassubclass bool, relrowsecurity bool, relforcerowsecurity bool, relispopulated bool, relreplident "char", relispartition bool, relrewrite oid, relfrozenxid int4, relminmxid int4, relacl text[], reloptions text[], relpartbound text);
CREATE TABLE pg_catalog.pg_attribute (attrelid oid, attname name, atttypid oid, attstattarget int4, attlen int2, attnum int2, attndims int4, attcacheoff int4, atttypmod int4, attbyval bool, attstorage "char", attalign "char", attnotnull bool, atthasdef bool, atthasmissing bool, attidentity "char", attgenerated "char", attisdropped bool, attislocal bool, attinhcount int4, attcollation oid, attacl text[], attoptions text[], attfdwoptions text[]);
CREATE TABLE pg_catalog.pg_type (oid oid, typname name, typnamespace oid, typowner oid, typlen int2, typbyval bool, typtype "char", typcategory "char", typispreferred bool, typisdefined bool, typdelim "char", typrelid oid, typelem oid, typarray oid, typinput regproc, typoutput regproc, typreceive regproc, typsend regproc, typmodin regproc, typmodout regproc, typanalyze regproc, typalign "char", typstorage "char", typnotnull bool, typbasetype oid, typtypmod int4, typndims int4, typcollation oid, typdefaultbin text, typdefault text, typacl text[]);
CREATE TABLE pg_catalog.pg_proc (oid oid, proname name, pronamespace oid, proowner oid, prolang oid, procost float4, prorows float4, provariadic oid, prokind "char", prosecdef bool, proleakproof bool, proisstrict bool, proretset bool, provolatile "char", proparallel "char", pronargs int2, pronargdefaults int2, prorettype oid, proargtypes oidvector, proallargtypes oid[], proargmodes text[], proargnames text[], proargdefaults text, protrftypes oid[], prosrc text, probin text, proconfig text[], proacl text[]);
CREATE TABLE pg_catalog.pg_index (indexrelid oid, indrelid oid, indnatts int2, indnkeyatts int2, indisunique bool, indisprimary bool, indisexclusion bool, indimmediate bool, indisclustered bool, indisvalid bool, indcheckxmin bool, indisready bool, indislive bool, indisreplident bool, indkey int2vector, indcollation oidvector, indclass oidvector, indoption int2vector, indexprs text, indpred text);
CREATE TABLE pg_catalog.pg_constraint (oid oid, conname name, connamespace oid, contype "char", condeferrable bool, condeferred bool, convalidated bool, conrelid oid, contypid oid, conindid oid, conparentid oid, confrelid oid, confupdtype "char", confdeltype "char", confmatchtype "char", conislocal bool, coninhcount int4, connoinherit bool, conkey int2[], confkey int2[], conpfeqop oid[], conbin text, consrc text);
CREATE TABLE pg_catalog.pg_namespace (oid oid, nspname name, nspowner oid, nspacl text[]);
INSERT INTO pg_catalog.pg_namespace VALUES (11, 'pg_catalog', 10, NULL), (2200, 'public', 10, NULL), (13000, 'information_schema', 10, NULL), (16383, 'osprey_simulator', 10, NULL);
CREATE TABLE pg_catalog.pg_authid (oid oid, rolname name, rolsuper bool, rolinherit bool, rolcreaterole bool, rolcreatedb bool, rolcanlogin bool, rolreplication bool, rolbypassrls bool, rolconnlimit int4, rolpassword text, rolvaliduntil timestamptz);
INSERT INTO pg_catalog.pg_authid VALUES (10, 'holo_admin', true, true, true, true, true, true, true, -1, NULL, NULL), (16001, 'analyst', false, true, false, false, true, false, false, -1, NULL, NULL), (16002, 'osprey_catalog', false, true, false, false, true, false, false, -1, NULL, NULL);
CREATE TABLE pg_catalog.pg_auth_members (roleid oid, member oid, grantor oid, admin_option bool);
CREATE TABLE pg_catalog.pg_database (oid oid, datname name, datdba oid, encoding int4, datcollate name, datctype name, datistemplate bool, datallowconn bool, datconnlimit int4, datlastsysoid oid, datfrozenxid int4, datminmxid int4, dattablespace oid, datacl text[]);
CREATE TABLE pg_catalog.pg_tablespace (oid oid, spcname name, spcowner oid, spcacl text[], spcoptions text[]);
INSERT INTO pg_catalog.pg_tablespace VALUES (1663, 'pg_default', 10, NULL, NULL), (1664, 'pg_global', 10, NULL, NULL);
CREATE TABLE pg_catalog.pg_language (oid oid, lanname name, lanowner oid, lanispl bool, lanpltrusted bool, lanplcallfoid oid, laninline oid, lanvalidator oid, lanacl text[]);
INSERT INTO pg_catalog.pg_language VALUES (12, 'internal', 10, false, false, 0, 0, 0, NULL), (14, 'sql', 10, false, true, 0, 0, 0, NULL);
CREATE TABLE pg_catalog.pg_am (oid oid, amname name, amhandler regproc, amtype "char");
INSERT INTO pg_catalog.pg_am VALUES (403, 'btree', NULL, 'i');
CREATE TABLE pg_catalog.pg_collation (oid oid, collname name, collnamespace oid, collowner oid, collprovider "char", collencoding int4, collcollate name, collctype name, collversion text);
INSERT INTO pg_catalog.pg_collation VALUES (100, 'default', 11, 10, 'd', -1, '', '', NULL), (950, 'C', 11, 10, 'c', -1, 'C', 'C', NULL);
CREATE TABLE pg_catalog.pg_foreign_data_wrapper (oid oid, fdwname name, fdwowner oid, fdwhandler oid, fdwvalidator oid, fdwacl text[], fdwoptions text[]);
INSERT INTO pg_catalog.pg_foreign_data_wrapper VALUES (15001, 'odps_fdw', 10, 0, 0, NULL, NULL);
CREATE TABLE pg_catalog.pg_foreign_server (oid oid, srvname name, srvowner oid, srvfdw oid, srvtype text, srvversion text, srvacl text[], srvoptions text[]);
INSERT INTO pg_catalog.pg_foreign_server VALUES (15002, 'odps_server', 10, 15001, NULL, NULL, NULL, NULL);
CREATE TABLE pg_catalog.pg_foreign_table (ftrelid oid, ftserver oid, ftoptions text[]);
CREATE TABLE pg_catalog.pg_user_mapping (oid oid, umuser oid, umserver oid, umoptions text[]);
CREATE TABLE pg_catalog.pg_extension (oid oid, extname name, extowner oid, extnamespace oid, extrelocatable bool, extversion text, extconfig oid[], extcondition text[]);
INSERT INTO pg_catalog.pg_extension VALUES (15003, 'odps_fdw', 10, 11, false, '1.0', NULL, NULL);
CREATE TABLE pg_catalog.pg_available_extensions (name name, default_version text, installed_version text, comment text);
CREATE TABLE pg_catalog.pg_description (objoid oid, classoid oid, objsubid int4, description text);
INSERT INTO pg_catalog.pg_description VALUES (15003, 3079, 0, 'foreign tables of MaxCompute'), (2200, 2615, 0, 'standard public schema');
CREATE TABLE pg_catalog.pg_shdescription (objoid oid, classoid oid, description text);
CREATE TABLE pg_catalog.pg_rewrite (oid oid, rulename name, ev_class oid, ev_type "char", ev_enabled "char", is_instead bool, ev_qual text, ev_action text);
CREATE TABLE pg_catalog.pg_depend (classid oid, objid oid, objsubid int4, refclassid oid, refobjid oid, refobjsubid int4, deptype "char");
CREATE TABLE pg_catalog.pg_shdepend (dbid oid, classid oid, objid oid, objsubid int4, refclassid oid, refobjid oid, deptype "char");
CREATE TABLE pg_catalog.pg_inherits (inhrelid oid, inhparent oid, inhseqno int4);
CREATE TABLE pg_catalog.pg_attrdef (oid oid, adrelid oid, adnum int2, adbin text, adsrc text);
CREATE TABLE pg_catalog.pg_trigger (oid oid, tgrelid oid, tgname name, tgfoid oid, tgtype int2, tgenabled "char", tgisinternal bool, tgconstrrelid oid, tgconstrindid oid, tgconstraint oid, tgdeferrable bool, tginitdeferred bool, tgnargs int2, tgattr int2vector, tgargs text, tgqual text, tgoldtable name, tgnewtable name, tgparentid oid);
CREATE TABLE pg_catalog.pg_event_trigger (oid oid, evtname name, evtevent name, evtowner oid, evtfoid oid, evtenabled "char", evttags text[]);
CREATE TABLE pg_catalog.pg_policy (oid oid, polname name, polrelid oid, polcmd "char", polpermissive bool, polroles oid[], polqual text, polwithcheck text);
CREATE TABLE pg_catalog.pg_statistic_ext (oid oid, stxrelid oid, stxname name, stxnamespace oid, stxowner oid, stxkeys int2vector, stxkind text[], stxstattarget int4);
CREATE TABLE pg_catalog.pg_publication (oid oid, pubname name, pubowner oid, puballtables bool, pubinsert bool, pubupdate bool, pubdelete bool, pubtruncate bool);
CREATE TABLE pg_catalog.pg_publication_rel (oid oid, prpubid oid, prrelid oid);
CREATE TABLE pg_catalog.pg_subscription (oid oid, subdbid oid, subname name, subowner oid, subenabled bool, subconninfo text, subslotname name, subsynccommit text, subpublications text[]);
CREATE TABLE pg_catalog.pg_enum (oid oid, enumtypid oid, enumsortorder float4, enumlabel name);
CREATE TABLE pg_catalog.pg_range (rngtypid oid, rngsubtype oid, rngcollation oid, rngsubopc oid, rngcanonical regproc, rngsubdiff regproc);
CREATE TABLE pg_catalog.pg_aggregate (aggfnoid oid, aggkind "char", aggnumdirectargs int2, aggtransfn regproc, aggfinalfn regproc, aggtranstype oid, agginitval text);
CREATE TABLE pg_catalog.pg_operator (oid oid, oprname name, oprnamespace oid, oprowner oid, oprkind "char", oprcanmerge bool, oprcanhash bool, oprleft oid, oprright oid, oprresult oid, oprcom oid, oprnegate oid, oprcode regproc, oprrest regproc, oprjoin regproc);
CREATE TABLE pg_catalog.pg_opclass (oid oid, opcmethod oid, opcname name, opcnamespace oid, opcowner oid, opcfamily oid, opcintype oid, opcdefault bool, opckeytype oid);
CREATE TABLE pg_catalog.pg_opfamily (oid oid, opfmethod oid, opfname name, opfnamespace oid, opfowner oid);
CREATE TABLE pg_catalog.pg_cast (oid oid, castsource oid, casttarget oid, castfunc oid, castcontext "char", castmethod "char");
CREATE TABLE pg_catalog.pg_conversion (oid oid, conname name, connamespace oid, conowner oid, conforencoding int4, contoencoding int4, conproc regproc, condefault bool);
CREATE TABLE pg_catalog.pg_sequence (seqrelid oid, seqtypid oid, seqstart int8, seqincrement int8, seqmax int8, seqmin int8, seqcache int8, seqcycle bool);
CREATE TABLE pg_catalog.pg_default_acl (oid oid, defaclrole oid, defaclnamespace oid, defaclobjtype "char", defaclacl text[]);
CREATE TABLE pg_catalog.pg_db_role_setting (setdatabase oid, setrole oid, setconfig text[]);
CREATE TABLE pg_catalog.pg_ts_config (oid oid, cfgname name, cfgnamespace oid, cfgowner oid, cfgparser oid);
CREATE TABLE pg_catalog.pg_ts_dict (oid oid, dictname name, dictnamespace oid, dictowner oid, dicttemplate oid, dictinitoption text);
CREATE TABLE pg_catalog.pg_ts_parser (oid oid, prsname name, prsnamespace oid);
CREATE TABLE pg_catalog.pg_ts_template (oid oid, tmplname name, tmplnamespace oid);
CREATE TABLE pg_catalog.pg_largeobject_metadata (oid oid, lomowner oid, lomacl text[]);
CREATE TABLE pg_catalog.pg_settings (name text, setting text, unit text, category text, short_desc text, extra_desc text, context text, vartype text, source text, min_val text, max_val text, enumvals text[], boot_val text, reset_val text, sourcefile text, sourceline int4, pending_restart bool);
CREATE TABLE pg_catalog.pg_stat_activity (datid oid, datname name, pid int4, usesysid oid, usename name, application_name text, client_addr inet, client_hostname text, client_port int4, backend_start timestamptz, xact_start timestamptz, query_start timestamptz, state_change timestamptz, wait_event_type text, wait_event text, state text, backend_xid int4, backend_xmin int4, query text, backend_type text);
CREATE TABLE pg_catalog.pg_locks (locktype text, database oid, relation oid, page int4, tuple int2, virtualxid text, transactionid int4, classid oid, objid oid, objsubid int2, virtualtransaction text, pid int4, mode text, granted bool, fastpath bool);
CREATE TABLE pg_catalog.pg_prepared_statements (name text, statement text, prepare_time timestamptz, parameter_types text[], from_sql bool);
CREATE TABLE pg_catalog.pg_prepared_xacts (transaction int4, gid text, prepared timestamptz, owner name, database name);
CREATE TABLE pg_catalog.pg_cursors (name text, statement text, is_holdable bool, is_binary bool, is_scrollable bool, creation_time timestamptz);
CREATE TABLE pg_catalog.pg_timezone_names (name text, abbrev text, utc_offset text, is_dst bool);
CREATE TABLE pg_catalog.pg_matviews (schemaname name, matviewname name, matviewowner name, tablespace name, hasindexes bool, ispopulated bool, definition text);
CREATE TABLE pg_catalog.pg_sequences (schemaname name, sequencename name, sequenceowner name, data_type regtype, start_value int8, min_value int8, max_value int8, increment_by int8, cycle bool, cache_size int8, last_value int8);
CREATE VIEW pg_catalog.pg_roles AS SELECT rolname, rolsuper, rolinherit, rolcreaterole, rolcreatedb, rolcanlogin, rolreplication, rolconnlimit, '********'::text AS rolpassword, rolvaliduntil, rolbypassrls, NULL::text[] AS rolconfig, oid FROM pg_catalog.pg_authid;
CREATE VIEW pg_catalog.pg_user AS SELECT rolname AS usename, oid AS usesysid, rolcreatedb AS usecreatedb, rolsuper AS usesuper, rolreplication AS userepl, rolbypassrls AS usebypassrls, '********'::text AS passwd, rolvaliduntil AS valuntil, NULL::text[] AS useconfig FROM pg_catalog.pg_authid WHERE rolcanlogin;
CREATE VIEW pg_catalog.pg_group AS SELECT rolname AS groname, oid AS grosysid, NULL::oid[] AS grolist FROM pg_catalog.pg_authid WHERE NOT rolcanlogin;
CREATE VIEW pg_catalog.pg_tables AS SELECT n.nspname AS schemaname, c.relname AS tablename, pg_get_userbyid(c.relowner) AS tableowner, NULL::name AS tablespace, c.relhasindex AS hasindexes, c.relhasrules AS hasrules, c.relhastriggers AS hastriggers, c.relrowsecurity AS rowsecurity FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind IN ('r', 'p');
CREATE VIEW pg_catalog.pg_views AS SELECT n.nspname AS schemaname, c.relname AS viewname, pg_get_userbyid(c.relowner) AS viewowner, pg_get_viewdef(c.oid) AS definition FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind = 'v';
CREATE VIEW pg_catalog.pg_indexes AS SELECT n.nspname AS schemaname, c.relname AS tablename, i.relname AS indexname, NULL::name AS tablespace, pg_get_indexdef(i.oid) AS indexdef FROM pg_catalog.pg_index x JOIN pg_catalog.pg_class c ON c.oid = x.indrelid JOIN pg_catalog.pg_class i ON i.oid = x.indexrelid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace;
CREATE VIEW information_schema.schemata AS SELECT current_database() AS catalog_name, n.nspname AS schema_name, pg_get_userbyid(n.nspowner) AS schema_owner FROM pg_catalog.pg_namespace n;
CREATE VIEW information_schema.tables AS SELECT current_database() AS table_catalog, n.nspname AS table_schema, c.relname AS table_name, (CASE c.relkind WHEN 'v' THEN 'VIEW' WHEN 'f' THEN 'FOREIGN' ELSE 'BASE TABLE' END)::text AS table_type, NULL::text AS self_referencing_column_name, NULL::text AS reference_generation, NULL::text AS user_defined_type_catalog, NULL::text AS user_defined_type_schema, NULL::text AS user_defined_type_name, (CASE c.relkind WHEN 'r' THEN 'YES' ELSE 'NO' END)::text AS is_insertable_into, 'NO'::text AS is_typed, NULL::text AS commit_action FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind IN ('r', 'v', 'f', 'p');
CREATE VIEW information_schema.columns AS SELECT current_database() AS table_catalog, n.nspname AS table_schema, c.relname AS table_name, a.attname AS column_name, a.attnum::int4 AS ordinal_position, NULL::text AS column_default, (CASE WHEN a.attnotnull THEN 'NO' ELSE 'YES' END)::text AS is_nullable, format_type(a.atttypid, NULL) AS data_type, NULL::int4 AS character_maximum_length, NULL::int4 AS character_octet_length, (CASE a.atttypid WHEN 21 THEN 16 WHEN 23 THEN 32 WHEN 20 THEN 64 WHEN 700 THEN 24 WHEN 701 THEN 53 END)::int4 AS numeric_precision, (CASE WHEN a.atttypid IN (20, 21, 23, 700, 701) THEN 2 END)::int4 AS numeric_precision_radix, (CASE WHEN a.atttypid IN (20, 21, 23) THEN 0 END)::int4 AS numeric_scale, NULL::int4 AS datetime_precision, current_database() AS udt_catalog, 'pg_catalog'::name AS udt_schema, t.typname AS udt_name, a.attnum::text AS dtd_identifier, 'NO'::text AS is_identity, 'NEVER'::text AS is_generated, (CASE c.relkind WHEN 'r' THEN 'YES' ELSE 'NO' END)::text AS is_updatable FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_class c ON c.oid = a.attrelid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace JOIN pg_catalog.pg_type t ON t.oid = a.atttypid WHERE a.attnum > 0 AND NOT a.attisdropped AND c.relkind IN ('r', 'v', 'f', 'p');
CREATE VIEW information_schema.views AS SELECT current_database() AS table_catalog, n.nspname AS table_schema, c.relname AS table_name, pg_get_viewdef(c.oid) AS view_definition, 'NONE'::text AS check_option, 'NO'::text AS is_updatable, 'NO'::text AS is_insertable_into FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind = 'v';
CREATE VIEW information_schema.table_constraints AS SELECT current_database() AS constraint_catalog, n.nspname AS constraint_schema, k.conname AS constraint_name, current_database() AS table_catalog, n.nspname AS table_schema, c.relname AS table_name, (CASE k.contype WHEN 'p' THEN 'PRIMARY KEY' WHEN 'u' THEN 'UNIQUE' WHEN 'f' THEN 'FOREIGN KEY' ELSE 'CHECK' END)::text AS constraint_type, 'NO'::text AS is_deferrable, 'NO'::text AS initially_deferred FROM pg_catalog.pg_constraint k JOIN pg_catalog.pg_class c ON c.oid = k.conrelid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace;
CREATE VIEW information_schema.key_column_usage AS SELECT current_database() AS constraint_catalog, n.nspname AS constraint_schema, k.conname AS constraint_name, current_database() AS table_catalog, n.nspname AS table_schema, c.relname AS table_name, a.attname AS column_name, array_position(k.conkey, a.attnum) AS ordinal_position, NULL::int4 AS position_in_unique_constraint FROM pg_catalog.pg_constraint k JOIN pg_catalog.pg_class c ON c.oid = k.conrelid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum = ANY (k.conkey);
CREATE VIEW information_schema.foreign_tables AS SELECT current_database() AS foreign_table_catalog, n.nspname AS foreign_table_schema, c.relname AS foreign_table_name, current_database() AS foreign_server_catalog, s.srvname AS foreign_server_name FROM pg_catalog.pg_foreign_table t JOIN pg_catalog.pg_class c ON c.oid = t.ftrelid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace JOIN pg_catalog.pg_foreign_server s ON s.oid = t.ftserver;
CREATE VIEW information_schema.routines AS SELECT current_database() AS specific_catalog, n.nspname AS specific_schema, p.proname || '_' || p.oid AS specific_name, current_database() AS routine_catalog, n.nspname AS routine_schema, p.proname AS routine_name, 'FUNCTION'::text AS routine_type, format_type(p.prorettype, NULL) AS data_type FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace;
CREATE TABLE information_schema.referential_constraints (constraint_catalog name, constraint_schema name, constraint_name name, unique_constraint_catalog name, unique_constraint_schema name, unique_constraint_name name, match_option text, update_rule text, delete_rule text);
CREATE TABLE information_schema.constraint_column_usage (table_catalog name, table_schema name, table_name name, column_name name, constraint_catalog name, constraint_schema name, constraint_name name);
CREATE TABLE information_schema.sequences (sequence_catalog name, sequence_schema name, sequence_name name, data_type text, start_value text, minimum_value text, maximum_value text, increment text, cycle_option text);
CREATE TABLE information_schema.triggers (trigger_catalog name, trigger_schema name, trigger_name name, event_manipulation text, event_object_catalog name, event_object_schema name, event_object_table name, action_statement text, action_orientation text, action_timing text);
