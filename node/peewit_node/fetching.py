"""Heads whose entries are to be fetched, until they are here or nobody has them.

Rules kept here: one task fetches for a log, and a bounded number at once; several heads of a log may wait beside
each other, so that one that nobody serves does not stop the others; the peer that told of one in vain is asked
for all of its news again. How files are fetched is left to `mirror`, what becomes of a head to `intake`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

import structlog

from peewit_federation.errors import PeewitError
from peewit_federation.gossip.feed import Cursor
from peewit_federation.log.checkpoint import Checkpoint, Head
from peewit_node.config import Gossip as Settings
from peewit_node.engine import StorageError, WriteConflictError
from peewit_node.mirror import Mirror
from peewit_node.peers import Peer
from peewit_node.stored_log import Log

FETCH_TRIES: Final = 5
JOBS_MAX: Final = 8
logger = structlog.get_logger("peewit.gossip")
Arrived = Callable[[Log, Head, Peer, bool], Awaitable[None]]


@dataclass
class Job:
    """A head whose entries are to be fetched."""

    head: Head
    peer: Peer
    pushed: bool
    "Whether somebody pushed it in the peer's name, which anybody can."
    tries: int = 0
    not_before_s: float = 0.0

    def rank(self) -> tuple[float, bool, bool, int, int]:
        """Which to try first. Who steals a device's key signs any number of heads, but no witness's line."""
        return self.not_before_s, not self.head.witnesses, self.pushed, self.tries, self.head.size


class Fetcher:
    """Fetches what heads cover."""

    def __init__(self, mirror: Mirror, settings: Settings, arrived: Arrived) -> None:
        """`arrived(log, head, peer, pushed)` judges a head whose entries have come."""
        self._mirror = mirror
        self._settings = settings
        self._judge = arrived
        self._jobs: dict[bytes, dict[Checkpoint, Job]] = {}
        self._arrived = asyncio.Event()
        self._working: dict[bytes, asyncio.Task[None]] = {}
        self._places = asyncio.Semaphore(settings.concurrency)

    async def stop(self) -> None:
        """End all jobs."""
        tasks = list(self._working.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def fetch(self, log: Log, head: Head, peer: Peer, pushed: bool) -> None:
        """Fetch what a head covers. Several may wait: one that nobody serves must not stop the others."""
        jobs = self._jobs.setdefault(log.origin, {})
        held = jobs.get(head.checkpoint)
        if held is not None:
            held.head = held.head.merged(head)
            if held.pushed and not pushed:
                held.peer, held.pushed = peer, False
        else:
            jobs[head.checkpoint] = Job(head, peer, pushed)
            while len(jobs) > JOBS_MAX:
                self._give_up(jobs.pop(max(jobs, key=lambda name: jobs[name].rank()[1:])))
        self._arrived.set()
        if log.origin not in self._working:
            task = asyncio.create_task(self._work(log), name=f"mirror-{log.origin.hex()[:8]}")
            self._working[log.origin] = task

    @staticmethod
    def _give_up(job: Job) -> None:
        """Begin the feed of the peer that told us anew, so that it tells us again; not of one that was only named."""
        if not job.pushed:
            job.peer.cursor, job.peer.delivered = Cursor(), None

    async def _work(self, log: Log) -> None:
        settings = self._settings
        jobs, loop = self._jobs[log.origin], asyncio.get_running_loop()
        try:
            while jobs:
                job = min(jobs.values(), key=Job.rank)
                pause_s = job.not_before_s - loop.time()
                if pause_s > 0:
                    # Whatever comes meanwhile may be fetched at once.
                    self._arrived.clear()
                    with suppress(TimeoutError):
                        await asyncio.wait_for(self._arrived.wait(), min(pause_s, settings.backoff_max_s))
                    continue
                done = False
                async with self._places:
                    try:
                        if await self._mirror.reach(log, job.head, job.peer, blame=not job.pushed):
                            # The log may have grown meanwhile by other means: judge the head against what is there now.
                            await self._judge(log, job.head, job.peer, job.pushed)
                            done = True
                    except (StorageError, WriteConflictError, PeewitError) as error:
                        logger.warning("a log could not be stored", log=log.origin.hex()[:16], reason=str(error))
                job.tries += 1
                wait_s = min(settings.backoff_max_s, settings.interval_s * 2**job.tries)
                job.not_before_s = loop.time() + wait_s
                if done or log.forked:
                    jobs.pop(job.head.checkpoint, None)
                elif job.tries > FETCH_TRIES and job.head.checkpoint in jobs:
                    self._give_up(jobs.pop(job.head.checkpoint))
        finally:
            del self._working[log.origin], self._jobs[log.origin]
