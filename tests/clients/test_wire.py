"""What an injection costs on the wire, between Osprey and the stand-in: nothing but its bytes."""

import pytest

import conftest
import harness
import rawpg

pytestmark = pytest.mark.skipif(harness.TINY_IO, reason="counts writes, which are single bytes here")

ENCRYPTED = "SELECT count(*) FROM salaries"


@pytest.fixture(scope="module")
def relayed(cluster):
    """A relay in front of the stand-in, an Osprey in front of the relay, and a database."""
    conftest.need_osprey()
    database = cluster.create_database("wire")
    with rawpg.Relay(cluster.port) as relay:
        usual = ["--encrypted-project", "finance_byok", "--catalog-user", "osprey_catalog"]
        environment = {"OSPREY_CATALOG_PASSWORD": harness.PASSWORD}
        with harness.Osprey(relay.port, usual, environment=environment) as osprey:
            osprey.wait_until_known(database)
            yield relay, osprey.endpoint(database)


def simple(statement):
    return rawpg.query(statement)


def extended(statement):
    return b"".join(
        [
            rawpg.parse("", statement),
            rawpg.bind("", ""),
            rawpg.describe_portal(""),
            rawpg.execute(""),
            rawpg.SYNC,
        ]
    )


def exchange(relay, client, request):
    """Sends a request; returns the turns on the wire behind Osprey, and the answer."""
    events = relay.of_user("app_trust")[-1]
    begin = len(events)
    answer = client.ask(request)
    return rawpg.turns(events[begin:]), answer


@pytest.mark.parametrize("protocol", [simple, extended], ids=["simple", "extended"])
def test_injection_costs_no_round_trip(relayed, protocol):
    relay, endpoint = relayed
    with rawpg.Client.logged_in(endpoint) as client:
        plain, _ = exchange(relay, client, protocol("SELECT count(*) FROM people"))
        injected, first = exchange(relay, client, protocol(ENCRYPTED))
        later, second = exchange(relay, client, protocol(ENCRYPTED))

    # One turn to the server, one back; and what goes to the server arrives in one read.
    for wire in (plain, injected, later):
        assert [to_server for to_server, _ in wire] == [True, False], wire
        assert len(wire[0][1]) == 1, wire

    # A plain statement, and one whose route is set, go through as they are.
    assert plain[0][1] == [protocol("SELECT count(*) FROM people")]
    assert later[0][1] == [protocol(ENCRYPTED)]

    # The SET comes first, then the client's own bytes, unchanged, in the same read.
    sent = injected[0][1][0]
    assert sent.endswith(protocol(ENCRYPTED))
    ours = sent[: -len(protocol(ENCRYPTED))]
    assert f"SET {harness.ORC}".encode() in ours
    assert rawpg.kinds(rawpg.split(ours))[-1] in "QS"

    # The client sees no difference between the first and the second time.
    assert first == second
    assert rawpg.kinds(first) == ("TDCZ" if protocol is simple else "12TDCZ")


def test_pipelined_cycles_cost_no_round_trip(relayed):
    """Two cycles sent together, the second of which is injected into: still one exchange."""
    relay, endpoint = relayed
    with rawpg.Client.logged_in(endpoint) as client:
        events = relay.of_user("app_trust")[-1]
        begin = len(events)
        client.send(extended("SELECT count(*) FROM people") + extended(ENCRYPTED))
        first, second = client.until_ready(), client.until_ready()
    assert rawpg.kinds(first) == rawpg.kinds(second) == "12TDCZ"
    assert second[3][1].endswith(b"1000")
    to_server = [data for to_server, data in events[begin:] if to_server]
    assert len(to_server) == 1
    assert b"".join(to_server).count(f"SET {harness.ORC}".encode()) == 1
