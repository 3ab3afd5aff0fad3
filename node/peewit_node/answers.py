"""Answers to clients' questions, each entry with its proof (design 5; `peewit_federation.api`).

Rules kept here: an answer contains what this node believes at the time of asking, proven by heads with a
quorum; what restricts (revocations) by any signed head. The client trusts none of it without checking, and
learns from views, not from here, whether something is missing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from peewit_federation.api import Answer
from peewit_federation.errors import MalformedError
from peewit_federation.log.checkpoint import Head
from peewit_federation.log.proofs import inclusion_proof
from peewit_federation.places import Places
from peewit_federation.registry.find import Finder, Found
from peewit_federation.registry.fold import MAIN, Registry
from peewit_federation.statements.mediator import Catchment, Issuer, Provider
from peewit_node.engine import Engine
from peewit_node.logs import Log, Logs

ITEMS_MAX: Final = 2_000
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

    async def catchments(self, postcode: str | None, service: str | None, within_km: float | None) -> Answer:
        """Catchment areas: all, or those that serve a postcode (or one within a distance of it)."""
        now_s = int(self._clock())
        if within_km is None or postcode is None:
            return await self._prove(self._finder.catchments(now_s, postcode, service))
        if self._places is None:
            raise MalformedError("this node has no map; fetch the whole list and search in it")
        found: dict[tuple[bytes, bytes], Found] = {}
        for near in self._places.within(postcode, within_km):
            for item in self._finder.catchments(now_s, near, service):
                found.setdefault((item.mediator, item.subject), item)
        return await self._prove(found.values())

    async def providers(self, mediator: bytes, area: bytes, service: str | None) -> Answer:
        """Providers of a catchment area."""
        return await self._prove(self._finder.providers(mediator, area, int(self._clock()), service))

    async def subject(self, kind: str, subject: bytes) -> Answer:
        """The standing grant of a subject, and its revocations, whatever they come to."""
        found = self._finder.everywhere(KINDS[kind], subject, int(self._clock()))
        grants = await self._prove(found)
        digests = sorted({digest for item in found for digest in item.revocations})
        rows = [
            row
            for digest in digests
            for row in await self._engine.fetch("SELECT origin, place FROM revocations WHERE digest = ?", digest)
        ]
        ended = await self._prove_rows([(origin, place) for origin, place in rows])
        return _joined(grants, ended)

    async def revocations(self, after: int) -> Answer:
        """Revocations that this node saw after a cursor, oldest first."""
        query = "SELECT number, origin, place FROM revocations WHERE number > ? ORDER BY number LIMIT ?"
        rows = await self._engine.fetch(query, after, ITEMS_MAX)
        answer = await self._prove_rows([(origin, place) for _, origin, place in rows])
        cursor = rows[-1][0] if rows else after
        return Answer(answer.heads, answer.devices, answer.items, cursor)

    async def _prove(self, found: Iterable[Found]) -> Answer:
        wanted: dict[tuple[bytes, bytes], list[int]] = {}
        for item in found:
            if item.standing is not None:
                cut = self._registry.cuts[item.mediator].get(item.standing.origin)
                branch = cut.branch if cut else MAIN
                wanted.setdefault((item.standing.origin, branch), []).append(item.standing.index)
        return await self._collect(wanted, lambda log: log.quorum)

    async def _prove_rows(self, rows: list[tuple[bytes, int]]) -> Answer:
        wanted: dict[tuple[bytes, bytes], list[int]] = {}
        for origin, place in rows:
            wanted.setdefault((origin, MAIN), []).append(place)
        return await self._collect(wanted, lambda log: log.head)

    async def _collect(
        self, wanted: dict[tuple[bytes, bytes], list[int]], choose: Callable[[Log], Head | None]
    ) -> Answer:
        heads: list[bytes] = []
        devices: list[bytes] = []
        items: list[tuple[int, int, bytes, tuple[bytes, ...]]] = []
        for (origin, branch), places in wanted.items():
            log = self._logs.get(origin, branch)
            head = choose(log) if log else None
            statement = self._device(origin)
            if log is None or head is None or statement is None:
                continue
            number = len(heads)
            heads.append(head.encode())
            devices.append(statement)
            for place in places:
                if place < head.size and len(items) < ITEMS_MAX:
                    (entry,) = await self._logs.entries(log, place, place + 1)
                    items.append((number, place, entry, await self._path(log, place, head.size)))
        return Answer(tuple(heads), tuple(devices), tuple(items))

    async def _path(self, log: Log, place: int, size: int) -> tuple[bytes, ...]:
        return tuple(await self._logs.prove(log, size, lambda source: inclusion_proof(place, size, source)))

    def _device(self, origin: bytes) -> bytes | None:
        vouched = self._registry.vouched
        for mediator in sorted(vouched.mediators_of.get(origin, ())):
            for key in vouched.devices[mediator][origin]:
                return vouched.raw[key]
        return None


def _joined(first: Answer, second: Answer) -> Answer:
    shift = len(first.heads)
    moved = tuple((head + shift, index, entry, path) for head, index, entry, path in second.items)
    return Answer(first.heads + second.heads, first.devices + second.devices, first.items + moved)
