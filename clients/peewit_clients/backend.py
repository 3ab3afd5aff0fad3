"""What a client knows of one node: how fast it is, and whether it failed so lately that others should be asked.

Rules kept here: a node that fails is left out for a while, longer each time, and longer than it let us wait.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from peewit_federation.charter import Operator
from peewit_federation.errors import PeewitError

BREAK_S: Final = 1.0
BREAK_MAX_S: Final = 60.0


class BackendError(PeewitError):
    """A node could not be used: `status` is its HTTP status, or 0 if it did not answer."""

    def __init__(self, message: str, status: int = 0, body: bytes = b"") -> None:
        super().__init__(message)
        self.status = status
        self.body = body


class UnreachableError(PeewitError):
    """No node gave an answer that could be used."""


@dataclass
class Backend:
    """What is known of one node."""

    operator: Operator
    latency_s: float = 0.05
    "Smoothed time to answer."
    failures: int = 0
    open_until_s: float = 0.0
    "Not asked before this time, unless nobody else is left."

    @property
    def name(self) -> str:
        return self.operator.name

    def succeeded(self, took_s: float) -> None:
        """It answered."""
        self.failures, self.open_until_s = 0, 0.0
        self.latency_s += 0.2 * (took_s - self.latency_s)

    def failed(self, now_s: float, took_s: float, luck: float) -> None:
        """It did not, or not as it should; `luck` from 0 to 1 spreads those who ask again."""
        self.failures += 1
        # Who let us wait is left out for longer: a node that swallows requests takes a fifth of our time.
        pause = max(BREAK_S * 2.0 ** min(self.failures - 1, 10), 4 * took_s)
        self.open_until_s = now_s + min(BREAK_MAX_S, pause) * (0.75 + 0.5 * luck)
