"""The charter as a node reads it from its disk, and when it takes over another one.

Rules kept here: a charter in which the keys of this node are not the operator's is refused, and so is one that is not
the lawful successor of the one in force. Which one is in force stands in the database, so that starting again with an
older or an unsigned file changes nothing. While the node runs, a new committee that would have to make keys at once is
refused too; a node that was away when it should have been told has to live with it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Final

import structlog

from peewit_federation.charter import Charter
from peewit_federation.charter_file import parse_charter
from peewit_federation.draw.schedule import AHEAD
from peewit_federation.errors import OperatorError, PeewitError, SenderError
from peewit_node.engine import Engine, Write
from peewit_node.node_state import NodeState

CHECK_S: Final = 5.0
PUT: Final = "INSERT INTO facts VALUES ('charter', ?) ON CONFLICT (name) DO UPDATE SET body = excluded.body"
logger = structlog.get_logger("peewit.charters")


def load_charter(path: Path) -> Charter:
    """Read a charter file. Raises `OperatorError` naming it."""
    try:
        return parse_charter(path.read_bytes())
    except OSError as error:
        raise OperatorError(f"{path}: {error.strerror}; set `charter` in node.toml") from None
    except OperatorError as error:
        raise OperatorError(f"{path}: {error}") from None


def check_keys(state: NodeState) -> None:
    """Raise `OperatorError` unless the node's keys are those of its operator."""
    for name, key, expected in (
        ("log", state.log_key, state.operator.log),
        ("witness", state.witness_key, state.operator.witness),
    ):
        if key.public != expected.public.raw:
            raise OperatorError(
                f"{state.config.data / name}.key is not the {name} key of operator {state.operator.name}"
            )


class Charters:
    """Keeps the charter that is in force."""

    def __init__(self, state: NodeState, engine: Engine, taken_over: Callable[[], Awaitable[None]]) -> None:
        self._state = state
        self._engine = engine
        self._taken_over = taken_over
        self._path = state.config.charter
        self.refused = ""
        "Why the file that lies there now is not in force, in words."

    async def open(self) -> None:
        """Compare the file with what was in force before. Raises `OperatorError`."""
        charter = self._state.charter
        rows = await self._engine.fetch("SELECT body FROM facts WHERE name = 'charter'")
        if rows:
            held = parse_charter(rows[0][0])
            if held.digest == charter.digest:
                return
            try:
                held.require_successor(charter)
            except (OperatorError, SenderError) as error:
                raise OperatorError(
                    f"{self._path}: {error}. Charter {held.number} was in force when this node ran last; put that one "
                    f"there, or its successors one after the other, each with the signatures of a quorum"
                ) from None
        await self._keep(charter)

    async def reload(self) -> None:
        """Take over a successor of the charter in force, without a restart. Raises `PeewitError`."""
        held, charter = self._state.charter, load_charter(self._path)
        if charter.digest != held.digest:
            held.require_successor(charter)
            self._require_time(held, charter)
            check_keys(replace(self._state, charter=charter))
            await self._keep(charter)
            self._state.charter = charter
            await self._taken_over()
            logger.info("a new charter is in force", number=charter.number)
        self.refused = ""

    async def try_reload(self) -> None:
        """The same, but what is refused is only told."""
        try:
            await self.reload()
        except PeewitError as error:
            self.refused = str(error)
            logger.error("the new charter is refused; the old one stays in force", reason=str(error))  # noqa: TRY400

    async def watch(self) -> None:
        """Look for a new file, for ever."""
        seen = self._stamp()
        while True:
            await asyncio.sleep(CHECK_S)
            if self._stamp() != seen:
                seen = self._stamp()
                await self.try_reload()

    async def _keep(self, charter: Charter) -> None:
        await self._engine.write(Write(PUT, (charter.encode(),)))

    def _require_time(self, held: Charter, charter: Charter) -> None:
        """Raise `OperatorError` unless there is time for a new committee to make its keys."""
        if charter.schedule is not None:
            soon = charter.schedule.round_at(self._state.now()) + AHEAD
            known = {seats.from_round for seats in held.schedule.seats} if held.schedule else set()
            if any(0 < seats.from_round <= soon for seats in charter.schedule.seats if seats.from_round not in known):
                raise OperatorError(f"a new committee begins with round {soon + 1} or later: keys are made ahead")

    def _stamp(self) -> tuple[int, int]:
        """What changes when the file does."""
        try:
            stat = self._path.stat()
        except OSError:
            return (0, 0)
        return stat.st_mtime_ns, stat.st_size
