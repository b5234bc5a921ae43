"""How a session ends, whoever ends it: nothing is left running, nothing grows, no peer that is merely
slow is given up, and each side hears of the other's end as it happened."""

import contextlib
import ctypes
import os
import signal
import socket
import struct
import threading
import time

import pytest

import conftest
import harness
import rawpg

PLAYED = '[upstream.tls]\nmode = "disable"\n[catalog]\nborrow = false\n'
# The allocator gives back at once what is free, so that what is measured is what is in use.
PRECISE = {"MIMALLOC_PURGE_DELAY": "0"}
ENDLESS = harness.bulk(64 << 20)
BLOCK = b"x" * (1 << 16)
UNKNOWN_KIND = b"z" + struct.pack("!i", 4)
IMPOSSIBLE_LENGTH = b"Q" + struct.pack("!i", 1)


@contextlib.contextmanager
def in_front_of(server, tmp_path, more="", **options):
    """An Osprey in front of a played server."""
    conftest.need_osprey()
    config = tmp_path / "osprey.toml"
    config.write_text(PLAYED + more)
    with server, harness.Osprey(server.port, config=config, **options) as osprey:
        yield osprey


# Bytes that never end.


class LastWords(rawpg.Played):
    """Answers the first Query by a FATAL, and stays as it is."""

    def answer(self, connection, kind, body):
        connection.sendall(rawpg.error("FATAL", "57P01", "that was all"))
        time.sleep(60)


def pour(connection, size, seconds=10):
    """Sends without end, `size` bytes at most, until the peer has had enough or `seconds` are over."""
    connection.settimeout(0.2)
    end = time.monotonic() + seconds
    while size > 0 and time.monotonic() < end:
        try:
            size -= connection.send(BLOCK)
        except TimeoutError:
            continue
        except OSError:
            return


# How the session ends before the bytes begin.
ENDS = {
    "terminate": rawpg.query("SELECT pg_sleep(4)") + rawpg.TERMINATE,
    "protocol-error": rawpg.query("SELECT pg_sleep(4)") + UNKNOWN_KIND,
    # The client does not read, so that what it is told stays where it is.
    "protocol-error-unread": rawpg.query(
        "SELECT repeat('x', 1000) FROM generate_series(1, 100000)"
    )
    + IMPOSSIBLE_LENGTH,
    "fatal": rawpg.query("SELECT 1"),
}


@pytest.mark.parametrize("name", ENDS)
def test_endless_bytes_behind_the_end(cluster, tmp_path, small_pages, name):
    """They are bounded in memory and in time, though neither the client nor the server closes."""
    conftest.need_osprey()
    with contextlib.ExitStack() as stack:
        if name == "fatal":
            server = LastWords()
            osprey = stack.enter_context(in_front_of(server, tmp_path, environment=PRECISE))
        else:
            osprey = harness.Osprey.in_front_of(cluster)
            osprey.environment |= PRECISE
            stack.enter_context(osprey)
        endpoint = osprey.endpoint("postgres")
        for _ in range(5):
            rawpg.Client.logged_in(endpoint).close()
        osprey.wait_for_metric("osprey_sessions", 0)
        with rawpg.Client.logged_in(endpoint) as client:
            client.send(ENDS[name])
            time.sleep(0.3)
            before = osprey.peak_memory()
            osprey.forget_peak_memory()
            pour(client.socket, ENDLESS)
            grown = osprey.peak_memory() - before
            print(f"{grown >> 10} KiB more")
            assert grown < 8 << 20, f"{grown >> 10} KiB"
            osprey.wait_for_metric("osprey_sessions", 0)


# Peers that are slow.

TCP_USER_TIMEOUT = 18
SYS_PIDFD_OPEN, SYS_PIDFD_GETFD = 434, 438


def sockets(pid):
    """Copies of the established TCP connections of another process."""
    libc = ctypes.CDLL(None, use_errno=True)
    process = libc.syscall(SYS_PIDFD_OPEN, pid, 0)
    if process < 0:
        pytest.skip("the system lets no one look into another process' sockets")
    for name in os.listdir(f"/proc/{pid}/fd"):
        if not os.readlink(f"/proc/{pid}/fd/{name}").startswith("socket:"):
            continue
        descriptor = libc.syscall(SYS_PIDFD_GETFD, process, int(name), 0)
        if descriptor < 0:
            pytest.skip("the system lets no one look into another process' sockets")
        with socket.socket(fileno=descriptor) as copy:
            with contextlib.suppress(OSError):
                if copy.family == socket.AF_INET and copy.getpeername():
                    yield copy
    os.close(process)


@pytest.mark.parametrize(
    "setting, expected",
    [("", (60, 0)), ('tcp_keepalive = "30s"\n', (30, 0)), ('tcp_keepalive = "off"\n', (None, 0))]
    + [('tcp_user_timeout = "7s"\n', (60, 7000))],
)
def test_what_the_system_is_told_of_slow_peers(tmp_path, setting, expected):
    """A peer that is silent for a minute is asked whether it is there; none has to take or send
    anything within a time of ours, unless the configuration says so."""
    more = f"[limits]\n{setting}" if setting else ""
    with in_front_of(rawpg.Played(), tmp_path, more) as osprey:
        with rawpg.Client.logged_in(osprey.endpoint("d")):
            seen = []
            for one in sockets(osprey.process.pid):
                alive = one.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
                idle = one.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE)
                timeout = one.getsockopt(socket.IPPROTO_TCP, TCP_USER_TIMEOUT)
                seen.append((idle if alive else None, timeout))
    assert seen == [expected, expected]


class Torrent(rawpg.Played):
    """Answers a Query by rows of 32 MB in all."""

    rows = 500
    row = rawpg.message(b"D", struct.pack("!hi", 1, 1 << 16) + BLOCK)

    def answer(self, connection, kind, body):
        for _ in range(self.rows):
            connection.sendall(self.row)
        connection.sendall(rawpg.DONE)


@pytest.mark.skipif(harness.TINY_IO, reason="32 MB in single bytes")
@pytest.mark.parametrize("bounded", [False, True], ids=["default", "bounded"])
def test_client_that_rests(tmp_path, bounded):
    """A client that does not read for a while gets the rest then, unless there is a limit to that."""
    more = '[limits]\ntcp_user_timeout = "1s"\n' if bounded else ""
    with in_front_of(Torrent(), tmp_path, more) as osprey:
        with rawpg.Client.logged_in(osprey.endpoint("d")) as client:
            client.send(rawpg.query("SELECT"))
            if bounded:
                osprey.wait_for_metric("osprey_sessions", 0)
                data, _ = rawpg.read_to_the_end(client.socket)
                assert len(data) < Torrent.rows * len(Torrent.row)
            else:
                time.sleep(5)
                assert rawpg.kinds(client.until_ready()) == "D" * Torrent.rows + "CZ"


# A drain.


class Streaming(rawpg.Played):
    """Begins to stream, and sends `first` and, when it is told to, `rest`."""

    whole = rawpg.message(b"d", b"w" + bytes(24) + b"the server's own bytes" * 40)

    def __init__(self, first, rest=b""):
        self.first, self.rest = first, rest
        self.go_on = threading.Event()
        super().__init__()

    def answer(self, connection, kind, body):
        if kind != b"Q":
            return
        connection.sendall(rawpg.message(b"W", b"\0\0\0") + self.first)
        self.go_on.wait(30)
        connection.sendall(self.rest)


WHOLE = Streaming.whole
HALF = len(WHOLE) // 2


@pytest.mark.parametrize(
    "first, rest",
    [(WHOLE, b""), (WHOLE + WHOLE[:HALF], b""), (WHOLE[:3], b""), (WHOLE[:HALF], WHOLE[HALF:])],
    ids=["whole", "half", "head", "completed"],
)
def test_drain_of_a_replication_session(tmp_path, first, rest):
    """At the end of a message the client is told why it ends; within one, nothing of ours is put in."""
    drain = '[limits]\ndrain_timeout = "700ms"\n'
    server = Streaming(first, rest)
    with in_front_of(server, tmp_path, drain) as osprey:
        parameters = {"user": "app", "database": "d", "replication": "database"}
        with rawpg.Client("127.0.0.1", osprey.port).log_in(**parameters) as client:
            client.send(rawpg.query("START_REPLICATION SLOT s LOGICAL 0/0"))
            assert client.receive()[0] == b"W"
            # Less than a message's head may wait for the rest of it.
            arrived = b""
            while len(arrived) < len(first) and len(first) > 5:
                arrived += client.socket.recv(len(first) - len(arrived))
            osprey.process.send_signal(signal.SIGTERM)
            osprey.says("draining")
            if rest:
                server.go_on.set()
            data, _ = rawpg.read_to_the_end(client.socket)
            server.go_on.set()
    arrived += data
    if (first + rest).endswith(WHOLE):
        assert arrived.startswith(first + rest)
        said = arrived[len(first + rest) :]
    elif len(first) < 5:
        said = arrived.removeprefix(first)
        assert said in (b"", arrived)
    else:
        assert arrived == first
        return
    if said or len(first) > 5:
        [(kind, payload)] = rawpg.split(said)
        fields = rawpg.error_fields(payload)
        assert (kind, fields["S"], fields["C"]) == (b"E", "FATAL", "57P01")


# A client that leaves, and what it leaves behind.

SLEEP = rawpg.query("SELECT pg_sleep(60)")
# What a read of encrypted data holds back waits until it is known to have worked.
HOLDING = rawpg.query("SELECT count(*) FROM items")


def busy(cluster, database):
    """How many statements clients have running in a database."""
    statement = (
        "SELECT count(*) FROM pg_stat_activity"
        " WHERE datname = %s AND usename = 'app_trust' AND state = 'active'"
    )
    return cluster.query("postgres", statement, database)[0][0]


def leave(client, how):
    if how == "reset":
        client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    elif how == "terminate":
        client.send(rawpg.TERMINATE)
    client.close()


@pytest.mark.parametrize("how", ["close", "terminate", "reset"])
@pytest.mark.parametrize("behind", [b"", rawpg.query("SELECT 1")], ids=["alone", "more"])
@pytest.mark.parametrize("first", [SLEEP, HOLDING], ids=["sleep", "held"])
def test_statement_left_behind_is_cancelled(cluster, database, unknowing, first, behind, how):
    """Whether the client says goodbye, closes or is lost, and whatever it had sent behind it."""
    if first is HOLDING:
        cluster.query(database, f"ALTER DATABASE {database} SET hologres.scan_delay_ms = 60000")
    client = rawpg.Client.logged_in(unknowing.endpoint(database))
    client.send(first + behind)
    harness.wait_for(lambda: busy(cluster, database) == 1, "the statement to run")
    time.sleep(0.1)
    leave(client, how)
    harness.wait_for(lambda: busy(cluster, database) == 0, "it to be cancelled", seconds=8)


@pytest.mark.skipif(harness.TINY_IO, reason="megabytes in single bytes")
@pytest.mark.parametrize("how", ["close", "reset"])
@pytest.mark.parametrize("megabytes", [3, 5, 8])
def test_statement_left_behind_under_a_full_pipeline(cluster, database, osprey, megabytes, how):
    """More is pipelined behind it than the server takes in while it works, so that nothing is read from
    the client when it leaves; and the end of a connection that was closed lies behind all of that."""
    client = rawpg.Client.logged_in(osprey.endpoint(database))
    client.send(SLEEP)
    harness.wait_for(lambda: busy(cluster, database) == 1, "the statement to run")
    more = rawpg.query("SELECT /* " + "x" * 10_000 + " */ 1")
    client.socket.settimeout(1)
    with contextlib.suppress(TimeoutError):
        for _ in range((megabytes << 20) // len(more)):
            client.socket.sendall(more)
    leave(client, how)
    harness.wait_for(lambda: busy(cluster, database) == 0, "it to be cancelled", seconds=12)


@pytest.mark.parametrize("how", ["close", "terminate", "reset"])
def test_writes_left_behind_are_done_in_their_order(cluster, database, unknowing, how):
    """Directly, the server does them until it notices that its answers arrive nowhere. Never is one left
    out before one that is done."""
    cluster.query(database, "CREATE TABLE left_behind (a int)")
    cluster.query(database, "GRANT INSERT ON left_behind TO PUBLIC")
    client = rawpg.Client.logged_in(unknowing.endpoint(database))
    client.send(rawpg.query("INSERT INTO left_behind SELECT 0 FROM pg_sleep(1)"))
    for number in range(1, 20):
        client.send(rawpg.query(f"INSERT INTO left_behind VALUES ({number})"))
    leave(client, how)

    def alone():
        statement = "SELECT count(*) FROM pg_stat_activity WHERE datname = %s AND usename = 'app_trust'"
        return cluster.query("postgres", statement, database)[0][0] == 0

    harness.wait_for(alone, "the session to end", seconds=8)
    done = [row[0] for row in cluster.query(database, "SELECT a FROM left_behind")]
    assert done and done == list(range(len(done)))
    cluster.query(database, "DROP TABLE left_behind")


# Each end as it was.


class Ending(rawpg.Played):
    """Answers "FIN" and "RST" by a row of 200 KB and ends so; writes down what it reads behind "read",
    and how that ends."""

    row = rawpg.message(b"D", struct.pack("!hi", 1, 200_000) + bytes(200_000))

    def __init__(self):
        self.seen = []
        super().__init__()

    def answer(self, connection, kind, body):
        if body == b"read\0":
            self.seen.append(rawpg.read_to_the_end(connection))
        else:
            connection.sendall(self.row)
            if body == b"RST\0":
                rawpg.reset(connection)
        return False


@pytest.mark.parametrize("how", ["FIN", "RST"])
def test_the_servers_end_reaches_the_client(tmp_path, how):
    with in_front_of(Ending(), tmp_path) as osprey:
        with rawpg.Client.logged_in(osprey.endpoint("d")) as client:
            client.send(rawpg.query(how))
            assert rawpg.read_to_the_end(client.socket) == (Ending.row, how)
        osprey.wait_for_metric("osprey_sessions_closed_total", 1, reason="upstream")


@pytest.mark.parametrize("how", ["FIN", "RST"])
def test_the_clients_end_reaches_the_server(tmp_path, how):
    server = Ending()
    with in_front_of(server, tmp_path) as osprey:
        with rawpg.Client.logged_in(osprey.endpoint("d")) as client:
            data = rawpg.message(b"d", b"x" * harness.bulk(200_000)) * 3
            client.send(rawpg.query("read") + data)
            if how == "RST":
                rawpg.reset(client.socket)
        harness.wait_for(lambda: server.seen, "the server to see the end")
        assert server.seen == [(data, how)]
        osprey.wait_for_metric("osprey_sessions_closed_total", 1, reason="client")


# What is counted.


def test_goodbye_is_the_clients_end(tmp_path):
    """Also where the server closes upon it before the client does."""
    with in_front_of(rawpg.Played(), tmp_path) as osprey:
        clients = [rawpg.Client.logged_in(osprey.endpoint("d")) for _ in range(5)]
        for client in clients:
            client.send(rawpg.TERMINATE)
        for client in clients:
            assert client.until_closed() == []
        osprey.wait_for_metric("osprey_sessions_closed_total", 5, reason="client")
        assert osprey.metric("osprey_sessions_closed_total") == 5
        for client in clients:
            client.close()


def test_ordinary_ends_of_psql(cluster, tmp_path):
    conftest.need_osprey()
    with harness.Osprey.in_front_of(cluster) as osprey:
        for _ in range(20):
            status, output = osprey.endpoint("postgres").psql("-Atc", "SELECT 1")
            assert (status, output) == (0, "1\n")
        osprey.wait_for_metric("osprey_sessions_closed_total", 20)
        assert osprey.metric("osprey_sessions_closed_total", reason="client") == 20


def test_unreachable_upstream_is_no_failed_login():
    conftest.need_osprey()
    with harness.Osprey(harness.free_port()) as osprey:
        with rawpg.Client("127.0.0.1", osprey.port) as client:
            client.start_up(user="app_trust", database="postgres")
            assert rawpg.kinds(client.until_closed()) == "E"
        osprey.wait_for_metric("osprey_sessions_closed_total", 1, reason="unreachable")
        assert osprey.metric("osprey_sessions_closed_total") == 1
        assert osprey.metric("osprey_login_failures_total") == 0
        assert osprey.metric("osprey_upstream_connect_failures_total") >= 1
