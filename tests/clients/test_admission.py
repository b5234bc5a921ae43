"""Who gets in: places are for those who have logged in, and whoever has not yet has bounds of its own;
each refusal names the setting, and each is counted."""

import contextlib
import signal
import threading
import time

import psycopg
import pytest

import conftest
import harness
import rawpg

PLAYED = '[upstream.tls]\nmode = "disable"\n[catalog]\nborrow = false\n'


@contextlib.contextmanager
def limited(server, tmp_path, limits, more=""):
    """An Osprey with these limits in front of a played server."""
    conftest.need_osprey()
    config = tmp_path / "osprey.toml"
    config.write_text(f"{PLAYED}{more}[limits]\n{limits}\n")
    with server, harness.Osprey(server.port, config=config) as osprey:
        yield osprey


class Asking(rawpg.Played):
    """Asks everyone but `trusted` for a password, and lets in whoever has one."""

    def authenticate(self, connection, parameters):
        if parameters["user"] != "trusted":
            connection.sendall(rawpg.message(b"R", b"\0\0\0\3"))
            assert self.message(connection)[0] == b"p"


def begin(osprey, source=None, **parameters):
    """A client that has sent its startup packet."""
    client = rawpg.Client("127.0.0.1", osprey.port, source=source)
    client.start_up(**{"user": "slow", "database": "d", **parameters})
    return client


def stuck(osprey, source=None):
    """A client in the middle of its login: it has been asked for a password and says nothing."""
    client = begin(osprey, source)
    assert client.receive() == (b"R", b"\0\0\0\3")
    return client


def enter(osprey, source=None):
    """A client that has logged in."""
    client = rawpg.Client("127.0.0.1", osprey.port, source=source)
    return client.log_in(user="trusted", database="d")


def works(client):
    return rawpg.kinds(client.ask(rawpg.query("SELECT 1"))) == "CZ"


def refused(client):
    """The SQLSTATE and the text of the FATAL that is the last that a client hears."""
    messages = client.until_closed()
    # Its password may have been found to be right before.
    assert rawpg.kinds(messages).lstrip("RSK") == "E", messages
    fields = rawpg.error_fields(messages[-1][1])
    assert fields["S"] == "FATAL"
    return fields["C"], fields["M"]


def too_many(what):
    return "53300", f"sorry, too many clients already: Osprey's {what}"


@pytest.fixture
def clients():
    """Clients that are closed at the end of the test."""
    with contextlib.ExitStack() as stack:
        yield lambda client: stack.enter_context(client)


# Sessions.


def test_places_are_for_those_who_have_logged_in(tmp_path, clients):
    with limited(Asking(), tmp_path, "max_sessions = 2") as osprey:
        waiting = [clients(stuck(osprey)) for _ in range(5)]
        osprey.wait_for_metric("osprey_logins", 5)
        inside = [clients(enter(osprey)) for _ in range(2)]
        assert all(works(client) for client in inside)
        assert osprey.metric("osprey_sessions") == 2
        # And the one who comes too late hears it once the password is right.
        waiting[0].send(rawpg.message(b"p", b"secret\0"))
        assert refused(waiting[0]) == too_many("limits.max_sessions is 2")
        assert refused(begin(osprey, user="trusted")) == too_many("limits.max_sessions is 2")
        refusals = {"limit": "limits.max_sessions"}
        osprey.wait_for_metric("osprey_sessions_refused_total", 2, **refusals)
        assert all(works(client) for client in inside)
        # A place that is given up is free.
        inside[0].close()
        osprey.wait_for_metric("osprey_sessions", 1)
        assert works(clients(enter(osprey)))


def test_the_server_hears_of_a_refusal(tmp_path, clients):
    """Nothing stays open upstream for a session that was refused."""
    server = Asking()
    with limited(server, tmp_path, "max_sessions = 1") as osprey:
        clients(enter(osprey))
        for _ in range(3):
            refused(clients(begin(osprey, user="trusted")))
        harness.wait_for(lambda: server.open == 1, "the connections to be closed")


def test_sessions_per_address(tmp_path, clients):
    with limited(Asking(), tmp_path, "max_sessions_per_address = 1") as osprey:
        clients(enter(osprey))
        expected = too_many("limits.max_sessions_per_address is 1")
        assert refused(clients(begin(osprey, user="trusted"))) == expected
        assert works(clients(enter(osprey, "127.0.0.2")))
        limit = {"limit": "limits.max_sessions_per_address"}
        osprey.wait_for_metric("osprey_sessions_refused_total", 1, **limit)


def test_sessions_on_an_upstream(tmp_path, clients):
    conftest.need_osprey()
    port = harness.free_port()
    with Asking() as server:
        text = f"""
[[upstream]]
name = "prod"
address = "127.0.0.1:{server.port}"
max_sessions = 1
[upstream.tls]
mode = "disable"
[upstream.catalog]
borrow = false
[[listener]]
addresses = ["127.0.0.1:{port}"]
"""
        with harness.Osprey.from_file(tmp_path / "osprey.toml", text, port) as osprey:
            inside = clients(enter(osprey))
            code, text = refused(clients(begin(osprey, user="trusted")))
            assert code == "53300" and text.startswith("sorry, too many clients already: ")
            assert text.endswith('upstream "prod" max_sessions is 1')
            assert works(inside)
            assert osprey.metric("osprey_sessions_refused_total") == 1


# Logins.


def test_logins(tmp_path, clients):
    with limited(Asking(), tmp_path, "max_logins = 3") as osprey:
        waiting = [clients(stuck(osprey)) for _ in range(3)]
        osprey.wait_for_metric("osprey_logins", 3)
        assert refused(clients(begin(osprey))) == too_many("limits.max_logins is 3")
        limit = {"limit": "limits.max_logins"}
        osprey.wait_for_metric("osprey_sessions_refused_total", 1, **limit)
        waiting[0].send(rawpg.message(b"p", b"secret\0"))
        assert rawpg.kinds(waiting[0].until_ready()) == "RKZ"
        osprey.wait_for_metric("osprey_logins", 2)
        assert works(clients(enter(osprey)))
        assert works(waiting[0])


def test_logins_per_address(tmp_path, clients):
    with limited(Asking(), tmp_path, "max_logins_per_address = 2") as osprey:
        for _ in range(2):
            clients(stuck(osprey))
        expected = too_many("limits.max_logins_per_address is 2")
        assert refused(clients(begin(osprey))) == expected
        clients(stuck(osprey, "127.0.0.2"))
        limit = {"limit": "limits.max_logins_per_address"}
        osprey.wait_for_metric("osprey_sessions_refused_total", 1, **limit)


def test_login_that_takes_too_long(tmp_path, clients):
    server = Asking()
    with limited(server, tmp_path, 'login_timeout = "1s"') as osprey:
        text = "canceling authentication due to timeout: Osprey's limits.login_timeout is 1s"
        assert refused(clients(stuck(osprey))) == ("57014", text)
        osprey.wait_for_metric("osprey_sessions_closed_total", 1, reason="timeout")
        osprey.wait_for_metric("osprey_logins", 0)
        harness.wait_for(lambda: server.open == 0, "the server's connection to be closed")


class Mute(rawpg.Played):
    """Says nothing to a startup packet."""

    def authenticate(self, connection, parameters):
        connection.recv(1)


def test_server_that_takes_too_long_to_log_in(tmp_path, clients):
    with limited(Mute(), tmp_path, 'login_timeout = "1s"') as osprey:
        code, text = refused(clients(begin(osprey)))
        assert code == "57014" and text.endswith("Osprey's limits.login_timeout is 1s")


@pytest.mark.parametrize("odd", [False, True])
def test_file_descriptors_run_out(tmp_path, odd):
    """What the client is told is which limit, and not that the upstream is not up. A session takes two:
    with one more open, it is the second that is missing."""
    conftest.need_osprey()
    server = rawpg.Played()
    config = tmp_path / "osprey.toml"
    config.write_text(PLAYED)
    osprey = harness.Osprey(server.port, config=config)
    osprey.command = ["prlimit", "--nofile=64:64", *osprey.command]
    with server, osprey, contextlib.ExitStack() as stack:
        if odd:
            stack.enter_context(silent(osprey))
        keys = []
        for _ in range(64):
            client = stack.enter_context(rawpg.Client("127.0.0.1", osprey.port, timeout=3))
            client.start_up(user="app", database="any")
            messages = client.until_ready()
            keys += [payload for kind, payload in messages if kind == b"K"]
            if rawpg.kinds(messages)[-1:] != "Z":
                fields = rawpg.error_fields(messages[-1][1])
                if fields["C"] == "53300":
                    limit = "limit of open files (LimitNOFILE, ulimit -n) is 64"
                    assert fields["M"] == f"sorry, too many clients already: Osprey's {limit}", fields
                    assert osprey.metric("osprey_sessions_refused_total", limit="open_files") == 1
                else:
                    assert fields["C"] == "08006", fields
                    assert "may open no more files" in fields["M"], fields
                    assert "LimitNOFILE" in fields["H"] and "not up" not in fields["H"], fields
                break
        else:
            raise AssertionError("there were enough")
        # Nor is it the upstream that cannot be reached.
        assert osprey.metric("osprey_upstream_connect_failures_total") == 0
        # Whoever wants to end what takes them is served.
        for key in keys[:3]:
            with rawpg.Client("127.0.0.1", osprey.port, timeout=10) as cancelling:
                cancelling.send(rawpg.cancel(key))
                assert cancelling.until_closed() == []
        assert server.cancels == keys[:3]
        # However many come, whoever looks after it is served.
        more = [stack.enter_context(silent(osprey)) for _ in range(100)]
        for _ in range(5):
            assert osprey.metric("process_open_fds") <= 60
            time.sleep(0.1)
        for client in more:
            client.close()
    assert osprey.log().count("a connection was refused") <= 2


# Connections that have not said what they want.


def silent(osprey, source=None):
    return rawpg.Client("127.0.0.1", osprey.port, source=source)


def test_silent_connections_hold_nobody_up(tmp_path, clients):
    """They take no session's place, and no connection of the server's."""
    server = Asking()
    with limited(server, tmp_path, "max_sessions = 2") as osprey:
        for _ in range(100):
            clients(silent(osprey))
        osprey.wait_for_metric("osprey_greetings", 100)
        assert works(clients(enter(osprey)))
        assert server.accepted == 1
        assert osprey.metric("osprey_sessions") == 1


def test_greetings_wait_in_the_system(tmp_path, clients):
    """Beyond the bound nobody is accepted; whoever waits is served when there is room."""
    with limited(Asking(), tmp_path, "max_greetings = 5") as osprey:
        first = [clients(silent(osprey)) for _ in range(5)]
        osprey.wait_for_metric("osprey_greetings", 5)
        waiting = clients(begin(osprey, user="trusted"))
        waiting.socket.settimeout(0.5)
        with pytest.raises(TimeoutError):
            waiting.socket.recv(1)
        assert osprey.metric("osprey_greetings") == 5
        first[0].close()
        waiting.socket.settimeout(10)
        assert rawpg.kinds(waiting.until_ready()) == "RKZ"
        assert works(waiting)


def test_silent_greetings_do_not_keep_others_waiting(tmp_path, clients):
    """While places run short, those who say nothing have two seconds, not a minute."""
    with limited(Asking(), tmp_path, 'max_greetings = 8\ngreeting_timeout = "60s"') as osprey:
        for _ in range(8):
            clients(silent(osprey))
        osprey.wait_for_metric("osprey_greetings", 8)
        waiting = clients(begin(osprey, user="trusted"))
        waiting.socket.settimeout(10)
        assert rawpg.kinds(waiting.until_ready()) == "RKZ"


def test_greetings_per_address(tmp_path, clients):
    with limited(Asking(), tmp_path, "max_greetings_per_address = 3") as osprey:
        for _ in range(3):
            clients(silent(osprey))
        osprey.wait_for_metric("osprey_greetings", 3)
        expected = too_many("limits.max_greetings_per_address is 3")
        assert refused(clients(begin(osprey, user="trusted"))) == expected
        # What asks for TLS first is told, too.
        with pytest.raises(psycopg.OperationalError, match=expected[1]):
            psycopg.connect(
                f"host=127.0.0.1 port={osprey.port} user=u dbname=d sslmode=prefer connect_timeout=5"
            )
        assert works(clients(enter(osprey, "127.0.0.2")))
        limit = {"limit": "limits.max_greetings_per_address"}
        osprey.wait_for_metric("osprey_sessions_refused_total", 2, **limit)


@pytest.mark.parametrize("said", [b"", b"\0\0", rawpg.startup(user="trusted")[:-3]])
def test_greeting_that_takes_too_long(tmp_path, clients, said):
    """It ends in silence, and whatever is said meanwhile does not prolong it."""
    with limited(Asking(), tmp_path, 'greeting_timeout = "1s"') as osprey:
        client = clients(silent(osprey))
        started = time.monotonic()
        client.send(said)
        client.socket.settimeout(10)
        assert client.until_closed() == []
        assert 0.5 < time.monotonic() - started < 5
        osprey.wait_for_metric("osprey_greetings", 0)


# The end.


class Busy(Asking):
    """Takes a second over each statement."""

    def answer(self, connection, kind, body):
        time.sleep(1)
        super().answer(connection, kind, body)


def test_nobody_new_while_it_drains(tmp_path, clients):
    """Who is connected and comes with a startup packet then is told to come again."""
    with limited(Busy(), tmp_path, 'drain_timeout = "10s"') as osprey:
        inside = clients(enter(osprey))
        early = clients(silent(osprey))
        osprey.wait_for_metric("osprey_greetings", 1)
        answer = []
        asking = threading.Thread(target=lambda: answer.extend(inside.ask(rawpg.query("SELECT 1"))))
        asking.start()
        time.sleep(0.2)
        osprey.process.send_signal(signal.SIGTERM)
        osprey.says("draining")
        early.start_up(user="trusted", database="d")
        assert refused(early)[0] == "57P03"
        assert osprey.metric("osprey_sessions_refused_total", limit="draining") == 1
        asking.join()
        assert rawpg.kinds(answer) == "CZ"
        assert inside.until_closed()[0][0] == b"E"


def test_counts_return_to_nothing(tmp_path):
    """After all kinds of connections."""
    with limited(Asking(), tmp_path, "max_sessions = 100") as osprey:
        for _ in range(10):
            silent(osprey).close()
            stuck(osprey).close()
            enter(osprey).close()
            with silent(osprey) as client:
                client.send(rawpg.cancel(bytes(8)))
        for name in ("osprey_greetings", "osprey_logins", "osprey_sessions", "osprey_cancels"):
            osprey.wait_for_metric(name, 0)
        assert osprey.metric("osprey_sessions_opened_total") >= 10
        assert osprey.metric("osprey_login_failures_total") == 0


# Accepting, and what goes on beside it.

DATABASES = 8


def answered_after(osprey):
    """How long a new connection waits for its first word."""
    begun = time.monotonic()
    with silent(osprey) as client:
        client.send(rawpg.SSL_REQUEST)
        assert client.socket.recv(1) == b"N"
    return time.monotonic() - begun


def test_nobody_waits_for_what_is_known_of_others(cluster, tmp_path):
    """A reload makes anew what is known of every database; whoever connects meanwhile does not notice."""
    conftest.need_osprey()
    names = [f"large_{number}" for number in range(DATABASES)]
    config = tmp_path / "osprey.toml"
    text = '[upstream.tls]\nmode = "disable"\n[protect]\nprojects = ["finance_byok"{}]\n'
    config.write_text(text.format(""))
    cluster.create_database(names[0])
    cluster.query(
        names[0],
        """
        DO $$ BEGIN
          FOR i IN 1..8000 LOOP
            EXECUTE format('CREATE FOREIGN TABLE many_%s (id int) SERVER odps_server '
              'OPTIONS (project_name ''finance_byok'', table_name ''t_%s'')', i, i);
          END LOOP;
        END $$
        """,
    )
    for name in names[1:]:
        cluster.query("postgres", f"CREATE DATABASE {name} TEMPLATE {names[0]}")
    try:
        with harness.Osprey(cluster.port, config=config) as osprey:
            for name in names:
                osprey.endpoint(name).connect().close()
                osprey.wait_for_metric("osprey_catalog_refreshes_total", 1, database=name)
            usual = sorted(answered_after(osprey) for _ in range(50))
            seen = []
            for number in range(1, 4):
                config.write_text(text.format(f', "another_{number}"'))
                osprey.process.send_signal(signal.SIGHUP)
                end = time.monotonic() + 1
                while time.monotonic() < end:
                    seen.append(answered_after(osprey))
                harness.wait_for(
                    lambda: osprey.log().count("read again and is in force") == number, "the reload"
                )
            print(f"{usual[25] * 1000:.1f} ms usually, {max(seen) * 1000:.1f} ms at worst")
            assert max(seen) < 0.15
    finally:
        for name in names:
            cluster.drop_database(name)
