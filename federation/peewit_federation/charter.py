"""The charter: who operates the federation, whose signatures count, and how rounds are drawn (design 4.4).

Rules kept here: file n + 1 follows file n when signatures satisfy the quorum of both; gaps and rollbacks are refused.
What a file may say, and with which errors it is refused, is in `charter_file`; fetching charters is left to others.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256

from peewit_federation.draw.schedule import Schedule
from peewit_federation.errors import ForgeryError, OperatorError
from peewit_federation.log.checkpoint import origin_hash
from peewit_federation.log.note import Signature, VerifierKey
from peewit_federation.log.policy import Policy
from peewit_federation.registry.admission import Constitution


@dataclass(frozen=True)
class Operator:
    """One region's operator: one log, one node, and mostly a witness's vote."""

    name: str
    log: VerifierKey
    witness: VerifierKey
    url: str
    region: tuple[str, ...]
    charter_key: VerifierKey
    votes: bool = True
    "Whether the policy counts its cosignatures; else it mirrors and serves only."

    @cached_property
    def origin_hash(self) -> bytes:
        """What names its log in URLs and in words."""
        return origin_hash(self.log.name)


@dataclass(frozen=True)
class Retired:
    """A log of an operator that left or changed its key: nothing follows after `size`."""

    log: VerifierKey
    size: int
    root: bytes
    voted: bool = False
    "Whether its node had a vote."

    @cached_property
    def origin_hash(self) -> bytes:
        """What names it in URLs and in words."""
        return origin_hash(self.log.name)


@dataclass(frozen=True)
class Charter:
    """A parsed and checked charter."""

    text: str
    "The TOML without signature lines: what is signed, and hashed for `digest`."
    signatures: tuple[Signature, ...]
    number: int
    name: str
    admission_threshold: int
    warn_s: int
    refuse_s: int
    policy: Policy
    operators: tuple[Operator, ...]
    retired: tuple[Retired, ...] = ()
    schedule: Schedule | None = None
    "The rounds of the draw; None in a federation without appointments."

    @cached_property
    def digest(self) -> bytes:
        """SHA-256 of the text without signatures."""
        return sha256(self.text.encode()).digest()

    @cached_property
    def logs(self) -> dict[bytes, VerifierKey]:
        """The keys of the operators' logs, retired ones too, by origin hash."""
        retired = {party.origin_hash: party.log for party in self.retired}
        return retired | {operator.origin_hash: operator.log for operator in self.operators}

    @cached_property
    def admitters(self) -> frozenset[bytes]:
        """The logs of operators whose admissions count: those that vote, and those that did before they left.

        Whoever waits was perhaps admitted by an operator that is gone; that stands as its other words do.
        """
        sat = {origin for seats in self.schedule.seats for origin in seats.origins} if self.schedule else set()
        gone = {r.origin_hash for r in self.retired if r.voted or r.origin_hash in sat}
        return frozenset(gone | {o.origin_hash for o in self.operators if o.votes})

    @property
    def constitution(self) -> Constitution:
        """What the registry's fold takes from it."""
        retired = {r.origin_hash: r.size for r in self.retired}
        return Constitution(self.admission_threshold, {o.origin_hash: o.region for o in self.operators}, retired)

    def operator(self, name: str) -> Operator:
        """By name. Raises `OperatorError` naming those that exist."""
        found = self._by_name.get(name)
        if found is None:
            raise OperatorError(f"the charter has no operator {name!r}; it has {', '.join(self._by_name)}")
        return found

    @cached_property
    def _by_name(self) -> dict[str, Operator]:
        return {operator.name: operator for operator in self.operators}

    def encode(self) -> bytes:
        """The file."""
        lines = "".join(map(str, self.signatures))
        return (self.text + ("\n" + lines if lines else "")).encode()

    def require_successor(self, following: Charter) -> None:
        """Raise unless `following` is this charter's lawful successor."""
        if following.number != self.number + 1:
            raise ForgeryError(f"charter {following.number} does not follow charter {self.number}")
        if following.name != self.name:
            raise ForgeryError("a charter of another federation")
        if self.schedule is not None:
            self.schedule.require_successor(following.schedule)
        for charter in (self, following):
            signed = following.signed_by(charter.operators)
            if not charter.policy.satisfied({o.witness.name for o in charter.operators if o.name in signed}):
                raise ForgeryError(
                    f"charter {following.number} is signed by {len(signed)} operators of charter {charter.number}: "
                    f"no quorum"
                )

    def signed_by(self, operators: Iterable[Operator]) -> set[str]:
        """The names of those operators whose charter keys signed this text."""
        names = set()
        for operator in operators:
            for line in self.signatures:
                if line.is_by(operator.charter_key):
                    if not operator.charter_key.public.verifies(self.text.encode(), line.raw):
                        raise ForgeryError(f"the signature of {operator.charter_key.name} does not verify")
                    names.add(operator.name)
        return names
