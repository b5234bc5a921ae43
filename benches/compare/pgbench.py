"""pgbench through one candidate, and what it and the proxy's process then say."""

import pathlib
import re
import subprocess
import tempfile

from counters import Used
from harness import PG_BIN

SELECT_ONLY = ("-b", "select-only")


def command(candidate, mode, clients, *arguments):
    return [
        PG_BIN / "pgbench", "-n", "-M", mode, "-c", str(clients), "-j", str(min(clients, 2)),
        *map(str, arguments), candidate.conninfo(),
    ]


def run(candidate, mode, clients, *arguments, **options):
    """Its output, or an error with what it said."""
    done = subprocess.run(
        command(candidate, mode, clients, *arguments), capture_output=True, text=True, **options
    )
    if done.returncode != 0:
        raise RuntimeError(f"pgbench through {candidate.name}: {done.stdout}{done.stderr}")
    return done.stdout


def measure(candidate, mode, clients, seconds, script=SELECT_ONLY, statements=1):
    """Throughput, and what the proxy used for each transaction. Where a transaction of the script is
    many statements, `statements` says how many: then all is counted by statement."""
    used = Used(candidate.pid)
    output = run(candidate, mode, clients, "-T", seconds, *script)
    cpu, switches = used.so_far()
    count = int(re.search(r"actually processed: (\d+)", output)[1]) * statements
    tps = float(re.search(r"^tps = ([\d.]+)", output, re.M)[1]) * statements
    return {
        "tps": tps,
        "transactions": count,
        "cpu_us": 1e6 * cpu / count,
        "switches": switches / count,
    }


def latencies(candidate, mode, clients, rate, seconds):
    """Of every transaction at a fixed rate, in microseconds from when it was due, sorted; but for those of
    the first seconds. Who opens a connection to the server for each client's has new processes of the server's
    there, which read its catalogs first and touch each page of its memory for the first time; PgBouncer has its
    connections from the run before. After 1 s that still shows, after 3 s it does not."""
    warm_up = 3
    with tempfile.TemporaryDirectory(prefix="osprey-bench-log-") as folder:
        run(
            candidate,
            mode,
            clients,
            *("-T", seconds + warm_up, "-R", rate, "--log"),
            *SELECT_ONLY,
            cwd=folder,
        )
        # client, transaction, microseconds, script, and when it ended: seconds and microseconds (pgbench,
        # "Per-Transaction Logging")
        ended = [
            (int(fields[4]) * 1_000_000 + int(fields[5]), int(fields[2]))
            for log in pathlib.Path(folder).iterdir()
            for fields in map(str.split, log.read_text().splitlines())
        ]
    begun = min(end - took for end, took in ended)
    return sorted(took for end, took in ended if end - took >= begun + warm_up * 1_000_000)
