"""Which route is set, for how long, and who is the master: by the server's own counts."""

import subprocess
import time

import psycopg
import pytest

import conftest
import harness
import tasks
from rawpg import SYNC, Client, bind, execute, parse

ENCRYPTED = "SELECT count(*) FROM salaries"
OPEN = "SELECT count(*) FROM items"


@pytest.fixture
def started(cluster, database):
    """Starts an Osprey with further flags or a file; its endpoint."""
    conftest.need_osprey()
    running = []

    def start(*flags, config=None):
        osprey = harness.Osprey.in_front_of(cluster, *flags, config=config).start()
        running.append(osprey)
        if config is None and "common-table" not in flags:
            osprey.wait_until_known(database)
        cluster.reset_counters(database)
        return osprey.endpoint(database)

    yield start
    for osprey in running:
        osprey.stop()


def test_scope_session(started, cluster):
    endpoint = started("--scope", "session")
    with endpoint.connect() as connection:
        for _ in range(5):
            connection.execute(ENCRYPTED)
            connection.execute(OPEN)
    assert cluster.setting_changes(endpoint.dbname) == 1
    assert cluster.scans(endpoint.dbname)["HQE"] == (0, 0)
    assert cluster.scans(endpoint.dbname)["SQE"] == (10, 0)


def test_scope_statement(started, cluster):
    """What is not encrypted keeps the fast engine, before and after."""
    endpoint = started("--scope", "statement")
    with endpoint.connect() as connection:
        for _ in range(3):
            for send in (connection.execute, psycopg.ClientCursor(connection).execute):
                assert send(OPEN).fetchone() == (50,)
                assert send(ENCRYPTED).fetchone() == (1000,)
                assert send(ENCRYPTED).fetchone() == (1000,)
    assert cluster.scans(endpoint.dbname)["HQE"] == (6, 0)
    assert cluster.scans(endpoint.dbname)["SQE"] == (12, 0)


@pytest.mark.parametrize("cut", [False, True], ids=["at once", "in pieces"])
def test_text_in_parameters(cluster, database, started, cut):
    """A text that is run may come as the value of a parameter, at whatever length of the message."""
    with cluster.endpoint(database).connect() as connection:
        connection.execute(
            """CREATE OR REPLACE PROCEDURE hg_insert_overwrite(target text, query text) LANGUAGE plpgsql AS
                   $$ BEGIN EXECUTE 'CREATE TEMP TABLE ' || target || ' AS ' || query; END $$"""
        )
    endpoint = started()
    texts = (OPEN, ENCRYPTED + " /*" + 3_000 * "x" + "*/")
    with Client.logged_in(endpoint) as client:
        for at, text in enumerate(texts):
            call = parse("", "CALL hg_insert_overwrite($1, $2)") + bind("", "", f"t{at}", text)
            call += execute("") + SYNC
            for piece in (call[:70], call[70:900], call[900:]) if cut else (call,):
                client.send(piece)
                time.sleep(0.05 if cut else 0)
            assert not [payload for kind, payload in client.until_ready() if kind == b"E"]
            assert cluster.setting_changes(endpoint.dbname) == at
    assert cluster.scans(endpoint.dbname)["HQE"] == (1, 0)
    assert cluster.scans(endpoint.dbname)["SQE"] == (1, 0)


def test_common_table(started, cluster):
    """The Common Table path reads what the default key encrypted as well."""
    endpoint = started("--route", "common-table", "--encrypted-project", "legacy_default")
    with endpoint.connect() as connection:
        assert connection.execute("SELECT count(*) FROM ledger").fetchone() == (2,)
        assert connection.execute(ENCRYPTED).fetchone() == (1000,)
        shown = connection.execute(f"SHOW {harness.ROUTING}").fetchone()[0]
        assert "odps:common_table" in shown
        assert connection.execute(f"SHOW {harness.ORC}").fetchone() == ("on",)
    assert cluster.scans(endpoint.dbname)["COMMON_TABLE"] == (2, 0)


@pytest.mark.parametrize("name", [harness.ORC, harness.ORC_NEW_NAME])
@pytest.mark.parametrize("form", ["SET {} = on", "SELECT set_config('{}', 'on', false)"])
def test_client_is_the_master(through_osprey, cluster, name, form):
    """Once the client has set the route's setting itself, Osprey leaves it alone."""
    with through_osprey.connect() as connection:
        connection.execute(form.format(name))
        with pytest.raises(psycopg.errors.InternalError_):
            connection.execute(ENCRYPTED)
    assert cluster.setting_changes(through_osprey.dbname) == 1
    assert cluster.scans(through_osprey.dbname)["HQE"] == (1, 1)


def test_client_sets_it_at_startup(through_osprey, cluster):
    options = f"-c {harness.ORC_NEW_NAME}=on"
    with through_osprey.connect(options=options) as connection:
        with pytest.raises(psycopg.errors.InternalError_):
            connection.execute(ENCRYPTED)
    assert cluster.setting_changes(through_osprey.dbname) == 0


def test_override_enforce(started, cluster, tmp_path):
    config = tmp_path / "osprey.toml"
    config.write_text('[route]\noverride = "enforce"\n')
    endpoint = started(config=config)
    with endpoint.connect() as connection:
        connection.execute(f"SET {harness.ORC} = on")
        assert connection.execute(ENCRYPTED).fetchone() == (1000,)


def test_reset_and_discard(through_osprey):
    """What takes the route away is noticed: a pool's reset does not end in an error."""
    with through_osprey.connect() as connection:
        for reset in (
            f"RESET {harness.ORC}",
            "RESET ALL",
            "DISCARD ALL",
            "SELECT 1; RESET ALL; SELECT 2",
            "DO $$ BEGIN EXECUTE 'RESET ALL'; END $$",
            "BEGIN; SELECT count(*) FROM salaries; ROLLBACK",
        ):
            # ClientCursor: the simple protocol, and no prepared statement for DISCARD to take away.
            cursor = psycopg.ClientCursor(connection)
            assert cursor.execute(ENCRYPTED).fetchone() == (1000,), reset
            cursor.execute(reset)
            assert cursor.execute(ENCRYPTED).fetchone() == (1000,), reset


def test_search_path(through_osprey, cluster):
    """Names resolve by the path that the session has set, and by its temporary tables."""

    def reads_the_plain_one(connection, path):
        cluster.reset_counters(through_osprey.dbname)
        connection.execute(f"SET search_path = {path}")
        connection.execute(ENCRYPTED)
        return cluster.setting_changes(through_osprey.dbname) == 0

    def fresh(path):
        with through_osprey.connect() as connection:
            return reads_the_plain_one(connection, path)

    made = "CREATE SCHEMA other CREATE TABLE salaries (id int)"
    cluster.query(through_osprey.dbname, made)
    grant = "GRANT USAGE ON SCHEMA other TO PUBLIC; GRANT SELECT ON other.salaries TO PUBLIC"
    cluster.query(through_osprey.dbname, grant)
    with through_osprey.connect() as connection:
        connection.execute("CREATE TABLE has_the_catalogs_read_again (id int)")
    harness.wait_for(lambda: fresh("other, public"), "the new table to be known")
    assert not fresh("public, other")
    with through_osprey.connect() as connection:
        connection.execute("CREATE TEMP TABLE passing (id int)")
        assert reads_the_plain_one(connection, "other")
        connection.execute("CREATE TEMP TABLE salaries (id int)")
        assert reads_the_plain_one(connection, "public")
        connection.execute("DROP TABLE salaries")
        with connection.transaction(force_rollback=True):
            connection.execute("SET search_path = other")
        assert connection.execute(ENCRYPTED).fetchone() == (1000,)
        connection.execute("DISCARD ALL", prepare=False)
        assert reads_the_plain_one(connection, "other")
    with through_osprey.connect() as connection:
        connection.execute("SET search_path = public")
        assert connection.execute(ENCRYPTED).fetchone() == (1000,)


def test_ddl_through_osprey_is_noticed(through_osprey):
    """A view that is made through Osprey is known as soon as it is there."""
    with through_osprey.connect() as connection:
        connection.execute("CREATE VIEW made_now AS SELECT id, amount FROM salary_names")
        assert connection.execute("SELECT count(*) FROM made_now").fetchone() == (1000,)


def test_refused_set_does_no_harm(through_osprey, cluster):
    """On a version without the setting, the client's statement runs as if nobody had tried."""
    database = through_osprey.dbname
    cluster.query(database, f"ALTER DATABASE {database} SET hologres.refuse_set = on")
    with through_osprey.connect() as connection:
        for _ in range(2):
            with pytest.raises(psycopg.errors.InternalError_) as caught:
                connection.execute(ENCRYPTED)
            diagnostics = caught.value.diag
            assert tasks.is_pangu(f"{diagnostics.message_primary} {diagnostics.message_detail}")
        assert connection.execute("SELECT count(*) FROM people").fetchone() == (100,)


def test_observe(cluster, database):
    """Nothing is done, errors pass as Hologres words them, and what would have been done is said."""
    conftest.need_osprey()
    known = f'osprey_catalog_protected_relations{{upstream="default",database="{database}"}}'

    def errors(endpoint):
        found = []
        with endpoint.connect(autocommit=True) as connection:
            for send in (connection.execute, psycopg.ClientCursor(connection).execute):
                assert send(OPEN).fetchone() == (50,)
                with pytest.raises(psycopg.Error) as caught:
                    send(ENCRYPTED)
                found.append(str(caught.value))
        return found

    with harness.Osprey.in_front_of(cluster, "--mode", "observe") as osprey:
        through = osprey.endpoint(database)
        with through.connect():
            harness.wait_for(lambda: osprey.scrape().get(known, 0) > 0, "the catalogs to be read")
        cluster.reset_counters(database)
        assert errors(through) == errors(cluster.endpoint(database))
        assert cluster.setting_changes(database) == 0
        scraped = osprey.scrape()
        assert scraped["osprey_would_steer_statements_total"] == 2
        assert sum(count for key, count in scraped.items() if "would_rewrite" in key) == 2
        osprey.says("salaries")
        assert osprey.log().count("this session would have been switched") == 1
        command = [harness.osprey_binary(), "explain", "--from-log"]
        done = subprocess.run(command, input=osprey.log(), capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert f", database {database}\n  sessions that would have been switched: 1\n" in done.stdout
        assert "reads public.salaries (project finance_byok)" in done.stdout, done.stdout
        assert "errors that would have been rewritten, OSP-1001: 2" in done.stdout, done.stdout
