"""Virtual time, the order of events, randomness from one seed, and the digest of a run.

Rules kept here: events happen in the order of their times, and of their making where times are equal; every
stream of random numbers has a name, so that a new one does not disturb the others; whatever passes between
hosts goes into the digest. Nothing in a simulated world reads a real clock.
"""

from __future__ import annotations

import hashlib
import heapq
import re
from collections.abc import Callable
from random import Random
from typing import Any, Final

EPOCH_S: Final = 1_800_000_000.0
"POSIX seconds at the beginning of every world."
DATE: Final = re.compile(rb"\r\nDate: [^\r]{29}")
"aiohttp writes the machine's own date into every answer; it is not part of a run."


class World:
    """A simulated world."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.now_s = 0.0
        self.events = 0
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self._made = 0
        self._digest = hashlib.sha256(str(seed).encode())
        self.running = ""
        "The host whose loop is running, if one is."
        self.watchers: list[Callable[[bytes], None]] = []
        "See every piece of bytes that passes between hosts."
        self.graveyard: list[Any] = GRAVEYARD
        "What crashed is never collected: that would run its `finally` blocks."

    def stream(self, *name: object) -> Random:
        """A stream of random numbers of its own."""
        return Random(hashlib.sha256(repr((self.seed, *name)).encode()).digest())

    def at(self, time_s: float, action: Callable[[], None]) -> None:
        """Let something happen at a time (not before now)."""
        self._made += 1
        heapq.heappush(self._heap, (max(time_s, self.now_s), self._made, action))

    def after(self, delay_s: float, action: Callable[[], None]) -> None:
        """Let something happen after a delay."""
        self.at(self.now_s + delay_s, action)

    def run(self, until_s: float, stop: Callable[[], bool] | None = None) -> bool:
        """Go on until a time, or until `stop()` is true; whether it was."""
        while self._heap and self._heap[0][0] <= until_s:
            self.now_s, _, action = heapq.heappop(self._heap)
            self.events += 1
            action()
            if stop is not None and stop():
                return True
        self.now_s = max(self.now_s, until_s)
        return False

    def note(self, *what: object, data: bytes = b"") -> None:
        """Put something that happened into the digest."""
        if b"\r\nDate: " in data:
            data = DATE.sub(b"\r\nDate: ", data)
        for watch in self.watchers:
            watch(data)
        self._digest.update(f"{self.now_s:.9f} {what}\n".encode())
        self._digest.update(data)

    def digest(self) -> str:
        """The digest of everything that happened so far, in hexadecimal."""
        return self._digest.hexdigest()


GRAVEYARD: Final[list[Any]] = []
