"""What clients that are not at hand here really send, message by message: holo-client and the connectors
built on it, Npgsql, pgx, PDO, RPostgres, Superset, Alibaba's Python clients. Direct with the right setting, and
through Osprey with and without knowledge, each is told the same.

What PostgreSQL does not know of Hologres' syntax is blanked in front of it.
"""

import struct

import pytest

import harness
import rawpg
import vendor
from rawpg import SYNC, Client, bind, execute, message, parse, query

PLAIN = "SELECT id, team FROM people WHERE id <= 3 ORDER BY id"
ENCRYPTED = "SELECT id, name FROM salaries WHERE id <= 3 ORDER BY id"
FLUSH = message(b"H")
COPY_DONE = message(b"c")


def text_bind(portal, name, *values, binary=False):
    """Bind with parameters in text."""
    body = portal.encode() + b"\0" + name.encode() + b"\0" + struct.pack("!hh", 0, len(values))
    for value in values:
        body += struct.pack("!i", len(value)) + value.encode()
    return message(b"B", body + struct.pack("!hh", 1, int(binary)))


def typed_parse(name, statement, *types):
    body = name.encode() + b"\0" + statement.encode() + b"\0" + struct.pack("!h", len(types))
    return message(b"P", body + b"".join(struct.pack("!i", each) for each in types))


def describe(kind, name=""):
    return message(b"D", kind.encode() + name.encode() + b"\0")


def close(kind, name):
    return message(b"C", kind.encode() + name.encode() + b"\0")


def whole(statement, name="", portal=""):
    """Parse, Bind, Describe, Execute, Sync in one packet."""
    return parse(name, statement) + bind(portal, name) + describe("P", portal) + execute(portal) + SYNC


class Session:
    """A session that writes down every answer."""

    def __init__(self, client):
        self.client = client
        self.answers = []

    def ask(self, *data, cycles=1):
        """Sends in one write; reads that many ReadyForQuery."""
        self.client.send(b"".join(data))
        for _ in range(cycles):
            self.answers += self.client.until_ready()

    def ask_until(self, kind, *data):
        """Sends in one write; reads until a message of that kind."""
        self.client.send(b"".join(data))
        while not self.answers or self.answers[-1][0] != kind:
            self.answers.append(self.client.receive())

    def pid(self):
        return struct.unpack("!i", self.client.key[:4])[0]


FIXED_DISPATCHER = [
    "set hg_experimental_enable_fixed_dispatcher = on",
    "set hg_experimental_enable_fixed_dispatcher_for_multi_values = on",
    "set hg_experimental_enable_fixed_dispatcher_for_update = on",
    "set hg_experimental_enable_fixed_dispatcher_for_delete = on",
    "set hg_experimental_enable_fixed_dispatcher_for_scan = on",
    "set hg_experimental_enable_fixed_dispatcher_affected_rows = off",
]
PGJDBC = {"client_encoding": "UTF8", "DateStyle": "ISO", "TimeZone": "Asia/Shanghai"}


def holo_client_opens(session, application="1.4.3_holo-client"):
    """pgjdbc's first statement on a server before 12, then holo-client's own."""
    session.ask(query(f"SET extra_float_digits = 3;SET application_name = '{application}'"))
    for statement in FIXED_DISPATCHER:
        session.ask(whole(statement))
    session.ask(whole("select hg_version()"))
    # The number that holo-client logs, and that its users look for in the query log, is the server's own.
    session.client.send(query("select pg_backend_pid()"))
    rows = [payload for kind, payload in session.client.until_ready() if kind == b"D"]
    assert rows[0][6:] == str(session.pid()).encode()
    session.ask(
        query(
            "SELECT application_name, pid = pg_backend_pid() FROM pg_stat_activity"
            " WHERE pid = pg_backend_pid()"
        )
    )
    assert session.answers[-3][1][6:].startswith(application.encode()), session.answers[-3]


def holo_client_reads(session):
    """`client.sql(...)`: a check of a table, the catalogs, a read that becomes a named statement."""
    holo_client_opens(session)
    session.ask(whole("select hologres.hg_internal_check_table_meta('public.people')"))
    session.ask(
        whole(
            "SELECT c.relname FROM pg_catalog.pg_inherits i JOIN pg_catalog.pg_class c"
            " ON c.oid = i.inhrelid WHERE i.inhparent = 'public.payments'::regclass ORDER BY 1"
        )
    )
    session.ask(whole("SELECT property_value FROM hologres.hg_table_properties WHERE table_name = 'people'"))
    for statement in ["BEGIN", "set local timezone = 'UTC'", "SELECT EXTRACT(TIMEZONE FROM NOW())", "END"]:
        session.ask(whole(statement))
    for _ in range(5):
        session.ask(whole(ENCRYPTED))
    for turn in range(3):
        begun = parse("S_1", ENCRYPTED) if turn == 0 else b""
        session.ask(begun, bind("", "S_1"), describe("P"), execute(""), SYNC)
    session.ask(whole(PLAIN))


def holo_client_fetches(session):
    """Spark's and Flink's bulk reads: BEGIN in the cycle of the read, which comes by parts."""
    holo_client_opens(session, "hologres-connector-flink-bulkread")
    session.ask(whole("set statement_timeout = '8h'"))
    session.ask(whole("set idle_in_transaction_session_timeout = '1h'"))
    read = "SELECT id, name FROM salaries ORDER BY id LIMIT 600"
    begin = parse("", "BEGIN") + bind("", "") + execute("")
    session.ask(
        begin, parse("S_2", read), bind("C_3", "S_2"), describe("P", "C_3"), execute("C_3", 256), SYNC
    )
    session.ask(execute("C_3", 256), SYNC)
    session.ask(execute("C_3", 256), SYNC)
    session.ask(parse("S_4", "COMMIT"), bind("", "S_4"), execute("", 1), SYNC)


def holo_client_copies_out(session):
    holo_client_opens(session, "hologres-connector-spark-etl_copy")
    session.ask(query(f"copy ({ENCRYPTED}) to stdout with (format csv)"))
    session.ask(query("copy (select id, team from people where id < 3 order by id) to stdout with (format csv)"))


def holo_client_writes(session):
    """DDL in one string, unnest, COPY in binary with Hologres' own options, a read of what was written."""
    holo_client_opens(session, "datax")
    session.ask(
        query(
            "BEGIN;\nCREATE TABLE written_by_holo (id int primary key, note text);\n"
            "CALL set_table_property('written_by_holo', 'orientation', 'column');\nCOMMIT;"
        )
    )
    insert = (
        "insert into written_by_holo(id, note) select unnest($1),unnest($2)"
        " on conflict (id) do update set note = excluded.note"
    )
    for turn in range(2):
        begun = typed_parse("S_5", insert, 1007, 1009) if turn == 0 else b""
        session.ask(begun, text_bind("", "S_5", "{1,2,3}", "{a,b,c}"), describe("P"), execute("", 1), SYNC)
    row = struct.pack("!hii", 2, 4, 7) + struct.pack("!i", 5) + b"seven"
    data = b"PGCOPY\n\xff\r\n\0" + bytes(8) + row + b"\xff\xff"
    session.ask_until(
        b"G",
        query(
            "copy written_by_holo(id,note) from stdin with(stream_mode true, format binary, on_conflict ignore)"
        ),
    )
    session.ask(message(b"d", data), COPY_DONE)
    session.ask(query("SELECT id + 0 AS id, note || note AS note FROM written_by_holo ORDER BY 1"))
    session.ask(query("DROP TABLE written_by_holo"))
    session.ask(whole(ENCRYPTED))


def fixed_session(session):
    """Of `type=fixed`: prepared writes and point reads of ordinary tables."""
    session.ask(whole("select hg_version()"))
    insert = "insert into copied(id, name) values ($1, $2)"
    for turn in range(2):
        begun = typed_parse("0", insert, 23, 25) if turn == 0 else b""
        session.ask(begun, text_bind("", "0", str(turn), "fixed"), execute(""), SYNC)
    session.ask(typed_parse("1", "select id, name from copied where id = $1", 23), describe("S", "1"), SYNC)
    session.ask(text_bind("", "1", "1"), execute(""), SYNC)
    session.ask(query("delete from copied"))


def binlog(session):
    """What sets a replication slot up, on an ordinary connection."""
    session.ask(query("create extension if not exists hg_binlog"))
    session.ask(query("select * from pg_publication where pubname='p'"))
    session.ask(query("call hg_create_logical_replication_slot('s','hgoutput','p')"))


NPGSQL_RESET = (
    "SET SESSION AUTHORIZATION DEFAULT;RESET ALL;CLOSE ALL;UNLISTEN *;SELECT pg_advisory_unlock_all();"
    "DISCARD SEQUENCES;DISCARD TEMP"
)


def npgsql(session):
    """A pool's reset comes in the packet of its next user's first statement."""
    session.ask(whole("SELECT version() IS NOT NULL"))
    session.ask(whole("SELECT oid, typname FROM pg_type WHERE typname IN ('int4', 'text') ORDER BY oid"))
    session.ask(whole(ENCRYPTED))
    for _ in range(2):
        session.ask(query("DISCARD ALL"), whole(ENCRYPTED), cycles=2)
        session.ask(query("DISCARD ALL"), whole(PLAIN), cycles=2)
    session.ask(parse("_p1", ENCRYPTED), describe("S", "_p1"), SYNC)
    for _ in range(2):
        session.ask(query(NPGSQL_RESET), bind("", "_p1"), execute(""), SYNC, cycles=2)
    session.ask(close("S", "_p1"), SYNC)


def npgsql_batch(session):
    """A batch has one Sync, or, with error barriers, one for each command."""
    commands = [PLAIN, ENCRYPTED, "SELECT 1/0", ENCRYPTED]
    batch = [parse("", each) + bind("", "") + describe("P") + execute("") for each in commands]
    session.ask(query("DISCARD ALL"), *batch, SYNC, cycles=2)
    session.ask(b"".join(each + SYNC for each in batch), cycles=4)
    begin = parse("", "BEGIN") + bind("", "") + execute("")
    session.ask(begin, batch[1], SYNC)
    session.ask(query("ROLLBACK"))


def pgx_cache_statement(session):
    name = "stmtcache_7d3f1c4a9a5e"
    session.ask(parse(name, ENCRYPTED), describe("S", name), SYNC)
    for _ in range(7):
        session.ask(bind("", name), describe("P"), execute(""), SYNC)
    # After an error the statement is closed before the next query.
    session.ask(parse("stmtcache_1", "SELECT 1/0"), describe("S", "stmtcache_1"), SYNC)
    session.ask(bind("", "stmtcache_1"), describe("P"), execute(""), SYNC)
    session.ask(close("S", "stmtcache_1"), SYNC)
    session.ask(bind("", name), describe("P"), execute(""), SYNC)


def pgx_cache_describe(session):
    session.ask(parse("", ENCRYPTED), describe("S"), SYNC)
    for _ in range(3):
        session.ask(parse("", ENCRYPTED), bind("", ""), describe("P"), execute(""), SYNC)


def pgx_describe_exec(session):
    for _ in range(2):
        session.ask(parse("", ENCRYPTED), describe("S"), SYNC)
        session.ask(bind("", ""), describe("P"), execute(""), SYNC)


def pgx_exec(session):
    limited = "SELECT id, name FROM salaries WHERE id <= $1 ORDER BY id"
    for _ in range(3):
        session.ask(typed_parse("", limited, 23), text_bind("", "", "3"), describe("P"), execute(""), SYNC)


def pgx_simple_protocol(session):
    session.ask(query("SELECT id, name FROM salaries WHERE id <=  '3'  ORDER BY id"))


def pgx_batch(session):
    """SendBatch: the statements are described in a pipeline of their own, then run in one."""
    texts = [PLAIN, ENCRYPTED, "SELECT count(*) FROM salary_names"]
    session.ask(b"".join(parse(f"b{n}", text) + describe("S", f"b{n}") for n, text in enumerate(texts)), SYNC)
    session.ask(b"".join(bind("", f"b{n}") + describe("P") + execute("") for n in range(3)), SYNC)


def pdo(session):
    """PHP: prepared at the first execution, let go by a simple Query."""
    name = "pdo_stmt_00000001"
    session.ask(parse(name, ENCRYPTED), SYNC)
    for _ in range(2):
        session.ask(bind("", name), describe("P"), execute(""), SYNC)
    session.ask(query(f"DEALLOCATE {name}"))
    session.ask(parse(name, PLAIN), SYNC)
    session.ask(bind("", name), describe("P"), execute(""), SYNC)
    session.ask(query(f"DEALLOCATE {name}"))


def rpostgres(session):
    """R: three cycles on the unnamed statement."""
    for _ in range(2):
        session.ask(parse("", ENCRYPTED), SYNC)
        session.ask(describe("S"), SYNC)
        session.ask(bind("", ""), describe("P"), execute(""), SYNC)


def rails(session):
    session.ask(query("SET client_min_messages TO warning"))
    session.ask(query("SET standard_conforming_strings = on"))
    session.ask(query("SET intervalstyle = iso_8601"))
    session.ask(query("SET SESSION timezone TO 'UTC'"))
    session.ask(parse("a1", ENCRYPTED), describe("S", "a1"), SYNC)
    for _ in range(2):
        session.ask(bind("", "a1"), describe("P"), execute(""), SYNC)


def postgres_js(session):
    """Parse and Describe first, then in the same connection's pipeline all that waits."""
    session.ask(parse("p1", ENCRYPTED), describe("S", "p1"), SYNC)
    again = bind("", "p1") + execute("") + SYNC
    session.ask(again, again, parse("p2", PLAIN), describe("S", "p2"), SYNC, again, cycles=4)
    session.ask(query("begin "))
    session.ask(query("savepoint s0"))
    session.ask(again)
    session.ask(query("release savepoint s0"), query("commit"), cycles=2)


def superset(session):
    """psycopg2 under SQLAlchemy: each checkout in a transaction, a server-side cursor, ROLLBACK."""
    session.ask(query("BEGIN"))
    session.ask(query("show standard_conforming_strings"))
    session.ask(query("ROLLBACK"))
    session.ask(query("BEGIN"))
    session.ask(query(f"-- 6dcd92a04feb50f14bbcf07c661680ba\n{ENCRYPTED}\n LIMIT 1001"))
    session.ask(query("ROLLBACK"))
    session.ask(query("BEGIN"))
    session.ask(query(f'DECLARE "c_1" CURSOR WITHOUT HOLD FOR {ENCRYPTED}'))
    session.ask(query('FETCH FORWARD 2 FROM "c_1"'))
    session.ask(query('FETCH FORWARD 2 FROM "c_1"'))
    session.ask(query('CLOSE "c_1"'))
    session.ask(query("ROLLBACK"))


def dataframe(session):
    """hologres-dataframe: the path is set and reset around each query; serverless in a transaction."""
    for statement in [ENCRYPTED, f"SELECT * FROM ({ENCRYPTED}) __desc__ LIMIT 0"]:
        session.ask(query('SET search_path TO "public"'))
        session.ask(query(statement))
        session.ask(query("RESET search_path"))
    session.ask(query("BEGIN"))
    session.ask(query('SET LOCAL search_path TO "public"'))
    session.ask(query("SAVEPOINT s"))
    session.ask(query("SET LOCAL hg_computing_resource = 'serverless'"))
    session.ask(query("ROLLBACK TO s"))
    session.ask(query(f"SELECT COUNT(*) FROM ({ENCRYPTED}) __count__"))
    session.ask(query("COMMIT"))


def datus(session):
    for statement in [
        "SELECT 1",
        "BEGIN",
        'SET search_path TO "public"',
        "COMMIT",
        "BEGIN",
        'SELECT count(*) FROM "public"."salaries"',
        "ROLLBACK",
    ]:
        session.ask(query(statement))


def hologres_cli(session):
    session.ask(query("SET hg_computing_resource = 'serverless'"))
    session.ask(query("SET default_transaction_read_only = ON"))
    session.ask(query("SET hg_experimental_enable_adaptive_execution = on"))
    session.ask(query("SELECT id, name FROM salaries WHERE id <= 3 LIMIT 101"))
    session.ask(query("""COPY (SELECT * FROM "public"."salary_names") TO STDOUT WITH (FORMAT csv, HEADER)"""))
    session.ask(query("""SELECT hg_dump_script('"public"."people"')"""))
    session.ask(query("CREATE TABLE refused (id int)"))


# By name: the session, and how it starts.
SCRIPTS = {
    "holo-client reads": (holo_client_reads, PGJDBC),
    "holo-client fetches": (holo_client_fetches, PGJDBC),
    "holo-client copies out": (holo_client_copies_out, PGJDBC),
    "holo-client writes": (holo_client_writes, PGJDBC),
    "holo-client binlog": (binlog, PGJDBC),
    "Npgsql": (npgsql, {"client_encoding": "UTF8"}),
    "Npgsql batch": (npgsql_batch, {"client_encoding": "UTF8"}),
    "pgx cache_statement": (pgx_cache_statement, {}),
    "pgx cache_describe": (pgx_cache_describe, {}),
    "pgx describe_exec": (pgx_describe_exec, {}),
    "pgx exec": (pgx_exec, {}),
    "pgx simple_protocol": (pgx_simple_protocol, {}),
    "pgx batch": (pgx_batch, {}),
    "PDO": (pdo, {}),
    "RPostgres": (rpostgres, {}),
    "Rails": (rails, {"client_encoding": "unicode"}),
    "postgres.js": (postgres_js, {"client_encoding": "UTF8"}),
    "Superset": (superset, {}),
    "hologres-dataframe": (dataframe, {}),
    "datus": (datus, {}),
    "hologres-cli": (hologres_cli, {"application_name": "hologres-cli"}),
}


@pytest.fixture(scope="module")
def database(cluster):
    return vendor.create_database(cluster, "scripted")


@pytest.fixture(scope="module")
def relay(cluster):
    with vendor.Blanking(cluster.port) as running:
        yield running


@pytest.fixture(scope="module")
def known(relay, database):
    with harness.Osprey.in_front_of(relay) as osprey:
        osprey.wait_until_known(database)
        yield osprey


@pytest.fixture(scope="module")
def forgetful(relay, tmp_path_factory):
    """Whatever reads encrypted data meets HQE's error first."""
    config = tmp_path_factory.mktemp("forgetful") / "osprey.toml"
    config.write_text(harness.FORGETS + "[catalog]\nborrow = false\n")
    with harness.Osprey(relay.port, config=config) as osprey:
        yield osprey


def run(endpoint, script, parameters):
    """All that the session is told, from its start."""
    client = Client(endpoint.host, endpoint.port)
    with client:
        client.start_up(user="app_trust", database=endpoint.dbname, **parameters)
        start = client.until_ready()
        client.key = next(payload for kind, payload in start if kind == b"K")
        session = Session(client)
        script(session)
    return [each for each in start if each[0] != b"K"] + session.answers


def direct_and_through(relay, osprey, database, name):
    script, parameters = SCRIPTS[name]
    direct = harness.Endpoint("127.0.0.1", relay.port, database, "direct")
    right = {**parameters, "options": f"-c {harness.ORC}=off"}
    expected = run(direct, script, right)
    assert not any(harness.PANGU.encode() in payload for kind, payload in expected if kind == b"E")
    return expected, run(osprey.endpoint(database), script, parameters)


@pytest.mark.parametrize("name", SCRIPTS)
def test_known(relay, known, database, name):
    expected, told = direct_and_through(relay, known, database, name)
    assert told == expected


@pytest.mark.parametrize("name", SCRIPTS)
def test_unknowing(relay, forgetful, database, name):
    expected, told = direct_and_through(relay, forgetful, database, name)
    assert told == expected


def test_fixed(relay, known, database, cluster):
    """A session of Hologres' fixed front end is relayed as it is."""
    parameters = {**PGJDBC, "options": "type=fixed "}
    direct = harness.Endpoint("127.0.0.1", relay.port, database, "direct")
    cluster.reset_counters(database)
    assert run(known.endpoint(database), fixed_session, parameters) == run(direct, fixed_session, parameters)
    assert cluster.setting_changes(database) == 0


def test_fixed_is_refused(cluster, database):
    """By a server that knows no such front end: holo-client looks for its words."""
    told = []
    with harness.Osprey.in_front_of(cluster) as osprey:
        for endpoint in (cluster.endpoint(database), osprey.endpoint(database)):
            with Client(endpoint.host, endpoint.port) as client:
                client.start_up(user="app_trust", database=database, options="type=fixed ")
                told.append(client.until_closed())
    assert told[0] == told[1]
    assert b"invalid command-line argument for server process: type=fixed" in told[0][-1][1]
