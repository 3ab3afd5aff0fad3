"""What one person's request is made of, and what must not be lost while it is under way.

    {0: [family name, given name, birth date], 1: group, 2: [nonce, five seeds, claim], 3: areas, 4: services,
     5: request or empty, 6: [[what a node was asked], …], 7: accept or [], 8: signed version}        CBOR

Rules kept here: everything random is drawn once, before anything is sent, so that a step that was cut short can be
taken again with the same bytes. Where it is kept, and encrypted, is left to the caller (`vault`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date
from typing import Final, Self

from peewit_clients.place import Asked
from peewit_federation import cbor
from peewit_federation.appointment.messages import Offer
from peewit_federation.appointment.request import Request
from peewit_federation.draw.api import TokenAsk
from peewit_federation.draw.blind_rsa import Blinded
from peewit_federation.draw.hashes import NONCE_BYTES, Person
from peewit_federation.errors import MalformedError
from peewit_federation.keys import SigningKey
from peewit_federation.statements.mediator import Provider

STATE_BYTES_MAX: Final = 1 << 20
INVERSE_BYTES: Final = 512
Area = tuple[bytes, bytes]
"Mediator and area."


@dataclass
class Chosen:
    """An offer that was accepted: the practice, the slot, and where the answer comes."""

    offer: Offer
    practice: Provider
    slot: bytes
    mail_seed: bytes = field(repr=False)
    reply_seed: bytes = field(repr=False)
    boxes: tuple[bytes, ...] = ()
    message: bytes = field(default=b"", repr=False)
    "The sealed accept: the same bytes, sent again, are one message."


@dataclass
class UserState:
    """One person's request."""

    person: Person = field(repr=False)
    group: str
    areas: tuple[Area, ...]
    services: tuple[str, ...]
    nonce: bytes = field(repr=False)
    "The booking secret."
    key_seed: bytes = field(repr=False)
    mail_seed: bytes = field(repr=False)
    writer_seed: bytes = field(repr=False)
    reply_seed: bytes = field(repr=False)
    claim: bytes = field(repr=False)
    request: Request | None = None
    asked: dict[Asked, tuple[Blinded, TokenAsk]] = field(default_factory=dict, repr=False)
    chosen: Chosen | None = None

    @classmethod
    def new(
        cls, person: Person, group: str, areas: tuple[Area, ...], services: tuple[str, ...],
        randomness: Callable[[int], bytes],
    ) -> Self:  # fmt: skip
        """A request that nobody knows of yet."""
        nonce, key, mail, writer, reply, claim = (randomness(size) for size in (NONCE_BYTES, 32, 32, 32, 32, 32))
        return cls(person, group, areas, tuple(sorted(services)), nonce, key, mail, writer, reply, claim)

    @property
    def key(self) -> SigningKey:
        """Of the request."""
        return SigningKey(self.key_seed)

    @property
    def mail_key(self) -> SigningKey:
        """Of the mailbox to which offers come."""
        return SigningKey(self.mail_seed)

    @property
    def writer(self) -> SigningKey:
        """With which the accept is written."""
        return SigningKey(self.writer_seed)

    def encode(self) -> bytes:
        """As it is kept."""
        asked = [
            [*name, blinded.data, blinded.inverse.to_bytes(INVERSE_BYTES, "big"), ask.encode()]
            for name, (blinded, ask) in self.asked.items()
        ]
        chosen: list[object] = []
        if self.chosen:
            c = self.chosen
            chosen = [
                c.offer.encode(),
                c.practice.encode(),
                c.slot,
                c.mail_seed,
                c.reply_seed,
                list(c.boxes),
                c.message,
            ]
        secrets = [self.nonce, self.key_seed, self.mail_seed, self.writer_seed, self.reply_seed, self.claim]
        person = [self.person.family_name, self.person.given_name, self.person.born.isoformat()]
        return cbor.encode({
            0: person, 1: self.group, 2: [list(area) for area in self.areas], 3: list(self.services), 4: secrets,
            5: self.request.encode() if self.request else b"", 6: asked, 7: chosen,
        })  # fmt: skip

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Raises `MalformedError`."""
        match cbor.decode(data, size_bytes_max=STATE_BYTES_MAX):
            case {
                0: [str(family), str(given), str(born)], 1: str(group), 2: list(areas), 3: list(services),
                4: [nonce, key, mail, writer, reply, claim], 5: bytes(request), 6: list(asked), 7: list(chosen),
            }:  # fmt: skip
                person = Person(family, given, date.fromisoformat(born))
                return cls(
                    person, group, tuple((m, a) for m, a in areas), tuple(services), nonce, key, mail, writer, reply,
                    claim, Request.decode(request) if request else None, dict(_asked(*item) for item in asked),
                    _chosen(*chosen) if chosen else None,
                )  # fmt: skip
        raise MalformedError("not the state of a request")


def _asked(
    request: bytes, origin: bytes, number: int, group: str, data: bytes, inverse: bytes, ask: bytes
) -> tuple[Asked, tuple[Blinded, TokenAsk]]:
    return (request, origin, number, group), (Blinded(data, int.from_bytes(inverse, "big")), TokenAsk.decode(ask))


def _chosen(
    offer: bytes, practice: bytes, slot: bytes, mail: bytes, reply: bytes, boxes: list[bytes], message: bytes
) -> Chosen:
    return Chosen(Offer.decode(offer), Provider.decode(practice), slot, mail, reply, tuple(boxes), message)
