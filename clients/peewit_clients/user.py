"""A person who wants an appointment, as their own client sees it (design 4.6). No server knows who that is.

    user = User(view, UserState.new(person, group, areas, services, os.urandom), os.urandom, save)
    await user.ask(prove)
    for found in await user.offers(): …
    await user.accept(found, slot)
    await user.check()                 what the practice has said since
    await user.cancel("…")             and perhaps, to ask again in the old place, user.reopen()

Rules kept here: the name leaves this device once, sealed to the practice that was chosen, after its grant, its
signature, its commitment and the freshness of the registry were checked; what is wrong with an offer is said in words.
What a step needs is kept before it is sent (`save`), so that every step can be taken again. How: `asking`, `offers`
and `conversation`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress

from peewit_clients.asking import Asking
from peewit_clients.backend import UnreachableError
from peewit_clients.conversation import Conversation
from peewit_clients.letters import Letters, Randomness
from peewit_clients.offers import Found, Offers
from peewit_clients.place import Place, Prove
from peewit_clients.registry_view import RegistryView
from peewit_clients.user_side import UserSide
from peewit_clients.user_state import Extra, Standing, UserState
from peewit_clients.words import Said, said
from peewit_federation.appointment.request import Request
from peewit_federation.errors import RefusedError
from peewit_federation.registry.subjects import Verdict
from peewit_federation.statements.mediator import Catchment

__all__ = ["Found", "User"]


class User:
    """One person's request, and what comes of it."""

    def __init__(
        self, view: RegistryView, state: UserState, randomness: Randomness, save: Callable[[UserState], None]
    ) -> None:
        self.view = view
        self.state = state
        self.letters = Letters(view.pool, view.clock, randomness)
        side = self._side = UserSide(view, state, self.letters, randomness, save)
        view.pool.transport.ends = side.ends
        self.late: UnreachableError | None = None
        "Why no node could be asked just now: what is in the state is what was known before."
        self._asking = Asking(side)
        self._offers = Offers(side)
        self._conversation = Conversation(side, self._offers)

    @property
    def place(self) -> Place | None:
        """In the draw, if it was given to this request just now."""
        return self._asking.place

    @property
    def dropped(self) -> list[Said | str]:
        """Why offers were not shown."""
        return self._offers.dropped

    # The request

    async def ask(self, prove: Prove) -> Request:
        """Get a place in the queue, and put the request into it. May be repeated."""
        return await self._asking.ask(prove)

    def area(self, mediator: bytes, area: bytes) -> Catchment | None:
        """An area as it was last described, whether or not it may be asked now."""
        return self._side.area(mediator, area)

    def catchment(self, mediator: bytes, area: bytes) -> Catchment:
        """An area that may be asked now. Raises `UnknownError`."""
        return self._asking.catchment(mediator, area)

    @property
    def ended(self) -> bool:
        """Whether the request has waited for as long as requests do: no node has it any more."""
        return self._asking.ended

    async def states(self) -> dict[bytes, int]:
        """How the request stands, by the name of each area (`queue_api`), as the nodes say."""
        return await self._asking.states()

    async def renew(self) -> None:
        """Bring a later version: who did not answer offers is drawn again, in the old place. May be repeated."""
        await self._asking.renew()

    async def change(self, services: tuple[str, ...], wishes: Extra) -> None:
        """Wish for something else, in the same place. May be repeated. Raises `RefusedError` once a time was chosen."""
        await self._asking.change(services, wishes)

    async def withdraw(self) -> None:
        """Take the request out of all queues. May be repeated. Raises `RefusedError` while an appointment stands."""
        chosen = self.state.chosen
        if chosen is not None and chosen.state is Standing.SENT:
            with suppress(UnreachableError):  # perhaps it was confirmed, and nobody looked
                await self._conversation.check()
        if chosen is not None and chosen.state is Standing.SENT and not chosen.stands(self.view.clock()):
            with suppress(UnreachableError):  # if it looks after all, it books nobody
                await self._conversation.cancel()
                chosen.state = Standing.SENT
        await self._asking.withdraw()

    async def reopen(self) -> None:
        """Ask again after a booking ended, or a practice never answered, in the old place, at most twice."""
        await self._asking.reopen()

    # Offers, and the one that is accepted

    async def offers(self) -> list[Found]:
        """Offers that may be accepted now. Why others may not is in `dropped`."""
        await self._asking.mend_mailbox()
        return await self._offers.collect()

    async def accept(self, found: Found, slot: bytes) -> None:
        """Choose a slot, and tell this one practice who will come. May be repeated. Raises `RefusedError`."""
        if self.ended and self.state.chosen is None:
            raise RefusedError(said("error_ended"))
        await self._conversation.accept(found, slot)

    async def again(self) -> None:
        """Send the accept again, for whoever does not know whether it was sent. Harmless if it was."""
        await self._conversation.again()

    async def check(self) -> Standing:
        """Read what the chosen practice has said, and how the appointment stands. Its words are kept in the state."""
        return await self._conversation.check()

    async def tidy(self) -> None:
        """Delete letters that were read, once what they said is safe: on this device, and in a recovery copy."""
        await self._side.tidy()

    @property
    def cut_off(self) -> bool:
        """Whether all operators have left at whose nodes letters of the chosen practice wait."""
        return self._conversation.cut_off

    async def note(self, text: str) -> None:
        """Say something to the practice."""
        await self._conversation.note(text)

    def shown(self, lines: Sequence[bytes]) -> None:
        """These times were shown, in this order (by hash): what numbers mean from now on."""
        if self.state.shown != tuple(lines):
            self.state.shown = tuple(lines)
            self._side.save()

    async def cancel(self, text: str = "") -> bool:
        """Give the appointment back; whether the practice was told. May be repeated."""
        return await self._conversation.cancel(text)

    def practice_verdict(self) -> Verdict | None:
        """Whether the practice of the appointment may still act, as far as the registry says; None without one."""
        return self._side.practice_verdict()
