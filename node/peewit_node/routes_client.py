"""`/v1/…`: what clients ask. Answers prove themselves (`peewit_federation.api`).

GET  heads?log=<origin hash>&log=…               [[newest checkpoint, newest with a quorum], …], as they were asked
GET  views?mediator=<id>&mediator=…              [[view, [range of operators, ranges of mediators]], …]
GET  catchments[?postcode=&service=&within_km=]  the whole list, for searching at home, or a part
GET  providers?mediator=&area=[&service=]        those of a catchment area
GET  subjects/<provider|issuer|catchment>/<id>   one, with its revocations
GET  revocations                                 in the order in which this node saw them
GET  evidence/<origin hash>                      that a log forked
POST statements                                  a device, close, evidence or fork revocation to carry

A list that is longer than an answer ends with a cursor: the same question with `after=<cursor>` goes on.
"""

from __future__ import annotations

import asyncio
import re
import zlib
from dataclasses import dataclass
from typing import Final

from aiohttp import web

from peewit_federation import cbor
from peewit_federation.api import CONTENT_TYPE, CURSOR_BYTES_MAX, HEADS_MAX, STATEMENT_BYTES_MAX, Answer
from peewit_federation.errors import MalformedError, UnknownError
from peewit_federation.gossip.views import OPERATORS
from peewit_node.answers import KINDS, NUMBER_BYTES, Answers
from peewit_node.carry import Carrier
from peewit_node.http_server import accepts, read_body
from peewit_node.keeper import Keeper
from peewit_node.logs import Logs
from peewit_node.node_state import NodeState
from peewit_node.routes_log import parse_hash
from peewit_node.views import Views

MEDIATORS_MAX: Final = 32
DISTANCE_KM_MAX: Final = 500.0
LIST_S: Final = 10.0
LISTS_MAX: Final = 64
"Pages of the whole list, packed."


class ClientRoutes:
    """Answers clients."""

    def __init__(
        self, state: NodeState, logs: Logs, keeper: Keeper, views: Views, answers: Answers, carrier: Carrier
    ) -> None:
        self._state = state
        self._logs = logs
        self._keeper = keeper
        self._views = views
        self._answers = answers
        self._carrier = carrier
        self._lists: dict[tuple[str | None, bytes], _Page] = {}

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/v1/heads", self.heads),
            web.get("/v1/views", self.views),
            web.get("/v1/catchments", self.catchments),
            web.get("/v1/providers", self.providers),
            web.get("/v1/subjects/{kind}/{subject}", self.subject),
            web.get("/v1/revocations", self.revocations),
            web.get("/v1/evidence/{origin}", self.evidence),
            web.post("/v1/statements", self.statements),
        ]

    async def heads(self, request: web.Request) -> web.Response:
        origins = [parse_hash(text) for text in request.query.getall("log", [])]
        if len(origins) > HEADS_MAX:
            raise MalformedError(f"more than {HEADS_MAX} logs at once")
        logs = [self._logs.get(origin) for origin in origins]
        pairs = [(log.head, log.quorum) if log else (None, None) for log in logs]
        return _cbor([[head.encode() if head else b"" for head in pair] for pair in pairs])

    async def views(self, request: web.Request) -> web.Response:
        mediators = [parse_hash(text) for text in request.query.getall("mediator", [])]
        if len(mediators) > MEDIATORS_MAX:
            raise MalformedError(f"more than {MEDIATORS_MAX} mediators at once")
        self._views.own(self._state.now())
        found = []
        for held in self._views.newest.values():
            ranges = [held.lines.range(mediator).value() for mediator in (OPERATORS, *mediators)]
            found.append([held.data, ranges])
        return _cbor(found)

    async def catchments(self, request: web.Request) -> web.Response:
        postcode, service = request.query.get("postcode"), _service(request)
        if postcode is not None and not re.fullmatch(r"[0-9]{4,5}", postcode, re.ASCII):
            raise MalformedError("postcode: four or five digits")
        distance = None
        if "within_km" in request.query:
            text = request.query["within_km"]
            if not re.fullmatch(r"[0-9]{1,3}(\.[0-9])?", text, re.ASCII) or float(text) > DISTANCE_KM_MAX:
                raise MalformedError(f"within_km: a number up to {DISTANCE_KM_MAX:g}")
            distance = float(text)
        after = _after(request)
        if postcode is not None:
            return _answer(await self._answers.catchments(postcode, service, distance, after))
        packed = await self._whole_list(service, after)
        if accepts(request.headers.get("Accept-Encoding", ""), "deflate"):
            return web.Response(body=packed, headers={"Content-Type": CONTENT_TYPE, "Content-Encoding": "deflate"})
        return web.Response(body=zlib.decompress(packed), content_type=CONTENT_TYPE)

    async def _whole_list(self, service: str | None, after: bytes) -> bytes:
        """The same for everybody until something is folded, so it is made and packed once, for all who wait for it."""
        now_s, name = self._state.now(), (service, after)
        page = self._lists.get(name)
        if page is None or page.rounds != self._keeper.rounds or not 0 <= now_s - page.made_s < LIST_S:
            if len(self._lists) >= LISTS_MAX:
                self._lists.clear()
            making = asyncio.ensure_future(self._pack(service, after))
            page = self._lists[name] = _Page(self._keeper.rounds, now_s, making)
        try:
            return await asyncio.shield(page.packed)
        except Exception:
            self._lists.pop(name, None)
            raise

    async def _pack(self, service: str | None, after: bytes) -> bytes:
        return zlib.compress((await self._answers.catchments(None, service, None, after)).encode(), 1)

    async def providers(self, request: web.Request) -> web.Response:
        mediator = parse_hash(request.query.get("mediator", ""))
        area = _bytes(request.query.get("area", ""), 16)
        return _answer(await self._answers.providers(mediator, area, _service(request), _after(request)))

    async def subject(self, request: web.Request) -> web.Response:
        kind = request.match_info["kind"]
        if kind not in KINDS:
            raise UnknownError(f"subjects are of the kinds {', '.join(KINDS)}")
        subject = _bytes(request.match_info["subject"], 16 if kind == "catchment" else 32)
        return _answer(await self._answers.subject(kind, subject, _after(request)))

    async def revocations(self, request: web.Request) -> web.Response:
        after = _after(request)
        if len(after) > NUMBER_BYTES or int.from_bytes(after, "big") >= 1 << 63:
            raise MalformedError("after: a cursor of another list")
        return _answer(await self._answers.revocations(after))

    async def evidence(self, request: web.Request) -> web.Response:
        evidence = self._keeper.registry.forked(parse_hash(request.match_info["origin"]))
        if evidence is None:
            raise UnknownError("this node has no evidence against that log")
        return web.Response(body=evidence.encode(), content_type=CONTENT_TYPE)

    async def statements(self, request: web.Request) -> web.Response:
        data = await read_body(request, STATEMENT_BYTES_MAX, self._state.config.limits.request_timeout_s)
        fresh = await self._carrier.accept(data)
        self._keeper.poke()
        return _cbor({0: fresh})


@dataclass(frozen=True)
class _Page:
    """A part of the whole list, which is being packed or was."""

    rounds: int
    made_s: float
    packed: asyncio.Future[bytes]


def _cbor(value: object) -> web.Response:
    return web.Response(body=cbor.encode(value), content_type=CONTENT_TYPE)


def _answer(answer: Answer) -> web.Response:
    response = web.Response(body=answer.encode(), content_type=CONTENT_TYPE)
    response.enable_compression()
    return response


def _service(request: web.Request) -> str | None:
    service = request.query.get("service")
    if service is not None and not re.fullmatch(r"[a-z0-9-]{1,64}", service, re.ASCII):
        raise MalformedError("service: a name in small letters, digits and hyphens")
    return service


def _after(request: web.Request) -> bytes:
    text = request.query.get("after", "")
    if not re.fullmatch(rf"([0-9a-f]{{2}}){{0,{CURSOR_BYTES_MAX}}}", text, re.ASCII):
        raise MalformedError("after: the cursor of an earlier answer, in lower-case hexadecimal digits")
    return bytes.fromhex(text)


def _bytes(text: str, count: int) -> bytes:
    if not re.fullmatch(rf"[0-9a-f]{{{2 * count}}}", text, re.ASCII):
        raise MalformedError(f"an identifier of {2 * count} lower-case hexadecimal digits is due")
    return bytes.fromhex(text)
