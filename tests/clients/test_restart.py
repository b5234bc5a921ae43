"""Restarts in which the next process takes the listening sockets over: nobody is refused, and no
transaction is lost."""

import contextlib
import json
import os
import pathlib
import re
import signal
import socket
import struct
import subprocess
import sys
import threading
import time

import psycopg
import pytest

import conftest
import harness
from test_lifecycle import Manager
from test_reload import certificate_shown, other_certificate

# How many clients pgbench has: half of them connect anew for each transaction.
CLIENTS = int(os.environ.get("OSPREY_RESTART_CLIENTS", "40"))
# And for how long they go on at the least, in seconds.
SECONDS = int(os.environ.get("OSPREY_RESTART_SECONDS", "5"))
# And how often Osprey is restarted meanwhile.
RESTARTS = SECONDS * 3 // 5

CONFIG = """
[catalog]
borrow = false
[takeover]
socket = "{directory}/takeover"
drain_after = "{drain_after}"
[console]
socket = "{directory}/.s.PGSQL.6432"
[keys]
snapshot = "{directory}/keys.json"
"""


class Succession:
    """Processes that take over from one another, at the same addresses."""

    def __init__(self, cluster, directory, stack):
        self.cluster = cluster
        self.directory = directory
        self.config = directory / "osprey.toml"
        self.stack = stack
        self.all = []

    def configure(self, more="", drain_after="1h"):
        text = CONFIG.format(directory=self.directory, drain_after=drain_after)
        self.config.write_text(text + more)

    def next(self, environment=None):
        """One more process, which is started by hand."""
        osprey = harness.Osprey(self.cluster.port, config=self.config, environment=environment)
        if self.all:
            osprey.command = self.all[0].command
            osprey.port, osprey.metrics_port = self.all[0].port, self.all[0].metrics_port
        self.stack.enter_context(osprey)
        self.all.append(osprey)
        return osprey

    def fail(self, status):
        """One more process, which does not get so far; what it says."""
        done = subprocess.run(self.all[0].command, capture_output=True, text=True, timeout=60)
        assert done.returncode == status, done.stderr
        return done.stderr

    def console(self, statement):
        done = subprocess.run(
            [harness.PG_BIN / "psql", "-XAt", "-h", self.directory, "-p", "6432", "osprey"]
            + ["-c", statement],
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()


@pytest.fixture
def crowded(cluster):
    """A cluster that takes all of pgbench's clients, and a database in it."""
    with contextlib.ExitStack() as stack:
        if CLIENTS > 100:
            most = {"max_connections": 2 * CLIENTS}
            cluster = stack.enter_context(harness.Cluster(settings=most))
        database = cluster.create_database("crowded")
        stack.callback(cluster.drop_database, database)
        yield cluster, database


@pytest.fixture
def succession(cluster, tmp_path_factory):
    conftest.need_osprey()
    # A socket's path must be short.
    directory = tmp_path_factory.mktemp("r")
    with contextlib.ExitStack() as stack:
        made = Succession(cluster, directory, stack)
        made.configure()
        yield made


def ended(osprey):
    """Waits for the end of a process; its exit status."""
    status = osprey.process.wait(30)
    assert "panicked at" not in osprey.log(), osprey.log()
    return status


class Pgbench:
    """pgbench, with a transaction that leaves a row, until it is told to end."""

    def __init__(self, endpoint, directory, clients, *arguments, sslmode="disable"):
        script = directory / "transaction.sql"
        script.write_text("BEGIN;\nINSERT INTO turnover VALUES (:client_id);\nCOMMIT;\n")
        self.until = time.monotonic() + SECONDS
        self.process = subprocess.Popen(
            [harness.PG_BIN / "pgbench", "-n", "-f", script, "-c", str(clients)]
            + ["-j", "4", "-T", "600", *arguments],
            env={**endpoint.environment(), "PGSSLMODE": sslmode},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def end(self):
        """Ends it, as its own timer would; how many transactions it has done."""
        time.sleep(max(self.until - time.monotonic(), 0))
        self.process.send_signal(signal.SIGALRM)
        out, err = self.process.communicate(timeout=120)
        assert self.process.returncode == 0, out + err
        assert "failed" not in err and "aborted" not in err, err
        failed = re.search(r"number of failed transactions: (\d+)", out)
        assert failed is None or failed[1] == "0", out
        print(out)
        return int(re.search(r"number of transactions actually processed: (\d+)", out)[1])


def test_pgbench_notices_nothing(succession, crowded, tls_cluster):
    cluster, database = crowded
    succession.cluster = cluster
    for end in ("crt", "key"):
        text = (tls_cluster.directory / f"server.{end}").read_bytes()
        (succession.directory / f"server.{end}").write_bytes(text)
    succession.configure(
        f"""
[listen.tls]
certificate = "{succession.directory}/server.crt"
key = "{succession.directory}/server.key"
"""
    )
    cluster.query(database, "CREATE TABLE turnover (client int)")
    cluster.query(database, "GRANT INSERT ON turnover TO PUBLIC")
    first = succession.next()
    endpoint = first.endpoint(database, user="app_trust")
    directory = succession.directory
    anew = Pgbench(endpoint, directory, CLIENTS // 2, "-C", sslmode="require")
    persistent = Pgbench(endpoint, directory, CLIENTS // 2)

    def rows():
        return cluster.query(database, "SELECT count(*) FROM turnover")[0][0]

    def goes_on():
        before = rows()
        harness.wait_for(lambda: rows() > before + 20, "pgbench to go on")

    goes_on()
    shown = certificate_shown(first.port)
    for number in range(RESTARTS):
        goes_on()
        if number == RESTARTS // 2:
            other_certificate(directory)
            (directory / "new.crt").replace(directory / "server.crt")
            (directory / "new.key").replace(directory / "server.key")
            succession.all[-1].reload()
            assert certificate_shown(first.port) != shown
            goes_on()
        succession.next()
        assert anew.process.poll() is None and persistent.process.poll() is None
    assert anew.end() + persistent.end() == rows()
    for osprey in succession.all[:-1]:
        assert ended(osprey) == 0
    last = succession.all[-1]
    last.wait_for_metric("osprey_predecessors", 0)
    assert last.metric("osprey_sessions_refused_total") == 0


def test_what_the_old_process_has_is_served_to_its_end(succession, database):
    first = succession.next()
    endpoint = first.endpoint(database)
    with endpoint.connect(autocommit=False) as busy, endpoint.connect() as sleeping:
        busy.execute("SELECT 1")
        second = succession.next()
        second.wait_for_metric("osprey_predecessor_sessions", 2)
        with endpoint.connect() as another:
            third = succession.next()
            third.wait_for_metric("osprey_predecessors", 2)
            third.wait_for_metric("osprey_predecessor_sessions", 3)
            assert third.metric("osprey_sessions") == 0
            # A cancel request goes to the process that listens, which does not know the key.
            caught = []

            def sleep():
                with pytest.raises(psycopg.errors.QueryCanceled):
                    sleeping.execute("SELECT pg_sleep(60)")
                caught.append(True)

            thread = threading.Thread(target=sleep)
            thread.start()
            active = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%%pg_sleep(60)' AND pid = %s"
            pid = sleeping.info.backend_pid
            harness.wait_for(
                lambda: succession.cluster.query(database, active, pid)[0][0], "the statement"
            )
            sleeping.cancel()
            thread.join(20)
            assert caught
            assert third.metric("osprey_cancel_requests_total", outcome="unknown") == 1
            assert another.execute("SELECT 1").fetchone() == (1,)
        assert ended(second) == 0
        third.wait_for_metric("osprey_predecessors", 1)
        assert busy.execute("SELECT 2").fetchone() == (2,)
        busy.commit()
        assert busy.execute("SELECT 3").fetchone() == (3,)
    assert ended(first) == 0
    third.wait_for_metric("osprey_predecessors", 0)


def test_sessions_have_until_drain_after(succession, database):
    succession.configure(drain_after="1ms")
    first = succession.next()
    endpoint = first.endpoint(database)
    with endpoint.connect(autocommit=False) as busy, endpoint.connect() as idle:
        busy.execute("SELECT 1")
        succession.next()
        first.says("draining")
        with pytest.raises(psycopg.OperationalError, match="Osprey is shutting down"):
            idle.execute("SELECT 1")
        busy.execute("SELECT 2")
        busy.commit()
        assert ended(first) == 0
        with endpoint.connect() as new:
            assert new.execute("SELECT 1").fetchone() == (1,)


def test_a_process_that_cannot_start_changes_nothing(succession, database):
    first = succession.next()
    endpoint = first.endpoint(database)
    right = succession.config.read_text()
    with endpoint.connect() as connection, socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        succession.config.write_text(right + "[limits]\nmax_sesions = 1\n")
        assert "max_sesions" in succession.fail(2)
        # This one gets as far as being given the sockets.
        succession.config.write_text(right)
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        command = first.command
        first.command = [*command, "--listen", address]
        assert f"cannot listen on {address}" in succession.fail(1)
        first.command = command
        first.says("this process serves on")
        assert connection.execute("SELECT 1").fetchone() == (1,)
        with endpoint.connect() as new:
            assert new.execute("SELECT 1").fetchone() == (1,)
        assert succession.console("SHOW SESSIONS LIKE 'nobody'") == ""
        assert first.process.poll() is None
    second = succession.next()
    assert ended(first) == 0
    assert second.metric("osprey_predecessors") == 0


def test_the_console_goes_along(succession):
    pid = "SELECT pid FROM version"
    first = succession.next()
    assert succession.console(pid) == str(first.process.pid)
    second = succession.next()
    assert ended(first) == 0
    assert succession.console(pid) == str(second.process.pid)
    files = [succession.directory / name for name in ("takeover", ".s.PGSQL.6432")]
    assert all(file.is_socket() for file in files)
    assert [file.stat().st_mode & 0o777 for file in files] == [0o600, 0o600]
    assert second.stop() == 0
    assert not any(file.exists() for file in files)


@contextlib.contextmanager
def two_users(cluster, endpoint):
    """Two pairs of sessions of two users, in two databases: what both of a pair have met is believed for
    all."""
    other = cluster.create_database(f"{endpoint.dbname}_other")
    with contextlib.ExitStack() as stack:
        stack.callback(cluster.drop_database, other)

        def pair():
            users = [{}, {"user": "app_trust", "dbname": other}]
            return [stack.enter_context(endpoint.connect(**user)) for user in users]

        yield {"early": pair(), "late": pair()}


def test_what_the_old_process_learns_is_not_lost(succession, database):
    """Before and after the takeover: the file has it, and so has the process that serves now."""
    first = succession.next()
    endpoint = first.endpoint(database)
    keys = "SELECT project FROM keys ORDER BY project"
    with two_users(succession.cluster, endpoint) as sessions:
        for session in sessions["early"]:
            session.execute("SELECT count(*) FROM events")
        assert succession.console(keys) == "learned_byok"
        second = succession.next()
        assert succession.console(keys) == "learned_byok"
        for session in sessions["late"]:
            session.execute("SELECT count(*) FROM salaries")
        assert succession.console(keys) == "learned_byok"
    assert ended(first) == 0
    assert succession.console(keys) == "finance_byok\nlearned_byok"
    file = succession.directory / "keys.json"
    assert second.stop() == 0
    records = json.loads(file.read_text())["records"]
    assert [record["project"] for record in records] == ["finance_byok", "learned_byok"]


def test_what_it_learns_is_kept_if_nobody_listens(succession, database):
    first = succession.next()
    with two_users(succession.cluster, first.endpoint(database)) as sessions:
        second = succession.next()
        assert second.stop() == 0
        for session in sessions["late"]:
            session.execute("SELECT count(*) FROM salaries")
    assert ended(first) == 0
    assert "finance_byok" in (succession.directory / "keys.json").read_text()


def test_the_next_process_is_started_by_a_signal(succession, database):
    manager = Manager(succession.directory / "notify")
    environment = {"NOTIFY_SOCKET": str(manager.path), "WATCHDOG_USEC": "5000000"}
    first = succession.next(environment)
    manager.wait_for("READY=1")
    pids = []
    try:
        with first.endpoint(database).connect() as connection:
            first.process.send_signal(signal.SIGUSR2)
            # The service manager hears of it first by the one that it knows.
            manager.wait_for("MAINPID=")
            manager.wait_for("READY=1", "STATUS=accepting connections")
            pids = [int(pid) for pid in re.findall(r"was started pid=(\d+)", first.log())]
            assert len(pids) == 1
            assert succession.console("SELECT pid FROM version") == str(pids[0])
            assert connection.execute("SELECT 1").fetchone() == (1,)
            manager.said.clear()
        assert first.process.wait(30) == 0
        with first.endpoint(database).connect() as connection:
            assert connection.execute("SELECT 1").fetchone() == (1,)
        # It is not the service manager's process any more, and says nothing of its end.
        assert not any("STOPPING=1" in said for said in manager.said)
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGTERM)
    harness.wait_for(lambda: not pathlib.Path(f"/proc/{pids[0]}/exe").exists(), "its end")


def test_a_signal_without_a_socket_changes_nothing(cluster, database, tmp_path):
    conftest.need_osprey()
    with harness.Osprey(cluster.port) as osprey:
        osprey.process.send_signal(signal.SIGUSR2)
        osprey.says("takeover.socket is not set")
        with osprey.endpoint(database).connect() as connection:
            assert connection.execute("SELECT 1").fetchone() == (1,)


def message(text):
    encoded = json.dumps(text).encode()
    return struct.pack("!I", len(encoded)) + encoded


def answer(stream):
    length = struct.unpack("!I", stream.recv(4, socket.MSG_WAITALL))[0]
    return json.loads(stream.recv(length, socket.MSG_WAITALL))


@pytest.mark.parametrize(
    "hello",
    [
        {"protocol": 99, "version": "9.9", "request": "take-over"},
        {"protocol": 1, "version": "9.9", "request": "telepathy", "more": [1]},
    ],
)
def test_another_version_is_told_why(succession, hello):
    first = succession.next()
    with socket.socket(socket.AF_UNIX) as stream:
        stream.connect(str(succession.directory / "takeover"))
        stream.sendall(message(hello))
        said = answer(stream)
    assert said["refused"] and not said["sockets"]
    assert first.process.poll() is None


def test_who_cannot_be_taken_over_from_says_why(succession, cluster):
    """The other side of it: the process that starts says what it was told, and ends."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(succession.directory / "takeover"))
        listener.listen()

        def refuse():
            stream, _ = listener.accept()
            with stream:
                assert answer(stream)["request"] == "take-over"
                stream.sendall(message({"version": "0.0", "refused": "it is Tuesday"}))

        thread = threading.Thread(target=refuse)
        thread.start()
        command = harness.Osprey(cluster.port, config=succession.config).command
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        thread.join(10)
    assert done.returncode == 1
    assert "it is Tuesday" in done.stderr and "cannot take over" in done.stderr


def test_what_is_no_process_of_ours_is_turned_away(succession):
    first = succession.next()
    path = succession.directory / "takeover"
    for rubbish in (b"\xff\xff\xff\xff", b"GET / HTTP/1.1\r\n\r\n", message("x"), b""):
        with socket.socket(socket.AF_UNIX) as stream:
            stream.connect(str(path))
            stream.sendall(rubbish)
            stream.shutdown(socket.SHUT_WR)
            with contextlib.suppress(ConnectionResetError):
                assert stream.recv(1) == b""
    if os.geteuid() == 0:
        path.chmod(0o666)
        for folder in path.parents:
            if folder.stat().st_mode & 0o005 != 0o005:
                folder.chmod(0o755)
        hello = message({"protocol": 1, "version": "0", "request": "take-over"})
        script = f"""
import contextlib, socket, sys
with socket.socket(socket.AF_UNIX) as stream:
    stream.connect(sys.argv[1])
    with contextlib.suppress(ConnectionResetError, BrokenPipeError):
        stream.sendall({hello!r})
        assert stream.recv(1) == b""
"""
        subprocess.run([sys.executable, "-c", script, path], user="postgres", cwd="/", check=True)
        first.says("the other process is of user")
    succession.next()
    assert ended(first) == 0
