"""Where a node listens: for everybody, for what came through another node, and for its own operator.

Rules kept here: what came through another node is asked of ourselves on loopback, which needs no certificate; the
operator's own socket is a file that nobody else may open. What is answered is left to others.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from typing import Final

from aiohttp import web

from peewit_federation.errors import OperatorError
from peewit_node.config import NodeConfig
from peewit_node.http_server import KEEPALIVE_S, Door, listen
from peewit_node.problems import problems

ADMIN_SOCKET: Final = "admin.sock"
LOOPBACK: Final = "127.0.0.1"
ANY_ADDRESS: Final = ("0.0.0.0", "::", "")  # noqa: S104


class Listener:
    """Accepts connections, from `open` until `close`."""

    def __init__(self, config: NodeConfig) -> None:
        self._config = config
        self._door = Door(config.limits.connections, config.limits.request_timeout_s)
        self._runners: list[web.AppRunner] = []
        self._servers: list[asyncio.Server] = []
        self.port = config.address[1]
        self.inside = ""
        "The address at which this node asks itself."

    async def open(self, application: Callable[[Door], web.Application], admin: list[web.RouteDef]) -> None:
        """Raises `OSError`, or `OperatorError` for a certificate that cannot be used."""
        config, tls = self._config, None
        runner = await self._runner(application(self._door))
        if config.tls:
            tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            try:
                tls.load_cert_chain(config.tls.certificate, config.tls.key)
            except (OSError, ssl.SSLError) as error:
                raise OperatorError(f"tls: {config.tls.certificate} and {config.tls.key}: {error}") from None
        server = await listen(runner, self._door, *config.address, tls)
        self._servers.append(server)
        self.port = server.sockets[0].getsockname()[1]
        host, port = config.address[0], self.port
        if tls:
            host = LOOPBACK
            inner = await listen(await self._runner(application(self._door)), self._door, host, 0, None)
            self._servers.append(inner)
            port = inner.sockets[0].getsockname()[1]
        self.inside = f"http://{LOOPBACK if host in ANY_ADDRESS else _bracketed(host)}:{port}"
        private = web.Application(middlewares=[problems])
        private.add_routes(admin)
        socket = config.data / ADMIN_SOCKET
        socket.unlink(missing_ok=True)
        await web.UnixSite(await self._runner(private), str(socket)).start()
        socket.chmod(0o600)

    async def _runner(self, app: web.Application) -> web.AppRunner:
        runner = web.AppRunner(app, access_log=None, keepalive_timeout=KEEPALIVE_S, shutdown_timeout=2.0)
        await runner.setup()
        self._runners.append(runner)
        return runner

    def refuse(self) -> None:
        """Accept no more connections."""
        for server in self._servers:
            server.close()

    async def close(self) -> None:
        """Let requests finish, then cut off who is still connected."""
        for runner in self._runners:
            await runner.cleanup()
        await self._door.shut()

    def forget(self) -> None:
        """Remove the operator's socket."""
        (self._config.data / ADMIN_SOCKET).unlink(missing_ok=True)


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
