"""Statements that read encrypted foreign tables: what injecting the setting costs.

The server is the stand-in for Hologres. Its engines do not differ in speed, so what is seen is the
cost of the setting alone.
"""

import dataclasses

import pgbench
from harness import ORC, Osprey
from peers import DATABASE, Candidate
from table import Bar, Table, interleaved, ratios, values

LOOKUP = "SELECT team FROM people WHERE id = :id;"
ENCRYPTED = "SELECT name FROM sales.eu_salaries WHERE id = 7;"
OPEN = "SELECT label FROM items WHERE id = 7;"

# In statement scope, the setting changes twice for each transaction of the last one only.
ALTERNATING = "encrypted, open foreign table"
SCRIPTS = {
    "local lookup": [LOOKUP],
    "encrypted": [ENCRYPTED],
    "encrypted, local lookup": [ENCRYPTED, LOOKUP],
    ALTERNATING: [ENCRYPTED, OPEN],
}


def encrypted(bench):
    """Injection in both scopes, against the setting already made."""
    stage = bench.plain()
    stage.cluster.query(DATABASE, "ANALYZE people")
    made_before = f"-c {ORC}=off"
    direct, session = stage.candidates[:2]
    with Osprey.in_front_of(stage.cluster, "--scope", "statement") as other:
        statement = Candidate("statement scope", other.port, other.process.pid)
        candidates = [
            dataclasses.replace(direct, options=made_before),
            # What comes from the client is left alone: the proxy, without injection.
            dataclasses.replace(session, name="set by the client", options=made_before),
            dataclasses.replace(session, name="session scope"),
            statement,
        ]
        for port in (session.port, other.port):
            bench.wait_until_known(port)
        return compare(bench, stage.cluster, candidates)


def compare(bench, cluster, candidates):
    names = [candidate.name for candidate in candidates]
    relative = Table("encrypted tables: throughput", "of direct, set before", "higher", names[1:])
    injection = Table(
        "encrypted tables: throughput", "of Osprey without injection", "higher", names[2:]
    )
    absolute = Table("encrypted tables: time of a transaction", "µs", "lower", names, digits=1, drawn=False)
    changes = Table("encrypted tables: changes of the setting", "a transaction", "lower", names, drawn=False)
    bars, measured = [], {}

    def measure(candidate, mode, script):
        before = cluster.setting_changes(DATABASE)
        result = pgbench.measure(candidate, mode, 1, bench.options.seconds, ("-f", script))
        made = cluster.setting_changes(DATABASE) - before
        return result | {"changes": made / result["transactions"]}

    for mode in ("simple", "prepared"):
        for what, statements in SCRIPTS.items():
            label = f"{mode}, {what}"
            bench.say(f"encrypted: {label}")
            script = bench.folder / "encrypted.sql"
            script.write_text("\n".join(["\\set id random(1, 100)", *statements, ""]))
            results = interleaved(
                candidates,
                bench.options.rounds,
                label,
                lambda candidate: measure(candidate, mode, script),
            )
            measured[label] = results
            relative.add(label, {name: ratios(results, "tps", name, "direct") for name in names[1:]})
            plain = "set by the client"
            injection.add(label, {name: ratios(results, "tps", name, plain) for name in names[2:]})
            absolute.add(
                label, {name: [1e6 / tps for tps in values(results, "tps", name)] for name in names}
            )
            changes.add(label, {name: values(results, "changes", name) for name in names})
            if what == "encrypted":
                ratio = injection.median(label, "session scope")
                bars.append(Bar(f"session scope, {label}: of no injection", ratio, least=0.98))
        change = absolute.median(f"{mode}, {ALTERNATING}", "statement scope")
        change -= absolute.median(f"{mode}, {ALTERNATING}", "set by the client")
        lookup = absolute.median(f"{mode}, local lookup", "statement scope")
        share = 100 * change / 2 / lookup
        bars.append(
            Bar(f"statement scope, {mode}: a switch, % of a local lookup", share, most=5, digits=1)
        )
    absolute.note = "One client; a transaction is the statements that the row names."
    return [relative, injection, absolute, changes], bars, measured
