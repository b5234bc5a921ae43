"""Several Ospreys in front of one server, and HAProxy in front of them: each connection goes to the next
of those that are ready."""

import contextlib
import shutil
import signal
import subprocess

import pytest

import conftest
import harness

CONFIG = """
[listen]
proxy_protocol = "accept"
proxy_networks = ["127.0.0.0/8"]
[takeover]
socket = "{directory}/{name}"
drain_after = "2s"
[limits]
drain_timeout = "5s"
{limits}
"""


def haproxy_binary():
    path = shutil.which("haproxy") or shutil.which("haproxy", path="/usr/sbin:/usr/local/sbin")
    if path is None:
        pytest.skip("NOT RUN, for want of HAProxy")
    return path


class Balancer:
    """HAProxy, of TCP connections: to each server in turn, with the PROXY protocol."""

    def __init__(self, directory, ospreys, sessions=8000):
        self.port = harness.free_port()
        self.path = directory / "haproxy.cfg"
        servers = "".join(
            f"    server osprey{number} 127.0.0.1:{osprey.port} send-proxy-v2 check"
            f" port {osprey.metrics_port} inter 200ms fall 1 rise 1\n"
            for number, osprey in enumerate(ospreys)
        )
        self.path.write_text(
            f"""global
    nbthread 1
    maxconn {sessions}
defaults
    mode tcp
    balance roundrobin
    retries 5
    option redispatch 1
    option httpchk GET /readyz
    timeout check 2s
    timeout connect 10s
    timeout client 1h
    timeout server 1h
listen osprey
    bind 127.0.0.1:{self.port} backlog 4096
{servers}"""
        )
        self.process = None

    def __enter__(self):
        command = [haproxy_binary(), "-db", "-q", "-f", self.path]
        self.process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        harness.wait_for(self._accepts, "HAProxy")
        return self

    def _accepts(self):
        assert self.process.poll() is None, f"haproxy ended: {self.process.returncode}"
        with contextlib.suppress(OSError), harness.socket.create_connection(("127.0.0.1", self.port)):
            return True
        return False

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait()


class Replicas:
    """So many Ospreys with a balancer, all in front of `cluster`'s server or of another port. A replica
    that ends is followed by another one at the same addresses."""

    def __init__(self, cluster, directory, count=3, limits="", more="", port=None):
        conftest.need_osprey()
        haproxy_binary()
        self.directory = directory
        self.all = []
        # Those that have ended, or were told to end.
        self.former = []
        for number in range(count):
            config = directory / f"osprey{number}.toml"
            config.write_text(
                CONFIG.format(directory=directory, name=f"t{number}", limits=limits) + more
            )
            osprey = harness.Osprey.in_front_of(cluster, config=config)
            if port is not None:
                osprey.command[osprey.command.index("--upstream") + 1] = f"127.0.0.1:{port}"
            self.all.append(osprey)
        self.balancer = Balancer(directory, self.all)

    def endpoint(self, dbname, **changes):
        """The balancer's address."""
        return harness.Endpoint("127.0.0.1", self.balancer.port, dbname, "osprey", **changes)

    def __enter__(self):
        with contextlib.ExitStack() as stack:
            stack.callback(self._stop)
            for osprey in self.all:
                osprey.start()
            stack.enter_context(self.balancer)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_):
        self._stack.close()

    def _stop(self):
        for osprey in self.former + self.all:
            if osprey.process is not None:
                osprey.stop()

    def _successor(self, osprey):
        """The same once more, not started yet."""
        new = harness.Osprey(0)
        new.port, new.metrics_port = osprey.port, osprey.metrics_port
        new.command, new.config = osprey.command, osprey.config
        new.environment = osprey.environment
        return new

    def _replace(self, number, end):
        old = self.all[number]
        new = self._successor(old)
        end(old)
        self.former.append(old)
        new.start()
        self.all[number] = new

    def kill(self, number):
        """One ends by SIGKILL, and another one begins in its place."""

        def end(old):
            old.process.kill()
            old.process.wait()

        self._replace(number, end)

    def restart(self, number):
        """One is told to end, does so, and another one begins in its place."""
        self._replace(number, lambda old: old.stop())

    def take_over(self, number):
        """One is followed by another one that takes its listening sockets over."""
        self._replace(number, lambda old: None)

    def reload(self, number):
        self.all[number].process.send_signal(signal.SIGHUP)

    def metric(self, name, **labels):
        return sum(osprey.metric(name, **labels) for osprey in self.all)
