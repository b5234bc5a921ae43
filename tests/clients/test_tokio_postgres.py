"""tokio-postgres: tests/tokio_postgres.rs, given servers to run against."""

import os
import subprocess

import harness


def cargo_test(name, **environment):
    done = subprocess.run(
        ["cargo", "test", "--locked", "--test", "tokio_postgres", "--", "--ignored", name],
        cwd=harness.ROOT,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stdout
    assert "test result: ok. 1 passed" in done.stdout


def test_tokio_postgres(endpoint):
    conninfo = endpoint.conninfo()
    cargo_test("reads_and_writes", OSPREY_TEST_CONNINFO=conninfo, OSPREY_TEST_VIA=endpoint.via)


def test_session(endpoint):
    # Direct, the route is right from the start.
    right = {"options": f"-c {harness.ORC}=off"} if endpoint.direct else {}
    cargo_test("session", OSPREY_TEST_CONNINFO=endpoint.conninfo(**right))


def test_login(tls_cluster, tls_osprey):
    """Each way, plain and with TLS, with channel binding where it can be."""
    logins = [
        tls_osprey.endpoint("tls", user=role).conninfo(
            host="localhost", sslmode=tls, channel_binding=binding
        )
        for role in harness.ROLES
        if role != "osprey_catalog"
        for tls in ("disable", "require")
        for binding in ("prefer", "disable")
        # It says that it misses channel binding, and then takes no other method (docs/login.md).
        if (harness.ROLES[role], tls, binding) != ("scram-sha-256", "require", "prefer")
    ]
    cargo_test("logs_in", OSPREY_TEST_LOGINS="\n".join(logins), OSPREY_TEST_CA=str(tls_cluster.ca))
