"""In which order the groups of an area are drawn, also when its mediator says another order while people wait.

Rules kept here: a request is ranked by the groups of now when it comes; a queue whose groups have changed since it was
ranked last is ranked anew before it is drawn from. Who is in no group comes last, and so does who is in one that the
area has dropped: nobody loses the queue by that.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Final

from peewit_federation import cbor
from peewit_federation.appointment.queue_api import rank_of
from peewit_federation.appointment.request import Request
from peewit_federation.cose import Sign1
from peewit_federation.errors import RefusedError
from peewit_federation.statements.mediator import Catchment
from peewit_node.engine import Engine, Write

PAGE: Final = "SELECT request, body, rank FROM requests WHERE area = ? AND request > ? ORDER BY request LIMIT 200"
RANK: Final = "UPDATE requests SET rank = ? WHERE area = ? AND request = ?"
SAY_GROUPS: Final = "INSERT INTO area_groups VALUES (?, ?) ON CONFLICT (area) DO UPDATE SET grps = excluded.grps"
DROP_GROUPS: Final = (
    "DELETE FROM area_groups WHERE NOT EXISTS (SELECT 1 FROM requests WHERE requests.area = area_groups.area)"
)


class Ranking:
    """Of the queues that a node holds."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._groups: dict[bytes, tuple[str, ...]] = {}
        "By area: in whose order its queue is."
        self._ordering: dict[bytes, asyncio.Lock] = {}

    async def order(self, area: bytes, groups: tuple[str, ...]) -> None:
        """Put the queue of an area into the order of its groups, if its mediator has said another one since."""
        if self._groups.get(area) == groups:
            return
        async with self._ordering.setdefault(area, asyncio.Lock()):
            held = await self._engine.look("SELECT grps FROM area_groups WHERE area = ?", area)
            said = cbor.encode(list(groups))
            if held != [(said,)]:
                await self._rank_anew(area, groups)
                await self._engine.write(Write(SAY_GROUPS, (area, said)))
            self._groups[area] = groups

    async def _rank_anew(self, area: bytes, groups: tuple[str, ...]) -> None:
        last = b""
        while rows := await self._engine.fetch(PAGE, area, last):
            ranked = (
                (rank_of(groups, Request.decode(Sign1.parse(body).payload).group), area, request, rank)
                for request, body, rank in rows
            )
            if writes := [Write(RANK, (now, *row)) for now, *row, rank in ranked if now != rank]:
                await self._engine.write(*writes)
            last = rows[-1][0]

    async def expire(self) -> None:
        """Forget the groups of areas in which nobody waits any more."""
        await self._engine.write(Write(DROP_GROUPS))
        self._groups.clear()


def ranks(areas: Mapping[bytes, Catchment | None], stored: Mapping[bytes, int], group: str) -> dict[bytes, int]:
    """The rank of a group in areas that have it, and in those that a request is in already; others are left out.

    Raises `RefusedError` if none is left.
    """
    found: dict[bytes, int] = {}
    for area, catchment in areas.items():
        if catchment is None:
            found |= {area: stored[area]} if area in stored else {}
        elif not group or group in catchment.groups or area in stored:
            found[area] = rank_of(catchment.groups, group)
    if not found:
        raise RefusedError(f"this catchment area has no group {group!r}")
    return found
