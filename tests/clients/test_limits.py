"""Limits that are off unless they are set: sessions of a user and on a database, how many begin a second,
networks, and how long a session may rest and a statement take. Each names its setting, and is counted."""

import time

import psycopg
import pytest

import conftest
import harness
import rawpg
from test_admission import begin, limited, refused, too_many, works


@pytest.fixture
def clients():
    """Clients that are closed at the end of the test."""
    opened = []

    def keep(client):
        opened.append(client)
        return client

    yield keep
    for client in opened:
        client.close()


def counted(osprey, limit):
    osprey.wait_for_metric("osprey_sessions_refused_total", 1, limit=limit)


def test_sessions_of_a_user(tmp_path, clients):
    with limited(rawpg.Played(), tmp_path, "max_sessions_per_user = 1") as osprey:
        first = clients(begin(osprey, user="app"))
        first.until_ready()
        expected = too_many("limits.max_sessions_per_user is 1")
        assert refused(clients(begin(osprey, user="app"))) == expected
        other = clients(begin(osprey, user="etl"))
        other.until_ready()
        assert works(first) and works(other)
        counted(osprey, "limits.max_sessions_per_user")
        # A place that is given up is free.
        first.close()
        osprey.wait_for_metric("osprey_sessions", 1)
        clients(begin(osprey, user="app")).until_ready()


def test_sessions_on_a_database(tmp_path, clients):
    with limited(rawpg.Played(), tmp_path, "max_sessions_per_database = 1") as osprey:
        clients(begin(osprey, database="dw")).until_ready()
        # A warehouse is no other database.
        expected = too_many("limits.max_sessions_per_database is 1")
        assert refused(clients(begin(osprey, database="dw@etl", user="b"))) == expected
        clients(begin(osprey, database="other")).until_ready()
        counted(osprey, "limits.max_sessions_per_database")


@pytest.mark.parametrize(
    "setting, same",
    [
        ("new_sessions_per_second", {}),
        ("new_sessions_per_second_per_address", {"user": "b"}),
        ("new_sessions_per_second_per_user", {"source": "127.0.0.2"}),
    ],
)
def test_new_sessions_a_second(tmp_path, clients, setting, same):
    with limited(rawpg.Played(), tmp_path, f"{setting} = 1") as osprey:
        expected = too_many(f"limits.{setting} is 1")

        def third():
            """One of three at once is too many, however slow this machine is just now."""
            for _ in range(3):
                client = clients(begin(osprey, **same))
                kind, _ = client.receive()
                if kind == b"E":
                    return True
            return False

        harness.wait_for(third, "one to be refused")

        # And after a second, another one may begin.
        def again():
            client = clients(begin(osprey, **same))
            return client.receive()[0] == b"R"

        harness.wait_for(again, "another to be let in")
        assert osprey.metric("osprey_sessions_refused_total", limit=f"limits.{setting}") >= 1
        osprey.says(expected[1])


def test_networks(tmp_path, clients):
    more = '[listen]\nallow = ["127.0.0.0/8"]\ndeny = ["127.0.0.2"]\n'
    with limited(rawpg.Played(), tmp_path, "", more) as osprey:
        clients(begin(osprey)).until_ready()
        code, text = refused(clients(begin(osprey, source="127.0.0.2")))
        assert code == "28000"
        assert text == "Osprey lets in no client from 127.0.0.2 here: see deny of the listener"
        counted(osprey, "listener.deny")
    more = '[listen]\nallow = ["10.0.0.0/8"]\n'
    with limited(rawpg.Played(), tmp_path, "", more) as osprey:
        code, text = refused(clients(begin(osprey)))
        assert code == "28000" and text.endswith("see allow of the listener")
        counted(osprey, "listener.allow")
        # What asks for TLS first is told, too.
        with pytest.raises(psycopg.OperationalError, match="see allow of the listener"):
            psycopg.connect(
                f"host=127.0.0.1 port={osprey.port} user=u dbname=d sslmode=prefer connect_timeout=5"
            )


@pytest.fixture
def hurried(cluster, tmp_path):
    """An Osprey with these settings under [limits]."""
    conftest.need_osprey()
    running = []

    def start(limits):
        config = tmp_path / "osprey.toml"
        config.write_text(f"[limits]\n{limits}\n")
        osprey = harness.Osprey(cluster.port, config=config).start()
        running.append(osprey)
        return osprey

    yield start
    for osprey in running:
        osprey.stop()


def ended(connection, statement="SELECT 1"):
    """The SQLSTATE and the text with which a session has ended."""
    with pytest.raises(psycopg.OperationalError) as error:
        connection.execute(statement)
    return error.value


def test_idle_session(hurried, database):
    osprey = hurried('idle_session_timeout = "2s"')
    endpoint = osprey.endpoint(database)
    with endpoint.connect() as busy, endpoint.connect() as idle, endpoint.connect() as within:
        within.execute("BEGIN")
        # Whoever waits for an answer is not idle.
        busy.execute("SELECT pg_sleep(4)")
        error = ended(idle)
        text = "terminating connection due to idle-session timeout: "
        assert text + "Osprey's limits.idle_session_timeout is 2s" in str(error)
        osprey.wait_for_metric("osprey_sessions_closed_total", 1, reason="idle_session")
        # This one has a limit of its own, and none is set.
        assert within.execute("SELECT 1").fetchone() == (1,)


def test_idle_in_transaction(hurried, database):
    osprey = hurried('idle_in_transaction_session_timeout = "2s"')
    endpoint = osprey.endpoint(database)
    with endpoint.connect() as idle, endpoint.connect() as within, endpoint.connect() as failed:
        idle.execute("SELECT 1")
        within.execute("BEGIN")
        failed.execute("BEGIN")
        with pytest.raises(psycopg.errors.DivisionByZero):
            failed.execute("SELECT 1 / 0")
        reason = {"reason": "idle_in_transaction"}
        osprey.wait_for_metric("osprey_sessions_closed_total", 2, **reason)
        for connection in (within, failed):
            text = str(ended(connection))
            assert "idle-in-transaction timeout: Osprey's limits." in text
            assert "idle_in_transaction_session_timeout is 2s" in text
        assert idle.execute("SELECT 1").fetchone() == (1,)


def test_statement(hurried, database):
    osprey = hurried('statement_timeout = "2s"')
    with osprey.endpoint(database).connect() as connection:
        # Each has its own time.
        for _ in range(5):
            connection.execute("SELECT pg_sleep(0.5)")
        for options in ({}, {"prepare": True}):
            with pytest.raises(psycopg.errors.QueryCanceled) as error:
                connection.execute("SELECT pg_sleep(60)", **options)
            text = "canceling statement due to statement timeout: "
            assert error.value.diag.message_primary == (
                text + "Osprey's limits.statement_timeout is 2s"
            )
        assert connection.execute("SELECT 1").fetchone() == (1,)
        assert osprey.metric("osprey_statement_timeouts_total") == 2
        # A cancel of the client's own keeps its words.
        with pytest.raises(psycopg.errors.QueryCanceled) as error:
            connection.execute("SET statement_timeout = '100ms'; SELECT pg_sleep(60)")
        assert "Osprey" not in str(error.value)
        assert osprey.metric("osprey_statement_timeouts_total") == 2


def test_a_client_that_thinks_within_a_cycle_has_its_time(hurried, database):
    """Behind a Flush the server does nothing: only what it works counts, each statement by itself."""
    osprey = hurried('statement_timeout = "1s"')
    endpoint = osprey.endpoint(database)
    with rawpg.Client(endpoint.host, endpoint.port) as client:
        client.start_up(user="app_trust", database=database)
        client.until_ready()
        for nap, thought in [(0, 2.5)] + [(0.7, 0.3)] * 5:
            statement = rawpg.parse("", f"SELECT pg_sleep({nap})") + rawpg.bind("", "") + rawpg.execute("")
            client.send(statement + rawpg.message(b"H"))
            kind = None
            while kind not in (b"C", b"E"):
                kind, body = client.receive()
            assert kind == b"C", body
            time.sleep(thought)
        client.send(rawpg.SYNC)
        client.until_ready()
    assert osprey.metric("osprey_statement_timeouts_total") == 0
