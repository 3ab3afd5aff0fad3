"""`/federation/v1/…`: what nodes ask each other. Every byte is checked by its own signatures.

POST exchange          one push-pull exchange (`peewit_federation.gossip.feed`)
GET  lists/<root>      the lines behind a view, as a difference from ?base=<root> if it is known
GET  charter           the charter that this node uses
"""

from __future__ import annotations

from aiohttp import web

from peewit_federation.api import CONTENT_TYPE
from peewit_federation.errors import UnknownError
from peewit_federation.gossip.feed import EXCHANGE_BYTES_MAX, Ask
from peewit_node.gossip import Gossip
from peewit_node.http_server import read_body
from peewit_node.node_state import NodeState
from peewit_node.routes_log import parse_hash
from peewit_node.views import Views


class FederationRoutes:
    """Answers other nodes."""

    def __init__(self, state: NodeState, gossip: Gossip, views: Views) -> None:
        self._state = state
        self._gossip = gossip
        self._views = views

    def routes(self) -> list[web.RouteDef]:
        return [
            web.post("/federation/v1/exchange", self.exchange),
            web.get("/federation/v1/lists/{root}", self.lines),
            web.get("/federation/v1/charter", self.charter),
        ]

    async def exchange(self, request: web.Request) -> web.Response:
        body = await read_body(request, EXCHANGE_BYTES_MAX, self._state.config.limits.request_timeout_s)
        answer = self._gossip.answer(Ask.decode(body))
        return web.Response(body=answer.encode(), content_type=CONTENT_TYPE)

    async def lines(self, request: web.Request) -> web.Response:
        found = self._views.list_behind(parse_hash(request.match_info["root"]))
        if found is None:
            raise UnknownError("this node does not have the list behind that root")
        base = request.query.get("base")
        known = self._views.list_behind(parse_hash(base)) if base else None
        return web.Response(body=found.encode(known), content_type=CONTENT_TYPE)

    async def charter(self, _: web.Request) -> web.Response:
        headers = {"Content-Type": "application/toml; charset=utf-8"}
        return web.Response(body=self._state.charter.encode(), headers=headers)
