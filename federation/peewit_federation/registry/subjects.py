"""What was said of one subject, joined (design 4.2, Grants and Revocation).

Rules kept here: among grants the highest version stands, then the more restrictive, then the smaller
hash, then the smaller place; the standing version alone is asked whether it counts, and nothing older
returns in its place when it does not; every revocation that it does not list under `after` ends it.
The join is commutative, associative and idempotent, so order and repetition do not matter.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final

from peewit_federation.statements.mediator import AFTER_MAX, SUSPENDED, Catchment, Grant, Provider

REVOCATIONS_MAX: Final = AFTER_MAX + 1
"The smallest that are kept of a subject: with one more than a grant can outlive it is revoked for good."


class Verdict(Enum):
    """Whether a subject may act, in words for people."""

    ACTIVE = "active"
    SUSPENDED = "suspended"
    REVOKED = "revoked"
    EXPIRED = "expired"
    NOT_YET = "not yet valid"
    OUT_OF_SCOPE = "outside the scope of its mediator"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Standing:
    """A grant as the fold keeps it; its bytes are in its log at (origin, index)."""

    version: int
    status: int
    digest: bytes
    "SHA-256 of the entry."
    origin: bytes
    "Origin hash of the device's log."
    index: int
    not_before: int
    not_after: int
    after: frozenset[bytes]
    areas: tuple[bytes, ...] = ()
    services: tuple[str, ...] = ()
    postcodes: tuple[str, ...] = ()

    @classmethod
    def of(cls, grant: Grant, digest: bytes, origin: bytes, index: int) -> Standing:
        """What the fold keeps of a grant."""
        areas = grant.areas if isinstance(grant, Provider) else ()
        services = grant.services if isinstance(grant, Provider | Catchment) else ()
        postcodes = grant.postcodes if isinstance(grant, Catchment) else ()
        times = grant.not_before, grant.not_after
        after = frozenset(grant.after)
        return cls(grant.version, grant.status, digest, origin, index, *times, after, areas, services, postcodes)

    def beats(self, other: Standing) -> bool:
        """Whether this grant stands when both are known."""
        mine, theirs = (self.version, self.status), (other.version, other.status)
        if mine != theirs:
            return mine > theirs
        return (self.digest, self.origin, self.index) < (other.digest, other.origin, other.index)


@dataclass(frozen=True, slots=True)
class Subject:
    """Everything that counts of one subject: its standing grant, and its revocations."""

    standing: Standing | None = None
    revocations: frozenset[bytes] = frozenset()

    def with_grant(self, grant: Standing) -> Subject:
        """Join a grant."""
        if self.standing is not None and not grant.beats(self.standing):
            return self
        return Subject(grant, self.revocations)

    def with_revocation(self, revocation: bytes) -> Subject:
        """Join a revocation (SHA-256 of its entry)."""
        if revocation in self.revocations:
            return self
        if len(self.revocations) < REVOCATIONS_MAX:
            return Subject(self.standing, self.revocations | {revocation})
        largest = max(self.revocations)
        if revocation > largest:
            return self
        return Subject(self.standing, self.revocations - {largest} | {revocation})

    def verdict(self, now_s: int) -> Verdict:
        """Whether it may act at `now_s`, its mediator's scope aside."""
        standing = self.standing
        if standing is None:
            return Verdict.REVOKED if self.revocations else Verdict.UNKNOWN
        if not self.revocations <= standing.after:
            return Verdict.REVOKED
        if standing.status == SUSPENDED:
            return Verdict.SUSPENDED
        if now_s >= standing.not_after:
            return Verdict.EXPIRED
        return Verdict.ACTIVE if now_s >= standing.not_before else Verdict.NOT_YET
