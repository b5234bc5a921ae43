"""Bad input, from either side: each ends as the issue of it says, and the process goes on."""

import socket
import struct
import subprocess
import time

import pytest

import conftest
import harness
import rawpg


def alive(endpoint):
    """The way to the server works for a new session."""
    with rawpg.Client.logged_in(endpoint) as client:
        assert rawpg.kinds(client.ask(rawpg.query("SELECT 1"))) == "TDCZ"
    return True


MALFORMED = {
    "length-below-4": b"Q" + struct.pack("!i", 3) + b"SELECT 1\0",
    "length-0": b"Q" + struct.pack("!i", 0),
    "negative-length": b"P" + struct.pack("!i", -5) + b"x",
    "unknown-kind": b"z" + struct.pack("!i", 4),
    "kind-0": b"\0" + struct.pack("!i", 4),
    "sync-too-long": b"S" + struct.pack("!i", 2000000000),
    "query-without-end": rawpg.message(b"Q", b"SELECT 1"),
    "text-in-the-clear": b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
}


@pytest.mark.parametrize("name", MALFORMED)
def test_malformed_frame(endpoint, name):
    with rawpg.Client.logged_in(endpoint) as client:
        client.send(MALFORMED[name])
        answer = client.ask(b"") if name == "query-without-end" else client.until_closed()
        errors = [rawpg.error_fields(payload) for kind, payload in answer if kind == b"E"]
        codes = [error["C"] for error in errors]
        # PostgreSQL only logs a bad length, and closes.
        assert codes == ["08P01"] or (codes == [] and name in SILENT[endpoint.via]), answer
    assert alive(endpoint)


# Where nothing but the end of the connection is promised. Osprey does not hold long messages, so what
# the upstream thinks of their length is the upstream's to say.
SILENT = {
    "direct": ["length-below-4", "length-0", "negative-length", "sync-too-long"],
    "osprey": ["sync-too-long"],
}

STARTUPS = {
    "length-0": struct.pack("!i", 0),
    "length-7": struct.pack("!i", 7) + b"abc",
    "too-long": struct.pack("!ii", 10001, 196608) + bytes(9993),
    "negative": struct.pack("!ii", -1, 196608),
    "no-terminator": struct.pack("!ii", 12, 196608) + b"user",
    "http": b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "unknown-version": struct.pack("!ii", 9, 12 << 16) + b"\0",
}


@pytest.mark.parametrize("name", STARTUPS)
def test_malformed_startup(endpoint, name):
    """The connection ends; not by hanging, and not by ending the process."""
    with rawpg.Client(endpoint.host, endpoint.port) as client:
        client.send(STARTUPS[name])
        kinds = rawpg.kinds(client.until_closed())
        assert kinds in ("", "E")
    assert alive(endpoint)


def test_bytes_behind_ssl_request(endpoint):
    """What follows SSLRequest before its answer could be taken as if it had been encrypted."""
    with rawpg.Client(endpoint.host, endpoint.port) as client:
        startup = struct.pack("!ii", 9 + 15, 196608) + b"user\0app_trust\0\0"
        client.send(struct.pack("!ii", 8, 80877103) + startup)
        if endpoint.direct:
            return  # PostgreSQL without TLS takes it as a startup packet; nothing to compare with
        reply = client.socket.recv(1)
        assert reply in (b"", b"N", b"E")
        messages = client.until_closed() if reply == b"N" else []
        assert "Z" not in rawpg.kinds(messages)
    assert alive(endpoint)


@pytest.mark.parametrize("abrupt", [False, True], ids=["close", "reset"])
def test_client_leaves(endpoint, cluster, abrupt):
    """A client that goes away in the middle of an answer leaves nothing behind."""
    with rawpg.Client.logged_in(endpoint) as client:
        client.send(rawpg.query("SELECT repeat('x', 1000000) FROM generate_series(1, 100)"))
        client.socket.recv(1000)
        if abrupt:
            linger = struct.pack("ii", 1, 0)
            client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    harness.wait_for(
        lambda: cluster.query(
            "postgres",
            "SELECT count(*) FROM pg_stat_activity WHERE datname = %s AND usename = 'app_trust'",
            endpoint.dbname,
        )
        == [(0,)],
        "the session to end upstream",
    )
    assert alive(endpoint)


def refusal(osprey):
    """How Osprey turns a client away: the fields of its one ErrorResponse."""
    with rawpg.Client("127.0.0.1", osprey.port) as client:
        client.start_up(user="app_trust", database="postgres")
        messages = client.until_closed()
    assert rawpg.kinds(messages) == "E", messages
    return rawpg.error_fields(messages[0][1])


def test_upstream_cannot_be_reached():
    conftest.need_osprey()
    with harness.Osprey(harness.free_port()) as osprey:
        for _ in range(2):
            fields = refusal(osprey)
            assert (fields["S"], fields["C"]) == ("FATAL", "08006")
            assert "refused" in fields["M"] + fields.get("D", "")
        status, output = osprey.endpoint("postgres").psql("-c", "SELECT 1")
        assert status == 2
        assert "FATAL" in output and "refused" in output, output


def test_upstream_comes_back(extension):
    """An Osprey that was started before its Hologres, or outlives it, is of use once it is there."""
    conftest.need_osprey()
    with harness.Cluster() as cluster:
        with harness.Osprey.in_front_of(cluster) as osprey:
            endpoint = osprey.endpoint("postgres")
            assert alive(endpoint)
            cluster.shut_down()
            assert refusal(osprey)["C"] == "08006"
            cluster.launch()
            assert alive(endpoint)


def test_upstream_closes_at_once():
    """Something listens at the upstream's address that is no PostgreSQL."""
    conftest.need_osprey()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        with harness.Osprey(listener.getsockname()[1]) as osprey:
            with rawpg.Client("127.0.0.1", osprey.port) as client:
                client.start_up(user="app_trust", database="postgres")
                listener.accept()[0].close()
                # Osprey may ask for TLS first and try again without.
                listener.settimeout(2)
                try:
                    listener.accept()[0].close()
                except TimeoutError:
                    pass
                messages = client.until_closed()
            assert rawpg.kinds(messages) == "E", messages
            fields = rawpg.error_fields(messages[0][1])
            assert (fields["S"], fields["C"]) == ("FATAL", "08006")


BAD_CONFIGURATIONS = {
    # name: (file, what the message must name)
    "unknown-key": ('[upstream]\naddress = "127.0.0.1:80"\nadress = "x"\n', ["adress", "3"]),
    "wrong-type": ('[upstream]\naddress = 80\n', ["upstream.address", "2"]),
    "out-of-range": ('[upstream]\naddress = "127.0.0.1:800000"\n', ["upstream.address", "2"]),
    "not-toml": ('[upstream\naddress = "127.0.0.1:80"\n', ["1"]),
    "unknown-section": ('[upstream]\naddress = "127.0.0.1:80"\n[protekt]\n', ["protekt", "3"]),
    "unknown-route": (
        '[upstream]\naddress = "127.0.0.1:80"\n[route]\nkind = "hqe"\n',
        ["route.kind", "4", "common-table"],
    ),
    "no-upstream": ("[route]\n", ["upstream"]),
}


@pytest.mark.parametrize("command", ["serve", "check-config"])
@pytest.mark.parametrize("name", BAD_CONFIGURATIONS)
def test_bad_configuration(tmp_path, name, command):
    conftest.need_osprey()
    text, named = BAD_CONFIGURATIONS[name]
    path = tmp_path / "osprey.toml"
    path.write_text(text)
    done = subprocess.run(
        [harness.osprey_binary(), command, "--config", path],
        capture_output=True,
        text=True,
        timeout=20,
    )
    assert done.returncode == 2, done.stderr
    if name != "no-upstream":
        assert str(path) in done.stderr
    for word in named:
        assert word in done.stderr


def test_configuration_file_is_missing(tmp_path):
    conftest.need_osprey()
    path = tmp_path / "nowhere.toml"
    done = subprocess.run(
        [harness.osprey_binary(), "serve", "--config", path],
        capture_output=True,
        text=True,
        timeout=20,
    )
    assert done.returncode == 2, done.stderr
    assert str(path) in done.stderr


def test_sigterm_ends_the_process(cluster):
    conftest.need_osprey()
    osprey = harness.Osprey.in_front_of(cluster).start()
    with rawpg.Client.logged_in(osprey.endpoint("postgres")) as client:
        assert osprey.stop() == 0
        client.until_closed()
    with pytest.raises(ConnectionRefusedError):
        rawpg.Client("127.0.0.1", osprey.port)


PANGU = (
    b'status { code: SERVER_INTERNAL_ERROR message: "hos_exception: IO error: Failed to execute pangu open normal '
    b"file pangu://h:1/product/odps/sales/data/x, errorcode: 9, err_msg: PanguParameterInvalidException"
)
INTERNAL = b"SERROR\0VERROR\0CXX000\0"
# The bodies of errors that nothing is made of, each nearly one that is.
# Byte by byte so many take a minute.
MANY = 1 << 18 if harness.TINY_IO else 10 << 20
ERRORS = {
    "ten megabytes": INTERNAL + b"M" + PANGU + b"x" * MANY + b"\0\0",
    "ten megabytes of detail": INTERNAL + b"M" + PANGU + b"\0D" + b"x" * MANY + b"\0\0",
    "bytes that are no text": INTERNAL + b"M\xff\xfe" + PANGU + b"\xc3\0\0",
    "a NUL within": INTERNAL + b"M" + PANGU.replace(b"execute", b"exe\0cute") + b"\0\0",
    "a NUL first": b"\0" + INTERNAL + b"M" + PANGU + b"\0\0",
    "ten thousand fields": INTERNAL + b"Mno\0" + (b"D" + PANGU[:60] + b"\0") * 10_000 + b"\0",
    "ten thousand fields without a name": b"\1\0" * 10_000 + b"\0",
    "the words a thousand times": INTERNAL
    + b"M"
    + b"IO error: Failed to execute pangu pangu:// /product/odps/ " * 1000
    + b"\0\0",
    "no end": INTERNAL + b"M" + PANGU[:90],
    "nothing": b"",
}


class Erring(rawpg.Played):
    """Answers each Query by the error that it names."""

    def answer(self, connection, kind, body):
        if kind == b"Q":
            name = body.rstrip(b"\0").decode().removeprefix("SELECT 1 -- ")
            error = ERRORS.get(name, INTERNAL + b"M" + PANGU + b"\0\0")
            connection.sendall(rawpg.message(b"E", error) + rawpg.READY)


def test_errors_of_every_form_pass_as_they_came(tmp_path):
    conftest.need_osprey()
    config = tmp_path / "osprey.toml"
    # A second run would be asked for in ways that this server does not answer.
    more = "[route]\nretry = false\n"
    config.write_text(f'[upstream.tls]\nmode = "disable"\n[catalog]\nborrow = false\n{more}')
    with Erring() as server, harness.Osprey(server.port, config=config) as osprey:
        with rawpg.Client.logged_in(osprey.endpoint("postgres")) as client:
            for name, body in ERRORS.items():
                begin = time.monotonic()
                answer = client.ask(rawpg.query(f"SELECT 1 -- {name}"))
                assert rawpg.kinds(answer) == "EZ", name
                assert answer[0][1] == body, name
                assert time.monotonic() - begin < 60, name
            # That of which they are all nearly one.
            [error, _] = client.ask(rawpg.query("SELECT 1 -- the error itself"))
            assert b"Osprey OSP-" in error[1]
        assert "panic" not in osprey.log()
