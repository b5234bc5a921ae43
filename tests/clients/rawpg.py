"""A PostgreSQL client that sends exactly the bytes it is told to, and a TCP relay that writes down who
sent what when. No driver gives that much control."""

import socket
import struct
import threading


def message(kind, payload=b""):
    """One frontend or backend message."""
    return kind + struct.pack("!i", len(payload) + 4) + payload


def query(statement):
    return message(b"Q", statement.encode() + b"\0")


def parse(name, statement):
    return message(b"P", name.encode() + b"\0" + statement.encode() + b"\0" + b"\0\0")


def bind(portal, name):
    return message(b"B", portal.encode() + b"\0" + name.encode() + b"\0" + bytes(6))


def describe_portal(portal):
    return message(b"D", b"P" + portal.encode() + b"\0")


def execute(portal, rows=0):
    return message(b"E", portal.encode() + b"\0" + struct.pack("!i", rows))


SYNC = message(b"S")
TERMINATE = message(b"X")


def split(stream):
    """The messages of a stream of whole messages: [(kind, payload)]."""
    result = []
    while stream:
        kind, length = stream[:1], struct.unpack("!i", stream[1:5])[0]
        assert len(stream) > length, "the stream ends within a message"
        result.append((kind, stream[5 : 1 + length]))
        stream = stream[1 + length :]
    return result


def kinds(messages):
    """The messages' kinds as a text, such as "CZ"."""
    return b"".join(kind for kind, _ in messages).decode()


def error_fields(payload):
    """ErrorResponse or NoticeResponse: {"S": "FATAL", "C": "08006", ...}."""
    fields = payload.rstrip(b"\0").split(b"\0")
    return {field[:1].decode(): field[1:].decode() for field in fields}


class Client:
    """One connection. `trust` authentication only."""

    def __init__(self, host, port, timeout=20):
        self.socket = socket.create_connection((host, port), timeout)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    @classmethod
    def logged_in(cls, endpoint):
        client = cls(endpoint.host, endpoint.port)
        client.start_up(user="app_trust", database=endpoint.dbname)
        messages = client.until_ready()
        assert kinds(messages)[0] == "R", messages
        return client

    def start_up(self, version=196608, **parameters):
        body = struct.pack("!i", version)
        for name, value in parameters.items():
            body += name.encode() + b"\0" + value.encode() + b"\0"
        body += b"\0"
        self.send(struct.pack("!i", len(body) + 4) + body)

    def send(self, data):
        self.socket.sendall(data)

    def _exactly(self, count):
        """`count` bytes; None if the connection ends before the first of them."""
        data = b""
        while len(data) < count:
            part = self.socket.recv(count - len(data))
            if not part:
                assert not data, "the connection ended within a message"
                return None
            data += part
        return data

    def receive(self):
        """The next message; None at the end of the connection."""
        head = self._exactly(5)
        if head is None:
            return None
        length = struct.unpack("!i", head[1:])[0]
        return head[:1], self._exactly(length - 4) if length > 4 else b""

    def until_ready(self):
        """All messages up to and including the next ReadyForQuery, or to the connection's end."""
        messages = []
        while not messages or messages[-1][0] != b"Z":
            received = self.receive()
            if received is None:
                break
            messages.append(received)
        return messages

    def ask(self, data):
        """Sends in one write, and reads up to ReadyForQuery."""
        self.send(data)
        return self.until_ready()

    def until_closed(self):
        """All messages to the connection's end. A reset counts as an end."""
        messages = []
        try:
            while (received := self.receive()) is not None:
                messages.append(received)
        except ConnectionResetError:
            pass
        return messages

    def close(self):
        self.socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class Server:
    """A port; each connection to it is served in a thread of its own, as a subclass says."""

    def __init__(self):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.serve, args=(connection,), daemon=True).start()

    def serve(self, connection):
        raise NotImplementedError

    def close(self):
        self.listener.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class Relay(Server):
    """Relays TCP connections to a port and keeps, per connection, what each read returned:
    [(to_server, bytes)] in the order in which it came."""

    def __init__(self, port):
        self.target = port
        self.connections = []
        super().__init__()

    def serve(self, connection):
        server = socket.create_connection(("127.0.0.1", self.target))
        events = []
        self.connections.append(events)
        for source, sink, to_server in [(connection, server, True), (server, connection, False)]:
            source.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(
                target=self._copy, args=(source, sink, to_server, events), daemon=True
            ).start()

    @staticmethod
    def _copy(source, sink, to_server, events):
        try:
            while data := source.recv(1 << 20):
                events.append((to_server, data))
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            source.close()
            sink.close()

    def of_user(self, user):
        """The reads of the connections that this user opened, one list for each."""
        mark = b"user\0" + user.encode() + b"\0"
        return [
            events
            for events in self.connections
            if any(mark in data for to_server, data in events[:8] if to_server)
        ]


def turns(events):
    """Consecutive reads of one direction as one entry: [(to_server, [bytes, ...])].

    A round trip is one turn to the server and one back."""
    result = []
    for to_server, data in events:
        if not result or result[-1][0] != to_server:
            result.append((to_server, []))
        result[-1][1].append(data)
    return result
