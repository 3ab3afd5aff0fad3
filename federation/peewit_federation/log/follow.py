"""Mirroring a log without doing I/O: which files to fetch next, and whether what came is true.

    follow = Follow(head.checkpoint, have, tail)
    follow.accept_hashes({tile: fetch(tile) for tile in follow.hash_tiles})
    for tile in follow.bundles:
        bundle = follow.accept_bundle(tile, fetch(tile))     # in any order

Rules kept here: nothing is accepted that the signed head does not authenticate, and every file is
checked by itself, so that a liar costs one file and is known (`ForgeryError`). A head that is true
but does not extend what is held raises `HistoryError`, which carries the proof. Fetching, retrying,
storing in order and naming the liar are left to the caller.

When all that is missing lies in one bundle, the hash tiles are not needed to find the truth, only to
find who lied: `thorough=True` asks for them all the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

from peewit_federation.errors import AuthorError, ForgeryError, LimitError, MalformedError
from peewit_federation.log.checkpoint import Checkpoint
from peewit_federation.log.merkle import CompactRange, leaf_hash, perfect_root
from peewit_federation.log.proofs import TileHashes, consistency_proof, root_at
from peewit_federation.log.tiles import (
    ENTRIES,
    HEIGHT,
    WIDTH,
    Tile,
    edge,
    split_bundle,
    split_hashes,
    tile_at,
)

SIZE_MAX: Final = 20_000_000
"Entries; a signed head costs its author nothing, following it costs memory for every bundle."


class HistoryError(AuthorError):
    """A signed head that does not extend the history that is held.

    `size` entries are held; at that size the head's tree has `other_root`, and `path` is the
    consistency proof from there to the head.
    """

    def __init__(self, size: int, other_root: bytes, path: list[bytes]) -> None:
        super().__init__(f"the head does not extend the {size} entries that are held")
        self.size = size
        self.other_root = other_root
        self.path = path


class MismatchError(ForgeryError):
    """The file does not lead to the head; only a thorough look tells whether file or head is at fault."""


@dataclass(frozen=True, slots=True)
class Bundle:
    """An entry bundle that is known to be the head's."""

    tile: Tile
    data: bytes
    leaves: list[bytes]
    "Leaf hashes."
    root: bytes | None
    "Over all leaves, if the bundle is full."

    @property
    def entries(self) -> list[bytes]:
        return split_bundle(self.data, self.tile.width)


class Follow:
    """From `have` (with `tail`, the last bundle if it is partial) to `head`."""

    def __init__(
        self,
        head: Checkpoint,
        have: CompactRange,
        tail: bytes = b"",
        *,
        thorough: bool = False,
        size_max: int = SIZE_MAX,
    ) -> None:
        if head.size > size_max:
            raise LimitError(f"a log of {head.size} entries; at most {size_max} are followed")
        if head.size < have.size:
            raise MalformedError("a head that is smaller than what is held")
        self.head = head
        self.have = have
        self.start = have.size // WIDTH
        self._tail = [leaf_hash(entry) for entry in split_bundle(tail, have.size % WIDTH)]
        last = (head.size + WIDTH - 1) // WIDTH
        first = self.start if head.size > have.size else last
        self.bundles = [tile_at(ENTRIES, index, head.size) for index in range(first, last)]
        "The entry bundles to fetch, in order; the first may repeat what is held."
        self.direct = len(self.bundles) <= 1 and not thorough
        self.hash_tiles = [] if self.direct else hash_tiles(have.size, head.size)
        "The hash tiles to fetch first."
        self._tiles: dict[Tile, list[bytes]] = {}

    def accept_hashes(self, tiles: Mapping[Tile, bytes]) -> None:
        """Check the hash tiles. `ForgeryError` if they do not lead to the head, `HistoryError` if the head forks."""
        if self.direct:
            return
        self._tiles = {tile: split_hashes(tiles[tile], tile.width) for tile in self.hash_tiles}
        tree = CompactRange()
        for tile in reversed(edge(self.head.size)):
            for node in self._tiles[tile]:
                tree.append_subtree(HEIGHT * tile.level, node)
        if tree.root() != self.head.root:
            raise ForgeryError("hash tiles that do not lead to the head's root")
        for tile in sorted(self._tiles, reverse=True):
            if tile.width == WIDTH and perfect_root(self._tiles[tile]) != self._node(tile.level + 1, tile.index):
                raise ForgeryError(f"hash tile {tile.path} does not match the tile above it")
        if not self._extends():
            source = TileHashes(self.head.size, tiles)
            path = consistency_proof(self.have.size, self.head.size, source)
            raise HistoryError(self.have.size, root_at(self.have.size, source), path)

    def accept_bundle(self, tile: Tile, data: bytes) -> Bundle:
        """The bundle, once it is shown to be the head's. `ForgeryError` if it is not."""
        leaves = [sha256(b"\x00" + entry).digest() for entry in split_bundle(data, tile.width)]
        root = perfect_root(leaves) if tile.width == WIDTH else None
        if self.direct:
            tree = self.have.floor(HEIGHT)
            tree.extend(leaves)
            if tree.root() != self.head.root or leaves[: len(self._tail)] != self._tail:
                raise MismatchError(f"{tile.path} does not lead to the head's root")
        elif root is not None:
            if root != self._node(1, tile.index):
                raise ForgeryError(f"{tile.path} does not match its hash")
        elif leaves != self._tiles[Tile(0, tile.index, tile.width)]:
            raise ForgeryError(f"{tile.path} does not match its hash tile")
        return Bundle(tile, data, leaves, root)

    def _node(self, level: int, index: int) -> bytes:
        return self._tiles[tile_at(level, index // WIDTH, self.head.size)][index % WIDTH]

    def _extends(self) -> bool:
        tree = self.have.floor(HEIGHT)
        for index in range(self.start, self.head.size // WIDTH):
            tree.append_subtree(HEIGHT, self._node(1, index))
        if self.head.size % WIDTH:
            tree.extend(self._tiles[tile_at(0, self.head.size // WIDTH, self.head.size)])
        if tree.root() != self.head.root:
            return False
        if not self._tail:
            return True
        return self._tiles[tile_at(0, self.start, self.head.size)][: len(self._tail)] == self._tail


def hash_tiles(have: int, size: int) -> list[Tile]:
    """The hash tiles that authenticate the entries [have, size), and that prove a fork if there is one."""
    tiles = dict.fromkeys(edge(size))
    for level in range(1, 8):
        count = size >> (HEIGHT * level)
        for index in range(have >> (HEIGHT * (level + 1)), (count + WIDTH - 1) // WIDTH):
            tiles[tile_at(level, index, size)] = None
    if have % WIDTH:
        tiles[tile_at(0, have // WIDTH, size)] = None
    return list(tiles)
