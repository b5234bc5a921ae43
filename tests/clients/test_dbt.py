"""Both of dbt's adapters for Hologres: a first run behind a fresh Osprey builds what it builds direct with the
right setting, with one thread and with eight, and loses no model."""

import json
import shutil
import subprocess

import pytest

import harness
import vendor

ADAPTERS = ["dbt-alibaba-cloud-hologres", "dbt-hologres"]
BUILT = ["staged", "staged_again", "paid", "totals", "grown", "plain", "teams"] + [
    f"part_{number}" for number in range(1, 7)
]


def run_dbt(adapter, endpoint, threads, directory):
    """How each node of each command ended."""
    programs = vendor.environment(adapter)
    shutil.copytree(harness.HERE / "vendors/dbt", directory)
    profile = {
        "type": "hologres",
        "host": endpoint.host,
        "port": endpoint.port,
        "user": endpoint.user,
        "password": endpoint.password,
        "dbname": endpoint.dbname,
        "schema": "marts",
        "sslmode": "disable",
        "threads": threads,
    }
    outputs = {"osprey": {"target": "test", "outputs": {"test": profile}}}
    (directory / "profiles.yml").write_text(json.dumps(outputs))
    done = subprocess.run(
        [programs / "python", "run.py", str(threads)],
        cwd=directory,
        capture_output=True,
        text=True,
        timeout=240,
    )
    lines = [line for line in done.stdout.splitlines() if line.startswith("RESULTS ")]
    assert lines, done.stdout[-3000:] + done.stderr[-3000:]
    return json.loads(lines[0].removeprefix("RESULTS ")), done.stdout


def contents(cluster, database):
    """What was built: each relation's kind and rows."""
    kinds = dict(
        cluster.query(
            database,
            "SELECT relname, relkind::text FROM pg_class WHERE relnamespace = 'marts'::regnamespace"
            " AND relkind IN ('r', 'v')",
        )
    )
    rows = {}
    with cluster.admin(database) as connection:
        connection.execute(f"SET {harness.ORC} = off")
        for name in kinds:
            rows[name] = connection.execute(f"SELECT * FROM marts.{name} ORDER BY 1, 2").fetchall()
    return kinds, rows


@pytest.fixture(scope="module")
def expected(cluster, tmp_path_factory):
    """What an adapter does, and makes, direct in a database whose default is the right setting."""
    known = {}

    def run(adapter):
        if adapter not in known:
            database = vendor.create_database(cluster, f"{adapter} direct")
            cluster.query("postgres", f'ALTER DATABASE "{database}" SET {harness.ORC} = off')
            directory = tmp_path_factory.mktemp("dbt") / "project"
            results, output = run_dbt(adapter, cluster.endpoint(database), 8, directory)
            assert [succeeded for _, succeeded, _ in results[:2]] == [True] * 2, output
            known[adapter] = results, contents(cluster, database)
            cluster.drop_database(database)
        return known[adapter]

    return run


def compare(cluster, osprey, adapter, threads, tmp_path, expected):
    database = vendor.create_database(cluster, f"{adapter} {threads}")
    results, output = run_dbt(adapter, osprey.endpoint(database), threads, tmp_path / "project")
    direct, built = expected(adapter)
    for (command, succeeded, nodes), (_, wanted, wanted_nodes) in zip(results, direct):
        assert (command, succeeded, nodes) == (command, wanted, wanted_nodes), output
    assert contents(cluster, database) == built
    assert set(BUILT) <= set(built[0])
    cluster.drop_database(database)


@pytest.mark.parametrize("adapter", ADAPTERS)
def test_known(cluster, adapter, tmp_path, expected):
    """The projects and a catalog account are known."""
    with harness.Osprey.in_front_of(cluster) as osprey:
        compare(cluster, osprey, adapter, 8, tmp_path, expected)


@pytest.mark.parametrize("threads", [1, 8])
@pytest.mark.parametrize("adapter", ADAPTERS)
def test_zero_configuration(cluster, adapter, threads, tmp_path, expected):
    """Nothing is known but where Hologres is."""
    with harness.Osprey(cluster.port) as osprey:
        compare(cluster, osprey, adapter, threads, tmp_path, expected)
