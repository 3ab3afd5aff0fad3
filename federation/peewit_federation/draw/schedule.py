"""When rounds begin, and who draws them: what the charter says (design 4.5).

    [draw]
    round_s = 604800            # a week
    starts_s = 345600           # POSIX time at which round 0 began: a Monday
    [[draw.committee]]
    from_round = 0
    members = ["north", "west", "south", "east"]
    threshold = 2               # so many must collude to grind a ticket; so many sign an admission

Rules kept here: every round has one committee, the last that begins with it or before; a committee is known by a hash
over its members' logs, so that a name that changes hands is another committee. Clocks are handed in.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Final

from peewit_federation import cbor
from peewit_federation.draw.tickets import Committee
from peewit_federation.errors import ForgeryError
from peewit_federation.keys import sha256

ROUND_S: Final = (10, 366 * 86_400)
"The shortest (for demonstrations) and the longest round."
AHEAD: Final = 2
"So many rounds before a round begins its keys are made."
GRACE_SHARE: Final = 0.1
GRACE_S_MAX: Final = 3600.0
SKEW_S_MAX: Final = 120.0
LATE_ROUNDS_MAX: Final = 8
"A round that did not open is replaced by the last that did, if that is not older than this."


@dataclass(frozen=True)
class Seats:
    """A committee from a round on, with the origin hashes of its members' logs in the same order."""

    from_round: int
    committee: Committee
    origins: tuple[bytes, ...]

    @cached_property
    def digest(self) -> bytes:
        """What names it in statements."""
        return sha256(b"peewit committee v1", cbor.encode([self.committee.threshold, list(self.origins)]))

    @cached_property
    def words(self) -> int:
        """So many holders of a key must say that they hold it: all but one, and more than half."""
        holders = len(self.origins) - self.committee.threshold + 1
        return max(holders - 1, holders // 2 + 1)

    def origin(self, name: str) -> bytes:
        """The log of a member."""
        return self.origins[self.committee.members.index(name)]


@dataclass(frozen=True)
class Schedule:
    """A charter's rounds."""

    round_s: int
    starts_s: int
    seats: tuple[Seats, ...]
    "Ascending by `from_round`, the first from round 0 on."

    def require_successor(self, following: Schedule | None) -> None:
        """Raise `ForgeryError` if another charter would draw rounds again that were drawn: tickets are for ever."""
        if following is None or (following.round_s, following.starts_s) != (self.round_s, self.starts_s):
            raise ForgeryError("a charter whose rounds begin at other times")
        said = [(seats.from_round, seats.digest) for seats in following.seats]
        if said[: len(self.seats)] != [(seats.from_round, seats.digest) for seats in self.seats]:
            raise ForgeryError("a charter with another committee for rounds that had one")

    def round_at(self, now_s: float) -> int:
        """The round whose time it is; negative before round 0."""
        return int((now_s - self.starts_s) // self.round_s)

    def begins_s(self, number: int) -> int:
        """POSIX time at which a round's time begins."""
        return self.starts_s + number * self.round_s

    def seats_of(self, number: int) -> Seats:
        """The committee of a round."""
        return next(seats for seats in reversed(self.seats) if seats.from_round <= max(number, 0))

    @property
    def grace_s(self) -> float:
        """So long after its end a round is still drawn, for whoever was admitted in its last moment."""
        return min(GRACE_S_MAX, GRACE_SHARE * self.round_s)

    @property
    def skew_s(self) -> float:
        """So long before its beginning a round is drawn, because clocks differ."""
        return min(SKEW_S_MAX, GRACE_SHARE * self.round_s)
