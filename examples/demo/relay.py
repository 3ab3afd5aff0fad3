"""Cables between the nodes that can be cut: one forward HTTP proxy for each node's outbound requests.

Nodes use it through their ordinary setting `gossip.proxy`. Cutting a pair makes requests between the two hang
until they time out, as a real partition does.
"""

from __future__ import annotations

import asyncio

import aiohttp
from aiohttp import web

Pair = tuple[str, str]


class Cables:
    """Which node can reach which."""

    def __init__(self, ports: dict[str, int]) -> None:
        self._names = {port: name for name, port in ports.items()}
        self.cut: set[Pair] = set()
        self._session: aiohttp.ClientSession
        self._runners: list[web.AppRunner] = []
        self.proxies: dict[str, str] = {}

    async def start(self) -> None:
        self._session = aiohttp.ClientSession(auto_decompress=False, connector=aiohttp.TCPConnector(limit=0))
        for name in self._names.values():
            app = web.Application(client_max_size=16 << 20)
            app.router.add_route("*", "/{path:.*}", lambda request, name=name: self._pass(name, request))  # type: ignore[misc]
            runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
            await runner.setup()
            site = web.TCPSite(runner, "127.0.0.1", 0)
            await site.start()
            self._runners.append(runner)
            self.proxies[name] = f"http://127.0.0.1:{runner.addresses[0][1]}"

    async def stop(self) -> None:
        await self._session.close()
        for runner in self._runners:
            await runner.cleanup()

    def partition(self, one: set[str], other: set[str]) -> None:
        """Cut every cable between two sides."""
        self.cut = {(a, b) for a in one for b in other} | {(b, a) for a in one for b in other}

    def heal(self) -> None:
        """Mend all cables."""
        self.cut = set()

    async def _pass(self, source: str, request: web.Request) -> web.Response:
        target = self._names.get(request.url.port or 0, "")
        if (source, target) in self.cut:
            await asyncio.sleep(30)
        headers = {k: v for k, v in request.headers.items() if k in ("Accept-Encoding", "Content-Type")}
        try:
            body = await request.read()
            async with self._session.request(
                request.method, request.url, data=body, headers=headers, allow_redirects=False
            ) as response:
                kept = {k: v for k, v in response.headers.items() if k in ("Content-Encoding", "Content-Type")}
                return web.Response(body=await response.read(), status=response.status, headers=kept)
        except (aiohttp.ClientError, ConnectionError) as error:
            return web.Response(status=502, text=type(error).__name__)
