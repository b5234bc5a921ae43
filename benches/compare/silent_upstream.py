"""A server that lets anyone in and costs next to nothing a session, to hold thousands of them: a process
of its own. Prints the port that it listens on.

Any query is answered with one row; one that says `wait` is never answered, and one that says `flood` with
rows without end.
"""

import asyncio
import contextlib
import resource
import socket
import struct


def message(kind, payload=b""):
    return kind + struct.pack("!i", len(payload) + 4) + payload


def parameter(name, value):
    return message(b"S", name + b"\0" + value + b"\0")


READY = message(b"Z", b"I")
WELCOME = (
    message(b"R", bytes(4))
    + parameter(b"server_version", b"15.0")
    + parameter(b"server_encoding", b"UTF8")
    + parameter(b"client_encoding", b"UTF8")
    + parameter(b"DateStyle", b"ISO, MDY")
    + parameter(b"TimeZone", b"UTC")
    + parameter(b"standard_conforming_strings", b"on")
    + message(b"K", struct.pack("!ii", 1, 1))
    + READY
)
COLUMNS = message(b"T", struct.pack("!h", 1) + b"one\0" + struct.pack("!ihihih", 0, 0, 23, 4, -1, 0))
ROW = message(b"D", struct.pack("!hi", 1, 1) + b"1")
ANSWER = COLUMNS + ROW + message(b"C", b"SELECT 1\0") + READY
SSL_REQUEST, GSS_REQUEST = 80877103, 80877104


async def start_up(reader, writer):
    while True:
        (length,) = struct.unpack("!i", await reader.readexactly(4))
        body = await reader.readexactly(length - 4)
        (code,) = struct.unpack("!i", body[:4])
        if code in (SSL_REQUEST, GSS_REQUEST):
            writer.write(b"N")
            continue
        writer.write(WELCOME)
        return


async def serve(reader, writer):
    with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
        await start_up(reader, writer)
        while True:
            kind, length = struct.unpack("!ci", await reader.readexactly(5))
            body = await reader.readexactly(length - 4)
            if kind == b"X":
                break
            if b"flood" in body:
                writer.write(COLUMNS)
                while True:
                    writer.write(ROW * 2_000)
                    await writer.drain()
            if kind == b"Q" and b"wait" not in body:
                writer.write(ANSWER)
    writer.close()


async def main():
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    with socket.create_server(("127.0.0.1", 0), backlog=4096) as listener:
        server = await asyncio.start_server(serve, sock=listener)
        print(listener.getsockname()[1], flush=True)
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
