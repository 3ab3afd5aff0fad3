"""Answers to clients' questions, each entry with its proof (design 5; `peewit_federation.api`).

Rules kept here: an answer contains what this node believes at the time of asking. A list has an order (mediator,
subject) and ends nowhere without saying so: who asks goes on behind the cursor. The client trusts none of it without
checking, and learns from views, not from here, whether something is missing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import islice
from typing import Final

from peewit_federation.api import Answer
from peewit_federation.errors import MalformedError
from peewit_federation.places import Places
from peewit_federation.registry.find import Finder, Found
from peewit_federation.registry.fold import Registry
from peewit_federation.statements.mediator import Catchment, Issuer, Provider
from peewit_node.engine import Engine
from peewit_node.logs import Logs
from peewit_node.proving import Proving

ITEMS_MAX: Final = 2_000
"Of a list at once."
SUBJECTS_MAX: Final = 50
"Of so many mediators one subject is shown at once, each with all of its revocations."
STEP: Final = 100
"So many entries are proven before it is looked how large the answer has become."
PAGE_BYTES_MAX: Final = 4 << 20
NUMBER_BYTES: Final = 8
KINDS: Final = {"catchment": Catchment.KIND, "provider": Provider.KIND, "issuer": Issuer.KIND}


class Answers:
    """Looks things up in the registry and proves them from the logs."""

    def __init__(
        self, engine: Engine, logs: Logs, registry: Registry, places: Places | None, clock: Callable[[], float]
    ) -> None:
        self._engine = engine
        self._logs = logs
        self._registry = registry
        self._places = places
        self._clock = clock
        self._finder = Finder(registry)

    async def catchments(
        self, postcode: str | None, service: str | None, within_km: float | None, after: bytes = b""
    ) -> Answer:
        """Catchment areas: all, or those that serve a postcode (or one within a distance of it)."""
        if postcode is None:
            near = None
        elif within_km is None:
            near = {postcode}
        elif self._places is None:
            raise MalformedError("this node has no map; fetch the whole list and search in it")
        else:
            near = set(self._places.within(postcode, within_km))
        return await self._page(self._finder.catchments(int(self._clock()), near, service, after))

    async def providers(self, mediator: bytes, area: bytes, service: str | None, after: bytes = b"") -> Answer:
        """Providers of a catchment area."""
        return await self._page(self._finder.providers(mediator, area, int(self._clock()), service, after))

    async def subject(self, kind: str, subject: bytes, after: bytes = b"") -> Answer:
        """The standing grant of a subject, and its revocations, whatever they come to; mediator by mediator."""
        every = self._finder.everywhere(KINDS[kind], subject, int(self._clock()), after)
        found, proving = every[:SUBJECTS_MAX], Proving(self._registry, self._logs)
        await proving.grants(found)
        query = "SELECT mediator, origin, place, digest FROM revocations WHERE mediator = ? AND digest = ?"
        for item in found:
            for digest in sorted(item.revocations):
                await proving.revocations(await self._engine.fetch(query, item.mediator, digest))
        return proving.done(_key(found[-1]) if len(every) > len(found) else b"")

    async def revocations(self, after: bytes) -> Answer:
        """Revocations that this node saw after a cursor, oldest first; the cursor goes on with those to come."""
        number = int.from_bytes(after, "big")
        rows = await self._engine.fetch(
            "SELECT number, mediator, origin, place, digest FROM revocations WHERE number > ? ORDER BY number LIMIT ?",
            number,
            ITEMS_MAX,
        )
        proving = Proving(self._registry, self._logs)
        await proving.revocations([tuple(row[1:]) for row in rows])
        return proving.done((rows[-1][0] if rows else number).to_bytes(NUMBER_BYTES, "big"))

    async def _page(self, every: Iterable[Found]) -> Answer:
        found = list(islice(every, ITEMS_MAX + 1))
        proving, shown = Proving(self._registry, self._logs), 0
        while shown < min(len(found), ITEMS_MAX) and proving.size_bytes < PAGE_BYTES_MAX:
            part = found[shown : min(shown + STEP, ITEMS_MAX)]
            await proving.grants(part)
            shown += len(part)
        return proving.done(_key(found[shown - 1]) if shown < len(found) else b"")


def _key(found: Found) -> bytes:
    """Where something stands in a list; a cursor."""
    return found.mediator + found.subject
