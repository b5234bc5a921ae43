"""PAUSE and RESUME on the console: no transaction begins in between, and nobody loses anything."""

import contextlib
import subprocess
import threading

import psycopg
import pytest

import conftest
import harness
import rawpg

CONFIG = """
[catalog]
borrow = false
[console]
socket = "{directory}"
pause_timeout = "{timeout}"
"""


class Console:
    def __init__(self, directory):
        self.directory = directory

    def ask(self, statement):
        """Its exit status and what it says."""
        done = subprocess.run(
            [harness.PG_BIN / "psql", "-XAt", "-h", self.directory, "-p", "6432", "osprey"]
            + ["-v", "VERBOSITY=verbose", "-c", statement],
            capture_output=True,
            text=True,
        )
        return done.returncode, (done.stdout + done.stderr).strip()

    def says(self, statement):
        status, said = self.ask(statement)
        assert status == 0, said
        return said

    def wait_until(self, state, count):
        """Waits until so many sessions are in this state."""
        query = f"SELECT count(*) FROM sessions WHERE state = '{state}'"
        harness.wait_for(lambda: self.says(query) == str(count), f"{count} {state}")


class Doing(threading.Thread):
    """Something that may have to wait."""

    def __init__(self, what):
        super().__init__(daemon=True)
        self.what, self.result, self.error = what, None, None
        self.start()

    def run(self):
        try:
            self.result = self.what()
        except Exception as error:
            self.error = error

    def end(self):
        self.join(20)
        assert not self.is_alive()
        if self.error is not None:
            raise self.error
        return self.result


@contextlib.contextmanager
def pausable(cluster, directory, timeout="off", more=""):
    conftest.need_osprey()
    config = directory / "osprey.toml"
    config.write_text(CONFIG.format(directory=directory, timeout=timeout) + more)
    with harness.Osprey(cluster.port, config=config) as osprey:
        yield osprey, Console(directory)


@pytest.fixture
def directory(tmp_path_factory):
    # A socket's path must be short.
    return tmp_path_factory.mktemp("p")


def last_statement(cluster, connection):
    return cluster.query(
        "postgres", "SELECT query FROM pg_stat_activity WHERE pid = %s", connection.info.backend_pid
    )[0][0]


def test_what_begins_waits_and_then_goes_on(cluster, database, directory):
    with pausable(cluster, directory) as (osprey, console):
        endpoint = osprey.endpoint(database)
        with endpoint.connect() as simple, endpoint.connect() as extended:
            simple.execute("SELECT 'before'")
            assert console.says("PAUSE") == "PAUSE"
            console.wait_until("held", 2)
            assert osprey.metric("osprey_paused") == 1
            assert osprey.metric("osprey_held_sessions") == 2
            one = Doing(lambda: simple.execute("SELECT 1").fetchone())
            two = Doing(lambda: extended.execute("SELECT %s::int", [2], prepare=True).fetchone())
            login = Doing(lambda: endpoint.connect())
            phase = "SELECT count(*) FROM sessions WHERE phase = 'login'"
            harness.wait_for(lambda: console.says(phase) == "1", "the login")
            assert [doing.is_alive() for doing in (one, two, login)] == [True] * 3
            assert last_statement(cluster, simple) == "SELECT 'before'"
            assert console.says("RESUME") == "RESUME"
            assert (one.end(), two.end()) == ((1,), (2,))
            with login.end() as third:
                assert third.execute("SELECT 3").fetchone() == (3,)
            console.wait_until("held", 0)
            assert osprey.metric("osprey_paused") == 0


def test_what_is_under_way_goes_on_to_its_end(cluster, database, directory):
    with pausable(cluster, directory) as (osprey, console):
        endpoint = osprey.endpoint(database)
        with endpoint.connect(autocommit=False) as busy, endpoint.connect() as sleeping:
            busy.execute("SELECT 1")
            sleep = Doing(lambda: sleeping.execute("SELECT pg_sleep(60)"))
            console.wait_until("active", 1)
            pause = Doing(lambda: console.says("PAUSE"))
            harness.wait_for(lambda: osprey.metric("osprey_paused") == 1, "the pause")
            # The cancel is a connection of its own, which begins nothing.
            sleeping.cancel()
            with pytest.raises(psycopg.errors.QueryCanceled):
                sleep.end()
            assert busy.execute("SELECT 2").fetchone() == (2,)
            assert pause.is_alive()
            busy.commit()
            assert pause.end() == "PAUSE"
            console.wait_until("held", 2)
            after = Doing(lambda: busy.execute("SELECT 3").fetchone())
            console.says("RESUME")
            assert after.end() == (3,)


def test_one_database_is_paused_and_others_go_on(cluster, database, directory):
    with pausable(cluster, directory) as (osprey, console):
        with (
            osprey.endpoint(database).connect() as held,
            osprey.endpoint("postgres").connect() as other,
        ):
            assert console.says(f"PAUSE {database}") == "PAUSE"
            console.wait_until("held", 1)
            assert other.execute("SELECT 1").fetchone() == (1,)
            paused = "SELECT database FROM databases WHERE paused = true"
            assert console.says(paused) == database
            waits = Doing(lambda: held.execute("SELECT 1").fetchone())
            status, said = console.ask("RESUME postgres")
            assert status == 1 and "55000" in said
            assert console.says(f"RESUME {database}") == "RESUME"
            assert waits.end() == (1,)
        status, said = console.ask("RESUME")
        assert status == 1 and "nothing is paused" in said


def test_who_leaves_while_held_begins_nothing(cluster, database, directory):
    cluster.query(database, "CREATE TABLE marks (mark int)")
    cluster.query(database, "GRANT ALL ON marks TO PUBLIC")
    with pausable(cluster, directory) as (osprey, console):
        endpoint = osprey.endpoint(database, user="app_trust")
        with endpoint.connect() as polite, rawpg.Client.logged_in(endpoint) as rude:
            console.says("PAUSE")
            console.wait_until("held", 2)
            polite.close()
            console.wait_until("held", 1)
            rude.send(rawpg.query("INSERT INTO marks VALUES (1)"))
        osprey.wait_for_metric("osprey_sessions", 0)
        console.says("RESUME")
        assert cluster.query(database, "SELECT count(*) FROM marks") == [(0,)]


def test_held_sessions_are_ended_as_ever(cluster, database, directory):
    with pausable(cluster, directory) as (osprey, console):
        endpoint = osprey.endpoint(database)
        with endpoint.connect() as one, endpoint.connect() as two:
            console.says("PAUSE")
            console.wait_until("held", 2)
            first = console.says("SELECT id FROM sessions ORDER BY id LIMIT 1")
            console.says(f"KILL {first}")
            with pytest.raises(psycopg.OperationalError, match="terminating connection"):
                one.execute("SELECT 1")
            login = Doing(lambda: endpoint.connect())
            phase = "SELECT count(*) FROM sessions WHERE phase = 'login'"
            harness.wait_for(lambda: console.says(phase) == "1", "the login")
            assert osprey.stop() == 0
            with pytest.raises(psycopg.OperationalError, match="Osprey is shutting down"):
                two.execute("SELECT 1")
            with pytest.raises(psycopg.OperationalError, match="shutting down"):
                login.end()


def test_a_pause_that_is_taken_back_meanwhile_has_not_been_in_force(cluster, database, directory):
    with pausable(cluster, directory) as (osprey, console):
        with osprey.endpoint(database).connect() as connection:
            connection.execute("BEGIN")
            pause = Doing(lambda: console.ask("PAUSE"))
            osprey.wait_for_metric("osprey_paused", 1)
            assert console.says("RESUME") == "RESUME"
            status, said = pause.end()
            assert status != 0 and "55000" in said and "taken back" in said
            connection.execute("COMMIT")


def test_a_forgotten_pause_ends(cluster, database, directory):
    with pausable(cluster, directory, timeout="1ms") as (osprey, console):
        with osprey.endpoint(database).connect() as connection:
            console.says("PAUSE")
            osprey.says("nobody said RESUME")
            assert connection.execute("SELECT 1").fetchone() == (1,)


def test_the_time_of_idle_sessions_stands_still(cluster, database, directory):
    limits = '[limits]\nidle_session_timeout = "300ms"\n'
    with pausable(cluster, directory, more=limits) as (osprey, console):
        with osprey.endpoint(database).connect() as held:
            console.says(f"PAUSE {database}")
            console.wait_until("held", 1)
            # One that is not held meets its end meanwhile, twice.
            for _ in range(2):
                with osprey.endpoint("postgres").connect() as idle:
                    osprey.wait_for_metric("osprey_sessions", 1)
                    with pytest.raises(psycopg.OperationalError, match="idle-session"):
                        idle.execute("SELECT 1")
            waits = Doing(lambda: held.execute("SELECT 1").fetchone())
            console.says("RESUME")
            assert waits.end() == (1,)
