"""System calls for each transaction, as strace counts them."""

import re
import shutil
import signal
import subprocess
import time

import pgbench
from table import Table
from throughput import MODES

# For each client; of so many, the calls of its login do not show.
TRANSACTIONS = 2_000


def count(candidate, mode, clients, log):
    """Calls by name, for one transaction. strace slows the proxy down, so that with many clients it
    may find more to do in one turn than it would otherwise."""
    tracer = subprocess.Popen(
        ["strace", "-c", "-f", "-q", "-o", log, "-p", str(candidate.pid)],
        stderr=subprocess.DEVNULL,
    )
    try:
        time.sleep(0.5)
        pgbench.run(candidate, mode, clients, "-t", TRANSACTIONS, *pgbench.SELECT_ONLY)
    finally:
        tracer.send_signal(signal.SIGINT)
        tracer.wait(30)
    # % time, seconds, usecs/call, calls, [errors,] syscall
    pattern = r"^\s*[\d.]+\s+[\d.]+\s+\d+\s+(\d+)\s+(?:\d+\s+)?(\w+)$"
    found = re.findall(pattern, log.read_text(), re.M)
    return {name: int(calls) / TRANSACTIONS / clients for calls, name in found if name != "total"}


def calls(bench):
    """System calls of the proxy for each select-only transaction."""
    if shutil.which("strace") is None:
        bench.say("calls: strace is not installed; nothing is counted")
        return [], [], {}
    proxies = [candidate for candidate in bench.plain().candidates if candidate.pid]
    table = Table(
        "the proxy's system calls", "a transaction", "lower", [proxy.name for proxy in proxies]
    )
    measured, notes = {}, []
    for mode in MODES:
        for clients in (1, 16):
            label = f"{mode}, {clients} client{'s' if clients > 1 else ''}"
            bench.say(f"calls: {label}")
            counted = {
                proxy.name: count(proxy, mode, clients, bench.folder / "strace.txt")
                for proxy in proxies
            }
            measured[label] = counted
            table.add(label, {name: [sum(found.values())] for name, found in counted.items()})
            if label == "simple, 1 client":
                for name, found in counted.items():
                    most = sorted(found.items(), key=lambda item: -item[1])
                    said = ", ".join(f"{call} {number:.2f}" for call, number in most if number > 0.05)
                    notes.append(f"  {name}, {label}: {said}")
    table.note = "\n".join(notes)
    return [table], [], measured
