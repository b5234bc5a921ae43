-- A psql session that reads encrypted data in every way that psql has.
\pset linestyle ascii
SELECT count(*), sum(amount) FROM salaries;
SELECT id, name FROM sales.first_names ORDER BY id;
SELECT p.team, count(*), sum(s.amount) FROM people p JOIN salary_names s USING (id) GROUP BY 1 ORDER BY 1;
SELECT id, name FROM "Mixed Case"."The ""Salaries""" ORDER BY id LIMIT 3;
SELECT * FROM payments ORDER BY day;
SELECT 1 AS a \; SELECT count(*) FROM salaries \; SELECT 2 AS b;
SELECT count(*) FROM salaries \; SELECT 1 / 0 \; SELECT count(*) FROM salaries;
SELECT no_such_column FROM salaries;
SELECT id, name, amount FROM salaries \gdesc
SELECT count(*) AS n FROM salaries \gset
\echo :n
EXPLAIN (COSTS OFF) SELECT * FROM salary_names WHERE id = 1;
-- Transactions that go wrong before and after.
BEGIN;
SELECT count(*) FROM people;
SELECT count(*) FROM salaries;
SELECT 1 / 0;
SELECT count(*) FROM salaries;
ROLLBACK;
SELECT count(*) FROM salaries;
BEGIN;
SAVEPOINT s;
SELECT count(*) FROM salaries;
ROLLBACK TO s;
SELECT count(*) FROM salaries;
COMMIT;
BEGIN;
DECLARE c CURSOR FOR SELECT id, name FROM salaries ORDER BY id;
FETCH 2 FROM c;
FETCH 2 FROM c;
COMMIT;
\set FETCH_COUNT 100
SELECT id FROM salaries ORDER BY id LIMIT 250;
\unset FETCH_COUNT
PREPARE p (int) AS SELECT name FROM salaries WHERE id = $1;
EXECUTE p (3);
EXECUTE p (4);
DEALLOCATE p;
COPY (SELECT id, name FROM salaries WHERE id <= 3 ORDER BY id) TO STDOUT;
\copy (SELECT id, name FROM salaries WHERE id <= 3 ORDER BY id) TO STDOUT
INSERT INTO copied SELECT id, name, amount FROM salary_names WHERE id <= 10;
CREATE TEMP TABLE kept AS SELECT id, name FROM salaries WHERE id <= 5;
SELECT * FROM kept ORDER BY id;
UPDATE copied SET amount = s.amount + 1 FROM salaries s WHERE s.id = copied.id RETURNING copied.id, copied.amount;
WITH moved AS (DELETE FROM copied WHERE id IN (SELECT id FROM salaries WHERE id < 6) RETURNING id) SELECT count(*) FROM moved;
DO $$ DECLARE n int; BEGIN SELECT count(*) INTO n FROM salaries; RAISE NOTICE 'n = %', n; END $$;
\d salaries
DISCARD ALL;
SELECT count(*) FROM salaries;
SELECT 'last';
