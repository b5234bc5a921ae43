#!/usr/bin/python3 -B
"""PostgreSQL's own regression and isolation tests, with their own runners: direct, then through Osprey.

    tests/run regress           both schedules
    tests/run regress TEST…     some tests of them

A test fails here if it passes direct and not through Osprey, or if what it printed is not the same
byte for byte. That a test fails direct is no concern of Osprey's: Debian's source may be a minor
version behind its server.
"""

import argparse
import contextlib
import dataclasses
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


@dataclasses.dataclass(frozen=True)
class Suite:
    """Tests with a runner and a schedule."""

    # Of the source, and of the server's development files
    directory: str
    runner: str
    schedule: str
    options: tuple
    # What other tests need is run before them.
    first: tuple
    # Its tests watch several sessions at once: on a busy machine, a notice that one of them is sent
    # may come before or after a lock that another is seen to wait for.
    timing: bool

    def tests(self, sources):
        schedule = (sources / self.directory / self.schedule).read_text()
        lines = re.findall(r"(?m)^test:(.*)", schedule)
        return [test for line in lines for test in line.split()]


REGRESS = Suite(
    "src/test/regress",
    "pg_regress",
    "parallel_schedule",
    ("--dlpath=.", "--max-concurrent-tests=20"),
    ("test_setup",),
    False,
)
ISOLATION = Suite(
    "src/test/isolation", "pg_isolation_regress", "isolation_schedule", (), (), True
)

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


def lay_out(suite, sources, directory, owner):
    """Copies the tests into a directory that the server may read and write, and builds their library;
    returns the runner."""
    shutil.copytree(sources / suite.directory, directory)
    config = [harness.PG_BIN / "pg_config", "--includedir-server", "--pkglibdir"]
    include, libraries = harness.run(config).splitlines()
    libraries = pathlib.Path(libraries)
    if suite == REGRESS:
        harness.run(
            ["cc", "-shared", "-fPIC", "-O1", "-w", "-I", include]
            + ["-o", directory / "regress.so", directory / "regress.c"]
        )
        for module in ["refint.so", "autoinc.so"]:
            shutil.copy(libraries / module, directory)
    if owner is not None:
        harness.run(["chown", "-R", f"{owner.pw_uid}:{owner.pw_gid}", directory])
    return libraries / "pgxs" / suite.directory / suite.runner


class Run:
    """What one run of a suite gave: each test's verdict, and what it printed."""

    def __init__(self, suite, sources, config, tls, tests):
        settings = {"max_prepared_transactions": 2}
        everyone = ["host all all 127.0.0.1/32 trust"]
        with contextlib.ExitStack() as stack:
            cluster = stack.enter_context(
                harness.Cluster(tls=tls, settings=settings, hba=everyone)
            )
            directory = cluster.directory / "tests"
            runner = lay_out(suite, sources, directory, cluster.owner)
            port, self.counters = cluster.port, {}
            if config is not None:
                path = cluster.directory / "osprey.toml"
                path.write_text(config.format(directory=cluster.directory))
                osprey = harness.Osprey.in_front_of(cluster, config=path)
                port = stack.enter_context(osprey).port
            # The home directory would be the caller's, which the owner may not read.
            environment = {**os.environ, "HOME": str(directory)}
            environment["PGSSLMODE"] = "require" if tls else "disable"
            done = subprocess.run(
                [runner, f"--bindir={harness.PG_BIN}", *suite.options]
                + ["--inputdir=.", "--outputdir=."]
                + ["--host=127.0.0.1", f"--port={port}", "--user=postgres"]
                + ([*suite.first, *tests] if tests else [f"--schedule={suite.schedule}"]),
                **{**cluster._as_owner(), "cwd": directory},
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            self.verdicts = dict(RESULT.findall(done.stdout))
            self.output = {
                path.stem: path.read_text("latin-1")
                for path in (directory / "results").glob("*.out")
            }
            if config is not None:
                self.counters = osprey.scrape()
            # 1: a test failed. Anything else means that the tests did not run.
            if done.returncode not in (0, 1) or not self.verdicts:
                raise RuntimeError(f"{runner} ended with {done.returncode}\n{done.stdout}")


def compare(direct, through, way, tests):
    """Prints what differs; returns the names of the tests in which something does."""
    failed = []
    for test in tests:
        verdict = direct.verdicts[test]
        before, after = direct.output.get(test, ""), through.output.get(test, "")
        worse = verdict == "ok" and through.verdicts.get(test) != "ok"
        # A test that is ignored prints random numbers.
        if worse or (before != after and "ignored" not in verdict):
            failed.append(test)
            print(f"--- {test}: {verdict} direct, {through.verdicts.get(test)} {way}")
            sides = [text.splitlines() for text in (before, after)]
            print("\n".join(difflib.unified_diff(*sides, "direct", way, lineterm="")), flush=True)
    return failed


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
    sources, wanted = arguments.sources, set(arguments.tests)
    harness.build_extension()

    passed, failed = 0, []
    # The isolation tests are about who waits for whom; one way tells enough. What libpq says of a
    # connection that is lost differs with TLS.
    plans = [(REGRESS, False, [(QUIET, False), (BUSY, True)]), (ISOLATION, True, [(BUSY, True)])]
    for suite, direct_tls, ways in plans:
        tests = [test for test in suite.tests(sources) if test in wanted]
        wanted.difference_update(tests)
        if arguments.tests and not tests:
            continue
        direct, _ = timed(f"{suite.runner}, direct", suite, sources, None, direct_tls, tests)
        for config, tls in ways:
            way = "through Osprey" + (", all tables encrypted" if config == BUSY else "")
            through, injected = timed(f"{suite.runner}, {way}", suite, sources, config, tls, tests)
            different = compare(direct, through, way, direct.verdicts)
            for _ in range(2 if suite.timing else 0):
                if different:
                    print("Again, by themselves:", ", ".join(different), flush=True)
                    through = Run(suite, sources, config, tls, different)
                    different = compare(direct, through, way, different)
            passed += len(direct.verdicts) - len(different)
            failed += [f"{test} ({way})" for test in different]
            if not arguments.tests and (injected > 0) != (config == BUSY):
                failed.append(f"{injected:.0f} injections {way}")
    failed += [f"{test} (no such test)" for test in sorted(wanted)]
    if failed:
        print("FAILED:", ", ".join(failed))
    print(f"{passed} passed, {len(failed)} failed")
    sys.exit(1 if failed else 0)


main()
