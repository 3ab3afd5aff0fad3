"""What one person's request is made of, and what must not be lost while it is under way.

    {0: [family name, given name, birth date], 1: group, 2: [nonce, five seeds, claim], 3: areas, 4: services,
     5: request or empty, 6: [[what a node was asked], …], 7: accept or [], 8: further wishes,
     9: [secret of the recovery code, number of the last copy, whether withdrawn],
     10: [mailbox of an offer that is over, …], 11: [passport as it was delivered, …],
     12: [SHA-256 of what the last copy says, the request that is to follow this one, or empty],
     13: [[what a node was asked, its token], …], 14: [operator at whose node a copy is, …],
     15: [time that stood in the last list of offers, …]}       CBOR

Rules kept here: everything random is drawn once, before anything is sent, so that a step that was cut short can be
taken again with the same bytes. Where it is kept, and encrypted, is left to the caller (`vault`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from enum import Enum
from typing import Final, Self

from peewit_clients.place import Asked
from peewit_clients.recovery import SECRET_BYTES
from peewit_federation import cbor
from peewit_federation.appointment.messages import Offer
from peewit_federation.appointment.request import Request
from peewit_federation.draw.api import TokenAsk
from peewit_federation.draw.blind_rsa import Blinded
from peewit_federation.draw.hashes import NONCE_BYTES, Person
from peewit_federation.errors import MalformedError
from peewit_federation.keys import SigningKey, sha256
from peewit_federation.statements.mediator import Provider

STATE_BYTES_MAX: Final = 1 << 20
INVERSE_BYTES: Final = 512
PASSPORTS_LEAST: Final = 5
"That a recovery copy has in any case."
DAY_S: Final = 86_400
OVER_S: Final = DAY_S
"So long after an appointment nobody comes any more."
Area = tuple[bytes, bytes]
"Mediator and area."
Extra = tuple[tuple[tuple[int, int], ...], tuple[tuple[int, int], ...], int, tuple[str, ...], str]
"Days, hours, step-free, languages, age group: as `Wishes` has them."
NO_WISHES: Final[Extra] = ((), (), 0, (), "0-120")


class Standing(Enum):
    """How an appointment stands."""

    SENT = 0
    "The practice was told who will come, and has not answered yet."
    BOOKED = 1
    DECLINED = 2
    CANCELLED = 3


@dataclass
class Chosen:
    """An offer that was accepted: the practice, the slot, where the answer comes, and what was said since."""

    offer: Offer
    practice: Provider
    slot: bytes
    mail_seed: bytes = field(repr=False)
    reply_seed: bytes = field(repr=False)
    data: dict[str, str] = field(default_factory=dict)
    "Of the practice, as its mediator verified it."
    boxes: tuple[bytes, ...] = ()
    message: bytes = field(default=b"", repr=False)
    "The sealed accept: the same bytes, sent again, are one message."
    state: Standing = Standing.SENT
    begins_s: int = 0
    minutes: int = 0
    sent: int = 0
    "Number of the last note to the practice."
    seen: list[int] = field(default_factory=lambda: [0, 0, 0])
    "Numbers of the last notes of the practice, by lane."
    words: list[tuple[int, bool, str]] = field(default_factory=list)
    "(time, whether the practice said it, what)"
    elsewhere: tuple[bytes, ...] = ()
    "Where the practice reads, if not where its offer says."
    ends_s: int = 0
    "When the mailbox for what the practice says ends."
    leave: bytes = field(default=b"", repr=False)
    "To write to the practice, if not that of its offer."
    moved_from_s: int = 0
    "When it was to begin before the practice moved it last."

    @property
    def origins(self) -> tuple[bytes, ...]:
        """Operators at whose nodes the practice reads."""
        return self.elsewhere or self.offer.mailbox_nodes

    def stands(self, now_s: float) -> bool:
        """Whether there is an appointment, or one may still be confirmed."""
        if self.state is Standing.BOOKED:
            return now_s < self.begins_s + 60 * self.minutes + OVER_S
        return self.state is Standing.SENT and now_s <= self.offer.until


@dataclass
class UserState:
    """One person's request."""

    person: Person = field(repr=False)
    group: str
    areas: tuple[Area, ...]
    services: tuple[str, ...]
    wishes: Extra
    nonce: bytes = field(repr=False)
    "The booking secret."
    key_seed: bytes = field(repr=False)
    mail_seed: bytes = field(repr=False)
    writer_seed: bytes = field(repr=False)
    reply_seed: bytes = field(repr=False)
    claim: bytes = field(repr=False)
    recovery: bytes = field(repr=False)
    "Of the recovery code."
    saved: int = 0
    "Number of the last recovery copy."
    withdrawn: bool = False
    request: Request | None = None
    asked: dict[Asked, tuple[Blinded, TokenAsk]] = field(default_factory=dict, repr=False)
    chosen: Chosen | None = None
    done: list[bytes] = field(default_factory=list)
    "Mailboxes of offers that were accepted before, and came to nothing."
    passports: list[bytes] = field(default_factory=list, repr=False)
    "Deliveries (kind 74), oldest first."
    copied: bytes = b""
    "What the last recovery copy says (`content`)."
    anew: bytes = field(default=b"", repr=False)
    "The state of the request that is to follow this one, until it has its place."
    tokens: dict[Asked, bytes] = field(default_factory=dict, repr=False)
    "Of nodes that have admitted this request, until it has its place."
    copies_at: tuple[bytes, ...] = ()
    "Operators at whose nodes recovery copies are."
    shown: tuple[bytes, ...] = ()
    "Hashes of the times that offers had when they were shown last, by number."
    copied_s: int = 0
    "When recovery copies were made last."

    @property
    def content(self) -> bytes:
        """A hash of everything that a copy has to have."""
        return sha256(replace(self, saved=0, copied=b"", copies_at=(), shown=(), copied_s=0).encode())

    def copies(self) -> Iterator[bytes]:
        """What goes into a recovery copy, from everything to what is needed most."""
        whole = replace(self, shown=())
        yield whole.encode()
        quiet = replace(whole, chosen=replace(self.chosen, words=[])) if self.chosen else whole
        yield quiet.encode()
        yield replace(quiet, passports=self.passports[-PASSPORTS_LEAST:]).encode()

    @classmethod
    def new(
        cls, person: Person, group: str, areas: tuple[Area, ...], services: tuple[str, ...],
        randomness: Callable[[int], bytes], wishes: Extra = NO_WISHES, passports: Sequence[bytes] = (),
    ) -> Self:  # fmt: skip
        """A request that nobody knows of yet, and passports from before."""
        sizes = (NONCE_BYTES, 32, 32, 32, 32, 32, SECRET_BYTES)
        nonce, key, mail, writer, reply, claim, recovery = map(randomness, sizes)
        return cls(
            person, group, areas, tuple(sorted(services)), wishes, nonce, key, mail, writer, reply, claim, recovery,
            passports=list(passports),
        )  # fmt: skip

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
                c.offer.encode(), c.practice.encode(), c.slot, c.mail_seed, c.reply_seed, c.data, list(c.boxes),
                c.message, c.state.value, c.begins_s, c.minutes, c.sent, c.seen, [list(said) for said in c.words],
                list(c.elsewhere), c.ends_s, c.leave, c.moved_from_s,
            ]  # fmt: skip
        secrets = [self.nonce, self.key_seed, self.mail_seed, self.writer_seed, self.reply_seed, self.claim]
        person = [self.person.family_name, self.person.given_name, self.person.born.isoformat()]
        return cbor.encode({
            9: [self.recovery, self.saved, self.withdrawn], 10: self.done, 11: self.passports,
            12: [self.copied, self.anew], 13: [[*name, token] for name, token in self.tokens.items()],
            14: list(self.copies_at), 15: list(self.shown), 16: self.copied_s,
            0: person, 1: self.group, 2: [list(area) for area in self.areas], 3: list(self.services), 4: secrets,
            5: self.request.encode() if self.request else b"", 6: asked, 7: chosen,
            8: [[list(span) for span in self.wishes[0]], [list(span) for span in self.wishes[1]], *self.wishes[2:]],
        })  # fmt: skip

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Raises `MalformedError`."""
        match cbor.decode(data, size_bytes_max=STATE_BYTES_MAX):
            case {
                0: [str(family), str(given), str(born)], 1: str(group), 2: list(areas), 3: list(services),
                4: [nonce, key, mail, writer, reply, claim], 5: bytes(request), 6: list(asked), 7: list(chosen),
                8: [list(days), list(hours), int(step_free), list(languages), str(age_group)],
                9: [bytes(recovery), int(saved), bool(withdrawn)], 10: list(done),
                **rest,
            }:  # fmt: skip
                wishes = _spans(days), _spans(hours), step_free, tuple(languages), age_group
                person = Person(family, given, date.fromisoformat(born))
                return cls(
                    person, group, tuple((m, a) for m, a in areas), tuple(services), wishes, nonce, key, mail, writer,
                    reply, claim, recovery, saved, withdrawn, Request.decode(request) if request else None,
                    dict(_asked(*item) for item in asked),
                    _chosen(*chosen) if chosen else None, done, _several(rest.get(11)),
                    *_copied(rest.get(12)), _tokens(rest.get(13)), tuple(_several(rest.get(14))),
                    tuple(_several(rest.get(15))), _time(rest.get(16)),
                )  # fmt: skip
        raise MalformedError("not the state of a request")


def _copied(value: object) -> tuple[bytes, bytes]:
    """Of states that were written before there was this: nothing."""
    match value:
        case [bytes(copied), bytes(anew)]:
            return copied, anew
    return b"", b""


def _time(value: object) -> int:
    """The beginning of time in a state of before it was kept."""
    return value if isinstance(value, int) else 0


def _tokens(value: object) -> dict[Asked, bytes]:
    """None in a state of before they were kept."""
    found: dict[Asked, bytes] = {}
    for item in value if isinstance(value, list) else []:
        request, origin, number, group, token = item
        found[request, origin, number, group] = token
    return found


def _asked(
    request: bytes, origin: bytes, number: int, group: str, data: bytes, inverse: bytes, ask: bytes
) -> tuple[Asked, tuple[Blinded, TokenAsk]]:
    return (request, origin, number, group), (Blinded(data, int.from_bytes(inverse, "big")), TokenAsk.decode(ask))


def read_seen(value: int | list[int]) -> list[int]:
    """One number for all lanes was kept before."""
    return [value] * 3 if isinstance(value, int) else value


def _chosen(
    offer: bytes, practice: bytes, slot: bytes, mail: bytes, reply: bytes, data: dict[str, str], boxes: list[bytes],
    message: bytes, state: int, begins_s: int, minutes: int, sent: int, seen: int | list[int],
    words: list[tuple[int, bool, str]], elsewhere: Sequence[bytes] = (), ends_s: int = 0, leave: bytes = b"",
    moved_from_s: int = 0,
) -> Chosen:  # fmt: skip
    said = [(at_s, theirs, text) for at_s, theirs, text in words]
    return Chosen(
        Offer.decode(offer), Provider.decode(practice), slot, mail, reply, data, tuple(boxes), message,
        Standing(state), begins_s, minutes, sent, read_seen(seen), said, tuple(elsewhere), ends_s, leave, moved_from_s,
    )  # fmt: skip


def _several(value: object) -> list[bytes]:
    """None in a state of before there were any."""
    return [one for one in value if isinstance(one, bytes)] if isinstance(value, list) else []


def _spans(spans: list[list[int]]) -> tuple[tuple[int, int], ...]:
    return tuple((first, last) for first, last in spans)
