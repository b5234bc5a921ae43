-- A psql session that touches no encrypted data. Its output must not depend on what is in between.
\pset linestyle ascii
\encoding
SELECT 1 AS one, NULL AS nothing, 'äöü €' AS text, '\x00ff'::bytea AS bytes;
SELECT;
;
-- Errors at every stage.
SELECT 1 / 0;
SELEC 1;
SELECT * FROM no_such_table;
SELECT no_such_column FROM people;
SELECT 'x'::int;
INSERT INTO people VALUES (1, 'double');
INSERT INTO notes (note) VALUES ('');
INSERT INTO notes (id) VALUES ('x');
\errverbose
\set SHOW_CONTEXT always
DO $$ BEGIN RAISE EXCEPTION 'with everything' USING DETAIL = 'a detail', HINT = 'a hint',
    ERRCODE = 'HV001', COLUMN = 'c', CONSTRAINT = 'k', DATATYPE = 'd', TABLE = 't', SCHEMA = 's'; END $$;
-- Notices and warnings.
DO $$ BEGIN FOR i IN 1..3 LOOP RAISE NOTICE 'notice %', i; END LOOP; RAISE WARNING 'a warning'; END $$;
SET client_min_messages = debug1;
SELECT 1;
RESET client_min_messages;
DROP TABLE IF EXISTS no_such_table;
ROLLBACK;
-- Several statements in one message.
SELECT 1 AS a \; SELECT 2 AS b \; SELECT 3 AS c;
SELECT 1 AS a \; SELECT 1 / 0 \; SELECT 3 AS c;
BEGIN \; INSERT INTO notes (note) VALUES ('kept') \; COMMIT \; SELECT note FROM notes WHERE note = 'kept';
INSERT INTO notes (note) VALUES ('lost') \; SELECT 1 / 0;
SELECT count(*) FROM notes WHERE note = 'lost';
-- Transactions.
BEGIN;
INSERT INTO notes (note) VALUES ('in a transaction');
SAVEPOINT s;
SELECT 1 / 0;
SELECT 1;
ROLLBACK TO s;
SELECT count(*) FROM notes;
COMMIT;
BEGIN;
SELECT 1 / 0;
COMMIT;
BEGIN ISOLATION LEVEL SERIALIZABLE READ ONLY;
CREATE TABLE refused ();
ABORT;
\set ON_ERROR_ROLLBACK on
BEGIN;
SELECT 1 / 0;
SELECT 'still alive';
COMMIT;
\set ON_ERROR_ROLLBACK off
\set AUTOCOMMIT off
SELECT count(*) FROM people;
ROLLBACK;
\set AUTOCOMMIT on
-- Cursors and fetching by parts.
BEGIN;
DECLARE c SCROLL CURSOR FOR SELECT id FROM people ORDER BY id;
FETCH 3 FROM c;
MOVE FORWARD 10 IN c;
FETCH BACKWARD 2 FROM c;
CLOSE c;
FETCH c;
ROLLBACK;
DECLARE held CURSOR WITH HOLD FOR SELECT id FROM people ORDER BY id;
FETCH 2 FROM held;
CLOSE held;
\set FETCH_COUNT 30
SELECT id, team FROM people ORDER BY id;
SELECT 100 / (50 - id) FROM people ORDER BY id;
\unset FETCH_COUNT
-- Prepared statements, and psql's ways to send.
PREPARE p (int) AS SELECT team FROM people WHERE id = $1;
EXECUTE p (7);
EXECUTE p ('x');
DEALLOCATE p;
EXECUTE p (7);
SELECT id, team, 1.5::numeric(4, 2) AS n FROM people \gdesc
SELECT no_such_column FROM people \gdesc
SELECT 'one' AS x, 'two' AS y \gset pre_
\echo :pre_x :pre_y
SELECT format('SELECT %s AS generated', g) FROM generate_series(1, 3) g \gexec
SELECT id, team FROM people WHERE id < 4 \gx
SELECT id % 2 AS r, team, count(*) FROM people GROUP BY 1, 2 ORDER BY 1, 2 \crosstabview
-- COPY in both directions, and failing in both.
CREATE TEMP TABLE copy_target (id int, note text);
COPY copy_target FROM STDIN;
1	first
2	second \\ with a backslash
3	\N
\.
COPY copy_target FROM STDIN (FORMAT csv, HEADER);
id,note
4,"quoted, with comma"
\.
COPY copy_target FROM STDIN;
5	good
six	bad
\.
COPY no_such_table FROM STDIN;
COPY copy_target TO STDOUT;
COPY (SELECT id, note FROM copy_target ORDER BY id DESC) TO STDOUT (FORMAT csv);
COPY (SELECT 10 / (3 - id) FROM copy_target ORDER BY id) TO STDOUT;
COPY copy_target FROM STDIN \; SELECT count(*) FROM copy_target;
7	seventh
\.
\copy copy_target TO '/dev/null'
\copy (SELECT 1) TO STDOUT
-- Settings, and what the server reports of them.
SET application_name = 'scripted';
SHOW application_name;
SET DateStyle = 'German';
SELECT date '2026-11-24';
SET client_encoding = 'LATIN1';
\encoding
SELECT convert_to('ä', 'LATIN1') AS latin1, chr(8364) AS euro;
SET client_encoding = 'UTF8';
SHOW hg_experimental_enable_access_odps_orc_via_holo;
SHOW hg_enable_access_odps_orc_via_holo;
SELECT set_config('work_mem', '8MB', false);
RESET ALL;
DISCARD ALL;
SHOW DateStyle;
-- Notifications.
LISTEN here;
NOTIFY here, 'payload';
SELECT 1;
UNLISTEN *;
-- Function calls by message: large objects.
\lo_import schema.sql
SELECT length(lo_get(:LASTOID)) > 1000 AS imported;
\lo_unlink :LASTOID
\lo_export 1 /dev/null
-- Utility statements, functions and descriptions.
CREATE FUNCTION twice(i int) RETURNS int LANGUAGE plpgsql AS $$ BEGIN RAISE NOTICE 'twice %', i; RETURN 2 * i; END $$;
SELECT twice(21);
SELECT twice(g) FROM generate_series(1, 2) g;
CREATE PROCEDURE both_ends() LANGUAGE plpgsql AS $$ BEGIN INSERT INTO notes (note) VALUES ('p1'); COMMIT; INSERT INTO notes (note) VALUES ('p2'); ROLLBACK; END $$;
CALL both_ends();
SELECT count(*) FROM notes WHERE note IN ('p1', 'p2');
VACUUM notes;
EXPLAIN (COSTS OFF) SELECT * FROM items WHERE id = 1;
SELECT label FROM item_labels WHERE label LIKE '% 1%' ORDER BY label;
\d people
\d items
\dv
\df twice
\l scripted
-- Wide and long.
SELECT length(repeat('x', 3000000)), md5(repeat('x', 3000000));
SELECT repeat('0123456789', 30000) AS wide;
SELECT g FROM generate_series(1, 5000) g;
SELECT 'last';
