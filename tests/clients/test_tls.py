"""TLS towards the client, towards the upstream, and on both sides, with every authentication method."""

import threading

import psycopg
import pytest

import conftest
import harness


def verified(cluster):
    return {"sslmode": "verify-full", "sslrootcert": str(cluster.ca)}


@pytest.mark.parametrize("role", sorted(harness.ROLES))
@pytest.mark.parametrize("binding", ["prefer", "disable"])
def test_tls_on_both_sides(tls_cluster, tls_osprey, role, binding):
    endpoint = tls_osprey.endpoint("tls", user=role)
    with endpoint.connect(**verified(tls_cluster), channel_binding=binding) as connection:
        assert connection.pgconn.ssl_in_use
        row = connection.execute(
            "SELECT current_user, ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
        )
        assert row.fetchone() == (role, True)
        if role != "osprey_catalog":
            assert connection.execute("SELECT count(*) FROM salaries").fetchone() == (1000,)
    if role != "app_trust":
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            endpoint.connect(**verified(tls_cluster), password="wrong")


def test_plaintext_client(tls_cluster, tls_osprey):
    """TLS is offered, not demanded, unless the configuration says so."""
    with tls_osprey.endpoint("tls").connect(sslmode="disable") as connection:
        assert connection.execute("SELECT count(*) FROM salaries").fetchone() == (1000,)


def test_cancel_over_tls(tls_cluster, tls_osprey):
    with tls_osprey.endpoint("tls").connect(**verified(tls_cluster)) as connection:
        timer = threading.Timer(0.3, connection.cancel)
        timer.start()
        with pytest.raises(psycopg.errors.QueryCanceled):
            connection.execute("SELECT pg_sleep(30)")
        timer.join()


def test_large_values_over_tls(tls_cluster, tls_osprey):
    size = harness.bulk(8 << 20)
    with tls_osprey.endpoint("tls").connect(**verified(tls_cluster)) as connection:
        assert connection.execute("SELECT length(%s)", ["x" * size]).fetchone() == (size,)
        assert connection.execute("SELECT repeat('y', %s)", [size]).fetchone() == ("y" * size,)


def test_client_may_not_insist_on_tls_that_is_not_there(osprey):
    with pytest.raises(psycopg.OperationalError, match="server does not support SSL"):
        osprey.endpoint("postgres").connect(sslmode="require")


def test_upstream_certificate_of_another_authority(cluster, tls_cluster, tmp_path):
    """The upstream is not who it says: the client is told, and nothing was sent to it."""
    conftest.need_osprey()
    other = tmp_path / "other-ca.crt"
    harness.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]
        + ["-nodes", "-subj", "/CN=Other CA", "-keyout", tmp_path / "key", "-out", other]
    )
    config = tmp_path / "osprey.toml"
    config.write_text(
        f'[upstream.tls]\nmode = "verify-full"\nca = "{other}"\nserver_name = "localhost"\n'
    )
    with harness.Osprey(tls_cluster.port, config=config) as osprey:
        with pytest.raises(psycopg.OperationalError, match="certificate"):
            osprey.endpoint("postgres").connect()


def test_upstream_without_tls_that_must_have_it(cluster, tmp_path):
    conftest.need_osprey()
    config = tmp_path / "osprey.toml"
    config.write_text('[upstream.tls]\nmode = "require"\n')
    with harness.Osprey(cluster.port, config=config) as osprey:
        with pytest.raises(psycopg.OperationalError, match="TLS"):
            osprey.endpoint("postgres").connect()
