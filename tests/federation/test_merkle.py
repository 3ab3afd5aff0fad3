"""Proofs of every tree up to a few hundred leaves, and mirroring across tile borders."""

from __future__ import annotations

import pytest

from peewit_federation.errors import ForgeryError
from peewit_federation.log.checkpoint import Checkpoint
from peewit_federation.log.follow import Follow, HistoryError, MismatchError
from peewit_federation.log.merkle import (
    CompactRange,
    leaf_hash,
    perfect_root,
    root_of,
    verify_consistency,
    verify_inclusion,
)
from peewit_federation.log.proofs import consistency_proof, inclusion_proof, leaf_source, range_proof
from peewit_federation.log.tiles import Tile, encode_bundle

ENTRIES = [b"%d" % number for number in range(66_000)]
LEAVES = [leaf_hash(entry) for entry in ENTRIES]
SIZES = 300
ROOTS = [root_of(LEAVES[:size]) for size in range(SIZES + 1)]


@pytest.mark.parametrize("size", range(1, SIZES + 1))
def test_every_inclusion_and_consistency_proof(size: int) -> None:
    source = leaf_source(LEAVES[:size])
    for index in range(size):
        path = inclusion_proof(index, size, source)
        verify_inclusion(LEAVES[index], index, size, ROOTS[size], path)
    for smaller in range(size + 1):
        path = consistency_proof(smaller, size, source)
        verify_consistency(smaller, ROOTS[smaller], size, ROOTS[size], path)


@pytest.mark.parametrize("size", [1, 2, 3, 7, 8, 33, 100])
def test_no_wrong_proof_is_accepted(size: int) -> None:
    source = leaf_source(LEAVES[:size])
    for index in range(size):
        path = inclusion_proof(index, size, source)
        for other in range(size):
            if other != index:
                with pytest.raises(ForgeryError):
                    verify_inclusion(LEAVES[index], other, size, ROOTS[size], path)
        for wrong in (path[:-1] if path else [bytes(32)], [*path, bytes(32)]):
            with pytest.raises(ForgeryError):
                verify_inclusion(LEAVES[index], index, size, ROOTS[size], wrong)
    for smaller in range(1, size):
        path = consistency_proof(smaller, size, source)
        with pytest.raises(ForgeryError):
            verify_consistency(smaller, bytes(32), size, ROOTS[size], path)
        with pytest.raises(ForgeryError):
            verify_consistency(smaller, ROOTS[smaller], size, bytes(32), path)
        with pytest.raises(ForgeryError):
            verify_consistency(smaller, ROOTS[smaller], size, ROOTS[size], [*path, bytes(32)])


@pytest.mark.parametrize("size", [1, 5, 64, 100])
def test_every_range_proof_and_no_range_that_leaves_something_out(size: int) -> None:
    source = leaf_source(LEAVES[:size])
    for first in range(size + 1):
        for end in range(first, size + 1):
            proof = range_proof(first, end, size, source)
            assert proof.root(LEAVES[first:end]) == ROOTS[size]
            if end - first > 1:
                try:
                    root = proof.root(LEAVES[first : end - 1])
                except ForgeryError:
                    continue
                assert root != ROOTS[size]


def tiles_of(entries: list[bytes]) -> dict[Tile, bytes]:
    """All tiles and bundles of a log, made the plain way."""
    found = {}
    level, row = 0, [leaf_hash(entry) for entry in entries]
    while row:
        for start in range(0, len(row), 256):
            part = row[start : start + 256]
            found[Tile(level, start // 256, len(part))] = b"".join(part)
        row = [perfect_root(row[i : i + 256]) for i in range(0, len(row) // 256 * 256, 256)]
        level += 1
    for start in range(0, len(entries), 256):
        part = entries[start : start + 256]
        found[Tile(-1, start // 256, len(part))] = encode_bundle(part)
    return found


def follow_from(have: int, entries: list[bytes], *, thorough: bool) -> Follow:
    tree = CompactRange()
    tree.extend(LEAVES[:have])
    head = Checkpoint("log", len(entries), root_of(map(leaf_hash, entries)))
    return Follow(head, tree, encode_bundle(ENTRIES[have // 256 * 256 : have]), thorough=thorough)


SPANS = [
    (0, 0),
    (0, 1),
    (0, 256),
    (0, 257),
    (0, 65_537),
    (1, 256),
    (255, 256),
    (256, 512),
    (300, 65_900),
    (65_536, 66_000),
]


@pytest.mark.parametrize("thorough", [False, True])
@pytest.mark.parametrize(("have", "size"), [*SPANS, (300, 301), (512, 600), (600, 600), (65_537, 65_800)])
def test_mirroring_accepts_the_truth(have: int, size: int, thorough: bool) -> None:
    entries = ENTRIES[:size]
    tiles = tiles_of(entries)
    follow = follow_from(have, entries, thorough=thorough)
    follow.accept_hashes({tile: tiles[tile] for tile in follow.hash_tiles})
    tree = follow.have.floor(8)
    for tile in follow.bundles:
        tree.extend(follow.accept_bundle(tile, tiles[tile]).leaves)
    assert tree.root() == follow.head.root or have == size


@pytest.mark.parametrize(("have", "size"), [(0, 1000), (300, 700), (65_537, 66_000)])
def test_a_liar_is_caught_with_the_first_false_file(have: int, size: int) -> None:
    entries = ENTRIES[:size]
    tiles = tiles_of(entries)
    follow = follow_from(have, entries, thorough=True)
    for victim in follow.hash_tiles:
        lie = dict(tiles)
        lie[victim] = bytes(32) + tiles[victim][32:]
        with pytest.raises(ForgeryError):
            follow.accept_hashes(lie)
    follow.accept_hashes(tiles)
    for victim in follow.bundles:
        with pytest.raises(ForgeryError):
            follow.accept_bundle(victim, encode_bundle([b"lie"] * victim.width))


@pytest.mark.parametrize(
    ("have", "size", "changed"),
    [(1, 2, 0), (300, 301, 299), (300, 65_900, 10), (65_536, 66_000, 3), (600, 900, 550), (700, 700, 650), (3, 5, 1)],
)
def test_a_head_of_another_history_is_proven_to_fork(have: int, size: int, changed: int) -> None:
    entries = ENTRIES[:size]
    entries[changed] = b"another history"
    tiles = tiles_of(entries)
    follow = follow_from(have, entries, thorough=True)
    with pytest.raises(HistoryError) as caught:
        follow.accept_hashes(tiles)
    leaves = [leaf_hash(entry) for entry in entries]
    assert caught.value.other_root == root_of(leaves[:have])
    verify_consistency(have, caught.value.other_root, size, root_of(leaves), caught.value.path)


def test_a_single_bundle_is_fetched_without_hash_tiles_and_a_mismatch_asks_for_a_thorough_look() -> None:
    follow = follow_from(3, ENTRIES[:20], thorough=False)
    assert follow.hash_tiles == []
    with pytest.raises(MismatchError):
        follow.accept_bundle(follow.bundles[0], encode_bundle([b"lie"] * 20))
