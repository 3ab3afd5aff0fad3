"""A district's office for tests: its root, one device, and its tables."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from peewit_clients.device_state import DeviceState
from peewit_clients.identity import add_device, init_mediator
from peewit_clients.mediator import Mediator
from peewit_clients.tables import read_catchments, read_providers
from peewit_federation.charter import Charter
from peewit_federation.keys import SigningKey, key_id
from peewit_federation.log.note import b64encode
from peewit_federation.sealed import xwing_public
from peewit_federation.statements.mediator import Catchment
from peewit_federation.statements.operator import Admission
from tests.federation_kit import Federation, seed


def charter_of(federation: Federation) -> Charter:
    return next(iter(federation.nodes.values())).state.charter


@dataclass
class Office:
    """A mediator's folder with devices."""

    folder: Path
    root: SigningKey

    @classmethod
    async def open(cls, federation: Federation, *devices: str) -> Office:
        folder = federation.folder / "office"
        init_mediator(folder, seed("office root"), None)
        office = cls(folder, SigningKey(seed("office root")))
        for number, name in enumerate(devices):
            add_device(folder, name, office.root, (seed("office", number), seed("office enc", number)))
        for name in federation.names[:2]:
            admission = Admission(key_id(office.root.public), (office.root.public,), ("1", "2"), ())
            await federation.nodes[name].own.append(admission.encode())
        await federation.agree()
        return office

    def state(self, name: str) -> DeviceState:
        return DeviceState(self.folder / "devices" / name)


AREAS = "name,postcodes,services,groups,nodes,days\nmitte,10115 10117,flu,over80 all,north west,400\n"


def practices(*names: str) -> str:
    rows = [
        f"{name},mitte,flu,{SigningKey(seed(name)).public.hex()},{b64encode(xwing_public(seed(name)))},400,Example Street 1"
        for name in names
    ]
    return "\n".join(["name,areas,services,signing_key,encryption_key,days,street", *rows]) + "\n"


async def set_up(role: Mediator, *names: str) -> None:
    planner = await role.prepare()
    plan = planner.catchments(read_catchments(AREAS), lambda n: role.state.subject(Catchment.KIND, n))
    await role.publish(plan, wait_s=10)
    planner = await role.prepare()
    plan = planner.providers(
        read_providers(practices(*names)), lambda n: role.state.subject(Catchment.KIND, n), readmit=False
    )
    progress = await role.publish(plan, wait_s=10)
    assert progress.effective, progress
