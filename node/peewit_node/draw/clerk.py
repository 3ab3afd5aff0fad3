"""Keeps the rounds going: prepares those ahead, says so in the log, and cleans up behind those that are over."""

from __future__ import annotations

import asyncio
from typing import Final

import structlog

from peewit_federation.draw.hours import Hours
from peewit_federation.draw.rounds import Rounds
from peewit_federation.draw.schedule import AHEAD, LATE_ROUNDS_MAX, Schedule
from peewit_federation.errors import PeewitError
from peewit_node.draw.draw_keys import DrawKeys
from peewit_node.draw.token_keys import TokenKeys
from peewit_node.engine import Engine, StorageError, WriteConflictError
from peewit_node.node_state import NodeState
from peewit_node.own_log import OwnLog

PAUSE_S_MAX: Final = 10.0
NOTICE_S: Final = 0.25
"So soon what other members say of their keys is acted upon."
logger = structlog.get_logger("peewit.draw")


class Clerk:
    """One task that looks at the clock."""

    def __init__(
        self, state: NodeState, engine: Engine, own: OwnLog, hours: Hours, rounds: Rounds, tokens: TokenKeys,
        keys: DrawKeys,
    ) -> None:  # fmt: skip
        self._state = state
        self._engine = engine
        self._own = own
        self._hours = hours
        self._rounds = rounds
        self._tokens = tokens
        self._keys = keys
        self._said: set[bytes] = set()
        "Entries that wait for a quorum."

    async def run(self) -> None:
        """Work for ever."""
        await self._tokens.load()
        await self._keys.load()
        while True:
            schedule, known = self._state.charter.schedule, self._rounds.changes
            if schedule is not None:
                for work in (self._clean, self._prepare):
                    try:
                        await work(schedule)
                    except (PeewitError, StorageError, WriteConflictError) as error:
                        logger.warning("a round could not be prepared yet", reason=str(error))
            pause_s = min(PAUSE_S_MAX, schedule.round_s / 20) if schedule else PAUSE_S_MAX
            while pause_s > 0:
                await asyncio.sleep(min(pause_s, NOTICE_S))
                pause_s = 0 if self._rounds.changes != known else pause_s - NOTICE_S

    async def _prepare(self, schedule: Schedule) -> None:
        present = max(0, schedule.round_at(self._state.now()))
        due: list[bytes] = []
        for number in range(present, present + AHEAD + 1):
            due += await self._tokens.prepare(number)
            due += await self._keys.prepare(schedule, number)
        # What was said counts when a quorum has it; until then it is not said again.
        fresh = [entry for entry in due if entry not in self._said]
        if fresh:
            await self._own.append(*fresh)
        self._said = set(due)

    async def _clean(self, schedule: Schedule) -> None:
        now_s = self._state.now()
        drawn = self._hours.oldest(schedule, now_s)
        before = schedule.round_at(now_s) - LATE_ROUNDS_MAX if drawn is None else drawn
        for entry, write in await self._tokens.counts(before):
            await self._own.append(entry)
            await self._engine.write(write)
        await self._tokens.finish(before)
        await self._keys.finish(before)
