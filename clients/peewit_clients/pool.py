"""The charter's nodes as one service: failover, hedging, circuit breaking, and asking several.

Rules kept here: the fastest node that works is asked first; if it has not answered within its hedge delay,
the next is asked too and the first good answer wins; a node that fails is left out for a while, longer
each time; an answer that does not pass the caller's check is a failure of the node that gave it, and is
remembered as a complaint with its name. Answers are bounded in bytes and time.
"""

from __future__ import annotations

import asyncio
import io
import json
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from random import Random, SystemRandom
from typing import Any, Final, Generic, Self, TypeVar

import aiohttp

from peewit_federation.charter import Charter, Operator
from peewit_federation.errors import PeewitError, SenderError, network_words
from peewit_federation.keys import sha256
from peewit_federation.oblivious.bhttp import PADDED_BYTES, Request, Response, pad
from peewit_federation.oblivious.encapsulation import seal_request

T = TypeVar("T")
HEDGE_S: Final = 0.25
TIMEOUT_S: Final = 10.0
CONNECT_S: Final = 2.5
"Long enough for a first packet that is lost."
BREAK_S: Final = 1.0
BREAK_MAX_S: Final = 60.0
BODY_BYTES_MAX: Final = 16 << 20

RELAYS: Final = 3
"So many other nodes are tried as carriers."
RELAYED_BYTES_MAX: Final = PADDED_BYTES[-1] + 1024
BAD_GATEWAY: Final = 502
PUBLIC: Final = ("/log/", "/v1/views", "/v1/heads", "/v1/evidence/")
"What is asked directly while no keys are known: the operators' logs, which name them."


class BackendError(PeewitError):
    """A node could not be used: `status` is its HTTP status, or 0 if it did not answer."""

    def __init__(self, message: str, status: int = 0, body: bytes = b"") -> None:
        super().__init__(message)
        self.status = status
        self.body = body


class UnreachableError(PeewitError):
    """No node gave an answer that could be used."""


@dataclass
class Backend:
    """What is known of one node."""

    operator: Operator
    latency_s: float = 0.05
    "Smoothed time to answer."
    failures: int = 0
    open_until_s: float = 0.0
    "Not asked before this time, unless nobody else is left."

    @property
    def name(self) -> str:
        return self.operator.name


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
    veil: Callable[[Backend], bytes] | None = None
    "If set, nodes are asked through one another; gives a node's key for it, or nothing while it is not known."
    guard: bytes = b""
    "If set, the same nodes carry as long as they can: so fewer pairs of nodes see both ends in the course of time."
    complaints: dict[str, list[str]] = field(default_factory=dict)
    "By node: what it was caught at."

    def __post_init__(self) -> None:
        self.backends = [Backend(o) for o in self.charter.operators if not self.only or o.name in self.only]
        self.random.shuffle(self.backends)
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._session is not None:
            await self._session.close()

    async def reconnect(self) -> None:
        """Forget all connections: what follows shall not be known by them as coming from whom it came before."""
        if self._session is not None:
            await self._session.close()
            self._session = None

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
        raise UnreachableError("no node could be used: " + "; ".join(f"{name}: {error}" for name, error in errors))

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

    async def post(self, backend: Backend, path: str, body: bytes) -> bytes:
        """Give something to one node. Raises `BackendError`."""
        return await self._request(backend, "POST", path, body, BODY_BYTES_MAX)

    async def fetch(self, backend: Backend, path: str, size_bytes_max: int = BODY_BYTES_MAX) -> bytes:
        """Get something from one node. Raises `BackendError`."""
        return await self._request(backend, "GET", path, None, size_bytes_max)

    def _hedge_s(self, backend: Backend) -> float:
        return min(HEDGE_S, 3 * backend.latency_s)

    async def read(
        self, backend: Backend, path: str, check: Callable[[bytes], T], size_bytes_max: int = BODY_BYTES_MAX
    ) -> T:
        """Get something from one node; what does not pass the check is remembered. Raises `BackendError` or its own."""
        data = await self._request(backend, "GET", path, None, size_bytes_max)
        try:
            return check(data)
        except SenderError as error:
            self._failed(backend, self.clock())
            self.complain(backend.name, f"{path.split('?', maxsplit=1)[0]}: {error}")
            raise

    async def _request(
        self, backend: Backend, method: str, path: str, body: bytes | None, size_bytes_max: int
    ) -> bytes:
        key = self.veil(backend) if self.veil else b""
        if key:
            return await self._through(backend, key, Request(method, path, body or b""), size_bytes_max)
        if self.veil and (method == "POST" or not path.startswith(PUBLIC)):
            raise BackendError("its log names no key for requests that come through another node")
        return await self._direct(backend, method, path, body, size_bytes_max)

    async def _through(self, backend: Backend, key: bytes, request: Request, size_bytes_max: int) -> bytes:
        """Ask a node through another one (RFC 9458): one sees the address, the other the content."""
        start, path = self.clock(), f"/v1/relay/{backend.operator.origin_hash.hex()}"
        others = [b for b in self.order() if b is not backend and not self.broken(b)] or self.order()
        relays = [b for b in others if b is not backend]
        self.random.shuffle(relays)
        if self.guard:
            relays.sort(key=lambda relay: (relay.failures > 0, sha256(self.guard, relay.operator.origin_hash)))
        reasons = []
        for relay in relays[:RELAYS]:
            try:
                sealed, answering = seal_request(key, pad(request.encode()), self.random.randbytes(32))
                answer = await self._direct(relay, "POST", path, sealed, RELAYED_BYTES_MAX)
                response = Response.decode(answering.open(answer))
            except BackendError as error:
                reasons.append(f"{relay.name}: {error}")
                continue
            except SenderError as error:
                reasons.append(f"{relay.name} or {backend.name}: {error}")
                continue
            self._succeeded(backend, start)
            if len(response.content) > size_bytes_max:
                raise BackendError(f"an answer of more than {size_bytes_max} bytes")
            if response.status != 200:
                title = _title(response.content) or f"HTTP status {response.status}"
                raise BackendError(title, response.status, response.content)
            return response.content
        self._failed(backend, start)
        raise BackendError("not reached through another node: " + ("; ".join(reasons) or "there is none"))

    async def _direct(self, backend: Backend, method: str, path: str, body: bytes | None, size_bytes_max: int) -> bytes:
        start = self.clock()
        data_in = io.BytesIO(body) if body is not None else None
        try:
            async with self._client().request(
                method, backend.operator.url + path, data=data_in, allow_redirects=False
            ) as response:
                data = await _read(response, size_bytes_max)
        except TimeoutError:
            self._failed(backend, start)
            raise BackendError(f"no answer within {self.clock() - start:.1f} s") from None
        except (aiohttp.ClientError, OSError) as error:
            self._failed(backend, start)
            raise BackendError(network_words(error)) from error
        if response.status >= 500:
            if response.status != BAD_GATEWAY:  # which is about another node
                self._failed(backend, start)
        else:
            self._succeeded(backend, start)
        if response.status != 200:
            raise BackendError(_title(data) or f"HTTP status {response.status}", response.status, data)
        return data

    def _succeeded(self, backend: Backend, start: float) -> None:
        backend.failures, backend.open_until_s = 0, 0.0
        backend.latency_s += 0.2 * (self.clock() - start - backend.latency_s)

    def _failed(self, backend: Backend, start: float) -> None:
        backend.failures += 1
        # Who let us wait is left out for longer: a node that swallows requests takes a fifth of our time.
        pause = max(BREAK_S * 2.0 ** min(backend.failures - 1, 10), 4 * (self.clock() - start))
        pause = min(BREAK_MAX_S, pause)
        backend.open_until_s = self.clock() + pause * (0.75 + 0.5 * self.random.random())

    def _client(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=self.connector() if self.connector else aiohttp.TCPConnector(limit=0),
                timeout=aiohttp.ClientTimeout(total=self.timeout_s, sock_connect=CONNECT_S),
                cookie_jar=aiohttp.DummyCookieJar(),
                headers={"User-Agent": "peewit"},
            )
        return self._session


def _drop(running: Iterable[asyncio.Future[T]]) -> None:
    """Nobody waits for these any more, whatever they come to."""
    for task in running:
        task.cancel()
        task.add_done_callback(lambda done: done.cancelled() or done.exception())


async def _read(response: aiohttp.ClientResponse, size_bytes_max: int) -> bytes:
    parts, size = [], 0
    async for part in response.content.iter_any():
        size += len(part)
        if size > size_bytes_max:
            raise BackendError(f"an answer of more than {size_bytes_max} bytes")
        parts.append(part)
    return b"".join(parts)


def _title(body: bytes) -> str:
    try:
        fields: Any = json.loads(body[:10_000])
        return str(fields["title"])[:500]
    except (ValueError, KeyError, TypeError, RecursionError):
        return ""
