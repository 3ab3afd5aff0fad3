"""Four node processes on loopback, from the files in `config/demo`."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import shutil
import signal
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiohttp

from examples.demo.relay import Cables
from peewit_clients.charters import Card, compose_charter, usual_draw
from peewit_federation.charter import Charter
from peewit_federation.charter_file import parse_charter
from peewit_node.setup import init_node

ROOT = Path(__file__).parents[2]
POSTCODES = ROOT / "examples" / "data" / "postcodes-de.csv"
REGIONS = {"north": "23", "west": "456", "south": "789", "east": "01"}
QUORUM = 3
ROUND_S = 45
"A week in earnest."


class Cluster:
    """The nodes of the demonstration."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.names = tuple(REGIONS)
        self.ports = {name: _port(name) for name in self.names}
        self.cables = Cables(self.ports)
        self.processes: dict[str, asyncio.subprocess.Process] = {}
        self.session: aiohttp.ClientSession
        self.charter: Charter

    def url(self, name: str) -> str:
        return f"http://127.0.0.1:{self.ports[name]}"

    async def start(self) -> None:
        """Make keys and a charter, and start all nodes."""
        shutil.copy(POSTCODES, self.folder)
        cards = []
        for name in self.names:
            seeds = tuple(secrets.token_bytes(32) for _ in range(3))
            listen = f"127.0.0.1:{self.ports[name]}"
            card = init_node(
                self.folder / name, name, self.url(name), listen, tuple(REGIONS[name]), "../charter.toml", seeds
            )
            cards.append(Card.parse(card.encode()))
            shutil.copy(ROOT / "config" / "demo" / f"{name}.toml", self.folder / name / "node.toml")
        draw = usual_draw(self.names, round_s=ROUND_S)
        text = compose_charter("demonstration", cards, QUORUM, draw=draw)
        (self.folder / "charter.toml").write_text(text, encoding="utf-8")
        self.charter = parse_charter(text.encode())
        self.session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=10))
        await self.cables.start()
        await asyncio.gather(*map(self.run, self.names))

    async def run(self, name: str) -> None:
        """Start one node's process, and wait until it is ready."""
        folder = self.folder / name
        with (folder / "node.log").open("ab") as log:
            self.processes[name] = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "peewit_clients.cli", "node", "run", str(folder / "node.toml"),
                stderr=log, stdin=asyncio.subprocess.DEVNULL,
                env={**os.environ, "PEEWIT_NODE_GOSSIP__PROXY": self.cables.proxies[name]},
            )  # fmt: skip
        await self.until(lambda: self._ready(name), f"node {name} is ready")

    async def _ready(self, name: str) -> bool:
        if self.processes[name].returncode is not None:
            raise RuntimeError(f"node {name} ended; see {self.folder / name / 'node.log'}")
        try:
            async with self.session.get(self.url(name) + "/readyz") as response:
                return response.status == 200
        except aiohttp.ClientError:
            return False

    async def status(self, name: str) -> dict[str, Any]:
        async with self.session.get(self.url(name) + "/status.json") as response:
            facts: dict[str, Any] = json.loads(await response.read())
            return facts

    async def until(self, holds: Callable[[], Any], what: str, timeout_s: float = 45.0) -> float:
        """Wait until something holds; how long it took in seconds. Raises if it never does."""
        loop = asyncio.get_running_loop()
        start = loop.time()
        while not await holds():
            if loop.time() - start > timeout_s:
                raise RuntimeError(f"it did not happen within {timeout_s:g} s: {what}")
            await asyncio.sleep(0.1)
        return loop.time() - start

    async def agree(self, *names: str, logs: int = 0) -> bool:
        """Whether these nodes have equal registries, folded, with a quorum on every head."""
        facts = [await self.status(name) for name in names or self.names]
        settled = all(f["folded"] and not f["closes_to_settle"] and f["logs"] >= logs for f in facts)
        return settled and len({f["digest"] for f in facts}) == 1 and not any(f["heads_without_quorum"] for f in facts)

    def kill(self, name: str) -> None:
        """As a power cut would: no goodbye."""
        self.processes[name].send_signal(signal.SIGKILL)

    async def stop(self) -> None:
        for process in self.processes.values():
            if process.returncode is None:
                process.terminate()
        for process in self.processes.values():
            try:
                await asyncio.wait_for(process.wait(), 10)
            except TimeoutError:
                process.kill()
                await process.wait()
        await self.cables.stop()
        await self.session.close()


def _port(name: str) -> int:
    table = tomllib.loads((ROOT / "config" / "demo" / f"{name}.toml").read_text(encoding="utf-8"))
    return int(table["listen"].rpartition(":")[2])
