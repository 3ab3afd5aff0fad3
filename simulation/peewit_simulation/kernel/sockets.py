"""The socket methods that asyncio and aiohttp use, on simulated ends of connections."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from peewit_simulation.kernel.tcp import End, Listener

if TYPE_CHECKING:
    from peewit_simulation.kernel.host import Host


class SimSocket:
    """Looks like a non-blocking `socket.socket`."""

    type = socket.SOCK_STREAM
    proto = socket.IPPROTO_TCP

    def __init__(self, host: Host, end: End | None = None, family: int = socket.AF_INET) -> None:
        self._host = host
        self.family = socket.AddressFamily(family)
        self._fd = host.new_fd(self)
        self.end = end
        self.listener: Listener | None = None
        self._local: tuple[str, int] = (host.address, 0)
        if end is not None:
            end.fd = self._fd
            self._local = end.local

    # What the selector asks

    @property
    def readable(self) -> bool:
        thing = self.end or self.listener
        return thing is not None and thing.readable

    @property
    def writable(self) -> bool:
        return self.end is not None and self.end.writable

    # What asyncio asks

    def fileno(self) -> int:
        return self._fd

    def setblocking(self, flag: bool) -> None:
        assert not flag, "simulated sockets never block"

    def gettimeout(self) -> float:
        return 0.0

    def getsockname(self) -> tuple[str, int]:
        return self._local

    def getpeername(self) -> tuple[str, int]:
        if self.end is None:
            raise OSError(errno.ENOTCONN, "not connected")
        return self.end.remote

    def getsockopt(self, level: int, option: int) -> int:
        if (level, option) == (socket.SOL_SOCKET, socket.SO_ERROR) and self.end is not None and self.end.error:
            number, self.end.error = self.end.error, 0
            return number
        return 0

    def setsockopt(self, *_: Any) -> None:
        """Options change nothing here."""

    def bind(self, address: tuple[str, int]) -> None:
        self._local = address[0], address[1] or self._host.free_port()

    def listen(self, backlog: int = 128) -> None:
        if self._local[1] in self._host.listeners:
            raise OSError(errno.EADDRINUSE, "Address already in use")
        self.listener = Listener(self._host, self._local, backlog)
        self.listener.fd = self._fd
        self._host.listeners[self._local[1]] = self.listener

    def accept(self) -> tuple[SimSocket, tuple[str, int]]:
        assert self.listener is not None
        while self.listener.waiting:
            end = self.listener.waiting.popleft()
            return SimSocket(self._host, end), end.remote
        raise BlockingIOError

    def connect(self, address: tuple[str, int]) -> None:
        self.end = End(self._host.network, self._host, (self._host.address, self._host.free_port()), address[:2])
        self._local, self.end.fd = self.end.local, self._fd
        self._host.ends[id(self.end)] = self.end
        self.end.connect()
        raise BlockingIOError

    def recv(self, size: int) -> bytes:
        assert self.end is not None
        data = self.end.take(size)
        if data is None:
            raise BlockingIOError
        return data

    def send(self, data: bytes) -> int:
        assert self.end is not None
        sent = self.end.give(data)
        if sent is None:
            raise BlockingIOError
        return sent

    def sendmsg(self, buffers: Iterable[bytes]) -> int:
        return self.send(b"".join(buffers))

    def shutdown(self, _how: int) -> None:
        if self.end is not None:
            self.end.finish()

    def close(self) -> None:
        if self._fd < 0:
            return
        if self.listener is not None:
            self._host.listeners.pop(self.listener.address[1], None)
            for end in self.listener.waiting:
                end.close()
        if self.end is not None:
            self.end.close()
            self._host.ends.pop(id(self.end), None)
        self._host.forget_fd(self._fd)
        self._fd = -1
