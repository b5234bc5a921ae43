#!/usr/bin/python3 -B
"""PostgreSQL's own regression tests, with their own runner: direct, then through Osprey.

    tests/run regress           the whole schedule
    tests/run regress TEST…     some tests of it, behind test_setup, which every test needs

A test fails here if it passes direct and not through Osprey, or if what psql printed is not the same
byte for byte. That a test fails direct is no concern of Osprey's: Debian's source may be a minor
version behind its server.
"""

import argparse
import contextlib
import difflib
import os
import pathlib
import re
import shutil
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "clients"))

import harness

# A test's line in pg_regress' report.
RESULT = re.compile(r"^(?:test)?\s+(\S+)\s+\.\.\. (ok|FAILED|failed \(ignored\))", re.MULTILINE)

# Osprey knows an encrypted project and reads the catalogs, so that it looks at every statement; none
# needs another engine.
QUIET = ""

# Every table that the tests make counts as encrypted: the setting is put in front of whatever reads
# one, in every kind of session that they come up with. TLS on both sides.
BUSY = """
[protect]
tables = ["public.*"]

[listen.tls]
certificate = "{directory}/server.crt"
key = "{directory}/server.key"

[upstream.tls]
mode = "verify-full"
ca = "{directory}/ca.crt"
server_name = "localhost"
"""


def build(sources, directory, owner):
    """Copies the tests into a directory that the server may read and write, and builds their library."""
    shutil.copytree(sources / "src/test/regress", directory)
    config = [harness.PG_BIN / "pg_config", "--includedir-server", "--pkglibdir"]
    include, libraries = harness.run(config).splitlines()
    harness.run(
        ["cc", "-shared", "-fPIC", "-O1", "-w", "-I", include]
        + ["-o", directory / "regress.so", directory / "regress.c"]
    )
    for module in ["refint.so", "autoinc.so"]:
        shutil.copy(pathlib.Path(libraries) / module, directory)
    if owner is not None:
        harness.run(["chown", "-R", f"{owner.pw_uid}:{owner.pw_gid}", directory])
    return pathlib.Path(libraries) / "pgxs/src/test/regress/pg_regress"


class Run:
    """What one run of the schedule gave: each test's verdict, and what psql printed in it."""

    def __init__(self, sources, config, tests):
        settings = {"max_prepared_transactions": 2}
        everyone = ["host all all 127.0.0.1/32 trust"]
        with contextlib.ExitStack() as stack:
            cluster = stack.enter_context(
                harness.Cluster(tls=config == BUSY, settings=settings, hba=everyone)
            )
            directory = cluster.directory / "regress"
            runner = build(sources, directory, cluster.owner)
            port, self.counters = cluster.port, {}
            if config is not None:
                path = cluster.directory / "osprey.toml"
                path.write_text(config.format(directory=cluster.directory))
                osprey = harness.Osprey.in_front_of(cluster, config=path)
                port = stack.enter_context(osprey).port
            # The home directory would be the caller's, which the owner may not read.
            environment = {**os.environ, "HOME": str(directory)}
            environment["PGSSLMODE"] = "require" if cluster.tls else "disable"
            done = subprocess.run(
                [runner, f"--bindir={harness.PG_BIN}", "--dlpath=.", "--max-concurrent-tests=20"]
                + ["--host=127.0.0.1", f"--port={port}", "--user=postgres"]
                + (["test_setup", *tests] if tests else ["--schedule=parallel_schedule"]),
                **{**cluster._as_owner(), "cwd": directory},
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            self.report = done.stdout
            self.verdicts = dict(RESULT.findall(done.stdout))
            self.output = {
                path.stem: path.read_text("latin-1")
                for path in (directory / "results").glob("*.out")
            }
            if config is not None:
                self.counters = osprey.scrape()
            # 1: a test failed. Anything else means that the tests did not run.
            if done.returncode not in (0, 1) or not self.verdicts:
                raise RuntimeError(f"pg_regress ended with {done.returncode}\n{done.stdout}")


def compare(direct, through, way):
    """Prints what differs; returns the number of tests that passed and of those that failed."""
    failed = []
    for test, verdict in direct.verdicts.items():
        before, after = direct.output.get(test, ""), through.output.get(test, "")
        worse = verdict == "ok" and through.verdicts.get(test) != "ok"
        # A test that is ignored prints random numbers.
        if worse or (before != after and "ignored" not in verdict):
            failed.append(test)
            print(f"--- {test}: {verdict} direct, {through.verdicts.get(test)} {way}")
            sides = [text.splitlines() for text in (before, after)]
            print("\n".join(difflib.unified_diff(*sides, "direct", way, lineterm="")))
    return len(direct.verdicts) - len(failed), failed


def timed(name, *arguments):
    begin = time.monotonic()
    run = Run(*arguments)
    ok = sum(verdict == "ok" for verdict in run.verdicts.values())
    statements = sum(n for key, n in run.counters.items() if key.startswith("osprey_statements"))
    injected = sum(n for key, n in run.counters.items() if key.startswith("osprey_injections"))
    seen = f"; Osprey saw {statements:.0f} statements, injected {injected:.0f} times"
    print(
        f"{name}: {ok} of {len(run.verdicts)} pass in {time.monotonic() - begin:.0f} s"
        + (seen if run.counters else ""),
        flush=True,
    )
    return run, injected


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("sources", type=pathlib.Path)
    parser.add_argument("tests", nargs="*")
    arguments = parser.parse_args()
    harness.run(["make", "-s", "-C", harness.EXTENSION])

    direct, _ = timed("direct", arguments.sources, None, arguments.tests)
    passed, failed = 0, []
    for way, config in [("through Osprey", QUIET), ("through Osprey, all tables encrypted", BUSY)]:
        through, injected = timed(way, arguments.sources, config, arguments.tests)
        same, different = compare(direct, through, way)
        passed += same
        failed += [f"{test} ({way})" for test in different]
        if config == QUIET and injected or config == BUSY and not injected:
            failed.append(f"{injected} injections {way}")
    if failed:
        print("FAILED:", ", ".join(failed))
    print(f"{passed} passed, {len(failed)} failed")
    sys.exit(1 if failed else 0)


main()
