"""Whom practices passed over lately: nothing that is free there suits their wishes, so they get others instead.

Rules kept here: who was passed over is given to that practice again after a quarter of an hour, when its user has said
something else since, or when the practice begins anew; other practices do not notice. Kept in memory only: a node that
has restarted gives everybody again. Without this, as many as one practice may lease would be all that it ever sees.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Final

PASS_S: Final = 900.0
PASSES_MAX: Final = 20_000
"Of one practice in one area; then it begins anew."
ALL_MAX: Final = 400_000
"Of all; then the one with most begins anew."


class Passes:
    """By area and practice."""

    def __init__(self) -> None:
        self._passed: dict[bytes, dict[bytes, dict[bytes, float]]] = {}
        "Until when, in the order in which they end."
        self._count = 0

    def add(self, area: bytes, practice: bytes, requests: Iterable[bytes], now_s: float) -> None:
        """A practice passes these over."""
        mine = self._passed.setdefault(area, {}).setdefault(practice, {})
        for request in requests:
            self._count += mine.pop(request, None) is None
            mine[request] = now_s + PASS_S
        if len(mine) > PASSES_MAX:
            self.forget(area, practice)
        while self._count > ALL_MAX:
            self.forget(*self._most())

    def of(self, area: bytes, practice: bytes, now_s: float) -> Collection[bytes]:
        """Whom a practice passes over now."""
        mine = self._passed.get(area, {}).get(practice, {})
        ended = []
        for request, until_s in mine.items():
            if until_s > now_s:
                break
            ended.append(request)
        for request in ended:
            del mine[request]
        self._count -= len(ended)
        return mine

    def _most(self) -> tuple[bytes, bytes]:
        """The area and practice with most: who fills the memory loses it, and nobody else."""
        sizes = {(area, name): len(mine) for area, held in self._passed.items() for name, mine in held.items()}
        return max(sizes, key=lambda key: sizes[key])

    def forget(self, area: bytes, practice: bytes) -> None:
        """A practice begins anew."""
        self._count -= len(self._passed.get(area, {}).pop(practice, {}))

    def changed(self, areas: Iterable[bytes], request: bytes) -> None:
        """Its user has said something else."""
        for area in areas:
            for mine in self._passed.get(area, {}).values():
                self._count -= mine.pop(request, None) is not None
