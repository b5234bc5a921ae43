"""The console: each of its commands has its effect, psql, psycopg, asyncpg and JDBC can read it, and
nobody gets in who may not."""

import asyncio
import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import threading

import asyncpg
import psycopg
import psycopg.errors
import pytest

import conftest
import harness
import rawpg

DRIVER = "/usr/share/java/postgresql.jar"


def configuration(directory, cluster, more=""):
    verifier = cluster.query(
        "postgres", "SELECT rolpassword FROM pg_authid WHERE rolname = 'app'"
    )[0][0]
    return f"""
[console]
socket = "{directory}"
{more}
[[console.user]]
name = "ops"
verifier = "{verifier}"
"""


class Console:
    """An Osprey with a console, and the ways into that."""

    def __init__(self, osprey, directory):
        self.osprey = osprey
        self.directory = directory

    def connect(self, **changes):
        """A connection on the socket."""
        fields = {"host": self.directory, "port": 6432, "dbname": "osprey", "user": "anyone"}
        return psycopg.connect(**{"autocommit": True, **fields, **changes})

    def tcp(self, **changes):
        """A connection over TCP."""
        endpoint = self.osprey.endpoint("osprey", user="ops")
        return endpoint.connect(**changes)

    def ask(self, statement, *values):
        with self.connect() as connection:
            cursor = connection.execute(statement, values or None)
            return cursor.fetchall() if cursor.description else cursor.statusmessage

    def one(self, statement, *values):
        rows = self.ask(statement, *values)
        assert len(rows) == 1, rows
        return rows[0]

    def session_of(self, connection):
        """The number that a client's session has here."""
        pid = connection.info.backend_pid
        return self.one("SELECT id FROM sessions WHERE backend_pid = %s", pid)[0]

    def restart(self):
        """Starts the process again, which has ended."""
        self.osprey.process.wait(10)
        self.osprey.log_lines.clear()
        self.osprey.start()

    def psql(self, *arguments, **options):
        command = [harness.PG_BIN / "psql", "-X", "-h", self.directory, "-p", "6432", *arguments]
        done = subprocess.run(
            [*command, "osprey"],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=60,
            cwd="/",
            **options,
        )
        return done.returncode, done.stdout


@contextlib.contextmanager
def started(cluster, more="", tls=""):
    conftest.need_osprey()
    # A short path: a socket's has 107 bytes at most.
    directory = tempfile.mkdtemp(prefix="osprey-")
    config = harness.pathlib.Path(directory) / "osprey.toml"
    config.write_text(tls + configuration(directory, cluster, more))
    try:
        with harness.Osprey.in_front_of(cluster, config=config) as osprey:
            yield Console(osprey, directory)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture(scope="module")
def console(cluster):
    with started(cluster) as running:
        yield running


@pytest.fixture
def client(console, database):
    """A client's session."""
    console.osprey.wait_until_known(database)
    with console.osprey.endpoint(database).connect() as connection:
        yield connection


class Statement(threading.Thread):
    """A statement that runs meanwhile."""

    def __init__(self, connection, statement):
        super().__init__(daemon=True)
        self.connection, self.statement, self.error = connection, statement, None
        self.start()

    def run(self):
        try:
            self.connection.execute(self.statement)
        except psycopg.Error as error:
            self.error = error

    def outcome(self):
        self.join(30)
        assert not self.is_alive()
        return self.error


def wait_until_active(console, session):
    """Waits until a session's statement has reached the server."""
    query = "SELECT state FROM sessions WHERE id = %s"
    harness.wait_for(lambda: console.one(query, session) == ("active",), "the statement to begin")


def runs_on_server(cluster, database):
    query = "SELECT count(*) FROM pg_stat_activity WHERE datname = %s AND query LIKE '%%pg_sleep%%'"
    return cluster.query("postgres", query + " AND state = 'active'", database)[0][0]


def wait_until_seen(console, session, columns, expected):
    """A session tells at the end of a turn what it is doing: its client may have its answer before."""
    query = f"SELECT {columns} FROM sessions WHERE id = %s"
    seen = lambda: console.one(query, session)
    try:
        harness.wait_for(lambda: seen() == expected, "the session to tell")
    except TimeoutError:
        assert seen() == expected


def test_a_session_is_seen(console, client, database):
    session = console.session_of(client)
    columns = "user, database, upstream, phase, engine, client"
    expected = ("app", database, "default", "running", "default", "127.0.0.1")
    wait_until_seen(console, session, columns, expected)
    columns = "transaction, state, engine"
    wait_until_seen(console, session, columns, ("idle", "idle", "default"))
    with client.transaction():
        assert client.execute("SELECT count(*) FROM salary_names").fetchone()[0] > 0
        wait_until_seen(console, session, columns, ("in transaction", "idle", "SQE"))
    client.execute("BEGIN")
    with pytest.raises(psycopg.errors.DivisionByZero):
        client.execute("SELECT 1 / 0")
    wait_until_seen(console, session, "transaction", ("failed transaction",))
    client.execute("ROLLBACK")
    wait_until_seen(console, session, "transaction, state", ("idle", "idle"))
    bytes_to = "SELECT bytes_to_server, bytes_to_client, age, state_age FROM sessions WHERE id = %s"
    sent, received, age, state_age = console.one(bytes_to, session)
    assert sent > 50 and received > 50 and age >= state_age >= 0
    query = "SELECT sessions, users FROM clients WHERE client = '127.0.0.1'"
    sessions, users = console.one(query)
    assert sessions >= users >= 1


def test_kill_ends_a_session_that_is_idle(console, client):
    assert console.ask(f"KILL {console.session_of(client)}") == "KILL"
    with pytest.raises(psycopg.OperationalError, match="due to administrator command"):
        client.execute("SELECT 1")
    killed = console.osprey.metric("osprey_sessions_closed_total", reason="killed")
    assert killed >= 1
    console.osprey.says('command="KILL')


def test_who_is_killed_is_told_by_sqlstate(console, client, database):
    with rawpg.Client.logged_in(console.osprey.endpoint(database)) as raw:
        query = "SELECT id FROM sessions WHERE database = %s AND user = 'app_trust'"
        (session,) = console.one(query, database)
        console.ask(f"KILL {session}")
        kind, payload = raw.until_closed()[-1]
        assert kind == b"E" and rawpg.error_fields(payload)["C"] == "57P01"


def test_kill_ends_a_session_and_its_statement(console, client, cluster, database):
    session = console.session_of(client)
    running = Statement(client, "SELECT pg_sleep(60)")
    wait_until_active(console, session)
    harness.wait_for(lambda: runs_on_server(cluster, database), "the server to have it")
    console.ask(f"KILL {session}")
    assert "due to administrator command" in str(running.outcome())
    harness.wait_for(lambda: not runs_on_server(cluster, database), "the server to give it up")


def test_cancel_cancels_a_statement_alone(console, client, cluster, database):
    session = console.session_of(client)
    assert console.ask(f"CANCEL {session}") == "CANCEL"
    assert client.execute("SELECT 1").fetchone() == (1,), "there was nothing to cancel"
    running = Statement(client, "SELECT pg_sleep(60)")
    harness.wait_for(lambda: runs_on_server(cluster, database), "the server to have it")
    wait_until_active(console, session)
    assert console.ask(f"CANCEL {session}") == "CANCEL"
    assert isinstance(running.outcome(), psycopg.errors.QueryCanceled)
    assert client.execute("SELECT 2").fetchone() == (2,)


def test_a_login_can_be_killed(cluster):
    with harness.silent_listener() as port, started(cluster) as console:
        # This Osprey's upstream is one that never answers.
        console.osprey.stop()
        console.osprey.command[console.osprey.command.index("--upstream") + 1] = f"127.0.0.1:{port}"
        console.restart()
        outcome = []

        def login():
            try:
                console.osprey.endpoint("any").connect()
            except psycopg.OperationalError as error:
                outcome.append(str(error))

        thread = threading.Thread(target=login, daemon=True)
        thread.start()
        query = "SELECT id FROM sessions WHERE phase = 'login'"
        (session,) = harness.wait_for(lambda: console.ask(query), "the login to be seen")[0]
        console.ask(f"KILL {session}")
        thread.join(30)
        assert "due to administrator command" in outcome[0]


def test_invalidate_key_looks_up_anew(console, client):
    lookups = "osprey_key_lookups_total"
    query = "SELECT encryption, origin FROM keys WHERE project = 'finance_byok'"
    known = ("kms", "configuration")
    assert console.one(query) == known
    before = console.osprey.metric(lookups)
    assert console.ask("INVALIDATE KEY finance_byok") == "INVALIDATE KEY"
    harness.wait_for(lambda: console.osprey.metric(lookups) > before, "a new lookup")
    harness.wait_for(lambda: console.ask(query) == [known], "its answer")
    before = console.osprey.metric(lookups)
    console.ask("INVALIDATE KEY ALL")
    harness.wait_for(lambda: console.osprey.metric(lookups) > before, "a new lookup")
    with pytest.raises(psycopg.errors.UndefinedObject, match="nothing is known of project"):
        console.ask("INVALIDATE KEY nosuch")


def test_refresh_catalog_reads_it_anew(console, client, database):
    query = "SELECT readings FROM databases WHERE database = %s"
    before = console.one(query, database)
    assert console.ask(f"REFRESH CATALOG {database}") == "REFRESH CATALOG"
    harness.wait_for(lambda: console.one(query, database) > before, "another reading")
    with pytest.raises(psycopg.errors.InvalidCatalogName):
        console.ask("REFRESH CATALOG nosuch")


def test_what_is_protected_is_shown_and_explained(console, client, database):
    query = "SELECT relation, project FROM tables WHERE database = %s AND relation LIKE %s"
    assert console.ask(query, database, "%.salaries") == [("public.salaries", "finance_byok")]
    explain = f"EXPLAIN ROUTE 'SELECT * FROM salary_names' AS app IN {database}"
    text = "\n".join(row[0] for row in console.ask(explain))
    for part in ("protected: yes", "public.salaries", f"SET {harness.ORC} = false"):
        assert part in text, text
    explain = f"EXPLAIN ROUTE 'SELECT * FROM people' IN {database}"
    assert console.ask(explain)[0] == ("protected: no",)
    with pytest.raises(psycopg.errors.InvalidCatalogName):
        console.ask("EXPLAIN ROUTE 'SELECT 1' IN nosuch")


@pytest.mark.parametrize("reads_catalog", [False, True])
def test_forget_lesson_unlearns(cluster, database, reads_catalog):
    """What was learned, with the catalogs known and without, is taken back."""
    flags = ["--catalog-user", "osprey_catalog"] if reads_catalog else []
    more = "" if reads_catalog else "[catalog]\nborrow = false\n"
    directory = tempfile.mkdtemp(prefix="osprey-")
    config = harness.pathlib.Path(directory) / "osprey.toml"
    config.write_text(more + configuration(directory, cluster))
    environment = {"OSPREY_CATALOG_PASSWORD": harness.PASSWORD} if reads_catalog else {}
    kept = harness.Osprey(cluster.port, flags, config=config, environment=environment)
    with kept as osprey:
        console = Console(osprey, directory)
        retries = lambda: osprey.metric("osprey_retries_total")

        def read():
            with osprey.endpoint(database).connect() as connection:
                connection.execute("SELECT count(*) FROM salaries")

        read()
        assert retries() == 1
        lessons = lambda: console.ask("SELECT project FROM lessons")
        learned = harness.wait_for(lessons, "the lesson")
        protects = lambda: read() or retries() == 1
        harness.wait_for(protects, "the lesson to count")
        assert retries() == 1
        with pytest.raises(psycopg.errors.UndefinedObject):
            console.ask("FORGET LESSON nosuch")
        for project in {project for (project,) in learned}:
            assert console.ask(f"FORGET LESSON '{project}'") == "FORGET LESSON"
        harness.wait_for(lambda: not lessons(), "it to be forgotten")

        def fails_again():
            read()
            return retries() > 1

        harness.wait_for(fails_again, "HQE to fail once more")
    shutil.rmtree(directory, ignore_errors=True)


def test_set_log_takes_effect_at_once(console, client):
    said = "a console connection"
    console.ask("SET LOG 'info,osprey::console=debug'")
    console.ask("SHOW VERSION")
    console.osprey.says(said)
    assert console.one("SELECT log FROM version") == ("info,osprey::console=debug",)
    console.ask("SET LOG 'info'")
    with pytest.raises(psycopg.errors.InvalidParameterValue, match="did you mean"):
        console.ask("SET LOG 'inof'")


def connected(console):
    """A connection, if there is a place for it."""
    with contextlib.suppress(psycopg.OperationalError):
        return console.connect()


def test_reload_and_what_it_changes(cluster):
    with started(cluster) as console:
        config = console.osprey.config
        text = config.read_text()
        config.write_text(text.replace("[console]", "[console]\nmax_connections = 1"))
        assert console.ask("RELOAD") == "RELOAD"
        with harness.wait_for(lambda: connected(console), "the place to be free") as only:
            with pytest.raises(psycopg.OperationalError, match="console.max_connections is 1"):
                console.connect()
            # Those over TCP have places of their own.
            with console.tcp() as other:
                assert other.execute("SHOW VERSION").fetchone()
            value = only.execute(
                "SELECT value FROM config WHERE section = 'console' AND key = 'max_connections'"
            )
            assert value.fetchone() == ("1",)
            config.write_text(text.replace("[console]", "[console]\nmax_connections = 0"))
            with pytest.raises(psycopg.errors.ConfigFileError, match="it has mistakes"):
                only.execute("RELOAD")
            assert only.execute("SELECT 1").fetchone() == (1,)
        limited = console.osprey.metric("osprey_console_logins_total", outcome="limited")
        assert limited >= 1
        refused = console.osprey.metric("osprey_config_reloads_total", outcome="refused")
        assert refused == 1


def test_drain_ends_the_process(cluster, database):
    with started(cluster) as console:
        with console.osprey.endpoint(database).connect() as client, console.tcp() as other:
            with client.transaction():
                client.execute("SELECT 1")
                assert other.execute("SHOW VERSION").fetchone()
                assert console.ask("DRAIN") == "DRAIN"
                # It waits for the transaction.
                client.execute("SELECT 2")
        console.osprey.process.wait(30)
        assert console.osprey.process.returncode == 0
        assert not os.path.exists(f"{console.directory}/.s.PGSQL.6432")


def test_psql(console, client):
    status, output = console.psql(
        *["-c", "\\d", "-c", "\\dt", "-c", "\\l", "-c", "\\dn", "-c", "\\du", "-c", "\\df"],
        *["-c", "\\dt sess*", "-c", "\\d+", "-c", "\\z", "-c", "\\conninfo"],
    )
    assert status == 0, output
    assert "ERROR" not in output, output
    assert "sessions" in output and "osprey" in output
    for listing in ("\\dv", "\\dt no*", "\\dt nosuch.*"):
        assert "sessions" not in console.psql("-c", listing)[1]
    status, output = console.psql("-At", "-c", "BEGIN; SHOW VERSION; COMMIT", "-c", "HELP", "-c", ";")
    assert status == 0 and "KILL id" in output, output
    status, output = console.psql("-c", "SHWO SESSIONS")
    assert "SHWO" in output and "Did you mean SHOW? HELP lists the commands." in output
    # What came before a mistake is done and answered.
    status, output = console.psql("-At", "-c", "SELECT 17", "-c", "SELECT 1; KILL 999999; SELECT 2")
    assert "17\n" in output and "there is no session 999999" in output


def test_pgcli(console, client, tmp_path):
    """What it asks the catalogs for its completion, too."""
    typed = ["SHOW VERSION;", "SELECT id, state FROM sessions WHERE database <> 'x';", "\\dt", "\\d sessions", "\\l"]
    script = "\n".join([*typed, "SHWO SESSIONS;", "HELP;", "\\q", ""])
    command = ["/usr/bin/pgcli", "--less-chatty", "--warn", "off", "--no-password"]
    done = subprocess.run(
        [*command, "-h", console.directory, "-p", "6432", "osprey"],
        input=script,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
        cwd="/",
        env={**harness.os.environ, "HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path), "LC_ALL": "C.UTF-8"},
    )
    output = done.stdout
    assert done.returncode == 0, output
    assert "Traceback" not in output, output
    assert str(console.session_of(client)) in output and "KILL id" in output, output
    assert "Did you mean SHOW? HELP lists the commands." in output, output


def test_tab_completion_asks_in_silence(console):
    """What psql 15 asks the catalogs behind `SELECT * FROM ses<TAB>`."""
    query = """SELECT c.relname, NULL::pg_catalog.text FROM pg_catalog.pg_class c
        WHERE c.relkind IN ('r', 'S', 'v', 'm', 'f', 'p') AND (c.relname) LIKE 'ses%'
        AND pg_catalog.pg_table_is_visible(c.oid)
        AND c.relnamespace <> (SELECT oid FROM pg_catalog.pg_namespace WHERE nspname = 'pg_catalog')
        UNION ALL SELECT NULL::pg_catalog.text, n.nspname FROM pg_catalog.pg_namespace n
        WHERE n.nspname LIKE 'ses%' AND n.nspname NOT LIKE E'pg\\\\_%' LIMIT 1000"""
    assert console.ask(query) == []


def test_parameters_of_questions_to_the_catalogs(console):
    query = "SELECT relname FROM pg_catalog.pg_class WHERE relkind = ANY(%b) AND oid = %s"
    assert console.ask(query, ["r", "p"], 7) == []


def test_psycopg(console):
    with console.connect(autocommit=False) as connection:
        with connection.transaction():
            cursor = connection.execute(
                "SELECT setting, limit_value FROM limits WHERE limit_value = %b", [100]
            )
            assert cursor.fetchall() == [("limits.max_cancels", 100)]
            with connection.cursor(binary=True) as binary:
                rows = binary.execute("SHOW KEYS").fetchall()
                assert all(isinstance(row[10], bool) for row in rows)
        with pytest.raises(psycopg.errors.UndefinedColumn) as caught, connection.transaction():
            connection.execute("SELECT usr FROM sessions")
        assert caught.value.diag.message_hint == "Did you mean user?"
        assert caught.value.diag.statement_position == "8"
        connection.execute("BEGIN")
        with pytest.raises(psycopg.errors.UndefinedTable):
            connection.execute("SELECT * FROM nosuch")
        with pytest.raises(psycopg.errors.InFailedSqlTransaction):
            connection.execute("SHOW VERSION")
        connection.rollback()
        assert connection.execute("SHOW VERSION").fetchone()
        with pytest.raises(psycopg.errors.InvalidTextRepresentation):
            connection.execute("SELECT * FROM sessions WHERE id = %s", ["x"])


def test_asyncpg(console):
    async def use():
        connection = await asyncpg.connect(
            host="127.0.0.1",
            port=console.osprey.port,
            user="ops",
            password=harness.PASSWORD,
            database="osprey",
            ssl=False,
        )
        for _ in range(2):
            row = await connection.fetchrow("SELECT * FROM limits WHERE limit_value = $1", 100)
            assert row["setting"] == "limits.max_cancels" and row["per_address"] is None
        assert await connection.fetchval("SELECT count(*) FROM config WHERE key LIKE $1", "max_%") > 3
        async with connection.transaction():
            rows = [row async for row in connection.cursor("SHOW STATS", prefetch=5)]
        assert len(rows) > 30 and isinstance(rows[0]["value"], float)
        with pytest.raises(asyncpg.PostgresSyntaxError):
            await connection.execute("FROBNICATE")
        await connection.reset()
        await connection.close()

    asyncio.run(use())


def test_jdbc(console):
    url = f"jdbc:postgresql://127.0.0.1:{console.osprey.port}/osprey?sslmode=disable"
    done = subprocess.run(
        ["java", "-cp", DRIVER, harness.HERE / "java" / "Console.java", url, "ops", harness.PASSWORD],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.stdout == "done\n", done.stdout + done.stderr


def test_who_may_not_is_refused(console):
    for user, password in [("ops", "wrong"), ("nobody", harness.PASSWORD), ("app", harness.PASSWORD)]:
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            console.tcp(user=user, password=password)
    with pytest.raises(psycopg.OperationalError, match='The console is the database "osprey"'):
        console.connect(dbname="postgres")
    assert console.osprey.metric("osprey_console_logins_total", outcome="refused") >= 4
    assert harness.PASSWORD not in console.osprey.log()


def test_over_tls(tls_cluster):
    files = f'certificate = "{tls_cluster.directory}/server.crt"\nkey = "{tls_cluster.directory}/server.key"'
    with started(tls_cluster, tls=f"[listen.tls]\n{files}\nrequired = true\n") as console:
        with console.tcp(sslmode="require") as connection:
            assert connection.execute("SELECT count(*) FROM stats").fetchone()[0] > 30
            assert len(connection.execute("SHOW STATS").fetchall()) > 30
        with pytest.raises(psycopg.OperationalError, match="TLS connections only"):
            console.tcp(sslmode="disable")


def test_a_console_without_users_leaves_the_database_to_the_upstream(osprey):
    with pytest.raises(psycopg.OperationalError, match='database "osprey" does not exist'):
        osprey.endpoint("osprey").connect()


@pytest.mark.skipif(os.geteuid() != 0, reason="other users' processes are root's to start")
def test_another_user_is_let_in_by_number_alone(cluster):
    user = pwd.getpwnam("postgres")
    with started(cluster, 'socket_mode = "0666"') as console:
        os.chmod(console.directory, 0o755)
        status, output = console.psql("-c", "SHOW VERSION", user=user.pw_uid, extra_groups=[])
        assert status != 0 and f"number {user.pw_uid} may not use the console" in output, output
        config = console.osprey.config
        config.write_text(config.read_text().replace("[console]", f"[console]\nuids = [{user.pw_uid}]"))
        console.ask("RELOAD")
        status, output = console.psql("-c", "SHOW VERSION", user=user.pw_uid, extra_groups=[])
        assert status == 0, output


def test_logins_are_limited_in_their_rate(cluster):
    with started(cluster) as console:
        said = []
        for _ in range(40):
            with pytest.raises(psycopg.OperationalError) as caught:
                console.tcp(password="wrong")
            said.append(str(caught.value))
        assert any("too many logins" in text for text in said)
        # Who comes by the socket is not kept out by that.
        assert console.ask("SHOW VERSION")


@pytest.mark.parametrize(
    "sent",
    [
        b"\x00",
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x00\x00\x00\x08\x04\xd2\x16\x2f",
        b"\x00\x00\x00\x09\x00\x03\x00\x00\x00p\x00\x00\x00\x05x",
        b"\x7f\xff\xff\xff" + b"x" * 100_000,
    ],
)
def test_what_is_no_client_is_sent_away(console, sent):
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(20)
        client.connect(f"{console.directory}/.s.PGSQL.6432")
        with contextlib.suppress(OSError):
            client.sendall(sent)
            client.shutdown(socket.SHUT_WR)
            while client.recv(1 << 16):
                pass
    assert console.ask("SHOW VERSION")


@pytest.mark.parametrize(
    "formats", [b"\x00\x03\x00\x01\x00\x01\x00\x01", b"\x00\x02\x00\x00\x00\x00"]
)
@pytest.mark.parametrize("of_results", [False, True])
def test_a_wrong_number_of_formats_is_an_error(console, formats, of_results):
    statement = b"SHOW VERSION\0" if of_results else b"SELECT * FROM limits WHERE limit_value = $1\0"
    none = b"\x00\x00"
    values = none if of_results else b"\x00\x01\x00\x00\x00\x01" + b"5"
    bound = [none, values, formats] if of_results else [formats, values, none]
    with raw_on_socket(console) as raw:
        raw.start_up(user="x", database="osprey")
        raw.until_ready()
        raw.send(rawpg.message(b"P", b"\0" + statement + none))
        raw.send(rawpg.message(b"B", b"\0\0" + b"".join(bound)) + rawpg.describe_portal(""))
        messages = raw.ask(rawpg.execute("") + rawpg.message(b"S"))
        errors = [rawpg.error_fields(payload)["C"] for kind, payload in messages if kind == b"E"]
        assert errors == ["08P01"], messages
        assert rawpg.kinds(raw.ask(rawpg.query("SELECT 1")))[-2:] == "CZ"


@contextlib.contextmanager
def raw_on_socket(console):
    """A client that sends exactly what it is told to, on the socket."""
    raw = rawpg.Client.__new__(rawpg.Client)
    with socket.socket(socket.AF_UNIX) as raw.socket:
        raw.socket.settimeout(20)
        raw.socket.connect(f"{console.directory}/.s.PGSQL.6432")
        yield raw


def test_a_message_that_is_too_long_ends_its_connection_alone(console):
    with pytest.raises(psycopg.OperationalError):
        console.ask("SELECT '" + "x" * (2 << 20) + "'")
    assert console.ask("SHOW VERSION")


def test_the_socket_of_a_process_that_was_killed_is_taken_over(cluster):
    with started(cluster) as console:
        console.osprey.process.send_signal(signal.SIGKILL)
        console.osprey.process.wait(10)
        assert os.path.exists(f"{console.directory}/.s.PGSQL.6432")
        console.restart()
        assert console.ask("SHOW VERSION")
