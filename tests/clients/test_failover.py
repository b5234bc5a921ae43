"""An upstream of several addresses: one that is gone, is a black hole, or accepts and says nothing, costs
a moment and no login."""

import contextlib
import socket
import ssl
import time

import psycopg
import pytest

import conftest
import harness
import rawpg

# More than a login with two addresses takes, less than the connect_timeout that one could use up.
SOON = 4


@contextlib.contextmanager
def refusing():
    """An address at which nobody listens."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.2", 0))
        yield bound.getsockname()[1]


@contextlib.contextmanager
def mute():
    """An address that accepts, and never says a word."""
    with socket.create_server(("127.0.0.2", 0)) as listener:
        yield listener.getsockname()[1]


@contextlib.contextmanager
def black_hole():
    """An address that does not even answer a connect: its queue is full."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.2", 0), backlog=0))
        port = listener.getsockname()[1]
        for _ in range(20):
            filling = stack.enter_context(socket.socket())
            filling.setblocking(False)
            filling.connect_ex(("127.0.0.2", port))
        time.sleep(0.1)
        yield port


@contextlib.contextmanager
def hanging_up():
    """An address that accepts and closes at once."""

    class Closing(rawpg.Server):
        def serve(self, connection):
            connection.close()

    with Closing("127.0.0.2") as server:
        yield server.port


FIRST = {"refusing": refusing, "mute": mute, "black-hole": black_hole, "hanging-up": hanging_up}


def in_front_of(tmp_path, addresses, more="", mode="prefer", timeout="10s"):
    conftest.need_osprey()
    port = harness.free_port()
    addresses = ", ".join(f'"{address}"' for address in addresses)
    text = f"""
[upstream]
addresses = [{addresses}]
connect_timeout = "{timeout}"
[upstream.tls]
mode = "{mode}"
{more}
[listen]
addresses = ["127.0.0.1:{port}"]
[catalog]
borrow = false
"""
    return harness.Osprey.from_file(tmp_path / "osprey.toml", text, port)


def login(osprey):
    """How long a login takes that asks one question."""
    begun = time.monotonic()
    with rawpg.Client.logged_in(osprey.endpoint("postgres")) as client:
        assert rawpg.kinds(client.ask(rawpg.query("SELECT 1"))) == "TDCZ"
    return time.monotonic() - begun


@pytest.mark.parametrize("first", FIRST)
def test_first_address_is_of_no_use(cluster, tmp_path, first):
    """The server has no TLS and says so, which the others do not."""
    with FIRST[first]() as port:
        addresses = [f"127.0.0.2:{port}", f"127.0.0.1:{cluster.port}"]
        with in_front_of(tmp_path, addresses) as osprey:
            for _ in range(3):
                assert login(osprey) < SOON


@pytest.mark.parametrize("first", FIRST)
def test_first_address_is_of_no_use_and_the_second_has_tls(tls_cluster, tmp_path, first):
    """The certificate is verified, of the address that it comes from."""
    with FIRST[first]() as port:
        addresses = [f"127.0.0.2:{port}", f"127.0.0.1:{tls_cluster.port}"]
        verified = f'ca = "{tls_cluster.ca}"\nserver_name = "localhost"'
        with in_front_of(tmp_path, addresses, verified, "verify-full") as osprey:
            assert login(osprey) < SOON


@pytest.mark.parametrize("first", FIRST)
def test_the_order_does_not_matter(cluster, tmp_path, first):
    with FIRST[first]() as port:
        addresses = [f"127.0.0.1:{cluster.port}", f"127.0.0.2:{port}"]
        with in_front_of(tmp_path, addresses) as osprey:
            assert login(osprey) < SOON


def test_without_tls_a_black_hole_is_passed_over(cluster, tmp_path):
    with black_hole() as port:
        addresses = [f"127.0.0.2:{port}", f"127.0.0.1:{cluster.port}"]
        with in_front_of(tmp_path, addresses, mode="disable") as osprey:
            assert login(osprey) < SOON


def test_none_is_of_use(tmp_path):
    """The client is told within connect_timeout, and not for each address in turn."""
    with mute() as one, black_hole() as two, refusing() as three:
        addresses = [f"127.0.0.2:{port}" for port in (one, two, three)]
        with in_front_of(tmp_path, addresses, timeout="1s") as osprey:
            begun = time.monotonic()
            with rawpg.Client("127.0.0.1", osprey.port) as client:
                client.start_up(user="app_trust", database="postgres")
                [(kind, payload)] = client.until_closed()
            assert time.monotonic() - begun < 3
            fields = rawpg.error_fields(payload)
            assert (kind, fields["S"], fields["C"]) == (b"E", "FATAL", "08006")
            osprey.wait_for_metric("osprey_sessions_closed_total", 1, reason="unreachable")


def test_wrong_certificate_is_passed_over(tls_cluster, tmp_path):
    """An address whose certificate is not the upstream's is none of its addresses."""
    other, key = tmp_path / "other.crt", tmp_path / "other.key"
    harness.run(
        ["openssl", "req", "-x509", *harness.CURVE, "-subj", "/CN=localhost"]
        + ["-keyout", key, "-out", other]
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(other, key)
    with rawpg.Played(context, address="127.0.0.2") as stranger:
        addresses = [f"127.0.0.2:{stranger.port}", f"127.0.0.1:{tls_cluster.port}"]
        verified = f'ca = "{tls_cluster.ca}"\nserver_name = "localhost"'
        with in_front_of(tmp_path, addresses, verified, "verify-full") as osprey:
            assert login(osprey) < SOON
        assert stranger.startups == []


def test_a_login_is_not_tried_twice(tmp_path):
    """What a server refuses, another address of it is not asked for: a wrong password locks accounts."""

    class Refusing(rawpg.Played):
        def authenticate(self, connection, parameters):
            connection.sendall(rawpg.error("FATAL", "28P01", "password authentication failed"))
            raise EOFError

    with Refusing() as first, rawpg.Played() as second:
        addresses = [f"127.0.0.1:{first.port}", f"127.0.0.1:{second.port}"]
        with in_front_of(tmp_path, addresses) as osprey:
            with rawpg.Client("127.0.0.1", osprey.port) as client:
                client.start_up(user="app", database="d")
                [(kind, payload)] = client.until_closed()
            assert (kind, rawpg.error_fields(payload)["C"]) == (b"E", "28P01")
        assert (len(first.startups), len(second.startups)) == (1, 0)


def test_the_loser_is_let_go(tmp_path):
    """An address that was tried and not needed is left no connection."""
    with mute() as port, rawpg.Played() as server:
        with in_front_of(tmp_path, [f"127.0.0.2:{port}", f"127.0.0.1:{server.port}"]) as osprey:
            with rawpg.Client.logged_in(osprey.endpoint("d")) as client:
                assert rawpg.kinds(client.ask(rawpg.query("SELECT 1"))) == "CZ"
                towards = f"0200007F:{port:04X}"

                def connected():
                    with open("/proc/net/tcp") as file:
                        lines = [line.split() for line in file]
                    established = "01"
                    return [line for line in lines if line[2:4] == [towards, established]]

                harness.wait_for(lambda: not connected(), "the other connection to be closed")


def test_cancel_goes_to_the_address_of_the_session(tmp_path):
    """Also when another address answers first by then."""
    with rawpg.Played() as second, socket.socket() as bound:
        bound.bind(("127.0.0.2", 0))
        port = bound.getsockname()[1]
        addresses = [f"127.0.0.2:{port}", f"127.0.0.1:{second.port}"]
        with in_front_of(tmp_path, addresses) as osprey:
            with rawpg.Client.logged_in(osprey.endpoint("d")) as client:
                bound.close()
                with rawpg.Played(address="127.0.0.2", port=port) as first:
                    with rawpg.Client.logged_in(osprey.endpoint("d")) as other:
                        for key in (client.key, other.key):
                            with rawpg.Client("127.0.0.1", osprey.port) as cancelling:
                                cancelling.send(rawpg.cancel(key))
                                assert cancelling.until_closed() == []
                        # The other may have been led to either.
                        assert client.key in second.cancels
                        assert (first.cancels, second.cancels) == (first.keys, second.keys)


def test_the_catalog_account_finds_the_way_too(cluster, database, tmp_path):
    with mute() as port:
        more = '[protect]\nprojects = ["finance_byok"]\n'
        addresses = [f"127.0.0.2:{port}", f"127.0.0.1:{cluster.port}"]
        osprey = in_front_of(tmp_path, addresses, more)
        osprey.command += ["--catalog-user", "osprey_catalog"]
        osprey.environment |= {"OSPREY_CATALOG_PASSWORD": harness.PASSWORD}
        with osprey:
            osprey.wait_until_known(database)


def test_drivers_see_nothing_of_it(cluster, tmp_path):
    with mute() as port:
        addresses = [f"127.0.0.2:{port}", f"127.0.0.1:{cluster.port}"]
        with in_front_of(tmp_path, addresses) as osprey:
            with osprey.endpoint("postgres").connect(connect_timeout=SOON) as connection:
                assert connection.execute("SELECT 1").fetchone() == (1,)
                with pytest.raises(psycopg.errors.QueryCanceled):
                    connection.execute("SET statement_timeout = '100ms'")
                    connection.execute("SELECT pg_sleep(5)")


def test_lost_redundancy_is_said_once(cluster, database, tmp_path):
    with socket.socket() as gone:
        gone.bind(("127.0.0.1", 0))
        nobody = f"127.0.0.1:{gone.getsockname()[1]}"
        with in_front_of(tmp_path, [nobody, f"127.0.0.1:{cluster.port}"]) as osprey:
            for _ in range(3):
                with osprey.endpoint(database).connect() as connection:
                    assert connection.execute("SELECT 1").fetchone() == (1,)
            words = f'an address of the upstream does not answer, and another one is in use address="{nobody}"'
            osprey.says(words)
            assert osprey.log().count(words) == 1
