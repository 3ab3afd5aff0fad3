"""A passport for somebody who comes without an appointment: a sealed request that a short code finds and opens.

    code       31 letters and digits, as a recovery code: shown to one practice, and to nobody else
    request    [family name, given name, birth date, reply key, mailbox, [its nodes]]         CBOR, a recovery copy
    state      [code's secret, mail seed, reply seed, [family, given, born], [node, …], [delivery, …]]

Rules kept here: the request says nothing of a vaccine; nodes see a mailbox like any other; when a passport has come the
request is deleted. Whoever knows the code can write a passport into the wallet, and nobody else can: what makes it
count is the issuer's signature in it, which verifiers check.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date
from typing import Self

from peewit_clients.letters import MAILBOX_NODES, Letters
from peewit_clients.recovery import COPY_S, SECRET_BYTES, Recovery
from peewit_federation import cbor
from peewit_federation.draw.hashes import Person
from peewit_federation.errors import MalformedError, SenderError
from peewit_federation.keys import SigningKey, key_id, sha256
from peewit_federation.passports.messages import Delivery, delivery_context, open_delivery, with_delivery
from peewit_federation.sealed import open_sealed, xwing_public


@dataclass
class WalletState:
    """What a wallet must not lose."""

    secret: bytes = field(repr=False)
    mail_seed: bytes = field(repr=False)
    reply_seed: bytes = field(repr=False)
    person: Person = field(repr=False)
    boxes: tuple[bytes, ...] = ()
    passports: list[bytes] = field(default_factory=list, repr=False)

    @classmethod
    def new(cls, person: Person, randomness: Callable[[int], bytes]) -> Self:
        """A wallet that nobody knows of yet."""
        return cls(randomness(SECRET_BYTES), randomness(32), randomness(32), person)

    def encode(self) -> bytes:
        person = [self.person.family_name, self.person.given_name, self.person.born.isoformat()]
        return cbor.encode([self.secret, self.mail_seed, self.reply_seed, person, list(self.boxes), self.passports])

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Raises `MalformedError`."""
        match cbor.decode(data):
            case [
                bytes(secret),
                bytes(mail),
                bytes(reply),
                [str(family), str(given), str(born)],
                list(boxes),
                list(had),
            ]:
                return cls(secret, mail, reply, Person(family, given, date.fromisoformat(born)), tuple(boxes), had)
        raise MalformedError("not the state of a wallet")


@dataclass(frozen=True)
class WalkIn:
    """What the practice reads behind a code."""

    person: Person = field(repr=False)
    reply_key: bytes
    mailbox: bytes
    boxes: tuple[bytes, ...]

    @property
    def address(self) -> tuple[bytes, tuple[bytes, ...], bytes, bytes]:
        """Where the passport goes: no leave is needed, for the mailbox is open to practices."""
        return self.mailbox, self.boxes, b"", self.reply_key


def request_id(secret: bytes) -> bytes:
    """What stands in the place of `H`."""
    return sha256(b"peewit walk-in v1", secret)


class Wallet:
    """One person's wallet."""

    def __init__(self, letters: Letters, state: WalletState, save: Callable[[WalletState], None]) -> None:
        self._letters = letters
        self._save = save
        self.state = state

    async def ask(self) -> None:
        """Leave the request where the code finds it. May be repeated. Raises `UnreachableError`."""
        state, person = self.state, self.state.person
        key = SigningKey(state.mail_seed)
        until_s = int(self._letters.clock()) + COPY_S
        if state.boxes:
            await self._letters.open_mailbox_at(key, state.boxes, until_s, practices=True)
        else:
            state.boxes = await self._letters.open_mailbox(key, MAILBOX_NODES, until_s, practices=True)
            self._save(state)
        body = cbor.encode([
            person.family_name, person.given_name, person.born.isoformat(), xwing_public(state.reply_seed),
            key_id(key.public), list(state.boxes),
        ])  # fmt: skip
        await Recovery(self._letters, state.secret).save(
            int(self._letters.clock() * 1000), [body]
        )  # a later one counts

    async def fetch(self) -> list[Delivery]:
        """Passports that have come, oldest first."""
        state = self.state
        key, public = SigningKey(state.mail_seed), xwing_public(state.reply_seed)
        context = delivery_context(key_id(key.public), public)
        messages = await self._letters.read(key, state.boxes)
        came = False
        for message in messages:
            try:
                delivery = open_delivery(open_sealed(state.reply_seed, message, context))
            except SenderError:
                continue  # not sealed for us
            state.passports, came = with_delivery(state.passports, delivery), True
        if messages:
            self._save(state)
            await self._letters.delete(key, state.boxes, messages)
        if came:  # what nodes make up is no reason to take the request back
            await Recovery(self._letters, state.secret).forget()
        return [Delivery.decode(one) for one in state.passports]


async def read_walk_in(letters: Letters, secret: bytes) -> WalkIn:
    """The request behind a code. Raises `UnknownError`, `UnreachableError` or `MalformedError`."""
    copy = await Recovery(letters, secret).load()
    match cbor.decode(copy.state):
        case [str(family), str(given), str(born), bytes(reply_key), bytes(mailbox), list(boxes)]:
            try:
                return WalkIn(Person(family, given, date.fromisoformat(born)), reply_key, mailbox, tuple(boxes))
            except ValueError:
                pass
    raise MalformedError("what stands behind this code is no request for a passport")
