"""The candidates: what a client may connect to. Direct, Osprey, and its peers."""

import contextlib
import dataclasses
import os
import subprocess

from harness import PG_BIN, Cluster, Osprey, free_port, wait_for

DATABASE = "bench"
USER = "app_trust"

# An Osprey that is set up as the others are here: plaintext to the server, and no log line for each
# connection.
AS_THE_OTHERS = """[upstream.tls]
mode = "disable"
[observe]
log = "warn"
"""


@dataclasses.dataclass
class Candidate:
    """One way to the server."""

    name: str
    port: int
    # None: there is no process in between
    pid: int | None = None
    # the authority's file, if the client is to use TLS
    authority: object = None
    # libpq's `options`
    options: str = ""
    database: str = DATABASE

    def conninfo(self):
        tls = f"sslmode=verify-ca sslrootcert={self.authority}" if self.authority else "sslmode=disable"
        options = f" options='{self.options}'" if self.options else ""
        return (
            f"host=127.0.0.1 port={self.port} dbname={self.database} user={USER} "
            f"gssencmode=disable {tls}{options}"
        )


class Peer:
    """A proxy of another kind, as a process."""

    def __init__(self, name, command, port):
        self.name = name
        self.port = port
        self.process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )

    def __enter__(self):
        wait_for(self._answers, f"{self.name} to accept connections")
        return self

    def _answers(self):
        if self.process.poll() is not None:
            raise RuntimeError(f"{self.name} ended with {self.process.returncode}")
        ready = [PG_BIN / "pg_isready", "-q", "-h", "127.0.0.1", "-p", str(self.port)]
        return subprocess.run(ready).returncode == 0

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait(30)


def pgbouncer(upstream, folder, sessions=500, certificate=None, prefix=()):
    """Session pooling. `certificate`: the directory of server.crt and server.key. `prefix`: what its
    command begins with, valgrind say."""
    port = free_port()
    folder = folder / f"pgbouncer-{port}"
    folder.mkdir()
    users = folder / "users.txt"
    users.write_text(f'"{USER}" ""\n')
    tls = ""
    if certificate is not None:
        tls = f"""client_tls_sslmode = require
client_tls_cert_file = {certificate}/server.crt
client_tls_key_file = {certificate}/server.key
"""
    configuration = folder / "pgbouncer.ini"
    configuration.write_text(
        f"""[databases]
{DATABASE} = host=127.0.0.1 port={upstream} dbname={DATABASE}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = trust
auth_file = {users}
pool_mode = session
default_pool_size = {sessions}
max_client_conn = {sessions}
server_tls_sslmode = disable
{tls}logfile = /dev/null
log_connections = 0
log_disconnections = 0
"""
    )
    command = [*prefix, "/usr/sbin/pgbouncer", "-q", configuration]
    if os.geteuid() == 0:
        # It will not run as root, and what it is started with must be able to write as it does.
        folder.chmod(0o755)
        owner = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]
        command = [*owner, *command]
    return Peer("pgbouncer", command, port)


def haproxy(upstream, folder, threads, sessions=500):
    """TCP mode: a relay that understands nothing, so TLS passes through it to the server."""
    port = free_port()
    configuration = folder / f"haproxy-{port}.cfg"
    configuration.write_text(
        f"""global
    nbthread {threads}
    maxconn {sessions}
defaults
    mode tcp
    timeout connect 10s
    timeout client 1h
    timeout server 1h
listen postgres
    bind 127.0.0.1:{port}
    server one 127.0.0.1:{upstream}
"""
    )
    command = ["/usr/sbin/haproxy", "-db", "-q", "-f", configuration]
    return Peer(f"haproxy-{threads}", command, port)


def osprey_configuration(folder, certificate=None):
    """As the others are set up. `certificate`: the directory of server.crt and server.key, for clients that
    use TLS."""
    tls = ""
    if certificate is not None:
        tls = f"""[listen.tls]
certificate = "{certificate}/server.crt"
key = "{certificate}/server.key"
"""
    path = folder / ("osprey-tls.toml" if tls else "osprey.toml")
    path.write_text(tls + AS_THE_OTHERS)
    return path


def fill(port, database, scale):
    """Makes pgbench's tables in a database."""
    where = f"host=127.0.0.1 port={port} dbname={database} user={USER}"
    subprocess.run(
        [PG_BIN / "pgbench", "-qi", "-s", str(scale), where], check=True, capture_output=True
    )


class Stage:
    """A PostgreSQL with the stand-in for Hologres, and every candidate in front of it."""

    def __init__(self, folder, scale, tls=False):
        self.folder = folder
        self.scale = scale
        self.tls = tls
        self.cluster = None
        self.candidates = []

    def __enter__(self):
        with contextlib.ExitStack() as stack:
            self.cluster = stack.enter_context(Cluster(tls=self.tls))
            self.cluster.create_database(DATABASE)
            fill(self.cluster.port, DATABASE, self.scale)
            authority = self.cluster.ca if self.tls else None
            certificate = self.cluster.directory if self.tls else None
            configuration = osprey_configuration(self.folder, certificate)
            osprey = stack.enter_context(
                Osprey.in_front_of(self.cluster, config=configuration)
            )
            self.candidates = [
                Candidate("direct", self.cluster.port, None, authority),
                Candidate("osprey", osprey.port, osprey.process.pid, authority),
            ]
            # Another Osprey, of before a change, say.
            other = os.environ.get("OSPREY_BEFORE")
            if other:
                before = Osprey.in_front_of(self.cluster, config=configuration)
                before.command[0] = other
                stack.enter_context(before)
                self.candidates.append(
                    Candidate("before", before.port, before.process.pid, authority)
                )
            for peer in (
                pgbouncer(self.cluster.port, self.folder, certificate=certificate),
                haproxy(self.cluster.port, self.folder, 1),
                haproxy(self.cluster.port, self.folder, 2),
            ):
                stack.enter_context(peer)
                self.candidates.append(
                    Candidate(peer.name, peer.port, peer.process.pid, authority)
                )
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_):
        self._stack.close()
