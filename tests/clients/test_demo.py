"""`osprey demo`, with nothing but the binary: its story, and what psql, JDBC and SQLAlchemy see of its
Hologres, through Osprey, beside what PostgreSQL 15 shows of the same tables."""

import os
import pty
import re
import select
import subprocess
import time

import pytest
import sqlalchemy

import conftest
import harness

pytestmark = pytest.mark.skipif(harness.TINY_IO, reason="that one is built without the demo")

DRIVER = "/usr/share/java/postgresql.jar"

# The demo's tables, for PostgreSQL. It has no MaxCompute: foreign tables are tables there.
SALES = """
    (1001, 1, 'north', 'flour', 1250.5, '20260105'), (1002, 2, 'north', 'pallets', 480, '20260105'),
    (1003, 3, 'south', 'linen', 920.75, '20260106'), (1004, 4, 'east', 'lenses', 3310, '20260106'),
    (1005, 5, 'west', 'oolong', 640.25, '20260107'), (1006, 1, 'north', 'oats', 310, '20260107'),
    (1007, 4, 'east', 'prisms', 1875.5, '20260108'), (1008, 5, 'west', 'sencha', 505, '20260108')"""
COLUMNS = "order_id bigint, customer_id int, region text, product text, amount float8, ds text"
TABLES = f"""
    CREATE SCHEMA shop;
    SET search_path = shop;
    CREATE TABLE customers (id int PRIMARY KEY, name text, region text, active bool);
    INSERT INTO customers VALUES (1, 'Aurora Foods', 'north', true), (2, 'Baltic Freight', 'north', true),
        (3, 'Cedar Textiles', 'south', false), (4, 'Delta Optics', 'east', true), (5, 'Everest Tea', 'west', true);
    CREATE TABLE sales_encrypted ({COLUMNS});
    INSERT INTO sales_encrypted VALUES {SALES};
    CREATE TABLE sales_plain ({COLUMNS});
    INSERT INTO sales_plain VALUES {SALES};
    CREATE VIEW revenue AS SELECT region, count(*) AS orders, sum(amount) AS revenue
        FROM sales_encrypted GROUP BY region;
    GRANT ALL ON SCHEMA shop TO app;
    GRANT ALL ON ALL TABLES IN SCHEMA shop TO app;
"""

STATEMENTS = [
    "SELECT c.name, s.product, s.amount FROM customers c JOIN sales_encrypted s ON s.customer_id = c.id"
    " WHERE c.active ORDER BY s.order_id",
    "SELECT c.name, count(s.order_id) FROM customers c LEFT JOIN sales_encrypted s"
    " ON s.customer_id = c.id AND s.amount > 1000 GROUP BY c.id, c.name ORDER BY 2 DESC, 1",
    "WITH best AS (SELECT customer_id, max(amount) AS top FROM sales_encrypted GROUP BY customer_id)"
    " SELECT name, top FROM customers JOIN best ON customer_id = id WHERE top > 700 ORDER BY top",
    "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 5) SELECT i, i * i AS square FROM n",
    "SELECT region FROM customers UNION SELECT product FROM sales_encrypted WHERE ds < '20260106'"
    " UNION ALL SELECT 'nowhere' ORDER BY 1",
    "SELECT region, count(*), sum(amount) FROM sales_encrypted GROUP BY region"
    " HAVING count(*) > 1 AND sum(amount) > 1500 ORDER BY region",
    "SELECT name, name LIKE 'A%' AS a, name ILIKE '%TEA', name ~ '^[AB]' FROM customers"
    " WHERE name NOT LIKE '%\\_%' ORDER BY id",
    "SELECT product, region, amount, rank() OVER (PARTITION BY region ORDER BY amount DESC),"
    " sum(amount) OVER (PARTITION BY region ORDER BY order_id ROWS UNBOUNDED PRECEDING) AS running,"
    " lag(product) OVER w FROM sales_encrypted WINDOW w AS (ORDER BY order_id) ORDER BY order_id",
    "SELECT DISTINCT region FROM customers WHERE id IN (SELECT customer_id FROM sales_encrypted"
    " WHERE amount BETWEEN 500 AND 1300) AND NOT EXISTS (SELECT 1 FROM sales_plain WHERE amount < 0) ORDER BY 1",
    "TABLE customers",
    "SELECT CASE WHEN active THEN 'yes' ELSE 'no' END, array_agg(id ORDER BY id DESC),"
    " string_agg(left(name, 2), '/' ORDER BY name), bool_and(active) FROM customers GROUP BY active ORDER BY 1",
    "SELECT 7 / 2 AS int, 7 / 2.0::float8 AS float, 7 % 4 AS rest, 'a' || 1 || true AS text, NULL AS nothing,"
    " '{1,2}'::int[] || 3 AS array, (ARRAY['x', 'y z'])[2], 5 = ANY (ARRAY[1, 5]), 'pg_class'::regclass",
    "SELECT a.id, b.n FROM customers a CROSS JOIN generate_series(1, 2) AS b(n) WHERE a.id < 3 ORDER BY a.id, b.n",
    "SELECT region, orders, revenue FROM revenue ORDER BY revenue DESC NULLS LAST LIMIT 2 OFFSET 1",
    "VALUES (1, 'one'), (2, NULL)",
    "SELECT ds::date, upper(product), length(product), coalesce(NULL, region), amount::int, active::text"
    " FROM sales_encrypted JOIN customers USING (region) WHERE id = 3",
]

ERRORS = [
    "selec 1",
    "SELECT * FROM",
    "SELECT nope FROM customers",
    "SELECT * FROM nowhere",
    "SELECT c.nope FROM customers c",
    "SELECT region, count(*) FROM customers",
    "SELECT id FROM customers a, customers b",
    "SELECT 1 FROM customers WHERE id = 'one'",
    "SELECT 1 FROM customers WHERE name = 1",
    "SELECT 1 / 0",
    "SELECT 'abc",
    "SHOW nope",
]

# psql's commands, and the columns that they have on PostgreSQL 15 and not on a server of version 11.
COMMANDS = {
    r"\d": [],
    r"\dt": [],
    r"\d+": ["Access method"],
    r"\dt+": ["Access method"],
    r"\l": [],
    r"\l+": [],
    r"\dn": [],
    r"\dn+": [],
    r"\dv": [],
    r"\dv+": [],
    r"\di": [],
    r"\df": [],
    r"\df+": [],
    r"\df pg_backend_pid": [],
    r"\du": [],
    r"\du+": [],
    r"\dx": [],
    r"\det": [],
    r"\det+": [],
    r"\des": [],
    r"\dew": [],
    r"\dp": [],
    r"\dT": [],
    r"\db": [],
    r"\dt cust*": [],
    r"\d customers": [],
    r"\d+ customers": ["Compression"],
    r"\d revenue": [],
    r"\d+ revenue": [],
    r"\d customers_pkey": [],
}


class Demo:
    """An `osprey demo` that stays up."""

    def __init__(self):
        command = [harness.osprey_binary(), "demo", "--listen", "127.0.0.1:0", "--metrics", "off"]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self.banner = ""
        while "Ctrl-C" not in self.banner:
            line = self.process.stdout.readline()
            assert line, self.banner
            self.banner += line
        port = int(re.search(r"Osprey in front: +127\.0\.0\.1:(\d+)", self.banner)[1])
        self.endpoint = harness.Endpoint("127.0.0.1", port, "shop", "osprey", "analyst")

    def stop(self):
        self.process.terminate()
        self.process.wait(timeout=30)
        self.process.stdout.close()


@pytest.fixture(scope="module")
def demo():
    conftest.need_osprey()
    running = Demo()
    yield running
    running.stop()


@pytest.fixture(scope="module")
def postgres(cluster):
    """PostgreSQL 15 with the demo's tables."""
    database = cluster.create_database("demo", script=None)
    with cluster.admin(database) as connection:
        connection.execute(TABLES)
        connection.execute("ALTER DATABASE demo SET search_path = shop")
    return cluster.endpoint(database)


def test_demo_tells_its_story():
    conftest.need_osprey()
    done = subprocess.run(
        [harness.osprey_binary(), "demo", "--once", "--listen", "127.0.0.1:0"]
        + ["--metrics", "127.0.0.1:0"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    # Direct: the error. Through Osprey: what was injected.
    assert "PanguParameterInvalidException" in done.stdout
    assert f"SET {harness.ORC} = false" in done.stdout


def test_what_the_banner_says_to_try_works(demo):
    lines = re.findall(r"^ +psql (.*) -c '(.*)'$", demo.banner, re.MULTILINE)
    assert len(lines) >= 3, demo.banner
    for arguments, statement in lines:
        status, shown = demo.endpoint.psql(*arguments.split(), "-c", statement)
        assert status == 0, (statement, shown)
    assert "metrics:     off" in demo.banner


@pytest.mark.parametrize("statement", STATEMENTS)
def test_statements_have_postgresqls_answers(demo, postgres, statement):
    expected = postgres.psql("-c", statement)
    assert expected[0] == 0, expected[1]
    assert demo.endpoint.psql("-c", statement) == expected


@pytest.mark.parametrize("statement", ERRORS)
def test_errors_are_postgresqls(demo, postgres, statement):
    """The messages; the place is shown of syntax errors alone."""
    (failed, expected), (status, shown) = (one.psql("-c", statement) for one in (postgres, demo.endpoint))
    assert failed == status == 1
    assert shown.splitlines()[0] == expected.splitlines()[0]
    if "syntax error" in expected or "unterminated" in expected:
        assert shown == expected


def test_what_it_does_not_do_is_said_in_a_line(demo):
    for statement in ["CREATE TABLE a (b int)", "INSERT INTO customers VALUES (6)", "COPY customers TO STDOUT"]:
        status, shown = demo.endpoint.psql("-c", statement)
        assert (status, shown) == (1, f"ERROR:  the demo's Hologres does not do {statement.split()[0]}\n")


def heads(shown):
    """The titles, and the names of the columns, of what psql has printed."""
    lines = shown.splitlines()
    rules = [at for at, line in enumerate(lines) if re.fullmatch(r"-[-+]*", line)]
    titles = [lines[at - 2].strip() if at > 1 else "" for at in rules]
    return titles, [[column.strip() for column in lines[at - 1].split("|")] for at in rules]


@pytest.mark.parametrize("command", COMMANDS)
def test_psqls_commands(demo, postgres, command):
    (_, expected), (status, shown) = (one.psql("-c", command) for one in (postgres, demo.endpoint))
    assert status == 0 and "ERROR" not in shown, shown
    # A table of PostgreSQL's is in the schema shop, and in public here.
    titles, columns = heads(expected.replace("shop.", "public."))
    if titles or "Did not find" not in expected:
        columns = [[name for name in names if name not in COMMANDS[command]] for names in columns]
        assert heads(shown) == (titles, columns), shown


@pytest.mark.parametrize("statement", (harness.HERE / "scripts/dbeaver.sql").read_text().splitlines())
def test_what_dbeaver_asks_of_the_catalogs(demo, postgres, statement):
    """As it is asked when a connection is opened and its tree is walked: each row and column where it is."""
    (asked, expected), (status, shown) = (one.psql("-c", statement) for one in (postgres, demo.endpoint))
    assert (asked, status) == (0, 0), (expected, shown)
    assert len(heads(shown)[1]) == len(heads(expected)[1])


def test_psqls_commands_tell_of_the_tables(demo, postgres):
    _, shown = demo.endpoint.psql("-c", r"\d")
    for line in ["customers", "revenue", "sales_encrypted", "sales_plain"]:
        assert line in shown
    (_, expected), (_, shown) = (one.psql("-c", r"\d customers") for one in (postgres, demo.endpoint))
    assert shown == expected.replace('"shop.', '"public.').replace('Table "', ' Table "').replace("  Table", " Table") or (
        shown.split() == expected.replace("shop.", "public.").split()
    )
    _, shown = demo.endpoint.psql("-c", r"\d+ sales_encrypted")
    assert "FDW options: (project_name 'finance_encrypted', table_name 'sales')" in shown
    _, shown = demo.endpoint.psql("-c", r"\det")
    assert shown.count("odps_server") == 2


def test_psql_completes_names(demo):
    for typed, completed in [("select * from cust", "customers "), (r"\d rev", "revenue "), ("show time", "timezone ")]:
        assert completed in complete(demo.endpoint, typed, completed), typed


def complete(endpoint, typed, awaited):
    """What psql shows after `typed` and two tabs, up to `awaited`."""
    ours, its = pty.openpty()
    environment = {**endpoint.environment(), "TERM": "dumb", "PAGER": "cat", "HISTFILE": "/dev/null"}
    psql = subprocess.Popen([harness.PG_BIN / "psql", "-X"], stdin=its, stdout=its, stderr=its, env=environment)
    os.close(its)
    shown = read_until(ours, "=> ")
    os.write(ours, typed.encode() + b"\t\t")
    shown = read_until(ours, awaited)
    psql.kill()
    psql.wait()
    os.close(ours)
    return shown


def read_until(terminal, text, seconds=20):
    shown, end = "", time.monotonic() + seconds
    while text not in shown and time.monotonic() < end:
        if select.select([terminal], [], [], 0.2)[0]:
            shown += os.read(terminal, 65536).decode()
    return shown


def test_jdbcs_metadata(demo, postgres, tmp_path):
    source = harness.HERE / "java" / "Metadata.java"
    harness.run(["javac", "-Xlint:all", "-Werror", "-cp", DRIVER, "-d", tmp_path, source])
    told = []
    for endpoint, schema in [(postgres, "shop"), (demo.endpoint, "public")]:
        url = f"jdbc:postgresql://{endpoint.host}:{endpoint.port}/{endpoint.dbname}?sslmode=disable"
        done = subprocess.run(
            ["java", "-cp", f"{tmp_path}:{DRIVER}", "Metadata", url, endpoint.user, endpoint.password]
            + [schema, "customers"],
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        calls = re.findall(r"^(\w.*?): (.*)\n((?:    .*\n)*)", done.stdout, re.MULTILINE)
        assert len(calls) == 21, done.stdout
        told.append({call: (columns, rows.replace(f"| {schema} |", "| S |")) for call, columns, rows in calls})
    expected, shown = told
    assert {call: columns for call, (columns, _) in shown.items()} == {
        call: columns for call, (columns, _) in expected.items()
    }
    for call in ["getColumns", "getPrimaryKeys", "getBestRowIdentifier", "getVersionColumns", "query"]:
        assert shown[call] == expected[call], call
    tables = shown["getTables"][1]
    assert "| sales_encrypted | FOREIGN TABLE |" in tables and "| revenue | VIEW |" in tables
    assert "| customers_pkey |" in shown["getIndexInfo"][1]


def test_sqlalchemys_inspection(demo, postgres):
    seen = []
    for endpoint, schema in [(postgres, "shop"), (demo.endpoint, "public")]:
        url = sqlalchemy.engine.URL.create(
            "postgresql+psycopg2",
            username=endpoint.user,
            password=endpoint.password,
            host=endpoint.host,
            port=endpoint.port,
            database=endpoint.dbname,
            query={"sslmode": "disable"},
        )
        engine = sqlalchemy.create_engine(url)
        with engine.connect() as connection:
            inspector = sqlalchemy.inspect(connection)
            columns = inspector.get_columns("customers", schema=schema)
            seen.append(
                (
                    [{**column, "type": str(column["type"])} for column in columns],
                    inspector.get_pk_constraint("customers", schema=schema),
                    inspector.get_view_names(schema=schema),
                    inspector.has_table("customers", schema=schema),
                    inspector.get_indexes("customers", schema=schema),
                    inspector.get_foreign_keys("customers", schema=schema),
                    [str(column["type"]) for column in inspector.get_columns("revenue", schema=schema)],
                )
            )
            reflected = sqlalchemy.MetaData()
            reflected.reflect(connection, schema=schema, only=["customers"])
            (table,) = reflected.tables.values()
            rows = connection.execute(sqlalchemy.select(table.c.id).where(table.c.region == "north"))
            assert sorted(rows.scalars()) == [1, 2]
        engine.dispose()
    assert seen[0] == seen[1]


def test_parameters_and_types_in_both_formats(demo):
    with demo.endpoint.connect() as connection:
        for binary in (False, True):
            cursor = connection.cursor(binary=binary)
            cursor.execute(
                "SELECT order_id, amount, region = %s, array[1, NULL], array['a', 'b c'], 7::oid, ds::date,"
                " 'x'::name, now() < now() FROM sales_encrypted WHERE region = ANY (%s) AND order_id > %s"
                " ORDER BY order_id LIMIT 1",
                ["east", ["east", "south"], 1003],
            )
            row = cursor.fetchone()
            assert row[:6] == (1004, 3310.0, True, [1, None], ["a", "b c"], 7)
            assert (row[6].isoformat(), row[7]) == ("2026-01-06", "x")
