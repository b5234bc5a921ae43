"""Replication passes through: COPY in both directions at once, in sessions that are relayed and no more."""

import contextlib

import psycopg2
import psycopg2.extras
import pytest

import conftest
import harness


@pytest.fixture(scope="module")
def addresses(extension):
    """A cluster that replicates, an Osprey in front of it, and a database."""
    conftest.need_osprey()
    hba = ["host all,replication replica 127.0.0.1/32 trust"]
    settings = {"wal_level": "logical", "max_wal_senders": 8}
    with harness.Cluster(settings=settings, hba=hba) as cluster:
        cluster.create_database("replicated")
        cluster.query("postgres", "CREATE ROLE replica LOGIN REPLICATION")
        with harness.Osprey.in_front_of(cluster) as osprey:
            osprey.wait_until_known("replicated")
            yield cluster, osprey.endpoint("replicated", user="replica")


def pg(program, endpoint, *arguments):
    environment = endpoint.environment()
    del environment["PGDATABASE"]
    return harness.run([harness.PG_BIN / program, *arguments], env=environment, timeout=120)


def test_base_backup(addresses, tmp_path):
    """With the WAL streamed beside it; its manifest has a checksum of every file."""
    _, endpoint = addresses
    backup = tmp_path / "backup"
    pg("pg_basebackup", endpoint, "-D", backup, "-X", "stream", "-c", "fast", "--no-sync")
    assert "successfully verified" in harness.run([harness.PG_BIN / "pg_verifybackup", backup])


def test_receive_wal(addresses, tmp_path):
    cluster, endpoint = addresses
    cluster.query("postgres", "SELECT pg_create_physical_replication_slot('wal', true)")
    fill = "INSERT INTO copied SELECT g, 'name', g FROM generate_series(1, 9999) g"
    cluster.query("replicated", fill)
    cluster.query("postgres", "SELECT pg_switch_wal()")
    until = cluster.query("postgres", "SELECT pg_current_wal_insert_lsn()")[0][0]
    cluster.query("replicated", fill)
    pg("pg_receivewal", endpoint, "-D", tmp_path, "--slot=wal", "--endpos", until, "--no-loop")
    segments = [path for path in tmp_path.iterdir() if path.suffix != ".partial"]
    assert segments
    for segment in segments:
        kept = cluster.data / "pg_wal" / segment.name
        assert segment.read_bytes() == kept.read_bytes()


def changes(endpoint, cluster, slot):
    """What logical decoding tells of an insert, up to the commit."""
    heard = []

    class Done(Exception):
        pass

    def take(message):
        # With its transaction's number left out.
        heard.append(message.payload if "table" in message.payload else message.payload[:6])
        message.cursor.send_feedback(flush_lsn=message.data_start)
        if message.payload.startswith("COMMIT"):
            raise Done

    with contextlib.closing(
        psycopg2.connect(
            endpoint.conninfo(), connection_factory=psycopg2.extras.LogicalReplicationConnection
        )
    ) as connection:
        cursor = connection.cursor()
        cursor.create_replication_slot(slot, output_plugin="test_decoding")
        # On the same connection, plain SQL.
        cursor.execute("SELECT count(*) FROM notes")
        heard.append(cursor.fetchall())
        cursor.start_replication(slot, decode=True)
        cluster.query("replicated", "UPDATE notes SET note = %s WHERE id = 1", "x" * 100_000)
        with pytest.raises(Done):
            cursor.consume_stream(take)
    harness.wait_for(
        lambda: cluster.query(
            "postgres", "SELECT active FROM pg_replication_slots WHERE slot_name = %s", slot
        )
        == [(False,)],
        "the slot to be free",
    )
    cluster.query("postgres", "SELECT pg_drop_replication_slot(%s)", slot)
    return heard


def test_logical_decoding(addresses):
    cluster, endpoint = addresses
    direct = cluster.endpoint("replicated", user="replica")
    expected = changes(direct, cluster, "direct")
    assert expected[1] == "BEGIN " and "UPDATE" in expected[2] and expected[3] == "COMMIT"
    assert changes(endpoint, cluster, "osprey") == expected
