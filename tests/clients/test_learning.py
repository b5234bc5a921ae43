"""With nothing configured but the upstream's address: the first query ever to touch an encrypted table
returns rows, and the next session needs no failure."""

import psycopg
import pytest

import conftest
import harness

RETRIES = "osprey_retries_total"


@pytest.fixture
def blind(cluster, database):
    conftest.need_osprey()
    with harness.Osprey(cluster.port) as osprey:
        yield osprey


def read(endpoint, **options):
    with endpoint.connect(**options) as connection:
        return connection.execute("SELECT count(*) FROM salaries").fetchone()


def test_first_query_ever(blind, database, cluster):
    cluster.reset_counters(database)
    assert read(blind.endpoint(database)) == (1000,)
    assert blind.scrape()[RETRIES] == 1
    # What one session has learned, the next one knows.
    harness.wait_for(
        lambda: read(blind.endpoint(database)) == (1000,) and blind.scrape()[RETRIES] == 1,
        "the lesson to be known",
    )


def test_what_writes_is_explained(blind, database, cluster):
    with blind.endpoint(database).connect() as connection:
        with pytest.raises(psycopg.Error, match="HQE") as caught:
            connection.execute("CREATE TABLE copied_salaries AS SELECT * FROM salaries")
        assert "not run again" in caught.value.diag.message_detail
        # Now it is known, and the same statement works.
        harness.wait_for(lambda: creates(connection), "the lesson to be known")


def creates(connection):
    try:
        connection.execute("CREATE TABLE copied_salaries AS SELECT * FROM salaries")
        return True
    except psycopg.Error:
        return False
