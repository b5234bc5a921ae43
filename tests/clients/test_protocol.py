"""Corners of the protocol that drivers seldom enter: raw messages, answered alike direct and through
Osprey; and servers of newer versions than the stand-in, played by a socket."""

import contextlib
import socket
import struct
import threading

import psycopg
import psycopg2
import pytest

import conftest
import harness
import rawpg

VERSION_3_2 = (3 << 16) + 2
CANCEL_REQUEST = 80877102
GSSENC_REQUEST = struct.pack("!ii", 8, 80877104)
SSL_REQUEST = struct.pack("!ii", 8, 80877103)


def without_key(messages):
    """All but the process id and the key, which are each session's own."""
    return [(kind, payload) for kind, payload in messages if kind != b"K"]


@pytest.mark.parametrize("options", [{}, {"_pq_.unheard_of": "1"}], ids=["version", "option"])
def test_newer_protocol_is_negotiated(pair, options):
    """PostgreSQL 15 knows 3.0 alone and says so; what the client makes of it is the client's."""
    seen = []
    for endpoint in pair:
        with rawpg.Client(endpoint.host, endpoint.port) as client:
            client.start_up(VERSION_3_2, user="app_trust", database=endpoint.dbname, **options)
            start = client.until_ready()
            assert rawpg.kinds(start).startswith("vR")
            seen.append(without_key(start) + client.ask(rawpg.query("SELECT 1")))
    assert seen[0] == seen[1]


def receive_packet(connection):
    """One packet without a type byte."""
    head = connection.recv(4, socket.MSG_WAITALL)
    return head + connection.recv(struct.unpack("!i", head)[0] - 4, socket.MSG_WAITALL)


@contextlib.contextmanager
def played_server(tmp_path):
    """An Osprey in front of a socket; gives both."""
    conftest.need_osprey()
    config = tmp_path / "osprey.toml"
    config.write_text('[upstream.tls]\nmode = "disable"\n[catalog]\nborrow = false\n')
    with socket.create_server(("127.0.0.1", 0)) as listener:
        with harness.Osprey(listener.getsockname()[1], config=config) as osprey:
            yield listener, osprey


def authentication(code, data=b""):
    return rawpg.message(b"R", struct.pack("!i", code) + data)


@pytest.mark.parametrize("answered", [True, False])
@pytest.mark.parametrize("together", [True, False])
def test_gssapi_is_relayed(tmp_path, answered, together):
    """Tokens go to and fro as they are. The server's last one may need no answer."""
    ready = authentication(0) + rawpg.message(b"Z", b"I")
    with played_server(tmp_path) as (listener, osprey):
        with rawpg.Client("127.0.0.1", osprey.port) as client:
            client.start_up(user="app", database="app")
            server = listener.accept()[0]
            receive_packet(server)
            server.sendall(authentication(7))
            assert client.receive() == (b"R", struct.pack("!i", 7))
            token = rawpg.message(b"p", b"\0the client's token\0")
            client.send(token)
            assert server.recv(len(token), socket.MSG_WAITALL) == token
            last = authentication(8, b"\0the server's\0")
            server.sendall(last + (ready if together else b""))
            assert client.receive() == (b"R", last[5:])
            if answered and not together:
                client.send(token)
                assert server.recv(len(token), socket.MSG_WAITALL) == token
            if not together:
                server.sendall(ready)
            assert rawpg.kinds(client.until_ready()) == "RZ"
            server.close()


def test_server_that_waits_for_no_password(tmp_path):
    """A client that thinks about its password for too long hears that the server has given up."""
    with played_server(tmp_path) as (listener, osprey):
        with rawpg.Client("127.0.0.1", osprey.port) as client:
            client.start_up(user="app", database="app")
            server = listener.accept()[0]
            receive_packet(server)
            server.sendall(authentication(3))
            assert client.receive() == (b"R", struct.pack("!i", 3))
            last = rawpg.message(b"E", b"SFATAL\0VFATAL\0C57014\0Mtoo long\0\0")
            server.sendall(last)
            server.close()
            assert client.until_closed() == [(b"E", last[5:])]


def test_long_cancel_key(tmp_path):
    """Protocol 3.2: a key of up to 256 bytes goes to the client, and comes back to the server."""
    key = struct.pack("!i", 4711) + bytes(range(256))
    parts = [authentication(0), rawpg.message(b"K", key), rawpg.message(b"Z", b"I")]
    arrived = []
    with played_server(tmp_path) as (listener, osprey):
        with rawpg.Client("127.0.0.1", osprey.port) as client:
            client.start_up(VERSION_3_2, user="app", database="app")
            server = listener.accept()[0]
            arrived.append(receive_packet(server))
            server.sendall(b"".join(parts))
            assert client.until_ready() == [(b"R", bytes(4)), (b"K", key), (b"Z", b"I")]

            request = struct.pack("!ii", 8 + len(key), CANCEL_REQUEST) + key
            with rawpg.Client("127.0.0.1", osprey.port) as canceling:
                canceling.send(request)
                forwarded = listener.accept()[0]
                arrived.append(receive_packet(forwarded))
                forwarded.close()
                # As PostgreSQL does: closed without a word, once the signal is sent.
                assert canceling.until_closed() == []
            server.close()
    assert arrived[0][4:8] == struct.pack("!i", VERSION_3_2)
    assert arrived[1] == request


def test_gssenc_request(osprey, tls_osprey):
    """Not on offer; the client goes on with a session, or asks for TLS."""
    with rawpg.Client("127.0.0.1", osprey.port) as client:
        client.send(GSSENC_REQUEST)
        assert client.socket.recv(1) == b"N"
        client.start_up(user="app_trust", database="postgres")
        assert rawpg.kinds(client.until_ready()).endswith("Z")
    with rawpg.Client("127.0.0.1", tls_osprey.port) as client:
        client.send(GSSENC_REQUEST)
        assert client.socket.recv(1) == b"N"
        client.send(SSL_REQUEST)
        assert client.socket.recv(1) == b"S"


@pytest.mark.parametrize("statement", ["SELECT * FROM people", "SELECT * FROM salaries, pg_sleep(1)"])
def test_half_closed_connection(pair, statement):
    """A client that has closed its sending half gets the answer to what it has sent."""
    seen = []
    for endpoint in pair:
        with rawpg.Client(endpoint.host, endpoint.port) as client:
            right = {"options": f"-c {harness.ORC}=off"} if endpoint.direct else {}
            client.start_up(user="app_trust", database=endpoint.dbname, **right)
            client.until_ready()
            client.send(rawpg.query(statement))
            client.socket.shutdown(socket.SHUT_WR)
            seen.append(client.until_closed())
    assert rawpg.kinds(seen[0]).endswith("CZ")
    assert seen[0] == seen[1]


def test_large_objects(pair):
    """psycopg2 reads and writes them by FunctionCall."""
    seen = []
    for endpoint in pair:
        with contextlib.closing(psycopg2.connect(endpoint.conninfo())) as connection:
            cursor = connection.cursor()
            large = connection.lobject(0, "wb")
            for number in range(40):
                large.write(bytes([number]) * 100_000)
            large.seek(1_000_000)
            cursor.execute(f"SET {harness.ORC} = off" if endpoint.direct else "SELECT 1")
            cursor.execute("SELECT count(*) FROM salaries")
            seen.append(cursor.fetchall())
            large = connection.lobject(large.oid, "rb")
            seen.append((large.read(3_900_001)[-1], large.tell(), len(large.read())))
            large.unlink()
            with pytest.raises(psycopg2.Error) as caught:
                connection.lobject(large.oid, "rb")
            seen.append(caught.value.pgcode)
    assert seen[:3] == seen[3:]


FATAL = {
    # A setting, and what ends the session by it.
    "idle": ("idle_session_timeout", []),
    "idle-in-transaction": ("idle_in_transaction_session_timeout", ["BEGIN", "TABLE salary_names"]),
}


@pytest.mark.parametrize("name", FATAL)
def test_session_that_the_server_ends(pair, name):
    """Its last words arrive, without being asked for, and then the connection ends."""
    setting, statements = FATAL[name]
    if name == "idle" and harness.POSTGRES < 14:
        pytest.skip("PostgreSQL has had this setting since 14")
    seen = []
    for endpoint in pair:
        with rawpg.Client(endpoint.host, endpoint.port) as client:
            options = f"-c {setting}=300ms"
            if endpoint.direct:
                options += f" -c {harness.ORC}=off"
            client.start_up(user="app_trust", database=endpoint.dbname, options=options)
            client.until_ready()
            answers = [client.ask(rawpg.query(statement)) for statement in statements]
            seen.append((answers, client.until_closed()))
    assert [rawpg.error_fields(payload)["S"] for _, payload in seen[0][1]] == ["FATAL"]
    assert seen[0] == seen[1]


def test_statement_timeout(pair):
    seen = []
    for endpoint in pair:
        right = {"options": f"-c {harness.ORC}=off"} if endpoint.direct else {}
        with endpoint.connect(**right) as connection:
            connection.execute("SET statement_timeout = '300ms'")
            with pytest.raises(psycopg.errors.QueryCanceled) as caught:
                connection.execute("SELECT pg_sleep(30), count(*) FROM salaries")
            seen.append(str(caught.value))
            seen.append(connection.execute("SELECT count(*) FROM salaries").fetchall())
    assert seen[:2] == seen[2:]


def test_server_shuts_down(extension):
    """Sessions that wait, and one that has a statement running, are told why they end."""
    conftest.need_osprey()
    seen = []
    for through in (False, True):
        with harness.Cluster() as cluster, contextlib.ExitStack() as stack:
            endpoint = cluster.endpoint("postgres")
            if through:
                osprey = stack.enter_context(harness.Osprey.in_front_of(cluster))
                endpoint = osprey.endpoint("postgres")
            waiting = stack.enter_context(rawpg.Client.logged_in(endpoint))
            busy = stack.enter_context(rawpg.Client.logged_in(endpoint))
            busy.send(rawpg.query("SELECT pg_sleep(30)"))
            harness.wait_for(
                lambda: cluster.query(
                    "postgres", "SELECT 1 FROM pg_stat_activity WHERE wait_event = 'PgSleep'"
                ),
                "the statement to run",
            )
            stopped = threading.Thread(target=cluster.shut_down)
            stopped.start()
            seen.append((waiting.until_closed(), busy.until_closed()))
            stopped.join()
    assert [rawpg.kinds(messages) for messages in seen[0]] == ["E", "TE"]
    assert seen[0] == seen[1]


def test_a_flush_with_a_body_fails_as_it_does_directly(cluster, osprey, database):
    """The server refuses it and skips to a Sync: what is behind is answered to whom it belongs."""

    def answered(endpoint):
        with rawpg.Client(endpoint.host, endpoint.port) as client:
            client.start_up(user="app_trust", database=endpoint.dbname)
            client.until_ready()
            read = rawpg.query("SELECT count(*) FROM salaries")
            client.send(rawpg.message(b"H", b"xx") + read + rawpg.SYNC + rawpg.query("SELECT 2"))
            return [rawpg.kinds(client.until_ready()) for _ in range(2)]

    direct = answered(cluster.endpoint(database))
    assert answered(osprey.endpoint(database)) == direct
