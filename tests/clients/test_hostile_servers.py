"""What a hostile server tries: the client gets what it says or the end of the connection, others go on
working, and memory stays under a bound."""

import contextlib
import struct
import threading
import time

import pytest

import attacks
import conftest
import harness
import rawpg

pytestmark = [
    pytest.mark.skipif(harness.TINY_IO, reason="megabytes in single bytes"),
    pytest.mark.usefixtures("small_pages"),
]

MIB = 1 << 20
FILLER = b"x" * (1 << 18)


@pytest.fixture(autouse=True)
def built():
    conftest.need_osprey()


def is_end(rest):
    """Nothing more, or Osprey's own last word."""
    if not rest:
        return True
    [(kind, payload)] = rawpg.split(rest)
    return kind == b"E" and rawpg.error_fields(payload)["S"] == "FATAL"


# Lengths that lie.

LIES = {
    "a row of 2 GB": attacks.head(b"D", (1 << 31) - 1),
    "an error of 1 GB": attacks.head(b"E", 1 << 30) + b"SERROR\0VERROR\0CXX000\0M",
    "a notice of 1 GB": attacks.head(b"N", 1 << 30) + b"SNOTICE\0M",
    "a parameter of 1 GB": attacks.head(b"S", 1 << 30) + b"client_encoding\0",
    "a tag of 1 GB": attacks.head(b"C", 1 << 30) + b"SELECT ",
    "a ReadyForQuery of 1 GB": attacks.head(b"Z", 1 << 30) + b"I",
    "a CopyInResponse of 1 GB": attacks.head(b"G", 1 << 30),
    "a length below zero": attacks.head(b"D", -1),
    "a length of three": attacks.head(b"Z", 3),
    "what is no message": b"\0\0\0\0\0\0\0\0",
}


def test_lengths_that_lie(tmp_path):
    """No room is made for what is only said to come."""
    server = attacks.Hostile()

    def lie(connection, kind, body):
        connection.sendall(LIES[body.rstrip(b"\0").decode()])
        for _ in range(8):
            connection.sendall(FILLER)
        raise EOFError

    server.attack = lie
    with attacks.in_front_of(server, tmp_path, 8 * MIB) as osprey:
        for name, lied in LIES.items():
            with attacks.inside(osprey) as client:
                client.send(rawpg.query(name))
                data = attacks.drained(client)
                said = lied + FILLER * 8
                same = len(data) if said.startswith(data) else len(lied)
                assert said.startswith(data[:same]) or is_end(data), (name, data[:100])


GREETINGS = {
    "an error of 1 GB": attacks.head(b"E", 1 << 30) + FILLER,
    "a request of 1 GB": attacks.head(b"R", 1 << 30) + FILLER,
    "a parameter of 1 GB": rawpg.message(b"R", bytes(4)) + attacks.head(b"S", 1 << 30) + FILLER,
    "a key of 1 GB": rawpg.message(b"R", bytes(4)) + attacks.head(b"K", 1 << 30) + FILLER,
    "a length below zero": attacks.head(b"R", -1) + FILLER,
}
ENDLESS = {
    "notices": rawpg.message(b"N", b"SNOTICE\0C00000\0Mno end\0\0"),
    "parameters": rawpg.message(b"R", bytes(4)) + rawpg.message(b"S", b"a\0b\0") * 1000,
    "requests": rawpg.message(b"R", struct.pack("!i", 5) + b"salt"),
}


def test_logins_that_lie_or_do_not_end(tmp_path):
    """They end by limits.login_timeout at the latest, and let nobody in."""
    server = attacks.Hostile()

    def greet(connection, parameters):
        name = parameters["database"]
        if name in GREETINGS:
            connection.sendall(GREETINGS[name])
            while connection.recv(1):
                pass
            return
        while True:
            connection.sendall(ENDLESS[name] * 100)

    server.greet = greet
    with attacks.in_front_of(server, tmp_path, 16 * MIB, '[limits]\nlogin_timeout = "1s"\n') as osprey:
        names = [*GREETINGS, *ENDLESS]
        with contextlib.ExitStack() as stack:
            clients = [stack.enter_context(attacks.evil(osprey, database=name)) for name in names]
            for name, client in zip(names, clients):
                assert b"Z\0\0\0\5" not in attacks.drained(client), name


def test_notices_without_end(tmp_path):
    """Who reads them gets them; who does not holds the server back."""
    server = attacks.Hostile()
    notices = ENDLESS["notices"] * 1000

    def chatter(connection, kind, body):
        while True:
            connection.sendall(notices)

    server.attack = chatter
    with attacks.in_front_of(server, tmp_path, 4 * MIB) as osprey:
        with attacks.inside(osprey) as reading, attacks.inside(osprey) as resting:
            for client in (reading, resting):
                client.send(rawpg.query("SELECT 1"))
            data = b""
            while len(data) < 4 * MIB:
                data += reading.socket.recv(1 << 18)
            expected = notices * (len(data) // len(notices) + 1)
            assert expected.startswith(data)
            time.sleep(0.3)


def test_an_error_without_measure(tmp_path):
    """One that begins as Hologres' own, and is 64 MiB long, passes as it came."""
    body = b"SERROR\0VERROR\0CXX000\0M" + harness.PANGU.encode() + b"x" * (64 * MIB) + b"\0\0"
    said = rawpg.message(b"E", body) + rawpg.READY
    server = attacks.Hostile()
    server.attack = lambda connection, kind, body: connection.sendall(said)
    with attacks.in_front_of(server, tmp_path, 8 * MIB) as osprey:
        with attacks.inside(osprey) as client:
            client.send(rawpg.query("SELECT * FROM t"))
            at = 0
            while at < len(said):
                part = client.socket.recv(1 << 20)
                assert said.startswith(part, at)
                at += len(part)


# Catalogs.


class Catalogs(rawpg.Played):
    """Answers whoever reads the catalogs in this way, and everybody else as ever."""

    def __init__(self, way):
        self.way = way
        self.readers = threading.local()
        self.gave_up = threading.Event()
        super().__init__()

    def authenticate(self, connection, parameters):
        self.readers.evil = parameters["user"] == "osprey_catalog"

    def answer(self, connection, kind, body):
        # What a borrowed session asks.
        asks = kind == b"Q" and b"pg_catalog" in body
        if kind == b"Q" and (asks or self.readers.evil) and not body.startswith(b"SET"):
            try:
                connection.sendall(self.way[0])
                while True:
                    connection.sendall(self.way[1])
            except OSError:
                self.gave_up.set()
                raise
        return super().answer(connection, kind, body)


def row(*values):
    body = struct.pack("!h", len(values))
    return rawpg.message(b"D", body + b"".join(struct.pack("!i", len(v)) + v for v in values))


NAMES = [b"name", b"other", b"third"]
COLUMNS = rawpg.message(
    b"T",
    struct.pack("!h", 3)
    + b"".join(name + b"\0" + struct.pack("!ihihih", 0, 0, 25, -1, -1, 0) for name in NAMES),
)
WAYS = {
    "ten million tables": (COLUMNS, row(b"public", b"t" * 40, b"{project_name=p}") * 1000),
    "a row without end": (COLUMNS + attacks.head(b"D", (1 << 31) - 1), FILLER),
    "notices without end": (b"", rawpg.message(b"N", b"SNOTICE\0C00000\0M" + FILLER[:2000] + b"\0\0") * 100),
}


@pytest.mark.parametrize("name", ["ten million tables", "a row without end"])
def test_catalogs_without_end(tmp_path, name):
    """The reading of the catalog account is given up at 64 MiB, and said to have failed."""
    config = tmp_path / "osprey.toml"
    config.write_text(attacks.PLAYED)
    server = Catalogs(WAYS[name])
    arguments = ["--catalog-user", "osprey_catalog", "--encrypted-project", "finance_byok"]
    environment = {**attacks.PRECISE, "OSPREY_CATALOG_PASSWORD": "x"}
    with server, harness.Osprey(server.port, arguments, config=config, environment=environment) as osprey:
        before = attacks.resident(osprey, "VmRSS")
        with attacks.Bystander(osprey.endpoint("d")):
            harness.wait_for(lambda: "the catalogs are larger than 67108864 bytes" in osprey.log(), osprey.log, 60)
        grown = attacks.resident(osprey, "VmHWM") - before
        print(f"{grown >> 20} MiB more")
        # The rows of one answer take up to six times their bytes.
        assert grown < 6 * 64 * MIB
        harness.wait_for(server.gave_up.is_set, "the connection to be closed")


@pytest.mark.parametrize("name", ["ten million tables", "notices without end"])
def test_borrowed_readings_without_end(tmp_path, name):
    """That of a borrowed session is given up at 32 MiB, or by catalog.borrow_timeout, and the session with it
    by limits.login_timeout, if the server goes on all the same."""
    config = tmp_path / "osprey.toml"
    config.write_text('[upstream.tls]\nmode = "disable"\n[limits]\nlogin_timeout = "2s"\n[catalog]\nborrow_timeout = "1s"\n')
    server = Catalogs(WAYS[name])
    with server, harness.Osprey(
        server.port, ["--encrypted-project", "p"], config=config, environment=attacks.PRECISE
    ) as osprey:
        before = attacks.resident(osprey, "VmRSS")
        with rawpg.Client("127.0.0.1", osprey.port, timeout=60) as client:
            client.start_up(user="evil", database="d")
            assert rawpg.kinds(client.until_closed()).replace("N", "").endswith("E")
        grown = attacks.resident(osprey, "VmHWM") - before
        print(f"{grown >> 20} MiB more")
        assert grown < 6 * 32 * MIB
        osprey.wait_for_metric("osprey_sessions", 0)
