"""Those who break the protocol on purpose: nodes that withhold or lie, strangers that flood, and thieves.

Rules kept here: a lying node is a real node of which one answer is replaced; it has its own keys and no others. A
thief has one device's key and says what it likes with it.
"""

from __future__ import annotations

import asyncio
import io
from collections.abc import Hashable
from copy import copy
from dataclasses import replace
from typing import Any, Final

import aiohttp

from peewit_federation.api import Append
from peewit_federation.gossip.feed import Answer, Ask, HeadItem, Item
from peewit_federation.keys import SigningKey
from peewit_federation.log.checkpoint import Checkpoint, log_key, origin_hash, sign_checkpoint
from peewit_federation.log.merkle import leaf_hash, root_of
from peewit_federation.log.note import Note
from peewit_federation.log.tiles import Tile, encode_bundle
from peewit_federation.statements.mediator import Provider, Revocation
from peewit_node.node import Node
from peewit_node.stored_log import Log
from peewit_simulation.actors import District
from peewit_simulation.federation import PORT, Simulation

LIES: Final = ("withhold", "rollback", "garble", "foreign", "forge", "flood")


def corrupt(sim: Simulation, name: str, lie: str) -> None:
    """Make a running node lie from now on (until it is started again)."""
    node = sim.nodes.get(name)
    if node is None:
        return
    sim.liars.add(name)
    sim.history.tell(f"{name} begins to lie: {lie}")
    if lie == "withhold":
        _withhold(node)
    elif lie == "rollback":
        _roll_back(node)
    elif lie == "garble":
        _garble(node)
    elif lie == "foreign":
        _serve_foreign_tiles(node)
    elif lie == "forge":
        _forge(sim, node)
    else:
        sim.hosts[name].spawn(_flood(sim, name))


def _withhold(node: Node) -> None:
    """Says that it has no news, and never tells any."""

    def answer(_: Ask) -> Answer:
        return Answer(node.feed.end, same=True)

    node.gossip.answer = answer  # type: ignore[method-assign, assignment]
    node.gossip._item = lambda _subject, _new: None  # type: ignore[method-assign, assignment]


def _roll_back(node: Node) -> None:
    """Shows everybody the past: all logs as they were before it began to lie, under views that it signs today."""
    past = copy(node.logs)
    past._by_name = {(log.origin, log.branch): replace(log) for log in node.logs.all(branch=None)}
    parts: list[Any] = [
        getattr(route.handler, "__self__", None) for route in node._listener._runners[0].app.router.routes()
    ]
    for part in (node.gossip, node.views, node.answers, *parts):
        if hasattr(part, "_logs"):
            part._logs = past
    node.views.changed()


def _serve_foreign_tiles(node: Node) -> None:
    """Serves the tiles of one log as those of another."""
    real = node.logs.tile

    async def foreign(log: Log, wanted: Tile) -> bytes | None:
        for other in node.logs.all():
            if other is not log and (data := await real(other, wanted)) is not None:
                return data
        return await real(log, wanted)

    node.logs.tile = foreign  # type: ignore[method-assign, assignment]


def _garble(node: Node) -> None:
    """Serves other bytes than its tiles."""
    real = node.logs.tile

    async def tile(log: Log, wanted: Tile) -> bytes | None:
        data = await real(log, wanted)
        return data[:-1] + bytes([data[-1] ^ 1]) if data else data

    node.logs.tile = tile  # type: ignore[method-assign, assignment]


def _forge(sim: Simulation, node: Node) -> None:
    """Tells of heads that nobody signed."""
    real, random = node.gossip._item, sim.world.stream("forge", node.state.operator.name)

    def item(subject: Hashable, new: bool) -> Item | None:
        found = real(subject, new)
        if not isinstance(found, HeadItem):
            return found
        note = Note.parse(found.note)
        checkpoint = Checkpoint.parse(note.text)
        false = Checkpoint(checkpoint.origin, checkpoint.size + random.randrange(2), random.randbytes(32))
        return HeadItem(Note(false.text, note.signatures).encode(), found.devices)

    node.gossip._item = item  # type: ignore[method-assign]


async def _flood(sim: Simulation, name: str) -> None:
    """Sends garbage to everybody, without end."""
    random = sim.world.stream("flood", name)
    async with aiohttp.ClientSession(
        connector=sim.hosts[name].connector(), cookie_jar=aiohttp.DummyCookieJar()
    ) as session:
        while True:
            target = sim.hosts[random.choice(sim.names)]
            path = random.choice(("/federation/v1/exchange", "/v1/statements", "/v1/log/" + "0" * 64 + "/append"))
            body = random.randbytes(random.choice((1, 100, 10_000)))
            try:
                async with session.post(f"http://{target.address}:{PORT}{path}", data=io.BytesIO(body)) as response:
                    await response.read()
            except (aiohttp.ClientError, TimeoutError, OSError):
                pass
            await asyncio.sleep(0.2)


class Thief:
    """Has a copy of a district's device key: tells two histories, revokes everything, admits its own practice."""

    def __init__(self, sim: Simulation, district: District) -> None:
        self.sim = sim
        self.district = district
        self.host = sim.add_host("thief", "127.4.0.1")
        self.key: SigningKey = district.key
        self.origin = origin_hash(log_key(self.key.public).name)
        self.practice = SigningKey(sim.seed_of("evil practice"))
        self.evil: list[bytes] = []
        "Subjects that only the thief speaks of."
        self.victims: list[bytes] = []
        "Subjects that the thief revoked on the second history."
        self.shown: dict[int, str] = {}
        "By number of the history: the node that took it."

    def strike(self, first: str, second: str) -> None:
        """Show two histories to two nodes, beginning with what is published so far."""
        node = self.sim.honest().get(first) or next(iter(self.sim.honest().values()), None)
        log = node.logs.get(self.origin) if node else None
        if node is None or log is None or log.size == 0 or self.host.alive:
            return
        self.sim.history.tell(f"a thief tells {first} and {second} different histories")
        self.sim.history.stolen.add(self.origin)
        self.host.boot()
        self.host.spawn(self._strike(node, log, (first, second)))

    async def _strike(self, node: Node, log: Log, targets: tuple[str, str]) -> None:
        size = log.size
        base = [e for start in range(0, size, 256) for e in await node.logs.entries(log, start, size)]
        now_s = int(self.host.wall())
        grant = Provider(1, 0, now_s, now_s + 86_400, (), self.practice.public, bytes(1216), (), ("flu",), bytes(32))
        self.evil.append(grant.subject)
        self.victims = list(self.district.subjects.values())
        victims = [Revocation(Provider.KIND, subject, 4, bytes([7]) * 16).encode() for subject in self.victims]
        async with aiohttp.ClientSession(
            connector=self.host.connector(), cookie_jar=aiohttp.DummyCookieJar()
        ) as session:
            second = [*victims, grant.encode()]
            # Half of the thieves make both histories equally long.
            padding = [replace(grant, version=number).encode() for number in range(2, len(second) + 1)]
            first = [grant.encode(), *(padding if self.sim.world.stream("thief").random() < 0.5 else [])]
            for number, (target, extra) in enumerate(zip(targets, (first, second), strict=True)):
                entries = base + extra
                root = root_of(map(leaf_hash, entries))
                head = sign_checkpoint(Checkpoint(log_key(self.key.public).name, len(entries), root), self.key)
                body = Append(size, encode_bundle(entries[size:]), head.encode()).encode()
                url = f"http://{self.sim.hosts[target].address}:{PORT}/v1/log/{self.origin.hex()}/append"
                try:
                    async with session.post(url, data=io.BytesIO(body)) as response:
                        answer: Any = await response.read()
                        self.sim.world.note("thief", target, response.status, len(answer))
                        if response.status == 200:
                            self.shown[number] = target
                except (aiohttp.ClientError, TimeoutError, OSError):
                    self.sim.world.note("thief", target, "failed")
