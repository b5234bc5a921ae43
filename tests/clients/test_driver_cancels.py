"""Cancels and time-outs of drivers, in a loop: the statement that is meant ends, and no other ever does.

    OSPREY_ROUNDS=2000 tests/run clients -k driver_cancels     a longer run
"""

import asyncio
import os
import subprocess

import asyncpg
import pytest

import test_asyncpg

ROUNDS = int(os.environ.get("OSPREY_ROUNDS", "40"))
TIMEOUT = 60 + ROUNDS


def run(command, endpoint, tls):
    """A program that connects by libpq's variables and prints what went wrong: nothing, if nothing did."""
    environment = {**endpoint.environment(), "PGSSLMODE": "require" if tls else "disable"}
    environment["OSPREY_ROUNDS"] = str(ROUNDS)
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=TIMEOUT, stdin=subprocess.DEVNULL
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{ROUNDS} rounds\n", "")


@pytest.fixture(params=[False, True], ids=["plaintext", "tls"])
def tls(request):
    return request.param


@pytest.fixture
def address(request, tls, tls_osprey):
    """Where TLS is on offer, and its database."""
    return tls_osprey.endpoint("tls")


# psycopg


PSYCOPG = """
import os, sys, threading, time
import psycopg

assert psycopg.pq.version() >= 170000, psycopg.pq.version()
rounds = int(os.environ["OSPREY_ROUNDS"])
with psycopg.connect(autocommit=True) as connection:
    tls = os.environ["PGSSLMODE"] == "require"
    assert bool(connection.pgconn.ssl_in_use) == tls
    for number in range(rounds):
        # A statement that waits is cancelled.
        timer = threading.Timer(0.05, connection.cancel_safe)
        timer.start()
        try:
            connection.execute("SELECT pg_sleep(30)")
            print("not cancelled in round", number)
        except psycopg.errors.QueryCanceled:
            pass
        timer.join()
        # One that may be over: whichever it was, the next is not hit.
        timer = threading.Timer(0.001, connection.cancel_safe)
        timer.start()
        try:
            connection.execute("SELECT pg_sleep(0.001)")
        except psycopg.errors.QueryCanceled:
            pass
        timer.join()
        assert connection.execute("SELECT pg_sleep(0.01), %s::int", [number]).fetchone()[1] == number
        # And none at all.
        connection.cancel_safe()
        assert connection.execute("SELECT pg_sleep(0.01), %s::int", [number]).fetchone()[1] == number
print(rounds, "rounds")
"""


def test_psycopg_with_encrypted_cancels(newest_psycopg, address, tls):
    """libpq from 17 on encrypts them, and complains if they do not end as TLS ends."""
    run([newest_psycopg, "-c", PSYCOPG], address, tls)


# asyncpg


async def asyncpg_times_out(endpoint, tls):
    """asyncpg sends a cancel request at a time-out and waits for the end of its connection."""
    how = {"ssl": "require"} if tls else {}
    connection = await test_asyncpg.connect(endpoint, **how)
    try:
        for number in range(ROUNDS):
            with pytest.raises(asyncio.TimeoutError):
                await connection.fetchval("SELECT pg_sleep(30)", timeout=0.05)
            assert await connection.fetchval("SELECT $1::int FROM pg_sleep(0.01)", number) == number
            # About as long as the statement takes.
            try:
                await connection.fetchval("SELECT pg_sleep(0.002)", timeout=0.003)
            except asyncio.TimeoutError:
                pass
            assert await connection.fetchval("SELECT $1::int FROM pg_sleep(0.01)", number) == number
            async with connection.transaction():
                with pytest.raises((asyncio.TimeoutError, asyncpg.QueryCanceledError)):
                    async with connection.transaction():
                        await connection.execute("SELECT pg_sleep(30)", timeout=0.05)
                assert await connection.fetchval("SELECT $1::int", number) == number
    finally:
        await connection.close()


def test_asyncpg_timeouts(address, tls):
    asyncio.run(asyncio.wait_for(asyncpg_times_out(address, tls), TIMEOUT))


# DBD::Pg


PERL = r"""
use strict;
use warnings;
use DBI;
use DBD::Pg qw(:async);
use Time::HiRes qw(sleep);

my $rounds = $ENV{OSPREY_ROUNDS};
my $db = DBI->connect("dbi:Pg:", undef, undef, {RaiseError => 1, PrintError => 0, AutoCommit => 1});
# DBD::Pg ends transactions that there are not.
$db->do("SET client_min_messages = error");
for my $number (1 .. $rounds) {
    $db->do("SELECT pg_sleep(30)", {pg_async => PG_ASYNC});
    sleep(0.05);
    $db->pg_cancel() or print "not cancelled in round $number\n";
    my ($seen) = $db->selectrow_array("SELECT $number FROM pg_sleep(0.01)");
    print "round $number saw $seen\n" unless $seen == $number;
    # One that is over, or not.
    $db->do("SELECT pg_sleep(0.001)", {pg_async => PG_ASYNC});
    sleep(0.001);
    $db->pg_cancel();
    ($seen) = $db->selectrow_array("SELECT $number FROM pg_sleep(0.01)");
    print "round $number saw $seen\n" unless $seen == $number;
    # The next statement cancels the one before; one that the server has not begun is not cancelled.
    $db->do("SELECT pg_sleep(1)", {pg_async => PG_ASYNC});
    $db->do("SELECT $number FROM pg_sleep(0.01)", {pg_async => PG_ASYNC | PG_OLDQUERY_CANCEL});
    $db->pg_result();
}
$db->disconnect();
print "$rounds rounds\n";
"""


def test_dbd_pg_asynchronous_queries(address, tls):
    run(["perl", "-e", PERL], address, tls)


# ruby-pg


RUBY = """
require 'pg'

rounds = Integer(ENV.fetch('OSPREY_ROUNDS'))
connection = PG.connect
rounds.times do |number|
  connection.send_query('SELECT pg_sleep(30)')
  sleep 0.05
  complaint = connection.cancel
  puts complaint if complaint
  begin
    connection.get_last_result
    puts "not cancelled in round #{number}"
  rescue PG::QueryCanceled
  end
  seen = connection.exec("SELECT #{number} FROM pg_sleep(0.01)").getvalue(0, 0)
  puts "round #{number} saw #{seen}" unless Integer(seen) == number
  # A statement that is over, or not.
  connection.send_query('SELECT pg_sleep(0.001)')
  complaint = connection.cancel
  puts complaint if complaint
  begin
    connection.get_last_result
  rescue PG::QueryCanceled
  end
  seen = connection.exec("SELECT #{number} FROM pg_sleep(0.01)").getvalue(0, 0)
  puts "round #{number} saw #{seen}" unless Integer(seen) == number
end
connection.close
puts "#{rounds} rounds"
"""


def test_ruby_pg_cancels(address, tls):
    run(["ruby", "-e", RUBY], address, tls)
