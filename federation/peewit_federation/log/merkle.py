"""RFC 6962 Merkle trees: hashes, compact ranges, and the verification of proofs.

Rules kept here: leaves and inner nodes are hashed with different first bytes, so that neither can
pose as the other; a proof has exactly the length that its sizes demand. How proofs are made from
stored tiles is left to `proofs`.

A node of the tree is named (height, index): the hash over the leaves
[index * 2^height, (index + 1) * 2^height), all of which exist.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from hashlib import sha256
from typing import Final

from peewit_federation.errors import ForgeryError, MalformedError

HASH_BYTES: Final = 32
EMPTY_ROOT: Final = sha256(b"").digest()
PROOF_HASHES_MAX: Final = 63


def leaf_hash(entry: bytes) -> bytes:
    """RFC 6962 section 2.1: SHA-256(0x00, entry)."""
    return sha256(b"\x00" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """RFC 6962 section 2.1: SHA-256(0x01, left, right)."""
    return sha256(b"\x01" + left + right).digest()


def perfect_root(hashes: Sequence[bytes]) -> bytes:
    """The root over a power of two of sibling hashes."""
    row = hashes
    while len(row) > 1:
        row = [sha256(b"\x01" + row[i] + row[i + 1]).digest() for i in range(0, len(row), 2)]
    return row[0]


class CompactRange:
    """The least that must be kept to go on hashing a tree: one hash per set bit of its size.

    `encode()` is their concatenation, largest subtree first; 32 bytes times the set bits.
    """

    __slots__ = ("_nodes", "size")

    def __init__(self, size: int = 0, nodes: Iterable[bytes] = ()) -> None:
        self.size = size
        self._nodes = list(nodes)
        if len(self._nodes) != size.bit_count():
            raise MalformedError("a compact range has one hash per set bit of its size")

    @classmethod
    def decode(cls, size: int, data: bytes) -> CompactRange:
        """The inverse of `encode`."""
        if len(data) % HASH_BYTES:
            raise MalformedError("a compact range is a sequence of 32-byte hashes")
        return cls(size, (data[i : i + HASH_BYTES] for i in range(0, len(data), HASH_BYTES)))

    def encode(self) -> bytes:
        return b"".join(self._nodes)

    def copy(self) -> CompactRange:
        return CompactRange(self.size, self._nodes)

    def append(self, leaf: bytes) -> None:
        """Append one leaf hash."""
        self.append_subtree(0, leaf)

    def extend(self, leaves: Iterable[bytes]) -> None:
        """Append leaf hashes."""
        for leaf in leaves:
            self.append_subtree(0, leaf)

    def append_subtree(self, height: int, root: bytes) -> None:
        """Append 2^height leaves by their common root; the size must be a multiple of 2^height."""
        if self.size & ((1 << height) - 1):
            raise MalformedError("a subtree can only be appended at a multiple of its width")
        nodes, carry = self._nodes, self.size >> height
        while carry & 1:
            root = sha256(b"\x01" + nodes.pop() + root).digest()
            carry >>= 1
        nodes.append(root)
        self.size += 1 << height

    def root(self) -> bytes:
        """The root of the tree."""
        if not self._nodes:
            return EMPTY_ROOT
        root = self._nodes[-1]
        for node in reversed(self._nodes[:-1]):
            root = node_hash(node, root)
        return root

    def floor(self, height: int) -> CompactRange:
        """The range over the largest multiple of 2^height that fits."""
        size = self.size >> height << height
        return CompactRange(size, self._nodes[: size.bit_count()])


def root_of(leaves: Iterable[bytes]) -> bytes:
    """The root over leaf hashes."""
    tree = CompactRange()
    tree.extend(leaves)
    return tree.root()


def root_from_inclusion(leaf: bytes, index: int, size: int, path: Sequence[bytes]) -> bytes:
    """The root that an inclusion proof implies (RFC 9162 section 2.1.3.2). `ForgeryError` on a wrong length."""
    if not 0 <= index < size:
        raise ForgeryError(f"entry {index} is not in a tree of {size}")
    inner = (index ^ (size - 1)).bit_length()
    border = (index >> inner).bit_count()
    if len(path) != inner + border:
        raise ForgeryError(f"an inclusion proof of {len(path)} hashes where {inner + border} are needed")
    root = leaf
    for height, sibling in enumerate(path[:inner]):
        root = node_hash(sibling, root) if index >> height & 1 else node_hash(root, sibling)
    for sibling in path[inner:]:
        root = node_hash(sibling, root)
    return root


def verify_inclusion(leaf: bytes, index: int, size: int, root: bytes, path: Sequence[bytes]) -> None:
    """Raise `ForgeryError` unless `leaf` is entry `index` of the tree (`size`, `root`)."""
    if root_from_inclusion(leaf, index, size, path) != root:
        raise ForgeryError(f"the inclusion proof of entry {index} does not lead to the root")


def verify_consistency(size1: int, root1: bytes, size2: int, root2: bytes, path: Sequence[bytes]) -> None:
    """Raise `ForgeryError` unless the first tree is a prefix of the second (RFC 9162 section 2.1.4.2)."""
    if not 0 <= size1 <= size2:
        raise ForgeryError("a consistency proof goes from a smaller to a larger tree")
    if size1 == 0 or size1 == size2:
        if path or root1 != (EMPTY_ROOT if size1 == 0 else root2):
            raise ForgeryError("a consistency proof between equal or empty trees is empty")
        return
    trailing = (size1 & -size1).bit_length() - 1
    inner = ((size1 - 1) ^ (size2 - 1)).bit_length() - trailing
    border = ((size1 - 1) >> (inner + trailing)).bit_count()
    power = size1 == 1 << trailing
    expected = inner + border + (0 if power else 1)
    if len(path) != expected:
        raise ForgeryError(f"a consistency proof of {len(path)} hashes where {expected} are needed")
    seed, rest = (root1, path) if power else (path[0], path[1:])
    old = new = seed
    mask = (size1 - 1) >> trailing
    for height, sibling in enumerate(rest):
        if height >= inner or mask >> height & 1:
            old, new = node_hash(sibling, old), node_hash(sibling, new)
        else:
            new = node_hash(new, sibling)
    if old != root1 or new != root2:
        raise ForgeryError("the consistency proof does not connect the two roots")
