"""psql: the four tasks, and scripted sessions that must print the same bytes with and without Osprey."""

import difflib
import re

import pytest

import harness
import tasks


@pytest.mark.parametrize("name", tasks.READS)
def test_reads(endpoint, name):
    statement, rows = tasks.READS[name]
    status, output = endpoint.psql("-At", "-c", statement)
    if endpoint.direct:
        assert status == 1
        assert tasks.is_pangu(output)
    else:
        assert status == 0, output
        assert len(output.splitlines()) == rows


def test_writes_a_plain_table(endpoint, cluster):
    status, output = endpoint.psql("-c", tasks.WRITE)
    written = cluster.query(endpoint.dbname, "SELECT count(*) FROM copied")[0][0]
    if endpoint.direct:
        assert tasks.is_pangu(output)
        assert written == 0
    else:
        assert (status, output) == (0, f"INSERT 0 {tasks.WRITTEN}\n")
        assert written == tasks.WRITTEN


def test_engines_are_counted(endpoint, cluster):
    """The stand-in itself says which engine read."""
    endpoint.psql("-c", "SELECT count(*) FROM salaries")
    scans = cluster.scans(endpoint.dbname)
    if endpoint.direct:
        assert scans["HQE"] == (1, 1)
        assert scans["SQE"] == (0, 0)
    else:
        assert scans["HQE"] == (0, 0)
        assert scans["SQE"] == (1, 0)


def normalised(output):
    """What differs between any two sessions: process ids and large objects' OIDs."""
    output = re.sub(r"server process with PID \d+", "server process with PID n", output)
    return re.sub(r"lo_(import|unlink) \d+", r"lo_\1 n", output)


def session_output(endpoint, script, options=None):
    arguments = ["-a", "-v", "VERBOSITY=verbose", "-f", script]
    return normalised(endpoint.psql(*arguments, options=options)[1])


@pytest.mark.parametrize(
    "script, options",
    [
        ("session.sql", None),
        # Direct, the route is right from the start; through Osprey, nobody says anything.
        ("session_encrypted.sql", f"-c {harness.ORC}=off"),
    ],
)
def test_scripted_session_prints_the_same_bytes(cluster, osprey, script, options):
    database = "scripted"
    cluster.create_database(database)
    direct = session_output(cluster.endpoint(database), script, options)
    assert "\n(1 row)\n" in direct
    assert not tasks.is_pangu(direct)

    cluster.create_database(database)
    osprey.wait_until_known(database)
    cluster.reset_counters(database)
    through = session_output(osprey.endpoint(database), script)
    if through != direct:
        difference = difflib.unified_diff(
            direct.splitlines(), through.splitlines(), "direct", "osprey", lineterm=""
        )
        pytest.fail("\n".join(difference))
    if options is None:
        assert cluster.setting_changes(database) == 0


@pytest.mark.parametrize(
    "script, options",
    [("session.sql", None), ("session_encrypted.sql", f"-c {harness.ORC}=off")],
)
def test_scripted_session_is_deterministic(cluster, script, options):
    """Two direct runs print the same: else the comparison above would prove nothing."""
    outputs = []
    for _ in range(2):
        endpoint = cluster.endpoint(cluster.create_database("scripted"))
        outputs.append(session_output(endpoint, script, options))
    assert outputs[0] == outputs[1]
