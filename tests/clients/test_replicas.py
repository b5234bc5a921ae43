"""Several Ospreys in front of one Hologres, which share what they know through a Redis: a real one, on a
free port, that the tests freeze, kill, fill and lie to."""

import asyncio
import collections
import contextlib
import http.server
import json
import signal
import socket
import subprocess
import threading
import time

import asyncpg
import pytest

import conftest
import harness
from redis_server import PROGRAM, Redis

PROJECTS = 40
# With those of schema.sql.
ALL_PROJECTS = PROJECTS + 4
SESSIONS = 300
KEY = "05754286-3ba2-4fa6-8d41-4323aca6a0b1"
SECRET = "0123456789abcdef0123456789abcdef"
FACTS = "osprey_replica_facts_total"
LOOKUPS = "osprey_replica_lookups_total"
REFUSED = "osprey_replica_records_refused_total"
CONNECTED = "osprey_replicas_connected"


class Cloud:
    """MaxCompute and KMS, which count what they are asked: (action, project) → how often."""

    def __init__(self):
        self.asked = collections.Counter()
        self.delay = 0.0
        self.refuses = False
        cloud = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def answer(self):
                action = self.headers["x-acs-action"]
                project = self.path.split("?")[0].rsplit("/", 1)[-1]
                time.sleep(cloud.delay)
                cloud.asked[action, project] += 1
                status, body = 403, {"Code": "NoPermission", "Message": "not for you"}
                if action == "GetProject" and not cloud.refuses:
                    encryption = {"enable": True, "algorithm": "AES256", "key": KEY}
                    properties = {"encryption": encryption}
                    status, body = 200, {"data": {"name": project, "properties": properties}}
                elif action == "DescribeKey":
                    metadata = {"KeyState": "Enabled", "Origin": "Aliyun_KMS"}
                    status, body = 200, {"KeyMetadata": metadata}
                body = json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                # Who asked may have been killed.
                with contextlib.suppress(OSError):
                    self.wfile.write(body)

            do_GET = do_POST = answer

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def lookups(self, prefix="fleet_"):
        """How often each project was looked up."""
        return {
            project: count
            for (action, project), count in self.asked.items()
            if action == "GetProject" and project.startswith(prefix)
        }

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture(scope="module")
def hologres(extension):
    """One that takes the fleet's sessions, with a database whose tables are in forty projects."""
    with harness.Cluster(settings={"max_connections": SESSIONS + 50}) as running:
        running.create_database("fleet")
        tables = "\n".join(
            f"CREATE FOREIGN TABLE f_{number} (id int) SERVER odps_server"
            f" OPTIONS (project_name 'fleet_{number}', table_name 't');"
            for number in range(PROJECTS)
        )
        running.query("fleet", tables)
        yield running


@pytest.fixture
def cloud():
    with Cloud() as running:
        yield running


@pytest.fixture
def redis(tmp_path):
    with Redis(tmp_path) as running:
        yield running


class Fleet:
    """Replicas of one configuration."""

    def __init__(self, directory, hologres, redis, cloud=None, more="", sections=""):
        conftest.need_osprey()
        secret = directory / "replicas.key"
        secret.write_text(SECRET)
        secret.chmod(0o600)
        # The deadline is for tests that measure it: a loaded machine is no Redis that is away.
        text = f'[replicas]\nredis = ["127.0.0.1:{redis.port}"]\n'
        if "deadline" not in more:
            text += 'deadline = "5s"\n'
        if "hmac_key_file" not in more:
            text += f'hmac_key_file = "{secret}"\n'
        text += f"{more}\n{sections}\n"
        if cloud is not None:
            endpoints = "".join(
                f'{name}_endpoint = "http://127.0.0.1:{cloud.port}"\n'
                for name in ("maxcompute", "kms", "sts", "ram")
            )
            text += f'[keys.cloud]\nregion = "cn-test"\ncredentials = "environment"\n{endpoints}'
        self.config = directory / "osprey.toml"
        self.config.write_text(text)
        self.hologres = hologres
        self.replicas = []

    def add(self, wait=True):
        """Starts one more, and waits until it is connected to the Redis."""
        environment = {
            "OSPREY_CATALOG_PASSWORD": harness.PASSWORD,
            "ALIBABA_CLOUD_ACCESS_KEY_ID": "the-id",
            "ALIBABA_CLOUD_ACCESS_KEY_SECRET": "the-secret",
        }
        arguments = ["--catalog-user", "osprey_catalog"]
        replica = harness.Osprey(self.hologres.port, arguments, self.config, environment)
        self.replicas.append(replica.start())
        if wait:
            replica.wait_for_metric(CONNECTED, 1)
        return replica

    def replace(self, number):
        """Restarts one: another process in its place, which knows nothing."""
        self.replicas[number].stop()
        del self.replicas[number]
        return self.add()

    def sum(self, name, **labels):
        return sum(replica.metric(name, **labels) for replica in self.replicas)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for replica in self.replicas:
            replica.stop()


async def sessions(replicas, count, dbname="fleet"):
    """Opens so many sessions at once, over all replicas; each runs a statement."""

    async def one(number):
        port = replicas[number % len(replicas)].port
        connection = await asyncpg.connect(
            host="127.0.0.1", port=port, user="app_trust", database=dbname, timeout=60
        )
        try:
            return await connection.fetchval("SELECT 1")
        finally:
            await connection.close()

    return await asyncio.gather(*(one(number) for number in range(count)))


def records(replica):
    return replica.metric("osprey_key_cache_records")


def known(replica, dbname="fleet"):
    """Relations that are protected, in a database that a client has opened."""
    return replica.metric("osprey_catalog_protected_relations", database=dbname)


def open_database(replica, dbname="fleet"):
    with replica.endpoint(dbname, user="app_trust").connect() as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)


def test_a_cold_fleet_looks_each_project_up_once(tmp_path, hologres, redis, cloud):
    """300 sessions at once on three replicas that know nothing, and then a rolling restart of all."""
    cloud.delay = 0.05
    with Fleet(tmp_path, hologres, redis, cloud) as fleet:
        for _ in range(3):
            fleet.add()
        assert asyncio.run(sessions(fleet.replicas, SESSIONS)) == [1] * SESSIONS
        for replica in fleet.replicas:
            harness.wait_for(lambda r=replica: known(r) >= PROJECTS, "all projects to be known", 60)
        assert cloud.lookups() == {f"fleet_{number}": 1 for number in range(PROJECTS)}
        assert fleet.sum(LOOKUPS, outcome="leased") == sum(cloud.lookups("").values())
        assert fleet.sum(LOOKUPS, outcome="alone") == 0

        before = cloud.asked.copy()
        for _ in range(3):
            new = fleet.replace(0)
            harness.wait_for(lambda r=new: records(r) >= PROJECTS, "a new replica to learn all")
            open_database(new)
            harness.wait_for(lambda r=new: known(r) >= PROJECTS, "its snapshot")
        assert cloud.asked == before


def test_a_replica_that_dies_while_it_looks_up_is_replaced(tmp_path, hologres, redis, cloud):
    cloud.delay = 60
    with Fleet(tmp_path, hologres, redis, cloud) as fleet:
        dies = fleet.add()
        open_database(dies)
        harness.wait_for(lambda: redis.keys("*:lease:*"), "a lease")
        dies.process.kill()
        dies.process.wait(10)
        # It is held for a while by nobody: what the test's clock cannot hurry, the test does.
        for lease in redis.keys("*:lease:*"):
            assert 0 < redis.ask("PTTL", lease) <= 10_000
            redis.ask("PEXPIRE", lease, 300)
        cloud.delay = 0
        other = fleet.add()
        open_database(other)
        harness.wait_for(lambda: known(other) >= PROJECTS, "another one to look them up")
        fleet.replicas.remove(dies)


def test_a_failure_is_one_failure_for_all(tmp_path, hologres, redis, cloud):
    cloud.refuses = True
    with Fleet(tmp_path, hologres, redis, cloud) as fleet:
        one, two = fleet.add(), fleet.add()
        open_database(one)
        harness.wait_for(
            lambda: one.metric("osprey_key_lookup_failures_total") == ALL_PROJECTS, "failures"
        )
        before = cloud.lookups()
        open_database(two)
        harness.wait_for(
            lambda: two.metric(LOOKUPS, outcome="failed") == ALL_PROJECTS, "the others' failures"
        )
        assert cloud.lookups() == before


def test_lessons_and_invalidations_are_known_to_all_within_a_second(
    tmp_path, cluster, database, redis
):
    """Nobody has said what is encrypted: one replica learns it, by an error and a second run."""
    verifier = cluster.query(
        "postgres", "SELECT rolpassword FROM pg_authid WHERE rolname = 'app'"
    )[0][0]
    console = f'[[console.user]]\nname = "ops"\nverifier = "{verifier}"\n'
    with Fleet(tmp_path, cluster, redis, sections=console) as fleet:
        one, two = fleet.add(), fleet.add()
        for replica in fleet.replicas:
            open_database(replica, database)
            harness.wait_for(
                lambda r=replica: r.metric("osprey_catalog_refreshes_total") >= 1, "the catalogs"
            )
        read = "SELECT count(*) FROM salaries"

        def ask(replica, statement):
            with replica.endpoint("osprey", user="ops").connect() as connection:
                cursor = connection.execute(statement)
                return cursor.fetchall() if cursor.description else cursor.statusmessage

        def lessons(replica):
            rows = ask(replica, "SELECT project, confirmed FROM lessons")
            return rows

        with one.endpoint(database).connect() as connection:
            assert connection.execute(read).fetchone() == (1000,)
        assert one.metric("osprey_retries_total") == 1
        harness.wait_for(lambda: ("finance_byok", True) in lessons(two), "the lesson", 1)
        with two.endpoint(database).connect() as connection:
            assert connection.execute(read).fetchone() == (1000,)
        assert two.metric("osprey_retries_total") == 0

        # A third one, which begins now, knows it from the start.
        three = fleet.add()
        open_database(three, database)
        harness.wait_for(lambda: ("finance_byok", True) in lessons(three), "the lesson", 5)
        names = {row[0] for row in ask(three, "SHOW REPLICAS")}
        harness.wait_for(lambda: len(ask(three, "SHOW REPLICAS")) == 3, f"three of {names}", 5)

        # What is forgotten here is forgotten there.
        ask(two, "FORGET LESSON 'finance_byok'")
        harness.wait_for(lambda: lessons(one) == lessons(three) == [], "it to be forgotten", 1)


def test_an_invalidated_key_is_looked_up_once_more(tmp_path, hologres, redis, cloud):
    verifier = hologres.query(
        "postgres", "SELECT rolpassword FROM pg_authid WHERE rolname = 'app'"
    )[0][0]
    console = f'[[console.user]]\nname = "ops"\nverifier = "{verifier}"\n'
    with Fleet(tmp_path, hologres, redis, cloud, sections=console) as fleet:
        one, two = fleet.add(), fleet.add()
        for replica in fleet.replicas:
            open_database(replica)
            harness.wait_for(lambda r=replica: known(r) >= PROJECTS, "all to be known")
        before = cloud.lookups()
        with one.endpoint("osprey", user="ops").connect() as connection:
            connection.execute("INVALIDATE KEY 'fleet_7'")
        harness.wait_for(lambda: cloud.lookups()["fleet_7"] == 2, "it to be looked up anew", 5)
        for replica in fleet.replicas:
            harness.wait_for(lambda r=replica: known(r) >= PROJECTS, "both to know it")
        assert cloud.lookups() == {**before, "fleet_7": 2}


def test_while_redis_is_away_each_is_alone_and_then_they_converge(
    tmp_path, hologres, redis, cloud
):
    with Fleet(tmp_path, hologres, redis, cloud, 'deadline = "50ms"') as fleet:
        one, two = fleet.add(), fleet.add()
        redis.kill()
        for replica in fleet.replicas:
            replica.wait_for_metric(CONNECTED, 0)
        open_database(one)
        harness.wait_for(lambda: known(one) >= PROJECTS, "one to look them up for itself")
        assert one.metric(LOOKUPS, outcome="alone") >= PROJECTS
        assert records(two) == 0
        # It comes back, and has lost all that it had.
        redis.start()
        for replica in fleet.replicas:
            replica.wait_for_metric(CONNECTED, 1)
        harness.wait_for(lambda: records(two) >= PROJECTS, "the other one to hear of them")
        before = cloud.lookups()
        # It loses its data without being away.
        redis.ask("FLUSHALL")
        harness.wait_for(
            lambda: redis.ask("XLEN", redis.keys("*:facts")[0]) >= PROJECTS
            if redis.keys("*:facts")
            else False,
            "it to be told again",
        )
        three = fleet.add()
        harness.wait_for(lambda: records(three) >= PROJECTS, "a third one to learn all")
        assert cloud.lookups() == before
        for replica in fleet.replicas:
            assert replica.log().count("goes on alone") <= 4, replica.log()


def test_a_frozen_redis_costs_no_session_anything(tmp_path, hologres, redis, cloud):
    with Fleet(tmp_path, hologres, redis, cloud, 'deadline = "50ms"') as fleet:
        replica = fleet.add()
        redis.process.send_signal(signal.SIGSTOP)
        begun = time.monotonic()
        assert asyncio.run(sessions([replica], 30)) == [1] * 30
        # The answers were there long before the Redis was given up for away.
        harness.wait_for(lambda: known(replica) >= PROJECTS, "lookups without it")
        assert replica.metric(LOOKUPS, outcome="alone") >= PROJECTS
        elapsed = time.monotonic() - begun
        assert elapsed < 15, elapsed
        redis.process.send_signal(signal.SIGCONT)
        replica.wait_for_metric(CONNECTED, 1)
        harness.wait_for(
            lambda: redis.keys("*:facts")
            and redis.ask("XLEN", redis.keys("*:facts")[0]) >= PROJECTS,
            "what was found meanwhile to get there",
        )


def test_a_full_redis_is_no_fault_of_a_session(tmp_path, hologres, redis, cloud):
    with Fleet(tmp_path, hologres, redis, cloud) as fleet:
        redis.ask("CONFIG", "SET", "maxmemory", "1")
        redis.ask("CONFIG", "SET", "maxmemory-policy", "noeviction")
        replica = fleet.add(wait=False)
        open_database(replica)
        harness.wait_for(lambda: known(replica) >= PROJECTS, "lookups without it")
        assert replica.metric("osprey_replica_operations_total", outcome="refused") > 0
        redis.ask("CONFIG", "SET", "maxmemory", "0")
        harness.wait_for(
            lambda: redis.keys("*:facts")
            and redis.ask("XLEN", redis.keys("*:facts")[0]) >= PROJECTS,
            "it to be written once there is room",
            30,
        )


def lie(upstream, project="fleet_0", encryption="none", at=None):
    at = int(time.time() * 1000) if at is None else at
    return json.dumps(
        {
            "upstream": upstream,
            "at": at,
            "by": "mallory",
            "fact": "key",
            "project": project,
            "encryption": encryption,
        }
    )


def test_a_hostile_writer_teaches_nothing(tmp_path, hologres, redis, cloud):
    """Records that nobody vouches for, that are cut, huge, of a newer format, or none."""
    with Fleet(tmp_path, hologres, redis, cloud) as fleet:
        one = fleet.add()
        open_database(one)
        harness.wait_for(lambda: known(one) >= PROJECTS, "all to be known")
        stream = redis.keys("*:facts")[0]
        place = stream.removesuffix(":facts")
        true = redis.ask("XRANGE", stream, "-", "+", "COUNT", 1)[0][1][1].decode()
        upstream = json.loads(true.split(" ", 2)[2])["upstream"]

        def add(record):
            redis.ask("XADD", stream, "*", "f", record)

        def refused(reason):
            return one.metric(REFUSED, reason=reason)

        later = int(time.time() * 1000) + 1000
        forged = lie(upstream, at=later)
        add(f"1 - {forged}")
        add(f"1 {'ab' * 32} {forged}")
        version, mac, body = true.split(" ", 2)
        add(f"{version} {mac} {body.replace('kms', 'none')}")
        harness.wait_for(lambda: refused("forged") == 3, "lies to be refused")
        add(f"2 whatever newer replicas write {forged}")
        harness.wait_for(lambda: refused("newer_format") == 1, "a newer format to be left alone")
        for nonsense in ("", "1", "x" * 100_000, "\0" * 20):
            add(nonsense)
        redis.ask("XADD", stream, "*", "g", "1", "h", "2")
        harness.wait_for(lambda: refused("nonsense") == 5, "nonsense to be refused")
        assert known(one) >= PROJECTS

        # The same where a project's record stands; one of a newer format is not written over.
        newer = "2 a newer one"
        redis.ask("SET", f"{place}:key:fleet_1", newer)
        redis.ask("SET", f"{place}:key:fleet_2", "x" * 1_000_000)
        redis.ask("XTRIM", stream, "MAXLEN", 0)
        asked = cloud.lookups()
        two = fleet.add()
        open_database(two)
        harness.wait_for(lambda: known(two) >= PROJECTS, "another one to know all")
        assert cloud.lookups()["fleet_0"] == asked["fleet_0"]
        assert redis.ask("GET", f"{place}:key:fleet_1").decode() == newer

        # An answer of a size that nobody asked for ends the connection, not the process.
        before = one.peak_memory()
        for _ in range(8):
            redis.ask("XADD", stream, "*", "f", "x" * 5_000_000)
        open_database(one)
        open_database(two)
        one.says("larger than any")
        assert one.peak_memory() - before < 32 << 20
        redis.ask("DEL", stream)
        for replica in fleet.replicas:
            replica.wait_for_metric(CONNECTED, 1)
        assert one.log().count("is not believed") <= 2


def test_user_password_and_tls(tmp_path, hologres, cloud):
    """The user may do what docs/replicas.md says, and no more."""
    subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    subject += ["-addext", "basicConstraints=critical,CA:FALSE"]
    key, certificate = tmp_path / "redis.key", tmp_path / "redis.crt"
    files = ["-keyout", str(key), "-out", str(certificate)]
    harness.run(["openssl", "req", "-x509", *harness.CURVE, *files, *subject, "-days", "2"])
    page = (harness.ROOT / "docs" / "replicas.md").read_text()
    rules = next(line for line in page.splitlines() if line.startswith("ACL SETUSER osprey "))
    rules = rules.removeprefix("ACL SETUSER ").replace(">PASSWORD", f">{SECRET}").split()
    port = harness.free_port()
    tls = ["--tls-port", str(port), "--tls-cert-file", str(certificate), "--tls-key-file", str(key)]
    tls += ["--tls-auth-clients", "no"]
    with Redis(tmp_path, *tls) as redis:
        redis.ask("ACL", "SETUSER", *rules)
        password = tmp_path / "password"
        password.write_text(SECRET + "\n")
        password.chmod(0o600)
        more = f'user = "osprey"\npassword_file = "{password}"\ntls = true\nca = "{certificate}"'
        with Fleet(tmp_path, hologres, redis, cloud, more) as fleet:
            text = fleet.config.read_text()
            fleet.config.write_text(text.replace(f"127.0.0.1:{redis.port}", f"localhost:{port}"))
            one, two = fleet.add(), fleet.add()
            open_database(one)
            harness.wait_for(lambda: records(two) >= PROJECTS, "the other one to hear of them")
            assert fleet.sum("osprey_replica_operations_total", outcome="refused") == 0
            redis.ask("ACL", "SETUSER", "osprey", "resetpass", ">another")
            redis.ask("CLIENT", "KILL", "USER", "osprey")
            one.wait_for_metric(CONNECTED, 0)
            harness.wait_for(lambda: "uthentication failed" in one.log(), f"the reason\n{one.log()}", 8)
            assert SECRET not in one.log()


def test_sentinels_say_where_it_is(tmp_path, hologres, redis, cloud):
    configuration = tmp_path / "sentinel.conf"
    sentinel = Redis(tmp_path)
    configuration.write_text(
        f"port {sentinel.port}\nbind 127.0.0.1\nsentinel monitor main 127.0.0.1 {redis.port} 1\n"
    )
    sentinel.process = subprocess.Popen(
        ["redis-server", configuration, "--sentinel"],
        executable=PROGRAM,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        harness.wait_for(sentinel.answers, "the sentinel to listen")
        with Fleet(tmp_path, hologres, sentinel, cloud, 'sentinel = "main"') as fleet:
            one, two = fleet.add(), fleet.add()
            open_database(one)
            harness.wait_for(lambda: records(two) >= PROJECTS, "the other one to hear of them")
    finally:
        sentinel.kill()


def test_a_cluster_is_followed_to_the_node_that_has_the_keys(tmp_path, hologres, cloud):
    """Two nodes with half of the slots each; the configuration names the one without ours."""
    nodes = []
    with contextlib.ExitStack() as stack:
        for number in range(2):
            directory = tmp_path / f"node{number}"
            directory.mkdir()
            arguments = ["--cluster-enabled", "yes", "--cluster-node-timeout", "5000"]
            # The usual port of the nodes' own talk may be beyond the last one.
            arguments += ["--cluster-port", str(harness.free_port())]
            nodes.append(stack.enter_context(Redis(directory, *arguments)))
        slot = nodes[0].ask("CLUSTER", "KEYSLOT", "{osprey}:marker")
        nodes[0].ask("CLUSTER", "ADDSLOTSRANGE", slot, slot)
        others = [(0, slot - 1), (slot + 1, 16383)]
        nodes[1].ask("CLUSTER", "ADDSLOTSRANGE", *(edge for pair in others for edge in pair))
        bus = nodes[0].arguments[-1]
        nodes[1].ask("CLUSTER", "MEET", "127.0.0.1", nodes[0].port, bus)
        for node in nodes:
            harness.wait_for(
                lambda n=node: b"cluster_state:ok" in n.ask("CLUSTER", "INFO"), "the cluster"
            )
        with Fleet(tmp_path, hologres, nodes[1], cloud) as fleet:
            one, two = fleet.add(), fleet.add()
            open_database(one)
            harness.wait_for(lambda: records(two) >= PROJECTS, "the other one to hear of them")
            assert nodes[0].keys("*:facts") and not nodes[1].keys("*:facts")


def test_without_the_section_nothing_is_shared(hologres, redis):
    conftest.need_osprey()
    with harness.Osprey.in_front_of(hologres) as replica:
        open_database(replica)
        assert not any("replica" in name for name in replica.scrape())
    assert redis.keys("*") == []
