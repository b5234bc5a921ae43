"""Faults of the server, of the network and of the machine: what each client sees of them."""

import contextlib
import os
import pathlib
import signal
import struct
import subprocess
import threading
import time

import psycopg
import pytest

import attacks
import conftest
import harness
import rawpg

PLAYED = attacks.PLAYED


@pytest.fixture(autouse=True)
def built():
    conftest.need_osprey()


# Refused before anything was said.

# As PostgreSQL's postmaster says it, of protocol 2.
FORK = b"Ecould not fork new process for connection: Cannot allocate memory\n\0"


class Forkless(rawpg.Server):
    """A server that answers so, to SSLRequest or to the first packet that is none."""

    def __init__(self, answer, tls_first):
        self.answer, self.tls_first = answer, tls_first
        super().__init__()

    def serve(self, connection):
        with connection, contextlib.suppress(OSError, EOFError):
            if connection.recv(8) == rawpg.SSL_REQUEST and not self.tls_first:
                connection.sendall(b"N")
                connection.recv(1)
            connection.sendall(self.answer)


def test_a_name_that_leads_to_osprey_itself(tmp_path):
    """One client would have it open sessions with itself until no file is left."""
    port = harness.free_port()
    config = tmp_path / "osprey.toml"
    upstream = f'[listen]\naddresses = ["127.0.0.1:{port}"]\n[upstream]\naddress = "127.1:{port}"\n'
    with harness.Osprey.from_file(config, upstream + PLAYED, port=port) as osprey:
        with pytest.raises(psycopg.OperationalError, match="which is Osprey itself, and not Hologres"):
            osprey.endpoint("postgres").connect()
        assert osprey.metric("osprey_sessions_opened_total") == 1


@pytest.mark.parametrize(
    "answer", [FORK, rawpg.error("FATAL", "53300", FORK[1:-2].decode())], ids=["protocol 2", "protocol 3"]
)
@pytest.mark.parametrize("tls_first", [True, False])
def test_the_reason_of_a_server_that_has_not_begun(tmp_path, answer, tls_first):
    config = tmp_path / "osprey.toml"
    config.write_text('[upstream.tls]\nmode = "prefer"\n[catalog]\nborrow = false\n')
    with Forkless(answer, tls_first) as server, harness.Osprey(server.port, config=config) as osprey:
        with pytest.raises(psycopg.OperationalError, match="FATAL: .*could not fork new process") as error:
            psycopg.connect(host="127.0.0.1", port=osprey.port, user="u", dbname="d", connect_timeout=10)
        assert "TLS" not in str(error.value)


# Cut off.

ROW = rawpg.message(b"D", struct.pack("!hi", 1, 3) + b"one")
SCRIPT = (
    rawpg.message(b"T", struct.pack("!h", 1) + b"a\0" + struct.pack("!ihihih", 0, 0, 25, -1, -1, 0))
    + ROW * 2
    + rawpg.message(b"N", b"SNOTICE\0C00000\0Mx\0\0")
    + rawpg.message(b"C", b"SELECT 2\0")
    + rawpg.READY
)


class Cutting(rawpg.Played):
    """Answers a Query that is a number by so many bytes, and then ends the connection."""

    def __init__(self, how):
        self.how = how
        super().__init__()

    def answer(self, connection, kind, body):
        connection.sendall(SCRIPT[: int(body[:-1])])
        if self.how == "reset":
            rawpg.reset(connection)
        raise EOFError


@pytest.mark.parametrize("how", ["close", "reset"])
def test_cut_at_every_byte(tmp_path, how):
    """The client has all whole messages, perhaps the beginning of the next, and the end of the connection, or a
    FATAL where a message may begin; never an answer that looks whole and is not."""
    config = tmp_path / "osprey.toml"
    config.write_text(PLAYED)
    boundaries = {0}
    for kind, payload in rawpg.split(SCRIPT):
        boundaries.add(max(boundaries) + 5 + len(payload))
    with Cutting(how) as server, harness.Osprey(server.port, config=config) as osprey:
        # A reset waits until what was sent has been acknowledged.
        for cut in range(0, len(SCRIPT) + 1, 1 if how == "close" else 5):
            with rawpg.Client.logged_in(osprey.endpoint("d")) as client:
                client.send(rawpg.query(str(cut)))
                data, _ = rawpg.read_to_the_end(client.socket)
            whole = max(end for end in boundaries if end <= cut)
            # Of a message that Osprey looks into, nothing is passed on before it is whole.
            same = cut if data[:cut] == SCRIPT[:cut] else whole
            assert data[:same] == SCRIPT[:same], cut
            rest = data[same:]
            if rest:
                assert same == whole, cut
                [(kind, payload)] = rawpg.split(rest)
                assert (kind, rawpg.error_fields(payload)["S"]) == (b"E", "FATAL")
        osprey.wait_for_metric("osprey_sessions", 0)


# Slow.


class Dribble(rawpg.Server):
    """A relay that passes on a few bytes at a time, with a rest between them."""

    def __init__(self, port):
        self.target = port
        super().__init__()

    def serve(self, connection):
        server = rawpg.socket.create_connection(("127.0.0.1", self.target))
        for source, sink in [(connection, server), (server, connection)]:
            source.setsockopt(rawpg.socket.IPPROTO_TCP, rawpg.socket.TCP_NODELAY, 1)
            threading.Thread(target=self._carry, args=(source, sink), daemon=True).start()

    @staticmethod
    def _carry(source, sink):
        with contextlib.suppress(OSError):
            while data := source.recv(7):
                time.sleep(0.0005)
                sink.sendall(data)
            sink.shutdown(rawpg.socket.SHUT_WR)


def test_slow_network(cluster, database):
    """Seven bytes at a time, on both sides: everything is as ever, a statement that is run again included."""
    arguments = ["--encrypted-project", "finance_byok"]
    with Dribble(cluster.port) as behind:
        with harness.Osprey(behind.port, arguments) as osprey, Dribble(osprey.port) as front:
            endpoint = harness.Endpoint("127.0.0.1", front.port, database, "osprey")
            with endpoint.connect() as connection:
                assert connection.execute("SELECT count(*) FROM salaries").fetchone() == (1000,)
                # Not known to be encrypted: HQE fails, and it is run again.
                assert len(connection.execute("SELECT * FROM events").fetchall()) == 20
                with pytest.raises(psycopg.errors.QueryCanceled):
                    connection.execute("SET statement_timeout = '50ms'; SELECT pg_sleep(20)")
                connection.execute("INSERT INTO notes (note) VALUES ('slow')")
                row = connection.execute("SELECT count(*) FROM notes WHERE note = 'slow'").fetchone()
                assert row == (1,)


# Frozen, killed, restarted.


def processes(cluster):
    """The server's: the first one, and its children."""
    first = cluster.process.pid
    found = pathlib.Path(f"/proc/{first}/task/{first}/children").read_text().split()
    return [first, *map(int, found)]


def refusal(osprey, seconds):
    """How a new client is turned away, and that within so many seconds."""
    begun = time.monotonic()
    with rawpg.Client("127.0.0.1", osprey.port, timeout=60) as client:
        client.start_up(user="app_trust", database="postgres")
        messages = client.until_closed()
    assert time.monotonic() - begun < seconds
    assert rawpg.kinds(messages) == "E", messages
    return rawpg.error_fields(messages[0][1])


def works(endpoint):
    with contextlib.suppress(OSError, AssertionError), rawpg.Client.logged_in(endpoint) as client:
        return rawpg.kinds(client.ask(rawpg.query("SELECT 1"))) == "TDCZ"
    return False


def test_a_server_that_freezes_crashes_and_comes_back(extension, tmp_path):
    config = tmp_path / "osprey.toml"
    config.write_text(
        '[upstream]\naddress = "127.0.0.1:1"\nconnect_timeout = "1s"\n'
        '[upstream.tls]\nmode = "disable"\n[limits]\nlogin_timeout = "1s"\n[catalog]\nborrow = false\n'
    )
    with harness.Cluster() as cluster, harness.Osprey(cluster.port, config=config) as osprey:
        endpoint = osprey.endpoint(cluster.create_database("frozen"))
        with rawpg.Client.logged_in(endpoint) as running, rawpg.Client.logged_in(endpoint) as idle:
            assert rawpg.kinds(running.ask(rawpg.query("CREATE TABLE t (a int)"))) == "CZ"
            stopped = processes(cluster)
            for process in stopped:
                os.kill(process, signal.SIGSTOP)
            try:
                running.send(rawpg.query("INSERT INTO t VALUES (1) RETURNING a"))
                # A new client is told so.
                fields = refusal(osprey, 20)
                assert fields["S"] == "FATAL" and fields["C"] in ("08006", "57014"), fields
                # Who waits, waits.
                running.socket.settimeout(0.3)
                with pytest.raises(TimeoutError):
                    running.socket.recv(1)
                running.socket.settimeout(20)
            finally:
                for process in stopped:
                    os.kill(process, signal.SIGCONT)
            # And has its answer as if nothing had been.
            answer = running.until_ready()
            assert rawpg.kinds(answer) == "TDCZ" and answer[1][1].endswith(b"1")
            assert rawpg.kinds(idle.ask(rawpg.query("SELECT a FROM t"))) == "TDCZ"

            # A crash: a backend is killed, and the server ends all others.
            running.send(rawpg.query("BEGIN; INSERT INTO t VALUES (2); SELECT pg_sleep(60)"))
            activity = "SELECT pid FROM pg_stat_activity WHERE query LIKE 'BEGIN; INS%'"
            [(victim,)] = harness.wait_for(lambda: cluster.query("postgres", activity), "the statement")
            os.kill(victim, signal.SIGKILL)
            for client in (running, idle):
                messages = client.until_closed()
                assert "Z" not in rawpg.kinds(messages), messages
                assert all(kind in (b"E", b"N", b"T", b"C") for kind, _ in messages)
            harness.wait_for(lambda: works(endpoint), "the server to recover")
            with rawpg.Client.logged_in(endpoint) as client:
                rows = [payload[-1:] for kind, payload in client.ask(rawpg.query("SELECT a FROM t"))]
                assert rows.count(b"1") >= 1 and b"2" not in rows, "what was not committed is not there"

            # Gone: refused, until it is back.
            cluster.process.send_signal(signal.SIGQUIT)
            cluster.process.wait(30)
            assert refusal(osprey, 20)["C"] == "08006"
            cluster.launch()
            harness.wait_for(lambda: works(endpoint), "the server to be back")


# The catalog account.


def test_the_catalog_accounts_password_is_rotated(extension, tmp_path):
    """What is known stays in use; the log says what is wrong; and a reload brings the new password."""
    password = tmp_path / "password"
    password.write_text(harness.PASSWORD)
    password.chmod(0o600)
    config = tmp_path / "osprey.toml"
    port = harness.free_port()
    with harness.Cluster() as cluster:
        database = cluster.create_database("rotated")
        text = f"""
[listen]
addresses = ["127.0.0.1:{port}"]
[upstream]
address = "127.0.0.1:{cluster.port}"
[upstream.tls]
mode = "disable"
[protect]
projects = ["finance_byok"]
[catalog]
user = "osprey_catalog"
password_file = "{password}"
refresh = "1s"
"""
        with harness.Osprey.from_file(config, text, port) as osprey:
            osprey.wait_until_known(database)
            cluster.query("postgres", "ALTER ROLE osprey_catalog PASSWORD 'another'")
            osprey.says("password authentication failed")
            cluster.reset_counters(database)
            with osprey.endpoint(database).connect() as connection:
                assert connection.execute("SELECT count(*) FROM salaries").fetchone() == (1000,)
            assert cluster.scans(database)["HQE"] == (0, 0), "what was known still is"
            password.write_text("another")
            osprey.reload()
            # What is new since is known, too.
            with cluster.admin(database) as admin:
                admin.execute("CREATE VIEW newer AS SELECT * FROM salaries")
                admin.execute("GRANT ALL ON newer TO PUBLIC")

            def is_known():
                with osprey.endpoint(database).connect() as connection:
                    plan = connection.execute("EXPLAIN SELECT * FROM newer").fetchall()
                return "Engine: SQE" in "\n".join(row[0] for row in plan)

            harness.wait_for(is_known, osprey.log, 30)


# The machine.


def test_no_room_for_the_snapshot(cluster, database, tmp_path):
    """Nothing can be written: it is said, and sessions go on, with what was learned."""
    snapshot = tmp_path / "keys.json"
    config = tmp_path / "osprey.toml"
    config.write_text(f'[keys]\nsnapshot = "{snapshot}"\n[catalog]\nborrow = false\n')
    osprey = harness.Osprey(cluster.port, config=config)
    # As a disk that is full: writing fails, and no signal comes.
    full = ["sh", "-c", "trap '' XFSZ; ulimit -f 0; exec \"$@\"", "sh"]
    osprey.command = full + osprey.command
    with osprey:
        with osprey.endpoint(database).connect() as connection:
            for _ in range(2):
                assert connection.execute("SELECT count(*) FROM salaries").fetchone() == (1000,)
            osprey.says("cannot write keys.snapshot")
            cluster.reset_counters(database)
            assert connection.execute("SELECT count(*) FROM salaries").fetchone() == (1000,)
            assert cluster.scans(database)["HQE"] == (0, 0), "it is known what was learned"
        assert osprey.stop() == 0
    assert not snapshot.exists() and not list(tmp_path.glob("*.new"))
