"""A mixed load for as long as asked, through several Ospreys behind HAProxy that come and go.

    tests/run soak --minutes 10                             the usual mixture
    tests/run soak --minutes 10 --idle 5000 --busy 200 --faults

Clients (psql, psycopg, pgbench, JDBC; with TLS and without) read encrypted and plain data, write, copy, cancel
and come anew, while replicas, which share what they know through a Redis, are reloaded, taken over, restarted and
killed. With --faults something befalls them each second beside that: replicas, the server and the Redis are frozen,
statements and sessions ended on the server, and the Redis loses its data. Every answer is checked; of every write
it is known whether it is there, or the connection was closed with an error. At the end everybody leaves, and
memory, descriptors, threads and the gauges are compared with what they were.
"""

import argparse
import collections
import contextlib
import json
import pathlib
import random
import re
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

import psycopg
import psycopg.waiting

import attacks
import conftest
import harness
import rawpg
import redis_server
import replicas
import tasks

TABLE = """
CREATE TABLE soak (who text, number int);
GRANT ALL ON soak TO PUBLIC;
"""

# How a session may be told that it, or its statement, has ended.
ENDED = {"57014", "57P01", "57P02", "57P03", "53300", "08006", "08000", "08001", "08003"}

# A write that meets HQE's error while the catalogs have not been read yet, by a replica that has just begun.
TO_BE_RUN_AGAIN = "Run it again: Osprey now knows that project learned_byok is encrypted."

# What a process may have more of at the end than at the beginning.
MEMORY = 64 << 20
DESCRIPTORS = 8
THREADS = 2

CONFIG = """
[[upstream]]
name = "holo"
address = "127.0.0.1:{port}"
[upstream.tls]
mode = "verify-full"
ca = "{ca}"
server_name = "localhost"
[upstream.protect]
projects = ["finance_byok"]
[upstream.catalog]
user = "osprey_catalog"
[[upstream]]
name = "idle"
address = "127.0.0.1:{idle}"
[upstream.tls]
mode = "disable"
[upstream.catalog]
borrow = false
[[listener]]
addresses = ["127.0.0.1:{listen}"]
proxy_protocol = "accept"
proxy_networks = ["127.0.0.0/8"]
upstream = "holo"
[listener.tls]
certificate = "{directory}/server.crt"
key = "{directory}/server.key"
[[listener.rule]]
user = "idle"
upstream = "idle"
[replicas]
redis = ["127.0.0.1:{redis}"]
[takeover]
socket = "{sockets}/t{number}"
drain_after = "2s"
[limits]
drain_timeout = "5s"
max_sessions = 10000
"""


# select(), which psycopg waits with where it can, knows no descriptor above 1,023.
psycopg.waiting.wait = psycopg.waiting.wait_selector


class Figures:
    """What has been seen, by name; and what should not have been."""

    def __init__(self):
        self.counts = collections.Counter()
        self.wrong = []
        self._lock = threading.Lock()

    def count(self, name, by=1):
        with self._lock:
            self.counts[name] += by

    def finding(self, text):
        with self._lock:
            self.counts["findings"] += 1
            if len(self.wrong) < 50:
                self.wrong.append(text)


class Writes:
    """Which rows a worker knows to be there, which may be, and which cannot be."""

    def __init__(self, who):
        self.who = who
        self.acked, self.maybe, self.failed = set(), set(), set()

    def check(self, found, figures):
        """`found`: how often each of its rows is there."""
        for number in self.acked:
            if found.get(number) != 1:
                figures.finding(f"{self.who}: row {number}, committed, is there {found.get(number, 0)} times")
        for number, count in found.items():
            if number in self.failed:
                figures.finding(f"{self.who}: row {number} is there, and its client was told that it failed")
            elif number not in self.acked | self.maybe:
                figures.finding(f"{self.who}: row {number} is there, and nobody wrote it")
            elif count != 1:
                figures.finding(f"{self.who}: row {number} is there {count} times")


class IdleServer:
    """Lets everyone in and answers every Query by nothing; any number of sessions in one thread."""

    HELLO = rawpg.message(b"R", bytes(4)) + rawpg.message(b"K", bytes(8)) + rawpg.READY

    def __init__(self):
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=4096)
        self.listener.setblocking(False)
        self.port = self.listener.getsockname()[1]
        self.selector = selectors.DefaultSelector()
        self.selector.register(self.listener, selectors.EVENT_READ)
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self):
        greeted = set()
        while True:
            for key, _ in self.selector.select():
                if key.fileobj is self.listener:
                    with contextlib.suppress(OSError):
                        connection, _ = self.listener.accept()
                        self.selector.register(connection, selectors.EVENT_READ)
                    continue
                connection = key.fileobj
                try:
                    data = connection.recv(4096)
                    if not data:
                        raise OSError
                    if data[4:8] == rawpg.CANCEL_REQUEST:
                        raise OSError
                    if connection not in greeted:
                        greeted.add(connection)
                        connection.sendall(self.HELLO)
                    elif data[:1] == b"Q":
                        connection.sendall(rawpg.DONE)
                except OSError:
                    greeted.discard(connection)
                    self.selector.unregister(connection)
                    connection.close()


class Soak:
    """The whole stage, and what is played on it."""

    def __init__(self, stack, directory, seconds, idle, busy, faults, seed):
        self.seconds, self.idle, self.busy, self.faults = seconds, idle, busy, faults
        self.choose = random.Random(seed)
        self.figures = Figures()
        self.writes = []
        self.over = threading.Event()
        self.cluster = stack.enter_context(
            harness.Cluster(tls=True, settings={"max_connections": 2 * busy + 100})
        )
        self.cluster.create_database("soak")
        self.cluster.query("soak", TABLE)
        self.idle_server = IdleServer()
        self.redis = stack.enter_context(redis_server.Redis(directory))
        self.replicas = stack.enter_context(self._replicas(directory))
        # Held by whoever does something to it.
        self.places = [threading.Lock() for _ in self.replicas.all]
        self.redis_lock = threading.Lock()
        self.endpoint = self.replicas.endpoint("soak")
        for osprey in self.replicas.all:
            osprey.wait_until_known("soak")
        self.classes = directory / "classes"
        source = harness.HERE / "java" / "Soak.java"
        harness.run(["javac", "-d", self.classes, source])

    def _replicas(self, directory):
        made = replicas.Replicas(self.cluster, directory)
        for number, osprey in enumerate(made.all):
            osprey.config.write_text(
                CONFIG.format(
                    directory=self.cluster.directory,
                    port=self.cluster.port,
                    ca=self.cluster.ca,
                    idle=self.idle_server.port,
                    listen=osprey.port,
                    redis=self.redis.port,
                    sockets=directory,
                    number=number,
                )
            )
            osprey.command = [harness.osprey_binary(), "serve", "--config", osprey.config]
            osprey.command += ["--metrics", f"127.0.0.1:{osprey.metrics_port}"]
        return made

    # Workers. Each works in one session after the other until it is over.

    def sessions(self, who, work, pause=0.02):
        """Runs `work(connection, choose)` again and again; a connection that is lost is one that is closed
        with an error, and any other error than those by which a statement is ended is a finding."""
        choose = random.Random(who)
        while not self.over.is_set():
            connection = None
            try:
                tls = "require" if choose.random() < 0.5 else "disable"
                connection = self.endpoint.connect(sslmode=tls, connect_timeout=20)
                self.figures.count("sessions")
                for _ in range(choose.randrange(5, 60)):
                    if self.over.is_set():
                        break
                    work(connection, choose)
                    self.figures.count("rounds")
                    time.sleep(pause)
                connection.close()
            except psycopg.Error as error:
                state = error.sqlstate
                lost = connection is None or connection.closed
                if state in ENDED or (state is None and lost):
                    self.figures.count(f"ended {state or 'connection lost'}")
                elif state == "XX000" and TO_BE_RUN_AGAIN in str(error):
                    self.figures.count("told to run it again")
                else:
                    self.figures.finding(f"{who}: {state} {error}")
                time.sleep(0.05)
            except AssertionError as error:
                self.figures.finding(f"{who}: {error!r}")
            finally:
                if connection is not None:
                    connection.close()

    def write(self, who):
        writes = Writes(who)
        self.writes.append(writes)
        numbers = iter(range(1, 1 << 30))

        def attempt(connection, statement, rows):
            """All of these rows, or none."""
            try:
                statement(rows)
            except psycopg.Error:
                (writes.maybe if connection.closed else writes.failed).update(rows)
                raise
            writes.acked.update(rows)
            self.figures.count("rows written", len(rows))

        def work(connection, choose):
            kind = choose.randrange(4)
            rows = [next(numbers) for _ in range(1 if kind < 2 else 10)]

            def plain(rows):
                connection.execute("INSERT INTO soak VALUES (%s, %s)", [who, rows[0]])

            def heals(rows):
                # Reads encrypted data of which nobody has told Osprey.
                connection.execute(
                    "INSERT INTO soak SELECT %s, %s::int FROM events WHERE id = 1", [who, rows[0]]
                )

            def transaction(rows):
                with connection.transaction():
                    for number in rows:
                        connection.execute("INSERT INTO soak VALUES (%s, %s)", [who, number])
                    count = connection.execute("SELECT count(*) FROM salaries").fetchone()
                    assert count == (1000,), count

            def copy(rows):
                with connection.cursor().copy("COPY soak FROM STDIN") as copying:
                    for number in rows:
                        copying.write_row((who, number))

            attempt(connection, [plain, heals, transaction, copy][kind], rows)

        self.sessions(who, work)

    def read(self, who):
        def work(connection, choose):
            send = choose.choice([connection.execute, psycopg.ClientCursor(connection).execute])
            kind = choose.randrange(5)
            if kind == 0:
                statement, rows = choose.choice(list(tasks.READS.values()))
                found = len(send(statement).fetchall())
                assert found == rows, (statement, found)
            elif kind == 1:
                assert len(send("SELECT * FROM events").fetchall()) == 20
            elif kind == 2:
                number = choose.randrange(1, 1000)
                row = connection.execute("SELECT name FROM salaries WHERE id = %s", [number]).fetchone()
                assert row == (f"name {number}",), (number, row)
            elif kind == 3:
                with connection.cursor().copy("COPY (SELECT * FROM salaries) TO STDOUT") as copy:
                    found = sum(1 for _ in copy.rows())
                assert found == 1000, found
            else:
                number = choose.randrange(1 << 30)
                row = send(f"SELECT {number}, count(*) FROM people").fetchone()
                assert row == (number, 100), (number, row)

        self.sessions(who, work)

    def cancel(self, who):
        """Cancels its own statements."""

        def work(connection, choose):
            def cancel():
                # The connection may be lost by then.
                with contextlib.suppress(psycopg.Error):
                    connection.cancel()

            timer = threading.Timer(0.05, cancel)
            timer.start()
            try:
                connection.execute("SELECT pg_sleep(0.5)")
                self.figures.count("cancels that came too late")
            except psycopg.errors.QueryCanceled:
                self.figures.count("cancels")
            finally:
                timer.join()

        self.sessions(who, work)

    def program(self, who, command, check):
        """Runs a program again and again."""
        while not self.over.is_set():
            done = subprocess.run(
                command, env=self.endpoint.environment(), capture_output=True, text=True, timeout=120
            )
            self.figures.count(who)
            wrong = check(done)
            if wrong:
                self.figures.finding(f"{who}: {wrong}: {done.stdout[-300:]} {done.stderr[-300:]}")

    def psql(self, who):
        def check(done):
            if done.returncode == 0:
                return done.stdout.strip() != "1000" and "another answer"
            lost = r"connection|closed|could not|terminat|shutting down|canceling|SSL|too many"
            return not re.search(lost, done.stderr) and "an error"

        command = [harness.PG_BIN / "psql", "-XAt", "-c", "SELECT count(*) FROM salaries"]
        self.program(who, command, check)

    def pgbench(self, who):
        script = self.classes.parent / "soak.sql"
        script.write_text("SELECT count(*) FROM salaries;\nSELECT count(*) FROM people;\n")

        def check(done):
            lost = r"connection|closed|could not|terminat|shutting down|cancel|aborted|too many"
            return done.returncode != 0 and not re.search(lost, done.stderr) and "an error"

        command = [harness.PG_BIN / "pgbench", "-n", "-f", script, "-c", "2", "-t", "20", "-M", "prepared"]
        self.program(who, command, check)

    def jdbc(self, who):
        writes = Writes(who)
        self.writes.append(writes)
        url = f"jdbc:postgresql://127.0.0.1:{self.endpoint.port}/soak?sslmode=disable&loginTimeout=20"
        done = subprocess.run(
            ["java", "-Xmx64m", "-cp", f"{self.classes}:/usr/share/java/postgresql.jar", "Soak", url]
            + [self.endpoint.user, self.endpoint.password, str(self.seconds)],
            capture_output=True,
            text=True,
        )
        for line in done.stdout.splitlines():
            word, _, rest = line.partition(" ")
            if word in ("ack", "maybe", "failed"):
                {"ack": writes.acked, "maybe": writes.maybe, "failed": writes.failed}[word].add(int(rest))
            elif word == "state":
                state = rest.split(" ")[0]
                self.figures.count(f"ended {state}")
                if state not in ENDED:
                    self.figures.finding(f"{who}: {rest}")
            elif word == "wrong":
                self.figures.finding(f"{who}: {rest}")
        if not done.stdout.endswith("end\n"):
            self.figures.finding(f"{who} ended: {done.stderr[-500:]}")
        self.figures.count("rows written", len(writes.acked))

    def rest(self, who, count):
        """Sessions that do nothing but ask once in a while, each anew when it is ended."""
        clients = {}
        choose = random.Random(who)
        while not self.over.wait(0.01):
            if len(clients) < count:
                with contextlib.suppress(OSError, AssertionError):
                    client = rawpg.Client("127.0.0.1", self.endpoint.port)
                    clients[client.socket.fileno()] = client
                    client.log_in(user="idle", database="d")
                    self.figures.count("idle sessions")
                    continue
                clients.pop(client.socket.fileno(), None)
                client.close()
                continue
            number, client = choose.choice(list(clients.items()))
            try:
                kinds = rawpg.kinds(client.ask(rawpg.query("SELECT 1")))
            except (OSError, AssertionError):
                kinds = ""
            if kinds == "CZ":
                self.figures.count("idle sessions that asked")
                continue
            if kinds not in ("", "E"):
                self.figures.finding(f"{who}: an idle session was answered by {kinds}")
            self.figures.count("idle sessions ended")
            clients.pop(number).close()
        for client in clients.values():
            client.close()

    # What befalls them. Replica 0 lives from the beginning to the end.

    def trouble(self):
        """What takes a while, one after the other."""
        acts = [self.kill, self.restart, self.take_over]
        acts.append(self.lose_redis if self.faults else self.reload)
        self._befall(acts, lambda: 1)

    def faults_each_second(self):
        """What is quickly done; each second, however long it takes."""
        acts = [self.reload, self.freeze, self.freeze_server, self.freeze_redis]
        acts += [self.end_session, self.end_session, self.end_statement]
        begin, done = time.monotonic(), 0

        def rest():
            nonlocal done
            done += 1
            return max(begin + done - time.monotonic(), 0)

        self._befall(acts, rest)

    def _befall(self, acts, rest):
        # In the order given, and then each of them once, in another order each time.
        order = acts[::-1]
        while not self.over.wait(rest()):
            order = order or self.choose.sample(acts, len(acts))
            act = order.pop()
            try:
                act(self.choose.randrange(1, len(self.replicas.all)))
            except (OSError, RuntimeError, TimeoutError, psycopg.Error) as error:
                self.figures.finding(f"{act.__name__}: {error!r}")
            self.figures.count(f"{act.__name__}".replace("_", " "))

    @contextlib.contextmanager
    def one_that_stays(self):
        """A replica that is not replaced meanwhile; replica 0 never is."""
        numbers = list(range(len(self.places)))
        self.choose.shuffle(numbers)
        number = next(number for number in numbers if self.places[number].acquire(blocking=False))
        try:
            yield self.replicas.all[number].process
        finally:
            self.places[number].release()

    def kill(self, number):
        with self.places[number]:
            self.replicas.kill(number)

    def restart(self, number):
        with self.places[number]:
            self.replicas.restart(number)

    def take_over(self, number):
        with self.places[number]:
            self.replicas.take_over(number)

    def lose_redis(self, number):
        with self.redis_lock:
            self.redis.kill()
            self.redis.start()

    def reload(self, number):
        with self.one_that_stays() as process:
            process.send_signal(signal.SIGHUP)

    def _freeze(self, process):
        process.send_signal(signal.SIGSTOP)
        time.sleep(0.4)
        process.send_signal(signal.SIGCONT)

    def freeze(self, number):
        with self.one_that_stays() as process:
            self._freeze(process)

    def freeze_server(self, number):
        self._freeze(self.cluster.process)

    def freeze_redis(self, number):
        with self.redis_lock:
            self._freeze(self.redis.process)

    def _backend(self, what):
        self.cluster.query(
            "postgres",
            f"SELECT {what}(pid) FROM pg_stat_activity WHERE datname = 'soak' AND usename = 'app'"
            " ORDER BY random() LIMIT 1",
        )

    def end_session(self, number):
        self._backend("pg_terminate_backend")

    def end_statement(self, number):
        self._backend("pg_cancel_backend")

    # From the beginning to the end.

    def measure(self, osprey):
        status = pathlib.Path(f"/proc/{osprey.process.pid}/status").read_text()
        return {
            "memory": attacks.resident(osprey, "VmRSS"),
            "descriptors": attacks.descriptors(osprey),
            "threads": int(re.search(r"Threads:\s+(\d+)", status)[1]),
        }

    def run(self):
        first = self.replicas.all[0]
        before = self.measure(first)
        kinds = [self.write, self.read, self.read, self.cancel]
        workers = [(self.psql, "psql"), (self.pgbench, "pgbench"), (self.jdbc, "jdbc")]
        for number in range(max(self.busy - len(workers), 0)):
            kind = kinds[number % len(kinds)]
            workers.append((kind, f"{kind.__name__}-{number}"))

        def whole(work, *arguments):
            """To its end, or it is a finding that there was none."""
            try:
                work(*arguments)
            except Exception as error:
                self.figures.finding(f"{work.__name__}{arguments}: {error!r}")

        threads = []
        each = 500
        for begin in range(0, self.idle, each):
            count = min(each, self.idle - begin)
            threads.append(threading.Thread(target=whole, args=[self.rest, f"idle-{begin}", count]))
        for thread in threads:
            thread.start()
        # They are there before the load, which leaves them little time to come.
        counts = self.figures.counts
        harness.wait_for(lambda: counts["idle sessions"] >= self.idle, "the idle sessions", 300)
        busy = [threading.Thread(target=whole, args=worker) for worker in workers]
        busy.append(threading.Thread(target=whole, args=[self.trouble]))
        if self.faults:
            busy.append(threading.Thread(target=whole, args=[self.faults_each_second]))
        for thread in busy:
            thread.start()
        threads += busy
        try:
            time.sleep(self.seconds)
        except KeyboardInterrupt:
            self.figures.count("interrupted")
        most = self.measure(first)
        self.over.set()
        for thread in threads:
            thread.join(180)
            if thread.is_alive():
                self.figures.finding("a worker did not come to its end")
        self.check_rows()
        return self.check_figures(before, most)

    def check_rows(self):
        found = collections.defaultdict(dict)
        for who, number, count in self.cluster.query(
            "soak", "SELECT who, number, count(*) FROM soak GROUP BY who, number"
        ):
            found[who][number] = count
        for writes in self.writes:
            writes.check(found.pop(writes.who, {}), self.figures)
            self.figures.count("writes that may be there", len(writes.maybe))
            self.figures.count("writes that failed", len(writes.failed))
        if found:
            self.figures.finding(f"rows of nobody: {list(found)}")

    def check_figures(self, before, most):
        gauges = ("osprey_sessions", "osprey_logins", "osprey_greetings", "osprey_cancels")
        for osprey in self.replicas.all:
            for gauge in gauges:
                try:
                    osprey.wait_for_metric(gauge, 0)
                except TimeoutError as error:
                    self.figures.finding(str(error))
        first = self.replicas.all[0]

        def is_back():
            after = self.measure(first)
            return (
                after["memory"] - before["memory"] < MEMORY
                and after["descriptors"] - before["descriptors"] <= DESCRIPTORS
                and after["threads"] - before["threads"] <= THREADS
            )

        with contextlib.suppress(TimeoutError):
            harness.wait_for(is_back, "what the sessions needed", 30)
        after = self.measure(first)
        if not is_back():
            self.figures.finding(f"before {before}, after {after}")
        for osprey in self.replicas.former + self.replicas.all:
            if "panicked at" in osprey.log():
                self.figures.finding(osprey.log()[-2000:])
        return {
            "seconds": self.seconds,
            "idle": self.idle,
            "busy": self.busy,
            "counts": dict(sorted(self.figures.counts.items())),
            "first replica": {"before": before, "under load": most, "after": after},
            "findings": self.figures.wrong,
        }


def run(seconds, idle=0, busy=12, faults=False, seed=None):
    """A whole soak; its figures."""
    conftest.need_osprey()
    with contextlib.ExitStack() as stack:
        # A socket's path must be short.
        directory = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="soak")))
        directory.chmod(0o755)
        soak = Soak(stack, directory, seconds, idle, busy, faults, seed)
        return soak.run()


def main():
    parser = argparse.ArgumentParser(prog="tests/run soak")
    parser.add_argument("--minutes", type=float, default=10, help="how long (10)")
    parser.add_argument("--busy", type=int, default=24, help="clients that work (24)")
    parser.add_argument("--idle", type=int, default=0, help="sessions that rest (0)")
    parser.add_argument("--faults", action="store_true", help="also faults of the server and of processes")
    parser.add_argument("--seed", type=int, help="in which order things befall them")
    options = parser.parse_args()
    figures = run(options.minutes * 60, options.idle, options.busy, options.faults, options.seed)
    print(json.dumps(figures, indent=2))
    return 1 if figures["findings"] else 0


if __name__ == "__main__":
    sys.exit(main())
