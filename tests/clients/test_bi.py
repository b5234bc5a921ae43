"""A BI tool's day: it looks at the schema, then asks for its dashboards over plain and encrypted tables,
on connections that a pool resets in between. Not one of HQE's errors, and no engine but the right one."""

import random

import pytest
import sqlalchemy
from sqlalchemy import event

import conftest
import harness

STATEMENTS = 10000

# Statement, rows, and how often each engine reads for it: (HQE, SQE).
PLAIN = [
    ("SELECT team, count(*) FROM people GROUP BY team ORDER BY team", None, (0, 0)),
    ("SELECT max(id) FROM notes", 1, (0, 0)),
]
OPEN = [
    ("SELECT count(*) FROM items", 1, (1, 0)),
    ("SELECT label FROM item_labels ORDER BY label LIMIT 10", 10, (1, 0)),
]
ENCRYPTED = [
    ("SELECT count(*), sum(amount) FROM salaries", 1, (0, 1)),
    ("SELECT id, name FROM salary_names WHERE id < 20", 19, (0, 1)),
    ("SELECT p.team, sum(s.amount) FROM people p JOIN salaries s USING (id) GROUP BY 1", None, (0, 1)),
    ("SELECT i.id FROM items i JOIN salaries s USING (id)", 50, (0, 2)),
]


@pytest.fixture(params=["session", "statement"])
def scoped(request, cluster, database):
    conftest.need_osprey()
    with harness.Osprey.in_front_of(cluster, "--scope", request.param) as osprey:
        osprey.wait_until_known(database)
        yield request.param, osprey


def engine_of(endpoint, driver):
    address = sqlalchemy.engine.URL.create(
        f"postgresql+{driver}",
        username=endpoint.user,
        password=endpoint.password,
        host=endpoint.host,
        port=endpoint.port,
        database=endpoint.dbname,
    )
    engine = sqlalchemy.create_engine(address, pool_size=1, max_overflow=0)

    @event.listens_for(engine, "checkin")
    def discard(connection, _record):
        connection.rollback()
        connection.autocommit = True
        connection.cursor().execute("DISCARD ALL")
        connection.autocommit = False

    return engine


def test_a_day(scoped, cluster, database):
    scope, osprey = scoped
    engine = engine_of(osprey.endpoint(database), "psycopg2")
    chance = random.Random(5)
    sent = hqe = sqe = 0

    @event.listens_for(engine, "before_cursor_execute")
    def count(*_):
        nonlocal sent
        sent += 1

    cluster.reset_counters(database)
    while sent < STATEMENTS:
        if chance.random() < 0.02:
            inspector = sqlalchemy.inspect(engine)
            assert "salaries" in inspector.get_foreign_table_names()
            assert "salary_names" in inspector.get_view_names()
            for table in ("salaries", "salary_names", "people"):
                assert inspector.get_columns(table)
            assert inspector.get_pk_constraint("people") is not None
            inspector.get_indexes("people")
        with engine.connect() as connection:
            for _ in range(chance.randint(1, 20)):
                kind = chance.choices([PLAIN, OPEN, ENCRYPTED], [3, 2, 3])[0]
                statement, rows, (on_hqe, on_sqe) = chance.choice(kind)
                answer = connection.execute(sqlalchemy.text(statement)).fetchall()
                assert rows in (None, len(answer))
                hqe, sqe = hqe + on_hqe, sqe + on_sqe
    engine.dispose()

    scans = cluster.scans(database)
    assert scans["HQE"][1] == scans["SQE"][1] == 0
    assert scans["HQE"][0] + scans["SQE"][0] == hqe + sqe
    if scope == "statement":
        # Every statement that HQE can read, HQE has read.
        assert (scans["HQE"][0], scans["SQE"][0]) == (hqe, sqe)
    errors = {name: value for name, value in osprey.scrape().items() if "errors_rewritten" in name}
    assert not any(errors.values()), errors
