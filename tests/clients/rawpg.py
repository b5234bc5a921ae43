"""A PostgreSQL client that sends exactly the bytes it is told to, and a TCP relay that writes down who
sent what when. No driver gives that much control."""

import contextlib
import fcntl
import itertools
import socket
import ssl
import struct
import termios
import threading
import time

SSL_REQUEST = struct.pack("!ii", 8, 80877103)
CANCEL_REQUEST = struct.pack("!i", 80877102)


def message(kind, payload=b""):
    """One frontend or backend message."""
    return kind + struct.pack("!i", len(payload) + 4) + payload


def encoded(text):
    """A text in UTF-8, if it is not in the bytes of its encoding yet."""
    return text if isinstance(text, bytes) else text.encode()


def query(statement):
    return message(b"Q", encoded(statement) + b"\0")


def parse(name, statement):
    return message(b"P", name.encode() + b"\0" + encoded(statement) + b"\0" + b"\0\0")


def bind(portal, name, *values):
    names = portal.encode() + b"\0" + name.encode() + b"\0"
    texts = b"".join(struct.pack("!i", len(value.encode())) + value.encode() for value in values)
    return message(b"B", names + bytes(2) + struct.pack("!h", len(values)) + texts + bytes(2))


def describe_portal(portal):
    return message(b"D", b"P" + portal.encode() + b"\0")


def execute(portal, rows=0):
    return message(b"E", portal.encode() + b"\0" + struct.pack("!i", rows))


def startup(version=196608, **parameters):
    body = struct.pack("!i", version)
    for name, value in parameters.items():
        body += name.encode() + b"\0" + value.encode() + b"\0"
    body += b"\0"
    return struct.pack("!i", len(body) + 4) + body


def cancel(key):
    """The CancelRequest for what a session's BackendKeyData said."""
    return struct.pack("!i", 8 + len(key)) + CANCEL_REQUEST + key


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

    def __init__(self, host, port, timeout=20, source=None):
        source = source and (source, 0)
        self.socket = socket.create_connection((host, port), timeout, source_address=source)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # What BackendKeyData says, of a client that has logged in: what a cancel request repeats.
        self.key = b""

    @classmethod
    def logged_in(cls, endpoint, tls=None, source=None, **parameters):
        client = cls(endpoint.host, endpoint.port, source=source)
        if tls is not None:
            client.start_tls(tls)
        parameters = {"user": "app_trust", "database": endpoint.dbname, **parameters}
        return client.log_in(**parameters)

    def log_in(self, **parameters):
        self.start_up(**parameters)
        messages = self.until_ready()
        assert kinds(messages)[-1:] == "Z", messages
        self.key = next((payload for kind, payload in messages if kind == b"K"), b"")
        return self

    def start_tls(self, context):
        self.send(SSL_REQUEST)
        assert self.socket.recv(1) == b"S"
        # An end without close_notify is an error, as it is for libpq; Python would hide it.
        context.options &= ~ssl.OP_IGNORE_UNEXPECTED_EOF
        self.socket = context.wrap_socket(
            self.socket, server_hostname="localhost", suppress_ragged_eofs=False
        )

    def start_up(self, version=196608, **parameters):
        self.send(startup(version, **parameters))

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

    def __init__(self, address="127.0.0.1", port=0):
        self.listener = socket.create_server((address, port))
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


def error(severity, sqlstate, text):
    """An ErrorResponse."""
    fields = [("S", severity), ("V", severity), ("C", sqlstate), ("M", text)]
    body = b"".join(f"{field}{value}".encode() + b"\0" for field, value in fields)
    return message(b"E", body + b"\0")


READY = message(b"Z", b"I")
DONE = message(b"C", b"SELECT 0\0") + READY


class Played(Server):
    """A server that lets everyone in, answers each Query and Sync with nothing but ReadyForQuery, and
    writes down who came. A subclass does otherwise in `authenticate`, `answer` or `cancelled`."""

    def __init__(self, tls=None, **address):
        # The ssl.SSLContext for those who ask for TLS; None: they are told that there is none.
        self.tls = tls
        # The parameters of each session so far.
        self.startups = []
        # What each session's BackendKeyData said, and what each cancel request repeated of one.
        self.keys = []
        self.cancels = []
        # Connections so far, those that are open now, and the most that were open at a time.
        self.accepted = self.open = self.most = 0
        self._lock = threading.Lock()
        # No two servers give the same key.
        self._first = 1000 * next(_servers)
        super().__init__(**address)

    def serve(self, connection):
        with self._lock:
            self.accepted += 1
            self.open += 1
            self.most = max(self.most, self.open)
        try:
            with contextlib.suppress(OSError, EOFError):
                self._serve(connection)
        finally:
            with self._lock:
                self.open -= 1

    def _serve(self, connection):
        with contextlib.ExitStack() as stack:
            stack.enter_context(connection)
            while True:
                packet = self._packet(connection)
                if packet == SSL_REQUEST[4:]:
                    connection.sendall(b"N" if self.tls is None else b"S")
                    if self.tls is not None:
                        connection = self.tls.wrap_socket(connection, server_side=True)
                        stack.enter_context(connection)
                elif packet[:4] == CANCEL_REQUEST:
                    self.cancels.append(packet[4:])
                    return self.cancelled(connection, packet[4:])
                else:
                    break
            words = packet[4:].rstrip(b"\0").decode().split("\0")
            parameters = dict(zip(words[::2], words[1::2]))
            self.startups.append(parameters)
            self.authenticate(connection, parameters)
            with self._lock:
                self._first += 1
                key = struct.pack("!ii", self._first, self._first)
                self.keys.append(key)
            connection.sendall(message(b"R", bytes(4)) + message(b"K", key) + READY)
            while True:
                kind, body = self.message(connection)
                if kind == b"X" or self.answer(connection, kind, body) is False:
                    return None

    def authenticate(self, connection, parameters):
        """What comes before AuthenticationOk."""

    def answer(self, connection, kind, body):
        """Answers one message; False ends the connection."""
        if kind == b"Q":
            connection.sendall(DONE)
        elif kind == b"S":
            connection.sendall(READY)

    def cancelled(self, connection, key):
        """What is done about a cancel request before its connection is closed."""

    @classmethod
    def _packet(cls, connection):
        """A packet without a type byte, its length left out."""
        return cls._exactly(connection, struct.unpack("!i", cls._exactly(connection, 4))[0] - 4)

    @classmethod
    def message(cls, connection):
        """The next message."""
        head = cls._exactly(connection, 5)
        return head[:1], cls._exactly(connection, struct.unpack("!i", head[1:])[0] - 4)

    @staticmethod
    def _exactly(connection, count):
        data = b""
        while len(data) < count:
            part = connection.recv(count - len(data))
            if not part:
                raise EOFError
            data += part
        return data


_servers = itertools.count(1)


def reset(connection):
    """Ends a connection by RST, once the peer's machine has what was sent."""
    while struct.unpack("i", fcntl.ioctl(connection, termios.TIOCOUTQ, bytes(4)))[0] > 0:
        time.sleep(0.005)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def read_to_the_end(connection):
    """What comes on a connection, and how it ends: "FIN" or "RST"."""
    data = b""
    while True:
        try:
            part = connection.recv(1 << 16)
        except ConnectionResetError:
            return data, "RST"
        if not part:
            return data, "FIN"
        data += part


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
