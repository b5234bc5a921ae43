"""How Osprey's throughput, CPU time and memory change with what there is more of: open sessions, names
that are protected, bytes of a statement.

What is at work is the same at each step, so a step differs from the one before it by what grows alone.
"""

import contextlib
import threading
import time

import harness
import memory
import peers
import pgbench
from counters import resident
from table import Table, interleaved, ratios, values

# Clients at work, of as many sessions as there are.
CLIENTS = 16
SESSIONS = [1, 10, 100, 1_000, 10_000]
NAMES = [10, 1_000, 10_000, 100_000]
LENGTHS = [100, 1_000, 10_000, 100_000, 1_000_000]
# The same, of --quick.
FEW_SESSIONS = [100, 500]
FEW_NAMES = [10, 1_000]
FEW_LENGTHS = [100, 100_000]

IDLE_DATABASE = "idle"
NAMES_DATABASE = "names"
# What each column shows; in front of it, where there are several, stands what runs. The picture knows
# these words.
RATIO, CPU, MEMORY = "of direct", "µs", "MiB"
# And what it does not draw.
ONE_MORE, KNOWN = "KiB for one more", "s until known"


def mebibytes(size):
    return size / (1 << 20)


def at_work(candidate, mode, clients, seconds, **how):
    """What `pgbench.measure` says, and what the proxy's process has in memory in the middle of it."""
    seen = []
    look = threading.Timer(seconds / 2, lambda: seen.append(resident(candidate.pid)))
    if candidate.pid:
        look.start()
    try:
        result = pgbench.measure(candidate, mode, clients, seconds, **how)
    finally:
        look.cancel()
    return result | {"mib": mebibytes(sum(seen))}


def cells(results, name, what=None):
    """The columns of one proxy; `what` runs, if that has to be said."""
    prefix = f"{what}: " if what else ""
    return {
        f"{prefix}{RATIO}": ratios(results, "tps", name, "direct"),
        f"{prefix}{CPU}": values(results, "cpu_us", name),
    }


def counted(count, what):
    return f"{count:,} {what}{'s' if count > 1 else ''}"


def growth(bench):
    """What grows with sessions, with names, with the length of a statement."""
    tables, measured = [], {}
    for part in (sessions, names, lengths):
        table, measured[part.__name__] = part(bench, bench.plain())
        tables.append(table)
    return tables, [], measured


def two_upstreams(port, cluster, silent):
    """Osprey's configuration: one database is on the server that costs nothing, all others are on the
    cluster."""
    return f"""[[upstream]]
name = "bench"
address = "127.0.0.1:{cluster}"
[upstream.protect]
projects = ["finance_byok"]
[upstream.catalog]
user = "osprey_catalog"
[[upstream]]
name = "idle"
address = "127.0.0.1:{silent}"
[upstream.tls]
mode = "disable"
[upstream.catalog]
borrow = false
[[listener]]
addresses = ["127.0.0.1:{port}"]
upstream = "bench"
[[listener.rule]]
database = "{IDLE_DATABASE}"
upstream = "idle"
[limits]
max_sessions = 20000
"""


def sessions(bench, stage):
    """pgbench's select-only beside sessions that stand idle."""
    wanted = FEW_SESSIONS if bench.options.quick else SESSIONS
    # Before the processes start that inherit it.
    files, possible = memory.possible_sessions()
    counts = sorted({min(count, possible // 100 * 100) for count in wanted})
    table = Table(
        "growth: open sessions",
        f"{CLIENTS} of them run pgbench -S, prepared",
        "",
        [RATIO, CPU, MEMORY, ONE_MORE],
        drawn=False,
        along="open sessions",
    )
    if counts != wanted:
        table.note = f"A process may have {files} open files here: no more than {max(counts):,} sessions."
        bench.say(f"growth: {table.note}")
    measured = {}
    port = harness.free_port()
    with memory.upstream() as silent:
        osprey = harness.Osprey.from_file(
            bench.folder / "growth-sessions.toml",
            two_upstreams(port, stage.cluster.port, silent),
            port,
            environment={"OSPREY_CATALOG_PASSWORD": harness.PASSWORD},
        )
        with osprey, contextlib.closing(memory.Sessions(port, database=IDLE_DATABASE)) as idle:
            bench.wait_until_known(port)
            candidates = [stage.candidates[0], peers.Candidate("osprey", port, osprey.process.pid)]
            less, fewer = [], 0
            for count in counts:
                label = counted(count, "session")
                bench.say(f"growth: {label}")
                clients = min(count, CLIENTS)
                idle.open(count - clients)
                results = interleaved(
                    candidates,
                    bench.options.rounds,
                    f"growth{label}",
                    lambda candidate: at_work(candidate, "prepared", clients, bench.options.seconds),
                )
                measured[label] = results
                row = cells(results, "osprey")
                row[MEMORY] = values(results, "mib", "osprey")
                # What the first ones bring into memory, code and pools, is no session's.
                if fewer >= memory.FIRST:
                    row[ONE_MORE] = [
                        1024 * (now - then) / (count - fewer) for now, then in zip(row[MEMORY], less)
                    ]
                less, fewer = row[MEMORY], count
                table.add(label, row, at=count)
            idle.check_some()
    return table, measured


# Layers, subjects and things, as a warehouse names its tables; a number makes each name another.
MANY = """DO $$
DECLARE
    layers text[] := '{ods,dwd,dws,dim,ads}';
    subjects text[] := '{trade,user,item,shop,order,risk,log,search,ad,coupon,refund,supply,member,store}';
    things text[] := '{detail,daily,base,relation,summary,snapshot,change,index,event,label,price,flow,stock}';
    made text;
BEGIN
    FOR i IN FIRST..LAST LOOP
        made := layers[1 + i % 5] || '_' || subjects[1 + i / 5 % 14] || '_' || things[1 + i / 70 % 13] || '_' || i;
        EXECUTE format('CREATE FOREIGN TABLE %s (id int, name text) SERVER growth
            OPTIONS (project_name ''finance_byok'', table_name ''salaries'')', made);
        IF i IN (FIRST, LAST) THEN
            EXECUTE format('GRANT SELECT ON %s TO PUBLIC', made);
        END IF;
        IF i % 1000 = 0 THEN COMMIT; END IF;
    END LOOP;
END $$"""


def make_names(cluster, first, last):
    """Foreign tables from a number to a number; the names of these two."""
    statement = MANY.replace("FIRST", str(first)).replace("LAST", str(last))
    cluster.query(NAMES_DATABASE, statement)
    numbered = "SELECT relname FROM pg_class WHERE relkind = 'f' AND relname LIKE %s"
    return [
        cluster.query(NAMES_DATABASE, numbered, f"%\\_{number}")[0][0] for number in (first, last)
    ]


def names(bench, stage):
    """Statements through Ospreys of which each knows more names than the one before it."""
    counts = FEW_NAMES if bench.options.quick else NAMES
    cluster = stage.cluster
    cluster.create_database(NAMES_DATABASE)
    peers.fill(cluster.port, NAMES_DATABASE, 1)
    cluster.query(NAMES_DATABASE, "CREATE SERVER growth FOREIGN DATA WRAPPER odps_fdw")
    configuration = bench.folder / "growth-names.toml"
    # These tables alone, and none of those that are made later.
    configuration.write_text('[catalog]\nservers = ["growth"]\nrefresh = "1d"\n')
    script = bench.folder / "growth-protected.sql"
    scripts = {"open": pgbench.SELECT_ONLY, "protected": ("-f", script)}
    columns = [f"{what}: {unit}" for what in scripts for unit in (RATIO, CPU)]
    table = Table(
        "growth: protected names",
        f"{CLIENTS} clients, simple; open: pgbench -S; protected: a read of a foreign table",
        "",
        [*columns, MEMORY, KNOWN],
        drawn=False,
        along="protected names",
    )
    made_before = f"-c {harness.ORC}=off"
    candidates = [
        peers.Candidate("direct", cluster.port, options=made_before, database=NAMES_DATABASE)
    ]
    took, held, measured = {}, {}, {}
    with contextlib.ExitStack() as stack:
        made = 0
        for count in counts:
            label = counted(count, "name")
            bench.say(f"growth: {label}")
            first, last = make_names(cluster, made + 1, count)
            if made == 0:
                # Each time another text, as pgbench's own: one that was seen before is not decided again.
                script.write_text(
                    "\\set other random(1000, 100000000)\n"
                    f"SELECT name FROM {first} WHERE id <> :other LIMIT 1;\n"
                )
            made = count
            osprey = stack.enter_context(harness.Osprey.in_front_of(cluster, config=configuration))
            begin = time.monotonic()
            bench.wait_until_known(osprey.port, NAMES_DATABASE, last, seconds=120)
            took[label] = time.monotonic() - begin
            # Before it works: then it remembers texts, too.
            held[label] = mebibytes(memory.settled(osprey.process.pid))
            candidates.append(
                peers.Candidate(label, osprey.port, osprey.process.pid, database=NAMES_DATABASE)
            )
        # Now, and not by autovacuum while something is measured.
        cluster.query(NAMES_DATABASE, "VACUUM ANALYZE")
        cluster.query(NAMES_DATABASE, "CHECKPOINT")
        for what, how in scripts.items():
            bench.say(f"growth: {what} statements")
            measured[what] = interleaved(
                candidates,
                bench.options.rounds,
                f"growth{what}",
                lambda candidate: at_work(
                    candidate, "simple", CLIENTS, bench.options.seconds, script=how
                ),
            )
    cluster.drop_database(NAMES_DATABASE)
    for count in counts:
        label = counted(count, "name")
        row = {MEMORY: [held[label]], KNOWN: [took[label]]}
        for what, results in measured.items():
            row |= cells(results, label, what)
        table.add(label, row, at=count)
    return table, measured | {KNOWN: took, f"{MEMORY} when known": held}


def with_list(length):
    """A lookup of so many bytes, by a list of literals of which all but one find nothing."""
    head, tail = "SELECT abalance FROM pgbench_accounts WHERE aid IN (:aid", ");"
    literals = (f", {number}" for number in range(100_000_000, 200_000_000))
    size = len(head) + len(tail)
    parts = [head]
    while size + 11 <= length:
        parts.append(next(literals))
        size += 11
    return "".join([*parts, tail])


def with_comment(length):
    """The same lookup, in so many bytes by a comment, which costs the server next to nothing."""
    head, tail = "SELECT /* ", " */ abalance FROM pgbench_accounts WHERE aid = :aid;"
    return head + "x" * (length - len(head) - len(tail)) + tail


def written(length):
    for unit, size in (("MB", 1_000_000), ("KB", 1_000)):
        if length >= size:
            return f"{length // size} {unit}"
    return f"{length} bytes"


def lengths(bench, stage):
    """A lookup in longer and longer words."""
    kinds = {"list": with_list, "comment": with_comment}
    columns = [f"{what}: {unit}" for what in kinds for unit in (RATIO, CPU)]
    table = Table(
        "growth: length of a statement",
        "1 client, simple; list: aid IN (literals); comment: all but the lookup is one",
        "",
        [*columns, MEMORY],
        drawn=False,
        along="bytes of a statement",
    )
    direct, osprey = stage.candidates[:2]
    bench.wait_until_known(osprey.port)
    measured = {}
    for length in FEW_LENGTHS if bench.options.quick else LENGTHS:
        label = written(length)
        row = {MEMORY: []}
        for what, make in kinds.items():
            bench.say(f"growth: {label}, {what}")
            script = bench.folder / f"growth-{what}.sql"
            script.write_text(f"\\set aid random(1, 100000)\n{make(length)}\n")
            results = interleaved(
                [direct, osprey],
                bench.options.rounds,
                f"growth{label}{what}",
                lambda candidate: at_work(
                    candidate, "simple", 1, bench.options.seconds, script=("-f", script)
                ),
            )
            measured[f"{label}, {what}"] = results
            row[MEMORY] += values(results, "mib", "osprey")
            row |= cells(results, "osprey", what)
        table.add(label, row, at=length)
    return table, measured
