"""Several upstreams and listeners in one process: who goes where, what a reload moves and what it leaves,
and that nothing of one upstream reaches another: no cancel, no lesson, no password."""

import contextlib
import ssl
import subprocess
import threading
import time

import psycopg
import pytest

import conftest
import harness
import rawpg
from test_pgbench import pgbench

PLAYED = '[upstream.tls]\nmode = "disable"\n[upstream.catalog]\nborrow = false\n'
RETRIES = "osprey_retries_total"


@pytest.fixture(scope="module")
def third(extension):
    """A server to move an upstream to."""
    with harness.Cluster() as running:
        yield running


@pytest.fixture
def twins(cluster, tls_cluster, third):
    """A database of the same name, with the same tables, on three servers; its name."""
    servers = (cluster, tls_cluster, third)
    name = "twin"
    for server in servers:
        server.create_database(name)
        server.reset_counters(name)
    yield name
    for server in servers:
        server.drop_database(name)


def ports(count):
    return [harness.free_port() for _ in range(count)]


def upstream(name, server, more=""):
    """[[upstream]] for a cluster, its TLS verified where it has some."""
    tls = 'mode = "disable"'
    if getattr(server, "ca", None) and server.tls:
        tls = f'mode = "verify-full"\nca = "{server.ca}"\nserver_name = "localhost"'
    port = server.port
    return f'[[upstream]]\nname = "{name}"\naddress = "127.0.0.1:{port}"\n[upstream.tls]\n{tls}\n{more}\n'


def played(name, server):
    return f'[[upstream]]\nname = "{name}"\naddress = "127.0.0.1:{server.port}"\n{PLAYED}\n'


def listener(port, upstream=None, *rules):
    """[[listener]], with rules (upstream, user, database)."""
    text = f'[[listener]]\naddresses = ["127.0.0.1:{port}"]\n'
    if upstream is not None:
        text += f'upstream = "{upstream}"\n'
    for target, user, database in rules:
        text += f'[[listener.rule]]\nupstream = "{target}"\n'
        text += f'user = "{user}"\n' if user else ""
        text += f'database = "{database}"\n' if database else ""
    return text


def from_file(tmp_path, text, port, **options):
    conftest.need_osprey()
    return harness.Osprey.from_file(tmp_path / "osprey.toml", text, port, **options)


def at(osprey, port, dbname, **changes):
    """The endpoint of another listener."""
    return harness.Endpoint("127.0.0.1", port, dbname, "osprey", **changes)


def server_of(endpoint):
    """The port of the server that a new session is on."""
    with rawpg.Client.logged_in(endpoint) as client:
        return port_of(client)


def port_of(client):
    row = client.ask(rawpg.query("SELECT setting FROM pg_settings WHERE name = 'port'"))[1]
    return int(row[1][6:])


# Who goes where.


@pytest.fixture
def three_listeners(cluster, tls_cluster, twins, tmp_path):
    """Two upstreams and three listeners: one for each, and one with rules."""
    one, two, ruled = ports(3)
    text = '[protect]\nprojects = ["finance_byok"]\n[catalog]\nuser = "osprey_catalog"\n'
    text += upstream("one", cluster) + upstream("two", tls_cluster)
    text += listener(one, "one") + listener(two, "two")
    text += listener(ruled, None, ("one", "app", ""), ("two", "app_t*", "tw?n"))
    environment = {"OSPREY_CATALOG_PASSWORD": harness.PASSWORD}
    with from_file(tmp_path, text, one, environment=environment) as osprey:
        yield osprey, one, two, ruled


def test_two_upstreams_and_three_listeners(three_listeners, cluster, tls_cluster, twins):
    """psql and pgbench on each, and each reads encrypted data of its own."""
    osprey, one, two, ruled = three_listeners
    cases = [(one, "app", cluster), (two, "app", tls_cluster)]
    cases += [(ruled, "app", cluster), (ruled, "app_trust", tls_cluster)]
    for port, user, server in cases:
        endpoint = at(osprey, port, twins, user=user)
        shown = "SELECT setting FROM pg_settings WHERE name = 'port'"
        assert endpoint.psql("-Atc", shown) == (0, f"{server.port}\n")
        assert endpoint.psql("-Atc", "SELECT count(*) FROM salaries") == (0, "1000\n")
        pgbench(endpoint, "-i", "-q")
        output = pgbench(endpoint, "-n", "-S", "-c", "2", "-t", "50")
        assert "number of transactions actually processed: 100/100" in output
        # The other server's tables are others, of others.
        tables = ", ".join(f"pgbench_{name}" for name in ("accounts", "branches", "tellers", "history"))
        server.query(twins, f"DROP TABLE {tables}")


def test_nobody_matches(three_listeners, twins):
    osprey, _, _, ruled = three_listeners
    for user, database in [("app_md5", twins), ("app_trust", "postgres")]:
        with rawpg.Client("127.0.0.1", ruled) as client:
            client.start_up(user=user, database=database)
            [(kind, payload)] = client.until_closed()
        fields = rawpg.error_fields(payload)
        assert (kind, fields["S"], fields["C"]) == (b"E", "FATAL", "3D000")
        said = " ".join(fields.values())
        assert user in said and database in said and "[[listener.rule]]" in said
    assert osprey.metric("osprey_login_failures_total") == 0


def test_series_of_databases_say_whose_they_are(three_listeners, twins):
    osprey, one, two, _ = three_listeners

    def refreshes(name):
        return osprey.metric("osprey_catalog_refreshes_total", database=twins, upstream=name)

    server_of(at(osprey, one, twins))
    harness.wait_for(lambda: refreshes("one") >= 1, "one to be read")
    assert refreshes("two") == 0
    server_of(at(osprey, two, twins))
    harness.wait_for(lambda: refreshes("two") >= 1, "two to be read")
    assert refreshes("one") >= 1


RULES = [
    # user, database, and where it goes
    ("any", "sales", "one"),
    ("any", "sales_eu", "one"),
    ("any", "sales@warehouse_2", "one"),
    ("bi_7", "hr", "two"),
    ("bi_7", "hr@other", "two"),
    ("any", "hr", "rest"),
    ("any", "presales", "rest"),
    ("BI_7", "hr", "rest"),
]


@pytest.mark.parametrize("user, database, target", RULES)
def test_rules(tmp_path, user, database, target):
    with contextlib.ExitStack() as stack:
        servers = {name: stack.enter_context(rawpg.Played()) for name in ("one", "two", "rest")}
        text = "".join(played(name, server) for name, server in servers.items())
        [port] = ports(1)
        text += listener(port, "rest", ("one", "", "sales*"), ("two", "bi_?", "h*"))
        with from_file(tmp_path, text, port):
            rawpg.Client("127.0.0.1", port).log_in(user=user, database=database).close()
        came = {name: [start["database"] for start in server.startups] for name, server in servers.items()}
    assert came == {name: [database] if name == target else [] for name in servers}


def test_database_that_is_not_named_is_the_users(tmp_path):
    """As PostgreSQL has it."""
    with rawpg.Played() as one, rawpg.Played() as rest:
        [port] = ports(1)
        text = played("one", one) + played("rest", rest)
        text += listener(port, "rest", ("one", "", "sales"))
        with from_file(tmp_path, text, port):
            rawpg.Client("127.0.0.1", port).log_in(user="sales").close()
        assert (len(one.startups), len(rest.startups)) == (1, 0)


def test_one_upstream_is_everybodys(tmp_path):
    """In the long form too, with nothing said."""
    with rawpg.Played() as server:
        one, two = ports(2)
        text = played("prod", server) + listener(one) + listener(two)
        with from_file(tmp_path, text, one):
            for port in (one, two):
                rawpg.Client("127.0.0.1", port).log_in(user="u", database="d").close()
        assert len(server.startups) == 2


def test_unreachable_upstream_concerns_its_own(tmp_path):
    with rawpg.Played() as server, rawpg.Played() as gone:
        gone_port = harness.free_port()
        one, two = ports(2)
        text = played("one", server) + played("two", gone).replace(str(gone.port), str(gone_port))
        text += listener(one, "one") + listener(two, "two")
        with from_file(tmp_path, text, one) as osprey:
            with rawpg.Client("127.0.0.1", two) as client:
                client.start_up(user="u", database="d")
                [(kind, payload)] = client.until_closed()
            assert rawpg.error_fields(payload)["C"] == "08006"
            rawpg.Client("127.0.0.1", one).log_in(user="u", database="d").close()
            assert osprey.metric("osprey_sessions_closed_total", reason="unreachable") == 1


# Settings of one upstream.


def test_each_upstream_has_its_own_settings(cluster, tls_cluster, twins, tmp_path):
    """What [route], [protect] and [catalog] say holds for all; what an upstream says, for it."""
    one, two = ports(2)
    text = '[protect]\ntables = ["salaries"]\n[route]\nretry = false\n[catalog]\nborrow = false\n'
    more = '[upstream.protect]\ntables = ["events"]\n[upstream.route]\nscope = "statement"\n'
    text += upstream("one", cluster) + upstream("two", tls_cluster, more)
    text += listener(one, "one") + listener(two, "two")
    with from_file(tmp_path, text, one) as osprey:
        for port, server, changes in [(one, cluster, 1), (two, tls_cluster, 2)]:
            with at(osprey, port, twins).connect() as connection:
                assert connection.execute("SELECT count(*) FROM salaries").fetchone() == (1000,)
                assert connection.execute("SELECT count(*) FROM people").fetchone() == (100,)
                assert connection.execute("SELECT count(*) FROM items").fetchone() == (50,)
            assert server.setting_changes(twins) == changes
        with at(osprey, two, twins).connect() as connection:
            assert connection.execute("SELECT count(*) FROM events").fetchone() == (20,)
        with at(osprey, one, twins).connect() as connection:
            with pytest.raises(psycopg.Error, match="HQE"):
                connection.execute("SELECT count(*) FROM events")


# Lessons.


def learn(osprey, endpoint):
    """Reads encrypted data until that needs no second attempt."""

    def knows():
        before = osprey.metric(RETRIES)
        with rawpg.Client.logged_in(endpoint) as client:
            assert rawpg.kinds(client.ask(rawpg.query("SELECT count(*) FROM salaries"))) == "TDCZ"
        osprey.wait_for_metric("osprey_sessions", 0)
        return osprey.metric(RETRIES) == before

    harness.wait_for(knows, "the lesson to be known")


def test_lessons_stay_apart(cluster, tls_cluster, twins, tmp_path):
    """What one upstream's database has taught is not known of the other's of the same name."""
    one, two = ports(2)
    text = "[catalog]\nborrow = false\n" + upstream("one", cluster) + upstream("two", tls_cluster)
    text += listener(one, "one") + listener(two, "two")
    with from_file(tmp_path, text, one) as osprey:
        for port, server in [(one, cluster), (two, tls_cluster)]:
            before = osprey.metric(RETRIES)
            learn(osprey, at(osprey, port, twins))
            # A failure of its own.
            assert server.scans(twins)["HQE"][1] >= 1
            assert osprey.metric(RETRIES) > before


def test_catalogs_stay_apart(cluster, tls_cluster, twins, tmp_path):
    """A view that exists on one upstream alone, by the name of a plain table on the other."""
    cluster.query(twins, "CREATE VIEW figures AS SELECT id FROM salaries; GRANT SELECT ON figures TO PUBLIC")
    tls_cluster.query(twins, "CREATE TABLE figures AS SELECT 1 AS id; GRANT SELECT ON figures TO PUBLIC")
    one, two = ports(2)
    text = '[protect]\nprojects = ["finance_byok"]\n' + upstream("one", cluster)
    text += upstream("two", tls_cluster) + listener(one, "one") + listener(two, "two")
    with from_file(tmp_path, text, one) as osprey:
        for port, rows, server, changes in [(one, 1000, cluster, 1), (two, 1, tls_cluster, 0)]:
            with at(osprey, port, twins).connect() as connection:
                assert connection.execute("SELECT count(*) FROM figures").fetchone() == (rows,)
            assert server.setting_changes(twins) == changes
        assert osprey.metric(RETRIES) == 0


# Proven users.

# A server that does not say of the route's settings that any user may make them.
UNSAID = """
SET allow_system_table_mods = on;
ALTER VIEW pg_catalog.pg_settings RENAME TO pg_settings_as_it_was;
CREATE VIEW pg_catalog.pg_settings AS
    SELECT name, setting, source, text 'unsaid' AS context FROM pg_catalog.pg_show_all_settings();
GRANT SELECT ON pg_catalog.pg_settings TO PUBLIC;
"""


def begin(osprey, endpoint):
    """Begins a transaction, in front of which it is tried whether this user may set the route, unless that
    is known; how often it was tried so far."""
    with rawpg.Client.logged_in(endpoint) as client:
        assert rawpg.kinds(client.ask(rawpg.query("BEGIN"))) == "CZ"
    osprey.wait_for_metric("osprey_sessions", 0)
    return osprey.metric("osprey_injections_total", kind="proof")


def test_who_may_set_the_route_is_known_of_one_upstream(cluster, tls_cluster, twins, tmp_path):
    one, two = ports(2)
    text = '[protect]\nprojects = ["finance_byok"]\n' + upstream("one", cluster)
    text += upstream("two", tls_cluster) + listener(one, "one") + listener(two, "two")
    for server in (cluster, tls_cluster):
        server.query(twins, UNSAID)
    with from_file(tmp_path, text, one) as osprey:
        for number, port in enumerate((one, two), 1):
            for _ in range(2):
                assert begin(osprey, at(osprey, port, twins)) == number


@pytest.mark.parametrize("what", ["upstream", "route.kind"])
def test_who_may_set_the_route_is_asked_again(cluster, third, twins, tmp_path, what):
    """After a reload that changes where sessions go, or which setting it is."""
    [port] = ports(1)
    for server in (cluster, third):
        server.query(twins, UNSAID)

    def text(server, kind):
        return f"""
[upstream]
address = "127.0.0.1:{server.port}"
[listen]
addresses = ["127.0.0.1:{port}"]
[protect]
projects = ["finance_byok"]
[route]
kind = "{kind}"
"""

    with from_file(tmp_path, text(cluster, "sqe"), port) as osprey:
        endpoint = osprey.endpoint(twins)
        for _ in range(2):
            assert begin(osprey, endpoint) == 1
        server = third if what == "upstream" else cluster
        osprey.reload(text(server, "common-table" if what == "route.kind" else "sqe"))
        for _ in range(2):
            assert begin(osprey, endpoint) == 2


def test_reload_of_something_else_forgets_nothing(cluster, twins, tmp_path):
    [port] = ports(1)
    text = "[catalog]\nborrow = false\n" + upstream("one", cluster) + listener(port)
    with from_file(tmp_path, text, port) as osprey:
        learn(osprey, osprey.endpoint(twins))
        retries = osprey.metric(RETRIES)
        assert retries >= 1
        osprey.reload(text + "[limits]\nmax_sessions = 77\n")
        learn(osprey, osprey.endpoint(twins))
        assert osprey.metric(RETRIES) == retries


# A reload.


class Working(threading.Thread):
    """A session that asks on and on, in transactions, and notes whatever is not as it was."""

    def __init__(self, endpoint, expected):
        super().__init__(daemon=True)
        self.client = rawpg.Client.logged_in(endpoint)
        self.expected = expected
        self.stop = threading.Event()
        self.rounds = 0
        self.wrong = None

    def run(self):
        try:
            while not self.stop.is_set():
                assert rawpg.kinds(self.client.ask(rawpg.query("BEGIN"))) == "CZ"
                assert port_of(self.client) == self.expected
                assert rawpg.kinds(self.client.ask(rawpg.query("COMMIT"))) == "CZ"
                self.rounds += 1
                time.sleep(0.02)
        except BaseException as error:
            self.wrong = error


def test_reload_that_moves_one_upstream_under_fifty_sessions(cluster, tls_cluster, third, twins, tmp_path):
    """They go on where they are, and are cancelled there; new ones go to the new server; the other upstream
    has no part in it."""
    one, two = ports(2)

    def text(server):
        text = upstream("one", server) + upstream("two", tls_cluster)
        return text + listener(one, "one") + listener(two, "two")

    with from_file(tmp_path, text(cluster), one) as osprey:
        endpoint = osprey.endpoint(twins)
        other = rawpg.Client.logged_in(at(osprey, two, twins))
        sessions = [Working(endpoint, cluster.port) for _ in range(50)]
        for session in sessions:
            session.start()
        harness.wait_for(lambda: all(session.rounds for session in sessions), "all to work")
        osprey.reload(text(third))
        assert server_of(endpoint) == third.port
        rounds = [session.rounds for session in sessions]
        harness.wait_for(
            lambda: all(session.wrong or session.rounds > before + 2
                        for session, before in zip(sessions, rounds)),
            "all to go on",
        )
        for session in sessions:
            session.stop.set()
        for session in sessions:
            session.join(10)
        assert [session.wrong for session in sessions if session.wrong] == []
        # Cancels, by whatever listener, reach the old server, or none that they do not concern.
        with rawpg.Client.logged_in(endpoint) as new:
            for sleeper in [session.client for session in sessions[:5]] + [new, other]:
                sleeper.send(rawpg.query("SELECT pg_sleep(30)"))
            for port, sleeper in zip([one, two] * 4, [*(s.client for s in sessions[:5]), new, other]):
                with rawpg.Client("127.0.0.1", port) as cancelling:
                    cancelling.send(rawpg.cancel(sleeper.key))
                    assert cancelling.until_closed() == []
                answer = sleeper.until_ready()
                assert rawpg.kinds(answer) == "TEZ"
                assert rawpg.error_fields(answer[1][1])["C"] == "57014"
            assert port_of(new) == third.port
        assert port_of(other) == tls_cluster.port
        for session in sessions:
            assert port_of(session.client) == cluster.port
            session.client.close()
        other.close()
        osprey.wait_for_metric("osprey_sessions", 0)


def test_reload_that_changes_a_rule(tmp_path):
    with rawpg.Played() as one, rawpg.Played() as two:
        [port] = ports(1)
        upstreams = played("one", one) + played("two", two)
        with from_file(tmp_path, upstreams + listener(port, "one"), port) as osprey:
            with rawpg.Client.logged_in(osprey.endpoint("d")) as before:
                osprey.reload(upstreams + listener(port, "one", ("two", "", "d")))
                with rawpg.Client.logged_in(osprey.endpoint("d")) as after:
                    for client in (before, after):
                        assert rawpg.kinds(client.ask(rawpg.query("SELECT 1"))) == "CZ"
        assert (len(one.startups), len(two.startups)) == (1, 1)


def test_reload_that_takes_an_upstream_away(tmp_path):
    """Its sessions end when they end, cancels included."""
    with rawpg.Played() as one, rawpg.Played() as two:
        [port] = ports(1)
        text = played("one", one) + played("two", two) + listener(port, "one")
        with from_file(tmp_path, text, port) as osprey:
            with rawpg.Client.logged_in(osprey.endpoint("d")) as before:
                osprey.reload(played("two", two) + listener(port, "two"))
                assert rawpg.kinds(before.ask(rawpg.query("SELECT 1"))) == "CZ"
                with rawpg.Client("127.0.0.1", port) as cancelling:
                    cancelling.send(rawpg.cancel(before.key))
                    assert cancelling.until_closed() == []
                assert (one.cancels, two.cancels) == ([before.key], [])
                rawpg.Client.logged_in(osprey.endpoint("d")).close()
                assert (len(one.startups), len(two.startups)) == (1, 1)


def test_mistake_in_a_reload_changes_nothing(tmp_path):
    with rawpg.Played() as one, rawpg.Played() as two:
        [port] = ports(1)
        upstreams = played("one", one) + played("two", two)
        with from_file(tmp_path, upstreams + listener(port, "one"), port) as osprey:
            osprey.reload(upstreams + listener(port, "three"), "has mistakes and is not in force")
            osprey.says("three")
            rawpg.Client.logged_in(osprey.endpoint("d")).close()
        assert (len(one.startups), len(two.startups)) == (1, 0)


# Cancels.


def test_cancels_reach_the_server_of_the_session(tmp_path):
    """By whichever listener they come."""
    with rawpg.Played() as one, rawpg.Played() as two:
        first, second, both = ports(3)
        text = played("one", one) + played("two", two) + listener(first, "one")
        text += listener(second, "two") + listener(both, "one", ("two", "", "d"))
        with from_file(tmp_path, text, first) as osprey:
            with rawpg.Client.logged_in(at(osprey, first, "d")) as a:
                with rawpg.Client.logged_in(at(osprey, both, "d")) as b:
                    for port in (first, second, both):
                        for key in (a.key, b.key):
                            with rawpg.Client("127.0.0.1", port) as cancelling:
                                cancelling.send(rawpg.cancel(key))
                                assert cancelling.until_closed() == []
                    assert (one.cancels, two.cancels) == ([a.key] * 3, [b.key] * 3)


def test_unknown_cancels_reach_the_upstreams_of_the_listener(tmp_path):
    with rawpg.Played() as one, rawpg.Played() as two, rawpg.Played() as three:
        single, several = ports(2)
        text = played("one", one) + played("two", two) + played("three", three)
        text += listener(single, "one") + listener(several, "two", ("three", "", "d"))
        with from_file(tmp_path, text, single) as osprey:
            for number, port in enumerate((single, several), 1):
                with rawpg.Client("127.0.0.1", port) as cancelling:
                    cancelling.send(rawpg.cancel(bytes([number] * 8)))
                    assert cancelling.until_closed() == []
            assert one.cancels == [b"\1" * 8]
            assert (two.cancels, three.cancels) == ([b"\2" * 8], [b"\2" * 8])
            # Counted as requests, and not as connections.
            osprey.wait_for_metric("osprey_cancel_requests_total", 2, outcome="unknown")


# The catalog account.


class Collecting(rawpg.Played):
    """Lets clients in, asks the catalog account for its password in clear, and lets it in no further."""

    def __init__(self, tls):
        self.passwords = []
        super().__init__(tls)

    def authenticate(self, connection, parameters):
        if parameters["user"] == "svc_osprey":
            connection.sendall(rawpg.message(b"R", b"\0\0\0\3"))
            self.passwords.append(self.message(connection)[1])
            connection.sendall(rawpg.error("FATAL", "28P01", "no"))
            raise EOFError


@pytest.fixture
def stranger(tls_cluster):
    """A server with a certificate that is not of the authority `other`; and a file of that."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    folder = tls_cluster.directory
    context.load_cert_chain(folder / "server.crt", folder / "server.key")
    with Collecting(context) as server:
        yield server


def test_catalog_password_after_a_reload_goes_to_nobody_unverified(stranger, tmp_path):
    """`require` becomes `verify-full`, and the server turns out to be another: it gets no login, neither a
    client's nor the catalog account's."""
    other = tmp_path / "other-ca.crt"
    harness.run(
        ["openssl", "req", "-x509", *harness.CURVE, "-subj", "/CN=Other CA"]
        + ["-keyout", tmp_path / "key", "-out", other]
    )
    [port] = ports(1)

    def text(tls):
        return f"""
[upstream]
address = "127.0.0.1:{stranger.port}"
[upstream.tls]
{tls}
[listen]
addresses = ["127.0.0.1:{port}"]
[protect]
projects = ["finance_byok"]
[catalog]
user = "svc_osprey"
refresh = "1s"
"""

    verified = f'mode = "verify-full"\nca = "{other}"\nserver_name = "localhost"'
    environment = {"OSPREY_CATALOG_PASSWORD": harness.PASSWORD}
    with from_file(tmp_path, text('mode = "require"'), port, environment=environment) as osprey:
        endpoint = osprey.endpoint("d")
        with rawpg.Client.logged_in(endpoint):
            harness.wait_for(lambda: stranger.passwords, "the catalog account to come")
            osprey.reload(text(verified))
            # What was on its way then has arrived.
            time.sleep(0.5)
            before = (len(stranger.passwords), len(stranger.startups))
            accepted = stranger.accepted
            with rawpg.Client("127.0.0.1", port) as client:
                client.start_up(user="app_trust", database="d")
                assert rawpg.kinds(client.until_closed()) == "E"
            # Another database, of which nothing is known yet.
            with rawpg.Client("127.0.0.1", port) as client:
                client.start_up(user="app_trust", database="e")
                assert rawpg.kinds(client.until_closed()) == "E"
            assert stranger.accepted > accepted
            time.sleep(3)
            assert (len(stranger.passwords), len(stranger.startups)) == before


def test_catalog_accounts_stay_apart(tmp_path, stranger):
    """Each upstream's account and password goes to that upstream."""
    secrets = {name: tmp_path / name for name in ("first", "second")}
    for name, path in secrets.items():
        path.write_text(f"the {name}'s")
        path.chmod(0o600)
    with Collecting(None) as second:
        one, two = ports(2)
        text = '[protect]\nprojects = ["finance_byok"]\n[catalog]\nuser = "svc_osprey"\n'
        text += f'password_file = "{secrets["first"]}"\n'
        text += upstream("one", stranger).replace('mode = "disable"', 'mode = "require"')
        more = f'[upstream.catalog]\npassword_file = "{secrets["second"]}"\n'
        text += upstream("two", second, more)
        text += listener(one, "one") + listener(two, "two")
        with from_file(tmp_path, text, one) as osprey:
            for port in (one, two):
                rawpg.Client.logged_in(at(osprey, port, "d")).close()
            harness.wait_for(lambda: stranger.passwords and second.passwords, "the accounts to come")
        assert set(stranger.passwords) == {b"the first's\0"}
        assert set(second.passwords) == {b"the second's\0"}


# Mistakes.

UPSTREAM = '[[upstream]]\nname = "{}"\naddress = "127.0.0.1:80"\n'
ONE, TWO = UPSTREAM.format("one"), UPSTREAM.format("two")
LISTENER = '[[listener]]\naddresses = ["127.0.0.1:0"]\n'
TO_ONE = LISTENER + 'upstream = "one"\n'


def rule(upstream, user=None, database=None):
    text = f'[[listener.rule]]\nupstream = "{upstream}"\n'
    text += f'user = "{user}"\n' if user else ""
    return text + (f'database = "{database}"\n' if database else "")


MISTAKES = {
    # name: (file, line of the mistake or None, what must be named)
    "rule-to-nowhere": (ONE + TO_ONE + rule("three"), 8, ["upstream", "three"]),
    "listener-to-nowhere": (ONE + LISTENER + 'upstream = "three"\n', 6, ["upstream", "three"]),
    "no-address": ('[[upstream]]\nname = "one"\n' + TO_ONE, None, ["address", "one"]),
    "no-name": ('[[upstream]]\naddress = "127.0.0.1:80"\n' + LISTENER, None, ["name"]),
    "two-of-one-name": (ONE + ONE + TO_ONE, 5, ["name", "one"]),
    "name-with-a-space": (UPSTREAM.format("o n e") + LISTENER, 2, ["name"]),
    "address-twice": (ONE + 'addresses = ["127.0.0.1:81"]\n' + TO_ONE, None, ["address", "addresses"]),
    "same-rules": (
        ONE + TWO + TO_ONE + rule("one", "a") + rule("two", "a"),
        13,
        ["listener.rule", "osprey.toml:10"],
    ),
    "rules-that-overlap": (
        ONE + TWO + TO_ONE + rule("one", "a*") + rule("two", "*b"),
        13,
        ["listener.rule", "osprey.toml:10"],
    ),
    "rules-that-overlap-in-part": (
        ONE + TWO + TO_ONE + rule("one", "u?", "*_eu") + rule("two", "u1", "sales*"),
        14,
        ["listener.rule", "osprey.toml:10"],
    ),
    "rule-behind-everything": (
        ONE + TWO + TO_ONE + rule("one") + rule("two", "a", "b"),
        12,
        ["listener.rule", "osprey.toml:10"],
    ),
    "no-networks": (ONE + TO_ONE + 'proxy_protocol = "require"\n', None, ["proxy_networks"]),
    "no-network": (
        ONE + TO_ONE + 'proxy_protocol = "accept"\nproxy_networks = ["10.0.0.0/33"]\n',
        8,
        ["proxy_networks", "10.0.0.0/33"],
    ),
    "network-of-hosts": (
        ONE + TO_ONE + 'proxy_protocol = "accept"\nproxy_networks = ["balancer.example"]\n',
        8,
        ["proxy_networks", "balancer.example"],
    ),
    "proxy-protocol-1": (ONE + TO_ONE + 'proxy_protocol = "v1"\n', 7, ["proxy_protocol", "require"]),
    "listener-without-addresses": (ONE + '[[listener]]\nupstream = "one"\n', None, ["addresses"]),
    "no-way-to-choose": (ONE + TWO + LISTENER, None, ["upstream", "rule"]),
    "both-forms": (ONE + TO_ONE + '[listen]\naddresses = ["127.0.0.1:0"]\n', None, ["listen", "listener"]),
    "max-sessions-0": (ONE + "max_sessions = 0\n" + TO_ONE, 4, ["max_sessions"]),
    "greetings-0": (ONE + TO_ONE + "[limits]\nmax_greetings = 0\n", 8, ["limits.max_greetings"]),
    "keepalive": (ONE + TO_ONE + '[limits]\ntcp_keepalive = "never"\n', 8, ["limits.tcp_keepalive"]),
}


def check(path, *arguments, command="check-config"):
    return subprocess.run(
        [harness.osprey_binary(), command, "--config", path, *arguments],
        capture_output=True,
        text=True,
        timeout=20,
    )


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes(tmp_path, name):
    """Named by file, line and key; nothing is started."""
    conftest.need_osprey()
    text, line, named = MISTAKES[name]
    path = tmp_path / "osprey.toml"
    path.write_text(text)
    done = check(path)
    assert done.returncode == 2, done.stderr
    assert "is not a setting" not in done.stderr and "expects a section" not in done.stderr
    place = f"{path}:{line}:" if line is not None else f"{path}:"
    assert place in done.stderr, done.stderr
    for word in named:
        assert word in done.stderr, done.stderr
    assert check(path, command="serve").returncode == 2


GOOD = {
    "apart-by-user": ONE + TWO + TO_ONE + rule("one", "a*") + rule("two", "b*"),
    "apart-by-database": ONE + TWO + TO_ONE + rule("one", "*", "a?") + rule("two", "*", "a"),
    "apart-by-one-of-them": ONE + TWO + TO_ONE + rule("one", "a*", "x") + rule("two", "*b", "y"),
    "rules-alone": ONE + TWO + LISTENER + rule("one", "a") + rule("two", "b"),
    "one-upstream": ONE + LISTENER,
    "balancer": ONE + TO_ONE + 'proxy_protocol = "require"\nproxy_networks = ["10.0.0.0/8", "fd00::/8"]\n',
    "several-addresses": (ONE + TO_ONE).replace("address = ", "addresses = ", 1).replace(
        '"127.0.0.1:80"', '["127.0.0.1:80", "127.0.0.2:80"]'
    ),
    "short": '[upstream]\nname = "prod"\naddress = "127.0.0.1:80"\nmax_sessions = 5\n[listen]\n'
    'addresses = ["127.0.0.1:0"]\nproxy_protocol = "accept"\nproxy_networks = ["127.0.0.0/8"]\n',
}


@pytest.mark.parametrize("name", GOOD)
def test_no_mistakes(tmp_path, name):
    conftest.need_osprey()
    path = tmp_path / "osprey.toml"
    path.write_text(GOOD[name])
    done = check(path)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "flag, section", [("--upstream", "[[upstream]]"), ("--listen", "[[listener]]")]
)
def test_flags_of_the_short_form_beside_the_long_one(tmp_path, flag, section):
    """They could mean any of them: it is said which to leave away."""
    conftest.need_osprey()
    path = tmp_path / "osprey.toml"
    path.write_text(ONE + TO_ONE)
    done = check(path, flag, "127.0.0.1:81")
    assert done.returncode == 2
    assert flag in done.stderr and section in done.stderr, done.stderr
