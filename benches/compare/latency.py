"""Latency at a rate that every candidate can serve."""

import pgbench
from table import Bar, Table, interleaved, ratios, values
from throughput import MODES

PERCENTILES = (50, 99, 99.9)
CLIENTS = 16


def percentile(ordered, percent):
    """The nearest rank."""
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]


def latency(bench):
    """p50, p99 and p99.9 of select-only at a fixed rate."""
    candidates = bench.plain().candidates
    names = [candidate.name for candidate in candidates]
    rate = bench.options.rate
    # Of fewer transactions, the 99.9th percentile would be the slowest one.
    seconds = max(bench.options.seconds, 5_000 // rate + 1)

    def measure(candidate, mode):
        times = pgbench.latencies(candidate, mode, CLIENTS, rate, seconds)
        return {f"p{percent:g}": percentile(times, percent) for percent in PERCENTILES}

    table = Table(
        f"latency at {rate} transactions a second, {CLIENTS} clients", "µs", "lower", names, digits=0
    )
    bars, measured = [], {}
    for mode in MODES:
        bench.say(f"latency: {mode}")
        results = interleaved(
            candidates, bench.options.rounds, f"latency{mode}", lambda one: measure(one, mode)
        )
        measured[mode] = results
        for percent in PERCENTILES:
            key = f"p{percent:g}"
            table.add(f"{mode}, {key}", {name: values(results, key, name) for name in names})
        against = sorted(ratios(results, "p99", "osprey", "pgbouncer"))
        bars.append(
            Bar(f"latency, {mode}: p99 of pgbouncer's", against[len(against) // 2], most=1.0)
        )
    table.note = "Counted from the moment at which the transaction was due."
    return [table], bars, measured
