"""Large results and COPY, plaintext and TLS, by a client that throws rows away (wire.rs)."""

import os
import subprocess

from counters import Used
from peers import DATABASE, USER
from table import Bar, Table, interleaved, ratios, values

SIZES = {"rows of 100 bytes": 100, "rows of 10 KB": 10_000}


def transfers(megabytes):
    """label → the arguments that go behind the address."""
    made = {}
    for size, row in SIZES.items():
        # In the target list, generate_series() makes its rows as they are asked for.
        count = (megabytes << 20) // row
        rows = f"SELECT repeat('x', {row - 20}), generate_series(1, {count})"
        made[f"SELECT, {size}"] = ("drain", rows)
        made[f"COPY out, {size}"] = ("drain", f"COPY ({rows}) TO STDOUT")
        # The server reads every row and keeps none.
        made[f"COPY in, {size}"] = ("fill", "COPY sink FROM STDIN WHERE false", row, count)
    return made


def transfer(candidate, arguments):
    command, sql, *numbers = arguments
    used = Used(candidate.pid)
    done = subprocess.run(
        [os.environ["WIRE_BIN"], command, f"127.0.0.1:{candidate.port}", DATABASE, USER]
        + [candidate.authority or "-", sql, *map(str, numbers)],
        capture_output=True,
        text=True,
    )
    if done.returncode != 0:
        raise RuntimeError(f"{sql} through {candidate.name}: {done.stderr}")
    size, seconds = map(float, done.stdout.split())
    return {
        "rate": size / seconds / 1e6,
        "cpu_ms": 1e12 * used.so_far()[0] / size,
    }


def over(bench, stage, title, promised):
    stage.cluster.query(DATABASE, "CREATE TABLE IF NOT EXISTS sink (line text)")
    stage.cluster.query(DATABASE, f"GRANT ALL ON sink TO {USER}")
    candidates = stage.candidates
    names = [candidate.name for candidate in candidates]
    proxies = names[1:]
    others = [name for name in names if name != "osprey"]
    absolute = Table(f"{title}: direct", "MB/s", "higher", ["direct"], digits=0, drawn=False)
    relative = Table(f"{title}: speed", "of direct", "higher", proxies)
    against = Table(f"{title}: Osprey's speed", "of each", "higher", others, drawn=False)
    cpu = Table(f"{title}: the proxy's CPU time", "ms a GB", "lower", proxies, digits=0)
    bars, measured = [], {}
    for label, arguments in transfers(bench.options.megabytes).items():
        bench.say(f"{title}: {label}")
        results = interleaved(
            candidates,
            bench.options.rounds,
            f"{title}{label}",
            lambda candidate: transfer(candidate, arguments),
        )
        measured[label] = results
        absolute.add(label, {"direct": values(results, "rate", "direct")})
        relative.add(label, {name: ratios(results, "rate", name, "direct") for name in proxies})
        against.add(label, {name: ratios(results, "rate", "osprey", name) for name in others})
        cpu.add(label, {name: values(results, "cpu_ms", name) for name in proxies})
        if promised:
            peers = ("pgbouncer", "haproxy-1", "haproxy-2")
            faster = min(against.median(label, peer) for peer in peers)
            bars.append(Bar(f"{title}, {label}: speed of the fastest peer's", faster, least=0.97))
    return [absolute, relative, against, cpu], bars, measured


def large(bench):
    """Large results by SELECT and by COPY, and COPY in."""
    plain = over(bench, bench.plain(), "large results", True)
    encrypted = over(bench, bench.tls(), "large results over TLS", False)
    encrypted[0][1].note = "Through HAProxy, TLS passes to the server."
    return (
        plain[0] + encrypted[0],
        plain[1] + encrypted[1],
        {"plaintext": plain[2], "tls": encrypted[2]},
    )
