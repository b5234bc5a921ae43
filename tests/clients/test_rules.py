"""An operator's own rules of advice: named in the configuration, checked with it, and read again with it."""

import subprocess

import psycopg
import pytest

import conftest
import harness

# What the stand-in says where SQE meets MaxCompute's default key.
RULE = """
[[rule]]
code = "OPS-17"
title.en = "The ledger is under the default key"
title.zh = "账簿使用默认密钥加密"
cure = "advised"
error = ["SQE cannot read project legacy_default: … the default key"]
vendor = "https://wiki.example.com/ledger"
example.error = "SQE cannot read project legacy_default: its data is encrypted with the default key"

[[rule.text]]
what.en = "The ledger is kept under the default key."
what.zh = "账簿使用默认密钥加密。"
do.en = "Ask the data team for a copy."
do.zh = "请向数据团队申请副本。"
"""


@pytest.fixture
def rules(tmp_path):
    path = tmp_path / "rules.toml"
    path.write_text(RULE)
    return path


@pytest.fixture
def config(rules, tmp_path):
    path = tmp_path / "osprey.toml"
    path.write_text(f'[observe]\nrules = "{rules}"\n')
    return path


def error_of(osprey, database):
    with osprey.endpoint(database).connect() as connection:
        with pytest.raises(psycopg.Error) as caught:
            connection.execute("SELECT * FROM ledger")
    return caught.value.diag


def test_its_rules_advise_and_are_read_again(cluster, database, rules, config):
    conftest.need_osprey()
    arguments = ["--encrypted-project", "legacy_default"]
    with harness.Osprey.in_front_of(cluster, *arguments, config=config) as osprey:
        osprey.wait_until_known(database)
        error = error_of(osprey, database)
        assert error.message_primary == (
            "The ledger is kept under the default key. Ask the data team for a copy."
        )
        assert error.message_detail.startswith("Osprey OPS-17, docs: https://wiki.example.com/ledger")
        assert osprey.metric("osprey_errors_rewritten_total", code="OPS-17") == 1
        rules.write_text(RULE.replace("data team", "finance team"))
        osprey.reload()
        assert "finance team" in error_of(osprey, database).message_primary
        # A mistake leaves what is in force.
        rules.write_text(RULE.replace("OPS-17", "OSP-17"))
        osprey.reload(words="has mistakes and is not in force")
        osprey.says(f"{rules}:3")
        assert "finance team" in error_of(osprey, database).message_primary
        # And without the file the table is Osprey's own again.
        osprey.reload(text="")
        assert "ledger is kept" not in error_of(osprey, database).message_primary


def test_a_mistake_is_told_by_file_line_and_key(rules, config):
    conftest.need_osprey()
    rules.write_text(RULE.replace('cure = "advised"', 'cure = "itself"'))
    command = [harness.osprey_binary(), "check-config", "--config", config, "--upstream", "localhost:1"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2, done.stderr
    assert f"{rules}:6: " in done.stderr and "cure" in done.stderr, done.stderr


@pytest.mark.parametrize("switched_on", [True, False])
def test_an_offered_rule_cures_where_it_is_switched_on(cluster, database, tmp_path, switched_on):
    """Tunnel writes the table as a stream: HQE meets files that are not ORC, SQE reads it."""
    conftest.need_osprey()
    config = tmp_path / "osprey.toml"
    config.write_text('[route]\nretry_rules = ["OSP-1102"]\n' if switched_on else "[route]\n")
    cluster.query("postgres", f"ALTER DATABASE {database} SET hologres.streamed_project = 'open_project'")
    try:
        with harness.Osprey.in_front_of(cluster, config=config) as osprey:
            osprey.wait_until_known(database)
            for prepare in (False, True):
                with osprey.endpoint(database).connect(autocommit=True) as connection:
                    if switched_on:
                        rows = connection.execute("SELECT count(*) FROM items", prepare=prepare).fetchall()
                        assert rows[0][0] > 0
                    else:
                        with pytest.raises(psycopg.Error) as caught:
                            connection.execute("SELECT count(*) FROM items", prepare=prepare)
                        assert "OSP-1102" in caught.value.diag.message_detail
            retried = osprey.metric("osprey_retries_total")
            assert retried == (2 if switched_on else 0)
            # It says nothing about encryption, and teaches nothing.
            assert osprey.metric("osprey_lessons_total", outcome="learned") == 0
    finally:
        cluster.query("postgres", f"ALTER DATABASE {database} RESET hologres.streamed_project")


def test_only_what_is_offered_can_be_switched_on(tmp_path):
    conftest.need_osprey()
    config = tmp_path / "osprey.toml"
    config.write_text('[upstream]\naddress = "localhost:1"\n[route]\nretry_rules = ["OSP-1102", "OSP-1105"]\n')
    command = [harness.osprey_binary(), "check-config", "--config", config]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2, done.stderr
    assert f'{config}:4: route.retry_rules: "OSP-1105" is none of OSP-1102' in done.stderr
