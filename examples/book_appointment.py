"""An appointment from the request to the confirmation, over real nodes that never learn who books what.

    python examples/book_appointment.py --self-contained

It starts a small federation of its own. A person asks for an appointment, a practice draws the request and offers two
times, the person chooses one, and the practice confirms.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

from peewit_clients.calendar import Slot
from peewit_clients.place import with_work
from peewit_clients.pool import BackendPool
from peewit_clients.practice import Practice
from peewit_clients.practice_state import PracticeState
from peewit_clients.registry_view import RegistryView
from peewit_clients.user import User
from peewit_clients.user_state import Standing, UserState
from peewit_federation.appointment.request import Request, area_name
from peewit_federation.draw.hashes import Person
from peewit_federation.errors import RefusedError

if TYPE_CHECKING:
    from examples.small_federation import Small

TOMORROW_S = int(time.time()) // 86_400 * 86_400 + 86_400


async def book(small: Small) -> None:
    async with BackendPool(small.charter) as mine, BackendPool(small.charter) as theirs:
        view, their_view = RegistryView(small.charter, mine), RegistryView(small.charter, theirs)
        await view.refresh([small.area.mediator])

        # The person's own device. Everything random is drawn here; the name stays here until a practice is chosen.
        person = Person("Muster", "Erika", date(1940, 8, 12))
        areas = ((small.area.mediator, small.area.area),)
        user = User(view, UserState.new(person, "", areas, ("flu",), os.urandom), os.urandom, lambda _: None)
        request = await ask(user, small)
        assert user.place is not None
        print(f"a place in round {request.round} that nobody could choose: {user.place.priority.hex()[:12]}…")

        # The practice. It computes the order itself, from proofs.
        clinic = small.clinics["clinic-a"]
        seeds = {area_name(small.area.mediator, small.area.area): [small.area_seed]}
        state = PracticeState(
            small.area.mediator, clinic.key.seed, os.urandom(32), b"", clinic.data, clinic.salt, seeds
        )
        practice = Practice(their_view, state, os.urandom)
        (drawn,) = await practice.draw(small.area, 5)
        slots = [Slot(os.urandom(16), TOMORROW_S + hour * 3600, 10, "flu") for hour in (9, 10)]
        await practice.offer(small.area, drawn, slots, int(time.time()) + 3600)

        (found,) = await user.offers()
        for _, begins_s, minutes, service in found.offer.slots:
            print(f"{found.data['name']} offers {clock(begins_s)}, {minutes} minutes, {service}")
        await user.accept(found, slots[1].name)
        (booking,) = await practice.confirm()
        assert await user.check() is Standing.BOOKED
        name = booking.person.given_name
        print(f"confirmed for {clock(booking.slot.begins_s)}; one practice, and no node, knows that it is {name}")


def clock(at_s: int) -> str:
    return time.strftime("%H:%M", time.gmtime(at_s))


async def ask(user: User, small: Small) -> Request:
    """Ask until it works: nodes make the keys of the first round when they start. A step may always be repeated."""
    for _ in range(300):
        await user.view.refresh([small.area.mediator])
        try:
            return await user.ask(with_work)
        except RefusedError:
            await asyncio.sleep(0.2)
    raise SystemExit("no round was opened")


async def main() -> None:
    from examples.small_federation import small_federation

    async with small_federation() as federation:
        await book(federation)


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))
    asyncio.run(main())
