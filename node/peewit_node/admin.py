"""The operator's own door: a Unix socket in the data directory, for those who may read the keys anyway.

POST /admin/append     a CBOR array of entries for the operator's log  ->  {0: index of the first}
POST /admin/codes      [origin hash of our operator, [[hash of a signup code, group], …]]   ->  {0: how many are new}
GET  /admin/status     the same as /status.json
"""

from __future__ import annotations

from aiohttp import web

from peewit_federation import cbor
from peewit_federation.api import APPEND_BYTES_MAX, CONTENT_TYPE
from peewit_federation.errors import MalformedError
from peewit_federation.statements.codec import GROUP
from peewit_node.draw.admission import Admission
from peewit_node.http_server import read_body
from peewit_node.own_log import OwnLog
from peewit_node.status import Status

TIMEOUT_S = 30.0


class AdminRoutes:
    """Takes what the operator says."""

    def __init__(self, own: OwnLog, status: Status, admission: Admission) -> None:
        self._own = own
        self._admission = admission
        self._status = status

    def routes(self) -> list[web.RouteDef]:
        return [
            web.post("/admin/append", self.append),
            web.post("/admin/codes", self.codes),
            web.get("/admin/status", self._status.json),
        ]

    async def codes(self, request: web.Request) -> web.Response:
        body = await read_body(request, APPEND_BYTES_MAX, TIMEOUT_S)
        match cbor.decode(body, size_bytes_max=APPEND_BYTES_MAX):
            case [bytes(origin), list(items)]:
                fresh = await self._admission.add(origin, [_code(item) for item in items])
                return web.Response(body=cbor.encode({0: fresh}), content_type=CONTENT_TYPE)
        raise MalformedError("codes are [operator, [[hash, group], …]]")

    async def append(self, request: web.Request) -> web.Response:
        body = await read_body(request, APPEND_BYTES_MAX, TIMEOUT_S)
        entries = cbor.decode(body, size_bytes_max=APPEND_BYTES_MAX)
        if not isinstance(entries, list) or not all(isinstance(entry, bytes) for entry in entries):
            raise MalformedError("an array of entries is due")
        index = await self._own.append(*entries)
        return web.Response(body=cbor.encode({0: index}), content_type=CONTENT_TYPE)


def _code(item: object) -> tuple[bytes, str]:
    match item:
        case [bytes(code), str(group)] if len(code) == 32:
            return code, GROUP.check(group) if group else ""
    raise MalformedError("a code is [32 bytes, group]")
