"""What a practice's device must not lose: keys, calendar, offers, bookings, and letters that are still to be sent.

    facts     {0: mediator, 1: [signing seed, encryption seed], 2: application, 3: [data, salt],
               4: [[area, [seed, …]], …], 5: [[mediator, area], …], 6: [SHA-256 of a letter that was read, …],
               7: secret of the recovery code, 8: why it was not admitted}
    items     (kind, name, CBOR): a slot, an offer, a booking, a letter, an issuer key, a passport (`issuing`), or of
              each day (its number since 1970, 4 bytes) which slots were taken out: 8 bytes of each name, ascending
    journal   `journal_state`

Rules kept here: a letter stands here, sealed, before it is sent, and goes when a node has it; so whatever step is cut
short, what was promised is kept and what was decided is told. What changes stands among what the journal does not know
yet, in the same step. Where it is kept, and encrypted, is left to the caller (`drawer`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Final, Self

from peewit_clients.bookings import (
    Booking,
    Letter,
    Offered,
    booking_fields,
    offered_fields,
    read_booking,
    read_offered,
    slot_fields,
)
from peewit_clients.calendar import Slot
from peewit_clients.journal_state import JournalState, Name
from peewit_clients.recovery import SECRET_BYTES
from peewit_federation import cbor
from peewit_federation.appointment.applications import Application
from peewit_federation.appointment.queue_api import Place
from peewit_federation.cose import Sign1
from peewit_federation.errors import MalformedError
from peewit_federation.keys import SigningKey, sha256

FACTS, SLOT, OFFER, BOOKING, LETTER, ISSUER_KEY, PASSPORT, JOURNAL, TAKEN_OUT = range(9)
JOURNALED: Final = frozenset({FACTS, SLOT, OFFER, BOOKING, LETTER, PASSPORT, TAKEN_OUT})
SHORT_BYTES: Final = 8
TAKEN_OUT_MAX: Final = 8_000
"Of a day: so many fit into one entry of a journal."
DAY_S: Final = 86_400
PENDING_MAX: Final = 10_000
SLOTS_KEPT: Final = 40_000
READ_MAX: Final = 200
Item = tuple[int, bytes, bytes | None]
"(kind, name, body); no body: it goes."


@dataclass
class PracticeState:
    """One practice's device."""

    mediator: bytes
    key_seed: bytes = field(repr=False)
    encryption_seed: bytes = field(repr=False)
    application: bytes = b""
    "As it was signed, so that it can be sent again."
    data: bytes = b""
    "What the mediator has verified; nothing before it admitted us."
    salt: bytes = b""
    area_seeds: dict[bytes, list[bytes]] = field(default_factory=dict, repr=False)
    "By name of the area: seeds of its keys, from its mediator."
    places: list[Place] = field(default_factory=list)
    calendar: dict[bytes, Slot] = field(default_factory=dict)
    taken_out: dict[bytes, list[bytes]] = field(default_factory=dict)
    "By day, slots that are not in the calendar any more: a copy of the disk may have them as new ones."
    offered: dict[bytes, Offered] = field(default_factory=dict)
    "By `H`."
    booked: dict[bytes, Booking] = field(default_factory=dict)
    "By slot."
    letters: dict[bytes, Letter] = field(default_factory=dict)
    "By SHA-256 of the message."
    issuer_keys: dict[bytes, bytes] = field(default_factory=dict, repr=False)
    "By subject."
    passports: dict[bytes, bytes] = field(default_factory=dict, repr=False)
    "By id: what was issued."
    read: list[bytes] = field(default_factory=list)
    "SHA-256 of letters of the mediator that were read."
    secret: bytes = field(default=b"", repr=False)
    "Behind the recovery code, from which the keys follow."
    journal: JournalState = field(default_factory=JournalState)
    rejected: str = ""
    "Why the mediator did not admit it, if that was its last word."

    @classmethod
    def new(cls, mediator: bytes, randomness: Callable[[int], bytes]) -> Self:
        """A practice that nobody knows of yet."""
        return cls.of_secret(randomness(SECRET_BYTES), mediator)

    @classmethod
    def of_secret(cls, secret: bytes, mediator: bytes = b"") -> Self:
        """The keys behind a recovery code, and nothing else."""
        signing, encryption = (
            sha256(f"peewit practice {what} key v1".encode(), secret) for what in ("signing", "sealing")
        )
        return cls(mediator, signing, encryption, secret=secret)

    @property
    def key(self) -> SigningKey:
        """With which it signs."""
        return SigningKey(self.key_seed)

    @property
    def known(self) -> dict[str, str]:
        """What the mediator has verified, in words."""
        found = cbor.decode(self.data) if self.data else {}
        return found if isinstance(found, dict) else {}

    @property
    def services(self) -> tuple[str, ...]:
        """For which it applied; none before."""
        return Application.decode(Sign1.parse(self.application).payload).services if self.application else ()

    def free(self, now_s: float, notice_s: float = 0.0) -> list[Slot]:
        """Slots of the calendar that do not begin within `notice_s`, and are neither promised nor booked."""
        promised = {name for offer in self.offered.values() if offer.until_s > now_s for name in offer.slots}
        return [
            slot for name, slot in self.calendar.items()
            if slot.begins_s > now_s + notice_s and name not in promised and name not in self.booked
        ]  # fmt: skip

    def take_out(self, name: bytes) -> list[Name]:
        """Take a slot out of the calendar; what changed."""
        slot = self.calendar.pop(name, None)
        if slot is None:
            return []
        day = (slot.begins_s // DAY_S).to_bytes(4, "big")
        self.taken_out[day] = sorted({*self.taken_out.get(day, ()), name[:SHORT_BYTES]})[:TAKEN_OUT_MAX]
        return [(SLOT, name), (TAKEN_OUT, day)]

    def was_taken_out(self, slot: Slot) -> bool:
        """Whether any device of this practice took it out of the calendar."""
        return slot.name[:SHORT_BYTES] in self.taken_out.get((slot.begins_s // DAY_S).to_bytes(4, "big"), ())

    def changed(self, *names: Name) -> list[Item]:
        """These things as they are now, and that the journal does not know it yet: what is to be kept in one step."""
        self.journal.pending |= dict.fromkeys(name for name in names if name[0] in JOURNALED)
        if len(self.journal.pending) > PENDING_MAX:
            # All is written, then; of what a device that was behind keeps, the names stay.
            kept = [name for name in self.journal.pending if name[0] == SLOT][-SLOTS_KEPT:]
            self.journal.pending, self.journal.whole = dict.fromkeys(kept), True
        return [*(self.item(*name) for name in dict.fromkeys(names)), self.item(JOURNAL)]

    def names(self) -> list[Name]:
        """Of everything that there is, but the journal."""
        parts: tuple[tuple[int, dict[bytes, Any]], ...] = (
            (SLOT, self.calendar), (OFFER, self.offered), (BOOKING, self.booked), (LETTER, self.letters),
            (ISSUER_KEY, self.issuer_keys), (PASSPORT, self.passports), (TAKEN_OUT, self.taken_out),
        )  # fmt: skip
        return [(FACTS, b""), *((kind, name) for kind, part in parts for name in part)]

    def require_mine(self, items: Iterable[Item]) -> Self:
        """A state of this practice. Raises `MalformedError`."""
        known = [(kind, name, body) for kind, name, body in items if body is not None]
        try:
            found = self.load(known)
        except (TypeError, ValueError) as error:
            raise MalformedError(f"a journal that another version wrote: {error}") from None
        if found is None or found.key_seed != self.key_seed:
            raise MalformedError("a journal of another practice, or without its keys")
        return found

    def take_over(self, items: Iterable[Item]) -> None:
        """Put what the journal says in the place of what there is, but for what never leaves the device."""
        found = self.require_mine(items)
        found.issuer_keys, found.journal = self.issuer_keys, self.journal
        vars(self).update(vars(found))

    def item(self, kind: int, name: bytes = b"") -> Item:
        """One thing as it is kept now; without a body if there is none any more."""
        body: object = None
        if kind == JOURNAL:
            return kind, name, self.journal.encode()
        if kind == FACTS:
            body = {
                0: self.mediator, 1: [self.key_seed, self.encryption_seed], 2: self.application,
                3: [self.data, self.salt], 4: [[area, seeds] for area, seeds in self.area_seeds.items()],
                5: [[p.mediator, p.area] for p in self.places], 6: self.read[-READ_MAX:], 7: self.secret,
                8: self.rejected,
            }  # fmt: skip
        elif kind == SLOT and name in self.calendar:
            body = slot_fields(self.calendar[name])
        elif kind == TAKEN_OUT and name in self.taken_out:
            body = b"".join(self.taken_out[name])
        elif kind == OFFER and name in self.offered:
            body = offered_fields(self.offered[name])
        elif kind == BOOKING and name in self.booked:
            body = booking_fields(self.booked[name])
        elif kind == LETTER and name in self.letters:
            letter = self.letters[name]
            body = [letter.address, list(letter.origins), letter.leave, letter.message, letter.until_s, letter.once]
        elif kind == ISSUER_KEY:
            return kind, name, self.issuer_keys.get(name)
        elif kind == PASSPORT:
            return kind, name, self.passports.get(name)
        return kind, name, None if body is None else cbor.encode(body)

    @property
    def unsent(self) -> int:
        """How many letters no node has yet."""
        return sum(not letter.once for letter in self.letters.values())

    @classmethod
    def load(cls, items: Iterable[tuple[int, bytes, bytes]]) -> Self | None:
        """What was kept; None if nothing was. Raises `MalformedError`."""
        found, rest = None, []
        for kind, name, body in items:
            if kind == FACTS:
                found = cls._facts(cbor.decode(body))
            else:
                rest.append((kind, name, body))
        for kind, name, body in rest if found else ():
            assert found is not None
            value: Any = cbor.decode(body)
            if kind == JOURNAL:
                found.journal = JournalState.decode(body)
            elif kind == ISSUER_KEY:
                found.issuer_keys[name] = body
            elif kind == PASSPORT:
                found.passports[name] = body
            elif kind == SLOT:
                found.calendar[name] = Slot(*value)
            elif kind == TAKEN_OUT:
                found.taken_out[name] = [value[i : i + SHORT_BYTES] for i in range(0, len(value), SHORT_BYTES)]
            elif kind == OFFER:
                found.offered[name] = read_offered(*value)
            elif kind == BOOKING:
                found.booked[name] = read_booking(*value)
            elif kind == LETTER:
                address, origins, *rest_of_it = value
                found.letters[name] = Letter(address, tuple(origins), *rest_of_it)
        return found

    @classmethod
    def _facts(cls, value: object) -> Self:
        match value:
            case {
                0: bytes(mediator), 1: [bytes(key), bytes(encryption)], 2: bytes(application),
                3: [bytes(data), bytes(salt)], 4: list(seeds), 5: list(places), 6: list(read), 7: bytes(secret),
                **later,
            }:  # fmt: skip
                areas = dict(seeds)
                known = [Place(*place) for place in places]
                return cls(
                    mediator, key, encryption, application, data, salt, areas, known, read=read, secret=secret,
                    rejected=str(later.get(8, "")),
                )  # fmt: skip
        raise MalformedError("not the state of a practice")
