"""libpq's own test of pipelines, from PostgreSQL's source: it ends as it does direct, and its trace of
all messages is the same byte for byte."""

import subprocess

import pytest

import conftest
import harness

# Its table as one that counts as encrypted, so that Osprey has the setting to make on the way.
PROTECTED = '[protect]\ntables = ["public.pq_pipeline_demo"]\n'


@pytest.fixture(scope="module")
def sources():
    return conftest.postgres_sources() / "src/test/modules/libpq_pipeline"


@pytest.fixture(scope="module")
def program(sources, tmp_path_factory):
    binary = tmp_path_factory.mktemp("libpq_pipeline") / "libpq_pipeline"
    config = [harness.PG_BIN / "pg_config", "--includedir-server", "--includedir", "--pkglibdir"]
    server, client, libraries = harness.run(config).splitlines()
    harness.run(
        ["cc", "-O1", "-w", "-I", server, "-I", client, "-o", binary]
        + [sources / "libpq_pipeline.c"]
        + ["-L", libraries, "-lpq", "-lpgcommon", "-lpgport"]
    )
    return binary


@pytest.fixture(scope="module", params=["plain", "protected"])
def addresses(request, cluster, tmp_path_factory):
    """The stand-in and an Osprey in front of it, each with a database of its own."""
    conftest.need_osprey()
    config = tmp_path_factory.mktemp("pipeline") / "osprey.toml"
    config.write_text(PROTECTED if request.param == "protected" else "")
    databases = [cluster.create_database(f"pipeline_{via}") for via in ("direct", "osprey")]
    cluster.query("postgres", "GRANT SET ON PARAMETER lc_messages TO app")
    with harness.Osprey.in_front_of(cluster, config=config) as osprey:
        osprey.wait_until_known(databases[1])
        yield [cluster.endpoint(databases[0]), osprey.endpoint(databases[1])]
        injected = sum(n for key, n in osprey.scrape().items() if "injections" in key)
        assert (injected > 1) == (request.param == "protected"), injected


def test_libpq_pipeline(sources, program, addresses, tmp_path):
    tests = harness.run([program, "tests"]).split()
    assert len(tests) >= 10
    for test in tests:
        # The others send while they receive, until the sockets' buffers are full: what they print,
        # and the order in their traces, is a matter of time. They check themselves.
        steady = (sources / "traces" / f"{test}.trace").exists()
        seen = []
        for endpoint in addresses:
            trace = tmp_path / f"{test}.{endpoint.via}"
            options = ["-r", "700"] + (["-t", trace] if steady else [])
            done = subprocess.run(
                [program, *options, test, endpoint.conninfo()],
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=120,
            )
            assert done.returncode == 0, (test, endpoint.via, done.stdout)
            if steady:
                seen.append((done.stdout, trace.read_text()))
        assert not steady or seen[0] == seen[1], test
