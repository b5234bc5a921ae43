-- The tables of the client tests: plain ones, foreign ones by encryption, and what leads to them.

-- What MaxCompute holds.
CREATE TABLE odps_data."finance_byok.salaries" (id int, name text, amount numeric(12, 2), paid date);
INSERT INTO odps_data."finance_byok.salaries"
    SELECT g, 'name ' || g, g * 10.25, date '2026-01-01' + g % 365 FROM generate_series(1, 1000) g;
CREATE TABLE odps_data."finance_byok#eu.salaries" (LIKE odps_data."finance_byok.salaries");
INSERT INTO odps_data."finance_byok#eu.salaries"
    SELECT * FROM odps_data."finance_byok.salaries" WHERE id <= 10;
CREATE TABLE odps_data."learned_byok.events" (id int, what text);
INSERT INTO odps_data."learned_byok.events" SELECT g, 'event ' || g FROM generate_series(1, 20) g;
CREATE TABLE odps_data."legacy_default.ledger" (id int, note text);
INSERT INTO odps_data."legacy_default.ledger" VALUES (1, 'first'), (2, 'second');
CREATE TABLE odps_data."open_project.items" (id int, label text);
INSERT INTO odps_data."open_project.items" SELECT g, 'item ' || g FROM generate_series(1, 50) g;

-- Foreign tables.
CREATE SCHEMA sales;
CREATE SCHEMA "Mixed Case";
CREATE FOREIGN TABLE salaries (id int, name text, amount numeric(12, 2), paid date)
    SERVER odps_server OPTIONS (project_name 'finance_byok', table_name 'salaries');
CREATE FOREIGN TABLE sales.eu_salaries (id int, name text, amount numeric(12, 2), paid date)
    SERVER odps_server OPTIONS (project_name 'finance_byok#eu', table_name 'salaries');
CREATE FOREIGN TABLE "Mixed Case"."The ""Salaries""" (id int, name text, amount numeric(12, 2))
    SERVER odps_server OPTIONS (project_name 'FINANCE_BYOK', table_name 'salaries');
CREATE FOREIGN TABLE events (id int, what text)
    SERVER odps_server OPTIONS (project_name 'learned_byok', table_name 'events');
CREATE FOREIGN TABLE ledger (id int, note text)
    SERVER odps_server OPTIONS (project_name 'legacy_default', table_name 'ledger');
CREATE FOREIGN TABLE items (id int, label text)
    SERVER odps_server OPTIONS (project_name 'open_project', table_name 'items');

-- Views on encrypted data, a view on such a view, and one on open data.
CREATE VIEW salary_names AS SELECT id, name, amount FROM salaries;
CREATE VIEW sales.first_names AS SELECT id, name FROM salary_names WHERE id <= 5;
CREATE VIEW item_labels AS SELECT label FROM items;

-- A partitioned table with one plain and one encrypted partition.
CREATE TABLE payments (day date, id int, amount numeric(12, 2)) PARTITION BY RANGE (day);
CREATE TABLE payments_2025 PARTITION OF payments
    FOR VALUES FROM ('2025-01-01') TO ('2026-01-01');
CREATE TABLE odps_data."finance_byok.payments" (day date, id int, amount numeric(12, 2));
INSERT INTO odps_data."finance_byok.payments"
    SELECT date '2026-01-01' + g, g, g FROM generate_series(1, 7) g;
CREATE FOREIGN TABLE payments_2026 PARTITION OF payments
    FOR VALUES FROM ('2026-01-01') TO ('2027-01-01')
    SERVER odps_server OPTIONS (project_name 'finance_byok', table_name 'payments');
INSERT INTO payments_2025 VALUES ('2025-12-31', 0, 1);

-- Plain tables.
CREATE TABLE people (id int PRIMARY KEY, team text NOT NULL);
INSERT INTO people SELECT g, 'team ' || g % 4 FROM generate_series(1, 100) g;
CREATE TABLE copied (id int, name text, amount numeric(12, 2));
CREATE TABLE notes (id serial PRIMARY KEY, note text CHECK (note <> ''));
INSERT INTO notes (note) SELECT 'note ' || g FROM generate_series(1, 5) g;

GRANT USAGE ON SCHEMA sales, "Mixed Case" TO PUBLIC;
GRANT CREATE ON SCHEMA public TO app, app_md5, app_password, app_trust;
GRANT ALL ON ALL TABLES IN SCHEMA public, sales, "Mixed Case" TO PUBLIC;
GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO PUBLIC;
ANALYZE people;
