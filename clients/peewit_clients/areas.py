"""Which catchment areas serve a postcode: found on this device, in the whole list, so that nobody learns who asks.

Rules kept here: the list comes from several nodes, each area proven; areas keep their order, so that a number that was
shown stays the same while nothing changes.
"""

from __future__ import annotations

from dataclasses import dataclass

from peewit_clients.pool import BackendError
from peewit_clients.registry_view import RegistryView
from peewit_federation import cbor
from peewit_federation.appointment.queue_api import Place
from peewit_federation.appointment.request import area_name
from peewit_federation.errors import MalformedError, SenderError
from peewit_federation.statements.codec import POSTCODE
from peewit_federation.statements.mediator import Catchment


@dataclass(frozen=True)
class Area:
    """A catchment area that may be asked."""

    mediator: bytes
    catchment: Catchment

    @property
    def place(self) -> Place:
        """Its mediator and its number."""
        return Place(self.mediator, self.catchment.area)


def read_postcode(text: str) -> str:
    """Raises `MalformedError`."""
    try:
        POSTCODE.check(text)
    except MalformedError:
        raise MalformedError(f"{text[:20]!r} is not a postcode: four or five digits") from None
    return text


async def find_areas(view: RegistryView, postcode: str, services: tuple[str, ...]) -> list[Area]:
    """Areas for a postcode that offer one of these services (any, if there are none). Refreshes the view."""
    await view.refresh([])
    found = [
        Area(mediator, catchment)
        for catchment, mediator in await view.catchments()
        if postcode in catchment.postcodes and (not services or set(services) & set(catchment.services))
    ]
    return sorted(found, key=lambda area: (area.mediator, area.catchment.area))


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
