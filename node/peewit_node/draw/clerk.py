"""Keeps the rounds going: prepares those ahead, and cleans up behind those that are over."""

from __future__ import annotations

import asyncio
from typing import Final

import structlog

from peewit_federation.draw.schedule import AHEAD, LATE_ROUNDS_MAX, Schedule
from peewit_federation.errors import PeewitError
from peewit_federation.registry.fold import Registry
from peewit_node.draw.draw_keys import DrawKeys
from peewit_node.draw.token_keys import TokenKeys
from peewit_node.engine import StorageError
from peewit_node.node_state import NodeState

PAUSE_S_MAX: Final = 10.0
logger = structlog.get_logger("peewit.draw")


class Clerk:
    """One task that looks at the clock."""

    def __init__(self, state: NodeState, registry: Registry, tokens: TokenKeys, keys: DrawKeys) -> None:
        self._state = state
        self._registry = registry
        self._tokens = tokens
        self._keys = keys

    async def run(self) -> None:
        """Work for ever."""
        await self._tokens.load()
        await self._keys.load()
        while True:
            schedule = self._state.charter.schedule
            if schedule is not None:
                try:
                    await self._look(schedule)
                except (PeewitError, StorageError) as error:
                    logger.warning("a round could not be prepared yet", reason=str(error))
            await asyncio.sleep(min(PAUSE_S_MAX, schedule.round_s / 20 if schedule else PAUSE_S_MAX))

    async def _look(self, schedule: Schedule) -> None:
        now_s = self._state.now()
        present = max(0, schedule.round_at(now_s))
        for number in range(present, present + AHEAD + 1):
            await self._tokens.prepare(number)
            await self._keys.prepare(schedule, number)
        drawn = self._registry.rounds.open_round(schedule, now_s - schedule.grace_s)
        before = present - LATE_ROUNDS_MAX if drawn is None else drawn
        await self._tokens.finish(before)
        await self._keys.finish(before)
