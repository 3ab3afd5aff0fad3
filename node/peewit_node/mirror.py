"""Fetching what a head covers, from whoever has it, until it is stored and cosigned.

Rules kept here: every file is checked before it is stored, in order and in pieces, so that a crash costs one
piece; a peer whose file does not hold is named and another is asked; several heads of one log are one
job, towards the longest. What proves a fork is handed to `forks`. Storing is never interrupted by a timeout.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Final

import structlog

from peewit_federation.errors import ForgeryError, MalformedError
from peewit_federation.log.checkpoint import Checkpoint, Head
from peewit_federation.log.follow import Bundle, Follow, HistoryError, MismatchError
from peewit_federation.log.merkle import HASH_BYTES
from peewit_federation.log.tiles import ENTRIES, WIDTH, Tile, encode_bundle, split_bundle
from peewit_node.logs import Logs
from peewit_node.peers import NotThereError, Peer, PeerError, Peers
from peewit_node.stored_log import Log

PARALLEL: Final = 8
PIECE_BUNDLES: Final = 64
PIECE_BYTES: Final = 8 << 20
logger = structlog.get_logger("peewit.mirror")


class Mirror:
    """Fetches logs from peers."""

    def __init__(self, logs: Logs, peers: Peers, on_fork: Callable[[Log, Head, HistoryError], Awaitable[None]]) -> None:
        self._logs = logs
        self._peers = peers
        self._on_fork = on_fork

    async def reach(self, log: Log, head: Head, announcer: Peer, *, blame: bool) -> bool:
        """Hold all that `head` covers; True if we do. Peers are asked in turn, its announcer first.

        With `blame`, the announcer is named if what it serves does not lead to the head.
        """
        others = sorted((p for p in self._peers.all.values() if p is not announcer), key=lambda p: p.failures)
        for peer in [announcer, *others]:
            try:
                async with log.lock:
                    await self._from(log, head, peer, announced=blame and peer is announcer)
            except (PeerError, ForgeryError, MalformedError) as error:
                logger.info("a peer could not give a log", peer=peer.name, log=log.origin.hex()[:16], reason=str(error))
                continue
            except HistoryError as error:
                await self._on_fork(log, head, error)
                return False
            return True
        return False

    async def _from(self, log: Log, head: Head, peer: Peer, *, announced: bool) -> None:
        if log.forked or (log.head is not None and log.head.size >= head.size):
            return None
        prefix = f"/log/{log.origin.hex()}/"
        if log.stored >= head.size and await self._logs.root_at(log, head.size) == head.root:
            await self._logs.extend(log, head=head, pending=log.pending)
            return None
        if log.stored < head.size:
            try:
                return await self.follow(log, head.checkpoint, peer, prefix, head, announced=announced)
            except HistoryError:
                if log.stored == log.size:
                    raise
        if log.pending is not None and log.pending.witnesses and not head.witnesses:
            raise MismatchError("what is being mirrored was cosigned, and this head was not")
        # What was mirrored beyond our head belongs to another history than this head. It was never
        # acknowledged or cosigned, so we go back to our head and look again.
        await self._logs.truncate(log, log.size)
        return await self.follow(log, head.checkpoint, peer, prefix, head, announced=announced)

    async def follow(
        self, log: Log, target: Checkpoint, peer: Peer, prefix: str, head: Head | None, *, announced: bool = False
    ) -> None:
        """Fetch what is missing up to `target` below `prefix` of one peer; with `head`, complete it."""
        follow = await self._prepare(log, target, thorough=False)
        try:
            await self._fetch(log, follow, peer, prefix, head, announced)
        except MismatchError:
            follow = await self._prepare(log, target, thorough=True)
            await self._fetch(log, follow, peer, prefix, head, announced)

    async def _prepare(self, log: Log, target: Checkpoint, *, thorough: bool) -> Follow:
        edge = await self._logs.edge(log)
        return Follow(target, edge.range, encode_bundle(edge.tail), thorough=thorough)

    async def _fetch(
        self, log: Log, follow: Follow, peer: Peer, prefix: str, head: Head | None, announced: bool
    ) -> None:
        tiles = await asyncio.gather(*(self._tile(peer, prefix, tile) for tile in follow.hash_tiles))
        with _naming(peer, prefix, announced=announced):
            follow.accept_hashes(dict(zip(follow.hash_tiles, tiles, strict=True)))
        remaining = list(follow.bundles)
        window: list[asyncio.Task[bytes]] = []
        piece: list[Bundle] = []
        ahead = iter(remaining)
        storing: asyncio.Task[None] | None = None
        size = 0
        try:
            for tile in remaining:
                while len(window) < PARALLEL and (following := next(ahead, None)) is not None:
                    window.append(asyncio.create_task(self._tile(peer, prefix, following)))
                data = await window.pop(0)
                with _naming(peer, prefix, announced=announced):
                    piece.append(follow.accept_bundle(tile, data))
                size += len(data)
                if (len(piece) >= PIECE_BUNDLES or size > PIECE_BYTES) and tile is not remaining[-1]:
                    size = 0
                    if storing:
                        await storing
                    storing = asyncio.create_task(self._logs.extend(log, piece, pending=head))
                    piece = []
        finally:
            for task in window:
                task.cancel()
            if storing:
                await storing
        await self._logs.extend(log, piece, head=head)

    async def _tile(self, peer: Peer, prefix: str, tile: Tile) -> bytes:
        try:
            return await self._peers.get(peer, prefix + tile.path, tile.size_bytes_max)
        except NotThereError:
            if tile.width == WIDTH:
                raise
        body = await self._peers.get(peer, prefix + tile.full.path, tile.full.size_bytes_max)
        if tile.level == ENTRIES:
            return encode_bundle(split_bundle(body, WIDTH)[: tile.width])
        return body[: tile.width * HASH_BYTES]


@contextmanager
def _naming(peer: Peer, prefix: str, *, announced: bool) -> Iterator[None]:
    """Remember against a peer what its file was caught at, if it had announced the head itself."""
    try:
        yield
    except MismatchError:
        raise
    except (ForgeryError, MalformedError) as error:
        if announced:
            peer.caught(f"{prefix}: {error}")
        raise
