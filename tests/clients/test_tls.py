"""TLS towards the client, towards the upstream, and on both sides, with every authentication method."""

import ssl
import subprocess
import threading

import psycopg
import pytest

import conftest
import harness
import rawpg


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
        ["openssl", "req", "-x509", *harness.CURVE, "-subj", "/CN=Other CA"]
        + ["-keyout", tmp_path / "key", "-out", other]
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


def configured(cluster, path, upstream="", listen=""):
    """Osprey with TLS on both sides and more lines in either section."""
    path.write_text(
        f"""
[listen.tls]
certificate = "{cluster.directory}/server.crt"
key = "{cluster.directory}/server.key"
{listen}

[upstream.tls]
{upstream}
"""
    )
    return harness.Osprey.in_front_of(cluster, config=path)


def test_client_certificates(tls_cluster, tmp_path):
    """With an authority for them, whoever has none of its certificates does not get in."""
    conftest.need_osprey()
    certificate, key = tls_cluster.make_certificate("known", "app")
    stranger, stranger_key = tmp_path / "stranger.crt", tmp_path / "stranger.key"
    harness.run(
        ["openssl", "req", "-x509", *harness.CURVE, "-subj", "/CN=app"]
        + ["-keyout", stranger_key, "-out", stranger]
    )
    own = {"sslcert": str(certificate), "sslkey": str(key)}
    listen = f'client_ca = "{tls_cluster.ca}"'
    with configured(tls_cluster, tmp_path / "osprey.toml", listen=listen) as osprey:
        endpoint = osprey.endpoint("postgres")
        for version in ("TLSv1.2", "TLSv1.3"):
            limit = {"ssl_min_protocol_version": version, "ssl_max_protocol_version": version}
            with endpoint.connect(**verified(tls_cluster), **own, **limit) as connection:
                assert connection.execute("SELECT 1").fetchone() == (1,)
            with pytest.raises(psycopg.OperationalError, match="certificate required|handshake fail"):
                endpoint.connect(**verified(tls_cluster), sslcert="/none", **limit)
            theirs = {"sslcert": str(stranger), "sslkey": str(stranger_key)}
            with pytest.raises(psycopg.OperationalError, match="unknown|decrypt error|bad cert"):
                endpoint.connect(**verified(tls_cluster), **theirs, **limit)
        assert osprey.process.poll() is None


def test_certificate_towards_the_upstream(tmp_path, extension):
    """The upstream authenticates by certificate: it is Osprey's, for all who come through it."""
    conftest.need_osprey()
    cluster = harness.Cluster(tls=True, hba=["hostssl all backup 127.0.0.1/32 cert"])
    cluster.settings["ssl_ca_file"] = cluster.ca
    with cluster:
        cluster.query("postgres", "CREATE ROLE backup LOGIN")
        certificate, key = cluster.make_certificate("backup", "backup")
        upstream = f'certificate = "{certificate}"\nkey = "{key}"'
        with configured(cluster, tmp_path / "osprey.toml", upstream) as osprey:
            with osprey.endpoint("postgres", user="backup").connect(sslmode="require") as connection:
                assert connection.execute("SELECT current_user").fetchone() == ("backup",)
        with configured(cluster, tmp_path / "osprey.toml") as osprey:
            with pytest.raises(psycopg.OperationalError, match="valid client certificate"):
                osprey.endpoint("postgres", user="backup").connect(sslmode="require")


@pytest.mark.parametrize("version", ["TLSv1.2", "TLSv1.3"])
def test_versions(tls_cluster, tls_osprey, version):
    """Either version, on either side."""
    limit = {"ssl_min_protocol_version": version, "ssl_max_protocol_version": version}
    with tls_osprey.endpoint("tls").connect(**verified(tls_cluster), **limit) as connection:
        assert connection.execute("SELECT count(*) FROM salaries").fetchone() == (1000,)
    tls_cluster.alter_system("ssl_max_protocol_version", version)
    tls_cluster.alter_system("ssl_min_protocol_version", version)
    try:
        with tls_osprey.endpoint("tls").connect(**verified(tls_cluster)) as connection:
            asked = "SELECT version FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
            assert connection.execute(asked).fetchone() == (version,)
    finally:
        tls_cluster.alter_system("ssl_min_protocol_version", "TLSv1.2")
        tls_cluster.alter_system("ssl_max_protocol_version", "")


def test_older_versions_are_refused(tls_osprey):
    with pytest.raises(psycopg.OperationalError, match="version|unsupported|handshake|alert"):
        limit = {"ssl_min_protocol_version": "TLSv1.1", "ssl_max_protocol_version": "TLSv1.1"}
        tls_osprey.endpoint("tls").connect(sslmode="require", **limit)


@pytest.mark.parametrize("protocols", [["postgresql"], ["http/1.1", "postgresql"], ["h2"], []])
def test_direct_tls(tls_cluster, tls_osprey, protocols):
    """TLS without SSLRequest, as sslnegotiation=direct of PostgreSQL 17: only with its ALPN."""
    context = ssl.create_default_context(cafile=tls_cluster.ca)
    if protocols:
        context.set_alpn_protocols(protocols)
    with rawpg.Client("localhost", tls_osprey.port) as client:
        try:
            client.socket = context.wrap_socket(client.socket, server_hostname="localhost")
            client.start_up(user="app_trust", database="tls")
            answer = client.until_ready()
        except (ssl.SSLError, ConnectionError):
            answer = None
        if "postgresql" not in protocols:
            assert not answer
            return
        assert client.socket.selected_alpn_protocol() == "postgresql"
        assert rawpg.kinds(answer).endswith("Z")
        assert rawpg.kinds(client.ask(rawpg.query("SELECT count(*) FROM salaries"))) == "TDCZ"


def test_certificate_of_version_1(tls_cluster, tmp_path):
    """What `openssl x509 -req` makes without an extension is of no use, and Osprey says why."""
    conftest.need_osprey()
    certificate, key = tls_cluster.make_certificate("old", "localhost", extensions="")
    config = tmp_path / "osprey.toml"
    config.write_text(
        f'[upstream]\naddress = "127.0.0.1:80"\n'
        f'[listen.tls]\ncertificate = "{certificate}"\nkey = "{key}"\n'
    )
    done = subprocess.run(
        [harness.osprey_binary(), "check-config", "--config", config],
        stderr=subprocess.PIPE,
        text=True,
    )
    assert done.returncode == 2
    assert "listen.tls.certificate" in done.stderr and "-extfile" in done.stderr


def test_plaintext_refused(tls_cluster, tmp_path):
    conftest.need_osprey()
    listen = "required = true"
    with configured(tls_cluster, tmp_path / "osprey.toml", listen=listen) as osprey:
        endpoint = osprey.endpoint("postgres")
        with pytest.raises(psycopg.OperationalError, match="TLS connections only"):
            endpoint.connect(sslmode="disable")
        # libpq tries TLS by itself after such a refusal.
        with endpoint.connect(sslmode="allow") as connection:
            assert connection.pgconn.ssl_in_use


def test_names_in_the_upstream_certificate(tls_cluster, tmp_path):
    """verify-ca does not look at them, verify-full does and says so."""
    conftest.need_osprey()
    for mode in ("verify-ca", "verify-full"):
        upstream = f'mode = "{mode}"\nca = "{tls_cluster.ca}"\nserver_name = "elsewhere.example"'
        with configured(tls_cluster, tmp_path / "osprey.toml", upstream) as osprey:
            if mode == "verify-ca":
                osprey.endpoint("postgres").connect().close()
            else:
                with pytest.raises(psycopg.OperationalError, match="not valid for.*elsewhere"):
                    osprey.endpoint("postgres").connect()


def test_channel_binding_is_insisted_on(tls_cluster, tls_osprey):
    """Two TLS connections cannot be bound as one. The client's own words end the login; what to do about
    it is in Osprey's log."""
    with pytest.raises(psycopg.OperationalError, match="channel binding (is )?required"):
        endpoint = tls_osprey.endpoint("tls")
        endpoint.connect(**verified(tls_cluster), channel_binding="require")
    tls_osprey.says("channel_binding=prefer or channel_binding=disable")
