"""`osprey doctor` and what Hologres' query log says of reads that failed on encrypted data."""

import json
import subprocess

import conftest
import harness

LOG = """
CREATE TABLE hologres.hg_query_log (usename text, datname text, status text, message text, digest text, pid int,
    application_name text, query_start timestamptz);
GRANT USAGE ON SCHEMA hologres TO PUBLIC; GRANT SELECT ON hologres.hg_query_log TO PUBLIC
"""
PANGU = f"ERROR: XX000: {harness.PANGU}x, errorcode: 9, err_msg: PanguParameterInvalidException"


def findings(cluster, database):
    command = [
        harness.osprey_binary(),
        "doctor",
        *("--upstream", f"127.0.0.1:{cluster.port}"),
        *("--encrypted-project", "finance_byok"),
        *("--catalog-user", "osprey_catalog"),
        *("--database", database),
        "--json",
    ]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        env={"OSPREY_CATALOG_PASSWORD": harness.PASSWORD},
    )
    found = json.loads(done.stdout)["findings"]
    return [finding for finding in found if finding["code"].startswith("query-log")]


def test_without_a_log(cluster, database):
    conftest.need_osprey()
    [found] = findings(cluster, database)
    assert (found["code"], found["level"]) == ("query-log-unreadable", "info")


def test_what_failed_is_told_by_application_and_user(cluster, database):
    conftest.need_osprey()
    with cluster.admin(database) as connection:
        connection.execute(LOG)
        [found] = findings(cluster, database)
        assert (found["code"], found["level"]) == ("query-log", "ok")

        def log(user, application, status, message, digest, pid, ago="1 hour", dbname=database):
            connection.execute(
                "INSERT INTO hologres.hg_query_log VALUES (%s, %s, %s, %s, %s, %s, %s, now() - %s::interval)",
                [user, dbname, status, message, digest, pid, application, ago],
            )

        for pid in (1, 2):
            log("ann", "Tableau", "FAILED", PANGU, "d1", pid)
        log("bob", None, "FAILED", PANGU, "d2", 3)
        # Run again in the same session, and well.
        log("eve", "dbt", "FAILED", PANGU, "d3", 4, "2 hours")
        log("eve", "dbt", "SUCCESS", None, "d3", 4)
        # Another failure, another database, and long ago.
        log("ann", "Tableau", "FAILED", "ERROR: 42P01: no such table", "d4", 1)
        log("ann", "other", "FAILED", PANGU, "d1", 5, dbname="elsewhere")
        log("ann", "old", "FAILED", PANGU, "d1", 6, "8 days")
    tableau, nameless = findings(cluster, database)
    assert {finding["level"] for finding in (tableau, nameless)} == {"warning"}
    assert tableau["found"].startswith("2 statements of Tableau, as user ann, have failed")
    assert "a client that does not name itself, as user bob" in nameless["found"]
    assert tableau["sql"] == f"SET {harness.ORC} = false;"
