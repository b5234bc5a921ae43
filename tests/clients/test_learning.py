"""With nothing known, neither from catalogs nor from the configuration: the first query ever to touch an
encrypted table returns rows, and the next session needs no failure."""

import socket

import psycopg
import psycopg2
import pytest

import conftest
import harness
import rawpg
import tasks

# Whether the engine is chosen as a statement runs, or as it is planned.
pytestmark = pytest.mark.usefixtures("engine_at")

RETRIES = "osprey_retries_total"
# Of a partitioned table whose first partition is not encrypted, rows have left before HQE fails.
READS = {name: task for name, task in tasks.READS.items() if name != "partition"}


@pytest.fixture
def blind(cluster, database, tmp_path):
    conftest.need_osprey()
    config = tmp_path / "osprey.toml"
    config.write_text("[catalog]\nborrow = false\n")
    with harness.Osprey(cluster.port, config=config) as osprey:
        yield osprey


def read(endpoint, **options):
    with endpoint.connect(**options) as connection:
        return connection.execute("SELECT count(*) FROM salaries").fetchone()


def test_first_query_ever(blind, database, cluster):
    cluster.reset_counters(database)
    assert read(blind.endpoint(database)) == (1000,)
    assert blind.scrape()[RETRIES] == 1
    # What one session has learned, the next one knows.
    harness.wait_for(
        lambda: read(blind.endpoint(database)) == (1000,) and blind.scrape()[RETRIES] == 1,
        "the lesson to be known",
    )


def test_rows_have_left_of_a_prepared_statement(blind, database, cluster):
    """It stays prepared, and works once the lesson is known."""
    with blind.endpoint(database).connect() as connection:
        cluster.query("postgres", f'ALTER DATABASE "{database}" SET hologres.fail_after_rows = 7')
    with blind.endpoint(database).connect() as connection:
        connection.prepare_threshold = 0
        with pytest.raises(psycopg.Error, match="HQE"):
            connection.execute("SELECT id FROM salaries")
        assert len(connection.execute("SELECT id FROM salaries").fetchall()) == 1000


@pytest.mark.parametrize("fetch_count", [1, 7, 5000])
@pytest.mark.parametrize("name", READS)
def test_psql_with_fetch_count(unknowing, database, name, fetch_count):
    """psql reads with BEGIN, DECLARE, FETCH: the first FETCH meets the error, two cycles after BEGIN."""
    statement, rows = READS[name]
    arguments = ["-At", "-v", f"FETCH_COUNT={fetch_count}", "-c", statement]
    status, output = unknowing.endpoint(database).psql(*arguments)
    assert status == 0, output
    assert len(output.splitlines()) == rows


@pytest.mark.parametrize("name", READS)
def test_psycopg_without_autocommit(unknowing, database, name):
    """A transaction that has read other tables before."""
    statement, rows = READS[name]
    with unknowing.endpoint(database).connect(autocommit=False) as connection:
        assert connection.execute("SELECT count(*) FROM people").fetchone() == (100,)
        connection.execute("SET LOCAL DateStyle = 'German'")
        assert len(connection.execute(statement).fetchall()) == rows
        assert connection.execute("SHOW DateStyle").fetchone() == ("German, DMY",)
        with connection.cursor("named") as cursor:
            assert len(cursor.execute(statement).fetchall()) == rows
        connection.execute("INSERT INTO notes (note) VALUES ('in the same transaction')")
        connection.commit()
        notes = "SELECT count(*) FROM notes WHERE note = 'in the same transaction'"
        assert connection.execute(notes).fetchone() == (1,)


@pytest.mark.parametrize("autocommit", [True, False])
@pytest.mark.parametrize("name", READS)
def test_psycopg_in_pipeline_mode(unknowing, database, name, autocommit):
    statement, rows = READS[name]
    with unknowing.endpoint(database).connect(autocommit=autocommit) as connection:
        with connection.pipeline() as pipeline:
            before = connection.execute("SELECT count(*) FROM people")
            if autocommit:
                pipeline.sync()
            read = connection.execute(statement)
            after = connection.execute("SELECT count(*) FROM people")
        assert before.fetchone() == after.fetchone() == (100,)
        assert len(read.fetchall()) == rows


def test_rows_have_left(unknowing, database):
    with unknowing.endpoint(database).connect() as connection:
        with pytest.raises(psycopg.errors.InternalError_, match="HQE") as caught:
            connection.execute(tasks.READS["partition"][0])
        assert "rows of its result" in caught.value.diag.message_detail
        # They are counted without a row having left.
        assert connection.execute("SELECT count(*) FROM payments").fetchone() == (8,)


def test_psycopg2_named_cursor(unknowing, database):
    connection = psycopg2.connect(unknowing.endpoint(database).conninfo())
    with connection, connection.cursor("named") as cursor:
        cursor.itersize = 7
        cursor.execute("SELECT id, name FROM salaries")
        assert len(list(cursor)) == 1000
    connection.close()


def test_what_changes_in_between_is_not_papered_over(unknowing, database, cluster):
    """The transaction is run again only as the client has seen it; else the error, and its state."""
    with unknowing.endpoint(database).connect(autocommit=False) as connection:
        connection.execute("SELECT max(id) FROM notes")
        cluster.query(database, "INSERT INTO notes (note) VALUES ('of another session')")
        with pytest.raises(psycopg.errors.InternalError_, match="HQE") as caught:
            connection.execute("SELECT count(*) FROM salaries")
        assert "answered differently" in caught.value.diag.message_detail
        assert connection.info.transaction_status == psycopg.pq.TransactionStatus.INERROR
        with pytest.raises(psycopg.errors.InFailedSqlTransaction):
            connection.execute("SELECT 1")
        connection.rollback()
        assert connection.execute("SELECT count(*) FROM salaries").fetchone() == (1000,)


def test_chinese(cluster, database, tmp_path):
    config = tmp_path / "osprey.toml"
    config.write_text('[route]\nretry = false\n[observe]\nlanguage = "zh"\n')
    with harness.Osprey(cluster.port, config=config) as osprey:
        with pytest.raises(psycopg.errors.InternalError_, match="加密") as caught:
            read(osprey.endpoint(database))
    assert caught.value.diag.message_detail.startswith("Osprey OSP-1001，文档：")


def test_what_was_learned_last_outlives_the_process(cluster, database, tmp_path):
    """The snapshot file is written a second after a lesson, and at the end. It has what second runs of
    two users have confirmed."""
    conftest.need_osprey()
    snapshot = tmp_path / "keys.json"
    config = tmp_path / "osprey.toml"
    config.write_text(f'[catalog]\nborrow = false\n[keys]\nsnapshot = "{snapshot}"\n')
    other = cluster.create_database(f"{database}_other")
    try:
        with harness.Osprey(cluster.port, config=config) as osprey:
            assert read(osprey.endpoint(database)) == (1000,)
            assert read(osprey.endpoint(other), user="app_trust") == (1000,)
            assert osprey.stop() == 0
        assert "finance_byok" in snapshot.read_text()
    finally:
        cluster.drop_database(other)

def test_a_function_that_hides_what_it_reads_fails_once(cluster, database):
    """Of a text that it puts together nobody sees what it reads; its failure is remembered by its name."""
    conftest.need_osprey()
    body = "LANGUAGE plpgsql AS $$ DECLARE n bigint; BEGIN {}; RETURN n; END $$"
    hidden = "EXECUTE 'SELECT count(*) FROM eve' || 'nts' INTO n"
    cluster.query(database, f"CREATE FUNCTION hides() RETURNS bigint {body.format(hidden)}")
    with harness.Osprey.in_front_of(cluster) as osprey:
        osprey.wait_until_known(database)
        for user in ({}, {"user": "app_trust"}):
            with osprey.endpoint(database, **user).connect(autocommit=True) as connection:
                with pytest.raises(psycopg.Error) as caught:
                    connection.execute("SELECT hides()")
                assert "Run it again: Osprey now knows" in caught.value.diag.message_primary
                for _ in range(2):
                    assert connection.execute("SELECT hides() + 1").fetchone() == (21,)
                assert osprey.metric("osprey_injections_total") > 0


OPERATOR = """
CREATE FUNCTION reads(int, int) RETURNS bigint LANGUAGE plpgsql AS
    'BEGIN RETURN (SELECT count(*) FROM sales.eu_salaries); END';
CREATE OPERATOR public.@@@ (FUNCTION = reads, LEFTARG = int, RIGHTARG = int);
CREATE DOMAIN checked AS int CHECK (reads(VALUE, 1) > 0);
"""


def test_a_way_that_nobody_sees_fails_once(cluster, database):
    """Neither an operator nor a domain's check is looked for in a text."""
    conftest.need_osprey()
    cluster.query(database, OPERATOR)
    with harness.Osprey.in_front_of(cluster) as osprey:
        osprey.wait_until_known(database)
        with osprey.endpoint(database).connect() as connection:
            with pytest.raises(psycopg.Error, match="HQE") as failed:
                connection.execute("SELECT 1 @@@ 1")
            assert "not known to read" in failed.value.diag.message_detail
        for text in ("SELECT 1 @@@ 1", "SELECT 5::checked", "SELECT 2 @@@ %s"):
            with osprey.endpoint(database).connect() as connection:
                arguments = (3,) if "%s" in text else None
                assert connection.execute(text, arguments).fetchone()[0] > 0
        assert osprey.scrape()[RETRIES] == 3


def answers(endpoint, *messages):
    """What comes for these messages, sent by a client that then closes its sending half."""
    with rawpg.Client(endpoint.host, endpoint.port) as client:
        client.start_up(user="app_trust", database=endpoint.dbname)
        client.until_ready()
        client.send(b"".join(messages))
        client.socket.shutdown(socket.SHUT_WR)
        received, _ = rawpg.read_to_the_end(client.socket)
    return [kind for kind, _ in rawpg.split(received)]


def test_a_client_that_sends_no_more_hears_of_the_second_run(unknowing, database):
    endpoint = unknowing.endpoint(database)
    read = "SELECT count(*) FROM salaries"
    assert answers(endpoint, rawpg.query(read)) == [b"T", b"D", b"C", b"Z"]
    extended = [rawpg.parse("", read), rawpg.bind("", ""), rawpg.execute(""), rawpg.SYNC]
    assert answers(endpoint, *extended) == [b"1", b"2", b"D", b"C", b"Z"]
    begun = answers(endpoint, rawpg.query("BEGIN"), rawpg.query(read))
    assert begun == [b"C", b"Z", b"T", b"D", b"C", b"Z"]
    copied = answers(endpoint, rawpg.query("COPY (SELECT id FROM salaries WHERE id < 3) TO STDOUT"))
    assert copied[0] == b"H" and copied[-3:] == [b"c", b"C", b"Z"]


def test_a_cursor_from_before_is_moved_once(unknowing, database):
    """A cursor WITH HOLD stands elsewhere when a cycle that has read from it is run a second time."""
    endpoint = unknowing.endpoint(database)
    with rawpg.Client(endpoint.host, endpoint.port) as client:
        client.start_up(user="app_trust", database=endpoint.dbname)
        client.until_ready()
        rows = []
        for message in (
            rawpg.query("DECLARE h CURSOR WITH HOLD FOR SELECT 0 FROM people LIMIT 7"),
            rawpg.execute("h", 2)
            + rawpg.parse("", "SELECT count(*) FROM salaries")
            + rawpg.bind("", "")
            + rawpg.execute("")
            + rawpg.SYNC,
            rawpg.execute("h") + rawpg.SYNC,
        ):
            client.send(message)
            rows.append([kind for kind, _ in client.until_ready()].count(b"D"))
    # The read behind it has failed: it is not run again.
    assert rows == [0, 2, 5]


def test_what_a_second_run_leaves_in_the_session_is_not_kept_from_the_client(unknowing, database):
    """A second run that answers otherwise has set what it sets: the client is not told that nothing was done."""
    with unknowing.endpoint(database).connect() as connection:
        send = psycopg.ClientCursor(connection).execute
        with pytest.raises(psycopg.Error, match="has taken effect"):
            send("SET statement_timeout = '77s'; SELECT clock_timestamp(); SELECT count(*) FROM salaries")
        assert send("SHOW statement_timeout").fetchone() == ("77s",)


NOTICING = """
CREATE TABLE noticed (id int);
CREATE FUNCTION says_which() RETURNS trigger LANGUAGE plpgsql
    AS $$ BEGIN RAISE NOTICE 'QueryID: %', clock_timestamp(); RETURN NULL; END $$;
CREATE TRIGGER says_which BEFORE INSERT ON noticed FOR EACH STATEMENT EXECUTE PROCEDURE says_which();
GRANT ALL ON noticed TO PUBLIC;
"""


@pytest.mark.parametrize("prepare", [False, True])
def test_what_a_server_notes_of_each_run_is_no_answer(cluster, database, tmp_path, prepare):
    """Hologres notes the id of each query (hg_experimental_display_query_id): it is another one in each run."""
    conftest.need_osprey()
    with cluster.admin(database) as admin:
        admin.execute(NOTICING)
    config = tmp_path / "osprey.toml"
    config.write_text(harness.FORGETS)
    osprey = harness.Osprey(cluster.port, config=config)
    with osprey, osprey.endpoint(database).connect() as connection:
        # The first session of a database reads the catalogs.
        assert connection.execute("SELECT count(*) FROM people").fetchone() == (100,)
        notices = []
        connection.add_notice_handler(lambda notice: notices.append(notice.message_primary))
        insert = "INSERT INTO noticed SELECT id FROM salaries WHERE id <= 20"
        assert connection.execute(insert, prepare=prepare).rowcount == 20
        assert len(set(notices)) == 2, notices
        assert connection.execute("SELECT count(*) FROM noticed").fetchone() == (20,)
