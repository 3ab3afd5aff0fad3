"""What a practice tells the nodes of a queue: that it made an offer, that one is over, and that it was chosen.

Rules kept here: a node that refuses a claim has to show why: another practice's claim, signed, or that the request's
own key opened it again. What it cannot show counts as if it had not answered, and the node is named.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence
from contextlib import suppress
from typing import Final

from peewit_clients.backend import Backend, BackendError, UnreachableError
from peewit_clients.bookings import Offered
from peewit_clients.drawing import RECENT_S
from peewit_clients.journal_state import Name
from peewit_clients.letters import Letters
from peewit_clients.practice_state import OFFER, PracticeState
from peewit_clients.registry_view import RegistryView
from peewit_clients.together import together
from peewit_clients.unanswered import Unanswered
from peewit_federation.appointment.queue_api import ROUNDS_MAX, Place, encode_claim, encode_offered
from peewit_federation.appointment.request import Request
from peewit_federation.appointment.spoken import (
    CLAIM_PATH,
    OFFERED_PATH,
    VERSION,
    decode_claimed,
    shown_claim,
    shown_version,
)
from peewit_federation.errors import ForgeryError, SenderError, UnknownError
from peewit_federation.keys import key_id
from peewit_federation.registry.subjects import Verdict
from peewit_federation.statements.mediator import Catchment, Provider

CLAIM_WAIT_S: Final = 4.0


class QueueSide:
    """The queues of a practice's areas, as it speaks to them."""

    def __init__(
        self,
        view: RegistryView,
        state: PracticeState,
        letters: Letters,
        catchment: Callable[[Place], Catchment],
        keep: Callable[..., None],
        nobody_there: Container[bytes],
        unanswered: Unanswered,
    ) -> None:
        self._view = view
        self._state = state
        self._letters = letters
        self._catchment = catchment
        self._keep = keep
        "Makes durable what is now the case of things, by their names."
        self._nobody_there = nobody_there
        "Letters whose mailbox no node of it has."
        self._unanswered = unanswered

    async def tell_offers(self) -> None:
        """Tell the nodes of the queues of offers that they have not heard of, and that have reached their mailboxes.

        One that reached nobody counts as no offer: whoever did not answer it is not parked for that. But who names a
        mailbox that is not there does not answer, nor does who can never be reached: else each practice would hold
        times for such a one without end.
        """
        mine = self._state.journal
        for name, offer in self._state.offered.items():
            what: Name = OFFER, name
            letter = self._state.letters.get(offer.letter)
            sent = (
                not mine.whole
                and what not in {**mine.pending, **mine.flying}
                and (letter is None or letter.once or self._counts(offer))
            )
            if sent and not offer.told and offer.until_s > self._view.clock():
                body = encode_offered(offer.place, name, offer.until_s)
                try:
                    refusals = _refusals(await self._say(offer.place, OFFERED_PATH, body))
                except UnknownError:
                    continue  # an area that is no more: there is nobody to tell
                offer.told = not any(error.status in (0, 403) or error.status >= 500 for error in refusals)
                if offer.told:
                    self._keep(what)

    def _counts(self, offer: Offered) -> bool:
        """Whether an offer that no mailbox has taken counts all the same."""
        return offer.letter in self._nobody_there or self._unanswered.counts(offer.request)

    async def release(self, over: Sequence[tuple[Place, bytes]]) -> None:
        """Tell the nodes of the queues that offers are over before their time: others may draw these requests now.

        If nobody hears it, they wait until the offers would have ended.
        """
        for place, request in over:
            with suppress(UnknownError):
                await self._say(place, OFFERED_PATH, encode_offered(place, request, 0), CLAIM_WAIT_S)

    async def claim(self, request: Request, place: Place, secret: bytes, *, held: bool = False) -> bool:
        """Show the secret to the nodes of all of its areas; False if it is another's, or was opened again.

        The nodes of its first area decide: one that shows another's claim is enough to decline, but of what is `held`
        only all that answer can say that it is lost. May be repeated. Raises `UnreachableError` if none answers that
        decides.
        """
        body = encode_claim(place, request.name, secret)
        await self._view.refresh(sorted({mediator for mediator, _ in request.areas}), recent_s=RECENT_S)
        for number, area in enumerate(request.areas):
            try:
                backends = self._letters.nodes(self._catchment(Place(*area)).nodes)
            except UnknownError:
                if number == 0:
                    raise  # who decides is not known
                continue
            results = await together((self._claim_at(backend, body, request) for backend in backends), CLAIM_WAIT_S)
            if number > 0:
                continue
            refusals = [result for result in results if isinstance(result, BackendError)]
            if results and len(refusals) == len(results) and all(error.status == 404 for error in refusals):
                if self._has_ended(request):
                    return held  # nobody is booked on it, who is booked stays
                raise UnreachableError("the nodes that decide on this request do not have it (yet)")
            if False in results and not (held and True in results):
                return False
            if True not in results:
                # Without those who decide two practices might both be told yes.
                why = "; ".join(map(str, refusals))
                raise UnreachableError(f"no node that decides on this request answered: {why}")
        return True

    def _has_ended(self, request: Request) -> bool:
        """Whether a request has waited for as long as requests do: no node has it any more."""
        schedule = self._view.charter.schedule
        return schedule is None or schedule.round_at(self._view.clock()) - request.round > ROUNDS_MAX

    async def _claim_at(self, backend: Backend, body: bytes, request: Request) -> bool:
        """Whether a node has given us what we claim. Raises `BackendError`, also if it cannot show why it refuses."""
        answer = await self._letters.call(backend, self._state.key, CLAIM_PATH, body)
        try:
            shown = decode_claimed(answer)
            return shown is None or self._is_shown(request, *shown)
        except SenderError as error:
            self._view.pool.complain(backend.name, f"a claim: {error}")
            raise BackendError(f"{backend.name}: what it shows is not so") from None

    def _is_shown(self, request: Request, kind: int, data: bytes) -> bool:
        """Whether what a node shows is our own claim; False if it is why we get nothing. Raises `SenderError`s."""
        if kind == VERSION:
            if shown_version(data, request).opened <= request.opened:
                raise ForgeryError("shown for one that was opened again was the request as it is")
            return False
        other = shown_claim(data, request)
        if other.practice == key_id(self._state.key.public):
            return True
        found = self._view.finder.look(other.place.mediator, Provider.KIND, other.practice, int(self._view.clock()))
        if found.verdict is Verdict.UNKNOWN:
            raise ForgeryError("shown was a claim by somebody who was never admitted")
        return False

    async def _say(
        self, place: Place, path: str, body: bytes, wait_s: float | None = None
    ) -> list[tuple[Backend, bytes | BackendError]]:
        """Say something to all nodes of an area, and what each answered."""
        backends = self._letters.nodes(self._catchment(place).nodes)
        calls = (self._letters.call(backend, self._state.key, path, body) for backend in backends)
        return list(zip(backends, await together(calls, wait_s), strict=True))


def _refusals(results: Sequence[tuple[Backend, bytes | BackendError]]) -> list[BackendError]:
    return [result for _, result in results if isinstance(result, BackendError)]
