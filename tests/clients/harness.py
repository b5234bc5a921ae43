"""What the client tests stand on: a PostgreSQL cluster with the stand-in for Hologres, an Osprey in
front of it, and the address that a client is given.

Every cluster and every Osprey listens on a free loopback port and dies with its test run. Nothing is
installed: the extension is loaded from the cluster's own directory, into which it is copied.
"""

import contextlib
import dataclasses
import fcntl
import os
import pathlib
import pwd
import random
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
import urllib.request

import psycopg
import psycopg.conninfo

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
EXTENSION = HERE.parent / "hologres"
# The clients' programs, and those of the usual server.
PG_BIN = pathlib.Path(
    os.environ.get("PG_BIN", "/usr/lib/postgresql/15/bin")
)

# The version of the stand-in's PostgreSQL: 15, or 11, on which Hologres is built.
POSTGRES = int(os.environ.get("OSPREY_POSTGRES", "15"))

ENCRYPTED_PROJECTS = "finance_byok:kms, learned_byok:kms, legacy_default:default"

# One password for every role: what is tested is the way it travels.
PASSWORD = "correct horse"

# Roles by the authentication method that pg_hba.conf demands of them over TCP.
ROLES = {
    "app": "scram-sha-256",
    "app_md5": "md5",
    "app_password": "password",
    "app_trust": "trust",
    "osprey_catalog": "scram-sha-256",
}

ORC = "hg_experimental_enable_access_odps_orc_via_holo"
ORC_NEW_NAME = "hg_enable_access_odps_orc_via_holo"
ROUTING = "hg_experimental_external_catalog_routing"

# What openssl is told of keys.
CURVE = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]

# The start of the error that HQE gives for encrypted data.
# A configuration with which whatever is learned is forgotten at once.
FORGETS = '[keys]\nttl = "1ms"\nnegative_ttl = "1ms"\n'
PANGU = "hos_exception: IO error: Failed to execute pangu open normal file pangu://"


# The Osprey under test reads and writes a byte at a time (tests/run says how it is built).
TINY_IO = bool(os.environ.get("OSPREY_TINY_IO"))


def bulk(size):
    """So many bytes, or repetitions; a small part of them where each byte costs a system call."""
    return max(size // 256, 1) if TINY_IO else size


# Below these the kernel takes none for a connection that somebody opens, so that what was free a moment ago
# still is; and none is given twice, nor to two runs beside each other, each of which is in a lane of its own.
LANES = 2
PORTS = list(range(10_000 + int(os.environ.get("OSPREY_LANE", "0")), 32_000, LANES))
random.SystemRandom().shuffle(PORTS)


def free_port():
    """A TCP port on 127.0.0.1 that was free a moment ago."""
    while True:
        with socket.socket() as listener:
            try:
                listener.bind(("127.0.0.1", PORTS[-1]))
                return PORTS.pop()
            except OSError:
                PORTS.pop()


def wait_for(condition, what, seconds=20.0):
    """Asks `condition` until it is true; fails, naming `what`, when it is not in time."""
    end = time.monotonic() + seconds
    while True:
        result = condition()
        if result:
            return result
        if time.monotonic() > end:
            raise TimeoutError(f"waited {seconds} s for {what}")
        time.sleep(0.02)


def run(command, **options):
    """Runs a command to its end; its output is in the error if it fails."""
    done = subprocess.run(command, capture_output=True, text=True, **options)
    if done.returncode != 0:
        raise RuntimeError(
            f"{command} ended with {done.returncode}\n{done.stdout}{done.stderr}"
        )
    return done.stdout


@dataclasses.dataclass(frozen=True)
class Endpoint:
    """Where a client connects, and what it may expect there."""

    host: str
    port: int
    dbname: str
    # "direct": the stand-in itself; "osprey": an Osprey in front of it
    via: str
    user: str = "app"
    password: str = PASSWORD

    @property
    def direct(self):
        return self.via == "direct"

    def conninfo(self, **changes):
        """libpq's connection string."""
        fields = {
            "host": self.host,
            "port": self.port,
            "dbname": self.dbname,
            "user": self.user,
            "password": self.password,
            "sslmode": "disable",
            **changes,
        }
        return psycopg.conninfo.make_conninfo(**fields)

    def connect(self, autocommit=True, **changes):
        """A psycopg 3 connection."""
        return psycopg.connect(self.conninfo(**changes), autocommit=autocommit)

    def environment(self):
        """libpq's variables, for psql, pgbench and their like."""
        return {
            **os.environ,
            "PGHOST": self.host,
            "PGPORT": str(self.port),
            "PGDATABASE": self.dbname,
            "PGUSER": self.user,
            "PGPASSWORD": self.password,
            "PGSSLMODE": "disable",
        }

    def psql(self, *arguments, options=None, stdin=None):
        """Runs psql; returns its exit status and standard output and error as one text."""
        environment = self.environment()
        if options:
            environment["PGOPTIONS"] = options
        done = subprocess.run(
            [PG_BIN / "psql", "-X", *arguments],
            env=environment,
            cwd=HERE,
            input=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=120,
        )
        return done.returncode, done.stdout


def build_extension():
    """Builds the stand-in for the version in use; its library."""
    if POSTGRES == 15:
        command = ["make", "-s", "-C", EXTENSION]
        library = EXTENSION / "hologres.so"
    elif POSTGRES == 11:
        library = EXTENSION / "postgres11.so"
        command = ["make", "-s", "-C", EXTENSION, library.name]
    else:
        raise RuntimeError(f"OSPREY_POSTGRES={POSTGRES}: the stand-in runs on 15 and on 11")
    # One make at a time, where test runs are beside each other.
    with open(EXTENSION / "Makefile") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "warning" not in done.stderr, done.stderr
    return library


class Cluster:
    """A PostgreSQL of the version in use, with the stand-in for Hologres preloaded and in every database.

    Its superuser is `postgres`, over a private Unix socket, without a password. Over TCP the roles
    in ROLES exist, each with its own authentication method; `tls` turns TLS on, with a certificate
    for localhost signed by a CA of its own. `hba` is what else pg_hba.conf says, below that.
    """

    def __init__(self, tls=False, settings=None, hba=()):
        self.tls = tls
        self.settings = settings or {}
        self.hba = list(hba)
        self.port = free_port()
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix="osprey-pg-"))
        self.data = self.directory / "data"
        self.log_path = self.directory / "postgres.log"
        self.ca = self.directory / "ca.crt"
        self.process = None
        # PostgreSQL refuses to run as root.
        self.owner = pwd.getpwnam("postgres") if os.geteuid() == 0 else None
        self.server_programs = PG_BIN

    def _as_owner(self):
        here = {"cwd": self.directory}
        if POSTGRES == 11:
            here["env"] = {**os.environ, "LD_LIBRARY_PATH": str(self.server_programs.parent / "lib")}
        if self.owner is None:
            return here
        return {
            **here,
            "user": self.owner.pw_uid,
            "group": self.owner.pw_gid,
            "extra_groups": [],
        }

    def _give(self, path, mode=None):
        """Gives a file to the owner of the cluster."""
        if mode is not None:
            path.chmod(mode)
        if self.owner is not None:
            os.chown(path, self.owner.pw_uid, self.owner.pw_gid)
        return path

    def start(self):
        self._give(self.directory, 0o755)
        library = self.directory / "hologres.so"
        shutil.copy(build_extension(), library)
        self._give(library)
        if POSTGRES == 11:
            # Its owner may not be able to go where they were unpacked.
            found = run([HERE.parent / "postgres" / "eleven"]).strip()
            shutil.copytree(found, self.directory / "postgresql", symlinks=True)
            self.server_programs = self.directory / "postgresql" / "bin"
        run(
            [self.server_programs / "initdb", "-D", self.data, "-U", "postgres", "-A", "trust"]
            + ["-E", "UTF8", "--locale=C.UTF-8", "--no-sync"],
            **self._as_owner(),
        )
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": self.port,
            "unix_socket_directories": self.directory,
            "shared_preload_libraries": library,
            "hologres.encrypted_projects": ENCRYPTED_PROJECTS,
            "fsync": "off",
            "full_page_writes": "off",
            "max_connections": 200,
            # Tests make thousands of relations in one statement.
            "max_locks_per_transaction": 256,
            "log_line_prefix": "%m [%p] %u@%d ",
            "timezone": "UTC",
            **self.settings,
        }
        if self.tls:
            self._make_certificates()
            settings |= {
                "ssl": "on",
                "ssl_cert_file": self.directory / "server.crt",
                "ssl_key_file": self.directory / "server.key",
            }
        with open(self.data / "postgresql.conf", "a") as conf:
            for name, value in settings.items():
                conf.write(f"{name} = '{value}'\n")
        hba = ["local all postgres trust"]
        hba += [f"host all {role} 127.0.0.1/32 {how}" for role, how in ROLES.items()]
        hba += self.hba
        (self.data / "pg_hba.conf").write_text("\n".join(hba) + "\n")
        self.launch()
        self._prepare(library)
        return self

    def launch(self):
        """Starts the server process on what is in the directory."""
        log = open(self.log_path, "ab")
        self.process = subprocess.Popen(
            [self.server_programs / "postgres", "-D", self.data],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            **self._as_owner(),
        )
        log.close()
        wait_for(self._answers, f"PostgreSQL to start; see {self.log_path}")

    def _answers(self):
        if self.process.poll() is not None:
            raise RuntimeError(self.log_path.read_text())
        # Over TCP, because a client that comes too early is refused there as well.
        ready = [PG_BIN / "pg_isready", "-q", "-h", "127.0.0.1", "-p", str(self.port)]
        return subprocess.run(ready).returncode == 0

    def _make_certificates(self):
        run(
            ["openssl", "req", "-x509", *CURVE, "-days", "2", "-subj", "/CN=Test CA"]
            + ["-keyout", self.directory / "ca.key", "-out", self.ca]
        )
        names = "subjectAltName=DNS:localhost,IP:127.0.0.1\n"
        certificate, key = self.make_certificate("server", "localhost", names)
        self._give(certificate)
        self._give(key, 0o600)

    def make_certificate(self, stem, name, extensions="basicConstraints=CA:FALSE\n"):
        """A certificate for `name`, signed by the cluster's authority; its file and its key's."""
        files = {end: self.directory / f"{stem}.{end}" for end in ("crt", "key", "csr", "ext")}
        files["ext"].write_text(extensions)
        run(
            ["openssl", "req", *CURVE, "-subj", f"/CN={name}", "-keyout", files["key"]]
            + ["-out", files["csr"]]
        )
        run(
            ["openssl", "x509", "-req", "-days", "2", "-in", files["csr"], "-CA", self.ca]
            + ["-CAkey", self.directory / "ca.key", "-CAcreateserial"]
            + ["-extfile", files["ext"], "-out", files["crt"]]
        )
        return files["crt"], files["key"]

    def _prepare(self, library):
        script = (EXTENSION / "hologres--1.0.sql").read_text()
        # Outside CREATE EXTENSION: the guard against psql goes, the library's path comes.
        script = re.sub(r"(?m)^\\echo .*$", "", script)
        script = script.replace("MODULE_PATHNAME", str(library))
        with self.admin("template1") as connection:
            connection.execute(script)
        with self.admin("postgres") as connection:
            for role, how in ROLES.items():
                encryption = "md5" if how == "md5" else "scram-sha-256"
                connection.execute(f"SET password_encryption = '{encryption}'")
                connection.execute(f"CREATE ROLE {role} LOGIN PASSWORD '{PASSWORD}'")

    def admin(self, dbname):
        """A superuser's connection, past every Osprey."""
        return psycopg.connect(
            host=str(self.directory),
            port=self.port,
            user="postgres",
            dbname=dbname,
            autocommit=True,
        )

    def create_database(self, name, script=HERE / "schema.sql"):
        """A new database with the tests' tables; one of that name is dropped.

        It has its name once its tables are there: an Osprey that reads the catalogs of one before it would else
        see it empty, and take it for that up to its next reading.
        """
        quoted = '"' + name.replace('"', '""') + '"'
        making = "in the making"
        self.drop_database(making)
        self.query("postgres", f'CREATE DATABASE "{making}"')
        if script is not None:
            with self.admin(making) as connection:
                connection.execute(script.read_text())
        self.drop_database(name)

        # The session that has made the tables may take a moment to go.
        self._once_unused(f"{name} to be made", f'ALTER DATABASE "{making}" RENAME TO {quoted}')
        return name

    def drop_database(self, name):
        """Drops a database, if it is there, whoever is connected to it."""
        quoted = '"' + name.replace('"', '""') + '"'
        if POSTGRES >= 13:
            self.query("postgres", f"DROP DATABASE IF EXISTS {quoted} WITH (FORCE)")
            return

        def end_sessions():
            # What WITH (FORCE) does in later versions. Who was told to go may take a moment.
            self.query(
                "postgres",
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s",
                name,
            )

        statement = f"DROP DATABASE IF EXISTS {quoted}"
        self._once_unused(f"{name} to be dropped", statement, before=end_sessions)

    def _once_unused(self, what, statement, before=lambda: None):
        """Runs a statement that nobody who is connected to its database must be in the way of."""

        def done():
            before()
            try:
                self.query("postgres", statement)
            except psycopg.errors.ObjectInUse:
                return False
            return True

        wait_for(done, what)

    def query(self, dbname, statement, *values):
        """One statement as superuser; its rows."""
        with self.admin(dbname) as connection:
            cursor = connection.execute(statement, values or None)
            return cursor.fetchall() if cursor.description else []

    def scans(self, dbname):
        """Scans per engine in a database: {"HQE": (scans, failures), ...}."""
        rows = self.query(dbname, "SELECT engine, scans, failures FROM hologres.scans()")
        return {engine: (scans, failures) for engine, scans, failures in rows}

    def setting_changes(self, dbname):
        """How often sessions of a database have set or reset a route setting."""
        return self.query(dbname, "SELECT hologres.setting_changes()")[0][0]

    def reset_counters(self, dbname):
        self.query(dbname, "SELECT hologres.reset_scans()")

    def alter_system(self, name, value):
        """Changes a setting of the running server; returns once new sessions have it."""
        with self.admin("postgres") as connection:
            connection.execute(f"ALTER SYSTEM SET {name} = '{value}'")
            connection.execute("SELECT pg_reload_conf()")
        wait_for(
            lambda: self.query("postgres", f"SHOW {name}")[0][0] == str(value),
            f"{name} = {value}",
        )

    def endpoint(self, dbname, **changes):
        """The address of the stand-in itself."""
        return Endpoint("127.0.0.1", self.port, dbname, "direct", **changes)

    def shut_down(self):
        """Fast shutdown; the directory stays."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                self.process.send_signal(signal.SIGQUIT)
                self.process.wait(30)

    def stop(self):
        self.shut_down()
        shutil.rmtree(self.directory, ignore_errors=True)

    def __enter__(self):
        return self.start()

    def __exit__(self, *_):
        self.stop()


def osprey_binary():
    """The binary under test; None: it has not been built."""
    named = os.environ.get("OSPREY_BIN")
    if named is not None and not os.access(named, os.X_OK):
        raise RuntimeError(f"OSPREY_BIN={named} is not an executable file")
    path = pathlib.Path(named) if named else ROOT / "target/release/osprey"
    return path if path.exists() else None


class Osprey:
    """An `osprey serve` in front of an upstream, with a log that tests can read."""

    def __init__(self, upstream_port, arguments=(), config=None, environment=None):
        self.port = free_port()
        self.metrics_port = free_port()
        self._log_lines = []
        self.process = None
        # Descriptors that it is given besides the usual ones.
        self.pass_fds = ()
        self.config = config
        self.command = [osprey_binary(), "serve"]
        if config is not None:
            self.command += ["--config", config]
        self.command += ["--upstream", f"127.0.0.1:{upstream_port}"]
        self.command += ["--listen", f"127.0.0.1:{self.port}"]
        self.command += ["--metrics", f"127.0.0.1:{self.metrics_port}"]
        self.command += list(arguments)
        self.environment = {**os.environ, **(environment or {})}

    @classmethod
    def from_file(cls, path, text, port=None, arguments=(), environment=None):
        """An Osprey that has its upstreams and listeners from a file, into which `text` is written;
        `port` is where its endpoints lead."""
        path.write_text(text)
        osprey = cls(0, arguments, environment=environment)
        osprey.port = port
        osprey.config = path
        osprey.command = [osprey_binary(), "serve", "--config", path]
        osprey.command += ["--metrics", f"127.0.0.1:{osprey.metrics_port}", *arguments]
        return osprey

    @classmethod
    def in_front_of(cls, cluster, *arguments, **options):
        """An Osprey that knows finance_byok from its flags and may read the catalogs."""
        usual = ["--encrypted-project", "finance_byok", "--catalog-user", "osprey_catalog"]
        options.setdefault("environment", {"OSPREY_CATALOG_PASSWORD": PASSWORD})
        return cls(cluster.port, usual + list(arguments), **options)

    def start(self):
        self.process = subprocess.Popen(
            self.command,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            pass_fds=self.pass_fds,
        )
        self._reader = threading.Thread(target=self._read_log, daemon=True)
        self._reader.start()
        wait_for(self._accepts, "osprey's line that it accepts connections")
        return self

    def _read_log(self):
        for line in self.process.stderr:
            self._log_lines.append(line)

    @property
    def log_lines(self):
        """The lines on standard error so far. Osprey writes those that come within 10 ms together."""
        time.sleep(0.05)
        return self._log_lines

    def log(self):
        """Everything on standard error so far."""
        return "".join(self.log_lines)

    def _said(self):
        """The same, for whoever asks again, or when nothing more can come."""
        return "".join(self._log_lines)

    def says(self, words, since=0):
        """Waits until the log has the words, behind so many characters: it is read a little later than it
        is written."""
        wait_for(lambda: words in self._said()[since:], f"the log to say {words!r}\n{self.log()[since:]}")

    def reload(self, text=None, words="read again and is in force"):
        """SIGHUP, with another configuration; returns once the log says the words."""
        if text is not None:
            self.config.write_text(text)
        before = len(self.log())
        self.process.send_signal(signal.SIGHUP)
        self.says(words, before)

    def _accepts(self):
        if self.process.poll() is not None:
            self._reader.join(5)
            raise RuntimeError(f"osprey ended: {self.process.returncode}\n{self.log()}")
        return re.search(r"accepting connections|accepts connections", self._said())

    def is_still(self):
        """True if none of its threads runs, or waits for a processor."""
        stats = pathlib.Path(f"/proc/{self.process.pid}/task").glob("*/stat")
        return all(stat.read_text().rpartition(") ")[2][0] != "R" for stat in stats)

    def scrape(self):
        """The metrics: {"name{labels}": value}.

        A turn is counted after its answers are written: a worker that lost its processor in between
        is waited for, unless there is always one at work.
        """
        patience = time.monotonic() + 0.5
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            while not self.is_still() and time.monotonic() < patience:
                time.sleep(0.001)
        address = f"http://127.0.0.1:{self.metrics_port}/metrics"
        with urllib.request.urlopen(address, timeout=10) as response:
            text = response.read().decode()
        samples = (line.rsplit(" ", 1) for line in text.splitlines() if line[:1] != "#")
        return {name: float(value) for name, value in samples}

    def metric(self, name, **labels):
        """The sum of a family's samples that have these labels among theirs."""
        wanted = [f'{label}="{value}"' for label, value in labels.items()]
        return sum(
            value
            for sample, value in self.scrape().items()
            if re.match(rf"{name}(\{{|$)", sample) and all(label in sample for label in wanted)
        )

    def wait_for_metric(self, name, value, **labels):
        """Waits until a family's sum is `value`."""
        wait_for(
            lambda: self.metric(name, **labels) == value,
            f"{name}{labels} to be {value}",
        )

    def forget_peak_memory(self):
        """Gives `peak_memory` the present value."""
        pathlib.Path(f"/proc/{self.process.pid}/clear_refs").write_text("5")

    def peak_memory(self):
        """The most that the process has ever held in memory, in bytes."""
        status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) << 10

    def endpoint(self, dbname, **changes):
        return Endpoint("127.0.0.1", self.port, dbname, "osprey", **changes)

    def wait_until_known(self, dbname):
        """Waits until Osprey has read the catalog of a database.

        The view's text names no encrypted project and no protected table: that a read of it is
        given the route shows that the catalog is known.
        """

        def engine():
            with self.endpoint(dbname).connect() as connection:
                plan = connection.execute("EXPLAIN SELECT * FROM salary_names").fetchall()
            return "Engine: SQE" in "\n".join(row[0] for row in plan)

        wait_for(engine, f"Osprey to read the catalog of {dbname}\n{self.log()}")

    def stop(self):
        """SIGTERM; returns the exit status."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(45)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self._reader.join(5)
        # A session that panics ends alone, and a test may not notice.
        assert "panicked at" not in self._said(), self._said()
        return self.process.returncode

    def __enter__(self):
        return self.start()

    def __exit__(self, *_):
        self.stop()


@contextlib.contextmanager
def silent_listener():
    """A port that accepts connections and never answers."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]
