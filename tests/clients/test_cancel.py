"""Cancel requests: they reach the right server before their connection is closed, over TLS they end as
TLS ends, and a flood of them costs nobody anything."""

import contextlib
import os
import ssl
import struct
import threading
import time

import pytest

import conftest
import harness
import rawpg

PLAYED = '[upstream.tls]\nmode = "disable"\n[catalog]\nborrow = false\n'
FORWARDED = {"outcome": "forwarded"}


@contextlib.contextmanager
def in_front_of(server, tmp_path, more=""):
    """An Osprey in front of a played server."""
    conftest.need_osprey()
    config = tmp_path / "osprey.toml"
    config.write_text(PLAYED + more)
    with server, harness.Osprey(server.port, config=config) as osprey:
        yield osprey


def request(osprey, key, tls=None):
    """A client that has sent a cancel request."""
    client = rawpg.Client("127.0.0.1", osprey.port)
    if tls is not None:
        client.start_tls(tls)
    client.send(rawpg.cancel(key))
    return client


def unverified():
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


class Slow(rawpg.Played):
    """Takes its time over a cancel request: until it is told to go on, or two seconds."""

    def __init__(self, seconds=2):
        self.seconds = seconds
        self.go_on = threading.Event()
        super().__init__()

    def cancelled(self, connection, key):
        self.go_on.wait(self.seconds)


def is_open(client):
    client.socket.settimeout(0.3)
    try:
        return client.socket.recv(1) != b""
    except TimeoutError:
        return True


# When the connection is closed.


def test_it_is_open_until_the_server_has_closed(tmp_path):
    """A client sends its next statement once it is closed, which must not be hit."""
    server = Slow(seconds=20)
    with in_front_of(server, tmp_path) as osprey:
        with rawpg.Client.logged_in(osprey.endpoint("d")) as client:
            with request(osprey, client.key) as cancelling:
                assert is_open(cancelling)
                harness.wait_for(lambda: server.cancels == [client.key], "the request")
                assert is_open(cancelling)
                server.go_on.set()
                cancelling.socket.settimeout(10)
                assert cancelling.until_closed() == []
        osprey.wait_for_metric("osprey_cancel_requests_total", 1, **FORWARDED)


class Far(rawpg.Server):
    """A relay to a port that is `delay` away."""

    def __init__(self, port, delay):
        self.target, self.delay = port, delay
        super().__init__()

    def serve(self, connection):
        server = rawpg.socket.create_connection(("127.0.0.1", self.target))
        for source, sink in [(connection, server), (server, connection)]:
            source.setsockopt(rawpg.socket.IPPROTO_TCP, rawpg.socket.TCP_NODELAY, 1)
            threading.Thread(target=self._carry, args=(source, sink), daemon=True).start()

    def _carry(self, source, sink):
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                time.sleep(self.delay)
                sink.sendall(data)
            time.sleep(self.delay)
            sink.shutdown(rawpg.socket.SHUT_WR)


def cancel_late(osprey, rounds, tls=None):
    """Cancels statements that are as good as done; how many of those behind them were hit."""
    next_one = rawpg.query("SELECT pg_sleep(0.01)")
    late = 0
    with rawpg.Client.logged_in(osprey.endpoint("postgres"), tls=tls) as client:
        for _ in range(rounds):
            client.send(rawpg.query("SELECT 1"))
            with request(osprey, client.key, tls) as cancelling:
                assert cancelling.until_closed() == []
            client.until_ready()
            late += rawpg.kinds(client.ask(next_one)) != "TDCZ"
    return late


ROUNDS = int(os.environ.get("OSPREY_ROUNDS", "300"))


def test_the_next_statement_is_never_hit(osprey):
    assert cancel_late(osprey, ROUNDS) == 0


def test_the_next_statement_is_never_hit_far_away(cluster):
    conftest.need_osprey()
    with Far(cluster.port, 0.02) as far, harness.Osprey(far.port) as osprey:
        assert cancel_late(osprey, 20) == 0


def test_the_next_statement_is_never_hit_over_tls(tls_osprey):
    assert cancel_late(tls_osprey, 50, unverified()) == 0


class LateCancels(Far):
    """A relay on which nothing takes long but a cancel request."""

    def _carry(self, source, sink):
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                if data[4:8] == rawpg.cancel(b"")[4:8]:
                    time.sleep(self.delay)
                sink.sendall(data)
            sink.shutdown(rawpg.socket.SHUT_WR)


@pytest.mark.parametrize("begin", ["", "BEGIN"], ids=["outside", "in a transaction"])
def test_a_cancel_of_ospreys_own_hits_nothing_later(cluster, tmp_path, begin):
    """Its statement has ended by the time that it arrives: what comes next waits for it."""
    conftest.need_osprey()
    config = tmp_path / "osprey.toml"
    config.write_text('[limits]\nstatement_timeout = "2s"\n')
    late = LateCancels(cluster.port, 1.5)
    with late, harness.Osprey(late.port, config=config) as osprey:
        with osprey.endpoint("postgres").connect() as connection:
            if begin:
                connection.execute(begin)
            connection.execute("SELECT pg_sleep(2.3)")
            began = time.monotonic()
            for _ in range(4):
                connection.execute("SELECT pg_sleep(0.5)")
            # It did wait: for the rest of the cancel's way.
            assert time.monotonic() - began > 2.3
            assert osprey.metric("osprey_statement_timeouts_total") == 0


@pytest.mark.parametrize("begin", ["", "BEGIN"], ids=["outside", "in a transaction"])
@pytest.mark.parametrize("when", [0.05, 0.25, 0.5])
def test_a_cancel_between_two_runs_is_not_lost(cluster, database, tmp_path, begin, when):
    """HQE has failed at once, far away, and the second run would take its time."""
    conftest.need_osprey()
    config = tmp_path / "osprey.toml"
    config.write_text(PLAYED + harness.FORGETS)
    with Far(cluster.port, 0.15) as far, harness.Osprey(far.port, config=config) as osprey:
        with rawpg.Client.logged_in(osprey.endpoint(database)) as client:
            if begin:
                client.ask(rawpg.query(begin))
            began = time.monotonic()
            client.send(rawpg.query("SELECT pg_sleep(3) FROM sales.eu_salaries LIMIT 1"))
            time.sleep(when)
            with request(osprey, client.key) as cancelling:
                assert cancelling.until_closed() == []
            errors = [rawpg.error_fields(payload) for kind, payload in client.until_ready() if kind == b"E"]
            assert [fields["C"] for fields in errors] == ["57014"]
            assert time.monotonic() - began < 2.5


# How it is closed over TLS.


@pytest.mark.parametrize("known", [True, False])
def test_it_ends_with_close_notify(tls_osprey, known):
    with rawpg.Client.logged_in(tls_osprey.endpoint("tls"), tls=unverified()) as client:
        key = client.key if known else struct.pack("!ii", 1, 2)
        with request(tls_osprey, key, unverified()) as cancelling:
            # Raises where the end comes without it.
            assert cancelling.socket.recv(1) == b""


ENDS = {
    "terminate": ({}, rawpg.TERMINATE),
    "refused": ({"database": "there is none"}, b""),
    "terminated": ({}, rawpg.query("SELECT pg_terminate_backend(pg_backend_pid())")),
}


@pytest.mark.parametrize("name", ENDS)
def test_sessions_end_with_close_notify(tls_osprey, name):
    parameters, last = ENDS[name]
    with rawpg.Client("localhost", tls_osprey.port) as client:
        client.start_tls(unverified())
        client.start_up(**{"user": "app_trust", "database": "tls", **parameters})
        if last:
            client.until_ready()
            client.send(last)
        while client.receive() is not None:
            pass


# Whom it reaches.


def test_after_a_reload_the_server_that_the_session_is_on(tmp_path):
    """Not the one to which sessions go from then on."""
    conftest.need_osprey()
    port = harness.free_port()
    text = PLAYED + f'[upstream]\naddress = "127.0.0.1:{{}}"\n[listen]\naddresses = ["127.0.0.1:{port}"]\n'
    with rawpg.Played() as old, rawpg.Played() as new:
        config = tmp_path / "osprey.toml"
        with harness.Osprey.from_file(config, text.format(old.port), port) as osprey:
            with rawpg.Client.logged_in(osprey.endpoint("d")) as before:
                osprey.reload(text.format(new.port))
                with rawpg.Client.logged_in(osprey.endpoint("d")) as after:
                    for client in (before, after):
                        with request(osprey, client.key) as cancelling:
                            assert cancelling.until_closed() == []
                    assert (old.cancels, new.cancels) == ([before.key], [after.key])


def test_unknown_keys_are_passed_on(tmp_path):
    """Another replica may serve the session."""
    with in_front_of(server := rawpg.Played(), tmp_path) as osprey:
        key = struct.pack("!ii", 1, 2)
        with request(osprey, key) as cancelling:
            assert cancelling.until_closed() == []
        assert server.cancels == [key]
        osprey.wait_for_metric("osprey_cancel_requests_total", 1, outcome="unknown")


def test_a_key_ends_with_its_session(tmp_path):
    with in_front_of(server := rawpg.Played(), tmp_path) as osprey:
        client = rawpg.Client.logged_in(osprey.endpoint("d"))
        client.send(rawpg.TERMINATE)
        client.close()
        osprey.wait_for_metric("osprey_sessions", 0)
        with request(osprey, client.key) as cancelling:
            assert cancelling.until_closed() == []
        osprey.wait_for_metric("osprey_cancel_requests_total", 1, outcome="unknown")
        assert server.cancels == [client.key]


def test_upstream_that_is_gone_is_counted(tmp_path):
    server = rawpg.Played()
    with in_front_of(server, tmp_path) as osprey:
        with rawpg.Client.logged_in(osprey.endpoint("d")) as client:
            server.close()
            # A thread that waits in accept() keeps the port until the next connection.
            with contextlib.suppress(OSError):
                rawpg.Client("127.0.0.1", server.port).close()
            with request(osprey, client.key) as cancelling:
                assert cancelling.until_closed() == []
            osprey.wait_for_metric("osprey_cancel_requests_total", 1, outcome="failed")


# A flood.

FLOOD = 500


def flood(osprey):
    """FLOOD requests with keys that nobody has, at once; their clients."""
    clients = []
    for _ in range(FLOOD):
        clients.append(request(osprey, os.urandom(8)))
    return clients


def outcomes(osprey):
    names = ("unknown", "dropped", "failed")
    return {name: osprey.metric("osprey_cancel_requests_total", outcome=name) for name in names}


@pytest.mark.parametrize(
    "limits", ["unknown_cancels_per_second = 10", "max_cancels = 10"], ids=["rate", "bound"]
)
def test_flood(tmp_path, limits):
    """Few connections are made for it; sessions, logins and true cancels go on."""
    server = Slow(seconds=1)
    with in_front_of(server, tmp_path, f"[limits]\nmax_sessions = 10\n{limits}\n") as osprey:
        endpoint = osprey.endpoint("d")
        with rawpg.Client.logged_in(endpoint) as client, contextlib.ExitStack() as stack:
            lines, begin = len(osprey.log_lines), time.monotonic()
            for cancelling in flood(osprey):
                stack.enter_context(cancelling)
            assert rawpg.kinds(client.ask(rawpg.query("SELECT 1"))) == "CZ"
            with rawpg.Client.logged_in(endpoint) as other:
                assert rawpg.kinds(other.ask(rawpg.query("SELECT 1"))) == "CZ"
            osprey.wait_for_metric("osprey_cancels", 0)
            seconds = time.monotonic() - begin
            harness.wait_for(lambda: sum(outcomes(osprey).values()) == FLOOD, "all to be counted")
            seen = outcomes(osprey)
            print(seen, server.most, server.accepted, seconds)
            assert seen["dropped"] == FLOOD - seen["unknown"]
            assert seen["unknown"] == len(server.cancels)
            assert server.cancels
            if "per_second" in limits:
                assert len(server.cancels) <= 10 * (seconds + 2)
            else:
                # And the two sessions.
                assert server.most <= 10 + 2
            assert len(osprey.log_lines) - lines < 30, osprey.log()


def test_true_cancel_in_a_flood(tmp_path):
    """It gets through while the unknown ones have all that is theirs."""
    server = Slow(seconds=20)
    limits = "[limits]\nunknown_cancels_per_second = 5\n"
    with in_front_of(server, tmp_path, limits) as osprey:
        with rawpg.Client.logged_in(osprey.endpoint("d")) as client:
            clients = flood(osprey)
            with request(osprey, client.key):
                harness.wait_for(lambda: client.key in server.cancels, "the request", seconds=5)
            server.go_on.set()
            for cancelling in clients:
                assert cancelling.until_closed() == []


def test_rate_is_per_client_address(tmp_path):
    """Whoever floods does not use up what is another's."""
    limits = "[limits]\nunknown_cancels_per_second = 1\n"
    with in_front_of(server := rawpg.Played(), tmp_path, limits) as osprey:
        clients = [request(osprey, os.urandom(8)) for _ in range(50)]
        for client in clients:
            client.until_closed()
        key = os.urandom(8)
        with rawpg.Client("127.0.0.1", osprey.port, source="127.0.0.3") as other:
            other.send(rawpg.cancel(key))
            assert other.until_closed() == []
        assert key in server.cancels
