"""node-postgres: node/client.js, direct with the right setting and through Osprey, is told the same; and
each way to log in, with TLS and without."""

import json
import os
import shutil
import subprocess

import pytest

import harness
import tasks


@pytest.fixture(scope="module")
def script(tmp_path_factory):
    """node/client.js, beside the packages that it needs."""
    directory = tmp_path_factory.mktemp("node") / "clients"
    shutil.copytree(harness.HERE / "node", directory)
    harness.run(["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"], cwd=directory)
    return directory / "client.js"


def node(script, endpoint, task, **environment):
    """The exit status, what the script printed, and what it complained of."""
    reads = json.dumps([statement for statement, _ in tasks.READS.values()])
    environment = {"OSPREY_TEST_READS": reads, "NODE_NO_WARNINGS": "1", **environment}
    done = subprocess.run(
        ["node", script, task],
        env={**endpoint.environment(), **environment},
        capture_output=True,
        text=True,
        timeout=120,
    )
    return done.returncode, done.stdout, done.stderr


def test_session(script, pair):
    direct, osprey = pair
    status, expected, complaint = node(script, direct, "session", PGOPTIONS=f"-c {harness.ORC}=off")
    assert (status, complaint) == (0, "")
    assert expected.count("name 999") > 3
    assert "canceling statement due to user request" in expected
    status, printed, complaint = node(script, osprey, "session")
    assert (status, complaint) == (0, "")
    assert printed.splitlines() == expected.splitlines()


@pytest.mark.parametrize("tls", ["disable", "require", "verify-full", "direct"])
def test_login(script, tls_cluster, tls_osprey, tls):
    """"direct": TLS from the first byte, with ALPN."""
    how = {"PGHOST": "localhost", "OSPREY_TEST_TLS": tls, "OSPREY_TEST_CA": str(tls_cluster.ca)}
    if tls == "direct":
        how |= {"OSPREY_TEST_TLS": "verify-full", "PGSSLNEGOTIATION": "direct"}
    for role in harness.ROLES:
        endpoint = tls_osprey.endpoint("tls", user=role)
        assert node(script, endpoint, "login", **how) == (0, f'[[{{"current_user":"{role}"}}]]\n', "")
        if role != "app_trust":
            refused = node(script, endpoint, "login", PGPASSWORD="wrong", **how)
            assert refused == (1, "", f'28P01 password authentication failed for user "{role}"\n')
