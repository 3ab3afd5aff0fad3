"""A node process, a bare aiohttp server, and a client that costs less than either."""

from __future__ import annotations

import os
import selectors
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

BARE = """
import sys
from aiohttp import web
async def get(_): return web.Response(body=BODY, headers={"Content-Type": "application/octet-stream"})
async def post(request):
    await request.read()
    return web.Response(body=BODY)
BODY = bytes(int(sys.argv[2]))
app = web.Application(client_max_size=16 << 20)
app.add_routes([web.get("/{path:.*}", get), web.post("/{path:.*}", post)])
web.run_app(app, host="127.0.0.1", port=int(sys.argv[1]), access_log=None, print=None)
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def running(command: list[str], url: str, env: dict[str, str] | None = None) -> Iterator[int]:
    """A server process (its id), from when it answers until it is told to stop."""
    process = subprocess.Popen(command, env={**os.environ, **(env or {})}, stderr=subprocess.DEVNULL)
    try:
        for _ in range(600):
            try:
                urllib.request.urlopen(url, timeout=5).read()
                break
            except OSError:
                time.sleep(0.05)
        yield process.pid
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(20)


@contextmanager
def bare_server(body_bytes: int) -> Iterator[int]:
    """The least that aiohttp can do: read the request, answer with a constant."""
    port = free_port()
    with running([sys.executable, "-c", BARE, str(port), str(body_bytes)], f"http://127.0.0.1:{port}/"):
        yield port


@contextmanager
def node_process(config: Path, listen: str, env: dict[str, str] | None = None) -> Iterator[int]:
    """A node as operators run it; the id of its process."""
    command = [sys.executable, "-m", "peewit_clients.cli", "node", "run", str(config)]
    with running(command, f"http://{listen}/healthz", {"PEEWIT_NODE_LISTEN": listen, **(env or {})}) as process:
        yield process


def cpu_s(process: int) -> float:
    """Seconds of processor that a process used so far."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Blaster:
    """Sends prepared requests over a few connections, several at once, and counts good answers."""

    def __init__(self, port: int, connections: int) -> None:
        self.sockets = [socket.create_connection(("127.0.0.1", port)) for _ in range(connections)]
        for connection in self.sockets:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def run(self, batches: list[list[list[bytes]]]) -> float:
        """`batches[round][connection]` are requests; the seconds that all took. Raises if one was not answered 200.

        A connection sends its next batch when the last is answered, without waiting for the others.
        """
        queues = {c: deque(parts[n] for parts in batches) for n, c in enumerate(self.sockets)}
        expected = dict.fromkeys(self.sockets, 0)
        tails = dict.fromkeys(self.sockets, b"")
        waiting = set(self.sockets)
        with selectors.DefaultSelector() as ready:
            for connection in self.sockets:
                ready.register(connection, selectors.EVENT_READ)
            start = time.perf_counter()
            for connection, queue in queues.items():
                expected[connection] = len(queue[0])
                connection.sendall(b"".join(queue.popleft()))
            while waiting:
                for key, _ in ready.select():
                    asked = key.fileobj
                    assert isinstance(asked, socket.socket)
                    data, tail = asked.recv(1 << 20), tails[asked]
                    if not data or b"HTTP/1.1 4" in data or b"HTTP/1.1 5" in data:
                        raise RuntimeError(f"a request failed: {data[:300]!r}")
                    expected[asked] -= (tail + data).count(b"HTTP/1.1 200") - tail.count(b"HTTP/1.1 200")
                    tails[asked] = data[-11:]
                    if expected[asked] == 0 and queues[asked]:
                        expected[asked] = len(queues[asked][0])
                        asked.sendall(b"".join(queues[asked].popleft()))
                    elif expected[asked] == 0:
                        waiting.discard(asked)
            return time.perf_counter() - start

    def close(self) -> None:
        for connection in self.sockets:
            connection.close()


def get_request(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode()


def post_request(path: str, body: bytes) -> bytes:
    return f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


def middle(values: list[float]) -> float:
    return median(values)
