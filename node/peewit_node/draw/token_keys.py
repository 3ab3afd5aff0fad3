"""This node's keys for admissions: one for each round and group, made ahead and forgotten behind.

Rules kept here: a key is stored before its public part is logged, and used only when the log's word for it counts; when
its round is over the private part is deleted, so that nobody can make more of its tokens; how often it was used is said
in the log, from fifty on and at the end.
"""

from __future__ import annotations

from typing import Final

from peewit_federation.draw.blind_rsa import TokenKey
from peewit_federation.registry.fold import Registry
from peewit_federation.statements.draw import TokenCount
from peewit_federation.statements.draw import TokenKey as TokenKeyStatement
from peewit_node.engine import Engine, Write
from peewit_node.machine import Machine
from peewit_node.node_state import NodeState
from peewit_node.own_log import OwnLog

COUNT_LEAST: Final = 50
"In a smaller crowd nobody can hide: the log says when it is larger."
PUT: Final = "INSERT INTO token_keys VALUES (?, ?, ?, ?, 0, 0)"
COUNT: Final = "UPDATE token_keys SET signatures = signatures + 1 WHERE round = ? AND grp = ?"
Place = tuple[int, str]
"Round and group."


class TokenKeys:
    """Makes, keeps and forgets them."""

    def __init__(self, state: NodeState, engine: Engine, own: OwnLog, registry: Registry, machine: Machine) -> None:
        self._state = state
        self._engine = engine
        self._own = own
        self._registry = registry
        self._machine = machine
        self._held: dict[Place, TokenKey] = {}
        self._said: set[Place] = set()

    async def load(self) -> None:
        """Read the keys that are stored."""
        for number, group, p, q in await self._engine.fetch("SELECT round, grp, p, q FROM token_keys"):
            self._held[number, group] = TokenKey(int.from_bytes(p, "big"), int.from_bytes(q, "big"))

    def get(self, number: int, group: str) -> TokenKey | None:
        """The key of a round and group, once our word for it counts everywhere."""
        key = self._held.get((number, group))
        counts = self._registry.rounds.token_key(self._state.operator.origin_hash, number, group)
        return key if key is not None and key.public == counts else None

    async def prepare(self, number: int) -> None:
        """Make what a round lacks, and say it."""
        for group in ("", *self._state.config.admission.groups):
            place = number, group
            if self._registry.rounds.token_key(self._state.operator.origin_hash, *place) or place in self._said:
                continue
            if place not in self._held:
                key = await self._machine.token_key(self._state.config.admission.token_bits)
                await self._engine.write(Write(PUT, (*place, *key.primes())))
                self._held[place] = key
            self._said.add(place)
            await self._own.append(TokenKeyStatement(number, self._held[place].public.encode(), group).encode())

    async def finish(self, before: int) -> None:
        """Say how often keys were used, and delete those of rounds before one."""
        rows = await self._engine.fetch(
            "SELECT round, grp, signatures FROM token_keys WHERE signatures > told AND (round < ? OR told < ?)",
            before, COUNT_LEAST,
        )  # fmt: skip
        for number, group, signatures in rows:
            if signatures < COUNT_LEAST and number >= before:
                continue
            await self._own.append(TokenCount(number, signatures, group).encode())
            told = "UPDATE token_keys SET told = ? WHERE round = ? AND grp = ?"
            await self._engine.write(Write(told, (signatures, number, group)))
        if any(number < before for number, _ in self._held):
            await self._engine.write(Write("DELETE FROM token_keys WHERE round < ?", (before,)))
        self._held = {place: key for place, key in self._held.items() if place[0] >= before}
        self._said = {place for place in self._said if place[0] >= before}
