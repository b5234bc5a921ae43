"""Instructions in user space for one transaction of `pgbench -S`, as valgrind's callgrind counts them: of
Osprey and of PgBouncer, with one client, and where Osprey spends them. What a longer run costs more than
a shorter one, so that nothing of starting, logging in and ending counts."""

import argparse
import collections
import contextlib
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "tests" / "clients"))

import harness  # noqa: E402
import peers  # noqa: E402
import pgbench  # noqa: E402

MODES = ("simple", "extended", "prepared")
# Of the shorter run, and of the longer one.
TRANSACTIONS = (500, 2_500)


def module(path):
    """Which part of the program a source file belongs to."""
    inside = re.search(r"(?:^|/)src/(\w+)(?:/|\.rs$)", path)
    crate = re.search(r"/([a-z][a-z0-9_-]*?)-\d+\.\d+\.\d+[^/]*/", path)
    if "/rustc/" in path or "/library/" in path:
        return "the standard library"
    if crate:
        return crate[1]
    if inside:
        return f"osprey::{inside[1]}"
    return "the C library and others"


def read(path):
    """The instructions of a callgrind file, by module of the line that they were compiled from."""
    counts = collections.Counter()
    files = {}
    here = ""
    of_a_call = False
    for line in path.read_text().splitlines():
        named = re.match(r"(fl|fi|fe)=\((\d+)\)(?: (.*))?$", line)
        if named:
            if named[3] is not None:
                files[named[2]] = module(named[3])
            here = files[named[2]]
        elif re.match(r"(cfi|cfl)=\((\d+)\) (.*)$", line):
            called = re.match(r"(?:cfi|cfl)=\((\d+)\) (.*)$", line)
            files[called[1]] = module(called[2])
        elif line.startswith("calls="):
            # The next line says what the call cost: that is counted where it was spent.
            of_a_call = True
        elif line[:1] in "+-*0123456789":
            cost = line.split()[1:]
            if cost and not of_a_call:
                counts[here] += int(cost[0])
            of_a_call = False
    return counts


def counted(start, folder, mode, transactions):
    """The instructions of a proxy's whole life, by module. `start(prefix)` starts it: its command is to
    begin with `prefix`."""
    out = folder / "callgrind.out"
    out.unlink(missing_ok=True)
    with start(["valgrind", "--tool=callgrind", f"--callgrind-out-file={out}"]) as port:
        pgbench.run(peers.Candidate("the proxy", port), mode, 1, "-t", transactions, *pgbench.SELECT_ONLY)
    harness.wait_for(lambda: out.exists() and "totals:" in out.read_text(), "callgrind's figures")
    return read(out)


def per_transaction(start, folder, mode):
    """Instructions for one transaction, by module."""
    shorter, longer = (counted(start, folder, mode, count) for count in TRANSACTIONS)
    longer.subtract(shorter)
    return {name: count / (TRANSACTIONS[1] - TRANSACTIONS[0]) for name, count in longer.items()}


def osprey(cluster, binary):
    """Starts `binary` in front of `cluster`."""

    @contextlib.contextmanager
    def start(prefix):
        proxy = harness.Osprey.in_front_of(cluster)
        proxy.command = [*prefix, binary, *proxy.command[1:]]
        with proxy:
            proxy.wait_until_known(peers.DATABASE)
            yield proxy.port

    return start


def pgbouncer(cluster, folder):
    """Starts PgBouncer in front of `cluster`."""

    @contextlib.contextmanager
    def start(prefix):
        with tempfile.TemporaryDirectory(dir=folder) as own:
            # It drops root's rights by itself and must write where it then may.
            os.chmod(own, 0o777)
            with peers.pgbouncer(cluster.port, pathlib.Path(own), prefix=prefix) as peer:
                yield peer.port

    return start


def main():
    parser = argparse.ArgumentParser(prog="benches/instructions --transactions", description=__doc__)
    parser.add_argument("--modes", nargs="+", choices=MODES, default=MODES)
    parser.add_argument("--alone", action="store_true", help="without PgBouncer")
    parser.add_argument("--json", type=pathlib.Path, help="where all figures go")
    options = parser.parse_args()
    binaries = {"osprey": harness.osprey_binary()}
    if os.environ.get("OSPREY_BEFORE"):
        binaries["before"] = os.environ["OSPREY_BEFORE"]
    figures = {}
    with harness.Cluster() as cluster, tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        folder.chmod(0o777)
        cluster.create_database(peers.DATABASE)
        endpoint = peers.Candidate("direct", cluster.port)
        subprocess.run(
            [harness.PG_BIN / "pgbench", "-qi", "-s", "1", endpoint.conninfo()],
            check=True,
            capture_output=True,
        )
        proxies = {name: osprey(cluster, binary) for name, binary in binaries.items()}
        if not options.alone:
            proxies["pgbouncer"] = pgbouncer(cluster, folder)
        print("mode      " + "".join(f"{name:>12}" for name in proxies))
        for mode in options.modes:
            figures[mode] = {
                name: per_transaction(start, folder, mode) for name, start in proxies.items()
            }
            sums = [sum(parts.values()) for parts in figures[mode].values()]
            print(f"{mode:10}" + "".join(f"{total:12,.0f}" for total in sums), flush=True)
    for mode, counted_in in figures.items():
        print(f"\n{mode}, osprey by module:")
        for name, count in sorted(counted_in["osprey"].items(), key=lambda item: -item[1]):
            if count >= 20:
                print(f"  {name:24}{count:10,.0f}")
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
