"""Three Ospreys behind HAProxy: a cancel request finds its statement whichever of them it comes to.

    OSPREY_CANCELS=1000 tests/run clients -k cancel_replicas     a longer run
"""

import concurrent.futures
import os
import signal
import subprocess
import threading

import psycopg
import pytest

import harness
import replicas
import test_jdbc

classes = test_jdbc.classes

# Of all three clients together.
CANCELS = int(os.environ.get("OSPREY_CANCELS", "60"))
EACH = -(-CANCELS // 3)
TIMEOUT = 60 + CANCELS

RUNNING = "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query = %s"


@pytest.fixture
def three(cluster, tmp_path_factory):
    # A socket's path must be short.
    with replicas.Replicas(cluster, tmp_path_factory.mktemp("r")) as running:
        yield running


def runs(watching, text):
    harness.wait_for(lambda: watching.execute(RUNNING, [text]).fetchone() == (1,), text, 60)


def by_psycopg(endpoint):
    with endpoint.connect() as connection, endpoint.connect() as watching:
        for number in range(EACH):
            text = f"SELECT pg_sleep(60) /* psycopg {number} */"

            def cancel():
                runs(watching, text)
                connection.cancel()

            cancelling = threading.Thread(target=cancel)
            cancelling.start()
            with pytest.raises(psycopg.errors.QueryCanceled):
                connection.execute(text)
            cancelling.join()
            row = connection.execute("SELECT %s::int FROM pg_sleep(0.005)", [number]).fetchone()
            assert row == (number,)


def by_psql(endpoint):
    with endpoint.connect() as watching:
        for number in range(EACH):
            text = f"SELECT pg_sleep(60) /* psql {number} */"
            psql = subprocess.Popen(
                [harness.PG_BIN / "psql", "-X", "-c", text],
                env=endpoint.environment(),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            runs(watching, text)
            psql.send_signal(signal.SIGINT)
            out, err = psql.communicate(timeout=30)
            assert "canceling statement due to user request" in err, (psql.returncode, out, err)
            assert out == ""


def by_jdbc(endpoint, classes):
    url = f"jdbc:postgresql://{endpoint.host}:{endpoint.port}/{endpoint.dbname}?sslmode=disable"
    done = subprocess.run(
        ["java", "-cp", f"{classes}:{test_jdbc.DRIVER}", "Cancels", url]
        + [endpoint.user, endpoint.password, str(EACH)],
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
    )
    assert (done.returncode, done.stdout) == (0, f"{EACH} rounds\n"), done.stderr


def bystander(endpoint, over):
    """Somebody whom nobody cancels; how many statements have had their answer."""
    count = 0
    with endpoint.connect() as connection:
        while not over.is_set():
            count += 1
            row = connection.execute("SELECT %s::int FROM pg_sleep(0.05)", [count]).fetchone()
            assert row == (count,)
    return count


def test_a_cancel_hits_its_statement_on_any_replica(three, database, classes):
    endpoint = three.endpoint(database)
    over = threading.Event()
    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        others = [pool.submit(bystander, endpoint, over) for _ in range(3)]
        try:
            cancelling = [
                pool.submit(by_psycopg, endpoint),
                pool.submit(by_psql, endpoint),
                pool.submit(by_jdbc, endpoint, classes),
            ]
            for one in cancelling:
                one.result(TIMEOUT)
        finally:
            over.set()
        assert all(other.result(30) > 0 for other in others)
    outcomes = {
        outcome: three.metric("osprey_cancel_requests_total", outcome=outcome)
        for outcome in ("forwarded", "unknown", "dropped", "failed")
    }
    print(outcomes)
    assert outcomes["dropped"] == outcomes["failed"] == 0
    assert outcomes["forwarded"] + outcomes["unknown"] == 3 * EACH
    # In turn, so that most come where their session is not.
    assert outcomes["unknown"] > EACH
