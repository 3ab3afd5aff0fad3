"""A practice at work: it hears from its mediator, confirms, reads notes, draws the next in line, and offers them slots.

    server = Server(practice, office, ServeSettings())
    while True:
        told = await server.turn()

Rules kept here: whoever comes first in the proven order is offered first; who wishes what no free slot offers is passed
over for now, without losing the place; as many are asked as there are free slots for their offers. One turn may be cut
short anywhere; the next goes on. What fails in a turn fails alone, but a device that is behind does nothing more.
"""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass, field
from datetime import tzinfo

from peewit_clients.appointments import Appointments
from peewit_clients.bookings import Booking
from peewit_clients.calendar import Slot, fitting
from peewit_clients.drawing import Drawn
from peewit_clients.facilities import Facilities
from peewit_clients.issuing import Issuing
from peewit_clients.journal import BehindError
from peewit_clients.offers import AHEAD_S_MAX
from peewit_clients.office import Office
from peewit_clients.passing import PassedOver
from peewit_clients.practice import Practice, everybody
from peewit_federation.appointment.messages import Accept
from peewit_federation.appointment.notes import Note
from peewit_federation.appointment.queue_api import Place
from peewit_federation.appointment.request import area_name
from peewit_federation.errors import PeewitError, SenderError
from peewit_federation.registry.subjects import Verdict

DRAW_MAX = 50
LOOK_MAX = 2000
"So many requests of one area are looked at in a turn."
RECHECK_TURNS = 60
NOTES_TURNS = 3
FAILURES_MAX = 3
"Offers in a row of one draw that no node helped to make."


@dataclass(frozen=True)
class ServeSettings:
    """How a practice offers."""

    slots_per_offer: int = 2
    answer_s: int = 24 * 3600
    "How long an offer may be answered."
    notice_s: int = 2 * 3600
    "Slots that begin sooner are offered to nobody."
    by_hand: bool = False
    "Whoever accepts waits until a person at the practice has decided."
    zone: tzinfo | None = None
    "Of the practice; none: that of the machine."


@dataclass
class Turn:
    """What happened in one turn."""

    letter: str = ""
    bookings: list[Booking] = field(default_factory=list)
    notes: list[tuple[Booking, Note]] = field(default_factory=list)
    ended: list[Booking] = field(default_factory=list)
    offers: int = 0
    waiting: int = 0
    "Drawn whom no free slot suits, or who need another way in or language."
    asking: int = 0
    "Who accepted and waits for a person's decision."
    verdict: Verdict = Verdict.ACTIVE
    "How the practice stands."

    @property
    def stopped(self) -> bool:
        """Whether nothing may be offered."""
        return self.verdict is not Verdict.ACTIVE


def nobody_yet(_: Accept) -> None:
    """Leave it to a person."""


class Server:
    """One practice's daily work."""

    def __init__(self, practice: Practice, office: Office, settings: ServeSettings) -> None:
        self.practice = practice
        self.office = office
        self.acts = Appointments(practice)
        self.settings = settings
        self._turns = 0
        self._over: dict[Place, PassedOver] = {}

    async def turn(self) -> Turn:
        """Do what is to be done now. What fails is in the practice's complaints."""
        told, practice = Turn(), self.practice
        try:
            await practice.view.refresh([practice.state.mediator])
            steps = [self._ready, self._hear, self._confirm, self._read, self._look_again, self._offer]
        except PeewitError as error:
            practice.complaints.append(str(error))
            steps = []
        for step in steps:
            try:
                await step(told)
            except PeewitError as error:
                practice.complaints.append(str(error))
                if isinstance(error, BehindError):
                    break
        self._turns += 1
        return told

    async def _ready(self, _: Turn) -> None:
        if self.practice.state.data:
            await self.practice.ready()

    async def _hear(self, told: Turn) -> None:
        if self._turns % NOTES_TURNS == 0:
            told.letter = await self.office.receive()

    async def _confirm(self, told: Turn) -> None:
        told.bookings = await self.practice.confirm(nobody_yet if self.settings.by_hand else everybody)
        told.asking = len(self.practice.asking)

    async def _read(self, told: Turn) -> None:
        if self._turns % NOTES_TURNS == 0:
            told.notes = await self.acts.read()

    async def _look_again(self, told: Turn) -> None:
        """Whether claims still count, what is long over, and what is due now and then."""
        practice = self.practice
        late = practice.late and not practice.journal.waiting
        if not late and self._turns % RECHECK_TURNS:
            return
        if late:
            practice.caught_up()
        told.ended = await self.acts.recheck()
        await self.acts.forget()
        await practice.mend()
        issuing = Issuing(practice, "", "")
        if issuing.next_is_due():
            await issuing.ask_for_key(fresh=True)

    async def _offer(self, told: Turn) -> None:
        practice = self.practice
        told.verdict = practice.verdict
        if told.stopped or not practice.state.data:
            return
        for place in practice.places:
            try:
                await self._offer_in(told, place, self._over.setdefault(place, PassedOver()))
            except BehindError:
                raise
            except PeewitError as error:
                practice.complaints.append(str(error))  # other areas have other nodes
            told.waiting += len(self._over[place])

    async def _offer_in(self, told: Turn, place: Place, over: PassedOver) -> None:
        """Draw in one area, and offer what is free now; what becomes free meanwhile is for whoever is first then."""
        practice, looked = self.practice, set[object]()
        facilities = Facilities.of(practice.state.known)
        keys = practice.state.area_seeds.get(area_name(place.mediator, place.area), [])
        begun = {slot.name for slot in self._free()}
        over.look_again(self._free(), facilities, keys, self.settings.zone, practice.view.clock())
        asked = -(-len(begun) // self.settings.slots_per_offer)
        while self._free(begun) and len(looked) < LOOK_MAX:
            # Whom nothing suits is passed over: beyond them somebody may fit.
            asked = min(DRAW_MAX, max(1, asked))
            names, anew = over.take(practice.view.clock())
            known = over.known(practice.view.clock())
            try:
                drawn = await practice.draw(place, asked, names, anew=anew, known=known)
            except PeewitError:
                over.begin_anew()
                raise
            seen, now_s = practice.drawing.seen, practice.view.clock()
            for name, version in seen.useless.items():
                over.add(name, version, None, now_s)
            for one in seen.ours:
                over.add(one.request.name, one.request.version, one.wishes, now_s)
            over.tell_again(seen.again, now_s)
            await self._offer_to(told, place, [one for one in drawn if one.request.name not in looked], over, begun)
            if seen.looked <= looked:
                break
            looked |= seen.looked
            asked *= 2
        over.left(self._free(begun))

    async def _offer_to(
        self, told: Turn, place: Place, drawn: list[Drawn], over: PassedOver, begun: set[bytes]
    ) -> None:
        """Offer to whom something suits of what was free as the turn began."""
        practice, settings, failures = self.practice, self.settings, 0
        facilities = Facilities.of(practice.state.known)
        for one in drawn:
            free, name, version = self._free(begun), one.request.name, one.request.version
            slots = fitting(free, one.wishes, settings.zone, settings.slots_per_offer)
            if practice.unanswered.in_vain(one.request):
                over.add(name, version, None, practice.view.clock())
                continue
            if not slots or not facilities.suit(one.wishes):
                if free:  # else whoever is drawn is left for what becomes free next
                    over.add(name, version, one.wishes, practice.view.clock())
                continue
            until_s = min(int(practice.view.clock()) + settings.answer_s, slots[0].begins_s - settings.notice_s // 2)
            try:
                await practice.offer(place, one, slots, until_s)
                told.offers += 1
                failures = 0
            except PeewitError as error:
                failures += not isinstance(error, SenderError)
                if failures == FAILURES_MAX or isinstance(error, BehindError):
                    raise  # it is not about this person
                practice.complaints.append(str(error))
                if isinstance(error, SenderError):
                    over.add(name, version, None, practice.view.clock())

    def _free(self, among: Container[bytes] | None = None) -> list[Slot]:
        """What can be offered now, perhaps only `among` some."""
        practice, now_s = self.practice, self.practice.view.clock()
        free = practice.state.free(now_s, self.settings.notice_s)
        shown = [slot for slot in free if slot.begins_s < now_s + AHEAD_S_MAX]  # nobody is shown what lies beyond
        return [slot for slot in shown if among is None or slot.name in among]
