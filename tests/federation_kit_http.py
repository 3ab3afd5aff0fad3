"""Raw requests to nodes, and a mediator's device that may also misbehave."""

from __future__ import annotations

import asyncio
import io
from dataclasses import dataclass, field

import aiohttp

from peewit_federation.api import Append
from peewit_federation.keys import SigningKey
from peewit_federation.log.checkpoint import Checkpoint, Head, log_key, origin_hash, sign_checkpoint
from peewit_federation.log.merkle import leaf_hash, root_of
from peewit_federation.log.tiles import encode_bundle
from tests.federation_kit import Federation, TestMediator, catchment, encode_all, provider


async def request(method: str, url: str, body: bytes | None = None) -> tuple[int, bytes]:
    async with aiohttp.ClientSession() as session:
        async with session.request(
            method, url, data=io.BytesIO(body) if body is not None else None, allow_redirects=False
        ) as response:
            return response.status, await response.read()


async def get(url: str) -> tuple[int, bytes]:
    return await request("GET", url)


async def post(url: str, body: bytes) -> tuple[int, bytes]:
    return await request("POST", url, body)


@dataclass
class Device:
    """A log in memory that signs whatever it is told."""

    mediator: TestMediator
    key: SigningKey
    entries: list[bytes] = field(default_factory=list)

    @classmethod
    def of(cls, mediator: TestMediator) -> Device:
        return cls(mediator, mediator.log)

    @property
    def origin(self) -> bytes:
        return origin_hash(log_key(self.key.public).name)

    def head(self, entries: list[bytes] | None = None) -> Head:
        entries = self.entries if entries is None else entries
        root = root_of(map(leaf_hash, entries))
        return sign_checkpoint(Checkpoint(log_key(self.key.public).name, len(entries), root), self.key)

    def append(
        self, old: int = 0, entries: list[bytes] | None = None, *, note: bytes = b"", device: bool = True
    ) -> bytes:
        entries = self.entries if entries is None else entries
        statement = self.mediator.device(self.key) if device else b""
        return Append(old, encode_bundle(entries[old:]), note or self.head(entries).encode(), statement).encode()

    async def publish(self, url: str, old: int = 0, entries: list[bytes] | None = None) -> tuple[int, bytes]:
        return await post(f"{url}/v1/log/{self.origin.hex()}/append", self.append(old, entries))


async def admit(federation: Federation, mediator: TestMediator, *prefixes: str) -> None:
    """Two operators admit."""
    for name in federation.names[:2]:
        await federation.nodes[name].own.append(mediator.admission(*(prefixes or ("1", "2"))).encode())
    await federation.agree()


async def until(holds, timeout_s: float = 20.0) -> None:  # type: ignore[no-untyped-def]
    """Wait until `holds()` is true."""
    async with asyncio.timeout(timeout_s):
        while not holds():
            await asyncio.sleep(0.02)


def quorums(federation: Federation) -> bool:
    logs = [log for node in federation.nodes.values() for log in node.logs.all() if not log.forked]
    return all(log.quorum is not None and log.quorum.size == log.size for log in logs)


def no_lies(federation: Federation) -> None:
    for node in federation.nodes.values():
        for peer in node.peers.all.values():
            assert peer.lies == [], (node.state.operator.name, peer.name)


async def start_with_area(federation: Federation, practices: int = 2) -> tuple[TestMediator, Device]:
    mediator = TestMediator("mitte")
    await admit(federation, mediator)
    device = Device.of(mediator)
    area = catchment("area", "10115")
    device.entries = encode_all(area, *(provider(f"p{n}", area) for n in range(practices)))
    status, body = await device.publish(federation.url("north"))
    assert status == 200, body
    await federation.agree()
    return mediator, device
