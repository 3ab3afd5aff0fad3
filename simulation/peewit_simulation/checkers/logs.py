"""Promises about logs: what was acknowledged, cosigned and believed."""

from __future__ import annotations

from peewit_node.node import Node
from peewit_node.stored_log import Log
from peewit_simulation.checkers import Checker
from peewit_simulation.federation import Simulation


class CosignaturesAgree(Checker):
    """No node ever cosigns two heads of a log that do not lie on one history."""

    def watch(self) -> None:
        roots: dict[tuple[str, bytes, int], bytes] = {}
        for head in self.sim.history.heads:
            for name in head.cosigned_by:
                held = roots.setdefault((name, head.origin, head.size), head.root)
                if held != head.root:
                    raise self.broken(f"{name} cosigned two heads of {head.size} entries of {head.origin.hex()[:8]}")

    def end(self) -> None:
        self.watch()
        assert self.sim.history.heads, "nothing was seen to be stored: this checker watches the wrong writes"
        for name, node in self.sim.honest().items():
            mine = node.state.operator.witness.name
            signed = {(h.origin, h.size, h.root) for h in self.sim.history.heads if mine in h.cosigned_by}
            self.sim.on(name, self._one_history(node, sorted(signed)), within_s=120.0)

    async def _one_history(self, node: Node, signed: list[tuple[bytes, int, bytes]]) -> None:
        for origin, size, root in signed:
            log = node.logs.get(origin)
            if log is None or log.stored < size:
                raise self.broken(f"{node.state.operator.name} has lost a log that it cosigned at {size}")
            if await node.logs.root_at(log, size) != root:
                raise self.broken(f"{node.state.operator.name} cosigned {size} entries that its own log does not have")


class AcknowledgedIsKept(Checker):
    """What a node answered with a receipt (status 200, after its own cosignature was stored) is there for ever."""

    def __init__(self, sim: Simulation) -> None:
        super().__init__(sim)
        self._sizes: dict[tuple[str, bytes, str], int] = {}

    def end(self) -> None:
        for name, node in self.sim.honest().items():
            acks = [a for a in self.sim.history.acknowledged if a.node == name]
            self.sim.on(name, self._kept(node, [(a.origin, a.size, a.root) for a in acks]), within_s=120.0)

    async def _kept(self, node: Node, acks: list[tuple[bytes, int, bytes]]) -> None:
        for origin, size, root in acks:
            if not await self._has(node, origin, size, root):
                raise self.broken(f"{node.state.operator.name} acknowledged {size} entries and has lost them")

    @staticmethod
    async def _has(node: Node, origin: bytes, size: int, root: bytes) -> bool:
        """On its own branch of the log, or on one that a close picked."""
        for log in node.logs.all(branch=None):
            if log.origin == origin and log.stored >= size and await node.logs.root_at(log, size) == root:
                return True
        return False

    def watch(self) -> None:
        """While it runs, too: a head never becomes shorter."""
        for name, node in self.sim.honest().items():
            for log in node.logs.all():
                for what, size in (("head", log.size), ("quorum", log.quorum.size if log.quorum else 0)):
                    key = name, log.origin, what
                    if size < self._sizes.get(key, 0):
                        raise self.broken(f"{name} went back from {self._sizes[key]} to {size} entries ({what})")
                    self._sizes[key] = size


class QuorumIsQuorum(Checker):
    """Nothing is believed but what as many witnesses cosigned as the charter says."""

    def __init__(self, sim: Simulation) -> None:
        super().__init__(sim)
        self._at = 0

    def watch(self) -> None:
        policy = self.sim.charter.policy
        needed, witnesses = policy.needed(), set(policy.witness_keys)
        for head in self.sim.history.quorums[self._at :]:
            if head.node not in self.sim.liars and len(witnesses & set(head.cosigned_by)) < needed:
                raise self.broken(f"{len(head.cosigned_by)} of {needed} cosignatures pass for a quorum at {head.node}")
        self._at = len(self.sim.history.quorums)
        for node in self.sim.honest().values():
            for log in node.logs.all():
                self._believed(node, log)

    def _believed(self, node: Node, log: Log) -> None:
        state = node.keeper.registry.logs.get((log.origin, b""))
        if state is not None and state.believed > (log.quorum.size if log.quorum else 0):
            raise self.broken(f"{node.state.operator.name} believes {state.believed} entries without a quorum")


class ForksAreKnown(Checker):
    """When two histories of a log have reached honest nodes, every honest node has the evidence, and says so."""

    def end(self) -> None:
        stored = {(h.origin, h.size, h.root) for h in self.sim.history.heads if h.node not in self.sim.liars}
        forked: dict[bytes, int] = {}
        for name, node in self.sim.honest().items():
            forked |= self.sim.on(name, self._contradicted(node, sorted(stored)), within_s=120.0)
        for origin, size in forked.items():
            for name, node in self.sim.honest().items():
                if node.keeper.registry.forked(origin) is None:
                    raise self.broken(f"{name} has no evidence that {origin.hex()[:8]} forked at {size}")

    @staticmethod
    async def _contradicted(node: Node, stored: list[tuple[bytes, int, bytes]]) -> dict[bytes, int]:
        """Logs of which some honest node stored a head, of any size, that a node's own tree does not contain."""
        found = {}
        for origin, size, root in stored:
            log = node.logs.get(origin)
            if log is not None and log.size >= size and await node.logs.root_at(log, size) != root:
                found[origin] = size
        return found
