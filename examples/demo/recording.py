"""What nodes are sent, written down where it leaves a person's device: the truth about who learns what."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import combinations

from rich.table import Table

from peewit_clients.backend import Backend
from peewit_clients.pool import BackendPool
from peewit_clients.transport import Transport
from peewit_federation.appointment.request import open_request
from peewit_federation.draw.api import DrawAsk
from peewit_federation.errors import PeewitError
from peewit_federation.oblivious.bhttp import Request

RELAY = "/v1/relay/"


@dataclass
class Ledger:
    """All that nodes saw."""

    addresses: dict[str, set[int]] = field(default_factory=dict)
    "By node: people whose address it saw (each has one here: a number)."
    hashes: dict[str, set[bytes]] = field(default_factory=dict)
    "By node: the H that it saw."
    sizes: dict[str, set[int]] = field(default_factory=dict)
    "By node: sizes of what it carried."
    read: dict[str, set[int]] = field(default_factory=dict)
    "By node: people whose H it read; if it also carried for them, its clock tells it whose H that is."
    drawn: dict[str, set[bytes]] = field(default_factory=dict)
    "By node: the H of which it saw which practice drew them."
    links: dict[tuple[str, str], set[int]] = field(default_factory=dict)
    "By (who carried, who read): people of whom the two together know H."
    direct: int = 0
    "Requests that went to a node by themselves."

    def carried(self, person: int, relay: str, target: str, size: int, request: Request) -> None:
        """A person's device asked `target` through `relay`."""
        self.addresses.setdefault(relay, set()).add(person)
        self.sizes.setdefault(relay, set()).add(size)
        name = _hash_in(request)
        if name is not None:
            self.hashes.setdefault(target, set()).add(name)
            self.links.setdefault((relay, target), set()).add(person)
            self.read.setdefault(target, set()).add(person)

    def tables(self, nodes: tuple[str, ...], people: int) -> list[Table]:
        """Who learnt what: by node, and by pair of nodes."""
        one = Table(
            "node", "addresses", "H", "of them drawn by which practice", "address and H, by its clock", "sizes carried",
            title=f"Who learnt what of {people} people: each node by itself", title_justify="left",
        )  # fmt: skip
        for node in nodes:
            sizes = ", ".join(f"{size // 1024} kB" for size in sorted(self.sizes.get(node, ())))
            both = self.addresses.get(node, set()) & self.read.get(node, set())
            one.add_row(
                node, str(len(self.addresses.get(node, ()))), str(len(self.hashes.get(node, ()))),
                str(len(self.drawn.get(node, ()))), str(len(both)), sizes,
            )  # fmt: skip
        two = Table(
            "pair", "people whose address and H the two could put together",
            title="and pairs of nodes whose operators collude", title_justify="left",
        )  # fmt: skip
        for a, b in combinations(nodes, 2):
            linked = self.links.get((a, b), set()) | self.links.get((b, a), set())
            two.add_row(f"{a} + {b}", str(len(linked)))
        return [one, two]


def _hash_in(request: Request) -> bytes | None:
    """The H that a request shows to who reads it."""
    try:
        if request.path == "/v1/requests":
            return open_request(request.content).name
        if request.path == "/v1/draw":
            return DrawAsk.decode(request.content).request
    except PeewitError:
        return None
    return None


class RecordedPool(BackendPool):
    """A person's pool, with a ledger."""

    ledger: Ledger
    person: int

    def __post_init__(self) -> None:
        super().__post_init__()
        self.transport = RecordedTransport(self)


class RecordedTransport(Transport):
    """Writes down what leaves the device."""

    def __init__(self, pool: RecordedPool) -> None:
        super().__init__(pool.order, pool.connector, pool.clock, pool.random, pool.timeout_s)
        self._pool = pool

    async def through(
        self, backend: Backend, key: bytes, made: Callable[[], Request], size_bytes_max: int
    ) -> bytes:  # fmt: skip
        def noted() -> Request:
            self._asked = made()
            return self._asked

        return await super().through(backend, key, noted, size_bytes_max)

    async def direct(self, backend: Backend, method: str, path: str, body: bytes | None, size_bytes_max: int) -> bytes:
        ledger, person = self._pool.ledger, self._pool.person
        if path.startswith(RELAY):
            ledger.carried(person, backend.name, self._target(path), len(body or b""), self._asked)
        else:
            ledger.direct += 1
            ledger.addresses.setdefault(backend.name, set()).add(person)
        return await super().direct(backend, method, path, body, size_bytes_max)

    def _target(self, path: str) -> str:
        origin = bytes.fromhex(path.removeprefix(RELAY))
        return next(b.name for b in self._pool.backends if b.operator.origin_hash == origin)
