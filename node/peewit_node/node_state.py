"""What all parts of a node share: its configuration, charter and keys, and its background tasks."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import structlog

from peewit_federation.charter import Charter, Operator
from peewit_federation.keys import SigningKey
from peewit_federation.sealed import xwing_public
from peewit_node.config import NodeConfig
from peewit_node.machine import Machine

logger = structlog.get_logger("peewit.node")


@dataclass
class NodeState:
    """One node's identity and settings."""

    config: NodeConfig
    charter: Charter
    log_key: SigningKey
    witness_key: SigningKey
    encryption_seed: bytes
    "Of the X-Wing key that others seal to; in our log stands its public part."
    clock: Callable[[], float]
    machine: Machine
    tasks: dict[asyncio.Task[None], None] = field(default_factory=dict)
    failed: asyncio.Event = field(default_factory=asyncio.Event)
    "Set when a task that must never end has ended."

    @property
    def operator(self) -> Operator:
        """Our own place in the charter."""
        return self.charter.operator(self.config.operator)

    @cached_property
    def encryption_public(self) -> bytes:
        """1,216 bytes."""
        return xwing_public(self.encryption_seed)

    def now(self) -> float:
        """POSIX seconds."""
        return self.clock()

    def spawn(self, work: Coroutine[Any, Any, None], *, vital: bool = False) -> None:
        """Run something in the background; a vital task that ends stops the node."""
        task = asyncio.create_task(work)
        self.tasks[task] = None
        task.add_done_callback(lambda done: self._ended(done, vital))

    def _ended(self, task: asyncio.Task[None], vital: bool) -> None:
        self.tasks.pop(task, None)
        if task.cancelled():
            return
        error = task.exception()
        if error is not None:
            logger.error("a background task failed", reason=f"{type(error).__name__}: {error}", exc_info=error)
        if vital:
            self.failed.set()

    async def cancel_all(self) -> None:
        """End all background tasks."""
        tasks = list(self.tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
