"""Promises about the registry: what nodes agree on, and what clients may rely on."""

from __future__ import annotations

from peewit_federation.registry.find import Finder
from peewit_federation.registry.subjects import Verdict
from peewit_federation.statements.mediator import Provider
from peewit_simulation.actors import District
from peewit_simulation.checkers import Checker
from peewit_simulation.federation import Simulation
from peewit_simulation.liars import Thief


class NodesAgree(Checker):
    """When faults have stopped, all honest nodes soon have the same registry and the same heads."""

    within_s = 120.0

    def end(self) -> None:
        if not self.sim.run(self.within_s, self.sim.converged):
            up = len(self.sim.nodes)
            digests = [node.keeper.registry.digest().hex()[:8] for node in self.sim.honest().values()]
            raise self.broken(f"they should long have agreed: {up} nodes up, registries {digests}")


class RevocationsAreKnown(Checker):
    """No client books with a practice later than its effective revocation, the freshness limit and the clocks' skew."""

    def __init__(self, sim: Simulation) -> None:
        super().__init__(sim)
        self.skew_s = 0.0
        self._at = 0

    def watch(self) -> None:
        history = self.sim.history
        hosts = self.sim.hosts.values()
        self.skew_s = max([self.skew_s, *(abs(h.skew_s) + abs(h.drift) * self.sim.world.now_s for h in hosts)])
        ended = {s.subject: history.effective_s(s) for s in history.said if s.what == "revoke"}
        for accepted in history.accepted[self._at :]:
            since_s = ended.get(accepted.subject)
            allowed_s = self.sim.charter.refuse_s + 2 * self.skew_s + 1.0
            if since_s is not None and accepted.time_s > since_s + allowed_s:
                raise self.broken(
                    f"{accepted.client} would book {accepted.time_s - since_s:.0f} s after a revocation was effective"
                )
        self._at = len(history.accepted)


class RevocationsStay(Checker):
    """A revocation that a node has folded never stops to count, whatever comes later (until a close ends its log)."""

    def __init__(self, sim: Simulation, district: District) -> None:
        super().__init__(sim)
        self.district = district

    def end(self) -> None:
        mediator = self.district.identity.id
        cut = {origin: len(entries) for origin, entries in self.sim.closed.items()}
        for name, node in self.sim.honest().items():
            for said in self.sim.history.said:
                if said.what != "revoke" or said.index >= cut.get(said.origin, 1 << 62):
                    continue
                if self.sim.history.effective_s(said) is None and said.origin not in cut:
                    continue
                found = Finder(node.keeper.registry).look(mediator, Provider.KIND, said.subject, int(node.state.now()))
                if found.verdict is not Verdict.REVOKED:
                    raise self.broken(
                        f"a practice that was revoked at {said.time_s:.0f} s is {found.verdict.value} at {name}"
                    )


class TheThiefIsGone(Checker):
    """While a theft lasts its revocations count on every side; after the close nothing that the thief did counts."""

    def __init__(self, sim: Simulation, district: District, thief: Thief) -> None:
        super().__init__(sim)
        self.district = district
        self.thief = thief

    def end(self) -> None:
        if self.thief.origin not in self.sim.closed:
            self._counts()
            return
        mediator = self.district.identity.id
        own = {s.subject for s in self.sim.history.said if s.what == "revoke"}
        for name, node in self.sim.honest().items():
            look = Finder(node.keeper.registry).look
            for subject in self.thief.evil:
                if look(mediator, Provider.KIND, subject, int(node.state.now())).verdict is not Verdict.UNKNOWN:
                    raise self.broken(f"the thief's practice counts at {name}")
            for subject in self.district.subjects.values():
                found = look(mediator, Provider.KIND, subject, int(node.state.now()))
                if found.verdict is Verdict.REVOKED and subject not in own:
                    raise self.broken(f"a revocation by the thief counts at {name}")

    def _counts(self) -> None:
        """Nobody has closed it: what it revoked in a history that an honest node holds counts at all."""
        second = self.thief.shown.get(1, "") in self.sim.honest()
        for name, node in self.sim.honest().items() if second else ():
            for subject in self.thief.victims:
                found = Finder(node.keeper.registry).look(
                    self.district.identity.id, Provider.KIND, subject, int(node.state.now())
                )
                if found.verdict in (Verdict.ACTIVE, Verdict.SUSPENDED):
                    raise self.broken(f"a revocation on one branch of a forked log does not count at {name}")


class WhatIsSaidCounts(Checker):
    """In the end every practice that its district admitted last may act at every honest node, and clients can book."""

    def __init__(self, sim: Simulation, district: District) -> None:
        super().__init__(sim)
        self.district = district

    def end(self) -> None:
        history = self.sim.history
        last = {said.subject: said for said in history.said}
        cut = {origin: len(entries) for origin, entries in self.sim.closed.items()}
        for subject, said in last.items():
            lost = said.origin in history.stolen and said.index >= cut.get(said.origin, 0)
            if said.what != "admit" or lost or not self.district.finished:
                continue
            for name, node in self.sim.honest().items():
                look = Finder(node.keeper.registry).look
                found = look(self.district.identity.id, Provider.KIND, subject, int(node.state.now()))
                if found.verdict is not Verdict.ACTIVE:
                    raise self.broken(
                        f"a practice that was admitted at {said.time_s:.0f} s is {found.verdict.value} at {name}"
                    )
        settled = not history.stolen and self.district.finished and any(s.what == "admit" for s in last.values())
        looks = self.sim.hosts["patient"].alive
        if settled and looks and not any(a.time_s > self.sim.world.now_s - 20.0 for a in history.accepted):
            raise self.broken("no client could book in the last 20 s, with nothing wrong any more")
