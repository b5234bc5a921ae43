"""What the tests of Alibaba's own clients share: the clients, each in a virtual environment of its own, which
stays under target/; and what they ask of Hologres, in front of a PostgreSQL."""

import fcntl
import hashlib
import os
import pathlib
import re
import shutil
import socket
import subprocess
import threading

import pytest

import harness
import rawpg

# What is installed for each, and behind it without what it says it needs: nothing here uses that. The oldest Python that they run on is Debian's.
PACKAGES = {
    # Schemas: Kubernetes' of its objects, CycloneDX' of bills of materials.
    "schemas": ["kubernetes-validate==1.37.0", "cyclonedx-python-lib[json-validation]==11.12.0"],
    "dbt-alibaba-cloud-hologres": ["dbt-alibaba-cloud-hologres==1.2.0", "dbt-core==1.10.23"],
    "dbt-hologres": ["dbt-hologres==1.9.1", "dbt-core==1.9.11", "dbt-postgres==1.9.1"],
    "hologres-cli": ["hologres-cli==0.2.6"],
    "hologres-client": ["hologres-client==0.1.2", "psycopg-pool"],
    "hologres-mcp-server": ["hologres-mcp-server==1.0.3"],
}
ALONE = {"hologres-client": ["hologres-dataframe==0.1.1"]}


def environment(name):
    """The directory of a client's programs; the test is skipped, and says so, where they cannot be had."""
    packages, alone = PACKAGES[name], ALONE.get(name, [])
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", harness.ROOT / "target"))
    version = hashlib.sha256("\n".join(packages + alone).encode()).hexdigest()[:12]
    kept = target / "vendor" / f"{name}-{version}"
    kept.parent.mkdir(parents=True, exist_ok=True)
    with open(kept.parent / f"{name}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = kept / "installed"
        if not done.exists():
            shutil.rmtree(kept, ignore_errors=True)
            pip = [kept / "bin" / "python", "-m", "pip", "install", "--quiet", "--prefer-binary"]
            commands = [["/usr/bin/python3", "-m", "venv", kept], [*pip, *packages]]
            commands += [[*pip, "--no-deps", *alone]] if alone else []
            for command in commands:
                ran = subprocess.run(command, capture_output=True, text=True)
                if ran.returncode != 0:
                    pytest.skip(f"NOT RUN, for want of {name}: {ran.stderr[-200:]}")
            done.touch()
    return kept / "bin"


def create_database(cluster, name):
    """A database with the tests' tables and what these clients ask of Hologres' catalogs; everyone may make
    schemas in it."""
    cluster.create_database(name)
    with cluster.admin(name) as connection:
        connection.execute((harness.HERE / "vendors/catalogs.sql").read_text())
        connection.execute(f'GRANT CREATE ON DATABASE "{name}" TO PUBLIC')
        # Some of them choose serverless resources, which read encrypted data from V3.1.3 on.
        version = "Hologres 3.1.10 (tag: stand-in), compatible with PostgreSQL 11.3"
        connection.execute(f"ALTER DATABASE \"{name}\" SET hologres.version = '{version}'")
    return name


class Blanking(rawpg.Server):
    """Relays connections to a port; options that only Hologres has become blanks on the way to it."""

    OPTIONS = re.compile(
        rb"stream_mode '?\w+'?,|, ?(?:stream_mode|on_conflict) '?\w+'?",
        re.IGNORECASE,
    )

    def __init__(self, port):
        self.target = port
        super().__init__()

    def serve(self, connection):
        server = socket.create_connection(("127.0.0.1", self.target))
        for source, sink, to_server in [(connection, server, True), (server, connection, False)]:
            source.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=self._copy, args=(source, sink, to_server), daemon=True).start()

    @classmethod
    def _copy(cls, source, sink, to_server):
        try:
            while data := source.recv(1 << 20):
                if to_server:
                    data = data.replace(b"options\0type=fixed", b"options\0-cjit=off ")
                    data = cls.OPTIONS.sub(lambda option: b" " * len(option[0]), data)
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            source.close()
            sink.close()
