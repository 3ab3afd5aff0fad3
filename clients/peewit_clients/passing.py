"""Whom a practice passes over in one area because nothing that it has free suits them.

Rules kept here: nodes are told, so that others may draw them and this practice gets those behind; whoever was passed
over is looked at again when a time becomes free that suits, when what the practice offers changes, and now and then.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import tzinfo
from typing import Final

from peewit_clients.calendar import Slot, fitting
from peewit_clients.facilities import Facilities
from peewit_federation.appointment.queue_api import PASSED_MAX
from peewit_federation.appointment.request import Wishes

AGAIN_S: Final = 900.0
"As long as nodes remember."


class PassedOver:
    """Those of one area."""

    def __init__(self) -> None:
        self._wishes: dict[bytes, tuple[float, Wishes | None]] = {}
        "Until when, and what they wish, if it could be read."
        self._untold: list[bytes] = []
        self._anew = True
        "Nodes may remember what was passed over before this process began, and what has become free since."
        self._free: set[bytes] = set()
        self._offering: object = None

    def __len__(self) -> int:
        return len(self._wishes)

    def add(self, request: bytes, wishes: Wishes | None, now_s: float) -> None:
        """Nothing suits it."""
        self._wishes.pop(request, None)
        self._wishes[request] = now_s + AGAIN_S, wishes
        self._untold.append(request)

    def look_again(
        self, free: Sequence[Slot], facilities: Facilities, keys: int, zone: tzinfo | None, now_s: float
    ) -> None:
        """Begin anew if something has changed that may suit one of them. `keys`: with which we read what they wish."""
        self._wishes = {name: kept for name, kept in self._wishes.items() if kept[0] > now_s}
        new = [slot for slot in free if slot.name not in self._free]
        suits = any(
            wishes is not None and fitting(new, wishes, zone, 1) and facilities.suit(wishes)
            for _, wishes in self._wishes.values()
        )
        if suits or self._offering != (facilities, keys):
            self._wishes.clear()
            self._untold.clear()
            self._anew = True
        self._free, self._offering = {slot.name for slot in free}, (facilities, keys)

    def take(self) -> tuple[tuple[bytes, ...], bool]:
        """What to tell the nodes with the next draw: whom it passes over, and whether it begins anew."""
        told, self._untold = tuple(self._untold[:PASSED_MAX]), self._untold[PASSED_MAX:]
        anew, self._anew = self._anew, False
        return told, anew
