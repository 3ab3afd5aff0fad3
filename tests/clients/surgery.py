"""A federation with a draw, a health district, and its practices: what tests of appointments need."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import date
from functools import cache
from pathlib import Path

from peewit_clients.calendar import Slot
from peewit_clients.charters import usual_draw
from peewit_clients.place import with_work
from peewit_clients.pool import BackendPool
from peewit_clients.practice import Practice
from peewit_clients.practice_state import PracticeState
from peewit_clients.registry_view import RegistryView
from peewit_clients.user import User
from peewit_clients.user_state import Standing, UserState
from peewit_federation.appointment.messages import commitment, practice_data
from peewit_federation.appointment.queue_api import Place
from peewit_federation.appointment.request import area_name
from peewit_federation.appointment.spoken import SaidOffered
from peewit_federation.draw.hashes import Person
from peewit_federation.sealed import xwing_public
from peewit_federation.statements.mediator import Provider
from peewit_node.config import Admission
from tests.federation_kit import NAMES, Federation, TestMediator, catchment, provider, seed
from tests.federation_kit_http import Device, admit
from tests.node.test_draw import opened

DATA = practice_data({"name": "clinic-a", "street": "Example Street 1", "postcode": "10115"})
GROUPS = ("over80",)
QUEUE_NODES = NAMES[:2]
SOON_S = 3600


@cache
def slot(number: int, practice: str = "clinic-a") -> Slot:
    return Slot(seed(practice, "slot", number)[:16], int(time.time()) + 86_400 + 600 * number, 10, "flu")


@dataclass
class Surgery:
    """Everything, running."""

    federation: Federation
    mediator: TestMediator
    place: Place
    device: Device

    @classmethod
    async def open(cls, folder: Path) -> Surgery:
        admission = Admission(kind="open", groups=GROUPS, per_minute=10_000)
        federation = Federation.make(folder, draw=usual_draw(NAMES), admission=admission)
        await federation.start()
        mediator = TestMediator("m")
        await admit(federation, mediator)
        nodes = tuple(federation.nodes[name].state.operator.origin_hash for name in QUEUE_NODES)
        area = replace(
            catchment("mitte", "10115"), keys=((0, xwing_public(seed("area key"))),), nodes=nodes, groups=GROUPS
        )
        device = Device.of(mediator)
        device.entries += [area.encode(), cls.grant("clinic-a").encode(), cls.grant("clinic-b").encode()]
        assert (await device.publish(federation.url("north")))[0] == 200
        await opened(federation, ("", *GROUPS))
        return cls(federation, mediator, Place(mediator.id, area.area), device)

    @staticmethod
    def grant(name: str, **changes: object) -> Provider:
        area = catchment("mitte", "10115")
        return replace(provider(name, area), commitment=commitment(seed(name, "salt"), DATA), **changes)  # type: ignore[arg-type]

    @asynccontextmanager
    async def view(self, *only: str) -> AsyncIterator[RegistryView]:
        charter = next(iter(self.federation.nodes.values())).state.charter
        async with BackendPool(charter, only=only) as pool:
            view = RegistryView(charter, pool)
            await view.refresh([self.mediator.id])
            yield view

    def practice(self, view: RegistryView, name: str = "clinic-a") -> Practice:
        seeds = {area_name(self.place.mediator, self.place.area): [seed("area key")]}
        state = PracticeState(
            self.mediator.id, seed(name), seed(name, "encryption"), b"", DATA, seed(name, "salt"), seeds
        )
        return Practice(view, state, os.urandom)

    def user(self, view: RegistryView, name: str = "Erika", group: str = "") -> User:
        areas = ((self.place.mediator, self.place.area),)
        state = UserState.new(Person("Muster", name, date(1940, 8, 12)), group, areas, ("flu",), os.urandom)
        return User(view, state, os.urandom, lambda _: None)


async def states(surgery: Surgery, name: str) -> list[int]:
    rows = await surgery.federation.nodes[name].engine.fetch("SELECT state FROM requests ORDER BY request")
    return [state for (state,) in rows]


def said_offered(surgery: Surgery, request: bytes, practice: bytes, until_s: int) -> SaidOffered:
    return SaidOffered(surgery.place, request, practice, bytes(32), int(time.time() * 1000), b"proof", until_s)


async def until_async(holds: Callable[[], Awaitable[object]], timeout_s: float = 30.0) -> None:
    async with asyncio.timeout(timeout_s):
        while not await holds():
            await asyncio.sleep(0.05)


async def booked(surgery: Surgery, view: RegistryView, practice: Practice, number: int = 1, name: str = "E") -> User:
    """Ask, and all that follows until the appointment is held by both."""
    user = surgery.user(view, name)
    await user.ask(with_work)
    await offered(surgery, user, practice, number)
    return user


async def put_on_offer(surgery: Surgery, practice: Practice, number: int, for_s: int = SOON_S) -> None:
    """Draw whoever is next, and offer one slot."""
    (drawn,) = await practice.draw(surgery.place, 1)
    practice.state.calendar[slot(number).name] = slot(number)
    await practice.offer(surgery.place, drawn, [slot(number)], int(time.time()) + for_s)


async def offered(surgery: Surgery, user: User, practice: Practice, number: int) -> None:
    """Draw, offer one slot, accept, confirm."""
    await put_on_offer(surgery, practice, number)
    found = [item for item in await user.offers() if item.offer.slots[0][0] == slot(number).name]
    await user.accept(found[0], slot(number).name)
    assert len(await practice.confirm()) == 1
    assert await user.check() is Standing.BOOKED


async def accepted(surgery: Surgery, user: User, practice: Practice) -> None:
    """Ask, be drawn and offered one time, and accept it."""
    await user.ask(with_work)
    await put_on_offer(surgery, practice, 1)
    (found,) = await user.offers()
    await user.accept(found, slot(1).name)


async def with_second_area(
    surgery: Surgery, status: int = 0, version: int = 1, groups: tuple[str, ...] = GROUPS
) -> bytes:
    """Another area of the mediator, held by the same nodes, as its mediator describes it next."""
    nodes = tuple(surgery.federation.nodes[name].state.operator.origin_hash for name in QUEUE_NODES)
    area = replace(
        catchment("wedding", "13347"), keys=((0, xwing_public(seed("area key"))),), nodes=nodes, groups=groups,
        status=status, version=version,
    )  # fmt: skip
    surgery.device.entries.append(area.encode())
    before = len(surgery.device.entries) - 1
    assert (await surgery.device.publish(surgery.federation.url("north"), before))[0] == 200
    await surgery.federation.agree()
    return area.area
