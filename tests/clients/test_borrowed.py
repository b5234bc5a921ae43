"""Without an account: the first session of a database reads its catalogs in its own name, and its
client sees nothing of it."""

import concurrent.futures
import contextlib
import time

import psycopg
import pytest

import conftest
import harness
import rawpg

RETRIES = "osprey_retries_total"
UPSTREAM_ENDS = "terminating connection due to administrator command"


@pytest.fixture
def borrowing(cluster):
    """An Osprey that knows a project, and has no account."""
    conftest.need_osprey()
    with harness.Osprey(cluster.port, ["--encrypted-project", "finance_byok"]) as osprey:
        yield osprey


def readings(osprey, database):
    """How many readings of its catalogs succeeded, and how many failed."""
    names = ("osprey_catalog_refreshes_total", "osprey_catalog_refresh_failures_total")
    return tuple(osprey.metric(name, database=database) for name in names)


def count(endpoint, relation="salary_names", **options):
    with endpoint.connect(**options) as connection:
        return connection.execute(f"SELECT count(*) FROM {relation}").fetchone()[0]


def knows(osprey, database, cluster):
    """True if a read of a view is given the right engine at once."""
    cluster.reset_counters(database)
    assert count(osprey.endpoint(database)) == 1000
    return cluster.scans(database)["HQE"] == (0, 0)


@contextlib.contextmanager
def locked(cluster, database):
    """The catalogs of a database cannot be read meanwhile."""
    with cluster.admin(database) as admin:
        admin.execute("BEGIN")
        admin.execute("LOCK TABLE pg_catalog.pg_foreign_table IN ACCESS EXCLUSIVE MODE")
        yield
        admin.execute("ROLLBACK")


def test_the_first_query_ever_needs_no_failure(borrowing, database, cluster):
    cluster.reset_counters(database)
    endpoint = borrowing.endpoint(database)
    assert count(endpoint) == 1000
    assert count(endpoint, "sales.first_names", user="app_md5") == 5
    assert count(endpoint, "items") == 50
    scans = cluster.scans(database)
    assert scans["HQE"] == (1, 0) and scans["SQE"] == (2, 0)
    assert borrowing.scrape()[RETRIES] == 0
    assert readings(borrowing, database) == (1, 0)


def test_with_nothing_configured_only_the_first_query_of_a_project_fails_within(cluster, database):
    conftest.need_osprey()
    with harness.Osprey(cluster.port) as osprey:
        endpoint = osprey.endpoint(database)
        assert count(endpoint) == 1000
        assert osprey.scrape()[RETRIES] == 1
        # Another table of that project: the lesson is about the project.
        knows_more = lambda: count(endpoint, "sales.eu_salaries") == 10
        harness.wait_for(knows_more, "the lesson")
        harness.wait_for(lambda: knows(osprey, database, cluster), "the lesson to be known")


def test_the_client_sees_nothing_of_it(borrowing, database, cluster):
    def login(endpoint):
        with rawpg.Client(endpoint.host, endpoint.port) as client:
            client.start_up(user="app_trust", database=endpoint.dbname)
            messages = client.until_ready()
            return [message for message in messages if message[0] != b"K"]

    direct = cluster.endpoint(database)
    through = borrowing.endpoint(database)
    assert login(through) == login(direct)
    assert readings(borrowing, database) == (1, 0)


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT name, setting, source FROM pg_settings WHERE source <> 'client' ORDER BY 1",
        "SELECT count(*) FROM pg_prepared_statements",
        "SELECT count(*) FROM pg_cursors",
        "SELECT count(*) FROM pg_locks WHERE pid = pg_backend_pid() AND locktype = 'advisory'",
    ],
)
def test_the_session_is_as_it_was(borrowing, database, cluster, statement):
    def answer(endpoint):
        with endpoint.connect() as connection:
            return connection.execute(statement).fetchall()

    assert answer(borrowing.endpoint(database)) == answer(cluster.endpoint(database))
    assert readings(borrowing, database) == (1, 0)


def test_the_clients_settings_are_not_those_of_the_reading(borrowing, database, cluster):
    """A body in characters that the client's encoding does not have; and a time limit."""
    cluster.query(
        database,
        "CREATE FUNCTION counted() RETURNS bigint LANGUAGE sql AS $$ SELECT count(*) FROM salaries -- 😀\n $$",
    )
    options = {"options": "-c statement_timeout=7s", "client_encoding": "GBK"}
    settings = (
        "SELECT name, setting, source, reset_val FROM pg_settings"
        " WHERE name IN ('statement_timeout', 'client_encoding') ORDER BY 1"
    )

    def seen(endpoint):
        with endpoint.connect(**options) as connection:
            name = connection.execute("SELECT '查'").fetchone()
            return connection.execute(settings).fetchall(), name, connection.info.encoding

    assert seen(borrowing.endpoint(database)) == seen(cluster.endpoint(database))
    assert readings(borrowing, database) == (1, 0)
    cluster.reset_counters(database)
    with borrowing.endpoint(database).connect() as connection:
        assert connection.execute("SELECT counted()").fetchone() == (1000,)
    assert cluster.scans(database)["HQE"] == (0, 0)


def test_no_search_path_answers_in_the_catalogs_place(borrowing, database, cluster):
    with cluster.admin(database) as admin:
        admin.execute(
            """
            CREATE SCHEMA evil;
            GRANT USAGE ON SCHEMA evil TO PUBLIC;
            CREATE FUNCTION evil.trap() RETURNS bool LANGUAGE plpgsql
                AS $$ BEGIN RAISE EXCEPTION 'trapped'; END $$;
            CREATE VIEW evil.pg_foreign_table AS SELECT evil.trap();
            CREATE VIEW evil.pg_class AS SELECT evil.trap();
            CREATE VIEW evil.pg_settings AS SELECT evil.trap();
            CREATE TYPE evil.text AS (trapped bool);
            CREATE FUNCTION evil.quote_ident(text) RETURNS text
                LANGUAGE sql AS 'SELECT evil.trap()::text';
            CREATE FUNCTION evil.current_database() RETURNS name
                LANGUAGE sql AS 'SELECT evil.trap()::text::name';
            """
        )
        for left, right, operators in [
            ("oid", "oid", ("=", "<>")),
            ("name", "name", ("=", "<>")),
            ("text", "text", ("=", "<>")),
            ("name", "text", ("=", "!~")),
            ('"char"', '"char"', ("=",)),
            ("int2", "int4", ("=",)),
        ]:
            admin.execute(
                f"CREATE FUNCTION evil.trap({left}, {right}) RETURNS bool LANGUAGE sql"
                " AS 'SELECT evil.trap()'"
            )
            for operator in operators:
                admin.execute(
                    f"CREATE OPERATOR evil.{operator} "
                    f"(LEFTARG = {left}, RIGHTARG = {right}, FUNCTION = evil.trap)"
                )
    endpoint = borrowing.endpoint(database)
    hostile = "-c search_path=evil,pg_catalog"
    with endpoint.connect(options=hostile) as connection:
        with pytest.raises(psycopg.Error, match="trapped"):
            connection.execute("SELECT 1::oid = 1::oid")
    assert readings(borrowing, database) == (1, 0)
    # The path was that session's own, and is taken for nobody else's.
    assert knows(borrowing, database, cluster)


def test_a_refused_reading_harms_nothing(borrowing, database, cluster):
    with cluster.admin(database) as admin:
        admin.execute("REVOKE SELECT ON pg_catalog.pg_foreign_table FROM PUBLIC")
    endpoint = borrowing.endpoint(database)
    assert count(endpoint, "people") == 100
    assert readings(borrowing, database) == (0, 1)
    borrowing.says("permission denied for table pg_foreign_table")
    # Learned from the failure, as without any reading.
    assert count(endpoint, "salaries") == 1000
    with cluster.admin(database) as admin:
        admin.execute("GRANT SELECT ON pg_catalog.pg_foreign_table TO PUBLIC")

    def known():
        return count(endpoint, "people") == 100 and readings(borrowing, database)[0] == 1

    harness.wait_for(known, "another session to read")


def test_a_reading_that_takes_too_long_is_given_up(borrowing, database, cluster):
    endpoint = borrowing.endpoint(database)
    with locked(cluster, database):
        begin = time.monotonic()
        with endpoint.connect() as connection:
            # Within the two seconds that holo-client-c gives a login.
            assert 0.9 < time.monotonic() - begin < 2
            assert connection.execute("SELECT 42").fetchone() == (42,)
            assert connection.execute("SELECT count(*) FROM people").fetchone() == (100,)
            # Nobody else waits for what has just failed.
            begin = time.monotonic()
            assert count(endpoint, "people") == 100
            assert time.monotonic() - begin < 2
    assert readings(borrowing, database) == (0, 1)


def test_an_upstream_that_ends_the_session_meanwhile_is_told_to_the_client(
    borrowing, database, cluster
):
    def connect():
        with borrowing.endpoint(database).connect():
            pass

    with concurrent.futures.ThreadPoolExecutor() as pool, locked(cluster, database):
        session = pool.submit(connect)
        ended = lambda: cluster.query(
            "postgres",
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = %s AND usename = 'app' AND wait_event_type = 'Lock'",
            database,
        )
        harness.wait_for(ended, "the reading to be under way")
        with pytest.raises(psycopg.OperationalError, match=UPSTREAM_ENDS):
            session.result()
    harness.wait_for(
        lambda: knows(borrowing, database, cluster) and readings(borrowing, database) == (1, 1),
        "the next one to read",
    )


def test_many_at_once_cause_one_reading(borrowing, database, cluster):
    endpoint = borrowing.endpoint(database)
    cluster.reset_counters(database)
    with concurrent.futures.ThreadPoolExecutor(60) as pool:
        counts = list(pool.map(lambda _: count(endpoint), range(60)))
    assert counts == [1000] * 60
    assert readings(borrowing, database) == (1, 0)
    assert cluster.scans(database)["HQE"] == (0, 0)


def test_ten_thousand_tables_hold_no_login_up(borrowing, database, cluster):
    cluster.query(
        database,
        """
        DO $$ BEGIN
          FOR i IN 1..10000 LOOP
            EXECUTE format('CREATE FOREIGN TABLE many_%s (id int) SERVER odps_server OPTIONS '
              '(project_name ''project_%s'', table_name ''t'')', i, i % 20);
          END LOOP;
          FOR i IN 1..500 LOOP
            EXECUTE format('CREATE VIEW low_%s AS SELECT * FROM many_%s', i, i);
            EXECUTE format('CREATE VIEW middle_%s AS SELECT * FROM low_%s', i, i);
            EXECUTE format('CREATE VIEW high_%s AS SELECT id FROM middle_%s', i, i);
          END LOOP;
        END $$
        """,
    )
    begin = time.monotonic()
    with borrowing.endpoint(database).connect() as connection:
        took = time.monotonic() - begin
        cluster.reset_counters(database)
        assert connection.execute("SELECT count(*) FROM salary_names").fetchone() == (1000,)
    print(f"10,000 foreign tables and 1,500 views are known after {took:.2f} s")
    assert took < 5
    assert readings(borrowing, database) == (1, 0)
    assert cluster.scans(database)["HQE"] == (0, 0)


def test_ddl_is_followed(borrowing, database, cluster):
    endpoint = borrowing.endpoint(database)
    new = (
        "CREATE FOREIGN TABLE {} (id int, name text) SERVER odps_server"
        " OPTIONS (project_name 'finance_byok', table_name 'salaries')"
    )
    with cluster.admin(database) as admin:
        admin.execute("GRANT USAGE ON FOREIGN SERVER odps_server TO app")
    with endpoint.connect() as connection:
        assert connection.execute("SELECT count(*) FROM people").fetchone() == (100,)
        connection.execute(new.format("fresh"))
        # This session's own next statement: nobody has read the catalogs since.
        assert connection.execute("SELECT count(*) FROM fresh").fetchone() == (1000,)
        assert borrowing.scrape()[RETRIES] == 0
        connection.execute(new.format("fresher"))
        cluster.reset_counters(database)
        # The next session reads them.
        harness.wait_for(
            lambda: count(endpoint, "people") and readings(borrowing, database)[0] >= 2,
            "another reading",
        )
        assert count(endpoint, "fresher") == 1000
        assert cluster.scans(database)["HQE"] == (0, 0)
        # And once more, since front ends lag behind one another; then it is enough.
        harness.wait_for(
            lambda: count(endpoint, "people") and readings(borrowing, database)[0] >= 3,
            "the reading a second later",
        )
        total = readings(borrowing, database)
        for _ in range(5):
            count(endpoint, "people")
        assert readings(borrowing, database) == total


def test_a_replication_session_is_not_asked(borrowing, database, cluster):
    with cluster.admin("postgres") as admin:
        admin.execute("ALTER ROLE app_trust REPLICATION")
    try:
        endpoint = borrowing.endpoint(database)
        with rawpg.Client(endpoint.host, endpoint.port) as client:
            begin = time.monotonic()
            client.start_up(user="app_trust", database=database, replication="database")
            messages = client.until_ready()
            assert rawpg.kinds(messages)[-1] == "Z", messages
            assert time.monotonic() - begin < 2, "there is nothing to wait for"
            answer = client.ask(rawpg.query("IDENTIFY_SYSTEM"))
            assert rawpg.kinds(answer) == "TDCZ"
        assert readings(borrowing, database) == (0, 0)
    finally:
        with cluster.admin("postgres") as admin:
            admin.execute("ALTER ROLE app_trust NOREPLICATION")


@pytest.mark.parametrize("encoding", ["GBK", "SJIS", "EUC_JIS_2004"])
def test_names_beyond_ascii_are_read_whatever_the_clients_encoding(
    borrowing, database, cluster, encoding
):
    with cluster.admin(database) as admin:
        admin.execute(
            'CREATE FOREIGN TABLE "表" (id int) SERVER odps_server'
            " OPTIONS (project_name 'finance_byok', table_name 'salaries')"
        )
        admin.execute('GRANT SELECT ON "表" TO PUBLIC')
    endpoint = borrowing.endpoint(database)
    with endpoint.connect(client_encoding=encoding) as connection:
        assert connection.execute("SELECT count(*) FROM people").fetchone() == (100,)
    # Of the last one Osprey knows where a character ends, but not which one it is.
    assert readings(borrowing, database) == (1, 0)
    cluster.reset_counters(database)
    assert count(endpoint, '"表"') == 1000
    with endpoint.connect(client_encoding="GBK") as connection:
        assert connection.execute("SELECT count(*) FROM 表").fetchone() == (1000,)
    assert cluster.scans(database)["HQE"] == (0, 0)


def test_a_session_timeout_of_the_clients_own_spoils_it_for_a_moment_only(
    borrowing, database, cluster
):
    endpoint = borrowing.endpoint(database)
    with locked(cluster, database):
        with endpoint.connect(options="-c statement_timeout=100ms") as connection:
            assert connection.execute("SELECT 42").fetchone() == (42,)
    assert readings(borrowing, database) == (0, 1)
    harness.wait_for(
        lambda: count(endpoint, "people") and readings(borrowing, database)[0] == 1,
        "another session to read",
        seconds=5,
    )


def test_over_tls(tls_cluster, tmp_path):
    conftest.need_osprey()
    database = tls_cluster.create_database("borrowed_over_tls")
    config = tmp_path / "osprey.toml"
    config.write_text(
        f"""
[upstream.tls]
mode = "verify-ca"
ca = "{tls_cluster.ca}"

[protect]
projects = ["finance_byok"]
"""
    )
    with harness.Osprey(tls_cluster.port, config=config) as osprey:
        assert knows(osprey, database, tls_cluster)
        assert readings(osprey, database) == (1, 0)


def test_not_if_it_is_switched_off(cluster, database, tmp_path):
    conftest.need_osprey()
    config = tmp_path / "osprey.toml"
    config.write_text("[catalog]\nborrow = false\n")
    with harness.Osprey(cluster.port, config=config) as osprey:
        assert count(osprey.endpoint(database)) == 1000
        assert osprey.scrape()[RETRIES] == 1
        assert readings(osprey, database) == (0, 0)


def test_what_the_server_notes_of_osprey_s_own_is_not_told(cluster, database):
    """Neither of the questions that are asked on the client's session, nor of the SET in front of a read."""
    conftest.need_osprey()

    def notices(endpoint, options=""):
        heard = []
        with endpoint.connect(options=f"-c client_min_messages=debug5 {options}") as connection:
            connection.add_notice_handler(lambda notice: heard.append(notice.message_primary))
            for _ in range(2):
                connection.execute("SELECT count(*) FROM salaries")
        return len(heard)

    with harness.Osprey(cluster.port, ["--encrypted-project", "finance_byok"]) as osprey:
        reads_catalogs = notices(osprey.endpoint(database))
        knows_them = notices(osprey.endpoint(database))
    direct = notices(cluster.endpoint(database), f"-c {harness.ORC}=off")
    assert reads_catalogs == knows_them == direct > 0
