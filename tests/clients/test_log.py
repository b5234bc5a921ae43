"""The log's reader stops, goes away or has a full disk: no session, no probe and no end of the process
waits for it or fails with it; and what is lost is counted and said."""

import contextlib
import fcntl
import json
import os
import re
import signal
import subprocess
import threading
import urllib.error
import urllib.request

import psycopg
import pytest

import conftest
import harness
import rawpg

# What they log at level debug is more than a pipe of one page holds.
SESSIONS = 100


class Unread(harness.Osprey):
    """An Osprey whose standard error is `sink`: nothing reads a log of it."""

    def __init__(self, cluster, sink, level="debug"):
        super().__init__(cluster.port, ["--log", level])
        self.sink = sink

    def start(self):
        self.process = subprocess.Popen(
            self.command,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=self.sink,
            stderr=self.sink,
        )
        self._reader = threading.Thread(target=lambda: None)
        self._reader.start()
        harness.wait_for(self.is_ready, "/readyz to answer")
        return self

    def is_ready(self):
        try:
            address = f"http://127.0.0.1:{self.metrics_port}/readyz"
            return urllib.request.urlopen(address, timeout=5).status == 200
        except (urllib.error.URLError, ConnectionError):
            return False


@contextlib.contextmanager
def pipe():
    """The two ends of a pipe that holds little, as files."""
    reading, writing = os.pipe()
    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 4096)
    with open(reading, "rb", buffering=0) as reader, open(writing, "wb", buffering=0) as writer:
        yield reader, writer


def use(osprey, database, sessions=SESSIONS):
    for _ in range(sessions):
        with osprey.endpoint(database).connect(connect_timeout=10) as connection:
            assert connection.execute("SELECT 1").fetchone() == (1,)


def end(osprey):
    """SIGTERM; the exit status, in time."""
    osprey.process.send_signal(signal.SIGTERM)
    return osprey.process.wait(20)


def test_reader_has_stopped(cluster, database):
    conftest.need_osprey()
    with pipe() as (reader, writer), Unread(cluster, writer) as osprey:
        writer.close()
        use(osprey, database)
        assert osprey.is_ready()
        assert end(osprey) == 0


def test_reader_comes_back(cluster, database, tmp_path):
    """What was lost meanwhile is counted, and said."""
    conftest.need_osprey()
    fifo = tmp_path / "log"
    os.mkfifo(fifo)
    first = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    with open(fifo, "wb", buffering=0) as writer, Unread(cluster, writer) as osprey:
        writer.close()
        os.close(first)
        use(osprey, database, 5)
        assert osprey.metric("osprey_log_lines_lost_total") > 0
        lines = []
        with open(os.open(fifo, os.O_RDONLY | os.O_NONBLOCK), "rb", buffering=0) as again:
            os.set_blocking(again.fileno(), True)
            use(osprey, database, 1)
            assert end(osprey) == 0
            lines = again.read().decode()
    assert re.search(r"WARN.*log lines were lost.*lost\S*=\S*[1-9]", lines), lines


def test_reader_is_gone(cluster, database):
    conftest.need_osprey()
    with pipe() as (reader, writer), Unread(cluster, writer) as osprey:
        writer.close()
        reader.close()
        use(osprey, database, 5)
        assert osprey.is_ready()
        assert osprey.metric("osprey_log_lines_lost_total") > 0
        osprey.process.send_signal(signal.SIGHUP)
        use(osprey, database, 5)
        assert end(osprey) == 0


def test_disk_is_full(cluster, database):
    conftest.need_osprey()
    with open("/dev/full", "wb", buffering=0) as full, Unread(cluster, full) as osprey:
        use(osprey, database, 5)
        assert osprey.is_ready()
        assert end(osprey) == 0


@pytest.mark.parametrize("stream", ["closed", "full"])
def test_mistakes_are_no_crash(stream, tmp_path):
    """Exit status 2 says it where standard error cannot."""
    conftest.need_osprey()
    command = [harness.osprey_binary(), "serve", "--log", "verbose"]
    with open("/dev/full", "wb", buffering=0) as full, pipe() as (reader, writer):
        reader.close()
        sink = writer if stream == "closed" else full
        assert subprocess.run(command, stderr=sink, timeout=20).returncode == 2


def test_every_line_is_json(cluster, database, tmp_path):
    """Also the one that scripts wait for, and what a reload finds wrong."""
    conftest.need_osprey()
    config = tmp_path / "osprey.toml"
    config.write_text("")
    arguments = ["--log-format", "json", "--log", "warn"]
    with harness.Osprey(cluster.port, arguments, config=config) as osprey:
        osprey.reload("[limits]\nmax_sesions = 1\n", "not in force")
        use(osprey, database, 1)
    lines = [json.loads(line) for line in osprey.log().splitlines()]
    accepting = [line for line in lines if "accepting connections" in line["message"]]
    assert [line["address"] for line in accepting] == [f"127.0.0.1:{osprey.port}"]
    assert any("max_sesions" in line["message"] for line in lines)
    for line in lines:
        assert {"timestamp", "level", "message", "target"} <= line.keys(), line


class Indiscreet(rawpg.Played):
    """Quotes what its client sent, as PostgreSQL does with options that it does not take."""

    def authenticate(self, connection, parameters):
        connection.sendall(rawpg.message(b"R", b"\0\0\0\3"))
        password = self.message(connection)[1].rstrip(b"\0").decode()
        text = f"invalid argument: {parameters['options']}; login with {password} refused"
        connection.sendall(rawpg.error("FATAL", "28000", text))
        raise EOFError


def test_what_a_server_quotes_is_not_logged(tmp_path):
    """The client gets all of it."""
    conftest.need_osprey()
    secrets = ["CAESsecret+/==", "correct horse"]
    config = tmp_path / "osprey.toml"
    config.write_text('[upstream.tls]\nmode = "disable"\n[catalog]\nborrow = false\n')
    server = Indiscreet()
    with server, harness.Osprey(server.port, ["--log", "debug"], config=config) as osprey:
        with rawpg.Client("127.0.0.1", osprey.port) as client:
            options = f"-c type=fixed -c sts_token={secrets[0]}"
            client.start_up(user="app", database="dw", options=options)
            assert client.receive()[0] == b"R"
            client.send(rawpg.message(b"p", secrets[1].encode() + b"\0"))
            fields = rawpg.error_fields(client.until_closed()[-1][1])
        for secret in secrets:
            assert secret in fields["M"]
        osprey.says("Hologres refused the login")
    for secret in secrets:
        assert secret not in osprey.log()


CONSOLE = ["sessions", "databases", "statements", "config", "lessons", "keys", "upstreams", "limits", "stats"]


def test_at_no_level_is_a_secret_written_anywhere(cluster, database, tmp_path):
    """Neither passwords nor what startup options carry: in the log, the metrics, on the status page or on
    the console."""
    conftest.need_osprey()
    secret = "CAESISEsecret"
    config = tmp_path / "osprey.toml"
    config.write_text(f'[console]\nsocket = "{tmp_path}"\n')
    written = []
    with harness.Osprey.in_front_of(cluster, "--log", "trace", config=config) as osprey:
        for user in ("app", "app_md5", "app_password"):
            options = f"-c search_path=public,{secret} -c DateStyle=ISO"
            with osprey.endpoint(database, user=user).connect(options=options) as connection:
                assert secret in connection.execute("SHOW search_path").fetchone()[0]
                connection.execute("SELECT count(*) FROM salaries WHERE name <> %s", [secret])
                with contextlib.suppress(psycopg.Error):
                    connection.execute(f"SELECT '{secret}' FROM no_such_table")
                with psycopg.connect(
                    host=str(tmp_path), port=6432, dbname="osprey", user="anyone", autocommit=True
                ) as console:
                    for table in CONSOLE:
                        written.append(str(console.execute(f"SHOW {table}").fetchall()))
            with pytest.raises(psycopg.OperationalError):
                osprey.endpoint(database, user=user, password=f"{secret}!").connect(options=options)
        for page in ("/metrics", "/", "/readyz"):
            address = f"http://127.0.0.1:{osprey.metrics_port}{page}"
            with urllib.request.urlopen(address, timeout=10) as answer:
                written.append(answer.read().decode())
    written.append(osprey.log())
    assert "TRACE" in written[-1]
    for text in written:
        assert secret not in text
        assert harness.PASSWORD not in text


@pytest.mark.parametrize("wanted", ["none", "protected", "all"])
def test_statements_are_logged_without_their_values(cluster, database, tmp_path, wanted):
    """By any protocol; and with the trace that a comment names."""
    config = tmp_path / "osprey.toml"
    config.write_text(f'[observe]\nlog_statements = "{wanted}"\nlog_format = "json"\n')
    parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    with harness.Osprey.in_front_of(cluster, config=config) as osprey:
        osprey.wait_until_known(database)
        with osprey.endpoint(database).connect(application_name="board") as client:
            client.execute(f"SELECT 'hush' /*app='x',traceparent='{parent}'*/")
            client.execute("SELECT count(*) FROM salaries WHERE name = %s", ["hush"])
            client.execute("SELECT count(*) FROM salaries WHERE id <> 471147114", prepare=True)
        osprey.stop()
    lines = [json.loads(line) for line in osprey.log().splitlines()]
    assert "hush" not in osprey.log() and "471147114" not in osprey.log()
    told = [line for line in lines if line["message"] == "a statement was sent"]
    told = [line for line in told if line.get("application") == "board"]
    plain = [line for line in told if "relation" not in line]
    protected = [line for line in told if "relation" in line]
    assert [line["statement"] for line in plain] == (["SELECT ?"] if wanted == "all" else [])
    assert [line["traceparent"] for line in plain] == [parent] * len(plain)
    assert [(line["statement"], line["prepared"]) for line in protected] == ([] if wanted == "none" else [
        ("SELECT count(*) FROM salaries WHERE name = $1", True),
        ("SELECT count(*) FROM salaries WHERE id <> ?", True),
    ])
    for line in protected:
        assert (line["project"], line["database"]) == ("finance_byok", database)
