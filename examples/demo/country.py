"""A country out of a table of postcodes: every district a mediator with a device, an area, and practices."""

from __future__ import annotations

import asyncio
import http.client
import os
import socket
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from examples.demo.cluster import REGIONS, Cluster
from peewit_clients.device_log import DeviceLog
from peewit_clients.device_state import DeviceState
from peewit_clients.identity import add_device, init_mediator
from peewit_clients.plans import Planner
from peewit_clients.pool import BackendPool
from peewit_clients.tables import CatchmentRow, ProviderRow
from peewit_federation import cbor
from peewit_federation.keys import SigningKey, key_id
from peewit_federation.places import Places
from peewit_federation.registry.mediator import MediatorFold
from peewit_federation.sealed import xwing_public
from peewit_federation.statements.operator import Admission

PRACTICES = 8
AT_ONCE = 48


@dataclass
class District:
    """A health district: the mediator of its postcodes."""

    name: str
    postcodes: tuple[str, ...]
    folder: Path
    root: SigningKey
    region: str
    practices: list[SigningKey]

    @property
    def id(self) -> bytes:
        return key_id(self.root.public)

    @property
    def device(self) -> Path:
        return self.folder / "devices" / "office"


def make_districts(places: Places, folder: Path) -> list[District]:
    """One for each district of the table, with its keys."""
    members: dict[str, list[str]] = {}
    for place in places.by_postcode.values():
        members.setdefault(f"{place.state}/{place.district}", []).append(place.postcode)
    found = []
    for number, (name, postcodes) in enumerate(sorted(members.items())):
        seed = os.urandom(32)
        votes = Counter(region for code in postcodes for region, prefixes in REGIONS.items() if code[0] in prefixes)
        path = folder / f"district-{number:03d}"
        init_mediator(path, seed, None)
        root = SigningKey(seed)
        add_device(path, "office", root, (os.urandom(32), os.urandom(32)))
        keys = [SigningKey(os.urandom(32)) for _ in range(PRACTICES)]
        found.append(District(name, tuple(sorted(postcodes)), path, root, votes.most_common(1)[0][0], keys))
    return found


def admit_all(cluster: Cluster, districts: list[District]) -> None:
    """Every operator vouches for the districts of its region, and for those that reach into it."""
    for name in cluster.names:
        entries = []
        for district in districts:
            regions = {_region(code) for code in district.postcodes}
            # A district of one region needs its operator only; one that straddles a border needs two everywhere.
            if name in regions or (name == "north" and len(regions) > 1):
                entries.append(Admission(district.id, (district.root.public,), district.postcodes, ()).encode())
        append_own(cluster.folder / name, entries)


def append_own(data: Path, entries: list[bytes]) -> None:
    """Say something in an operator's log, as `peewit operator` does."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(data / "admin.sock"))
        client = http.client.HTTPConnection("localhost")
        client.sock = connection
        client.request("POST", "/admin/append", cbor.encode(entries))
        response = client.getresponse()
        if response.status != 200:
            raise RuntimeError(response.read().decode())


async def publish_all(cluster: Cluster, districts: list[District]) -> int:
    """Each district publishes its area and practices at the node of its region; how many entries that makes."""
    places = asyncio.Semaphore(AT_ONCE)
    pools = {name: BackendPool(cluster.charter, only=(name,)) for name in cluster.names}

    async def publish(district: District) -> int:
        async with places:
            with DeviceState(district.device) as state:
                log = DeviceLog(state, cluster.charter, pools[district.region])
                planner = Planner(cluster.charter, MediatorFold(), int(time.time()), os.urandom)
                nodes = tuple(dict.fromkeys([district.region, *cluster.names]))[:2]
                area = CatchmentRow("area", district.postcodes, ("flu", "measles"), (), nodes, 365)
                areas = planner.catchments([area], lambda _: None)
                subject = areas.names[0][2]
                rows = [
                    ProviderRow(f"practice-{i}", ("area",), ("flu",), key.public, xwing_public(os.urandom(32)), 365, {})
                    for i, key in enumerate(district.practices)
                ]
                practices = planner.providers(rows, lambda _: subject, readmit=False)
                entries = areas.statements + practices.statements
                await log.commit(entries, areas.names + practices.names)
                progress = await log.publish(write=1)
                if not progress.stored_at:
                    raise RuntimeError(f"{district.name} could not publish: {progress.failures}")
                return len(entries)

    try:
        return sum(await asyncio.gather(*map(publish, districts)))
    finally:
        for pool in pools.values():
            await pool.__aexit__()


def _region(postcode: str) -> str:
    return next(name for name, prefixes in REGIONS.items() if postcode[0] in prefixes)
