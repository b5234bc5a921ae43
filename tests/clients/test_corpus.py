"""A corpus of sessions: reads (by the table's name and the read's form) in each context in which they may
stand (paths, temporary relations, roles, transactions, cursors, encodings). Who says what is encrypted is the
stand-in itself: direct, with HQE, a session that reads encrypted data meets the pangu error.

Each session runs through Osprey in both protocols, where the catalogs are read with an account and where they are
read in a session's own name: none that reads encrypted data may fail, and none of the others may be switched. With
nothing known each gives its rows at its first run."""

import concurrent.futures

import pytest

import conftest
import harness
import rawpg

WORKERS = 4

SETUP = """
CREATE SCHEMA lake; CREATE SCHEMA desk;
CREATE FOREIGN TABLE lake.trade (id int, name text) SERVER odps_server
    OPTIONS (project_name 'finance_byok', table_name 'salaries');
CREATE FOREIGN TABLE lake.open (id int, label text) SERVER odps_server
    OPTIONS (project_name 'open_project', table_name 'items');
CREATE FOREIGN TABLE lake."订单" (id int, name text) SERVER odps_server
    OPTIONS (project_name 'finance_byok', table_name 'salaries');
CREATE TABLE desk.trade AS SELECT g AS id, 'name ' || g AS name FROM generate_series(1, 3) g;
CREATE TABLE desk."订单" (id int, name text);
CREATE VIEW lake.over AS SELECT id, name FROM lake.trade WHERE id < 6;
CREATE VIEW lake.over_over AS SELECT id FROM lake.over;
CREATE VIEW desk.over AS SELECT id, name FROM desk.trade;
CREATE FUNCTION lake.total() RETURNS bigint LANGUAGE sql AS 'SELECT count(*) FROM lake.trade';
CREATE FUNCTION desk.total() RETURNS bigint LANGUAGE sql AS 'SELECT count(*) FROM desk.trade';
CREATE FUNCTION desk.title(text) RETURNS text LANGUAGE plpgsql AS 'BEGIN RETURN upper($1); END';
-- Not for everyone: to others these are not on the search path.
CREATE SCHEMA vault; CREATE SCHEMA attic;
CREATE FOREIGN TABLE vault.trade (id int, name text) SERVER odps_server
    OPTIONS (project_name 'finance_byok', table_name 'salaries');
CREATE VIEW vault.over AS SELECT id, name FROM lake.trade WHERE id < 6;
CREATE TABLE attic.trade AS SELECT * FROM desk.trade;
CREATE VIEW attic.over AS SELECT id, name FROM desk.trade;
GRANT USAGE, CREATE ON SCHEMA lake, desk TO PUBLIC; GRANT SELECT ON ALL TABLES IN SCHEMA lake, desk TO PUBLIC;
"""

# What stands around a read: statements before it, and behind it.
CONTEXTS = {
    "as at login": ([], []),
    "path there": (["SET search_path = lake"], []),
    "path elsewhere": (["SET search_path = desk, lake"], []),
    "path there first": (["SET search_path TO lake, desk"], []),
    "path over a closed schema": (["SET search_path = vault, desk"], []),
    "path there over a closed schema": (["SET search_path = attic, lake"], []),
    "path reset": (["SET search_path = lake", "RESET search_path"], []),
    "path by function": (["SELECT set_config('search_path', 'lake', false)"], []),
    "local path": (["BEGIN", "SET LOCAL search_path = lake"], ["COMMIT"]),
    "local path over": (["BEGIN", "SET LOCAL search_path = lake", "COMMIT"], []),
    "path rolled back": (["SET search_path = desk", "BEGIN", "SET search_path = lake", "ROLLBACK"], []),
    "path to savepoint": (
        ["BEGIN", "SET search_path = lake", "SAVEPOINT s", "SET search_path = desk", "ROLLBACK TO s"],
        ["COMMIT"],
    ),
    "all reset": (["SET search_path = lake", "RESET ALL"], []),
    "all discarded": (["SET search_path = lake", "DISCARD ALL"], []),
    "temporary table": (["SET search_path = lake", "CREATE TEMP TABLE trade (id int, name text)"], []),
    "temporary table gone": (
        ["SET search_path = lake", "CREATE TEMP TABLE trade (id int)", "DROP TABLE trade"],
        [],
    ),
    "temporary table of another name": (
        ["SET search_path = lake", "CREATE TEMP TABLE stage AS SELECT 1 AS id"],
        [],
    ),
    "temporary view": (["CREATE TEMP VIEW trade AS SELECT id, 'n' AS name FROM desk.trade"], []),
    "within a transaction": (["SET search_path = lake", "BEGIN"], ["COMMIT"]),
    "read only": (["SET search_path = lake", "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"], ["COMMIT"]),
    "behind a read": (["SET search_path = lake", "BEGIN", "SELECT id FROM desk.trade"], ["ROLLBACK"]),
    "backslashes": (["SET search_path = lake", "SET standard_conforming_strings = off"], []),
    "in GBK": (["SET search_path = lake", "SET client_encoding = 'GBK'"], []),
    "back from GBK": (["SET search_path = lake", "SET client_encoding = 'GBK'", "RESET client_encoding"], []),
}

# Each is one session's last statements.
READS = {
    "count": ["SELECT count(*) FROM trade"],
    "alias": ["SELECT t.id FROM trade AS t WHERE t.id < 4 ORDER BY t.id"],
    "qualified": ["SELECT count(*) FROM lake.trade"],
    "qualified elsewhere": ["SELECT count(*) FROM desk.trade"],
    "open": ["SELECT count(*) FROM lake.open"],
    "view": ["SELECT count(*) FROM over"],
    "view over view": ["SELECT count(*) FROM lake.over_over"],
    "join": ["SELECT count(*) FROM desk.trade d JOIN trade t USING (id)"],
    "subquery": ["SELECT (SELECT max(id) FROM trade), 'lake.trade'"],
    "table expression": ["WITH x AS (SELECT id FROM trade) SELECT count(*) FROM x"],
    "hidden by one": ["WITH trade AS (SELECT 1 AS id) SELECT count(*) FROM trade"],
    "string": ["SELECT 'FROM lake.trade', count(*) FROM desk.trade WHERE name <> 'trade'"],
    "column": ["SELECT trade.id AS over FROM desk.trade WHERE name <> 'over' ORDER BY over"],
    "function": ["SELECT lake.total()"],
    "function elsewhere": ["SELECT desk.total(), desk.title('lake.trade')"],
    "copy": ["COPY (SELECT id FROM trade WHERE id < 3) TO STDOUT WITH (FORMAT csv, HEADER)"],
    "prepared": ["PREPARE p AS SELECT count(*) FROM trade", "EXECUTE p", "EXECUTE p"],
    "explained": ["EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF) SELECT * FROM trade"],
    "union": ["SELECT id FROM desk.trade UNION SELECT id FROM trade WHERE id < 5 ORDER BY 1"],
    "chinese": ["SELECT count(*) FROM 订单"],
}

# Only where a transaction is open all the while.
CURSORS = {
    "cursor": ["BEGIN", "DECLARE c CURSOR FOR SELECT id FROM {trade}", "FETCH 3 FROM c", "CLOSE c", "COMMIT"],
    "held cursor": [
        "BEGIN",
        "DECLARE h CURSOR WITH HOLD FOR SELECT id FROM {trade} WHERE id < 9",
        "COMMIT",
        "FETCH ALL FROM h",
        "CLOSE h",
    ],
}


def sessions():
    for context, (before, after) in CONTEXTS.items():
        for read, statements in READS.items():
            yield f"{context}: {read}", [*before, *statements, *after]
    for name, statements in CURSORS.items():
        for trade in ("lake.trade", "desk.trade", "lake.over", "desk.over", "lake.open"):
            yield f"{name}: {trade}", [statement.format(trade=trade) for statement in statements]


SESSIONS = dict(sessions())


def encoded(statements):
    """Each in the encoding that the session has by then."""
    codec = "utf-8"
    for statement in statements:
        yield statement.encode(codec)
        if "'GBK'" in statement:
            codec = "gbk"
        elif statement.startswith(("RESET client", "RESET ALL", "DISCARD ALL")):
            codec = "utf-8"


def run(endpoint, statements, extended, **options):
    """What the session has seen of each statement: its rows or its error."""
    seen = []
    with rawpg.Client(endpoint.host, endpoint.port) as client:
        client.start_up(user="app_trust", database=endpoint.dbname, **options)
        client.until_ready()
        for text in encoded(statements):
            if extended:
                parts = [rawpg.parse("", text), rawpg.bind("", ""), rawpg.execute("")]
                client.send(b"".join(parts) + rawpg.SYNC)
            else:
                client.send(rawpg.query(text))
            messages = client.until_ready()
            seen.append([(kind, body) for kind, body in messages if kind in b"DdCE"])
        client.send(rawpg.TERMINATE)
    return seen


def all_of(names, check):
    """Those for which `check(name)` holds; they are tried side by side."""
    names = list(names)
    with concurrent.futures.ThreadPoolExecutor(WORKERS) as pool:
        return [name for name, holds in zip(names, pool.map(check, names)) if holds]


def failed(seen):
    return [body for messages in seen for kind, body in messages if kind == b"E"]


@pytest.fixture(scope="module")
def corpus(cluster):
    """The corpus' database."""
    name = cluster.create_database("corpus")
    with cluster.admin(name) as connection:
        connection.execute(SETUP)
        # Where a session has set nothing, a bare name means what is not encrypted.
        connection.execute(f"ALTER DATABASE {name} SET search_path = desk, public")
    return name


@pytest.fixture(scope="module")
def truth(cluster, corpus):
    """What each session sees where the setting is right from the start, and those that read encrypted data."""
    direct = cluster.endpoint(corpus)

    def fails_on_hqe(name):
        errors = failed(run(direct, SESSIONS[name], False))
        return any(harness.PANGU.encode() in error for error in errors)

    encrypted = set(all_of(SESSIONS, fails_on_hqe))
    right = {}

    def reads_right(key):
        name, extended = key
        right[key] = run(direct, SESSIONS[name], extended, options=f"-c {harness.ORC}=off")
        return True

    all_of([(name, extended) for name in SESSIONS for extended in (False, True)], reads_right)
    assert not [name for name, seen in right.items() if failed(seen)]
    return right, encrypted


@pytest.fixture(scope="module", params=["account", "borrowed"])
def knowing(request, cluster, corpus):
    """By who reads the catalogs."""
    conftest.need_osprey()
    if request.param == "account":
        running = harness.Osprey.in_front_of(cluster)
    else:
        running = harness.Osprey(cluster.port, ["--encrypted-project", "finance_byok"])
    with running as osprey:
        osprey.wait_until_known(corpus)
        yield osprey


@pytest.fixture(scope="module")
def zero(cluster, corpus, tmp_path_factory):
    """Nothing is configured, and what is learned is forgotten at once."""
    conftest.need_osprey()
    config = tmp_path_factory.mktemp("zero") / "osprey.toml"
    config.write_text(harness.FORGETS)
    with harness.Osprey(cluster.port, config=config) as osprey:
        yield osprey


@pytest.mark.parametrize("extended", [False, True], ids=["simple", "extended"])
def test_nothing_is_missed_and_nothing_switched_in_vain(cluster, corpus, truth, knowing, extended):
    right, encrypted = truth
    endpoint = knowing.endpoint(corpus)

    def is_missed(name):
        return run(endpoint, SESSIONS[name], extended) != right[name, extended]

    def is_switched(name):
        cluster.reset_counters(corpus)
        run(endpoint, SESSIONS[name], extended)
        return cluster.setting_changes(corpus) != 0

    missed = all_of(encrypted, is_missed)
    plain = [name for name in SESSIONS if name not in encrypted]
    cluster.reset_counters(corpus)
    missed += all_of(plain, is_missed)
    in_vain = [name for name in plain if is_switched(name)] if cluster.setting_changes(corpus) else []
    statements = sum(len(statements) for statements in SESSIONS.values())
    print(f"{len(SESSIONS)} sessions, {statements} statements, {len(encrypted)} encrypted; in vain: {in_vain}")
    assert not missed
    assert len(in_vain) <= 0.005 * len(SESSIONS), in_vain


@pytest.mark.parametrize("extended", [False, True], ids=["simple", "extended"])
def test_what_nobody_knows_gives_its_rows_at_its_first_run(corpus, truth, zero, extended):
    right, _ = truth
    endpoint = zero.endpoint(corpus)

    def differs(name):
        return run(endpoint, SESSIONS[name], extended) != right[name, extended]

    assert not all_of(SESSIONS, differs)


def test_the_corpus_is_large_enough(truth):
    _, encrypted = truth
    assert sum(len(statements) for statements in SESSIONS.values()) >= 600
    assert 0.2 < len(encrypted) / len(SESSIONS) < 0.8
