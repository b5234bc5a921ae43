"""Logins: SCRAM with each flag on each combination of TLS, what drivers say and accept (docs/login.md), a
whole login in one flight, and what is no login at all."""

import asyncio
import base64
import collections
import contextlib
import hashlib
import hmac
import os
import ssl
import struct
import subprocess
import time

import asyncpg
import pyodbc
import pytest

import conftest
import harness
import rawpg
import test_jdbc
import test_node_postgres
import test_tokio_postgres

classes = test_jdbc.classes
script = test_node_postgres.script

PLAIN, PLUS = "SCRAM-SHA-256", "SCRAM-SHA-256-PLUS"
BINDING = "p=tls-server-end-point"


def unverified():
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


# SCRAM on each combination of TLS.

Login = collections.namedtuple("Login", "offered asked error client")


class Scram:
    """A client's side of SCRAM-SHA-256, with a GS2 flag of one's choice."""

    def __init__(self, password, flag, mechanism=PLAIN, certificate=b""):
        self.password, self.mechanism = password.encode(), mechanism
        self.gs2 = f"{flag},,".encode()
        # tls-server-end-point (RFC 5929)
        binding = hashlib.sha256(certificate).digest() if flag == BINDING else b""
        self.binding = base64.b64encode(self.gs2 + binding)
        self.bare = b"n=,r=" + base64.b64encode(os.urandom(18))

    def first(self):
        first = self.gs2 + self.bare
        head = self.mechanism.encode() + b"\0" + struct.pack("!i", len(first))
        return rawpg.message(b"p", head + first)

    def final(self, challenge):
        fields = dict(part.split(b"=", 1) for part in challenge.split(b","))
        salt, rounds = base64.b64decode(fields[b"s"]), int(fields[b"i"])
        salted = hashlib.pbkdf2_hmac("sha256", self.password, salt, rounds)
        key = hmac.digest(salted, b"Client Key", "sha256")
        without_proof = b"c=" + self.binding + b",r=" + fields[b"r"]
        signed = self.bare + b"," + challenge + b"," + without_proof
        signature = hmac.digest(hashlib.sha256(key).digest(), signed, "sha256")
        proof = bytes(one ^ other for one, other in zip(key, signature))
        return rawpg.message(b"p", without_proof + b",p=" + base64.b64encode(proof))


def log_in(osprey, tls, flag, password=harness.PASSWORD, user="app", mechanism=PLAIN):
    """What a client is offered, whether it is asked for its password, and what the end of it is."""
    client = rawpg.Client("localhost", osprey.port)
    certificate = b""
    if tls:
        client.start_tls(unverified())
        certificate = client.socket.getpeercert(binary_form=True)
    client.start_up(user=user, database="tls")
    kind, body = client.receive()
    assert (kind, body[:4]) == (b"R", b"\0\0\0\x0a"), (kind, body)
    offered = body[4:].rstrip(b"\0").decode().split("\0")
    scram = Scram(password, flag, mechanism, certificate)
    client.send(scram.first())
    asked = False
    while True:
        kind, body = client.receive()
        if kind == b"E":
            assert client.until_closed() == []
            return Login(offered, asked, rawpg.error_fields(body), client)
        if kind == b"Z":
            return Login(offered, asked, None, client)
        code = struct.unpack("!i", body[:4])[0] if kind == b"R" else None
        if code == 3:
            asked = True
            client.send(rawpg.message(b"p", password.encode() + b"\0"))
        elif code == 11:
            client.send(scram.final(body[4:]))


@pytest.fixture(scope="module")
def osprey_with(tls_cluster, tls_osprey, tmp_path_factory):
    """A function that gives an Osprey with this mode of upstream.tls and TLS on offer to clients."""
    with contextlib.ExitStack() as stack:
        running = {}

        def start(mode):
            if mode not in running:
                config = tmp_path_factory.mktemp(mode) / "osprey.toml"
                config.write_text(
                    f"""
[listen.tls]
certificate = "{tls_cluster.directory}/server.crt"
key = "{tls_cluster.directory}/server.key"
[upstream.tls]
mode = "{mode}"
[catalog]
borrow = false
"""
                )
                osprey = harness.Osprey(tls_cluster.port, config=config)
                running[mode] = stack.enter_context(osprey)
            return running[mode]

        yield start


# (TLS to the client, mode of upstream.tls, flag): whether the password is asked for, and whether the
# server's own connection has TLS.
WORKS = {
    (False, "disable", "n"): (False, False),
    (False, "disable", "y"): (False, False),
    (False, "prefer", "n"): (False, True),
    # It was begun over TLS, where the server would not believe this flag.
    (False, "prefer", "y"): (False, False),
    (False, "require", "n"): (False, True),
    (True, "disable", "n"): (False, False),
    (True, "disable", "y"): (False, False),
    (True, "prefer", "n"): (False, True),
    (True, "prefer", "y"): (True, True),
    (True, "require", "n"): (False, True),
    (True, "require", "y"): (True, True),
}


@pytest.mark.parametrize("tls, mode, flag", WORKS)
def test_scram(osprey_with, tls, mode, flag):
    osprey = osprey_with(mode)
    login = log_in(osprey, tls, flag)
    asked, encrypted = WORKS[tls, mode, flag]
    assert login.error is None
    assert (login.offered, login.asked) == ([PLAIN], asked)
    query = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
    row = login.client.ask(rawpg.query(query))[1]
    assert row[1][-1:] == (b"t" if encrypted else b"f")
    login.client.close()


@pytest.mark.parametrize("tls, mode, flag", WORKS)
def test_scram_with_a_wrong_password(osprey_with, tls, mode, flag):
    error = log_in(osprey_with(mode), tls, flag, "wrong").error
    assert (error["S"], error["C"]) == ("FATAL", "28P01")
    assert error["M"] == 'password authentication failed for user "app"'


def test_plaintext_client_that_would_bind_where_the_server_must_have_tls(osprey_with):
    """What it would prove is not so. It is told why, and was never asked for its password."""
    login = log_in(osprey_with("require"), False, "y")
    assert (login.offered, login.asked) == ([PLAIN], False)
    assert (login.error["S"], login.error["C"]) == ("FATAL", "28000")
    assert "TLS" in login.error["M"] + login.error.get("H", "")


@pytest.mark.parametrize("mechanism", [PLAIN, PLUS])
@pytest.mark.parametrize("tls", [False, True])
@pytest.mark.parametrize("mode", ["disable", "prefer", "require"])
def test_client_that_binds(osprey_with, tls, mode, mechanism):
    """It insists on what a proxy cannot give, and is not asked to give up more than that."""
    login = log_in(osprey_with(mode), tls, BINDING, mechanism=mechanism)
    assert (login.offered, login.asked) == ([PLAIN], False)
    assert login.error["S"] == "FATAL"


def test_a_second_connection_for_it_is_counted_and_closed(osprey_with, tls_cluster):
    """Under `prefer`, nothing of the first one stays."""
    osprey = osprey_with("prefer")
    login = log_in(osprey, False, "y")
    count = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'app'"
    harness.wait_for(lambda: tls_cluster.query("postgres", count) == [(1,)], "one session upstream")
    login.client.close()
    harness.wait_for(lambda: tls_cluster.query("postgres", count) == [(0,)], "none")


# What drivers say, and whether they accept to be asked for the password then.


class Curious(rawpg.Played):
    """Offers SCRAM-SHA-256, writes down the flag that comes, and asks for the password then."""

    def __init__(self, tls):
        # What each login came to: [flag, password].
        self.logins = []
        super().__init__(tls)

    def authenticate(self, connection, parameters):
        login = [None, None]
        self.logins.append(login)
        connection.sendall(rawpg.message(b"R", b"\0\0\0\x0a" + PLAIN.encode() + b"\0\0"))
        kind, body = self.message(connection)
        mechanism, rest = body.split(b"\0", 1)
        login[0] = chr(rest[4])
        connection.sendall(rawpg.message(b"R", b"\0\0\0\3"))
        kind, body = self.message(connection)
        assert kind == b"p"
        login[1] = body.rstrip(b"\0").decode()

    def answer(self, connection, kind, body):
        # What drivers ask first does not matter: the login is over.
        return False


@pytest.fixture(scope="module")
def server_tls(tls_cluster):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    folder = tls_cluster.directory
    context.load_cert_chain(folder / "server.crt", folder / "server.key")
    return context


def psql(endpoint, tls, request):
    """psql, with Debian's libpq."""
    environment = {**endpoint.environment(), "PGSSLMODE": "require" if tls else "disable"}
    command = [harness.PG_BIN / "psql", "-Xc", "SELECT 1"]
    subprocess.run(command, env=environment, capture_output=True, timeout=30)


def psql_without_binding(endpoint, tls, request):
    environment = {**endpoint.environment(), "PGSSLMODE": "require" if tls else "disable"}
    environment["PGCHANNELBINDING"] = "disable"
    command = [harness.PG_BIN / "psql", "-Xc", "SELECT 1"]
    subprocess.run(command, env=environment, capture_output=True, timeout=30)


def psycopg_with_libpq_18(endpoint, tls, request):
    python = request.getfixturevalue("newest_psycopg")
    conninfo = endpoint.conninfo(sslmode="require" if tls else "disable")
    connect = "import psycopg, sys; psycopg.connect(sys.argv[1]).execute('SELECT 1')"
    subprocess.run([python, "-c", connect, conninfo], capture_output=True, timeout=30)


def asyncpg_(endpoint, tls, request):
    async def connect():
        address = {"host": endpoint.host, "port": endpoint.port, "database": endpoint.dbname}
        login = {"user": endpoint.user, "password": endpoint.password}
        how = unverified() if tls else False
        await asyncpg.connect(**address, **login, ssl=how, timeout=20)

    with contextlib.suppress(Exception):
        asyncio.run(connect())


def pgjdbc(endpoint, tls, request):
    how = {"sslmode": "require" if tls else "disable", "host": "localhost"}
    compiled = request.getfixturevalue("classes")
    with contextlib.suppress(AssertionError):
        test_jdbc.session(compiled, endpoint, "login", **how)


def node_postgres(endpoint, tls, request, **more):
    how = {"PGHOST": "localhost", "OSPREY_TEST_TLS": "require" if tls else "disable", **more}
    test_node_postgres.node(request.getfixturevalue("script"), endpoint, "login", **how)


def node_postgres_that_binds(endpoint, tls, request):
    node_postgres(endpoint, tls, request, OSPREY_TEST_BINDING="1")


def odbc(endpoint, tls, request):
    mode = "require" if tls else "disable"
    address = f"Server=127.0.0.1;Port={endpoint.port};Database=d;UID=app;PWD={harness.PASSWORD}"
    with contextlib.suppress(pyodbc.Error):
        pyodbc.connect(f"Driver=PostgreSQL Unicode;SSLmode={mode};{address}", timeout=10)


def tokio_postgres(endpoint, tls, request, binding="prefer"):
    authority = request.getfixturevalue("tls_cluster").ca
    mode = "require" if tls else "disable"
    conninfo = endpoint.conninfo(host="localhost", sslmode=mode, channel_binding=binding)
    with contextlib.suppress(AssertionError):
        test_tokio_postgres.cargo_test(
            "logs_in", OSPREY_TEST_LOGINS=conninfo, OSPREY_TEST_CA=str(authority)
        )


def tokio_postgres_without_binding(endpoint, tls, request):
    tokio_postgres(endpoint, tls, request, "disable")


# driver: what it says over TLS and over plaintext, and whether it accepts being asked then, in each.
DRIVERS = {
    psql: ("y", True, "n", True),
    psql_without_binding: ("n", True, "n", True),
    psycopg_with_libpq_18: ("y", True, "n", True),
    odbc: ("y", True, "n", True),
    pgjdbc: ("n", True, "n", True),
    asyncpg_: ("n", True, "n", True),
    node_postgres: ("n", True, "n", True),
    node_postgres_that_binds: ("y", True, "y", True),
    # It takes nothing but the exchange's next message. Where it would say `y`, it must be told not to.
    tokio_postgres: ("y", False, "n", False),
    tokio_postgres_without_binding: ("n", False, "n", False),
}


# asyncpg's, on a connection that did not come about.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("tls", [True, False], ids=["tls", "plaintext"])
@pytest.mark.parametrize("driver", DRIVERS, ids=lambda driver: driver.__name__)
def test_what_drivers_say(server_tls, request, driver, tls):
    with Curious(server_tls) as server:
        endpoint = harness.Endpoint("127.0.0.1", server.port, "d", "direct")
        driver(endpoint, tls, request)
    flag, accepts = DRIVERS[driver][:2] if tls else DRIVERS[driver][2:]
    said, password = server.logins[0]
    assert (said, password == harness.PASSWORD) == (flag, accepts)


@pytest.mark.parametrize("tls", [True, False], ids=["tls", "plaintext"])
@pytest.mark.parametrize("mode", ["disable", "prefer", "require"])
def test_node_postgres_that_would_bind(osprey_with, script, mode, tls):
    osprey = osprey_with(mode)
    how = {"PGHOST": "localhost", "OSPREY_TEST_TLS": "require" if tls else "disable"}
    endpoint = osprey.endpoint("tls")
    status, printed, complaint = test_node_postgres.node(
        script, endpoint, "login", OSPREY_TEST_BINDING="1", **how
    )
    if not tls and mode == "require":
        assert status == 1 and complaint.startswith("28000 "), complaint
    else:
        assert (status, complaint) == (0, "")


@pytest.mark.parametrize("tls", [True, False], ids=["tls", "plaintext"])
@pytest.mark.parametrize("mode", ["disable", "prefer", "require"])
def test_tokio_postgres_without_binding(tls_cluster, osprey_with, mode, tls):
    """It would not take another method, and is not asked to."""
    endpoint = osprey_with(mode).endpoint("tls")
    conninfo = endpoint.conninfo(
        host="localhost", sslmode="require" if tls else "disable", channel_binding="disable"
    )
    authority = str(tls_cluster.ca)
    test_tokio_postgres.cargo_test(
        "logs_in", OSPREY_TEST_LOGINS=conninfo, OSPREY_TEST_CA=authority
    )


@pytest.mark.parametrize("mode", ["disable", "prefer", "require"])
def test_require_auth(osprey_with, newest_psycopg, mode):
    """libpq from 16 on can be told to give its password to nobody."""
    endpoint = osprey_with(mode).endpoint("tls")
    connect = "import psycopg, sys; psycopg.connect(sys.argv[1]).execute('SELECT 1')"
    conninfo = endpoint.conninfo(sslmode="require", channel_binding="disable")
    conninfo += " require_auth=scram-sha-256"
    done = subprocess.run(
        [newest_psycopg, "-c", connect, conninfo], capture_output=True, text=True, timeout=30
    )
    assert done.returncode == 0, done.stderr


# A login in one flight.


@pytest.mark.parametrize("tls", [False, True], ids=["plaintext", "tls"])
@pytest.mark.parametrize("user", ["app_trust", "app_password"])
def test_everything_in_one_flight(tls_cluster, tls_osprey, user, tls):
    """Clients that know how they will be asked do not wait for it."""
    flight = rawpg.startup(user=user, database="tls")
    if user == "app_password":
        flight += rawpg.message(b"p", harness.PASSWORD.encode() + b"\0")
    flight += rawpg.query("SELECT 41 + 1") + rawpg.query("SELECT count(*) FROM people")
    seen = []
    for port in (tls_cluster.port, tls_osprey.port):
        with rawpg.Client("localhost", port, timeout=5) as client:
            if tls:
                client.start_tls(unverified())
            client.send(flight)
            start = client.until_ready()
            answers = client.until_ready() + client.until_ready()
            kinds = rawpg.kinds(start).replace("S", "")
            seen.append((kinds, [part for part in answers if part[0] != b"S"]))
    assert seen[0] == seen[1]
    assert seen[1][0] == ("RRKZ" if user == "app_password" else "RKZ")


def test_one_flight_behind_ssl_request_is_refused(tls_osprey):
    """Nobody may put words in front of what is encrypted."""
    with rawpg.Client("localhost", tls_osprey.port, timeout=5) as client:
        client.send(rawpg.SSL_REQUEST + rawpg.startup(user="app_trust", database="tls"))
        data, _ = rawpg.read_to_the_end(client.socket)
        assert b"Z\0\0\0\5" not in data


# What is no login.

NO_STARTUP = {
    "terminate": rawpg.TERMINATE,
    "length-3": struct.pack("!i", 3),
    "length-0": struct.pack("!i", 0) + bytes(8),
    "negative": struct.pack("!ii", -1, 196608),
    "too-long": struct.pack("!ii", 10_001, 196608) + bytes(100),
    "half": struct.pack("!i", 8) + b"\4",
    "nothing": b"",
    "http": b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
}


@pytest.mark.parametrize("name", NO_STARTUP)
def test_impossible_startup_is_answered_by_silence(cluster, osprey, name):
    """As PostgreSQL does: node-postgres, for one, cannot take an answer when it ends before it begins."""
    for port in (cluster.port, osprey.port):
        with rawpg.Client("127.0.0.1", port, timeout=5) as client:
            client.send(NO_STARTUP[name])
            client.socket.shutdown(rawpg.socket.SHUT_WR)
            assert rawpg.read_to_the_end(client.socket)[0] == b""


def test_node_postgres_that_ends_before_it_begins(script, osprey):
    done = subprocess.run(
        ["node", "-e", "const c = new (require('pg').Client)(); c.connect(); c.end()"],
        env=osprey.endpoint("postgres").environment(),
        cwd=script.parent,
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert (done.returncode, done.stderr) == (0, "")


# How long it takes.


def test_catalogs_that_cannot_be_read_cost_a_second(cluster, database, tmp_path):
    """holo-client-c gives a login two, by default."""
    conftest.need_osprey()
    with harness.Osprey(cluster.port, ["--encrypted-project", "finance_byok"]) as osprey:
        with cluster.admin(database) as admin:
            admin.execute("BEGIN")
            admin.execute("LOCK TABLE pg_catalog.pg_foreign_table IN ACCESS EXCLUSIVE MODE")
            begun = time.monotonic()
            with osprey.endpoint(database).connect() as connection:
                assert time.monotonic() - begun < 2
                assert connection.execute("SELECT 1").fetchone() == (1,)
            admin.execute("ROLLBACK")
