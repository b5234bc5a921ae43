"""PROXY protocol v2: where a load balancer stands in front, the client's address is the one that it
names; and only from where it may."""

import contextlib
import ipaddress
import re
import socket
import ssl
import struct
import time

import pytest

import conftest
import harness
import rawpg

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
LOCAL, PROXY = 0x20, 0x21
TCP4, TCP6 = 0x11, 0x21
CLIENT = ("203.0.113.7", 5555)


def raw_header(command, family, body):
    return SIGNATURE + struct.pack("!BBH", command, family, len(body)) + body


def header(address=CLIENT, more=b""):
    """The header of a connection from an address to somewhere."""
    source = ipaddress.ip_address(address[0])
    v4 = source.version == 4
    target = ipaddress.ip_address("192.0.2.1" if v4 else "2001:db8::1")
    body = source.packed + target.packed + struct.pack("!HH", address[1], 6432)
    return raw_header(PROXY, TCP4 if v4 else TCP6, body + more)


@contextlib.contextmanager
def listening(tmp_path, mode, networks='["127.0.0.0/8"]', limits="", tls=""):
    """An Osprey with such a listener, in front of a played server; both."""
    conftest.need_osprey()
    port = harness.free_port()
    proxy = f'proxy_protocol = "{mode}"\n'
    if mode != "off":
        proxy += f"proxy_networks = {networks}\n"
    with rawpg.Played() as server:
        text = f"""
[upstream]
address = "127.0.0.1:{server.port}"
[upstream.tls]
mode = "disable"
[catalog]
borrow = false
[limits]
{limits}
[listen]
addresses = ["127.0.0.1:{port}"]
{proxy}
{tls}
"""
        with harness.Osprey.from_file(tmp_path / "osprey.toml", text, port) as osprey:
            yield osprey, server


def connect(osprey, first=b"", source=None):
    client = rawpg.Client("127.0.0.1", osprey.port, source=source)
    client.send(first)
    return client


def log_in(client):
    """True once the client is logged in and its statement is answered."""
    client.log_in(user="app", database="d")
    return rawpg.kinds(client.ask(rawpg.query("SELECT 1"))) == "CZ"


def closed_in_silence(client):
    client.socket.settimeout(5)
    return client.until_closed() == []


def opened(osprey):
    """The addresses of the clients in the log's lines of sessions that were opened."""
    return re.findall(r"session opened.*?peer=(\S+)", osprey.log())


def count(osprey, outcome):
    osprey.wait_for_metric("osprey_proxy_headers_total", 1, outcome=outcome)
    assert osprey.metric("osprey_proxy_headers_total") == 1


# With a header.


@pytest.mark.parametrize("mode", ["accept", "require"])
@pytest.mark.parametrize("address", [CLIENT, ("2001:db8::7", 5555)], ids=["v4", "v6"])
def test_the_address_is_the_clients(tmp_path, mode, address):
    with listening(tmp_path, mode) as (osprey, _):
        with connect(osprey, header(address)) as client:
            assert log_in(client)
            count(osprey, "taken")
        shown = f"[{address[0]}]" if ":" in address[0] else address[0]
        harness.wait_for(lambda: opened(osprey) == [f"{shown}:5555"], osprey.log())


@pytest.mark.parametrize("size", [1, 5, 16, 28])
def test_header_in_parts(tmp_path, size):
    """However it is cut, and with the startup packet behind it in one piece."""
    data = header() + rawpg.startup(user="app", database="d")
    with listening(tmp_path, "require") as (osprey, server):
        with connect(osprey) as client:
            for at in range(0, len(data), size):
                client.send(data[at : at + size])
                time.sleep(0.002)
            assert rawpg.kinds(client.until_ready()) == "RKZ"
        assert server.startups == [{"user": "app", "database": "d"}]


def test_what_else_a_header_says_is_passed_over(tmp_path):
    """Load balancers add their own: the id of a VPC endpoint, a checksum, padding."""
    more = struct.pack("!BH", 0xEA, 9) + b"\1endpoint" + struct.pack("!BH", 4, 500) + bytes(500)
    with listening(tmp_path, "require") as (osprey, _):
        with connect(osprey, header(more=more)) as client:
            assert log_in(client)
            count(osprey, "taken")


def test_tls_behind_a_header(tls_cluster, tmp_path):
    context = ssl.create_default_context(cafile=tls_cluster.ca)
    folder = tls_cluster.directory
    tls = f'[listen.tls]\ncertificate = "{folder}/server.crt"\nkey = "{folder}/server.key"\n'
    with listening(tmp_path, "require", tls=tls) as (osprey, _):
        with connect(osprey, header()) as client:
            client.start_tls(context)
            assert log_in(client)
        # And from the first byte behind it.
        context.set_alpn_protocols(["postgresql"])
        with connect(osprey, header()) as client:
            client.socket = context.wrap_socket(client.socket, server_hostname="localhost")
            assert log_in(client)
        harness.wait_for(lambda: opened(osprey) == ["203.0.113.7:5555"] * 2, osprey.log())


def test_cancel_behind_a_header(tmp_path):
    with listening(tmp_path, "require") as (osprey, server):
        with connect(osprey, header()) as client:
            assert log_in(client)
            with connect(osprey, header() + rawpg.cancel(client.key)) as cancelling:
                assert closed_in_silence(cancelling)
            assert server.cancels == [client.key]


def test_limits_are_per_client(tmp_path):
    """And not per load balancer."""
    with listening(tmp_path, "require", limits="max_sessions_per_address = 1") as (osprey, _):
        with connect(osprey, header()) as one, connect(osprey, header(("203.0.113.8", 1))) as two:
            assert log_in(one) and log_in(two)
            with connect(osprey, header(("203.0.113.7", 6666))) as three:
                three.start_up(user="app", database="d")
                messages = three.until_closed()
            assert rawpg.kinds(messages).lstrip("RSK") == "E"
            fields = rawpg.error_fields(messages[-1][1])
            assert fields["C"] == "53300"
            assert "limits.max_sessions_per_address is 1" in fields["M"]


def test_upstream_is_sent_none(tmp_path):
    """What arrives there begins with the startup packet: `startups` would not hold it otherwise."""
    with listening(tmp_path, "require") as (osprey, server):
        with connect(osprey, header()) as client:
            assert log_in(client)
        assert len(server.startups) == 1


# Health checks.


@pytest.mark.parametrize("family, body", [(0, b""), (TCP4, bytes(12)), (TCP4, b"\1" * 12)])
def test_local(tmp_path, family, body):
    """A connection of the load balancer's own: its address is what it is, whatever the header says."""
    with listening(tmp_path, "require") as (osprey, _):
        with connect(osprey, raw_header(LOCAL, family, body), "127.0.0.4") as client:
            assert log_in(client)
            count(osprey, "local")
        harness.wait_for(lambda: opened(osprey), "the session in the log")
        assert opened(osprey)[0].startswith("127.0.0.4:")


def test_health_check_that_says_no_more(tmp_path):
    """It is no session, and nothing to warn of."""
    with listening(tmp_path, "require") as (osprey, server):
        begun = len(osprey.log())
        for _ in range(5):
            connect(osprey, raw_header(LOCAL, 0, b"")).close()
        osprey.wait_for_metric("osprey_proxy_headers_total", 5, outcome="local")
        osprey.wait_for_metric("osprey_greetings", 0)
        assert server.accepted == 0
        assert "WARN" not in osprey.log()[begun:]


# Without one.


@pytest.mark.parametrize("mode", ["off", "accept"])
def test_no_header_needed(tmp_path, mode):
    with listening(tmp_path, mode) as (osprey, _):
        with connect(osprey, source="127.0.0.5") as client:
            assert log_in(client)
        harness.wait_for(lambda: opened(osprey), "the session in the log")
        assert opened(osprey)[0].startswith("127.0.0.5:")


@pytest.mark.parametrize(
    "first",
    [rawpg.startup(user="app"), rawpg.SSL_REQUEST, rawpg.cancel(bytes(8)), b"\x16\3\1\0\5hello"],
    ids=["startup", "ssl-request", "cancel", "tls"],
)
def test_header_is_missing(tmp_path, first):
    with listening(tmp_path, "require") as (osprey, server):
        with connect(osprey, first) as client:
            assert closed_in_silence(client)
        count(osprey, "missing")
        assert server.accepted == 0
        with connect(osprey, header()) as client:
            assert log_in(client)


def test_header_where_none_is_expected(tmp_path):
    """It is a startup packet of an impossible length there."""
    with listening(tmp_path, "off") as (osprey, server):
        with connect(osprey, header() + rawpg.startup(user="app", database="d")) as client:
            assert closed_in_silence(client)
        assert osprey.metric("osprey_proxy_headers_total", outcome="taken") == 0
        assert server.accepted == 0


# From where it may not come.


@pytest.mark.parametrize("mode", ["accept", "require"])
def test_forbidden_network(tmp_path, mode):
    """Anyone could call himself anything."""
    with listening(tmp_path, mode, '["10.0.0.0/8", "127.0.0.128/25"]') as (osprey, server):
        with connect(osprey, header() + rawpg.startup(user="app", database="d")) as client:
            assert closed_in_silence(client)
        count(osprey, "forbidden")
        assert server.accepted == 0 and opened(osprey) == []
        with connect(osprey, header(), "127.0.0.200") as client:
            assert log_in(client)


def test_forbidden_network_without_a_header(tmp_path):
    """Where none is required, a client that does not come through the load balancer is a client."""
    with listening(tmp_path, "accept", '["10.0.0.0/8"]') as (osprey, _):
        with connect(osprey) as client:
            assert log_in(client)


# Garbage.

GARBAGE = {
    "version-1-of-it": b"PROXY TCP4 203.0.113.7 192.0.2.1 5555 6432\r\n",
    "version": SIGNATURE + b"\x31\x11\0\x0c" + bytes(12),
    "command": SIGNATURE + b"\x2f\x11\0\x0c" + bytes(12),
    "family": SIGNATURE + b"\x21\xf1\0\x0c" + bytes(12),
    "too-short": SIGNATURE + b"\x21\x11\0\4" + bytes(4),
    "no-addresses": SIGNATURE + b"\x21\x21\0\0",
}


@pytest.mark.parametrize("name", GARBAGE)
def test_garbage(tmp_path, name):
    """That connection alone ends; in `require`, what does not even begin like a header is one missing."""
    with listening(tmp_path, "require") as (osprey, server):
        first = GARBAGE[name] + rawpg.startup(user="app", database="d")
        with connect(osprey, first) as client:
            assert closed_in_silence(client)
        count(osprey, "missing" if name == "version-1-of-it" else "invalid")
        assert server.accepted == 0
        with connect(osprey, header()) as client:
            assert log_in(client)


def test_header_that_does_not_end(tmp_path):
    """Within greeting_timeout, whatever drips in."""
    with listening(tmp_path, "require", limits='greeting_timeout = "1s"') as (osprey, _):
        with connect(osprey, header()[:20]) as client:
            begun = time.monotonic()
            assert closed_in_silence(client)
            assert time.monotonic() - begun < 4
        osprey.wait_for_metric("osprey_greetings", 0)


def test_half_a_header_and_gone(tmp_path):
    with listening(tmp_path, "require") as (osprey, _):
        for at in (1, 12, 15, 20, 27):
            with connect(osprey, header()[:at]) as client:
                client.socket.shutdown(socket.SHUT_WR)
                assert closed_in_silence(client)
        osprey.wait_for_metric("osprey_greetings", 0)
        with connect(osprey, header()) as client:
            assert log_in(client)
