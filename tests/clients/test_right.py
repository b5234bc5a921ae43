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


def answer_to(client, text, extended):
    if extended:
        client.send(parse("", text) + bind("", "") + execute("") + SYNC)
    else:
        client.send(query(text))
    return client.until_ready()


def rows(client, text, extended):
    """How many rows the answer to one text has; an error fails the test."""
    answer = answer_to(client, text, extended)
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
    config.write_text(harness.FORGETS)
    with harness.Osprey(cluster.port, config=config) as osprey:
        yield osprey


def test_functions_that_only_read(read_and_forgetful, cluster, database):
    with cluster.admin(database) as connection:
        connection.execute(FUNCTIONS)
    endpoint = read_and_forgetful.endpoint(database)
    harness.wait_for(lambda: knows_functions(read_and_forgetful, endpoint), "the catalogs to be read")
    # Before anything can have been learned, however shortly that lasts.
    with Client.logged_in(endpoint) as client:
        answer = answer_to(client, "SELECT count_and_write()", False)
        assert [kind for kind, _ in answer].count(b"E") == 1, answer
    for call in ["SELECT count_sql()", "SELECT * FROM count_plpgsql()"]:
        with Client.logged_in(endpoint) as client:
            assert rows(client, call, False) == 1
            assert rows(client, call, True) == 1


def knows_functions(osprey, endpoint):
    with Client.logged_in(endpoint):
        return osprey.metric("osprey_catalog_refreshes_total") > 0


@pytest.mark.parametrize("extended", [False, True], ids=["simple", "extended"])
def test_what_was_made_elsewhere(osprey, cluster, extended):
    """Since the catalogs were read: the error says so, and the next run gives rows."""
    name = cluster.create_database(f"elsewhere_{extended}")
    osprey.wait_until_known(name)
    with Client.logged_in(osprey.endpoint(name)) as client:
        cluster.query(
            name,
            "CREATE FOREIGN TABLE made_elsewhere (id int) SERVER odps_server"
            " OPTIONS (project_name 'finance_byok', table_name 'salaries');"
            "GRANT SELECT ON made_elsewhere TO PUBLIC",
        )
        read = "SELECT count(*) FROM made_elsewhere"
        answer = answer_to(client, read, extended)
        details = [error_fields(payload)["D"] for kind, payload in answer if kind == b"E"]
        assert len(details) == 1 and "was not known to read MaxCompute data" in details[0], answer
        assert rows(client, read, extended) == 1


def test_what_another_session_has_just_made(osprey, database):
    """As dbt does: a view is made, renamed over another, and read by another session at once."""
    osprey.wait_until_known(database)
    endpoint = osprey.endpoint(database, user="app_trust")
    with endpoint.connect() as maker, endpoint.connect() as reader:
        for turn in range(3):
            maker.execute("CREATE VIEW public.model_tmp AS SELECT id FROM salaries WHERE id <= 7")
            maker.execute(f"ALTER VIEW public.model_tmp RENAME TO model_{turn}")
            reader.execute(f"CREATE TABLE built_{turn} AS SELECT * FROM public.model_{turn}")
            assert reader.execute(f"SELECT count(*) FROM built_{turn}").fetchone() == (7,)
