"""One session's memory stays under 1 MiB, however large the value that passes through it, and however
slowly it is taken.

    OSPREY_MEGABYTES=1024 tests/run clients -k memory     values as large as PostgreSQL's can be

The upstream of most cases is a raw one, that need not hold such a value itself.
"""

import contextlib
import os
import re
import socket
import struct
import time
import zlib

import psycopg
import pytest

import conftest
import harness
import rawpg

pytestmark = [
    pytest.mark.skipif(harness.TINY_IO, reason="a gigabyte in single bytes"),
    pytest.mark.usefixtures("small_pages"),
]

MEGABYTES = int(os.environ.get("OSPREY_MEGABYTES", "64"))
# Just below the limit of a field, which is PostgreSQL's limit of an allocation.
SIZE = min(MEGABYTES << 20, (1 << 30) - 64)
STATEMENT = min(MEGABYTES, 100) << 20
LIMIT = 1 << 20
# To read the 256 KiB of a text that are looked at takes more, for the moment, the more so the
# shorter its tokens are.
READING = 6 << 20
# The allocator gives back at once what is free, so that what is measured is what is in use.
PRECISE = {"MIMALLOC_PURGE_DELAY": "0"}
SSL_REQUEST = struct.pack("!i", 80877103)
BLOCK = b"abcdefghijklmnopqrstuvwxyz0123456789" * 1821


def pieces(size):
    """A value of `size` bytes without a zero, in pieces."""
    while size > 0:
        piece = BLOCK[:size]
        yield piece
        size -= len(piece)


class Reader:
    """Takes bytes off a socket; a slow one begins late and rests often."""

    def __init__(self, connection, slow):
        self.socket = connection
        self.slow = slow
        self.checksum = 0
        self.buffer = b""

    def _receive(self, most):
        if self.slow:
            time.sleep(0.001)
        data = self.socket.recv(min(most, 1 << 18))
        if not data:
            raise EOFError
        return data

    def exactly(self, count):
        while len(self.buffer) < count:
            self.buffer += self._receive(1 << 16)
        data, self.buffer = self.buffer[:count], self.buffer[count:]
        return data

    def head(self):
        """The type and the length of the body of the next message."""
        head = self.exactly(5)
        return head[:1], struct.unpack("!i", head[1:])[0] - 4

    def take(self, count):
        """Reads `count` bytes into the checksum."""
        while count > 0:
            data = self.buffer[:count] or self._receive(count)
            self.buffer = self.buffer[len(data) :]
            self.checksum = zlib.crc32(data, self.checksum)
            count -= len(data)


class Upstream(rawpg.Server):
    """A server that lets everyone in, and answers a Query by one row of SIZE bytes, `copy` by as many
    in rows of 64 KiB, and everything else by a checksum of what it got up to the end of a cycle."""

    def __init__(self, slow):
        self.slow = slow
        super().__init__()

    def serve(self, connection):
        with connection, contextlib.suppress(EOFError, OSError):
            reader = Reader(connection, False)
            while self._startup_packet(reader) == SSL_REQUEST:
                connection.sendall(b"N")
            ready = rawpg.message(b"Z", b"I")
            connection.sendall(rawpg.message(b"R", bytes(4)) + rawpg.message(b"K", bytes(8)) + ready)
            reader.slow = self.slow
            while True:
                kind, length = reader.head()
                if kind == b"X":
                    return
                if kind == b"Q" and length < 100:
                    self._answer(connection, reader.exactly(length))
                    connection.sendall(rawpg.message(b"C", b"SELECT 1\0") + ready)
                    continue
                reader.take(length)
                if kind in b"QS":
                    connection.sendall(rawpg.message(b"C", b"%08x\0" % reader.checksum) + ready)
                    reader.checksum = 0

    @staticmethod
    def _startup_packet(reader):
        length = struct.unpack("!i", reader.exactly(4))[0]
        return reader.exactly(length - 4)[:4]

    @staticmethod
    def _answer(connection, text):
        rows = [SIZE] if text == b"row\0" else [1 << 16] * (SIZE >> 16)
        kind = b"D" if text == b"row\0" else b"d"
        for size in rows:
            connection.sendall(kind + struct.pack("!i", size + 4))
            for piece in pieces(size):
                connection.sendall(piece)


def status(osprey, field):
    text = open(f"/proc/{osprey.process.pid}/status").read()
    return int(re.search(rf"{field}:\s+(\d+) kB", text)[1]) << 10


class Measured:
    """How much more memory the process needs at most, while something runs in it."""

    def __init__(self, osprey, limit=LIMIT):
        self.osprey = osprey
        self.limit = limit

    def __enter__(self):
        # Gives VmHWM the present value.
        with open(f"/proc/{self.osprey.process.pid}/clear_refs", "w") as file:
            file.write("5")
        self.before = status(self.osprey, "VmRSS")

    def __exit__(self, failed, *_):
        if failed is None:
            grown = status(self.osprey, "VmHWM") - self.before
            print(f"{grown >> 10} KiB more")
            assert grown < self.limit, f"{grown >> 10} KiB"


@pytest.fixture(params=[False, True], ids=["fast", "slow"])
def slow(request):
    return request.param


@pytest.fixture
def session(slow, tmp_path):
    """A client whose session is open, and the measure of its Osprey, in which others have been."""
    conftest.need_osprey()
    config = tmp_path / "osprey.toml"
    # This upstream has no catalogs.
    config.write_text("[catalog]\nborrow = false\n")
    with Upstream(slow) as upstream:
        arguments = ["--encrypted-project", "finance_byok"]
        with harness.Osprey(
            upstream.port, arguments, config=config, environment=PRECISE
        ) as osprey:
            endpoint = osprey.endpoint("d")
            for _ in range(20):
                with rawpg.Client.logged_in(endpoint) as client:
                    client.ask(rawpg.query("-- " + "x" * 200))
            # What it takes of the program itself to pass something large is not what is measured.
            for _ in range(6):
                with rawpg.Client.logged_in(endpoint) as client:
                    for head, body in [parameter(1 << 20), SYNC]:
                        client.send(head + b"".join(body))
                    client.until_ready()
            time.sleep(0.2)
            with rawpg.Client.logged_in(endpoint) as client:
                client.socket.settimeout(120)
                yield client, Measured(osprey)


@pytest.mark.parametrize("what", ["row", "copy"])
def test_memory_downwards(session, slow, what):
    """A row of the greatest size, and a COPY of rows that together have it."""
    client, measured = session
    reader = Reader(client.socket, slow)
    checksum = 0
    with measured:
        client.send(rawpg.query(what))
        if slow:
            time.sleep(1)
        rows = [SIZE] if what == "row" else [1 << 16] * (SIZE >> 16)
        for size in rows:
            kind, length = reader.head()
            assert (kind, length) == (b"D" if what == "row" else b"d", size)
            reader.take(length)
        assert reader.head() == (b"C", 9)
    for size in rows:
        for piece in pieces(size):
            checksum = zlib.crc32(piece, checksum)
    assert reader.checksum == checksum


def frame(kind, first, size, last):
    """The head of a message, and its body: `size` bytes with something in front and behind."""
    length = len(first) + size + len(last)
    return kind + struct.pack("!i", length + 4), [first, *pieces(size), last]


def parameter(size):
    """A Bind of one parameter."""
    return frame(b"B", b"\0\0" + struct.pack("!hhi", 0, 1, size), size, b"\0\0")


SYNC = (rawpg.SYNC, [])
UPWARDS = {
    "parameter": [
        parameter(SIZE),
        SYNC,
    ],
    "copy": [frame(b"d", b"", 1 << 16, b"")] * (SIZE >> 16) + [SYNC],
    "query": [frame(b"Q", b"SELECT ", STATEMENT, b"\0")],
    "parse": [frame(b"P", b"\0SELECT ", STATEMENT, b"\0\0\0"), SYNC],
    # A text that is read, since it names a project: as many tokens as can be.
    "tokens": [frame(b"Q", b"SELECT finance_byok" + b",1" * (1 << 20), STATEMENT, b"\0")],
    # A message in which the name that matters does not end.
    "name": [frame(b"B", b"", SIZE, b"\0\0"), SYNC],
}


@pytest.mark.parametrize("what", UPWARDS)
def test_memory_upwards(session, what):
    """Parameters, COPY data and texts of the greatest size; and what only looks like them."""
    client, measured = session
    checksum = 0
    if what == "tokens":
        measured.limit = READING
    with measured:
        for head, body in UPWARDS[what]:
            client.send(head)
            for piece in body:
                client.send(piece)
                checksum = zlib.crc32(piece, checksum)
        answer = client.until_ready()
    assert answer[0] == (b"C", b"%08x\0" % checksum), answer


def test_long_statement_is_looked_at_by_its_head(cluster, database):
    """What lies beyond limits.inspect_bytes is not seen: a name in the head is, and the statement
    is steered; one behind it is not, and the error says what to do."""
    conftest.need_osprey()
    environment = {"OSPREY_CATALOG_PASSWORD": harness.PASSWORD, **PRECISE}
    comment = f"/* {'x' * STATEMENT} */"
    with harness.Osprey.in_front_of(cluster, environment=environment) as osprey:
        osprey.wait_until_known(database)
        with osprey.endpoint(database).connect() as connection:
            simple = psycopg.ClientCursor(connection)
            with Measured(osprey):
                simple.execute(f"SELECT {comment} 1")
            for send in (simple.execute, connection.execute):
                with pytest.raises(psycopg.errors.InternalError_, match="HQE cannot read") as failed:
                    send(f"SELECT {comment} count(*) FROM salaries")
                assert "OSP-1001" in failed.value.diag.message_detail
            with Measured(osprey):
                row = simple.execute(f"SELECT count(*) FROM salaries {comment}").fetchone()
            assert row == (1000,)
            # Once it is set, it is set for all.
            row = connection.execute(f"SELECT {comment} count(*) FROM salaries").fetchone()
            assert row == (1000,)
