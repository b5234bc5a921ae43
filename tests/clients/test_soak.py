"""The soak (tests/run soak), for some seconds."""

import pytest

import harness
import soak


@pytest.mark.skipif(harness.TINY_IO, reason="a load in single bytes")
def test_a_mixed_load_while_replicas_come_and_go(extension):
    figures = soak.run(seconds=6, idle=50, busy=12, faults=True, seed=1)
    assert not figures["findings"], figures
    counts = figures["counts"]
    print(figures)
    # It was a load, and there was trouble.
    for what in ("rows written", "rounds", "cancels", "psql", "pgbench", "kill", "restart", "take over"):
        assert counts.get(what, 0) > 0, (what, counts)
