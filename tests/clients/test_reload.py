"""The configuration is read again, at SIGHUP or because a file has changed, and no session notices."""

import os
import shutil
import signal
import socket
import ssl
import struct
import time
import urllib.request

import psycopg
import pytest

import conftest
import harness

SSL_REQUEST = struct.pack("!ii", 8, 80877103)


def certificate_shown(port):
    """The certificate that a new client is shown."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with socket.create_connection(("127.0.0.1", port)) as plain:
        plain.sendall(SSL_REQUEST)
        assert plain.recv(1) == b"S"
        with context.wrap_socket(plain) as encrypted:
            return encrypted.getpeercert(binary_form=True)


def other_certificate(folder):
    harness.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]
        + ["-nodes", "-days", "2", "-subj", "/CN=renewed"]
        + ["-keyout", folder / "new.key", "-out", folder / "new.crt"]
    )


@pytest.fixture
def reloadable(cluster, database, tls_cluster, tmp_path):
    conftest.need_osprey()
    for name in ("server.crt", "server.key"):
        shutil.copy(tls_cluster.directory / name, tmp_path / name)
    config = tmp_path / "osprey.toml"
    config.write_text(
        f"""
[catalog]
user = "osprey_catalog"

[route]
retry = false

[listen.tls]
certificate = "{tmp_path}/server.crt"
key = "{tmp_path}/server.key"
"""
    )
    environment = {"OSPREY_CATALOG_PASSWORD": harness.PASSWORD}
    with harness.Osprey(cluster.port, config=config, environment=environment) as osprey:
        yield osprey


def hang_up(osprey, words):
    before = len(osprey.log())
    osprey.process.send_signal(signal.SIGHUP)
    osprey.says(words, before)


def test_reload(reloadable, database, tmp_path):
    osprey = reloadable
    endpoint = osprey.endpoint(database)
    config = tmp_path / "osprey.toml"
    with endpoint.connect() as old:
        with pytest.raises(psycopg.Error, match="HQE"):
            old.execute("SELECT count(*) FROM salaries")

        shown = certificate_shown(osprey.port)
        other_certificate(tmp_path)
        (tmp_path / "new.crt").replace(tmp_path / "server.crt")
        (tmp_path / "new.key").replace(tmp_path / "server.key")
        config.write_text(config.read_text() + '\n[protect]\nprojects = ["finance_byok"]\n')
        hang_up(osprey, "read again and is in force")
        assert certificate_shown(osprey.port) != shown

        def reads():
            try:
                return old.execute("SELECT count(*) FROM salaries").fetchone() == (1000,)
            except psycopg.Error:
                return False

        harness.wait_for(reads, "the session to know of the project")


def test_a_mistake_changes_nothing(reloadable, database, tmp_path):
    osprey = reloadable
    config = tmp_path / "osprey.toml"
    config.write_text(config.read_text() + "\n[limits]\nmax_sesions = 1\n")
    hang_up(osprey, "has mistakes and is not in force")
    osprey.says("max_sesions")
    with osprey.endpoint(database).connect() as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)


def test_language_of_messages(reloadable, database, tmp_path):
    """New sessions have it at once, and nothing says that it had to wait; of the log's form it is said."""
    osprey = reloadable
    config = tmp_path / "osprey.toml"
    text = config.read_text()
    before = len(osprey.log())
    config.write_text(text + '\n[observe]\nlanguage = "zh"\nredact_paths = true\n')
    hang_up(osprey, "read again and is in force")
    assert "next start" not in osprey.log()[before:]
    with osprey.endpoint(database).connect() as connection:
        with pytest.raises(psycopg.Error) as caught:
            connection.execute("SELECT count(*) FROM salaries")
    assert "加密" in str(caught.value) and "pangu://os" not in str(caught.value)
    config.write_text(text + '\n[observe]\nlog_format = "json"\n')
    hang_up(osprey, "read again and is in force")
    osprey.says("next start", before)


def test_what_is_included_is_read_again(reloadable, database, tmp_path):
    osprey = reloadable
    (tmp_path / "conf.d").mkdir()
    config = tmp_path / "osprey.toml"
    config.write_text('include = ["conf.d/*.toml"]\n' + config.read_text())
    hang_up(osprey, "read again and is in force")
    part = tmp_path / "conf.d" / "limits.toml"
    part.write_text("[limits]\nmax_sesions = 1\n")
    hang_up(osprey, "has mistakes and is not in force")
    osprey.says(f"{part}:2: limits.max_sesions")
    part.write_text("[limits]\nmax_sessions = 1\n")
    hang_up(osprey, "read again and is in force")
    with osprey.endpoint(database).connect():
        with pytest.raises(psycopg.OperationalError, match="limits.max_sessions"):
            osprey.endpoint(database).connect()


def test_a_file_that_hangs_holds_nobody_up(reloadable, database, tmp_path):
    """As a named pipe or a file server may: whatever comes of it, sessions and probes go on."""
    osprey = reloadable
    config = tmp_path / "osprey.toml"
    text = config.read_text()
    config.unlink()
    os.mkfifo(config)
    osprey.process.send_signal(signal.SIGHUP)
    address = f"http://127.0.0.1:{osprey.metrics_port}/readyz"
    for _ in range(3):
        with osprey.endpoint(database).connect(connect_timeout=5) as connection:
            assert connection.execute("SELECT 1").fetchone() == (1,)
        with urllib.request.urlopen(address, timeout=5) as response:
            assert response.status == 200
    outcome = "osprey_config_reloads_total"
    assert osprey.metric(outcome) == 0
    osprey.says("takes longer than 10s")
    assert osprey.metric(outcome, outcome="timed_out") == 1
    assert osprey.metric("osprey_config_last_reload_successful") == 0
    # The one that was given up takes this, and nothing comes of it.
    with open(config, "w") as pipe:
        pipe.write("[route]\nscope = 'statement'\n")
    config.unlink()
    config.write_text(text)
    hang_up(osprey, "read again and is in force")
    assert osprey.metric(outcome, outcome="applied") == 1
    assert osprey.metric("osprey_config_last_reload_successful") == 1


def looks(osprey):
    """Waits for as long as some looks at the files take."""
    time.sleep(0.5)


@pytest.fixture
def watched(reloadable, tmp_path):
    """Looks at its files, which Kubernetes has mounted."""
    mounted = tmp_path / "mounted"
    mounted.mkdir()
    mount(mounted, tmp_path / "server.crt", tmp_path / "server.key")
    (tmp_path / "conf.d").mkdir()
    config = tmp_path / "osprey.toml"
    text = config.read_text()
    for name in ("server.crt", "server.key"):
        text = text.replace(f"{tmp_path}/{name}", f"{mounted}/{name}")
    config.write_text('include = ["conf.d/*.toml"]\n' + text + '\n[reload]\nwatch = "100ms"\n')
    hang_up(reloadable, "read again and is in force")
    return reloadable


def mount(directory, certificate, key):
    """As kubelet's atomic writer does: a directory with a new name, and a link to it that is swapped."""
    version = directory / f"..{time.monotonic_ns()}"
    version.mkdir()
    shutil.copy(certificate, version / "server.crt")
    shutil.copy(key, version / "server.key")
    (directory / "..data_tmp").symlink_to(version.name)
    (directory / "..data_tmp").replace(directory / "..data")
    for name in ("server.crt", "server.key"):
        if not (directory / name).is_symlink():
            (directory / name).symlink_to(f"..data/{name}")
    for old in directory.glob("..[0-9]*"):
        if old != version:
            shutil.rmtree(old)


def is_applied(osprey, count):
    osprey.wait_for_metric("osprey_config_reloads_total", count, outcome="applied")


def test_a_certificate_that_kubernetes_renews_is_shown(watched, tmp_path):
    shown = certificate_shown(watched.port)
    other_certificate(tmp_path)
    mount(tmp_path / "mounted", tmp_path / "new.crt", tmp_path / "new.key")
    is_applied(watched, 2)
    assert certificate_shown(watched.port) != shown
    assert f"{tmp_path}/mounted/server.crt, {tmp_path}/mounted/server.key" in watched.log()
    # The same once more is nothing new.
    mount(tmp_path / "mounted", tmp_path / "new.crt", tmp_path / "new.key")
    looks(watched)
    assert watched.metric("osprey_config_reloads_total") == 2


def test_files_that_come_change_and_go_are_noticed(watched, database, tmp_path):
    part = tmp_path / "conf.d" / "limits.toml"
    part.write_text("[limits]\nmax_sessions = 1\n")
    is_applied(watched, 2)
    with watched.endpoint(database).connect():
        with pytest.raises(psycopg.OperationalError, match="limits.max_sessions"):
            watched.endpoint(database).connect()
        # As editors save.
        new = tmp_path / "conf.d" / ".limits.toml.new"
        new.write_text("[limits]\nmax_sessions = 2\n")
        new.replace(part)
        is_applied(watched, 3)
        with watched.endpoint(database).connect():
            pass
    part.unlink()
    is_applied(watched, 4)
    # Nothing is different but the time.
    os.utime(tmp_path / "osprey.toml")
    looks(watched)
    assert watched.metric("osprey_config_reloads_total") == 4
    # What is switched off this way looks no more.
    config = tmp_path / "osprey.toml"
    config.write_text(config.read_text().replace('watch = "100ms"', 'watch = "off"'))
    is_applied(watched, 5)
    part.write_text("[limits]\nmax_sessions = 1\n")
    looks(watched)
    assert watched.metric("osprey_config_reloads_total") == 5


def test_a_mistake_is_said_once_and_what_is_mended_is_in_force(watched, database, tmp_path):
    refused = {"outcome": "refused"}
    part = tmp_path / "conf.d" / "catalog.toml"
    # A file that is named, and does not exist yet.
    missing = tmp_path / "password"
    part.write_text(f'[replicas]\nredis = ["127.0.0.1:1"]\npassword_file = "{missing}"\n')
    watched.wait_for_metric("osprey_config_reloads_total", 1, **refused)
    looks(watched)
    assert watched.metric("osprey_config_reloads_total", **refused) == 1
    assert watched.log().count("has mistakes and is not in force") == 1
    with watched.endpoint(database).connect() as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)
    missing.write_text("secret")
    is_applied(watched, 2)
    assert "this change takes effect at the next start" in watched.log()
    # While the text is no TOML, what else it names is not known: it is watched as it was.
    config = tmp_path / "osprey.toml"
    text = config.read_text()
    config.write_text(text + "[")
    watched.wait_for_metric("osprey_config_reloads_total", 2, **refused)
    config.write_text(text)
    is_applied(watched, 3)
    assert watched.metric("osprey_config_last_reload_successful") == 1


def test_a_watched_file_that_hangs_is_given_up_once(watched, database, tmp_path):
    config = tmp_path / "osprey.toml"
    text = config.read_text()
    config.unlink()
    os.mkfifo(config)
    outcome = {"outcome": "timed_out"}
    watched.wait_for_metric("osprey_config_reloads_total", 1, **outcome)
    with watched.endpoint(database).connect(connect_timeout=5) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)
    looks(watched)
    assert watched.log().count("takes longer than 10s") == 1
    new = tmp_path / "new.toml"
    new.write_text(text)
    with open(config, "w"):
        new.replace(config)
    is_applied(watched, 2)
    assert watched.metric("osprey_config_reloads_total", **outcome) == 1
