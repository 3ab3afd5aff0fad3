"""Tickets: a committee gives every request the same unpredictable priority (design 4.5).

A committee has n members of different operators and a threshold t. For every set of t-1 members there is one VRF
key, which all members outside it hold: any t of them together hold every key, no t-1 do. The ticket of a request
hash H is the proof under every key, and its priority the SHA-256 over all outputs:

    ticket    proofs of 80 bytes each, joined, in the order of the sets (10 for n = 5, t = 3: 800 bytes)
    priority  SHA-256("peewit priority v1" || outputs)       smaller is drawn earlier

Rules kept here: a ticket proves its own priority to anybody who has the public keys; whoever gave the proofs, outputs
and priority are the same. The proofs themselves are not (a holder can make several), so a request is known by H, never
by the bytes of its ticket. Whether a round is open and a token good is decided by who is asked for proofs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations

from peewit_federation.draw.vrf import PROOF_BYTES, VrfKey, verify
from peewit_federation.errors import ForgeryError, MalformedError
from peewit_federation.keys import sha256

MEMBERS_MAX = 9
KEYS_MAX = 126


@dataclass(frozen=True)
class Committee:
    """Who draws: members by name in the charter's order, and how many must collude to break it."""

    members: tuple[str, ...]
    threshold: int

    def __post_init__(self) -> None:
        if not 1 <= self.threshold <= len(self.members) <= MEMBERS_MAX or len(set(self.members)) != len(self.members):
            raise MalformedError(f"a committee has up to {MEMBERS_MAX} different members, and a threshold among them")

    @cached_property
    def sets(self) -> tuple[frozenset[str], ...]:
        """The sets of t-1 members, each of which has a key that they do not hold, in order."""
        return tuple(map(frozenset, combinations(self.members, self.threshold - 1)))

    @cached_property
    def _holders(self) -> tuple[tuple[str, ...], ...]:
        return tuple(tuple(name for name in self.members if name not in outside) for outside in self.sets)

    def holders(self, index: int) -> tuple[str, ...]:
        """Who holds the key of a set; the first of them makes it."""
        return self._holders[index]

    def held_by(self, name: str) -> tuple[int, ...]:
        """The sets whose keys a member holds."""
        return tuple(index for index, members in enumerate(self.sets) if name in self.members and name not in members)


@dataclass(frozen=True)
class Ticket:
    """A request's proofs under all keys of a round, in order."""

    proofs: tuple[bytes, ...]

    def encode(self) -> bytes:
        """All proofs, joined."""
        return b"".join(self.proofs)

    @classmethod
    def decode(cls, data: bytes) -> Ticket:
        """Raises `MalformedError`."""
        if not data or len(data) % PROOF_BYTES or len(data) > KEYS_MAX * PROOF_BYTES:
            raise MalformedError(f"a ticket is one proof of {PROOF_BYTES} bytes for each key")
        return cls(tuple(data[at : at + PROOF_BYTES] for at in range(0, len(data), PROOF_BYTES)))

    def priority(self, request: bytes, keys: Sequence[bytes]) -> bytes:
        """The priority that this ticket proves, under the public keys of its round. Raises `ForgeryError`."""
        _check(request, keys)
        if len(self.proofs) != len(keys):
            raise ForgeryError(f"a ticket of {len(self.proofs)} proofs; this round has {len(keys)} keys")
        outputs = [verify(key, request, proof) for key, proof in zip(keys, self.proofs, strict=True)]
        return sha256(b"peewit priority v1", *outputs)


def prove(request: bytes, keys: Mapping[int, VrfKey]) -> dict[int, bytes]:
    """A member's proofs for a request (32 bytes), under the keys that it holds."""
    return {index: key.prove(request) for index, key in keys.items()}


def join(request: bytes, keys: Sequence[bytes], parts: Sequence[Mapping[int, bytes]]) -> Ticket:
    """A ticket from what several members gave; a false proof is passed over if another member gave a good one.

    Raises `ForgeryError` naming the keys that nobody proved.
    """
    _check(request, keys)
    found: dict[int, bytes] = {}
    for index, key in enumerate(keys):
        for part in parts[:MEMBERS_MAX]:
            if index in part and index not in found and _verifies(key, request, part[index]):
                found[index] = part[index]
    missing = [str(index) for index in range(len(keys)) if index not in found]
    if missing:
        raise ForgeryError(f"nobody proved keys {', '.join(missing)} of {len(keys)}; ask more members")
    return Ticket(tuple(found[index] for index in range(len(keys))))


def _check(request: bytes, keys: Sequence[bytes]) -> None:
    if len(request) != 32 or not 1 <= len(keys) <= KEYS_MAX:
        raise MalformedError(f"a request hash has 32 bytes, and a round from 1 to {KEYS_MAX} keys")


def _verifies(key: bytes, request: bytes, proof: bytes) -> bool:
    try:
        verify(key, request, proof)
    except ForgeryError:
        return False
    return True
