"""How a practice and its mediator come together, sealed (design 4.6).

    letter         [work, [[key id of a device's encryption key, sealed], …]]        for a mediator's letterbox at nodes
    application    kind 70, COSE_Sign1 by the practice, "peewit application v1"; sealed to every device of the mediator
    decision       kind 71, COSE_Sign1 by a device, "peewit decision v1"; sealed to the practice
    shared keys    kind 72, COSE_Sign1 by a device, "peewit shared keys v1"; sealed to the other devices
    first yes      kind 75, COSE_Sign1 by a device, "peewit first yes v1"; sealed to the other devices

Rules kept here: syntax and bounds; a letter costs work, because anybody may write one; a copy is sealed to each device,
so that a deputy can open it. Who may decide is asked elsewhere.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import ClassVar, Final

from peewit_federation import cbor
from peewit_federation.appointment.messages import DATA_BYTES_MAX, TIME
from peewit_federation.cose import Sign1, sign1
from peewit_federation.errors import MalformedError, RefusedError
from peewit_federation.keys import XWING_PUBLIC_BYTES, PublicKey, SigningKey, key_id, sha256
from peewit_federation.sealed import OVERHEAD_BYTES, SIZE_CLASSES, Context
from peewit_federation.statements.codec import SERVICE, Bytes, Many, Record, Statement, Text, Uint, labelled

DEVICES_MAX: Final = 8
KEYS_MAX: Final = 256
"Of areas, in one letter."
LETTER_BYTES_MAX: Final = 64 * 1024
LETTERS_MAX: Final = 100
"That a node gives at a time."
WORK_BITS: Final = 18
WORK_BYTES: Final = 8
REASON: Final = Text("reason", r"[^\x00-\x1f\x7f]{0,500}")
CODE: Final = Text("signup code", r"[A-Za-z0-9-]{0,64}")


@dataclass(frozen=True)
class Application(Statement):
    """A practice that wants to be admitted."""

    KIND: ClassVar[int] = 70

    mediator: bytes = labelled(2, Bytes(32))
    signing_key: bytes = labelled(3, Bytes(32))
    encryption_key: bytes = labelled(4, Bytes(XWING_PUBLIC_BYTES))
    areas: tuple[bytes, ...] = labelled(5, Many(Bytes(16), 16))
    services: tuple[str, ...] = labelled(6, Many(SERVICE, 32))
    data: bytes = labelled(7, Bytes(1, DATA_BYTES_MAX))
    "Name, address and so on: CBOR map of texts."
    code: str = labelled(8, CODE, "")
    "A signup code, where the mediator asks for one."
    time: int = labelled(9, TIME, 0)
    "POSIX seconds."


@dataclass(frozen=True)
class Decision(Statement):
    """What a mediator has decided, and the keys that an admitted practice needs. Later ones bring new keys."""

    KIND: ClassVar[int] = 71

    practice: bytes = labelled(2, Bytes(32))
    "Id of its signing key."
    admitted: int = labelled(3, Uint(1))
    reason: str = labelled(4, REASON, "")
    data: bytes = labelled(5, Bytes(0, DATA_BYTES_MAX), b"")
    "As it was verified and committed to; none: as before."
    salt: bytes = labelled(6, Bytes(0, 32), b"")
    keys: tuple[tuple[bytes, bytes], ...] = labelled(
        7, Many(Record((Bytes(16), Bytes(32))), KEYS_MAX, ordered=True), ()
    )
    "(area, seed of a key to which requests are sealed), the newest of each area first"


@dataclass(frozen=True)
class SharedKeys(Statement):
    """What one device of a mediator tells the others, so that a deputy can go on."""

    KIND: ClassVar[int] = 72

    keys: tuple[tuple[bytes, bytes], ...] = labelled(2, Many(Record((Bytes(16), Bytes(32))), KEYS_MAX, ordered=True))


@dataclass(frozen=True)
class FirstYes(Statement):
    """What one device of a mediator would do, where it takes two: another one's yes does it."""

    KIND: ClassVar[int] = 75

    wishes: tuple[bytes, ...] = labelled(2, Many(Bytes(32), 64))
    "Digests of the letters of applications, hashes of what practices ask for passports; ascending."


def sign_for(message: Application | Decision | SharedKeys | FirstYes, key: SigningKey) -> bytes:
    """The signed bytes."""
    return sign1(message.encode(), _purpose(type(message)), key).encode()


def read_application(data: bytes) -> Application:
    """Parse and verify. Raises `MalformedError`, `LimitError` or `ForgeryError`."""
    signed = Sign1.parse(data)
    signed.refuse_countersignature(_purpose(Application))
    application = Application.decode(signed.payload)
    signed.verify(_purpose(Application), PublicKey(application.signing_key))
    return application


def signer_of(data: bytes) -> bytes:
    """The id of the key that a decision or shared keys say they are signed with. Raises `MalformedError`."""
    return Sign1.parse(data).kid


def read_decision(data: bytes, key: bytes) -> Decision:
    """Parse and verify with a device's log key. Raises `MalformedError`, `LimitError` or `ForgeryError`."""
    return Decision.decode(_verified(data, Decision, key))


def read_shared(data: bytes, key: bytes) -> SharedKeys:
    """Parse and verify with a device's log key. Raises `MalformedError`, `LimitError` or `ForgeryError`."""
    return SharedKeys.decode(_verified(data, SharedKeys, key))


def read_first_yes(data: bytes, key: bytes) -> FirstYes:
    """Parse and verify with a device's log key. Raises `MalformedError`, `LimitError` or `ForgeryError`."""
    return FirstYes.decode(_verified(data, FirstYes, key))


def letter_context(mediator: bytes, device_key: bytes) -> Context:
    """What a letter is sealed for: a mediator and a device's encryption key."""
    return Context("letter", mediator, key_id(device_key))


def decision_context(practice: bytes, encryption_key: bytes) -> Context:
    """What a decision is sealed for."""
    return Context("decision", practice, key_id(encryption_key))


@dataclass(frozen=True)
class Posted:
    """What lies in a letterbox: copies of one letter."""

    copies: tuple[tuple[bytes, bytes], ...]
    work: bytes = bytes(WORK_BYTES)

    def encode(self) -> bytes:
        return cbor.encode([self.work, [list(copy) for copy in self.copies]])

    @classmethod
    def decode(cls, data: bytes) -> Posted:
        """Raises `MalformedError` or `LimitError`."""
        match cbor.decode(data, size_bytes_max=LETTER_BYTES_MAX):
            case [bytes(work), list(copies)] if len(work) == WORK_BYTES and 0 < len(copies) <= DEVICES_MAX:
                return cls(tuple(_copy(copy) for copy in copies), work)
        raise MalformedError(f"a letter is [work, one to {DEVICES_MAX} copies]")

    @property
    def digest(self) -> bytes:
        """What names it, whatever work was done."""
        return sha256(cbor.encode([list(copy) for copy in self.copies]))

    def work_begun(self, mediator: bytes) -> hashlib._Hash:
        """SHA-256 over what the work is for; whoever works goes on from a copy."""
        return hashlib.sha256(b"peewit letter v1" + mediator + self.digest)

    def bits(self, mediator: bytes) -> int:
        """Leading zero bits of the work."""
        whole = self.work_begun(mediator)
        whole.update(self.work)
        return 256 - int.from_bytes(whole.digest(), "big").bit_length()

    def require_work(self, mediator: bytes) -> None:
        """Raise `RefusedError` unless enough was done."""
        if self.bits(mediator) < WORK_BITS:
            raise RefusedError(f"a letter to a mediator costs work of {WORK_BITS} bits")


def _copy(value: object) -> tuple[bytes, bytes]:
    match value:
        case [bytes(device), bytes(sealed)]:
            if len(device) == 32 and len(sealed) - OVERHEAD_BYTES in SIZE_CLASSES:
                return device, sealed
    raise MalformedError("a copy is [key id, sealed]")


def _verified(data: bytes, kind: type[Statement], key: bytes) -> bytes:
    signed = Sign1.parse(data)
    signed.refuse_countersignature(_purpose(kind))
    signed.verify(_purpose(kind), PublicKey(key))
    return signed.payload


def _purpose(kind: type[Statement]) -> str:
    purposes: dict[type[Statement], str] = {
        Application: "peewit application v1", Decision: "peewit decision v1", FirstYes: "peewit first yes v1",
    }  # fmt: skip
    return purposes.get(kind, "peewit shared keys v1")
