"""With nothing but an upstream, the first write of an encrypted project's data is run again where it stands
alone, and takes effect once."""

import threading

import psycopg
import pytest

import conftest
import harness

pytestmark = pytest.mark.usefixtures("engine_at")

RETRIED = "osprey_retried_writes_total"
COUNT = "SELECT count(*) FROM notes WHERE note LIKE 'w%'"
INSERT = "INSERT INTO notes (note) SELECT 'w' || id FROM salaries WHERE id <= 40"


@pytest.fixture
def zero(cluster, database):
    """Nothing is configured but the upstream."""
    conftest.need_osprey()
    with harness.Osprey(cluster.port) as osprey:
        yield osprey


@pytest.fixture
def connection(zero, database):
    with zero.endpoint(database).connect() as connection:
        yield connection


def simple(connection, statement):
    """As a Query, whose result is taken as it comes."""
    return psycopg.ClientCursor(connection).execute(statement)


def extended(connection, statement):
    return connection.execute(statement, prepare=True)


def bound(connection, statement):
    return connection.execute(f"{statement} AND %s = 1", [1])


@pytest.mark.parametrize("send", [simple, extended, bound])
def test_an_insert(zero, connection, send):
    assert send(connection, INSERT).rowcount == 40
    assert connection.execute(COUNT).fetchone() == (40,)
    assert zero.scrape()[RETRIED] == 1


WRITES = {
    "create table": "CREATE TABLE taken_over AS SELECT * FROM salaries",
    "materialized view": "CREATE MATERIALIZED VIEW taken_over AS SELECT * FROM salaries",
    "update": "UPDATE notes SET note = s.name FROM salaries s WHERE s.id = 1",
    "delete": "DELETE FROM notes USING salaries s WHERE s.id = 1 AND note = 'none'",
    "merge": "MERGE INTO notes USING salaries s ON s.id = 0 WHEN NOT MATCHED THEN DO NOTHING",
    "returning": "INSERT INTO notes (note) SELECT name FROM salaries WHERE id < 3 RETURNING note",
    "explain": "EXPLAIN (ANALYZE, TIMING OFF) INSERT INTO notes (note) SELECT name FROM salaries",
}


@pytest.mark.parametrize("kind", WRITES)
def test_each_kind(zero, connection, kind):
    if kind == "merge" and harness.POSTGRES < 15:
        pytest.skip("PostgreSQL has had MERGE since 15")
    connection.execute(WRITES[kind])
    assert zero.scrape()[RETRIED] == 1


AMONG_OTHERS = {
    "begin": ["BEGIN", INSERT],
    "two in a query": [f"SELECT 1; {INSERT}"],
    "after a write": ["BEGIN", "INSERT INTO notes (note) VALUES ('w')", INSERT],
    "call": ["DO $$ BEGIN INSERT INTO notes (note) SELECT 'w' FROM salaries; END $$"],
    "function": [INSERT.replace("SELECT 'w'", "SELECT note_down('w')::text")],
    "copy": ["COPY (INSERT INTO notes (note) SELECT 'w' FROM salaries RETURNING 1) TO '/dev/null'"],
}


@pytest.mark.parametrize("kind", AMONG_OTHERS)
def test_never_among_others(zero, cluster, database, kind):
    with cluster.admin(database) as admin:
        admin.execute(
            "CREATE FUNCTION note_down(text) RETURNS bigint LANGUAGE plpgsql AS"
            " $$ BEGIN INSERT INTO notes (note) VALUES ($1); RETURN 1; END $$"
        )
    *before, last = AMONG_OTHERS[kind]
    with zero.endpoint(database).connect() as connection:
        for statement in before:
            connection.execute(statement)
        with pytest.raises(psycopg.Error):
            psycopg.ClientCursor(connection).execute(last)
        assert zero.scrape().get(RETRIED, 0) == 0
    with cluster.admin(database) as admin:
        assert admin.execute(COUNT).fetchone() == (0,)


def test_switched_off(cluster, database, tmp_path):
    conftest.need_osprey()
    config = tmp_path / "osprey.toml"
    config.write_text("[route]\nretry_writes = false\n")
    with harness.Osprey(cluster.port, config=config) as osprey:
        with osprey.endpoint(database).connect() as connection:
            with pytest.raises(psycopg.Error, match="HQE") as caught:
                connection.execute(INSERT)
            assert "not run again" in caught.value.diag.message_detail
            # By now it is known, and the same statement works.
            harness.wait_for(lambda: inserts(connection), "the lesson to be known")
            assert connection.execute(COUNT).fetchone() == (40,)
        assert osprey.scrape().get(RETRIED, 0) == 0


def inserts(connection):
    try:
        connection.execute(INSERT)
        return True
    except psycopg.Error:
        return False


def test_what_exists_by_then(zero, cluster, database):
    """Another session makes the table between the two runs: the first error, and that fact."""
    cluster.query("postgres", f'ALTER DATABASE "{database}" SET hologres.set_delay_ms = 2000')
    with zero.endpoint(database).connect() as connection:
        connection.execute("SELECT 1")
        seen = []

        def create():
            try:
                connection.execute(WRITES["create table"])
            except psycopg.Error as error:
                seen.append(error)

        thread = threading.Thread(target=create)
        thread.start()
        harness.wait_for(lambda: zero.scrape()["osprey_retries_total"] == 1, "the second run")
        with cluster.admin(database) as admin:
            admin.execute("CREATE TABLE IF NOT EXISTS taken_over (id int); GRANT ALL ON taken_over TO PUBLIC")
        thread.join()
    assert "HQE" in seen[0].diag.message_primary
    assert "was there by then" in seen[0].diag.message_detail


@pytest.mark.parametrize("moment", range(0, 12))
def test_cut_off_at_any_moment(zero, cluster, database, moment):
    """However the session ends meanwhile, the write has taken effect once, or not at all."""
    cluster.query("postgres", f'ALTER DATABASE "{database}" SET hologres.scan_delay_ms = 2')
    endpoint = zero.endpoint(database)
    connection = endpoint.connect()
    connection.execute("SELECT 1")
    pid = connection.info.backend_pid
    done = []

    def insert():
        try:
            connection.execute(INSERT)
            done.append(True)
        except psycopg.Error:
            pass

    thread = threading.Thread(target=insert)
    thread.start()
    threading.Event().wait(moment * 0.003)
    cluster.query("postgres", f"SELECT pg_terminate_backend({pid})")
    thread.join()
    connection.close()
    with cluster.admin(database) as admin:
        count = admin.execute(COUNT).fetchone()[0]
    assert count in ([40] if done else [0, 40])
