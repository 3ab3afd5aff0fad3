"""`/log/…`: every log as static files, exactly as C2SP tlog-tiles says, and appending to it.

    GET  /log/<origin hash>/checkpoint
    GET  /log/<origin hash>/tile/…                        hash tiles and entry bundles
    GET  /log/<origin hash>/closed/<root>/tile/…          a branch that a close picked
    POST /v1/log/<origin hash>/append

Rules kept here: paths have one spelling; what never changes may be cached for ever, a checkpoint for a
second; bundles are compressed for those who accept it, if that makes them smaller.
"""

from __future__ import annotations

import zlib
from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

from aiohttp import web

from peewit_federation.api import APPEND_BYTES_MAX
from peewit_federation.errors import MalformedError, UnknownError
from peewit_federation.log.tiles import ENTRIES, HEIGHT, WIDTH, Tile
from peewit_federation.registry.fold import MAIN, Registry
from peewit_node.append import Appender
from peewit_node.http_server import accepts, read_body
from peewit_node.logs import Logs
from peewit_node.stored_log import Log

IMMUTABLE: Final = "public, max-age=31536000, immutable"
PLAIN: Final = {
    "Cache-Control": IMMUTABLE,
    "Content-Type": "application/octet-stream",
    "Vary": "Accept-Encoding",
}
PACKED: Final = {**PLAIN, "Content-Encoding": "gzip"}
CACHE_BYTES_MAX: Final = 32 << 20
GZIP_BYTES_MAX: Final = 256 * 1024
"Bundles above this are sent as they are: compressing them would hold up everyone else."


@dataclass(frozen=True, slots=True)
class Body:
    """An immutable resource, ready to be sent."""

    data: bytes
    packed: bool


class LogRoutes:
    """Serves logs."""

    def __init__(self, logs: Logs, registry: Registry, appender: Appender, timeout_s: float) -> None:
        self._logs = logs
        self._registry = registry
        self._appender = appender
        self._timeout_s = timeout_s
        self._cache: OrderedDict[str, Body] = OrderedDict()
        self._cached_bytes = 0

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/log/{origin}/checkpoint", self.checkpoint),
            web.get("/log/{origin}/closed/{root}/{path:tile/.*}", self.tile),
            web.get("/log/{origin}/{path:tile/.*}", self.tile),
            web.post("/v1/log/{origin}/append", self.append),
        ]

    async def checkpoint(self, request: web.Request) -> web.Response:
        log = self._logs.get(parse_hash(request.match_info["origin"]))
        if log is None or log.head is None:
            raise UnknownError("this node does not have that log")
        headers = {"Cache-Control": "public, max-age=1", "Content-Type": "text/plain; charset=utf-8"}
        return web.Response(body=log.head.encode(), headers=headers)

    async def tile(self, request: web.Request) -> web.Response:
        packed = accepts(request.headers.get("Accept-Encoding", ""), "gzip")
        name = request.path + ("#gzip" if packed else "")
        body = self._cache.get(name)
        if body is None:
            body = await self._find(request, packed=packed)
            self._remember(name, body)
        return web.Response(body=body.data, headers=PACKED if body.packed else PLAIN)

    async def _find(self, request: web.Request, *, packed: bool) -> Body:
        if "%" in request.rel_url.raw_path:
            raise MalformedError("a tile path has no escaped characters")
        tile = Tile.parse(request.match_info["path"])
        origin = parse_hash(request.match_info["origin"])
        log = self._logs.get(origin)
        if "root" in request.match_info:
            branch = self._registry.closed_branch(origin, parse_hash(request.match_info["root"]))
            log = None if branch is None else self._logs.get(origin, branch)
        data = await self._logs.tile(log, tile) if log and _covers(log, tile) else None
        if data is None:
            raise UnknownError("this node does not have that tile")
        if packed and tile.level == ENTRIES and len(data) <= GZIP_BYTES_MAX:
            packer = zlib.compressobj(1, zlib.DEFLATED, 31)
            smaller = packer.compress(data) + packer.flush()
            if len(smaller) < 0.9 * len(data):
                return Body(smaller, packed=True)
        return Body(data, packed=False)

    def _remember(self, path: str, body: Body) -> None:
        if path in self._cache:
            return
        self._cache[path] = body
        self._cached_bytes += len(body.data)
        while self._cached_bytes > CACHE_BYTES_MAX:
            _, old = self._cache.popitem(last=False)
            self._cached_bytes -= len(old.data)

    async def append(self, request: web.Request) -> web.Response:
        origin = parse_hash(request.match_info["origin"])
        data = await read_body(request, APPEND_BYTES_MAX, self._timeout_s)
        receipt = await self._appender.accept(origin, data)
        return web.Response(body=receipt, headers={"Content-Type": "text/plain; charset=utf-8"})


def _covers(log: Log, tile: Tile) -> bool:
    """Whether a head (or a close) vouches for all of a tile; what is being mirrored is nobody's business yet."""
    size = log.size if log.branch == MAIN else log.stored
    return tile.index * WIDTH + tile.width <= size >> (HEIGHT * max(tile.level, 0))


def parse_hash(text: str) -> bytes:
    """32 bytes in lower-case hexadecimal. Raises `MalformedError`."""
    if len(text) != 64 or not text.isascii() or text.lower() != text:
        raise MalformedError("a hash is 64 lower-case hexadecimal digits")
    try:
        return bytes.fromhex(text)
    except ValueError:
        raise MalformedError("a hash is 64 lower-case hexadecimal digits") from None
