"""tokio-postgres: tests/tokio_postgres.rs, given servers to run against."""

import os
import subprocess

import harness


def test_tokio_postgres(endpoint):
    done = subprocess.run(
        ["cargo", "test", "--locked", "--test", "tokio_postgres", "--", "--ignored"],
        cwd=harness.ROOT,
        env={
            **os.environ,
            "OSPREY_TEST_CONNINFO": endpoint.conninfo(),
            "OSPREY_TEST_VIA": endpoint.via,
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stdout
    assert "test result: ok. 1 passed" in done.stdout
