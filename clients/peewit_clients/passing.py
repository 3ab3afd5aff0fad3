"""Whom a practice passes over in one area because nothing that it has free suits them, or because an offer is out.

Rules kept here: nodes are told, so that others may draw them and this practice gets those behind; whoever was passed
over is looked at again when a time becomes free that suits, when what the practice offers changes, when the request
says something new, and now and then. A node that hands them out again all the same is told again, and gains nothing by
it. What nodes were not told at once they are not told any more: those people may have said something else since.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import tzinfo
from typing import Final

from peewit_clients.calendar import Slot, fitting
from peewit_clients.facilities import Facilities
from peewit_federation.appointment.queue_api import PASSED_MAX
from peewit_federation.appointment.request import Wishes

SURE_S: Final = 900.0
"As long as nodes remember; whom they give again later is looked at again."
AGAIN_S: Final = 1800.0
"As long as nodes remember that were told again."
TELL_S: Final = 120.0
"As long as a lease lasts for certain."


@dataclass(frozen=True)
class _Passed:
    since_s: float
    version: int
    wishes: Wishes | None
    "If they could be read."


class PassedOver:
    """Those of one area."""

    def __init__(self) -> None:
        self._passed: dict[bytes, _Passed] = {}
        self._untold: dict[bytes, float] = {}
        "Since when they are to be told."
        self._anew = True
        "Nodes may remember what was passed over before this process began, and what has become free since."
        self._free: set[bytes] = set()
        self._offering: object = None

    def __len__(self) -> int:
        return len(self._passed)

    def add(self, request: bytes, version: int, wishes: Wishes | None, now_s: float) -> None:
        """Nothing suits it, as it is; a node may hand out an older version than we have seen."""
        known = self._passed.get(request)
        if known is None or version >= known.version:
            self._passed[request] = _Passed(now_s, version, wishes)
        self._untold[request] = now_s

    def known(self, now_s: float) -> dict[bytes, int]:
        """Of whom nothing has to be looked at now: their versions."""
        return {name: one.version for name, one in self._passed.items() if now_s < one.since_s + SURE_S}

    def tell_again(self, requests: Iterable[bytes], now_s: float) -> None:
        """A node gave these though they were passed over: it has restarted, or does not listen."""
        self._untold |= {name: now_s for name in requests if name in self._passed}

    def look_again(
        self, free: Sequence[Slot], facilities: Facilities, keys: Sequence[bytes], zone: tzinfo | None, now_s: float
    ) -> None:
        """Begin anew if something has changed that may suit one of them. `keys`: with which we read what they wish."""
        self._passed = {name: one for name, one in self._passed.items() if now_s < one.since_s + AGAIN_S}
        new = [slot for slot in free if slot.name not in self._free]
        suits = any(
            one.wishes is not None and fitting(new, one.wishes, zone, 1) and facilities.suit(one.wishes)
            for one in self._passed.values()
        )
        if suits or self._offering != (facilities, tuple(keys)):
            self.begin_anew()
        self._offering = facilities, tuple(keys)

    def begin_anew(self) -> None:
        """Look at everybody again: something suits now, or nobody heard whom we passed over."""
        self._passed.clear()
        self._untold.clear()
        self._anew = True

    def take(self, now_s: float) -> tuple[tuple[tuple[bytes, int], ...], bool]:
        """What to tell the nodes with the next draw: whom it passes over, and whether it begins anew."""
        untold = {name: since_s for name, since_s in self._untold.items() if name in self._passed}
        late = {name for name, since_s in untold.items() if now_s > since_s + TELL_S}
        for name in late:
            if self._passed[name].since_s == untold[name]:
                del self._passed[name]  # nobody heard it: whoever still waits is drawn again
        told = [name for name in untold if name not in late]
        self._untold = {name: untold[name] for name in told[PASSED_MAX:]}
        anew, self._anew = self._anew, False
        return tuple((name, self._passed[name].version) for name in told[:PASSED_MAX]), anew

    def left(self, free: Iterable[Slot]) -> None:
        """What a turn looked at and is still free: what else is free as the next begins is new."""
        self._free = {slot.name for slot in free}
