"""Faults in the middle of running a statement again: the client has rows, or the one error that is
true, and a session that goes on; never silence."""

import threading
import time

import psycopg
import pytest

import harness
import rawpg

ENCRYPTED = "SELECT count(*) FROM salaries"


def simple(connection, statement):
    return psycopg.ClientCursor(connection).execute(statement).fetchall()


def extended(connection, statement):
    return connection.execute(f"SELECT * FROM ({statement}) s WHERE %s", [True]).fetchall()


both = pytest.mark.parametrize("send", [simple, extended])


@pytest.fixture
def broken(cluster, database, unknowing):
    """A function that makes the stand-in behave as it says; an endpoint whose user may set nothing."""

    def breaks(**settings):
        for name, value in settings.items():
            cluster.query(database, f"ALTER DATABASE {database} SET hologres.{name} = '{value}'")
        return unknowing.endpoint(database)

    return breaks


def refused(connection, send, statement=ENCRYPTED):
    """The rewritten error's DETAIL; the session goes on behind it."""
    with pytest.raises(psycopg.errors.InternalError_) as caught:
        send(connection, statement)
    connection.rollback()
    assert send(connection, "SELECT count(*) FROM people") == [(100,)]
    return caught.value.diag.message_detail


@both
@pytest.mark.parametrize("rows", [1, 5, 500])
def test_error_after_rows(broken, send, rows):
    with broken(fail_after_rows=rows).connect() as connection:
        assert "rows of its result" in refused(connection, send, "SELECT id FROM salaries")


@both
def test_set_is_refused(broken, send):
    with broken(refuse_set="on").connect() as connection:
        assert "failed a second time" in refused(connection, send)
        assert "could not be chosen" in refused(connection, send)


@both
def test_connection_lost_during_the_set(broken, cluster, send):
    endpoint = broken(set_delay_ms=20000)
    with endpoint.connect() as connection:
        ended = threading.Thread(target=terminate, args=(cluster, connection.info.backend_pid))
        ended.start()
        with pytest.raises(psycopg.OperationalError):
            send(connection, ENCRYPTED)
        ended.join()
        assert connection.closed


def terminate(cluster, process):
    wait_until_setting(cluster, process)
    cluster.query("postgres", f"SELECT pg_terminate_backend({process})")


def wait_until_setting(cluster, process):
    """Until a session is in the middle of Osprey's SET."""
    activity = f"SELECT query LIKE '%SET hg%' FROM pg_stat_activity WHERE pid = {process}"
    harness.wait_for(lambda: cluster.query("postgres", activity) == [(True,)], "the SET")
    time.sleep(0.1)


@both
@pytest.mark.parametrize("autocommit", [True, False])
def test_cancel_during_the_set(broken, cluster, send, autocommit):
    """It is the client's statement that must be cancelled."""
    endpoint = broken(set_delay_ms=1500, scan_delay_ms=1500)
    with endpoint.connect(autocommit=autocommit) as connection:

        def cancel():
            wait_until_setting(cluster, connection.info.backend_pid)
            connection.cancel()

        cancelling = threading.Thread(target=cancel)
        cancelling.start()
        with pytest.raises(psycopg.errors.QueryCanceled):
            send(connection, ENCRYPTED)
        cancelling.join()
        connection.rollback()
        assert send(connection, "SELECT count(*) FROM people") == [(100,)]


@both
def test_what_is_pipelined_behind_it_comes_in_its_order(broken, send):
    sent = rawpg.query if send is simple else cycle
    with rawpg.Client.logged_in(broken()) as client:
        client.send(sent(ENCRYPTED) + sent("INSERT INTO notes (note) VALUES ('once')"))
        client.send(sent("SELECT count(*) FROM notes WHERE note = 'once'"))
        read, written, counted = (client.until_ready() for _ in range(3))
    assert b"1000" in read[-3][1]
    assert written[-2] == (b"C", b"INSERT 0 1\0")
    assert counted[-3][1].endswith(b"1")


def cycle(statement):
    return rawpg.parse("", statement) + rawpg.bind("", "") + rawpg.execute("") + rawpg.SYNC
