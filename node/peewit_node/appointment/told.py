"""What other nodes of a queue were told, and which database each of them has.

    facts    "queue epoch": 16 random bytes; "queue-<name>": last change that was told (8) and epoch of that node (16);
             "homes-<name>": areas of which it was told as one of their nodes (32 each)

Rules kept here: a node that has another database than before is told everything, but not ever anew within a minute;
a node that is named for an area anew is told that area from its beginning; what a node could not use is remembered,
and told again more and more seldom; what is written down never lies beyond what was told.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Container
from dataclasses import dataclass, field
from typing import Final

from peewit_node.engine import Engine, Write

AGAIN_S: Final = 600.0
AGAIN_S_MAX: Final = 86_400.0
"What could not be used is told again after so long, and then more and more seldom."
EPOCH: Final = "queue epoch"
EPOCH_BYTES: Final = 16
EPOCH_S: Final = 60.0
"A node that says ever anew that it lost everything is believed so seldom."
PUT_FACT: Final = "INSERT INTO facts VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET body = excluded.body"


@dataclass(frozen=True)
class Skipped:
    """Changes after one, up to another, that a node could not use."""

    due_s: float
    after: int
    upto: int
    wait_s: float = AGAIN_S


@dataclass
class Known:
    """What is known of another node."""

    epoch: bytes = b""
    "Which database it has."
    cursor: int = 0
    "The last change that it was told."
    skipped: list[Skipped] = field(default_factory=list)
    homes: set[bytes] | None = None
    "Areas (`area_name`) of which it was told as one of their nodes; None: written down before there was this."
    met: bool = False
    "Whether it was told anything since our start."
    begun_s: float = -math.inf
    "When we began to tell it everything."

    def skip(self, skipped: Skipped) -> None:
        """Remember what is to be told again, the next first."""
        self.skipped = sorted([*self.skipped, skipped], key=lambda one: one.due_s)


class Ledger:
    """All other nodes."""

    def __init__(self, engine: Engine, clock: Callable[[], float], epoch: bytes) -> None:
        """`epoch`: random, of a database that has none yet."""
        self._engine = engine
        self._clock = clock
        self.epoch = epoch
        "Which database is ours."
        self._known: dict[str, Known] = {}
        self._kept: dict[str, frozenset[bytes]] = {}
        "Homes, as they are written down."

    async def load(self, *, fresh: bool) -> None:
        """Which database this is (`fresh`: one that was put back, so another), and what others were told. First."""
        for name, body in await self._engine.fetch("SELECT name, body FROM facts WHERE name LIKE 'queue-%'"):
            self._known[name.removeprefix("queue-")] = Known(body[8:], int.from_bytes(body[:8], "big"))
        for name, body in await self._engine.fetch("SELECT name, body FROM facts WHERE name LIKE 'homes-%'"):
            homes = {body[at : at + 32] for at in range(0, len(body), 32)}
            self._known.setdefault(name.removeprefix("homes-"), Known()).homes = homes
            self._kept[name.removeprefix("homes-")] = frozenset(homes)
        rows = await self._engine.fetch("SELECT body FROM facts WHERE name = ?", EPOCH)
        if rows and not fresh:
            self.epoch = rows[0][0]
            return
        await self._engine.write(Write(PUT_FACT, (EPOCH, self.epoch)))

    def of(self, name: str) -> Known:
        """What is known of a node."""
        return self._known.setdefault(name, Known(homes=set()))

    def retain(self, names: Container[str]) -> list[str]:
        """Forget all but these; whom."""
        gone = [name for name in self._known if name not in names]
        for name in gone:
            del self._known[name]
        return gone

    async def meet(self, name: str, epoch: bytes) -> bool:
        """A node says which database it has: one that we did not know is told everything. False if it is too soon."""
        known, now_s = self.of(name), self._clock()
        if known.epoch == epoch:
            return True
        if now_s < known.begun_s + EPOCH_S:
            known.met = False  # it is asked again
            return False
        begun_s = now_s if known.epoch else -math.inf
        self._known[name] = Known(epoch, homes=known.homes, met=known.met, begun_s=begun_s)
        await self.keep(name)
        return True

    async def keep(self, name: str) -> None:
        """Write down what a node was told."""
        known = self.of(name)
        cursor = min((known.cursor, *(skipped.after for skipped in known.skipped)))
        writes = [Write(PUT_FACT, (f"queue-{name}", cursor.to_bytes(8, "big") + known.epoch))]
        homes = frozenset(known.homes or ())
        if homes != self._kept.get(name):
            self._kept[name] = homes
            writes.append(Write(PUT_FACT, (f"homes-{name}", b"".join(sorted(homes)))))
        await self._engine.write(*writes)
