"""A log as it is stored: what is in memory of it, and reading its entries, tiles and proofs.

Rules kept here: nothing beyond what is stored is answered; the growing end is in memory, read when it is first needed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import TypeVar

from peewit_federation.errors import ConflictError
from peewit_federation.log.checkpoint import Head
from peewit_federation.log.merkle import HASH_BYTES, CompactRange, leaf_hash
from peewit_federation.log.note import VerifierKey
from peewit_federation.log.proofs import Source, TileHashes, inclusion_proof, root_at, tiles_needed
from peewit_federation.log.tiles import ENTRIES, HEIGHT, WIDTH, Tile, encode_bundle, split_bundle
from peewit_node.edge import Edge
from peewit_node.engine import Engine

T = TypeVar("T")


@dataclass
class Log:
    """A branch of a log that is held."""

    id: int
    origin: bytes
    "SHA-256 of the origin line."
    branch: bytes
    key: VerifierKey
    edge: Edge | None
    range: CompactRange
    "Over all entries that are stored."
    head: Head | None = None
    "The newest head all of whose entries are stored."
    quorum: Head | None = None
    "The newest head that a quorum cosigned."
    pending: Head | None = None
    "A head that is being mirrored."
    forked: bool = False
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def stored(self) -> int:
        """Entries that are stored; the head may cover fewer while more are being mirrored."""
        return self.range.size

    @property
    def size(self) -> int:
        """Entries that the head covers."""
        return self.head.size if self.head else 0


class LogReader:
    """Reads what is stored of logs."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def edge(self, log: Log) -> Edge:
        """The growing end of a log, read from the database if it is not in memory."""
        while log.edge is None:
            tree, size = log.range, log.stored
            rows = await self._engine.fetch("SELECT entry FROM tails WHERE log = ? ORDER BY place", log.id)
            tail = [row[0] for row in rows]
            partial = {}
            for level in range(1, 8):
                count = size >> (HEIGHT * level)
                if count % WIDTH:
                    body = await self._tile(log, level, count // WIDTH) or b""
                    partial[level] = body[: count % WIDTH * HASH_BYTES]
            if log.range is tree and log.edge is None:
                # Nobody grew or cut the log while its rows were read.
                log.edge = Edge(log.id, tree, tail, [leaf_hash(entry) for entry in tail], partial)
        return log.edge

    async def tile(self, log: Log, tile: Tile) -> bytes | None:
        """The bytes of a tile or bundle, if the stored entries reach that far."""
        if tile.index * WIDTH + tile.width > log.stored >> (HEIGHT * max(tile.level, 0)):
            return None
        if tile.level <= 0 and tile.index == log.stored // WIDTH:
            edge = await self.edge(log)
            if tile.index == edge.size // WIDTH:
                return encode_bundle(edge.tail[: tile.width]) if tile.level else b"".join(edge.leaves[: tile.width])
        body = await self._tile(log, tile.level, tile.index)
        if body is None or tile.width == WIDTH:
            return body
        if tile.level == ENTRIES:
            return encode_bundle(split_bundle(body, WIDTH)[: tile.width])
        return body[: tile.width * HASH_BYTES]

    async def _tile(self, log: Log, level: int, place: int) -> bytes | None:
        query = "SELECT body FROM tiles WHERE log = ? AND level = ? AND place = ?"
        rows = await self._engine.fetch(query, log.id, level, place)
        return rows[0][0] if rows else None

    async def entries(self, log: Log, start: int, end: int) -> list[bytes]:
        """The entries of one bundle from `start` on, up to `end` or the bundle's end."""
        index, offset = divmod(start, WIDTH)
        if log.edge is not None and index == log.stored // WIDTH:
            return log.edge.tail[offset : end - index * WIDTH]
        width = min(WIDTH, log.stored - index * WIDTH)
        body = await self.tile(log, Tile(ENTRIES, index, width))
        if body is None:
            raise ConflictError("entries beyond the end of the log", log.stored)
        return split_bundle(body, width)[offset : end - index * WIDTH]

    async def prove(self, log: Log, size: int, proof: Callable[[Source], T]) -> T:
        """Run a proof over the tree of the log's first `size` entries."""
        tiles = tiles_needed(proof, size)
        found = {}
        for tile in tiles:
            body = await self.tile(log, tile)
            if body is None:
                raise ConflictError("a proof beyond the end of the log", log.stored)
            found[tile] = body
        return proof(cache(TileHashes(size, found)))

    async def shown(self, log: Log, places: Sequence[int], size: int) -> list[tuple[int, bytes, tuple[bytes, ...]]]:
        """Entries of the first `size` with their places and inclusion proofs, each bundle and tile read once."""
        entries: dict[int, bytes] = {}
        for start in sorted({place - place % WIDTH for place in places}):
            bundle = await self.entries(log, start, min(start + WIDTH, size))
            entries |= {place: bundle[place - start] for place in places if start <= place < start + WIDTH}

        def prove_all(source: Source) -> list[list[bytes]]:
            return [inclusion_proof(place, size, source) for place in places]

        paths = await self.prove(log, size, prove_all)
        return [(place, entries[place], tuple(path)) for place, path in zip(places, paths, strict=True)]

    async def root_at(self, log: Log, size: int) -> bytes:
        """The root that the log had at `size`."""
        if size == log.stored:
            return log.range.root()
        return await self.prove(log, size, lambda source: root_at(size, source))
