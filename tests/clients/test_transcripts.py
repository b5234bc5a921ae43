"""Sequences of frontend messages whose answers must be, message for message, those of a direct
connection that has had the right setting from the start.

Each is sent in three ways: in one write, one message at a time with pauses, and byte by byte.
"""

import time

import pytest

import harness
import rawpg
from rawpg import SYNC, bind, execute, message, parse, query

PLAIN = "SELECT id, team FROM people WHERE id <= 8 ORDER BY id"
ENCRYPTED = "SELECT id, name FROM salaries WHERE id <= 8 ORDER BY id"
VIEW = "SELECT count(*) FROM salary_names"
FAILS = "SELECT 1 / 0"
FLUSH = message(b"H")


def describe(kind, name):
    return message(b"D", kind + name.encode() + b"\0")


def close(kind, name):
    return message(b"C", kind + name.encode() + b"\0")


def run(statement, name="", portal="", rows=0):
    """Parse, Bind, Describe, Execute; without Sync."""
    return [parse(name, statement), bind(portal, name), describe(b"P", portal), execute(portal, rows)]


def copy_data(text):
    return message(b"d", text.encode())


COPY_DONE = message(b"c")
COPY_FAIL = message(b"f", b"the client gives up\0")
# pg_catalog.int4pl(2, 40), results and arguments in text
CALL = message(
    b"F",
    (177).to_bytes(4, "big") + b"\0\1\0\0\0\2\0\0\0\1" + b"2" + b"\0\0\0\2" + b"40" + b"\0\0",
)

SEQUENCES = {
    # The simple protocol.
    "simple": [query(ENCRYPTED)],
    "simple-by-turns": [query(PLAIN), query(ENCRYPTED), query(PLAIN), query(VIEW)],
    "simple-multi": [query(f"SELECT 1; {ENCRYPTED}; SELECT 2"), query(PLAIN)],
    "simple-multi-fails": [query(f"{ENCRYPTED}; {FAILS}; {PLAIN}"), query(ENCRYPTED)],
    "simple-empty": [query(""), query(";"), query("-- salaries"), query(ENCRYPTED)],
    "simple-error-first": [query(FAILS), query(ENCRYPTED), query("SELECT x FROM salaries")],
    "simple-write": [query("INSERT INTO copied SELECT id, name, amount FROM salaries WHERE id < 4")],
    "function-call": [CALL, query(ENCRYPTED), CALL],
    # Transactions.
    "transaction": [query("BEGIN"), query(PLAIN), query(ENCRYPTED), query("COMMIT")],
    "rolled-back": [query("BEGIN"), query(ENCRYPTED), query("ROLLBACK"), query(ENCRYPTED)],
    "failed-transaction": [
        query("BEGIN"),
        query(FAILS),
        query(ENCRYPTED),
        query("COMMIT"),
        query(ENCRYPTED),
    ],
    "savepoint": [
        query("BEGIN"),
        query("SAVEPOINT s"),
        query(ENCRYPTED),
        query("ROLLBACK TO s"),
        query(VIEW),
        query("RELEASE s"),
        query("END"),
        query(VIEW),
    ],
    "savepoint-after-error": [
        query("BEGIN"),
        query("SAVEPOINT s"),
        query(FAILS),
        query(ENCRYPTED),
        query("ROLLBACK TO s"),
        query(ENCRYPTED),
        query("COMMIT"),
    ],
    "begin-in-one-query": [query(f"BEGIN; {ENCRYPTED}"), query(VIEW), query("ROLLBACK"), query(VIEW)],
    # The extended protocol.
    "extended": [*run(ENCRYPTED), SYNC],
    "extended-by-turns": [*run(PLAIN), SYNC, *run(ENCRYPTED), SYNC, *run(PLAIN), SYNC],
    "two-in-a-cycle": [*run(PLAIN), *run(ENCRYPTED), *run(PLAIN), SYNC],
    "begin-and-read": [*run("BEGIN"), *run(ENCRYPTED), SYNC, *run("COMMIT"), SYNC],
    "begin-and-read-by-parts": [
        *run("BEGIN"),
        *run(ENCRYPTED, "s", "p", 3),
        SYNC,
        execute("p", 3),
        SYNC,
        execute("p", 0),
        SYNC,
        *run("ROLLBACK"),
        SYNC,
        *run(ENCRYPTED),
        SYNC,
    ],
    "named-statement": [
        parse("s", ENCRYPTED),
        describe(b"S", "s"),
        SYNC,
        bind("", "s"),
        execute(""),
        SYNC,
        query(PLAIN),
        bind("", "s"),
        execute(""),
        SYNC,
        close(b"S", "s"),
        SYNC,
        bind("", "s"),
        SYNC,
    ],
    "name-is-parsed-anew": [
        parse("s", PLAIN),
        SYNC,
        parse("s", ENCRYPTED),
        SYNC,
        bind("", "s"),
        execute(""),
        SYNC,
        close(b"S", "s"),
        parse("s", ENCRYPTED),
        bind("", "s"),
        execute(""),
        SYNC,
    ],
    "unnamed-statement-survives": [
        parse("", PLAIN),
        SYNC,
        parse("s", ENCRYPTED),
        bind("p", "s"),
        execute("p"),
        SYNC,
        bind("", ""),
        execute(""),
        SYNC,
    ],
    "simple-query-destroys-the-unnamed-statement": [
        parse("", ENCRYPTED),
        SYNC,
        query(PLAIN),
        bind("", ""),
        execute(""),
        SYNC,
    ],
    "suspended-portal-survives": [
        query("BEGIN"),
        *run(PLAIN, "a", "pa", 3),
        SYNC,
        *run(ENCRYPTED),
        SYNC,
        execute("pa", 0),
        SYNC,
        query("COMMIT"),
    ],
    "flush": [*run(PLAIN), FLUSH, *run(ENCRYPTED), FLUSH, SYNC],
    "flush-before-execute": [parse("", ENCRYPTED), FLUSH, bind("", ""), FLUSH, execute(""), SYNC],
    "error-skips-to-sync": [*run(FAILS), *run(ENCRYPTED), *run(PLAIN), SYNC, *run(ENCRYPTED), SYNC],
    "error-skips-a-query": [*run(FAILS), query(ENCRYPTED), query(PLAIN), SYNC, query(ENCRYPTED)],
    "error-in-parse": [parse("", "SELEC"), *run(ENCRYPTED), SYNC, *run(ENCRYPTED), SYNC],
    "error-in-bind": [bind("", "none"), *run(ENCRYPTED), SYNC, *run(VIEW), SYNC],
    "error-in-execute": [execute("none"), *run(ENCRYPTED), SYNC, *run(VIEW), SYNC],
    "query-within-a-cycle": [parse("", PLAIN), query(ENCRYPTED), SYNC],
    "syncs-alone": [SYNC, SYNC, *run(ENCRYPTED), SYNC, SYNC],
    "describe-only": [parse("s", ENCRYPTED), describe(b"S", "s"), SYNC, close(b"S", "s"), SYNC],
    "empty-statement": [*run(""), SYNC, *run(ENCRYPTED), SYNC],
    "failed-block-extended": [
        *run("BEGIN"),
        SYNC,
        *run(FAILS),
        SYNC,
        *run(ENCRYPTED),
        SYNC,
        *run("COMMIT"),
        SYNC,
        *run(ENCRYPTED),
        SYNC,
    ],
    "vacuum-behind": [*run(ENCRYPTED), SYNC, query("VACUUM people"), *run("VACUUM people"), SYNC],
    # COPY.
    "copy-in": [
        query("COPY copied (id, name) FROM STDIN"),
        copy_data("1\tone\n2\t"),
        copy_data("two\n"),
        COPY_DONE,
        query("SELECT count(*) FROM copied"),
        query(ENCRYPTED),
    ],
    "copy-in-fails": [
        query("COPY copied (id) FROM STDIN"),
        copy_data("x\n"),
        COPY_DONE,
        query(ENCRYPTED),
    ],
    "copy-in-is-given-up": [
        query("COPY copied (id) FROM STDIN"),
        copy_data("1\n"),
        COPY_FAIL,
        query(ENCRYPTED),
    ],
    "copy-in-extended": [
        *run("COPY copied (id) FROM STDIN")[:2],
        execute(""),
        copy_data("1\n"),
        SYNC,
        COPY_DONE,
        SYNC,
        *run(ENCRYPTED),
        SYNC,
    ],
    "copy-out": [query(f"COPY ({ENCRYPTED}) TO STDOUT"), query(PLAIN)],
    "copy-out-extended": [parse("", f"COPY ({VIEW}) TO STDOUT"), bind("", ""), execute(""), SYNC],
    # SQL's own statements and cursors.
    "prepare": [
        query(f"PREPARE p AS {ENCRYPTED}"),
        query("EXECUTE p"),
        query("DEALLOCATE p"),
        query("EXECUTE p"),
    ],
    "cursor": [
        query("BEGIN"),
        query(f"DECLARE c CURSOR FOR {ENCRYPTED}"),
        query("FETCH 3 FROM c"),
        query("FETCH ALL FROM c"),
        query("COMMIT"),
    ],
    # What takes the route away.
    "discard": [query(ENCRYPTED), query("DISCARD ALL"), query(PLAIN)],
    "notices": [
        query("DO $$ BEGIN RAISE NOTICE 'one'; END $$"),
        query("SET application_name = 'x'"),
        query(ENCRYPTED),
        query("LISTEN c; NOTIFY c, 'p'"),
        query(ENCRYPTED),
    ],
}

WAYS = ["together", "apart", "bytewise"]


def transcript(endpoint, messages, way, options):
    """Everything the server says to these messages, up to the end of the connection."""
    with rawpg.Client(endpoint.host, endpoint.port) as client:
        client.start_up(user="app_trust", database=endpoint.dbname, **options)
        start = client.until_ready()
        assert rawpg.kinds(start)[-1] == "Z", start
        messages = [*messages, rawpg.TERMINATE]
        if way == "together":
            client.send(b"".join(messages))
        elif way == "apart":
            for each in messages:
                client.send(each)
                time.sleep(0.01)
        else:
            for byte in b"".join(messages):
                client.send(bytes([byte]))
        answer = client.until_closed()
    # BackendKeyData and a notification's process id are the session's own.
    start = [each for each in start if each[0] != b"K"]
    answer = [(kind, b"" if kind == b"A" else payload) for kind, payload in answer]
    return start, answer


@pytest.fixture(scope="module")
def shared(cluster):
    """One database for all of them; the one table that they write is emptied before each."""
    return cluster.create_database("transcripts")


@pytest.fixture
def database(cluster, shared):
    cluster.query(shared, "TRUNCATE copied")
    return shared


@pytest.fixture(scope="module")
def known(osprey, shared):
    osprey.wait_until_known(shared)
    return osprey


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", SEQUENCES)
def test_transcript(cluster, database, known, name, way):
    messages = SEQUENCES[name]
    right = {"options": f"-c {harness.ORC}=off"}
    direct = transcript(cluster.endpoint(database), messages, way, right)
    cluster.query(database, "TRUNCATE copied")
    through = transcript(known.endpoint(database), messages, way, {})
    assert through == direct


@pytest.mark.parametrize("name", SEQUENCES)
def test_sequence_means_what_it_says(cluster, database, name):
    """Direct and with the right setting, no sequence meets HQE's error, and each is answered."""
    right = {"options": f"-c {harness.ORC}=off"}
    _, answer = transcript(cluster.endpoint(database), SEQUENCES[name], "together", right)
    assert "Z" in rawpg.kinds(answer)
    errors = [payload.decode() for kind, payload in answer if kind == b"E"]
    assert not any(harness.PANGU in error for error in errors)
