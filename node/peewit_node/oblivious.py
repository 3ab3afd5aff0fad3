"""Oblivious HTTP (RFC 9458): this node carries requests to other nodes, and reads those that others carry to it.

POST /v1/relay/<origin hash>    message/ohttp-req for another node of the charter    ->  message/ohttp-res
POST /v1/gateway                the same, for this node
GET  /v1/ohttp-keys             application/ohttp-keys of this node (clients use what its operator's log says)

Rules kept here: a relay passes bytes on, only to nodes of the charter, and neither stores nor logs them; a gateway
answers as if the request had come by itself, from nobody, and only below `/v1/` and `/log/`. A failure inside is an
answer inside.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from random import Random
from typing import Final

import aiohttp
from aiohttp import web
from yarl import URL

from peewit_federation.api import ANSWER_BYTES_MAX
from peewit_federation.errors import MalformedError, UnknownError
from peewit_federation.oblivious.bhttp import PADDED_BYTES, Request, Response, pad
from peewit_federation.oblivious.encapsulation import GatewayKey
from peewit_node.http_server import read_body
from peewit_node.node_state import NodeState
from peewit_node.peers import PeerError, Peers
from peewit_node.routes_log import parse_hash

REQUEST_TYPE: Final = "message/ohttp-req"
RESPONSE_TYPE: Final = "message/ohttp-res"
REQUEST_BYTES_MAX: Final = PADDED_BYTES[3] + 1024
RESPONSE_BYTES_MAX: Final = PADDED_BYTES[-1] + 1024
RELAY_S: Final = 5.0
"Shorter than clients wait, so that they learn who did not answer."
MISSED_MAX: Final = 2
"A node that did not answer so often in a row is down, until gossip hears of it again."
METHODS: Final = ("GET", "POST")
INSIDE: Final = ("/v1/", "/log/")


class Oblivious:
    """Relay and gateway."""

    def __init__(
        self, state: NodeState, peers: Peers, key: GatewayKey, random: Random,
        connector: Callable[[], aiohttp.BaseConnector] | None,
    ) -> None:  # fmt: skip
        self._state = state
        self._peers = peers
        self._key = key
        self._random = random
        self.inside = ""
        "Where this node itself is reached, on this machine."
        self._session = aiohttp.ClientSession(
            connector=connector() if connector else aiohttp.TCPConnector(limit=0),
            timeout=aiohttp.ClientTimeout(total=state.config.limits.request_timeout_s),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"User-Agent": "peewit-gateway", "Accept-Encoding": "identity"},
        )

    def routes(self) -> list[web.RouteDef]:
        return [
            web.post("/v1/relay/{origin}", self.relay),
            web.post("/v1/gateway", self.gateway),
            web.get("/v1/ohttp-keys", self.keys),
        ]

    async def close(self) -> None:
        await self._session.close()

    async def keys(self, _: web.Request) -> web.Response:
        configuration = self._key.configuration()
        body = len(configuration).to_bytes(2, "big") + configuration
        return web.Response(body=body, content_type="application/ohttp-keys")

    async def relay(self, request: web.Request) -> web.Response:
        origin = parse_hash(request.match_info["origin"])
        peer = next((p for p in self._peers.all.values() if p.operator.origin_hash == origin), None)
        if peer is None:
            raise UnknownError("no other node of the charter has that log")
        body = await read_body(request, REQUEST_BYTES_MAX, self._state.config.limits.request_timeout_s)
        try:
            if peer.missed >= MISSED_MAX:
                raise PeerError(f"{peer.name} is down")
            async with asyncio.timeout(RELAY_S):
                answer = await self._peers.post(peer, "/v1/gateway", body, RESPONSE_BYTES_MAX)
        except (PeerError, TimeoutError) as error:
            peer.missed += isinstance(error, TimeoutError)
            # Why is between the two nodes; who asked learns that this way is closed.
            raise web.HTTPBadGateway(text="that node could not be reached from here") from None
        return web.Response(body=answer, content_type=RESPONSE_TYPE)

    async def gateway(self, request: web.Request) -> web.Response:
        body = await read_body(request, REQUEST_BYTES_MAX, self._state.config.limits.request_timeout_s)
        plain, answering = self._key.open(body)
        inner = Request.decode(plain)
        if inner.method not in METHODS or not inner.path.startswith(INSIDE) or not _plain(inner.path):
            raise MalformedError("only what clients ask a node for is answered through another node")
        if inner.path.startswith(("/v1/relay/", "/v1/gateway")):
            raise MalformedError("a request within a request within a request")
        response = pad((await self._ask(inner)).encode())
        nonce = self._random.randbytes(answering.nonce_bytes)
        return web.Response(body=answering.seal(response, nonce), content_type=RESPONSE_TYPE)

    async def _ask(self, inner: Request) -> Response:
        data = inner.content if inner.method == "POST" else None
        try:
            async with self._session.request(
                inner.method, URL(self.inside + inner.path, encoded=True), data=data, allow_redirects=False
            ) as found:
                parts, size = [], 0
                async for part in found.content.iter_any():
                    parts.append(part)
                    size += len(part)
                    if size > ANSWER_BYTES_MAX:
                        return Response(502)
                return Response(found.status, b"".join(parts))
        except (aiohttp.ClientError, TimeoutError, OSError):
            return Response(503)


def _plain(path: str) -> bool:
    # Nothing that an URL library would read as another path than we do.
    return re.fullmatch(r"[A-Za-z0-9._~/?=&,:+-]+", path, re.ASCII) is not None and ".." not in path
