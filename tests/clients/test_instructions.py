"""What one transaction costs in instructions, as valgrind counts them: a budget, and not a time.

benches/instructions --transactions counts more cases, of the binary that goes into production, and says
where they are spent.
"""

import contextlib
import subprocess

import pytest

import callgrind
import conftest
import harness

# For one transaction of `pgbench -S`, of the binary that `cargo build --release` makes, which is soon built
# and takes half as many instructions again as what goes into production, or more. A count differs by a few percent
# from run to run.
BUDGETS = {"simple": 3_700, "extended": 4_300, "prepared": 4_100}
TRANSACTIONS = (100, 600)


@pytest.mark.skipif(harness.TINY_IO, reason="its reads are single bytes")
@pytest.mark.parametrize("mode", BUDGETS)
def test_instructions_of_a_transaction(cluster, database, tmp_path, mode):
    conftest.need_osprey()
    if "debug" in harness.osprey_binary().resolve().parts:
        pytest.skip("nothing was optimized in a debug build")
    direct = cluster.endpoint(database, user="app_trust")
    pgbench(direct, "-i", "-q")

    @contextlib.contextmanager
    def start(prefix):
        proxy = harness.Osprey.in_front_of(cluster)
        proxy.command = [*prefix, *proxy.command]
        with proxy:
            proxy.wait_until_known(database)
            yield proxy.port

    def run(port, transactions):
        endpoint = harness.Endpoint("127.0.0.1", port, database, "osprey", user="app_trust")
        pgbench(endpoint, "-n", "-S", "-M", mode, "-t", str(transactions))

    total = sum(callgrind.per_transaction(start, run, tmp_path, TRANSACTIONS).values())
    # The lower bound: that they are counted at all.
    assert 500 < total <= BUDGETS[mode], f"{total:,.0f} instructions a transaction"


def pgbench(endpoint, *arguments):
    done = subprocess.run(
        [harness.PG_BIN / "pgbench", *arguments],
        env=endpoint.environment(),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
