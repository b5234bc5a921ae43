"""What a hostile client tries: others go on working, and memory stays under a bound.

    OSPREY_PARSES=1000000 tests/run clients -k hostile     longer pipelines
"""

import contextlib
import os
import socket
import ssl
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

PARSES = int(os.environ.get("OSPREY_PARSES", "150000"))
MIB = 1 << 20


@pytest.fixture(autouse=True)
def built():
    conftest.need_osprey()


class Bulk(attacks.Hostile):
    """Answers Parses by the thousand, all of one size; or not at all."""

    def __init__(self, answers=True):
        self.answers = answers
        self.parses = 0
        self.connections = []
        super().__init__()

    def attack(self, connection, kind, body):
        if kind != b"P":
            return rawpg.Played.answer(self, connection, kind, body)
        self.connections.append(connection)
        size = 5 + len(body)
        data = b""
        count = 1
        while True:
            self.parses += count
            if self.answers:
                connection.sendall(rawpg.message(b"1") * count)
            if data == rawpg.SYNC:
                return connection.sendall(rawpg.READY)
            part = connection.recv(1 << 18)
            if not part:
                raise EOFError
            data += part
            count = len(data) // size
            data = data[count * size :]


def send_all(client, pieces, still=1.5):
    """Sends until all is sent or nothing has been taken for a while; how many bytes."""
    client.socket.settimeout(still)
    sent = 0
    with contextlib.suppress(TimeoutError):
        for piece in pieces:
            view = memoryview(piece)
            while view:
                step = client.socket.send(view)
                sent += step
                view = view[step:]
    return sent


def in_thousands(make, count):
    """So many messages, a thousand to a piece."""
    for first in range(0, count, 1000):
        yield b"".join(make(number) for number in range(first, min(first + 1000, count)))


def unnamed(_):
    return rawpg.parse("", "SELECT 1")


def test_parses_that_nobody_answers(tmp_path):
    """The client is made to wait, and what is kept of its messages is bounded."""
    server = Bulk(answers=False)
    with attacks.in_front_of(server, tmp_path, 24 * MIB) as osprey:
        with attacks.inside(osprey) as client:
            # So many that they do not fit into the system's buffers.
            count = max(PARSES, 1_000_000)
            piece = unnamed(0) * 1000
            sent = send_all(client, (piece for _ in range(count // 1000)))
            assert sent < count * len(unnamed(0)), "it had to wait"
        # It would be waited for.
        server.connections[0].shutdown(socket.SHUT_RDWR)


def test_parses_that_are_answered(tmp_path):
    """All of a pipeline without an end is served, by whoever can afford it."""
    server = Bulk()
    with attacks.in_front_of(server, tmp_path, 8 * MIB) as osprey:
        with attacks.inside(osprey) as client:
            client.socket.settimeout(120)
            sending = threading.Thread(
                target=lambda: [client.send(piece) for piece in in_thousands(unnamed, PARSES)]
                + [client.send(rawpg.SYNC)]
            )
            sending.start()
            expected = PARSES * 5 + 6
            received = 0
            while received < expected:
                part = client.socket.recv(1 << 18)
                assert part
                received += len(part)
            sending.join()
            assert (received, part[-6:], server.parses) == (expected, rawpg.READY, PARSES)


NAMES = {
    # As many bytes as PostgreSQL keeps of a name.
    "short": (100_000, lambda number: f"{number:063}"),
    # It looks at the first 63 bytes alone.
    "long": (10_000, lambda number: f"{number:010}" + "x" * 4000),
    # Of what is unlike in what is not kept.
    "alike": (10_000, lambda number: "x" * 4000 + f"{number:010}"),
}


@pytest.mark.parametrize("name", NAMES)
def test_names_without_end(tmp_path, name):
    """What is kept of prepared statements is bounded, and each can be used."""
    count, named = NAMES[name]
    with attacks.in_front_of(Bulk(), tmp_path, 16 * MIB) as osprey:
        with attacks.inside(osprey) as client:
            client.socket.settimeout(120)

            def parse(number):
                return rawpg.parse(named(number), "SELECT * FROM t")

            def send():
                for piece in in_thousands(parse, count):
                    client.send(piece)
                client.send(rawpg.SYNC)

            sending = threading.Thread(target=send)
            sending.start()
            received = 0
            while received < count * 5 + 6:
                received += len(client.socket.recv(1 << 18))
            sending.join()
            for number in (0, count - 1):
                answer = client.ask(rawpg.bind("", named(number)) + rawpg.execute("") + rawpg.SYNC)
                assert rawpg.kinds(answer) == "Z"


DEPTH = 100_000
DEEP = {
    "parentheses": "SELECT " + "(" * DEPTH + "1" + ")" * DEPTH + " FROM salaries",
    "open parentheses": "SELECT * FROM salaries WHERE " + "(" * DEPTH,
    # PostgreSQL itself takes half a minute over a hundred thousand.
    "comments": "/*" * 5_000 + " SELECT * FROM salaries",
    "subqueries": "SELECT * FROM (" * 14_000 + "SELECT * FROM salaries" + ") s" * 14_000,
    "joins": "SELECT * FROM " + "(" * 9_000 + "salaries" + " JOIN salaries USING (id))" * 9_000,
    "with": "WITH a AS (" * 12_000 + "SELECT * FROM salaries" + ") SELECT 1" * 12_000,
    "case": "SELECT " + "CASE WHEN " * 20_000 + "true FROM salaries",
    "arrays": "SELECT " + "ARRAY[" * 40_000 + "1 FROM salaries",
    "brackets of all kinds": "SELECT * FROM salaries WHERE " + "([" * DEPTH,
    "dollar quotes": "DO " + "".join(f"$a{n}$ " for n in range(30_000)) + " SELECT * FROM salaries",
    "prepare": "PREPARE a AS " * 18_000 + "SELECT * FROM salaries",
    "explain": "EXPLAIN " * 30_000 + "SELECT * FROM salaries",
    "operators": "SELECT * FROM salaries WHERE " + "NOT " * 60_000 + "true",
    "statements": "SELECT 1;" * 25_000 + "SELECT * FROM salaries",
    "unions": "SELECT id FROM salaries UNION " * 8_000 + "SELECT 1",
}


def test_deep_nesting(cluster, database):
    """Reading a text takes no more of the stack and of memory the deeper it nests, and no more than a few
    seconds; whatever the server thinks of it, the process and the session go on."""
    with harness.Osprey.in_front_of(cluster) as osprey:
        osprey.environment |= attacks.PRECISE
        osprey.wait_until_known(database)
        endpoint = osprey.endpoint(database)
        with attacks.under_attack(osprey, endpoint, 96 * MIB, user="app_trust"):
            for name, text in DEEP.items():
                assert len(text) < 270_000, (name, len(text))
                for message in (rawpg.query(text), rawpg.parse("", text) + rawpg.SYNC):
                    with rawpg.Client.logged_in(endpoint) as client:
                        client.socket.settimeout(60)
                        begun = time.monotonic()
                        last = client.ask(message)
                        assert rawpg.kinds(last).endswith("Z"), name
                        seconds = time.monotonic() - begun
                        print(f"{name}: {seconds:.2f} s, {attacks.resident(osprey, 'VmHWM') >> 20} MiB")
                        again = client.ask(rawpg.query("SELECT count(*) FROM people"))
                        assert rawpg.kinds(again) == "TDCZ", name


# Lengths that lie.

LIES = {
    "a Query of 2 GB": attacks.head(b"Q", (1 << 31) - 1) + b"SELECT 1",
    "a Parse of 1 GB": attacks.head(b"P", 1 << 30) + b"s\0SELECT 1\0",
    "a Parse that is all name": attacks.head(b"P", 1 << 30) + b"x" * 4096,
    "a Bind of 1 GB": attacks.head(b"B", 1 << 30) + b"\0\0",
    "CopyData of 1 GB": attacks.head(b"d", 1 << 30) + b"x" * 4096,
    "a password of 1 GB": attacks.head(b"p", 1 << 30) + b"x" * 4096,
    "a length below zero": attacks.head(b"Q", -1) + b"SELECT 1\0",
    "a length of three": attacks.head(b"Q", 3) + b"SELECT 1\0",
}


def test_lengths_that_lie(tmp_path):
    """No room is made for what is only said to come: a hundred sessions wait for it, or are ended."""
    server = attacks.Hostile()
    with attacks.in_front_of(server, tmp_path, 8 * MIB) as osprey:
        with contextlib.ExitStack() as stack:
            for lie in list(LIES.values()) * 12:
                stack.enter_context(attacks.inside(osprey)).send(lie)
            # And some that say so before they are anybody.
            for length in (10_000, 10_001, 1 << 30, (1 << 31) - 1, -1, 3):
                client = stack.enter_context(rawpg.Client("127.0.0.1", osprey.port))
                client.send(struct.pack("!I", length & 0xFFFFFFFF) + b"\0\3\0\0user\0")
            time.sleep(0.5)
        harness.wait_for(lambda: server.open <= 2, "the sessions to end upstream")


def test_a_flood_of_connections_and_half_handshakes(tls_osprey):
    """A thousand that come and go, say half of something and stay, or begin TLS and do not go on: those
    who work notice nothing, and afterwards no descriptor is left."""
    endpoint = tls_osprey.endpoint("tls")
    with rawpg.Client.logged_in(endpoint):
        pass
    hello = ssl.MemoryBIO()
    with contextlib.suppress(ssl.SSLWantReadError):
        ssl.create_default_context().wrap_bio(ssl.MemoryBIO(), hello, server_hostname="localhost").do_handshake()
    hello = hello.read()
    beginnings = [
        b"",
        b"\0",
        rawpg.SSL_REQUEST[:5],
        rawpg.SSL_REQUEST,
        rawpg.SSL_REQUEST + hello[:100],
        rawpg.startup(user="app_trust", database="tls")[:-1],
        rawpg.cancel(bytes(8))[:-1],
        os.urandom(64),
        b"GET / HTTP/1.1\r\n\r\n",
    ]
    tls_osprey.wait_for_metric("osprey_greetings", 0)
    before = attacks.descriptors(tls_osprey)
    with attacks.under_attack(tls_osprey, endpoint, 48 * MIB, user="app_trust"):
        with contextlib.ExitStack() as stack:
            for number in range(1000):
                client = socket.create_connection(("127.0.0.1", tls_osprey.port), 20)
                with contextlib.suppress(ConnectionError):
                    client.sendall(beginnings[number % len(beginnings)])
                if number % 2:
                    client.close()
                else:
                    stack.callback(client.close)
    for gauge in ("osprey_greetings", "osprey_logins", "osprey_sessions", "osprey_cancels"):
        tls_osprey.wait_for_metric(gauge, 0)
    harness.wait_for(lambda: attacks.descriptors(tls_osprey) <= before + 2, "the descriptors")


# What looks like Osprey's own.

MARKED = [
    f"/* osprey */ SET {harness.ORC} = true",
    f"/* osprey */ SET {harness.ORC} = false",
    f"/* osprey */ RESET {harness.ORC}",
    "/* osprey */ DISCARD PLANS",
    "/* osprey */ BEGIN",
    "/* osprey */ ROLLBACK",
    "/* osprey */ SELECT 1",
    f"/* osprey */ SELECT set_config('{harness.ORC}', 'false', true)",
]


@pytest.mark.parametrize("name", ["", "osprey", "_osprey", "osprey_0"])
def test_forged_marks(pair, name):
    """A client's statement that bears Osprey's mark, and a name that Osprey itself may use, is the
    client's: it is answered as ever, and Osprey's own work is not confused by it."""
    direct, through = pair
    answers = []
    for endpoint in (direct, through):
        with rawpg.Client.logged_in(endpoint) as client:
            answer = []
            for marked in MARKED:
                parsed = rawpg.parse(name, marked) + rawpg.bind(name, name) + rawpg.execute(name)
                closing = rawpg.message(b"C", b"S" + name.encode() + b"\0")
                for message in (rawpg.query(marked), parsed + closing + rawpg.SYNC):
                    answer.append([kind for kind, _ in client.ask(message)])
            client.ask(rawpg.query("ROLLBACK"))
            # A route of the client's own choice is not touched.
            client.ask(rawpg.query(f"/* osprey */ RESET {harness.ORC}"))
            answers.append(answer)
            if endpoint is through:
                read = client.ask(rawpg.query("SELECT count(*) FROM salaries"))
                assert rawpg.kinds(read) == "TDCZ" and read[1][1].endswith(b"1000")
    assert answers[0] == answers[1]


class Endless(attacks.Hostile):
    """Answers by rows for as long as they are taken."""

    ROWS = rawpg.message(b"D", struct.pack("!hi", 1, 8000) + b"x" * 8000) * 32

    def attack(self, connection, kind, body):
        while True:
            connection.sendall(self.ROWS)


READERS = 50


def test_slow_readers(tmp_path):
    """Each holds its own server back: what it has not read is in the system's buffers, and 200 KiB in
    Osprey's, as docs/sizing.md says."""
    with attacks.in_front_of(Endless(), tmp_path, READERS * 200 * 1024) as osprey:
        with contextlib.ExitStack() as stack:
            clients = [stack.enter_context(attacks.inside(osprey)) for _ in range(READERS)]
            for client in clients:
                client.send(rawpg.query("SELECT everything"))
            for client in clients:
                client.socket.recv(1000)
            time.sleep(1)
            for client in clients:
                client.socket.recv(1000)
