"""Memory of the proxy's process: empty, with idle sessions, with sessions at work, and whether it grows.

The server behind is `silent_upstream.py`: PostgreSQL itself has a process for each session.
"""

import contextlib
import pathlib
import resource
import socket
import ssl
import subprocess
import sys
import time

import harness
import peers
import rawpg
from counters import resident
from table import Bar, Table

HERE = pathlib.Path(__file__).resolve().parent
# Sessions of those that are at work, and how often they are opened again to see growth.
AT_WORK = 200
AGAIN = 5
# What the first ones bring into memory, code and pools, is no session's.
FIRST = 100
IDLE = "one more, {} idle"


@contextlib.contextmanager
def upstream():
    process = subprocess.Popen(
        [sys.executable, "-B", HERE / "silent_upstream.py"], stdout=subprocess.PIPE, text=True
    )
    try:
        yield int(process.stdout.readline())
    finally:
        process.terminate()
        process.wait(30)


class Sessions:
    """Clients that have logged in and made one query each: PgBouncer connects to the server only then."""

    def __init__(self, port, context=None, database=peers.DATABASE):
        self.port = port
        self.database = database
        self.context = context
        self.clients = []

    def open(self, count, receive_buffer=None):
        for _ in range(count - len(self.clients)):
            client = rawpg.Client("127.0.0.1", self.port, timeout=60)
            if receive_buffer:
                client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
            if self.context is not None:
                client.send(bytes([0, 0, 0, 8, 4, 210, 22, 47]))
                assert client.socket.recv(1) == b"S", "no TLS"
                client.socket = self.context.wrap_socket(client.socket)
            client.start_up(user=peers.USER, database=self.database)
            assert rawpg.kinds(client.until_ready())[-1:] == "Z", "no login"
            self.clients.append(client)
            self.check(client)

    def check(self, client):
        assert rawpg.kinds(client.ask(rawpg.query("SELECT 1"))) == "TDCZ", "the session is gone"

    def check_some(self):
        for client in self.clients[:: max(1, len(self.clients) // 100)]:
            self.check(client)

    def send(self, statement):
        for client in self.clients:
            client.send(rawpg.query(statement))

    def close(self):
        for client in self.clients:
            client.close()
        self.clients = []


def settled(pid):
    """What is in memory once it no longer changes much."""
    before = resident(pid)
    for _ in range(20):
        time.sleep(0.5)
        now = resident(pid)
        if abs(now - before) < 64 << 10:
            return now
        before = now
    return before


def kib(now, before, sessions):
    return (now - before) / 1024 / sessions


def watch(bench, port, pid, context, table, name):
    """Fills one column of the table: label → number."""
    sessions = Sessions(port, context)
    column = table.setdefault(name, {})
    column["empty"] = settled(pid) / (1 << 20)
    sessions.open(FIRST)
    base = settled(pid)
    column[f"with {FIRST} sessions"] = base / (1 << 20)
    for count in bench.options.sessions:
        bench.say(f"memory: {name}, {count} sessions")
        sessions.open(count)
        sessions.check_some()
        column[IDLE.format(count)] = kib(settled(pid), base, count - FIRST)
    sessions.check_some()
    sessions.close()

    bench.say(f"memory: {name}, opened again and again")
    first = None
    for _ in range(AGAIN):
        time.sleep(1)
        sessions.open(bench.options.sessions[0])
        last = settled(pid)
        first = first or last
        sessions.close()
    opened = bench.options.sessions[0]
    column[f"growth, {opened} opened {AGAIN} times"] = kib(last, first, opened)

    bench.say(f"memory: {name}, at work")
    for label, statement in (("it waits for an answer", "wait"), ("its client does not read", "flood")):
        time.sleep(1)
        sessions.open(AT_WORK, receive_buffer=8 << 10)
        before = settled(pid)
        sessions.send(statement)
        column[f"more when {label}"] = kib(settled(pid), before, AT_WORK)
        sessions.close()


def possible_sessions():
    """How many open files a process may have, and how many sessions a proxy that is started from now on."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    # A proxy has two sockets a session, and some files besides.
    return most, (most - 500) // 2


def memory(bench):
    """Memory of the proxy."""
    most, possible = possible_sessions()
    wanted = bench.options.sessions
    bench.options.sessions = [count for count in wanted if count <= possible]
    if bench.options.sessions != wanted:
        bench.say(f"memory: a process may have {most} open files here: no more than {possible} sessions")
    certificate = bench.tls().cluster.directory
    most_sessions = max(bench.options.sessions) + AT_WORK
    context = ssl.create_default_context(cafile=certificate / "ca.crt")
    context.check_hostname = False
    columns = {}
    with upstream() as server:
        configuration = peers.osprey_configuration(bench.folder)
        with harness.Osprey(server, config=configuration) as osprey:
            watch(bench, osprey.port, osprey.process.pid, None, columns, "osprey")
        with peers.pgbouncer(server, bench.folder, most_sessions) as peer:
            watch(bench, peer.port, peer.process.pid, None, columns, "pgbouncer")
        with peers.haproxy(server, bench.folder, 1, most_sessions) as peer:
            watch(bench, peer.port, peer.process.pid, None, columns, "haproxy-1")
        configuration = peers.osprey_configuration(bench.folder, certificate)
        with harness.Osprey(server, config=configuration) as osprey:
            watch(bench, osprey.port, osprey.process.pid, context, columns, "osprey, TLS")
        with peers.pgbouncer(server, bench.folder, most_sessions, certificate) as peer:
            watch(bench, peer.port, peer.process.pid, context, columns, "pgbouncer, TLS")
    whole = Table("the proxy's memory", "MiB resident", "lower", list(columns), digits=1)
    each = Table("memory of a session", "KiB resident", "lower", list(columns), digits=1)
    for label in columns["osprey"]:
        table = whole if label in ("empty", f"with {FIRST} sessions") else each
        table.add(label, {name: [column[label]] for name, column in columns.items()})
    bars = []
    for count in bench.options.sessions:
        label = IDLE.format(count)
        for name, most_kib in (("osprey", 7), ("osprey, TLS", 18)):
            what = f"memory, {name}: KiB of {label}"
            bars.append(Bar(what, columns[name][label], most=most_kib, digits=1))
    return [whole, each], bars, columns
