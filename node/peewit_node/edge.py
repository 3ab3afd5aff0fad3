"""The growing end of a stored log, and the rows that growing it writes.

Rules kept here: full bundles and full hash tiles are written once, as the blobs that are served; entries
of the last bundle are rows of their own until it is full, so that one more entry costs one more row;
partial tiles of level 1 and above are small and written anew.
"""

from __future__ import annotations

from collections.abc import Sequence

from peewit_federation.log.follow import Bundle
from peewit_federation.log.merkle import CompactRange, perfect_root
from peewit_federation.log.tiles import ENTRIES, HEIGHT, WIDTH, encode_bundle, split_hashes
from peewit_node.engine import Write

PUT_TILE = "INSERT INTO tiles VALUES (?, ?, ?, ?) ON CONFLICT (log, level, place) DO UPDATE SET body = excluded.body"
PUT_TAIL = "INSERT INTO tails VALUES (?, ?, ?)"
DROP_TAIL = "DELETE FROM tails WHERE log = ?"


class Edge:
    """What must be in memory to append to a log: its last bundle, and the partial tiles above it."""

    __slots__ = ("_stored_tail", "_tiles", "leaves", "log", "partial", "range", "tail")

    def __init__(
        self, log: int, tree: CompactRange, tail: list[bytes], leaves: list[bytes], partial: dict[int, bytes]
    ) -> None:
        self.log = log
        self.range = tree
        self.tail = tail
        "Entries of the last bundle, if it is partial."
        self.leaves = leaves
        self.partial = partial
        "Bytes of the partial hash tiles from level 1 up."
        self._stored_tail = len(tail)
        self._tiles: dict[tuple[int, int], bytes] = {}

    @property
    def size(self) -> int:
        """Entries in the log."""
        return self.range.size

    def copy(self) -> Edge:
        """An edge to grow; the original stays as it is until the copy's writes are durable."""
        return Edge(self.log, self.range.copy(), list(self.tail), list(self.leaves), dict(self.partial))

    def append(self, entries: Sequence[bytes], leaves: Sequence[bytes]) -> None:
        """Grow by entries, given with their leaf hashes."""
        for entry, leaf in zip(entries, leaves, strict=True):
            self.tail.append(entry)
            self.leaves.append(leaf)
            self.range.append(leaf)
            if len(self.tail) == WIDTH:
                self._seal(encode_bundle(self.tail), self.leaves, perfect_root(self.leaves))

    def append_bundle(self, bundle: Bundle) -> None:
        """Grow by a bundle that was fetched; it may begin with entries that are held."""
        if bundle.root is not None and not self.tail:
            self.range.append_subtree(HEIGHT, bundle.root)
            self._seal(bundle.data, bundle.leaves, bundle.root)
        else:
            held = len(self.tail)
            self.append(bundle.entries[held:], bundle.leaves[held:])

    def _seal(self, bundle: bytes, leaves: list[bytes], root: bytes) -> None:
        place = self.size // WIDTH - 1
        self._tiles[ENTRIES, place] = bundle
        self._tiles[0, place] = b"".join(leaves)
        self.tail, self.leaves = [], []
        self._push(1, root)

    def _push(self, level: int, node: bytes) -> None:
        body = self.partial.get(level, b"") + node
        place = ((self.size >> (HEIGHT * level)) - 1) // WIDTH
        self._tiles[level, place] = body
        if len(body) == WIDTH * len(node):
            self.partial.pop(level, None)
            self._push(level + 1, perfect_root(split_hashes(body, WIDTH)))
        else:
            self.partial[level] = body

    def take_writes(self) -> list[Write]:
        """The rows that make what was appended since the last call durable."""
        writes = [Write(PUT_TILE, (self.log, *place, body)) for place, body in self._tiles.items()]
        sealed = any(level == ENTRIES for level, _ in self._tiles)
        kept = 0 if sealed else self._stored_tail
        if sealed and self._stored_tail:
            writes.append(Write(DROP_TAIL, (self.log,)))
        start = self.size - len(self.tail)
        writes += [Write(PUT_TAIL, (self.log, start + kept + i, e)) for i, e in enumerate(self.tail[kept:])]
        self._tiles, self._stored_tail = {}, len(self.tail)
        return writes
