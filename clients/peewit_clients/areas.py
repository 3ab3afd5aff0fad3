"""Which catchment areas serve a postcode: found on this device, in the whole list, so that nobody learns who asks.

Rules kept here: the list comes from several nodes, each area proven; areas keep their order, so that a number that was
shown stays the same while nothing changes, whatever service is asked for. The list is the same for everybody and asked
for as it is; what is asked of single areas goes through other nodes, if the view does.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from peewit_clients.backend import BackendError
from peewit_clients.registry_view import RegistryView
from peewit_clients.words import said
from peewit_federation import cbor
from peewit_federation.appointment.queue_api import Place
from peewit_federation.appointment.request import area_name
from peewit_federation.errors import MalformedError, SenderError, UnknownError
from peewit_federation.statements.codec import POSTCODE
from peewit_federation.statements.mediator import Catchment

SHORT: Final = 8
LABELLED: Final = 3


@dataclass(frozen=True)
class Area:
    """A catchment area that may be asked."""

    mediator: bytes
    catchment: Catchment
    km: float = 0.0
    "From the postcode that was asked for."

    @property
    def short(self) -> str:
        """A name that stays the same."""
        return self.catchment.area.hex()[:SHORT]

    @property
    def place(self) -> Place:
        """Its mediator and its number."""
        return Place(self.mediator, self.catchment.area)


def read_postcode(text: str) -> str:
    """Raises `MalformedError`."""
    try:
        POSTCODE.check(text)
    except MalformedError:
        raise MalformedError(said("error_postcode", text=text[:20])) from None
    return text


def label(catchment: Catchment) -> str:
    """An area in a few words: where it is, and for what."""
    codes = catchment.postcodes
    more = f" +{len(codes) - LABELLED}" if len(codes) > LABELLED else ""
    return f"{' '.join(codes[:LABELLED])}{more} ({', '.join(catchment.services[:LABELLED])})"


def read_areas(words: Sequence[str], found: Sequence[Area], every: Sequence[Area]) -> list[Area]:
    """Areas by their numbers among those that were found, or by their short names among all. Raises `UnknownError`."""
    chosen = []
    for word in words:
        named = [area for area in every if area.short == word]
        if not named and word.isdecimal() and 1 <= int(word) <= len(found):
            named = [found[int(word) - 1]]
        if not named:
            raise UnknownError(said("error_no_such_area", area=word[:SHORT], count=len(found)))
        chosen.append(named[0])
    return chosen


async def every_area(view: RegistryView) -> list[Area]:
    """All that count. Refreshes the view."""
    await view.refresh([])
    return [Area(mediator, catchment) for catchment, mediator in await view.catchments()]


def around(every: Sequence[Area], reached: Mapping[str, float]) -> list[Area]:
    """Areas that serve one of these postcodes, which are so many km away; the nearest first."""
    found = []
    for area in every:
        distances = [reached[code] for code in area.catchment.postcodes if code in reached]
        if distances:
            found.append(replace(area, km=min(distances)))
    return sorted(found, key=lambda area: (area.km, area.mediator, area.catchment.area))


def practices(view: RegistryView, area: Area, services: Collection[str] = ()) -> int:
    """How many practices of an area offer one of these services (any, if there are none). Refresh the view before."""
    found = set()
    for service in services or (None,):
        listed = view.finder.providers(area.mediator, area.catchment.area, int(view.clock()), service)
        found |= {provider.subject for provider in listed}
    return len(found)


async def waiting(view: RegistryView, area: Area) -> dict[tuple[int, int], int]:
    """How many wait, by (rank of the group, round), as the node that knows of most says."""
    name = area_name(area.mediator, area.catchment.area).hex()
    best: dict[tuple[int, int], int] = {}
    for backend in view.pool.backends:
        if backend.operator.origin_hash not in area.catchment.nodes:
            continue
        try:
            rows = cbor.decode(await view.pool.fetch(backend, f"/v1/queue/{name}"), size_bytes_max=1 << 20)
            told = {(int(rank), int(number)): int(count) for rank, number, count in rows}
        except (BackendError, SenderError, TypeError, ValueError):
            continue
        if sum(told.values()) > sum(best.values()):
            best = told
    return best
