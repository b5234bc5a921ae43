"""Alibaba's own clients in Python: direct with the right setting, and through a fresh Osprey that knows the
project or nothing at all, they print the same."""

import subprocess

import pytest

import harness
import vendor


@pytest.fixture(scope="module")
def relay(cluster):
    with vendor.Blanking(cluster.port) as running:
        yield running


def printed(name, endpoint, directory, **environment):
    """What a client's script prints."""
    python = vendor.environment(INSTALLED_WITH.get(name, name)) / "python"
    script = harness.HERE / "vendors" / f"{name.replace('-', '_')}.py"
    directory.mkdir()
    environment = {**endpoint.environment(), "HOME": str(directory), **environment}
    # The MCP server has names of its own for the same.
    for key in ("HOST", "PORT", "USER", "PASSWORD", "DATABASE"):
        environment[f"HOLOGRES_{key}"] = environment[f"PG{key}"]
    done = subprocess.run(
        [python, "-B", "-P", script], env=environment, cwd=directory, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def make(cluster, right=False):
    name = vendor.create_database(cluster, "vendors")
    cluster.query(name, "CREATE SCHEMA imported; GRANT ALL ON SCHEMA imported TO PUBLIC")
    if right:
        cluster.query("postgres", f"ALTER DATABASE {name} SET {harness.ORC} = off")
    return name


@pytest.fixture(scope="module")
def expected(cluster, relay, tmp_path_factory):
    """What a client prints direct, in a database whose default is the right setting."""
    known = {}

    def run(name, **environment):
        key = (name, *environment.items())
        if key not in known:
            database = make(cluster, right=True)
            endpoint = harness.Endpoint("127.0.0.1", relay.port, database, "direct", **USER)
            known[key] = printed(name, endpoint, tmp_path_factory.mktemp("vendor") / "run", **environment)
            cluster.drop_database(database)
        return known[key]

    return run


# hologres-client writes the password into a connection string as it is.
USER = {"user": "app_trust", "password": "unasked"}
CLIENTS = {
    "hologres-cli": {},
    "hologres-mcp-server": {},
    "hologres-client": {"OSPREY_TEST_FIXED": "no"},
    "hologres-client fixed": {"OSPREY_TEST_FIXED": "yes"},
    "hologres-dataframe": {},
}


INSTALLED_WITH = {"hologres-dataframe": "hologres-client"}


@pytest.mark.parametrize("knows", [True, False], ids=["known", "zero"])
@pytest.mark.parametrize("client", CLIENTS)
def test_prints_the_same(cluster, relay, tmp_path, expected, client, knows):
    name = client.split()[0]
    environment = CLIENTS[client]
    wanted = expected(name, **environment)
    assert "name 3" in wanted and harness.PANGU not in wanted, wanted
    database = make(cluster)
    starts = harness.Osprey.in_front_of(relay) if knows else harness.Osprey(relay.port)
    with starts as osprey:
        if knows:
            osprey.wait_until_known(database)
        told = printed(name, osprey.endpoint(database, **USER), tmp_path / "run", **environment)
    assert told == wanted
    cluster.drop_database(database)
