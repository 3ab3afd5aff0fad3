"""What a client knows of how fresh its knowledge is, from the views of the nodes (design 4.3, Fresh).

Rules kept here: a view counts for a mediator when its ranges for the operators and for the mediator
contain nothing that the client lacks; fresh is what a quorum of such views says, as of the oldest of them.
A view that is older than one we had, or shorter, is held against its node.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median

from peewit_clients.words import Said, said
from peewit_federation import cbor
from peewit_federation.charter import Charter
from peewit_federation.errors import MalformedError, OperatorError, UnknownError
from peewit_federation.gossip.views import OPERATORS, Line, Range, View, fresh_as_of, is_newer, lacks, open_view

SKEW_WARN_S = 120


@dataclass(frozen=True)
class Seen:
    """A node's view, and the lines that were asked for, complete for each mediator."""

    witness: str
    view: View
    lines: dict[bytes, tuple[Line, ...]]


@dataclass(frozen=True)
class Freshness:
    """For one mediator: as of when, and how old that is; `as_of_s` is None if no quorum is complete."""

    as_of_s: int | None
    age_s: int | None
    complete: tuple[str, ...]
    "Nodes whose views contain nothing that we lack."
    lacking: dict[str, int]
    "Nodes whose views tell of logs that we lack, with how many."
    limits_s: tuple[int, int]

    @property
    def may_book(self) -> bool:
        """Whether it is fresh enough for a new booking."""
        return self.age_s is not None and self.age_s <= self.limits_s[1]

    def words(self) -> Said:
        """For people."""
        if self.age_s is None:
            return said("fresh_nowhere", nodes=", ".join(self.complete) or said("no_node"))
        if self.age_s > self.limits_s[1]:
            return said("fresh_too_old", age=self.age_s)
        return said("fresh_old" if self.age_s > self.limits_s[0] else "fresh", age=self.age_s)


def open_views(data: bytes, charter: Charter, mediators: Sequence[bytes]) -> list[Seen]:
    """What `/v1/views` answered, verified. Raises `SenderError`."""
    found = []
    values = cbor.decode(data, size_bytes_max=16 << 20)
    if not isinstance(values, list) or len(values) > 64:
        raise MalformedError("not a list of views")
    for value in values:
        match value:
            case [bytes(signed), list(ranges)] if len(ranges) == 1 + len(mediators):
                try:
                    witness, view = open_view(signed, charter.policy)
                except UnknownError:
                    continue  # of a node that joined with a charter that we do not have yet
                lines = {
                    mediator: Range.of(part, view.size).open(mediator, view)
                    for mediator, part in zip((OPERATORS, *mediators), ranges, strict=True)
                }
                found.append(Seen(witness, view, lines))
            case _:
                raise MalformedError("a view without the ranges that were asked for")
    return found


@dataclass
class ViewBook:
    """The newest view of every node, and what nodes were caught at."""

    charter: Charter
    newest: dict[str, Seen] = field(default_factory=dict)
    sizes: dict[str, dict[bytes, int]] = field(default_factory=dict)
    "By node: the largest size of each log that its views ever told."
    complaints: dict[str, list[str]] = field(default_factory=dict)

    def add(self, seen: Seen, now_s: float) -> None:
        """Take over a view, and compare it with what the same node said before."""
        if seen.view.time_s > now_s + SKEW_WARN_S:
            self._complain(seen.witness, "signed a view that is dated in the future")
            return
        held = self.newest.get(seen.witness)
        if held is not None and held.view != seen.view and not is_newer(seen.view, held.view):
            return
        sizes = self.sizes.setdefault(seen.witness, {})
        for line in (line for lines in seen.lines.values() for line in lines if not line.forked):
            if line.size < sizes.get(line.origin, 0):
                self._complain(
                    seen.witness,
                    f"rolled log {line.origin.hex()[:16]} back from {sizes[line.origin]} to {line.size} entries",
                )
            sizes[line.origin] = max(sizes.get(line.origin, 0), line.size)
        lines = {**held.lines, **seen.lines} if held is not None and held.view == seen.view else seen.lines
        self.newest[seen.witness] = Seen(seen.witness, seen.view, lines)

    def _complain(self, witness: str, what: str) -> None:
        found = self.complaints.setdefault(witness, [])
        if what not in found:
            found.append(what)

    def lines(self, mediator: bytes) -> dict[str, tuple[Line, ...]]:
        """By node, its lines for a mediator (or `OPERATORS`)."""
        return {name: seen.lines[mediator] for name, seen in self.newest.items() if mediator in seen.lines}

    def behind(self, mediator: bytes) -> dict[str, str]:
        """Nodes whose newest view lacks what a quorum's views had before it: they withhold it, or are cut off."""
        found = {}
        for name, seen in self.newest.items():
            if mediator not in seen.lines:
                continue
            others = {
                n: s
                for n, s in self.newest.items()
                if n != name and s.view.time_s <= seen.view.time_s and mediator in s.lines
            }
            for origin in sorted({line.origin for s in others.values() for line in s.lines.get(mediator, ())}):
                sizes = {n: _size(s.lines.get(mediator, ()), origin) for n, s in others.items()}
                mine = _size(seen.lines.get(mediator, ()), origin)
                keys = {n: self.charter.policy.witnesses[n].key.name for n in sizes}
                if mine >= 0 and self.charter.policy.satisfied({keys[n] for n, size in sizes.items() if size > mine}):
                    found[name] = f"lacks entries of log {origin.hex()[:16]} that a quorum has: withheld, or cut off"
        return found

    def freshness(
        self,
        mediator: bytes,
        held: dict[bytes, tuple[int, bytes]],
        forked: Sequence[bytes],
        limits: dict[bytes, int],
        now_s: float,
    ) -> Freshness:
        """How fresh is what we hold (size and root by origin hash) for a mediator?"""
        times: dict[str, int] = {}
        lacking: dict[str, int] = {}
        for name, seen in self.newest.items():
            if mediator not in seen.lines or OPERATORS not in seen.lines:
                continue
            missing = lacks((*seen.lines[OPERATORS], *seen.lines[mediator]), held, forked, limits)
            if missing:
                lacking[name] = len(missing)
            else:
                times[name] = seen.view.time_s
        as_of = fresh_as_of(times, self.charter.policy)
        age = None if as_of is None else max(0, int(now_s) - as_of)
        limits_s = self.charter.warn_s, self.charter.refuse_s
        return Freshness(as_of, age, tuple(sorted(times)), lacking, limits_s)

    @staticmethod
    def require_clock(seen: Sequence[Seen], now_s: float) -> None:
        """Raise `OperatorError` if most nodes' views are dated in our future: then our clock is wrong, not theirs."""
        ahead = [view.view.time_s - now_s for view in seen]
        if ahead and median(ahead) > SKEW_WARN_S:
            raise OperatorError(f"this device's clock is {median(ahead):.0f} s behind the nodes'; set it first")


def _size(lines: Sequence[Line], origin: bytes) -> int:
    for line in lines:
        if line.origin == origin:
            return line.size if not line.forked else -1
    return 0
