"""Prometheus' own tools on what is made for it: rules, their tests, and what /metrics answers."""

import re
import shutil
import subprocess
import urllib.request

import pytest

import harness

RULES = harness.ROOT / "deploy" / "prometheus"
KEPT = harness.ROOT / "target" / "prometheus"


@pytest.fixture(scope="module")
def promtool(tmp_path_factory):
    """Debian's, unpacked and not installed: its package would start a server."""
    if found := shutil.which("promtool"):
        return found
    kept = KEPT / "usr" / "bin" / "promtool"
    if not kept.exists():
        work = tmp_path_factory.mktemp("prometheus")
        done = subprocess.run(
            "apt-get download -qq prometheus && dpkg -x prometheus_*.deb unpacked",
            shell=True,
            cwd=work,
            capture_output=True,
            text=True,
        )
        if done.returncode != 0:
            pytest.skip(f"NOT RUN, for want of promtool: {done.stderr[-200:]}")
        kept.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(work / "unpacked" / "usr" / "bin" / "promtool", kept)
    return kept


def test_rules(promtool):
    harness.run([promtool, "check", "rules", RULES / "alerts.yml"])
    harness.run([promtool, "test", "rules", RULES / "alerts_test.yml"])


def test_each_rule_is_raised_by_one_test_and_not_by_another():
    names = re.findall(r"- alert: (\w+)", (RULES / "alerts.yml").read_text())
    assert len(names) > 9
    tests = (RULES / "alerts_test.yml").read_text()
    checks = re.findall(r'expr: ALERTS{alertname="(\w+)".*\n.*\n +exp_samples:(.*)', tests)
    for name in names:
        quiet = [rest.strip() == "[]" for checked, rest in checks if checked == name]
        assert set(quiet) == {True, False}, name


def test_metrics(promtool, osprey, through_osprey):
    with through_osprey.connect() as connection:
        connection.execute("SELECT count(*) FROM salaries")
        address = f"http://127.0.0.1:{osprey.metrics_port}/metrics"
        text = urllib.request.urlopen(address, timeout=10).read()
    done = subprocess.run([promtool, "check", "metrics"], input=text, capture_output=True)
    said = (done.stdout + done.stderr).decode()
    # process_… are the prometheus crate's; of ours nothing is to be said.
    assert "osprey_" not in said and "error" not in said, said
