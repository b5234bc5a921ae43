"""With nothing known, whatever only reads gives rows at its first run, by whichever way it reads."""

import pytest

import harness
from rawpg import SYNC, Client, bind, error_fields, execute, parse, query

COUNT = "SELECT count(*) FROM salaries"
# What a client sends, each text as a cycle of its own, and how many rows the last one has.
READS = {
    "prepare": (["PREPARE p AS " + COUNT, "EXECUTE p", "EXECUTE p"], 1),
    "prepare and execute at once": (["PREPARE p AS " + COUNT + "; EXECUTE p"], 1),
    "prepare within a transaction": (["BEGIN", "PREPARE p AS " + COUNT, "EXECUTE p"], 1),
    "execute within a transaction": (["PREPARE p AS " + COUNT, "BEGIN", "EXECUTE p"], 1),
    "with a parameter": (
        ["PREPARE p (int) AS SELECT id FROM salaries WHERE id <= $1", "EXECUTE p (4)"],
        4,
    ),
    "execute plain in front": (
        ["PREPARE q AS SELECT 1", "BEGIN", "EXECUTE q", COUNT],
        1,
    ),
    "explain analyze execute": (
        ["PREPARE p AS SELECT 1 FROM salaries WHERE id = 1", "EXPLAIN (ANALYZE, COSTS off) EXECUTE p"],
        None,
    ),
    "copy with a header": (["COPY (SELECT id FROM salaries WHERE id < 3) TO STDOUT WITH (FORMAT csv, HEADER)"], 3),
    "fetch first": (["SELECT id FROM salaries ORDER BY id FETCH FIRST (SELECT 2) ROWS ONLY"], 2),
    "a temporary view": (["CREATE TEMP VIEW v AS " + COUNT, "SELECT * FROM v"], 1),
    "a temporary view at once": (["CREATE TEMP VIEW v AS " + COUNT + "; SELECT * FROM v"], 1),
    "set_config at once": (["SELECT set_config('search_path', 'public', false); " + COUNT], 2),
    "set_config": (["SELECT set_config('search_path', 'public', false)", COUNT], 1),
    "set_config in a transaction": (
        ["BEGIN", "SELECT set_config('search_path', 'public', false)", COUNT],
        1,
    ),
}


@pytest.fixture(scope="module")
def database(cluster):
    return cluster.create_database("right")


def rows(client, text, extended):
    """How many rows the answer to one text has; an error fails the test."""
    if extended:
        client.send(parse("", text) + bind("", "") + execute("") + SYNC)
    else:
        client.send(query(text))
    answer = client.until_ready()
    errors = [error_fields(payload) for kind, payload in answer if kind == b"E"]
    assert not errors, (text, errors)
    return sum(kind in (b"D", b"d") for kind, _ in answer)


@pytest.mark.parametrize("extended", [False, True], ids=["simple", "extended"])
@pytest.mark.parametrize("name", READS)
def test_reads(unknowing, database, name, extended):
    texts, expected = READS[name]
    with Client.logged_in(unknowing.endpoint(database)) as client:
        counts = [rows(client, text, extended and ";" not in text) for text in texts]
    assert expected is None or counts[-1] == expected


FUNCTIONS = """
    CREATE FUNCTION count_sql() RETURNS bigint LANGUAGE sql STABLE AS 'SELECT count(*) FROM salaries';
    CREATE FUNCTION count_plpgsql() RETURNS bigint LANGUAGE plpgsql STABLE
        AS 'BEGIN RETURN (SELECT count(*) FROM salaries); END';
    CREATE FUNCTION count_and_write() RETURNS bigint LANGUAGE plpgsql
        AS 'BEGIN INSERT INTO notes (note) VALUES (''x''); RETURN (SELECT count(*) FROM salaries); END';
"""


@pytest.fixture
def read_and_forgetful(cluster, tmp_path):
    """An Osprey whose sessions read the catalogs, and that knows of no project whether it is encrypted."""
    config = tmp_path / "osprey.toml"
    config.write_text('[keys]\nttl = "1ms"\nnegative_ttl = "1ms"\n')
    with harness.Osprey(cluster.port, config=config) as osprey:
        yield osprey


def test_functions_that_only_read(read_and_forgetful, cluster, database):
    with cluster.admin(database) as connection:
        connection.execute(FUNCTIONS)
    endpoint = read_and_forgetful.endpoint(database)
    harness.wait_for(lambda: knows_functions(read_and_forgetful, endpoint), "the catalogs to be read")
    for call in ["SELECT count_sql()", "SELECT * FROM count_plpgsql()"]:
        with Client.logged_in(endpoint) as client:
            assert rows(client, call, False) == 1
            assert rows(client, call, True) == 1
    with Client.logged_in(endpoint) as client:
        client.send(query("SELECT count_and_write()"))
        answer = client.until_ready()
        assert [kind for kind, _ in answer].count(b"E") == 1, answer


def knows_functions(osprey, endpoint):
    with Client.logged_in(endpoint):
        return osprey.metric("osprey_catalog_refreshes_total") > 0


@pytest.mark.parametrize("extended", [False, True], ids=["simple", "extended"])
def test_what_was_made_elsewhere(osprey, cluster, database, extended):
    """Since the catalogs were read: the error says so, and the next run gives rows."""
    osprey.wait_until_known(database)
    table = f"made_elsewhere_{extended}"
    with Client.logged_in(osprey.endpoint(database)) as client:
        cluster.query(
            database,
            f"CREATE FOREIGN TABLE {table} (id int) SERVER odps_server"
            " OPTIONS (project_name 'finance_byok', table_name 'salaries');"
            f"GRANT SELECT ON {table} TO PUBLIC",
        )
        read = f"SELECT count(*) FROM {table}"
        with pytest.raises(AssertionError, match="was not known to read MaxCompute data"):
            rows(client, read, extended)
        assert rows(client, read, extended) == 1
