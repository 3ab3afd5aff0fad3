"""Queues: `/v1/requests` and `/v1/queue/…` (`peewit_federation.appointment`).

POST /v1/requests                a signed request, or a later version of it; how it stands
POST /v1/queue/draw              the next requests in order, for a practice of the area
POST /v1/queue/offered           an offer was made
POST /v1/queue/claim             the user has chosen; or what shows that it is another's
GET  /v1/queue/<area's name>     how many wait, by group and round

Nothing here is logged: neither who asks, nor `H`.
"""

from __future__ import annotations

from aiohttp import web

from peewit_federation import cbor
from peewit_federation.api import CONTENT_TYPE
from peewit_federation.appointment.queue_api import Draw, Place
from peewit_federation.appointment.request import REQUEST_BYTES_MAX, area_name
from peewit_federation.appointment.spoken import (
    CLAIM_PATH,
    OFFERED_PATH,
    encode_shown,
    encode_standing,
    read_claimed,
    read_offered,
)
from peewit_federation.errors import UnknownError
from peewit_node.appointment.areas import Areas
from peewit_node.appointment.door import SignedDoor
from peewit_node.appointment.queue import Queues
from peewit_node.http_server import read_body
from peewit_node.node_state import NodeState
from peewit_node.routes_log import parse_hash


class QueueRoutes:
    """Answers users and practices."""

    def __init__(self, state: NodeState, door: SignedDoor, areas: Areas, queues: Queues) -> None:
        self._state = state
        self._door = door
        self._areas = areas
        self._queues = queues

    def routes(self) -> list[web.RouteDef]:
        return [
            web.post("/v1/requests", self.request),
            web.post("/v1/queue/draw", self.draw),
            web.post(OFFERED_PATH, self.offered),
            web.post(CLAIM_PATH, self.claim),
            web.get("/v1/queue/{area}", self.waiting),
        ]

    async def request(self, request: web.Request) -> web.Response:
        timeout_s = self._state.config.limits.request_timeout_s
        found = await self._queues.take(await read_body(request, REQUEST_BYTES_MAX + 512, timeout_s))
        return web.Response(body=encode_standing(*found), content_type=CONTENT_TYPE)

    async def draw(self, request: web.Request) -> web.Response:
        envelope = await self._door.open(request)
        draw = Draw.decode(envelope.body)
        area = await self._area(draw.place, envelope.signer)
        catchment = await self._areas.ours(draw.place.mediator, draw.place.area)
        if catchment is not None:
            await self._queues.ranking.order(area, catchment.groups)
        await self._queues.pass_over(area, envelope.signer, draw.passed, anew=draw.anew)
        return _cbor(await self._queues.draw(area, envelope.signer, draw.count))

    async def offered(self, request: web.Request) -> web.Response:
        said = read_offered(*await self._door.open_signed(request))
        await self._area(said.place, said.practice)
        await self._queues.offered(said)
        return _cbor([])

    async def claim(self, request: web.Request) -> web.Response:
        said = read_claimed(*await self._door.open_signed(request))
        self._door.require_practice(said.place, said.practice)
        return _cbor(encode_shown(await self._queues.claim(said)))

    async def waiting(self, request: web.Request) -> web.Response:
        found = await self._areas.waiting(parse_hash(request.match_info["area"]))
        return _cbor([[waiting.rank, waiting.round, waiting.count] for waiting in found])

    async def _area(self, place: Place, practice: bytes) -> bytes:
        """The name of an area whose queue we hold, for a practice that is admitted to it."""
        if await self._areas.ours(place.mediator, place.area) is None:
            raise UnknownError("this node does not hold the queue of that catchment area")
        self._door.require_practice(place, practice)
        return area_name(place.mediator, place.area)


def _cbor(value: object) -> web.Response:
    return web.Response(body=cbor.encode(value), content_type=CONTENT_TYPE)
