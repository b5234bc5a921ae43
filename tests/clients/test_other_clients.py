"""ruby-pg, PHP's PDO, postgres.js, pg_dump and pg_restore: direct with the right setting, and through Osprey
with and without knowledge, each is told the same."""

import shutil
import subprocess

import pytest

import harness

SCRIPTS = {
    "ruby-pg": ["ruby", harness.HERE / "scripts/ruby_pg.rb"],
    "PDO": ["php", harness.HERE / "scripts/pdo.php"],
}


@pytest.fixture(scope="module")
def database(cluster):
    return cluster.create_database("others")


@pytest.fixture(scope="module", params=["osprey", "unknowing"])
def osprey_or_not(request, database):
    """Osprey's address: with knowledge, and without any."""
    osprey = request.getfixturevalue(request.param)
    if request.param == "osprey":
        osprey.wait_until_known(database)
    return osprey.endpoint(database)


def printed(command, endpoint, right=False, **environment):
    """What a client prints; `right`: its sessions start with the right setting."""
    environment = {**endpoint.environment(), "NODE_NO_WARNINGS": "1", **environment}
    if right:
        environment |= {"PGOPTIONS": f"-c {harness.ORC}=off", "OSPREY_TEST_OPTIONS": f"-c {harness.ORC}=off"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("name", SCRIPTS)
def test_session(cluster, database, osprey_or_not, name):
    expected = printed(SCRIPTS[name], cluster.endpoint(database), right=True)
    assert "name 3" in expected and "division by zero" in expected
    assert printed(SCRIPTS[name], osprey_or_not) == expected


@pytest.fixture(scope="module")
def postgres_js(tmp_path_factory):
    """node/postgres_js.js, beside the packages that it needs."""
    directory = tmp_path_factory.mktemp("node") / "clients"
    shutil.copytree(harness.HERE / "node", directory)
    harness.run(["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"], cwd=directory)
    return ["node", directory / "postgres_js.js"]


def test_postgres_js(cluster, database, osprey_or_not, postgres_js):
    expected = printed(postgres_js, cluster.endpoint(database), right=True)
    assert "name 3" in expected and "division by zero" in expected
    assert printed(postgres_js, osprey_or_not) == expected


DUMP = [
    harness.PG_BIN / "pg_dump",
    "--schema=public",
    "--schema=sales",
    # The rows of foreign tables are read as well, by COPY.
    "--include-foreign-data=odps_server",
    "--exclude-table=ledger",
    # Not known to be encrypted: its error comes within a transaction that has read other tables.
    "--exclude-table=events",
]


def test_dump(cluster, database, osprey):
    def dumped(endpoint, right=False):
        # A dump names a word of its own that nothing in it may contain.
        lines = printed(DUMP, endpoint, right).splitlines()
        return [line for line in lines if not line.startswith(("\\restrict", "\\unrestrict"))]

    osprey.wait_until_known(database)
    expected = dumped(cluster.endpoint(database), right=True)
    assert any("name 999" in line for line in expected)
    assert any(line.startswith("COPY sales.eu_salaries") for line in expected)
    assert dumped(osprey.endpoint(database)) == expected


def test_restore(cluster, database, osprey, tmp_path):
    """What was dumped through Osprey is restored through it, views of encrypted tables among it."""
    osprey.wait_until_known(database)
    archive = tmp_path / "archive"
    tables = ["--table=people", "--table=salaries", "--table=salary_names", "--table=items"]
    dump = [harness.PG_BIN / "pg_dump", "--format=custom", "--no-owner", "--no-privileges", *tables]
    printed([*dump, f"--file={archive}"], osprey.endpoint(database))
    restored = cluster.create_database("restored", script=None)
    with cluster.admin(restored) as connection:
        connection.execute("GRANT ALL ON SCHEMA public TO PUBLIC")
    restore = [harness.PG_BIN / "pg_restore", "--no-owner", "--exit-on-error", f"--dbname={restored}", archive]
    printed(restore, osprey.endpoint(restored))
    with cluster.admin(restored) as connection:
        connection.execute('CREATE TABLE odps_data."finance_byok.salaries" (LIKE salaries)')
        connection.execute('INSERT INTO odps_data."finance_byok.salaries" VALUES (1, \'a\', 1, now())')
    rows = cluster.query(restored, "SELECT count(*), min(team), max(team) FROM people")
    assert rows == cluster.query(database, "SELECT count(*), min(team), max(team) FROM people")
    with osprey.endpoint(restored).connect() as connection:
        assert connection.execute("SELECT id, name FROM salary_names").fetchall() == [(1, "a")]
    cluster.drop_database(restored)
