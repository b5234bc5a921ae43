"""A real Redis, which tests freeze, kill, fill and lie to."""

import contextlib
import signal
import socket
import subprocess

import harness

# Debian's package redis-server would start a service that nobody asked for; redis-tools has the program
# all the same, under the name that it has as a checker of files.
PROGRAM = "/usr/bin/redis-check-rdb"


class Redis:
    """A redis-server of its own."""

    def __init__(self, directory, *arguments):
        self.port = harness.free_port()
        self.directory = directory
        self.arguments = arguments
        self.process = None

    def start(self):
        command = ["redis-server", "--port", str(self.port), "--bind", "127.0.0.1"]
        command += ["--save", "", "--appendonly", "no", "--dir", str(self.directory)]
        self.process = subprocess.Popen(
            [*command, *self.arguments],
            executable=PROGRAM,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        harness.wait_for(self.answers, "the redis-server to listen")
        return self

    def answers(self):
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port)):
            return True
        return False

    def ask(self, *words):
        """One command's answer: a text, a number, a list, or None."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=10) as connection:
            words = [word if isinstance(word, bytes) else str(word).encode() for word in words]
            parts = b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words)
            connection.sendall(b"*%d\r\n%s" % (len(words), parts))
            return self._answer(connection.makefile("rb"))

    def _answer(self, stream):
        line = stream.readline().rstrip()
        kind, rest = line[:1], line[1:]
        if kind == b"-":
            raise RuntimeError(rest.decode())
        if kind == b"$":
            if int(rest) < 0:
                return None
            return stream.read(int(rest) + 2)[:-2]
        if kind == b"*":
            return [self._answer(stream) for _ in range(int(rest))]
        return int(rest) if kind == b":" else rest

    def keys(self, pattern):
        return sorted(key.decode() for key in self.ask("KEYS", pattern))

    def kill(self):
        self.process.send_signal(signal.SIGCONT)
        self.process.kill()
        self.process.wait(10)

    def __enter__(self):
        return self.start()

    def __exit__(self, *_):
        self.kill()
