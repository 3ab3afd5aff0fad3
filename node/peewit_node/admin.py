"""The operator's own door: a Unix socket in the data directory, for those who may read the keys anyway.

POST /admin/append     a CBOR array of entries for the operator's log  ->  {0: index of the first}
GET  /admin/status     the same as /status.json
"""

from __future__ import annotations

from aiohttp import web

from peewit_federation import cbor
from peewit_federation.api import APPEND_BYTES_MAX, CONTENT_TYPE
from peewit_federation.errors import MalformedError
from peewit_node.http_server import read_body
from peewit_node.own_log import OwnLog
from peewit_node.status import Status

TIMEOUT_S = 30.0


class AdminRoutes:
    """Takes what the operator says."""

    def __init__(self, own: OwnLog, status: Status) -> None:
        self._own = own
        self._status = status

    def routes(self) -> list[web.RouteDef]:
        return [web.post("/admin/append", self.append), web.get("/admin/status", self._status.json)]

    async def append(self, request: web.Request) -> web.Response:
        body = await read_body(request, APPEND_BYTES_MAX, TIMEOUT_S)
        entries = cbor.decode(body, size_bytes_max=APPEND_BYTES_MAX)
        if not isinstance(entries, list) or not all(isinstance(entry, bytes) for entry in entries):
            raise MalformedError("an array of entries is due")
        index = await self._own.append(*entries)
        return web.Response(body=cbor.encode({0: index}), content_type=CONTENT_TYPE)
