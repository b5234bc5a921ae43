"""Two parameters of a session say how the server reads its texts: `client_encoding`, where the second
byte of a character may be a backslash or a letter, and `standard_conforming_strings`. Neither hides an
encrypted table from Osprey."""

import psycopg
import pytest

import conftest
import harness
import rawpg
import tasks

# By encoding: how Python calls it; a character whose second byte is a backslash, if it has one, and
# one whose second byte is an upper-case letter.
ENCODINGS = {
    "GBK": ("gbk", b"\xd5\x5c", b"\x81\x41"),
    "GB18030": ("gb18030", b"\xd5\x5c", b"\x81\x41"),
    "BIG5": ("big5", b"\xa5\x5c", b"\xa4\x41"),
    "SJIS": ("cp932", b"\x95\x5c", b"\x83\x41"),
    "UHC": ("cp949", None, b"\x81\x41"),
    "EUC_JP": ("euc_jp", None, "表".encode("euc_jp")),
    "EUC_CN": ("gb2312", None, "单".encode("gb2312")),
    "UTF8": ("utf8", None, "表".encode()),
}
ROWS = 1000


def names(encoding):
    """The characters of an encoding that tables are named for."""
    codec, *characters = ENCODINGS[encoding]
    return [character.decode(codec) for character in characters if character is not None]


@pytest.fixture
def database(cluster):
    """A database in which encrypted tables have such names."""
    name = cluster.create_database(f"lexing_{next(conftest._numbers)}")
    tables = sorted({table for encoding in ENCODINGS for table in names(encoding)})
    cluster.query(
        name,
        "".join(
            f'CREATE FOREIGN TABLE "{table}" (id int, name text) SERVER odps_server'
            f" OPTIONS (project_name 'finance_byok', table_name 'salaries');"
            f'GRANT SELECT ON "{table}" TO PUBLIC;'
            for table in tables
        ),
    )
    yield name
    cluster.drop_database(name)


@pytest.fixture
def borrowing(cluster, tmp_path):
    """An Osprey without any configuration but its upstream."""
    conftest.need_osprey()
    with harness.Osprey(cluster.port) as osprey:
        yield osprey


@pytest.fixture(params=["direct", "known", "unknowing", "borrowing"])
def reader(request, cluster, database):
    """Where the client connects. Through Osprey its first read of an encrypted table succeeds."""
    if request.param == "direct":
        return cluster.endpoint(database)
    if request.param != "known":
        return request.getfixturevalue(request.param).endpoint(database)
    osprey = request.getfixturevalue("osprey")
    osprey.wait_until_known(database)
    return osprey.endpoint(database)


def simple(connection, statement):
    return psycopg.ClientCursor(connection).execute(statement).fetchone()


def extended(connection, statement):
    return connection.execute(f"{statement} AND id > %s", [0]).fetchone()


def prepared(connection, statement):
    for _ in range(3):
        row = connection.execute(statement, prepare=True).fetchone()
    return row


def server_side_cursor(connection, statement):
    with connection.transaction(), connection.cursor("named") as cursor:
        return cursor.execute(statement).fetchone()


WAYS = [simple, extended, prepared, server_side_cursor]


def reads(reader, connection, way, statement):
    """The statement counts all rows; direct, it meets HQE's error."""
    if reader.direct:
        with pytest.raises(psycopg.errors.InternalError_) as caught:
            way(connection, statement)
        assert tasks.is_pangu(str(caught.value))
    else:
        assert ROWS in way(connection, statement)


def statements(encoding):
    for character in names(encoding):
        yield f"SELECT count(*) FROM {character} WHERE name <> 'x'"
        yield f"SELECT count(*) FROM {character} WHERE name <> '{character}' OR name = 'name'"
        yield f"SELECT count(*), '{character}' AS \"{character}\" FROM salaries WHERE name <> 'it'"
        yield f"SELECT count(*), E'{character}' FROM salaries WHERE name <> 'it'"


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_encodings_at_login(reader, encoding, way):
    for statement in statements(encoding):
        with reader.connect(client_encoding=encoding) as connection:
            reads(reader, connection, way, statement)


@pytest.mark.parametrize("encoding", ["GBK", "SJIS"])
def test_encodings_by_set(reader, encoding):
    for statement in statements(encoding):
        with reader.connect() as connection:
            connection.execute(f"SET client_encoding = '{encoding}'")
            reads(reader, connection, simple, statement)
            connection.execute("RESET client_encoding")
            reads(reader, connection, simple, statement)
            connection.execute("BEGIN")
            connection.execute(f"SET LOCAL client_encoding = {encoding}")
            connection.execute("ROLLBACK")
            reads(reader, connection, simple, statement)


# With the parameter on, the first two end within no string, and the table stands in one.
QUOTES = [
    r"SELECT '\'', count(*) FROM salaries WHERE name <> '\''",
    r"SELECT '\'\'', count(*) FROM salaries WHERE name <> 'it\'s' AND name <> '\''",
    r"SELECT 'it\\\'', count(*) FROM salaries WHERE name <> E'\'' AND name <> '\''",
]


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_backslashes_in_strings(reader, way):
    for statement in QUOTES:
        with reader.connect(options="-c standard_conforming_strings=off") as connection:
            reads(reader, connection, way, statement)
        with reader.connect() as connection:
            connection.execute("SET standard_conforming_strings TO off")
            reads(reader, connection, way, statement)
            connection.execute("DISCARD ALL")
            reads(reader, connection, way, r"SELECT '\', count(*) FROM salaries WHERE name <> '\'")


def by_query(text):
    return rawpg.query(text)


def by_messages(text):
    parts = [rawpg.parse("", text), rawpg.bind("", ""), rawpg.execute(""), rawpg.SYNC]
    return b"".join(parts)


def by_messages_without_sync(text):
    return by_messages(text)[: -len(rawpg.SYNC)]


@pytest.mark.parametrize("send", [by_query, by_messages, by_messages_without_sync], ids=lambda it: it.__name__)
def test_what_is_in_flight(reader, send):
    """The parameter is not answered yet when what it matters for is sent."""
    cases = [
        ("SET standard_conforming_strings = off", QUOTES[0]),
        ("SELECT set_config('standard_conforming_strings', 'off', false)", QUOTES[2]),
        ("SET client_encoding = gbk", "SELECT count(*), E'誠' FROM salaries WHERE name <> 'it'"),
        ("SET NAMES 'GBK'", "SELECT count(*), E'誠' FROM salaries WHERE name <> 'it'"),
    ]
    for setting, statement in cases:
        # In one cycle with what calls set_config(), nothing is run again.
        if "set_config" in setting and send is by_messages_without_sync:
            continue
        with rawpg.Client(reader.host, reader.port) as client:
            client.start_up(user="app_trust", database=reader.dbname)
            client.until_ready()
            texts = ["SELECT 1", setting, statement.encode("gbk")]
            client.send(b"".join(send(text) for text in texts) + rawpg.SYNC)
            ready = {by_query: 4, by_messages: 4, by_messages_without_sync: 1}[send]
            answers = []
            for _ in range(ready):
                answers += client.until_ready()
            rows = [payload for kind, payload in answers if kind == b"D"]
            if reader.direct:
                assert any(kind == b"E" for kind, _ in answers)
            else:
                assert b"1000" in rows[-1], (setting, answers)
