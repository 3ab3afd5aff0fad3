"""The other nodes, and every request that leaves this one.

Rules kept here: requests go to the charter's URLs only, whose names are resolved once and checked, and never
follow a redirect; every answer is bounded in bytes and time before it is parsed; a peer that lied is named, with
what it did.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from peewit_federation.charter import Operator
from peewit_federation.errors import PeewitError, network_words
from peewit_federation.gossip.feed import Cursor
from peewit_node.config import Gossip

LIES_KEPT: Final = 20
CONNECT_S: Final = 2.5
"Long enough for a first packet that is lost."
PEER_KEEPALIVE_S: Final = 180.0
"Shorter than a node keeps connections open. A tick talks to one peer: among a hundred its turn comes within this."


class PeerError(PeewitError):
    """A peer did not give what was asked for."""


class NotThereError(PeerError):
    """A peer answered that it does not have it."""


@dataclass
class Peer:
    """What we know of another node."""

    operator: Operator
    cursor: Cursor = field(default_factory=Cursor)
    "Where we stand in its feed."
    delivered: Cursor | None = None
    "Up to where it has our feed; None until the first exchange."
    owed: list[Hashable] = field(default_factory=list)
    "Subjects of which it was found to have another state than we, or none."
    wanted: list[bytes] = field(default_factory=list)
    "Marks of what it was found to have and we have not."
    differed: int = 0
    "Exchanges in a row, but those that compare, after which the two were not found to be the same."
    last_success_s: float | None = None
    last_error: str = ""
    failures: int = 0
    lies: list[str] = field(default_factory=list)
    "What it was caught at, newest last."
    exchanges: int = 0
    missed: int = 0
    "So many requests in a row had no answer at all."
    bytes_sent: int = 0
    bytes_received: int = 0

    @property
    def name(self) -> str:
        return self.operator.name

    def caught(self, lie: str) -> None:
        """Remember that it lied."""
        if lie not in self.lies:
            self.lies = [*self.lies[-LIES_KEPT + 1 :], lie]

    def succeeded(self, now_s: float) -> None:
        self.last_success_s, self.failures, self.last_error = now_s, 0, ""

    def failed(self, reason: str) -> None:
        self.failures += 1
        self.last_error = reason


class CheckedResolver(AbstractResolver):
    """Resolves each name once, and refuses addresses that a public node never has."""

    def __init__(self, inner: AbstractResolver, *, private: bool, own: str = "") -> None:
        """`own`: a name of ours (that of the proxy), which may lead anywhere."""
        self._inner = inner
        self._private = private
        self._own = own
        self._known: dict[tuple[str, int], list[ResolveResult]] = {}

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        key = host, port
        if key not in self._known:
            found = await self._inner.resolve(host, port, family)
            for result in found if host != self._own else []:
                check_address(result["host"], private=self._private)
            self._known[key] = found
        return self._known[key]

    async def close(self) -> None:
        await self._inner.close()


@lru_cache(1024)
def check_address(address: str, *, private: bool) -> None:
    """Raise `PeerError` for an address that no peer may have: metadata services, multicast, our own network."""
    ip = ipaddress.ip_address(address)
    if isinstance(ip, ipaddress.IPv6Address):
        inner = ip.ipv4_mapped or ip.sixtofour or (ip.teredo[1] if ip.teredo else None)
        if inner is not None or ip in ipaddress.ip_network("64:ff9b::/96"):
            raise PeerError(f"{address} wraps an IPv4 address")
    if ip.is_link_local or ip.is_multicast or ip.is_unspecified or ip.is_reserved:
        raise PeerError(f"{address} is not an address of a peer")
    if not ip.is_global and not private:
        raise PeerError(f"{address} is a private address; set gossip.private_peers if that is right")


class Peers:
    """All other nodes of the charter, and the way to them."""

    def __init__(
        self,
        operators: list[Operator],
        settings: Gossip,
        *,
        loopback: bool,
        connector: Callable[[], aiohttp.BaseConnector] | None,
    ) -> None:
        self.all = {operator.name: Peer(operator) for operator in operators}
        self._settings = settings
        self._private = settings.private_peers or loopback
        timeout = aiohttp.ClientTimeout(total=settings.timeout_s, sock_connect=CONNECT_S)
        self._session = aiohttp.ClientSession(
            connector=connector() if connector else self._connector(),
            timeout=timeout,
            cookie_jar=aiohttp.DummyCookieJar(),
            # Entries are mostly keys and hashes: compressing them costs both sides more than it saves.
            headers={"User-Agent": "peewit-node", "Accept-Encoding": "identity"},
        )

    def _connector(self) -> aiohttp.BaseConnector:
        own = URL(self._settings.proxy).host or "" if self._settings.proxy else ""
        resolver = CheckedResolver(aiohttp.ThreadedResolver(), private=self._private, own=own)
        return aiohttp.TCPConnector(limit=0, resolver=resolver, use_dns_cache=False, keepalive_timeout=PEER_KEEPALIVE_S)

    def replace(self, operators: list[Operator]) -> None:
        """Take over the operators of a new charter. Those that stay are met anew: what was refused may count now."""
        known, self.all = self.all, {operator.name: Peer(operator) for operator in operators}
        for name, peer in self.all.items():
            held = known.get(name)
            if held is not None and held.operator.url == peer.operator.url:
                peer.lies, peer.failures, peer.last_error = held.lies, held.failures, held.last_error
                peer.last_success_s = held.last_success_s

    def by_name(self, name: bytes) -> Peer | None:
        """The peer whose operator's origin hash begins with these four bytes."""
        return next((p for p in self.all.values() if p.operator.origin_hash[:4] == name), None)

    async def get(self, peer: Peer, path: str, size_bytes_max: int) -> bytes:
        """The body behind a path. Raises `PeerError`."""
        return await self._request(peer, "GET", path, None, size_bytes_max)

    async def post(self, peer: Peer, path: str, body: bytes, size_bytes_max: int) -> bytes:
        """The answer to a body. Raises `PeerError`."""
        return await self._request(peer, "POST", path, body, size_bytes_max)

    async def _request(self, peer: Peer, method: str, path: str, body: bytes | None, size_bytes_max: int) -> bytes:
        url = peer.operator.url + path
        try:
            host = URL(url).host or ""
            if _is_literal(host):
                check_address(host, private=self._private)
            async with self._session.request(
                method, url, data=body, allow_redirects=False, proxy=self._settings.proxy
            ) as response:
                peer.missed = 0
                if response.status == 404:
                    raise NotThereError(f"{peer.name} does not have {path}")
                if response.status != 200:
                    raise PeerError(f"{peer.name} answered {response.status}")
                data = await _read(response, size_bytes_max)
                peer.bytes_sent += len(body or b"")
                peer.bytes_received += len(data)
                return data
        except TimeoutError:
            peer.missed += 1
            raise PeerError(f"{peer.name} did not answer within {self._settings.timeout_s:g} s") from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            peer.missed += 1
            raise PeerError(f"{peer.name}: {network_words(error)}") from error

    async def close(self) -> None:
        await self._session.close()


@lru_cache(1024)
def _is_literal(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


async def _read(response: aiohttp.ClientResponse, size_bytes_max: int) -> bytes:
    parts, size = [], 0
    async for part in response.content.iter_any():
        size += len(part)
        if size > size_bytes_max:
            raise PeerError(f"an answer of more than {size_bytes_max} bytes")
        parts.append(part)
    return b"".join(parts)
