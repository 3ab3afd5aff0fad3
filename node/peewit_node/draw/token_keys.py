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

COUNT_LEAST: Final = 50
"In a smaller crowd nobody can hide: the log says when it is larger."
PUT: Final = "INSERT INTO token_keys VALUES (?, ?, ?, ?, 0, 0) ON CONFLICT DO NOTHING"
COUNT: Final = "UPDATE token_keys SET signatures = signatures + 1 WHERE round = ? AND grp = ?"
Place = tuple[int, str]
"Round and group."


class TokenKeys:
    """Makes, keeps and forgets them."""

    def __init__(self, state: NodeState, engine: Engine, registry: Registry, machine: Machine) -> None:
        self._state = state
        self._engine = engine
        self._registry = registry
        self._machine = machine
        self._held: dict[Place, TokenKey] = {}

    async def load(self) -> None:
        """Read the keys that are stored."""
        for number, group, p, q in await self._engine.fetch("SELECT round, grp, p, q FROM token_keys"):
            self._held[number, group] = TokenKey(int.from_bytes(p, "big"), int.from_bytes(q, "big"))

    def get(self, number: int, group: str) -> TokenKey | None:
        """The key of a round and group, once our word for it counts everywhere."""
        key = self._held.get((number, group))
        counts = self._registry.rounds.token_key(self._state.operator.origin_hash, number, group)
        return key if key is not None and key.public == counts else None

    async def prepare(self, number: int) -> list[bytes]:
        """Make what a round lacks; what our log is to say of it."""
        said = []
        for group in ("", *self._state.config.admission.groups):
            place = number, group
            if self._registry.rounds.token_key(self._state.operator.origin_hash, *place):
                continue
            if place not in self._held:
                key = await self._machine.token_key(self._state.config.admission.token_bits)
                await self._engine.write(Write(PUT, (*place, *key.primes())))
                self._held[place] = key
            said.append(TokenKeyStatement(number, self._held[place].public.encode(), group).encode())
        return said

    async def counts(self, before: int) -> list[tuple[bytes, Write]]:
        """What our log is to say of how often keys were used, each with what is stored once it has."""
        rows = await self._engine.fetch(
            "SELECT round, grp, signatures FROM token_keys "
            "WHERE signatures > told AND (round < ? OR (signatures >= ? AND told < ?))",
            before, COUNT_LEAST, COUNT_LEAST,
        )  # fmt: skip
        told = "UPDATE token_keys SET told = ? WHERE round = ? AND grp = ?"
        return [
            (TokenCount(number, signatures, group).encode(), Write(told, (signatures, number, group)))
            for number, group, signatures in rows
        ]

    async def finish(self, before: int) -> None:
        """Delete the keys of rounds before one, whose counts were said."""
        if any(number < before for number, _ in self._held):
            await self._engine.write(
                Write("DELETE FROM token_keys WHERE round < ?", (before,)),
                Write("DELETE FROM admitted WHERE round < ?", (before,)),
            )
        self._held = {place: key for place, key in self._held.items() if place[0] >= before}
