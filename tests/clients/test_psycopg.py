"""psycopg 3 and psycopg2: the four tasks in each way that these drivers have to send a statement."""

import contextlib
import threading
import time

import psycopg
import psycopg2
import pytest

import harness
import tasks


@contextlib.contextmanager
def fails_direct(endpoint):
    """Direct, the block must end with HQE's error; through Osprey it must not."""
    if not endpoint.direct:
        yield
        return
    with pytest.raises(psycopg.errors.InternalError_) as caught:
        yield
    assert tasks.is_pangu(str(caught.value))


def simple(connection, statement):
    return psycopg.ClientCursor(connection).execute(statement).fetchall()


def extended(connection, statement):
    # A parameter: psycopg then uses Parse, Bind, Describe, Execute.
    return connection.execute(f"SELECT * FROM ({statement}) s WHERE %s", [True]).fetchall()


def prepared(connection, statement):
    for _ in range(3):
        rows = connection.execute(statement, prepare=True).fetchall()
    return rows


def binary(connection, statement):
    return connection.cursor(binary=True).execute(statement).fetchall()


def streamed(connection, statement):
    return list(connection.cursor().stream(statement))


def server_side_cursor(connection, statement):
    with connection.transaction(), connection.cursor("named") as cursor:
        cursor.itersize = 7
        return list(cursor.execute(statement))


def copied_out(connection, statement):
    with connection.cursor().copy(f"COPY ({statement}) TO STDOUT") as copy:
        return list(copy.rows())


WAYS = [simple, extended, prepared, binary, streamed, server_side_cursor, copied_out]


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
@pytest.mark.parametrize("autocommit", [True, False], ids=["autocommit", "transaction"])
def test_reads(endpoint, way, autocommit):
    for name, (statement, rows) in tasks.READS.items():
        with endpoint.connect(autocommit=autocommit) as connection:
            with fails_direct(endpoint):
                assert len(way(connection, statement)) == rows, name
            connection.rollback()
            # The session is as usable as before.
            assert connection.execute("SELECT count(*) FROM people").fetchone() == (100,)


def test_one_session_does_it_all(endpoint):
    """Plain and encrypted statements by turns, with the same prepared statement before and after."""
    with endpoint.connect() as connection:
        plain = "SELECT team FROM people WHERE id = %s"
        for _ in range(3):
            assert connection.execute(plain, [1], prepare=True).fetchone() == ("team 1",)
            for statement, rows in tasks.READS.values():
                with fails_direct(endpoint):
                    assert len(connection.execute(statement, prepare=True).fetchall()) == rows


@pytest.mark.parametrize("autocommit", [True, False], ids=["autocommit", "transaction"])
def test_writes_a_plain_table(endpoint, cluster, autocommit):
    with endpoint.connect(autocommit=autocommit) as connection:
        with fails_direct(endpoint):
            assert connection.execute(tasks.WRITE).rowcount == tasks.WRITTEN
            connection.commit()
    written = cluster.query(endpoint.dbname, "SELECT count(*) FROM copied")[0][0]
    assert written == (0 if endpoint.direct else tasks.WRITTEN)


def test_rollback_does_not_lose_the_route(endpoint):
    """A SET inside a transaction is undone with it; the next read must work all the same."""
    with endpoint.connect(autocommit=False) as connection:
        for _ in range(3):
            with fails_direct(endpoint):
                assert connection.execute("SELECT count(*) FROM salaries").fetchone() == (1000,)
            connection.rollback()


def test_pipeline(endpoint):
    """Encrypted and plain statements in one pipeline, synced by parts."""
    with endpoint.connect() as connection:
        with fails_direct(endpoint), connection.pipeline() as pipeline:
            plain = connection.execute("SELECT count(*) FROM people")
            pipeline.sync()
            table = connection.execute("SELECT count(*) FROM salaries WHERE id <= %s", [10])
            view = connection.execute("SELECT count(*) FROM salary_names")
            pipeline.sync()
            after = connection.execute("SELECT count(*) FROM people")
            assert plain.fetchone() == (100,)
            assert table.fetchone() == (10,)
            assert view.fetchone() == (1000,)
            assert after.fetchone() == (100,)


def test_pipeline_with_an_error(endpoint):
    """What follows an error in a pipeline is skipped up to the Sync, and what follows that is not."""
    with endpoint.connect() as connection:
        with pytest.raises(psycopg.errors.DivisionByZero):
            with connection.pipeline():
                connection.execute("SELECT 1 / 0")
                connection.execute("SELECT count(*) FROM people")
        with fails_direct(endpoint):
            assert connection.execute("SELECT count(*) FROM salaries").fetchone() == (1000,)


def test_pipeline_of_many_reads(endpoint):
    with endpoint.connect() as connection:
        with fails_direct(endpoint), connection.pipeline():
            cursors = [
                connection.execute("SELECT name FROM salaries WHERE id = %s", [number])
                for number in range(1, 101)
            ]
            names = [cursor.fetchone()[0] for cursor in cursors]
            assert names == [f"name {number}" for number in range(1, 101)]


def test_client_sets_the_route_itself(endpoint):
    """The client is the master, and may ask for HQE."""
    with endpoint.connect() as connection:
        connection.execute(f"SET {harness.ORC_NEW_NAME} = off")
        assert connection.execute("SELECT count(*) FROM salaries").fetchone() == (1000,)
        connection.execute(f"SET {harness.ORC_NEW_NAME} = on")
        with pytest.raises(psycopg.errors.InternalError_) as caught:
            connection.execute("SELECT count(*) FROM salaries")
        # Rewritten or not, the vendor's text is in it.
        diagnostics = caught.value.diag
        assert tasks.is_pangu(f"{diagnostics.message_primary} {diagnostics.message_detail}")


def test_psycopg2(endpoint, cluster):
    with contextlib.closing(psycopg2.connect(endpoint.conninfo())) as connection:
        for name, (statement, rows) in tasks.READS.items():
            cursor = connection.cursor()
            if endpoint.direct:
                with pytest.raises(psycopg2.errors.InternalError_) as caught:
                    cursor.execute(statement)
                assert tasks.is_pangu(str(caught.value))
            else:
                cursor.execute(statement)
                assert len(cursor.fetchall()) == rows, name
            connection.rollback()


def test_cancel(endpoint):
    with endpoint.connect() as connection:
        timer = threading.Timer(0.3, connection.cancel)
        begin = time.monotonic()
        timer.start()
        with pytest.raises(psycopg.errors.QueryCanceled):
            connection.execute("SELECT pg_sleep(30)")
        assert time.monotonic() - begin < 10
        timer.join()
        assert connection.execute("SELECT 1").fetchone() == (1,)


@pytest.mark.parametrize("megabytes", [1, 64])
def test_large_messages(endpoint, request, megabytes):
    """Parameters, rows and COPY data larger than any buffer, in both directions."""
    size = harness.bulk(megabytes << 20)
    osprey = None if endpoint.direct else request.getfixturevalue("osprey")
    before = osprey.peak_memory() if osprey else 0
    with endpoint.connect() as connection:
        assert connection.execute("SELECT length(%s)", ["x" * size]).fetchone() == (size,)
        row = connection.execute("SELECT repeat('y', %s)", [size]).fetchone()
        assert row == ("y" * size,)
        connection.execute("CREATE TEMP TABLE large (t text)")
        with connection.cursor().copy("COPY large FROM STDIN") as copy:
            for _ in range(megabytes):
                copy.write(b"z" * harness.bulk(1 << 20))
        assert connection.execute("SELECT length(t) FROM large").fetchone() == (size,)
    if osprey:
        # Buffers may grow, but not to the size of what went through.
        assert osprey.peak_memory() - before < 16 << 20


@pytest.mark.parametrize("role", sorted(harness.ROLES))
def test_authentication(endpoint, role):
    """Each method passes through, and so does its refusal."""
    with endpoint.connect(user=role) as connection:
        assert connection.execute("SELECT current_user").fetchone() == (role,)
    if role != "app_trust":
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            endpoint.connect(user=role, password="wrong")


@pytest.mark.parametrize("role", sorted(harness.ROLES))
def test_authentication_with_tls_upstream(tls_cluster, role):
    """The upstream has TLS, the client has not."""
    if harness.osprey_binary() is None:
        pytest.skip("target/release/osprey is not built")
    with harness.Osprey.in_front_of(tls_cluster) as osprey:
        with osprey.endpoint("postgres").connect(user=role) as connection:
            row = connection.execute(
                "SELECT current_user, ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
            )
            assert row.fetchone() == (role, True)


def test_unknown_database_and_role(endpoint):
    """A FATAL of the upstream reaches the client."""
    with pytest.raises(psycopg.OperationalError, match='database "nowhere" does not exist'):
        endpoint.connect(dbname="nowhere")
    with pytest.raises(psycopg.OperationalError, match="no pg_hba.conf entry"):
        endpoint.connect(user="nobody")


def test_terminated_backend(endpoint, cluster):
    """The administrator ends the session: the client is told so before the connection closes."""
    with endpoint.connect() as connection:
        pid = connection.execute("SELECT pg_backend_pid()").fetchone()[0]
        cluster.query("postgres", "SELECT pg_terminate_backend(%s)", pid)
        with pytest.raises(psycopg.OperationalError, match="due to administrator command"):
            connection.execute("SELECT 1")


def test_notifications(endpoint):
    with endpoint.connect() as listener, endpoint.connect() as sender:
        listener.execute("LISTEN here")
        sender.execute("NOTIFY here, 'payload'")
        assert next(listener.notifies()).payload == "payload"
