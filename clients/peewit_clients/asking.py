"""A person's request: into the queue, again, out of it, and back into it after a booking that ended (design 4.6).

Rules kept here: wishes are sealed for each area; a later version replaces an earlier one; a request that a practice
claimed is opened again at most five times.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import Final

from peewit_clients.areas import label
from peewit_clients.backend import BackendError, UnreachableError
from peewit_clients.letters import BOXES_MAX, MAILBOX_NODES
from peewit_clients.place import Admitter, Place, Prove
from peewit_clients.together import together
from peewit_clients.user_side import UserSide
from peewit_clients.user_state import Extra, Standing
from peewit_clients.words import said, verdict_line
from peewit_federation.appointment.queue_api import ROUNDS_MAX
from peewit_federation.appointment.request import (
    OPENINGS,
    Request,
    Wishes,
    area_name,
    claim_hash,
    wishes_context,
)
from peewit_federation.appointment.spoken import SAID, decode_standing, shown_claim, shown_version
from peewit_federation.draw.hashes import data_hash, request_hash
from peewit_federation.errors import RefusedError, SenderError, UnknownError
from peewit_federation.keys import key_id
from peewit_federation.registry.subjects import Verdict
from peewit_federation.sealed import seal, xwing_public
from peewit_federation.statements.mediator import Catchment

TRIES: Final = 3
"Against copies of this device that go on saying more."


class Asking:
    """What becomes of a request, until somebody makes an offer."""

    def __init__(self, side: UserSide) -> None:
        self._side = side
        self.place: Place | None = None
        self._told: dict[bytes, int] = {}
        "How the request stands, by area, as nodes said last."

    async def ask(self, prove: Prove) -> Request:
        """Get a place in the queue, and put the request into it. May be repeated."""
        state = self._side.state
        if state.request is None:
            self._serves(state.group)
            sealed = self._sealed(state.services, state.wishes)  # what is wrong is found before a code is spent
            self._side.save()
            data = data_hash(state.person, state.nonce)
            name = request_hash(
                [area_name(*area) for area in state.areas], key_id(state.key.public), claim_hash(state.claim), data
            )
            near = self._side.ends()
            admitter = Admitter(
                self._side.view, self._side.randomness, state.asked, self._side.save, near, state.tokens
            )  # fmt: skip
            # Signed, and so the first to be refused if our clock is wrong: before a code is spent, too.
            boxes = await self._side.letters.open_mailbox(
                state.mail_key, MAILBOX_NODES, self._side.mailbox_until_s(self._side.present()), practices=True,
                near=near,
            )  # fmt: skip
            place = self.place = await admitter.get(name, state.group, prove)
            state.request = Request(
                state.areas, data, state.key.public, place.round, place.tokens, place.ticket.encode(), 1,
                claim_hash(state.claim), key_id(state.mail_key.public), boxes, sealed, state.group,
            )  # fmt: skip
            state.asked.clear()
            state.tokens.clear()
            self._side.save()
        elif await self.mend_mailbox():
            return state.request
        await self._upload(state.request)
        return state.request

    def _serves(self, group: str) -> None:
        """Raise `RefusedError` if an area has no such group: its nodes would not take the request."""
        for area in self._side.state.areas:
            catchment = self.catchment(*area)
            if group and group not in catchment.groups:
                others = ", ".join(catchment.groups) or said("error_group_none")
                raise RefusedError(said("error_group", area=label(catchment), group=group, groups=others))

    async def mend_mailbox(self) -> bool:
        """Have the mailbox for offers at two nodes again, if one could not be reached then or has left since.

        True if another version of the request, which says so, was brought.
        """
        side, request = self._side, self._side.asked()
        lacking = MAILBOX_NODES - side.letters.stay(request.mailbox_nodes)
        if lacking <= 0 or side.state.chosen is not None or side.state.withdrawn:
            return False
        until_s, key = side.mailbox_until_s(request.round), side.state.mail_key
        try:
            more = await side.letters.open_mailbox(
                key, lacking, until_s, practices=True, besides=request.mailbox_nodes, near=side.ends()
            )
            # A number is used once, whatever becomes of this.
            side.state.request = replace(request, version=request.version + 1)
            side.save()
            # Those that left go on for a while, and who offered before may have written there.
            boxes = (*more, *request.mailbox_nodes)[:BOXES_MAX]
            better = replace(request, mailbox_nodes=boxes, version=request.version + 2)
            await self._upload(better)
            if side.asked().version > better.version:
                return False  # a later one was shown; the next time goes on from there
        except (UnreachableError, UnknownError):
            return False  # perhaps the next time
        side.state.request = better
        side.save()
        return True

    def catchment(self, mediator: bytes, area: bytes) -> Catchment:
        """An area that may be asked now. Raises `UnknownError`."""
        found = self._side.view.finder.look(mediator, Catchment.KIND, area, int(self._side.view.clock()))
        statement = self._side.area(mediator, area)
        if found.verdict is not Verdict.ACTIVE or statement is None:
            raise UnknownError(said("error_area_lapsed", verdict=said(verdict_line(found.verdict))))
        if not statement.keys:
            raise UnknownError(said("error_area_keyless"))
        return statement

    @staticmethod
    def _seal(area: bytes, catchment: Catchment, wishes: bytes, now_s: float) -> bytes:
        _, key = max(((begins, key) for begins, key in catchment.keys if begins <= now_s), default=(0, b""))
        if not key:
            raise UnknownError(said("error_area_keyless"))
        return seal(key, wishes, wishes_context(area, key, catchment.salt))

    @property
    def ended(self) -> bool:
        """Whether the request has waited for as long as requests do: no node has it any more."""
        request, schedule = self._side.state.request, self._side.view.charter.schedule
        if request is None or schedule is None:
            return False
        return schedule.round_at(self._side.view.clock()) - request.round > ROUNDS_MAX

    async def states(self) -> dict[bytes, int]:
        """How the request stands, by the name of each area, as the nodes say; brings it to those that lack it."""
        await self._upload(self._side.asked())
        return dict(self._told)

    async def _upload(self, request: Request) -> bool:
        """Bring a request to the nodes of its areas; whether a practice has claimed it.

        A later version that nodes show is taken over: this device was put back from a copy.
        """
        shown = replace(request, wishes=()) if self._side.state.withdrawn else request
        body, taken, refusals, claimed = shown.sign(self._side.state.key), 0, [], False
        # Also where an area may not be asked any more: a node may still have the request, and the others count.
        areas = [known for area in request.areas if (known := self._side.area(*area)) is not None]
        origins = dict.fromkeys(origin for known in areas for origin in known.nodes)
        backends = self._side.letters.nodes(tuple(origins))
        results = await together(self._side.view.pool.post(backend, "/v1/requests", body) for backend in backends)
        self._told.clear()
        later: Request | None = None
        for backend, result in zip(backends, results, strict=True):
            if isinstance(result, BackendError):
                refusals.append(f"{backend.name}: {result}")
                continue
            taken += 1
            try:
                told, instead = decode_standing(result)
                if instead is not None and instead[0] == SAID:
                    claimed = shown_claim(instead[1], request) is not None
                elif instead is not None:
                    version = shown_version(instead[1], request)
                    later = version if later is None or version.version > later.version else later
            except SenderError as error:
                self._side.view.pool.complain(backend.name, f"how a request stands: {error}")
                continue
            # Nodes tell each other; who knows of more that happened has the larger state.
            self._told |= {area: max(state, self._told.get(area, state)) for area, state in told.items()}
        if not taken:
            raise UnreachableError(said("error_untaken", why="; ".join(refusals)))
        if later is not None and later.version >= shown.version and later != shown:
            self._take_over(later)
        return claimed

    def _take_over(self, later: Request) -> None:
        """What this request's own key has signed since this device's copy was made."""
        state, request = self._side.state, self._side.asked()
        state.request = replace(later, wishes=later.wishes or request.wishes)
        state.withdrawn = not later.wishes
        self._side.save()

    async def change(self, services: tuple[str, ...], wishes: Extra) -> None:
        """Wish for something else, in the same place. May be repeated.

        Raises `RefusedError` once a time was chosen, or after the request was withdrawn, and `UnknownError` for what
        none of its areas offers.
        """
        side, request = self._side, self._side.asked()
        if side.state.chosen is not None or side.state.withdrawn:
            raise RefusedError(said("error_not_waiting"))
        known = {service for area in request.areas if (c := side.area(*area)) for service in c.services}
        if not set(services) & known:
            raise UnknownError(said("error_services", services=", ".join(services), others=", ".join(sorted(known))))
        sealed = self._sealed(services, wishes, request.wishes)
        side.state.services, side.state.wishes = services, wishes
        await self._bring(replace(request, wishes=sealed))

    def _sealed(self, services: tuple[str, ...], extra: Extra, before: tuple[bytes, ...] = ()) -> tuple[bytes, ...]:
        """Wishes, for each area in turn; those of an area that may not be asked any more stay as they were `before`.

        Raises `MalformedError` for what cannot be said, `UnknownError` if no area may be asked.
        """
        state, now_s = self._side.state, self._side.view.clock()
        wishes = Wishes(xwing_public(state.reply_seed), key_id(state.writer.public), services, *extra).encode()
        sealed, failures = list(before), list[UnknownError]()
        for number, area in enumerate(state.areas):
            try:
                anew = self._seal(area_name(*area), self.catchment(*area), wishes, now_s)
            except UnknownError as error:
                failures.append(error)
                continue
            sealed[number : number + 1] = [anew]
        if failures and (not before or len(failures) == len(state.areas)):
            raise failures[0]
        return tuple(sealed)

    async def renew(self) -> None:
        """Bring a later version: who did not answer offers is drawn again, in the old place. May be repeated."""
        await self._bring(self._resealed(self._side.asked()))

    def _resealed(self, request: Request) -> Request:
        """With the same wishes, sealed to the keys that areas have now; as it is if none may be asked now."""
        state = self._side.state
        with suppress(UnknownError):
            return replace(request, wishes=self._sealed(state.services, state.wishes, request.wishes))
        return request

    async def withdraw(self) -> None:
        """Take the request out of all queues, for whoever wants no appointment any more. May be repeated.

        Raises `RefusedError` while an appointment stands.
        """
        request, chosen = self._side.asked(), self._side.state.chosen
        if chosen is not None and chosen.stands(self._side.view.clock()):
            raise RefusedError(said("error_stands"))
        self._side.state.withdrawn = True
        claimed = chosen is not None and chosen.state in (Standing.BOOKED, Standing.CANCELLED)
        if chosen is not None and chosen.state is Standing.SENT:
            # An offer that is over: what was accepted ends nothing any more, and nothing that comes late revives it.
            self._side.state.done.append(chosen.offer.mailbox)
            self._side.state.chosen = None
            request = replace(request, opened=min(request.opened + 1, OPENINGS - 1))
        try:
            await self._bring(request)
        except UnreachableError:
            if not claimed:
                raise
            self._side.save()  # a practice has claimed it: it is in no queue

    async def reopen(self) -> None:
        """Ask again after a booking ended, or a practice never answered or may not act, in the old place.

        Raises `RefusedError` while an appointment stands, and after so many times that nobody means it.
        """
        request, chosen = self._side.asked(), self._side.state.chosen
        lost = self._side.practice_verdict() in (Verdict.SUSPENDED, Verdict.REVOKED, Verdict.EXPIRED)
        if chosen is not None and not lost and chosen.stands(self._side.view.clock()):
            raise RefusedError(said("error_stands"))
        if chosen is not None and not lost and chosen.state is Standing.BOOKED:
            raise RefusedError(said("error_visit_over"))
        if chosen is not None and chosen.state is not Standing.DECLINED:
            if request.opened + 1 >= OPENINGS:
                raise RefusedError(said("error_opened_often", count=OPENINGS - 1))
            request = replace(request, opened=request.opened + 1)
        if chosen is not None:
            self._side.state.done.append(chosen.offer.mailbox)
        self._side.state.chosen = None
        self._side.state.withdrawn = False
        self._side.state.shown = ()
        request = self._resealed(request)
        claimed = await self._bring(request)
        if claimed and request.opened + 1 < OPENINGS:
            # A practice that declined, or another, had claimed it at some node already.
            await self._bring(replace(self._side.asked(), opened=request.opened + 1))

    async def _bring(self, request: Request) -> bool:
        """Bring the next version; whether a practice has claimed it."""
        withdrawn = self._side.state.withdrawn
        if not withdrawn:
            with suppress(UnreachableError):  # it lives as long as the request
                await self._side.letters.open_mailbox_at(
                    self._side.state.mail_key, request.mailbox_nodes, self._side.mailbox_until_s(request.round),
                    practices=True,
                )  # fmt: skip
        for _ in range(TRIES):
            mine = self._side.state.request = replace(request, version=request.version + 1)
            self._side.save()
            claimed = await self._upload(mine)
            now = self._side.asked()
            if now is mine:
                return claimed
            # Another copy of this device has said more: what is said now comes after that.
            self._side.state.withdrawn = withdrawn
            request = replace(request, version=now.version, opened=max(request.opened, now.opened))
        raise UnreachableError(said("error_overtaken"))
