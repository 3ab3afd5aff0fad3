"""The catchment areas whose queues this node holds, and how many wait in them.

Rules kept here: an area is what its mediator last said of it, and is held by the nodes that it names; how many wait
anybody may know, but is not counted anew for everybody who asks.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Final

from peewit_federation.appointment.request import Request
from peewit_federation.registry.find import Finder
from peewit_federation.registry.fold import Registry
from peewit_federation.registry.subjects import Verdict
from peewit_federation.statements.kinds import MEDIATOR_KINDS, read_entry
from peewit_federation.statements.mediator import Catchment
from peewit_node.engine import Engine
from peewit_node.logs import Logs
from peewit_node.node_state import NodeState

CATCHMENTS_MAX: Final = 10_000
COUNTED_PER_S: Final = 10_000
TOLD_S_MAX: Final = 60.0
"How long a count is told, which grows with what it costs."
COUNT: Final = (
    "SELECT rank, round, count(*) FROM requests WHERE area = ? AND state = 0 GROUP BY rank, round ORDER BY rank, round"
)


@dataclass(frozen=True)
class Waiting:
    """How many wait, by rank of their group and round."""

    rank: int
    round: int
    count: int


class Areas:
    """Looks areas up."""

    def __init__(self, state: NodeState, engine: Engine, registry: Registry, logs: Logs) -> None:
        self._state = state
        self._engine = engine
        self._registry = registry
        self._logs = logs
        self._finder = Finder(registry)
        self._catchments: dict[bytes, Catchment] = {}
        "What was read lately, by the hash of the entry."
        self._told: dict[bytes, tuple[float, list[Waiting]]] = {}
        "By area: how many waited, and until when that is told."
        self._counting = asyncio.Lock()

    async def catchment(self, mediator: bytes, area: bytes) -> Catchment | None:
        """A catchment area, as its mediator last described it."""
        found = self._finder.look(mediator, Catchment.KIND, area, int(self._state.now()))
        if found.verdict is not Verdict.ACTIVE or found.standing is None:
            return None
        known = self._catchments.get(found.standing.digest)
        if known is not None:
            return known
        cut = self._registry.cuts.get(mediator, {}).get(found.standing.origin)
        log = self._logs.get(found.standing.origin, cut.branch) if cut else None
        if log is None:
            return None
        (entry,) = await self._logs.entries(log, found.standing.index, found.standing.index + 1)
        statement = read_entry(entry, MEDIATOR_KINDS)
        if not isinstance(statement, Catchment):
            return None
        if len(self._catchments) >= CATCHMENTS_MAX:
            self._catchments.clear()
        self._catchments[found.standing.digest] = statement
        return statement

    async def ours(self, mediator: bytes, area: bytes) -> Catchment | None:
        """The same, if we hold its queue."""
        found = await self.catchment(mediator, area)
        return found if found and self._state.operator.origin_hash in found.nodes else None

    async def holders(self, request: Request) -> set[bytes]:
        """The operators whose nodes hold any queue of a request."""
        found = [await self.catchment(*area) for area in request.areas]
        return {origin for catchment in found if catchment for origin in catchment.nodes}

    async def waiting(self, area: bytes) -> list[Waiting]:
        """How many wait in an area: anybody may know."""
        async with self._counting:  # who asks meanwhile is told the same
            until_s, told = self._told.get(area, (0.0, []))
            if self._state.now() < until_s:
                return told
            told = [Waiting(*row) for row in await self._engine.fetch(COUNT, area)]
            if told:
                # Counting a million takes a while, and anybody may ask.
                self._told[area] = self._state.now() + min(TOLD_S_MAX, sum(w.count for w in told) / COUNTED_PER_S), told
            return told
