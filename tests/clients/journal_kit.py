"""Practices' devices over real nodes, with disks that can be copied and put back, and nodes that can be cut off."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable

from peewit_clients.backend import BackendError
from peewit_clients.place import with_work
from peewit_clients.practice import Practice
from peewit_clients.practice_state import SLOT, Item, PracticeState
from peewit_clients.registry_view import RegistryView
from peewit_clients.user import User
from tests.clients.surgery import Surgery, slot

SOON_S = 3600


class Disk:
    """What a device keeps; it can be copied and put back."""

    def __init__(self, state: PracticeState) -> None:
        self.items: dict[tuple[int, bytes], bytes] = {}
        self.save(state.changed(*state.names()))

    def save(self, items: Iterable[Item]) -> None:
        for kind, name, body in items:
            if body is None:
                self.items.pop((kind, name), None)
            else:
                self.items[kind, name] = body

    def device(self, view: RegistryView) -> Practice:
        """A device that goes on from here."""
        state = PracticeState.load((*name, body) for name, body in self.items.items())
        assert state is not None
        return Practice(view, state, os.urandom, self.save)


def disk_of(surgery: Surgery, view: RegistryView, *numbers: int) -> Disk:
    state = surgery.practice(view).state
    state.calendar = {slot(number).name: slot(number) for number in numbers}
    state.places = [surgery.place]
    return Disk(state)


async def asked(surgery: Surgery, view: RegistryView, name: str) -> User:
    user = surgery.user(view, name)
    await user.ask(with_work)
    return user


async def offer_next(surgery: Surgery, practice: Practice) -> int:
    """Offer the first free slot to whoever is next; how many offers were made."""
    count = 0
    for drawn in await practice.draw(surgery.place, 1):
        for free in practice.state.free(time.time())[:1]:
            await practice.offer(surgery.place, drawn, [free], int(time.time()) + SOON_S)
            count += 1
    return count


async def accept(user: User) -> None:
    (found,) = await user.offers()
    await user.accept(found, found.offer.slots[0][0])


async def booked(surgery: Surgery, view: RegistryView, practice: Practice) -> User:
    """Somebody whom the practice has confirmed the first free slot."""
    user = await asked(surgery, view, "First")
    await offer_next(surgery, practice)
    await accept(user)
    await practice.confirm()
    return user


def cut_off(practice: Practice, gone: set[str]) -> None:
    """Have a device not reach some nodes, as long as they are in `gone`."""
    real = practice.journal.nodes.call

    async def call(backend, what, body):  # type: ignore[no-untyped-def]
        if backend.name in gone:
            raise BackendError("cut off")
        return await real(backend, what, body)

    practice.journal.nodes.call = call  # type: ignore[method-assign]


def keepers_of(surgery: Surgery, practice: Practice) -> list[str]:
    names = {node.state.operator.origin_hash: name for name, node in surgery.federation.nodes.items()}
    return [names[origin] for origin in practice.state.journal.origins]


def add(practice: Practice, *numbers: int) -> None:
    """Put times into the calendar, which the journal does not know yet."""
    for number in numbers:
        practice.state.calendar[slot(number).name] = slot(number)
        practice.keep((SLOT, slot(number).name))
