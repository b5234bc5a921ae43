"""/metrics and /healthz: what moved when something happened."""

import re
import urllib.request

import psycopg

import conftest
import harness
import rawpg


def total(samples, family):
    """The sum of a family over its labels."""
    name = re.compile(rf"^{family}(\{{|$)")
    return sum(value for sample, value in samples.items() if name.match(sample))


def test_metrics_move(cluster, database):
    conftest.need_osprey()
    with harness.Osprey.in_front_of(cluster) as osprey:
        osprey.wait_until_known(database)
        before = osprey.scrape()
        with osprey.endpoint(database).connect() as connection:
            during = osprey.scrape()
            connection.execute("SELECT count(*) FROM salaries")
            connection.execute(f"SET {harness.ORC} = on")
            try:
                connection.execute("SELECT count(*) FROM salaries")
                raise AssertionError("HQE read encrypted data")
            except psycopg.errors.InternalError_:
                pass
        after = harness.wait_for(
            lambda: (now := osprey.scrape())
            and total(now, "osprey_sessions") < total(during, "osprey_sessions")
            and now,
            "the session to be counted as closed",
        )

    def moved(family):
        return total(after, family) - total(before, family)

    assert moved("osprey_sessions_opened_total") == 1
    assert moved("osprey_injections_total") == 1
    assert moved("osprey_errors_rewritten_total") == 1
    assert moved("osprey_statements_total") >= 3
    assert moved("osprey_bytes_total") > 0
    # One for each cycle; and Osprey's own work is no part of the time that the server takes.
    assert moved("osprey_own_seconds_count") == moved("osprey_cycles_total") >= 3
    assert 0 < moved("osprey_own_seconds_sum") < 0.5


def test_how_long_statements_take(cluster, database):
    """By protocol and engine; and what a statement lost that was run again."""
    conftest.need_osprey()
    cluster.query("postgres", f"ALTER DATABASE {database} SET hologres.scan_delay_ms = 300")
    with harness.Osprey.in_front_of(cluster) as osprey:
        osprey.wait_until_known(database)
        planned = osprey.metric("osprey_statement_seconds_count", engine="sqe")
        with osprey.endpoint(database).connect(autocommit=True) as connection:
            connection.execute("SELECT 1")
            connection.execute("SELECT count(*) FROM items", prepare=True)
            connection.execute("SELECT count(*) FROM salaries", prepare=True)
        # Of this one nobody has told Osprey; in the session above it would have been steered by now.
        with osprey.endpoint(database).connect(autocommit=True) as connection:
            connection.execute("SELECT count(*) FROM events")
        with osprey.endpoint(database).connect(autocommit=True) as connection:
            connection.execute("SELECT count(*) FROM events")

        def times(family, **labels):
            sums = (osprey.metric(f"{family}_{part}", **labels) for part in ("count", "sum"))
            return next(sums), next(sums)

        statements, first = "osprey_statement_seconds", "osprey_first_answer_seconds"
        count, seconds = times(statements, protocol="extended", engine="hqe")
        assert count == 1 and 0.3 <= seconds < 30
        count, seconds = times(statements, protocol="extended", engine="sqe")
        assert count == 1 and 0.3 <= seconds < 30
        count, seconds = times(statements, protocol="simple", engine="sqe")
        assert count == 2 + planned and 0.9 <= seconds < 30, "of the healed one both runs"
        count, seconds = times(statements, engine="local")
        assert count == 1 and seconds < 10
        count, seconds = times(first, engine="sqe")
        # Of two that one turn has met together, the answer is counted once.
        assert 3 <= count <= 3 + planned and 0.3 <= seconds < 30
        count, seconds = times("osprey_heal_seconds")
        assert count == 1 and 0.3 <= seconds < 30
        assert osprey.metric("osprey_login_seconds_count") >= 2
        known_by = "osprey_protected_statements_by_total"
        assert osprey.metric(known_by, known_by="key") == 1 + planned
        assert osprey.metric(known_by, known_by="lesson") == 1
        assert osprey.metric("osprey_encrypted_projects", key_state="Unknown") >= 1
        assert 0 <= osprey.metric("osprey_project_key_age_seconds", project="finance_byok") < 300
        assert osprey.metric("osprey_limit_places", limit="limits.max_sessions") >= 1
        assert osprey.metric("osprey_limit_places_taken", limit="limits.max_sessions") <= 2


def test_own_time_is_not_the_servers(cluster, osprey, database):
    before = total(osprey.scrape(), "osprey_own_seconds_sum")
    with osprey.endpoint(database).connect() as connection:
        connection.execute("SELECT pg_sleep(1.5)")
    assert total(osprey.scrape(), "osprey_own_seconds_sum") - before < 1


def test_an_injection_in_front_of_a_named_parse_is_counted(through_osprey, osprey):
    """Also while nothing protected has run yet."""
    injections = "osprey_injections_total"
    with rawpg.Client.logged_in(through_osprey) as client:
        before = osprey.metric(injections)
        client.ask(rawpg.parse("s", "SELECT count(*) FROM salaries") + rawpg.SYNC)
        assert osprey.metric(injections) == before + 1


def test_health(osprey):
    address = f"http://127.0.0.1:{osprey.metrics_port}"
    with urllib.request.urlopen(f"{address}/healthz", timeout=10) as response:
        assert response.status == 200
