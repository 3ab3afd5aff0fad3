"""How a request gets to a node: directly, or sealed and through another one (RFC 9458).

Rules kept here: answers are bounded in bytes and time; with a veil, nothing but what is the same for everybody is asked
directly, and the same nodes carry as long as they can. Whom to ask is left to `pool`.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Container
from random import Random
from typing import Any, Final

import aiohttp

from peewit_clients.backend import Backend, BackendError
from peewit_federation.errors import SenderError, network_words
from peewit_federation.keys import sha256
from peewit_federation.oblivious.bhttp import PADDED_BYTES, Request, Response, pad
from peewit_federation.oblivious.encapsulation import seal_request

CONNECT_S: Final = 2.5
"Long enough for a first packet that is lost."
RELAYS: Final = 3
"So many other nodes are tried as carriers."
RELAYED_BYTES_MAX: Final = PADDED_BYTES[-1] + 1024
BAD_GATEWAY: Final = 502
Body = bytes | Callable[[], bytes]
PUBLIC: Final = ("/log/", "/v1/views", "/v1/heads", "/v1/evidence/")
"What is asked directly while no keys are known: the operators' logs, which name them."


class Transport:
    """Connections of one client."""

    def __init__(
        self,
        order: Callable[[], list[Backend]],
        connector: Callable[[], aiohttp.BaseConnector] | None,
        clock: Callable[[], float],
        random: Random,
        timeout_s: float,
    ) -> None:
        """`order`: all nodes, in the order in which they would be asked."""
        self._order = order
        self._connector = connector
        self._clock = clock
        self._random = random
        self._timeout_s = timeout_s
        self._session: aiohttp.ClientSession | None = None
        self.veil: Callable[[Backend], bytes] | None = None
        "If set, nodes are asked through one another; gives a node's key for it, or nothing while it is not known."
        self.guard = b""
        "If set, the same nodes carry as long as they can: so fewer pairs see both ends in the course of time."
        self.ends: Callable[[], Container[bytes]] = frozenset
        "Operators whose nodes are told what nobody else should: as long as others answer, these carry nothing."

    async def close(self) -> None:
        """Forget all connections: what follows shall not be known by them as coming from whom it came before."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    def failed(self, backend: Backend, start: float) -> None:
        """A node did not answer as it should to what was asked at `start`."""
        now_s = self._clock()
        backend.failed(now_s, now_s - start, self._random.random())

    def _broken(self, backend: Backend) -> bool:
        return backend.open_until_s > self._clock()

    async def request(
        self, backend: Backend, method: str, path: str, body: Body | None, size_bytes_max: int
    ) -> bytes:  # fmt: skip
        """The body of an answer, over another node if there is a veil. Raises `BackendError`."""
        key = self.veil(backend) if self.veil else b""
        made: Callable[[], bytes | None] = body if callable(body) else lambda: body
        if key:
            return await self.through(backend, key, lambda: Request(method, path, made() or b""), size_bytes_max)
        known = self.veil is not None and any(map(self.veil, self._order()))
        if self.veil and (method == "POST" or known or not path.startswith(PUBLIC)):
            raise BackendError("its log names no key for requests that come through another node")
        return await self.direct(backend, method, path, made(), size_bytes_max)

    async def through(
        self, backend: Backend, key: bytes, made: Callable[[], Request], size_bytes_max: int
    ) -> bytes:  # fmt: skip
        """Ask a node through another one (RFC 9458): one sees the address, the other the content.

        The request is made for each carrier: one may hand it over, and swallow the answer.
        """
        start, path = self._clock(), f"/v1/relay/{backend.operator.origin_hash.hex()}"
        others = [b for b in self._order() if b is not backend and not self._broken(b)] or self._order()
        relays = [b for b in others if b is not backend]
        self._random.shuffle(relays)
        if self.guard:
            ends = self.ends()
            relays.sort(
                key=lambda relay: (
                    relay.operator.origin_hash in ends,
                    relay.failures > 0,
                    sha256(self.guard, relay.operator.origin_hash),
                )
            )
        reasons = []
        for relay in relays[:RELAYS]:
            try:
                sealed, answering = seal_request(key, pad(made().encode()), self._random.randbytes(32))
                answer = await self.direct(relay, "POST", path, sealed, RELAYED_BYTES_MAX)
                response = Response.decode(answering.open(answer))
            except BackendError as error:
                reasons.append(f"{relay.name}: {error}")
                continue
            except SenderError as error:
                reasons.append(f"{relay.name} or {backend.name}: {error}")
                continue
            backend.succeeded(self._clock() - start)
            if len(response.content) > size_bytes_max:
                raise BackendError(f"an answer of more than {size_bytes_max} bytes")
            if response.status != 200:
                title = _title(response.content) or f"HTTP status {response.status}"
                raise BackendError(title, response.status, response.content)
            return response.content
        self.failed(backend, start)
        raise BackendError("not reached through another node: " + ("; ".join(reasons) or "there is none"))

    async def direct(self, backend: Backend, method: str, path: str, body: bytes | None, size_bytes_max: int) -> bytes:
        """Ask a node itself. Raises `BackendError`."""
        start = self._clock()
        data_in = io.BytesIO(body) if body is not None else None
        try:
            async with self._client().request(
                method, backend.operator.url + path, data=data_in, allow_redirects=False
            ) as response:
                data = await _read(response, size_bytes_max)
        except TimeoutError:
            self.failed(backend, start)
            raise BackendError(f"no answer within {self._clock() - start:.1f} s") from None
        except (aiohttp.ClientError, OSError) as error:
            self.failed(backend, start)
            raise BackendError(network_words(error)) from error
        if response.status >= 500:
            if response.status != BAD_GATEWAY:  # which is about another node
                self.failed(backend, start)
        else:
            backend.succeeded(self._clock() - start)
        if response.status != 200:
            raise BackendError(_title(data) or f"HTTP status {response.status}", response.status, data)
        return data

    def _client(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=self._connector() if self._connector else aiohttp.TCPConnector(limit=0),
                timeout=aiohttp.ClientTimeout(total=self._timeout_s, sock_connect=CONNECT_S),
                cookie_jar=aiohttp.DummyCookieJar(),
                headers={"User-Agent": "peewit"},
            )
        return self._session


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
