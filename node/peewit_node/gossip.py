"""The conversation between nodes: push-pull exchanges (design 4.3).

Rules kept here: a tick is an exchange with a random peer, one at a time with each; every fourth tick tries one of
the peers that failed last, so that a healed partition is noticed soon, however long it was; news is told to a few
random peers at once, as a hint; where news would be larger than the marks of all that there is, marks are
compared and only what differs is sent. What becomes of items is left to `intake`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable, Sequence
from random import Random
from typing import Final

import structlog

from peewit_federation.errors import PeewitError, SenderError
from peewit_federation.gossip.feed import (
    DEVICES_MAX,
    EXCHANGE_BYTES_MAX,
    ITEMS_BYTES_AIM,
    ITEMS_MAX,
    WANTS_MAX,
    Answer,
    Ask,
    Cursor,
    Feed,
    HeadItem,
    Item,
    ViewItem,
)
from peewit_federation.registry.fold import Registry
from peewit_node.engine import StorageError
from peewit_node.intake import Intake
from peewit_node.logs import Logs
from peewit_node.node_state import NodeState
from peewit_node.peers import Peer, PeerError, Peers
from peewit_node.stored_log import Log
from peewit_node.views import Views

EXCHANGE: Final = "/federation/v1/exchange"
DEBOUNCE_S: Final = 0.02
RETRY_TICKS: Final = 4
HINTS_PER_INTERVAL: Final = 4
EXCHANGES_AT_ONCE: Final = 100
DIFFERED_MIN: Final = 4
DIFFERED_MAX: Final = 256
ITEMS_BYTES_FREE: Final = 4 * 1024
logger = structlog.get_logger("peewit.gossip")


class Gossip:
    """Both sides of the exchanges."""

    def __init__(
        self,
        state: NodeState,
        feed: Feed,
        logs: Logs,
        registry: Registry,
        peers: Peers,
        intake: Intake,
        views: Views,
        clock: Callable[[], float],
        random: Random,
    ) -> None:
        self._state = state
        self.feed = feed
        self._logs = logs
        self._registry = registry
        self._peers = peers
        self._intake = intake
        self._views = views
        self._clock = clock
        self._random = random
        self._news = asyncio.Event()
        self._loops: list[asyncio.Task[None]] = []
        self._talking: dict[str, asyncio.Task[None]] = {}
        self._again: set[str] = set()
        self._pushed: set[str] = set()
        self.ticks = 0

    # When we talk, and to whom

    def start(self) -> None:
        """Begin to talk to peers."""
        self._loops = [
            asyncio.create_task(self._tick(), name="gossip-tick"),
            asyncio.create_task(self._hint(), name="gossip-hint"),
        ]

    async def stop(self) -> None:
        """End all conversations."""
        tasks = [*self._loops, *self._talking.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def news(self, log: Log, *, urgent: bool) -> None:
        """A log changed here; others should know, and a few of them at once if it is urgent."""
        subject = "log", log.origin
        if (log.head is None and not log.forked) or not (subject in self.feed.marks or self._counts(log)):
            return
        self.feed.add(subject, *state_of(log))
        if urgent:
            self._news.set()

    def recount(self) -> None:
        """Who is admitted changed. Logs that count no more have no marks: who never had them cannot get them."""
        for log in self._logs.all():
            subject = ("log", log.origin)
            if not self._counts(log):
                self.feed.marks.drop(subject)
            elif subject not in self.feed.marks:
                self.news(log, urgent=False)

    def _counts(self, log: Log) -> bool:
        return log.origin in self._registry.operators or self._registry.mirrors(log.origin) is not None

    async def _tick(self) -> None:
        interval_s = self._state.config.gossip.interval_s
        while True:
            await asyncio.sleep(interval_s * (0.75 + 0.5 * self._random.random()))
            try:
                self._views.own(self._clock())
            except PeewitError as error:
                logger.error("no view could be signed", reason=str(error))  # noqa: TRY400
            self.ticks += 1
            failed, well = self._idle()
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

    def _idle(self) -> tuple[list[Peer], list[Peer]]:
        """Peers that we do not talk with just now: those that failed last, and those that did not."""
        idle = [peer for name, peer in self._peers.all.items() if name not in self._talking]
        failed = [peer for peer in idle if peer.failures]
        return failed, [peer for peer in idle if not peer.failures] if failed else idle

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

    # An exchange, from both sides

    async def exchange(self, peer: Peer) -> bool:
        """One exchange; True if there is more to exchange at once."""
        before, owed = peer.cursor, peer.owed
        ask, sent, count = self._ask(peer)
        data = await self._peers.post(peer, EXCHANGE, ask.encode(), EXCHANGE_BYTES_MAX)
        answer = Answer.decode(data)
        peer.exchanges += 1
        peer.succeeded(self._clock())
        if peer.cursor is not before:
            return True  # meanwhile somebody began this feed anew
        restarted = before.epoch not in (b"", answer.cursor.epoch)
        peer.cursor = answer.cursor
        if restarted:
            peer.delivered, peer.owed, peer.wanted = None, [], []
        elif answer.same:
            peer.delivered, peer.owed, peer.wanted = sent, [], []
        elif answer.marks or not ask.cursor.epoch:
            peer.owed, peer.wanted = self.feed.marks.compare(answer.marks)
            peer.delivered = self.feed.end
        else:
            # Wants that bring nothing have changed since, and come as news; or there was never anything behind them.
            wanted = peer.wanted[len(ask.wants) :] if answer.items else []
            peer.delivered, peer.owed, peer.wanted = sent, owed[count:], wanted
        await self._intake.take_all(answer.items, peer, pushed=False)
        self._suspect(peer, same=answer.same, compared=bool(answer.marks or not ask.cursor.epoch))
        more_there = sum(item.size_bytes for item in answer.items) > ITEMS_BYTES_AIM or len(answer.items) >= ITEMS_MAX
        more_here = peer.owed or peer.wanted or (ask.items and peer.delivered != self.feed.end)
        return bool(restarted or more_there or more_here)

    @staticmethod
    def _suspect(peer: Peer, *, same: bool, compared: bool) -> None:
        """Two that differ again and again may have lost something: they compare, but not every time."""
        if same:
            peer.differed = 0
        elif not compared:
            peer.differed += 1
            if peer.differed >= DIFFERED_MIN and (peer.differed.bit_count() == 1 or peer.differed % DIFFERED_MAX == 0):
                peer.delivered = None

    def _ask(self, peer: Peer) -> tuple[Ask, Cursor, int]:
        """What to say to a peer; up to where it has our feed then, and how much of what we owe it."""
        marks, name = self.feed.marks, self._state.operator.origin_hash[:4]
        if peer.delivered is not None and (peer.owed or peer.wanted):
            items, count = self._some(peer.owed)
            return Ask(peer.cursor, marks.root, name, items, tuple(peer.wanted[:WANTS_MAX])), peer.delivered, count
        if peer.delivered is not None:
            items, sent = self.feed.since(peer.delivered, self._item)
            if self._worth(items):
                return Ask(peer.cursor, marks.root, name, items), sent, 0
        return Ask(Cursor(), marks.root, name), self.feed.end, 0

    def _worth(self, items: tuple[Item, ...]) -> bool:
        """Whether items are sent as they are, rather than that marks are compared first, which costs a round trip."""
        return sum(item.size_bytes for item in items) <= max(ITEMS_BYTES_FREE, len(self.feed.marks.joined))

    def _some(self, subjects: Sequence[Hashable], bytes_aim: int = ITEMS_BYTES_AIM) -> tuple[tuple[Item, ...], int]:
        """Items for as many subjects as fit into an exchange, and how many these are."""
        items: list[Item] = []
        size = count = 0
        for subject in subjects[:ITEMS_MAX]:
            item = self._item(subject, True)
            count += 1
            if item is not None:
                items.append(item)
                size += item.size_bytes
            if size > bytes_aim:
                break
        return tuple(items), count

    def answer(self, ask: Ask) -> Answer:
        """The other side: our news since the asker's cursor, while its own are worked on."""
        marks, known = self.feed.marks, ask.cursor.epoch == self.feed.epoch
        if ask.root == marks.root:
            return Answer(self.feed.end, same=True)
        peer = self._peers.by_name(ask.name)
        if peer is not None and ask.items and peer.name not in self._pushed:
            # One batch at a time; what is left out comes with our own next exchange with this peer.
            self._pushed.add(peer.name)
            self._state.spawn(self._take_pushed(ask.items, peer))
        if ask.wants:
            wanted, _ = self._some(marks.find(ask.wants), EXCHANGE_BYTES_MAX)
            return Answer(ask.cursor if known else Cursor(self.feed.epoch, 0), False, wanted)
        if known:
            items, cursor = self.feed.since(ask.cursor, self._item)
            if self._worth(items):
                return Answer(cursor, False, items)
        return Answer(self.feed.end, False, (), marks.joined)

    async def _take_pushed(self, items: tuple[Item, ...], peer: Peer) -> None:
        try:
            await self._intake.take_all(items, peer, pushed=True)
        finally:
            self._pushed.discard(peer.name)

    def _item(self, subject: Hashable, new: bool) -> Item | None:
        match subject:
            case ("view", str(name)):
                held = self._views.newest.get(name)
                return ViewItem(held.data) if held else None
            case ("log", bytes(origin)):
                log = self._logs.get(origin)
                if log is None or log.head is None or not self._counts(log):
                    return None
                quorum = b"" if log.quorum is None or log.quorum.size == log.head.size else log.quorum.encode()
                devices = self._device_statements(origin) if new else ()
                return HeadItem(log.head.encode(), devices, quorum)
        raise AssertionError(f"unknown subject of the feed: {subject!r}")

    def _device_statements(self, origin: bytes) -> tuple[bytes, ...]:
        return tuple(data for _, data in self._registry.vouched.device_statements(origin))[:DEVICES_MAX]


def state_of(log: Log) -> tuple[bytes, ...]:
    """What two nodes must agree on of a log: its tree, how far it has a quorum, and what leads to the next one."""
    if log.forked:
        return b"forked log", log.origin
    assert log.head is not None, "a log without a head is nobody's news"
    believed = log.quorum.size if log.quorum else 0
    tree = log.origin, log.head.size.to_bytes(8, "big"), log.head.root, believed.to_bytes(8, "big")
    return b"log", *tree, "\n".join(sorted(log.head.witnesses)).encode() if log.head.size > believed else b""
