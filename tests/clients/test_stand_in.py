"""The stand-in itself, past any Osprey: what it promises in tests/hologres/README.md."""

import difflib
import time

import psycopg
import pytest

import harness


def test_script(cluster):
    """sql/stand_in.sql prints what expected/stand_in.out says."""
    database = cluster.create_database("stand_in", script=None)
    endpoint = harness.Endpoint(
        str(cluster.directory), cluster.port, database, "direct", user="postgres"
    )
    script = harness.EXTENSION / "sql/stand_in.sql"
    status, output = endpoint.psql("-q", "-a", stdin=script.read_text())
    assert status == 0, output
    expected = harness.EXTENSION / "expected/stand_in.out"
    if harness.POSTGRES == 11:
        # PostgreSQL's own words have changed since.
        output = output.replace("or a member of pg_read", "or have privileges of pg_read")
    if output != expected.read_text():
        difference = difflib.unified_diff(
            expected.read_text().splitlines(), output.splitlines(), lineterm=""
        )
        (expected.parent.parent / "regression.out").write_text(output)
        pytest.fail("\n".join(difference))


@pytest.mark.parametrize("role", sorted(harness.ROLES))
@pytest.mark.parametrize("tls", [False, True])
def test_authentication(request, role, tls):
    """Each role is asked for what its pg_hba.conf line says, with and without TLS."""
    cluster = request.getfixturevalue("tls_cluster" if tls else "cluster")
    endpoint = cluster.endpoint("postgres", user=role)
    mode = {"sslmode": "verify-full", "sslrootcert": str(cluster.ca)} if tls else {}
    with endpoint.connect(**mode) as connection:
        row = connection.execute("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()")
        assert row.fetchone() == (tls,)
    wrong = {**mode, "password": "wrong"}
    if role == "app_trust":
        endpoint.connect(**wrong).close()
    else:
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            endpoint.connect(**wrong)


def test_delays_can_be_cancelled(cluster, database):
    cluster.query("postgres", f"ALTER DATABASE {database} SET hologres.set_delay_ms = 20000")
    with cluster.endpoint(database).connect() as connection:
        begin = time.monotonic()
        connection.execute("SET statement_timeout = 100")
        with pytest.raises(psycopg.errors.QueryCanceled):
            connection.execute(f"SET {harness.ORC} = off")
        assert time.monotonic() - begin < 10
        assert connection.execute(f"SHOW {harness.ORC}").fetchone() == ("on",)
