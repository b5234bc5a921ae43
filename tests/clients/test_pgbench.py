"""pgbench, in its three query modes."""

import subprocess

import pytest

import harness


def pgbench(endpoint, *arguments):
    done = subprocess.run(
        [harness.PG_BIN / "pgbench", *arguments],
        env=endpoint.environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.mark.parametrize("mode", ["simple", "extended", "prepared"])
def test_pgbench(endpoint, cluster, mode):
    pgbench(endpoint, "-i", "-q")
    # -C: a connection per transaction, so that connecting is exercised as well.
    for script in (["-b", "tpcb-like"], ["-S"], ["-S", "-C"]):
        output = pgbench(endpoint, "-n", "-M", mode, "-c", "4", "-j", "2", "-t", "50", *script)
        assert "number of transactions actually processed: 200/200" in output
        assert "number of failed transactions: 0 " in output
    assert cluster.setting_changes(endpoint.dbname) == 0


@pytest.mark.parametrize("mode", ["simple", "extended", "prepared"])
def test_pgbench_on_encrypted_data(through_osprey, cluster, mode, tmp_path):
    script = tmp_path / "encrypted.sql"
    script.write_text(
        "\\set id random(1, 100)\n"
        "SELECT team FROM people WHERE id = :id;\n"
        "SELECT name FROM salaries WHERE id = :id;\n"
    )
    output = pgbench(through_osprey, "-n", "-M", mode, "-c", "4", "-t", "50", "-f", script)
    assert "number of transactions actually processed: 200/200" in output
    scans = cluster.scans(through_osprey.dbname)
    assert scans["HQE"] == (0, 0)
    assert scans["SQE"] == (200, 0)
    # Scope `session`: once set, it stays set.
    assert cluster.setting_changes(through_osprey.dbname) == 4
