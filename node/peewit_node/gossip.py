"""The conversation between nodes: push-pull exchanges, and what becomes of the items (design 4.3).

Rules kept here: a tick is an exchange with a random peer, one at a time with each; every fourth tick tries one of
the peers that failed last, so that a healed partition is noticed soon, however long it was; news is told to a few
random peers at once, as a hint; nothing a peer says is believed without the signatures of those it speaks of;
heads of unknown logs are noted within bounds and asked for again when the registry changes. How files are fetched
is left to `mirror`, forks to `forks`.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Hashable
from contextlib import suppress
from dataclasses import dataclass
from random import Random
from typing import Final

import structlog

from peewit_federation.errors import PeewitError, SenderError, UnknownError
from peewit_federation.gossip.feed import (
    DEVICES_MAX,
    EXCHANGE_BYTES_MAX,
    ITEMS_BYTES_AIM,
    ITEMS_MAX,
    Answer,
    Ask,
    Cursor,
    Feed,
    HeadItem,
    Item,
    ViewItem,
)
from peewit_federation.gossip.heads import Relation, relate
from peewit_federation.log.checkpoint import Checkpoint, Head, log_key, open_head, origin_hash
from peewit_federation.log.note import Note, VerifierKey
from peewit_federation.registry.fold import Registry
from peewit_federation.statements.carried import Device, open_carried, peek_device
from peewit_node.engine import StorageError, WriteConflictError
from peewit_node.forks import Forks
from peewit_node.logs import Log, Logs
from peewit_node.mirror import Mirror
from peewit_node.node_state import NodeState
from peewit_node.peers import Peer, PeerError, Peers
from peewit_node.views import Views

EXCHANGE: Final = "/federation/v1/exchange"
DEBOUNCE_S: Final = 0.02
RETRY_TICKS: Final = 4
HINTS_PER_INTERVAL: Final = 4
NOTED_MAX: Final = 2_000
ITEMS_UNASKED_MAX: Final = 4
TURN_ITEMS: Final = 16
EXCHANGES_AT_ONCE: Final = 100
FETCH_TRIES: Final = 5
JOBS_MAX: Final = 8
logger = structlog.get_logger("peewit.gossip")


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


class Gossip:
    """Both sides of the exchanges."""

    def __init__(
        self,
        state: NodeState,
        feed: Feed,
        logs: Logs,
        registry: Registry,
        peers: Peers,
        mirror: Mirror,
        forks: Forks,
        views: Views,
        clock: Callable[[], float],
        random: Random,
    ) -> None:
        self._state = state
        self.feed = feed
        self._logs = logs
        self._registry = registry
        self._peers = peers
        self._mirror = mirror
        self._forks = forks
        self._views = views
        self._clock = clock
        self._random = random
        self._news = asyncio.Event()
        self._loops: list[asyncio.Task[None]] = []
        self._talking: dict[str, asyncio.Task[None]] = {}
        self._again: set[str] = set()
        self.ticks = 0
        self._jobs: dict[bytes, dict[Checkpoint, Job]] = {}
        self._arrived = asyncio.Event()
        self._learning: dict[tuple[bytes, Checkpoint], Head] = {}
        self._working: dict[bytes, asyncio.Task[None]] = {}
        self._pushed: set[str] = set()
        self._places = asyncio.Semaphore(state.config.gossip.concurrency)
        self._noted: OrderedDict[bytes, tuple[HeadItem, Peer]] = OrderedDict()

    # Our side: asking

    def start(self) -> None:
        """Begin to talk to peers."""
        self._loops = [
            asyncio.create_task(self._tick(), name="gossip-tick"),
            asyncio.create_task(self._hint(), name="gossip-hint"),
        ]

    async def stop(self) -> None:
        """End all conversations and jobs."""
        tasks = [*self._loops, *self._talking.values(), *self._working.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def news(self, subject: Hashable) -> None:
        """Something changed here that others should know."""
        self.feed.add(subject)
        self._news.set()

    async def _tick(self) -> None:
        interval_s = self._state.config.gossip.interval_s
        while True:
            await asyncio.sleep(interval_s * (0.75 + 0.5 * self._random.random()))
            try:
                self._views.own(self._clock())
            except PeewitError as error:
                logger.error("no view could be signed", reason=str(error))  # noqa: TRY400
            self.ticks += 1
            failed, well = self._idle(failed=True), self._idle(failed=False)
            if failed and (self.ticks % RETRY_TICKS == 0 or not well):
                self._talk(self._random.choice(failed))
            elif well:
                self._talk(self._random.choice(well))

    async def _hint(self) -> None:
        """Tell some peers of news at once, but only a few times in an interval: more would be a storm."""
        settings = self._state.config.gossip
        count = settings.hint_peers
        while count:
            await self._news.wait()
            await asyncio.sleep(DEBOUNCE_S * self._random.random())
            self._news.clear()
            behind = [p for p in self._peers.all.values() if not p.failures and p.delivered != self.feed.end]
            for peer in self._random.sample(behind, min(count, len(behind))):
                self._talk(peer)
            await asyncio.sleep(settings.interval_s / HINTS_PER_INTERVAL)

    def _idle(self, *, failed: bool) -> list[Peer]:
        return [p for p in self._peers.all.values() if bool(p.failures) is failed and p.name not in self._talking]

    def _talk(self, peer: Peer) -> None:
        """Exchange all there is with a peer; once more if that is going on."""
        self._again.add(peer.name)
        if peer.name not in self._talking:
            self._talking[peer.name] = asyncio.create_task(self._converse(peer), name=f"gossip-{peer.name}")

    async def _converse(self, peer: Peer) -> None:
        try:
            while peer.name in self._again:
                self._again.discard(peer.name)
                for _ in range(EXCHANGES_AT_ONCE):
                    if not await self.exchange(peer):
                        break
        except Exception as error:
            # Whatever goes wrong with one peer, the conversations with others go on.
            peer.failed(str(error))
            if isinstance(error, SenderError):
                peer.caught(f"an exchange: {error}")
            expected = isinstance(error, PeerError | SenderError | StorageError)
            logger.info("an exchange failed", peer=peer.name, reason=str(error), exc_info=None if expected else error)
        finally:
            del self._talking[peer.name]

    async def exchange(self, peer: Peer) -> bool:
        """One exchange; True if there is more to exchange at once."""
        items: tuple[Item, ...] = ()
        sent, root = self.feed.end, b""
        if peer.delivered is not None:
            items, sent = self.feed.since(peer.delivered, self._item)
        if peer.delivered is None or (len(items) > ITEMS_UNASKED_MAX and not peer.differs):
            # Others may have told it all of that: eight bytes say whether we have the same.
            # Of one that we meet first, only logs matter: views come anew every minute.
            logs, everything = self._views.state_roots()
            items, sent, root = (), self.feed.end, logs if peer.delivered is None else everything
        before = peer.cursor
        ask = Ask(before, root, self._state.operator.origin_hash[:4], items)
        data = await self._peers.post(peer, EXCHANGE, ask.encode(), EXCHANGE_BYTES_MAX)
        answer = Answer.decode(data)
        peer.exchanges += 1
        peer.succeeded(self._clock())
        if peer.cursor is not before:
            return True  # meanwhile somebody began this feed anew
        restarted = before.epoch not in (b"", answer.cursor.epoch)
        peer.cursor = answer.cursor
        if restarted:
            peer.delivered = None
        elif root and not answer.same:
            peer.delivered = peer.delivered or Cursor(self.feed.epoch, 0)
        else:
            peer.delivered = sent
        peer.differs = bool(root) and not answer.same
        await self._take_all(answer.items, peer, pushed=False)
        more_there = sum(item.size_bytes for item in answer.items) > ITEMS_BYTES_AIM or len(answer.items) >= ITEMS_MAX
        more_here = peer.delivered != sent or (bool(items) and sent != self.feed.end)
        return more_there or more_here

    def answer(self, ask: Ask) -> Answer:
        """The other side: our news since the asker's cursor, while its own are worked on."""
        peer = self._peers.by_name(ask.name)
        if peer is not None and ask.items and peer.name not in self._pushed:
            # One batch at a time; what is left out comes with our own next exchange with this peer.
            self._pushed.add(peer.name)
            self._state.spawn(self._take_pushed(ask.items, peer))
        if ask.root and ask.root in self._views.state_roots():
            return Answer(self.feed.end, same=True)
        items, cursor = self.feed.since(ask.cursor, self._item)
        return Answer(cursor, False, items)

    def _item(self, subject: Hashable, new: bool) -> Item | None:
        match subject:
            case ("view", str(name)):
                held = self._views.newest.get(name)
                return ViewItem(held.data) if held else None
            case ("log", bytes(origin)):
                log = self._logs.get(origin)
                if log is None or log.head is None:
                    return None
                quorum = b"" if log.quorum is None or log.quorum.size == log.head.size else log.quorum.encode()
                devices = self._device_statements(origin) if new else ()
                return HeadItem(log.head.encode(), devices, quorum)
        raise AssertionError(f"unknown subject of the feed: {subject!r}")

    def _device_statements(self, origin: bytes) -> tuple[bytes, ...]:
        return tuple(data for _, data in self._registry.vouched.device_statements(origin))[:DEVICES_MAX]

    # What becomes of items

    async def _take_pushed(self, items: tuple[Item, ...], peer: Peer) -> None:
        try:
            await self._take_all(items, peer, pushed=True)
        finally:
            self._pushed.discard(peer.name)

    async def _take_all(self, items: tuple[Item, ...], peer: Peer, *, pushed: bool) -> None:
        """Take items one by one; one that cannot be used does not stop the others.

        Anybody can push in a peer's name, so a peer is only named for what we fetched from it ourselves.
        """
        for number, item in enumerate(items, 1):
            try:
                if isinstance(item, ViewItem):
                    await self._views.take(item.view, peer, self._peers)
                else:
                    await self.take_head(item, peer, pushed=pushed)
            except UnknownError as error:
                logger.debug("news of something unknown", peer=peer.name, reason=str(error))
            except SenderError as error:
                if not pushed:
                    peer.caught(str(error))
                logger.info("false news", peer=peer.name, pushed=pushed, reason=str(error))
            except (PeewitError, StorageError, WriteConflictError) as error:
                logger.info("news could not be used", peer=peer.name, reason=str(error))
            if number % TURN_ITEMS == 0:
                await asyncio.sleep(0)

    @staticmethod
    def size_of(note: bytes) -> int:
        """The size that a checkpoint note tells."""
        return Checkpoint.parse(Note.parse(note).text).size

    async def take_head(self, item: HeadItem, peer: Peer, *, pushed: bool = False) -> None:
        """Judge a head, and fetch what it covers if that is missing."""
        if self._have(item):
            return
        origin = origin_hash(Checkpoint.parse(Note.parse(item.note).text).origin)
        key = self._key_of(origin, item.devices)
        if key is None:
            self._note(origin, item, peer)
            return
        log = await self._logs.ensure(key)
        witnesses = self._state.charter.policy.witness_keys
        for note in filter(None, (item.note, item.quorum)):
            held = log.quorum if note == item.quorum else log.head
            await self._judge(log, open_head(note, key, witnesses, held), peer, pushed=pushed)

    def _have(self, item: HeadItem) -> bool:
        """Whether every line of it is here already, byte for byte: most news comes from several sides."""
        text, _, lines = item.note.partition(b"\n\n")
        log = self._logs.get(origin_hash(text.partition(b"\n")[0].decode(errors="replace")))
        if log is None or log.head is None:
            return False
        held, _, known = log.head.encode().partition(b"\n\n")
        if text != held or not set(lines.split(b"\n")) <= set(known.split(b"\n")):
            return False
        return not item.quorum or (log.quorum is not None and log.quorum.encode() == item.quorum)

    async def _learn(self, log: Log, head: Head) -> None:
        """Take over cosignatures; if the log is being mirrored, do not keep the conversation waiting for that."""
        name = log.origin, head.checkpoint
        waiting = self._learning.get(name)
        if waiting is not None:
            self._learning[name] = waiting.merged(head)
            return
        if sum(origin == log.origin for origin, _ in self._learning) >= JOBS_MAX:
            return  # told again with later cosignatures; nobody may make us remember more
        self._learning[name] = head

        async def learn() -> None:
            async with log.lock:
                await self._logs.learn(log, self._learning.pop(name))

        if log.lock.locked():
            self._state.spawn(learn())
        else:
            await learn()

    async def _judge(self, log: Log, head: Head, peer: Peer, *, pushed: bool) -> None:
        relation = relate(log.head, head)
        if log.forked:
            # Nothing is cosigned or followed any more, but what others cosigned on our own branch still counts.
            if relation is Relation.SAME or (
                relation is Relation.SHORTER and await self._logs.root_at(log, head.size) == head.root
            ):
                await self._learn(log, head)
            return
        match relation:
            case Relation.SAME:
                await self._learn(log, head)
            case Relation.FORK:
                await self._forks.same_size(log, head)
            case Relation.SHORTER:
                if await self._forks.shorter(log, head):
                    await self._learn(log, head)
            case Relation.LONGER:
                if head.size <= self._limit(log.origin):
                    self._fetch(log, head, peer, pushed)
                else:
                    self._note(log.origin, HeadItem(head.encode()), peer)

    def _limit(self, origin: bytes) -> int:
        if origin in self._registry.operators:
            return self._state.config.limits.operator_entries
        return self._registry.mirrors(origin) or 0

    def _key_of(self, origin: bytes, devices: tuple[bytes, ...]) -> VerifierKey | None:
        key = self._state.charter.logs.get(origin)
        if key is not None:
            return key
        if self._registry.mirrors(origin) is None:
            for data in devices:
                claimed = peek_device(data)
                if claimed is None or claimed.root not in self._registry.standing_roots(claimed.mediator):
                    continue
                statement = open_carried(data)
                if isinstance(statement, Device) and statement.origin_hash == origin:
                    self._registry.carry(data)
        device = self._registry.vouched.device(origin)
        return log_key(device.log_key) if device and self._registry.mirrors(origin) is not None else None

    def _note(self, origin: bytes, item: HeadItem, peer: Peer) -> None:
        """Remember a head that cannot be judged yet. First come, first kept: strangers must not displace it."""
        if len(self._noted) < NOTED_MAX:
            self._noted.setdefault(origin, (item, peer))

    def reconsider(self) -> None:
        """The registry changed: look again at the heads that were refused."""
        noted, self._noted = self._noted, OrderedDict()

        async def again() -> None:
            for item, peer in noted.values():
                await self._take_all((item,), peer, pushed=True)

        if noted:
            self._state.spawn(again())

    def _fetch(self, log: Log, head: Head, peer: Peer, pushed: bool) -> None:
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
        settings = self._state.config.gossip
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
                        done = await self._mirror.reach(log, job.head, job.peer, blame=not job.pushed)
                        if done:
                            # The log may have grown meanwhile by other means: judge the head against what is there now.
                            await self._judge(log, job.head, job.peer, pushed=job.pushed)
                    except (StorageError, WriteConflictError, PeewitError) as error:
                        logger.warning("a log could not be stored", log=log.origin.hex()[:16], reason=str(error))
                job.tries += 1
                wait_s = min(settings.backoff_max_s, settings.interval_s * 2**job.tries)
                job.not_before_s = loop.time() + wait_s
                if done or log.forked or job.head.size <= log.size:
                    jobs.pop(job.head.checkpoint, None)
                elif job.tries > FETCH_TRIES and job.head.checkpoint in jobs:
                    self._give_up(jobs.pop(job.head.checkpoint))
        finally:
            del self._working[log.origin], self._jobs[log.origin]
