"""Bugs that are planted to see whether the simulation finds them. None of this is ever shipped.

Rules kept here: each is one thing that a programmer could get wrong, put in place by a patch and taken out again;
each names the scenarios that must find it (seeds of the hunt, or one that is written down) and the promises
that may break. A bug that nothing finds is a hole in the checkers.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any
from unittest.mock import patch

import structlog

from peewit_clients.freshness import Freshness
from peewit_federation.gossip import heads
from peewit_federation.gossip.feed import Ask, Cursor
from peewit_federation.keys import PublicKey
from peewit_federation.log.follow import Follow
from peewit_federation.log.policy import Policy
from peewit_federation.registry.fold import Cut, Registry
from peewit_federation.registry.subjects import Subject
from peewit_node import intake, keeper, own_log
from peewit_node.carry import Carrier
from peewit_node.edge import PUT_TAIL, Edge
from peewit_node.engine import Write
from peewit_node.gossip import Gossip
from peewit_node.keeper import Keeper
from peewit_node.logs import Logs
from peewit_node.node_state import NodeState
from peewit_node.stored_log import Log
from peewit_simulation.faults import Fault
from peewit_simulation.generate import draw
from peewit_simulation.scenario import Scenario
from peewit_simulation.storage import SimEngine

N = ("n000", "n001", "n002", "n003")
SEEDS = 20
"A bug that random scenarios must find is found by one of so many."


def hunted() -> list[Scenario]:
    return [draw(seed) for seed in range(SEEDS)]


CRASHES = [
    Scenario(
        seed,
        4,
        tuple(
            fault
            for number in range(8)
            for fault in (
                Fault(5.0 + 9 * number, "crash", (N[number % 4], number % 2 == 0)),
                Fault(8.0 + 9 * number, "restart", (N[number % 4],)),
            )
        ),
        85.0,
    )
    for seed in range(5)
]
"Every node is killed twice."
SPLIT = [
    Scenario(
        seed, 4, (
            Fault(5.0, "partition", (N[:2], (*N[2:], "district"))), Fault(40.0, "crash", ("district",)),
            Fault(45.0, "heal"),
        ), 60.0,
    )
    for seed in range(3)
]  # fmt: skip
AWAY = [
    Scenario(
        seed, 4, (Fault(8.0, "partition", (("patient", "n003"), (*N[:3], "district"))), Fault(140.0, "heal")), 150.0
    )
    for seed in range(5)
]
"A client that only reaches a node which is cut off, for longer than it may rely on what it knows."
LEFT_BEHIND = [
    Scenario(
        seed, 4, (
            Fault(5.0, "partition", ((*N[:2], "district"), N[2:])), Fault(38.0, "crash", ("district",)),
            Fault(40.0, "crash", ("n000",)), Fault(40.0, "crash", ("n001",)),
            Fault(42.0, "restart", ("n000",)), Fault(42.0, "restart", ("n001",)), Fault(50.0, "heal"),
        ), 60.0,
    )
    for seed in range(3)
]  # fmt: skip
"Nobody brings the news to the other side but nodes that have restarted."
THEFT = [
    Scenario(
        seed, 4, (Fault(30.0, "partition", (N[:2], (*N[2:], "district"))), Fault(60.0, "heal")), 80.0, (),
        (40.0, "n000", "n002"),
    )
    for seed in range(5)
]  # fmt: skip
TWICE = [replace(scenario, faults=(), theft=(40.0, "n000", "n000"), closes=False) for scenario in THEFT]
"A thief shows both histories to one node."
OPEN_THEFT = [replace(scenario, closes=False) for scenario in THEFT]
GARBLE = [Scenario(seed, 4, (), 60.0, (("n003", "garble"),)) for seed in range(3)]
FORGE = [Scenario(seed, 4, (), 60.0, (("n003", "forge"),)) for seed in range(3)]
QUIET = [Scenario(seed, 4, (), 40.0) for seed in range(2)]


@dataclass(frozen=True)
class Planted:
    """One bug."""

    name: str
    plant: Callable[[ExitStack], None]
    scenarios: list[Scenario]
    promises: tuple[str, ...]
    "Any of these may break first."


def _patch(stack: ExitStack, owner: Any, name: str, value: Any) -> None:
    stack.enter_context(patch.object(owner, name, value))


def _acknowledges_before_commit(stack: ExitStack) -> None:
    async def write(self: SimEngine, *writes: Write) -> None:
        asyncio.get_running_loop().call_later(3.0, self._commit, writes)

    _patch(stack, SimEngine, "write", write)


def _accepts_a_shorter_head(stack: ExitStack) -> None:
    real = Logs.learn

    async def learn(self: Logs, log: Log, head: Any) -> bool:
        if log.head is not None and head.size < log.size:
            log.head = head
        return await real(self, log, head)

    _patch(stack, Logs, "learn", learn)


def _quorum_is_one_less(stack: ExitStack) -> None:
    def satisfied(self: Policy, name: str, cosigners: Any) -> bool:
        if name in self.witnesses:
            return self.witnesses[name].key.name in cosigners
        group = self.groups[name]
        return sum(self._satisfied(member, cosigners) for member in group.members) > group.threshold - 2

    def of_quorum(self: Policy, cosigners: Any) -> bool:
        return self.quorum is None or self._satisfied(self.quorum, cosigners)

    _patch(stack, Policy, "_satisfied", satisfied)
    _patch(stack, Policy, "satisfied", of_quorum)


def _forgets_the_epoch(stack: ExitStack) -> None:
    real_exchange, real_answer = Gossip.exchange, Gossip.answer

    async def exchange(self: Gossip, peer: Any) -> bool:
        first = peer.delivered is None
        peer.cursor = Cursor(b"", peer.cursor.number)
        more = await real_exchange(self, peer)
        peer.delivered = self.feed.end if first else peer.delivered
        peer.owed, peer.wanted = [], []
        return more and not first

    def answer(self: Gossip, ask: Ask) -> Any:
        return real_answer(self, replace(ask, cursor=Cursor(self.feed.epoch, ask.cursor.number)))

    _patch(stack, Gossip, "exchange", exchange)
    _patch(stack, Gossip, "answer", answer)
    # Nodes that compare what they have whenever they differ without news find the gap in spite of the bug.
    _patch(stack, Gossip, "_suspect", lambda *_, **__: None)


def _ignores_the_other_branch(stack: ExitStack) -> None:
    _patch(stack, Registry, "_join_fork_revocations", lambda *_: None)


def _closes_too_late(stack: ExitStack) -> None:
    real = Registry._basis

    def basis(self: Registry, mediator: bytes) -> dict[bytes, Cut]:
        return {o: replace(c, limit=c.limit + 1) if c.settled else c for o, c in real(self, mediator).items()}

    _patch(stack, Registry, "_basis", basis)


def _believes_any_signature(stack: ExitStack) -> None:
    _patch(stack, PublicKey, "verifies", lambda *_: True)


def _never_tries_again(stack: ExitStack) -> None:
    real = Gossip._idle
    _patch(stack, Gossip, "_idle", lambda self: ([], real(self)[1]))


def _takes_a_fork_for_the_same(stack: ExitStack) -> None:
    real = heads.relate

    def relate(held: Any, incoming: Any) -> heads.Relation:
        found = real(held, incoming)
        return heads.Relation.SAME if found in (heads.Relation.FORK, heads.Relation.SHORTER) else found

    _patch(stack, intake, "relate", relate)


def _loses_the_end_of_a_log(stack: ExitStack) -> None:
    real = Edge.take_writes

    def take_writes(self: Edge) -> list[Write]:
        return [w for w in real(self) if not (w.sql == PUT_TAIL and w.parameters[1] % 3 == 2)]

    _patch(stack, Edge, "take_writes", take_writes)


def _books_on_old_knowledge(stack: ExitStack) -> None:
    _patch(stack, Freshness, "may_book", property(lambda _: True))


def _drops_revocations(stack: ExitStack) -> None:
    _patch(stack, Subject, "with_revocation", lambda self, _: self)


def _believes_any_bundle(stack: ExitStack) -> None:
    real = Follow.accept_bundle

    def accept_bundle(self: Follow, tile: Any, data: bytes) -> Any:
        try:
            return real(self, tile, data)
        except Exception:
            from peewit_federation.log.follow import Bundle
            from peewit_federation.log.merkle import leaf_hash
            from peewit_federation.log.tiles import split_bundle

            found = split_bundle(data, tile.width)
            return Bundle(tile, data, list(map(leaf_hash, found)), None)

    _patch(stack, Follow, "accept_bundle", accept_bundle)


def _forgets_what_is_done(stack: ExitStack) -> None:
    def ended(self: NodeState, task: asyncio.Task[None], vital: bool) -> None:
        if not task.cancelled():
            task.exception()

    _patch(stack, NodeState, "_ended", ended)


def _logs_its_key(stack: ExitStack) -> None:
    real = own_log.OwnLog.append

    async def append(self: Any, *entries: bytes) -> int:
        structlog.get_logger().debug("about to sign", key=self._key.seed.hex())
        return await real(self, *entries)

    _patch(stack, own_log.OwnLog, "append", append)


def _stores_subjects_without_revocations(stack: ExitStack) -> None:
    real = keeper.encode_subject
    _patch(stack, keeper, "encode_subject", lambda subject: real(Subject(subject.standing, frozenset())))


def _drops_closes(stack: ExitStack) -> None:
    real = Carrier.accept

    async def accept(self: Carrier, data: bytes) -> bool:
        from peewit_federation.statements.carried import Close, open_carried

        if isinstance(open_carried(data), Close):
            self._registry.carry(data)
            return True
        return await real(self, data)

    _patch(stack, Carrier, "accept", accept)


def _counts_grants_at_once(stack: ExitStack) -> None:
    def grow(self: Keeper, log: Log) -> None:
        self.registry.grow(log.origin, log.stored, log.stored, log.branch)

    _patch(stack, Keeper, "_grow", grow)


def _cosigns_both_sides(stack: ExitStack) -> None:
    """The check that a head extends what is held is left out where owners append."""
    from peewit_node.append import Appender

    async def contradicts(self: Appender, log: Log, head: Any) -> None:
        log.head = None
        await self._logs._store(log, await self._logs.edge(log), self._logs._signed(log, head), log.quorum, None)

    _patch(stack, Appender, "_contradicts", contradicts)


def _admits_nobody(stack: ExitStack) -> None:
    """Grants are never folded: safe, and useless."""
    _patch(stack, Subject, "with_grant", lambda self, _: self)


PLANTED = [
    Planted("admits nobody", _admits_nobody, QUIET, ("WhatIsSaidCounts", "NodesAgree")),
    Planted("acknowledges before commit", _acknowledges_before_commit, CRASHES, ()),
    Planted("accepts a shorter head", _accepts_a_shorter_head, hunted(), ("AcknowledgedIsKept", "NodesAgree")),
    Planted("> for >= in the quorum", _quorum_is_one_less, QUIET, ("QuorumIsQuorum",)),
    Planted("forgets the cursor's epoch after a restart", _forgets_the_epoch, LEFT_BEHIND, ("NodesAgree",)),
    Planted("ignores revocations of the other branch", _ignores_the_other_branch, OPEN_THEFT, ("TheThiefIsGone",)),
    Planted("closes one entry too late", _closes_too_late, THEFT, ()),
    Planted("believes any signature", _believes_any_signature, FORGE, ()),
    Planted("never tries a failed peer again", _never_tries_again, SPLIT, ("NodesAgree",)),
    Planted("takes a fork for the same tree", _takes_a_fork_for_the_same, OPEN_THEFT, ("ForksAreKnown", "NodesAgree")),
    Planted("loses the end of a log", _loses_the_end_of_a_log, CRASHES, ()),
    Planted("books on old knowledge", _books_on_old_knowledge, AWAY, ("RevocationsAreKnown",)),
    Planted("drops revocations", _drops_revocations, QUIET, ("RevocationsStay", "RevocationsAreKnown")),
    Planted("believes any bundle", _believes_any_bundle, GARBLE, ()),
    Planted("never forgets what is done", _forgets_what_is_done, hunted(), ("NodesStayBounded",)),
    Planted("logs its key", _logs_its_key, QUIET, ("SecretsStay",)),
    Planted("stores subjects without revocations", _stores_subjects_without_revocations, CRASHES, ("NodesAgree",)),
    Planted("does not carry closes", _drops_closes, THEFT, ("NodesAgree",)),
    Planted("counts grants without a quorum", _counts_grants_at_once, SPLIT, ("QuorumIsQuorum",)),
    Planted("cosigns both sides of a fork", _cosigns_both_sides, TWICE, ()),
]
