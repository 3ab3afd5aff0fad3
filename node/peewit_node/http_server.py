"""Listening: connections with a limit on their number and on how slowly they may speak.

Rules kept here: aiohttp waits for ever for the rest of a request's head; so every connection that has begun
to speak and is not being answered is cut off after a time, and so is a body that does not arrive
(`read_body`). Above the limit on connections new ones are closed at once.
"""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import Callable
from functools import lru_cache
from typing import Any, Final

from aiohttp import web

from peewit_federation.errors import LimitError, MalformedError
from peewit_node.problems import Handler

KEEPALIVE_S: Final = 200.0
SWEEPS: Final = 8
"Looks at all connections within the time that one may take: so much later may it be cut off."


class Door:
    """Counts connections and watches those that speak slowly."""

    def __init__(self, connections_max: int, timeout_s: float) -> None:
        self.connections_max = connections_max
        self.timeout_s = timeout_s
        self.open: dict[asyncio.BaseTransport, TimedProtocol] = {}
        self.closing = False
        self._sweeping = False

    @web.middleware
    async def watch(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Tell the connection that a whole request head has arrived, and when it is answered."""
        connection = self.open.get(request.transport) if request.transport else None
        if connection is None:
            return await handler(request)
        connection.busy(True)
        try:
            return await handler(request)
        finally:
            connection.busy(False)

    def sweep(self) -> None:
        """From now on, as long as anybody is connected, cut off who speaks too slowly.

        One timer looks at all connections: one for each would be set and cancelled with every request.
        """
        if not self._sweeping:
            self._sweeping = True
            asyncio.get_running_loop().call_later(self.timeout_s / SWEEPS, self._sweep)

    def _sweep(self) -> None:
        self._sweeping = False
        late_s = asyncio.get_running_loop().time() - self.timeout_s
        for connection in list(self.open.values()):
            connection.cut_if_since(late_s)
        if self.open:
            self.sweep()

    async def shut(self) -> None:
        """Cut off whoever is still connected, also those who were let in at the last moment."""
        self.closing = True
        await asyncio.sleep(0)
        for transport in list(self.open):
            assert isinstance(transport, asyncio.Transport)
            transport.abort()
        while self.open:  # noqa: ASYNC110
            await asyncio.sleep(0)


class TimedProtocol(asyncio.Protocol):
    """Passes everything on to aiohttp's protocol, and cuts the connection off when a head does not end."""

    def __init__(self, inner: asyncio.Protocol, door: Door) -> None:
        self._inner = inner
        self._door = door
        self._transport: asyncio.Transport | None = None
        self._loop = asyncio.get_running_loop()
        self._since_s: float | None = None
        "Since when a head is awaited that has not arrived."
        self._slow: asyncio.TimerHandle | None = None
        self._answering = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        full = len(self._door.open) >= self._door.connections_max
        self._door.open[transport] = self
        self._inner.connection_made(transport)
        if full or self._door.closing:
            transport.abort()
        else:
            self._since_s = self._loop.time()
            self._door.sweep()

    def data_received(self, data: bytes) -> None:
        if self._since_s is None and not self._answering:
            self._since_s = self._loop.time()
        self._inner.data_received(data)

    def busy(self, answering: bool) -> None:
        """A request is being answered, or has been."""
        self._answering = answering
        self._since_s = None

    def cut_if_since(self, late_s: float) -> None:
        """Cut it off if it has kept us waiting since then."""
        if self._transport is not None and self._since_s is not None and self._since_s <= late_s:
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_slow()
        if self._transport is not None:
            self._door.open.pop(self._transport, None)
        self._inner.connection_lost(exc)

    def eof_received(self) -> bool | None:
        return self._inner.eof_received()

    def pause_writing(self) -> None:
        """The other side does not read: it has as long for that as for a request."""
        if self._slow is None:
            self._slow = asyncio.get_running_loop().call_later(self._door.timeout_s, self._abort)
        self._inner.pause_writing()

    def resume_writing(self) -> None:
        self._stop_slow()
        self._inner.resume_writing()

    def _stop_slow(self) -> None:
        if self._slow is not None:
            self._slow.cancel()
            self._slow = None

    def _abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()


async def listen(runner: web.AppRunner, door: Door, host: str, port: int, tls: ssl.SSLContext | None) -> asyncio.Server:
    """Begin to accept connections."""
    server: Callable[[], Any] | None = runner.server
    assert server is not None, "the runner is set up"
    loop = asyncio.get_running_loop()
    return await loop.create_server(lambda: TimedProtocol(server(), door), host, port, ssl=tls, backlog=1024)


async def read_body(request: web.Request, size_bytes_max: int, timeout_s: float) -> bytes:
    """The body, bounded in size and time. Raises `LimitError`, `MalformedError` or `TimeoutError`."""
    if request.headers.get("Content-Encoding", "identity") != "identity":
        raise MalformedError("a compressed body; send it as it is")
    if (request.content_length or 0) > size_bytes_max:
        raise LimitError(f"a body of {request.content_length} bytes; at most {size_bytes_max} are accepted")
    if request.content.is_eof():
        # All of it came with the head, as small requests do: nothing to wait for.
        body = request.content.read_nowait()
        if len(body) > size_bytes_max:
            raise LimitError(f"a body of more than {size_bytes_max} bytes")
        return body
    parts, size = [], 0
    async with asyncio.timeout(timeout_s):
        async for part in request.content.iter_any():
            size += len(part)
            if size > size_bytes_max:
                raise LimitError(f"a body of more than {size_bytes_max} bytes")
            parts.append(part)
    return b"".join(parts)


@lru_cache(256)
def accepts(header: str, coding: str) -> bool:
    """Whether Accept-Encoding names a coding, and not with a weight of nothing (RFC 9110, 12.5.3)."""
    for part in header.lower().split(","):
        name, _, weight = part.partition(";")
        if name.strip() == coding:
            return not re.fullmatch(r"q=0(\.0*)?", weight.strip())
    return False
