"""What the commands and the log tell an operator: a statement explained, the start, a statement and an
error in the log."""

import json
import subprocess

import psycopg
import pytest

import conftest
import harness


def ask(cluster, database, statement, *arguments):
    """What `osprey explain` says, as JSON."""
    command = [
        harness.osprey_binary(),
        "explain",
        "--json",
        *("--upstream", f"127.0.0.1:{cluster.port}"),
        *("--catalog-user", "osprey_catalog"),
        *("--encrypted-project", "finance_byok"),
        *("--database", database),
        *arguments,
        statement,
    ]
    environment = {"OSPREY_CATALOG_PASSWORD": harness.PASSWORD}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_what_hologres_has_against_a_statement_is_told(cluster, database):
    conftest.need_osprey()
    for statement, sqlstate in [
        ("SELECT * FROM nope", "42P01"),
        ("SELEC * FROM sales", "42601"),
    ]:
        said = ask(cluster, database, statement)
        assert sqlstate in said["objection"], said
        assert said["protected"] is False
    for statement in ["SELECT 1", "SELECT 1; SELECT 2"]:
        assert ask(cluster, database, statement)["objection"] is None


def test_default_key_is_out_of_the_engines_reach(cluster, database, tmp_path):
    conftest.need_osprey()
    config = tmp_path / "osprey.toml"
    rule = '[[protect.project]]\nname = "legacy_default"\nencryption = "default-key"\n'
    config.write_text(rule)
    said = ask(cluster, database, "SELECT * FROM ledger", "--config", config)
    assert said["protected"] and said["out_of_reach"], said
    said = ask(cluster, database, "SELECT * FROM salaries", "--config", config)
    assert said["protected"] and not said["out_of_reach"], said


def test_log_says_what_starts_and_why_a_statement_is_steered(cluster, database):
    conftest.need_osprey()
    options = ["--log", "debug", "--log-format", "json"]
    with harness.Osprey.in_front_of(cluster, *options) as osprey:
        osprey.wait_until_known(database)
        with osprey.endpoint(database).connect() as connection:
            connection.execute("SELECT * FROM salary_names").fetchall()
            connection.execute("SELECT 1 FROM pg_class LIMIT 1").fetchall()
    lines = [json.loads(line) for line in osprey.log_lines]
    start = lines[0]
    assert start["version"] and start["configuration"] == "flags and environment alone"
    about = [line for line in lines if line["message"] == "a statement is protected"]
    assert about[-1]["relation"] == "public.salary_names"
    assert about[-1]["project"] == "finance_byok" and about[-1]["database"] == database
    assert any(line["message"] == "a statement is not protected" for line in lines)
    steered = [line for line in lines if line["message"] == "protected statements were steered"]
    assert steered and sum(line["sets_sent"] for line in steered) > 0
    opened = [line for line in lines if line["message"] == "session opened"][-1]
    assert opened["upstream_tls"] is False
    ended = [line for line in lines if line.get("session") == opened["session"]][-1]
    assert ended["message"] == "session closed" and ended["reason"] == "client"
    assert ended["seconds"] > 0 and ended["statements"] > 0 and ended["protected"] > 0
    assert ended["bytes_to_server"] > 0 and ended["bytes_to_client"] > 0
    # Its handshakes are nobody's business but its own.
    assert not any(line["target"].startswith("rustls") for line in lines)


def test_log_says_what_an_error_was_about(cluster, database, unknowing):
    before = len(unknowing.log())
    with unknowing.endpoint(database).connect(autocommit=False) as connection:
        # What writes is not run again.
        with pytest.raises(psycopg.errors.InternalError_):
            connection.execute("INSERT INTO copied (id) SELECT id FROM salaries")
    words = "an error about encrypted data was rewritten"
    unknowing.says(words, before)
    line = [line for line in unknowing.log_lines if words in line][-1]
    assert 'user="app"' in line and f'database="{database}"' in line, line
    assert "relation=" in line and 'project="finance_byok"' in line, line
