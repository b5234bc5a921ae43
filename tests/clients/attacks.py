"""What the tests of attacks stand on: a hostile client or server beside somebody who only works, and the
measure of the memory that the attack costs."""

import contextlib
import re
import struct
import threading
import time

import harness
import rawpg

PLAYED = '[upstream.tls]\nmode = "disable"\n[catalog]\nborrow = false\n'
# The allocator gives back at once what is free, so that what is measured is what is in use.
PRECISE = {"MIMALLOC_PURGE_DELAY": "0"}
# However busy the machine is.
SOON = 15


class Hostile(rawpg.Played):
    """Serves everyone, and `evil` in its own way: `attack` is what it does once that user has logged in,
    `greet` what it does instead of letting it in."""

    greet = None
    attack = None

    def authenticate(self, connection, parameters):
        self.local().evil = parameters["user"] == "evil"
        if self.local().evil and self.greet:
            self.greet(connection, parameters)
            raise EOFError

    def answer(self, connection, kind, body):
        if self.local().evil and self.attack:
            self.attack(connection, kind, body)
            return None
        return super().answer(connection, kind, body)

    def local(self):
        """What belongs to the thread of one connection."""
        if not hasattr(self, "_local"):
            self._local = threading.local()
        return self._local


def head(kind, length):
    """The head of a message, whatever follows."""
    return kind + struct.pack("!I", length & 0xFFFFFFFF)


def resident(osprey, field):
    with open(f"/proc/{osprey.process.pid}/status") as file:
        return int(re.search(rf"{field}:\s+(\d+) kB", file.read())[1]) << 10


def descriptors(osprey):
    return len(list(harness.pathlib.Path(f"/proc/{osprey.process.pid}/fd").iterdir()))


class Bystander:
    """Somebody in a session of their own, and ever again in a new one, who only works."""

    def __init__(self, endpoint, **parameters):
        self.endpoint = endpoint
        self.parameters = {"user": "good", **parameters}
        self.over = threading.Event()
        self.count = 0
        self.longest = 0.0
        self.failure = None

    def _work(self, client):
        begun = time.monotonic()
        kinds = rawpg.kinds(client.ask(rawpg.query("SELECT 1")))
        assert kinds.endswith("CZ") and "E" not in kinds, kinds
        self.count += 1
        self.longest = max(self.longest, time.monotonic() - begun)

    def _run(self):
        try:
            with rawpg.Client.logged_in(self.endpoint, **self.parameters) as client:
                while not self.over.wait(0.02):
                    self._work(client)
                    if self.count % 10 == 1:
                        with rawpg.Client.logged_in(self.endpoint, **self.parameters) as another:
                            self._work(another)
        except BaseException as failure:  # whatever it is, the test has to hear of it
            self.failure = failure

    def __enter__(self):
        self.thread = threading.Thread(target=self._run)
        self.thread.start()
        harness.wait_for(lambda: self.count or self.failure, "the bystander")
        return self

    def __exit__(self, *_):
        # At least one statement after the attack.
        last = self.count + 2
        with contextlib.suppress(TimeoutError):
            harness.wait_for(lambda: self.count >= last or self.failure, "the bystander")
        self.over.set()
        self.thread.join(60)
        assert self.failure is None, self.failure
        assert self.count >= last
        assert self.longest < SOON, self.longest


@contextlib.contextmanager
def under_attack(osprey, endpoint, most, **bystander):
    """While somebody attacks, a bystander works, and Osprey's memory grows by less than `most` bytes.
    Afterwards nobody is left."""
    # What the first sessions need is not the attack's.
    for _ in range(20):
        with rawpg.Client.logged_in(endpoint, **{"user": "good", **bystander}) as client:
            client.ask(rawpg.query("-- " + "x" * 200))
    osprey.wait_for_metric("osprey_sessions", 0)
    with open(f"/proc/{osprey.process.pid}/clear_refs", "w") as file:
        file.write("5")
    before = resident(osprey, "VmRSS")
    with Bystander(endpoint, **bystander):
        yield
        grown = resident(osprey, "VmHWM") - before
    print(f"{grown >> 10} KiB more, of {most >> 10}")
    assert grown < most, f"{grown >> 10} KiB more"
    osprey.wait_for_metric("osprey_sessions", 0)
    assert "panicked" not in osprey.log(), osprey.log()


@contextlib.contextmanager
def in_front_of(server, tmp_path, most, more="", arguments=("--encrypted-project", "finance_byok")):
    """An Osprey in front of a hostile server, under attack; a function that logs `evil` in."""
    config = tmp_path / "osprey.toml"
    config.write_text(PLAYED + more)
    with server, harness.Osprey(server.port, arguments, config=config, environment=PRECISE) as osprey:
        endpoint = osprey.endpoint("d")
        with under_attack(osprey, endpoint, most):
            yield osprey


def evil(osprey, **parameters):
    """The attacker's client, which has sent its startup packet."""
    client = rawpg.Client("127.0.0.1", osprey.port)
    client.start_up(**{"user": "evil", "database": "d", **parameters})
    return client


def inside(osprey):
    """The attacker's client, logged in."""
    client = evil(osprey)
    assert rawpg.kinds(client.until_ready()) == "RKZ"
    return client


def drained(client, seconds=SOON):
    """All bytes that come until the connection ends, a reset included."""
    client.socket.settimeout(seconds)
    data, _ = rawpg.read_to_the_end(client.socket)
    return data
