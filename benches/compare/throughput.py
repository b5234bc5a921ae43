"""Throughput of small statements: select-only in each protocol, pipelines, churn, TLS."""

import pgbench
from table import Bar, Table, interleaved, ratios, values

MODES = ("simple", "extended", "prepared")
PIPELINE = 100


def tables(title, candidates, measured, what="transaction"):
    """The four tables of a scenario; `measured`: label → rounds."""
    names = [candidate.name for candidate in candidates]
    proxies = [candidate.name for candidate in candidates if candidate.pid]
    others = [name for name in names if name != "osprey"]
    absolute = Table(f"{title}: throughput, direct", f"{what}s a second", "higher", ["direct"], digits=0, drawn=False)
    relative = Table(f"{title}: throughput", "of direct", "higher", proxies)
    against = Table(f"{title}: Osprey's throughput", "of each", "higher", others, drawn=False)
    cpu = Table(f"{title}: the proxy's CPU time", f"µs a {what}", "lower", proxies, digits=1)
    switches = Table(f"{title}: the proxy's context switches", f"a {what}", "lower", proxies, drawn=False)
    for label, results in measured.items():
        absolute.add(label, {"direct": values(results, "tps", "direct")})
        relative.add(label, {name: ratios(results, "tps", name, "direct") for name in proxies})
        against.add(label, {name: ratios(results, "tps", "osprey", name) for name in others})
        cpu.add(label, {name: values(results, "cpu_us", name) for name in proxies})
        switches.add(label, {name: values(results, "switches", name) for name in proxies})
    return [absolute, relative, against, cpu, switches]


def bars(title, made, cpu=True):
    """The promises of throughput, and of CPU time, from the tables of a scenario."""
    _, _, against, used, _ = made
    result = []
    for row in against.rows:
        label = row["label"]
        for peer, least in (("pgbouncer", 1.03), ("haproxy-1", 1.0), ("haproxy-2", 1.0)):
            if peer in row["cells"]:
                ratio = row["cells"][peer]["median"]
                result.append(Bar(f"{title}, {label}: throughput of {peer}'s", ratio, least=least))
        if cpu:
            ratio = used.median(label, "osprey") / max(used.median(label, "pgbouncer"), 1e-9)
            result.append(Bar(f"{title}, {label}: CPU time of pgbouncer's", ratio, most=1.0))
    return result


def rows(bench, candidates, name, modes, **how):
    measured = {}
    for mode in modes:
        for clients in bench.options.clients:
            label = f"{mode}, {clients} client{'s' if clients > 1 else ''}"
            bench.say(f"{name}: {label}")
            measured[label] = interleaved(
                candidates,
                bench.options.rounds,
                f"{name}{label}",
                lambda candidate: pgbench.measure(
                    candidate, mode, clients, bench.options.seconds, **how
                ),
            )
    return measured


def select(bench):
    """pgbench's select-only, in each protocol, at each number of clients."""
    candidates = bench.plain().candidates
    measured = rows(bench, candidates, "select", MODES)
    made = tables("select-only", candidates, measured)
    return made, bars("select-only", made), measured


def pipeline(bench):
    """The same statement, 100 of them in one pipeline."""
    candidates = bench.plain().candidates
    script = bench.folder / "pipeline.sql"
    lines = ["\\set aid random(1, 100000 * :scale)", "\\startpipeline"]
    lines += ["SELECT abalance FROM pgbench_accounts WHERE aid = :aid;"] * PIPELINE
    script.write_text("\n".join([*lines, "\\endpipeline", ""]))
    how = {"script": ("-s", bench.options.scale, "-f", script), "statements": PIPELINE}
    measured = rows(bench, candidates, "pipeline", MODES[1:], **how)
    title = f"pipelines of {PIPELINE}"
    made = tables(title, candidates, measured, "statement")
    return made, bars(title, made), measured


def churn(bench):
    """A connection for each transaction, plaintext and TLS."""
    measured = {}
    how = {"script": ("-C", *pgbench.SELECT_ONLY)}
    candidates = bench.plain().candidates
    measured = rows(bench, candidates, "churn", MODES[:1], **how)
    made = tables("a connection each", candidates, measured)
    made[1].note = "PgBouncer keeps its connections to the server, and so may be faster than direct."
    encrypted = bench.tls().candidates
    over_tls = rows(bench, encrypted, "churn over TLS", MODES[:1], **how)
    made += tables("a TLS connection each", encrypted, over_tls)
    return made, [], {"plaintext": measured, "tls": over_tls}


def tls(bench):
    """select-only by clients that use TLS."""
    candidates = bench.tls().candidates
    measured = rows(bench, candidates, "TLS", MODES)
    made = tables("select-only over TLS", candidates, measured)
    made[1].note = (
        "Osprey and PgBouncer take the client's TLS off; through HAProxy it passes to the server, "
        "which then does that work, as it does for a direct connection."
    )
    return made, bars("select-only over TLS", made, cpu=False), measured
