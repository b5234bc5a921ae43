"""Many sessions at once, slow readers, and memory that stays bounded."""

import concurrent.futures
import random
import threading
import time

import psycopg
import pytest

import conftest
import harness
import rawpg
import tasks


def busy_session(endpoint, seed):
    """A client that mixes protocols, transactions and what it reads; every answer is checked."""
    choose = random.Random(seed)
    with endpoint.connect() as connection:
        for _ in range(10 if harness.TINY_IO else 40):
            send = choose.choice([connection.execute, psycopg.ClientCursor(connection).execute])
            kind = choose.randrange(5)
            if kind == 0:
                statement, rows = choose.choice(list(tasks.READS.values()))
                assert len(send(statement).fetchall()) == rows
            elif kind == 1:
                assert send("SELECT count(*) FROM people").fetchone() == (100,)
            elif kind == 2:
                with connection.transaction(force_rollback=choose.random() < 0.5):
                    assert send("SELECT count(*) FROM salaries").fetchone() == (1000,)
            elif kind == 3:
                with pytest.raises(psycopg.errors.DivisionByZero):
                    send("SELECT 1 / 0")
            else:
                number = choose.randrange(1, 1000)
                row = connection.execute("SELECT name FROM salaries WHERE id = %s", [number])
                assert row.fetchone() == (f"name {number}",)


def test_many_sessions(through_osprey, cluster):
    with concurrent.futures.ThreadPoolExecutor(24) as pool:
        sessions = [pool.submit(busy_session, through_osprey, seed) for seed in range(48)]
        for session in sessions:
            session.result(timeout=120)
    assert cluster.scans(through_osprey.dbname)["HQE"] == (0, 0)


def test_connections_by_the_hundred(through_osprey):
    """Opened together, used, and closed."""
    clients = [rawpg.Client.logged_in(through_osprey) for _ in range(100)]
    for client in clients:
        client.send(rawpg.query("SELECT count(*) FROM salaries"))
    for client in clients:
        assert rawpg.kinds(client.until_ready()) == "TDCZ"
        client.close()


def test_slow_reader(cluster, database):
    """A client that does not read holds its server back, and not the answer in Osprey's memory."""
    conftest.need_osprey()
    megabytes = 200
    with harness.Osprey.in_front_of(cluster) as osprey:
        endpoint = osprey.endpoint(database)
        with rawpg.Client.logged_in(endpoint) as client:
            before = osprey.peak_memory()
            size = harness.bulk(1 << 20)
            statement = f"SELECT repeat('x', {size}) FROM generate_series(1, {megabytes})"
            client.send(rawpg.query(statement))
            time.sleep(1)
            # Meanwhile others are served.
            with rawpg.Client.logged_in(endpoint) as other:
                assert rawpg.kinds(other.ask(rawpg.query("SELECT 1"))) == "TDCZ"
            answer = client.until_ready()
            assert rawpg.kinds(answer) == "T" + "D" * megabytes + "CZ"
            assert osprey.peak_memory() - before < 16 << 20


def test_long_statement(endpoint):
    """A long text with the protected name at its end."""
    with endpoint.connect() as connection:
        statement = f"SELECT /* {'x' * 100_000} */ count(*) FROM salaries"
        if endpoint.direct:
            with pytest.raises(psycopg.errors.InternalError_):
                connection.execute(statement)
        else:
            assert connection.execute(statement).fetchone() == (1000,)


def test_a_deep_pipeline_of_changes_keeps_nobody_waiting(cluster, osprey, database):
    """Each statement is decided behind what is in flight, of which there may be little."""
    depth = 4_000
    cycle = b"".join(
        rawpg.parse("", text) + rawpg.bind("", "") + rawpg.execute("") + rawpg.SYNC
        for text in ("BEGIN", "SELECT 1", "COMMIT")
    )
    endpoint = osprey.endpoint(database)
    with rawpg.Client(endpoint.host, endpoint.port) as client:
        client.start_up(user="app_trust", database=database)
        client.until_ready()
        sending = threading.Thread(target=client.send, args=(cycle * depth,))
        sending.start()
        cycles = 0
        while cycles < 3 * depth:
            kind, _ = client.receive()
            cycles += kind == b"Z"
        sending.join()
    assert cycles == 3 * depth
