"""The charter's nodes as one service: failover, hedging, circuit breaking, and asking several.

Rules kept here: the fastest node that works is asked first; if it has not answered within its hedge delay,
the next is asked too and the first good answer wins; a node that fails is left out for a while, longer
each time; an answer that does not pass the caller's check is a failure of the node that gave it, and is
remembered as a complaint with its name. Answers are bounded in bytes and time.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from random import Random, SystemRandom
from typing import Final, Generic, Self, TypeVar

import aiohttp

from peewit_clients.backend import Backend, BackendError, UnreachableError
from peewit_clients.transport import Body, Transport
from peewit_clients.words import said
from peewit_federation.charter import Charter
from peewit_federation.errors import PeewitError, SenderError

T = TypeVar("T")
HEDGE_S: Final = 0.25
TIMEOUT_S: Final = 10.0
BODY_BYTES_MAX: Final = 16 << 20


@dataclass(frozen=True)
class Reply(Generic[T]):
    """A checked answer and who gave it."""

    backend: Backend
    value: T


@dataclass
class BackendPool:
    """All nodes of a charter. Use as an async context manager."""

    charter: Charter
    connector: Callable[[], aiohttp.BaseConnector] | None = None
    clock: Callable[[], float] = time.monotonic
    random: Random = field(default_factory=SystemRandom)
    only: Sequence[str] = ()
    "Names of the nodes to use; all if empty."
    timeout_s: float = TIMEOUT_S
    complaints: dict[str, list[str]] = field(default_factory=dict)
    "By node: what it was caught at."

    def __post_init__(self) -> None:
        self.backends = [Backend(o) for o in self.charter.operators if not self.only or o.name in self.only]
        self.random.shuffle(self.backends)
        self.transport = Transport(self.order, self.connector, self.clock, self.random, self.timeout_s)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.transport.close()

    async def reconnect(self) -> None:
        """Forget all connections: what follows shall not be known by them as coming from whom it came before."""
        await self.transport.close()

    def complain(self, name: str, what: str) -> None:
        """Remember what a node was caught at."""
        found = self.complaints.setdefault(name, [])
        if what not in found and len(found) < 100:
            found.append(what)

    def broken(self, backend: Backend) -> bool:
        """Whether a node failed so lately that others should be asked."""
        return backend.open_until_s > self.clock()

    def order(self) -> list[Backend]:
        """Whom to ask first: closed circuits, then the fastest."""
        return sorted(self.backends, key=lambda b: (self.broken(b), b.failures > 0, b.latency_s))

    async def get(
        self,
        path: str,
        check: Callable[[bytes], T],
        *,
        size_bytes_max: int = BODY_BYTES_MAX,
        first: Backend | None = None,
        missing_ok: bool = False,
    ) -> Reply[T]:
        """The first answer that passes `check`. Raises `UnreachableError` saying what each node did.

        With `missing_ok`, "not there" from every node that answers raises `BackendError` 404.
        """
        return await self.first(
            lambda backend: self.read(backend, path, check, size_bytes_max),
            begin=first,
            missing=path if missing_ok else "",
        )

    async def first(
        self, ask: Callable[[Backend], Awaitable[T]], *, begin: Backend | None = None, missing: str = ""
    ) -> Reply[T]:
        """What the first node gives that `ask` gets something from; several requests, perhaps. Errors as `get`."""
        order = self.order()
        if begin is not None:
            order = [begin, *(b for b in order if b is not begin)]
        waiting = list(order)
        running: dict[asyncio.Future[T], Backend] = {}
        errors: list[tuple[str, PeewitError]] = []
        try:
            while waiting or running:
                if waiting:
                    backend = waiting.pop(0)
                    running[asyncio.ensure_future(ask(backend))] = backend
                delay = self._hedge_s(backend) if waiting else None
                done, _ = await asyncio.wait(running, timeout=delay, return_when=asyncio.FIRST_COMPLETED)
                for task in [task for task in running if task in done]:
                    backend = running.pop(task)
                    error = task.exception()
                    if error is None:
                        return Reply(backend, task.result())
                    if not isinstance(error, PeewitError):
                        raise error
                    errors.append((backend.name, error))
        finally:
            _drop(running)
        if missing and any(isinstance(e, BackendError) and e.status == 404 for _, e in errors):
            raise BackendError(f"no node has {missing}", 404)
        raise UnreachableError(said("error_no_node", why="; ".join(f"{name}: {error}" for name, error in errors)))

    async def get_several(
        self, path: str, check: Callable[[bytes], T], count: int, *, size_bytes_max: int = BODY_BYTES_MAX
    ) -> list[Reply[T]]:
        """Checked answers of up to `count` nodes, further ones being asked for those that fail or are slow."""
        return await self.several(lambda backend: self.read(backend, path, check, size_bytes_max), count)

    async def several(self, ask: Callable[[Backend], Awaitable[T]], count: int) -> list[Reply[T]]:
        """What up to `count` nodes give that `ask` gets something from."""
        waiting = self.order()
        replies: list[Reply[T]] = []
        running: dict[asyncio.Future[T], Backend] = {}
        wanted = count
        try:
            while len(replies) < count and (waiting or running):
                while waiting and len(replies) + len(running) < wanted:
                    backend = waiting.pop(0)
                    running[asyncio.ensure_future(ask(backend))] = backend
                delay = HEDGE_S if waiting else None
                done, _ = await asyncio.wait(running, timeout=delay, return_when=asyncio.FIRST_COMPLETED)
                wanted += not done
                for task in [task for task in running if task in done]:
                    backend = running.pop(task)
                    error = task.exception()
                    if error is None:
                        replies.append(Reply(backend, task.result()))
                    elif not isinstance(error, PeewitError):
                        raise error
        finally:
            _drop(running)
        return replies[:count]

    async def post(self, backend: Backend, path: str, body: Body) -> bytes:
        """Give something to one node; what may be sent once only is made for each attempt. Raises `BackendError`."""
        return await self.transport.request(backend, "POST", path, body, BODY_BYTES_MAX)

    async def fetch(self, backend: Backend, path: str, size_bytes_max: int = BODY_BYTES_MAX) -> bytes:
        """Get something from one node. Raises `BackendError`."""
        return await self.transport.request(backend, "GET", path, None, size_bytes_max)

    def _hedge_s(self, backend: Backend) -> float:
        return min(HEDGE_S, 3 * backend.latency_s)

    async def read(
        self, backend: Backend, path: str, check: Callable[[bytes], T], size_bytes_max: int = BODY_BYTES_MAX
    ) -> T:
        """Get something from one node; what does not pass the check is remembered. Raises `BackendError` or its own."""
        data = await self.transport.request(backend, "GET", path, None, size_bytes_max)
        try:
            return check(data)
        except SenderError as error:
            self.transport.failed(backend, self.clock())
            self.complain(backend.name, f"{path.split('?', maxsplit=1)[0]}: {error}")
            raise


def _drop(running: Iterable[asyncio.Future[T]]) -> None:
    """Nobody waits for these any more, whatever they come to."""
    for task in running:
        task.cancel()
        task.add_done_callback(lambda done: done.cancelled() or done.exception())
