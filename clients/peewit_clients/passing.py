"""Whom a practice passes over in one area because nothing that it has free suits them.

Rules kept here: nodes are told, so that others may draw them and this practice gets those behind; whoever was passed
over is looked at again when a time becomes free that suits, when what the practice offers changes, and now and then.
What nodes were not told at once they are not told any more: those people may have said something else since.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import tzinfo
from typing import Final

from peewit_clients.calendar import Slot, fitting
from peewit_clients.facilities import Facilities
from peewit_federation.appointment.queue_api import PASSED_MAX
from peewit_federation.appointment.request import Wishes

AGAIN_S: Final = 1800.0
"Longer than nodes remember."
TELL_S: Final = 120.0
"As long as a lease lasts for certain."


class PassedOver:
    """Those of one area."""

    def __init__(self) -> None:
        self._wishes: dict[bytes, tuple[float, Wishes | None]] = {}
        "Since when, and what they wish, if it could be read."
        self._untold: list[bytes] = []
        self._anew = True
        "Nodes may remember what was passed over before this process began, and what has become free since."
        self._free: set[bytes] = set()
        self._offering: object = None

    def __len__(self) -> int:
        return len(self._wishes)

    def add(self, request: bytes, wishes: Wishes | None, now_s: float) -> None:
        """Nothing suits it."""
        self._wishes[request] = now_s, wishes
        self._untold.append(request)

    def look_again(
        self, free: Sequence[Slot], facilities: Facilities, keys: Sequence[bytes], zone: tzinfo | None, now_s: float
    ) -> None:
        """Begin anew if something has changed that may suit one of them. `keys`: with which we read what they wish."""
        self._wishes = {name: kept for name, kept in self._wishes.items() if now_s < kept[0] + AGAIN_S}
        new = [slot for slot in free if slot.name not in self._free]
        suits = any(
            wishes is not None and fitting(new, wishes, zone, 1) and facilities.suit(wishes)
            for _, wishes in self._wishes.values()
        )
        if suits or self._offering != (facilities, tuple(keys)):
            self.begin_anew()
        self._offering = facilities, tuple(keys)

    def begin_anew(self) -> None:
        """Look at everybody again: something suits now, or nobody heard whom we passed over."""
        self._wishes.clear()
        self._untold.clear()
        self._anew = True

    def take(self, now_s: float) -> tuple[tuple[bytes, ...], bool]:
        """What to tell the nodes with the next draw: whom it passes over, and whether it begins anew."""
        untold, self._untold = [name for name in self._untold if name in self._wishes], []
        late = [name for name in untold if now_s > self._wishes[name][0] + TELL_S]
        for name in late:
            del self._wishes[name]  # whoever still waits is drawn again
        told = [name for name in untold if name in self._wishes]
        self._untold = told[PASSED_MAX:]
        anew, self._anew = self._anew, False
        return tuple(told[:PASSED_MAX]), anew

    def left(self, free: Iterable[Slot]) -> None:
        """What is free at the end of a turn: what is so at the next beginning, and is not among it, is new."""
        self._free = {slot.name for slot in free}
