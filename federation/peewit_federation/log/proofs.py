"""Making proofs: inclusion, consistency, and whole ranges, from any source of node hashes.

Rules kept here: the shape of each proof (RFC 6962 section 2.1). A source is a function
`(height, index) -> hash` for nodes whose leaves all exist; `TileHashes` is one over hash tiles.
Shapes do not depend on hashes, so `tiles_needed` runs a proof once without any and tells which tiles
to fetch first.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from peewit_federation.errors import ForgeryError
from peewit_federation.log.merkle import CompactRange, node_hash, perfect_root
from peewit_federation.log.tiles import HEIGHT, WIDTH, Tile, split_hashes, tile_at

Source = Callable[[int, int], bytes]
T = TypeVar("T")


def range_root(low: int, high: int, source: Source) -> bytes:
    """MTH(D[low:high]) of RFC 6962, for ranges that occur in its recursion."""
    width = high - low
    if width & (width - 1) == 0:
        height = width.bit_length() - 1
        return source(height, low >> height)
    split = low + (1 << ((width - 1).bit_length() - 1))
    return node_hash(range_root(low, split, source), range_root(split, high, source))


def inclusion_proof(index: int, size: int, source: Source) -> list[bytes]:
    """The audit path of entry `index`, from the leaf's sibling up."""
    path: list[bytes] = []
    low, high = 0, size
    while high - low > 1:
        split = low + (1 << ((high - low - 1).bit_length() - 1))
        if index < split:
            path.append(range_root(split, high, source))
            high = split
        else:
            path.append(range_root(low, split, source))
            low = split
    return path[::-1]


def consistency_proof(size1: int, size2: int, source: Source) -> list[bytes]:
    """PROOF(size1, D[size2]): that the first tree is a prefix of the second."""
    if size1 in (0, size2):
        return []
    path: list[bytes] = []
    low, high = 0, size2
    while size1 != high:
        split = low + (1 << ((high - low - 1).bit_length() - 1))
        if size1 <= split:
            path.append(range_root(split, high, source))
            high = split
        else:
            path.append(range_root(low, split, source))
            low = split
    if low:
        path.append(range_root(low, high, source))
    return path[::-1]


def root_at(size: int, source: Source) -> bytes:
    """The root that a larger tree had at `size`."""
    return range_at(size, source).root()


def range_at(size: int, source: Source) -> CompactRange:
    """The compact range that a larger tree had at `size`."""
    tree = CompactRange()
    for bit in range(size.bit_length() - 1, -1, -1):
        if size >> bit & 1:
            tree.append_subtree(bit, source(bit, tree.size >> bit))
    return tree


@dataclass(frozen=True)
class RangeProof:
    """That certain consecutive leaves stand at `first` in a tree: the rest of the tree by its largest subtrees."""

    first: int
    size: int
    left: tuple[bytes, ...]
    right: tuple[bytes, ...]

    def root(self, leaves: Sequence[bytes]) -> bytes:
        """The root that follows for these leaf hashes. Raises `ForgeryError` on a wrong shape."""
        if self.first < 0 or self.first + len(leaves) > self.size or len(self.left) != self.first.bit_count():
            raise ForgeryError("a range proof that does not fit its tree")
        tree = CompactRange(self.first, self.left)
        tree.extend(leaves)
        rest = iter(self.right)
        for height in right_heights(tree.size, self.size):
            node = next(rest, None)
            if node is None:
                raise ForgeryError("a range proof that is too short")
            tree.append_subtree(height, node)
        if next(rest, None) is not None:
            raise ForgeryError("a range proof that is too long")
        return tree.root()


def right_heights(at: int, size: int) -> list[int]:
    """The heights of the largest aligned subtrees that fill [at, size)."""
    heights = []
    while at < size:
        height = (size - at).bit_length() - 1
        if at:
            height = min(height, (at & -at).bit_length() - 1)
        heights.append(height)
        at += 1 << height
    return heights


def range_proof(first: int, end: int, size: int, source: Source) -> RangeProof:
    """Prove the leaves [first, end) of a tree."""
    left, at = [], 0
    for bit in range(first.bit_length() - 1, -1, -1):
        if first >> bit & 1:
            left.append(source(bit, at >> bit))
            at += 1 << bit
    right, at = [], end
    for height in right_heights(end, size):
        right.append(source(height, at >> height))
        at += 1 << height
    return RangeProof(first, size, tuple(left), tuple(right))


def leaf_source(leaves: Sequence[bytes]) -> Source:
    """Node hashes from all leaf hashes of a small tree, each computed once."""
    rows = [list(leaves)]
    while len(rows[-1]) > 1:
        row = rows[-1]
        rows.append([node_hash(row[i], row[i + 1]) for i in range(0, len(row) - 1, 2)])
    return lambda height, index: rows[height][index]


class TileHashes:
    """Node hashes from the hash tiles of a tree of `size` entries."""

    def __init__(self, size: int, tiles: Mapping[Tile, bytes]) -> None:
        self.size = size
        self.tiles = tiles

    def __call__(self, height: int, index: int) -> bytes:
        tile, start, count = place(height, index, self.size)
        return perfect_root(split_hashes(self.tiles[tile], tile.width)[start : start + count])


def place(height: int, index: int, size: int) -> tuple[Tile, int, int]:
    """Where a node stands: its tile, and which hashes in it (start, count) have it as their root."""
    level, inside = divmod(height, HEIGHT)
    start = index << inside
    return tile_at(level, start // WIDTH, size), start % WIDTH, 1 << inside


def tiles_needed(proof: Callable[[Source], T], size: int) -> list[Tile]:
    """The tiles of a tree of `size` that `proof(source)` will read."""
    tiles: dict[Tile, None] = {}

    def record(height: int, index: int) -> bytes:
        tiles[place(height, index, size)[0]] = None
        return bytes(32)

    proof(record)
    return list(tiles)
