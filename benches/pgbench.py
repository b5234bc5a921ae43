"""pgbench through Osprey, beside direct connections, PgBouncer and HAProxy.

All run on this machine at the same time, so absolute numbers say little. What counts are ratios:
each round measures every candidate once, in an order that changes from round to round, and each
candidate is divided by the direct connection of the same round. The table shows the median of those
ratios and their spread (lowest to highest).
"""

import argparse
import json
import os
import pathlib
import pwd
import random
import re
import statistics
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests" / "clients"))

from harness import PG_BIN, Cluster, Osprey, free_port, wait_for  # noqa: E402

MODES = ("simple", "extended", "prepared")
TICKS = os.sysconf("SC_CLK_TCK")


class Peer:
    """A proxy of another kind, in front of `cluster`."""

    def __init__(self, name, command, port):
        self.name = name
        self.port = port
        self.process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        wait_for(lambda: answers(port), f"{name} to accept connections")

    def stop(self):
        self.process.terminate()
        self.process.wait(10)


def answers(port):
    command = [PG_BIN / "psql", "-qAtc", "SELECT 1", address(port)]
    return subprocess.run(command, capture_output=True).returncode == 0


def address(port):
    return f"host=127.0.0.1 port={port} dbname=bench user=app_trust sslmode=disable"


def pgbouncer(upstream, folder):
    port = free_port()
    users = folder / "users.txt"
    users.write_text('"app_trust" ""\n')
    configuration = folder / "pgbouncer.ini"
    configuration.write_text(
        f"""[databases]
bench = host=127.0.0.1 port={upstream} dbname=bench
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = trust
auth_file = {users}
pool_mode = session
default_pool_size = 200
max_client_conn = 1000
logfile = /dev/null
log_connections = 0
log_disconnections = 0
"""
    )
    command = ["/usr/sbin/pgbouncer", "-q", configuration]
    if os.geteuid() == 0:
        folder.chmod(0o755)
        command += ["-u", "postgres"]
    return Peer("pgbouncer", command, port)


def haproxy(upstream, folder, threads):
    port = free_port()
    configuration = folder / f"haproxy-{threads}.cfg"
    configuration.write_text(
        f"""global
    nbthread {threads}
    maxconn 4000
defaults
    mode tcp
    timeout connect 10s
    timeout client 1h
    timeout server 1h
listen postgres
    bind 127.0.0.1:{port}
    server one 127.0.0.1:{upstream}
"""
    )
    return Peer(
        f"haproxy-{threads}", ["/usr/sbin/haproxy", "-db", "-q", "-f", configuration], port
    )


def cpu_seconds(pid):
    """User and system time of a process and of its children that have ended."""
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def measure(port, mode, clients, seconds, pid):
    before = cpu_seconds(pid) if pid else 0.0
    output = subprocess.run(
        [
            PG_BIN / "pgbench", "-n", "-S", "-M", mode, "-c", str(clients),
            "-j", str(min(clients, 2)), "-T", str(seconds), address(port),
        ],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    spent = cpu_seconds(pid) - before if pid else 0.0
    transactions = int(re.search(r"actually processed: (\d+)", output)[1])
    return {
        "tps": float(re.search(r"^tps = ([\d.]+) \(without", output, re.M)[1]),
        "cpu_us": 1e6 * spent / max(transactions, 1),
    }


def rounds(candidates, mode, clients, options):
    """One dictionary a round: candidate → what was measured."""
    results = []
    for number in range(options.rounds):
        order = list(candidates)
        random.Random(f"{mode}{clients}{number}").shuffle(order)
        results.append(
            {
                name: measure(*candidates[name][:1], mode, clients, options.seconds, candidates[name][1])
                for name in order
            }
        )
    return results


def summary(results, name):
    ratios = [result[name]["tps"] / result["direct"]["tps"] for result in results]
    return {
        "ratio": statistics.median(ratios),
        "low": min(ratios),
        "high": max(ratios),
        "tps": statistics.median(result[name]["tps"] for result in results),
        "cpu_us": statistics.median(result[name]["cpu_us"] for result in results),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=int, default=3, help="per measurement (default 3)")
    parser.add_argument("--rounds", type=int, default=5, help="default 5")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 16])
    parser.add_argument("--modes", nargs="+", choices=MODES, default=MODES)
    parser.add_argument("--scale", type=int, default=5, help="pgbench's scale factor (default 5)")
    parser.add_argument("--json", type=pathlib.Path, help="write all numbers there, too")
    options = parser.parse_args()

    with tempfile.TemporaryDirectory(prefix="osprey-bench-") as folder, Cluster() as cluster:
        folder = pathlib.Path(folder)
        cluster.create_database("bench")
        subprocess.run(
            [
                PG_BIN / "pgbench", "-qi", "-s", str(options.scale),
                f"host=127.0.0.1 port={cluster.port} dbname=bench user=app_trust",
            ],
            check=True,
            capture_output=True,
        )
        peers = [
            pgbouncer(cluster.port, folder),
            haproxy(cluster.port, folder, 1),
            haproxy(cluster.port, folder, 2),
        ]
        try:
            with Osprey.in_front_of(cluster) as osprey:
                candidates = {"direct": (cluster.port, None)}
                candidates["osprey"] = (osprey.port, osprey.process.pid)
                candidates |= {peer.name: (peer.port, peer.process.pid) for peer in peers}
                table = {}
                print(f"{'':24}" + "".join(f"{name:>26}" for name in candidates), flush=True)
                for mode in options.modes:
                    for clients in options.clients:
                        results = rounds(candidates, mode, clients, options)
                        row = {name: summary(results, name) for name in candidates}
                        table[f"{mode} c={clients}"] = {"median": row, "rounds": results}
                        cells = [f"{row['direct']['tps']:>22.0f} tps"] + [
                            f"{cell['ratio']:>9.2f} ({cell['low']:.2f}-{cell['high']:.2f}) "
                            f"{cell['cpu_us']:3.0f}µs"
                            for name, cell in row.items()
                            if name != "direct"
                        ]
                        print(f"{mode + ' c=' + str(clients):24}" + "".join(cells), flush=True)
                print(
                    "\nThroughput as a ratio to direct in the same round: median (lowest-highest); "
                    "then the proxy's own CPU time per transaction."
                )
                if options.json:
                    options.json.write_text(json.dumps(table, indent=1))
        finally:
            for peer in peers:
                peer.stop()


if __name__ == "__main__":
    pwd.getpwnam("postgres")  # said here rather than by PgBouncer, later and in other words
    main()
