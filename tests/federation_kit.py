"""What many tests need: real nodes on loopback in this process, keys, mediators' devices."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import secrets
import socket
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import ClassVar

from peewit_clients.charters import Card, Draw, compose_charter
from peewit_federation.draw.blind_rsa import TokenKey
from peewit_federation.keys import SigningKey, key_id
from peewit_federation.sealed import xwing_public
from peewit_federation.statements.carried import Device, sign_device
from peewit_federation.statements.codec import Statement
from peewit_federation.statements.mediator import Catchment, Provider
from peewit_federation.statements.operator import Admission
from peewit_node.config import Admission as AdmissionSettings
from peewit_node.config import Gossip, NodeConfig
from peewit_node.machine import LocalMachine, Machine
from peewit_node.node import Node
from peewit_node.setup import init_node

NAMES = ("north", "west", "south", "east")
FAST = Gossip(interval_s=0.05, timeout_s=5.0, backoff_max_s=0.3, view_interval_s=0.2, head_pause_s=1.0)


def seed(*parts: object) -> bytes:
    """32 bytes that are always the same for the same words."""
    return hashlib.sha256(repr(parts).encode()).digest()


PORTS = itertools.count(secrets.randbelow(20_000))
"Each once, from where other processes probably do not begin."


def free_port() -> int:
    """A port that nobody listens on, and below those that the system gives to whoever connects meanwhile."""
    for number in PORTS:
        port = 10_000 + number % 20_000
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise AssertionError("unreachable")


class PooledMachine(LocalMachine):
    """Token keys that are made once for all federations of a process: each takes a tenth of a second."""

    pool: ClassVar[list[TokenKey]] = []

    def __init__(self) -> None:
        self._taken = 0

    async def token_key(self, bits: int) -> TokenKey:
        assert bits == 2048
        self._taken += 1
        number = self._taken
        while number > len(self.pool):
            self.pool.append(await super().token_key(bits))
        return self.pool[number - 1]


DEVICE_KEY = xwing_public(seed("device encryption"))
"To which letters are sealed: one for all devices of tests."


@dataclass
class Federation:
    """Nodes that run in this process."""

    folder: Path
    names: tuple[str, ...]
    configs: dict[str, NodeConfig]
    nodes: dict[str, Node] = field(default_factory=dict)
    machine: Machine = field(default_factory=lambda: PooledMachine())

    @classmethod
    def make(
        cls, folder: Path, names: tuple[str, ...] = NAMES, quorum: int = 3, gossip: Gossip = FAST,
        draw: Draw | None = None, admission: AdmissionSettings | None = None,
    ) -> Federation:  # fmt: skip
        cards, configs = [], {}
        for number, name in enumerate(names):
            port = free_port()
            url = f"http://127.0.0.1:{port}"
            seeds = tuple(seed(name, part) for part in range(3))
            made = init_node(
                folder / name, name, url, f"127.0.0.1:{port}", (str(number + 1),), "../charter.toml", seeds
            )
            cards.append(Card.parse(made.encode()))
            configs[name] = NodeConfig(
                operator=name,
                charter=folder / "charter.toml",
                data=folder / name,
                listen=f"127.0.0.1:{port}",
                gossip=gossip,
                admission=admission or AdmissionSettings(),
            )
        text = compose_charter("test-federation", cards, quorum, draw=draw)
        (folder / "charter.toml").write_text(text, encoding="utf-8")
        return cls(folder, names, configs)

    async def start(self, *names: str) -> None:
        for name in names or self.names:
            self.nodes[name] = await Node.start(
                self.configs[name], random=Random(seed(name, "random")), machine=self.machine
            )

    async def stop(self, *names: str) -> None:
        for name in names or tuple(self.nodes):
            await self.nodes.pop(name).stop()

    def url(self, name: str) -> str:
        return f"http://{self.configs[name].listen}"

    async def agree(self, timeout_s: float = 40.0) -> bytes:
        """Wait until all running nodes have the same registry and all heads have a quorum; its digest."""
        async with asyncio.timeout(timeout_s):
            while True:
                digests = {node.keeper.registry.digest() for node in self.nodes.values()}
                views = {node.views.lines().root for node in self.nodes.values()}
                idle = all(node.keeper.idle.is_set() for node in self.nodes.values())
                logs = [log for node in self.nodes.values() for log in node.logs.all() if not log.forked]
                idle = idle and all(log.quorum is not None and log.quorum.size == log.size for log in logs)
                if idle and len(digests) == 1 and len(views) == 1:
                    return digests.pop()
                await asyncio.sleep(0.05)


@dataclass
class TestMediator:
    """A mediator's keys, and a device's log in memory."""

    __test__ = False
    name: str

    def __post_init__(self) -> None:
        self.root = SigningKey(seed(self.name, "root"))
        self.log = SigningKey(seed(self.name, "log"))
        self.id = key_id(self.root.public)

    def admission(self, *prefixes: str) -> Admission:
        return Admission(self.id, (self.root.public,), tuple(sorted(prefixes)), ())

    def device(self, log: SigningKey | None = None) -> bytes:
        log = log or self.log
        return sign_device(Device(self.id, self.root.public, log.public, DEVICE_KEY), self.root, log)


def catchment(
    name: str, *postcodes: str, version: int = 1, status: int = 0, after: tuple[bytes, ...] = ()
) -> Catchment:
    area = seed(name)[:16]
    return Catchment(
        version,
        status,
        0,
        4_000_000_000,
        after,
        area,
        seed(name, "salt")[:16],
        (),
        tuple(sorted(postcodes)),
        ("flu",),
        (seed("node"),),
    )


def provider(
    name: str, *areas: Catchment, version: int = 1, status: int = 0, after: tuple[bytes, ...] = ()
) -> Provider:
    return Provider(
        version,
        status,
        0,
        4_000_000_000,
        after,
        SigningKey(seed(name)).public,
        bytes(1216),
        tuple(sorted(a.area for a in areas)),
        ("flu",),
        seed(name, "data"),
    )


def encode_all(*statements: Statement) -> list[bytes]:
    return [statement.encode() for statement in statements]
