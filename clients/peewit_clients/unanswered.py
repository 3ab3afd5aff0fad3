"""Offers of this practice to which nobody said anything, by request.

Rules kept here: an offer that reached nobody does not count at the nodes, so that nobody is parked for a letter that
was lost; but not without end, or whoever sees to it that none arrives would hold times of every practice for ever.
After twice it counts. Whom honest nodes would have parked by then gets no more offers from here, whatever a node hands
out, until the request says something new. Kept in memory only; nodes keep what they were told.
"""

from __future__ import annotations

from typing import Final

from peewit_federation.appointment.request import Request

UNHEARD_MAX: Final = 2
"Offers that nobody may have heard of, and that do not count."
IN_VAIN_MAX: Final = UNHEARD_MAX + 4
"Three that count park a request; one may be under way when somebody else makes the third."
REMEMBERED_MAX: Final = 10_000


class Unanswered:
    """How often, by `H` and version."""

    def __init__(self) -> None:
        self._ended: dict[bytes, tuple[int, int, int]] = {}
        "Version, offers that ended, and how many of them nobody had heard of."

    def add(self, request: Request, *, heard: bool) -> None:
        """An offer for it ended, and nobody had accepted; whether it had reached a mailbox, or counted all the same."""
        ended, unheard = self._counts(request)
        self._ended.pop(request.name, None)
        if len(self._ended) >= REMEMBERED_MAX:
            del self._ended[next(iter(self._ended))]
        self._ended[request.name] = request.version, ended + 1, unheard + (not heard)

    def counts(self, request: Request) -> bool:
        """Whether the next offer counts at the nodes, though nobody may hear of it."""
        return self._counts(request)[1] >= UNHEARD_MAX

    def in_vain(self, request: Request) -> bool:
        """Whether one more offer would only hold times."""
        return self._counts(request)[0] >= IN_VAIN_MAX

    def _counts(self, request: Request) -> tuple[int, int]:
        version, ended, unheard = self._ended.get(request.name, (request.version, 0, 0))
        return (ended, unheard) if version >= request.version else (0, 0)
