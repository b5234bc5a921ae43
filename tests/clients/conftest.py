"""Fixtures: one cluster for the run, an Osprey in front of it, a new database for each test."""

import ctypes
import itertools
import pathlib
import subprocess

import pytest

import harness

PR_SET_THP_DISABLE = 41

_numbers = itertools.count(1)


@pytest.fixture(scope="session", autouse=True)
def extension():
    """The stand-in, built."""
    harness.build_extension()


@pytest.fixture(scope="session")
def cluster(extension):
    with harness.Cluster() as running:
        yield running


@pytest.fixture(scope="session")
def tls_cluster(extension):
    with harness.Cluster(tls=True) as running:
        yield running


def postgres_sources():
    """The directory of PostgreSQL's source, as far as its own tests are in it."""
    script = harness.HERE.parent / "postgres" / "sources"
    done = subprocess.run([script], capture_output=True, text=True)
    if done.returncode != 0:
        pytest.skip(f"NOT RUN, for want of PostgreSQL's sources: {done.stderr[-200:]}")
    return pathlib.Path(done.stdout.strip())


@pytest.fixture(scope="session")
def newest_psycopg(tmp_path_factory):
    """A Python that has the newest psycopg, with the libpq that it brings along: Debian's is older than
    17, whose cancel requests are the first to be encrypted."""
    directory = tmp_path_factory.mktemp("psycopg")
    pip = ["-m", "pip", "install", "--quiet", "--only-binary=:all:", "psycopg[binary]>=3.2"]
    for command in (
        ["/usr/bin/python3", "-m", "venv", directory],
        [directory / "bin" / "python", *pip],
    ):
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode != 0:
            pytest.skip(f"NOT RUN, for want of a newer psycopg: {done.stderr[-200:]}")
    return directory / "bin" / "python"


@pytest.fixture
def small_pages():
    """Memory is counted by 4 KiB in processes that are started meanwhile, and not by 2 MiB."""
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    assert prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0) == 0
    yield
    prctl(PR_SET_THP_DISABLE, 0, 0, 0, 0)


def need_osprey():
    if harness.osprey_binary() is None:
        pytest.skip("target/release/osprey is not built")


@pytest.fixture(scope="session")
def osprey(cluster):
    """The Osprey that tests share; those that change its configuration start their own."""
    need_osprey()
    with harness.Osprey.in_front_of(cluster) as running:
        yield running


@pytest.fixture(scope="session")
def unknowing(cluster, tmp_path_factory):
    """An Osprey that knows nothing, and forgets at once what it learns: whatever reads encrypted data
    meets HQE's error first."""
    need_osprey()
    config = tmp_path_factory.mktemp("unknowing") / "osprey.toml"
    config.write_text(harness.FORGETS + "[catalog]\nborrow = false\n")
    with harness.Osprey(cluster.port, config=config) as running:
        yield running


@pytest.fixture
def database(cluster):
    """A new database with the tables of schema.sql."""
    name = cluster.create_database(f"test_{next(_numbers)}")
    yield name
    cluster.drop_database(name)


@pytest.fixture(params=["execution", "planning"])
def engine_at(request, cluster, database):
    """When the engine is chosen: as a statement runs, or as it is planned."""
    if request.param == "planning":
        cluster.query("postgres", f'ALTER DATABASE "{database}" SET hologres.plan_chooses_engine = on')
    return request.param


@pytest.fixture(params=["direct", "osprey"])
def endpoint(request, cluster, database):
    """Where the client connects: each test runs against both, and knows which by `endpoint.via`."""
    if request.param == "direct":
        return cluster.endpoint(database)
    osprey = request.getfixturevalue("osprey")
    osprey.wait_until_known(database)
    cluster.reset_counters(database)
    return osprey.endpoint(database)


@pytest.fixture
def through_osprey(cluster, database, osprey):
    """Osprey's address alone, for tests that have no direct counterpart."""
    osprey.wait_until_known(database)
    cluster.reset_counters(database)
    return osprey.endpoint(database)


@pytest.fixture
def pair(cluster, database, osprey):
    """The stand-in itself and Osprey in front of it, for tests that compare what a client sees."""
    osprey.wait_until_known(database)
    return cluster.endpoint(database), osprey.endpoint(database)


@pytest.fixture(scope="session")
def tls_osprey(tls_cluster, tmp_path_factory):
    """TLS on both sides; the upstream's certificate is verified, its name too. Its database: tls."""
    need_osprey()
    tls_cluster.create_database("tls")
    config = tmp_path_factory.mktemp("tls") / "osprey.toml"
    config.write_text(
        f"""
[listen.tls]
certificate = "{tls_cluster.directory}/server.crt"
key = "{tls_cluster.directory}/server.key"

[upstream.tls]
mode = "verify-full"
ca = "{tls_cluster.ca}"
server_name = "localhost"
"""
    )
    with harness.Osprey.in_front_of(tls_cluster, config=config) as running:
        running.wait_until_known("tls")
        yield running
