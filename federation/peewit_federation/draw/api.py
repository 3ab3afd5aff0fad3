"""What clients and nodes say to each other on admission and the draw.

    token ask      [round, group, blinded message, [kind of proof, proof]]         the message is empty in a look
    look answer    0 unknown, 1 unspent, 2 spent                                  how a signup code stands
    token answer   [blind signature]
    draw ask       [H, round, group, [[origin hash, token], …]]
    draw answer    [[place, proof], …]
    conditions     [kind of proof, work bits, round that is open or -1, [group, …]]        what a node asks for

A signup code never travels as it is printed: a node gets the hash of the code and its own name, so that a code that is
shown to a node where it does not count, or a list that one node loses, is worth nothing at any other.

Rules kept here: syntax and bounds, and what a proof of admission must be. Whether it was spent before is for nodes.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from peewit_federation import cbor
from peewit_federation.draw.vrf import PROOF_BYTES
from peewit_federation.errors import MalformedError
from peewit_federation.keys import sha256
from peewit_federation.statements.codec import GROUP
from peewit_federation.statements.draw import PLACES_MAX, ROUND_MAX

ASK_BYTES_MAX: Final = 16 * 1024
ANSWER_BYTES_MAX: Final = 32 * 1024
TOKENS_MAX: Final = 9
OPEN, CODE, WORK = 0, 1, 2
"Kinds of proof: none, a signup code, a proof of work."
KINDS: Final = {"open": OPEN, "codes": CODE, "work": WORK}
PROOF_MAX: Final = 64
WORK_BITS_MAX: Final = 24
"A minute or so; a node that asks for more asks for nothing that anybody gives."
UNKNOWN, UNSPENT, SPENT = range(3)
CODE_LETTERS: Final = "ABCDEFGHJKMNPQRSTVWXYZ0123456789"
"Crockford's base 32: no I, L, O, U."
CODE_CHARACTERS: Final = 20
"100 bits."


@dataclass(frozen=True)
class TokenAsk:
    """A client asks one node to sign what it cannot read."""

    round: int
    group: str
    blinded: bytes
    kind: int = OPEN
    proof: bytes = b""

    def encode(self) -> bytes:
        return cbor.encode([self.round, self.group, self.blinded, [self.kind, self.proof]])

    @classmethod
    def decode(cls, data: bytes) -> TokenAsk:
        """Raises `MalformedError` or `LimitError`."""
        match cbor.decode(data, size_bytes_max=ASK_BYTES_MAX):
            case [int(number), str(group), bytes(blinded), [int(kind), bytes(proof)]]:
                _round(number)
                _group(group)
                if kind in KINDS.values() and len(proof) <= PROOF_MAX:
                    return cls(number, group, blinded, kind, proof)
        raise MalformedError("a token ask is [round, group, blinded message, [kind of proof, proof]]")


def decode_look(data: bytes) -> int:
    """How a signup code stands at a node. Raises `MalformedError`."""
    match cbor.decode(data, size_bytes_max=8):
        case int(found) if UNKNOWN <= found <= SPENT:
            return found
    raise MalformedError("how a code stands is 0, 1 or 2")


@dataclass(frozen=True)
class DrawAsk:
    """A client asks a member of the committee for its proofs."""

    request: bytes
    round: int
    group: str
    tokens: tuple[tuple[bytes, bytes], ...]
    "(origin hash, signature)"

    def encode(self) -> bytes:
        return cbor.encode([self.request, self.round, self.group, [list(token) for token in self.tokens]])

    @classmethod
    def decode(cls, data: bytes) -> DrawAsk:
        """Raises `MalformedError` or `LimitError`."""
        match cbor.decode(data, size_bytes_max=ASK_BYTES_MAX):
            case [bytes(request), int(number), str(group), list(tokens)] if len(request) == 32:
                _round(number)
                _group(group)
                return cls(request, number, group, read_tokens(tokens))
        raise MalformedError("a draw ask is [H, round, group, tokens]")


@dataclass(frozen=True)
class DrawAnswer:
    """A member's proofs, by place."""

    proofs: tuple[tuple[int, bytes], ...]

    def encode(self) -> bytes:
        return cbor.encode([list(proof) for proof in self.proofs])

    @classmethod
    def decode(cls, data: bytes) -> DrawAnswer:
        """Raises `MalformedError` or `LimitError`."""
        match cbor.decode(data, size_bytes_max=ANSWER_BYTES_MAX):
            case list(items) if len(items) <= PLACES_MAX:
                return cls(tuple(map(_proof, items)))
        raise MalformedError("a draw answer is a list of [place, proof]")


@dataclass(frozen=True)
class Conditions:
    """What a node asks for before it admits, and to which round and groups."""

    kind: int
    work_bits: int
    round: int
    "-1: none is open."
    groups: tuple[str, ...]

    def encode(self) -> bytes:
        return cbor.encode([self.kind, self.work_bits, self.round, list(self.groups)])

    @classmethod
    def decode(cls, data: bytes) -> Conditions:
        """Raises `MalformedError` or `LimitError`."""
        match cbor.decode(data, size_bytes_max=ANSWER_BYTES_MAX):
            case [int(kind), int(bits), int(number), list(groups)] if (
                -1 <= number <= ROUND_MAX and 0 <= bits <= WORK_BITS_MAX
            ):
                if kind in KINDS.values() and all(isinstance(group, str) for group in groups):
                    for group in groups:
                        _group(group)
                    return cls(kind, bits, number, tuple(groups))
        raise MalformedError("conditions of admission are [kind of proof, work bits, round, groups]")


def code_at(code: str, origin: bytes) -> bytes:
    """What a signup code is at one node: 32 bytes. Raises `MalformedError` for what is no code.

    Case, blanks and hyphens do not matter, and letters that look like digits are read as digits.
    """
    plain = re.sub(r"[\s-]", "", code).upper().translate(str.maketrans("OIL", "011"))
    if len(plain) != CODE_CHARACTERS or not set(plain) <= set(CODE_LETTERS):
        raise MalformedError(f"a signup code has {CODE_CHARACTERS} letters and digits, such as ABCDE-FGHJK-MNPQR-STVWX")
    return sha256(b"peewit signup code v1", origin, plain.encode())


def new_code(randomness: bytes) -> str:
    """A signup code from 20 random bytes, in four groups."""
    letters = "".join(CODE_LETTERS[byte % 32] for byte in randomness[:CODE_CHARACTERS])
    if len(letters) != CODE_CHARACTERS:
        raise MalformedError(f"a signup code is made from {CODE_CHARACTERS} random bytes")
    return "-".join(letters[at : at + 5] for at in range(0, CODE_CHARACTERS, 5))


def work_done(origin: bytes, number: int, group: str, blinded: bytes, nonce: bytes) -> int:
    """How many leading zero bits a proof of work has. It is bound to one node and one blinded message."""
    digest = sha256(b"peewit work v1", cbor.encode([origin, number, group, blinded, nonce]))
    return 256 - int.from_bytes(digest, "big").bit_length()


def read_tokens(items: list[object]) -> tuple[tuple[bytes, bytes], ...]:
    """A list of [origin hash, signature]. Raises `MalformedError`."""
    found = []
    for item in items:
        match item:
            case [bytes(origin), bytes(token)] if len(origin) == 32 and len(token) <= 512:
                found.append((origin, token))
            case _:
                raise MalformedError("a token is [origin hash, signature]")
    if len(found) > TOKENS_MAX:
        raise MalformedError(f"more than {TOKENS_MAX} tokens")
    return tuple(found)


def _proof(item: object) -> tuple[int, bytes]:
    match item:
        case [int(place), bytes(proof)] if 0 <= place < PLACES_MAX and len(proof) == PROOF_BYTES:
            return place, proof
    raise MalformedError("not a proof of a draw")


def _round(number: int) -> None:
    if not 0 <= number <= ROUND_MAX:
        raise MalformedError("not the number of a round")


def _group(group: str) -> None:
    if group:
        GROUP.check(group)
