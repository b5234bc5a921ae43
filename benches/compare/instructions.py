"""Instructions in user space for one transaction, as valgrind's callgrind counts them: of `pgbench -S` in
each protocol, with a connection for each, and of what Osprey alone does. Of Osprey and of PgBouncer, with
one client, and where Osprey spends them."""

import argparse
import contextlib
import dataclasses
import json
import os
import pathlib
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "tests" / "clients"))

import callgrind  # noqa: E402
import harness  # noqa: E402
import peers  # noqa: E402
import pgbench  # noqa: E402

# Of the shorter run, and of the longer one.
TRANSACTIONS = (500, 2_500)
FEW = (20, 120)
ENCRYPTED = "SELECT name FROM sales.eu_salaries WHERE id = 7;"
OPEN = "SELECT label FROM items WHERE id = 7;"
UNKNOWN = "SELECT what FROM events WHERE id = 7;"


@dataclasses.dataclass(frozen=True)
class Case:
    """What is counted. A transaction of it is one of `pgbench -S`, or of the statements given."""

    mode: str
    statements: tuple = ()
    # pgbench's, and Osprey's
    arguments: tuple = ()
    settings: tuple = ()
    config: str = ""
    numbers: tuple = TRANSACTIONS

    @property
    def has_a_peer(self):
        """True if PgBouncer serves it, too."""
        return not self.statements


CASES = {
    "simple": Case("simple"),
    "extended": Case("extended"),
    "prepared": Case("prepared"),
    # A login, a transaction, and the end. PgBouncer has its connection to the server already.
    "connection": Case("simple", arguments=("-C",), config=peers.AS_THE_OTHERS, numbers=FEW),
    "steered": Case("prepared", (ENCRYPTED,)),
    # Both statements change the engine.
    "two switches": Case("prepared", (ENCRYPTED, OPEN), settings=("--scope", "statement")),
    # HQE fails each time, since what is learned of it is forgotten at once.
    "heal": Case("simple", (UNKNOWN,), config=harness.FORGETS, numbers=FEW),
}


def runs(case, folder):
    """What sends a case's transactions to a port."""
    script = pgbench.SELECT_ONLY
    if case.statements:
        path = folder / "script.sql"
        path.write_text("\n".join([*case.statements, ""]))
        script = ("-f", path)

    def run(port, transactions):
        candidate = peers.Candidate("the proxy", port)
        pgbench.run(candidate, case.mode, 1, "-t", transactions, *case.arguments, *script)

    return run


def osprey(cluster, binary, folder):
    """What starts `binary` in front of `cluster` for a case."""

    def of(case):
        @contextlib.contextmanager
        def start(prefix):
            config = folder / "osprey.toml"
            config.write_text(case.config)
            proxy = harness.Osprey.in_front_of(cluster, *case.settings, config=config)
            proxy.command = [*prefix, binary, *proxy.command[1:]]
            with proxy:
                proxy.wait_until_known(peers.DATABASE)
                yield proxy.port

        return start

    return of


def pgbouncer(cluster, folder):
    """What starts PgBouncer in front of `cluster`, whatever the case."""

    @contextlib.contextmanager
    def start(prefix):
        with tempfile.TemporaryDirectory(dir=folder) as own:
            # It drops root's rights by itself and must write where it then may.
            os.chmod(own, 0o777)
            with peers.pgbouncer(cluster.port, pathlib.Path(own), prefix=prefix) as peer:
                yield peer.port

    return lambda _: start


def main():
    parser = argparse.ArgumentParser(prog="benches/instructions --transactions", description=__doc__)
    parser.add_argument("--only", nargs="+", choices=CASES, default=CASES, metavar="CASE")
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
        proxies = {name: osprey(cluster, binary, folder) for name, binary in binaries.items()}
        if not options.alone:
            proxies["pgbouncer"] = pgbouncer(cluster, folder)
        print("case          " + "".join(f"{name:>12}" for name in proxies))
        for name in options.only:
            case = CASES[name]
            figures[name] = {
                proxy: callgrind.per_transaction(of(case), runs(case, folder), folder, case.numbers)
                for proxy, of in proxies.items()
                if case.has_a_peer or proxy != "pgbouncer"
            }
            sums = [sum(parts.values()) for parts in figures[name].values()]
            print(f"{name:14}" + "".join(f"{total:12,.0f}" for total in sums), flush=True)
    for name, counted_in in figures.items():
        print(f"\n{name}, osprey by module:")
        for part, count in sorted(counted_in["osprey"].items(), key=lambda item: -item[1]):
            if count >= 20:
                print(f"  {part:24}{count:10,.0f}")
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
