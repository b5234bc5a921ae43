"""Random sequences of frontend messages, and what a server answers to them.

A case is made from its seed alone. `messages` are labelled, so that a failure can be read, and carry
whether the client waits for the answer before it goes on. Nothing in a case depends on time: a server
reads the same bytes and gives the same answer, however they are cut and whenever they come.
"""

import dataclasses
import random
import socket
import struct
import threading
import time

import rawpg
from rawpg import SYNC, message

PLAIN = [
    "SELECT id, team FROM people WHERE id <= 5 ORDER BY id",
    "SELECT count(*) FROM people",
    "SELECT 1 AS one, 'two' AS two",
    "VALUES (1), (2), (3)",
    "SHOW DateStyle",
    "SELECT count(*) FROM {scratch}",
]
FOREIGN = ["SELECT id, label FROM items WHERE id <= 6", "SELECT count(*) FROM item_labels"]
ENCRYPTED = [
    "SELECT id, name FROM salaries WHERE id <= 6",
    "SELECT count(*) FROM salary_names",
    "SELECT * FROM sales.first_names",
    'SELECT count(*) FROM "Mixed Case"."The ""Salaries"""',
    "SELECT s.id, p.team FROM people p JOIN salaries s USING (id) WHERE id < 4",
    "SELECT count(*) FROM payments",
    "WITH s AS (SELECT id FROM salaries) SELECT max(id) FROM s",
]
WRITES = [
    "INSERT INTO {scratch} VALUES (1, 'a')",
    "INSERT INTO {scratch} VALUES (1, 'a'), (2, 'b') RETURNING id",
    "INSERT INTO {scratch} SELECT id, name FROM salaries WHERE id < 4",
    "UPDATE {scratch} SET name = 'c' WHERE id = 1",
    "DELETE FROM {scratch} WHERE id = 2",
    "SELECT nextval('{sequence}')",
]
FAILING = [
    "SELECT 1 / 0",
    "SELEC 1",
    "SELECT missing FROM salaries",
    "SELECT * FROM no_such_table",
    "SELECT 1 / (id - 3) FROM salaries WHERE id < 5",
]
TRANSACTION = [
    "BEGIN",
    "BEGIN",
    "COMMIT",
    "COMMIT",
    "ROLLBACK",
    "START TRANSACTION READ ONLY",
    "BEGIN ISOLATION LEVEL REPEATABLE READ",
    "SAVEPOINT s",
    "ROLLBACK TO s",
    "RELEASE s",
    "COMMIT AND CHAIN",
]
SESSION = [
    "SET application_name = 'case'",
    "SET LOCAL DateStyle = 'German'",
    "SET DateStyle = 'SQL'",
    "RESET DateStyle",
    "RESET ALL",
    "DISCARD ALL",
    "DISCARD PLANS",
    "DO $$ BEGIN RAISE NOTICE 'noticed'; END $$",
    "LISTEN {channel}",
    "UNLISTEN *",
    "NOTIFY {channel}, 'payload'",
    "DEALLOCATE ALL",
    "",
    "-- salaries",
]
# The client's own choice of the engine, refused or for a transaction at most; or given back.
ROUTE = [
    "SET hg_experimental_enable_access_odps_orc_via_holo = 'nonsense'",
    "SET LOCAL hg_experimental_enable_access_odps_orc_via_holo = off",
    "RESET hg_experimental_enable_access_odps_orc_via_holo",
]
# Encrypted reads that are texts of another meaning, or none, if they are read otherwise than meant. In
# GBK the second byte of 誠 is a backslash.
ENCRYPTED_IF_READ_SO = [
    "SELECT count(*) FROM 订单 WHERE name <> '誠'",
    "SELECT E'誠', max(id) FROM salaries",
    r"SELECT '\'', count(*) FROM salaries WHERE name <> '\''",
    r"SELECT max(id), '\'' FROM 订单 WHERE name <> '\''",
]
# How the server reads the texts behind them.
LEXING = [
    "SET standard_conforming_strings = off",
    "SET standard_conforming_strings = off",
    "SET standard_conforming_strings TO DEFAULT",
    "SET LOCAL standard_conforming_strings = off",
    "SET client_encoding = 'GBK'",
    "SET NAMES 'GBK'",
    "SET LOCAL client_encoding = gbk",
    "RESET client_encoding",
]
NAMED = [
    "PREPARE a AS {read}",
    "PREPARE b AS {read}",
    "EXECUTE a",
    "EXECUTE b",
    "DEALLOCATE a",
    "DECLARE c CURSOR FOR {read}",
    "DECLARE d CURSOR WITH HOLD FOR {read}",
    "FETCH 2 FROM c",
    "FETCH ALL FROM d",
    "MOVE 1 IN c",
    "CLOSE c",
    "CLOSE ALL",
]
# Those of them that only read, as far as what they name does.
READ_BY_NAME = [name for name in NAMED if name.split()[0] != "DEALLOCATE"]
# Queries of one statement that cannot fail once they run.
HARMLESS = {
    rawpg.query(text)
    for text in [*PLAIN[:-1], *FOREIGN]
    + ["BEGIN", "COMMIT", "ROLLBACK", "START TRANSACTION READ ONLY", "BEGIN ISOLATION LEVEL REPEATABLE READ"]
}
NAMES = ["", "", "a", "b"]
PORTALS = ["", "", "c", "e"]
COPY_DONE = message(b"c")
COPY_FAIL = message(b"f", b"given up\0")
FLUSH = message(b"H")
# A server that is told to terminate throws away what it has not flushed; and a COPY may be open.
END = COPY_FAIL + SYNC + rawpg.TERMINATE


@dataclasses.dataclass(frozen=True)
class Step:
    """One message, what it is in words, and whether the client waits behind it."""

    label: str
    data: bytes
    waits: bool


def without_stale_portals(steps):
    """The steps without those that may crash PostgreSQL 15 itself.

    A simple Query that fails while it runs within a transaction leaves its unnamed portal behind, with
    pointers into memory that the next message frees; an Execute of the unnamed portal follows them
    (exec_execute_message() in postgres.c reads portal->stmts before it looks whether the transaction
    has failed; only portals with a cached plan lose theirs in AtAbort_Portals()). So such an Execute
    stays only if its Bind is in the same pipeline, which is skipped as a whole, or no such Query came.
    """
    stale = bound = copying = False
    for step in steps:
        kind, body = step.data[:1], step.data[5:]
        if kind == b"Q":
            stale, bound = stale or step.data not in HARMLESS, False
            copying = b"FROM STDIN" in body
        elif kind == b"S":
            bound = False
        elif kind == b"B" and body.startswith(b"\0"):
            bound = not copying  # a COPY takes it for its end
        elif kind == b"E" and body.startswith(b"\0") and stale and not bound:
            continue
        copying = copying and kind in (b"Q", b"d", b"H", b"S")
        yield step


class Case:
    """What `seed` makes; `worker` names the objects that it may write.

    A case that `reads` does nothing else, and waits only behind whole cycles.
    """

    def __init__(self, seed, worker, broken=False, reads=False):
        self.seed = seed
        self.reads = reads
        self.random = random.Random(seed)
        self.names = {
            "scratch": f"scratch_{worker}",
            "sequence": f"sequence_{worker}",
            "channel": f"channel_{worker}",
        }
        # How often the client waits differs by case: some wait always, some never.
        self.patience = self.random.choice([0, 0.2, 0.6, 1])
        self.chunk = self.random.choice([None, None, None, 1, 3, 7, 40])
        self.steps = []
        for _ in range(self.random.randint(1, 12)):
            self.random.choices(
                [self._simple, self._extended, self._read_so, self._copy_in, self._copy_in_extended],
                [8, 9, 1.5, 0, 0] if reads else [8, 9, 1.5, 1, 0.5],
            )[0]()
        if broken:
            self._break()
        self.steps = list(without_stale_portals(self.steps))

    def _add(self, label, data):
        waits = self.random.random() < self.patience
        if self.reads and data[:1] not in (b"Q", b"S"):
            waits = False
        self.steps.append(Step(label, data, waits))

    def _read(self):
        kind = self.random.choices([PLAIN, FOREIGN, ENCRYPTED], [3, 1, 4])[0]
        return self.random.choice(kind).format(**self.names)

    def _statement(self):
        if self.reads:
            kinds = [None, FAILING, TRANSACTION, READ_BY_NAME, LEXING]
            weights = [9, 0.5, 4, 3, 1.5]
        else:
            kinds = [None, WRITES, FAILING, TRANSACTION, SESSION, NAMED, LEXING, ROUTE]
            weights = [9, 2, 1.5, 4, 2, 3, 1.5, 0.7]
        kind = self.random.choices(kinds, weights)[0]
        if kind is None:
            read = self._read()
            return f"COPY ({read}) TO STDOUT" if self.random.random() < 0.1 else read
        return self.random.choice(kind).format(read=self._read(), **self.names)

    def _read_so(self):
        """Says how texts are to be read, and sends one."""
        for texts in (LEXING, ENCRYPTED_IF_READ_SO):
            text = self._encoded(self.random.choice(texts))
            if self.random.random() < 0.5:
                self._add(f"Query {text!r}", rawpg.query(text))
                continue
            self._add(f"Parse '' {text!r}", rawpg.parse("", text))
            self._add("Bind", rawpg.bind("", ""))
            self._add("Execute", rawpg.execute(""))
            if self.random.random() < 0.8 or self.reads:
                self._add("Sync", SYNC)

    def _encoded(self, text):
        """In UTF-8 or GBK, whatever the session's encoding is: bytes that are none the server refuses."""
        codec = "utf-8" if text.isascii() else self.random.choice(["utf-8", "gbk", "gbk"])
        return text.encode(codec)

    def _simple(self):
        text = self._statement()
        while self.random.random() < (0 if self.reads else 0.15):
            text += "; " + self._statement()
        # What undoes the setting and then reads, in one Query, is beyond a proxy: nothing fits between.
        if ";" in text and "RESET ALL" in text:
            text = text.replace("RESET ALL", "RESET DateStyle")
        text = self._encoded(text)
        self._add(f"Query {text!r}", rawpg.query(text))

    def _extended(self):
        """Some messages of the extended protocol; most end with Sync."""
        name, portal = self.random.choice(NAMES), self.random.choice(PORTALS)
        if self.random.random() < 0.8:
            text = self._encoded(self._statement())
            self._add(f"Parse {name!r} {text!r}", rawpg.parse(name, text))
        if self.random.random() < 0.2:
            self._add(f"Describe statement {name!r}", message(b"D", b"S" + name.encode() + b"\0"))
        if self.random.random() < 0.9:
            self._add(f"Bind {portal!r} {name!r}", rawpg.bind(portal, name))
        if self.random.random() < 0.4:
            self._add(f"Describe portal {portal!r}", rawpg.describe_portal(portal))
        for _ in range(self.random.choice([0, 1, 1, 1, 1, 2])):
            rows = self.random.choice([0, 0, 0, 1, 2])
            self._add(f"Execute {portal!r} {rows}", rawpg.execute(portal, rows))
        if self.random.random() < 0.1:
            kind = self.random.choice([b"S", b"P"])
            self._add(f"Close {kind} {name!r}", message(b"C", kind + name.encode() + b"\0"))
        if self.random.random() < 0.1 and not self.reads:
            self._add("Flush", FLUSH)
        for _ in range(self.random.choices([0, 1, 2], [0 if self.reads else 2, 8, 0.3])[0]):
            self._add("Sync", SYNC)

    def _copy_data(self):
        for _ in range(self.random.randint(0, 3)):
            row = self.random.choice(["1\tone\n", "2\ttwo\n", "3\tthree\n", "bad\tdata\n"])
            self._add(f"CopyData {row!r}", message(b"d", row.encode()))
        done = self.random.random() < 0.8
        self._add("CopyDone" if done else "CopyFail", COPY_DONE if done else COPY_FAIL)

    def _copy_in(self):
        text = f"COPY {self.names['scratch']} FROM STDIN"
        self._add(f"Query {text!r}", rawpg.query(text))
        self._copy_data()

    def _copy_in_extended(self):
        text = f"COPY {self.names['scratch']} FROM STDIN"
        self._add(f"Parse '' {text!r}", rawpg.parse("", text))
        self._add("Bind", rawpg.bind("", ""))
        self._add("Execute", rawpg.execute(""))
        self._copy_data()
        self._add("Sync", SYNC)

    def _break(self):
        """Does to a few messages what no driver does; the frames themselves stay whole."""
        for _ in range(self.random.randint(1, 3)):
            at = self.random.randrange(len(self.steps))
            step = self.steps[at]
            kind, body = step.data[:1], step.data[5:]
            what = self.random.choice(["cut", "lost", "twice", "moved", "byte", "unknown name", "stray"])
            if what == "cut":
                body = body[: self.random.randrange(len(body) + 1)]
            elif what == "lost":
                if len(self.steps) > 1:
                    del self.steps[at]
                continue
            elif what == "twice":
                self.steps.insert(at, step)
                continue
            elif what == "moved":
                self.steps.insert(self.random.randrange(len(self.steps)), self.steps.pop(at))
                continue
            elif what == "byte" and body:
                where = self.random.randrange(len(body))
                body = body[:where] + bytes([self.random.randrange(256)]) + body[where + 1 :]
            elif what == "unknown name":
                kind, body = b"E", b"nobody\0\0\0\0\0"
            elif what == "stray":
                kind, body = self.random.choice([(b"d", b"stray"), (b"c", b""), (b"H", b""), (b"S", b"")])
            self.steps[at] = Step(f"{what}: {step.label}", message(kind, body), step.waits)

    def chunks(self, data):
        if self.chunk is None:
            return [data]
        return [data[at : at + self.chunk] for at in range(0, len(data), self.chunk)]


# Seconds without an end after which a server is silent, and those that shrinking may take.
PATIENCE = 5
SHRINKING = 15


class Silent(Exception):
    """The server neither answered nor closed."""


class Listener(threading.Thread):
    """Takes what the server sends, to its end."""

    def __init__(self, connection):
        super().__init__(daemon=True)
        self.connection = connection
        self.data = bytearray()
        self.silent = False
        self.start()

    def run(self):
        try:
            while part := self.connection.recv(1 << 16):
                self.data += part
        except TimeoutError:
            self.silent = True
        except OSError:
            pass

    def wait_until_quiet(self, seconds=0.1):
        """Until something has come and nothing more does; not every message is answered."""
        before, end = len(self.data), time.monotonic() + seconds
        pause = 0.004
        while time.monotonic() < end and self.is_alive():
            time.sleep(pause)
            now = len(self.data)
            if now == before:
                return
            before = now


def transcript(endpoint, case, steps, options):
    """Everything the server says to `steps`, up to the end of the connection."""
    with rawpg.Client(endpoint.host, endpoint.port, timeout=PATIENCE) as client:
        client.start_up(user="app_trust", database=endpoint.dbname, **options)
        start = client.until_ready()
        if rawpg.kinds(start)[-1:] != "Z":
            raise Silent(f"no login: {start}")
        listener = Listener(client.socket)
        pending = b""
        try:
            for step in [*steps, Step("the end", END, False)]:
                pending += step.data
                if step.waits or step.data is END:
                    for chunk in case.chunks(pending):
                        client.send(chunk)
                    pending = b""
                    if step.waits:
                        listener.wait_until_quiet()
        except (BrokenPipeError, ConnectionResetError):
            pass  # a FATAL is in the transcript
        listener.join(PATIENCE)
        if listener.is_alive() or listener.silent:
            client.socket.shutdown(socket.SHUT_RDWR)
            raise Silent(f"no end after {rawpg.kinds(whole(listener.data))}")
    return [
        # A notification's process id is the session's own.
        (kind, payload[4:] if kind == b"A" else payload)
        for kind, payload in whole(bytes(listener.data))
    ]


def whole(stream):
    """The whole messages at the start of a stream."""
    end = 0
    while len(stream) - end >= 5:
        length = 1 + struct.unpack("!i", stream[end + 1 : end + 5])[0]
        if length > len(stream) - end:
            break
        end += length
    return rawpg.split(bytes(stream[:end]))


def shrink(steps, differs):
    """The fewest steps that still differ: parts are left out, halves first."""
    size = max(len(steps) // 2, 1)
    end = time.monotonic() + SHRINKING
    while True:
        at = 0
        while at < len(steps):
            if time.monotonic() > end:
                return steps
            fewer = steps[:at] + steps[at + size :]
            if fewer and differs(fewer):
                steps = fewer
            else:
                at += size
        if size == 1:
            return steps
        size //= 2
