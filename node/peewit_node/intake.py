"""What becomes of the items that peers tell (design 4.3).

Rules kept here: nothing a peer says is believed without the signatures of those it speaks of; heads of unknown logs
are noted within bounds and looked at again when the registry changes; a peer is only named for what we fetched
from it ourselves, for anybody can push in its name. What is missing is left to `fetching`, forks to `forks`.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from typing import Final

import structlog

from peewit_federation.errors import PeewitError, SenderError, UnknownError
from peewit_federation.gossip.feed import HeadItem, Item, ViewItem
from peewit_federation.gossip.heads import Relation, relate
from peewit_federation.log.checkpoint import Checkpoint, Head, log_key, open_head, origin_hash
from peewit_federation.log.note import Note, VerifierKey
from peewit_federation.registry.fold import Registry
from peewit_federation.statements.carried import Device, open_carried, peek_device
from peewit_node.engine import StorageError, WriteConflictError
from peewit_node.fetching import JOBS_MAX, Fetcher
from peewit_node.forks import Forks
from peewit_node.logs import Logs
from peewit_node.mirror import Mirror
from peewit_node.node_state import NodeState
from peewit_node.peers import Peer, Peers
from peewit_node.stored_log import Log
from peewit_node.views import Views

NOTED_MAX: Final = 2_000
TURN_ITEMS: Final = 16
logger = structlog.get_logger("peewit.gossip")


class Intake:
    """Takes items one by one."""

    def __init__(
        self,
        state: NodeState,
        logs: Logs,
        registry: Registry,
        peers: Peers,
        mirror: Mirror,
        forks: Forks,
        views: Views,
    ) -> None:
        self._state = state
        self._logs = logs
        self._registry = registry
        self._peers = peers
        self._forks = forks
        self._views = views
        self.fetcher = Fetcher(mirror, state.config.gossip, self._judge)
        self._learning: dict[tuple[bytes, Checkpoint], Head] = {}
        self._noted: OrderedDict[bytes, tuple[HeadItem, Peer]] = OrderedDict()

    async def take_all(self, items: tuple[Item, ...], peer: Peer, *, pushed: bool) -> None:
        """Take items one by one; one that cannot be used does not stop the others."""
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
            await self._judge(log, open_head(note, key, witnesses, held), peer, pushed)

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

    async def _judge(self, log: Log, head: Head, peer: Peer, pushed: bool) -> None:
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
                    self.fetcher.fetch(log, head, peer, pushed)
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
                await self.take_all((item,), peer, pushed=True)

        if noted:
            self._state.spawn(again())
