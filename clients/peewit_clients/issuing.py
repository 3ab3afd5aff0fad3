"""Issuing passports, on the practice's own device.

    issuing = Issuing(practice, country, authority)
    await issuing.ask_for_key()                        the mediator vouches, or not
    passport = await issuing.issue(booking, dose)      sealed to whoever was vaccinated
    await issuing.revoke(passport_id)

Rules kept here: a key signs for 30 days, then a new one is made and the old one erased, so that a thief gets a month at
most; a key signs only while the registry says that it may; what was issued is recorded before it is sent, so that it
can be signed again; nobody but holder and practice sees a name or a dose.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from peewit_clients.bookings import Booking
from peewit_clients.certificates import make_request, read_certificate
from peewit_clients.issued import ORDER, Issued, IssuerKey
from peewit_clients.office import post_letter
from peewit_clients.practice import Practice
from peewit_clients.practice_state import ISSUER_KEY, PASSPORT
from peewit_clients.walk_in import WalkIn
from peewit_federation.draw.hashes import Person
from peewit_federation.errors import MalformedError, RefusedError, UnknownError
from peewit_federation.keys import key_id
from peewit_federation.passports.issue import RENEWAL_S, SIGNS_S, Dose, Issuer, Passport, issue
from peewit_federation.passports.messages import (
    CERTIFY,
    REVOKE,
    Delivery,
    PassportAsk,
    consented,
    delivery_context,
    proved,
    sign_ask,
    sign_delivery,
)
from peewit_federation.passports.revocation import PASSPORT_KIND
from peewit_federation.passports.signed import KID_BYTES
from peewit_federation.passports.signer import key_id as certificate_id
from peewit_federation.passports.signer import read_signer
from peewit_federation.registry.subjects import Verdict
from peewit_federation.sealed import seal
from peewit_federation.statements.kinds import MEDIATOR_KINDS, read_entry
from peewit_federation.statements.mediator import Issuer as IssuerGrant

NEXT_S: Final = 23 * 86_400
"At this age of a key the next one is asked for, so that it is there when the old one has signed for its time."
NAMED_LETTERS: Final = 8


class Issuing:
    """One practice's passports."""

    def __init__(self, practice: Practice, country: str, authority: str) -> None:
        """`authority` stands in every certificate as its issuer; it names no practice."""
        self._practice = practice
        self._state = practice.state
        self._country = country
        self._authority = authority

    def signing_keys(self) -> list[IssuerKey]:
        """Newest first."""
        return sorted(map(IssuerKey.decode, self._state.issuer_keys.values()), key=lambda key: -key.made_s)

    def issued(self) -> list[Issued]:
        """Newest first."""
        return sorted(map(Issued.decode, self._state.passports.values()), key=lambda one: -one.issued_s)

    def verdict(self, key: IssuerKey) -> Verdict:
        """Whether the registry lets a key sign now."""
        return self._look(key)[0]

    def signs_until_s(self, key: IssuerKey) -> int:
        """Until when a key signs, here and by what its mediator said."""
        _, grant = self._look(key)
        end_s = key.made_s + SIGNS_S
        return min(end_s, grant.signs_until or end_s) if grant else end_s

    def _look(self, key: IssuerKey) -> tuple[Verdict, IssuerGrant | None]:
        view = self._practice.view
        found = view.finder.look(self._state.mediator, IssuerGrant.KIND, key.subject, int(view.clock()))
        grant = read_entry(view.standing_entry(found) or b"", MEDIATOR_KINDS)
        return found.verdict, grant if isinstance(grant, IssuerGrant) else None

    async def ask_for_key(self, *, fresh: bool = False) -> list[str]:
        """Make a key (or take the one that waits), and ask the mediator to vouch for it; who took the letter."""
        now_s = int(self._practice.view.clock())
        key = self._new(now_s) if fresh else self._waiting(now_s)
        return await self._ask(CERTIFY, key.public)

    def next_is_due(self) -> bool:
        """Whether the newest key signs, but not for much longer, so that the next one should be asked for."""
        now_s, keys = int(self._practice.view.clock()), self.signing_keys()
        return bool(keys) and self.verdict(keys[0]) is Verdict.ACTIVE and now_s >= keys[0].made_s + NEXT_S

    def request(self) -> bytes:
        """A certificate request (PEM) for the newest key, for an authority outside the federation."""
        keys = self.signing_keys()
        key = keys[0] if keys else self._waiting(int(self._practice.view.clock()))
        return make_request(key.private, self._country)

    async def bring_certificate(self, data: bytes) -> list[str]:
        """Ask the mediator to vouch for a key with the certificate that an authority made for it."""
        errors = []
        now_s = self._practice.view.clock()
        for key in self.signing_keys():
            try:
                return await self._ask(CERTIFY, key.public, read_certificate(data, key.public, now_s))
            except MalformedError as error:
                errors.append(str(error))
        raise MalformedError(errors[0] if errors else "there is no key; see `peewit provider passport key`")

    def _waiting(self, now_s: int) -> IssuerKey:
        waiting = [key for key in self.signing_keys() if self.verdict(key) is Verdict.UNKNOWN]
        return waiting[0] if waiting else self._new(now_s)

    def _new(self, now_s: int) -> IssuerKey:
        number = int.from_bytes(self._practice.randomness(48), "big") % (ORDER - 1) + 1
        key = IssuerKey(ec.derive_private_key(number, ec.SECP256R1()), now_s)
        self._state.issuer_keys[key.subject] = key.encode()
        self._practice.keep((ISSUER_KEY, key.subject))
        return key

    def erase_old(self) -> int:
        """Erase keys that have signed for their time, or may not sign any more; how many."""
        now_s, ended = int(self._practice.view.clock()), (Verdict.REVOKED, Verdict.EXPIRED)
        gone = [k.subject for k in self.signing_keys() if now_s >= self.signs_until_s(k) or self.verdict(k) in ended]
        for subject in gone:
            del self._state.issuer_keys[subject]
        if gone:
            self._practice.keep(*((ISSUER_KEY, subject) for subject in gone))
        return len(gone)

    def _issuer(self) -> Issuer:
        """Who signs now. Raises `RefusedError` saying what to do."""
        self.erase_old()
        mine = self._practice.verdict
        if mine is not Verdict.ACTIVE:
            raise RefusedError(f"this practice is {mine.value} in the registry, and signs nothing; ask your mediator")
        reasons = []
        for key in self.signing_keys():
            verdict, grant = self._look(key)
            if verdict is Verdict.ACTIVE and grant is not None:
                certificate, end_s = grant.certificate, grant.not_after - 1
                kid = certificate_id(certificate) if certificate else key.subject[:KID_BYTES]
                if certificate:
                    end_s = min(end_s, read_signer(certificate).not_after_s)
                return Issuer(key.private, kid, end_s, self._country, self._authority)
            reasons.append(verdict.value)
        if Verdict.OUT_OF_SCOPE.value in reasons:
            raise RefusedError(
                "no passport can be signed: too few operators vouch for your mediator. Passports count everywhere, so "
                "it takes as many as the charter's threshold; the mediator has to ask another operator"
            )
        state = f"the key is {reasons[0]} in the registry" if reasons else "there is no key"
        raise RefusedError(
            f"no passport can be signed: {state}. `peewit provider passport key` asks the mediator to vouch for one"
        )

    async def issue(self, booking: Booking, dose: Dose, replaces: bytes = b"", machine: str = "") -> Passport:
        """Sign a passport for whoever came, and send it. Raises `RefusedError` or `MalformedError`."""
        accept = booking.accept
        address = accept.mailbox, tuple(accept.mailbox_nodes), accept.leave, accept.reply_key
        return await self._send(accept.person, dose, accept.request, address, "", replaces, machine)

    async def issue_walk_in(
        self, asked: WalkIn, request: bytes, dose: Dose, replaces: bytes = b"", machine: str = ""
    ) -> Passport:
        """The same for somebody who came without an appointment. Raises `RefusedError` or `MalformedError`."""
        return await self._send(asked.person, dose, request, asked.address, "", replaces, machine)

    async def renew(self, one: Issued) -> Passport:
        """Sign a passport anew under its old identifier, and send it."""
        if one.revoked or self.is_revoked(one):
            raise RefusedError("a revoked passport is not signed again")
        return await self._send(one.person, one.dose, one.request, one.address, one.uvci, machine=one.machine)

    def is_revoked(self, one: Issued) -> bool:
        """Whether the registry says so, whoever asked for it."""
        view = self._practice.view
        return bool(view.finder.look(self._state.mediator, PASSPORT_KIND, one.id, int(view.clock())).revocations)

    def same(self, person: Person, dose: Dose) -> Issued | None:
        """A passport of this practice that says of this person the same dose already, and counts."""
        for one in self.issued():
            told = one.person == person and (one.dose.number, one.dose.product) == (dose.number, dose.product)
            if told and not one.revoked and not self.is_revoked(one):
                return one
        return None

    def find(self, name: str) -> Issued:
        """A passport of this practice by its id, the beginning of it, or its identifier. Raises `UnknownError`."""
        text = name.strip().partition("#")[0].upper()
        found = [
            one for one in self.issued()
            if one.uvci.partition("#")[0] == text
            or (len(text) >= NAMED_LETTERS and one.id.hex().upper().startswith(text.rstrip("….")))
        ]  # fmt: skip
        if len(found) != 1:
            raise UnknownError("this practice has issued no such passport; see `peewit provider passport list`")
        return found[0]

    def require_same(self, passport: bytes, person: Person) -> None:
        """Raise `UnknownError` or `RefusedError` unless a passport of this practice is this person's."""
        record = self._state.passports.get(passport)
        if record is None:
            raise UnknownError("this practice has issued no such passport; see `peewit provider passport list`")
        old = Issued.decode(record).person
        if old.born != person.born and (old.family_name, old.given_name) != (person.family_name, person.given_name):
            # One of the two may be what was wrong.
            raise RefusedError("the passport that is to be replaced is somebody else's; nothing was signed")

    def due(self) -> list[Issued]:
        """Passports that expire within 28 days, or whose signer was revoked."""
        view, now_s = self._practice.view, int(self._practice.view.clock())
        found = []
        for one in self.issued():
            looked = view.finder.look(self._state.mediator, IssuerGrant.KIND, one.signer, now_s)
            if (
                not one.revoked
                and not self.is_revoked(one)
                and (one.expires_s - RENEWAL_S <= now_s or looked.verdict is Verdict.REVOKED)
            ):
                found.append(one)
        return found

    async def revoke(self, passport: bytes) -> list[str]:
        """Ask the mediator to revoke one passport; who took the letter. Raises `UnknownError`."""
        record = self._state.passports.get(passport)
        if record is None:
            raise UnknownError("this practice has issued no such passport; see `peewit provider passport list`")
        async with self._practice.one:
            self._state.passports[passport] = replace(Issued.decode(record), revoked=True).encode()
            self._practice.keep((PASSPORT, passport))
            await self._practice.deliver()
        return await self._ask(REVOKE, passport)

    async def _ask(self, what: int, subject: bytes, certificate: bytes = b"") -> list[str]:
        view, state = self._practice.view, self._state
        proof = consent = b""
        if what == CERTIFY:
            key = IssuerKey.decode(state.issuer_keys[key_id(subject)])
            proof = key.private.sign(proved(state.mediator, state.key.public), ec.ECDSA(hashes.SHA256()))
            consent = key.private.sign(consented(state.mediator), ec.ECDSA(hashes.SHA256()))
        now_s = int(view.clock())
        ask = PassportAsk(state.mediator, state.key.public, what, subject, now_s, certificate, proof, consent)
        return await post_letter(view, state.mediator, sign_ask(ask, state.key))

    async def _send(
        self, person: Person, dose: Dose, request: bytes, address: tuple[bytes, tuple[bytes, ...], bytes, bytes],
        uvci: str, replaces: bytes = b"", machine: str = "",
    ) -> Passport:  # fmt: skip
        practice, state, issuer = self._practice, self._state, self._issuer()
        now_s = int(practice.view.clock())
        made = issue(person, dose, issuer, now_s, practice.randomness, uvci, machine)
        public = issuer.key.public_key()
        signer = next(key.subject for key in self.signing_keys() if key.private.public_key() == public)
        mailbox, nodes, leave, reply_key = address
        record = Issued(made.uvci, person, dose, now_s, made.expires_s, signer, request, address, machine=machine)
        forms = made.hc1.encode(), made.pw1.encode()
        delivery = Delivery(request, made.id, *forms, made.expires_s, replaces, state.mediator)
        message = seal(reply_key, sign_delivery(delivery, state.key), delivery_context(mailbox, reply_key))
        async with practice.one:
            state.passports[made.id] = record.encode()
            letter = practice.post(mailbox, nodes, leave, message, made.expires_s)
            practice.keep((PASSPORT, made.id), letter)
            await practice.deliver()
        return made
