"""The links between hosts: how long they take, what they lose, and whether they pass anything at all.

Rules kept here: every direction has its own conditions; a cut is a black hole (nobody is told); what is held
is delivered later, in order. What becomes of bytes that are lost is left to `tcp`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from random import Random
from typing import TYPE_CHECKING

from peewit_simulation.kernel.world import World

if TYPE_CHECKING:
    from peewit_simulation.kernel.host import Host


@dataclass(frozen=True)
class Conditions:
    """One direction of a link."""

    latency_s: float = 0.01
    jitter_s: float = 0.005
    "Latency is `latency_s` and an exponential part with this mean."
    loss: float = 0.0
    "How likely a segment is lost, so that it comes late."
    bandwidth_bytes_s: float = 12_500_000.0

    def delay_s(self, random: Random) -> float:
        """How long one segment takes."""
        return self.latency_s + (random.expovariate(1 / self.jitter_s) if self.jitter_s else 0.0)


Pair = tuple[str, str]


class Network:
    """All links of a world, by the names of hosts (from, to)."""

    def __init__(self, world: World, usual: Conditions | None = None) -> None:
        self.world = world
        self.usual = usual or Conditions()
        self.hosts: dict[str, Host] = {}
        "By address."
        self._special: dict[Pair, Conditions] = {}
        self._cut: dict[Pair, None] = {}
        self._held: dict[Pair, list[Callable[[], None]]] = {}
        self.random = world.stream("network")
        self.bytes_sent: dict[str, int] = {}

    def conditions(self, source: str, target: str) -> Conditions:
        """The conditions from one host to another."""
        return self._special.get((source, target), self.usual)

    def passes(self, source: str, target: str) -> bool:
        """Whether a segment gets through now: not cut, and not lost."""
        if (source, target) in self._cut:
            return False
        loss = self.conditions(source, target).loss
        return not loss or self.random.random() >= loss

    def is_cut(self, source: str, target: str) -> bool:
        """Whether nothing passes in this direction."""
        return (source, target) in self._cut

    def cut(self, pairs: Iterable[Pair]) -> None:
        """Let nothing pass in these directions."""
        self._cut.update(dict.fromkeys(pairs))

    def mend(self, pairs: Iterable[Pair] | None = None) -> None:
        """Undo cuts; all of them if none are named."""
        for pair in list(self._cut) if pairs is None else list(pairs):
            self._cut.pop(pair, None)

    def shape(self, pairs: Iterable[Pair], **changes: float) -> None:
        """Change the conditions of some directions, for example `loss=0.3`."""
        for pair in pairs:
            self._special[pair] = replace(self.conditions(*pair), **changes)

    def unshape(self) -> None:
        """Back to the usual conditions everywhere."""
        self._special.clear()

    def hold(self, pairs: Iterable[Pair]) -> None:
        """Keep everything that is sent in these directions, until `release`."""
        for pair in pairs:
            self._held.setdefault(pair, [])

    def holds(self, source: str, target: str, go_on: Callable[[], None]) -> bool:
        """Whether a direction is held; then `go_on` is called when it is released."""
        waiting = self._held.get((source, target))
        if waiting is None:
            return False
        waiting.append(go_on)
        return True

    def release(self) -> None:
        """Let everything go that was held, in order."""
        held, self._held = self._held, {}
        for waiting in held.values():
            for go_on in waiting:
                self.world.after(0.0, go_on)
