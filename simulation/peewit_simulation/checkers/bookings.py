"""Promises about appointments."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from peewit_federation.appointment.request import open_request
from peewit_node.engine import Write
from peewit_simulation.checkers import Checker

if TYPE_CHECKING:
    from peewit_node.node import Node
    from peewit_simulation.town import Town

NAME = b"Musterfrau"
FINDS_OUT_S = 600.0
"Longer than it takes a practice to look again whether its claims count."


class Bookings(Checker):
    """What a person was told one practice holds; nobody has two; every `H` has one priority; nobody is passed over;
    what a practice says reaches its holder; nodes know no name.
    """

    def __init__(self, town: Town) -> None:
        super().__init__(town.sim)
        self.town = town
        self._leak = self._passed_over = ""
        self._twice: dict[bytes, float] = {}
        "By `H`: since when two practices hold a time for it."
        self._watched: dict[str, object] = {}
        self._watch_nodes()

    def _watch_nodes(self) -> None:
        """Look over the shoulder of every node that has started since."""
        for name, node in self.town.sim.nodes.items():
            if self._watched.get(name) is not node:
                self._watched[name] = node
                node.engine.watchers.append(partial(self._stored, name))  # type: ignore[attr-defined]
                if "draw" not in vars(node.queues):  # a node that lies promises nothing, however soon it began
                    node.queues.draw = partial(self._draw, name, node, node.queues.draw)  # type: ignore[method-assign]

    async def _draw(self, name: str, node: Node, real: Any, area: bytes, practice: bytes, count: int) -> list[bytes]:
        """Whoever could be drawn before and after, and comes before somebody who was drawn, was passed over."""
        before = await self._free(node, area)
        found: list[bytes] = await real(area, practice, count)
        drawn = {open_request(data).name for data in found}
        last = max((order for request, order in before.items() if request in drawn), default=None)
        after = await self._free(node, area) if last else {}
        passed = node.queues.passed(area, practice)
        for request, order in after.items():
            if last and request in before and request not in drawn and order < last and request not in passed:
                self._passed_over = f"{request.hex()[:16]} by node {name}"
        return found

    @staticmethod
    async def _free(node: Node, area: bytes) -> dict[bytes, tuple[int, int, bytes]]:
        """Requests that wait and that nobody holds, and their order."""
        query = "SELECT request, rank, round, priority FROM requests WHERE area = ? AND state = 0 AND free_at <= ?"
        rows = await node.engine.fetch(query, area, int(node.state.now()))
        return {request: (rank, number, priority) for request, rank, number, priority in rows}

    def _stored(self, node: str, writes: Sequence[Write]) -> None:
        for write in writes:
            if any(isinstance(value, bytes) and NAME in value for value in write.parameters):
                self._leak = node

    def watch(self) -> None:
        self._watch_nodes()
        by_practice = [f"{c.passed_over} by {c.host.name}" for c in self.town.clinics if c.passed_over]
        if self._passed_over or by_practice:
            raise self.broken(f"was passed over, or served early: {self._passed_over or by_practice[0]}")
        if self._leak:
            raise self.broken(f"node {self._leak} stored a person's name")
        held = {clinic.host.name: clinic.on_disk().booked for clinic in self.town.clinics}
        self._capacity()
        if not all(clinic.remembers for clinic in self.town.clinics):
            return  # a device that was put back from a backup has not read its journal yet
        for person in self.town.people:
            if not person.booked:
                continue
            assert person.saved is not None
            chosen, request = person.saved.chosen, person.saved.request
            assert chosen is not None
            assert request is not None
            holders = [name for name, booked in held.items() if chosen.slot in booked]
            if [held[name][chosen.slot].request for name in holders] != [request.name]:
                raise self.broken(f"{person.host.name} was told that its time is confirmed; it is held by {holders}")
        times = Counter(booking.request for booked in held.values() for booking in booked.values())
        told = {p.saved.request.name for p in self.town.people if p.booked and p.saved and p.saved.request}
        # A practice that could not tell what it decided may hold a time for who asked again since. It finds out.
        now_s = self.town.sim.world.now_s
        self._twice = {
            name: self._twice.get(name, now_s) for name, count in times.items() if count > 1 and name in told
        }
        for name, since_s in self._twice.items():
            if now_s - since_s > FINDS_OUT_S:
                raise self.broken(f"{name.hex()[:16]} has two appointments, and knows of one")

    def _capacity(self) -> None:
        """Whatever became of devices: of the people who were told a time, no two were told the same."""
        told: dict[bytes, str] = {}
        for person in self.town.people:
            if person.booked and person.saved and person.saved.chosen:
                other = told.setdefault(person.saved.chosen.slot, person.host.name)
                if other != person.host.name:
                    raise self.broken(f"{other} and {person.host.name} were told the same time for one person")

    @property
    def settled(self) -> bool:
        """Whether nobody has two times."""
        return not self._twice

    def end(self) -> None:
        self.watch()
        if self._twice:
            raise self.broken(f"long after the faults {next(iter(self._twice)).hex()[:16]} has two appointments")
        behind = [clinic.host.name for clinic in self.town.clinics if not clinic.remembers]
        if behind:
            raise self.broken(f"long after the faults {behind} still do not know what was in their journal")
        waiting = [person.host.name for person in self.town.people if not person.booked]
        if waiting:
            states = {p.host.name: p.saved.chosen.state.name if p.saved and p.saved.chosen else "none"
                      for p in self.town.people if not p.booked}  # fmt: skip
            raise self.broken(f"there is a time for everybody, and long after the faults nobody told {states}")
        unheard = [person.host.name for person in self.town.people if not person.greeted]
        if unheard:
            raise self.broken(f"long after the faults {unheard} have not heard what their practice said")
        priorities: dict[bytes, set[bytes]] = {}
        for clinic in self.town.clinics:
            for name, found in clinic.priorities.items():
                priorities.setdefault(name, set()).update(found)
        if any(len(found) != 1 for found in priorities.values()):
            raise self.broken("one request has two priorities")
        if not priorities:
            raise self.broken("nobody was ever drawn")
