"""The life of the process as those see it who start, watch, balance and end it."""

import contextlib
import fcntl
import signal
import socket
import threading
import urllib.error
import urllib.request

import psycopg
import pytest

import conftest
import harness

PLAIN = "[catalog]\nborrow = false\n"


def readiness(osprey):
    """What /readyz answers."""
    try:
        address = f"http://127.0.0.1:{osprey.metrics_port}/readyz"
        with urllib.request.urlopen(address, timeout=5) as response:
            return response.status
    except urllib.error.HTTPError as error:
        return error.code


@pytest.fixture
def config(tmp_path):
    conftest.need_osprey()
    path = tmp_path / "osprey.toml"
    path.write_text(PLAIN)
    return path


def test_readiness_goes_down_first_and_a_second_signal_hurries(cluster, database, config):
    config.write_text(PLAIN + '[limits]\npre_drain_delay = "1h"\ndrain_timeout = "1h"\n')
    with harness.Osprey(cluster.port, config=config) as osprey:
        endpoint = osprey.endpoint(database)
        with endpoint.connect(autocommit=False) as busy:
            busy.execute("SELECT 1")
            osprey.process.send_signal(signal.SIGTERM)
            harness.wait_for(lambda: readiness(osprey) == 503, "/readyz to say so")
            # A load balancer has not noticed yet.
            with endpoint.connect() as connection:
                assert connection.execute("SELECT 1").fetchone() == (1,)
            # The delay is over by this, and the drain is not.
            osprey.process.send_signal(signal.SIGTERM)
            osprey.says("draining")
            assert busy.execute("SELECT 2").fetchone() == (2,)
            osprey.process.send_signal(signal.SIGTERM)
            assert osprey.process.wait(20) == 0
            with pytest.raises(psycopg.OperationalError):
                busy.execute("SELECT 1")


def test_a_drain_is_hurried(cluster, database, config):
    config.write_text(PLAIN + '[limits]\ndrain_timeout = "1h"\n')
    with harness.Osprey(cluster.port, config=config) as osprey:
        with osprey.endpoint(database).connect(autocommit=False) as busy:
            busy.execute("SELECT 1")
            osprey.process.send_signal(signal.SIGTERM)
            osprey.says("draining")
            osprey.process.send_signal(signal.SIGINT)
            assert osprey.process.wait(20) == 0
            with pytest.raises(psycopg.OperationalError, match="Osprey is shutting down"):
                busy.execute("SELECT 1")


class Manager:
    """What of systemd hears a service's notifications."""

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(path))
        self.path = path
        self.said = []
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self):
        while text := self.socket.recv(4096).decode():
            self.said.append(text.split("\n"))

    def wait_for(self, *lines):
        """Waits for one notification that has all of these lines; forgets it and those before."""

        def heard():
            for number, said in enumerate(self.said):
                if all(any(own.startswith(line) for own in said) for line in lines):
                    del self.said[: number + 1]
                    return True
            return False

        harness.wait_for(heard, f"{lines}: {self.said}")


def test_the_service_manager_is_told(cluster, config, tmp_path):
    manager = Manager(tmp_path / "notify")
    environment = {"NOTIFY_SOCKET": str(manager.path), "WATCHDOG_USEC": "400000"}
    with harness.Osprey(cluster.port, config=config, environment=environment) as osprey:
        manager.wait_for("READY=1", "STATUS=accepting connections")
        manager.wait_for("WATCHDOG=1")
        manager.wait_for("WATCHDOG=1")
        osprey.reload()
        manager.wait_for("RELOADING=1", "MONOTONIC_USEC=")
        manager.wait_for("READY=1", "STATUS=accepting connections")
        osprey.reload("[limits]\nworkers = 0\n", "not in force")
        manager.wait_for("RELOADING=1")
        manager.wait_for("READY=1", "STATUS=the new configuration has mistakes")
        assert osprey.metric("osprey_config_reloads_total", outcome="refused") == 1
        assert osprey.stop() == 0
        manager.wait_for("STOPPING=1", "EXTEND_TIMEOUT_USEC=40000000", "STATUS=draining")


def activated(cluster, config, *sockets):
    """An Osprey that is given listening sockets, as systemd's socket units have it; it listens at the
    first one's address."""
    osprey = harness.Osprey(cluster.port, config=config)
    osprey.port = sockets[0].getsockname()[1]
    osprey.command[osprey.command.index("--listen") + 1] = f"127.0.0.1:{osprey.port}"
    osprey.pass_fds = [listening.fileno() for listening in sockets]
    osprey.environment |= {"LISTEN_FDS": str(len(sockets))}
    # They begin at 3, and a variable names the process that they are for: the shell becomes it.
    moves = " ".join(f"{to}<&{number}" for to, number in enumerate(osprey.pass_fds, 3))
    script = f'LISTEN_PID=$$ exec "$@" {moves}'
    osprey.command = ["bash", "-c", script, "bash", *osprey.command]
    return osprey


def test_sockets_of_the_service_manager_outlive_a_restart(cluster, database, config):
    with contextlib.ExitStack() as stack:
        sockets = []
        for _ in range(2):
            first = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=16))
            # Out of the way of the numbers that they get.
            number = fcntl.fcntl(first, fcntl.F_DUPFD, 100)
            sockets.append(stack.enter_context(socket.socket(fileno=number)))
        answers = []

        def come():
            with endpoint.connect(connect_timeout=20) as connection:
                answers.append(connection.execute("SELECT 1").fetchone())

        with activated(cluster, config, *sockets) as osprey:
            endpoint = osprey.endpoint(database)
            come()
            # One that the configuration does not have is of no use, and that is said.
            osprey.says(f"127.0.0.1:{sockets[1].getsockname()[1]}")
            assert osprey.stop() == 0
        between = threading.Thread(target=come)
        between.start()
        with activated(cluster, config, *sockets):
            between.join(20)
            come()
        assert answers == [(1,)] * 3
