"""Which rounds one node draws: the open one, and for a while the one before (design 4.5).

Rules kept here: a round that was open is drawn for a while after this node saw the next one open, for whoever was
admitted in its last moment, however late that was; the next is drawn a little early, because clocks differ. The open
round admits, and for as long as clocks differ its neighbours: a code that one node has taken is good at the others.
"""

from __future__ import annotations

from peewit_federation.draw.rounds import Rounds
from peewit_federation.draw.schedule import Schedule
from peewit_federation.errors import RefusedError


class Hours:
    """What one node has seen open."""

    def __init__(self, rounds: Rounds) -> None:
        self._rounds = rounds
        self._present: int | None = None
        self._before: int | None = None
        self._until_s = 0.0
        self._looked = False

    def look(self, schedule: Schedule, now_s: float) -> int | None:
        """The round that is open now, if there is one."""
        number = self._rounds.open_round(schedule, now_s)
        if not self._looked:
            # What was open before this node started is known from the clock only.
            self._present = self._rounds.open_round(schedule, now_s - schedule.grace_s)
            self._looked = True
        if number != self._present:
            self._before, self._until_s, self._present = self._present, now_s + schedule.grace_s, number
        return number

    def oldest(self, schedule: Schedule, now_s: float) -> int | None:
        """The oldest round that is still drawn: what is older needs no private keys any more."""
        number = self.look(schedule, now_s)
        if self._before is not None and number is not None and now_s < self._until_s:
            return min(self._before, number)
        return number

    def require(self, schedule: Schedule, number: int, now_s: float, *, admitting: bool = False) -> tuple[bytes, ...]:
        """The public keys of a round that is drawn now (or that admits). Raises `RefusedError` if it is not."""
        present = self.look(schedule, now_s)
        allowed = {present, self._rounds.open_round(schedule, now_s + schedule.skew_s)}
        over_s = schedule.grace_s - min(schedule.skew_s, schedule.grace_s / 2) if admitting else 0.0
        if now_s < self._until_s - over_s:
            allowed.add(self._before)
        keys = self._rounds.keys(schedule.seats_of(number), number) if number in allowed else None
        if keys is None:
            is_open = "none is" if present is None else f"round {present} is"
            raise RefusedError(f"round {number} is not open; {is_open}")
        return keys
