"""Offers to a person: collected from all nodes, checked, and those that may not be accepted explained.

Rules kept here: an offer is shown only if its practice may act now, by a registry that is fresh, if its signature and
commitment hold, and if the practice did not take it back; letters that are over are deleted, to make room for others.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from peewit_clients.registry_view import MEANING
from peewit_clients.user_side import UserSide
from peewit_clients.user_state import DAY_S, Standing
from peewit_clients.words import Said, said, told, verdict_line
from peewit_federation.appointment.mailbox import Terms
from peewit_federation.appointment.messages import (
    Offer,
    offer_context,
    open_message,
    read_practice_data,
    verify_message,
)
from peewit_federation.appointment.notes import WITHDRAW, note_context, read_practice_note
from peewit_federation.appointment.request import Request
from peewit_federation.errors import ForgeryError, RefusedError, SenderError
from peewit_federation.registry.subjects import Verdict
from peewit_federation.sealed import Context, open_sealed, xwing_public
from peewit_federation.statements.kinds import MEDIATOR_KINDS, read_entry
from peewit_federation.statements.mediator import Provider

ANSWER_S_MAX: Final = 3 * DAY_S + 3600
"As long as nodes let an offer be answered, and what clocks differ."
AHEAD_S_MAX: Final = 400 * DAY_S
"Mailboxes last as long: who is booked later could not say that nobody comes."


@dataclass(frozen=True)
class Found:
    """An offer that may be accepted, with the practice behind it."""

    offer: Offer
    practice: Provider
    data: dict[str, str]


class OverError(RefusedError):
    """An offer that nobody can accept any more."""


class Offers:
    """What practices offer."""

    def __init__(self, side: UserSide) -> None:
        self._side = side
        self.dropped: list[Said | str] = []
        "Why offers were not shown."

    async def collect(self) -> list[Found]:
        """Offers that may be accepted now. Why others may not is in `dropped`."""
        request = self._side.asked()
        terms = Terms(self._side.mailbox_until_s(request.round), practices=True)
        messages = await self._side.letters.read(self._side.state.mail_key, request.mailbox_nodes, terms)
        silent = ", ".join(self._side.letters.silent)
        await self._side.view.refresh([mediator for mediator, _ in request.areas])
        found: dict[bytes, Found] = {}
        notes: list[bytes] = []
        noted: list[bytes] = []
        gone: list[bytes] = []
        unclear = False
        self.dropped.clear()
        if silent:
            self.dropped.append(said("error_mailbox_silent", nodes=silent))
        for message in messages:
            try:
                found[message] = self._check(request, message)
            except OverError as error:
                self.dropped.append(told(error))
                gone.append(message)
            except SenderError as error:
                try:
                    notes.append(open_sealed(self._side.state.reply_seed, message, self._note_context(request)))
                    noted.append(message)
                except SenderError:
                    self.dropped.append(told(error))
                    if self._opens(request, message):
                        unclear = True
                    else:
                        gone.append(message)
        back = [message for message, item in found.items() if self._withdrawn(item, notes)]
        said_now, state = self._chosen_is_withdrawn(notes), self._side.state
        if not unclear and (said_now or (state.copied and state.content != state.copied)):
            # Not before a recovery copy says so.
            self._side.over.append((state.mail_key, request.mailbox_nodes, noted))
        elif not unclear:
            # Also of an offer that is not here any more: nobody else would delete them. Not if one may be good later.
            gone += noted
        gone += back
        if gone:
            # A practice may leave two letters: what is over makes room for the next.
            await self._side.letters.delete(self._side.state.mail_key, request.mailbox_nodes, gone)
        return [item for message, item in found.items() if message not in back]

    def _opens(self, request: Request, message: bytes) -> bool:
        """Whether it is an offer to us at all."""
        try:
            context = offer_context(request.mailbox, xwing_public(self._side.state.reply_seed))
            open_sealed(self._side.state.reply_seed, message, context)
        except SenderError:
            return False
        return True

    def _note_context(self, request: Request) -> Context:
        return note_context(request.mailbox, xwing_public(self._side.state.reply_seed))

    def _withdrawn(self, found: Found, notes: Sequence[bytes]) -> bool:
        """Whether the practice took its offer back: asked before a name is sent to it."""
        offered = {slot for slot, *_ in found.offer.slots}
        for data in notes:
            with suppress(SenderError):
                note = read_practice_note(data, found.practice.signing_key)
                if (note.what, note.request) == (WITHDRAW, found.offer.request) and note.slot in offered:
                    self.dropped.append(said("error_taken_back", text=note.text or said("no_reason")))
                    return True
        return False

    def _chosen_is_withdrawn(self, notes: Sequence[bytes]) -> bool:
        """Whether the practice took its offer back as we accepted it: then that came too late, and nobody is coming."""
        chosen = self._side.state.chosen
        if chosen is None or chosen.state is not Standing.SENT:
            return False
        for data in notes:
            with suppress(SenderError):
                note = read_practice_note(data, chosen.practice.signing_key)
                offered = note.slot in {slot for slot, *_ in chosen.offer.slots}
                if (note.what, note.request, offered) == (WITHDRAW, chosen.offer.request, True):
                    chosen.state = Standing.DECLINED
                    if note.text:
                        chosen.words.append((int(self._side.view.clock()), True, note.text))
                    self._side.save()
                    return True
        return False

    def _check(self, request: Request, message: bytes) -> Found:
        context = offer_context(request.mailbox, xwing_public(self._side.state.reply_seed))
        offer, signed = open_message(open_sealed(self._side.state.reply_seed, message, context), Offer)
        if offer.request != request.name or offer.mediator not in {mediator for mediator, _ in request.areas}:
            raise ForgeryError(said("error_foreign_offer"))
        chosen = self._side.state.chosen
        decided = chosen is not None and chosen.state is not Standing.SENT
        declined = {chosen.offer.mailbox} if chosen is not None and decided else set()
        if self._side.view.clock() >= offer.until or offer.mailbox in {*self._side.state.done, *declined}:
            raise OverError(said("error_offer_spent"))
        now_s = self._side.view.clock()
        if offer.until > now_s + ANSWER_S_MAX or any(begins > now_s + AHEAD_S_MAX for _, begins, *_ in offer.slots):
            raise RefusedError(said("error_offer_far"))
        practice = self.require_acting(offer, signed.kid)
        verify_message(signed, Offer, practice.signing_key)
        if not any(area in practice.areas for mediator, area in request.areas if mediator == offer.mediator):
            raise RefusedError(said("error_offer_elsewhere"))
        return Found(offer, practice, read_practice_data(offer.data, offer.salt, practice.commitment))

    def require_acting(self, offer: Offer, subject: bytes) -> Provider:
        """The grant of a practice that may act now. Raises `RefusedError` saying what is wrong."""
        now_s = self._side.view.clock()
        found = self._side.view.finder.look(offer.mediator, Provider.KIND, subject, int(now_s))
        practice = read_entry(self._side.view.standing_entry(found) or b"", MEDIATOR_KINDS)
        if found.verdict is not Verdict.ACTIVE or not isinstance(practice, Provider):
            verdict, meaning = said(verdict_line(found.verdict)), MEANING[found.verdict]
            raise RefusedError(said("error_offer_verdict", verdict=verdict, meaning=meaning))
        fresh = self._side.view.freshness.get(offer.mediator)
        if fresh is None or not fresh.may_book:
            raise RefusedError(said("error_too_old"))
        if now_s >= offer.until:
            raise OverError(said("error_offer_over"))
        return practice
