"""The stock asyncio loop on simulated time and sockets.

Rules kept here: when a loop has nothing to do it says until when and stops; the world starts it again. Sockets
are level-triggered, and only those whose state changed are looked at. What asks for threads is done at once.
"""

from __future__ import annotations

import asyncio
import selectors
import socket
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from peewit_simulation.kernel.sockets import SimSocket

if TYPE_CHECKING:
    from peewit_simulation.kernel.host import Host


class SimSelector(selectors.BaseSelector):
    """Tells a loop which simulated sockets are ready."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._keys: dict[int, selectors.SelectorKey] = {}
        self.touched: dict[int, None] = {}
        self.loop: SimLoop

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        number = fileobj if isinstance(fileobj, int) else fileobj.fileno()
        key = self._keys[number] = selectors.SelectorKey(fileobj, number, events, data)
        self.touched[number] = None
        return key

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        return self._keys.pop(fileobj if isinstance(fileobj, int) else fileobj.fileno())

    def modify(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        return self.register(fileobj, events, data)

    def get_key(self, fileobj: Any) -> selectors.SelectorKey:
        try:
            return self._keys[fileobj if isinstance(fileobj, int) else fileobj.fileno()]
        except KeyError:
            raise KeyError(f"{fileobj!r} is not registered") from None

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        return self._keys

    def _mask(self, number: int) -> int:
        """Which of the events that are waited for a socket is ready for."""
        key, sock = self._keys.get(number), self._host.sockets.get(number)
        mask = 0
        if key is not None and sock is not None:
            if key.events & selectors.EVENT_READ and sock.readable:
                mask |= selectors.EVENT_READ
            if key.events & selectors.EVENT_WRITE and sock.writable:
                mask |= selectors.EVENT_WRITE
        return mask

    def cares(self, number: int) -> bool:
        """Whether the loop would have something to do for a socket now. What it registers later, it looks at then."""
        return self._mask(number) != 0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        found = []
        if self.touched:
            for number in list(self.touched):
                mask = self._mask(number)
                if mask:
                    found.append((self._keys[number], mask))
                else:
                    del self.touched[number]
        if not found and (timeout is None or timeout > 0):
            self._host.sleep(timeout)
            self.loop.stop()
        return found


class SimLoop(asyncio.SelectorEventLoop):
    """The loop of one life of a host."""

    def __init__(self, host: Host) -> None:
        self._host = host
        selector = SimSelector(host)
        selector.loop = self
        super().__init__(selector)

    def time(self) -> float:
        return self._host.monotonic()

    async def create_server(  # type: ignore[override]
        self, factory: Any, host: Any = None, port: Any = None, **options: Any
    ) -> Any:
        if options.get("sock") is None:
            sock = SimSocket(self._host)
            sock.bind((str(host), int(port)))
            options["sock"] = sock
        options = {name: value for name, value in options.items() if name in ("sock", "backlog", "start_serving")}
        return await super().create_server(factory, **options)

    async def create_unix_server(  # type: ignore[override]
        self, factory: Any, path: Any = None, **_: Any
    ) -> Any:
        """A door in the file system: the file is there, and only this host could knock at it."""
        sock = SimSocket(self._host, family=socket.AF_UNIX)
        sock.bind((str(path), 0))
        Path(path).touch()  # noqa: ASYNC240
        return await super().create_server(factory, sock=sock)  # type: ignore[call-overload]

    def run_in_executor(  # type: ignore[override]
        self, executor: Any, func: Callable[..., Any], *args: Any
    ) -> Any:
        assert executor is None, "threads are not simulated; use an engine without them"
        done = self.create_future()
        try:
            done.set_result(func(*args))
        except Exception as error:
            done.set_exception(error)
        return done

    async def getaddrinfo(self, host: Any, *_: Any, **__: Any) -> Any:
        raise OSError(f"{host}: simulated hosts have numeric addresses only")
