"""Three real nodes in this process, with one district that has published an area and two practices."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import structlog

from peewit_clients.charters import Card, compose_charter, usual_draw
from peewit_clients.device_log import DeviceLog
from peewit_clients.device_state import DeviceState
from peewit_clients.identity import add_device, init_mediator, root_key
from peewit_clients.plans import Planner
from peewit_clients.pool import BackendPool
from peewit_clients.tables import CatchmentRow, ProviderRow
from peewit_federation import cbor
from peewit_federation.appointment.messages import practice_data
from peewit_federation.appointment.queue_api import Place
from peewit_federation.charter import Charter
from peewit_federation.charter_file import parse_charter
from peewit_federation.keys import SigningKey
from peewit_federation.registry.mediator import MediatorFold
from peewit_federation.sealed import xwing_public
from peewit_federation.statements.operator import Admission
from peewit_node.config import Admission as AdmissionSettings
from peewit_node.config import Gossip, NodeConfig
from peewit_node.node import Node
from peewit_node.setup import init_node

NAMES = ("north", "west", "south")


@dataclass(frozen=True)
class Clinic:
    """What a practice holds: its key, and its data with the salt of the commitment."""

    key: SigningKey
    data: bytes
    salt: bytes


@dataclass(frozen=True)
class Small:
    """What the examples need of it."""

    charter: Charter
    log_url: str
    area: Place
    area_seed: bytes
    "Of the key to which requests are sealed."
    clinics: dict[str, Clinic]


@asynccontextmanager
async def small_federation() -> AsyncIterator[Small]:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        ports = dict(zip(NAMES, _free_ports(len(NAMES)), strict=True))
        cards = []
        for node, port in ports.items():
            url, seeds = f"http://127.0.0.1:{port}", tuple(os.urandom(32) for _ in range(3))
            card = init_node(folder / node, node, url, f"127.0.0.1:{port}", ("1",), "../charter.toml", seeds)
            cards.append(Card.parse(card.encode()))
        (folder / "charter.toml").write_text(
            compose_charter("small", cards, 2, draw=usual_draw(NAMES)), encoding="utf-8"
        )
        gossip = Gossip(interval_s=0.1, view_interval_s=0.5)
        nodes = [
            await Node.start(
                NodeConfig(
                    operator=node,
                    charter=folder / "charter.toml",
                    data=folder / node,
                    listen=f"127.0.0.1:{port}",
                    gossip=gossip,
                    admission=AdmissionSettings(kind="work", work_bits=12),
                )
            )
            for node, port in ports.items()
        ]
        try:
            charter = parse_charter((folder / "charter.toml").read_bytes())
            yield await _publish(folder / "district", charter, nodes)
        finally:
            for running in nodes:
                await running.stop()


def _free_ports(count: int) -> list[int]:
    """Ports that nobody uses now."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [found.getsockname()[1] for found in sockets]
    for found in sockets:
        found.close()
    return ports


async def _publish(folder: Path, charter: Charter, nodes: list[Node]) -> Small:
    identity = init_mediator(folder, os.urandom(32), None)
    root = root_key(folder / "root.key", None)
    for node in nodes[:2]:
        await node.own.append(Admission(identity.id, (identity.root,), ("1",), ()).encode())
    while not all(identity.id in node.keeper.registry.admissions for node in nodes):  # noqa: ASYNC110
        await asyncio.sleep(0.05)
    device = add_device(folder, "desk", root, (os.urandom(32), os.urandom(32)))
    with DeviceState(device) as state:
        async with BackendPool(charter) as pool:
            log = DeviceLog(state, charter, pool)
            planner = Planner(charter, MediatorFold(), int(time.time()), os.urandom)
            areas = planner.catchments(
                [CatchmentRow("mitte", ("10115",), ("flu",), (), NAMES[:2], 400)], lambda _: None
            )
            _, _, area, area_seed = areas.names[0]
            keys = {f"clinic-{n}": SigningKey(os.urandom(32)) for n in "ab"}
            rows = [
                ProviderRow(
                    name, ("mitte",), ("flu",), key.public, xwing_public(os.urandom(32)), 400,
                    {"name": name, "street": "Example Street 1"},
                )
                for name, key in keys.items()
            ]  # fmt: skip
            practices = planner.providers(rows, lambda _: area, readmit=False)
            while True:
                await log.commit([] if state.size else [*areas.statements, *practices.statements])
                if (await log.publish(wait_s=10)).effective:
                    break
            await asyncio.sleep(1)
            clinics = {}
            for _, name, _, secret in practices.names:
                salt, data = cbor.decode(secret)
                clinics[name] = Clinic(keys[name], practice_data(data), salt)
            url = f"{charter.operators[0].url}/log/{log.origin.hex()}"
            return Small(charter, url, Place(identity.id, area), area_seed, clinics)
