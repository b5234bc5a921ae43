"""Osprey beside direct connections and its peers. benches/README.md says how to read it.

All run on this machine at the same time, so absolute numbers say little. What counts are ratios: each
round measures every candidate once, in an order that changes from round to round, and ratios are made
within a round.
"""

import argparse
import contextlib
import dataclasses
import json
import os
import pathlib
import platform
import re
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "tests" / "clients"))

import calls  # noqa: E402
import encrypted  # noqa: E402
import growth  # noqa: E402
import harness  # noqa: E402
import large  # noqa: E402
import latency  # noqa: E402
import memory  # noqa: E402
import peers  # noqa: E402
import picture  # noqa: E402
import throughput  # noqa: E402

SCENARIOS = {
    "select": throughput.select,
    "pipeline": throughput.pipeline,
    "churn": throughput.churn,
    "tls": throughput.tls,
    "latency": latency.latency,
    "large": large.large,
    "encrypted": encrypted.encrypted,
    "calls": calls.calls,
    "memory": memory.memory,
    "growth": growth.growth,
}

# What --quick changes, unless it is said otherwise.
QUICK = {
    "seconds": 1,
    "rounds": 2,
    "clients": [1, 16],
    "megabytes": 100,
    "sessions": [200, 1000],
    "scale": 1,
}


class Bench:
    """What the scenarios share. Servers and peers are started when the first one asks for them."""

    def __init__(self, options, folder, stack):
        self.options = options
        self.folder = folder
        self._stack = stack
        self._stages = {}

    def _stage(self, tls):
        if tls not in self._stages:
            stage = peers.Stage(self.folder, self.options.scale, tls)
            self._stages[tls] = self._stack.enter_context(stage)
        return self._stages[tls]

    def plain(self):
        return self._stage(False)

    def tls(self):
        return self._stage(True)

    def wait_until_known(self, port, database=peers.DATABASE, relation="salary_names", seconds=20):
        """Until the Osprey at `port` has read the catalogs, which say that the relation is protected."""
        endpoint = harness.Endpoint("127.0.0.1", port, database, "osprey", peers.USER)

        def known():
            _, plan = endpoint.psql("-Atc", f"EXPLAIN SELECT * FROM {relation}")
            return "Engine: SQE" in plan

        harness.wait_for(known, "Osprey to read the catalogs", seconds)

    def say(self, what):
        print(f"{time.strftime('%H:%M:%S')} {what}", file=sys.stderr, flush=True)


def busy():
    """The share of the machine that others use: of one second, before anything is measured."""

    def times():
        spent = pathlib.Path("/proc/stat").read_text().splitlines()[0].split()[1:9]
        return [int(ticks) for ticks in spent]

    before = times()
    time.sleep(1)
    spent = [now - then for now, then in zip(times(), before)]
    # The fourth and the fifth are idle time (proc(5)).
    return 1 - (spent[3] + spent[4]) / max(sum(spent), 1)


def machine():
    """What the numbers belong to."""
    information = pathlib.Path("/proc/cpuinfo").read_text()
    model = re.search(r"model name\s*: (.*)", information)
    versions = {}
    for name, command in {
        "osprey": [harness.osprey_binary(), "--version"],
        "postgresql": [harness.PG_BIN / "postgres", "--version"],
        "pgbouncer": ["/usr/sbin/pgbouncer", "--version"],
        "haproxy": ["/usr/sbin/haproxy", "-v"],
    }.items():
        output = subprocess.run(command, capture_output=True, text=True).stdout
        versions[name] = output.splitlines()[0]
    return {
        "processor": model[1] if model else platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "kernel": platform.release(),
        "versions": versions,
        "busy_before": round(busy(), 2),
    }


def arguments():
    parser = argparse.ArgumentParser(prog="benches/run", description=__doc__.splitlines()[0])
    parser.add_argument(
        "--only", nargs="+", choices=SCENARIOS, default=list(SCENARIOS), help="these scenarios"
    )
    parser.add_argument("--quick", action="store_true", help="a little of each: whether it works")
    parser.add_argument("--seconds", type=int, help="per measurement (default 3)")
    parser.add_argument("--rounds", type=int, help="default 7")
    parser.add_argument("--clients", type=int, nargs="+", help="default 1 16 64")
    parser.add_argument("--scale", type=int, help="pgbench's scale factor (default 5)")
    parser.add_argument("--rate", type=int, help="transactions a second, for latency (default 3000)")
    parser.add_argument("--megabytes", type=int, help="of each large result (default 1024)")
    parser.add_argument("--sessions", type=int, nargs="+", help="for memory (default 1000 9000)")
    output = ROOT / "target" / "bench"
    parser.add_argument("--json", type=pathlib.Path, default=output / "results.json")
    parser.add_argument("--svg", type=pathlib.Path, default=output / "results.svg")
    options = parser.parse_args()
    usual = {
        "seconds": 3,
        "rounds": 7,
        "clients": [1, 16, 64],
        "scale": 5,
        "rate": 3000,
        "megabytes": 1024,
        "sessions": [1000, 9000],
    }
    for name, value in (usual | (QUICK if options.quick else {})).items():
        if getattr(options, name) is None:
            setattr(options, name, value)
    return options


def main():
    options = arguments()
    results = {
        "machine": machine(),
        "rounds": options.rounds,
        "options": {name: str(value) for name, value in vars(options).items()},
        "tables": [],
        "bars": [],
        "measured": {},
    }
    others = results["machine"]["busy_before"]
    if others > 0.1:
        print(f"Others use {others:.0%} of this machine: do not trust the numbers.\n", flush=True)
    bars = []
    for path in (options.json, options.svg):
        path.parent.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory(prefix="osprey-bench-") as folder,
        contextlib.ExitStack() as stack,
    ):
        folder = pathlib.Path(folder)
        folder.chmod(0o755)
        bench = Bench(options, folder, stack)
        for name in options.only:
            tables, promises, measured = SCENARIOS[name](bench)
            for table in tables:
                print(table.text(), flush=True)
            bars += promises
            results["tables"] += [dataclasses.asdict(table) for table in tables]
            results["bars"] += [{**dataclasses.asdict(bar), "holds": bar.holds} for bar in promises]
            results["measured"][name] = measured
            # After each, so that what is done is kept if the next one fails.
            options.json.write_text(json.dumps(results, indent=1))
            options.svg.write_text(picture.draw(results))
    print("\n".join(bar.text() for bar in bars))
    if options.quick:
        print("\nThis was --quick: it shows that all of it works, and no more.")
    print(f"\nAll numbers: {options.json}\nPicture: {options.svg}")


if __name__ == "__main__":
    main()
